//! Local response normalisation over the channels of a pixel, which lie side by side.

use pulp::Simd;

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
    cells: Vec<f32>,
}

impl ChannelWindows {
    pub fn new(norm: &Norm, channels: usize, pixels: usize) -> Self {
        ChannelWindows {
            radius: norm.radius,
            channels,
            cells: vec![0.0; (channels + 2 * norm.radius) * pixels],
        }
    }

    /// The pixels' own cells, without the zeros.
    #[inline(always)]
    fn own<S: Simd>(&mut self) -> impl Iterator<Item = &mut [S::f32s]> {
        let (radius, channels) = (self.radius, self.channels);
        self.cells
            .chunks_exact_mut(channels + 2 * radius)
            .map(move |cells| S::as_mut_simd_f32s(&mut cells[radius..radius + channels]).0)
    }

    /// Sum over the window of a pixel's vector of channels.
    #[inline(always)]
    fn sum<S: Simd>(&self, simd: S, pixel: usize, vector: usize) -> S::f32s {
        let start = pixel * (self.channels + 2 * self.radius) + vector * S::F32_LANES;
        let cells = &self.cells[start..start + 2 * self.radius + S::F32_LANES];
        let mut sum = simd.splat_f32s(0.0);
        for shift in 0..=2 * self.radius {
            let cells = &cells[shift..shift + S::F32_LANES];
            sum = simd.add_f32s(sum, S::as_simd_f32s(cells).0[0]);
        }
        sum
    }
}

/// What the backward pass needs of the forward one, for a vector of channels.
#[derive(Clone, Copy)]
pub struct NormCache<V> {
    /// base^-beta
    scale: V,
    /// 1 / base
    inverse: V,
}

impl<V: Copy> NormCache<V> {
    #[inline(always)]
    pub fn zeros<S: Simd<f32s = V>>(simd: S) -> Self {
        let zero = simd.splat_f32s(0.0);
        NormCache {
            scale: zero,
            inverse: zero,
        }
    }
}

#[inline(always)]
fn scales<S: Simd>(simd: S, norm: &Norm, base: S::f32s) -> NormCache<S::f32s> {
    let inverse = simd.div_f32s(simd.splat_f32s(1.0), base);
    let scale = if norm.beta == 0.75 {
        let root = simd.sqrt_f32s(inverse); // base^-0.5, and its root once more: no logarithm
        simd.mul_f32s(root, simd.sqrt_f32s(root))
    } else {
        let mut scale = base;
        for value in bytemuck::cast_slice_mut::<S::f32s, f32>(std::slice::from_mut(&mut scale)) {
            *value = value.powf(-norm.beta);
        }
        scale
    };
    NormCache { scale, inverse }
}

/// out = x / (bias + alpha * sum of x^2 over the window)^beta for a row of pixels.
#[inline(always)]
pub fn forward<S: Simd>(
    simd: S,
    norm: &Norm,
    windows: &mut ChannelWindows,
    x: &[S::f32s],
    out: &mut [S::f32s],
    mut cache: Option<&mut [NormCache<S::f32s>]>,
) {
    if norm.identity {
        out.copy_from_slice(x);
        return;
    }
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
            out[pixel * width + vector] = simd.mul_f32s(x, scales.scale);
            if let Some(cache) = &mut cache {
                cache[pixel * width + vector] = scales;
            }
        }
    }
}

/// The gradient by x of a row of pixels, in place of that by the output:
/// g scale - 2 alpha beta x * (sum over the window of g x scale / base).
#[inline(always)]
pub fn backward<S: Simd>(
    simd: S,
    norm: &Norm,
    windows: &mut ChannelWindows,
    x: &[S::f32s],
    cache: &[NormCache<S::f32s>],
    gradient: &mut [S::f32s],
) {
    if norm.identity {
        return;
    }
    let width = windows.channels / S::F32_LANES;
    for (pixel, cells) in windows.own::<S>().enumerate() {
        for (vector, cell) in cells.iter_mut().enumerate() {
            let at = pixel * width + vector;
            let NormCache { scale, inverse } = cache[at];
            let product = simd.mul_f32s(simd.mul_f32s(gradient[at], x[at]), scale);
            *cell = simd.mul_f32s(product, inverse);
        }
    }
    let factor = simd.splat_f32s(-2.0 * norm.alpha * norm.beta);
    for (pixel, gradient) in gradient.chunks_exact_mut(width).enumerate() {
        for (vector, gradient) in gradient.iter_mut().enumerate() {
            let at = pixel * width + vector;
            let sum = simd.mul_f32s(windows.sum(simd, pixel, vector), factor);
            let own = simd.mul_f32s(*gradient, cache[at].scale);
            *gradient = simd.mul_add_e_f32s(sum, x[at], own);
        }
    }
}
