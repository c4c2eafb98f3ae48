//! What a single field may hold, and how an error says so.

use super::DeviceName;
use super::names;
use serde_yaml::Value;
use std::fmt;

/// What a field may hold. Bounds belong to the range unless the variant says otherwise.
pub(super) enum Rule {
    /// True or false.
    Bool,
    /// Text without line breaks and control characters: it is printed in tables.
    Text,
    Directory,
    Device,
    /// The name of an experiment.
    Name,
    /// One of these or a list of them.
    Names,
    /// A version of the frozen spec, up to the newest.
    Version(u64),
    OneOf(&'static [&'static str]),
    /// As `OneOf`; true stands for the first, false for the last.
    Switch(&'static [&'static str]),
    /// A whole number.
    Int(u64, u64),
    /// An odd whole number.
    Odd(u64, u64),
    /// A multiple of the first number, in the range of the other two.
    MultipleOf(u64, u64, u64),
    Within(f64, f64),
    /// The lower bound itself is out.
    Above(f64, f64),
    /// The upper bound itself is out.
    Below(f64, f64),
    /// A list of what another rule allows, with the least and the largest number of them.
    List(&'static Rule, usize, usize),
}

/// Kinds of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    Whole,
    Real,
}

impl Rule {
    /// What numbers it allows; none if it allows no number.
    pub fn numbers(&self) -> Option<Numbers> {
        match self {
            Rule::Version(_) | Rule::Int(..) | Rule::Odd(..) | Rule::MultipleOf(..) => {
                Some(Numbers::Whole)
            }
            Rule::Within(..) | Rule::Above(..) | Rule::Below(..) => Some(Numbers::Real),
            Rule::Bool
            | Rule::Text
            | Rule::Directory
            | Rule::Device
            | Rule::Name
            | Rule::Names
            | Rule::OneOf(_)
            | Rule::Switch(_)
            | Rule::List(..) => None,
        }
    }

    /// Pass a scalar or a list that the rule allows, as it stands in a spec; else a message of what was found and what is
    /// wanted.
    pub fn check(&self, value: Value) -> Result<Value, String> {
        if let (Rule::Switch(choices), Value::Bool(on)) = (self, &value)
            && let Some(&choice) = if *on { choices.first() } else { choices.last() }
        {
            return Ok(choice.into());
        }
        let allowed = match &value {
            Value::Bool(_) => matches!(self, Rule::Bool),
            Value::String(text) => self.allows_text(text),
            Value::Number(number) => match number.as_u64() {
                Some(int) => self.allows_int(int) || self.allows_number(int as f64),
                None => number
                    .as_f64()
                    .is_some_and(|number| self.allows_number(number)),
            },
            Value::Sequence(items) => self.allows_list(items),
            _ => false,
        };
        if allowed {
            return Ok(value);
        }
        let found = describe(&value);
        let mut message = format!("got {found}, want {self}");
        if matches!(value, Value::Number(_) | Value::Bool(_)) && self.allows_text(&found) {
            message += &format!("; quote it: {found:?}");
        }
        if matches!((self, &value), (Rule::Directory, Value::Null)) {
            message += "; YAML takes a lone ~ for null: write ~/ for the home directory";
        }
        Err(message)
    }

    /// The rule of a list's items; none of a scalar.
    pub fn each(&self) -> Option<&'static Rule> {
        match *self {
            Rule::List(each, ..) => Some(each),
            Rule::Names => Some(&Rule::Name),
            _ => None,
        }
    }

    fn allows_list(&self, items: &[Value]) -> bool {
        match *self {
            Rule::List(each, least, most) => {
                let allowed = |item: &Value| each.check(item.clone()).is_ok();
                (least..=most).contains(&items.len()) && items.iter().all(allowed)
            }
            Rule::Names => {
                let is_name = |item: &Value| item.as_str().is_some_and(names::valid);
                !items.is_empty() && items.iter().all(is_name)
            }
            _ => false,
        }
    }

    fn allows_text(&self, text: &str) -> bool {
        match self {
            Rule::Text => !text.contains(char::is_control),
            Rule::Directory => !text.is_empty() && !text.contains(char::is_control),
            Rule::Device => text.parse::<DeviceName>().is_ok(),
            Rule::Name | Rule::Names => names::valid(text),
            Rule::OneOf(choices) | Rule::Switch(choices) => choices.contains(&text),
            _ => false,
        }
    }

    fn allows_int(&self, int: u64) -> bool {
        match *self {
            Rule::Version(newest) => 1 <= int && int <= newest,
            Rule::Int(low, high) => low <= int && int <= high,
            Rule::Odd(low, high) => low <= int && int <= high && int % 2 == 1,
            Rule::MultipleOf(factor, low, high) => {
                low <= int && int <= high && int.is_multiple_of(factor)
            }
            _ => false,
        }
    }

    /// False for NaN, as every comparison with it is.
    fn allows_number(&self, number: f64) -> bool {
        match *self {
            Rule::Within(low, high) => low <= number && number <= high,
            Rule::Above(low, high) => low < number && number <= high,
            // Some of these fields have 32 bits, in which it may be the bound.
            Rule::Below(low, high) => low <= number && (number as f32) < high as f32,
            _ => false,
        }
    }
}

/// A text for people, of which only the beginning is shown if it is endless, such as a description.
pub(crate) fn shortened(text: &str) -> String {
    const LONGEST: usize = 300;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// A scalar as an error message quotes it; long text is shortened.
pub(crate) fn describe(value: &Value) -> String {
    const LONGEST: usize = 60;
    match value {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.chars().count() > LONGEST => {
            format!("{:?}...", text.chars().take(LONGEST).collect::<String>())
        }
        Value::String(text) => format!("{text:?}"),
        Value::Sequence(items) => format!("a list of {}", items.len()),
        Value::Mapping(_) | Value::Tagged(_) => "a collection".into(),
    }
}

/// What follows "want".
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rule::Bool => write!(f, "true or false"),
            Rule::Text => write!(f, "one line of text"),
            Rule::Directory => write!(f, "the path of a directory"),
            Rule::Device => f.write_str(DeviceName::FORM),
            Rule::Name => write!(f, "the bare name of an experiment, such as baseline"),
            Rule::Names => write!(f, "{}, or a list of such names", Rule::Name),
            Rule::Version(newest) => write!(
                f,
                "a version from 1 to {newest} (a newer runboard reads later ones)"
            ),
            Rule::OneOf(choices) | Rule::Switch(choices) => write!(f, "{}", choices.join(" or ")),
            Rule::Int(low, high) => write!(f, "a whole number from {low} to {high}"),
            Rule::Odd(low, high) => write!(f, "an odd whole number from {low} to {high}"),
            Rule::MultipleOf(factor, low, high) => {
                write!(f, "a multiple of {factor} from {low} to {high}")
            }
            Rule::Within(low, high) => write!(f, "a number from {low} to {high}"),
            Rule::Above(low, high) => write!(f, "a number above {low}, at most {high}"),
            Rule::Below(low, high) => write!(f, "a number from {low} to below {high}"),
            Rule::List(each, least, most) if least == most => {
                write!(f, "a list of {least}, each {each}")
            }
            Rule::List(each, least, most) => {
                write!(f, "a list of {least} to {most}, each {each}")
            }
        }
    }
}
