//! The page of one run.

use chrono::{DateTime, Local};
use maud::{Markup, html};

use super::axis::grouped;
use super::parts::{self, Tile, value};
use super::{Page, curves, evaluation};
use crate::catalog::Entry;
use crate::hint::shell;
use crate::overview::RunSnapshot;

/// The page of a run, or of a point of a sweep.
pub fn page(entry: &Entry, now: DateTime<Local>) -> Page {
    let mut damage = entry.all_damage();
    let (read, of_curves) = curves::read(entry);
    let charts = curves::of_run(entry, &read);
    let (scores, of_scores) = evaluation::section_with(entry, &read);
    for line in of_curves.into_iter().chain(of_scores) {
        if !damage.contains(&line) {
            damage.push(line);
        }
    }
    let mut page = Page::new(entry.id(), entry.state());
    page.lead = html! {
        (description(entry))
        (parts::labels(entry))
        (parts::alerts(entry, &damage, now))
        (parts::tiles(&tiles(entry)))
        @if let Some(early) = early_stop(entry) { p { "Training ended before its last step: " (early) "." } }
    };
    page.add("curves", "Curves", curves(&charts));
    page.add(
        "evaluation",
        "Evaluation",
        scores.unwrap_or_else(|| not_evaluated(entry)),
    );
    page.add("spec", "Spec", parts::spec(entry));
    page.add("origin", "Where it comes from", origin(entry));
    if let Some(troubles) = parts::troubles(entry) {
        page.add("troubles", "Restarts and warnings", troubles);
    }
    page.add("repeat", "How to repeat it", repeat(entry));
    page
}

/// What the experiment is for, in its own words.
pub fn description(entry: &Entry) -> Markup {
    let description = entry
        .spec()
        .and_then(|spec| spec.get("description")?.as_str());
    html! { @if let Some(text) = description.filter(|text| !text.is_empty()) { p.lead { (text) } } }
}

/// Charts, or that there are none.
pub fn curves(charts: &[Markup]) -> Markup {
    html! {
        @if charts.is_empty() { p.note { "There are no curves yet." } }
        @if !charts.is_empty() { p { "To the right: steps of training. Dots: every value of a curve that has few." } }
        div.charts { @for chart in charts { (chart) } }
    }
}

fn early_stop(entry: &Entry) -> Option<String> {
    let train = entry.statuses().train.as_ref()?;
    Some(train.stopped_early.as_ref()?.to_string())
}

/// The numbers that are asked for first.
fn tiles(entry: &Entry) -> Vec<Tile> {
    let mut tiles = Vec::new();
    let mut add = |name, column: &str, text: Option<String>| {
        tiles.extend(value(entry, column).map(|value| Tile {
            name,
            value: value.replace('/', " of "),
            text: text.unwrap_or_default(),
        }));
    };
    let best =
        value(entry, "best_step").map(|step| format!("test images, best checkpoint, step {step}"));
    add("accuracy", "accuracy", best);
    add(
        "validation accuracy",
        "validation_accuracy",
        Some("of the same checkpoint".to_owned()),
    );
    add(
        "accuracy, several views",
        "tta_accuracy",
        Some("test images, the highest".to_owned()),
    );
    add(
        "training loss",
        "training_loss",
        Some("mean of the last steps".to_owned()),
    );
    let batch = entry
        .spec()
        .and_then(|spec| spec.get("train")?.get("batch_size")?.as_u64());
    add(
        "steps",
        "steps",
        batch.map(|batch| format!("of {batch} images each")),
    );
    let started = entry
        .created()
        .map(|time| time.format("from %Y-%m-%d %H:%M").to_string());
    add("time", "duration", started);
    add("device", "device", None);
    let train = entry.statuses().train.as_ref();
    let speed = train.and_then(|train| train.examples_per_sec);
    tiles.extend(speed.map(|speed| Tile {
        name: "speed",
        value: grouped(speed),
        text: "training images a second".to_owned(),
    }));
    tiles
}

fn not_evaluated(entry: &Entry) -> Markup {
    let waiting = entry.unscored().unwrap_or(0);
    html! {
        p.note {
            "No checkpoint was evaluated"
            @if entry.is_under_way() { " yet" }
            ", so there are no accuracies, no confusion matrix, no mistakes and no precision-recall curves."
        }
        @if let Some(run) = entry.run().filter(|_| waiting > 0) {
            p { "Checkpoints that are saved and wait for it: " (waiting) ". To score them:" }
            (parts::commands(&RunSnapshot::read(run).commands.score))
        }
    }
}

fn origin(entry: &Entry) -> Markup {
    html! {
        @if let Some(digits) = value(entry, "data") {
            p { "Images: fingerprint " code { (digits) } ", the first digits of a hash of all of them; runs with the same were trained and scored on the same images." }
        }
        (parts::sessions(entry.sessions()))
    }
}

/// How to repeat a run from this page alone, and how where its directory is.
pub fn repeat(entry: &Entry) -> Markup {
    let first = entry.sessions().first();
    let was_changed = entry
        .sessions()
        .iter()
        .any(|session| !session.changes.is_empty());
    html! {
        @match parts::repeat(entry, "again", first, None) {
            Some(commands) => {
                p { "From this page alone, in bash:" }
                (parts::commands(&commands))
                @if entry.run().is_some() {
                    p { "Where the run is still there, with a word on whether the same bytes came:" }
                    (parts::commands(&shell(&["runboard", "rerun", entry.id()])))
                }
                @if was_changed { p.note { "It was resumed with changes, which are told above: these commands begin with the values that it had at the end." } }
            },
            None => p.note { "Without its spec it cannot be repeated from this page." },
        }
    }
}
