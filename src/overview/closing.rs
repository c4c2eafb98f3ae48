//! The lines that say how a run stands when nothing more comes: at its end, and when somebody asks.

use super::RunSnapshot;
use super::text::{bytes, clock, count, scores};
use crate::run::{RunState, SupervisorStatus};

/// How the run stands, in lines: its state, steps and time; its scores and what is not scored; what is saved; and what the
/// user may type.
pub fn closing(run: &RunSnapshot) -> Vec<String> {
    let mut lines = vec![headline(run)];
    let is_under_way = run.state.is_some_and(RunState::is_under_way);
    let mut add = |label: &str, text: String| lines.push(format!("  {label:<13}  {text}"));
    if let Some(early) = run.stopped_early().filter(|_| !is_under_way) {
        add("reason", early.to_string());
    }
    if let Some(saved) = run.saved {
        add("checkpoint", checkpoint(run, saved));
    }
    let eval = run.statuses.eval.as_ref();
    if let Some((last, best)) = eval.and_then(|eval| eval.last.zip(eval.best)) {
        add("accuracy", scores(last, best));
    }
    if let Some(origin) = &run.weights_origin {
        add("began with", origin.clone());
    }
    if run.unscored > 0 && !is_under_way {
        let checkpoints = count(run.unscored, "checkpoint");
        let score = &run.commands.score;
        add("not scored", format!("{checkpoints}; to score: {score}"));
    }
    let restarts = run
        .statuses
        .supervisor
        .as_ref()
        .map(SupervisorStatus::all_restarts);
    if let Some(restarts) = restarts.filter(|restarts| restarts.train + restarts.eval > 0) {
        let (train, eval) = (restarts.train, restarts.eval);
        add("restarts", format!("trainer {train}, evaluator {eval}"));
    }
    if let Some(rollbacks) = run.rollbacks() {
        add("rollbacks", rollbacks);
    }
    let disk = run.disk;
    let free = disk.free.map(|free| format!("; {} free", bytes(free)));
    add(
        "on disk",
        format!(
            "checkpoints {}, curves {}{}",
            bytes(disk.checkpoints),
            bytes(disk.curves),
            free.unwrap_or_default()
        ),
    );
    let [train, eval] = run.curves.each_ref().map(|path| path.display());
    add("curves", format!("{train} and {eval}"));
    add("to see them", run.commands.curves.clone());
    match run.state {
        Some(RunState::Finished) => {}
        Some(state) if state.is_under_way() => add("to stop it", run.commands.stop.clone()),
        Some(RunState::Diverged) => {
            // A resume with the same spec would diverge again.
            if let Some(command) = &run.commands.roll_back {
                add("to go on", command.clone());
            }
            if let Some(command) = &run.commands.lower_rate {
                add("a lower rate", command.clone());
            }
        }
        _ => add("to go on", run.commands.resume.clone()),
    }
    lines
}

/// State, steps and time.
fn headline(run: &RunSnapshot) -> String {
    let mut line = match run.state {
        Some(RunState::Failed) => format!("{} failed", run.id),
        Some(RunState::Diverged) => format!("{} diverged", run.id),
        Some(state) => format!("{} is {state}", run.id),
        None => format!("{} was not started yet", run.id),
    };
    if let Some((done, all)) = run.progress() {
        line += &format!(": {done} of {all} steps");
        if let Some(until) = run.until().filter(|&until| until <= done) {
            line += &match run.is_point {
                false => format!(", as --until {until} asked"),
                true => format!(", as its sweep or --until {until} asked"),
            };
        }
    }
    if let Some((all, session)) = run.time() {
        line += &format!(", after {}", clock(all));
        if run.sessions > 1 {
            let last = clock(session);
            line += &format!(" in {} sessions, the last {last}", run.sessions);
        }
    }
    line
}

/// The newest checkpoint, and what that means for a resume. Steps are counted from 0, so that the last of 220 is step
/// 219; it is said here, beside the number of those that are done.
fn checkpoint(run: &RunSnapshot, saved: u64) -> String {
    let next = saved + 1;
    match run.progress() {
        Some((_, all)) if next >= all => {
            format!("step {saved}, the last: steps are counted from 0")
        }
        _ if run.state.is_some_and(RunState::is_under_way) => format!("step {saved}"),
        _ => match run.unsaved() {
            0 => format!("step {saved}; a resume goes on with step {next}"),
            again => format!(
                "step {saved}; a resume goes on with step {next}, and trains {} again",
                count(again as usize, "step")
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overview::Commands;
    use crate::overview::disk::DiskUse;
    use crate::run::{EarlyStop, EvalStatus, Process, Restarts, Score, Statuses, TrainStatus};
    use chrono::TimeDelta;

    fn snapshot(state: RunState, done: u64, saved: Option<u64>) -> RunSnapshot {
        let mut process = Process::current();
        process.heartbeat = process.started + TimeDelta::seconds(123);
        let score = |step, accuracy| Some(Score::new(step, accuracy));
        let mut supervisor = SupervisorStatus::new(process.clone(), None);
        supervisor.seconds_before = 3600.0;
        RunSnapshot {
            id: "a/1".into(),
            state: Some(state),
            statuses: Statuses {
                train: Some(TrainStatus {
                    step: done,
                    steps: 220,
                    ..TrainStatus::new(process.clone())
                }),
                eval: Some(EvalStatus {
                    last: score(100, 0.1929),
                    best: score(50, 0.2),
                    ..EvalStatus::new(process)
                }),
                supervisor: Some(supervisor),
            },
            sessions: 1,
            saved,
            disk: DiskUse {
                checkpoints: 34_000_000,
                curves: 1_200_000,
                free: Some(12_300_000_000),
            },
            curves: ["runs/a/1/train".into(), "runs/a/1/eval".into()],
            commands: Commands {
                curves: "SEE".into(),
                score: "SCORE".into(),
                resume: "RESUME".into(),
                stop: "STOP".into(),
                roll_back: Some("ROLL_BACK".into()),
                lower_rate: Some("LOWER_RATE".into()),
            },
            rollback_factor: Some(0.5),
            ..RunSnapshot::default()
        }
    }

    #[test]
    fn closing_of_a_finished_run_says_that_its_last_step_is_saved() {
        assert_eq!(
            closing(&snapshot(RunState::Finished, 220, Some(219))).join("\n"),
            "a/1 is finished: 220 of 220 steps, after 1:02:03\n  \
             checkpoint     step 219, the last: steps are counted from 0\n  \
             accuracy       0.193 at step 100, best 0.200 at step 50\n  \
             on disk        checkpoints 34 MB, curves 1.2 MB; 12 GB free\n  \
             curves         runs/a/1/train and runs/a/1/eval\n  \
             to see them    SEE"
        );
    }

    #[test]
    fn closing_of_a_stopped_run_says_what_is_not_scored_and_how_to_go_on() {
        let mut run = snapshot(RunState::Stopped, 120, Some(119));
        (run.sessions, run.unscored) = (2, 4);
        let supervisor = run.statuses.supervisor.as_mut().unwrap();
        supervisor.restarts = Restarts { train: 0, eval: 1 };
        supervisor.restarts_before = Restarts { train: 1, eval: 1 };
        assert_eq!(
            closing(&run).join("\n"),
            "a/1 is stopped: 120 of 220 steps, after 1:02:03 in 2 sessions, the last 0:02:03\n  \
             checkpoint     step 119; a resume goes on with step 120\n  \
             accuracy       0.193 at step 100, best 0.200 at step 50\n  \
             not scored     4 checkpoints; to score: SCORE\n  \
             restarts       trainer 1, evaluator 2\n  \
             on disk        checkpoints 34 MB, curves 1.2 MB; 12 GB free\n  \
             curves         runs/a/1/train and runs/a/1/eval\n  \
             to see them    SEE\n  \
             to go on       RESUME"
        );
    }

    #[test]
    fn closing_of_a_run_that_ended_early_says_why_and_how_to_go_on() {
        let mut run = snapshot(RunState::StoppedEarly, 120, Some(119));
        run.statuses.train.as_mut().unwrap().stopped_early = Some(EarlyStop {
            reason: "REASON".into(),
            higher_limit: "LIMIT".into(),
        });
        let lines = closing(&run);
        assert_eq!(
            lines[0],
            "a/1 is stopped early: 120 of 220 steps, after 1:02:03"
        );
        assert_eq!(lines[1], "  reason         REASON");
        assert_eq!(lines.last().unwrap(), "  to go on       RESUME");
        run.state = Some(RunState::Evaluating);
        assert!(!closing(&run).join("\n").contains("REASON"));

        let mut run = snapshot(RunState::Stopped, 120, Some(119));
        run.statuses.train.as_mut().unwrap().until = Some(120);
        let begin = "a/1 is stopped: 120 of 220 steps, as --until 120 asked, after ";
        assert!(closing(&run)[0].starts_with(begin));
    }

    #[test]
    fn closing_says_how_many_steps_a_resume_trains_again() {
        let line = |done, saved| closing(&snapshot(RunState::Stopped, done, saved))[1].clone();
        assert_eq!(
            line(183, Some(119)),
            "  checkpoint     step 119; a resume goes on with step 120, and trains 63 steps again"
        );
        assert!(line(121, Some(119)).ends_with(", and trains 1 step again"));
        assert!(!line(183, None).starts_with("  checkpoint"));
    }

    #[test]
    fn closing_of_a_diverged_run_offers_what_does_not_diverge_again() {
        let mut run = snapshot(RunState::Diverged, 120, Some(119));
        let end = |run: &RunSnapshot| closing(run)[5..].join("\n");
        assert_eq!(
            end(&run),
            "  to see them    SEE\n  to go on       ROLL_BACK\n  a lower rate   LOWER_RATE"
        );
        // After all rollbacks that the spec allows.
        run.statuses.train.as_mut().unwrap().rollbacks = 2;
        run.commands.roll_back = None;
        let lines = closing(&run).join("\n");
        let rollbacks = "\n  rollbacks      2, the rate is now 0.25 of the spec's\n";
        assert!(lines.contains(rollbacks), "{lines}");
        assert!(
            lines.ends_with("SEE\n  a lower rate   LOWER_RATE"),
            "{lines}"
        );
    }

    #[test]
    fn closing_of_a_run_under_way_says_how_to_stop_it() {
        let mut run = snapshot(RunState::Running, 121, Some(119));
        run.unscored = 1; // it is about to be
        let lines = closing(&run);
        assert_eq!(lines[1], "  checkpoint     step 119");
        assert_eq!(lines.last().unwrap(), "  to stop it     STOP");
        assert!(!lines.iter().any(|line| line.contains("not scored")));
        run.state = None;
        run.statuses = Statuses::default();
        assert_eq!(closing(&run)[0], "a/1 was not started yet");
    }
}
