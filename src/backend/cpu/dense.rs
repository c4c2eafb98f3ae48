//! The dense layers and the loss.
//!
//! Their products are the same ones as the convolutions', each shared among the threads by rows of its result. No sum
//! is: what comes out does not depend on the number of threads.

use super::product::{LeftMatrix, ROWS, multiply};
use super::{LANES, padded};
use crate::backend::dropout::Dropout;
use crate::backend::to_host;
use crate::model::PER_LAYER;
use anyhow::{Context, Result, ensure};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use tch::Tensor;

/// All dense layers. Each but the last is followed by relu.
pub struct Dense(Vec<Layer>);

struct Layer {
    inputs: usize,
    outputs: usize,
    /// Outputs, padded.
    width: usize,
    /// [inputs, width]
    weights: Vec<f32>,
    /// [width]
    biases: Vec<f32>,
}

/// The loss of a batch and its gradients.
pub struct DenseGradients {
    /// The mean cross-entropy.
    pub loss: f32,
    /// Share of the images of which no class has a larger logit than their own.
    pub accuracy: f32,
    /// Its gradient by the first layer's inputs, [n, inputs].
    pub features: Vec<f32>,
    /// Its gradient by each layer's weights, [inputs, outputs], and biases, [outputs].
    pub parameters: Vec<Vec<f32>>,
}

impl Dense {
    /// Of these weights, [in, out], and biases, [out], by turns.
    ///
    /// # Errors
    /// libtorch's.
    pub fn of(parameters: &[Tensor]) -> Result<Self> {
        let layers = parameters.chunks_exact(PER_LAYER).map(|pair| {
            let (weights, biases) = (to_host(&pair[0])?, to_host(&pair[1])?);
            let outputs = biases.len();
            let width = outputs.next_multiple_of(LANES);
            Ok(Layer {
                inputs: weights.len() / outputs,
                outputs,
                width,
                weights: padded(weights, outputs),
                biases: padded(biases, outputs),
            })
        });
        layers.collect::<Result<_>>().map(Dense)
    }

    /// The logits, [n, classes], of features [n, inputs].
    pub fn logits(&self, features: Vec<f32>) -> Vec<f32> {
        let mut activations = self.forward(features, None);
        match (activations.pop(), self.0.last()) {
            (Some(logits), Some(layer)) => cropped(logits, layer.width, layer.outputs),
            _ => Vec::new(),
        }
    }

    /// The loss of features [n, inputs] with their labels, of which a share is spread over all classes, and its gradients.
    ///
    /// # Errors
    /// A label that is no class.
    pub fn gradients(
        &self,
        features: Vec<f32>,
        labels: HostLabels,
        label_smoothing: f32,
        dropout: Option<&Dropout>,
    ) -> Result<DenseGradients> {
        let mut activations = self.forward(features, dropout);
        let last = self.0.last().context("no layer")?;
        let mut gradient = activations.pop().context("no logits")?;
        let (width, classes) = (last.width, last.outputs);
        let (loss, accuracy) =
            cross_entropy(&mut gradient, width, classes, labels, label_smoothing)?;
        let scale = dropout.map_or(1.0, Dropout::scale);
        let mut parameters = Vec::new();
        for (index, layer) in self.0.iter().enumerate().rev() {
            let input = activations.pop().context("no input")?;
            let width = input.len() / labels.own.len();
            parameters.push(layer.bias_gradient(&gradient));
            parameters.push(layer.weight_gradient(&input, width, &gradient));
            gradient = layer.input_gradient(width, &gradient);
            if index > 0 {
                relu_backward(&input, scale, &mut gradient);
            }
        }
        parameters.reverse();
        Ok(DenseGradients {
            loss,
            accuracy,
            features: gradient,
            parameters,
        })
    }

    /// The features, what each layer makes of them in turn, [n, width], and the logits.
    fn forward(&self, features: Vec<f32>, dropout: Option<&Dropout>) -> Vec<Vec<f32>> {
        let mut activations = vec![features];
        for (index, layer) in self.0.iter().enumerate() {
            let input = &activations[index];
            let width = match index {
                0 => layer.inputs,
                _ => self.0[index - 1].width,
            };
            let n = input.len() / width;
            let mut out = layer.biases.repeat(n);
            let left = LeftMatrix {
                row: width,
                ..LeftMatrix::matrix(input, layer.inputs)
            };
            parallel_multiply(left, &layer.weights, layer.width, &mut out, true);
            if index + 1 < self.0.len() {
                // max(x, 0), and NaN where x is
                out.iter_mut()
                    .for_each(|x| *x = if *x < 0.0 { 0.0 } else { *x });
                if let Some(dropout) = dropout {
                    let factors = dropout.factors(index).chunks_exact(layer.outputs);
                    for (row, factors) in out.chunks_exact_mut(layer.width).zip(factors) {
                        row.iter_mut().zip(factors).for_each(|(x, by)| *x *= by);
                    }
                }
            }
            activations.push(out);
        }
        activations
    }
}

impl Layer {
    fn bias_gradient(&self, gradient: &[f32]) -> Vec<f32> {
        let mut sums = vec![0.0; self.width];
        for row in gradient.chunks_exact(self.width) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += value;
            }
        }
        sums.truncate(self.outputs);
        sums
    }

    /// input^T * gradient; the input is [n, width].
    fn weight_gradient(&self, input: &[f32], width: usize, gradient: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; self.inputs * self.width];
        let left = LeftMatrix {
            step: width,
            ..LeftMatrix::transposed(input, self.inputs, gradient.len() / self.width)
        };
        parallel_multiply(left, gradient, self.width, &mut out, false);
        cropped(out, self.width, self.outputs)
    }

    /// gradient * weights^T, as the transpose of weights * gradient^T: to transpose the larger factor would cost more.
    /// [n, width].
    fn input_gradient(&self, width: usize, gradient: &[f32]) -> Vec<f32> {
        let n = gradient.len() / self.width;
        let columns = n.next_multiple_of(LANES);
        let mut transposed = vec![0.0; self.outputs * columns];
        for (image, row) in gradient.chunks_exact(self.width).enumerate() {
            for (output, value) in row[..self.outputs].iter().enumerate() {
                transposed[output * columns + image] = *value;
            }
        }
        let mut product_transposed = vec![0.0; self.inputs * columns];
        let left = LeftMatrix {
            row: self.width,
            ..LeftMatrix::matrix(&self.weights, self.outputs)
        };
        parallel_multiply(left, &transposed, columns, &mut product_transposed, false);
        let mut out = vec![0.0; n * width];
        let groups = out.par_chunks_mut(LANES * width).enumerate();
        groups.for_each(|(group, out)| {
            let columns = product_transposed.chunks_exact(columns).enumerate();
            for (input, column) in columns {
                let images = out.chunks_exact_mut(width).zip(&column[group * LANES..]);
                images.for_each(|(image, value)| image[input] = *value);
            }
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
}

impl<'a> From<&'a [i64]> for HostLabels<'a> {
    fn from(own: &'a [i64]) -> Self {
        let mixed = None;
        HostLabels { own, mixed }
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
    let (mut loss, mut hits) = (0.0, 0);
    for (image, (row, &label)) in logits.chunks_exact_mut(width).zip(labels.own).enumerate() {
        let (row, padding) = row.split_at_mut(classes);
        let label = class(label)?;
        let mixed = match labels.mixed {
            Some((others, share)) => Some((class(others[image])?, share)),
            None => None,
        };
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let mut sum = 0.0;
        hits += usize::from(row[label] == largest);
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
        loss += f64::from(sum.ln() - target);
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
    let mean = |sum: f64| (sum / n as f64) as f32;
    Ok((mean(loss), mean(hits as f64)))
}

/// The gradient by what went into relu, of that by what came `out` of it and of dropout, which scales what it leaves.
fn relu_backward(out: &[f32], scale: f32, gradient: &mut [f32]) {
    for (gradient, out) in gradient.iter_mut().zip(out) {
        *gradient = if *out > 0.0 { *gradient * scale } else { 0.0 };
    }
}

/// out[rows, columns] = left * right, or added to what is there; each thread takes some of the rows.
fn parallel_multiply(left: LeftMatrix, right: &[f32], columns: usize, out: &mut [f32], add: bool) {
    let rows = out.len() / columns;
    let each = rows.div_ceil(rayon::current_num_threads());
    let each = each.next_multiple_of(ROWS);
    let arch = Arch::new();
    let parts = out.par_chunks_mut(each * columns).enumerate();
    parts.for_each(|(part, out)| {
        let left = LeftMatrix {
            values: &left.values[part * each * left.row..],
            ..left
        };
        arch.dispatch(Product {
            left,
            right,
            columns,
            out,
            add,
        });
    });
}

struct Product<'a> {
    left: LeftMatrix<'a>,
    right: &'a [f32],
    columns: usize,
    out: &'a mut [f32],
    add: bool,
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
            add,
        } = self;
        multiply(simd, left, out.len() / columns, right, columns, out, add);
    }
}

/// Rows of `from` values, without those from `to` on.
fn cropped(values: Vec<f32>, from: usize, to: usize) -> Vec<f32> {
    if from == to {
        return values;
    }
    let rows = values.chunks_exact(from);
    rows.flat_map(|row| &row[..to]).copied().collect()
}
