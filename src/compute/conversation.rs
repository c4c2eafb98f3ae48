//! The program, asked in one process what the machine has and then something that depends on it: it takes its time to start.

use super::environment;
use super::machine::Machine;
use super::program::Asked;
use crate::hint;
use crate::spec::Spec;
use anyhow::{Context, Result, bail};
use serde::de::{DeserializeOwned, IgnoredAny};
use std::ffi::OsString;

/// The program once it has said what the machine has, which waits for the rest of the question.
#[derive(Debug)]
pub(super) struct Conversation {
    words: Vec<OsString>,
    program: Asked,
    machine: Machine,
}

impl Conversation {
    /// Starts the program with these words, to which it answers first as to `machine`.
    ///
    /// # Errors
    /// As [`machine`](super::machine()).
    pub fn start(words: Vec<OsString>) -> Result<Self> {
        let (program, machine) = ask_machine(&words, &[])?;
        Ok(Conversation {
            words,
            program,
            machine,
        })
    }

    /// What it says of the machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// What it answers to `input`, in the environment of a process that computes what `spec` says.
    ///
    /// # Errors
    /// The program's.
    pub fn answer<A: DeserializeOwned>(self, spec: &Spec, input: &[u8]) -> Result<A> {
        let wanted = environment::missing(spec, &self.machine);
        let there: Vec<_> = environment::of_every_process().collect();
        let program = match wanted.iter().all(|variable| there.contains(variable)) {
            true => self.program,
            // What a GPU needs besides is read when the program begins.
            false => ask_machine(&self.words, &wanted)?.0,
        };
        program.answer(input)
    }
}

/// The program, begun with these words and variables, and what it says first.
fn ask_machine(
    words: &[OsString],
    variables: &[environment::Variable],
) -> Result<(Asked, Machine)> {
    let mut program = Asked::start(words, variables)?;
    let machine = program.first_line()?;
    if machine.is_empty() {
        program.answer::<IgnoredAny>(&[])?; // it has ended, and says why
        bail!(
            "runboard-compute {} ended without an answer",
            hint::shell(words)
        );
    }
    let machine = serde_json::from_slice(&machine);
    Ok((
        program,
        machine.context("failed to read what runboard-compute says of the machine")?,
    ))
}
