//! Ranks of one run that different commands start: hosts by `--nnodes`, torchrun's variables, Slurm's. All hosts are this
//! one here, on loopback, each with a directory of its own; `make test-hosts` and `make test-slurm` have others.

use crate::support::{
    Done, Project, RUNBOARD, at_work, checkpoints, children, copy_program, end, hold, last_weights,
    pid, recipe, runboard_compute, saved, signal, status, wait_for,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::HashSet;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::Duration;
use walkdir::WalkDir;

/// What a launcher adds to the environment.
type Variables = Vec<(&'static str, String)>;

const ENDLESS: &str = "train.steps=1000000";

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

/// Hosts that meet at one port.
struct Hosts {
    projects: Vec<Project>,
    ranks_each: usize,
    port: u16,
}

impl Hosts {
    fn new(hosts: usize, ranks_each: usize) -> Self {
        let project = |_| {
            let project = Project::new();
            project.write("experiments/recipe.yaml", recipe(60, 20));
            project
        };
        Hosts {
            projects: (0..hosts).map(project).collect(),
            ranks_each,
            port: free_port(),
        }
    }

    /// Start the command of a host.
    fn start(&self, command: &str, host: usize, more: &[&str]) -> Child {
        self.start_by(&[], command, host, more)
    }

    /// The same by a program that is given it.
    fn start_by(&self, by: &[&str], command: &str, host: usize, more: &[&str]) -> Child {
        let text = |number: usize| number.to_string();
        let endpoint = format!("127.0.0.1:{}", self.port);
        let (hosts, rank, each) = (text(self.projects.len()), text(host), text(self.ranks_each));
        let mut words = [by, &[RUNBOARD, command, "recipe"]].concat();
        words.extend(["--nnodes", &hosts, "--node-rank", &rank]);
        words.extend(["--nproc-per-node", &each, "--rdzv-endpoint", &endpoint]);
        words.extend(more);
        let mut command = self.projects[host].command_of(Path::new(words[0]), &words[1..]);
        command.spawn().unwrap()
    }

    /// Run the command on all hosts, to the end.
    fn run(&self, command: &str, more: &[&str]) -> Vec<Done> {
        let started = (0..self.projects.len()).map(|host| self.start(command, host, more));
        let started: Vec<Child> = started.collect();
        started.into_iter().map(end).collect()
    }

    /// The run, which only host 0 has, with a new checkpoint.
    fn under_way(&self) -> PathBuf {
        let saved = || {
            self.projects[0]
                .newest("recipe")
                .filter(|run| saved(run) > 1)
        };
        wait_for("a checkpoint of all ranks", saved)
    }
}

fn is_gone(pid: Pid) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

/// The addresses, as the kernel writes them, at which these processes listen.
fn listening(pids: &[Pid]) -> Vec<String> {
    let mut sockets = HashSet::new();
    for pid in pids {
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let link = fs::read_link(entry.path()).unwrap_or_default();
            let inode = link.to_str().and_then(|it| it.strip_prefix("socket:["));
            sockets.extend(inode.map(|it| it.trim_end_matches(']').to_owned()));
        }
    }
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let text: String = tables
        .iter()
        .map(|it| fs::read_to_string(it).unwrap())
        .collect();
    let rows = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    // Local address, state (0A listens) and inode.
    let listens = rows.filter(|row| row.len() > 9 && row[3] == "0A" && sockets.contains(row[9]));
    listens.map(|row| row[1].to_owned()).collect()
}

fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    name.trim().to_owned()
}

#[test]
fn hosts_train_one_run_that_the_first_keeps() {
    let hosts = Hosts::new(2, 2);
    for done in hosts.run("run", &[]) {
        assert_eq!(done.code, Some(0), "{}\n{}", done.out, done.err);
    }
    let run = hosts.projects[0].run("recipe");
    assert!(!hosts.projects[1].path("runs").exists());
    // As many ranks of one host make the same weights.
    let one_host = Project::new();
    one_host.write("experiments/recipe.yaml", recipe(60, 20));
    let four = ["--set", "compute.devices=[cpu, cpu, cpu, cpu]"];
    one_host.succeed(&[&["run", "recipe"][..], &four].concat());
    assert!(last_weights(&run) == last_weights(&one_host.run("recipe")));
}

#[test]
fn stop_on_a_host_whose_ranks_nohup_has_started_stops_the_run() {
    let hosts = Hosts::new(2, 1);
    let zero = hosts.start("run", 0, &["--set", ENDLESS]);
    let one = hosts.start_by(&["nohup"], "run", 1, &["--set", ENDLESS]);
    let run = hosts.under_way();
    signal(&one, Signal::SIGINT);
    let [zero, one] = [zero, one].map(end);
    assert_eq!((zero.code, one.code), (Some(143), Some(130)), "{}", one.err);
    let step = status(&run, "train").unwrap()["step"].as_u64().unwrap();
    assert_eq!(checkpoints(&run).pop(), Some(step - 1));
}

#[test]
fn stop_on_a_host_is_heard_while_the_first_one_waits_for_a_score() {
    let hosts = Hosts::new(2, 1);
    let sets = ["--set", ENDLESS, "--set", "stop.accuracy=1"];
    let nodes = [0, 1].map(|host| hosts.start("run", host, &sets));
    let run = hosts.under_way();
    let at = |process| status(&run, process).unwrap();
    let evaluator = at_work(&at("eval")).unwrap();
    kill(evaluator, Signal::SIGSTOP).unwrap();
    let is_waiting = || (at("train")["waits_for_score"] == true).then_some(());
    wait_for("training to wait", is_waiting);
    signal(&nodes[1], Signal::SIGINT);
    wait_for("the trainer to stop", || {
        (at("train")["process"]["state"] == "stopped").then_some(())
    });
    kill(evaluator, Signal::SIGCONT).unwrap();
    let [zero, one] = nodes.map(end);
    assert_eq!((zero.code, one.code), (Some(143), Some(130)), "{}", one.err);
}

#[test]
fn rank_that_another_host_loses_is_named_and_all_begin_again() {
    let hosts = Hosts::new(2, 1);
    let timeout = ["--set", ENDLESS, "--set", "compute.timeout_secs=10"];
    let nodes = [0, 1].map(|host| hosts.start("run", host, &timeout));
    let run = hosts.under_way();
    let trainer = at_work(&status(&run, "train").unwrap()).unwrap();
    let first = children(pid(&nodes[1]))[0];
    let listening = listening(&[trainer, first]);
    assert!(listening.len() >= 3, "{listening:?}"); // the store, and Gloo's of both
    for address in listening {
        assert!(address.starts_with("0100007F:"), "{address}");
    }
    // Frozen it is lost as well as killed.
    let lose = |rank: Pid, by: fn(Pid)| {
        by(rank);
        wait_for("another rank 1 that trains", || {
            let another = children(pid(&nodes[1]))
                .into_iter()
                .find(|&pid| pid != rank)?;
            // The first one may still be of the training that lost the rank.
            for _ in 0..2 {
                let before = checkpoints(&run).pop();
                wait_for("a new checkpoint", || {
                    (checkpoints(&run).pop() > before).then_some(())
                });
            }
            children(pid(&nodes[1]))
                .contains(&another)
                .then_some(another)
        })
    };
    let second = lose(first, |rank| kill(rank, Signal::SIGKILL).unwrap());
    lose(second, hold);
    // A request to stop on any host stops the run.
    signal(&nodes[1], Signal::SIGINT);
    let [zero, one] = nodes.map(end);
    assert_eq!(
        (zero.code, one.code),
        (Some(143), Some(130)),
        "{}\n{}",
        zero.out,
        one.err
    );
    let rank = |pid: Pid| format!("rank 1 on {} (pid {pid})", host());
    let killed = format!("{} is gone: it was killed", rank(first));
    assert!(zero.out.contains(&killed), "{}", zero.out);
    let silent = format!("no answer from {} within 10 s", rank(second));
    assert!(zero.out.contains(&silent), "{}", zero.out);
    assert!(
        one.out
            .contains("rank 1 failed: signal 9, SIGKILL; restart 1 of 3 in 1 s"),
        "{}",
        one.out
    );

    // No byte differs from a run that nothing has happened to; a resume is that of all hosts, too.
    let steps = format!("train.steps={}", checkpoints(&run).pop().unwrap() + 11);
    let resumed = [
        hosts.start("resume", 0, &["--set", &steps]),
        hosts.start(
            "run",
            1,
            &["--set", &steps, "--set", "compute.timeout_secs=10"],
        ),
    ];
    for done in resumed.map(end) {
        assert_eq!(done.code, Some(0), "{}\n{}", done.out, done.err);
    }
    let whole = Hosts::new(2, 1);
    for done in whole.run("run", &["--set", &steps]) {
        assert_eq!(done.code, Some(0), "{}\n{}", done.out, done.err);
    }
    assert!(last_weights(&run) == last_weights(&whole.projects[0].run("recipe")));
    // Without the other host it goes on, and says so.
    let more = format!("train.steps={}", checkpoints(&run).pop().unwrap() + 2);
    let alone = whole.projects[0].succeed(&["resume", "recipe", "--set", &more]);
    let noted = "2 processes have trained recipe/";
    assert!(alone.out.contains(noted), "{}", alone.out);
}

#[test]
fn trainer_of_the_first_host_that_freezes_is_killed_and_all_begin_again() {
    let hosts = Hosts::new(2, 1);
    let timeout = ["--set", ENDLESS, "--set", "compute.timeout_secs=5"];
    let nodes = [0, 1].map(|host| hosts.start("run", host, &timeout));
    let run = hosts.under_way();
    let trainer = at_work(&status(&run, "train").unwrap()).unwrap();
    hold(trainer);
    let before = checkpoints(&run).pop();
    wait_for("a new checkpoint of another trainer", || {
        let another = at_work(&status(&run, "train")?)? != trainer;
        (another && checkpoints(&run).pop() > before).then_some(())
    });
    signal(&nodes[0], Signal::SIGINT);
    let [zero, one] = nodes.map(end);
    assert_eq!((zero.code, one.code), (Some(130), Some(143)), "{}", one.err);
    let killed = "the trainer gives no sign of life for 20 s: it is frozen, or waits for a disk; it is killed";
    assert!(zero.out.contains(killed), "{}", zero.out);
}

#[test]
fn elastic_training_goes_on_when_the_trainer_is_killed_and_the_other_host_with_it() {
    let hosts = Hosts::new(2, 1);
    let elastic = ["compute.elastic=true", "compute.timeout_secs=5"];
    let sets = ["--set", ENDLESS, "--set", elastic[0], "--set", elastic[1]];
    let [zero, one] = [0, 1].map(|host| hosts.start("run", host, &sets));
    let run = hosts.under_way();
    // It has no time to say what it has lost.
    let trainer = at_work(&status(&run, "train").unwrap()).unwrap();
    kill(trainer, Signal::SIGKILL).unwrap();
    signal(&one, Signal::SIGKILL);
    one.wait_with_output().unwrap();
    wait_for("training with one rank", || {
        (status(&run, "train")?["ranks"] == 1).then_some(())
    });
    signal(&zero, Signal::SIGINT);
    let zero = end(zero);
    assert_eq!(zero.code, Some(130), "{}\n{}", zero.out, zero.err);
}

#[test]
fn elastic_training_goes_on_without_a_host_that_is_off_and_with_it_after_a_resume() {
    let hosts = Hosts::new(2, 1);
    let elastic = ["compute.elastic=true", "compute.timeout_secs=5"];
    let sets = ["--set", ENDLESS, "--set", elastic[0], "--set", elastic[1]];
    let [zero, one] = [0, 1].map(|host| hosts.start("run", host, &sets));
    let run = hosts.under_way();
    signal(&one, Signal::SIGKILL); // and its rank with it
    one.wait_with_output().unwrap();
    let ranks = || status(&run, "train").and_then(|status| status["ranks"].as_u64());
    wait_for("training with one rank", || {
        (ranks() == Some(1)).then_some(())
    });
    let before = checkpoints(&run).pop();
    wait_for("a new checkpoint", || {
        (checkpoints(&run).pop() > before).then_some(())
    });
    signal(&zero, Signal::SIGINT);
    let zero = end(zero);
    assert_eq!(zero.code, Some(130), "{}", zero.err);
    let log = fs::read_to_string(run.join("train.log")).unwrap();
    let told = "training goes on with 1 of 2 ranks, as compute.elastic says: rank 0 on ";
    assert!(log.contains(told), "{log}");
    let steps = format!("train.steps={}", checkpoints(&run).pop().unwrap() + 11);
    let sets = ["--set", &steps, "--set", elastic[0], "--set", elastic[1]];
    let [zero, one] = [("resume", 0), ("run", 1)].map(|(command, host)| {
        let started = hosts.start(command, host, &sets);
        // Longer than the spec's timeout: a resume waits for all.
        thread::sleep(Duration::from_secs(if host == 0 { 8 } else { 0 }));
        started
    });
    for done in [zero, one].map(end) {
        assert_eq!(done.code, Some(0), "{}\n{}", done.out, done.err);
    }
    assert_eq!(ranks(), Some(2));
}

#[test]
fn ranks_end_with_the_supervisor_of_their_host() {
    let hosts = Hosts::new(2, 1);
    let [zero, one] = [0, 1].map(|host| hosts.start("run", host, &["--set", ENDLESS]));
    let run = hosts.under_way();
    let trainer = status(&run, "train").unwrap()["process"]["pid"].as_u64();
    let rank = children(pid(&one))[0];
    signal(&one, Signal::SIGKILL);
    one.wait_with_output().unwrap();
    wait_for("the end of rank 1", || is_gone(rank).then_some(()));
    // Rank 0 hears of it, at once or after the timeout of a sum, and waits for another.
    let working = || status(&run, "train")?["process"]["pid"].as_u64();
    wait_for("another trainer", || (working() != trainer).then_some(()));
    // A supervisor that comes in its place trains on.
    let one = hosts.start("run", 1, &["--set", ENDLESS]);
    let before = saved(&run);
    wait_for("progress", || (saved(&run) > before + 1).then_some(()));
    // Rank 0's supervisor: its trainer saves a last checkpoint, and ends all ranks.
    let trainer = at_work(&status(&run, "train").unwrap()).unwrap();
    let rank = children(pid(&one))[0];
    signal(&zero, Signal::SIGKILL);
    zero.wait_with_output().unwrap();
    assert_eq!(end(one).code, Some(143));
    wait_for("the end of all ranks", || {
        (is_gone(trainer) && is_gone(rank)).then_some(())
    });
    assert_eq!(
        status(&run, "train").unwrap()["process"]["state"],
        "stopped"
    );
}

#[test]
fn hosts_that_differ_are_told_in_what() {
    let hosts = Hosts::new(2, 1);
    // Where the images are and how many threads there are is each host's own.
    hosts.projects[1].write("elsewhere/keep", "");
    let zero = hosts.start("run", 0, &[]);
    let one = hosts.start(
        "run",
        1,
        &[
            "--set",
            "seed=8",
            "--set",
            "optimizer.momentum=0.5",
            "--data",
            "elsewhere",
        ],
    );
    let (pid, [zero, one]) = (one.id(), [zero, one].map(end));
    let wanted = format!("failed to meet the other ranks: rank 1 on {} (pid ", host());
    for (done, said) in [(&zero, &zero.out), (&one, &one.err)] {
        assert_eq!(done.code, Some(2), "{}\n{}", done.out, done.err);
        assert!(said.contains(&wanted), "{pid}: {said}");
        assert!(
            said.contains(") has seed 8, optimizer.momentum 0.5; rank 0 on "),
            "{said}"
        );
        assert!(
            said.contains(") has seed 7, optimizer.momentum 0.9"),
            "{said}"
        );
    }
}

#[test]
fn hosts_with_different_numbers_of_ranks_are_told_so_at_once() {
    let hosts = Hosts::new(2, 1);
    let uneven = Hosts {
        port: hosts.port,
        ..Hosts::new(2, 3)
    };
    let [zero, one] = [hosts.start("run", 0, &[]), uneven.start("run", 1, &[])].map(end);
    for (done, said) in [(&zero, &zero.out), (&one, &one.err)] {
        assert_eq!(done.code, Some(2), "{}\n{}", done.out, done.err);
        assert!(said.contains(") is one of 6 ranks, rank 0 on "), "{said}");
        assert!(said.contains(") is one of 2 ranks"), "{said}");
    }
}

#[test]
fn host_that_never_comes_is_an_error_on_all_others() {
    let hosts = Hosts::new(3, 1);
    // Waited for once, whatever train.restarts is: nobody has been there.
    let more = ["--rdzv-timeout", "5"];
    let zero = hosts.start("run", 0, &more);
    let two = hosts.start("run", 2, &more);
    let [zero, two] = [zero, two].map(end);
    let missing = "failed to meet the other ranks: rank 1 of 3 did not come within 5 s";
    assert_eq!(
        (zero.code, two.code),
        (Some(1), Some(1)),
        "{}\n{}",
        zero.out,
        two.err
    );
    assert!(zero.out.contains(missing), "{}", zero.out);
    let once = "not started again: the other ranks did not come";
    assert!(zero.out.contains(once), "{}", zero.out);
    assert!(two.out.contains(once), "{}", two.out);
    assert!(
        two.err.contains("failed to meet the other ranks: rank "),
        "{}",
        two.err
    );
    let nobody = hosts.start("run", 1, &more);
    let nobody = end(nobody);
    let endpoint = format!("127.0.0.1:{}", hosts.port);
    let wanted = format!("rank 0 at {endpoint} does not answer within 5 s: Connection refused");
    assert_eq!(nobody.code, Some(1));
    assert!(nobody.err.contains(&wanted), "{}", nobody.err);
}

#[test]
fn processes_that_torchrun_or_srun_starts_are_one_run() {
    let port = free_port().to_string();
    let torchrun = |rank: &str| {
        let variables = [("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", "2")];
        let more = [("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", port.as_str())];
        [&variables[..], &more]
            .concat()
            .into_iter()
            .map(|(name, value)| (name, value.to_owned()))
            .collect()
    };
    let slurm_port = free_port().to_string();
    let srun = |rank: &str| {
        let step = [
            ("SLURM_JOB_ID", "7"),
            ("SLURM_STEP_ID", "0"),
            ("SLURM_JOB_NAME", "runboard"),
        ];
        let tasks = [
            ("SLURM_STEP_NUM_TASKS", "2"),
            ("SLURM_PROCID", rank),
            ("SLURM_LOCALID", rank),
        ];
        let nodes = [
            ("SLURM_STEP_TASKS_PER_NODE", "2"),
            ("MASTER_PORT", slurm_port.as_str()),
        ];
        [&step[..], &tasks, &nodes]
            .concat()
            .into_iter()
            .map(|(name, value)| (name, value.to_owned()))
            .collect()
    };
    let mut weights = Vec::new();
    let launchers: [&dyn Fn(&str) -> Variables; 2] = [&torchrun, &srun];
    for launcher in launchers {
        let project = Project::new();
        project.write("experiments/recipe.yaml", recipe(60, 20));
        // In one directory, as processes of one host are.
        project.succeed(&["run", "recipe", "--until", "1"]);
        fs::remove_dir_all(project.path("runs")).unwrap();
        let start = |rank: &str| {
            let mut command = project.command(&["run", "recipe"]);
            command.envs(launcher(rank)).spawn().unwrap()
        };
        for done in ["0", "1"].map(start).map(end) {
            assert_eq!(done.code, Some(0), "{}\n{}", done.out, done.err);
        }
        weights.push(last_weights(&project.run("recipe")));
    }
    assert!(weights[0] == weights[1]);
}

#[test]
fn runs_at_one_port_are_told_apart() {
    let hosts = Hosts::new(2, 1);
    let nodes = [0, 1].map(|host| hosts.start("run", host, &["--set", ENDLESS]));
    let run = hosts.under_way();
    // Another run's rank 0 finds the port taken, and makes nothing; another run's rank 1 is told so.
    let strangers = Hosts {
        port: hosts.port,
        ..Hosts::new(2, 1)
    };
    let [zero, one] = [0, 1].map(|host| end(strangers.start("run", host, &["--rdzv-id", "other"])));
    let endpoint = format!("127.0.0.1:{}", hosts.port);
    let taken = format!(
        "error: --rdzv-endpoint: got {endpoint}, whose port another process of this host has; want one that is free"
    );
    assert_eq!((zero.code, one.code), (Some(2), Some(2)));
    assert!(zero.err.contains(&taken), "{}", zero.err);
    assert!(!strangers.projects[0].path("runs/recipe").exists());
    let other = format!(
        "rank 0 at {endpoint} trains recipe, this rank other; want another port for each run, or the same --rdzv-id"
    );
    assert!(one.err.contains(&other), "{}", one.err);
    // The run does not notice.
    let before = saved(&run);
    wait_for("progress", || (saved(&run) > before + 1).then_some(()));
    signal(&nodes[0], Signal::SIGINT);
    let [zero, one] = nodes.map(end);
    assert_eq!(zero.code, Some(130), "{}\n{}", zero.out, zero.err);
    assert!(!zero.out.contains("restart"), "{}", zero.out);
    assert_eq!(one.code, Some(143), "{}\n{}", one.out, one.err);
}

#[test]
fn host_that_keeps_the_run_may_be_detached() {
    let hosts = Hosts::new(2, 1);
    let zero = end(hosts.start("run", 0, &["--set", ENDLESS, "--detach"]));
    assert_eq!(zero.code, Some(0), "{}\n{}", zero.out, zero.err);
    let one = hosts.start("run", 1, &["--set", ENDLESS]);
    let run = hosts.under_way();
    assert_eq!(status(&run, "train").unwrap()["ranks"], 2);
    hosts.projects[0].succeed(&["stop", "recipe"]);
    assert_eq!(end(one).code, Some(143));
    // Who torchrun has started is none that may go on without it.
    let project = Project::new();
    let mut torchrun = project.command(&["run", "small", "--detach"]);
    torchrun.envs([("RANK", "0"), ("WORLD_SIZE", "2")]);
    torchrun.envs([("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "29500")]);
    let done = end(torchrun.spawn().unwrap());
    let refused =
        "error: --detach: torchrun started this process, and would take its part for done";
    assert_eq!(done.code, Some(2));
    assert!(done.err.contains(refused), "{}", done.err);
}

/// A copy of runboard that takes itself for one of another build.
fn of_another_build(project: &Project) -> PathBuf {
    let own = runboard::compute::BUILD.as_bytes();
    let other = own.iter().rev().copied().collect::<Vec<u8>>();
    assert_ne!(own, other);
    for program in [Path::new(RUNBOARD), &runboard_compute()] {
        let copy = project.path("other").join(program.file_name().unwrap());
        copy_program(program, &copy);
        let mut bytes = fs::read(program).unwrap();
        let found: Vec<usize> = (0..bytes.len() - own.len())
            .filter(|&at| bytes[at..].starts_with(own))
            .collect();
        assert!(!found.is_empty());
        for at in found {
            bytes[at..at + other.len()].copy_from_slice(&other);
        }
        project.write("patched", bytes);
        copy_program(&project.path("patched"), &copy); // which stays executable
    }
    project.path("other/runboard")
}

#[test]
fn rank_of_another_build_or_with_other_images_is_refused() {
    let wanted = |what: &str, done: &Done, said: &str| {
        assert_eq!(done.code, Some(2), "{}\n{}", done.out, done.err);
        let begin = "failed to meet the other ranks: rank 1 on ";
        assert!(said.contains(begin), "{said}");
        assert!(said.contains(what), "{said}");
    };
    let both = |what: &str, [zero, one]: [Done; 2]| {
        wanted(what, &zero, &zero.out);
        wanted(what, &one, &one.err);
    };
    let hosts = Hosts::new(2, 1);
    let zero = hosts.start("run", 0, &[]);
    let other = of_another_build(&hosts.projects[1]);
    let endpoint = format!("127.0.0.1:{}", hosts.port);
    let arguments = [
        "run",
        "recipe",
        "--nnodes",
        "2",
        "--node-rank",
        "1",
        "--rdzv-endpoint",
        &endpoint,
    ];
    let mut command = hosts.projects[1].command_of(&other, &arguments);
    // Where libtorch is, it finds by where it was built.
    let one = command.spawn().unwrap();
    let build = format!(
        ") has build {}",
        runboard::compute::BUILD.chars().rev().collect::<String>()
    );
    both(&build, [zero, one].map(end));

    let hosts = Hosts::new(2, 1);
    // Its images are of other files, which its spec cannot know.
    hosts.projects[1].succeed(&["run", "recipe", "--until", "1"]);
    fs::remove_dir_all(hosts.projects[1].path("runs")).unwrap();
    let images = hosts.projects[1].path("data");
    let file = WalkDir::new(images).into_iter().map(Result::unwrap);
    let file = file.filter(|it| it.file_name().to_string_lossy().starts_with("data_batch"));
    let file = file.last().unwrap().into_path();
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    let nodes = [0, 1].map(|host| hosts.start("run", host, &[]));
    both(") has images ", nodes.map(end));
}

#[test]
fn launch_that_cannot_be_is_refused_before_there_is_anything() {
    let project = Project::new();
    for (arguments, error) in [
        (
            &["--nnodes", "2"][..],
            "error: --nnodes: got 2 hosts; want --node-rank with it, 0 on the first host, which has the run directory, up to 1",
        ),
        (
            &["--nproc-per-node", "3"],
            "error: train.batch_size: got a batch of 16 images for 3 ranks (--nnodes and --nproc-per-node), want an equal \
             part for each: 15 or 18 images, or 2 or 4 ranks, say",
        ),
        (
            &[
                "--nnodes",
                "2",
                "--node-rank",
                "1",
                "--rdzv-endpoint",
                "127.0.0.1:29500",
                "--detach",
            ],
            "error: --detach: want it on host 0, which has the run directory and its logs; here, say: nohup runboard run",
        ),
        (
            &[
                "--nnodes",
                "2",
                "--node-rank",
                "0",
                "--rdzv-endpoint",
                "192.0.2.1:29500",
            ],
            "error: --rdzv-endpoint: got 192.0.2.1:29500, which is no address of this host, where rank 0 is; want one of",
        ),
        (
            &["--nproc-per-node", "2", "--sweep", "seed=1,2"],
            "error: small is a sweep, whose points start their processes themselves; want a single run where several \
             commands train together",
        ),
    ] {
        let done = project.runboard(&[&["run", "small"][..], arguments].concat());
        assert_eq!(done.code, Some(2), "{arguments:?}");
        assert!(done.err.contains(error), "{}", done.err);
        assert!(!project.path("runs/small").exists());
    }
    let done = project.runboard(&["run", "small", "--nnodes", "2", "--rdzv-endpoint", "a"]);
    let error = "invalid value 'a' for '--rdzv-endpoint <HOST:PORT>': got \"a\", want HOST:PORT, such as node1:29500";
    assert_eq!(done.code, Some(2));
    assert!(done.err.contains(error), "{}", done.err);
}
