//! Which processes that died are started again.

use super::*;

/// The evaluator's part: until the supervisor says that there is no training any more.
const WHILE_TRAINING: &str =
    "until grep -q '\"training\": false' supervisor.status.json; do sleep 0.02; done";

#[test]
fn trainer_with_bad_input_is_not_restarted_and_the_evaluator_hears_that_training_is_over() {
    let fake = Fake::both(
        "seq 30; echo no data >&2; echo >> sessions; exit 2",
        &format!("{WHILE_TRAINING}; touch done"),
    );
    let (summary, shown) = fake.supervise(&Shutdown::new());
    assert_eq!(summary.exit_code(), 2);
    assert!(fake.file("done").exists());
    assert_eq!(fake.lines("sessions"), 1);
    assert!(
        shown.contains("the trainer died; the evaluator scores its last checkpoint\n"),
        "{shown}"
    );
    let text = summary.to_string();
    let log = fake.run.log(Role::TRAIN);
    let begin = format!(
        "the trainer died (exit code 2)\n\
         not started again: bad input, which would end it again\n\
         the end of {}:\n  12\n",
        log.display()
    );
    assert!(text.starts_with(&begin), "{text}");
    assert!(
        text.contains(&format!("  30\n  no data\n\n{} failed", fake.run.id())),
        "{text}"
    );
    let status = SupervisorStatus::load(&fake.run).unwrap().unwrap();
    assert_eq!(status.process.state, ProcessState::Failed);
    let error = status.process.error.unwrap();
    assert_eq!(error, "the trainer died (exit code 2)");
}

#[test]
fn evaluator_that_dies_is_restarted_while_training_goes_on() {
    let fake = Fake::both(
        "until [ -e second ]; do sleep 0.02; done; echo trained",
        &format!("[ -e first ] || {{ touch first; kill -9 $$; }}; touch second; {WHILE_TRAINING}"),
    );
    let (summary, shown) = fake.supervise(&Shutdown::new());
    assert_eq!(summary.exit_code(), 0);
    assert_eq!(
        shown,
        "the evaluator died (signal 9, SIGKILL); restart 1 in 0 s\ntrain | trained\n"
    );
    let text = summary.to_string();
    assert!(
        text.contains("\n  restarts       trainer 0, evaluator 1\n"),
        "{text}"
    );
    let status = SupervisorStatus::load(&fake.run).unwrap().unwrap();
    assert_eq!(status.restarts, Restarts { train: 0, eval: 1 });
    assert_eq!(status.process.state, ProcessState::Finished);
}

#[test]
fn temporary_directories_of_a_trainer_that_was_killed_go() {
    let make = "made=$(mktemp -d -t ${RUNBOARD_TEMPORARY_DIRS}XXXXXX); echo $made >> made";
    let fake = Fake::both(
        &format!("[ -e first ] && exit 0; touch first; {make}; touch $made/store; kill -9 $$"),
        WHILE_TRAINING,
    );
    let (summary, _) = fake.supervise(&Shutdown::new());
    assert_eq!(summary.exit_code(), 0);
    let made = std::fs::read_to_string(fake.file("made")).unwrap();
    assert!(!std::path::Path::new(made.trim_end()).exists(), "{made}");
}

#[test]
fn training_goes_on_without_an_evaluator_with_bad_input_but_the_run_has_failed() {
    let fake = Fake::both(
        // Trains until the evaluator is gone, which is when the supervisor has reaped it.
        "until [ -e pid ] && ! kill -0 $(cat pid) 2> errors; do sleep 0.02; done; echo trained",
        "echo no images; echo $$ > unseen; mv unseen pid; exit 2",
    );
    let (summary, shown) = fake.supervise(&Shutdown::new());
    assert_eq!(summary.exit_code(), 2);
    let (before, after) = shown
        .split_once("the evaluator died (exit code 2)\n")
        .expect("no word of it");
    assert_eq!(before, "eval  | no images\n");
    assert!(
        after.ends_with("  no images\ntraining goes on without it\ntrain | trained\n"),
        "{shown}"
    );
    assert!(
        summary.to_string().contains("eval.log:\n  no images\n"),
        "{summary}"
    );
}

#[test]
fn trainer_that_saves_more_each_time_is_restarted_without_limit() {
    let fake = Fake::both(
        "n=$(ls checkpoints | wc -l); [ $n = 5 ] || { mkdir checkpoints/step-0000000$n; kill -9 $$; }",
        WHILE_TRAINING,
    );
    let (summary, shown) = fake.supervise(&Shutdown::new());
    assert_eq!(summary.exit_code(), 0, "{shown}");
    let supervisor = summary.snapshot.statuses.supervisor.as_ref().unwrap();
    assert_eq!(supervisor.restarts, Restarts { train: 5, eval: 0 });
    let line = "the trainer died (signal 9, SIGKILL); restart 1 of 2 in 0 s\n";
    assert_eq!(shown, line.repeat(5));
}

#[test]
fn trainer_that_saves_nothing_new_is_given_up() {
    for (end, sessions, code, why) in [
        (
            "kill -9 $$",
            3,
            137,
            "train.restarts allows 2 without a new checkpoint",
        ),
        (
            "exit 7",
            2,
            7,
            "same exit code at the same step as last time",
        ),
    ] {
        let fake = Fake::both(&format!("echo >> sessions; {end}"), WHILE_TRAINING);
        let (summary, _) = fake.supervise(&Shutdown::new());
        assert_eq!(summary.exit_code(), code);
        assert_eq!(fake.lines("sessions"), sessions);
        let text = summary.to_string();
        assert!(
            text.contains(&format!("\nnot started again: {why}\n")),
            "{text}"
        );
    }
}

#[test]
fn evaluator_that_dies_after_training_is_given_up_in_the_end() {
    let fake = Fake::both(
        "touch trained",
        &format!("{WHILE_TRAINING}; echo >> sessions; kill -9 $$"),
    );
    let (summary, _) = fake.supervise(&Shutdown::new());
    assert_eq!(summary.exit_code(), 137);
    assert_eq!(fake.lines("sessions"), 3);
}

#[test]
fn stop_cancels_a_scheduled_restart() {
    let shutdown = Shutdown::new();
    let fake = Fake::both("echo $$ > new; mv new pid; kill -9 $$", WHILE_TRAINING);
    let pid = fake.file("pid");
    let asking = shutdown.clone();
    let asked = thread::spawn(move || {
        // Gone is what the supervisor has reaped, and then it schedules the restart before it looks for a stop.
        wait_for(|| {
            let pid = std::fs::read_to_string(&pid).unwrap_or_default();
            !pid.is_empty() && !Path::new("/proc").join(pid.trim()).exists()
        });
        asking.request(SIGTERM);
    });
    let (summary, _) = fake.supervise_patiently(&shutdown, Duration::from_secs(3600));
    asked.join().unwrap();
    assert!(matches!(summary.outcome, Outcome::Stopped(SIGTERM)));
}

#[test]
fn trainer_that_others_wait_for_and_that_gives_no_sign_of_life_is_killed_and_started_again() {
    let fake = Fake::both(
        &format!(
            "[ -e first ] && exit 0; touch first; {{ {SET_IDENTITY} train.template; }} >new; mv new train.status.json; \
             kill -STOP $$"
        ),
        WHILE_TRAINING,
    );
    let mut process = Process::of(12_345_678); // which is nobody's
    process.state = ProcessState::Running;
    TrainStatus::new(process).save(&fake.run).unwrap();
    std::fs::rename(fake.run.status(Role::TRAIN), fake.file("train.template")).unwrap();
    let options = Options {
        delay: Duration::from_millis(1),
        poll: Duration::from_millis(5),
        silence: Some(Duration::from_millis(300)),
        ..Options::new(2)
    };
    let shown = Shown::default();
    let summary = supervise(
        &fake.run,
        &lock(&fake.run).unwrap(),
        &fake.program,
        &Shutdown::new(),
        &mut Display::plain(shown.clone()),
        options,
    );
    assert_eq!(summary.unwrap().exit_code(), 0);
    let shown = String::from_utf8(shown.0.lock().unwrap().clone()).unwrap();
    assert_eq!(
        shown,
        "the trainer gives no sign of life for 0 s: it is frozen, or waits for a disk; it is killed\n\
         the trainer died (signal 9, SIGKILL); restart 1 of 2 in 0 s\n"
    );
}

#[test]
fn run_that_vanished_is_not_restarted() {
    // At one stroke, and not before the evaluator is running in it.
    let fake = Fake::both(
        "until [ -e up ]; do sleep 0.02; done; mv \"$3\" \"$3.gone\"; exit 1",
        &format!("touch up; {WHILE_TRAINING}"),
    );
    let options = Options {
        delay: Duration::from_millis(1),
        ..Options::new(3)
    };
    let mut display = Display::plain(io::sink());
    let error = supervise(
        &fake.run,
        &lock(&fake.run).unwrap(),
        &fake.program,
        &Shutdown::new(),
        &mut display,
        options,
    )
    .unwrap_err();
    let begin = format!(
        "the run directory {} has vanished",
        fake.run.path().display()
    );
    assert!(error.to_string().starts_with(&begin), "{error}");
}
