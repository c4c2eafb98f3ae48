//! The page of several runs.

use chrono::{DateTime, Local};
use maud::{Markup, html};

use super::chart::{COLOURS, Colour};
use super::curves::{self, Shown};
use super::{Page, evaluation, parts, run};
use crate::catalog::{Entry, Table, Value, map};
use crate::overview::count;

/// Runs that are told of in full below the charts.
const TOLD: usize = 50;

/// The page of these runs; `comparison` has a row for each. Of a sweep that cannot be read they are the points that are there.
pub fn page(
    whole: Option<&Entry>,
    entries: &[Entry],
    comparison: &Table,
    now: DateTime<Local>,
) -> Page {
    let scores = map(entries, accuracy);
    let shown = |(place, index): (usize, usize)| Shown {
        entry: &entries[index],
        name: entries[index].id().to_owned(),
        colour: Colour::of(place),
    };
    let runs: Vec<Shown> = order(&scores).into_iter().enumerate().map(shown).collect();
    let (charts, of_curves) = curves::of_several(&runs);
    let damaged = map(entries, Entry::all_damage);
    let mut damage = whole.map(Entry::all_damage).unwrap_or_default();
    damage.extend(damaged.into_iter().flatten());
    damage.extend(of_curves);
    let scored = entries
        .iter()
        .zip(&scores)
        .filter_map(|(entry, score)| Some((entry, (*score)?)));
    let best = scored
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(entry, _)| entry);

    let mut page = match whole {
        Some(sweep) => Page::new(sweep.id(), sweep.state()),
        None => Page::new(&count(entries.len(), "run"), None),
    };
    let at_work = entries.iter().filter(|entry| entry.is_under_way()).count();
    page.lead = html! {
        @if at_work > 0 {
            div.alert.work role="note" { b { "At work: " (at_work) " of them. " } "This page shows them as they were at " (parts::time(&now)) "." }
        }
        (parts::damaged(&damage))
    };
    page.add("comparison", "Comparison", html! {
        p { "The scores of each run and the fields of the spec in which they differ. Accuracy is that of the best checkpoint on the test images." }
        (parts::table(comparison))
    });
    page.add("curves", "Curves", html! {
        @if entries.len() > COLOURS { p { "The " (COLOURS) " runs with the best accuracy have colours." } }
        (run::curves(&charts))
    });
    if let Some(best) = best {
        let (markup, _) = evaluation::section(best);
        page.add(
            "evaluation",
            "The best run",
            html! {
                p { "The highest accuracy of these runs is that of " code { (best.id()) } "." }
                @if let Some(markup) = markup { (markup) }
            },
        );
    }
    page.add("runs", "Each run", each(entries));
    page
}

fn accuracy(entry: &Entry) -> Option<f64> {
    let key = crate::catalog::Key::find("accuracy").ok()?;
    key.value(entry).as_ref().and_then(Value::number)
}

/// The numbers of the runs with these scores: as they were given while there is a colour for each, else those that score best
/// first.
fn order(scores: &[Option<f64>]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    if scores.len() > COLOURS {
        let score = |index: &usize| scores[*index].unwrap_or(f64::NEG_INFINITY);
        order.sort_by(|a, b| score(b).total_cmp(&score(a)));
    }
    order
}

fn each(entries: &[Entry]) -> Markup {
    let more = entries.len().saturating_sub(TOLD);
    html! {
        @for entry in entries.iter().take(TOLD) {
            details {
                summary { (entry.id()) @if let Some(state) = entry.state() { " " small { (state) } } }
                (run::description(entry))
                (parts::labels(entry))
                @if let Some(error) = entry.error() { div.bad { (parts::text(&error)) } }
                (parts::spec(entry))
                h3 { "Where it comes from" }
                (parts::sessions(entry.sessions()))
                @if let Some(troubles) = parts::troubles(entry) { h3 { "Restarts and warnings" } (troubles) }
                h3 { "How to repeat it" }
                (run::repeat(entry))
            }
        }
        @if more > 0 { p.note { (more) " more runs are told of in the table alone; a report of fewer runs tells all of each." } }
    }
}
