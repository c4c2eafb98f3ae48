//! Where a step's batch comes from.

use crate::backend::{self, DeviceImages, Labels};
use crate::data::{Batch, BatchPlan, BatchStream, Batching, Images, StreamItem};
use crate::spec::Spec;
use anyhow::Result;
use burn::tensor::{Device, Tensor};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The batches from some step on: made on the host, or planned there and made on a GPU that holds the images.
pub(super) enum BatchSource {
    Host {
        batches: BatchStream<Batch>,
        side: usize,
        device: Device,
    },
    Gpu {
        plans: BatchStream<BatchPlan>,
        images: DeviceImages,
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
    /// Begin with the batch of step `first`; `gpu` says whether the device is one.
    ///
    /// # Errors
    /// As [`BatchStream::start`] and [`DeviceImages::new`].
    pub fn start(
        images: &Arc<Images>,
        spec: &Spec,
        first: u64,
        device: &Device,
        gpu: bool,
    ) -> Result<Self> {
        if !gpu {
            return Ok(BatchSource::Host {
                batches: batches(images, spec, first)?,
                side: spec.input.crop,
                device: device.clone(),
            });
        }
        Ok(BatchSource::Gpu {
            plans: batches(images, spec, first)?,
            images: DeviceImages::new(images, &spec.input, device)?,
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
            } => {
                let batch = batches.next()?;
                let waited = begin.elapsed();
                let inputs = backend::upload_batch(batch, *side, device);
                (inputs, waited)
            }
            BatchSource::Gpu { plans, images } => {
                let plan = plans.next()?;
                let waited = begin.elapsed();
                (images.batch(&plan)?, waited)
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
    first: u64,
) -> Result<BatchStream<T>> {
    BatchStream::start(
        Arc::clone(images),
        &spec.input,
        Batching::from(&spec.train),
        spec.seed,
        first,
        spec.data.prefetch,
        spec.data.workers,
    )
}
