//! What the Text tab says of a run, in Markdown.

use anyhow::Result;
use runboard::spec::Spec;
use serde_json::Value;

/// What differs from the defaults, and then the whole spec.
///
/// # Errors
/// As [`Spec::to_yaml`].
pub(super) fn spec(spec: &Spec) -> Result<String> {
    let differences = spec.differences()?;
    let rows = differences
        .iter()
        .filter(|difference| difference.field != "description")
        .map(|difference| {
            let [default, value] = difference.as_yaml();
            [difference.field.clone(), value, default]
        });
    let table = match table(["field", "value", "default"], rows) {
        Some(table) => format!("What differs from the defaults:\n\n{table}"),
        None => "Nothing differs from the defaults.\n".to_owned(),
    };
    let yaml = spec.to_yaml()?;
    Ok(format!(
        "{table}\nThe whole spec:\n\n```yaml\n{}\n```",
        yaml.trim_end()
    ))
}

/// The last session, and those right before it that began at `step` or later, as sections with a row for each field,
/// whatever fields their records have. The text is that of a run's provenance, which in its first version was that of one
/// session; none for a text that is no provenance.
pub(super) fn sessions_from(step: u64, provenance: &str) -> Option<String> {
    let record: Value = serde_json::from_str(provenance).ok()?;
    let sessions = match record.get("sessions") {
        Some(sessions) => sessions.as_array()?.as_slice(),
        None => std::slice::from_ref(&record),
    };
    let last = sessions.len().checked_sub(1)?;
    let begins_here = |session: &Value| {
        let first = session.get("first_step").and_then(Value::as_u64);
        first.is_some_and(|first| first >= step)
    };
    let before = sessions[..last].iter().rev();
    let first = last - before.take_while(|session| begins_here(session)).count();
    let sections: Option<Vec<String>> = sessions[first..]
        .iter()
        .zip(first + 1..)
        .map(|(session, number)| section(number, session))
        .collect();
    Some(sections?.join("\n"))
}

/// A session's section.
fn section(number: usize, session: &Value) -> Option<String> {
    let mut rows = Vec::new();
    for (name, value) in session.as_object()? {
        match value.as_array().filter(|_| name == "changes") {
            Some(changes) => rows.extend(changed(changes)),
            None => add_rows(name, value, &mut rows),
        }
    }
    let table = table(["", "value"], rows).unwrap_or_default();
    Some(format!("### Session {number}\n\n{table}"))
}

/// A row for each change of the spec, `train.steps: 90 -> 40`. Where one field takes another's place,
/// `train.steps: 90 -> train.epochs 3`.
fn changed(changes: &[Value]) -> Vec<[String; 2]> {
    let field = |change: &Value| change["field"].as_str().unwrap_or_default().to_owned();
    let shown = |value: &Value| match value {
        Value::Null => "not set".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut rows = Vec::new();
    let mut changes = changes.iter().peekable();
    while let Some(change) = changes.next() {
        let follows = |next: &&Value| change["to"].is_null() && next["from"].is_null();
        let to = match changes.next_if(follows) {
            Some(next) => format!("{} {}", field(next), shown(&next["to"])),
            None => shown(&change["to"]),
        };
        let text = format!("{}: {} -> {to}", field(change), shown(&change["from"]));
        rows.push(["changes".to_owned(), text]);
    }
    rows
}

/// A value's rows: one, or one for each of its parts.
fn add_rows(name: &str, value: &Value, rows: &mut Vec<[String; 2]>) {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                add_rows(&format!("{name}.{key}"), value, rows);
            }
        }
        Value::Array(parts) if parts.iter().any(Value::is_object) => {
            for (part, number) in parts.iter().zip(1..) {
                add_rows(&format!("{name} {number}"), part, rows);
            }
        }
        Value::Array(words) => {
            let words: Vec<String> = words.iter().map(text).collect();
            rows.push([name.to_owned(), words.join(" ")]);
        }
        value => rows.push([name.to_owned(), text(value)]),
    }
}

/// A table with these columns; none without rows.
fn table<const N: usize>(
    columns: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> Option<String> {
    let rows: Vec<String> = rows
        .into_iter()
        .map(|cells| format!("| {} |\n", cells.map(|cell| code(&cell)).join(" | ")))
        .collect();
    let head = format!("| {} |\n|{}\n", columns.join(" | "), "---|".repeat(N));
    (!rows.is_empty()).then(|| head + &rows.concat())
}

/// A cell of a table in which no character means anything in Markdown.
fn code(text: &str) -> String {
    let text = text.replace('`', "'").replace('|', "\\|");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.as_str() {
        "" => String::new(),
        text => format!("`{text}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spec_begins_with_what_differs_and_is_whole() {
        let mut of = Spec::default();
        let default = spec(&of).unwrap();
        assert!(
            default
                .starts_with("Nothing differs from the defaults.\n\nThe whole spec:\n\n```yaml\n")
        );
        of.description = "words".into();
        of.network.conv1.stddev = 0.05;
        let text = spec(&of).unwrap();
        let begin = "What differs from the defaults:\n\n| field | value | default |\n|---|---|---|\n\
                     | `network.conv1.stddev` | `0.05` | `0.0001` |\n\nThe whole spec:\n\n```yaml\n";
        assert!(text.starts_with(begin), "{text}");
        let yaml = text[begin.len()..].strip_suffix("\n```").unwrap();
        assert_eq!(yaml, of.to_yaml().unwrap().trim_end());
    }

    #[test]
    fn session_is_a_section_with_a_row_for_each_of_its_fields() {
        let provenance = r#"{"version": 2, "sessions": [{"cpu": "old"}, {
            "command": ["runboard", "resume", "a|b"], "git": {"commit": "c0ffee", "dirty": true}, "cores": 2,
            "changes": [{"field": "train.steps", "from": 90, "to": null}, {"field": "train.epochs", "from": null, "to": 3},
            {"field": "eval.threads", "from": 0, "to": 1}]}]}"#;
        let want = "### Session 2\n\n|  | value |\n|---|---|\n\
                    | `changes` | `train.steps: 90 -> train.epochs 3` |\n\
                    | `changes` | `eval.threads: 0 -> 1` |\n\
                    | `command` | `runboard resume a\\|b` |\n| `cores` | `2` |\n\
                    | `git.commit` | `c0ffee` |\n| `git.dirty` | `true` |\n";
        assert_eq!(sessions_from(0, provenance).unwrap(), want);
        let first = sessions_from(0, r#"{"cpu": "old"}"#).unwrap();
        assert_eq!(
            first,
            "### Session 1\n\n|  | value |\n|---|---|\n| `cpu` | `old` |\n"
        );
        for bad in ["", "[]", r#"{"sessions": []}"#, r#"{"sessions": 1}"#] {
            assert_eq!(sessions_from(0, bad), None, "{bad}");
        }
    }

    #[test]
    fn sessions_that_trained_nothing_are_shown_with_the_next_one() {
        let provenance = r#"{"version": 3, "sessions": [{"first_step": 0}, {"first_step": 90}, {"first_step": 90}]}"#;
        let numbers = |step| {
            let text = sessions_from(step, provenance).unwrap();
            let titles = text
                .lines()
                .filter_map(|line| line.strip_prefix("### Session "));
            titles.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(numbers(90), ["2", "3"]);
        assert_eq!(numbers(91), ["3"]);
    }
}
