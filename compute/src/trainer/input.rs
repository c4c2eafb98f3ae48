//! Where a step's batch comes from.

use crate::backend::{self, DeviceImages, Labels};
use anyhow::Result;
use burn::tensor::{Device, Tensor};
use runboard::data::{Batch, BatchPlan, BatchStream, Batching, Images, Share, StreamItem};
use runboard::spec::Spec;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The batches from some step on: made on the host, or planned there and made on a GPU that holds the images.
pub(super) enum BatchSource {
    Host {
        batches: BatchStream<Batch>,
        side: usize,
        device: Device,
        /// The places in the whole batches.
        places: Range<usize>,
    },
    Gpu {
        plans: BatchStream<BatchPlan>,
        images: DeviceImages,
        /// The places in the whole batches, which are made, to take.
        places: Range<usize>,
    },
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
                side: spec.input.crop,
                device: device.clone(),
                places,
            });
        }
        Ok(BatchSource::Gpu {
            // A square may be from an image of another part.
            plans: batches(images, spec, Share::WHOLE, first)?,
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
                side,
                device,
                places,
            } => {
                let batch = batches.next()?;
                let waited = begin.elapsed();
                let (images, labels) = backend::upload_batch(batch, *side, device);
                let first = places.start;
                ((images, Labels { first, ..labels }), waited)
            }
            BatchSource::Gpu {
                plans,
                images,
                places,
            } => {
                let plan = plans.next()?;
                let waited = begin.elapsed();
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
            BatchSource::Gpu { plans, .. } => plans.ready(),
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
    BatchStream::start(
        Arc::clone(images),
        &spec.input,
        Batching {
            share,
            ..Batching::from(&spec.train)
        },
        spec.seed,
        first,
        spec.data.prefetch,
        spec.data.workers,
    )
}
