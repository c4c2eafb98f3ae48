//! The dense layers and the loss.
//!
//! Their products are the same ones as the convolutions', each shared among the threads by rows of its result. No sum
//! is: what comes out does not depend on the number of threads. Sums over images are summed up in the convolutions' parts.
//! Nothing waits for the gradients by the parameters: they are tasks for threads that the convolutions' backward pass
//! leaves idle.

use super::buffer::Buffer;
use super::parts::part_size;
use super::product::{LeftMatrix, ROWS, RightMatrix, Sum, multiply};
use super::tasks::Task;
use super::{LANES, padded};
use crate::backend::dropout::Dropout;
use crate::backend::tree_sum::tree_sum;
use crate::model::PER_LAYER;
use anyhow::{Context, Result, ensure};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use std::borrow::Cow;

/// Rows of a gradient by weights that are a thread's work at a time.
const GRADIENT_ROWS: usize = 16 * ROWS;

/// All dense layers. Each but the last is followed by relu.
pub struct Dense<'a>(Vec<Layer<'a>>);

struct Layer<'a> {
    inputs: usize,
    outputs: usize,
    /// Outputs, padded.
    width: usize,
    /// [inputs, width]
    weights: Cow<'a, [f32]>,
    /// [width]
    biases: Cow<'a, [f32]>,
}

/// The loss of a batch, and its gradients by all but the parameters.
pub struct DenseBackward {
    /// The mean cross-entropy.
    pub loss: f32,
    /// Share of the images of which no class has a larger logit than their own.
    pub accuracy: f32,
    /// The gradient by the first layer's inputs, [n, inputs].
    pub features: Buffer,
    /// What each layer but the last passes on, [n, width].
    activations: Vec<Buffer>,
    /// The gradient by each layer's outputs, [n, width].
    gradients: Vec<Buffer>,
    /// Images of a part of the batch.
    part: usize,
}

impl<'a> Dense<'a> {
    /// Of weights, [in, out], and biases, [out], by turns.
    pub fn of(parameters: &[&'a [f32]]) -> Self {
        let layers = parameters.chunks_exact(PER_LAYER).map(|pair| {
            let (weights, biases) = (pair[0], pair[1]);
            let outputs = biases.len();
            Layer {
                inputs: weights.len() / outputs,
                outputs,
                width: outputs.next_multiple_of(LANES),
                weights: padded(weights, outputs),
                biases: padded(biases, outputs),
            }
        });
        Dense(layers.collect())
    }

    /// The logits, [n, classes], of features [n, inputs].
    pub fn logits(&self, features: &[f32]) -> Vec<f32> {
        let mut outputs = self.forward(features, None);
        let mut logits = Vec::new();
        if let (Some(rows), Some(layer)) = (outputs.pop(), self.0.last()) {
            for row in rows.chunks_exact(layer.width) {
                logits.extend_from_slice(&row[..layer.outputs]);
            }
        }
        logits
    }

    /// The loss of features [n, inputs] with their labels, of which a share is spread over all classes, and its gradients.
    ///
    /// # Errors
    /// A label that is no class.
    pub fn backward(
        &self,
        features: &[f32],
        labels: HostLabels,
        label_smoothing: f32,
        dropout: Option<&Dropout>,
    ) -> Result<DenseBackward> {
        let mut activations = self.forward(features, dropout);
        let last = self.0.last().context("no layer")?;
        let mut gradient = activations.pop().context("no logits")?;
        let (width, classes) = (last.width, last.outputs);
        let (loss, accuracy) =
            cross_entropy(&mut gradient, width, classes, labels, label_smoothing)?;
        let scale = dropout.map_or(1.0, Dropout::scale);
        let mut gradients = Vec::new();
        for (index, layer) in self.0.iter().enumerate().rev() {
            let by_input = match index {
                0 => layer.input_gradient(layer.inputs, &gradient, |_, _| {}),
                _ => {
                    let (width, out) = (self.0[index - 1].width, &activations[index - 1]);
                    layer.input_gradient(width, &gradient, |first, rows| {
                        relu_backward(&out[first * width..], scale, rows);
                    })
                }
            };
            gradients.push(gradient);
            gradient = by_input;
        }
        gradients.reverse();
        Ok(DenseBackward {
            loss,
            accuracy,
            features: gradient,
            activations,
            gradients,
            part: part_size(labels.batch),
        })
    }

    /// The work that puts into `to` the gradients by weights, [in, out], and biases, [out], by turns. The weights of
    /// layers that are frozen are left out.
    pub fn parameter_gradients<'t>(
        &'t self,
        features: &'t [f32],
        backward: &'t DenseBackward,
        frozen: &[bool],
        to: Vec<&'t mut [f32]>,
    ) -> Vec<Task<'t>> {
        let mut to = to.into_iter();
        let mut tasks: Vec<Task<'t>> = Vec::new();
        let images = backward.part;
        for (index, layer) in self.0.iter().enumerate() {
            let gradient = &backward.gradients[index];
            let input: &[f32] = match index {
                0 => features,
                _ => &backward.activations[index - 1],
            };
            let (Some(weights), Some(biases)) = (to.next(), to.next()) else {
                break; // there is a place for each
            };
            if !frozen[index] {
                let width = input.len() / (gradient.len() / layer.width);
                let parts = weights.chunks_mut(GRADIENT_ROWS * layer.outputs);
                for (part, out) in parts.enumerate() {
                    let first = part * GRADIENT_ROWS;
                    tasks.push(Box::new(move || {
                        let input = &input[first..];
                        layer.weight_gradient(input, width, gradient, images, out);
                    }));
                }
            }
            tasks.push(Box::new(move || {
                layer.bias_gradient(gradient, images, biases);
            }));
        }
        tasks
    }

    /// What each layer makes in turn of the features, [n, width]; the last are the logits.
    fn forward(&self, features: &[f32], dropout: Option<&Dropout>) -> Vec<Buffer> {
        let Some(layer) = self.0.first() else {
            return Vec::new();
        };
        let n = features.len() / layer.inputs;
        let layers = self.0.iter();
        let mut outputs: Vec<_> = layers.map(|it| Buffer::stale(n * it.width)).collect();
        // Each thread takes some images through all layers, and waits for no other one in between.
        let each = rows_each(n);
        let mut pieces: Vec<Vec<&mut [f32]>> = Vec::new();
        pieces.resize_with(n.div_ceil(each), Vec::new);
        for (layer, outputs) in self.0.iter().zip(&mut outputs) {
            let rows = outputs.chunks_mut(each * layer.width);
            pieces.iter_mut().zip(rows).for_each(|(to, it)| to.push(it));
        }
        let pieces = pieces.into_par_iter().enumerate();
        pieces.for_each(|(piece, outputs)| {
            self.forward_rows(features, dropout, piece * each, outputs);
        });
        outputs
    }

    /// As [`Dense::forward`], of the images from `first` on, as many as `outputs` has room for.
    fn forward_rows(
        &self,
        features: &[f32],
        dropout: Option<&Dropout>,
        first: usize,
        outputs: Vec<&mut [f32]>,
    ) {
        let last = self.0.len() - 1;
        let inputs = self.0[0].inputs;
        let (mut input, mut width) = (&features[first * inputs..], inputs);
        for (index, (layer, out)) in self.0.iter().zip(outputs).enumerate() {
            for row in out.chunks_exact_mut(layer.width) {
                row.copy_from_slice(&layer.biases);
            }
            let left = LeftMatrix {
                row: width,
                ..LeftMatrix::matrix(input, layer.inputs)
            };
            product(left, &layer.weights, layer.width, out, Sum::Added);
            if index < last {
                layer.pass_on(
                    out,
                    dropout.map(|it| &it.factors(index)[first * layer.outputs..]),
                );
            }
            (input, width) = (out, layer.width);
        }
    }
}

impl Layer<'_> {
    /// relu, and the factors of dropout.
    fn pass_on(&self, out: &mut [f32], factors: Option<&[f32]>) {
        // max(x, 0), and NaN where x is
        out.iter_mut()
            .for_each(|x| *x = if *x < 0.0 { 0.0 } else { *x });
        if let Some(factors) = factors {
            let factors = factors.chunks_exact(self.outputs);
            for (row, factors) in out.chunks_exact_mut(self.width).zip(factors) {
                row.iter_mut().zip(factors).for_each(|(x, by)| *x *= by);
            }
        }
    }

    /// Of parts of so many images.
    fn bias_gradient(&self, gradient: &[f32], images: usize, to: &mut [f32]) {
        let parts = gradient.chunks(images * self.width);
        let mut sums = vec![0.0; parts.len() * self.width];
        for (sums, rows) in sums.chunks_exact_mut(self.width).zip(parts) {
            for row in rows.chunks_exact(self.width) {
                for (sum, value) in sums.iter_mut().zip(row) {
                    *sum += value;
                }
            }
        }
        tree_sum(&mut sums, self.width);
        to.copy_from_slice(&sums[..self.outputs]);
    }

    /// Some rows of input^T * gradient, [inputs, outputs], of parts of so many images; each row of the input, of `width`
    /// values, begins with those of the first of them.
    fn weight_gradient(
        &self,
        input: &[f32],
        width: usize,
        gradient: &[f32],
        images: usize,
        out: &mut [f32],
    ) {
        let rows = out.len() / self.outputs;
        let left = LeftMatrix {
            step: width,
            ..LeftMatrix::transposed(input, rows, gradient.len() / self.width)
        };
        let sum = Sum::Tree(images);
        if self.width == self.outputs {
            return product(left, gradient, self.width, out, sum);
        }
        let mut padded = Buffer::stale(rows * self.width);
        product(left, gradient, self.width, &mut padded, sum);
        let rows = padded.chunks_exact(self.width);
        for (to, row) in out.chunks_exact_mut(self.outputs).zip(rows) {
            to.copy_from_slice(&row[..self.outputs]);
        }
    }

    /// gradient * weights^T, as the transpose of weights * gradient^T: to transpose the larger factor would cost more.
    /// [n, width]. `then` is done to each group of rows while it is in the cache, with the number of its first one.
    fn input_gradient(
        &self,
        width: usize,
        gradient: &[f32],
        then: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Buffer {
        let n = gradient.len() / self.width;
        let columns = n.next_multiple_of(LANES);
        let mut transposed = match n == columns {
            true => Buffer::stale(self.outputs * columns),
            false => Buffer::zeros(self.outputs * columns),
        };
        // So many outputs at a time as a line of the cache has of an image.
        let blocks = transposed.par_chunks_mut(LANES * columns).enumerate();
        blocks.for_each(|(block, rows)| {
            for (output, row) in rows.chunks_exact_mut(columns).enumerate() {
                let images = row.iter_mut().zip(gradient.chunks_exact(self.width));
                images.for_each(|(to, image)| *to = image[block * LANES + output]);
            }
        });
        let mut product_transposed = Buffer::stale(self.inputs * columns);
        by_rows(&mut product_transposed, columns, |first, out| {
            let left = LeftMatrix {
                row: self.width,
                ..LeftMatrix::matrix(&self.weights[first * self.width..], self.outputs)
            };
            product(left, &transposed, columns, out, Sum::New);
        });
        let mut out = match self.inputs == width {
            true => Buffer::stale(n * width),
            false => Buffer::zeros(n * width),
        };
        let groups = out.par_chunks_mut(LANES * width).enumerate();
        groups.for_each(|(group, out)| {
            let columns = product_transposed.chunks_exact(columns).enumerate();
            for (input, column) in columns {
                let images = out.chunks_exact_mut(width).zip(&column[group * LANES..]);
                images.for_each(|(image, value)| image[input] = *value);
            }
            then(group * LANES, out);
        });
        out
    }
}

/// The labels of a batch, [n].
#[derive(Clone, Copy)]
pub(in crate::backend) struct HostLabels<'a> {
    pub own: &'a [i64],
    /// With cutmix the labels of the images that the squares are from, and how much the own ones count.
    pub mixed: Option<(&'a [i64], f32)>,
    /// Images of the whole batch, of which these may be a part.
    pub batch: usize,
}

impl<'a> From<&'a [i64]> for HostLabels<'a> {
    fn from(own: &'a [i64]) -> Self {
        HostLabels {
            own,
            mixed: None,
            batch: own.len(),
        }
    }
}

/// The mean cross-entropy of logits [n, width], of which `classes` count, and the accuracy; the logits become the former's
/// gradient. A share of each label, the smoothing, is spread evenly over all classes.
pub(in crate::backend) fn cross_entropy(
    logits: &mut [f32],
    width: usize,
    classes: usize,
    labels: HostLabels,
    smoothing: f32,
) -> Result<(f32, f32)> {
    let class = |label: i64| {
        let class = usize::try_from(label).ok().filter(|&class| class < classes);
        class.with_context(|| format!("got label {label}, want 0 to {}", classes - 1))
    };
    let n = labels.own.len();
    let mut hits = 0;
    let part = part_size(labels.batch);
    let mut losses = vec![0.0; n.div_ceil(part)];
    for (image, (row, &label)) in logits.chunks_exact_mut(width).zip(labels.own).enumerate() {
        let (row, padding) = row.split_at_mut(classes);
        let label = class(label)?;
        let mixed = match labels.mixed {
            Some((others, share)) => Some((class(others[image])?, share)),
            None => None,
        };
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut sum = 0.0;
        // Of equal largest ones the first is what is predicted.
        hits += usize::from(row.iter().position(|x| *x == largest) == Some(label));
        let picked = match mixed {
            Some((other, share)) => share * row[label] + (1.0 - share) * row[other] - largest,
            None => row[label] - largest,
        };
        let target = match smoothing > 0.0 {
            true => {
                let mean = row.iter().sum::<f32>() / classes as f32 - largest;
                picked + smoothing * (mean - picked)
            }
            false => picked,
        };
        for x in row.iter_mut() {
            *x = (*x - largest).exp();
            sum += *x;
        }
        losses[image / part] += f64::from(sum.ln() - target);
        for x in row.iter_mut() {
            *x /= sum * n as f32;
        }
        if smoothing > 0.0 {
            let spread = smoothing / (classes * n) as f32;
            row.iter_mut().for_each(|x| *x -= spread);
        }
        let weight = (1.0 - smoothing) / n as f32;
        match mixed {
            Some((other, share)) => {
                row[label] -= share * weight;
                row[other] -= (1.0 - share) * weight;
            }
            None => row[label] -= weight,
        }
        padding.fill(0.0);
    }
    ensure!(n > 0, "a batch of no images");
    let mut losses: Vec<f32> = losses.iter().map(|&loss| loss as f32).collect();
    tree_sum(&mut losses, 1);
    Ok((losses[0] / n as f32, hits as f32 / n as f32))
}

/// The gradient by what went into relu, of that by what came `out` of it and of dropout, which scales what it leaves.
fn relu_backward(out: &[f32], scale: f32, gradient: &mut [f32]) {
    for (gradient, out) in gradient.iter_mut().zip(out) {
        *gradient = if *out > 0.0 { *gradient * scale } else { 0.0 };
    }
}

/// How many of so many rows each thread takes: whole tiles of the product.
fn rows_each(rows: usize) -> usize {
    let each = rows.div_ceil(rayon::current_num_threads());
    each.next_multiple_of(ROWS)
}

/// Split the rows of `out` among the threads: to do for each part, with the number of its first row.
fn by_rows(out: &mut [f32], columns: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    let each = rows_each(out.len() / columns);
    let parts = out.par_chunks_mut(each * columns).enumerate();
    parts.for_each(|(part, out)| work(part * each, out));
}

/// out[rows, columns] = left * right
fn product(left: LeftMatrix, right: &[f32], columns: usize, out: &mut [f32], sum: Sum) {
    Arch::new().dispatch(Product {
        left,
        right,
        columns,
        out,
        sum,
    });
}

struct Product<'a> {
    left: LeftMatrix<'a>,
    right: &'a [f32],
    columns: usize,
    out: &'a mut [f32],
    sum: Sum,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Product {
            left,
            right,
            columns,
            out,
            sum,
        } = self;
        let right = RightMatrix::matrix(right, columns);
        multiply(simd, left, out.len() / columns, right, columns, out, sum);
    }
}
