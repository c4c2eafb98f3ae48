//! Local response normalisation over the channels of a pixel, which lie side by side.

use super::LANES;
use super::buffer::Buffer;
use pulp::Simd;

/// The radius of the tutorial's windows.
const TUTORIAL_RADIUS: usize = 4;

/// The operation's constants, see `spec::Norm`.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    /// Whether it passes on what it gets; the rest has no meaning then.
    pub identity: bool,
    pub radius: usize,
    pub bias: f32,
    pub alpha: f32,
    pub beta: f32,
}

/// Buffer for a row of pixels, each with zeros on both sides of its channels. A row, because a sum that was
/// read right after its parts were written would wait for them.
pub struct ChannelWindows {
    radius: usize,
    channels: usize,
    /// Zeros before each pixel's channels, and behind the last one's: whole vectors.
    border: usize,
    cells: Buffer,
}

impl ChannelWindows {
    pub fn new(norm: &Norm, channels: usize, pixels: usize) -> Self {
        let border = norm.radius.next_multiple_of(LANES);
        ChannelWindows {
            radius: norm.radius,
            channels,
            border,
            cells: Buffer::zeros((border + channels) * pixels + border),
        }
    }

    /// The pixels' own cells, without the zeros.
    #[inline(always)]
    fn own<S: Simd>(&mut self) -> impl Iterator<Item = &mut [S::f32s]> {
        let border = self.border;
        self.cells
            .chunks_exact_mut(border + self.channels)
            .map(move |cells| S::as_mut_simd_f32s(&mut cells[border..]).0)
    }

    /// Sum over the window of a pixel's vector of channels.
    #[inline(always)]
    fn sum<S: Simd>(&self, simd: S, pixel: usize, vector: usize) -> S::f32s {
        let own = pixel * (self.border + self.channels) + self.border;
        let start = own + vector * S::F32_LANES - self.radius;
        let cells = &self.cells[start..];
        match self.radius {
            TUTORIAL_RADIUS => sum(simd, cells, TUTORIAL_RADIUS), // a loop of known length
            radius => sum(simd, cells, radius),
        }
    }
}

/// The sum of the vectors that begin with each of the first values.
#[inline(always)]
fn sum<S: Simd>(simd: S, cells: &[f32], radius: usize) -> S::f32s {
    let cells = &cells[..2 * radius + S::F32_LANES];
    let mut sum = simd.splat_f32s(0.0);
    for shift in 0..=2 * radius {
        let cells = &cells[shift..shift + S::F32_LANES];
        sum = simd.add_f32s(sum, S::as_simd_f32s(cells).0[0]);
    }
    sum
}

/// What the backward pass needs of the forward one, for a vector of channels: base^-beta and 1 / base.
pub type NormCache<V> = [V; 2];

/// base^-beta and 1 / base. For the betas of which that is a whole power of base^(-1/4), by multiplications alone: square
/// roots and divisions of vectors would take half of the time of a normalisation.
#[inline(always)]
fn scales<S: Simd>(simd: S, norm: &Norm, base: S::f32s) -> NormCache<S::f32s> {
    let root = inverse_fourth_root(simd, base);
    let square = simd.mul_f32s(root, root);
    let inverse = simd.mul_f32s(square, square);
    let scale = if norm.beta == 0.75 {
        simd.mul_f32s(square, root)
    } else if norm.beta == 0.5 {
        square
    } else if norm.beta == 1.0 {
        inverse
    } else {
        let mut scale = base;
        for value in bytemuck::cast_slice_mut::<S::f32s, f32>(std::slice::from_mut(&mut scale)) {
            *value = value.powf(-norm.beta);
        }
        scale
    };
    [scale, inverse]
}

/// x^(-1/4) of positive numbers to their last bits but two, by Newton's iteration for 1 / y^4 = x: from y to
/// y (5 - x y^4) / 4, which makes an error of e one of 5/2 e^2.
#[inline(always)]
fn inverse_fourth_root<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // The bits of a number are nearly a linear function of its logarithm, and so is a power (Lomont, Fast inverse square
    // root, 2003). This constant is 5/4 of the bits of 1 less 0.045 * 2^23: the largest error is 4 %.
    let start = simd.splat_u32s(0x4f58_cae6);
    let bits: S::u32s = bytemuck::cast(x);
    let quarter = simd.wrapping_dyn_shr_u32s(bits, simd.splat_u32s(2));
    let mut y: S::f32s = bytemuck::cast(simd.sub_u32s(start, quarter));
    let (quarter, five_quarters) = (simd.splat_f32s(-0.25), simd.splat_f32s(1.25));
    let x = simd.mul_f32s(x, quarter);
    for _ in 0..3 {
        let square = simd.mul_f32s(y, y);
        let power = simd.mul_f32s(square, square);
        y = simd.mul_f32s(y, simd.mul_add_e_f32s(x, power, five_quarters));
    }
    y
}

/// Hands on the scales of each vector of a row of pixels, with its number and itself.
#[inline(always)]
fn each<S: Simd>(
    simd: S,
    norm: &Norm,
    windows: &mut ChannelWindows,
    x: &[S::f32s],
    mut take: impl FnMut(usize, S::f32s, NormCache<S::f32s>),
) {
    let width = windows.channels / S::F32_LANES;
    for (squares, x) in windows.own::<S>().zip(x.chunks_exact(width)) {
        for (square, &x) in squares.iter_mut().zip(x) {
            *square = simd.mul_f32s(x, x);
        }
    }
    let (alpha, bias) = (simd.splat_f32s(norm.alpha), simd.splat_f32s(norm.bias));
    for (pixel, x) in x.chunks_exact(width).enumerate() {
        for (vector, &x) in x.iter().enumerate() {
            let sum = windows.sum(simd, pixel, vector);
            let scales = scales(simd, norm, simd.mul_add_e_f32s(alpha, sum, bias));
            take(pixel * width + vector, x, scales);
        }
    }
}

/// out = x / (bias + alpha * sum of x^2 over the window)^beta for a row of pixels.
#[inline(always)]
pub fn forward<S: Simd>(
    simd: S,
    norm: &Norm,
    windows: &mut ChannelWindows,
    x: &[S::f32s],
    out: &mut [S::f32s],
) {
    if norm.identity {
        return out.copy_from_slice(x);
    }
    each(simd, norm, windows, x, |at, x, scales| {
        out[at] = simd.mul_f32s(x, scales[0]);
    });
}

/// As [`forward`], with what [`backward`] needs of it.
#[inline(always)]
pub fn forward_cached<S: Simd>(
    simd: S,
    norm: &Norm,
    windows: &mut ChannelWindows,
    x: &[S::f32s],
    out: &mut [S::f32s],
    cache: &mut [NormCache<S::f32s>],
) {
    if norm.identity {
        return out.copy_from_slice(x);
    }
    each(simd, norm, windows, x, |at, x, scales| {
        out[at] = simd.mul_f32s(x, scales[0]);
        cache[at] = scales;
    });
}

/// What [`backward`] needs of [`forward`], alone.
#[inline(always)]
pub fn cache<S: Simd>(
    simd: S,
    norm: &Norm,
    windows: &mut ChannelWindows,
    x: &[S::f32s],
    cache: &mut [NormCache<S::f32s>],
) {
    if !norm.identity {
        each(simd, norm, windows, x, |at, _, scales| cache[at] = scales);
    }
}

/// out = the gradient by x of a row of pixels, of that by the output:
/// g scale - 2 alpha beta x * (sum over the window of g x scale / base).
#[inline(always)]
pub fn backward<S: Simd>(
    simd: S,
    norm: &Norm,
    windows: &mut ChannelWindows,
    (x, cache): (&[S::f32s], &[NormCache<S::f32s>]),
    gradient: &[S::f32s],
    out: &mut [S::f32s],
) {
    if norm.identity {
        return out.copy_from_slice(gradient);
    }
    let width = windows.channels / S::F32_LANES;
    for (pixel, cells) in windows.own::<S>().enumerate() {
        for (vector, cell) in cells.iter_mut().enumerate() {
            let at = pixel * width + vector;
            let [scale, inverse] = cache[at];
            let product = simd.mul_f32s(simd.mul_f32s(gradient[at], x[at]), scale);
            *cell = simd.mul_f32s(product, inverse);
        }
    }
    let factor = simd.splat_f32s(-2.0 * norm.alpha * norm.beta);
    for (pixel, out) in out.chunks_exact_mut(width).enumerate() {
        for (vector, out) in out.iter_mut().enumerate() {
            let at = pixel * width + vector;
            let sum = simd.mul_f32s(windows.sum(simd, pixel, vector), factor);
            let own = simd.mul_f32s(gradient[at], cache[at][0]);
            *out = simd.mul_add_e_f32s(sum, x[at], own);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::{Arch, WithSimd};

    struct Roots<'a>(&'a mut [f32]);

    impl WithSimd for Roots<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            for x in S::as_mut_simd_f32s(self.0).0 {
                *x = inverse_fourth_root(simd, *x);
            }
        }
    }

    #[test]
    fn inverse_fourth_root_is_right_to_the_last_bits_over_many_magnitudes() {
        let powers = (-960..960).map(|tenth| 2f32.powf(tenth as f32 / 10.0));
        let near_one = (0..1600).map(|step| 1.0 + step as f32 * 1e-3);
        let mut values: Vec<f32> = powers.chain(near_one).collect();
        let want: Vec<f64> = values.iter().map(|&x| f64::from(x).powf(-0.25)).collect();
        Arch::new().dispatch(Roots(&mut values));
        for (got, want) in values.iter().zip(&want) {
            let error = (f64::from(*got) / want - 1.0).abs();
            assert!(error < 3e-7, "got {got}, want {want}");
        }
    }
}
