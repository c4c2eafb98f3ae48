//! Turns class directories of PNG and JPEG images into CIFAR-10's layout.

use super::decode::{ChangeCounts, read_image, write_planes};
use super::staging::DirectoryLock;
use super::write::Dataset;
use crate::data::files::{self, class_names_error};
use crate::data::format::{BATCHES_DIR, CLASS_COUNT, CLASSES, Split};
use crate::data::random;
use crate::spec::Seed;
use crate::{bail_user, console, user_error};
use anyhow::Result;
use icu_normalizer::ComposingNormalizerBorrowed;
use rand::seq::SliceRandom;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Extensions of image files, in lower case.
const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];

/// What systems and programs leave in directories, in lower case.
const DROPPINGS: [&str; 8] = [
    ".ds_store",
    ".ipynb_checkpoints",
    "@eadir",
    "__macosx",
    "desktop.ini",
    "ehthumbs.db",
    "icon\r",
    "thumbs.db",
];

/// Whether a file is called as images are.
pub(super) fn is_image_name(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy();
    EXTENSIONS.contains(&extension.to_lowercase().as_str())
}

/// Whether systems and programs leave files of this name in directories.
pub(super) fn is_dropping(name: &str) -> bool {
    DROPPINGS.contains(&name.to_lowercase().as_str())
}

/// The most class names that are listed.
const MAX_LISTED: usize = 20;

/// Writes the images of `from/train/CLASS/` and `from/test/CLASS/` into `to/cifar-10-batches-bin/` and
/// returns that directory.
///
/// There are ten classes, the same in both, whose names do not look the same. CIFAR-10's own names get CIFAR-10's labels, other names
/// labels in alphabetical order. Of an image of another size the central square is taken and scaled
/// (Lanczos) to 32x32; transparent images are composed on white, the camera's orientation is applied. The
/// order is shuffled by a fixed seed, so that every file holds all classes. Hidden files, and those that
/// systems leave in directories, are passed over.
///
/// # Errors
/// User errors that name the place: not ten classes, a class without images, `to` holds a data set already;
/// and all files that are no images, cannot be read, are damaged or too large.
pub fn import(from: &Path, to: &Path) -> Result<PathBuf> {
    let mut passed_over = BTreeMap::new();
    let classes = class_directories(from, &mut passed_over)?;
    let mut problems = Problems::default();
    let [train, test] = [Split::Train, Split::Test]
        .map(|split| list_images(from, split, &classes, &mut passed_over, &mut problems));
    let (train, test) = (train?, test?);
    if !passed_over.is_empty() {
        let counts = passed_over
            .iter()
            .map(|(name, count)| format!("{count} {name}"));
        let counts: Vec<String> = counts.collect();
        console::stderr_line(format_args!(
            "passed over, as no images: {}",
            counts.join(", ")
        ));
    }
    let lock = DirectoryLock::acquire(to)?;
    if let Some(dataset) = files::find_dataset(to)? {
        bail_user!(
            "{} holds a data set already: give another directory",
            dataset.display()
        );
    }
    let staging = lock.stage(&to.join(BATCHES_DIR))?;
    let dataset = Dataset {
        classes: classes.each_ref().map(String::as_str),
        train_images: train.len(),
        test_images: test.len(),
        message: format!("importing {}", from.display()),
    };
    let outcome = Mutex::new((problems, ChangeCounts::default()));
    let written = dataset.write(&staging, |split, index, record| {
        let file = match split {
            Split::Train => &train[index],
            Split::Test => &test[index],
        };
        record[0] = file.label;
        let read = read_image(&file.path).map(|image| write_planes(&image, &mut record[1..]));
        let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let (problems, counts) = &mut *outcome;
        match read {
            Ok(changes) => counts.add(changes),
            // The import goes on, to list them all.
            Err(problem) => problems.add(&file.path, &problem),
        }
        Ok(())
    });
    let outcome = outcome.into_inner();
    let (problems, counts) = outcome.unwrap_or_else(PoisonError::into_inner);
    // First: they may be why too few images are left.
    problems.into_result(from)?;
    written?;
    let lines = counts.lines("image");
    lines.iter().for_each(console::stderr_line);
    staging.commit()
}

/// Files that cannot be imported.
#[derive(Default)]
struct Problems(BTreeSet<String>);

impl Problems {
    /// `problem` goes on from the path: "is ...".
    fn add(&mut self, path: &Path, problem: &str) {
        self.0.insert(format!("{} {problem}", path.display()));
    }

    /// A user error that lists them by path, if there are any.
    fn into_result(self, from: &Path) -> Result<()> {
        let all: Vec<String> = self.0.into_iter().collect();
        match all.as_slice() {
            [] => Ok(()),
            [one] => bail_user!("{one}"),
            _ => bail_user!(
                "{} files of {} cannot be imported:\n  {}",
                all.len(),
                from.display(),
                all.join("\n  ")
            ),
        }
    }
}

/// An image to import.
struct ImageFile {
    path: PathBuf,
    label: u8,
}

fn split_dir(from: &Path, split: Split) -> PathBuf {
    from.join(match split {
        Split::Train => "train",
        Split::Test => "test",
    })
}

/// Names of the class directories in the order of their labels.
fn class_directories(
    from: &Path,
    passed_over: &mut BTreeMap<String, usize>,
) -> Result<[String; CLASS_COUNT]> {
    let mut names = |split| -> Result<Vec<String>> {
        let mut names = Vec::new();
        for path in list_directory(&split_dir(from, split), passed_over)? {
            match path.metadata() {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(_) => bail_user!("{} is no class directory", path.display()),
                Err(error) => bail_user!(
                    "{} cannot be read: {error}; want a class directory",
                    path.display()
                ),
            }
            let name = path.file_name().and_then(|name| name.to_str());
            let name = name.ok_or_else(|| user_error!("{} is no UTF-8", path.display()))?;
            names.push(name.to_owned());
        }
        Ok(names)
    };
    let (train, test) = (names(Split::Train)?, names(Split::Test)?);
    if train != test {
        bail_user!(
            "{}: {} only in train/, {} only in test/, want the same classes in both",
            from.display(),
            missing_names(&train, &test),
            missing_names(&test, &train)
        );
    }
    if let Some(message) = class_names_error(&train) {
        bail_user!("{}: {message}", split_dir(from, Split::Train).display());
    }
    if let Some(alike) = look_alike(&train) {
        bail_user!(
            "{}: the class names {} look the same, want names that people can tell apart",
            from.display(),
            alike.map(quoted).join(" and ")
        );
    }
    if train.iter().all(|name| CLASSES.contains(&name.as_str())) && train.len() == CLASS_COUNT {
        return Ok(CLASSES.map(String::from));
    }
    train.try_into().map_err(|names: Vec<String>| {
        user_error!(
            "{}: got {} class directories, want {CLASS_COUNT}: the network has an output for each class of CIFAR-10, and takes \
             images of as many",
            split_dir(from, Split::Train).display(),
            names.len()
        )
    })
}

/// Two of the names that differ and look the same, as with a composed and a decomposed letter.
fn look_alike(names: &[String]) -> Option<[&str; 2]> {
    let normalizer = ComposingNormalizerBorrowed::new_nfc();
    let mut seen = BTreeMap::new();
    names.iter().find_map(|name| {
        let before = seen.insert(normalizer.normalize(name), name)?;
        Some([before.as_str(), name])
    })
}

/// A name for a message. Other letters than ASCII are shown by their codes, too.
fn quoted(name: &str) -> String {
    let (shown, codes) = (
        format!("{name:?}"),
        format!("\"{}\"", name.escape_default()),
    );
    match name.is_ascii() || shown == codes {
        true => shown,
        false => format!("{shown} ({codes})"),
    }
}

/// The names of `these` that `others` lacks, for a message.
fn missing_names(these: &[String], others: &[String]) -> String {
    let missing = these.iter().filter(|name| !others.contains(name));
    let mut shown: Vec<String> = missing.map(|name| quoted(name)).collect();
    let count = shown.len();
    shown.truncate(MAX_LISTED);
    match count {
        0 => "no class".into(),
        1..=MAX_LISTED => shown.join(", "),
        _ => format!("{} and {} more", shown.join(", "), count - MAX_LISTED),
    }
}

/// The entries of a directory, sorted by name, without hidden ones and droppings. Those are counted in
/// `passed_over`.
fn list_directory(
    directory: &Path,
    passed_over: &mut BTreeMap<String, usize>,
) -> Result<Vec<PathBuf>> {
    let failed = |error| user_error!("{} cannot be listed: {error}", directory.display());
    if !files::is_there(directory)? || !directory.metadata().map_err(failed)?.is_dir() {
        bail_user!(
            "no directory {}: want train/CLASS/ and test/CLASS/ with images",
            directory.display()
        );
    }
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if is_dropping(&name) {
            *passed_over.entry(name.trim_end().into()).or_insert(0) += 1;
        } else if !name.starts_with('.') {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// All images of a split, shuffled. Other files are added to `problems`.
fn list_images(
    from: &Path,
    split: Split,
    classes: &[String],
    passed_over: &mut BTreeMap<String, usize>,
    problems: &mut Problems,
) -> Result<Vec<ImageFile>> {
    let mut files = Vec::new();
    for (class, label) in classes.iter().zip(0..) {
        let directory = split_dir(from, split).join(class);
        let paths = list_directory(&directory, passed_over)?;
        if paths.is_empty() {
            bail_user!("no images in {}", directory.display());
        }
        for path in paths {
            match file_problem(&path) {
                Some(problem) => problems.add(&path, &problem),
                None => files.push(ImageFile { path, label }),
            }
        }
    }
    files.shuffle(&mut random::stream(Seed(1), random::IMPORT, split as u64));
    Ok(files)
}

/// Why something in a class directory is no image file, as far as can be told without opening it.
fn file_problem(path: &Path) -> Option<String> {
    match fs::metadata(path) {
        Err(error) if path.is_symlink() => Some(format!("is a link that leads nowhere: {error}")),
        Err(error) => Some(format!("cannot be read: {error}")),
        Ok(metadata) if metadata.is_dir() => {
            Some("is a directory, want images right in the class directories".into())
        }
        Ok(metadata) if !metadata.is_file() => Some("is no regular file".into()),
        Ok(_) if !is_image_name(path) => {
            Some("is of another type, want a .png, .jpg or .jpeg file".into())
        }
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::files::class_names;
    use crate::data::format::SIDE;
    use crate::data::images::Images;
    use crate::error::is_user_error;
    use image::{Rgb, RgbImage};
    use std::os::unix::fs::symlink;

    /// Two training images and a test image a class, each in one colour that tells class and number.
    fn directories(classes: &[&str]) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        for (class, name) in classes.iter().enumerate() {
            for (split, count) in [("train", 2), ("test", 1)] {
                let directory = home.path().join(split).join(name);
                fs::create_dir_all(&directory).unwrap();
                for number in 0..count {
                    let colour = Rgb([10 * class as u8, 100 + number, 200]);
                    let image = RgbImage::from_pixel(32, 32, colour);
                    image.save(directory.join(format!("{number}.png"))).unwrap();
                }
            }
        }
        home
    }

    fn imported(from: &Path) -> (tempfile::TempDir, Images, Images) {
        let to = tempfile::tempdir().unwrap();
        let dataset = import(from, to.path()).unwrap();
        assert_eq!(dataset, to.path().join(BATCHES_DIR));
        let train = Images::read(to.path(), Split::Train).unwrap();
        let test = Images::read(to.path(), Split::Test).unwrap();
        (to, train, test)
    }

    fn import_error(from: &Path) -> String {
        let to = tempfile::tempdir().unwrap();
        let error = import(from, to.path()).unwrap_err();
        assert!(is_user_error(&error), "{error:#}");
        assert!(!to.path().join(BATCHES_DIR).exists());
        format!("{error:#}")
    }

    const OWN: [&str; 10] = ["j", "i", "h", "g", "f", "e", "d", "c", "b", "a"];

    #[test]
    fn classes_of_other_names_get_labels_in_alphabetical_order() {
        let from = directories(&OWN);
        let (to, train, test) = imported(from.path());
        assert_eq!((train.len(), test.len()), (20, 10));
        let mut seen: Vec<(u8, u8)> = (0..20)
            .map(|index| {
                let (label, pixels) = (train.label(index), train.pixels(index));
                // `a` was created last, with the red of class 9.
                assert_eq!(pixels[0], 10 * (9 - label));
                assert_eq!(pixels[2047], pixels[1024]);
                assert_eq!(pixels[2048], 200);
                (label, pixels[1024])
            })
            .collect();
        assert!(!seen.is_sorted(), "not shuffled");
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 20, "every image once");
        let mut names = OWN;
        names.sort();
        assert_eq!(class_names(to.path()).unwrap(), names);
    }

    #[test]
    fn classes_of_cifars_names_get_cifars_labels() {
        let mut names = CLASSES;
        names.reverse();
        let from = directories(&names);
        let (to, train, _) = imported(from.path());
        for index in 0..20 {
            assert_eq!(train.pixels(index)[0], 10 * (9 - train.label(index)));
        }
        assert_eq!(class_names(to.path()).unwrap(), CLASSES);
    }

    #[test]
    fn images_of_other_sizes_are_cropped_to_the_central_square_and_scaled() {
        let from = directories(&OWN);
        let wide = RgbImage::from_fn(128, 64, |x, _| match x {
            32..96 => Rgb([50, 60, 70]),
            _ => Rgb([255; 3]),
        });
        wide.save(from.path().join("test/a/0.png")).unwrap();
        let (_to, _, test) = imported(from.path());
        let a = (0..10).find(|&index| test.label(index) == 0).unwrap();
        let middle = 16 * SIDE + 16;
        assert_eq!(test.pixels(a)[middle], 50);
        assert_eq!(test.pixels(a)[2 * SIDE * SIDE + middle], 70);
        // Nothing of what is beyond the square shines in.
        assert_eq!(test.pixels(a)[..SIDE * SIDE], [50; SIDE * SIDE]);
    }

    #[test]
    fn images_may_be_jpeg_grey_and_transparent() {
        let from = directories(&OWN);
        let directory = from.path().join("train/b");
        let grey = image::GrayImage::from_pixel(32, 32, image::Luma([90]));
        grey.save(directory.join("2.JPEG")).unwrap();
        let clear = image::RgbaImage::from_pixel(32, 32, image::Rgba([1, 2, 3, 0]));
        clear.save(directory.join("3.png")).unwrap();
        let (_to, train, _) = imported(from.path());
        assert_eq!(train.len(), 22);
    }

    #[test]
    fn files_that_cannot_be_imported_are_all_named() {
        let from = directories(&OWN);
        let path = from.path().join("test/c/x.png");
        fs::write(&path, b"no image").unwrap();
        let want = format!("{} is no PNG or JPEG image", path.display());
        assert_eq!(import_error(from.path()), want);
        fs::write(from.path().join("test/d/x.txt"), b"").unwrap();
        for number in 0..30 {
            let whole = fs::read(from.path().join("test/a/0.png")).unwrap();
            let cut = from.path().join(format!("train/a/cut-{number:02}.png"));
            fs::write(cut, &whole[..whole.len() / 2]).unwrap();
        }
        let message = import_error(from.path());
        let lines: Vec<&str> = message.lines().collect();
        let first = format!("32 files of {} cannot be imported:", from.path().display());
        assert_eq!((lines[0], lines.len()), (first.as_str(), 33));
        assert!(lines[2].ends_with("x.txt is of another type, want a .png, .jpg or .jpeg file"));
        let third = from.path().join("train/a/cut-00.png");
        let third = format!("  {} is damaged: ", third.display());
        assert!(lines[3].starts_with(&third), "{message}");
        assert!(lines[32].contains("cut-29.png is damaged: "), "{message}");
    }

    #[test]
    fn entries_that_are_no_image_files_are_all_named_without_opening_them() {
        let from = directories(&OWN);
        let directory = from.path().join("train/c");
        let text = directory.join("4.txt");
        fs::write(&text, b"").unwrap();
        let want = "is of another type, want a .png, .jpg or .jpeg file";
        let message = import_error(from.path());
        assert_eq!(message, format!("{} {want}", text.display()));
        fs::remove_file(text).unwrap();
        symlink("nowhere", directory.join("3.png")).unwrap();
        fs::create_dir(directory.join("5.png")).unwrap();
        let pipe = directory.join("6.png");
        let created = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(created.unwrap().success());
        symlink("/dev/zero", directory.join("7.png")).unwrap();
        let message = import_error(from.path());
        let problems: Vec<&str> = message
            .lines()
            .filter_map(|line| line.trim().strip_prefix(directory.to_str()?))
            .collect();
        assert!(problems[0].starts_with("/3.png is a link that leads nowhere: "));
        let rest = [
            "/5.png is a directory, want images right in the class directories",
            "/6.png is no regular file",
            "/7.png is no regular file",
        ];
        assert_eq!(problems[1..], rest);
    }

    #[test]
    fn hidden_files_and_droppings_are_passed_over() {
        let from = directories(&OWN);
        for directory in ["", "train", "train/a", "test/b"] {
            let directory = from.path().join(directory);
            symlink("user@host.123:456", directory.join(".#x.png")).unwrap();
            fs::write(directory.join(".DS_Store"), b"").unwrap();
            fs::write(directory.join("Thumbs.db"), b"").unwrap();
            fs::write(directory.join("desktop.ini"), b"").unwrap();
            fs::create_dir(directory.join(".ipynb_checkpoints")).unwrap();
        }
        let (_to, train, test) = imported(from.path());
        assert_eq!((train.len(), test.len()), (20, 10));
    }

    #[test]
    fn class_names_that_look_the_same_are_told_apart() {
        let mut names = OWN;
        names[0] = "caf\u{e9}";
        let from = directories(&names);
        let (composed, decomposed) = ("test/caf\u{e9}", "test/cafe\u{301}");
        fs::rename(from.path().join(composed), from.path().join(decomposed)).unwrap();
        let want = "\"caf\u{e9}\" (\"caf\\u{e9}\") only in train/, \"cafe\\u{301}\" only in test/, \
                    want the same classes in both";
        let message = import_error(from.path());
        assert_eq!(message, format!("{}: {want}", from.path().display()));
    }

    #[test]
    fn class_names_of_both_splits_that_look_the_same_are_refused() {
        let mut names = OWN;
        (names[0], names[1]) = ("caf\u{e9}", "cafe\u{301}");
        let from = directories(&names);
        let want = "the class names \"cafe\\u{301}\" and \"caf\u{e9}\" (\"caf\\u{e9}\") look the \
                    same, want names that people can tell apart";
        let message = import_error(from.path());
        assert_eq!(message, format!("{}: {want}", from.path().display()));
    }

    #[test]
    fn class_names_that_their_file_cannot_hold_are_refused() {
        let message = import_error(
            directories(&["a\nb", "b", "c", "d", "e", "f", "g", "h", "i", "j"]).path(),
        );
        assert!(
            message.contains("got the class name \"a\\nb\", want"),
            "{message}"
        );
    }

    #[test]
    fn directories_of_another_layout_are_named() {
        let home = tempfile::tempdir().unwrap();
        assert!(import_error(home.path()).contains("want train/CLASS/ and test/CLASS/"));
        assert!(
            import_error(directories(&OWN[..9]).path())
                .contains("got 9 class directories, want 10: the network has an output for each")
        );
        let from = directories(&OWN);
        fs::remove_dir_all(from.path().join("test/c")).unwrap();
        let want = "\"c\" only in train/, no class only in test/, want the same classes in both";
        assert!(import_error(from.path()).ends_with(want));
        fs::create_dir(from.path().join("test/c")).unwrap();
        let empty = from.path().join("test/c");
        assert_eq!(
            import_error(from.path()),
            format!("no images in {}", empty.display())
        );
    }

    #[test]
    fn directories_that_cannot_be_read_are_not_taken_for_absent() {
        let from = directories(&OWN);
        let test = from.path().join("test");
        fs::remove_dir_all(&test).unwrap();
        symlink(&test, &test).unwrap(); // as good as one without permission, which root has
        let message = import_error(from.path());
        let begin = format!("{} cannot be read: ", test.display());
        assert!(message.starts_with(&begin), "{message}");
    }

    #[test]
    fn import_never_overwrites_a_data_set() {
        let from = directories(&OWN);
        let (to, ..) = imported(from.path());
        let error = import(from.path(), to.path()).unwrap_err();
        assert!(is_user_error(&error));
        assert!(error.to_string().contains("holds a data set already"));
    }
}
