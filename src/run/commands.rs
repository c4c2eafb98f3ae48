//! What the user may type next about a run: commands that mean this very run, in the working directory.

use super::{ProcessDir, registry};
use crate::hint::{hint, runboard, shell};
use crate::home::Home;
use crate::paths::unexpanded;
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// How to go on with a run.
pub fn resume(run: &ProcessDir) -> String {
    of(run, "resume", &[], "")
}

/// How to go on with a sweep and its points that failed.
pub fn retry_failed(sweep: &ProcessDir) -> String {
    of(sweep, "resume", &["--retry-failed"], " ARGS=--retry-failed")
}

/// How to go on with a run whose data were moved: the place is left to the user.
pub fn resume_with_data(run: &ProcessDir) -> String {
    of(run, "resume", &["--data", "DIR"], " DATA=DIR")
}

/// How to repeat a run whose data were moved.
pub fn rerun_with_data(run: &ProcessDir) -> String {
    runboard(&[
        OsStr::new("rerun"),
        &argument(run),
        "--data".as_ref(),
        "DIR".as_ref(),
    ])
}

/// How to look at a run's images with its network, whose place is left to the user.
pub fn score_with_data(run: &ProcessDir) -> String {
    runboard(&[
        OsStr::new("score"),
        &argument(run),
        "--data".as_ref(),
        "DIR".as_ref(),
    ])
}

/// How to score the checkpoints of a run that are not scored.
pub fn score(run: &ProcessDir) -> String {
    runboard(&[
        OsStr::new("eval"),
        "--once".as_ref(),
        "--run".as_ref(),
        &argument(run),
    ])
}

/// How to go on with a run whose spec changes.
pub fn resume_with_sets(run: &ProcessDir, sets: &[String]) -> String {
    let options: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    let variables = format!(" ARGS={}", shell(&[shell(&options)]));
    of(run, "resume", &options, &variables)
}

/// How to start a new run of the experiment of this one, with these values.
pub fn start_with_sets(run: &ProcessDir, sets: &[String]) -> String {
    let name = run.name();
    let mut words = vec!["run".to_owned(), name];
    words.extend(
        sets.iter()
            .flat_map(|set| ["--set".to_owned(), set.clone()]),
    );
    let mut words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
    words.extend(runs_option(run));
    runboard(&words)
}

/// How a command is told of the directory of runs that a run is in; nothing where it finds it by itself.
fn runs_option(run: &ProcessDir) -> Vec<OsString> {
    let depth = if run.sweep().is_some() { 3 } else { 2 };
    let runs = run.path().ancestors().nth(depth);
    let runs = runs.unwrap_or(Path::new(""));
    match short_id(run).is_none() && !runs.as_os_str().is_empty() {
        true => vec!["--runs".into(), unexpanded(runs).into()],
        false => Vec::new(),
    }
}

/// How to start a run again by the command line of its first session, with these values besides, from the directory in which that
/// was given; by its experiment alone where it was no `run` of a single run. What that said of where and how it runs and of its
/// labels is left out.
pub fn start_again_with_sets(run: &ProcessDir, command: &[String], sets: &[String]) -> String {
    let [_, subcommand, arguments @ ..] = command else {
        return start_with_sets(run, sets);
    };
    if subcommand != "run" || run.sweep().is_some() {
        return start_with_sets(run, sets);
    }
    let field = |set: &str| set.split('=').next().unwrap_or_default().to_owned();
    let fields: Vec<String> = sets.iter().map(|set| field(set)).collect();
    let is_set_anew = |set: &str| fields.contains(&field(set));
    let mut words: Vec<OsString> = vec!["run".into()];
    let mut arguments = arguments.iter().peekable();
    while let Some(word) = arguments.next() {
        match word.split_once('=') {
            None if word == "--set" && arguments.peek().is_some_and(|set| is_set_anew(set)) => {
                arguments.next();
            }
            Some(("--set", set)) if is_set_anew(set) => {}
            None if ["--runs", "--tag", "--note"].contains(&&**word) => {
                arguments.next();
            }
            Some(("--runs" | "--tag" | "--note", _)) => {}
            _ if word == "--detach" => {}
            _ => words.push(word.into()),
        }
    }
    words.extend(sets.iter().flat_map(|set| ["--set".into(), set.into()]));
    words.extend(runs_option(run));
    runboard(&words)
}

/// How to start a new run of the experiment of this one, with its weights and these values.
pub fn start_from(run: &ProcessDir, sets: &[String]) -> String {
    let from = shell(&[OsStr::new("--from"), &argument(run)]);
    format!("{} {from}", start_with_sets(run, sets))
}

/// How to stop a run.
pub fn stop(run: &ProcessDir) -> String {
    of(run, "stop", &[], "")
}

/// How to stop a run at once.
pub fn stop_now(run: &ProcessDir) -> String {
    of(run, "stop", &["--now"], " NOW=1")
}

/// How to see the curves of a run, and of the others of its name or sweep.
pub fn curves(run: &ProcessDir) -> String {
    let logdir = not_an_option(&run.logdir());
    let command = shell(&[OsStr::new("tensorboard"), "--logdir".as_ref(), &logdir]);
    match short_id(run) {
        Some(id) => {
            let sweep = run.sweep().map(|sweep| sweep.id());
            let sweep = sweep.or(run.is_sweep().then_some(id));
            let name = sweep.unwrap_or_else(|| run.name());
            hint(&format!("tensorboard NAME={name}"), &command)
        }
        None => command,
    }
}

/// How to follow a file that grows.
pub fn follow(path: &Path) -> String {
    shell(&[OsStr::new("tail"), "-f".as_ref(), &not_an_option(path)])
}

/// How to list the runs in a directory.
pub fn list(runs: &Path) -> String {
    let mut words = vec!["list".into()];
    words.extend(option_of_runs(runs));
    runboard(&words)
}

/// How a command is told of this directory of runs; nothing where it finds it by itself.
pub fn option_of_runs(runs: &Path) -> Vec<OsString> {
    match is_default(runs) {
        true => Vec::new(),
        false => vec!["--runs".into(), unexpanded(runs).into()],
    }
}

/// How to run an experiment in a directory of runs.
pub fn start(name: &str, runs: &Path) -> String {
    match is_default(runs) {
        true => hint(
            &format!("experiment NAME={name}"),
            &runboard(&["run", name]),
        ),
        false => runboard(&[
            "run".as_ref(),
            name.as_ref(),
            "--runs".as_ref(),
            unexpanded(runs).as_os_str(),
        ]),
    }
}

fn of(run: &ProcessDir, command: &str, options: &[&str], variables: &str) -> String {
    let id = short_id(run);
    let argument = argument(run);
    let mut words = vec![OsStr::new(command), &argument];
    words.extend(options.iter().map(OsStr::new));
    let command_line = runboard(&words);
    match id {
        Some(id) => hint(&format!("{command} NAME={id}{variables}"), &command_line),
        None => command_line,
    }
}

/// What means this very run as an argument of this program.
fn argument(run: &ProcessDir) -> OsString {
    match short_id(run) {
        Some(id) => id.into(),
        None => unexpanded(run.path()).into(),
    }
}

/// `NAME/TIMESTAMP`, or that of a point, if that alone means the run here. Not NAME: that is its latest run, and soon another one.
fn short_id(run: &ProcessDir) -> Option<String> {
    let id = run.id();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=".contains(c); // for make and every shell
    let is_plain = id.starts_with(|c: char| c.is_ascii_alphanumeric()) && id.chars().all(plain);
    let runs = Home::find().ok()?.runs();
    let is_here = run.path() == runs.join(&id);
    let resolves = || registry::resolve_any(&runs, Path::new(&id));
    (is_here && is_plain && resolves().is_ok_and(|found| found.path() == run.path())).then_some(id)
}

/// Whether these are the runs of a command without `--runs`.
fn is_default(runs: &Path) -> bool {
    Home::find().is_ok_and(|home| home.runs() == runs)
}

/// A path as another program than this one takes it, not for an option.
fn not_an_option(path: &Path) -> OsString {
    match path.as_os_str().as_encoded_bytes().starts_with(b"-") {
        true => Path::new(".").join(path).into(),
        false => path.into(),
    }
}
