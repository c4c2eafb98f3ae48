use super::*;
use std::collections::HashMap;

/// The launch by these flags and variables, as text; or the error.
fn launch(flags: &Flags, variables: &[(&str, &str)]) -> Result<Launch, String> {
    let variables: HashMap<&str, &str> = variables.iter().copied().collect();
    let get = |name: &str| Some((*variables.get(name)?).to_owned());
    let mut spec = Spec::default();
    spec.train.batch_size = 24;
    let found = Launch::find(flags, get, &spec, "baseline");
    found.map_err(|error| error.to_string())
}

/// `[world, rank, count, local rank, local world]` and the endpoint of a launch.
fn placed(launch: &Launch) -> ([usize; 5], Option<String>) {
    let Launch {
        world,
        rank,
        count,
        local_rank,
        local_world,
        ..
    } = *launch;
    let rendezvous = launch.rendezvous.as_ref();
    (
        [world, rank, count, local_rank, local_world],
        rendezvous.map(|it| it.endpoint.to_string()),
    )
}

fn flags(nodes: usize, node_rank: usize, ranks: usize) -> Flags {
    Flags {
        nodes: Some(nodes),
        node_rank: Some(node_rank),
        ranks_per_node: Some(ranks),
        endpoint: Some("node1:29500".parse().unwrap()),
        ..Flags::default()
    }
}

const TORCHRUN: [(&str, &str); 7] = [
    ("RANK", "5"),
    ("WORLD_SIZE", "8"),
    ("LOCAL_RANK", "1"),
    ("LOCAL_WORLD_SIZE", "4"),
    ("MASTER_ADDR", "10.0.0.1"),
    ("MASTER_PORT", "4321"),
    ("TORCHELASTIC_RUN_ID", "abc"),
];

/// The third task of `srun -n 3` on two nodes.
const SLURM: [(&str, &str); 10] = [
    ("SLURM_JOB_ID", "77"),
    ("SLURM_STEP_ID", "2"),
    ("SLURM_JOB_NAME", "runboard"),
    ("SLURM_STEP_NUM_TASKS", "3"),
    ("SLURM_NTASKS", "8"),
    ("SLURM_PROCID", "2"),
    ("SLURM_LOCALID", "0"),
    ("SLURM_NODEID", "1"),
    ("SLURM_STEP_NODELIST", "gpu[03-04]"),
    ("SLURM_STEP_TASKS_PER_NODE", "2,1"),
];

fn without<'a>(all: &[(&'a str, &'a str)], name: &str) -> Vec<(&'a str, &'a str)> {
    all.iter().copied().filter(|it| it.0 != name).collect()
}

fn with<'a>(all: &[(&'a str, &'a str)], name: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    [without(all, name), vec![(name, value)]].concat()
}

#[test]
fn process_alone_has_all_ranks() {
    let alone = launch(&Flags::default(), &[]).unwrap();
    assert_eq!(alone, Launch::on_one_host(1));
    let one_host = Flags {
        ranks_per_node: Some(4),
        ..Flags::default()
    };
    let four = launch(&one_host, &TORCHRUN).unwrap();
    assert_eq!(placed(&four), ([4, 0, 4, 0, 4], None));
}

#[test]
fn flags_come_before_torchrun_and_that_before_slurm() {
    let all = [&TORCHRUN[..], &SLURM].concat();
    let by_flags = launch(&flags(2, 1, 3), &all).unwrap();
    let endpoint = Some("node1:29500".to_owned());
    assert_eq!(placed(&by_flags), ([6, 3, 3, 0, 3], endpoint));
    assert_eq!(by_flags.origin, Origin::Flags);
    assert_eq!(by_flags.rendezvous.unwrap().id, "baseline");
    let by_torchrun = launch(&Flags::default(), &all).unwrap();
    let endpoint = Some("10.0.0.1:4321".to_owned());
    assert_eq!(placed(&by_torchrun), ([8, 5, 1, 1, 4], endpoint));
    assert_eq!(by_torchrun.rendezvous.unwrap().id, "abc");
    let by_slurm = launch(&Flags::default(), &SLURM).unwrap();
    let endpoint = Some("gpu03:16699".to_owned());
    assert_eq!(placed(&by_slurm), ([3, 2, 1, 0, 1], endpoint));
    assert_eq!(by_slurm.rendezvous.unwrap().id, "slurm job 77, step 2");
}

#[test]
fn torchrun_has_a_store_of_its_own_at_the_port_if_it_says_so() {
    let agent = |value| with(&TORCHRUN, "TORCHELASTIC_USE_AGENT_STORE", value);
    let rendezvous = |variables: &[_]| {
        let launch = launch(&Flags::default(), variables).unwrap();
        let rendezvous = launch.rendezvous.unwrap();
        (rendezvous.agent_store, rendezvous.interface)
    };
    assert_eq!(rendezvous(&TORCHRUN), (false, None));
    assert_eq!(rendezvous(&agent("False")), (false, None));
    assert_eq!(rendezvous(&agent("True")), (true, None));
    // The ranks of one host need no other address.
    let one_host = with(&agent("True"), "LOCAL_WORLD_SIZE", "8");
    let one_host = with(&one_host, "LOCAL_RANK", "5");
    assert_eq!(rendezvous(&one_host), (true, Some("lo".to_owned())));
    // A number that no launcher gives.
    let last = u64::MAX.to_string();
    let error = launch(&Flags::default(), &with(&TORCHRUN, "LOCAL_RANK", &last)).unwrap_err();
    assert!(
        error.contains(" on this host (RANK and WORLD_SIZE)"),
        "{error}"
    );
}

#[test]
fn flags_that_say_less_are_for_every_origin() {
    let more = Flags {
        interface: Some("eth1".into()),
        id: Some("mine".into()),
        timeout_secs: Some(20),
        ..Flags::default()
    };
    for variables in [&TORCHRUN[..], &SLURM] {
        let rendezvous = launch(&more, variables).unwrap().rendezvous.unwrap();
        assert_eq!(rendezvous.interface.as_deref(), Some("eth1"));
        assert_eq!((&*rendezvous.id, rendezvous.timeout_secs), ("mine", 20));
    }
}

#[test]
fn ranks_of_one_process_follow_one_another() {
    let node = launch(&flags(2, 1, 3), &[]).unwrap();
    let second = node.of_rank(1);
    assert_eq!(placed(&second).0, [6, 4, 1, 1, 3]);
    assert!(!node.leads());
    assert!(launch(&flags(2, 0, 3), &[]).unwrap().leads());
}

#[test]
fn slurm_is_left_alone_where_one_process_is_meant() {
    for variables in [
        with(&SLURM, "SLURM_JOB_NAME", "bash"),
        with(&SLURM, "SLURM_JOB_NAME", "interactive"),
        with(&SLURM, "SLURM_STEP_NUM_TASKS", "1"),
        without(&SLURM, "SLURM_STEP_ID"),
    ] {
        let alone = launch(&Flags::default(), &variables).unwrap();
        assert_eq!(alone, Launch::on_one_host(1), "{variables:?}");
    }
    // Tasks on one node meet on loopback.
    let one_node = with(&SLURM, "SLURM_STEP_TASKS_PER_NODE", "3");
    let one_node = with(&one_node, "SLURM_LOCALID", "2");
    let one_node = with(&one_node, "SLURM_NODEID", "0");
    let one_node = launch(&Flags::default(), &one_node).unwrap();
    let endpoint = Some("127.0.0.1:16699".to_owned());
    assert_eq!(placed(&one_node), ([3, 2, 1, 2, 3], endpoint));
    let named = with(&SLURM, "MASTER_ADDR", "gpu03-ib");
    let named = launch(&Flags::default(), &named).unwrap();
    assert_eq!(placed(&named).1.as_deref(), Some("gpu03-ib:16699"));
}

#[test]
fn slurm_lists_of_hosts_and_tasks_are_read() {
    for (list, first) in [
        ("alone", "alone"),
        ("a,b", "a"),
        ("node[03-07,11],other", "node03"),
        ("r[1,3]n[002-004]-ib", "r1n002-ib"),
    ] {
        assert_eq!(slurm::first_host(list).as_deref(), Some(first));
    }
    assert_eq!(slurm::first_host(""), None);
    assert_eq!(slurm::first_host("a[1"), None);
    assert_eq!(slurm::tasks_per_node("2(x3),1"), [2, 2, 2, 1]);
    assert_eq!(slurm::tasks_per_node("4"), [4]);
    assert!(slurm::tasks_per_node("").is_empty());
}

#[test]
fn launch_that_lacks_something_is_an_error() {
    let no_rank = Flags {
        node_rank: None,
        ..flags(2, 0, 1)
    };
    let no_endpoint = Flags {
        endpoint: None,
        ..flags(2, 0, 1)
    };
    let no_nodes = Flags {
        nodes: None,
        ranks_per_node: None,
        ..flags(2, 0, 1)
    };
    for (flags, variables, error) in [
        (
            no_rank,
            vec![],
            "--nnodes: got 2 hosts; want --node-rank with it, 0 on the first host, which has the run directory, up to 1",
        ),
        (
            no_endpoint,
            vec![],
            "--nnodes: got 2 hosts; want --rdzv-endpoint HOST:PORT with it, the same on all hosts: an address of the \
             first one, and a port that is free there",
        ),
        (
            no_nodes,
            vec![],
            "--node-rank: want --nnodes, the number of hosts, with it",
        ),
        (
            flags(2, 2, 1),
            vec![],
            "--node-rank: got 2 of 2 hosts, want 0 to 1",
        ),
        (
            flags(1, 1, 1),
            vec![],
            "--node-rank: want 0, as there is one host, or more of them: --nnodes",
        ),
        (
            flags(5, 1, 1),
            vec![],
            "train.batch_size: got a batch of 24 images for 5 ranks (--nnodes and --nproc-per-node), want an equal part \
             for each: 20 or 25 images, or 4 or 6 ranks, say",
        ),
        (
            Flags::default(),
            without(&TORCHRUN, "RANK"),
            "WORLD_SIZE is set, but RANK is not; want both, as torchrun sets them, or none of them",
        ),
        (
            Flags::default(),
            without(&TORCHRUN, "MASTER_PORT"),
            "RANK and WORLD_SIZE are set, but MASTER_PORT is not; want MASTER_ADDR and MASTER_PORT, where rank 0 is, too",
        ),
        (
            Flags::default(),
            with(&TORCHRUN, "RANK", "8"),
            "got rank 8 of 8, 1 of 4 on this host (RANK and WORLD_SIZE); want each less than its number",
        ),
        (
            Flags::default(),
            with(&TORCHRUN, "WORLD_SIZE", "two"),
            "WORLD_SIZE: got \"two\", want a number",
        ),
        (
            Flags::default(),
            without(&SLURM, "SLURM_PROCID"),
            "SLURM_PROCID is not set, though SLURM_STEP_ID is; want both",
        ),
    ] {
        assert_eq!(launch(&flags, &variables).unwrap_err(), error);
    }
}

#[test]
fn endpoint_is_a_host_and_a_port() {
    for (text, host, port) in [
        ("node1:29500", "node1", 29_500),
        ("10.0.0.1:1", "10.0.0.1", 1),
        ("[fd00::1]:80", "fd00::1", 80),
    ] {
        let endpoint: Endpoint = text.parse().unwrap();
        assert_eq!((&*endpoint.host, endpoint.port), (host, port));
        assert_eq!(endpoint.to_string(), text);
    }
    for text in [
        "node1",
        "node1:",
        ":1",
        "node1:0",
        "node1:99999",
        "fd00::1:80",
    ] {
        let error = text.parse::<Endpoint>().unwrap_err();
        let wanted = format!("got {text:?}, want HOST:PORT, such as node1:29500");
        assert_eq!(error, wanted);
    }
}

#[test]
fn ranks_of_a_host_share_its_devices_and_threads() {
    let mut spec = Spec::default();
    spec.compute.threads = 7;
    let node = launch(&flags(2, 1, 3), &[]).unwrap();
    assert_eq!(node.threads(&spec.compute), 2);
    assert_eq!(Launch::on_one_host(1).threads(&spec.compute), 7);
    let one_node = with(&SLURM, "SLURM_STEP_TASKS_PER_NODE", "1,2");
    let tasks = with(&one_node, "SLURM_CPUS_ON_NODE", "8");
    let cores = |variables: &[_]| launch(&Flags::default(), variables).unwrap().cores;
    assert_eq!(cores(&tasks), Some(4));
    assert_eq!(cores(&with(&tasks, "SLURM_CPUS_PER_TASK", "3")), Some(3));
    assert_eq!(node.of_rank(2).device(&spec.compute, 4), "cuda:2");
    assert_eq!(node.of_rank(2).device(&spec.compute, 1), "auto");
    spec.compute.device = "cpu".into();
    assert_eq!(node.of_rank(2).device(&spec.compute, 4), "cpu");
    spec.compute.devices = vec!["cuda:3".into(), "cpu".into(), "cuda:1".into()];
    assert_eq!(node.of_rank(2).device(&spec.compute, 4), "cuda:1");
    assert!(node.check(&spec).is_err(), "128 images for 6 ranks");
    spec.train.batch_size = 12;
    node.check(&spec).unwrap();
    spec.compute.devices.pop();
    assert_eq!(
        node.check(&spec).unwrap_err().to_string(),
        "compute.devices: got 2 devices for 3 ranks on this host (--nnodes and --nproc-per-node), want one for each, or none: \
         --set compute.devices=[]"
    );
}
