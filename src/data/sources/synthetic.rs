//! Generates synthetic images: ten classes of shapes and textures in CIFAR-10's layout, for runs without the
//! network.
//!
//! No class can be told by colour, place or brightness: both colours, the position, size, turn, background
//! and clutter of every image are random. The bytes follow from the parameters alone, on every machine.

use super::canvas::{Canvas, Colour, Stroke};
use super::figures::{Figure, Texture, distance, length};
use super::staging::DirectoryLock;
use super::write::Dataset;
use crate::bail_user;
use crate::data::files;
use crate::data::format::{CHANNELS, SIDE, Split};
use crate::data::random;
use crate::files::read_small;
use crate::spec::{Seed, Synthetic};
use anyhow::{Context, Result};
use rand::{Rng, RngCore};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::{Path, PathBuf};

// How hard the classes are to tell apart. Whoever changes one of these, or the generator, raises
// GENERATOR_VERSION.

/// Version of the generator: data sets of different versions have different directories.
const GENERATOR_VERSION: u32 = 1;
/// Radius of a shape, in pixels.
const SHAPE_RADIUS: Range<f32> = 6.0..10.0;
/// Radius of a texture's window, in pixels.
const TEXTURE_RADIUS: Range<f32> = 8.0..12.0;
/// Period of a texture, in pixels.
const TEXTURE_PERIOD: Range<f32> = 4.5..7.0;
/// How far a figure's centre lies from the image's, at most, along each axis, in pixels.
const SHIFT: f32 = 4.0;
/// Slope of stripes against their axis, at most.
const TILT: f32 = 0.3;
/// Sum over the channels of the distance between figure and background, at least. The lower, the
/// fainter the faintest figures.
const COLOUR_DISTANCE: f32 = 120.0;
/// Change of the background's channels from its middle to its edge, at most.
const GRADIENT: f32 = 40.0;
/// Strokes behind the figure.
const STROKES_BEHIND: Range<u32> = 3..8;
/// Strokes across the figure.
const STROKES_ACROSS: Range<u32> = 0..3;
/// Length of a stroke, in pixels.
const STROKE_LENGTH: Range<f32> = 6.0..18.0;
/// Half the width of a stroke, in pixels.
const STROKE_RADIUS: Range<f32> = 0.6..1.6;
/// Opacity of a stroke.
const STROKE_OPACITY: Range<f32> = 0.4..1.0;
/// Standard deviation of each value's noise.
const NOISE: f32 = 20.0;

/// File beside the batches that says how they were generated.
const DESCRIPTION_FILE: &str = "synthetic.json";

/// Contents of [`DESCRIPTION_FILE`].
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Description {
    generator: u32,
    parameters: Synthetic,
}

impl Description {
    fn of(parameters: &Synthetic) -> Description {
        Description {
            generator: GENERATOR_VERSION,
            parameters: parameters.clone(),
        }
    }
}

fn directory_name(parameters: &Synthetic) -> String {
    format!(
        "synthetic-v{GENERATOR_VERSION}-{}-{}-seed{}",
        parameters.train_images, parameters.test_images, parameters.seed.0
    )
}

/// The directory that holds generated images of these parameters: one in `directory`, or `directory` itself.
///
/// # Errors
/// As [`synthesize`], but for generating.
pub(super) fn find(parameters: &Synthetic, directory: &Path) -> Result<Option<PathBuf>> {
    let description = Description::of(parameters);
    let own = directory.join(directory_name(parameters));
    if is_generated(&own, &description)? {
        return Ok(Some(own));
    }
    // Other images may be in it, which are none of this one's business.
    let own = files::is_there(&directory.join(DESCRIPTION_FILE))?
        && files::find_dataset(directory)?.is_some()
        && read_description(directory)?.is_some_and(|found| found == description);
    Ok(own.then(|| directory.to_owned()))
}

/// Makes sure that the images are generated and returns the directory that holds them: one of its own in
/// `directory`, named for the parameters, so that neither other data sets nor real images are in its way.
///
/// # Errors
/// User errors: too few images for the six files, or the directory holds something else. Others: it
/// cannot be written.
pub fn synthesize(parameters: &Synthetic, directory: &Path) -> Result<PathBuf> {
    let target = directory.join(directory_name(parameters));
    let description = Description::of(parameters);
    if is_generated(&target, &description)? {
        return Ok(target);
    }
    let lock = DirectoryLock::acquire(directory)?;
    // Another process may have generated it while this one waited.
    if is_generated(&target, &description)? {
        return Ok(target);
    }
    let staging = lock.stage(&target)?;
    let dataset = Dataset {
        classes: Figure::ALL.map(Figure::name),
        train_images: parameters.train_images,
        test_images: parameters.test_images,
        message: format!("generating {}", target.display()),
    };
    dataset.write(&staging, |split, index, record| {
        image(parameters.seed, split, index, record);
        Ok(())
    })?;
    staging.write(DESCRIPTION_FILE, &serde_json::to_vec_pretty(&description)?)?;
    staging.commit()
}

/// Whether `directory` holds the data set. A user error if it holds another.
fn is_generated(directory: &Path, want: &Description) -> Result<bool> {
    if files::find_dataset(directory)?.is_none() {
        return Ok(false);
    }
    match read_description(directory)? {
        Some(found) if found == *want => Ok(true),
        _ => bail_user!(
            "{} describes other images than its directory is named for: remove the directory",
            directory.join(DESCRIPTION_FILE).display()
        ),
    }
}

/// None if the file holds no description.
fn read_description(directory: &Path) -> Result<Option<Description>> {
    let path = directory.join(DESCRIPTION_FILE);
    let text =
        read_small(&path, 1 << 10).with_context(|| format!("failed to read {}", path.display()))?;
    Ok(serde_json::from_slice(&text).ok())
}

/// Generates image `index` of a split as a record; its label is `index` modulo 10.
fn image(seed: Seed, split: Split, index: usize, record: &mut [u8]) {
    let purpose = match split {
        Split::Train => random::SYNTHETIC_TRAIN,
        Split::Test => random::SYNTHETIC_TEST,
    };
    let mut rng = random::stream(seed, purpose, index as u64);
    let label = index % Figure::ALL.len();
    let canvas = scene(Figure::ALL[label], &mut rng);
    record[0] = label as u8;
    for (channel, plane) in record[1..].chunks_exact_mut(SIDE * SIDE).enumerate() {
        for (out, pixel) in plane.iter_mut().zip(&canvas.pixels) {
            // Conversion to a byte saturates.
            *out = (pixel[channel] + NOISE * noise(&mut rng)).round() as u8;
        }
    }
}

/// Nearly normal, of mean 0 and variance 1: the sum of four bytes, centred and scaled.
fn noise(rng: &mut impl RngCore) -> f32 {
    let sum: u16 = rng.next_u32().to_le_bytes().map(u16::from).iter().sum();
    // Four times the variance of a byte is (256^2 - 1) / 3.
    (f32::from(sum) - 510.0) / 147.800_3
}

fn scene(figure: Figure, rng: &mut impl Rng) -> Canvas {
    let (background, ink) = colours(rng);
    let slope = colour(rng).map(|value| GRADIENT * (value / 127.5 - 1.0));
    let mut canvas = Canvas::gradient(background, slope, direction(rng));
    for _ in 0..rng.random_range(STROKES_BEHIND) {
        canvas.stroke(&stroke(rng));
    }
    let radius = rng.random_range(match figure.is_texture() {
        true => TEXTURE_RADIUS,
        false => SHAPE_RADIUS,
    });
    let texture = Texture::sample(rng.random_range(TEXTURE_PERIOD) / radius, rng);
    let centre = [(); 2].map(|()| SIDE as f32 / 2.0 + rng.random_range(-SHIFT..SHIFT));
    let [cos, sin] = if figure.is_directed() {
        unit(1.0, rng.random_range(-TILT..TILT))
    } else {
        direction(rng)
    };
    canvas.fill(ink, |x, y| {
        let (x, y) = ((x - centre[0]) / radius, (y - centre[1]) / radius);
        radius * distance(figure, &texture, cos * x + sin * y, cos * y - sin * x)
    });
    for _ in 0..rng.random_range(STROKES_ACROSS) {
        canvas.stroke(&stroke(rng));
    }
    canvas
}

fn stroke(rng: &mut impl Rng) -> Stroke {
    Stroke {
        ink: colour(rng),
        opacity: rng.random_range(STROKE_OPACITY),
        from: [(); 2].map(|()| rng.random_range(0.0..SIDE as f32)),
        along: direction(rng),
        length: rng.random_range(STROKE_LENGTH),
        radius: rng.random_range(STROKE_RADIUS),
    }
}

fn colour(rng: &mut impl Rng) -> Colour {
    [(); CHANNELS].map(|()| rng.random_range(0.0..255.0))
}

/// Background and figure.
fn colours(rng: &mut impl Rng) -> (Colour, Colour) {
    loop {
        let (one, other) = (colour(rng), colour(rng));
        let distance: f32 = (0..CHANNELS).map(|c| (one[c] - other[c]).abs()).sum();
        if distance >= COLOUR_DISTANCE {
            return (one, other);
        }
    }
}

/// A uniform direction, from a uniform point of the disc.
fn direction(rng: &mut impl Rng) -> [f32; 2] {
    loop {
        let (x, y) = (rng.random_range(-1.0..1.0), rng.random_range(-1.0..1.0));
        if (0.01..1.0).contains(&(x * x + y * y)) {
            return unit(x, y);
        }
    }
}

fn unit(x: f32, y: f32) -> [f32; 2] {
    let length = length(x, y);
    [x / length, y / length]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::files::class_names;
    use crate::data::format::PIXEL_BYTES;
    use crate::data::images::Images;
    use crate::error::is_user_error;
    use md5::{Digest, Md5};
    use std::fs;

    fn small() -> Synthetic {
        Synthetic {
            train_images: 1_000,
            test_images: 200,
            seed: Seed(1),
        }
    }

    fn generated(parameters: &Synthetic) -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let directory = synthesize(parameters, home.path()).unwrap();
        (home, directory)
    }

    /// Whoever changes the generator raises [`GENERATOR_VERSION`] and then this value.
    #[test]
    fn generated_bytes_are_frozen() {
        let (_home, directory) = generated(&small());
        let bytes = fs::read(directory.join("data_batch_5.bin")).unwrap();
        let digest = format!("v{GENERATOR_VERSION} {:x}", Md5::digest(bytes));
        assert_eq!(digest, "v1 7e164175aaffe38fe9c40547ae391057");
    }

    #[test]
    fn labels_are_balanced_and_seeds_and_splits_differ() {
        let (_home, directory) = generated(&small());
        let train = Images::read(&directory, Split::Train).unwrap();
        let test = Images::read(&directory, Split::Test).unwrap();
        for label in 0..10 {
            let count = |images: &Images| {
                (0..images.len())
                    .filter(|&i| images.label(i) == label)
                    .count()
            };
            assert_eq!((count(&train), count(&test)), (100, 20));
        }
        assert_ne!(train.pixels(0), test.pixels(0));
        assert_eq!(class_names(&directory).unwrap()[5], "cross");
        let (_other, directory) = generated(&Synthetic {
            seed: Seed(2),
            ..small()
        });
        assert_ne!(
            Images::read(&directory, Split::Train).unwrap().pixels(0),
            train.pixels(0)
        );
    }

    #[test]
    fn generated_images_are_reused_and_others_go_beside_them() {
        let (home, directory) = generated(&small());
        let modified = || {
            fs::metadata(directory.join("test_batch.bin"))
                .unwrap()
                .modified()
                .unwrap()
        };
        let before = modified();
        assert_eq!(synthesize(&small(), home.path()).unwrap(), directory);
        assert_eq!(modified(), before);
        let more = Synthetic {
            test_images: 30,
            ..small()
        };
        assert_ne!(synthesize(&more, home.path()).unwrap(), directory);
        fs::write(directory.join(DESCRIPTION_FILE), b"{}").unwrap();
        assert!(is_user_error(
            &synthesize(&small(), home.path()).unwrap_err()
        ));
    }

    #[test]
    fn too_few_images_are_refused_and_leave_nothing() {
        let home = tempfile::tempdir().unwrap();
        let few = Synthetic {
            train_images: 4,
            ..small()
        };
        assert!(is_user_error(&synthesize(&few, home.path()).unwrap_err()));
        assert_eq!(
            fs::read_dir(home.path()).unwrap().count(),
            1,
            "only the lock"
        );
    }

    /// Share of test images whose class the nearest of `references` has.
    fn nearest(references: &[(u8, Vec<f32>)], test: &Images) -> f64 {
        let right = (0..test.len()).filter(|&index| {
            let pixels = test.pixels(index);
            let distance = |reference: &[f32]| -> f32 {
                let differences = pixels.iter().zip(reference).map(|(&x, y)| f32::from(x) - y);
                differences.map(|d| d * d).sum()
            };
            let closest = references
                .iter()
                .min_by(|a, b| distance(&a.1).total_cmp(&distance(&b.1)));
            closest.unwrap().0 == test.label(index)
        });
        right.count() as f64 / test.len() as f64
    }

    #[test]
    fn classes_cannot_be_told_by_raw_pixels() {
        let (_home, directory) = generated(&small());
        let train = Images::read(&directory, Split::Train).unwrap();
        let test = Images::read(&directory, Split::Test).unwrap();
        let all: Vec<(u8, Vec<f32>)> = (0..train.len())
            .map(|i| {
                (
                    train.label(i),
                    train.pixels(i).iter().map(|&x| x.into()).collect(),
                )
            })
            .collect();
        let means: Vec<(u8, Vec<f32>)> = (0..10)
            .map(|label| {
                let mut mean = vec![0.0; PIXEL_BYTES];
                for (_, pixels) in all.iter().filter(|(l, _)| *l == label) {
                    mean.iter_mut()
                        .zip(pixels)
                        .for_each(|(m, x)| *m += x / 100.0);
                }
                (label, mean)
            })
            .collect();
        let (by_mean, by_neighbour) = (nearest(&means, &test), nearest(&all, &test));
        println!("nearest mean {by_mean}, nearest neighbour {by_neighbour}");
        assert!(by_mean < 0.25, "{by_mean}");
        assert!(by_neighbour < 0.35, "{by_neighbour}");
    }
}
