//! The block of lines that a terminal shows of a run under way.

use std::time::Duration;

use super::text::{
    Paint, bar_and_text, bytes, clock, count, cut, number, room, row, scores, sparkline,
};
use super::{RunSnapshot, how_trained};
use crate::run::{Activity, EvalStatus, ProcessState, RunState, Trend};

/// The least that a bar is worth drawing with, in columns.
const LEAST_BAR: usize = 8;

/// The run in lines of `width` columns at most, from 20 on. Each has what matters most at its beginning, and leaves out what
/// there is no room for.
pub fn block(run: &RunSnapshot, width: usize, paint: Paint) -> Vec<String> {
    let block = Block { run, width, paint };
    let mut lines = vec![block.title(), block.steps()];
    lines.extend(block.loss());
    lines.extend([
        block.evaluator(),
        block.accuracy(),
        block.saved(),
        block.curves(),
        block.stop(),
    ]);
    lines
}

struct Block<'a> {
    run: &'a RunSnapshot,
    width: usize,
    paint: Paint,
}

impl Block<'_> {
    fn row(&self, label: &str, parts: &[String]) -> String {
        row(self.paint, label, parts, self.width)
    }

    /// Which run, how it stands, and what it was started with.
    fn title(&self) -> String {
        let state = self.run.state.unwrap_or(RunState::Starting);
        let word = state.to_string();
        let state = match state {
            RunState::Running | RunState::Finished | RunState::StoppedEarly => {
                self.paint.green(&word)
            }
            RunState::Starting | RunState::Evaluating => self.paint.cyan(&word),
            RunState::Paused | RunState::Stopping | RunState::Stopped => self.paint.yellow(&word),
            RunState::Failed | RunState::Diverged => self.paint.red(&word),
        };
        let mut parts = vec![state];
        if let Some(train) = &self.run.statuses.train {
            let threads = train.threads.map(|threads| count(threads, "thread"));
            parts.push(joined([train.device.clone(), threads]));
            let rate = train
                .learning_rate
                .map(|rate| format!("rate {}", rate as f32));
            parts.extend(rate);
            if let Some(rollbacks) = self.run.rollbacks() {
                parts.push(self.paint.yellow(&format!("rollbacks: {rollbacks}")));
            }
            if let Some(first) = train.first.filter(|first| *first > 0) {
                let session = match self.run.sessions {
                    0 | 1 => "resumed".to_owned(),
                    sessions => format!("session {sessions}"),
                };
                parts.push(match first < train.steps {
                    true => format!("{session}, from step {first}"),
                    false => session, // all is trained
                });
            }
        }
        if let Some(supervisor) = &self.run.statuses.supervisor {
            let restarts = supervisor.all_restarts();
            if restarts.train + restarts.eval > 0 {
                let (train, eval) = (restarts.train, restarts.eval);
                let text = format!("restarts: trainer {train}, evaluator {eval}");
                parts.insert(1, self.paint.yellow(&text));
            }
        }
        let mut title = self.paint.bold(&self.run.id);
        for part in parts.iter().filter(|part| !part.is_empty()) {
            let longer = format!("{title}   {part}");
            if ::console::measure_text_width(&longer) > self.width {
                break;
            }
            title = longer;
        }
        cut(&title, self.width)
    }

    /// How far training is.
    fn steps(&self) -> String {
        let begun = self.run.statuses.train.as_ref();
        let begun = begun.filter(|train| train.process.state != ProcessState::Starting);
        let (Some((done, all)), Some(_)) = (self.run.progress(), begun) else {
            let preparation = self.run.preparation.clone();
            return self.row("steps", &[preparation.unwrap_or("starting".into())]);
        };
        let share = done as f64 / all as f64;
        let elapsed = self.run.time().map(|(_, session)| clock(session));
        let elapsed = elapsed.map(|elapsed| format!("{elapsed} elapsed"));
        let left = self.run.time_left().filter(|_| !self.run.is_trained());
        let waits = begun.is_some_and(|train| train.waits_for_score);
        let left = waits
            .then(|| "waits for a score".to_owned())
            .or(left.map(|left| match self.run.until() {
                Some(until) => format!("{} left until {until}", clock(left)),
                None => format!("{} left", clock(left)),
            }));
        let steps = format!("{done} of {all}");
        let percent = percent(done, all);
        let texts = [
            joined([
                Some(steps.clone()),
                Some(percent.clone()),
                elapsed,
                left.clone(),
            ]),
            joined([Some(steps.clone()), Some(percent), left.clone()]),
            joined([Some(steps.clone()), left]),
            steps,
        ];
        let bar = bar_and_text(self.paint, share, &texts, LEAST_BAR, room(self.width));
        self.row("steps", &[bar])
    }

    /// The loss and the speed, once there are any.
    fn loss(&self) -> Option<String> {
        let train = self.run.statuses.train.as_ref()?;
        let last = train.loss?;
        let loss = match train.smoothed_loss {
            None => number(last),
            Some(smoothed) => {
                let arrow = match smoothed.trend() {
                    Trend::Down => self.paint.green("↓"),
                    Trend::Level => "→".to_owned(),
                    Trend::Up => self.paint.yellow("↑"),
                };
                format!("{} {arrow}", number(smoothed.value))
            }
        };
        let mut parts = vec![loss];
        if self.run.progress().is_some()
            && !self.run.is_trained()
            && let Some(speed) = self.run.speed
        {
            let images = self.run.batch_size.map(|images| images as f64 * speed);
            parts.extend(images.map(|images| format!("{images:.0} images/s")));
            parts.push(format!("{} ms a step", milliseconds(speed)));
            let wait = train.input_wait.map(|wait| 100.0 * wait);
            parts.extend(wait.map(|wait| format!("{wait:.0} % of it waiting for input")));
        }
        parts.push(format!("last loss {}", number(last)));
        Some(self.row("loss", &parts))
    }

    /// What the evaluator does.
    fn evaluator(&self) -> String {
        let Some(eval) = &self.run.statuses.eval else {
            return self.row("evaluator", &["starting".into()]);
        };
        let waiting = eval.waiting;
        let wait = (waiting > 0).then(|| format!("{waiting} more to score"));
        let parts = match (eval.process.state, eval.activity) {
            (state, _) if state.is_failure() => vec![self.paint.red("failed")],
            (ProcessState::Starting, _) => vec!["starting".into()],
            (ProcessState::Stopped, _) => vec!["stopped".into()],
            (ProcessState::Finished, _) => vec!["done".into()],
            (ProcessState::Running, Some(Activity::Idle { until })) => {
                let left = (until - self.run.now).num_seconds().max(0);
                let wait = (waiting > 0).then(|| format!("{waiting} to score"));
                vec![joined([
                    Some(format!("idle, looks again in {left} s")),
                    wait,
                ])]
            }
            (ProcessState::Running, Some(scoring @ Activity::Scoring { .. })) => {
                return self.scoring(eval, scoring, wait);
            }
            _ => vec![wait.unwrap_or_else(|| "waits for a checkpoint".into())],
        };
        self.row("evaluator", &parts)
    }

    fn scoring(&self, eval: &EvalStatus, scoring: Activity, wait: Option<String>) -> String {
        let Activity::Scoring {
            step, done, images, ..
        } = scoring
        else {
            return self.row("evaluator", &[]);
        };
        let share = done as f64 / images.max(1) as f64;
        let what = format!("scoring step {step}");
        let percent = format!("{:.0} %", (100.0 * share).floor());
        let left = eval.seconds_left();
        let left = left.and_then(|left| Duration::try_from_secs_f64(left).ok());
        let left = left.map(|left| format!("{} left", clock(left)));
        let texts = [
            joined([Some(percent.clone()), wait.clone(), left.clone()]),
            joined([Some(percent.clone()), left.clone()]),
            joined([Some(percent)]),
        ];
        let columns = room(self.width).saturating_sub(what.len() + 2);
        let bar = bar_and_text(self.paint, share, &texts, LEAST_BAR, columns);
        self.row("evaluator", &[format!("{what}  {bar}")])
    }

    /// The last and the best score, and how they came about.
    fn accuracy(&self) -> String {
        let eval = self.run.statuses.eval.as_ref();
        let Some((last, best)) = eval.and_then(|eval| eval.last.zip(eval.best)) else {
            return self.row("accuracy", &["no checkpoint is scored yet".into()]);
        };
        let text = scores(last, best);
        let columns = room(self.width).saturating_sub(text.len() + 3);
        let line = match columns >= 8 && self.run.accuracies.len() > 1 {
            true => sparkline(&self.run.accuracies, columns.min(60)),
            false => String::new(),
        };
        self.row("accuracy", &[text, self.paint.cyan(&line)])
    }

    /// The last checkpoint, and the room that all takes.
    fn saved(&self) -> String {
        let disk = &self.run.disk;
        let saved = match self.run.saved {
            Some(step) => format!("step {step}"),
            None => "no checkpoint yet".into(),
        };
        let sizes = format!(
            "checkpoints {}, curves {}",
            bytes(disk.checkpoints),
            bytes(disk.curves)
        );
        let free = disk.free.map(|free| format!("{} free", bytes(free)));
        let free = free.unwrap_or_default();
        self.row("saved", &[saved, sizes, free])
    }

    /// How to see the curves.
    fn curves(&self) -> String {
        // A hint may have two commands: where there is no room for both, the first is enough.
        let command = &self.run.commands.curves;
        let command = match command.split_once(", or: ") {
            Some((first, _)) if command.len() > room(self.width) => first,
            _ => command,
        };
        self.row("curves", &[command.to_owned()])
    }

    /// How to stop the run, or what follows from that.
    fn stop(&self) -> String {
        let stopping = self.run.state == Some(RunState::Stopping);
        let trained = self.run.is_trained();
        let train = self.run.statuses.train.as_ref();
        let what = format!("training {}", train.map_or_else(String::new, how_trained));
        let unscored = self.run.unscored;
        let parts = match (trained, stopping) {
            (false, true) => vec![
                "saves a last checkpoint".into(),
                "Ctrl-C again ends without it".into(),
            ],
            (false, false) => vec![
                "Ctrl-C, which saves a checkpoint".into(),
                "Ctrl-Z pauses".into(),
            ],
            // Nothing is left to be saved.
            (true, true) => vec![format!("stops scoring, {unscored} unscored"), what],
            (true, false) => vec![
                format!("Ctrl-C, which leaves {unscored} unscored"),
                what,
                "Ctrl-Z pauses".into(),
            ],
        };
        self.row("to stop", &parts)
    }
}

/// A share of the steps, rounded down: it is never 100 before the end.
fn percent(done: u64, all: u64) -> String {
    match 1000 * u128::from(done) / u128::from(all) {
        tenths if tenths < 100 => format!("{}.{} %", tenths / 10, tenths % 10),
        tenths => format!("{} %", tenths / 10),
    }
}

/// How long a step takes.
fn milliseconds(steps_per_second: f64) -> String {
    let time = 1e3 / steps_per_second;
    let decimals = usize::from(time < 10.0);
    format!("{time:.decimals$}")
}

/// What there is of these parts, with commas between.
fn joined<const N: usize>(parts: [Option<String>; N]) -> String {
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overview::Commands;
    use crate::overview::disk::DiskUse;
    use crate::run::{
        Process, Restarts, Score, SmoothedLoss, Statuses, SupervisorStatus, TrainStatus,
    };
    use ::console::{measure_text_width, strip_ansi_codes};
    use chrono::{Local, TimeDelta};
    use std::fs;
    use std::path::Path;

    const PLAIN: Paint = Paint { colour: false };

    /// A run in the middle of its second session.
    fn snapshot() -> RunSnapshot {
        let now = Local::now();
        let mut process = Process::current();
        process.state = ProcessState::Running;
        process.started = now - TimeDelta::seconds(733);
        process.heartbeat = now;
        let score = |step, accuracy| Some(Score::new(step, accuracy));
        let losses = [vec![4.6; 500], vec![2.0; 100]].concat();
        let smoothed = losses
            .iter()
            .fold(None, |before, &loss| SmoothedLoss::add(before, loss));
        let mut supervisor = SupervisorStatus::new(process.clone(), None);
        supervisor.seconds_before = 3600.0;
        RunSnapshot {
            id: "baseline/20261126-004500".into(),
            now,
            state: Some(RunState::Running),
            statuses: Statuses {
                train: Some(TrainStatus {
                    step: 12_345,
                    steps: 100_000,
                    loss: Some(2.0123),
                    threads: Some(2),
                    device: Some("cpu".into()),
                    first: Some(1200),
                    learning_rate: Some(0.1),
                    smoothed_loss: smoothed,
                    input_wait: Some(0.031),
                    ..TrainStatus::new(process.clone())
                }),
                eval: Some(EvalStatus {
                    last: score(11_000, 0.7119),
                    best: score(10_000, 0.715),
                    activity: Some(Activity::Scoring {
                        step: 12_000,
                        done: 8_600,
                        images: 20_000,
                        since: now - TimeDelta::seconds(4),
                    }),
                    waiting: 2,
                    seconds: Some(9.0),
                    ..EvalStatus::new(process)
                }),
                supervisor: Some(supervisor),
            },
            sessions: 2,
            batch_size: Some(128),
            speed: Some(3.65),
            accuracies: (0..12).map(|i| 0.72 - 0.6 / (f64::from(i) + 1.0)).collect(),
            saved: Some(12_000),
            disk: DiskUse {
                checkpoints: 34_000_000,
                curves: 12_300_000,
                free: Some(12_300_000_000),
            },
            commands: Commands {
                curves: "make tensorboard, or: tensorboard --logdir runs/baseline".into(),
                ..Commands::default()
            },
            ..RunSnapshot::default()
        }
    }

    /// The snapshots that the golden file shows, with what they are.
    fn scenes() -> Vec<(&'static str, RunSnapshot)> {
        let running = snapshot();
        let mut starting = snapshot();
        starting.state = Some(RunState::Starting);
        starting.statuses = Statuses::default();
        starting.preparation = Some("reading data".into());
        (starting.saved, starting.disk) = (None, DiskUse::default());
        let mut idle = snapshot();
        let eval = idle.statuses.eval.as_mut().unwrap();
        eval.activity = Some(Activity::Idle {
            until: idle.now + TimeDelta::milliseconds(7_900),
        });
        (eval.waiting, eval.best) = (1, eval.last);
        let supervisor = idle.statuses.supervisor.as_mut().unwrap();
        supervisor.restarts = Restarts { train: 1, eval: 0 };
        let mut evaluating = snapshot();
        evaluating.state = Some(RunState::Evaluating);
        evaluating.statuses.train.as_mut().unwrap().step = 100_000;
        evaluating.saved = Some(99_999);
        evaluating.unscored = 3;
        let mut unscored = evaluating.clone();
        unscored.state = Some(RunState::Stopping);
        let mut stopping = snapshot();
        stopping.state = Some(RunState::Stopping);
        stopping.statuses.eval.as_mut().unwrap().process.state = ProcessState::Stopped;
        vec![
            ("running", running),
            ("starting", starting),
            ("idle evaluator, after a restart", idle),
            ("evaluating, after training", evaluating),
            ("stopping", stopping),
            ("stopping, after training", unscored),
        ]
    }

    #[test]
    fn block_is_as_the_golden_file_shows_it() {
        let mut text = String::new();
        for width in [60, 100, 200] {
            for (what, run) in scenes() {
                text += &format!("# {width} columns, {what}\n");
                text += &(block(&run, width, PLAIN).join("\n") + "\n\n");
            }
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/overview/testdata/block.txt");
        if std::env::var_os("RUNBOARD_WRITE_GOLDEN").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let golden = fs::read_to_string(&path).unwrap();
        assert!(
            text == golden,
            "RUNBOARD_WRITE_GOLDEN=1 writes {} anew; got\n{text}",
            path.display()
        );
    }

    #[test]
    fn block_of_a_trained_run_names_no_step_that_the_session_begins_at() {
        let mut run = snapshot();
        let train = run.statuses.train.as_mut().unwrap();
        (train.first, train.step) = (Some(100_000), 100_000);
        let title = block(&run, 200, PLAIN)[0].clone();
        assert!(title.ends_with("   session 2"), "{title}");
    }

    #[test]
    fn block_has_no_line_that_is_wider_than_it_may_be() {
        for (what, run) in scenes() {
            for width in 20..=220 {
                let plain = block(&run, width, PLAIN);
                let coloured = block(&run, width, Paint { colour: true });
                for (plain, coloured) in plain.iter().zip(&coloured) {
                    assert!(
                        measure_text_width(plain) <= width,
                        "{what} {width}: {plain}"
                    );
                    assert_eq!(
                        strip_ansi_codes(coloured).trim_end(),
                        plain,
                        "{what} {width}"
                    );
                }
            }
        }
    }

    #[test]
    fn block_shows_one_hundred_percent_at_the_end_alone() {
        let mut run = snapshot();
        let shown = |run: &RunSnapshot| block(run, 200, PLAIN)[1].clone();
        run.statuses.train.as_mut().unwrap().step = 99_999;
        assert!(
            shown(&run).contains("99999 of 100000, 99 %"),
            "{}",
            shown(&run)
        );
        run.statuses.train.as_mut().unwrap().step = 100_000;
        let end = shown(&run);
        assert!(
            end.contains("100000 of 100000, 100 %") && !end.contains("left"),
            "{end}"
        );
    }
}
