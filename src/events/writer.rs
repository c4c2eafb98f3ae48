//! The event writer: one new event file for each session of a run.

use super::file::{self, EventFile};
use super::graph::Graph;
use super::hparams::session_file;
use super::last::last_event;
use super::purge::{purge_from, remove_stale};
use super::queue::RecordQueue;
use super::record::encode;
use super::summaries::{Summaries, event, wall_time};
use crate::console;
use crate::files::sync_dir;
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use tensorboard_proto::event::{SessionLog, SessionLog_SessionStatus};

/// Memory for events that are not written yet: hundreds of steps with a histogram of every weight and
/// gradient of the tutorial's network.
const QUEUE_BYTES: usize = 64 << 20;

/// Writes summaries to a new event file, on a thread of its own.
///
/// Each event is one unbuffered write as soon as the thread gets to it, so a live TensorBoard sees it
/// without a flush. Nothing here waits for the disk but [`EventWriter::flush`] and dropping the writer, and
/// those give up after half a minute. A write that fails ends nothing: events wait in memory, within
/// bounds, and the user is warned once when that begins, when it is over and, if events were lost, at the end.
pub struct EventWriter {
    dir: PathBuf,
    queue: RecordQueue,
}

impl EventWriter {
    /// Start a session in `dir`, which is created where it is missing and may have no other writer. Events
    /// of earlier sessions stay.
    ///
    /// Fails if the directory or the beginning of a file in it cannot be written.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::start(dir, None)
    }

    /// Start a session in `dir` that writes again from `first_step` on: events of that step and later are
    /// removed first, so that curves have neither forks nor orphans.
    ///
    /// Fails as [`EventWriter::open`] does, and if an older file cannot be read or shortened.
    pub fn resume(dir: &Path, first_step: u64) -> Result<Self> {
        Self::start(dir, Some(first_step))
    }

    fn start(dir: &Path, first_step: Option<u64>) -> Result<Self> {
        let existing = existing(dir)?;
        if let Some(step) = first_step {
            purge_from(&existing, step)?;
        }
        Self::start_beside(dir, &existing, first_step)
    }

    /// Change what is shown of a step, the last one: these summaries take the place of those with their tags, and of how
    /// the session ended; later events are removed. A kill at any moment leaves the step as it was or as it is to be. There
    /// may be no other writer.
    ///
    /// # Errors
    /// An older file cannot be read or shortened, or the new one cannot be written.
    pub fn revise(dir: &Path, summaries: Summaries) -> Result<()> {
        let existing = existing(dir)?;
        let step = summaries.event().get_step();
        let revised = match last_event(&existing, step)? {
            Some(earlier) => summaries.over(earlier),
            None => summaries,
        };
        let first_step = u64::try_from(step).unwrap_or_default();
        let events = Self::start_beside(dir, &existing, Some(first_step))?;
        events.write(&revised);
        events.sync()?;
        purge_from(&existing, first_step)
    }

    /// Start a session in a file after the existing ones.
    fn start_beside(dir: &Path, existing: &[PathBuf], first_step: Option<u64>) -> Result<Self> {
        let now = wall_time();
        let file = EventFile::create(dir, existing, now)?;
        let warned_of = dir.to_owned();
        let warn = move |text: &str| {
            let dir = warned_of.display();
            console::warning(format_args!("the events of {dir}: {text}"));
        };
        let queue = RecordQueue::start(file, QUEUE_BYTES, warn)
            .context("failed to start the thread that writes events")?;
        // A start makes the Python reader forget what it has read from this step on; a session that adds to
        // the events before it must have none.
        let start_step = first_step.or_else(|| existing.is_empty().then_some(0));
        if let Some(step) = start_step {
            let mut log = SessionLog::new();
            log.set_status(SessionLog_SessionStatus::START);
            let mut start = event(step, now);
            start.set_session_log(log);
            queue.push(encode(&start));
        }
        let dir = dir.to_owned();
        Ok(EventWriter { dir, queue })
    }

    /// Hand the summaries of one step to the writing thread. Never waits; if memory for unwritten events is
    /// used up, these are given up and counted.
    pub fn write(&self, summaries: &Summaries) {
        if summaries.event().has_summary() {
            self.queue.push(encode(summaries.event()));
        }
    }

    /// Show `graph` in the Graphs tab. Once a run is enough, at its first start.
    pub fn graph(&self, graph: &Graph) {
        let mut event = event(0, wall_time());
        event.set_graph_def(graph.encode());
        self.queue.push(encode(&event));
    }

    /// Wait until everything written so far is in the file, or until a write fails: then it is kept and tried
    /// again every second, and the user has been warned. Does not sync it to the device.
    pub fn flush(&self) {
        let _ = self.queue.flush(); // the queue has warned of the failure
    }

    /// As [`EventWriter::flush`], and wait until all of it would survive a power cut as well.
    ///
    /// Fails with the reason when a write does; what is not written is kept and tried again.
    pub fn sync(&self) -> Result<()> {
        let dir = &self.dir;
        self.queue
            .flush()
            .with_context(|| format!("failed to write the events of {}", dir.display()))?;
        if let Some(path) = file::list(dir)?.last() {
            File::open(path)
                .and_then(|file| file.sync_all())
                .with_context(|| format!("failed to sync {}", path.display()))?;
        }
        sync_dir(dir)
    }
}

/// The files of the earlier sessions in `dir`, which is created where it is missing.
fn existing(dir: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(dir).with_context(|| format!("failed to create {}", dir.display()))?;
    remove_stale(dir);
    let mut existing = file::list(dir)?;
    existing.retain(|path| *path != session_file(dir)); // which is no session's of this writer
    Ok(existing)
}

#[cfg(test)]
mod tests {
    use super::super::hparams::{SessionStatus, list_session};
    use super::super::record::EventReader;
    use super::super::tag::Tag;
    use super::*;

    /// What a directory's events are, file after file: `version`, `start@STEP`, `graph@STEP`, `session@STEP`,
    /// or `STEP`.
    fn events(dir: &Path) -> Vec<Vec<String>> {
        let files = file::list(dir).unwrap();
        let read = |path: &PathBuf| {
            let mut reader = EventReader::open(path).unwrap();
            let mut events = Vec::new();
            while let Some(event) = reader.read_whole().unwrap() {
                events.push(if event.has_file_version() {
                    "version".into()
                } else if event.has_session_log() {
                    format!("start@{}", event.get_step())
                } else if event.has_graph_def() {
                    format!("graph@{}", event.get_step())
                } else {
                    let step = event.get_step();
                    let values = event.get_summary().get_value();
                    match values.iter().all(|v| v.get_tag().starts_with("_hparams_/")) {
                        true => format!("session@{step}"),
                        false => step.to_string(),
                    }
                });
            }
            assert_eq!(reader.position(), reader.length());
            events
        };
        files.iter().map(read).collect()
    }

    /// A record may be half written at this moment, so this asks for no end.
    fn events_so_far(path: &Path) -> usize {
        let mut reader = EventReader::open(path).unwrap();
        std::iter::from_fn(|| reader.read_whole().unwrap()).count()
    }

    fn write(writer: &EventWriter, steps: &[u64]) {
        for &step in steps {
            writer.write(Summaries::at(step).scalar(&Tag::new("loss"), 1.0));
        }
    }

    #[test]
    fn flush_puts_events_into_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let writer = EventWriter::open(&dir.path().join("run/train")).unwrap();
        write(&writer, &[0, 100]);
        writer.write(&Summaries::at(200));
        writer.flush();
        let got = events(&dir.path().join("run/train"));
        assert_eq!(got, [["version", "start@0", "0", "100"]]);
    }

    #[test]
    fn event_reaches_the_file_without_a_flush() {
        let dir = tempfile::tempdir().unwrap();
        let writer = EventWriter::open(dir.path()).unwrap();
        write(&writer, &[5]);
        let file = file::list(dir.path()).unwrap().remove(0);
        // A minute is no limit on the write, only an end for a test that fails.
        for _ in 0..6000 {
            if events_so_far(&file) == 3 {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("got no event without a flush");
    }

    #[test]
    fn second_session_adds_a_file_and_no_start() {
        let dir = tempfile::tempdir().unwrap();
        write(&EventWriter::open(dir.path()).unwrap(), &[0]);
        write(&EventWriter::open(dir.path()).unwrap(), &[1]);
        let want = [vec!["version", "start@0", "0"], vec!["version", "1"]];
        assert_eq!(events(dir.path()), want);
    }

    #[test]
    fn resumed_run_has_every_step_once() {
        let dir = tempfile::tempdir().unwrap();
        write(&EventWriter::open(dir.path()).unwrap(), &[0, 100, 200, 300]);
        write(&EventWriter::resume(dir.path(), 201).unwrap(), &[300, 400]);
        write(&EventWriter::resume(dir.path(), 101).unwrap(), &[200, 300]);
        let want = [
            vec!["version", "start@0", "0", "100"],
            vec!["version"],
            vec!["version", "start@101", "200", "300"],
        ];
        assert_eq!(events(dir.path()), want);
    }

    /// Write what a run has once, at its first start.
    fn describe(writer: &EventWriter) {
        let mut graph = Graph::new();
        graph.node("a", "Placeholder", &[], &[1]);
        writer.graph(&graph);
        let mut end = Summaries::at(0);
        end.end_session(SessionStatus::Success);
        writer.write(&end);
        let mut texts = Summaries::at(0);
        texts.text(&Tag::new("spec"), "seed: 1").layout(&[]);
        writer.write(&texts);
    }

    #[test]
    fn resume_keeps_what_a_run_writes_once() {
        let dir = tempfile::tempdir().unwrap();
        let writer = EventWriter::open(dir.path()).unwrap();
        describe(&writer);
        write(&writer, &[0, 100, 200]);
        drop(writer);
        write(&EventWriter::resume(dir.path(), 101).unwrap(), &[200]);
        let once = ["version", "start@0", "graph@0", "session@0", "0"];
        let first = [&once[..], &["0", "100"]].concat();
        let second = vec!["version", "start@101", "200"];
        assert_eq!(events(dir.path()), [first, second]);
    }

    #[test]
    fn revision_of_the_last_step_replaces_what_it_has_and_keeps_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let (loss, state) = (Tag::new("loss"), Tag::new("state"));
        let event = |step: u64, value: f64| {
            let mut summaries = Summaries::at_time(step, 5.0);
            summaries.scalar(&loss, 0.5).scalar(&state, value);
            summaries
        };
        let writer = EventWriter::open(dir.path()).unwrap();
        writer.write(&event(10, 1.0));
        writer.write(&event(20, 1.0));
        writer.write(&event(30, 1.0)); // of a journal that has lost it
        drop(writer);
        let revise = |value: f64, end: Option<SessionStatus>| {
            let mut summaries = Summaries::at(20);
            summaries.scalar(&state, value);
            if let Some(end) = end {
                summaries.end_session(end);
            }
            EventWriter::revise(dir.path(), summaries).unwrap();
        };
        let shown = || {
            let files = file::list(dir.path()).unwrap();
            let event = last_event(&files, 20).unwrap().unwrap();
            assert_eq!(event.get_wall_time(), 5.0);
            let values = event.get_summary().get_value().iter();
            let values = values.map(|value| (value.get_tag().to_owned(), value.get_simple_value()));
            values.collect::<Vec<_>>()
        };
        revise(0.0, Some(SessionStatus::Failure));
        let [loss, end] = ["loss", "_hparams_/session_end_info"].map(|tag| (tag.to_owned(), 0.5));
        let end = (end.0, 0.0);
        let state = |value: f32| ("state".to_owned(), value);
        assert_eq!(shown(), [loss.clone(), state(0.0), end]);
        revise(1.0, None);
        assert_eq!(shown(), [loss, state(1.0)]);
        let want = [
            vec!["version", "start@0", "10"],
            vec!["version"],
            vec!["version", "start@20", "20"],
        ];
        assert_eq!(events(dir.path()), want);
    }

    #[test]
    fn resume_from_step_0_removes_all_earlier_events() {
        let dir = tempfile::tempdir().unwrap();
        describe(&EventWriter::resume(dir.path(), 0).unwrap());
        describe(&EventWriter::resume(dir.path(), 0).unwrap());
        let once = ["version", "start@0", "graph@0", "session@0", "0"];
        assert_eq!(events(dir.path()), [vec!["version"], once.to_vec()]);
    }

    #[test]
    fn listed_session_stays_and_is_read_first_and_its_end_goes_when_it_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let list = |seed| {
            let hparams = serde_json::json!({ "seed": seed });
            list_session(dir.path(), "run", &hparams).unwrap();
        };
        list(1);
        write(&EventWriter::resume(dir.path(), 0).unwrap(), &[0]);
        let listed = || vec!["version", "session@0"];
        assert_eq!(
            events(dir.path()),
            [listed(), vec!["version", "start@0", "0"]]
        );
        list(2);
        let writer = EventWriter::resume(dir.path(), 1).unwrap();
        writer.write(Summaries::at(1).end_session(SessionStatus::Failure));
        drop(writer);
        drop(EventWriter::resume(dir.path(), 1).unwrap());
        let want = [
            listed(),
            vec!["version", "start@0", "0"],
            vec!["version"],
            vec!["version", "start@1"],
        ];
        assert_eq!(events(dir.path()), want);
    }

    #[test]
    fn sync_says_why_it_failed() {
        let run = tempfile::tempdir().unwrap();
        let dir = run.path().join("run/eval");
        let writer = EventWriter::open(&dir).unwrap();
        write(&writer, &[0]);
        writer.sync().unwrap();
        fs::remove_dir_all(run.path().join("run")).unwrap();
        write(&writer, &[1]);
        let error = writer.sync().unwrap_err();
        let want = format!(
            "failed to write the events of {0}: failed to create {0}: No such file or directory",
            dir.display()
        );
        assert!(format!("{error:#}").starts_with(&want), "{error:#}");
    }

    #[test]
    fn writers_of_one_second_have_files_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let _first = EventWriter::open(dir.path()).unwrap();
        let _second = EventWriter::open(dir.path()).unwrap();
        assert_eq!(file::list(dir.path()).unwrap().len(), 2);
    }

    #[test]
    fn open_names_a_file_in_place_of_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("train");
        fs::write(&path, "").unwrap();
        let error = EventWriter::open(&path).err().unwrap();
        assert!(format!("{error:#}").starts_with(&format!("failed to create {}", path.display())));
    }
}
