//! Processes of a run that die, are stopped, or lose their terminal.

use crate::support::{
    Done, Project, RUNBOARD, at_work, checkpoints, end, evaluated_steps, hold, journal, json,
    last_weights, listed, respecify, running, signal, status, steps, tensorboard_reads, wait_for,
    wait_until_held, with_sets,
};
use crate::terminal::Terminal;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

/// Longer than any test waits: such a run must be stopped. It says so little that a pipe which is read only at
/// its end holds it.
const ENDLESS: [&str; 2] = ["train.steps=1000000", "train.log_every=1000"];

const ROLES: [&str; 3] = ["supervisor", "train", "eval"];

/// The process that wrote a status of the run, and has not ended.
fn pid(run: &Path, role: &str) -> Pid {
    let status = status(run, role).expect("a status");
    at_work(&status).unwrap_or_else(|| panic!("{role} is running: {status}"))
}

fn send(pid: Pid, signal: Signal) {
    kill(pid, signal).unwrap();
}

/// The run, once trainer and evaluator are at it and the trainer has taken some steps beyond `step`.
fn under_way(project: &Project, step: u64) -> PathBuf {
    wait_for("a run under way", || {
        let run = project.newest("small")?;
        running(&run, "eval")?;
        running(&run, "train")?;
        (status(&run, "train")?["step"].as_u64()? > step).then_some(run)
    })
}

/// Waits until all processes of the run have ended.
fn wait_for_the_end(run: &Path) {
    let last = ROLES.map(|role| status(run, role));
    wait_for("the end of all processes", || {
        let left = last.iter().flatten().any(|last| at_work(last).is_some());
        (!left).then_some(())
    });
}

#[test]
fn killed_processes_are_restarted_and_nothing_is_missing() {
    let sets = ["train.checkpoint_every=100", "train.keep_checkpoints=1000"];
    let parted = Project::new();
    let child = parted.start(&with_sets(
        &["run", "small"],
        &[&ENDLESS[..], &sets].concat(),
    ));
    let run = wait_for("a checkpoint beyond the first", || {
        let run = parted.newest("small")?;
        run.join("checkpoints/step-00000100")
            .exists()
            .then_some(run)
    });
    // However fast the machine is, training does not end before the evaluator has begun ...
    let trainer = pid(&run, "train");
    hold(trainer);
    let evaluator = wait_for("the evaluator", || {
        status(&run, "eval").map(|_| pid(&run, "eval"))
    });
    let list = parted.succeed(&["list"]).out;
    assert!(list.lines().nth(1).unwrap().contains(" paused "), "{list}");
    // ... and ends soon after it has begun again.
    let total = checkpoints(&run).pop().unwrap() + 150;
    let total_set = format!("train.steps={total}");
    respecify(&run, "steps: 1000000", &format!("steps: {total}"));
    send(trainer, Signal::SIGKILL);
    send(evaluator, Signal::SIGKILL);
    let done = end(child);
    assert_eq!(done.code, Some(0), "{}\n{}", done.out, done.err);
    for line in [
        "\nthe trainer died (signal 9, SIGKILL); restart 1 of 3 in 1 s\n",
        "\nthe evaluator died (signal 9, SIGKILL); restart 1 in 1 s\n",
        "\n  restarts       trainer 1, evaluator 1\n",
    ] {
        assert!(done.out.contains(line), "no {line:?} in {}", done.out);
    }
    let whole = Project::new();
    whole.succeed(&with_sets(
        &["run", "small"],
        &[&[total_set.as_str()], &sets[..]].concat(),
    ));
    assert!(last_weights(&run) == last_weights(&whole.run("small")));
    let restarts = &status(&run, "supervisor").unwrap()["restarts"];
    assert_eq!(restarts, &json!({"train": 1, "eval": 1}));
    let evaluated = evaluated_steps(&journal(&run));
    let wanted: Vec<u64> = (0..total).step_by(100).chain([total - 1]).collect();
    assert_eq!(evaluated, wanted);
    if let Some(events) = tensorboard_reads(&run.join("eval")) {
        assert_eq!(steps(&events["scalars"]["Precision @ 1"]), wanted);
    }
    let row = &listed(&parted)[0];
    assert_eq!(
        (&row["state"], &row["restarts"]),
        (&json!("finished"), &json!(2)),
        "{row}"
    );
    // No run has gone back to an earlier checkpoint, so there is no column for that.
    let list = parted.succeed(&["list"]).out;
    assert!(
        list.contains("RESTARTS") && !list.contains("ROLLBACKS"),
        "{list}"
    );
}

#[test]
fn divergence_is_not_retried() {
    let project = Project::new();
    let sets = ["--set", "optimizer.learning_rate=1e6", "--set", "seed=5"];
    let done = project.runboard(&[&["run", "small"][..], &sets].concat());
    assert_eq!(done.code, Some(4), "{}", done.out);
    // What it proposes is this run but for the rate.
    let proposed = " run small --set 'seed=5' --set 'optimizer.learning_rate=100000'\n";
    assert!(done.out.contains(proposed), "{}", done.out);
    let run = project.run("small");
    let log = fs::read_to_string(run.join("train.log")).unwrap();
    assert_eq!(log.matches(": training small/").count(), 1, "{log}");
    assert!(!done.out.contains("restart"), "{}", done.out);
    // The evaluator scored what there is, and was not blamed.
    assert_eq!(status(&run, "eval").unwrap()["last"]["step"], 0);
    assert_eq!(status(&run, "supervisor").unwrap()["restarts"]["eval"], 0);
}

#[test]
fn bad_input_is_not_retried() {
    let project = Project::new();
    project.succeed(&["run", "small", "--set", "train.steps=1"]);
    // Bad images would be refused before the run.
    let checkpoint = project.run("small").join("checkpoints/step-00000000");
    fs::write(checkpoint.join("weights.safetensors"), "damaged").unwrap();
    let done = project.runboard(&["resume", "small"]);
    assert_eq!(done.code, Some(2), "{}\n{}", done.out, done.err);
    let why = "\nnot started again: bad input, which would end it again\n";
    assert!(done.out.contains(why), "{}", done.out);
    assert!(done.out.contains("weights.safetensors"), "{}", done.out);
}

#[test]
fn trainer_that_saves_nothing_new_is_given_up() {
    let project = Project::new();
    let sets = ["train.restarts=1", "train.checkpoint_every=1000000"];
    let child = project.start(&with_sets(
        &["run", "small"],
        &[&ENDLESS[..], &sets].concat(),
    ));
    let run = under_way(&project, 1);
    let first = pid(&run, "train");
    send(first, Signal::SIGKILL);
    let second = wait_for("the second trainer", || {
        at_work(&status(&run, "train")?).filter(|&pid| pid != first)
    });
    send(second, Signal::SIGKILL);
    let done = end(child);
    assert_eq!(done.code, Some(137), "{}\n{}", done.out, done.err);
    let why = "\nnot started again: train.restarts allows 1 without a new checkpoint\n";
    assert!(done.out.contains(why), "{}", done.out);
    wait_for_the_end(&run);
}

#[test]
fn stop_at_any_moment_of_the_start_loses_nothing() {
    let sets = ["--set", "train={steps: 120, checkpoint_every: 50}"];
    let arguments = [&["run", "small"], &sets[..]].concat();
    let whole = Project::new();
    whole.succeed(&arguments);

    let parted = Project::new();
    let child = parted.start(&arguments);
    let run = wait_for("the run", || parted.newest("small"));
    signal(&child, Signal::SIGTERM);
    end(child);
    let mut random = ChaCha8Rng::seed_from_u64(5);
    for _ in 0..6 {
        let child = parted.start(&["resume", "small"]);
        thread::sleep(Duration::from_millis(random.random_range(0..600)));
        signal(&child, Signal::SIGTERM);
        let done = end(child);
        // Killed by it before it listens, or stopped, or finished by then.
        let good = [None, Some(143), Some(0)].contains(&done.code);
        assert!(good, "{:?}\n{}\n{}", done.code, done.out, done.err);
        if done.code == Some(143) {
            assert!(done.out.contains("runboard resume small/"), "{}", done.out);
        }
        wait_for_the_end(&run);
    }
    parted.succeed(&["resume", "small"]);
    assert!(last_weights(&run) == last_weights(&whole.run("small")));
}

#[test]
fn signal_to_every_process_stops_each_in_good_order() {
    let project = Project::new();
    let child = project.start(&with_sets(&["run", "small"], &ENDLESS));
    let run = under_way(&project, 1);
    // Held meanwhile: each has the signal before any of them acts on its own.
    let pids = ROLES.map(|role| pid(&run, role));
    pids.into_iter().for_each(hold);
    for signal in [Signal::SIGTERM, Signal::SIGCONT] {
        pids.into_iter().for_each(|pid| send(pid, signal));
    }
    let done = end(child);
    assert_eq!(done.code, Some(143), "{}\n{}", done.out, done.err);
    for role in ROLES {
        let state = &status(&run, role).unwrap()["process"]["state"];
        assert_eq!(state, "stopped", "{role}");
    }
}

#[test]
fn closing_terminal_stops_a_run_in_good_order() {
    let project = Project::new();
    let mut command = project.command(&with_sets(&["run", "small"], &ENDLESS));
    let mut terminal = Terminal::open();
    let mut child = terminal.start(&mut command);
    let run = wait_for("a run under way", || {
        terminal.read();
        let run = project.newest("small")?;
        (status(&run, "train")?["step"].as_u64()? > 1).then_some(run)
    });
    drop(terminal);
    assert_eq!(child.wait().unwrap().code(), Some(129));
    for role in ["supervisor", "train"] {
        let state = &status(&run, role).unwrap()["process"]["state"];
        assert_eq!(state, "stopped", "{role}");
    }
    wait_for_the_end(&run);
}

/// A shell with job control in a terminal.
struct Shell {
    terminal: Terminal,
    process: Child,
}

impl Shell {
    fn open(project: &Project) -> Self {
        let mut command = Command::new("sh");
        command.arg("-i").current_dir(project.path(""));
        for variable in ["RUNBOARD_HOME", "RUNBOARD_DATA", "ENV"] {
            command.env_remove(variable);
        }
        let terminal = Terminal::open();
        let process = terminal.start(&mut command);
        Shell { terminal, process }
    }

    /// Types the line of a command that runs runboard, as `make experiment` does.
    fn run_in_a_script(&mut self, arguments: &[&str]) {
        let line = format!("sh -c \"'{RUNBOARD}' {}; :\"\n", arguments.join(" "));
        self.terminal.press(&line);
    }

    /// Types a line that begins with runboard's name.
    fn run(&mut self, arguments: &[&str], end: &str) {
        let line = format!("'{RUNBOARD}' {}{end}\n", arguments.join(" "));
        self.terminal.press(&line);
    }

    /// The run of `small`, once it has taken some steps beyond `step`.
    fn trained_beyond(&mut self, project: &Project, step: u64) -> PathBuf {
        wait_for("some steps", || {
            self.terminal.read();
            let run = project.newest("small")?;
            running(&run, "eval")?;
            running(&run, "train")?;
            (status(&run, "train")?["step"].as_u64()? > step).then_some(run)
        })
    }

    fn close(mut self) {
        self.terminal.press("exit\n");
        wait_for("the shell's end", || {
            self.terminal.read();
            self.process.try_wait().unwrap()
        });
    }
}

fn step(run: &Path) -> u64 {
    status(run, "train").unwrap()["step"].as_u64().unwrap()
}

#[test]
fn ctrl_z_pauses_the_whole_run_until_the_shell_lets_it_go_on() {
    let project = Project::new();
    let mut shell = Shell::open(&project);
    shell.run(&with_sets(&["run", "small"], &ENDLESS), "");
    let run = shell.trained_beyond(&project, 1);
    let pids = ROLES.map(|role| pid(&run, role));
    for _ in 0..2 {
        shell.terminal.press("\x1a");
        pids.into_iter().for_each(wait_until_held);
        let step = step(&run);
        shell.terminal.press("fg\n");
        shell.trained_beyond(&project, step);
    }
    let said = shell.terminal.said();
    assert!(said.contains("paused; to go on: fg"), "{said}");
    shell.terminal.press("\x03");
    wait_for_the_end(&run);
    assert_eq!(
        status(&run, "supervisor").unwrap()["process"]["state"],
        "stopped"
    );
    shell.close();
}

#[test]
fn ctrl_z_leaves_alone_what_the_shell_has_written_already() {
    let project = Project::new();
    let mut shell = Shell::open(&project);
    shell.run_in_a_script(&with_sets(&["run", "small"], &ENDLESS));
    let run = shell.trained_beyond(&project, 1);
    let supervisor = pid(&run, "supervisor");
    shell.terminal.press("\x1a");
    wait_until_held(supervisor);
    let said = wait_for("the shell's word", || {
        let said = shell.terminal.said();
        said.contains("Stopped").then_some(said)
    });
    // The script stops before runboard, so that the shell may be the first to write.
    let (_, after) = said.rsplit_once("Stopped").unwrap();
    assert!(!after.contains("\x1b["), "{said:?}");
    let step = step(&run);
    shell.terminal.press("fg\n");
    shell.trained_beyond(&project, step);
    shell.terminal.press("\x03");
    wait_for_the_end(&run);
    shell.close();
}

#[test]
fn ctrl_z_pauses_nothing_where_no_shell_would_let_it_go_on() {
    let project = Project::new();
    let mut command = project.command(&with_sets(&["run", "small"], &ENDLESS));
    // As `ssh -t HOST runboard run small`: all that the terminal was opened for.
    let mut terminal = Terminal::open();
    let mut child = terminal.start(&mut command);
    let trained_beyond = |terminal: &mut Terminal, beyond: u64| {
        wait_for("some steps", || {
            terminal.read();
            let run = project.newest("small")?;
            (status(&run, "train")?["step"].as_u64()? > beyond).then_some(run)
        })
    };
    let run = trained_beyond(&mut terminal, 1);
    terminal.press("\x1a");
    wait_for("the note", || {
        terminal.said().contains("not paused: ").then_some(())
    });
    trained_beyond(&mut terminal, step(&run) + 5);
    terminal.press("\x03");
    let code = wait_for("the end", || {
        terminal.read();
        child.try_wait().unwrap()
    });
    assert_eq!(code.code(), Some(130), "{}", terminal.said());
    wait_for_the_end(&run);
}

#[test]
fn display_on_a_terminal_has_colours_unless_no_color_is_set() {
    for no_colour in ["", "1"] {
        let project = Project::new();
        let mut command = project.command(&["run", "small"]);
        let mut terminal = Terminal::open();
        let mut child = terminal.start(command.env("NO_COLOR", no_colour));
        let code = wait_for("the end", || {
            terminal.read();
            child.try_wait().unwrap()
        });
        let said = terminal.said();
        assert_eq!(code.code(), Some(0), "{said}");
        assert!(said.contains("Ctrl-C, which saves a checkpoint"), "{said}");
        assert_eq!(said.contains("\x1b[2mevaluator"), no_colour.is_empty());
        // The block is gone, and the log's lines were never there.
        let (_, end) = said.rsplit_once("\x1b[J").unwrap();
        assert!(end.contains(" is finished: 25 of 25 steps"), "{end}");
        assert!(!end.contains("evaluator"), "{end}");
        assert!(!said.contains("examples/sec"), "{said}");
    }
}

#[test]
fn run_stopped_at_once_is_stopped_and_says_what_a_resume_trains_again() {
    let project = Project::new();
    let sets = [&ENDLESS[..], &["train.checkpoint_every=1000000"]].concat();
    let child = project.start(&with_sets(&["run", "small"], &sets));
    let run = under_way(&project, 5);
    hold(pid(&run, "train"));
    signal(&child, Signal::SIGTERM);
    wait_for("the first request", || {
        (status(&run, "supervisor")?["stopping"] == true).then_some(())
    });
    signal(&child, Signal::SIGINT);
    let done = end(child);
    assert_eq!(done.code, Some(143), "{}\n{}", done.out, done.err);
    let step = status(&run, "train").unwrap()["step"].as_u64().unwrap();
    for line in [
        format!(" is stopped: {step} of 1000000 steps, after "),
        format!(
            " step 0; a resume goes on with step 1, and trains {} steps again\n",
            step - 1
        ),
    ] {
        assert!(done.out.contains(&line), "no {line:?} in {}", done.out);
    }
    let list = project.succeed(&["list"]).out;
    let row: Vec<&str> = list.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[1..3], ["stopped", &format!("{step}/1000000")], "{list}");
    wait_for_the_end(&run);
}

#[test]
fn run_in_the_background_of_a_terminal_that_wants_no_output_goes_on() {
    let project = Project::new();
    let mut shell = Shell::open(&project);
    shell.terminal.press("stty tostop\n");
    shell.run(&with_sets(&["run", "small"], &ENDLESS), " &");
    let run = shell.trained_beyond(&project, 1);
    let beyond = step(&run) + 5;
    shell.trained_beyond(&project, beyond);
    let mut stop = project.start(&["stop", "small"]);
    let code = wait_for("the stop", || {
        shell.terminal.read();
        stop.try_wait().unwrap()
    });
    assert!(code.success());
    wait_for_the_end(&run);
    shell.close();
}

#[test]
fn ctrl_c_of_a_run_whose_trainer_is_frozen_says_so() {
    let project = Project::new();
    let mut command = project.command(&with_sets(&["run", "small"], &ENDLESS));
    let mut terminal = Terminal::open();
    let mut child = terminal.start(&mut command);
    let run = wait_for("a run under way", || {
        terminal.read();
        let run = project.newest("small")?;
        running(&run, "train")?;
        (status(&run, "train")?["step"].as_u64()? > 1).then_some(run)
    });
    let trainer = pid(&run, "train");
    hold(trainer);
    terminal.press("\x03");
    wait_for("the note", || {
        let note = format!("the trainer (pid {trainer}) is frozen ");
        terminal.said().contains(&note).then_some(())
    });
    terminal.press("\x03");
    let code = wait_for("the end", || {
        terminal.read();
        child.try_wait().unwrap()
    });
    assert_eq!(code.code(), Some(130), "{}", terminal.said());
    wait_for_the_end(&run);
}

#[test]
fn stop_that_is_asked_for_at_once_by_several_never_insists() {
    let project = Project::new();
    let sets = ["train.checkpoint_every=1000000"];
    let sets = [&ENDLESS[..], &sets].concat();
    let supervisor = project.start(&with_sets(&["run", "small"], &sets));
    let run = under_way(&project, 1);
    let stop = || {
        let stops = [(); 4].map(|()| project.start(&["stop", "small"]));
        for stop in stops {
            let done = end(stop);
            assert_eq!(done.code, Some(0), "{}", done.err);
        }
        let saved = checkpoints(&run).pop();
        assert_eq!(saved, Some(step(&run) - 1));
    };
    stop();
    assert_eq!(end(supervisor).code, Some(143));
    let before = step(&run);
    let trainer = project.start(&["train", "--run", "small"]);
    wait_for("the trainer", || {
        (running(&run, "train")?.as_raw() == trainer.id() as i32 && step(&run) > before)
            .then_some(())
    });
    stop();
    assert_eq!(end(trainer).code, Some(143));
}

#[test]
fn stop_while_a_detached_run_starts_is_heeded() {
    let project = Project::new();
    let child = project.start(&with_sets(&["run", "small", "--detach"], &ENDLESS));
    // It is a run once it has its spec.
    wait_for("the run", || {
        project
            .newest("small")
            .filter(|run| run.join("spec.yaml").exists())
    });
    let stopped = project.succeed(&["stop", "small"]).out;
    assert!(!stopped.contains("not running"), "{stopped}");
    end(child);
    let run = project.run("small");
    let supervisor = status(&run, "supervisor").unwrap();
    assert_eq!(at_work(&supervisor), None);
    assert_eq!(supervisor["process"]["state"], "stopped");
    assert!(status(&run, "train").is_none_or(|train| at_work(&train).is_none()));
}

#[test]
fn stop_reaches_a_run_on_a_full_disk() {
    let project = Project::new();
    // It cannot write a byte, as on a full disk.
    let stop = |arguments: &[&str]| {
        let runboard = project.command(arguments);
        let mut command = Command::new("prlimit");
        command
            .arg("--fsize=0")
            .arg(runboard.get_program())
            .args(runboard.get_args())
            .current_dir(project.path(""));
        Done::of(command.output().unwrap())
    };
    // By SIGHUP, or SIGTERM where nohup runs the tests; and by SIGTERM and SIGINT, whichever comes first.
    for (arguments, codes) in [
        (&["stop", "small"][..], [129, 143]),
        (&["stop", "small", "--now"], [130, 143]),
    ] {
        let supervisor = project.start(&with_sets(&["run", "small"], &ENDLESS));
        let run = under_way(&project, 1);
        let stopped = stop(arguments);
        assert_eq!(stopped.code, Some(0), "{}", stopped.err);
        let code = end(supervisor).code.unwrap();
        assert!(codes.contains(&code), "{code}");
        wait_for_the_end(&run);
    }
}

#[test]
fn supervisor_killed_while_paused_leaves_no_frozen_process() {
    let project = Project::new();
    let mut command = project.command(&with_sets(&["run", "small"], &ENDLESS));
    // As a shell starts it, which is the test here.
    let mut supervisor = command.process_group(0).spawn().unwrap();
    let run = under_way(&project, 1);
    let pids = ROLES.map(|role| pid(&run, role));
    signal(&supervisor, Signal::SIGTSTP);
    pids.into_iter().for_each(wait_until_held);
    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    wait_for_the_end(&run);
    for role in ["train", "eval"] {
        let state = &status(&run, role).unwrap()["process"]["state"];
        assert_eq!(state, "stopped", "{role}");
    }
}

#[test]
fn stop_of_a_frozen_trainer_says_so_and_can_insist() {
    let project = Project::new();
    let supervisor = project.start(&with_sets(&["run", "small"], &ENDLESS));
    let run = under_way(&project, 1);
    let trainer = pid(&run, "train");
    hold(trainer);
    let mut stop = project.start(&["stop", "small"]);
    let mut lines = BufReader::new(stop.stdout.take().unwrap()).lines();
    let line = lines.next().unwrap().unwrap();
    let begin = format!(
        "the trainer (pid {trainer}) is frozen (by SIGSTOP or Ctrl-Z) and ends only after it goes on; "
    );
    assert!(line.starts_with(&begin), "{line}");
    let waiting = lines.next().unwrap().unwrap();
    assert!(
        waiting.starts_with("waiting for the supervisor (pid "),
        "{waiting}"
    );

    project.succeed(&["stop", "small", "--now"]);
    assert!(stop.wait().unwrap().success());
    let done = end(supervisor);
    assert_eq!(done.code, Some(143), "{}", done.err);
    wait_for_the_end(&run);
}

#[test]
fn stop_now_ends_a_run_whose_supervisor_is_frozen_or_that_has_none() {
    let project = Project::new();
    let supervisor = project.start(&with_sets(&["run", "small"], &ENDLESS));
    let run = under_way(&project, 1);
    hold(pid(&run, "supervisor"));
    project.succeed(&["stop", "small", "--now"]);
    assert_eq!(end(supervisor).code, Some(143));
    wait_for_the_end(&run);

    let trainer = project.start(&["train", "--run", "small"]);
    wait_for("the trainer", || {
        running(&run, "train").filter(|pid| pid.as_raw() == trainer.id() as i32)
    });
    hold(pid(&run, "train"));
    let out = project.succeed(&["stop", "small", "--now"]).out;
    assert_eq!(end(trainer).code, Some(143));
    // It could not say so itself.
    assert!(out.contains(" is stopped: "), "{out}");
    assert_eq!(
        status(&run, "train").unwrap()["process"]["state"],
        "stopped"
    );
    let list = project.succeed(&["list"]).out;
    assert!(list.contains("stopped"), "{list}");
}

#[test]
fn stop_now_saves_no_last_checkpoint() {
    let project = Project::new();
    let supervisor = project.start(&with_sets(&["run", "small"], &ENDLESS));
    let run = under_way(&project, 1);
    project.succeed(&["stop", "small", "--now"]);
    assert_eq!(end(supervisor).code, Some(143));
    wait_for_the_end(&run);
    let log = fs::read_to_string(run.join("train.log")).unwrap();
    assert!(!log.contains("which is saved"), "{log}");
    let shown = project.succeed(&["list", "--columns", "state"]).out;
    assert!(shown.contains("stopped"), "{shown}");
}

#[test]
fn detached_run_survives_its_terminal_until_it_is_stopped() {
    let project = Project::new();
    let arguments = with_sets(&["run", "small", "--detach"], &ENDLESS);
    let mut terminal = Terminal::open();
    let mut child = terminal.start(&mut project.command(&arguments));
    let ended = wait_for("the prompt", || {
        terminal.read();
        child.try_wait().unwrap()
    });
    let said = terminal.said();
    assert!(ended.success(), "{said}");
    let run = project.run("small");
    let id = format!("small/{}", run.file_name().unwrap().to_str().unwrap());
    let supervisor = status(&run, "supervisor").unwrap();
    let pid = at_work(&supervisor).expect("a supervisor");
    for part in [
        format!("started runs/{id}, detached, with pid {pid}"),
        format!("tail -f runs/{id}/supervisor.log"),
        format!("runboard stop {id}"),
    ] {
        assert!(said.contains(&part), "no {part:?} in {said}");
    }
    drop(terminal);
    let run = under_way(&project, 1);
    let step = status(&run, "train").unwrap()["step"].as_u64().unwrap();
    under_way(&project, step + 5);
    assert_eq!(at_work(&supervisor), Some(pid));
    let again = project.runboard(&["resume", "small", "--detach"]);
    assert_eq!(again.code, Some(2), "{}", again.err);
    assert!(again.err.contains(" is already running ("), "{}", again.err);

    let stopped = project.succeed(&["stop", "small"]).out;
    assert!(
        stopped.starts_with(&format!("{id} is stopped: ")),
        "{stopped}"
    );
    for role in ROLES {
        let status = status(&run, role).unwrap();
        assert_eq!(at_work(&status), None, "{role}");
        assert_eq!(status["process"]["state"], "stopped", "{role}");
    }
    let log = fs::read_to_string(run.join("supervisor.log")).unwrap();
    assert!(
        log.contains("\ntrain | ") && log.contains(" is stopped: "),
        "{log}"
    );
    let again = project.succeed(&["stop", "small"]).out;
    assert!(
        again.starts_with(&format!("{id} is not running\n{id} is stopped: ")),
        "{again}"
    );
    // Of a detached session its command is recorded, once, and not how its supervisor was started.
    project.succeed(&["resume", "small", "--detach"]);
    project.succeed(&["stop", "small"]);
    let sessions = &json(&run.join("provenance.json"))["sessions"];
    let command = |session: usize| sessions[session]["command"].as_array().unwrap()[1..3].to_vec();
    assert_eq!(sessions.as_array().unwrap().len(), 2, "{sessions}");
    assert_eq!(command(0), ["run", "small"]);
    assert_eq!(command(1), ["resume", "small"]);
}

#[test]
fn killed_supervisor_stops_its_children() {
    let project = Project::new();
    let arguments = with_sets(&["run", "small", "--detach"], &ENDLESS);
    project.succeed(&arguments);
    let run = under_way(&project, 1);
    send(pid(&run, "supervisor"), Signal::SIGKILL);
    wait_for_the_end(&run);
    // In good order, even so.
    for role in ["train", "eval"] {
        let state = &json(&run.join(format!("{role}.status.json")))["process"]["state"];
        assert_eq!(state, "stopped", "{role}");
    }
    // Somebody who asks learns why.
    let rows = project
        .succeed(&["list", "--json", "--columns", "state,error"])
        .out;
    let rows: serde_json::Value = serde_json::from_str(&rows).unwrap();
    assert_eq!(
        rows[0],
        json!({"state": "stopped", "error": "the supervisor was killed, or ended without a word"})
    );
}

#[test]
fn stop_of_a_name_tells_of_an_older_run_that_is_running() {
    let project = Project::new();
    project.succeed(&with_sets(&["run", "small", "--detach"], &ENDLESS));
    let run = under_way(&project, 1);
    let id = format!("small/{}", run.file_name().unwrap().to_str().unwrap());
    project.prepare("small", "small/20991231-000000", &[]);
    let told = project.succeed(&["stop", "small"]).out;
    assert!(
        told.contains(&format!("{id}, which is older, is running; to stop it: "))
            && told.contains("small/20991231-000000 is not running\n"),
        "{told}"
    );
    let stopped = project.succeed(&["stop", &id]).out;
    assert!(!stopped.contains("which is older"), "{stopped}");
}

#[test]
fn stop_ends_processes_without_a_supervisor() {
    let project = Project::new();
    let child = project.start(&with_sets(&["run", "small"], &ENDLESS));
    under_way(&project, 1);
    project.succeed(&["stop", "small"]);
    assert_eq!(end(child).code, Some(143));
    let child = project.start(&["train", "--run", "small"]);
    let run = project.run("small");
    wait_for("the trainer", || running(&run, "train"));
    project.succeed(&["stop", "small"]);
    assert_eq!(end(child).code, Some(143));
}
