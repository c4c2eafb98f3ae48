//! Something that was looked at, how it is, and what to do about it.

use serde::Serialize;
use serde_json::Value;
use std::fmt;

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Good,
    /// Not as it should be; runs work all the same.
    Note,
    /// So that runs do not work.
    Fails,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            State::Good => "good",
            State::Note => "note",
            State::Fails => "FAILS",
        })
    }
}

/// Something that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub name: String,
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do; none if it is good.
    pub advice: Option<String>,
    /// The same in numbers, by names of the finding's own.
    pub values: Value,
}

impl Finding {
    /// One that is good.
    pub fn good(name: impl Into<String>, found: impl Into<String>) -> Self {
        Finding {
            name: name.into(),
            state: State::Good,
            found: found.into(),
            advice: None,
            values: Value::Null,
        }
    }

    /// With numbers, or names.
    pub fn with(mut self, values: Value) -> Self {
        self.values = values;
        self
    }

    /// The same, if `bad` not as it should be, with what to do.
    pub fn note_if(self, bad: bool, advice: impl Into<String>) -> Self {
        self.unless(bad, State::Note, advice)
    }

    /// The same, if `bad` so that runs do not work, with what to do.
    pub fn fails_if(self, bad: bool, advice: impl Into<String>) -> Self {
        self.unless(bad, State::Fails, advice)
    }

    /// What is worse already stays.
    fn unless(mut self, bad: bool, state: State, advice: impl Into<String>) -> Self {
        if bad && self.state == State::Good {
            self.state = state;
            self.advice = Some(advice.into());
        }
        self
    }
}
