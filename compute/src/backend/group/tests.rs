//! Groups of real processes: this test binary, started once for each rank.

use super::super::native::tests::small;
use super::super::tree_sum::tree_sum;
use super::super::{Recorder, batch_gradients, to_host, upload};
use super::*;
use crate::model::Network;
use half::bf16;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runboard::launch::Rendezvous;
use runboard::spec::Seed;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Lines, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::Ordering;
use std::{env, fs, iter};
use tch::{Device, Kind};

/// What a rank is told to do, by the environment.
const VARIABLE: &str = "RUNBOARD_TEST_RANK";

/// For what must not happen in a test that passes: a rank that comes too late.
const LONG: Duration = Duration::from_secs(120);

/// How long an operation may take where a test waits for just that.
const SHORT: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Orders {
    act: Act,
    place: TestPlace,
    rank: usize,
    world: usize,
    join_timeout: Duration,
    timeout: Duration,
    hello: Hello,
    /// What the run is called.
    id: String,
    starter: Option<String>,
    /// Of `Fewer`.
    fewer: Option<(Duration, usize)>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum TestPlace {
    File(PathBuf),
    Listen,
    ListenAt(SocketAddr),
    Address(SocketAddr),
    /// torchrun's store.
    Agent(SocketAddr),
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Act {
    /// Connect and show the sockets.
    Connect,
    /// Sum, send and wait, and show the results.
    All,
    /// Sum until it fails.
    Loop,
    /// Leave after the first sum.
    Leave,
    /// Leave with the others, while half a value is in the store's file.
    Close,
    /// Leave between the sum of a step and its mean, for which the others wait.
    LeaveWithin,
    /// Sum on the stand-in of a GPU at this place, of this version, which may refuse, and show the means.
    Gpu(Option<i32>, i32, bool),
    /// Compute a step's gradients by libtorch's operations, and show their means by Gloo and by the stand-in of a GPU.
    Gradients,
    /// Sum so often on the stand-in of a GPU, and then leave the others alone with the next sum.
    GpuLoop(usize),
}

const LENGTHS: [usize; 5] = [1, 2, 5, 1000, 70_001];

/// Values of very different sizes, so that each order of additions has its own bits.
fn values(rank: usize, length: usize) -> Vec<f32> {
    let mut state = (rank * 1_000_003 + length) as u64;
    let next = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let sign = if state >> 63 == 0 { 1.0 } else { -1.0 };
        sign * ((state >> 40) as f32) * 2_f32.powi((state >> 33) as i32 % 16)
    };
    iter::repeat_with(next).take(length).collect()
}

fn hash(values: &[f32]) -> u64 {
    let bits = values
        .iter()
        .flat_map(|value| value.to_bits().to_le_bytes());
    bits.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// Not a test: a rank, where [`VARIABLE`] says which.
#[test]
fn rank() {
    let Ok(orders) = env::var(VARIABLE) else {
        return;
    };
    let orders: Orders = serde_json::from_str(&orders).unwrap();
    if let Err(error) = obey(orders) {
        println!(
            "\n> error {}: {error:#}",
            runboard::error::exit_code(&error)
        );
    }
}

fn obey(orders: Orders) -> Result<()> {
    let at = |address: SocketAddr, agent_store: bool| {
        Ok::<_, Error>(Rendezvous {
            endpoint: address.to_string().parse().map_err(Error::msg)?,
            agent_store,
            interface: None,
            id: orders.id,
            timeout_secs: orders.join_timeout.as_secs(),
        })
    };
    let file = match &orders.place {
        TestPlace::File(path) => Some(path.clone()),
        _ => None,
    };
    let any = "127.0.0.1:0";
    let place = match orders.place {
        TestPlace::File(path) => Place::File(path),
        TestPlace::Address(address) => Place::Remote(at(address, false)?),
        TestPlace::Listen => Place::Listener(
            TcpListener::bind(any)?,
            at(([127, 0, 0, 1], 1).into(), false)?,
        ),
        TestPlace::ListenAt(address) => {
            Place::Listener(TcpListener::bind(address)?, at(address, false)?)
        }
        TestPlace::Agent(address) if orders.rank == 0 => {
            Place::Listener(TcpListener::bind(any)?, at(address, true)?)
        }
        TestPlace::Agent(address) => Place::Remote(at(address, true)?),
    };
    if let Place::Listener(listener, _) = &place {
        println!("\n> address {}", listener.local_addr()?);
    }
    let mut group = Group::connect(Meeting {
        place,
        rank: orders.rank,
        world: orders.world,
        join_timeout: orders.join_timeout,
        timeout: orders.timeout,
        hello: orders.hello,
        lost: None,
        fewer: orders.fewer.map(|(wait, batch)| Fewer { wait, batch }),
        starter: orders.starter,
    })?;
    println!("\n> connected");
    match orders.act {
        Act::Connect => {
            for socket in sockets::open()? {
                println!("\n> local {}", socket.local);
            }
            group.barrier()?;
        }
        Act::All => {
            for length in LENGTHS {
                let sums = group.all_reduce(values(orders.rank, length))?;
                println!("\n> sum {}", hash(&sums));
            }
            // All under way at once.
            let started = LENGTHS.map(|length| {
                let mut own = values(orders.rank, length);
                own.resize(length.next_multiple_of(group.members().len()), 0.0);
                let own = Tensor::from_slice(&own);
                let sum = group.start_sum(values(orders.rank, length));
                let means = [ReducePrecision::Float32, ReducePrecision::Bf16].map(|precision| {
                    let own = own.copy();
                    let mean = group.start_mean(own.shallow_clone(), precision);
                    (own, mean)
                });
                (length, sum, means)
            });
            for (length, sum, means) in started {
                let sums = group.finish_sum(sum)?;
                println!("\n> sum {}", hash(&sums));
                for (own, mean) in means {
                    group.finish_mean(mean?)?;
                    let means = &Vec::<f32>::try_from(own)?[..length];
                    println!("\n> mean {}", hash(means));
                }
            }
            let uneven = Tensor::from_slice(&vec![1.0_f32; group.members().len() + 1]);
            let uneven = group.start_mean(uneven, ReducePrecision::Float32);
            println!("\n> uneven {}", uneven.is_err());
            for length in LENGTHS {
                let own = vec![u8::try_from(orders.rank + 1)?; length * (orders.rank + 1)];
                let bytes = group.broadcast(own)?;
                println!("\n> bytes {}", bytes == vec![1; length]);
            }
            println!("\n> bytes {}", group.broadcast(Vec::new())?.is_empty());
            group.barrier()?;
        }
        Act::Loop => loop {
            step(&mut group)?;
            println!("\n> step");
        },
        Act::Leave => {
            step(&mut group)?;
            group.leave("the disk is full");
        }
        Act::Close => {
            step(&mut group)?;
            if let Some(path) = file.filter(|_| orders.rank == 0) {
                let mut file = fs::OpenOptions::new().append(true).open(path)?;
                file.write_all(&100_u64.to_ne_bytes())?;
            }
            group.close()?;
            let begun = Instant::now();
            while has_thread() && begun.elapsed() < SHORT {
                thread::sleep(POLL);
            }
            let lost = LOST.load(Ordering::Relaxed) || has_thread();
            println!("\n> lost {lost}");
        }
        Act::LeaveWithin => {
            group.all_reduce(vec![1.0; 1000])?;
            group.leave("the disk is full");
        }
        Act::Gpu(index, version, refuses) => {
            stand_in::VERSION.store(version, Ordering::Relaxed);
            stand_in::REFUSES.store(refuses, Ordering::Relaxed);
            let gpu = index.map(stand_in::gpu);
            let met = group.meet_on(gpu.ok_or_else(|| "computes on the CPU".to_owned()))?;
            println!("\n> met {met:?}");
            let lengths = if group.is_on_gpus() {
                &LENGTHS[..]
            } else {
                &[]
            };
            for &length in lengths {
                let own = Tensor::from_slice(&values(orders.rank, length));
                mean_on_gpus(&mut group, &own)?;
                let means = Vec::<f32>::try_from(own)?;
                println!("\n> mean {}", hash(&means));
            }
            println!("\n> sum {:?}", group.all_reduce(vec![1.0])?);
            println!("\n> time {:?}", group.take_time_on_gpus());
            group.leave_gpus()?;
            println!("\n> on GPUs {}", group.is_on_gpus());
            group.barrier()?;
        }
        Act::Gradients => {
            let (mut spec, crop) = small();
            spec.network.conv2.kernel = 3; // which no kernels of ours compute
            let device = burn::tensor::Device::libtorch();
            let network = Network::init(&spec.network, crop, Seed(1), &device);
            let pixels = (0..4 * crop * crop * 3).map(|at| ((at * 7 + orders.rank) % 13) as f32);
            let labels = vec![0, 9, i64::try_from(orders.rank)?, 4];
            let (images, labels) = upload(pixels.collect(), labels, crop, &device);
            stand_in::WAITS.store(true, Ordering::Relaxed);
            let (exactly, rounded) = (ReducePrecision::Float32, ReducePrecision::Bf16);
            for (on_gpus, precision) in [
                (false, exactly),
                (false, rounded),
                (true, exactly),
                (true, rounded),
            ] {
                spec.compute.reduce_precision = precision;
                if on_gpus && !group.is_on_gpus() {
                    let gpu = stand_in::gpu(i32::try_from(orders.rank)?);
                    let met = group.meet_on(Ok(gpu))?;
                    assert_eq!(met, Ok(()));
                }
                let batch = (images.clone(), labels.clone().into());
                let begins = |_: &mut Group| Ok(true);
                let step = batch_gradients(
                    &mut group,
                    &network,
                    &spec,
                    0,
                    batch,
                    &mut Recorder::default(),
                    begins,
                )?;
                let (means, _) = step.context("no step")?;
                group.settle()?;
                let losses = [&means.cross_entropy, &means.accuracy];
                let mut all = to_host(&Tensor::f_stack(&losses, 0)?)?;
                all.extend(to_host(&means.gradients.flat()?)?);
                println!("\n> gradients {} {}", all.len(), hash(&all));
            }
            group.barrier()?;
        }
        Act::GpuLoop(steps) => {
            let met = group.meet_on(Ok(stand_in::gpu(i32::try_from(orders.rank)?)))?;
            assert_eq!(met, Ok(()));
            for _ in 0..steps {
                group.all_reduce(vec![1.0])?;
                let ones = |kind| Tensor::ones([1000], (kind, Device::Cpu));
                group.sum_on_gpus(&[ones(Kind::Float), ones(Kind::BFloat16)])?;
                group.settle()?;
            }
            group.all_reduce(vec![1.0])?;
            println!("\n> alone");
            thread::sleep(LONG);
        }
    }
    println!("\n> done");
    Ok(())
}

/// The stand-in computes beside libtorch, which here divides on the host: only when the sum is there.
fn mean_on_gpus(group: &mut Group, values: &Tensor) -> Result<()> {
    group.sum_on_gpus(std::slice::from_ref(values))?;
    group.settle()?;
    let mut values = values.shallow_clone();
    let _ = values.f_div_scalar_(group.members().len() as f64)?;
    Ok(())
}

/// Whether this process has a thread of a group's.
fn has_thread() -> bool {
    let threads = fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = threads.flat_map(|thread| fs::read_to_string(thread.path().join("comm")));
    names.into_iter().any(|name| name == "group\n")
}

/// Two operations that are under way at once.
fn step(group: &mut Group) -> Result<()> {
    let sum = group.start_sum(vec![1.0; 1000]);
    let ones = Tensor::ones([12_000], (Kind::Float, Device::Cpu));
    let mean = group.start_mean(ones, ReducePrecision::Float32)?;
    group.finish_sum(sum)?;
    group.finish_mean(mean)
}

/// A process that is a rank; killed at the end of the test.
struct RankProcess {
    child: Child,
    /// Where it keeps the store, once it has said so.
    address: Option<SocketAddr>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl RankProcess {
    fn start(orders: &Orders) -> Self {
        Self::start_in(&env::temp_dir(), orders)
    }

    /// As [`RankProcess::start`]; what it leaves among the temporary files is in `directory`.
    fn start_in(directory: &Path, orders: &Orders) -> Self {
        let module = module_path!().split_once("::").unwrap().1;
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", &format!("{module}::rank"), "--nocapture"])
            .args(["--test-threads", "1"])
            .env(VARIABLE, serde_json::to_string(orders).unwrap())
            .env("TMPDIR", directory)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        RankProcess {
            child,
            address: None,
            lines,
        }
    }

    /// The next thing that the rank says; `None` after its end.
    fn next(&mut self) -> Option<String> {
        let lines = self.lines.by_ref().map(Result::unwrap);
        lines
            .filter_map(|line| Some(line.strip_prefix("> ")?.to_owned()))
            .next()
    }

    /// Wait for a line of its log that has this.
    fn wait_for_line(&mut self, what: &str) {
        let mut lines = self.lines.by_ref().map(Result::unwrap);
        assert!(lines.any(|line| line.contains(what)), "no {what:?}");
    }

    fn expect(&mut self, what: &str) {
        assert_eq!(self.next().as_deref(), Some(what));
    }

    /// The error with which it ends: its exit code and text.
    fn error(&mut self) -> String {
        let last = self.last();
        last.strip_prefix("error ")
            .unwrap_or_else(|| panic!("no error: {last}"))
            .to_owned()
    }

    /// The last that it says.
    fn last(&mut self) -> String {
        let mut last = String::new();
        while let Some(line) = self.next() {
            last = line;
        }
        last
    }

    fn signal(&self, signal: Signal) {
        kill(
            Pid::from_raw(i32::try_from(self.child.id()).unwrap()),
            signal,
        )
        .unwrap();
    }

    /// As others call it.
    fn name(&self, rank: usize) -> String {
        let host = sysinfo::System::host_name().unwrap();
        format!("rank {rank} on {host} (pid {})", self.child.id())
    }
}

impl Drop for RankProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One with these values.
fn hello(values: [&str; 3]) -> Hello {
    let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let names = ["runboard", "train.steps", "images"];
    Hello(names.into_iter().zip(values).map(pair).collect())
}

fn orders(act: Act, rank: usize, world: usize) -> Orders {
    Orders {
        act,
        place: TestPlace::Listen,
        rank,
        world,
        join_timeout: LONG,
        timeout: LONG,
        hello: hello(["1", "2", "3"]),
        id: "a run".into(),
        starter: None,
        fewer: None,
    }
}

#[derive(Clone, Copy)]
enum Store {
    File,
    Tcp,
}

const STORES: [Store; 2] = [Store::File, Store::Tcp];

/// Start these ranks; the first one is rank 0.
fn start(store: Store, directory: &Path, orders: Vec<Orders>) -> Vec<RankProcess> {
    let mut place = match store {
        Store::File => TestPlace::File(directory.join("store")),
        Store::Tcp => TestPlace::Listen,
    };
    let start = |mut orders: Orders| {
        orders.place = place.clone();
        let mut process = RankProcess::start_in(directory, &orders);
        if let TestPlace::Listen = place {
            let said = process.next().unwrap();
            let address = said.strip_prefix("address ").unwrap().parse().unwrap();
            process.address = Some(address);
            place = TestPlace::Address(address);
        }
        process
    };
    orders.into_iter().map(start).collect()
}

/// A group of ranks that have connected and sum.
fn looping(store: Store, directory: &Path, world: usize, timeout: Duration) -> Vec<RankProcess> {
    let orders = (0..world).map(|rank| Orders {
        timeout,
        ..orders(Act::Loop, rank, world)
    });
    let mut ranks = start(store, directory, orders.collect());
    for rank in &mut ranks {
        rank.expect("connected");
        rank.expect("step");
    }
    ranks
}

#[test]
fn sums_and_means_have_the_bits_of_the_tree_on_every_rank_and_bytes_are_those_of_rank_0() {
    for (world, store) in [(2, Store::File), (3, Store::Tcp), (4, Store::File)] {
        let directory = tempfile::tempdir().unwrap();
        let orders = (0..world).map(|rank| orders(Act::All, rank, world));
        for mut rank in start(store, directory.path(), orders.collect()) {
            rank.expect("connected");
            let sums_of = |rounded: fn(f32) -> f32| {
                LENGTHS.map(|length| {
                    let parts = (0..world).flat_map(|rank| values(rank, length));
                    let mut parts: Vec<f32> = parts.map(rounded).collect();
                    tree_sum(&mut parts, length);
                    parts.truncate(length);
                    parts
                })
            };
            let round = |value| bf16::from_f32(value).to_f32();
            let (sums, rounded) = (sums_of(|value| value), sums_of(round));
            for sums in &sums {
                rank.expect(&format!("sum {}", hash(sums)));
            }
            for (sums, rounded) in sums.iter().zip(&rounded) {
                rank.expect(&format!("sum {}", hash(sums)));
                let means: Vec<f32> = sums.iter().map(|sum| sum / world as f32).collect();
                rank.expect(&format!("mean {}", hash(&means)));
                let means = rounded.iter().map(|sum| round(sum / world as f32));
                rank.expect(&format!("mean {}", hash(&means.collect::<Vec<f32>>())));
            }
            rank.expect("uneven true");
            for _ in 0..=LENGTHS.len() {
                rank.expect("bytes true");
            }
            rank.expect("done");
        }
    }
}

#[test]
fn ranks_that_leave_together_neither_read_nor_write_the_store() {
    for store in STORES {
        let directory = tempfile::tempdir().unwrap();
        let orders = (0..3).map(|rank| orders(Act::Close, rank, 3));
        for mut rank in start(store, directory.path(), orders.collect()) {
            for said in ["connected", "lost false", "done"] {
                rank.expect(said);
            }
        }
    }
}

#[test]
fn ranks_begin_without_one_that_does_not_come_where_rank_0_may() {
    // Of four ranks number 1 is missing. Three share a batch of 12 images, and two of them one of 8.
    let mut groups = Vec::new();
    for (store, batch, begin) in [
        (Store::File, 12, 3),
        (Store::File, 8, 2),
        (Store::Tcp, 12, 3),
        (Store::Tcp, 8, 2),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let orders = [0, 2, 3].map(|rank| Orders {
            fewer: Some((SHORT, batch)),
            starter: Some("the same".into()),
            ..orders(Act::All, rank, 4)
        });
        let ranks = start(store, directory.path(), orders.to_vec());
        groups.push((store, begin, ranks, directory));
    }
    for (store, begin, mut ranks, _directory) in groups {
        let without = ranks.split_off(begin);
        for rank in &mut ranks {
            rank.expect("connected");
            for length in LENGTHS {
                let parts = [0, 2, 3].into_iter().take(begin);
                let parts = parts.flat_map(|rank| values(rank, length));
                let mut parts = parts.collect::<Vec<_>>();
                tree_sum(&mut parts, length);
                rank.expect(&format!("sum {}", hash(&parts[..length])));
            }
        }
        for rank in &mut ranks {
            assert_eq!(rank.last(), "done");
        }
        for mut rank in without {
            match store {
                Store::File => assert_eq!(
                    rank.error(),
                    "1: failed to meet the other ranks: the group in this store has begun without this process"
                ),
                // It waits for another store at this address, as long as somebody has one there and longer.
                Store::Tcp => rank.signal(Signal::SIGKILL),
            }
        }
    }
}

#[test]
fn gpus_of_their_own_sum_and_others_say_on_all_ranks_why_not() {
    let directory = tempfile::tempdir().unwrap();
    let gpu = |index| Act::Gpu(Some(index), 22_809, false);
    let cases: [(&[Act], &str); 5] = [
        (&[gpu(0), gpu(1), gpu(2)], ""),
        (
            &[gpu(0), gpu(1), gpu(0)],
            "Unfit(\"0 and 2 are on one GPU\")",
        ),
        (
            &[gpu(0), Act::Gpu(None, 0, false)],
            "Unfit(\"1 computes on the CPU\")",
        ),
        (
            &[gpu(0), Act::Gpu(Some(1), 22_707, false)],
            "Unfit(\"0 has NCCL 22809, 1 has 22707\")",
        ),
        (
            &[gpu(0), Act::Gpu(Some(1), 22_809, true)],
            "Failed(\"1: NCCL: internal error: the stand-in refuses\")",
        ),
    ];
    for (place, (acts, why)) in cases.into_iter().enumerate() {
        let directory = directory.path().join(place.to_string());
        fs::create_dir(&directory).unwrap();
        let world = acts.len();
        let ranks = acts.iter().enumerate();
        let all = ranks.map(|(rank, &act)| orders(act, rank, world));
        let mut ranks = start(Store::File, &directory, all.collect());
        let names: Vec<String> = (0..world).map(|rank| ranks[rank].name(rank)).collect();
        for rank in &mut ranks {
            rank.expect("connected");
            if why.is_empty() {
                rank.expect("met Ok(())");
                for length in LENGTHS {
                    let parts: Vec<Vec<f32>> = (0..world).map(|it| values(it, length)).collect();
                    let sum = |at: usize| parts.iter().map(|part| part[at]).sum::<f32>();
                    let means = (0..length).map(|at| sum(at) / world as f32);
                    rank.expect(&format!("mean {}", hash(&means.collect::<Vec<f32>>())));
                }
            } else {
                let said = rank.next().unwrap();
                let said = names.iter().enumerate().fold(said, |said, (rank, name)| {
                    said.replace(name, &rank.to_string())
                });
                assert_eq!(said, format!("met Err({why})"));
            }
            rank.expect(&format!("sum [{}.0]", world));
            let sums = if why.is_empty() { LENGTHS.len() } else { 0 };
            let time = Duration::from_micros(500) * u32::try_from(sums).unwrap();
            rank.expect(&format!("time {time:?}"));
            rank.expect("on GPUs false");
            rank.expect("done");
        }
    }
}

#[test]
fn gradients_summed_on_gpus_are_those_summed_by_gloo() {
    let directory = tempfile::tempdir().unwrap();
    let both = [0, 1].map(|rank| orders(Act::Gradients, rank, 2));
    let mut ranks = start(Store::File, directory.path(), both.to_vec());
    let [one, other] = [0, 1].map(|rank| {
        ranks[rank].expect("connected");
        let said = [(); 4].map(|()| ranks[rank].next().unwrap());
        ranks[rank].expect("done");
        said
    });
    assert!(one[0].starts_with("gradients "), "{}", one[0]);
    assert_ne!(one[0], one[1]); // rounded
    assert_eq!(one[..2], one[2..]);
    assert_eq!(one, other);
}

#[test]
fn sum_on_gpus_that_a_rank_is_missing_from_is_an_error_which_names_it() {
    let cases = (0..3).flat_map(|missing| {
        [(Signal::SIGKILL, LONG), (Signal::SIGSTOP, SHORT)].map(|how| (missing, how))
    });
    // All wait at once.
    let groups = cases.map(|(missing, (signal, timeout))| {
        let directory = tempfile::tempdir().unwrap();
        let orders = (0..3).map(|rank| Orders {
            timeout,
            ..orders(
                Act::GpuLoop(if rank == missing { 3 } else { 1000 }),
                rank,
                3,
            )
        });
        let mut ranks = start(Store::File, directory.path(), orders.collect());
        for rank in &mut ranks {
            rank.expect("connected");
        }
        ranks[missing].expect("alone");
        ranks[missing].signal(signal);
        (missing, ranks, directory)
    });
    for (missing, mut ranks, _directory) in groups.collect::<Vec<_>>() {
        let name = ranks[missing].name(missing);
        let others = ranks.iter_mut().enumerate();
        for (_, rank) in others.filter(|(rank, _)| *rank != missing) {
            let error = rank.error();
            assert!(error.contains(&name), "{error}");
            assert!(
                error.starts_with("1: failed to sum over the ranks: "),
                "{error}"
            );
        }
    }
}

#[test]
fn tree_sum_adds_neighbours_first() {
    let length = 100;
    let values: Vec<Vec<f32>> = (0..8).map(|rank| values(rank, length)).collect();
    let sum = |count: usize| {
        let mut parts = values[..count].concat();
        tree_sum(&mut parts, length);
        parts[..length].to_vec()
    };
    let mut differ = false;
    for at in 0..length {
        let v: Vec<f32> = values.iter().map(|values| values[at]).collect();
        assert_eq!(sum(1)[at], v[0]);
        assert_eq!(sum(2)[at], v[0] + v[1]);
        assert_eq!(sum(3)[at], (v[0] + v[1]) + v[2]);
        let four = (v[0] + v[1]) + (v[2] + v[3]);
        assert_eq!(sum(4)[at], four);
        assert_eq!(sum(6)[at], four + (v[4] + v[5]));
        let eight = four + ((v[4] + v[5]) + (v[6] + v[7]));
        assert_eq!(sum(8)[at], eight);
        differ |= eight != v.iter().sum::<f32>();
    }
    assert!(differ, "the order must matter");
}

#[test]
fn killed_rank_is_named_by_all_others() {
    for store in STORES {
        for killed in [0, 2] {
            let directory = tempfile::tempdir().unwrap();
            let mut ranks = looping(store, directory.path(), 3, LONG);
            ranks[killed].signal(Signal::SIGKILL);
            let name = ranks[killed].name(killed);
            for (rank, process) in ranks.iter_mut().enumerate() {
                if rank == killed {
                    continue;
                }
                let error = process.error();
                let gone = format!(
                    "1: failed to sum over the ranks: {name} is gone: it was killed, has crashed, or the network to it is cut"
                );
                let no_store = format!(
                    "1: failed to sum over the ranks: {name}, which keeps the store, is gone or does not answer"
                );
                let keeper = killed == 0 && matches!(store, Store::Tcp);
                assert_eq!(error, if keeper { no_store } else { gone });
            }
        }
    }
}

#[test]
fn stopped_rank_is_named_by_all_others_in_time() {
    // Side by side, as each waits for the timeout.
    let mut groups = Vec::new();
    for store in STORES {
        for stopped in [0, 1] {
            let directory = tempfile::tempdir().unwrap();
            let ranks = looping(store, directory.path(), 3, SHORT);
            groups.push((store, stopped, ranks, directory));
        }
    }
    for (_, stopped, ranks, _) in &groups {
        ranks[*stopped].signal(Signal::SIGSTOP);
    }
    for (store, stopped, mut ranks, _directory) in groups {
        let name = ranks[stopped].name(stopped);
        let error = if stopped == 0 && matches!(store, Store::Tcp) {
            format!("{name}, which keeps the store, is gone or does not answer")
        } else {
            format!("no answer from {name} within 10 s: it is stopped, too busy or cut off")
        };
        for (rank, process) in ranks.iter_mut().enumerate() {
            if rank != stopped {
                let wanted = format!("1: failed to sum over the ranks: {error}");
                assert_eq!(process.error(), wanted);
            }
        }
    }
}

#[test]
fn rank_that_leaves_gives_its_reason() {
    for store in STORES {
        let cases = [0, 1].map(|rank| [(rank, Act::Leave), (rank, Act::LeaveWithin)]);
        for (leaving, leave) in cases.into_iter().flatten() {
            let directory = tempfile::tempdir().unwrap();
            let act = |rank| {
                if rank == leaving { leave } else { Act::Loop }
            };
            let orders = (0..2).map(|rank| orders(act(rank), rank, 2));
            let mut ranks = start(store, directory.path(), orders.collect());
            let name = ranks[leaving].name(leaving);
            assert_eq!(
                ranks[1 - leaving].error(),
                format!("1: failed to sum over the ranks: {name} ended: the disk is full")
            );
        }
    }
}

#[test]
fn rank_that_never_comes_is_named() {
    for store in STORES {
        let directory = tempfile::tempdir().unwrap();
        let orders = [0, 2].map(|rank| Orders {
            join_timeout: SHORT,
            ..orders(Act::Connect, rank, 3)
        });
        for mut rank in start(store, directory.path(), orders.into()) {
            assert_eq!(
                rank.error(),
                "6: failed to meet the other ranks: rank 1 of 3 did not come within 10 s"
            );
        }
    }
}

/// An address that nobody has, as its socket is closed again.
fn free_address() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

#[test]
fn ranks_find_rank_0_by_what_it_says_in_torchruns_store() {
    ranks_find_rank_0_that_is_not_at(free_address(), || {});
}

#[test]
fn ranks_find_rank_0_whose_former_port_another_program_has() {
    // It never answers. The first connection tries whether somebody listens, c10d waits at the second one.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut connections = Vec::new();
    let connected = || connections.extend([silent.accept().unwrap(), silent.accept().unwrap()]);
    ranks_find_rank_0_that_is_not_at(silent.local_addr().unwrap(), connected);
}

/// torchrun's store has this address of a rank 0 that is gone until the next one, which starts after `rank_1_tries`, says
/// where it listens.
fn ranks_find_rank_0_that_is_not_at(gone: SocketAddr, rank_1_tries: impl FnOnce()) {
    let agent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = agent.local_addr().unwrap();
    let store = ffi::Store::serve(agent, LONG).unwrap();
    let key = "runboard/a run/rank 0";
    store.set(key, gone.to_string().as_bytes()).unwrap();
    let orders = |rank| Orders {
        place: TestPlace::Agent(address),
        ..orders(Act::Connect, rank, 2)
    };
    let mut one = RankProcess::start(&orders(1));
    rank_1_tries();
    let mut zero = RankProcess::start(&orders(0));
    let own = zero.next().unwrap();
    assert_ne!(own, format!("address {address}"));
    for rank in [&mut zero, &mut one] {
        rank.expect("connected");
    }
    let told = store.get(key).unwrap().unwrap();
    assert_eq!(own.as_bytes(), [b"address ", &told[..]].concat());
    let alone = Orders {
        join_timeout: Duration::from_secs(1),
        id: "another run".to_owned(),
        ..orders(1)
    };
    assert_eq!(
        RankProcess::start(&alone).error(),
        format!(
            "6: failed to meet the other ranks: rank 0 has not said in torchrun's store at {address} within 1 s where \
             it listens"
        )
    );
}

#[test]
fn store_that_is_not_there_or_stopped_is_an_error() {
    let orders = |rank| Orders {
        join_timeout: SHORT,
        ..orders(Act::Connect, rank, 2)
    };
    let free = free_address();
    let nobody = Orders {
        place: TestPlace::Address(free),
        ..orders(1)
    };
    let error = RankProcess::start(&nobody).error();
    let wanted =
        format!("6: failed to meet the other ranks: rank 0 at {free} does not answer within 10 s");
    assert!(error.starts_with(&wanted), "{error}");
    // c10d itself waits for such a store without end.
    let zero = Orders {
        join_timeout: LONG,
        ..orders(0)
    };
    let mut zero = RankProcess::start(&zero);
    let address = zero.next().unwrap();
    let address: SocketAddr = address.strip_prefix("address ").unwrap().parse().unwrap();
    zero.signal(Signal::SIGSTOP);
    let stopped = Orders {
        place: TestPlace::Address(address),
        ..orders(1)
    };
    let error = RankProcess::start(&stopped).error();
    let wanted = format!(
        "6: failed to meet the other ranks: rank 0 at {address} does not answer within 10 s"
    );
    assert!(error.starts_with(&wanted), "{error}");
}

#[test]
fn ranks_that_differ_are_told_in_what() {
    let other = |change: fn(&mut Orders)| {
        let mut orders = orders(Act::Connect, 1, 2);
        change(&mut orders);
        orders
    };
    let cases: [(&str, &str, Orders); 3] = [
        (
            "is one of 3 ranks,",
            "is one of 2 ranks",
            other(|it| it.world = 3),
        ),
        (
            "has runboard 2;",
            "has runboard 1",
            other(|it| it.hello = hello(["2", "2", "3"])),
        ),
        (
            "has train.steps 9, images 8;",
            "has train.steps 2, images 3",
            other(|it| it.hello = hello(["1", "9", "8"])),
        ),
    ];
    for (store, (one, zero, orders_of_one)) in STORES.into_iter().cycle().zip(cases) {
        let directory = tempfile::tempdir().unwrap();
        let both = vec![orders(Act::Connect, 0, 2), orders_of_one];
        let mut ranks = start(store, directory.path(), both);
        let names = [ranks[0].name(0), ranks[1].name(1)];
        for rank in &mut ranks {
            assert_eq!(
                rank.error(),
                format!(
                    "2: failed to meet the other ranks: {} {one} {} {zero}",
                    names[1], names[0]
                )
            );
        }
    }
}

#[test]
fn hosts_with_different_numbers_of_ranks_are_told_so_before_all_have_come() {
    let cases = [
        // Rank 0 waits for rank 1, and the other host has the ranks 3, 4 and 5.
        (vec![orders(Act::Connect, 0, 2)], (3, 6)),
        // The other host's only rank is one that rank 0's host has.
        (
            vec![orders(Act::Connect, 0, 3), orders(Act::Connect, 1, 3)],
            (1, 2),
        ),
    ];
    for (mut all, (rank, world)) in cases {
        let directory = tempfile::tempdir().unwrap();
        let wanted = all[0].world;
        all.push(orders(Act::Connect, rank, world));
        let mut ranks = start(Store::Tcp, directory.path(), all);
        let (zero, other) = (ranks[0].name(0), ranks.last().unwrap().name(rank));
        assert_eq!(
            ranks[0].error(),
            format!(
                "2: failed to meet the other ranks: {other} is one of {world} ranks, {zero} is one of {wanted} ranks"
            )
        );
    }
}

#[test]
fn rank_that_is_one_too_many_is_told_and_the_others_go_on() {
    for store in STORES {
        let directory = tempfile::tempdir().unwrap();
        let one = Orders {
            join_timeout: SHORT,
            ..orders(Act::Loop, 1, 2)
        };
        let all = vec![orders(Act::Loop, 0, 2), one.clone(), one];
        let mut ranks = start(store, directory.path(), all);
        ranks[0].expect("connected");
        let mut third = RankProcess::start(&Orders {
            place: match ranks[0].address {
                Some(address) => TestPlace::Address(address),
                None => TestPlace::File(directory.path().join("store")),
            },
            ..orders(Act::Loop, 2, 3)
        });
        let (zero, name) = (ranks[0].name(0), third.name(2));
        assert_eq!(
            third.error(),
            format!(
                "2: failed to meet the other ranks: {name} is one of 3 ranks, {zero} is one of 2 ranks"
            )
        );
        // Which of the two was first is open.
        let (mut one, mut other) = (ranks.remove(1), ranks.remove(1));
        let said = [one.next().unwrap(), other.next().unwrap()];
        let taken = |by: &RankProcess| {
            format!(
                "error 2: failed to meet the other ranks: rank 1 is taken: {} was there before",
                by.name(1)
            )
        };
        let first_is_in = ["connected".to_owned(), taken(&one)];
        let second_is_in = [taken(&other), "connected".to_owned()];
        assert!(said == first_is_in || said == second_is_in, "{said:?}");
        ranks[0].expect("step");
    }
}

#[test]
fn rank_of_another_run_is_told_and_the_others_go_on() {
    let stranger = Orders {
        id: "another run".into(),
        ..orders(Act::Loop, 1, 2)
    };
    let all = vec![orders(Act::Loop, 0, 2), stranger, orders(Act::Loop, 1, 2)];
    let directory = tempfile::tempdir().unwrap();
    let mut ranks = start(Store::Tcp, directory.path(), all);
    let error = ranks[1].error();
    assert!(
        error.ends_with(
            "trains a run, this rank another run; want another port for each run, or the same --rdzv-id"
        ),
        "{error}"
    );
    for rank in [0, 2] {
        ranks[rank].expect("connected");
        ranks[rank].expect("step");
    }
}

#[test]
fn rank_that_is_started_again_waits_until_rank_0_begins_again() {
    for starter in [
        "the supervisor of before",
        "another one, of a host that was started again",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let one = Orders {
            starter: Some("the supervisor of before".into()),
            ..orders(Act::Loop, 1, 2)
        };
        let both = vec![orders(Act::Loop, 0, 2), one.clone()];
        let mut ranks = start(Store::Tcp, directory.path(), both);
        for rank in &mut ranks {
            rank.expect("connected");
            rank.expect("step");
        }
        // Rank 0 does not notice yet that rank 1 is lost.
        ranks[1].signal(Signal::SIGSTOP);
        let address = ranks[0].address.unwrap();
        let mut again = RankProcess::start(&Orders {
            place: TestPlace::Address(address),
            starter: Some(starter.into()),
            ..one
        });
        match starter == "the supervisor of before" {
            true => thread::sleep(Duration::from_millis(500)),
            false => again.wait_for_line("is taken: "),
        }
        ranks[1].signal(Signal::SIGKILL);
        let error = ranks[0].error();
        assert!(error.contains("is gone: it was killed"), "{error}");
        let mut zero = RankProcess::start(&Orders {
            place: TestPlace::ListenAt(address),
            ..orders(Act::Loop, 0, 2)
        });
        zero.next().unwrap();
        for rank in [&mut zero, &mut again] {
            rank.expect("connected");
            rank.expect("step");
        }
    }
}

#[test]
fn groups_on_one_host_do_not_disturb_each_other() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    for stores in [STORES, [Store::Tcp, Store::Tcp]] {
        let mut one = looping(stores[0], directories[0].path(), 2, LONG);
        let mut other = looping(stores[1], directories[1].path(), 2, LONG);
        one[1].signal(Signal::SIGKILL);
        one[0].error();
        for _ in 0..100 {
            other[0].expect("step");
        }
        drop(other);
        fs::remove_file(directories[0].path().join("store")).unwrap_or_default();
    }
}

#[test]
fn group_listens_on_loopback_alone() {
    for store in STORES {
        let directory = tempfile::tempdir().unwrap();
        let orders = (0..2).map(|rank| orders(Act::Connect, rank, 2));
        for mut rank in start(store, directory.path(), orders.collect()) {
            rank.expect("connected");
            let said: Vec<String> = iter::from_fn(|| rank.next()).collect();
            let (last, local) = said.split_last().unwrap();
            assert_eq!(last, "done");
            assert!(local.len() > 1, "{local:?}");
            for line in local {
                let address: SocketAddr = line.strip_prefix("local ").unwrap().parse().unwrap();
                assert!(address.ip().is_loopback(), "{line}");
            }
        }
    }
}
