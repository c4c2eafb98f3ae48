//! The display of a run: two live lines on a terminal, plain lines everywhere else.

use std::env;
use std::io::{self, IsTerminal, Write};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::run::{EvalStatus, Role, TrainStatus};

/// Shows how trainer and evaluator are doing. A display that nobody can read any more (a closed terminal,
/// a broken pipe) must not end a training, so what cannot be shown is dropped: the logs have it all.
pub struct Display {
    output: Output,
}

enum Output {
    Live(Live),
    Plain(Box<dyn Write>),
}

/// Two lines that are redrawn. What must not be lost scrolls by above them: what the evaluator says,
/// the trainer's warnings, and notes.
struct Live {
    lines: MultiProgress,
    train: ProgressBar,
    eval: ProgressBar,
}

impl Display {
    /// Live lines on stderr if it and stdout are terminals, otherwise plain lines on stdout.
    pub fn detect() -> Self {
        let dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
        if dumb || !io::stderr().is_terminal() || !io::stdout().is_terminal() {
            return Self::plain(io::stdout());
        }
        Display {
            output: Output::Live(Live::new(MultiProgress::new())),
        }
    }

    /// Plain lines, written to `out`: both processes' log lines, marked `train | ` and `eval  | `, and
    /// nothing that redraws.
    pub fn plain(out: impl Write + 'static) -> Self {
        Display {
            output: Output::Plain(Box::new(out)),
        }
    }

    /// A new line of a process's log.
    pub fn line(&mut self, role: Role, line: &str) {
        match &mut self.output {
            Output::Plain(out) => write_line(out, &format!("{role:<5} | {line}")),
            Output::Live(live) => match role {
                Role::TRAIN if !is_warning_or_error(line) => live.show_preparation(line),
                _ => live.print_above(&format!("{role:<5} | {line}")),
            },
        }
    }

    /// Something that the supervisor has to say.
    pub fn note(&mut self, text: &str) {
        match &mut self.output {
            Output::Plain(out) => write_line(out, text),
            Output::Live(live) => live.print_above(text),
        }
    }

    /// The statuses as they are now, `None` for a process that has not written one yet.
    pub fn update(&mut self, train: Option<&TrainStatus>, eval: Option<&EvalStatus>) {
        if let Output::Live(live) = &self.output {
            if let Some(train) = train.filter(|train| train.loss.is_some()) {
                live.show_progress(train);
            }
            if !live.eval.is_finished() {
                live.eval.set_message(scores(eval));
            }
        }
    }

    /// The evaluator has died, for the reason given; training goes on as long as it does.
    pub fn evaluator_failed(&mut self, why: &str) {
        self.note(why);
        if let Output::Live(live) = &self.output {
            live.eval.abandon_with_message("died, see above");
        }
    }

    /// Leaves the last state of the live lines on the screen.
    pub fn finish(&mut self) {
        if let Output::Live(live) = &self.output {
            live.finish();
        }
    }
}

impl Live {
    fn new(lines: MultiProgress) -> Self {
        let train = lines.add(ProgressBar::no_length().with_style(style("train | {msg}")));
        let eval = lines.add(ProgressBar::no_length().with_style(style("eval  | {msg}")));
        train.set_message("starting");
        Live { lines, train, eval }
    }

    /// What the trainer says before its first step stands in the place of the bar.
    fn show_preparation(&self, line: &str) {
        if self.train.length().is_none() {
            self.train.set_message(line.to_owned());
        }
    }

    fn show_progress(&self, status: &TrainStatus) {
        if self.train.length().is_none() {
            self.train.set_style(style(
                "train | {wide_bar} {pos}/{len}  {msg}, {eta_precise} left",
            ));
            self.train.set_length(status.steps);
            self.train.set_position(status.step);
            self.train.reset_eta(); // the rate is this session's, not that of the steps done before
        }
        self.train.set_position(status.step);
        self.train.set_message(loss_and_rate(status));
    }

    fn print_above(&self, text: &str) {
        let _ = self.lines.println(text);
    }

    fn finish(&self) {
        if self.train.length().is_some() {
            self.train
                .set_style(style("train | {wide_bar} {pos}/{len}  {msg}"));
        }
        self.train.abandon();
        if !self.eval.is_finished() {
            self.eval.abandon();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates here are constant and well-formed")
        .progress_chars("━╸ ")
}

fn write_line(out: &mut impl Write, line: &str) {
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Lines that the trainer marks as worth keeping; the others are steps, which the bar shows.
fn is_warning_or_error(line: &str) -> bool {
    line.starts_with("warning: ") || line.starts_with("error: ")
}

fn loss_and_rate(status: &TrainStatus) -> String {
    let loss = status.loss.map(|loss| format!("loss {loss:.3}"));
    let rate = status
        .examples_per_sec
        .map(|rate| format!("{rate:.0} images/s"));
    let parts: Vec<String> = loss.into_iter().chain(rate).collect();
    parts.join(", ")
}

fn scores(status: Option<&EvalStatus>) -> String {
    let Some(status) = status else {
        return "starting".to_owned();
    };
    let Some(last) = status.last else {
        return "waiting for the first checkpoint".to_owned();
    };
    let mut text = format!("accuracy {:.3} at step {}", last.accuracy, last.step);
    if let Some(best) = status.best.filter(|best| best.step != last.step) {
        text += &format!(", best {:.3} at step {}", best.accuracy, best.step);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Process, Score};
    use indicatif::ProgressDrawTarget;

    #[test]
    fn evaluator_line_has_the_last_and_a_better_score() {
        let mut status = EvalStatus::new(Process::current());
        assert_eq!(scores(None), "starting");
        assert_eq!(scores(Some(&status)), "waiting for the first checkpoint");
        let score = |step, accuracy| Some(Score { step, accuracy });
        (status.last, status.best) = (score(500, 0.712), score(500, 0.712));
        assert_eq!(scores(Some(&status)), "accuracy 0.712 at step 500");
        status.best = score(400, 0.7154);
        assert_eq!(
            scores(Some(&status)),
            "accuracy 0.712 at step 500, best 0.715 at step 400"
        );
    }

    #[test]
    fn bar_begins_with_the_first_loss_and_keeps_the_evaluators_failure() {
        let hidden = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        let mut display = Display {
            output: Output::Live(Live::new(hidden)),
        };
        let mut status = TrainStatus {
            step: 100,
            steps: 500,
            examples_per_sec: Some(467.3),
            ..TrainStatus::new(Process::current())
        };
        display.line(Role::TRAIN, "reading data");
        display.update(Some(&status), None);
        let lines = |display: &Display| match &display.output {
            Output::Live(live) => (live.train.message(), live.eval.message()),
            Output::Plain(_) => unreachable!(),
        };
        assert_eq!(lines(&display).0, "reading data");

        status.loss = Some(1.23456);
        display.update(Some(&status), None);
        display.line(Role::TRAIN, "2026-11-23: step 100");
        display.evaluator_failed("the evaluator died");
        display.update(Some(&status), None);
        display.finish();
        let (train, eval) = lines(&display);
        assert_eq!(train, "loss 1.235, 467 images/s");
        assert_eq!(eval, "died, see above");
    }
}
