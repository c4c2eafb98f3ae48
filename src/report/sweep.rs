//! The page of a sweep.

use std::collections::BTreeMap;

use chrono::{DateTime, Local};
use maud::{Markup, html};

use super::chart::Colour;
use super::curves::{self, Shown};
use super::parts::{self, Tile, value};
use super::{Page, evaluation, run, settings};
use crate::catalog::{Entry, map};
use crate::overview::count;
use crate::run::Provenance;
use crate::sweep::results::{Results, spread};
use crate::sweep::{Point, Standing, table};

/// Rows of the ranked table at most.
const SETTINGS: usize = 500;

/// Points whose warnings are shown at most.
const WARNED: usize = 20;

/// The page of a sweep with these points.
pub fn page(entry: &Entry, standing: &Standing, points: &[Entry], now: DateTime<Local>) -> Page {
    let results = standing.results();
    let runs: Vec<Shown> = ranked(&results, points);
    let (charts, of_curves) = curves::of_several(&runs);
    let best = best(&results, points);
    let scores = best.map(evaluation::section);
    let mut damage = entry.all_damage();
    damage.extend(map(points, Entry::all_damage).into_iter().flatten());
    damage.extend(of_curves);
    damage.dedup();

    let mut page = Page::new(entry.id(), standing.state());
    page.lead = html! {
        (run::description(entry))
        (parts::labels(entry))
        (parts::alerts(entry, &damage, now))
        (parts::tiles(&tiles(entry, &results)))
    };
    page.add("ranking", "Ranking", ranking(&results));
    page.add("curves", "Curves of all points", run::curves(&charts));
    let title = "The best run";
    match (best, scores) {
        (Some(best), Some((Some(markup), _))) => page.add("evaluation", title, html! {
            p { "Of the best setting the point that scored best: " code { (best.id()) } "." }
            (markup)
        }),
        _ => page.add("evaluation", title, html! {
            p.note { "No point has a score that counts, so there is no best one: no confusion matrix, no mistakes, no precision-recall curves." }
        }),
    }
    page.add("points", "All points", all_points(&results, points));
    page.add("spec", "Spec", spec(entry, &results));
    page.add("origin", "Where it comes from", origin(points));
    if let Some(troubles) = troubles(&results, points) {
        page.add("troubles", "Failures, restarts and warnings", troubles);
    }
    page.add(
        "repeat",
        "How to repeat it",
        repeat(entry, &results, points, best),
    );
    page
}

fn tiles(entry: &Entry, results: &Results) -> Vec<Tile> {
    let settings = results.settings();
    let mut tiles = Vec::new();
    if let Some(best) = settings.first().filter(|it| it.rank.is_some()) {
        let metric = match results.has_validation() {
            true => "best setting, validation images",
            false => "best setting, test images",
        };
        tiles.push(Tile {
            name: results.metric(),
            value: spread(&best.judged),
            text: metric.to_owned(),
        });
        if !best.tested.known().is_empty() && results.has_validation() {
            tiles.push(Tile {
                name: "accuracy",
                value: spread(&best.tested),
                text: "the same setting, test images".to_owned(),
            });
        }
        let label = results.label(best);
        if !label.is_empty() {
            tiles.push(Tile {
                name: "best setting",
                value: label,
                text: format!("of {}", count(settings.len(), "setting")),
            });
        }
    }
    let seeds = results.sweep.definition.seeds.len();
    tiles.push(Tile {
        name: "points",
        value: format!("{} of {} done", results.done(), results.sweep.points.len()),
        text: match seeds {
            1 => "a run of each setting".to_owned(),
            seeds => format!("{seeds} runs of each setting, with a seed each"),
        },
    });
    tiles.extend(value(entry, "duration").map(|value| Tile {
        name: "time",
        value,
        text: "of all points together".to_owned(),
    }));
    tiles
}

fn ranking(results: &Results) -> Markup {
    let rows = table::rows(results, SETTINGS);
    let more = results.settings().len().saturating_sub(SETTINGS);
    html! {
        p { "A sweep runs one experiment many times, with other values of a few fields: each run is a point, and points that differ in their seed alone are a setting. "
            (parts::marked(&results.judge()))
            @if results.sweep.definition.seeds.len() > 1 { " Scores are mean ± standard deviation over the seeds." }
        }
        p { (results.counts()) "." }
        (parts::rows(&rows))
        @if more > 0 { p.note { (more) " more settings are in results.md of the sweep's directory." } }
        @if let Some(figure) = settings::figure(results) { (figure) }
    }
}

/// A point among those of the sweep, which are in the order of their numbers.
fn of_point<'a>(points: &'a [Entry], point: &Point) -> Option<&'a Entry> {
    points.get(point.number.checked_sub(1)?)
}

/// The points that have begun in the order of their settings, each in the colour of its setting.
fn ranked<'a>(results: &Results, points: &'a [Entry]) -> Vec<Shown<'a>> {
    let settings = results.settings();
    let mut runs = Vec::new();
    for (index, setting) in settings.iter().enumerate() {
        let label = results.label(setting);
        for (point, _) in &setting.points {
            let entry = of_point(points, point);
            runs.extend(entry.filter(|it| it.run().is_some()).map(|entry| Shown {
                entry,
                name: if label.is_empty() {
                    format!("seed={}", point.seed)
                } else {
                    label.clone()
                },
                colour: Colour::of(if label.is_empty() { runs.len() } else { index }),
            }));
        }
    }
    runs
}

/// The point of the best setting that scored best.
fn best<'a>(results: &Results, points: &'a [Entry]) -> Option<&'a Entry> {
    let settings = results.settings();
    settings.first().filter(|it| it.rank.is_some())?;
    of_point(points, results.best_point()?)
}

fn all_points(results: &Results, points: &[Entry]) -> Markup {
    let mut rows = vec![
        [
            "point",
            "state",
            "seed",
            results.metric(),
            "test accuracy",
            "steps",
            "minutes",
            "restarts",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    let none = || "-".to_owned();
    let states = results.states();
    let all = results
        .sweep
        .points
        .iter()
        .zip(results.progress)
        .zip(states);
    let judge = results.judged();
    for ((point, progress), state) in all {
        let judged = judge(point, progress);
        let tested = judged.and_then(|(evaluation, _)| evaluation.accuracy);
        let restarts = of_point(points, point).and_then(|it| value(it, "restarts"));
        rows.push(vec![
            point.name.clone(),
            state,
            point.seed.to_string(),
            judged.map_or_else(none, |(_, score)| format!("{score:.3}")),
            tested.map_or_else(none, |tested| format!("{tested:.3}")),
            progress.done.to_string(),
            format!("{:.1}", progress.seconds / 60.0),
            restarts.unwrap_or_else(none),
        ]);
    }
    html! {
        details open[rows.len() <= 21] { summary { (count(rows.len() - 1, "point")) } (parts::rows(&rows)) }
    }
}

fn definition(results: &Results) -> String {
    let section = results.sweep.definition.to_value();
    serde_yaml::to_string(&section).unwrap_or_default()
}

fn spec(entry: &Entry, results: &Results) -> Markup {
    html! {
        h3 { "What the sweep tries" }
        pre { (definition(results)) }
        p { "All points have the rest in common:" }
        (parts::spec(entry))
    }
}

/// Sessions of points with the same command, code and machine are one.
fn origin(points: &[Entry]) -> Markup {
    let mut groups: Vec<(&Provenance, usize)> = Vec::new();
    let key = |it: &Provenance| {
        let git = it.git.as_ref().map(|git| (git.commit.clone(), git.dirty));
        let versions = (
            it.runboard.clone(),
            it.software.libtorch.clone(),
            it.software.device.clone(),
        );
        (it.command.clone(), git, versions, it.host.clone())
    };
    let sessions = map(points, |point| point.sessions().to_vec());
    for session in sessions.iter().flatten() {
        match groups.iter_mut().find(|(it, _)| key(it) == key(session)) {
            Some((first, count)) => {
                *count += 1;
                if session.started < first.started {
                    *first = session;
                }
            }
            None => groups.push((session, 1)),
        }
    }
    let data: BTreeMap<String, usize> = points.iter().filter_map(|it| value(it, "data")).fold(
        BTreeMap::new(),
        |mut counts, digits| {
            *counts.entry(digits).or_default() += 1;
            counts
        },
    );
    html! {
        @for (digits, points) in data {
            p { "Images of " (count(points, "point")) ": fingerprint " code { (digits) } ", the first digits of a hash of all of them." }
        }
        @if groups.is_empty() { p.note { "What it was started from was not recorded." } }
        @for (session, sessions) in groups {
            h3 { (count(sessions, "session")) " of points" @if sessions > 1 { ", the first of which:" } }
            (parts::session(session))
        }
    }
}

fn troubles(results: &Results, points: &[Entry]) -> Option<Markup> {
    let failures = results.failures();
    let troubled = map(points, parts::troubles);
    let troubled: Vec<(&Entry, Markup)> = points
        .iter()
        .zip(troubled)
        .filter_map(|(entry, troubles)| Some((entry, troubles?)))
        .collect();
    if failures.is_empty() && troubled.is_empty() {
        return None;
    }
    let more = troubled.len().saturating_sub(WARNED);
    Some(html! {
        @if !failures.is_empty() { ul { @for line in &failures { li { (parts::text(line)) } } } }
        @for (entry, troubles) in troubled.iter().take(WARNED) {
            details { summary { (entry.id()) } (troubles) }
        }
        @if more > 0 { p.note { (more) " more points had some; " code { "runboard show" } " tells them." } }
    })
}

fn repeat(entry: &Entry, results: &Results, points: &[Entry], best: Option<&Entry>) -> Markup {
    let first = points.iter().find_map(|point| point.sessions().first());
    let sweep = results.sweep.definition.to_value();
    html! {
        @match parts::repeat(entry, "again", first, Some(sweep)) {
            Some(commands) => { p { "The whole sweep, from this page alone, in bash:" } (parts::commands(&commands)) },
            None => p.note { "Without its spec it cannot be repeated from this page." },
        }
        @if let Some(best) = best {
            p { "Its best run alone:" }
            @if let Some(commands) = parts::repeat(best, "best", best.sessions().first(), None) { (parts::commands(&commands)) }
        }
    }
}
