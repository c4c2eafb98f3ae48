//! Batches: an endless, shuffled, augmented stream for training in which batch k is a pure function of
//! (seed, k), and one pass in order for evaluation; or plans of them, for a device that holds the images.

use super::augmentation::Augmentation;
use super::format::{CHANNELS, SIDE};
use super::images::Images;
use super::prefetch::Prefetch;
use super::preprocessor::{Preprocessor, input_len};
use super::random;
use crate::spec::{Flip, Input, Seed, Train};
use anyhow::Result;
use rand::Rng;
use rand::seq::SliceRandom;
use std::ops::Range;
use std::sync::Arc;

/// Images and labels of one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Training: the step that the batch is for. Evaluation: the index of its first image.
    pub step: u64,
    /// `[n, crop, crop, 3]`.
    pub images: Vec<f32>,
    /// `[n]`, each 0 to 9.
    pub labels: Vec<i64>,
    /// With cutmix the label of the image that an image's square is from, `[n]`; else empty.
    pub mixed_labels: Vec<i64>,
}

/// How one batch is made: all that a device which holds the images needs to make it.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchPlan {
    /// Training: the step that the batch is for. Evaluation: the index of its first image.
    pub step: u64,
    /// Index of each image in the split, [n].
    pub images: Vec<i64>,
    /// Rows of each image's crop, top to bottom, [n, crop]; that of black padding is [`SIDE`].
    pub rows: Vec<i64>,
    /// Columns of each image's crop, left to right, or right to left where it is mirrored, [n, crop]; that of black
    /// padding is [`SIDE`].
    pub columns: Vec<i64>,
    /// Pivot, factor and offset of each channel: x -> (x - pivot) * factor + offset, [n, 3, 3 channels].
    pub transforms: Vec<f32>,
    /// Side of the square of each input that is set to 0.
    pub cutout: usize,
    /// First rows of these squares, [n], then their first columns, [n].
    pub cutouts: Vec<i64>,
    /// Side of the square of each input that is taken from another one of the batch.
    pub cutmix: usize,
    /// The places of these others in the batch, [n], then the squares' first rows, [n], then their first columns, [n].
    pub mixes: Vec<i64>,
    /// Labels, [n], each 0 to 9.
    pub labels: Vec<i64>,
}

/// How the stream, which is the epochs' permutations of all images one after the other, is cut into batches.
#[derive(Clone, Copy, Debug)]
pub struct Batching {
    /// Images of a batch.
    pub size: usize,
    /// Whether the last images of an epoch that fill no batch are left out, so that each epoch begins with a new batch.
    /// Else they begin a batch that the next epoch fills up: a batch may straddle two epochs, or hold several epochs of
    /// a small data set.
    pub drop_last: bool,
    /// The part of each batch to make.
    pub share: Share,
}

/// One of several equal parts of each batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Which one, from 0.
    pub rank: usize,
    /// How many there are; they divide the batch evenly.
    pub ranks: usize,
}

impl Share {
    /// All of a batch.
    pub const WHOLE: Share = Share { rank: 0, ranks: 1 };

    /// Its places in a batch of `size` images.
    pub fn places(self, size: usize) -> Range<usize> {
        let each = size / self.ranks;
        self.rank * each..(self.rank + 1) * each
    }
}

impl From<&Train> for Batching {
    fn from(spec: &Train) -> Self {
        Batching {
            size: spec.batch_size,
            drop_last: spec.drop_last,
            share: Share::WHOLE,
        }
    }
}

impl Batching {
    /// The position in the stream of the first image of a step's batch; the others follow it. There are `images`.
    fn first_position(self, step: u64, images: usize) -> u64 {
        let (size, images) = (self.size as u64, images as u64);
        if !self.drop_last {
            return step * size;
        }
        let steps = images / size; // of an epoch
        step / steps * images + step % steps * size
    }
}

/// Training batches, or plans for them, prepared on background threads. Dropping it stops them.
#[derive(Debug)]
pub struct BatchStream<T = Batch>(Prefetch<T>);

/// What a [`BatchStream`] yields: batches, or plans for them.
pub trait StreamItem: Send + 'static {
    /// The item of a step.
    fn build(builder: &mut BatchBuilder, step: u64) -> Self;
}

impl StreamItem for Batch {
    fn build(builder: &mut BatchBuilder, step: u64) -> Self {
        builder.batch(step)
    }
}

impl StreamItem for BatchPlan {
    fn build(builder: &mut BatchBuilder, step: u64) -> Self {
        builder.plan(step)
    }
}

impl<T: StreamItem> BatchStream<T> {
    /// Starts with the batch of `first_step`, by the values of a spec, which has checked them. `prefetch` batches are kept ready; each of `workers` threads
    /// holds one more.
    ///
    /// Which images of the stream a batch holds, [`Batching`] says. Epoch e's permutation follows from (seed, e), an
    /// image's augmentation from (seed, its position in the stream).
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(
        images: Arc<Images>,
        input: &Input,
        batching: Batching,
        seed: Seed,
        first_step: u64,
        prefetch: usize,
        workers: usize,
    ) -> Result<Self> {
        let mut builder = BatchBuilder::new(images, input, batching, seed);
        let produce = move |step| T::build(&mut builder, step);
        let prefetch = Prefetch::start(first_step, prefetch, workers, produce)?;
        Ok(BatchStream(prefetch))
    }

    /// The next step's batch; waits until it is ready.
    ///
    /// # Errors
    /// If the thread that had to prepare it has panicked.
    #[expect(clippy::should_implement_trait, reason = "endless and fallible")]
    pub fn next(&mut self) -> Result<T> {
        self.0.next()
    }

    /// Batches that are ready, at most `prefetch`.
    pub fn ready(&self) -> usize {
        self.0.ready()
    }
}

/// Builds the batch, or the plan, of any step.
#[derive(Clone)]
pub struct BatchBuilder {
    images: Arc<Images>,
    order: Order,
    preprocessor: Preprocessor,
    batching: Batching,
    seed: Seed,
}

impl BatchBuilder {
    /// The values are those of a spec, which has checked them.
    fn new(images: Arc<Images>, input: &Input, batching: Batching, seed: Seed) -> Self {
        BatchBuilder {
            order: Order::new(seed, images.len()),
            preprocessor: Preprocessor::new(input, Some(&images)),
            images,
            batching,
            seed,
        }
    }

    /// Side of the images that it makes.
    pub fn crop(&self) -> usize {
        self.preprocessor.input().crop
    }

    /// The augmentation of image `index` at its position of the stream.
    fn augmentation(&self, position: u64, index: usize) -> Augmentation {
        let input = self.preprocessor.input();
        let mut random = random::stream(self.seed, random::AUGMENTATION, position);
        let mut augmentation = Augmentation::sample(input, &mut random);
        if input.flip == Flip::Alternating {
            let mut random = random::stream(self.seed, random::ALTERNATION, index as u64);
            let epoch = position / self.images.len() as u64;
            augmentation.mirror = random.random::<bool>() ^ (epoch % 2 == 1);
        }
        augmentation
    }

    /// The positions in the stream of the images of a step's batch.
    fn positions(&self, step: u64) -> Range<u64> {
        let first = self.batching.first_position(step, self.images.len());
        first..first + self.batching.size as u64
    }

    fn plan(&mut self, step: u64) -> BatchPlan {
        let size = self.batching.size;
        let mut plan = BatchPlan::new(step, size, self.preprocessor.input());
        for position in self.positions(step) {
            let index = self.order.at(position);
            let augmentation = self.augmentation(position, index);
            plan.push(&self.images, index, &self.preprocessor, &augmentation);
        }
        for (number, mix) in self.mixes(step).into_iter().enumerate() {
            let [top, left] = mix.corner;
            plan.mixes[number] = mix.other as i64;
            plan.mixes[size + number] = top as i64;
            plan.mixes[2 * size + number] = left as i64;
        }
        plan
    }

    /// The batch of a step.
    pub fn batch(&mut self, step: u64) -> Batch {
        let places = self.batching.share.places(self.batching.size);
        let mut batch = Batch::zeros(step, places.len(), self.preprocessor.input());
        let first = self.positions(step).start;
        let len = input_len(self.preprocessor.input());
        let outputs = batch.images.chunks_exact_mut(len);
        for ((place, out), label) in places.clone().zip(outputs).zip(&mut batch.labels) {
            *label = self.write_input(first + place as u64, out);
        }
        let mixes = self.mixes(step);
        let Some(mixes) = mixes.get(places.clone()).filter(|it| !it.is_empty()) else {
            return batch;
        };
        let mut others = Batch::zeros(step, places.len(), self.preprocessor.input());
        let outputs = others.images.chunks_exact_mut(len);
        for ((mix, out), label) in mixes.iter().zip(outputs).zip(&mut others.labels) {
            // One of another part of the batch has to be made for its square alone.
            *label = match mix.other.checked_sub(places.start) {
                Some(place) if place < places.len() => {
                    out.copy_from_slice(&batch.images[place * len..][..len]);
                    batch.labels[place]
                }
                _ => self.write_input(first + mix.other as u64, out),
            };
        }
        batch.mix(mixes, others, self.preprocessor.input());
        batch
    }

    /// Write the network's input of the image at a position of the stream; returns its label.
    fn write_input(&mut self, position: u64, out: &mut [f32]) -> i64 {
        let index = self.order.at(position);
        let augmentation = self.augmentation(position, index);
        (self.preprocessor).apply(&augmentation, self.images.pixels(index), out);
        self.images.label(index).into()
    }

    /// What each image of a step's batch gets of another one: a permutation of the batch, and a place for each; empty
    /// without cutmix.
    fn mixes(&self, step: u64) -> Vec<Mix> {
        let Input { crop, cutmix, .. } = *self.preprocessor.input();
        if cutmix == 0 {
            return Vec::new();
        }
        let mut random = random::stream(self.seed, random::MIXING, step);
        let mut others: Vec<usize> = (0..self.batching.size).collect();
        others.shuffle(&mut random);
        let last = (crop - cutmix) as u32;
        let mut place = || random.random_range(0..=last) as usize;
        let mixes = others.into_iter().map(|other| Mix {
            other,
            corner: [place(), place()],
        });
        mixes.collect()
    }
}

/// Where the square of an image is from, and where it is.
struct Mix {
    /// Place in the batch of the other image; it may be the same.
    other: usize,
    /// First row and column of the square, in both inputs.
    corner: [usize; 2],
}

impl BatchPlan {
    /// One of no images yet; there will be `size`.
    fn new(step: u64, size: usize, input: &Input) -> Self {
        // Every field by name: a device makes the batch of the plan alone, so of a new field it has to be decided how the plan says
        // what it does. Those that are not used here are in each image's rows, columns and transforms.
        let &Input {
            crop,
            cutout,
            cutmix,
            pad: _,
            pad_mode: _,
            flip: _,
            brightness: _,
            contrast: _,
            normalize: _,
        } = input;
        BatchPlan {
            step,
            images: Vec::with_capacity(size),
            rows: Vec::with_capacity(size * crop),
            columns: Vec::with_capacity(size * crop),
            transforms: Vec::with_capacity(size * 3 * CHANNELS),
            cutout,
            cutouts: vec![0; 2 * size],
            cutmix,
            mixes: vec![0; 3 * size],
            labels: Vec::with_capacity(size),
        }
    }

    /// Adds an image of a split by its index.
    fn push(
        &mut self,
        images: &Images,
        index: usize,
        preprocessor: &Preprocessor,
        augmentation: &Augmentation,
    ) {
        let (number, size) = (self.images.len(), self.cutouts.len() / 2);
        let crop = preprocessor.input().crop;
        let at = |place: Option<usize>| place.unwrap_or(SIDE) as i64;
        let columns = (0..crop).map(|x| at(augmentation.column(x)));
        match augmentation.mirror {
            true => self.columns.extend(columns.rev()),
            false => self.columns.extend(columns),
        }
        let rows = (0..crop).map(|y| at(augmentation.row(y)));
        self.rows.extend(rows);
        let transforms = preprocessor.channel_transforms(augmentation, images.pixels(index));
        self.transforms
            .extend(transforms.map(|transform| transform.pivot));
        self.transforms
            .extend(transforms.map(|transform| transform.factor));
        self.transforms
            .extend(transforms.map(|transform| transform.offset));
        let [top, left] = augmentation.cutout.unwrap_or_default();
        self.cutouts[number] = top as i64;
        self.cutouts[size + number] = left as i64;
        self.images.push(index as i64);
        self.labels.push(images.label(index).into());
    }
}

impl Batch {
    fn zeros(step: u64, count: usize, input: &Input) -> Batch {
        Batch {
            step,
            images: vec![0.0; count * input_len(input)],
            labels: vec![0; count],
            mixed_labels: Vec::new(),
        }
    }

    /// Replace a square of each image by that of its other one.
    fn mix(&mut self, mixes: &[Mix], others: Batch, input: &Input) {
        let (width, len) = (input.crop * CHANNELS, input_len(input));
        let others_images = others.images.chunks_exact(len);
        let images = self.images.chunks_exact_mut(len).zip(others_images);
        for ((out, other), mix) in images.zip(mixes) {
            let [top, left] = mix.corner;
            for row in top..top + input.cutmix {
                let square = row * width + left * CHANNELS..;
                let square = &other[square][..input.cutmix * CHANNELS];
                out[row * width + left * CHANNELS..][..square.len()].copy_from_slice(square);
            }
        }
        self.mixed_labels = others.labels;
    }
}

/// The image at each position of the stream. Keeps the permutation of the epoch last asked for.
#[derive(Clone)]
struct Order {
    seed: Seed,
    epoch: Option<u64>,
    permutation: Vec<usize>,
}

impl Order {
    fn new(seed: Seed, len: usize) -> Order {
        Order {
            seed,
            epoch: None,
            permutation: vec![0; len],
        }
    }

    fn at(&mut self, position: u64) -> usize {
        let len = self.permutation.len() as u64;
        let (epoch, offset) = (position / len, position % len);
        if self.epoch != Some(epoch) {
            // From the identity each time: the permutation must not depend on the epochs asked for before.
            for (index, entry) in self.permutation.iter_mut().enumerate() {
                *entry = index;
            }
            self.permutation
                .shuffle(&mut random::stream(self.seed, random::SHUFFLING, epoch));
            self.epoch = Some(epoch);
        }
        self.permutation[offset as usize]
    }
}

/// These images in order, by this view of each, such as the central crop.
///
/// # Panics
/// If there is no such image, or the crop is not within 1 to 32.
pub fn evaluation_batch(
    images: &Images,
    preprocessor: &Preprocessor,
    view: &Augmentation,
    indices: Range<usize>,
) -> Batch {
    let input = preprocessor.input();
    let mut batch = Batch::zeros(indices.start as u64, indices.len(), input);
    let outputs = batch.images.chunks_exact_mut(input_len(input));
    for ((index, out), label) in indices.zip(outputs).zip(&mut batch.labels) {
        preprocessor.apply(view, images.pixels(index), out);
        *label = images.label(index).into();
    }
    batch
}

/// [`evaluation_batch`], for a device that holds the images.
///
/// # Panics
/// As [`evaluation_batch`].
pub fn evaluation_plan(
    images: &Images,
    preprocessor: &Preprocessor,
    view: &Augmentation,
    indices: Range<usize>,
) -> BatchPlan {
    let (first, size) = (indices.start as u64, indices.len());
    let mut plan = BatchPlan {
        cutout: 0,
        cutmix: 0,
        ..BatchPlan::new(first, size, preprocessor.input())
    };
    for index in indices {
        plan.push(images, index, preprocessor, view);
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::format::{PIXEL_BYTES, RECORD_BYTES};
    use crate::spec::Normalize;
    use crate::testing::golden::assert_uniform;

    /// Images whose first pixel is their index; labels index % 10.
    fn images(count: usize) -> Arc<Images> {
        let mut records = vec![0; count * RECORD_BYTES];
        for (index, record) in records.chunks_exact_mut(RECORD_BYTES).enumerate() {
            record[0] = index as u8 % 10;
            record[1..].fill(index as u8);
        }
        Arc::new(Images::from_records(records))
    }

    /// Pixels pass through unchanged, so that an image's index can be read off its input.
    fn plain() -> Input {
        Input {
            crop: 1,
            flip: Flip::None,
            brightness: 0.0,
            contrast: crate::spec::Contrast {
                lower: 1.0,
                upper: 1.0,
            },
            normalize: Normalize::None,
            ..Input::default()
        }
    }

    fn indices(batch: &Batch) -> Vec<usize> {
        batch
            .images
            .iter()
            .step_by(3)
            .map(|&x| x as usize)
            .collect()
    }

    /// Batches of this size that straddle epochs.
    fn of(size: usize) -> Batching {
        let drop_last = false;
        Batching {
            size,
            drop_last,
            share: Share::WHOLE,
        }
    }

    fn start(count: usize, input: &Input, size: usize, first: u64, workers: usize) -> BatchStream {
        let (images, size) = (images(count), of(size));
        BatchStream::<Batch>::start(images, input, size, Seed(5), first, 3, workers).unwrap()
    }

    #[test]
    fn epochs_hold_every_image_once_each_in_a_new_order() {
        // 7 does not divide 50: batches straddle epochs.
        let mut stream = start(50, &plain(), 7, 0, 1);
        let batches: Vec<Batch> = (0..50).map(|_| stream.next().unwrap()).collect();
        let order: Vec<usize> = batches.iter().flat_map(indices).collect();
        let labels: Vec<i64> = batches.iter().flat_map(|b| b.labels.clone()).collect();
        for epoch in order.chunks_exact(50) {
            let mut sorted = epoch.to_vec();
            sorted.sort();
            assert_eq!(sorted, (0..50).collect::<Vec<_>>());
        }
        assert_ne!(order[..50], order[50..100]);
        for (index, label) in order.iter().zip(labels) {
            assert_eq!(label, (index % 10) as i64);
        }
    }

    #[test]
    fn epochs_without_their_last_images_begin_with_a_new_batch() {
        // 3 batches of 16 of the 50 images; 2 are left out.
        let batching = Batching {
            drop_last: true,
            ..of(16)
        };
        let stream = |first| {
            BatchStream::<Batch>::start(images(50), &plain(), batching, Seed(5), first, 3, 2)
                .unwrap()
        };
        let mut dropped = stream(0);
        let mut whole = start(50, &plain(), 50, 0, 1);
        let batches: Vec<Batch> = (0..12).map(|_| dropped.next().unwrap()).collect();
        for epoch in batches.chunks_exact(3) {
            let seen: Vec<usize> = epoch.iter().flat_map(indices).collect();
            assert_eq!(seen, indices(&whole.next().unwrap())[..48]);
        }
        assert_eq!(stream(7).next().unwrap(), batches[7]);
    }

    #[test]
    fn shares_of_a_batch_are_its_parts() {
        let cutmix = Input {
            crop: 8,
            cutmix: 3,
            ..plain()
        };
        for input in [plain(), cutmix] {
            // Batches of 12 straddle the epochs of 50 images.
            let mut whole = start(50, &input, 12, 0, 1);
            let share = |rank| Batching {
                share: Share { rank, ranks: 3 },
                ..of(12)
            };
            let part = |rank| {
                let (images, share) = (images(50), share(rank));
                BatchStream::<Batch>::start(images, &input, share, Seed(5), 0, 3, 2).unwrap()
            };
            let mut parts = [0, 1, 2].map(part);
            for _ in 0..9 {
                let (want, got) = (whole.next().unwrap(), parts.each_mut().map(|it| it.next()));
                let got = got.map(Result::unwrap);
                assert_eq!(
                    want.images,
                    got.each_ref().map(|it| &it.images[..]).concat()
                );
                assert_eq!(
                    want.labels,
                    got.each_ref().map(|it| &it.labels[..]).concat()
                );
                let mixed = got.each_ref().map(|it| &it.mixed_labels[..]).concat();
                assert_eq!(want.mixed_labels, mixed);
            }
        }
    }

    #[test]
    fn cutmix_puts_a_square_of_another_image_of_the_batch_into_each() {
        let input = Input {
            crop: 8,
            cutmix: 3,
            ..plain()
        };
        let mut stream = start(200, &input, 20, 0, 2);
        let (mut partners, mut places) = (vec![0; 20], vec![0; 36]);
        for step in 0..400 {
            let batch = stream.next().unwrap();
            let values = |image: usize| batch.images[image * 192..][..192].iter().step_by(3);
            // An image is its number everywhere, which its label is the last digit of.
            let own = |image: usize| {
                let values: Vec<usize> = values(image).map(|&value| value as usize).collect();
                let corners = [values[0], values[7], values[56], values[63]];
                *corners
                    .iter()
                    .max_by_key(|corner| corners.iter().filter(|it| it == corner).count())
                    .unwrap()
            };
            let numbers: Vec<usize> = (0..20).map(own).collect();
            let mut others = Vec::new();
            for image in 0..20 {
                let differs: Vec<usize> = (0..64)
                    .filter(|&at| batch.images[image * 192 + 3 * at] as usize != numbers[image])
                    .collect();
                assert_eq!(batch.labels[image], (numbers[image] % 10) as i64);
                let Some(&first) = differs.first() else {
                    others.push(image); // itself
                    assert_eq!(batch.mixed_labels[image], batch.labels[image]);
                    continue;
                };
                let square: Vec<usize> = (0..9).map(|at| first + at / 3 * 8 + at % 3).collect();
                assert_eq!(differs, square, "step {step}");
                let number = batch.images[image * 192 + 3 * first] as usize;
                let other = numbers.iter().position(|&it| it == number).unwrap();
                assert_eq!(batch.mixed_labels[image], batch.labels[other]);
                others.push(other);
                places[first / 8 * 6 + first % 8] += 1;
            }
            partners[others[0]] += 1;
            others.sort_unstable();
            assert_eq!(others, (0..20).collect::<Vec<_>>(), "each gives one square");
        }
        assert_uniform("the first image's partner", &partners, 19.0, 1.0);
        assert_uniform("row, column", &places, 35.0, 1.0);
        assert_eq!(
            stream.next().unwrap(),
            start(200, &input, 20, 400, 1).next().unwrap()
        );
        assert_eq!(input.own_share(), 55.0 / 64.0);
    }

    #[test]
    fn alternating_flip_mirrors_a_random_half_and_the_other_half_in_the_next_epoch() {
        // Two pixels a row, dark and bright: an image shows whether it is mirrored.
        let mut records = vec![0; 200 * RECORD_BYTES];
        for (index, record) in records.chunks_exact_mut(RECORD_BYTES).enumerate() {
            for (at, pixel) in record[1..].iter_mut().enumerate() {
                *pixel =
                    (at / 1024 == 1) as u8 * index as u8 + (at / 1024 == 0) as u8 * (at % 32) as u8;
            }
        }
        let images = Arc::new(Images::from_records(records));
        let input = Input {
            crop: 32,
            flip: Flip::Alternating,
            ..plain()
        };
        // 30 does not divide 200: the epochs' ends are within batches.
        let mut stream =
            BatchStream::<Batch>::start(images, &input, of(30), Seed(5), 0, 1, 1).unwrap();
        let mut mirrored = vec![Vec::new(); 200];
        for image in (0..40).flat_map(|_| {
            stream
                .next()
                .unwrap()
                .images
                .chunks_exact(3072)
                .map(|image| (image[1] as usize, image[0] == 31.0))
                .collect::<Vec<_>>()
        }) {
            mirrored[image.0].push(image.1);
        }
        for image in &mirrored {
            assert!(image.windows(2).all(|pair| pair[0] != pair[1]), "{image:?}");
        }
        let first = mirrored.iter().filter(|image| image[0]).count();
        assert!((65..135).contains(&first), "{first}"); // five standard deviations about 100
    }

    #[test]
    fn batches_depend_on_seed_and_step_alone() {
        let input = Input::default();
        let mut reference = start(20, &input, 16, 0, 1);
        let mut three = start(20, &input, 16, 0, 3);
        let expected: Vec<Batch> = (0..12).map(|_| reference.next().unwrap()).collect();
        for (step, batch) in expected.iter().enumerate() {
            assert_eq!(batch.step, step as u64);
            assert_eq!(&three.next().unwrap(), batch);
        }
        let mut middle = start(20, &input, 16, 7, 2);
        assert_eq!(middle.next().unwrap(), expected[7]);
        let other = BatchStream::<Batch>::start(images(20), &input, of(16), Seed(6), 0, 3, 1);
        assert_ne!(other.unwrap().next().unwrap(), expected[0]);
    }

    #[test]
    fn images_are_augmented_anew_each_time() {
        let mut pixels = vec![0; RECORD_BYTES];
        pixels[1..].copy_from_slice(
            &(0..PIXEL_BYTES)
                .map(|i| (i % 251) as u8)
                .collect::<Vec<_>>(),
        );
        let single = Arc::new(Images::from_records(pixels));
        let input = Input {
            crop: 2,
            ..Input::default()
        };
        let mut stream =
            BatchStream::<Batch>::start(single, &input, of(2), Seed(1), 0, 0, 1).unwrap();
        let batch = stream.next().unwrap();
        assert_ne!(batch.images[..12], batch.images[12..]);
    }

    #[test]
    fn datasets_smaller_than_a_batch_are_repeated_in_new_orders() {
        let mut stream = start(3, &plain(), 10, 0, 2);
        let (first, second) = (stream.next().unwrap(), stream.next().unwrap());
        let order = [indices(&first), indices(&second)].concat();
        for epoch in order.chunks_exact(3) {
            let mut sorted = epoch.to_vec();
            sorted.sort();
            assert_eq!(sorted, [0, 1, 2]);
        }
    }

    #[test]
    fn evaluation_batch_holds_its_images_in_order() {
        let preprocessor = Preprocessor::new(&plain(), None);
        let view = Augmentation::central(&plain());
        let batch = evaluation_batch(&images(23), &preprocessor, &view, 20..23);
        assert_eq!(indices(&batch), [20, 21, 22]);
        assert_eq!((batch.step, &batch.labels[..]), (20, &[0, 1, 2][..]));
    }

    #[test]
    fn evaluation_batch_has_no_square_cut_out() {
        let of = |cutout| {
            let input = Input { cutout, ..plain() };
            let preprocessor = Preprocessor::new(&input, None);
            let central = Augmentation::central(&input);
            evaluation_batch(&images(23), &preprocessor, &central, 20..23)
        };
        assert_eq!(of(1), of(0));
    }
}
