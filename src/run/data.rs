//! The data of a run, `data.json`: what they were at the run's start, and where they are.
//!
//! ```text
//! {"version": 1, "folder": "/home/me/cifar10", "fingerprint": {"train": [...], "test": [...], "classes": [...]}}
//! ```
//!
//! The frozen spec says where they were when the run began; `folder` is where they are now, if they were moved. A
//! run of an earlier version gets the file at its next start.

use super::{Lock, ProcessDir, RunDir, commands};
use crate::console;
use crate::data::{self, CLASS_COUNT, ChannelStatistics, Fingerprint, Images, Split};
use crate::files::{read_if_there, without_bom, write_atomic};
use crate::hint::runboard;
use crate::paths::unexpanded;
use crate::spec::{Data, Normalize, Source, Spec};
use crate::{bail_user, user_error};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{self, Path, PathBuf};
use std::slice;

/// Version of the file.
const VERSION: u32 = 1;
/// The largest file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// One split of a run's data set.
#[derive(Debug)]
pub struct RunData {
    /// Images and labels.
    pub images: Images,
    /// Names of the classes in the order of the labels.
    pub classes: Vec<String>,
}

/// The images of a run's training files.
#[derive(Debug)]
pub struct TrainingData {
    /// Those that are trained on.
    pub images: Images,
    /// Those that are held out; none if the spec wants none.
    pub validation: Option<Images>,
    /// Names of the classes in the order of the labels.
    pub classes: Vec<String>,
}

/// Contents of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: u32,
    /// As `data.folder` of a spec, absolute.
    folder: PathBuf,
    fingerprint: Fingerprint,
}

/// What every version of the file has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Record {
    /// What differs between these and the recorded images of a split and their classes; none if nothing does.
    fn difference(&self, split: Split, images: &Images, classes: &[String]) -> Option<String> {
        let images = self.fingerprint.image_difference(split, images);
        images.or_else(|| self.fingerprint.class_difference(classes))
    }

    /// None in a run of an earlier version.
    fn load(run: &RunDir) -> Result<Option<Record>> {
        let path = run.data();
        let Some(bytes) = read_if_there(&path, MAX_BYTES)? else {
            return Ok(None);
        };
        let text = String::from_utf8(bytes).map(without_bom);
        let text = text.map_err(|_| user_error!("{}: want UTF-8", path.display()))?;
        let version = serde_json::from_str(&text).map(|Versioned { version }| version);
        if let Some(version) = version.ok().filter(|version| *version != VERSION) {
            bail_user!("{}: got version {version}, want {VERSION}", path.display());
        }
        let record: Record = serde_json::from_str(&text).map_err(|error| {
            user_error!(
                "{}: {error}; want what `runboard run` wrote; remove the file to record the data as they are now",
                path.display()
            )
        })?;
        Ok(Some(record))
    }
}

/// Records what the data of a new run are, and where.
///
/// # Errors
/// If the file cannot be written.
pub fn record(run: &RunDir, folder: &Path, fingerprint: Fingerprint) -> Result<()> {
    let record = Record {
        version: VERSION,
        folder: absolute(folder)?,
        fingerprint,
    };
    write_atomic(&run.data(), &serde_json::to_vec_pretty(&record)?)
}

/// Makes sure, before the run is resumed whose supervisor's lock this is, that its data are those that it began with.
/// They are looked for in `folder` alone if it is given; else where they were, where the spec says, and at last in
/// `fallback`. Where they are found is remembered. Synthetic images are generated anew where they were, or in the home if that
/// was moved with the run; nothing is fetched, which might be other data.
///
/// # Errors
/// A user error if they are not there, or are others; and that of `fallback`, if it is needed.
pub fn verify(
    run: &RunDir,
    _lock: &Lock,
    data: &Data,
    folder: Option<&Path>,
    fallback: impl FnOnce() -> Result<Option<PathBuf>>,
) -> Result<()> {
    let (recorded, hint) = (Record::load(run)?, commands::resume_with_data as Hint);
    let (place, fingerprint) = locate(run, recorded.as_ref(), data, folder, fallback, hint)?;
    remember(run, recorded.as_ref(), &place, fingerprint)
}

/// Where the run's data are, for another run that repeats it or another host's ranks: as `data.folder` of a spec, and what they
/// are. They are looked for as [`verify`] does, and it is not remembered where they are found. `hint` is the command by which a
/// user may say where they are.
///
/// # Errors
/// As [`verify`].
pub fn find(
    run: &RunDir,
    data: &Data,
    folder: Option<&Path>,
    fallback: impl FnOnce() -> Result<Option<PathBuf>>,
    hint: Hint,
) -> Result<(PathBuf, Fingerprint)> {
    let recorded = Record::load(run)?;
    locate(run, recorded.as_ref(), data, folder, fallback, hint)
}

/// What a user may type to say where the data of a run are.
pub type Hint = fn(&ProcessDir) -> String;

fn locate(
    run: &RunDir,
    recorded: Option<&Record>,
    data: &Data,
    folder: Option<&Path>,
    fallback: impl FnOnce() -> Result<Option<PathBuf>>,
    hint: Hint,
) -> Result<(PathBuf, Fingerprint)> {
    let examine = |directory: &Path| check(run, recorded, directory, hint);
    let first = match folder {
        Some(folder) => search(data, &[folder.to_owned()], examine),
        None => search(data, &places(run, recorded, data), examine),
    };
    let found = match first {
        Ok(Some(found)) => Some(found),
        _ if folder.is_some() => first?,
        _ => {
            // A problem with the first places is more to the point than one with this.
            let fallback =
                fallback().or_else(|error| first.is_err().then_some(None).ok_or(error))?;
            let second = match &fallback {
                Some(folder) => search(data, slice::from_ref(folder), examine),
                None => Ok(None),
            };
            match second {
                Ok(Some(found)) => Some(found),
                second => first.and(second)?,
            }
        }
    };
    if let Some(found) = found {
        return Ok(found);
    }
    if folder.is_some() || data.source != Source::Synthetic {
        let place = folder.unwrap_or_else(|| last_place(recorded, data));
        return Err(not_found(run, data, place, hint));
    }
    let place = run.data_folder(last_place(recorded, data));
    let fingerprint = examine(&data::synthesize(&data.synthetic, &place)?)?;
    Ok((place, fingerprint))
}

/// What `examine` makes of the run's data in the first of these places where that is no error, and the place; `None` if
/// there are no data in any.
///
/// # Errors
/// The first one, if there are data.
fn search<T>(
    data: &Data,
    places: &[PathBuf],
    examine: impl Fn(&Path) -> Result<T>,
) -> Result<Option<(PathBuf, T)>> {
    let mut problem = None;
    for place in places {
        let examined = match data::find(data, place) {
            Ok(None) => continue,
            Ok(Some(directory)) => examine(&directory),
            Err(error) => Err(error), // a part of a data set
        };
        match examined {
            Ok(examined) => return Ok(Some((place.clone(), examined))),
            Err(error) => drop(problem.get_or_insert(error)),
        }
    }
    problem.map_or(Ok(None), Err)
}

/// Number of training images of a run whose data are recorded: after [`record`] or [`verify`].
///
/// # Errors
/// If the file cannot be read.
pub fn train_images(run: &RunDir) -> Result<usize> {
    let recorded = Record::load(run)?;
    let recorded = recorded.with_context(|| format!("{} is not there", run.data().display()))?;
    Ok(recorded.fingerprint.train_images())
}

/// What differs between these data and the run's; none if nothing does, or if the run has no record of them.
///
/// # Errors
/// If the record cannot be read.
pub fn difference(run: &RunDir, found: &Fingerprint) -> Result<Option<String>> {
    let recorded = Record::load(run)?;
    Ok(recorded.and_then(|record| record.fingerprint.difference(found)))
}

/// Whether these are the images of a split of the run's data, with the same classes; not if it has no record of them.
///
/// # Errors
/// If the record cannot be read.
pub fn is_recorded(
    run: &RunDir,
    split: Split,
    images: &Images,
    classes: &[String],
) -> Result<bool> {
    let recorded = Record::load(run)?;
    Ok(recorded.is_some_and(|it| it.difference(split, images, classes).is_none()))
}

/// What stands for the run's data where people compare runs; none before they were read for the first time.
///
/// # Errors
/// If the record cannot be read.
pub fn fingerprint_digits(run: &RunDir) -> Result<Option<String>> {
    let recorded = Record::load(run)?;
    recorded
        .map(|record| record.fingerprint.digits())
        .transpose()
}

/// Reads a split of the run's data where [`verify`] found them, or else where the spec says, and makes sure that they
/// still are the same. `hint` is the command by which a user may say where they are.
///
/// # Errors
/// A user error if they are not there, are damaged, or are others.
pub fn read(run: &RunDir, data: &Data, split: Split, hint: Hint) -> Result<RunData> {
    let recorded = Record::load(run)?;
    let recorded = recorded.as_ref();
    let examine = |directory: &Path| read_from(run, recorded, directory, split, hint);
    let places = places(run, recorded, data);
    let (place, (directory, read)) = match (search(data, &places, examine)?, data.source) {
        (Some(found), _) => found,
        (None, Source::Synthetic) => {
            let place = run.data_folder(last_place(recorded, data));
            let directory = data::synthesize(&data.synthetic, &place)?;
            (place, examine(&directory)?)
        }
        (None, Source::Cifar10) => {
            return Err(not_found(run, data, last_place(recorded, data), hint));
        }
    };
    if recorded.is_none() {
        remember(run, None, &place, Fingerprint::of(&directory)?)?;
    }
    Ok(read)
}

/// The directory, and a split of the data in it, which must be as recorded.
fn read_from(
    run: &RunDir,
    recorded: Option<&Record>,
    directory: &Path,
    split: Split,
    hint: Hint,
) -> Result<(PathBuf, RunData)> {
    let images = Images::read(directory, split)?;
    let classes = data::class_names(directory)?;
    if let Some(difference) = recorded.and_then(|it| it.difference(split, &images, &classes)) {
        return Err(other_data(run, directory, &difference, hint));
    }
    Ok((directory.to_owned(), RunData { images, classes }))
}

/// Reads the training files as [`read`] does, and holds out what the spec wants.
///
/// # Errors
/// As [`read`] and [`Spec::training_images`].
pub fn read_training(run: &RunDir, spec: &Spec, hint: Hint) -> Result<TrainingData> {
    held_out(read(run, &spec.data, Split::Train, hint)?, spec)
}

/// Holds out of the training files what the spec wants.
///
/// # Errors
/// That of [`Spec::training_images`].
pub fn held_out(data: RunData, spec: &Spec) -> Result<TrainingData> {
    let RunData {
        mut images,
        classes,
    } = data;
    spec.training_images(images.len())?;
    let validation = match spec.data.validation_images {
        0 => None,
        count => Some(images.hold_out(count, spec.seed)),
    };
    Ok(TrainingData {
        images,
        validation,
        classes,
    })
}

/// Names of the classes in the order of the labels: as they are recorded, so that the images need not be there; of a run of
/// an earlier version as [`read`] finds them.
///
/// # Errors
/// As [`read`].
pub fn classes(run: &RunDir, data: &Data) -> Result<Vec<String>> {
    let classes = match Record::load(run)? {
        Some(record) => record.fingerprint.classes().to_vec(),
        None => read(run, data, Split::Test, commands::resume_with_data)?.classes,
    };
    if classes.len() != CLASS_COUNT {
        bail_user!(
            "{}: got {} names of classes, want {CLASS_COUNT}",
            run.data().display(),
            classes.len()
        );
    }
    Ok(classes)
}

/// What the images of the run are normalised by that are no images themselves: mean and deviation of those that it trains
/// on, where the spec wants them.
///
/// # Errors
/// As [`read_training`], where they are needed.
pub fn statistics(run: &RunDir, spec: &Spec, hint: Hint) -> Result<Option<ChannelStatistics>> {
    match spec.input.normalize {
        Normalize::Dataset => {
            let training = read_training(run, spec, hint)?;
            Ok(Some(ChannelStatistics::of(&training.images)))
        }
        Normalize::Image | Normalize::None => Ok(None),
    }
}

/// The fingerprint of the data in `directory`, which must be the recorded one.
fn check(
    run: &RunDir,
    recorded: Option<&Record>,
    directory: &Path,
    hint: Hint,
) -> Result<Fingerprint> {
    let found = Fingerprint::of(directory)?;
    let difference = recorded.and_then(|record| record.fingerprint.difference(&found));
    match difference {
        Some(difference) => Err(other_data(run, directory, &difference, hint)),
        None => Ok(found),
    }
}

fn remember(
    run: &RunDir,
    recorded: Option<&Record>,
    folder: &Path,
    fingerprint: Fingerprint,
) -> Result<()> {
    let folder = absolute(folder)?;
    if recorded.is_none() && has_begun(run) {
        console::warning(format_args!(
            "{} has no record of the data that it began with ({} is not there): those in {} are taken for them",
            run.id(),
            run.data().display(),
            folder.display()
        ));
    }
    match recorded {
        Some(record) if record.folder == folder => Ok(()),
        _ => record(run, &folder, fingerprint),
    }
}

/// Whether the run has a checkpoint, of whatever data.
fn has_begun(run: &RunDir) -> bool {
    let mut checkpoints = fs::read_dir(run.checkpoints()).into_iter().flatten();
    checkpoints.next().is_some()
}

/// Where the data were last, and where the spec says, if that is another place: reading them takes its time. Places in a
/// home that was moved with the run are where they are now.
fn places(run: &RunDir, recorded: Option<&Record>, data: &Data) -> Vec<PathBuf> {
    let folders = [last_place(recorded, data), &data.folder];
    let mut places: Vec<PathBuf> = folders.map(|folder| run.data_folder(folder)).into();
    places.dedup();
    places
}

/// Where the data were when it was last recorded; of a run without a record, where the spec says.
fn last_place<'a>(recorded: Option<&'a Record>, data: &'a Data) -> &'a Path {
    recorded.map_or(&data.folder, |record| &record.folder)
}

fn absolute(folder: &Path) -> Result<PathBuf> {
    let folder = path::absolute(folder)
        .with_context(|| format!("failed to make {} absolute", folder.display()))?;
    match folder.to_str() {
        Some(_) => Ok(folder),
        None => bail_user!(
            "the data are in {}; want a path in UTF-8, which a run can record",
            folder.display()
        ),
    }
}

fn other_data(run: &RunDir, directory: &Path, difference: &str, hint: Hint) -> anyhow::Error {
    user_error!(
        "{} holds other data than {} began with: {difference}; a run keeps its data: start another run for others, or \
         name the place of these: {}",
        directory.display(),
        run.id(),
        hint(run)
    )
}

/// That the images of a run or a sweep are not in `folder`, and what to do about it.
pub fn not_found(run: &ProcessDir, data: &Data, folder: &Path, hint: Hint) -> anyhow::Error {
    let mut message = format!(
        "the data of {} are not in {}, and others are not fetched for what has begun; if they are elsewhere: {}",
        run.id(),
        folder.display(),
        hint(run)
    );
    if data.source == Source::Cifar10 {
        message += &format!(
            "; if they were the official archive and are gone: {}",
            runboard(&[
                "data".as_ref(),
                "fetch".as_ref(),
                unexpanded(folder).as_os_str()
            ])
        );
    }
    user_error!("{message}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::is_user_error;
    use crate::run::{Role, provenance};

    /// A run of real images, each of one colour, in `home/data`.
    struct Case {
        home: tempfile::TempDir,
        run: RunDir,
        lock: Lock,
        data: Data,
    }

    impl Case {
        fn new() -> Case {
            let home = tempfile::tempdir().unwrap();
            let folder = home.path().join("data");
            fs::create_dir(&folder).unwrap();
            for batch in 1..=5 {
                write(&folder.join(format!("data_batch_{batch}.bin")), batch);
            }
            write(&folder.join("test_batch.bin"), 6);
            let data = Data {
                folder,
                ..Data::default()
            };
            let run = RunDir::create(&home.path().join("runs"), "a", "", &provenance()).unwrap();
            let lock = Lock::take(&run, Role::Supervisor).unwrap();
            Case {
                home,
                run,
                lock,
                data,
            }
        }

        /// As `runboard run` leaves it.
        fn recorded() -> Case {
            let case = Case::new();
            let fingerprint = Fingerprint::of(&case.data.folder).unwrap();
            record(&case.run, &case.data.folder, fingerprint).unwrap();
            case
        }

        fn verify(&self, folder: Option<&Path>, fallback: Option<&Path>) -> Result<(), String> {
            let fallback = || Ok(fallback.map(Path::to_owned));
            user_message(verify(&self.run, &self.lock, &self.data, folder, fallback))
        }

        fn read(&self, split: Split) -> Result<RunData, String> {
            user_message(read(
                &self.run,
                &self.data,
                split,
                commands::resume_with_data,
            ))
        }

        /// Move the data to another place, which is returned.
        fn moved(&self) -> PathBuf {
            let place = self.home.path().join("moved");
            fs::rename(&self.data.folder, &place).unwrap();
            place
        }
    }

    fn write(path: &Path, label: u8) {
        fs::write(path, [label; 1 + 3 * 32 * 32]).unwrap();
    }

    fn user_message<T>(result: Result<T>) -> Result<T, String> {
        result.map_err(|error| {
            assert!(is_user_error(&error), "{error:#}");
            format!("{error:#}")
        })
    }

    #[test]
    fn other_images_are_refused_by_every_process() {
        let case = Case::recorded();
        case.verify(None, None).unwrap();
        assert_eq!(case.read(Split::Train).unwrap().images.len(), 5);
        write(&case.data.folder.join("data_batch_2.bin"), 7);
        let begin = format!(
            "{} holds other data than {} began with: data_batch_2.bin has 3073 bytes with SHA-256 ",
            case.data.folder.display(),
            case.run.id()
        );
        for message in [
            case.verify(None, None).unwrap_err(),
            case.read(Split::Train).unwrap_err(),
        ] {
            assert!(message.starts_with(&begin), "{message}");
        }
        // What it reads of the other split is the same.
        case.read(Split::Test).unwrap();
    }

    #[test]
    fn other_class_names_are_refused_by_every_process() {
        let case = Case::recorded();
        fs::write(
            case.data.folder.join("batches.meta.txt"),
            "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n",
        )
        .unwrap();
        let want = "class 0 is named \"a\", want \"airplane\"";
        for message in [
            case.verify(None, None).unwrap_err(),
            case.read(Split::Train).unwrap_err(),
            case.read(Split::Test).unwrap_err(),
        ] {
            assert!(message.contains(want), "{message}");
        }
    }

    #[test]
    fn runs_of_earlier_versions_record_their_data_at_the_next_start() {
        let case = Case::new();
        case.verify(None, None).unwrap();
        let other = Case::new();
        other.read(Split::Test).unwrap();
        for case in [case, other] {
            assert!(case.run.data().exists());
            write(&case.data.folder.join("test_batch.bin"), 7);
            case.verify(None, None).unwrap_err();
        }
    }

    #[test]
    fn moved_data_are_found_by_name_and_remembered() {
        let case = Case::recorded();
        let place = case.moved();
        let message = case.verify(None, None).unwrap_err();
        let hint = commands::resume_with_data(&case.run);
        assert!(message.contains(&hint), "{message}");
        assert!(case.read(Split::Train).is_err());
        assert!(!case.data.folder.exists(), "something was fetched");
        let nowhere = case.home.path().join("nowhere");
        case.verify(Some(&nowhere), Some(&place)).unwrap_err();

        case.verify(Some(&place), None).unwrap();
        case.read(Split::Train).unwrap();
        case.verify(None, None).unwrap();
        // Also when only the environment tells, and over again.
        fs::rename(&place, &nowhere).unwrap();
        case.verify(None, Some(&nowhere)).unwrap();
        case.read(Split::Test).unwrap();
    }

    #[test]
    fn data_of_which_a_part_is_missing_are_found_in_another_place() {
        let case = Case::recorded();
        let whole = case.home.path().join("whole");
        fs::create_dir(&whole).unwrap();
        for file in fs::read_dir(&case.data.folder).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), whole.join(file.file_name())).unwrap();
        }
        fs::remove_file(case.data.folder.join("data_batch_3.bin")).unwrap();
        // A bad place that is not needed does no harm, nor hides why it is needed.
        let unset = || Err(user_error!("NOPE is not set"));
        verify(&case.run, &case.lock, &case.data, Some(&whole), unset).unwrap();
        let record = fs::read_to_string(case.run.data()).unwrap();
        let folder = |place: &Path| format!("\"folder\": {place:?}");
        let moved_back = record.replace(&folder(&whole), &folder(&case.data.folder));
        assert_ne!(moved_back, record);
        fs::write(case.run.data(), moved_back).unwrap();
        let error =
            user_message(verify(&case.run, &case.lock, &case.data, None, unset)).unwrap_err();
        assert!(error.contains("data_batch_3.bin missing"), "{error}");
        let error = case.verify(None, None).unwrap_err();
        assert!(error.contains("data_batch_3.bin missing"), "{error}");
        case.verify(None, Some(&whole)).unwrap();
    }

    #[test]
    fn data_that_were_moved_back_are_found_by_every_process() {
        let case = Case::recorded();
        let place = case.moved();
        case.verify(Some(&place), None).unwrap();
        fs::rename(&place, &case.data.folder).unwrap();
        case.read(Split::Train).unwrap();
        case.verify(None, None).unwrap();
    }

    #[test]
    fn other_data_in_a_new_place_are_refused() {
        let (case, other) = (Case::recorded(), Case::recorded());
        write(&other.data.folder.join("data_batch_1.bin"), 9);
        let message = case.verify(Some(&other.data.folder), None).unwrap_err();
        assert!(message.contains("holds other data than"), "{message}");
        case.verify(None, Some(&other.data.folder)).unwrap();
        case.moved();
        case.verify(None, Some(&other.data.folder)).unwrap_err();
    }

    #[test]
    fn synthetic_images_are_generated_anew_unless_they_were_moved() {
        let mut case = Case::new();
        case.data.source = Source::Synthetic;
        case.data.synthetic.train_images = 10;
        case.data.synthetic.test_images = 10;
        case.data.folder = case.home.path().join("generated");
        let directory = data::synthesize(&case.data.synthetic, &case.data.folder).unwrap();
        record(
            &case.run,
            &case.data.folder,
            Fingerprint::of(&directory).unwrap(),
        )
        .unwrap();
        let place = case.moved();
        case.verify(None, Some(&place)).unwrap();
        assert!(!case.data.folder.exists());
        // Also by the directory that holds the files.
        let files = place.join(directory.file_name().unwrap());
        case.verify(Some(&files), None).unwrap();
        fs::remove_dir_all(&place).unwrap();
        case.verify(Some(&files), None).unwrap_err();
        assert!(!place.exists());
        case.verify(None, None).unwrap();
        case.read(Split::Test).unwrap();
    }

    #[test]
    fn data_of_a_home_that_was_moved_are_where_it_is_now() {
        let place = tempfile::tempdir().unwrap();
        let [before, after] = ["before", "after"].map(|name| place.path().join(name));
        let mut data = Data {
            folder: before.join(Data::default().folder),
            source: Source::Synthetic,
            ..Data::default()
        };
        data.synthetic.train_images = 10;
        data.synthetic.test_images = 10;
        let made = RunDir::create(&before.join("runs"), "a", "", &provenance()).unwrap();
        let images = data::synthesize(&data.synthetic, &data.folder).unwrap();
        record(&made, &data.folder, Fingerprint::of(&images).unwrap()).unwrap();
        let run_in = |home: &Path| {
            let own = made.path().strip_prefix(&before).unwrap();
            RunDir::open(&home.join(own)).unwrap()
        };
        let folder = after.join(Data::default().folder);

        fs::rename(&before, &after).unwrap();
        let run = run_in(&after);
        // By a trainer alone, and by a resume; the second time the images are generated anew.
        read(&run, &data, Split::Train, commands::resume_with_data).unwrap();
        for _ in 0..2 {
            let lock = Lock::take(&run, Role::Supervisor).unwrap();
            verify(&run, &lock, &data, None, || Ok(None)).unwrap();
            read(&run, &data, Split::Test, commands::resume_with_data).unwrap();
            let recorded = Record::load(&run).unwrap().unwrap().folder;
            assert_eq!(recorded, folder);
            fs::remove_dir_all(&folder).unwrap();
        }
        assert!(!before.exists());

        // One that is still there, or whose run lies in no home, keeps its place.
        fs::create_dir(&before).unwrap();
        assert_eq!(run.data_folder(&data.folder), data.folder);
        fs::remove_dir(&before).unwrap();
        let alone = ProcessDir::new(after.join("a/b"));
        assert_eq!(alone.data_folder(&data.folder), data.folder);
        let other = before.join("images");
        assert_eq!(run.data_folder(&other), other);
    }

    #[test]
    fn record_may_begin_with_a_byte_order_mark() {
        let case = Case::recorded();
        let text = fs::read_to_string(case.run.data()).unwrap();
        fs::write(case.run.data(), format!("\u{feff}{text}")).unwrap();
        case.read(Split::Train).unwrap();
        case.verify(None, None).unwrap();
    }

    #[test]
    fn damaged_record_is_named() {
        let case = Case::recorded();
        let path = case.run.data();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("\"version\": 1", "\"version\": 2")).unwrap();
        let message = case.verify(None, None).unwrap_err();
        assert_eq!(
            message,
            format!("{}: got version 2, want 1", path.display())
        );
        fs::write(&path, &text[..text.len() / 2]).unwrap();
        let message = case.read(Split::Train).unwrap_err();
        assert!(
            message.starts_with(&format!("{}: ", path.display())),
            "{message}"
        );
    }
}
