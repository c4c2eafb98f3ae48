//! The reference of a spec's fields for people: `runboard fields` and docs/spec.md.

use super::fields::{self, Field};
use super::sweep_reference::Entry;
use super::synonyms::meant_by;
use super::{Spec, names, sweep_reference};
use crate::bail_user;
use crate::hint::runboard;
use anyhow::{Context, Result};
use serde_yaml::Value;

/// Columns of a terminal.
const WIDTH: usize = 80;

/// The default of every field, in the tree of a spec.
///
/// # Errors
/// None that a test does not show.
pub(super) fn defaults() -> Result<Value> {
    // By way of the text: a value tree would hold an f32's 0.2 as 0.20000000298023224.
    serde_yaml::from_str(&Spec::default().to_yaml()?).context("failed to read the default spec")
}

/// Default, range and meaning of the fields that match `pattern`, as text of 80 columns: those whose path holds it,
/// or, if it has a `*` or a `?`, those whose whole path it matches. Where that is none, those that other programs call so, or else
/// those whose meaning or range holds it. All fields without a pattern.
///
/// # Errors
/// A user error if no field matches; it names those with a similar path.
pub fn list(pattern: Option<&str>) -> Result<String> {
    let all = fields::all().iter();
    let is_found = |path: &str| pattern.is_none_or(|pattern| matches(pattern, path));
    let mut found: Vec<&Field> = all.clone().filter(|field| is_found(field.path)).collect();
    let sweep = sweep_reference::ENTRIES.iter();
    let sweep: Vec<&Entry> = sweep.filter(|it| is_found(&it.path())).collect();
    if found.is_empty() && sweep.is_empty() {
        let meant = meant_by(pattern.unwrap_or_default());
        found = all.clone().filter(|it| meant.contains(&it.path)).collect();
    }
    if found.is_empty() && sweep.is_empty() {
        let pattern = pattern.unwrap_or_default().to_lowercase();
        let text = |field: &Field| format!("{} {}", field.meaning, field.rule).to_lowercase();
        found = all.filter(|field| text(field).contains(&pattern)).collect();
    }
    if let (true, Some(pattern)) = (found.is_empty() && sweep.is_empty(), pattern) {
        let similar = similar(pattern);
        let hint = match similar.is_empty() {
            true => String::new(),
            false => format!("did you mean {}? ", similar.join(" or ")),
        };
        let all = runboard(&["fields"]);
        bail_user!("no field matches '{pattern}'; {hint}`{all}` lists them all");
    }
    let defaults = defaults()?;
    let fields = found.iter().map(|field| {
        let default = fields::value(&defaults, field.path).map_or("none".to_owned(), fields::text);
        let allowed = field.rule.to_string();
        let text = entry(field.path, &default, &allowed, field.meaning);
        match field.changeable {
            true => text + "\n    resume --set may change it",
            false => text,
        }
    });
    let of_sweep = |it: &&Entry| entry(&it.path(), it.default, it.allowed, it.meaning);
    let entries: Vec<String> = fields.chain(sweep.iter().map(of_sweep)).collect();
    Ok(entries.join("\n\n"))
}

/// All fields as a page of Markdown: docs/spec.md.
///
/// # Errors
/// As [`defaults`].
pub fn markdown() -> Result<String> {
    let defaults = defaults()?;
    let mut page = String::from(
        "# Fields of a spec\n\n\
         Written by `make docs` from `src/spec/fields/table.rs`. `runboard fields PATTERN` prints the same.\n\n\
         A file in `experiments/` states only what differs from the defaults, which are the tutorial's; a dot in a \
         path is a level of its YAML. `--set PATH=VALUE` sets a field on the command line, also of `runboard resume` if \
         its meaning ends with *resume*: what was trained so far does not depend on it.\n",
    );
    for (section, about) in fields::sections() {
        let title = match *section {
            "" => "Top level".to_owned(),
            _ => format!("`{section}`"),
        };
        page += &format!("\n## {title}\n\n{about}\n");
        let inside = |field: &&Field| field.path.rsplit_once('.').map_or("", |it| it.0) == *section;
        let rows = fields::all().iter().filter(inside);
        let rows: Vec<String> = rows.map(|field| row(field, &defaults)).collect();
        if !rows.is_empty() {
            page += "\n| field | default | allowed | meaning |\n|---|---|---|---|\n";
            page += &rows.concat();
        }
    }
    page += &format!("\n## `sweep`\n\n{}\n\n", sweep_reference::ABOUT);
    page += "| entry | default | allowed | meaning |\n|---|---|---|---|\n";
    for entry in sweep_reference::ENTRIES {
        page += &format!(
            "| `{}` | {} | {} | {} |\n",
            entry.key, entry.default, entry.allowed, entry.meaning
        );
    }
    Ok(page)
}

fn row(field: &Field, defaults: &Value) -> String {
    let default = fields::value(defaults, field.path)
        .map_or(String::new(), |it| format!("`{}`", fields::text(it)));
    let meaning = field.meaning.replace('*', "\\*");
    let resume = if field.changeable { " *resume*" } else { "" };
    format!(
        "| `{}` | {default} | {} | {meaning}{resume} |\n",
        field.path, field.rule
    )
}

fn entry(path: &str, default: &str, allowed: &str, meaning: &str) -> String {
    let mut text = format!("{path}\n    default  {default}\n");
    text += &wrap("    allowed  ", &" ".repeat(13), allowed);
    text.push('\n');
    text += &wrap("    ", "    ", meaning);
    text
}

/// Break a text into lines of at most [`WIDTH`] columns; the first one begins with `first`, the others with `rest`.
fn wrap(first: &str, rest: &str, text: &str) -> String {
    let mut lines = Vec::new();
    let mut line = first.to_owned();
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(std::mem::replace(&mut line, rest.to_owned()));
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line += word;
        empty = false;
    }
    lines.push(line);
    lines.join("\n")
}

fn matches(pattern: &str, path: &str) -> bool {
    match pattern.contains(['*', '?']) {
        true => glob(pattern, path),
        false => path.contains(pattern),
    }
}

/// Whether a pattern matches a whole text: `*` stands for any characters, `?` for one.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    // Row by row of the pattern: which beginnings of the text its beginning matches.
    let mut reached: Vec<bool> = (0..=text.len()).map(|end| end == 0).collect();
    for &want in pattern {
        let before = reached.clone();
        for end in 0..=text.len() {
            reached[end] = match want {
                b'*' => before[end] || (end > 0 && reached[end - 1]),
                _ => end > 0 && before[end - 1] && (want == b'?' || want == text[end - 1]),
            };
        }
    }
    reached[text.len()]
}

/// The fields that other programs call so, or else up to three whose path, or its last key, is within a few typing errors of a word.
pub(super) fn similar(word: &str) -> Vec<&'static str> {
    let whole = names::nearest(word, fields::paths());
    let last = |path: &'static str| path.rsplit('.').next().unwrap_or(path);
    let key = names::nearest(word, fields::paths().map(last));
    let same_key = fields::paths().filter(|path| Some(last(path)) == key);
    let near = whole.into_iter().chain(same_key);
    match meant_by(word) {
        [] => near.take(3).collect(),
        meant => meant.to_vec(),
    }
}
