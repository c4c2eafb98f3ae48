//! Turns class directories of PNG and JPEG images into CIFAR-10's layout.

use super::staging::DirectoryLock;
use super::write::Dataset;
use crate::data::cifar::{BATCHES_DIR, CLASS_COUNT, CLASSES, PIXEL_BYTES, SIDE, Split};
use crate::data::files::{self, class_names_error};
use crate::data::random;
use crate::spec::Seed;
use crate::{bail_user, user_error};
use anyhow::{Context, Result};
use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits};
use rand::seq::SliceRandom;
use std::io::{BufReader, Seek};
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// Extensions of image files, in lower case.
const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];

/// Memory for one decoded image: 89 million pixels in colour.
const MAX_IMAGE_BYTES: u64 = 256 << 20;

/// Writes the images of `from/train/CLASS/` and `from/test/CLASS/` into `to/cifar-10-batches-bin/` and
/// returns that directory.
///
/// There are ten classes, the same in both. CIFAR-10's own names get CIFAR-10's labels, other names
/// labels in alphabetical order. Of an image of another size the central square is taken and scaled
/// (Lanczos) to 32x32; transparency is dropped, the camera's orientation applied. The order is shuffled
/// by a fixed seed, so that every file holds all classes. Hidden files are passed over.
///
/// # Errors
/// User errors that name the place: not ten classes, a class without images, a file that is no image,
/// `to` holds a data set already.
pub fn import(from: &Path, to: &Path) -> Result<PathBuf> {
    let classes = class_directories(from)?;
    let train = list_images(from, Split::Train, &classes)?;
    let test = list_images(from, Split::Test, &classes)?;
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
    dataset.write(&staging, |split, index, record| {
        let file = match split {
            Split::Train => &train[index],
            Split::Test => &test[index],
        };
        record[0] = file.label;
        planes(&decode(&file.path)?, &mut record[1..]);
        Ok(())
    })?;
    staging.commit()
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
fn class_directories(from: &Path) -> Result<[String; CLASS_COUNT]> {
    let names = |split| -> Result<Vec<String>> {
        let mut names = Vec::new();
        for path in list_directory(&split_dir(from, split))? {
            if !path.is_dir() {
                bail_user!("{} is no class directory", path.display());
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
            "{}: train/ has the classes {}, test/ has {}: want the same",
            from.display(),
            train.join(", "),
            test.join(", ")
        );
    }
    if let Some(message) = class_names_error(&train) {
        bail_user!("{}: {message}", split_dir(from, Split::Train).display());
    }
    if train.iter().all(|name| CLASSES.contains(&name.as_str())) && train.len() == CLASS_COUNT {
        return Ok(CLASSES.map(String::from));
    }
    train.try_into().map_err(|names: Vec<String>| {
        user_error!(
            "{}: got {} class directories, want {CLASS_COUNT}",
            split_dir(from, Split::Train).display(),
            names.len()
        )
    })
}

/// The entries of a directory, sorted by name, without hidden ones.
fn list_directory(directory: &Path) -> Result<Vec<PathBuf>> {
    if !directory.is_dir() {
        bail_user!(
            "no directory {}: want train/CLASS/ and test/CLASS/ with images",
            directory.display()
        );
    }
    let walk = WalkDir::new(directory)
        .min_depth(1)
        .max_depth(1)
        .follow_links(true)
        .sort_by_file_name();
    walk.into_iter()
        .filter(|entry| {
            !entry
                .as_ref()
                .is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with('.'))
        })
        .map(|entry| Ok(entry?.into_path()))
        .collect::<Result<_>>()
        .with_context(|| format!("failed to list {}", directory.display()))
}

/// All images of a split, shuffled.
fn list_images(from: &Path, split: Split, classes: &[String]) -> Result<Vec<ImageFile>> {
    let mut files = Vec::new();
    for (class, label) in classes.iter().zip(0..) {
        let directory = split_dir(from, split).join(class);
        let paths = list_directory(&directory)?;
        if paths.is_empty() {
            bail_user!("no images in {}", directory.display());
        }
        for path in paths {
            let extension = path.extension().unwrap_or_default().to_string_lossy();
            if !EXTENSIONS.contains(&extension.to_lowercase().as_str()) {
                bail_user!("{}: want a .png, .jpg or .jpeg file", path.display());
            }
            files.push(ImageFile { path, label });
        }
    }
    files.shuffle(&mut random::stream(Seed(1), random::IMPORT, split as u64));
    Ok(files)
}

fn decode(path: &Path) -> Result<DynamicImage> {
    let file =
        std::fs::File::open(path).with_context(|| format!("failed to open {}", path.display()))?;
    decode_from(BufReader::new(file)).map_err(|error| match error {
        image::ImageError::IoError(error) if error.raw_os_error().is_some() => {
            anyhow::Error::new(error).context(format!("failed to read {}", path.display()))
        }
        error => user_error!("{} is no image: {error}", path.display()),
    })
}

pub(in crate::data) fn decode_from(
    file: impl std::io::BufRead + Seek,
) -> image::ImageResult<DynamicImage> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_IMAGE_BYTES);
    let mut reader = ImageReader::new(file).with_guessed_format()?;
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder()?;
    // `from_decoder` does not look at the limits before it makes room for what the header claims.
    limits.reserve(decoder.total_bytes())?;
    let orientation = decoder.orientation()?;
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(image)
}

/// Writes the image as red, green and blue plane of 32x32.
pub(in crate::data) fn planes(image: &DynamicImage, out: &mut [u8]) {
    let side = SIDE as u32;
    let (width, height) = (image.width(), image.height());
    let fitted = if (width, height) == (side, side) {
        image.to_rgb8()
    } else {
        // Cropped before it is scaled: to cover the square, a line of pixels would become 32 times as long.
        let square = width.min(height);
        image
            .crop_imm((width - square) / 2, (height - square) / 2, square, square)
            .resize_exact(side, side, FilterType::Lanczos3)
            .to_rgb8()
    };
    debug_assert_eq!(out.len(), PIXEL_BYTES);
    for (at, pixel) in fitted.pixels().enumerate() {
        for (channel, &value) in pixel.0.iter().enumerate() {
            out[channel * SIDE * SIDE + at] = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::cifar::Images;
    use crate::data::files::class_names;
    use crate::error::is_user_error;
    use image::{Rgb, RgbImage};
    use std::fs;

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
        fs::write(directory.join(".hidden"), b"").unwrap();
        let (_to, train, _) = imported(from.path());
        assert_eq!(train.len(), 22);
    }

    #[test]
    fn files_that_are_no_images_are_named() {
        let from = directories(&OWN);
        let path = from.path().join("test/c/x.png");
        fs::write(&path, b"no image").unwrap();
        let message = import_error(from.path());
        assert!(message.starts_with(&format!("{} is no image: ", path.display())));
        let whole = fs::read(from.path().join("test/c/0.png")).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let message = import_error(from.path());
        assert!(message.starts_with(&format!("{} is no image: ", path.display())));
        fs::remove_file(&path).unwrap();
        let text = from.path().join("test/c/notes.txt");
        fs::write(&text, b"").unwrap();
        let want = format!("{}: want a .png, .jpg or .jpeg file", text.display());
        assert_eq!(import_error(from.path()), want);
    }

    /// A PNG of one black line of so many pixels: a few KB.
    fn line(pixels: u32) -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        let line = image::GrayImage::new(pixels, 1);
        line.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn decoding_takes_bounded_memory_whatever_the_header_claims() {
        let decoded = |bytes: &[u8]| {
            crate::testing::heap::within(64 << 20, || {
                let image = decode_from(std::io::Cursor::new(bytes))?;
                planes(&image, &mut [1; PIXEL_BYTES]);
                image::ImageResult::Ok(())
            })
        };
        // Scaled until it covers a square of 32 pixels it would have 2 GB.
        decoded(&line(2_000_000)).unwrap();
        let mut huge = line(9);
        huge[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]); // 65,536 x 65,536
        let mut crc = flate2::Crc::new();
        crc.update(&huge[12..29]);
        huge[29..33].copy_from_slice(&crc.sum().to_be_bytes());
        let error = decoded(&huge).unwrap_err();
        assert!(matches!(error, image::ImageError::Limits(_)), "{error}");
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
                .ends_with("got 9 class directories, want 10")
        );
        let from = directories(&OWN);
        fs::remove_dir_all(from.path().join("test/c")).unwrap();
        assert!(import_error(from.path()).contains("want the same"));
        fs::create_dir(from.path().join("test/c")).unwrap();
        let empty = from.path().join("test/c");
        assert_eq!(
            import_error(from.path()),
            format!("no images in {}", empty.display())
        );
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
