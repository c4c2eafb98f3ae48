//! The display of a run: on a terminal a block of lines that is drawn again in place, plain lines everywhere else.

use std::io::{self, Write};
use std::time::Instant;

use super::speed::Speed;
use super::terminal::Terminal;
use crate::overview::{RunSnapshot, SnapshotReader, block};
use crate::run::{ProcessState, Role, RunDir, Statuses};

/// How much is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// Warnings, restarts and the end alone.
    Quiet,
    /// What fits the output: the block of lines on a terminal, both logs elsewhere.
    #[default]
    Normal,
    /// Both logs, on a terminal as well, above the block.
    Verbose,
}

/// Shows how trainer and evaluator are doing. A display that nobody can read any more (a closed terminal,
/// a broken pipe) must not end a training, so what cannot be shown is dropped: the logs have it all.
pub struct Display {
    output: Output,
    verbosity: Verbosity,
}

enum Output {
    Live(Box<Live>),
    Plain(Box<dyn Write>),
}

/// The block, below what must not be lost: warnings and notes.
struct Live {
    terminal: Terminal,
    reader: SnapshotReader,
    speed: Speed,
    /// What the trainer said last before its first step.
    preparation: Option<String>,
    evaluator_failed: bool,
}

impl Display {
    /// A block on stderr if it and stdout are terminals, otherwise plain lines on stdout.
    pub fn detect(run: &RunDir, verbosity: Verbosity) -> Self {
        let terminal = Terminal::detect().filter(|_| verbosity != Verbosity::Quiet);
        let Some(terminal) = terminal else {
            return Display {
                verbosity,
                ..Self::plain(io::stdout())
            };
        };
        Display {
            output: Output::Live(Box::new(Live {
                terminal,
                reader: SnapshotReader::new(run),
                speed: Speed::default(),
                preparation: None,
                evaluator_failed: false,
            })),
            verbosity,
        }
    }

    /// Plain lines, written to `out`: both processes' log lines, marked `train | ` and `eval  | `, and
    /// nothing that redraws.
    pub fn plain(out: impl Write + 'static) -> Self {
        Display {
            output: Output::Plain(Box::new(out)),
            verbosity: Verbosity::Normal,
        }
    }

    /// Whether there is a block that says which run this is.
    pub fn is_live(&self) -> bool {
        matches!(self.output, Output::Live(_))
    }

    /// The columns that a text may take; none where there is no terminal.
    pub fn columns(&self) -> Option<usize> {
        match &self.output {
            Output::Live(live) => Some(live.terminal.columns()),
            Output::Plain(_) => None,
        }
    }

    /// A new line of a process's log.
    pub fn line(&mut self, role: Role, line: &str) {
        // What ends a process is in what follows from its end.
        let warning = line.starts_with("warning: ");
        let shown = warning
            || match self.verbosity {
                Verbosity::Quiet => false,
                Verbosity::Normal => !self.is_live(),
                Verbosity::Verbose => true,
            };
        let marked = format!("{role:<5} | {line}");
        match &mut self.output {
            Output::Plain(out) if shown => write_line(out, &marked),
            Output::Plain(_) => {}
            Output::Live(live) => {
                if role == Role::TRAIN && !warning {
                    live.preparation = Some(without_time(line).to_owned());
                }
                match (shown, warning) {
                    (true, true) => live.terminal.event(&marked),
                    (true, false) => live.terminal.print(&marked),
                    (false, _) => {}
                }
            }
        }
    }

    /// Something that the supervisor has to say.
    pub fn note(&mut self, text: &str) {
        match &mut self.output {
            Output::Plain(out) => write_line(out, text),
            Output::Live(live) => live.terminal.event(text),
        }
    }

    /// The statuses as they are now; none of a process that has not written one in this session.
    pub fn update(&mut self, statuses: Statuses) {
        if let Output::Live(live) = &mut self.output {
            live.update(statuses);
        }
    }

    /// The evaluator has died, for the reason given; training goes on as long as it does.
    pub fn evaluator_failed(&mut self, why: &str) {
        self.note(why);
        if let Output::Live(live) = &mut self.output {
            live.evaluator_failed = true;
        }
    }

    /// Leaves the terminal to others: the run is paused, and what is shown next is below what they write.
    pub fn pause(&mut self, text: &str) {
        match &mut self.output {
            Output::Live(live) => {
                live.terminal.pause(text);
                live.speed.forget();
            }
            Output::Plain(_) => self.note(text),
        }
    }

    /// Removes the block. What the run has come to is for others to say.
    pub fn finish(&mut self) {
        if let Output::Live(live) = &mut self.output {
            live.terminal.clear();
            live.speed.forget();
        }
    }
}

impl Live {
    fn update(&mut self, statuses: Statuses) {
        let begun = statuses.train.as_ref();
        if let Some(train) = begun.filter(|train| train.loss.is_some()) {
            self.speed.see(Instant::now(), train.step);
        }
        let mut snapshot: RunSnapshot = self.reader.read(statuses);
        if self.evaluator_failed
            && let Some(eval) = &mut snapshot.statuses.eval
        {
            eval.process.state = ProcessState::Failed;
        }
        snapshot.speed = self.speed.steps_per_second();
        snapshot.preparation.clone_from(&self.preparation);
        let (columns, paint) = (self.terminal.columns(), self.terminal.paint);
        self.terminal.draw(block(&snapshot, columns, paint));
    }
}

fn write_line(out: &mut impl Write, line: &str) {
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// A log's line without the time of day before it.
fn without_time(line: &str) -> &str {
    match line.split_once(": ") {
        Some((time, rest)) if time.len() == "2026-11-23 03:10:00.123".len() => rest,
        _ => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::tests::Shown;

    #[test]
    fn quiet_display_shows_warnings_and_notes_alone() {
        for (verbosity, want) in [
            (Verbosity::Quiet, "eval  | warning: a\nnote\n"),
            (
                Verbosity::Normal,
                "train | step 0\neval  | warning: a\neval  | error: b\nnote\n",
            ),
            (
                Verbosity::Verbose,
                "train | step 0\neval  | warning: a\neval  | error: b\nnote\n",
            ),
        ] {
            let shown = Shown::default();
            let mut display = Display {
                verbosity,
                ..Display::plain(shown.clone())
            };
            display.line(Role::TRAIN, "step 0");
            display.line(Role::Eval, "warning: a");
            display.line(Role::Eval, "error: b");
            display.note("note");
            let text = String::from_utf8(shown.0.lock().unwrap().clone()).unwrap();
            assert_eq!(text, want, "{verbosity:?}");
        }
    }

    #[test]
    fn time_of_a_log_line_is_left_out() {
        let line = "2026-11-23 03:10:00.123: training a: 1 image";
        assert_eq!(without_time(line), "training a: 1 image");
        assert_eq!(without_time("reading: data"), "reading: data");
    }
}
