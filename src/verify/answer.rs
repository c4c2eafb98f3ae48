//! The answer to a question.

use serde::Serialize;
use serde_json::Value;

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is as it should be.
    Passed,
    /// It is not, or could not be found out.
    Failed,
    /// There is nothing that it should be.
    Measured,
    /// It was not asked.
    LeftOut,
}

impl Outcome {
    /// For people.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Failed => "FAILED",
            Outcome::Measured => "measured",
            Outcome::LeftOut => "left out",
        }
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub outcome: Outcome,
    /// In a line.
    pub summary: String,
    /// For people; its first row is the head.
    pub table: Vec<Vec<String>>,
    /// For programs.
    pub values: Value,
}

impl Answer {
    pub fn new(outcome: Outcome, summary: impl Into<String>) -> Self {
        Answer {
            outcome,
            summary: summary.into(),
            table: Vec::new(),
            values: Value::Null,
        }
    }

    /// Whether something is as it should be.
    pub fn judged(passed: bool, summary: impl Into<String>) -> Self {
        match passed {
            true => Self::new(Outcome::Passed, summary),
            false => Self::new(Outcome::Failed, summary),
        }
    }

    pub fn failed(summary: impl Into<String>) -> Self {
        Self::new(Outcome::Failed, summary)
    }

    pub fn measured(summary: impl Into<String>) -> Self {
        Self::new(Outcome::Measured, summary)
    }

    pub fn left_out(why: impl Into<String>) -> Self {
        Self::new(Outcome::LeftOut, why)
    }

    pub fn with_table(self, head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Self {
        let head = head.iter().map(|&word| word.to_owned()).collect();
        Answer {
            table: [head].into_iter().chain(rows).collect(),
            ..self
        }
    }

    pub fn with_values(self, values: Value) -> Self {
        Answer { values, ..self }
    }
}
