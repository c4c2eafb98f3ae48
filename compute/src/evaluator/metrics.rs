//! What a classifier's logits say about it: accuracy, loss, confusion, scores, its worst mistakes.

use anyhow::{Result, ensure};
use runboard::spec::Fidelity;

/// Metrics over the images added so far. All that depends on the order of adding is the order of
/// [`Metrics::one_versus_rest`] and the last bits of [`Metrics::loss`].
///
/// The *predicted* class of an image is the one with the largest logit, of equal ones the first. An image
/// with a NaN or infinite logit has none: it is no hit, is missed by its class, is not in the confusion
/// matrix or among the mistakes, and scores 0 for every class. Methods on a class panic where there is no
/// such class.
///
/// # Accuracy
/// The share of the images that are hits, which the tutorial calls precision @ 1: their predicted class is the label. With
/// [`Fidelity::Tutorial`] a hit is what `tf.nn.in_top_k` calls one with k = 1: every logit is finite and none is larger than the label's
/// ([`in_topk_op.h`](https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/kernels/in_topk_op.h)).
/// There every one of equal largest classes is a hit, and a network whose logits are all the same has accuracy 1.
#[derive(Debug)]
pub struct Metrics {
    classes: usize,
    keep_mistakes: usize,
    fidelity: Fidelity,
    hits: u64,
    loss_sum: f64,
    /// True class of each image, in the order added.
    labels: Vec<usize>,
    /// Softmax probabilities, [n, classes].
    scores: Vec<f32>,
    /// [true class, predicted class].
    confusion: Vec<u64>,
    /// The worst so far, sorted by [`Mistake::rank`].
    mistakes: Vec<Mistake>,
}

/// An image that the network takes for another class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mistake {
    /// Of the image in its set.
    pub index: usize,
    /// The true class.
    pub label: usize,
    /// The predicted class.
    pub predicted: usize,
    /// The predicted class's softmax probability.
    pub probability: f64,
}

impl Mistake {
    /// The most confident first, of equal ones the first of the set.
    fn rank(&self, other: &Mistake) -> std::cmp::Ordering {
        let by_probability = other.probability.total_cmp(&self.probability);
        by_probability.then(self.index.cmp(&other.index))
    }
}

impl Metrics {
    /// No images yet, of `classes` classes. The `keep_mistakes` worst mistakes will be kept. `fidelity` says what a hit is.
    pub fn new(classes: usize, keep_mistakes: usize, fidelity: Fidelity) -> Self {
        Metrics {
            classes,
            keep_mistakes,
            fidelity,
            hits: 0,
            loss_sum: 0.0,
            labels: Vec::new(),
            scores: Vec::new(),
            confusion: vec![0; classes * classes],
            mistakes: Vec::new(),
        }
    }

    /// Count a batch: `logits` [n, classes] of the `labels.len()` images of the set from `first_index` on.
    /// An image that is added twice, as where an evaluation runs past the end of its set, counts twice,
    /// but is one mistake.
    ///
    /// # Errors
    /// Another number of logits, or a label that is no class; then nothing of the batch is counted.
    pub fn add(&mut self, logits: &[f32], labels: &[i64], first_index: usize) -> Result<()> {
        let want = labels.len() * self.classes;
        ensure!(
            logits.len() == want,
            "got {} logits, want {want}: {} images of {} classes",
            logits.len(),
            labels.len(),
            self.classes
        );
        let classes = 0..self.classes as i64;
        if let Some(at) = labels.iter().position(|label| !classes.contains(label)) {
            let (label, image) = (labels[at], first_index + at);
            anyhow::bail!(
                "image {image}: got label {label}, want 0 to {}",
                classes.end - 1
            );
        }
        for (at, &label) in labels.iter().enumerate() {
            let row = &logits[at * self.classes..][..self.classes];
            self.add_image(row, label as usize, first_index + at);
        }
        Ok(())
    }

    fn add_image(&mut self, logits: &[f32], label: usize, index: usize) {
        let log_probabilities = log_softmax(logits);
        self.loss_sum -= log_probabilities[label];
        self.labels.push(label);
        if !logits.iter().all(|logit| logit.is_finite()) {
            self.scores.extend(logits.iter().map(|_| 0.0));
            return;
        }
        let scores = log_probabilities.iter().map(|log| log.exp() as f32);
        self.scores.extend(scores);
        let predicted = first_largest(logits);
        self.confusion[label * self.classes + predicted] += 1;
        let is_hit = match self.fidelity {
            Fidelity::Exact => label == predicted,
            Fidelity::Tutorial => logits[label] == logits[predicted],
        };
        if is_hit {
            self.hits += 1;
        } else {
            self.keep(Mistake {
                index,
                label,
                predicted,
                probability: log_probabilities[predicted].exp(),
            });
        }
    }

    fn keep(&mut self, mistake: Mistake) {
        if self.mistakes.iter().any(|kept| kept.index == mistake.index) {
            return;
        }
        let before = |kept: &Mistake| kept.rank(&mistake).is_lt();
        let rank = self.mistakes.partition_point(before);
        if rank < self.keep_mistakes {
            self.mistakes.truncate(self.keep_mistakes - 1);
            self.mistakes.insert(rank, mistake);
        }
    }

    /// Share of the images that are hits, in 0..=1. NaN without images.
    pub fn accuracy(&self) -> f64 {
        self.hits as f64 / self.labels.len() as f64
    }

    /// Mean over the images of the cross-entropy between label and softmax of the logits, in nats. NaN or
    /// infinite where one image's is: at a NaN or +inf among its logits, at -inf for its label.
    pub fn loss(&self) -> f64 {
        self.loss_sum / self.labels.len() as f64
    }

    /// Number of a class's images. Not the sum of the confusion matrix's row: an image without a prediction counts, too.
    pub fn images(&self, class: usize) -> usize {
        self.labels.iter().filter(|&&label| label == class).count()
    }

    /// Share of a class's images that are predicted to be of it. `None` where it has no images.
    pub fn recall(&self, class: usize) -> Option<f64> {
        share(self.true_positives(class), self.images(class) as u64)
    }

    /// Share of the images predicted to be of a class that are of it. `None` where none is predicted.
    pub fn precision(&self, class: usize) -> Option<f64> {
        let rows = self.confusion.chunks_exact(self.classes);
        share(self.true_positives(class), rows.map(|row| row[class]).sum())
    }

    fn true_positives(&self, class: usize) -> u64 {
        self.confusion[class * self.classes + class]
    }

    /// Number of images of each true and predicted class, [true, predicted].
    pub fn confusion(&self) -> &[u64] {
        &self.confusion
    }

    /// What a precision-recall curve of `class` is made of. Of every image, in the order added: the softmax
    /// probability that it is of `class`, and whether it is.
    pub fn one_versus_rest(&self, class: usize) -> (Vec<f32>, Vec<bool>) {
        let scores = self.scores.chunks_exact(self.classes);
        let truth = self.labels.iter().map(|&label| label == class);
        (scores.map(|row| row[class]).collect(), truth.collect())
    }

    /// The images that are no hits and whose predicted class has the largest probabilities; the largest
    /// first, of equal ones the first of the set.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }
}

/// ln(exp(logit) / sum(exp(logits))) for each, relative to the largest logit so that nothing overflows.
fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let relative = logits.iter().map(|&logit| f64::from(logit) - largest);
    let log_sum = relative.clone().map(f64::exp).sum::<f64>().ln();
    relative.map(|logit| logit - log_sum).collect()
}

/// The classes' probabilities by an image's logits; none where one of these is no finite number.
pub(super) fn probabilities(logits: &[f32]) -> Option<Vec<f64>> {
    let are_finite = logits.iter().all(|logit| logit.is_finite());
    are_finite.then(|| log_softmax(logits).into_iter().map(f64::exp).collect())
}

fn first_largest(logits: &[f32]) -> usize {
    let largest = |best: usize, i: usize| if logits[i] > logits[best] { i } else { best };
    (1..logits.len()).fold(0, largest)
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::seq::SliceRandom;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const NAN: f32 = f32::NAN;
    const INF: f32 = f32::INFINITY;

    fn metrics(classes: usize, logits: &[f32], labels: &[i64]) -> Metrics {
        metrics_with(Fidelity::Exact, classes, logits, labels)
    }

    fn metrics_with(fidelity: Fidelity, classes: usize, logits: &[f32], labels: &[i64]) -> Metrics {
        let mut metrics = Metrics::new(classes, 16, fidelity);
        metrics.add(logits, labels, 0).unwrap();
        metrics
    }

    #[test]
    fn metrics_of_a_small_case_are_those_found_by_hand() {
        let ln = f32::ln; // probabilities are in the ratio of these arguments
        let logits = [
            [ln(1.0), ln(2.0), ln(1.0)],
            [ln(3.0), ln(4.0), ln(1.0)],
            [ln(1.0), ln(7.0), ln(2.0)],
            [ln(8.0), ln(1.0), ln(1.0)],
        ];
        let m = metrics(3, logits.as_flattened(), &[1, 0, 2, 0]);
        assert_eq!(m.accuracy(), 0.5);
        let want = -(0.5f64.ln() + 0.375f64.ln() + 0.2f64.ln() + 0.8f64.ln()) / 4.0;
        assert!((m.loss() - want).abs() < 1e-7, "{} {want}", m.loss());
        assert_eq!(m.confusion(), [1, 1, 0, 0, 1, 0, 0, 1, 0]);
        let recall = [Some(0.5), Some(1.0), Some(0.0)];
        assert_eq!([0, 1, 2].map(|class| m.recall(class)), recall);
        let precision = [Some(1.0), Some(1.0 / 3.0), None];
        assert_eq!([0, 1, 2].map(|class| m.precision(class)), precision);
        let (scores, truth) = m.one_versus_rest(2);
        assert_eq!(truth, [false, false, true, false]);
        for (got, want) in scores.iter().zip([0.25, 0.125, 0.2, 0.1]) {
            assert!((got - want).abs() < 1e-6, "{scores:?}");
        }
        let found: Vec<_> = m
            .mistakes()
            .iter()
            .map(|m| (m.index, m.label, m.predicted))
            .collect();
        assert_eq!(found, [(2, 2, 1), (1, 0, 1)]);
        assert!((m.mistakes()[0].probability - 0.7).abs() < 1e-7);
    }

    #[test]
    fn of_equal_largest_logits_the_first_is_a_hit_and_in_the_tutorial_each() {
        let of = |fidelity| metrics_with(fidelity, 3, &[1.0, 1.0, 0.0, 1.0, 1.0, 0.0], &[0, 1]);
        let (exact, tutorial) = (of(Fidelity::Exact), of(Fidelity::Tutorial));
        assert_eq!([exact.accuracy(), tutorial.accuracy()], [0.5, 1.0]);
        for m in [&exact, &tutorial] {
            assert_eq!(m.confusion(), [1, 0, 0, 1, 0, 0, 0, 0, 0], "the first");
        }
        assert_eq!([exact.mistakes().len(), tutorial.mistakes().len()], [1, 0]);
        // A network that says nothing.
        let labels: Vec<i64> = (0..10).collect();
        assert_eq!(metrics(10, &[0.0; 100], &labels).accuracy(), 0.1);
    }

    #[test]
    fn image_with_a_logit_that_is_not_finite_is_missed_and_nothing_else() {
        // tf.nn.in_top_k([[0, 1, bad], ...], [1, ...], 1) is false for each
        for bad in [NAN, INF, -INF] {
            let m = metrics(3, &[0.0, 1.0, bad, 0.0, 1.0, 0.0], &[1, 1]);
            assert_eq!(m.accuracy(), 0.5, "{bad}");
            assert_eq!(m.recall(1), Some(0.5));
            assert_eq!(m.precision(1), Some(1.0));
            assert_eq!(m.confusion().iter().sum::<u64>(), 1);
            assert!(m.mistakes().is_empty());
            assert_eq!(m.one_versus_rest(1).0[0], 0.0);
            // -inf is a probability of 0
            assert_eq!(m.loss().is_nan(), bad != -INF);
        }
        let m = metrics(2, &[0.0, -INF], &[1]);
        assert_eq!(m.loss(), f64::INFINITY);
        assert!(metrics(2, &[-INF, -INF], &[1]).loss().is_nan());
        assert!(metrics(2, &[NAN, NAN], &[1]).loss().is_nan());
    }

    #[test]
    fn large_logits_neither_overflow_nor_lose_their_difference() {
        let m = metrics(2, &[1e8, 1e8], &[0]);
        assert_eq!(m.loss(), 2f64.ln());
        let m = metrics(2, &[-3e38, 3e38], &[0]);
        assert_eq!(m.loss(), 2.0 * f64::from(3e38f32));
        assert_eq!(m.mistakes()[0].probability, 1.0);
    }

    #[test]
    fn metrics_of_no_images_and_of_one_class() {
        let m = metrics(10, &[], &[]);
        assert!(m.accuracy().is_nan() && m.loss().is_nan());
        assert_eq!((m.recall(9), m.precision(9)), (None, None));
        assert_eq!(m.one_versus_rest(0), (vec![], vec![]));
        let m = metrics(1, &[-5.0, 7.0], &[0, 0]);
        assert_eq!((m.accuracy(), m.loss()), (1.0, 0.0));
        assert_eq!(m.one_versus_rest(0), (vec![1.0; 2], vec![true; 2]));
        assert_eq!(m.confusion(), [2]);
        metrics(0, &[], &[]);
    }

    #[test]
    fn batch_that_does_not_fit_is_refused() {
        let mut m = Metrics::new(2, 1, Fidelity::Exact);
        let error = m.add(&[0.0; 3], &[0, 1], 0).unwrap_err();
        assert_eq!(
            error.to_string(),
            "got 3 logits, want 4: 2 images of 2 classes"
        );
        for bad in [2, -1] {
            let error = m.add(&[0.0; 4], &[0, bad], 7).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("image 8: got label {bad}, want 0 to 1")
            );
        }
        assert!(m.accuracy().is_nan(), "nothing was counted");
    }

    #[test]
    fn mistakes_kept_are_the_worst_whatever_the_order() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        // Few distinct values, so that probabilities repeat and ties are decided by the index.
        let mut images: Vec<(usize, [f32; 3], i64)> = (0..200)
            .map(|index| {
                let logits = std::array::from_fn(|_| random.random_range(0..4) as f32);
                (index, logits, random.random_range(0..3))
            })
            .collect();
        let all = |keep, images: &[(usize, [f32; 3], i64)]| {
            let mut m = Metrics::new(3, keep, Fidelity::Exact);
            for (index, logits, label) in images {
                m.add(logits, &[*label], *index).unwrap();
            }
            m
        };
        let every = all(usize::MAX, &images);
        assert!(every.mistakes().is_sorted_by(|a, b| a.rank(b).is_lt()));
        let misses = images.len() as f64 * (1.0 - every.accuracy());
        assert_eq!(every.mistakes().len(), misses.round() as usize);
        for keep in [0, 1, 16] {
            images.shuffle(&mut random);
            let m = all(keep, &images);
            assert_eq!(m.mistakes(), &every.mistakes()[..keep]);
            assert_eq!(m.confusion(), every.confusion());
            assert_eq!(m.accuracy(), every.accuracy());
            assert!((m.loss() - every.loss()).abs() < 1e-12);
        }
        let twice = [images.clone(), images].concat();
        assert_eq!(all(16, &twice).mistakes(), &every.mistakes()[..16]);
    }

    #[test]
    fn metrics_of_batches_agree_with_the_definitions() {
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let (n, classes) = (300, 10);
        let logits: Vec<f32> = (0..n * classes)
            .map(|_| random.random_range(-5.0..5.0))
            .collect();
        let labels: Vec<i64> = (0..n).map(|_| random.random_range(0..10)).collect();
        let mut m = Metrics::new(classes, 16, Fidelity::Exact);
        for start in (0..n).step_by(128) {
            let end = n.min(start + 128);
            let rows = &logits[start * classes..end * classes];
            m.add(rows, &labels[start..end], start).unwrap();
        }
        let row = |i: usize| &logits[i * classes..][..classes];
        let softmax = |i: usize, class: usize| {
            let exps = row(i).iter().map(|&x| f64::from(x).exp());
            f64::from(row(i)[class]).exp() / exps.sum::<f64>()
        };
        let argmax = |i: usize| (0..classes).max_by(|&a, &b| row(i)[a].total_cmp(&row(i)[b]));
        let label = |i: usize| labels[i] as usize;
        let loss: f64 = (0..n).map(|i| -softmax(i, label(i)).ln()).sum();
        assert!((m.loss() - loss / n as f64).abs() < 1e-12);
        let hits = (0..n).filter(|&i| argmax(i) == Some(label(i))).count();
        assert_eq!(m.accuracy(), hits as f64 / n as f64);
        for class in 0..classes {
            let (scores, truth) = m.one_versus_rest(class);
            for i in 0..n {
                assert_eq!(truth[i], label(i) == class);
                assert!((f64::from(scores[i]) - softmax(i, class)).abs() < 1e-7);
            }
            for predicted in 0..classes {
                let both = (0..n).filter(|&i| (label(i), argmax(i)) == (class, Some(predicted)));
                let got = m.confusion()[class * classes + predicted];
                assert_eq!(got, both.count() as u64);
            }
        }
    }
}
