//! The command line: what each command is called and takes; the work is done elsewhere.

mod check;
mod choose;
mod compare;
pub mod complete;
mod curve;
mod data;
mod diff;
mod doctor;
mod estimate;
mod experiment;
mod experiments;
mod export;
mod fields;
mod form;
mod generate;
mod labels;
mod list;
mod network;
mod notes;
mod predict;
mod processes;
mod report;
mod rerun;
mod run;
mod score;
mod show;
mod stop;
mod sweep;
mod trash;
mod verify;
mod warm_start;
mod watch;
mod which;

use self::experiment::{ExperimentArgs, data_error, data_from_environment, fetch, given};
pub use self::processes::{EvalArgs, RankArgs, TrainArgs};
use self::run::Session;
pub use self::run::record_training;
use crate::home::Home;
use crate::launch::Flags;
use crate::run::{Found, RunDir};
use crate::run::{commands, resolve, resolve_any};
use crate::spec::{DeviceName, Field, Override};
use crate::supervisor::display::Verbosity;
use crate::sweep::{Standing, SweepDir};
use crate::{bail_user, compute, console, error, paths};
use anyhow::Result;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand};
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What `--help` says after the list of commands.
const PLACES: &str = "\
Places:
  experiments/, runs/ and data/ are in the directory that RUNBOARD_HOME names;
  without it in the nearest one, from the current one upwards, that has YAML
  files in experiments/; else in the current one. Where there are no
  experiments, those that were installed are used. --experiments, --runs and
  --data name other directories.";

/// Experiments in, TensorBoard out: trains CIFAR-10's tutorial network as a YAML spec says, with an
/// evaluator beside it.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, after_help = PLACES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train an experiment and evaluate it alongside
    Run {
        #[command(flatten)]
        experiment: ExperimentArgs,
        #[command(flatten)]
        runs: RunsArg,
        /// Begin with the weights of another run: of its last checkpoint, of that of STEP, or of the best one; of a sweep, those of
        /// its best point. Each point of a sweep begins with them
        #[arg(long, value_name = "RUN[@STEP|@best|@last]", value_parser = path())]
        from: Option<PathBuf>,
        #[command(flatten)]
        labels: labels::LabelArgs,
        #[command(flatten)]
        session: SessionArgs,
        #[command(flatten)]
        launch: Flags,
    },
    /// Continue a run from its last checkpoint, or a sweep with what is missing of it
    Resume {
        #[command(flatten)]
        run: RunOrSweepArg,
        /// Change a field of the spec that training so far does not depend on, such as train.steps=500, or what adds points
        /// to a sweep, such as sweep.seeds=5; may be repeated
        #[arg(long = "set", value_name = "FIELD=VALUE", conflicts_with = "recorded")]
        overrides: Vec<OsString>,
        /// Where the images of the run or sweep are, if they were moved; also looked for in RUNBOARD_DATA
        #[arg(long, value_name = "DIR", value_parser = path())]
        data: Option<PathBuf>,
        /// Of a sweep: try the points again that failed
        #[arg(long)]
        retry_failed: bool,
        /// Started by --detach, which has recorded the session
        #[arg(long, hide = true, conflicts_with = "detach")]
        recorded: bool,
        #[command(flatten)]
        session: SessionArgs,
        #[command(flatten)]
        launch: Flags,
    },
    /// Repeat a run as a new one, from the same spec, data and seed, and tell whether its checkpoints have the same bytes
    Rerun(rerun::Arguments),
    /// Stop a run, or a sweep and its points, after a last checkpoint, wherever it was started, and wait for its end
    Stop(stop::Arguments),
    /// Run the training process by itself
    Train(TrainArgs),
    /// Run the evaluation process by itself
    Eval(EvalArgs),
    /// List the experiments: what they are, how many runs each has, and the best accuracy of one
    Experiments(experiments::Arguments),
    /// List runs and sweeps, with their states and scores
    List(list::Arguments),
    /// Show all that is known of a run: scores, curves, what differs from the defaults, checkpoints, sessions, warnings
    Show(show::Arguments),
    /// Compare runs in a table: their scores, and the fields in which they differ
    Compare(compare::Arguments),
    /// Show what differs between two runs, experiments or files: spec, scores, data, versions, machine
    Diff(diff::Arguments),
    /// Plot a curve of runs, or write its points as CSV or JSON
    Curve(curve::Arguments),
    /// Predict the classes of pictures with a run's network: PNG and JPEG files, or folders of them
    Predict(predict::Arguments),
    /// Score a run's network on images with labels: accuracy, loss, and what each class is taken for
    Score(score::Arguments),
    /// Export a run's network as files that PyTorch reads: weights, labels, input, and a Python file that rebuilds it
    Export(export::Arguments),
    /// Make one page of a run, a sweep or several runs to send to somebody: curves, scores, pictures, spec, how to repeat it
    Report(report::Arguments),
    /// Watch a run or a sweep that was started elsewhere; Ctrl-C ends only the watching
    Watch(watch::WatchArguments),
    /// Show the log of a run's trainer, or of its evaluator
    Logs(watch::LogArguments),
    /// Tag a run, or show its tags; `list --tag` finds it
    Tag(labels::TagArguments),
    /// Note something of a run, or show its notes
    Note(labels::NoteArguments),
    /// Move runs or sweeps to the trash, from where `restore` puts them back
    Rm(trash::RemoveArguments),
    /// Put runs back from the trash, or list what is in it
    Restore(trash::RestoreArguments),
    /// Delete for good what is in the trash
    Gc(trash::CollectArguments),
    /// Check a spec and show what it resolves to, without running it
    Check {
        #[command(flatten)]
        experiment: ExperimentArgs,
        /// Of a sweep: show all points, and every field of the spec
        #[arg(long, short)]
        verbose: bool,
        /// Write JSON, whose names docs/json.md explains
        #[arg(long, conflicts_with = "verbose")]
        json: bool,
    },
    /// Tell what this machine has and what is wrong with it, and test the network on a device
    Doctor(doctor::Arguments),
    /// Test this machine by real runs: right values, same bytes, speed, memory
    Verify(verify::Arguments),
    /// Explain the fields of a spec: what they mean, their defaults and ranges
    Fields(fields::Arguments),
    /// Fetch, import, generate or check images
    #[command(subcommand)]
    Data(data::Command),
    /// Write completions of shells and manual pages into PREFIX/share
    #[command(hide = true)]
    Generate {
        #[arg(value_parser = path())]
        share: PathBuf,
    },
}

/// Where the runs are.
#[derive(Args, Debug)]
struct RunsArg {
    /// Directory of the run directories [default: see `runboard --help`]
    #[arg(long = "runs", value_name = "DIR", value_parser = path())]
    directory: Option<PathBuf>,
}

impl RunsArg {
    fn directory(&self) -> Result<PathBuf> {
        match &self.directory {
            Some(directory) => Ok(directory.clone()),
            None => Ok(Home::find()?.runs()),
        }
    }
}

/// A run or a sweep.
#[derive(Args, Debug)]
struct RunOrSweepArg {
    /// NAME (its latest run or sweep), NAME/TIMESTAMP, a point of a sweep as NAME/7 or NAME/TIMESTAMP/7, or a directory
    #[arg(value_parser = path())]
    run: PathBuf,
    #[command(flatten)]
    runs: RunsArg,
}

impl RunOrSweepArg {
    fn find(&self) -> Result<Found> {
        resolve_any(&self.runs.directory()?, &self.run)
    }
}

/// A run that has been trained; of a sweep the best point of its best setting.
#[derive(Args, Debug)]
struct BestRunArg {
    /// NAME (its latest run), NAME/TIMESTAMP, a sweep for its best point, a point as NAME/7 or NAME/TIMESTAMP/7, or a directory
    #[arg(value_parser = path())]
    run: PathBuf,
    #[command(flatten)]
    runs: RunsArg,
}

impl BestRunArg {
    fn find(&self) -> Result<RunDir> {
        best_run(&self.runs.directory()?, &self.run)
    }
}

/// The run that a user means by `path`; of a sweep the best point of its best setting.
///
/// # Errors
/// A user error if there is none, or no point of the sweep has a score.
fn best_run(runs: &Path, path: &Path) -> Result<RunDir> {
    let sweep = match resolve_any(runs, path)? {
        Found::Run(run) => return Ok(run),
        Found::Sweep(sweep) => sweep,
    };
    let directory = SweepDir::new(sweep);
    let standing = Standing::read(&directory)?;
    let best = standing.results().best_point();
    let best = best.and_then(|point| directory.run(point));
    best.map_or_else(|| resolve(runs, path), Ok)
}

/// How far to train.
#[derive(Args, Clone, Copy, Debug)]
struct UntilArg {
    /// Train until so many steps are done in all, save and score that checkpoint, and stop there; the schedule is that of
    /// the whole run, and a resume goes on
    #[arg(long = "until", value_name = "STEPS", allow_negative_numbers = true, value_parser = steps)]
    steps: Option<u64>,
}

/// How much a run shows.
#[derive(Args, Clone, Copy, Debug)]
struct OutputArgs {
    /// Show only warnings, restarts and the end
    #[arg(long, short)]
    quiet: bool,
    /// Show both logs above the display; where the output is no terminal they are shown anyway
    #[arg(long, short, conflicts_with = "quiet")]
    verbose: bool,
}

impl OutputArgs {
    fn verbosity(self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        }
    }
}

/// How a session of a run or a sweep goes.
#[derive(Args, Clone, Copy, Debug)]
struct SessionArgs {
    /// Return at once, and go on when the terminal closes; `runboard stop` ends it
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    until: UntilArg,
    #[command(flatten)]
    output: OutputArgs,
}

impl SessionArgs {
    fn session(self) -> Session {
        Session {
            until: self.until.steps,
            detach: self.detach,
            verbosity: self.output.verbosity(),
        }
    }
}

/// Takes a device as a spec does.
fn device(text: &str) -> Result<String, String> {
    text.parse::<DeviceName>().map(|_| text.to_owned())
}

/// Takes a number of steps.
fn steps(text: &str) -> Result<u64, &'static str> {
    let steps = text.parse().ok().filter(|&steps| steps > 0);
    steps.ok_or("want a number of steps, 1 or more")
}

/// Takes a path as [`paths::expand`] does.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(paths::expand)
}

fn parse_overrides(sets: &[OsString]) -> Result<Vec<Override>> {
    sets.iter().map(Override::parse).collect()
}

impl Cli {
    /// Those that this process was called with; wrong ones end it, with what they should be.
    pub fn parse_arguments() -> Self {
        Self::try_parse().unwrap_or_else(|error| with_better_tip(error).exit())
    }

    /// Do what the command says and return the exit code.
    ///
    /// # Errors
    /// See the commands; bad input is a [`crate::error::UserError`].
    pub fn run(self) -> Result<i32> {
        match &self.command {
            Command::Run {
                experiment,
                runs,
                from,
                labels,
                session,
                launch,
            } => run::run(
                &runs.directory()?,
                experiment,
                from.as_deref(),
                labels,
                launch,
                session.session(),
            ),
            Command::Resume {
                run,
                overrides,
                data,
                retry_failed,
                recorded,
                session,
                launch,
            } => {
                let overrides = parse_overrides(overrides)?;
                let (data, recorded, session) = (data.as_deref(), *recorded, session.session());
                match run.find()? {
                    Found::Run(run) if *retry_failed => bail_user!(
                        "--retry-failed is for a sweep, and {} is one run; want no more than: {}",
                        run.id(),
                        commands::resume(&run)
                    ),
                    Found::Run(run) => {
                        run::resume(&run, &overrides, data, recorded, launch, session)
                    }
                    Found::Sweep(sweep) => sweep::resume(
                        sweep,
                        &overrides,
                        data,
                        recorded,
                        *retry_failed,
                        launch,
                        session,
                    ),
                }
            }
            Command::Rerun(arguments) => rerun::rerun(arguments),
            Command::Stop(arguments) => stop::stop(arguments),
            Command::Train(_) | Command::Eval(_) => compute::replace_this_process(),
            Command::Experiments(arguments) => experiments::experiments(arguments),
            Command::List(arguments) => list::list(arguments),
            Command::Show(arguments) => show::show(arguments),
            Command::Compare(arguments) => compare::compare(arguments),
            Command::Diff(arguments) => diff::diff(arguments),
            Command::Curve(arguments) => curve::curve(arguments),
            Command::Predict(arguments) => predict::predict(arguments),
            Command::Score(arguments) => score::score(arguments),
            Command::Export(arguments) => export::export(arguments),
            Command::Report(arguments) => report::report(arguments),
            Command::Watch(arguments) => watch::watch(arguments),
            Command::Logs(arguments) => watch::logs(arguments),
            Command::Tag(arguments) => labels::tag(arguments),
            Command::Note(arguments) => labels::note(arguments),
            Command::Rm(arguments) => trash::remove(arguments),
            Command::Restore(arguments) => trash::restore(arguments),
            Command::Gc(arguments) => trash::collect(arguments),
            Command::Check {
                experiment,
                verbose,
                json,
            } => check::check(experiment, *verbose, *json),
            Command::Doctor(arguments) => doctor::doctor(arguments),
            Command::Verify(arguments) => verify::verify(arguments),
            Command::Fields(arguments) => fields::fields(arguments),
            Command::Data(command) => data::run(command),
            Command::Generate { share } => generate::generate(Cli::command(), share),
        }
    }
}

/// The error of an option that there is not, without clap's tip that `--` makes a value of it, which is seldom what is meant. The name of
/// a field is set by `--set`, where there is that.
fn with_better_tip(mut error: clap::Error) -> clap::Error {
    if error.kind() != ErrorKind::UnknownArgument {
        return error;
    }
    error.remove(ContextKind::Suggested);
    let option = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(option)) => option.trim_start_matches('-'),
        _ => "",
    };
    let name = option.split('=').next().unwrap_or_default();
    let called = env::args().nth(1).unwrap_or_default();
    let program = Cli::command();
    let command = program.find_subcommand(&called);
    let takes_set = command.is_some_and(|it| it.get_opts().any(|it| it.get_long() == Some("set")));
    if let Some(field) = Field::all().find(|field| field.path == name && takes_set) {
        let tip = format!("a field of the spec is set by '--set {}=VALUE'", field.path);
        let tips = ContextValue::StyledStrs(vec![tip.into()]);
        error.insert(ContextKind::Suggested, tips);
    }
    error
}

/// The exit code of a command that ended like this; what went wrong is printed, with its causes.
pub fn exit_code(result: Result<i32>) -> u8 {
    let code = result.unwrap_or_else(|error| {
        console::stderr_line(format_args!("error: {error:#}"));
        error::exit_code(&error)
    });
    u8::try_from(code).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_consistent() {
        Cli::command().debug_assert();
    }

    /// A command and those below it, less what is hidden.
    fn shown(command: &clap::Command) -> Vec<&clap::Command> {
        let below = command.get_subcommands().filter(|it| !it.is_hide_set());
        let mut all = vec![command];
        all.extend(below.flat_map(shown));
        all
    }

    #[test]
    fn help_says_what_every_command_and_option_is_in_the_same_words() {
        let program = Cli::command();
        for command in shown(&program) {
            let name = command.get_name();
            let about = command.get_about().map(ToString::to_string);
            let begins_with_verb = |text: &str| {
                let first = text.split_whitespace().next().unwrap_or_default();
                !["A", "An", "The", "All", "One", "What"].contains(&first)
            };
            assert!(about.is_some_and(|it| begins_with_verb(&it)), "{name}");
            for argument in command.get_arguments().filter(|it| !it.is_hide_set()) {
                let id = argument.get_id();
                let help = argument.get_help().map(ToString::to_string);
                let help = help.unwrap_or_else(|| panic!("{name}: {id} has no help"));
                assert!(
                    help.starts_with(char::is_uppercase) && !help.ends_with('.'),
                    "{name}: {id}: {help}"
                );
                if id == "json" {
                    let want = "Write JSON, whose names docs/json.md explains";
                    assert_eq!(help, want, "{name}");
                }
            }
        }
    }
}
