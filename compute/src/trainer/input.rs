//! Where a step's batch comes from.

use crate::backend::{self, DeviceImages, DevicePlan, Labels};
use anyhow::{Context, Result};
use burn::tensor::{Device, Tensor};
use runboard::data::{BatchBuilder, BatchPlan, BatchStream, Batching, Images, Share, StreamItem};
use runboard::spec::Spec;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Plans that are copied to a GPU at once, if they are ready.
const SENT_AT_ONCE: usize = 100;

/// The batches from some step on: made on the host, or planned there and made on a GPU that holds the images.
pub(super) enum BatchSource {
    Host {
        batches: BatchStream<HostBatch>,
        /// The places in the whole batches, of `batch` images.
        places: Range<usize>,
        batch: usize,
    },
    Gpu {
        plans: BatchStream<BatchPlan>,
        /// The next ones, which the GPU has.
        sent: VecDeque<DevicePlan>,
        images: DeviceImages,
        /// Which images of a whole batch are this rank's: the GPU makes the whole one.
        places: Range<usize>,
    },
}

/// A rank's part of a batch in tensors on the host, which the threads that prepare it make.
pub struct HostBatch(Result<(Tensor<4>, Labels)>);

impl StreamItem for HostBatch {
    fn build(builder: &mut BatchBuilder, step: u64) -> Self {
        let side = builder.crop();
        HostBatch(backend::host_batch(&builder.batch(step), side))
    }
}

/// What a step takes in, on the device.
pub(super) struct StepInput {
    /// [n, crop, crop, 3]
    pub images: Tensor<4>,
    pub labels: Labels,
    /// How long they were waited for.
    pub waited: Duration,
}

impl BatchSource {
    /// Begin with this part of the batch of step `first`; `gpu` says whether the device is one.
    ///
    /// # Errors
    /// As [`BatchStream::start`] and [`DeviceImages::new`].
    pub fn start(
        images: &Arc<Images>,
        spec: &Spec,
        share: Share,
        first: u64,
        device: &Device,
        gpu: bool,
    ) -> Result<Self> {
        let places = share.places(spec.train.batch_size);
        if !gpu {
            return Ok(BatchSource::Host {
                batches: batches(images, spec, share, first)?,
                places,
                batch: spec.train.batch_size,
            });
        }
        Ok(BatchSource::Gpu {
            // Of whole batches: the square that cutmix takes may be of an image that is another rank's.
            plans: stream(images, spec, Share::WHOLE, first, SENT_AT_ONCE)?,
            sent: VecDeque::new(),
            images: DeviceImages::new(images, &spec.input, device)?,
            places,
        })
    }

    /// The next step's; waits until they are ready.
    ///
    /// # Errors
    /// As [`BatchStream::next`] and [`DeviceImages::batch`].
    pub fn next(&mut self) -> Result<StepInput> {
        let begin = Instant::now();
        let ((images, labels), waited) = match self {
            BatchSource::Host {
                batches,
                places,
                batch,
            } => {
                let (images, labels) = batches.next()?.0?;
                let waited = begin.elapsed();
                let (first, batch) = (places.start, *batch);
                let labels = Labels {
                    first,
                    batch,
                    ..labels
                };
                ((images, labels), waited)
            }
            BatchSource::Gpu {
                plans,
                sent,
                images,
                places,
            } => {
                if sent.is_empty() {
                    let mut next = vec![plans.next()?];
                    while plans.ready() > 0 && next.len() < SENT_AT_ONCE {
                        next.push(plans.next()?);
                    }
                    sent.extend(images.send(&next)?);
                }
                let waited = begin.elapsed();
                let plan = sent.pop_front().context("no plan was sent")?;
                let (images, labels) = images.batch(&plan)?;
                (
                    (
                        images.narrow(0, places.start, places.len()),
                        labels.part(places),
                    ),
                    waited,
                )
            }
        };
        Ok(StepInput {
            images,
            labels,
            waited,
        })
    }

    /// How many batches are ready.
    pub fn ready(&self) -> usize {
        match self {
            BatchSource::Host { batches, .. } => batches.ready(),
            BatchSource::Gpu { plans, sent, .. } => plans.ready() + sent.len(),
        }
    }
}

/// The batches from step `first` on, or plans for them.
///
/// # Errors
/// As [`BatchStream::start`].
pub(super) fn batches<T: StreamItem>(
    images: &Arc<Images>,
    spec: &Spec,
    share: Share,
    first: u64,
) -> Result<BatchStream<T>> {
    stream(images, spec, share, first, 0)
}

/// As [`batches`], with so many ready at least.
fn stream<T: StreamItem>(
    images: &Arc<Images>,
    spec: &Spec,
    share: Share,
    first: u64,
    ready: usize,
) -> Result<BatchStream<T>> {
    BatchStream::start(
        Arc::clone(images),
        &spec.input,
        Batching {
            share,
            ..Batching::from(&spec.train)
        },
        spec.seed,
        first,
        spec.data.prefetch.max(ready),
        spec.data.workers,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use runboard::spec::Seed;

    #[test]
    fn batches_of_a_device_that_holds_the_images_are_the_hosts_step_by_step() {
        let mut spec = Spec::default();
        spec.train.batch_size = 6;
        (spec.input.cutmix, spec.input.cutout) = (5, 3);
        let images = Arc::new(Images::noise(Seed(3), 40));
        let (device, _) = backend::device("compute.device", "cpu").unwrap();
        let share = Share { rank: 1, ranks: 2 };
        // The CPU makes them as a GPU would.
        let of = |gpu| BatchSource::start(&images, &spec, share, 7, &device, gpu).unwrap();
        let (mut host, mut gpu) = (of(false), of(true));
        for step in 0..3 * SENT_AT_ONCE {
            let (host, gpu) = (host.next().unwrap(), gpu.next().unwrap());
            let pixels = |input: &StepInput| {
                let images = input.images.clone().into_data();
                images.iter::<f32>().collect::<Vec<_>>()
            };
            assert!(pixels(&host) == pixels(&gpu), "{step}");
            let labels = |labels: Tensor<1, burn::tensor::Int>| {
                labels.into_data().iter::<i64>().collect::<Vec<_>>()
            };
            assert_eq!(labels(host.labels.own), labels(gpu.labels.own));
            let mixed = (host.labels.mixed.unwrap(), gpu.labels.mixed.unwrap());
            assert_eq!(labels(mixed.0), labels(mixed.1));
            assert_eq!(host.labels.first, gpu.labels.first);
            assert_eq!((host.labels.batch, gpu.labels.batch), (6, 6));
        }
    }
}
