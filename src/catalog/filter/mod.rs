//! Which runs are meant: `optimizer.learning_rate<0.1 and accuracy>0.7`.
//!
//! ```text
//! expression = term { "or" term }
//! term       = factor { "and" factor }
//! factor     = "not" factor | "(" expression ")" | name comparison value
//! comparison = "=" | "!=" | "<" | "<=" | ">" | ">=" | "~" | "!~"
//! ```
//!
//! A name is a column or a field of a spec; a value a word, or a text in quotes, of the kind that the name has: a number, a
//! size (`500MB`), a duration (`1h30m`, `30d`), a date (`2026-11-20`, `2026-11-20T08:00`), `true` or `false`. `~` compares with a
//! pattern of `*` and `?`. `none` is what a run has no value of: every other comparison with it is false. Of a field with a choice `none` it is that.

mod parse;
mod units;

use std::fmt;

use anyhow::Result;
use chrono::Local;

use super::column::Kind;
use super::{Entry, Key, Value, entry};
use crate::spec::glob;
use crate::{bail_user, user_error};

use units::{seconds, time};

/// An expression that is true of some runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    expression: Expression,
}

#[derive(Clone, Debug, PartialEq)]
enum Expression {
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Not(Box<Expression>),
    Compare(Key, Comparison, Literal),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    AtMost,
    More,
    AtLeast,
    Like,
    NotLike,
}

/// What a value is compared with.
#[derive(Clone, Debug, PartialEq)]
enum Literal {
    None,
    Number(f64),
    Flag(bool),
    Text(String),
}

/// A duration as people write it, in seconds, the argument of `option`.
///
/// # Errors
/// A user error for what is none.
pub fn age(option: &str, text: &str) -> Result<f64> {
    let has_unit = text.ends_with(|last: char| last.is_alphabetic());
    seconds(text).filter(|_| has_unit).ok_or_else(|| {
        user_error!("{option}: got '{text}', want a duration such as 30d, 12h or 1h30m")
    })
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Comparison::Equal => "=",
            Comparison::NotEqual => "!=",
            Comparison::Less => "<",
            Comparison::AtMost => "<=",
            Comparison::More => ">",
            Comparison::AtLeast => ">=",
            Comparison::Like => "~",
            Comparison::NotLike => "!~",
        })
    }
}

impl Filter {
    /// Reads an expression, the argument of `option`.
    ///
    /// # Errors
    /// A user error that marks the place of what is wrong.
    pub fn parse(option: &str, text: &str) -> Result<Self> {
        let expression = parse::parse(option, text)?;
        Ok(Filter { expression })
    }

    /// All of these.
    pub fn all(filters: Vec<Filter>) -> Self {
        let parts = filters.into_iter().map(|filter| filter.expression);
        Filter {
            expression: Expression::All(parts.collect()),
        }
    }

    /// Runs in one of these states, the arguments of `option`; all if there is none.
    ///
    /// # Errors
    /// A user error for one that is no state.
    pub fn states(option: &str, states: &[String]) -> Result<Self> {
        let named = |state: &String| {
            entry::state_named(state).map_err(|problem| user_error!("{option}: {problem}"))
        };
        let states: Result<Vec<String>> = states.iter().map(named).collect();
        Self::one_of("state", Comparison::Equal, states?)
    }

    /// Runs of experiments with a name that one of these patterns matches; all if there is none.
    ///
    /// # Errors
    /// None.
    pub fn names(patterns: &[String]) -> Result<Self> {
        Self::one_of("name", Comparison::Like, patterns.to_vec())
    }

    /// Runs with all of these tags.
    ///
    /// # Errors
    /// None.
    pub fn tags(tags: &[String]) -> Result<Self> {
        let with = |tag: &String| Self::one_of("tags", Comparison::Equal, vec![tag.clone()]);
        Ok(Self::all(tags.iter().map(with).collect::<Result<_>>()?))
    }

    /// Runs that were made since then, the argument of `option`: so long ago, or at a time.
    ///
    /// # Errors
    /// A user error for what is neither.
    pub fn since(option: &str, text: &str) -> Result<Self> {
        let ago = seconds(text).map(|seconds| Local::now().timestamp() as f64 - seconds);
        let Some(time) = time(text).or(ago) else {
            bail_user!(
                "{option}: got '{text}', want how long ago, such as 2h or 7d, or a time such as 2026-11-20 or 2026-11-20T08:00"
            );
        };
        let key = key("created")?;
        Ok(Filter {
            expression: Expression::Compare(key, Comparison::AtLeast, Literal::Number(time)),
        })
    }

    /// Runs whose value of a column compares with one of these texts; all if there is none.
    fn one_of(name: &str, comparison: Comparison, texts: Vec<String>) -> Result<Self> {
        let key = key(name)?;
        let parts = texts.into_iter();
        let parts: Vec<Expression> = parts
            .map(|text| Expression::Compare(key, comparison, Literal::Text(text)))
            .collect();
        Ok(Filter {
            expression: match parts.is_empty() {
                true => Expression::All(parts),
                false => Expression::Any(parts),
            },
        })
    }

    /// Whether it is true of a run.
    pub fn matches(&self, entry: &Entry) -> bool {
        self.expression.is_true(&|key| key.value(entry))
    }
}

fn key(name: &str) -> Result<Key> {
    Key::find(name).map_err(|problem| user_error!("{name}: {problem}"))
}

impl Expression {
    fn is_true(&self, value: &impl Fn(Key) -> Option<Value>) -> bool {
        match self {
            Expression::All(parts) => parts.iter().all(|part| part.is_true(value)),
            Expression::Any(parts) => parts.iter().any(|part| part.is_true(value)),
            Expression::Not(inner) => !inner.is_true(value),
            Expression::Compare(key, comparison, literal) => {
                compare(value(*key).as_ref(), *comparison, literal)
            }
        }
    }
}

fn compare(value: Option<&Value>, comparison: Comparison, literal: &Literal) -> bool {
    let Some(value) = value else {
        return match (comparison, literal) {
            (Comparison::Equal, literal) => *literal == Literal::None,
            _ => false,
        };
    };
    match literal {
        Literal::None => comparison == Comparison::NotEqual,
        Literal::Number(number) => value.number().is_some_and(|it| match comparison {
            Comparison::Equal => it == *number,
            Comparison::NotEqual => it != *number,
            Comparison::Less => it < *number,
            Comparison::AtMost => it <= *number,
            Comparison::More => it > *number,
            Comparison::AtLeast => it >= *number,
            Comparison::Like | Comparison::NotLike => false,
        }),
        Literal::Flag(flag) => match comparison {
            Comparison::NotEqual => *value != Value::Flag(*flag),
            _ => *value == Value::Flag(*flag),
        },
        Literal::Text(text) => {
            let words = words(value);
            match comparison {
                Comparison::Equal => words.iter().any(|word| word == text),
                Comparison::NotEqual => !words.iter().any(|word| word == text),
                Comparison::Like => words.iter().any(|word| glob(text, word)),
                Comparison::NotLike => !words.iter().any(|word| glob(text, word)),
                Comparison::Less => words.iter().any(|word| word < text),
                Comparison::AtMost => words.iter().any(|word| word <= text),
                Comparison::More => words.iter().any(|word| word > text),
                Comparison::AtLeast => words.iter().any(|word| word >= text),
            }
        }
    }
}

/// The texts of a value, each of which counts.
fn words(value: &Value) -> Vec<String> {
    match value {
        Value::List(items) => items.clone(),
        Value::Fields(fields) => {
            let fields = fields.iter();
            let texts = fields
                .map(|(field, value)| [field.clone(), format!("{field}={}", super::plain(value))]);
            texts.flatten().collect()
        }
        other => vec![other.plain()],
    }
}

/// What can be compared so, of this kind.
fn allows(kind: Kind, comparison: Comparison) -> bool {
    use Comparison::{Equal, Like, NotEqual, NotLike};
    match kind {
        Kind::Number | Kind::Bytes | Kind::Duration | Kind::Time => {
            comparison != Like && comparison != NotLike
        }
        Kind::Flag => [Equal, NotEqual].contains(&comparison),
        Kind::List | Kind::Fields => [Equal, NotEqual, Like, NotLike].contains(&comparison),
        Kind::Text => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_user_error;

    fn value(key: Key) -> Option<Value> {
        Some(match key.name() {
            "accuracy" => Value::Accuracy(0.7),
            "steps" => Value::Steps {
                done: 500,
                all: 900,
            },
            "duration" => Value::Duration(5400.0),
            "size" => Value::Bytes(34_000_000),
            "state" => Value::Text("stopped early".into()),
            "name" => Value::Text("lr-small".into()),
            "tags" => Value::List(vec!["best".into(), "v2".into()]),
            "optimizer.learning_rate" => Value::Number(0.05),
            "optimizer.nesterov" => Value::Flag(true),
            "optimizer.name" => Value::Text("sgd".into()),
            "eval.tta" => Value::Text("none".into()),
            _ => return None,
        })
    }

    fn is_true(text: &str) -> bool {
        let filter = Filter::parse("--where", text).unwrap_or_else(|error| panic!("{error:#}"));
        filter.expression.is_true(&value)
    }

    #[test]
    fn filter_compares_every_kind_of_value() {
        for text in [
            "accuracy>0.69",
            "accuracy >= 0.7 and accuracy <= 70e-2",
            "steps=500",
            "steps == 500",
            "duration>1h",
            "duration = 1h30m",
            "duration=5400",
            "duration != 80min or size=1",
            "size<34.5MB",
            "size>=34000000",
            "size > 30 MiB",
            "state='stopped early'",
            "state=\"stopped early\"",
            "state = stopped-early",
            "name~lr-*",
            "name !~ *-large",
            "tags=best",
            "tags~v*",
            "tags != worst",
            "optimizer.learning_rate<0.1",
            "learning_rate = 0.05",
            "optimizer.nesterov=true",
            "optimizer.nesterov != false",
            "optimizer.name=sgd",
            "loss=none",
            "accuracy != none",
            "eval.tta = none",
            "eval.tta != mirror",
            "NOT accuracy<0.5",
            "not (accuracy<0.5 or steps<100) and not loss<1",
            "accuracy<0.5 or steps>100 and tags=best",
        ] {
            assert!(is_true(text), "{text}");
        }
        for text in [
            "accuracy>0.7",
            "loss<1",
            "loss!=1", // of what is not there nothing is known
            "loss!=none",
            "eval.tta!=none", // which is a choice of this field
            "tags=worst",
            "tags!=best",
            "(accuracy<0.5 or steps>100) and tags=worst",
            "not accuracy>0.5",
            "optimizer.nesterov=false",
        ] {
            assert!(!is_true(text), "{text}");
        }
    }

    #[test]
    fn filter_names_the_place_of_a_mistake() {
        for (text, want) in [
            (
                "acuracy>0.7",
                "--where: acuracy: unknown name, want a column or a field of a spec; did you mean 'accuracy'?\n  \
                 acuracy>0.7\n  ^^^^^^^",
            ),
            (
                "steps>1 and optimizer.learning_rat < 1",
                "--where: optimizer.learning_rat: unknown name, want a column or a field of a spec; did you mean \
                 'optimizer.learning_rate'?\n  steps>1 and optimizer.learning_rat < 1\n              ^^^^^^^^^^^^^^^^^^^^^^",
            ),
            (
                "dataset=1",
                "--where: dataset: unknown name, want a column or a field of a spec; did you mean 'data.source' or \
                 'data.folder'?\n  dataset=1\n  ^^^^^^^",
            ),
            (
                "kernel=3",
                "--where: kernel: several fields end so, want one of network.conv1.kernel, network.conv2.kernel\n  \
                 kernel=3\n  ^^^^^^",
            ),
            (
                "accuracy>good",
                "--where: got 'good', want a number, as accuracy is one\n  accuracy>good\n           ^^^^",
            ),
            (
                "size>5parsecs",
                "--where: got '5parsecs', want a size such as 500MB, as size is one\n  size>5parsecs\n       ^^^^^^^^",
            ),
            (
                "age<yesterday",
                "--where: got 'yesterday', want a duration such as 30d, 1h30m or 20s, as age is one\n  \
                 age<yesterday\n      ^^^^^^^^^",
            ),
            (
                "created>soon",
                "--where: got 'soon', want a time such as 2026-11-20 or 2026-11-20T08:00, as created is one\n  \
                 created>soon\n          ^^^^",
            ),
            (
                "nesterov=1",
                "--where: got '1', want true or false, as optimizer.nesterov is one\n  nesterov=1\n           ^",
            ),
            (
                "accuracy~0.*",
                "--where: got '~', want =, !=, <, <=, > or >=, as accuracy is a number\n  accuracy~0.*\n          ^",
            ),
            (
                "tags<a",
                "--where: got '<', want =, !=, ~ or !~, as tags holds words\n  tags<a\n      ^",
            ),
            (
                "state=finishd",
                "--where: got 'finishd', want a state, as of docs/terminal.md; did you mean 'finished'?\n  \
                 state=finishd\n        ^^^^^^^",
            ),
            (
                "accuracy",
                "--where: got the end, want a comparison, such as accuracy>0.7\n  accuracy\n          ^",
            ),
            (
                "accuracy>",
                "--where: got the end, want a value\n  accuracy>\n           ^",
            ),
            ("", "--where: got the end, want a name\n  \n  ^"),
            (
                "(steps>1",
                "--where: got the end, want ')', 'and' or 'or'\n  (steps>1\n          ^",
            ),
            (
                "steps>1)",
                "--where: got ')', want 'and', 'or' or the end\n  steps>1)\n         ^",
            ),
            (
                "steps>1, loss<2",
                "--where: got ',', want 'and', 'or' or the end\n  steps>1, loss<2\n         ^",
            ),
            (
                "state=stopped early",
                "--where: got 'early', want 'and', 'or' or the end; a text with a space in it is quoted: state='stopped early'\n  \
                 state=stopped early\n                ^^^^^",
            ),
            (
                "steps>1 && loss<2",
                "--where: got '&&', want 'and'\n  steps>1 && loss<2\n          ^^",
            ),
            (
                "name='größe' and x=1",
                "--where: x: unknown name, want a column or a field of a spec\n  name='größe' and x=1\n                   ^",
            ),
            (
                "name='a",
                "--where: got a text that does not end, want ' at its end\n  name='a\n       ^^",
            ),
        ] {
            let error = Filter::parse("--where", text).unwrap_err();
            assert!(is_user_error(&error));
            assert_eq!(error.to_string(), want, "{text}");
        }
        let deep = "(".repeat(100_000);
        let error = Filter::parse("--where", &deep).unwrap_err().to_string();
        assert!(
            error.starts_with("--where: got '(', want at most 50 within each other"),
            "{error}"
        );
    }
}
