//! The display of a sweep: on a terminal a block of lines that is drawn again in place, and plain lines everywhere else,
//! one when a point starts, ends or fails.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::block::{Session, block, share};
use super::results::Results;
use crate::run::RunState;
use crate::supervisor::Terminal;
use crate::supervisor::display::Verbosity;

/// The least share of a sweep that an estimate of the time is made from.
const LEAST_SHARE: f64 = 0.005;

/// How often the block is drawn anew: what it shows is read once a second.
const REDRAW: Duration = Duration::from_millis(500);

/// Longer from one update to the next, ten of which there are in a second, this process was frozen, as by Ctrl-Z.
const FROZEN: Duration = Duration::from_secs(10);

/// Shows how a sweep is doing. What cannot be shown is dropped, as a run's display does.
pub struct Display {
    terminal: Option<Terminal>,
    verbosity: Verbosity,
    session: Session,
    begin: Instant,
    work: WorkTime,
    drawn: Option<Instant>,
    waiting_told: bool,
    /// How much was done when the session began.
    first_share: Option<f64>,
}

impl Display {
    /// A block on stderr if it and stdout are terminals, otherwise plain lines on stdout. `curves` is the command that
    /// shows the sweep's curves.
    pub fn detect(verbosity: Verbosity, curves: String) -> Self {
        Display {
            terminal: Terminal::detect().filter(|_| verbosity != Verbosity::Quiet),
            verbosity,
            session: Session {
                curves,
                ..Session::default()
            },
            begin: Instant::now(),
            work: WorkTime::new(Instant::now()),
            drawn: None,
            waiting_told: false,
            first_share: None,
        }
    }

    /// Whether there is a block.
    pub fn is_live(&self) -> bool {
        self.terminal.is_some()
    }

    /// How many columns the terminal has, if there is one.
    pub fn columns(&self) -> Option<usize> {
        self.terminal.as_ref().map(Terminal::columns)
    }

    /// Something that must not be lost: a point that failed, a decision.
    pub fn note(&mut self, text: &str) {
        match &mut self.terminal {
            Some(terminal) => terminal.event(text),
            None => {
                let mut out = io::stdout();
                let _ = writeln!(out, "{text}").and_then(|()| out.flush());
            }
        }
    }

    /// What goes as planned: a point that starts or ends. A block shows it anyway.
    pub fn line(&mut self, text: &str) {
        let shown = match self.verbosity {
            Verbosity::Quiet => false,
            Verbosity::Normal => !self.is_live(),
            Verbosity::Verbose => true,
        };
        if shown {
            self.note(text);
        }
    }

    /// What a point waits for, and who has it, if it does. A block shows it as long as it is so, and plain lines tell it once,
    /// if it lasts until the next look: others may just be about to take what they need.
    pub fn waits(&mut self, waiting: Option<String>) {
        if let Some(wait) = waiting.as_ref().filter(|_| self.session.waiting.is_some())
            && !self.is_live()
            && !std::mem::replace(&mut self.waiting_told, true)
        {
            self.note(&format!("waiting {wait}"));
        }
        self.session.waiting = waiting;
    }

    /// The sweep as it is now.
    pub fn update(&mut self, results: &Results, stopping: bool) {
        let Some(terminal) = &mut self.terminal else {
            return;
        };
        self.work.update(Instant::now(), all_paused(results));
        let is_news = stopping != self.session.stopping;
        if !is_news && self.drawn.is_some_and(|drawn| drawn.elapsed() < REDRAW) {
            return;
        }
        self.drawn = Some(Instant::now());
        let done = share(results);
        let first = *self.first_share.get_or_insert(done);
        // Halving decides how much there is to do.
        let is_known = results.sweep.definition.early_terminate.is_none();
        let left = || time_left(self.work.total, first, done);
        self.session.left = is_known.then(left).flatten();
        (self.session.elapsed, self.session.stopping) = (self.begin.elapsed(), stopping);
        let (columns, rows) = (terminal.columns(), terminal.rows());
        let lines = block(results, &self.session, columns, rows, terminal.paint);
        terminal.draw(lines);
    }

    /// Leaves the terminal to others: the sweep is paused, and what is shown next is below what they write.
    pub fn pause(&mut self, text: &str) {
        self.drawn = None;
        match &mut self.terminal {
            Some(terminal) => terminal.pause(text),
            None => self.note(text),
        }
    }

    /// Removes the block.
    pub fn finish(&mut self) {
        if let Some(terminal) = &mut self.terminal {
            terminal.clear();
            self.drawn = None;
        }
    }
}

/// The time in which a session's points could work: without that in which they, or this process, were paused.
struct WorkTime {
    total: Duration,
    updated: Instant,
}

impl WorkTime {
    fn new(now: Instant) -> Self {
        WorkTime {
            total: Duration::ZERO,
            updated: now,
        }
    }

    /// Counts the time since the last update.
    fn update(&mut self, now: Instant, paused: bool) {
        let passed = now.saturating_duration_since(self.updated);
        self.updated = now;
        if passed < FROZEN && !paused {
            self.total += passed;
        }
    }
}

/// Whether there are points under way, and all of them are paused.
fn all_paused(results: &Results) -> bool {
    let states = results.progress.iter().filter_map(|point| point.state);
    let mut under_way = states.filter(|state| state.is_under_way()).peekable();
    under_way.peek().is_some() && under_way.all(|state| state == RunState::Paused)
}

/// How long the rest takes if it goes on as it went in this session, from the share that was done when it began. `worked` is
/// the time that its points had. None where too little is done to tell, or where all is trained and is still scored.
fn time_left(worked: Duration, first: f64, done: f64) -> Option<Duration> {
    let gained = done - first;
    if gained < LEAST_SHARE || done >= 1.0 {
        return None;
    }
    Duration::try_from_secs_f64(worked.as_secs_f64() * (1.0 - done) / gained).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::progress::Progress;
    use crate::sweep::results::tests::{Case, finished};

    #[test]
    fn work_time_leaves_out_what_is_paused() {
        let mut now = Instant::now();
        let mut work = WorkTime::new(now);
        let mut after = |passed, paused| {
            now += Duration::from_millis(passed);
            work.update(now, paused);
            work.total.as_millis()
        };
        assert_eq!(after(100, false), 100);
        assert_eq!(after(3_600_000, false), 100); // nobody was there: the shell had stopped this process
        assert_eq!(after(100, false), 200);
        assert_eq!(after(100, true), 200);
        assert_eq!(after(100, false), 300);
    }

    #[test]
    fn sweep_is_paused_while_all_points_under_way_are() {
        let all_paused = |states: &[RunState]| {
            let point = |state: &RunState| Progress {
                state: Some(*state),
                ..finished(&[(0.5, None)])
            };
            let points = states.iter().map(point).chain([Progress::default()]);
            all_paused(&Case::new(points.collect()).results())
        };
        use RunState::{Finished, Paused, Running};
        assert!(all_paused(&[Finished, Paused, Paused]));
        assert!(!all_paused(&[Finished, Paused, Running]));
        assert!(!all_paused(&[Finished]));
    }

    #[test]
    fn time_left_follows_from_what_this_session_did() {
        let left = |first, done| time_left(Duration::from_secs(60), first, done);
        assert_eq!(left(0.0, 0.0), None);
        assert_eq!(left(0.25, 0.5), Some(Duration::from_secs(120)));
        assert_eq!(left(0.5, 0.75), Some(Duration::from_secs(60)));
        assert_eq!(left(0.5, 1.0), None); // the last checkpoints are scored
    }
}
