//! PNG and JPEG files that a user names, alone or by their folders, as images for a network that is trained.

use super::decode::{Changes, read_image, write_planes};
use super::import::{is_dropping, is_image_name};
use crate::data::format::PIXEL_BYTES;
use std::fs;
use std::path::{Path, PathBuf};
use walkdir::{DirEntry, WalkDir};

/// An image as a data set would hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// [channel, row, column]: 3 * 32 * 32 bytes.
    pub pixels: Vec<u8>,
    /// What was done to make it fit.
    pub changes: Changes,
}

impl Picture {
    /// The image in a PNG or JPEG file, made to fit as `data import` does: of one that is not square the central square is
    /// taken and scaled (Lanczos) to 32x32, transparent ones are composed on white, the camera's orientation is applied.
    ///
    /// # Errors
    /// What is wrong, as in "PATH {error}": it cannot be read, is no image, is damaged, is too large.
    pub fn read(path: &Path) -> Result<Self, String> {
        let image = read_image(path)?;
        let mut pixels = vec![0; PIXEL_BYTES];
        let changes = write_planes(&image, &mut pixels);
        Ok(Picture { pixels, changes })
    }
}

/// What was found where a user said that there are pictures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Files, sorted by path.
    pub files: Vec<PathBuf>,
    /// Files of a folder that are called otherwise than pictures.
    pub passed_over: usize,
    /// What cannot be looked at, as in "PATH {error}".
    pub problems: Vec<(PathBuf, String)>,
}

/// The pictures that `path` means: a file is itself, whatever it is called; a folder has all `.png`, `.jpg` and `.jpeg` files
/// that are in it and in the folders within. Hidden files, and those that systems leave in folders, are none.
pub fn find_pictures(path: &Path) -> Found {
    let mut found = Found::default();
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => {
            found.files.push(path.to_owned());
            return found;
        }
        Err(error) => {
            let problem = format!("cannot be read: {error}");
            found.problems.push((path.to_owned(), problem));
            return found;
        }
    }
    let is_shown = |entry: &DirEntry| {
        let name = entry.file_name().to_string_lossy();
        entry.depth() == 0 || !(name.starts_with('.') || is_dropping(&name))
    };
    let entries = WalkDir::new(path).follow_links(true).sort_by_file_name();
    for entry in entries.into_iter().filter_entry(is_shown) {
        match entry {
            Err(error) => {
                let place = error.path().unwrap_or(path).to_owned();
                let problem = match error.loop_ancestor() {
                    Some(ancestor) => format!("is a link to {}, around it", ancestor.display()),
                    None => format!(
                        "cannot be read: {}",
                        error
                            .io_error()
                            .map_or(error.to_string(), ToString::to_string)
                    ),
                };
                found.problems.push((place, problem));
            }
            Ok(entry) if entry.file_type().is_dir() => {}
            Ok(entry) if is_image_name(entry.path()) => found.files.push(entry.into_path()),
            Ok(_) => found.passed_over += 1,
        }
    }
    if found.files.is_empty() && found.problems.is_empty() {
        let problem = "has no .png, .jpg or .jpeg file".to_owned();
        found.problems.push((path.to_owned(), problem));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{Rgb, RgbImage};
    use std::os::unix::fs::symlink;

    #[test]
    fn pictures_of_a_folder_are_those_with_their_extensions_also_in_folders_within() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("b/c")).unwrap();
        fs::create_dir_all(path(".hidden")).unwrap();
        for name in [
            "z.png",
            "b/c/y.JPG",
            "b/x.jpeg",
            "notes.txt",
            ".z.png",
            "Thumbs.db",
            ".hidden/a.png",
        ] {
            fs::write(path(name), b"").unwrap();
        }
        let want = Found {
            files: ["b/c/y.JPG", "b/x.jpeg", "z.png"].map(path).to_vec(),
            passed_over: 1,
            problems: Vec::new(),
        };
        assert_eq!(find_pictures(folder.path()), want);
    }

    #[test]
    fn file_is_taken_whatever_it_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("picture");
        RgbImage::from_pixel(48, 32, Rgb([1, 2, 3]))
            .save_with_format(&file, image::ImageFormat::Png)
            .unwrap();
        assert_eq!(find_pictures(&file).files, std::slice::from_ref(&file));
        let Picture { pixels, changes } = Picture::read(&file).unwrap();
        assert_eq!((pixels[0], pixels[1024], pixels[3071]), (1, 2, 3));
        assert!(changes.cropped && !changes.scaled);
    }

    #[test]
    fn problems_name_what_is_missing_empty_or_a_loop() {
        let folder = tempfile::tempdir().unwrap();
        let problem = |path: &Path| find_pictures(path).problems.remove(0).1;
        let missing = problem(&folder.path().join("nothing"));
        assert!(
            missing.starts_with("cannot be read: No such file"),
            "{missing}"
        );
        assert_eq!(problem(folder.path()), "has no .png, .jpg or .jpeg file");
        fs::write(folder.path().join("a.png"), b"").unwrap();
        symlink(folder.path(), folder.path().join("again")).unwrap();
        let found = find_pictures(folder.path());
        assert_eq!(found.files, [folder.path().join("a.png")]);
        assert!(found.problems[0].1.starts_with("is a link to "));
    }
}
