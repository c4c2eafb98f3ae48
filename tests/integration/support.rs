//! A project directory in a temporary place, and the real binary run in it.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runboard::events::tags;
use serde_json::Value;
use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// runboard itself.
pub const RUNBOARD: &str = env!("CARGO_BIN_EXE_runboard");

/// Longer than anything here takes on a machine that is slow and busy; only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(900);

/// A small network on a few synthetic images: seconds to train, with the real one's every layer.
pub const SMALL: &str = "
seed: 7
compute: {device: cpu, threads: 1}
data:
  source: synthetic
  folder: data
  synthetic: {train_images: 1000, test_images: 200}
network:
  conv1: {channels: 8, stddev: 0.05}
  conv2: {channels: 8, stddev: 0.05}
  local3: {units: 32}
  local4: {units: 16}
train: {steps: 25, batch_size: 16, log_every: 5, scalars_every: 10, histograms_every: 10, images_every: 20, checkpoint_every: 10}
eval: {interval_secs: 0.1, batch_size: 64}
";

/// So small a network that most of a run's time goes into starting and saving; a test adds its section `train`.
pub const TINY_NETWORK: &str = "
extends: small
data: {synthetic: {train_images: 100, test_images: 20}}
input: {crop: 8}
network:
  conv1: {channels: 4, kernel: 3}
  conv2: {channels: 4}
  local3: {units: 8}
  local4: {units: 8}";

/// An experiment with what a rank may get wrong: places in the batch that draw lots, squares of images of another part, and an
/// update with a memory. A batch has a part for each of 1 to 4 ranks.
pub fn recipe(steps: u64, checkpoint_every: u64) -> String {
    format!(
        "
extends: small
input: {{cutmix: 8, pad: 4}}
network: {{dropout: 0.2}}
optimizer: {{name: sgd, learning_rate: 0.05, momentum: 0.9}}
train: {{steps: {steps}, batch_size: 24, log_every: 1000, scalars_every: 1000, histograms_every: 1000, images_every: 1000,
  checkpoint_every: {checkpoint_every}, keep_checkpoints: 100}}
"
    )
}

/// A directory with `experiments/`, to run runboard in.
pub struct Project {
    directory: tempfile::TempDir,
}

/// The program that trains and evaluates. Cargo builds it for the tests of its own package, of which one is called as this one is.
pub fn runboard_compute() -> PathBuf {
    let program = Path::new(RUNBOARD).with_file_name("runboard-compute");
    let shown = program.display();
    assert!(
        program.is_file(),
        "no {shown}: build it with `cargo build --release`"
    );
    program
}

/// Copy a program, into a directory that may have yet to be made. Another process does so: one that is open for writing here
/// would be inherited by whatever another test starts right now, and could not be started then ("text file busy").
pub fn copy_program(program: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    let mut copy = Command::new("cp");
    assert!(copy.arg(program).arg(to).status().unwrap().success());
}

/// Copies of both programs in a project's `bin/`, of which the one that computes writes the first word of each start into the
/// project's `starts`.
pub fn copy_programs_that_tell_starts(project: &Project) -> PathBuf {
    let program = project.path("bin/runboard");
    copy_program(Path::new(RUNBOARD), &program);
    let script = format!(
        "#!/bin/sh\necho \"$1\" >>'{}'\nexec '{}' \"$@\"\n",
        project.path("starts").display(),
        runboard_compute().display()
    );
    project.write("script", &script);
    let compute = project.path("bin/runboard-compute");
    copy_program(&project.path("script"), &compute);
    fs::set_permissions(&compute, Permissions::from_mode(0o755)).unwrap();
    program
}

/// The libraries that a program would load, one a line, as the loader lists them.
pub fn libraries(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("LD_TRACE_LOADED_OBJECTS", "1"); // nothing runs
    command
}

/// The directory of the libtorch's libraries that the program which computes was built for.
pub fn libtorch() -> PathBuf {
    let listed = Done::of(libraries(&runboard_compute()).output().unwrap()).out;
    let found = listed.lines().find_map(|line| {
        let (name, rest) = line.trim().split_once(" => ")?;
        let (path, _) = rest.rsplit_once(" (")?;
        (name == "libtorch_cpu.so").then(|| Path::new(path).canonicalize().unwrap())
    });
    let found = found.unwrap_or_else(|| panic!("{listed}"));
    found.parent().unwrap().to_owned()
}

/// What a finished process left behind.
pub struct Done {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Project {
    /// A project whose experiment `small` is [`SMALL`].
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let project = Project { directory };
        project.write("experiments/small.yaml", SMALL);
        project
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.directory.path().join(relative)
    }

    pub fn write(&self, relative: &str, text: impl AsRef<[u8]>) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_of(Path::new(RUNBOARD), arguments)
    }

    /// As [`Project::command`], of another copy of runboard.
    pub fn command_of(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .env_remove("RUNBOARD_HOME")
            .env("RUNBOARD_SLOTS", self.directory.path().join("slots")) // where sweeps take turns
            .env("TMPDIR", self.directory.path()) // where what is killed leaves directories
            .env_remove("RUNBOARD_DATA")
            .env_remove("RUNBOARD_CIFAR10_URL")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Run runboard to its end.
    pub fn runboard(&self, arguments: &[&str]) -> Done {
        Done::of(self.command(arguments).output().unwrap())
    }

    /// Run runboard to its end, which must be a good one.
    pub fn succeed(&self, arguments: &[&str]) -> Done {
        let done = self.runboard(arguments);
        assert_eq!(
            done.code,
            Some(0),
            "{arguments:?}\n{}\n{}",
            done.out,
            done.err
        );
        done
    }

    /// Run runboard to its end, which must be that of bad input, and print nothing: its standard error.
    pub fn refused(&self, arguments: &[&str]) -> String {
        let done = self.runboard(arguments);
        assert_eq!(
            (done.code, &*done.out),
            (Some(2), ""),
            "{arguments:?}: {}",
            done.err
        );
        done.err
    }

    /// Start runboard and leave it running.
    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    /// A run directory of an experiment with these settings, `runs/ID`, that no process has worked in yet.
    pub fn prepare(&self, experiment: &str, id: &str, sets: &[&str]) -> PathBuf {
        let spec = self.succeed(&with_sets(&["check", experiment], sets)).out;
        self.write(&format!("runs/{id}/spec.yaml"), spec);
        self.path("runs").join(id)
    }

    /// One of `small`, to be named by its directory.
    pub fn fresh(&self, name: &str, sets: &[&str]) -> PathBuf {
        self.prepare("small", &format!("{name}/20260101-000000"), sets)
    }

    /// The newest run of an experiment, once there is one.
    pub fn newest(&self, name: &str) -> Option<PathBuf> {
        let runs = fs::read_dir(self.path("runs").join(name)).ok()?;
        let runs = runs.map(|entry| entry.unwrap().path());
        runs.filter(|run| run.join("spec.yaml").exists()).max()
    }

    /// The only run of an experiment.
    pub fn run(&self, name: &str) -> PathBuf {
        let mut runs: Vec<PathBuf> = fs::read_dir(self.path("runs").join(name))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert_eq!(runs.len(), 1, "{runs:?}");
        runs.remove(0)
    }
}

/// The runs as `list --json` has them, the newest first.
pub fn listed(project: &Project) -> Vec<Value> {
    let out = project.succeed(&["list", "--json"]).out;
    serde_json::from_str(&out).unwrap()
}

/// A command with `--set` before each of these.
pub fn with_sets<'a>(command: &[&'a str], sets: &[&'a str]) -> Vec<&'a str> {
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    command.iter().copied().chain(sets).collect()
}

impl Done {
    pub fn of(output: Output) -> Self {
        Done {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// What a process that was started leaves behind, once it has ended.
pub fn end(child: Child) -> Done {
    Done::of(child.wait_with_output().unwrap())
}

/// Ask until there is an answer.
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begin.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The id of a process that nobody has waited for yet.
pub fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap())
}

/// Send a signal to a process.
pub fn signal(child: &Child, signal: Signal) {
    kill(pid(child), signal).unwrap();
}

/// The processes whose parent has this id.
pub fn children(parent: Pid) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_child = |pid: &Pid| proc_stat(*pid).is_some_and(|stat| stat[1] == parent.to_string());
    pids.map(Pid::from_raw).filter(is_child).collect()
}

/// Halt a process where it is, until it gets SIGCONT or is killed.
pub fn hold(pid: Pid) {
    kill(pid, Signal::SIGSTOP).unwrap();
    wait_until_held(pid);
}

/// Wait until something halts a process, with all of its threads: the kernel takes it for stopped only then.
pub fn wait_until_held(pid: Pid) {
    wait_for("a process to halt", || {
        threads_are(pid, &["T"]).unwrap().then_some(())
    });
}

/// Whether each thread of a process, which is there, is in one of these states of proc_pid_stat(5).
fn threads_are(pid: Pid, states: &[&str]) -> io::Result<bool> {
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let fields = fields_of_stat(&thread?.path().join("stat"));
        if fields.is_some_and(|fields| !states.contains(&fields[0].as_str())) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The fields of `/proc/PID/stat` from the third one on: the state.
fn proc_stat(pid: Pid) -> Option<Vec<String>> {
    fields_of_stat(Path::new(&format!("/proc/{pid}/stat")))
}

fn fields_of_stat(path: &Path) -> Option<Vec<String>> {
    let stat = fs::read_to_string(path).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// The status of a run's process, once there is one.
pub fn status(run: &Path, role: &str) -> Option<Value> {
    let text = fs::read(run.join(format!("{role}.status.json"))).ok()?;
    Some(serde_json::from_slice(&text).unwrap())
}

/// The process that a status is of, unless it has ended; one that nobody has waited for yet has. Its pid may
/// be another's by now, so the start counts as well.
pub fn at_work(status: &Value) -> Option<Pid> {
    let process = &status["process"];
    let pid = Pid::from_raw(i32::try_from(process["pid"].as_u64()?).unwrap());
    let stat = proc_stat(pid)?;
    let is_it = stat[19].parse().ok() == process["start_ticks"].as_u64();
    (is_it && !["Z", "X"].contains(&stat[0].as_str())).then_some(pid)
}

/// The run's process of this role, once its state is running.
pub fn running(run: &Path, role: &str) -> Option<Pid> {
    let status = status(run, role)?;
    at_work(&status).filter(|_| status["process"]["state"] == "running")
}

/// Kill every process of a run, also those that its supervisor has just started.
pub fn kill_all(run: &Path) {
    let process = |role: &str| status(run, role).as_ref().and_then(at_work);
    let supervisor = process("supervisor");
    if let Some(pid) = supervisor {
        let _ = kill(pid, Signal::SIGSTOP); // so that it starts no other one
        wait_for("the supervisor to halt or to end", || {
            let halted = threads_are(pid, &["T", "Z", "X"]);
            halted.unwrap_or(true).then_some(()) // no threads: it is gone
        });
    }
    let mut pids: Vec<Pid> = supervisor.into_iter().flat_map(children).collect();
    pids.extend(supervisor);
    pids.extend(["train", "eval"].into_iter().filter_map(process));
    for pid in pids {
        let _ = kill(pid, Signal::SIGKILL);
    }
}

/// Make a run one that was created with another value of a field, `KEY: VALUE`: in its frozen spec, which its processes
/// read when they start, and in its record.
pub fn respecify(run: &Path, from: &str, to: &str) {
    let path = run.join("spec.yaml");
    let spec = fs::read_to_string(&path).unwrap();
    assert!(spec.contains(from), "no {from:?} in {spec}");
    fs::write(path, spec.replace(from, to)).unwrap();
    let path = run.join("provenance.json");
    if let Ok(record) = fs::read_to_string(&path) {
        let json = |field: &str| field.replacen(": ", "\": ", 1);
        let (from, to) = (format!("\"{}", json(from)), format!("\"{}", json(to)));
        fs::write(path, record.replace(&from, &to)).unwrap();
    }
}

/// The lines of the evaluator's journal, in the order of the file.
pub fn journal(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("evaluations.jsonl")).unwrap_or_default();
    let parse = |line: &str| serde_json::from_str(line).unwrap();
    text.lines().map(parse).collect()
}

/// The steps that these lines are about.
pub fn evaluated_steps(journal: &[Value]) -> Vec<u64> {
    let steps = journal.iter().map(|line| line["step"].as_u64().unwrap());
    steps.collect()
}

/// The steps of a run's checkpoints, in order.
pub fn checkpoints(run: &Path) -> Vec<u64> {
    let names = names(&run.join("checkpoints"));
    let steps = names.iter().filter_map(|name| name.strip_prefix("step-"));
    steps.filter_map(|step| step.parse().ok()).collect()
}

/// How many checkpoints a run has, which may not have begun.
pub fn saved(run: &Path) -> usize {
    match run.join("checkpoints").exists() {
        true => checkpoints(run).len(),
        false => 0,
    }
}

/// Names in a directory, sorted.
pub fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A point's step, for each point of a curve.
pub fn steps(curve: &Value) -> Vec<u64> {
    let points = curve.as_array().expect("a curve").iter();
    points.map(|point| point[0].as_u64().unwrap()).collect()
}

/// The directory of the last checkpoint.
pub fn last_checkpoint(run: &Path) -> PathBuf {
    let last = checkpoints(run).pop().expect("a checkpoint");
    run.join(format!("checkpoints/step-{last:08}"))
}

/// The last checkpoint's files of tensors and its state: names and bytes.
pub fn last_weights(run: &Path) -> Vec<(String, Vec<u8>)> {
    let last = last_checkpoint(run);
    let files = names(&last).into_iter();
    let files = files.filter(|name| name.ends_with(".safetensors") || name == "state.json");
    files
        .map(|name| {
            let bytes = fs::read(last.join(&name)).unwrap();
            (name, bytes)
        })
        .collect()
}

/// Whether a curve's values are measured by the clock, and so differ from run to run.
pub fn timed(tag: &str) -> bool {
    tags::ALL
        .iter()
        .any(|series| series.measured && series.name == tag)
}

/// A JSON file.
pub fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// What TensorBoard's own reader finds in a directory, where TensorBoard is installed (`make test` installs
/// it).
pub fn tensorboard_reads(directory: &Path) -> Option<Value> {
    python("tests/read_events.py", directory)
}

/// A live TensorBoard, by each of its two readers, where TensorBoard is installed.
pub struct TensorBoard(Child);

impl TensorBoard {
    /// Serve a directory, until this is dropped.
    pub fn serve(directory: &Path) -> Option<Self> {
        let mut command = tensorboards_python("tests/watch_rows.py")?;
        command.arg(directory).stdin(Stdio::piped());
        let script = command.stdout(Stdio::piped()).stderr(Stdio::null());
        Some(TensorBoard(script.spawn().unwrap()))
    }

    /// Wait until both readers show the run in the HParams tab with this state, a number of docs/tags.md, and this status;
    /// its rows.
    pub fn shows(&mut self, run: &str, state: i32, status: &str) -> Value {
        let request = format!("{run} {state} {status}\n");
        let questions = self.0.stdin.as_mut().unwrap();
        questions.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        let answers = self.0.stdout.as_mut().unwrap();
        // A byte at a time: what is read beyond the line would be lost.
        while !answer.ends_with('\n') {
            let mut byte = [0];
            assert_eq!(
                answers.read(&mut byte).unwrap(),
                1,
                "no row with state {state} and {status}"
            );
            answer.push(char::from(byte[0]));
        }
        serde_json::from_str(&answer).unwrap()
    }
}

impl Drop for TensorBoard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a served TensorBoard shows of a directory in every plugin, by each of its two readers.
pub fn tensorboard_shows(directory: &Path) -> Option<Value> {
    python("tests/read_plugins.py", directory)
}

/// What a script of the tests prints of a file or directory, where the Python that it wants is installed (`make
/// test` installs it). It says so with exit code 3 if it misses a package.
pub fn python(script: &str, path: &Path) -> Option<Value> {
    let output = tensorboards_python(script)?.arg(path).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(3) {
        eprintln!("not checked with {script}: {err}");
        return None;
    }
    assert!(output.status.success(), "{err}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// A script in TensorBoard's Python, where that is installed.
fn tensorboards_python(script: &str) -> Option<Command> {
    python_of(".venv-tensorboard", script)
}

/// A script in the Python that has PyTorch, where that is installed (`make bench-reference` installs it).
pub fn pytorchs_python(script: &str) -> Option<Command> {
    python_of(".venv-bench-torch", script)
}

fn python_of(environment: &str, script: &str) -> Option<Command> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join(environment).join("bin/python");
    if !python.exists() {
        eprintln!("not checked with {script}: no {}", python.display());
        return None;
    }
    let mut command = Command::new(python);
    command.arg(root.join(script));
    Some(command)
}
