//! Gradient descent and the average of the weights, in one pass over memory. In libtorch's operations it is five of them, each
//! of which reads and writes all parameters and waits for the slowest thread.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Values that are a thread's work at a time: so few that they stay in the first caches from one operation to the next.
const UPDATED: usize = 1 << 12;

/// The constants of a step.
#[derive(Clone, Copy, Debug)]
pub struct Descent {
    pub rate: f32,
    /// Not used without a sum.
    pub momentum: f32,
    /// What counts of a gradient: 1 - dampening.
    pub share: f32,
    pub nesterov: bool,
}

/// What a step reads and changes of a parameter, or of a part of one: as many values each.
pub struct Descended<'a> {
    pub gradient: &'a [f32],
    pub weights: &'a mut [f32],
    /// The momentum's.
    pub sum: Option<&'a mut [f32]>,
    pub average: Option<&'a mut [f32]>,
}

impl Descent {
    /// sum = momentum * sum + share * gradient; weights -= rate * sum, with Nesterov rate * (share * gradient + momentum * sum),
    /// without a sum rate * gradient; average = decay * average + (1 - decay) * weights.
    pub fn step(self, parameters: Vec<Descended>, average_decay: f64) {
        let arch = Arch::new();
        let parts: Vec<Descended> = parameters.into_iter().flat_map(Descended::parts).collect();
        parts.into_par_iter().for_each(|values| {
            arch.dispatch(Part {
                descent: self,
                values,
                average_decay,
            });
        });
    }

    /// Put in the place of a step's gradient what that step has taken off the weights, given the sum that it left: the same bits.
    pub fn update(self, gradient: &mut [f32], sum: Option<&[f32]>) {
        Arch::new().dispatch(Taken {
            descent: self,
            gradient,
            sum,
        });
    }

    /// momentum * sum + share * gradient
    #[inline(always)]
    fn with_sum<S: Simd>(self, simd: S, gradient: S::f32s, sum: S::f32s) -> S::f32s {
        let gradient = simd.mul_f32s(gradient, simd.splat_f32s(self.share));
        simd.mul_add_e_f32s(sum, simd.splat_f32s(self.momentum), gradient)
    }

    /// What is taken off the weights, given the sum after it has grown by the gradient.
    #[inline(always)]
    fn taken<S: Simd>(self, simd: S, gradient: S::f32s, sum: Option<S::f32s>) -> S::f32s {
        let direction = match sum {
            None => gradient,
            Some(sum) if self.nesterov => self.with_sum(simd, gradient, sum),
            Some(sum) => sum,
        };
        simd.mul_f32s(direction, simd.splat_f32s(self.rate))
    }
}

impl<'a> Descended<'a> {
    fn parts(self) -> impl Iterator<Item = Descended<'a>> {
        let mut sums = self.sum.map(|sum| sum.chunks_mut(UPDATED));
        let mut averages = self.average.map(|average| average.chunks_mut(UPDATED));
        let values = self.gradient.chunks(UPDATED);
        let values = values.zip(self.weights.chunks_mut(UPDATED));
        values.map(move |(gradient, weights)| Descended {
            gradient,
            weights,
            sum: sums.as_mut().and_then(Iterator::next),
            average: averages.as_mut().and_then(Iterator::next),
        })
    }
}

/// A thread's work at a time.
struct Part<'a> {
    descent: Descent,
    values: Descended<'a>,
    average_decay: f64,
}

impl WithSimd for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Descended {
            gradient,
            weights,
            sum,
            average,
        } = self.values;
        let descent = self.descent;
        match sum {
            None => change(simd, weights, [gradient], |weight, [it]| {
                simd.sub_f32s(weight, descent.taken(simd, it, None))
            }),
            Some(sum) => {
                change(simd, sum, [gradient], |sum, [it]| {
                    descent.with_sum(simd, it, sum)
                });
                change(simd, weights, [gradient, &*sum], |weight, [it, sum]| {
                    simd.sub_f32s(weight, descent.taken(simd, it, Some(sum)))
                });
            }
        }
        let Some(average) = average else {
            return;
        };
        // From the nearer of the two, as libtorch's lerp.
        let taken = (1.0 - self.average_decay) as f32;
        let difference = |a, b| simd.sub_f32s(a, b);
        if taken < 0.5 {
            let taken = simd.splat_f32s(taken);
            change(simd, average, [&*weights], |average, [weight]| {
                simd.mul_add_e_f32s(difference(weight, average), taken, average)
            });
        } else {
            let kept = simd.splat_f32s(1.0 - taken);
            change(simd, average, [&*weights], |average, [weight]| {
                simd.mul_add_e_f32s(difference(average, weight), kept, weight)
            });
        }
    }
}

/// The work of [`Descent::update`].
struct Taken<'a> {
    descent: Descent,
    gradient: &'a mut [f32],
    sum: Option<&'a [f32]>,
}

impl WithSimd for Taken<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let descent = self.descent;
        match self.sum {
            None => change(simd, self.gradient, [], |it, []| {
                descent.taken(simd, it, None)
            }),
            Some(sum) => change(simd, self.gradient, [sum], |it, [sum]| {
                descent.taken(simd, it, Some(sum))
            }),
        }
    }
}

/// Put in the place of each value what a function makes of it and of those of the others.
#[inline(always)]
fn change<S: Simd, const N: usize>(
    simd: S,
    values: &mut [f32],
    others: [&[f32]; N],
    made: impl Fn(S::f32s, [S::f32s; N]) -> S::f32s,
) {
    let (values, rest) = S::as_mut_simd_f32s(values);
    let others = others.map(S::as_simd_f32s);
    for (at, value) in values.iter_mut().enumerate() {
        *value = made(*value, others.map(|(others, _)| others[at]));
    }
    if !rest.is_empty() {
        let own = simd.partial_load_f32s(rest);
        let others = others.map(|(_, rest)| simd.partial_load_f32s(rest));
        simd.partial_store_f32s(rest, made(own, others));
    }
}
