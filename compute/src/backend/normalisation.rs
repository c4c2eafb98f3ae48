//! Local response normalisation in libtorch's operations.

use anyhow::Result;
use runboard::spec::{self, NormName};
use std::cell::RefCell;

/// x / (bias + alpha * windowed sum of x^2)^beta. The sum over neighbouring channels is a product with
/// a constant band matrix, which the matrix unit does faster than any sliding window of libtorch's.
pub(super) fn local_response_norm(x: &tch::Tensor, spec: &spec::Norm) -> Result<tch::Tensor> {
    if spec.name == NormName::None {
        return Ok(x.shallow_clone());
    }
    let band = band(x, spec)?;
    // Channels are last in memory: neither permutation copies.
    let squares = x.f_square()?.f_permute([0, 2, 3, 1])?;
    let sum = squares.f_matmul(&band)?.f_permute([0, 3, 1, 2])?;
    // Near its bias, the base needs more digits than a factor of a product.
    let base = sum.f_to_kind(tch::Kind::Float)?.f_add_scalar(spec.bias)?;
    let scale = if spec.beta == 0.75 {
        let root = base.f_rsqrt()?; // base^-0.75 without a logarithm
        root.f_mul(&root.f_sqrt()?)?
    } else {
        base.f_pow_tensor_scalar(-spec.beta)?
    };
    Ok(x.f_mul(&scale.f_to_kind(x.kind())?)?)
}

thread_local! {
    /// The band matrices that this thread has made: a step has two, and the next one the same.
    static BANDS: RefCell<Vec<(BandShape, tch::Tensor)>> = const { RefCell::new(Vec::new()) };
}

/// What a band matrix follows from.
#[derive(Clone, Copy, Debug, PartialEq)]
struct BandShape {
    channels: i64,
    radius: i64,
    alpha: f64,
    kind: tch::Kind,
    device: tch::Device,
}

/// The matrix of [`local_response_norm`], [channels, channels], made once. It stays where it is: a graph reads it there.
fn band(x: &tch::Tensor, spec: &spec::Norm) -> Result<tch::Tensor> {
    let shape = BandShape {
        channels: x.size()[1],
        radius: spec.radius as i64,
        alpha: spec.alpha,
        kind: x.kind(),
        device: x.device(),
    };
    BANDS.with_borrow_mut(|bands| {
        if let Some((_, band)) = bands.iter().find(|(known, _)| *known == shape) {
            return Ok(band.shallow_clone());
        }
        let channels = shape.channels;
        let band = tch::Tensor::f_ones([channels, channels], (shape.kind, shape.device))?
            .f_tril(shape.radius)?
            .f_triu(-shape.radius)?
            .f_mul_scalar(shape.alpha)?;
        bands.push((shape, band.shallow_clone()));
        Ok(band)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn band_of_the_normalisation_is_made_once_for_each_shape() {
        let norm = spec::Norm::default();
        let of = |channels: i64, radius: usize| {
            let x = tch::Tensor::zeros([1, channels, 1, 1], (tch::Kind::Float, tch::Device::Cpu));
            let spec = spec::Norm {
                radius,
                ..norm.clone()
            };
            band(&x, &spec).unwrap()
        };
        let (first, again) = (of(12, 4), of(12, 4));
        assert_eq!(first.data_ptr(), again.data_ptr());
        // Row 0 reaches as many channels as the radius beyond itself.
        for (channels, radius) in [(12, 4), (12, 2), (3, 4)] {
            let row = of(channels, radius).view([channels, channels]).get(0);
            let row = Vec::<f32>::try_from(row).unwrap();
            let inside = (radius + 1).min(channels as usize);
            let alpha = norm.alpha as f32;
            assert!(row[..inside].iter().all(|&it| it == alpha), "{row:?}");
            assert!(row[inside..].iter().all(|&it| it == 0.0), "{row:?}");
        }
        for channels in 1..20 {
            drop(of(channels, 1));
        }
        assert_eq!(first.data_ptr(), of(12, 4).data_ptr()); // where a graph reads it
    }
}
