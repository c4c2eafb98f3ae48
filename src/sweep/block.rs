//! The block of lines that a terminal shows of a sweep under way.

use std::time::Duration;

use ::console::measure_text_width;

use super::progress::Progress;
use super::results::{Results, Setting, spread};
use super::schedule::{Rung, stopped};
use crate::overview::Paint;
use crate::overview::text::{GAP, bar, bar_and_text, clock, count, cut, number, room, row};
use crate::run::RunState;

/// The least that a bar is worth drawing with, in columns.
const LEAST_BAR: usize = 8;

/// What a point's bar takes at most.
const LONGEST_BAR: usize = 20;

/// How many settings and how many failed points are shown.
const BEST: usize = 3;
const FAILED: usize = 3;

/// What is told of a sweep's session beside its points.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// How long it has taken.
    pub elapsed: Duration,
    /// How long it takes still, if that can be told.
    pub left: Option<Duration>,
    /// Whether it was asked to stop.
    pub stopping: bool,
    /// What a point waits for, and who has it, if it does.
    pub waiting: Option<String>,
    /// The command that shows the curves.
    pub curves: String,
}

/// The sweep in lines of `width` columns at most, from 20 on, and not more than `rows` lines, from 8 on.
pub fn block(
    results: &Results,
    session: &Session,
    width: usize,
    rows: usize,
    paint: Paint,
) -> Vec<String> {
    let block = Block {
        results,
        session,
        width,
        paint,
    };
    let mut lines = vec![block.title(), block.points()];
    lines.extend(block.best());
    lines.extend(block.failed());
    let end = [block.curves(), block.stop()];
    let space = rows.saturating_sub(lines.len() + end.len());
    lines.extend(block.running(space));
    lines.extend(end);
    lines
}

/// How much of a sweep is done, in 0..=1: a point that has ended is, one under way by its steps.
pub fn share(results: &Results) -> f64 {
    let stopped = stopped(results.decisions);
    let shares = results
        .sweep
        .points
        .iter()
        .zip(results.progress)
        .map(|(point, progress)| match (progress.end, progress.steps) {
            (Some(_), _) => 1.0,
            _ if stopped.contains_key(&point.number) => 1.0,
            (None, Some(steps)) => (progress.done as f64 / steps as f64).min(1.0),
            (None, None) => 0.0,
        });
    shares.sum::<f64>() / results.sweep.points.len().max(1) as f64
}

struct Block<'a> {
    results: &'a Results<'a>,
    session: &'a Session,
    width: usize,
    paint: Paint,
}

impl Block<'_> {
    fn row(&self, label: &str, parts: &[String]) -> String {
        row(self.paint, label, parts, self.width)
    }

    /// Which sweep, and how it runs.
    fn title(&self) -> String {
        let state = match self.session.stopping {
            true => self.paint.yellow("stopping"),
            false => self.paint.green("running"),
        };
        let id = self.paint.bold(self.results.id);
        let points = count(self.results.sweep.points.len(), "point");
        let parallel = self.results.sweep.at_once();
        cut(
            &format!("{id}   {state}   {points}, {parallel} at once"),
            self.width,
        )
    }

    /// How far it is.
    fn points(&self) -> String {
        let done = self.results.done();
        let of = format!("{done} of {} done", self.results.sweep.points.len());
        let rung = self.results.rung().map(|rung| {
            let Rung {
                number,
                of,
                settled,
                points,
            } = rung;
            format!("rung {number} of {of}: {settled} of {points}")
        });
        let elapsed = format!("{} elapsed", clock(self.session.elapsed));
        let left = self
            .session
            .left
            .map(|left| format!("{} left", clock(left)));
        let join = |parts: &[Option<String>]| {
            let parts: Vec<String> = parts.iter().flatten().cloned().collect();
            parts.join(", ")
        };
        let texts = [
            join(&[Some(of.clone()), rung.clone(), Some(elapsed), left.clone()]),
            join(&[Some(of.clone()), rung, left.clone()]),
            join(&[Some(of.clone()), left]),
            of,
        ];
        let share = share(self.results);
        let bar = bar_and_text(self.paint, share, &texts, LEAST_BAR, room(self.width));
        self.row("points", &[bar])
    }

    /// The best settings so far.
    fn best(&self) -> Vec<String> {
        let settings = self.results.settings();
        // The ranked ones come first; what points under way have scored is not compared with them.
        let is_ranked = settings.iter().any(|it| it.rank.is_some());
        let is_shown = |it: &&Setting| match is_ranked {
            true => it.rank.is_some(),
            false => it.so_far.mean().is_some(),
        };
        let shown: Vec<&Setting> = settings.iter().filter(is_shown).take(BEST).collect();
        if shown.is_empty() {
            return vec![self.row("best", &["no point has a score yet".into()])];
        }
        let best = shown.iter().enumerate().map(|(index, setting)| {
            let (scores, note) = match is_ranked {
                true => (&setting.judged, ""),
                false => (&setting.so_far, " so far"),
            };
            let seeds = match (scores.known().len(), setting.points.len()) {
                (1, 1) => String::new(),
                (known, all) if known < all => format!("{known} of {}", count(all, "seed")),
                (known, _) => count(known, "seed"),
            };
            let score = spread(scores) + note;
            let beside = [score.as_str(), &seeds].map(|part| match measure_text_width(part) {
                0 => 0,
                columns => columns + GAP.len(),
            });
            // It is what tells the settings apart: it is cut rather than left out.
            let columns = room(self.width).saturating_sub(beside.iter().sum());
            let values = cut(&self.results.label(setting), columns);
            match index {
                0 => {
                    let by = self.results.images().to_owned();
                    self.row("best", &[self.paint.green(&score), values, seeds, by])
                }
                _ => self.row("", &[score, values, seeds]),
            }
        });
        best.collect()
    }

    /// The points that failed, the last ones of them.
    fn failed(&self) -> Option<String> {
        let all = self.results.sweep.points.iter().zip(self.results.progress);
        let failed = all.filter(|(_, progress)| progress.has_failed());
        let names: Vec<&str> = failed.map(|(point, _)| point.name.as_str()).collect();
        let shown: Vec<String> = names
            .iter()
            .rev()
            .take(FAILED)
            .map(|name| (*name).to_owned())
            .collect();
        let text = match names.len() {
            0 => return None,
            all if all > FAILED => format!("{} and {} more", shown.join(", "), all - FAILED),
            _ => shown.join(", "),
        };
        Some(self.row("failed", &[self.paint.red(&text)]))
    }

    /// The points under way, in as many lines as there may be.
    fn running(&self, space: usize) -> Vec<String> {
        let lines = space.saturating_sub(usize::from(self.session.waiting.is_some()));
        let all = self.results.sweep.points.iter().zip(self.results.progress);
        let running: Vec<_> = all
            .filter(|(_, progress)| progress.is_under_way())
            .collect();
        let judged = self.results.judged();
        let names = running.iter().map(|(point, _)| point.name.chars().count());
        let longest = names.max().unwrap_or(0).min(room(self.width) / 2);
        let shown = match running.len() > lines {
            true => lines.saturating_sub(1),
            false => running.len(),
        };
        let label = |index| if index == 0 { "running" } else { "" };
        let mut rows: Vec<String> = running[..shown]
            .iter()
            .enumerate()
            .map(|(index, (point, progress))| {
                let name = format!("{:<longest$}", cut(&point.name, longest));
                let columns = room(self.width).saturating_sub(longest + 2);
                let score = judged(point, progress).map(|(_, score)| score);
                let bar = self.progress(progress, score, columns);
                self.row(label(index), &[format!("{name}  {bar}")])
            })
            .collect();
        if shown < running.len() && lines > 0 {
            rows.push(self.row(
                label(shown),
                &[format!("and {} more", running.len() - shown)],
            ));
        }
        if let Some(wait) = self.session.waiting.clone().filter(|_| space > 0) {
            rows.push(self.row("waiting", &[wait]));
        }
        rows
    }

    /// How far a point is, with this score so far.
    fn progress(&self, progress: &Progress, score: Option<f64>, columns: usize) -> String {
        let (Some(steps), Some(state)) = (progress.steps, progress.state) else {
            return "starting".to_owned();
        };
        let done = format!("{} of {steps}", progress.done);
        let state = match state {
            RunState::Running => None,
            state => Some(state.to_string()),
        };
        let loss = progress.loss.map(|loss| format!("loss {}", number(loss)));
        let score = score.map(|score| {
            let of = self.results.sweep.definition.metric.of.name();
            format!("{of} {}", number(score))
        });
        let join = |parts: &[&Option<String>]| {
            let parts = parts.iter().filter_map(|part| part.as_deref());
            parts.fold(done.clone(), |text, part| text + "   " + part)
        };
        let texts = [
            join(&[&loss, &score, &state]),
            join(&[&score, &state]),
            join(&[&state]),
            done.clone(),
        ];
        // Bars of one length can be compared.
        let length = (columns / 3).clamp(LEAST_BAR, LONGEST_BAR);
        let fits = |text: &&String| measure_text_width(text) + length + 2 <= columns;
        match texts.iter().find(fits) {
            Some(text) => {
                let share = progress.done as f64 / steps as f64;
                format!("{}  {text}", bar(self.paint, share, length))
            }
            None => done,
        }
    }

    /// How to see the curves. A hint may have two commands: where there is no room for both, the first is enough.
    fn curves(&self) -> String {
        let command = &self.session.curves;
        let command = match command.split_once(", or: ") {
            Some((first, _)) if command.len() > room(self.width) => first,
            _ => command,
        };
        self.row("curves", &[command.to_owned()])
    }

    /// How to stop it, or what follows from that.
    fn stop(&self) -> String {
        let parts: &[&str] = match self.session.stopping {
            true => &[
                "each point saves a last checkpoint",
                "Ctrl-C again ends without it",
            ],
            false => &["Ctrl-C, which saves a checkpoint of each point"],
        };
        let parts: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
        self.row("to stop", &parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::Halving;
    use crate::sweep::results::tests::{Case, failed, finished};
    use crate::sweep::schedule::End;

    const PLAIN: Paint = Paint { colour: false };

    fn case() -> Case {
        let running = |done, state| Progress {
            state: Some(state),
            end: None,
            done,
            ..finished(&[(0.25, None)])
        };
        let mut case = Case::new(vec![
            finished(&[(0.5, None)]),
            finished(&[(0.6, None)]),
            finished(&[(0.8, None)]),
            failed(),
            running(15, RunState::Running),
            running(20, RunState::Evaluating),
            Progress {
                state: Some(RunState::Starting),
                ..Progress::default()
            },
            Progress::default(),
        ]);
        case.sweep.definition.parallel = 3;
        for point in &mut case.sweep.points {
            point.name = format!(
                "{:03}-learning_rate=0.{}-seed={}",
                point.number, point.number, point.seed
            );
        }
        case
    }

    fn session() -> Session {
        Session {
            elapsed: Duration::from_secs(75),
            left: Some(Duration::from_secs(60)),
            stopping: false,
            waiting: None,
            curves: "make tensorboard NAME=rates/20261126-050000, or: tensorboard --logdir runs/rates/20261126-050000".into(),
        }
    }

    #[test]
    fn block_shows_what_runs_what_is_best_and_what_failed() {
        let case = case();
        let lines = block(&case.results(), &session(), 100, 40, PLAIN);
        let want = "\
rates/20261126-050000   running   8 points, 3 at once
points     ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━─────────────  4 of 8 done, 0:01:15 elapsed, 0:01:00 left
best       0.550 ± 0.071   learning_rate=0.1 type=a, \"b\"   2 seeds   by the test images
           0.800   learning_rate=0.2 type=a, \"b\"   1 of 2 seeds
failed     004-learning_rate=0.4-seed=2
running    005-learning_rate=0.5-seed=1  ━━━━━━━━━━━━━━─────  15 of 20   loss 1.500   best 0.250
           006-learning_rate=0.6-seed=2  ━━━━━━━━━━━━━━━━━━━  20 of 20   best 0.250   evaluating
           007-learning_rate=0.7-seed=1  starting
curves     make tensorboard NAME=rates/20261126-050000
to stop    Ctrl-C, which saves a checkpoint of each point";
        assert_eq!(lines.join("\n"), want);
    }

    #[test]
    fn block_shows_what_points_under_way_have_scored_until_one_counts() {
        let running = |accuracy| Progress {
            state: Some(RunState::Running),
            end: None,
            ..finished(&[(accuracy, None)])
        };
        let mut case = Case::new(vec![
            running(0.25),
            running(0.35),
            running(0.4),
            Progress::default(),
        ]);
        let best = |case: &Case| block(&case.results(), &session(), 100, 40, PLAIN)[2..4].to_vec();
        let want = [
            r#"best       0.300 ± 0.071 so far   learning_rate=0.1 type=a, "b"   2 seeds   by the test images"#,
            r#"           0.400 so far   learning_rate=0.2 type=a, "b"   1 of 2 seeds"#,
        ];
        assert_eq!(best(&case), want);
        // One that has ended is ranked, and not beside what is no result yet.
        case.progress[2].end = Some(End::Finished);
        let want = r#"best       0.400   learning_rate=0.2 type=a, "b"   1 of 2 seeds   by the test images"#;
        assert_eq!(best(&case)[0], want);
        assert!(best(&case)[1].starts_with("running "), "{:?}", best(&case));
        case.progress.fill(Progress::default());
        assert_eq!(best(&case)[0], "best       no point has a score yet");
    }

    #[test]
    fn block_fits_every_width_and_height() {
        let case = case();
        for (width, rows) in [(20, 8), (60, 9), (79, 24), (200, 50)] {
            let lines = block(&case.results(), &session(), width, rows, PLAIN);
            assert!(lines.len() <= rows.max(8), "{width} x {rows}: {lines:#?}");
            for line in &lines {
                assert!(measure_text_width(line) <= width, "{width}: {line:?}");
            }
        }
        let lines = block(&case.results(), &session(), 79, 9, PLAIN);
        assert!(
            lines.iter().any(|line| line.contains("and 2 more")),
            "{lines:#?}"
        );
    }

    #[test]
    fn points_line_tells_how_far_the_rung_is() {
        let mut case = case();
        case.sweep.definition.early_terminate = Some(Halving {
            min_iter: 10,
            eta: 2,
        });
        let line = |case: &Case| block(&case.results(), &session(), 110, 40, PLAIN)[1].clone();
        let want = "4 of 8 done, rung 1 of 1: 4 of 8, 0:01:15 elapsed, 0:01:00 left";
        assert!(line(&case).ends_with(want), "{}", line(&case));
    }

    #[test]
    fn block_tells_that_a_point_waits_for_a_device() {
        let case = case();
        let waiting = Session {
            waiting: Some("for 1 core: a run (pid 5) has what there is".to_owned()),
            ..session()
        };
        let lines = block(&case.results(), &waiting, 79, 40, PLAIN);
        let want = "waiting    for 1 core: a run (pid 5) has what there is";
        assert_eq!(lines[lines.len() - 3], want);
        for rows in 8..12 {
            let lines = block(&case.results(), &waiting, 79, rows, PLAIN);
            assert!(lines.len() <= rows, "{rows}: {lines:#?}");
        }
    }

    #[test]
    fn values_of_the_best_are_cut_where_there_is_no_room_for_them() {
        let mut case = case();
        let long = "a_long_name_of_an_optimizer_that_takes_a_line".repeat(2);
        for point in &mut case.sweep.points {
            point
                .set
                .insert("optimizer.type".into(), long.clone().into());
        }
        let lines = block(&case.results(), &session(), 79, 40, PLAIN);
        let want =
            "best       0.550 ± 0.071   learning_rate=0.1 type=a_long_name_of_an_…   2 seeds";
        assert_eq!(lines[2], want);
    }

    #[test]
    fn share_counts_points_that_are_done_as_whole() {
        let case = case();
        // 4 have ended, 15 of 20 and 20 of 20 steps are done of two more.
        assert_eq!(share(&case.results()), 5.75 / 8.0);
    }
}
