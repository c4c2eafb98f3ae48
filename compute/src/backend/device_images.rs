//! Images that stay on the device, and are augmented there.

use super::memory::send;
use super::{Labels, tch_tensor};
use anyhow::Result;
use burn::backend::LibTorch;
use burn::tensor::{Device, Int, Tensor};
use burn_tch::TchTensor;
use runboard::data::{BatchPlan, CHANNELS, Images, SIDE};
use runboard::spec::{Input, PadMode};
use tch::Kind;

/// A split's images in a device's memory, as bytes. A step needs a plan of 60 kB instead of a batch of 900 kB.
#[derive(Debug)]
pub struct DeviceImages {
    /// [images, channel, row, column]; where images are padded, with a black row and column after the last ones.
    pixels: tch::Tensor,
}

impl DeviceImages {
    /// Copy the images to the device, for batches as the spec's `input` wants them.
    ///
    /// # Errors
    /// libtorch's, such as memory that does not suffice.
    pub fn new(images: &Images, input: &Input, device: &Device) -> Result<Self> {
        let device = tch_tensor(Tensor::<1>::zeros([1], device))?.device();
        let (n, side) = (images.len() as i64, SIDE as i64);
        let records = tch::Tensor::f_from_slice(images.records())?.f_view([n, -1])?;
        let pixels = records.f_narrow(1, 1, records.size()[1] - 1)?;
        let pixels = pixels.f_reshape([n, CHANNELS as i64, side, side])?;
        let pixels = pixels.f_to_device(device)?;
        let black = input.pad > 0 && input.pad_mode == PadMode::Zero;
        Ok(DeviceImages {
            pixels: match black {
                true => pixels.f_constant_pad_nd([0, 1, 0, 1])?,
                false => pixels,
            },
        })
    }

    /// Copy plans to the device, all at once: a copy costs the same time for one as for many.
    ///
    /// # Errors
    /// libtorch's.
    pub fn send(&self, plans: &[BatchPlan]) -> Result<Vec<DevicePlan>> {
        let parts = |plan: &BatchPlan| {
            let BatchPlan {
                labels,
                images,
                rows,
                columns,
                cutouts,
                mixes,
                ..
            } = plan;
            [labels, images, rows, columns, cutouts, mixes]
                .map(Vec::as_slice)
                .concat()
        };
        let numbers: Vec<Vec<i64>> = plans.iter().map(parts).collect();
        let transforms: Vec<&[f32]> = plans.iter().map(|plan| &*plan.transforms).collect();
        let device = self.pixels.device();
        let all_numbers = send(&tch::Tensor::f_from_slice(&numbers.concat())?, device)?;
        let all_transforms = send(&tch::Tensor::f_from_slice(&transforms.concat())?, device)?;
        let (mut at, mut transform_at) = (0, 0);
        let mut sent = Vec::with_capacity(plans.len());
        for ((plan, numbers), transforms) in plans.iter().zip(&numbers).zip(transforms) {
            let (length, transform_length) = (numbers.len() as i64, transforms.len() as i64);
            sent.push(DevicePlan {
                images: plan.labels.len(),
                rows: plan.rows.len(),
                cutout: plan.cutout,
                cutmix: plan.cutmix,
                numbers: all_numbers.f_narrow(0, at, length)?,
                transforms: all_transforms.f_narrow(0, transform_at, transform_length)?,
            });
            at += length;
            transform_at += transform_length;
        }
        Ok(sent)
    }

    /// The batch of a plan: images as [n, crop, crop, 3] and their labels, on the device.
    ///
    /// # Errors
    /// libtorch's.
    pub fn batch(&self, plan: &DevicePlan) -> Result<(Tensor<4>, Labels)> {
        let (n, values) = (plan.images, plan.rows);
        let sizes = [n, n, values, values, 2 * n, 3 * n].map(|n| n as i64);
        let parts = plan.numbers.f_split_with_sizes(sizes, 0)?;
        let [labels, images, rows, columns, cutouts, mixes] = &parts[..] else {
            anyhow::bail!("got {} parts of a plan, want 6", parts.len());
        };
        let n = n as i64;
        let (images, rows) = (images.f_view([n, 1, 1])?, rows.f_view([n, -1, 1])?);
        let columns = columns.f_view([n, 1, -1])?;
        // The dimension of channels, between the three that are indexed, comes last: [n, crop, crop, 3].
        let chosen = [Some(&images), None, Some(&rows), Some(&columns)];
        let pixels = self.pixels.f_index(&chosen)?.f_to_kind(Kind::Float)?;
        let transforms = plan.transforms.f_view([n, 3, 1, 1, CHANNELS as i64])?;
        let part = |which| transforms.f_select(1, which);
        // The host's `Preprocessor::apply`, with the same roundings.
        let mut input = pixels
            .f_sub(&part(0)?)?
            .f_mul(&part(1)?)?
            .f_add(&part(2)?)?;
        if plan.cutout > 0 {
            let inside = self.squares(cutouts, plan.cutout, input.size()[1])?;
            input = input.f_masked_fill_(&inside, 0.0)?;
        }
        let mut mixed = None;
        if plan.cutmix > 0 {
            let (others, corners) = (mixes.f_narrow(0, 0, n)?, mixes.f_narrow(0, n, 2 * n)?);
            let inside = self.squares(&corners, plan.cutmix, input.size()[1])?;
            input = input
                .f_index_select(0, &others)?
                .f_where_self(&inside, &input)?;
            mixed = Some(int_tensor(&labels.f_index_select(0, &others)?)?);
        }
        Ok((
            Tensor::from_primitive::<LibTorch>(TchTensor::new(input)),
            Labels {
                own: int_tensor(labels)?,
                mixed,
                first: 0,
                batch: plan.images,
            },
        ))
    }

    /// Which pixels of n inputs of side `crop` are in their squares of this side: [n, crop, crop, 1]. `corners` are the
    /// squares' first rows, [n], then their first columns, [n].
    fn squares(&self, corners: &tch::Tensor, side: usize, crop: i64) -> Result<tch::Tensor> {
        let span = tch::Tensor::f_arange(crop, (Kind::Int64, self.pixels.device()))?;
        let offsets = span
            .f_view([1, 1, -1])?
            .f_sub(&corners.f_view([2, -1, 1])?)?;
        let inside = offsets
            .f_ge(0)?
            .f_logical_and(&offsets.f_lt(side as i64)?)?; // [2, n, crop]
        let [rows, columns] = [0, 1].map(|which| inside.f_select(0, which));
        let (rows, columns) = (rows?.f_unsqueeze(-1)?, columns?.f_unsqueeze(-2)?);
        Ok(rows.f_logical_and(&columns)?.f_unsqueeze(-1)?)
    }
}

/// A [`BatchPlan`] on the device.
#[derive(Debug)]
pub struct DevicePlan {
    /// Images of the batch.
    images: usize,
    /// Rows of all their crops together, and as many columns.
    rows: usize,
    cutout: usize,
    cutmix: usize,
    /// Labels, images, rows, columns, cutouts and mixes, one after the other.
    numbers: tch::Tensor,
    /// [n, 3, 3 channels]
    transforms: tch::Tensor,
}

fn int_tensor(values: &tch::Tensor) -> Result<Tensor<1, Int>> {
    let values = TchTensor::new(values.f_contiguous()?);
    Ok(Tensor::from_primitive::<LibTorch>(values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngCore, SeedableRng};
    use runboard::data::{Batch, BatchStream, Batching, Share};
    use runboard::spec::{Flip, Normalize, Seed};
    use std::sync::Arc;

    #[test]
    fn batch_is_the_hosts_bit_for_bit() {
        const RECORD: usize = 1 + CHANNELS * SIDE * SIDE;
        let mut records = vec![0; 7 * RECORD];
        rand_chacha::ChaCha8Rng::seed_from_u64(1).fill_bytes(&mut records);
        for (index, record) in records.chunks_exact_mut(RECORD).enumerate() {
            record[0] = index as u8;
        }
        records[6 * RECORD + 1..].fill(9); // flat: the largest factors
        let images = Arc::new(Images::from_records(records));
        let plain = |crop, normalize| Input {
            crop,
            normalize,
            ..Input::default()
        };
        let padded = |pad_mode, crop, cutout| Input {
            pad: 4,
            pad_mode,
            cutout,
            flip: Flip::Alternating,
            ..plain(crop, Normalize::Dataset)
        };
        for input in [
            plain(24, Normalize::Image),
            plain(24, Normalize::None),
            plain(32, Normalize::Image),
            plain(1, Normalize::Image),
            padded(PadMode::Zero, 32, 0),
            padded(PadMode::Reflect, 32, 12),
            padded(PadMode::Zero, 7, 7),
            Input {
                cutmix: 9,
                ..padded(PadMode::Reflect, 30, 5)
            },
        ] {
            let crop = input.crop;
            let device_images = DeviceImages::new(&images, &input, &Device::libtorch()).unwrap();
            let (size, seed) = (10, Seed(4));
            let images = || Arc::clone(&images);
            let batching = Batching {
                size,
                drop_last: false,
                share: Share::WHOLE,
            };
            let mut batches =
                BatchStream::<Batch>::start(images(), &input, batching, seed, 3, 1, 1).unwrap();
            let mut plans =
                BatchStream::<BatchPlan>::start(images(), &input, batching, seed, 3, 1, 1).unwrap();
            let plans: Vec<BatchPlan> = (0..4).map(|_| plans.next().unwrap()).collect();
            let (first, others) = plans.split_at(1);
            let mut sent = device_images.send(first).unwrap();
            sent.extend(device_images.send(others).unwrap());
            for (plan, sent) in plans.iter().zip(&sent) {
                let want = batches.next().unwrap();
                assert_eq!(plan.step, want.step);
                let (inputs, labels) = device_images.batch(sent).unwrap();
                assert_eq!(inputs.dims(), [size, crop, crop, CHANNELS]);
                let inputs: Vec<f32> = inputs.into_data().iter::<f32>().collect();
                assert!(inputs == want.images, "{input:?}");
                let host = |labels: Tensor<1, Int>| labels.into_data().iter::<i64>().collect();
                let own: Vec<i64> = host(labels.own);
                assert_eq!(own, want.labels);
                let mixed: Vec<i64> = labels.mixed.map_or(Vec::new(), host);
                assert_eq!(mixed, want.mixed_labels);
            }
        }
    }
}
