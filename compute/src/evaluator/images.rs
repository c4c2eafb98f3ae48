//! Images that networks are measured on, and the inputs that these see of them: made on the host, or on a GPU, which
//! holds the images as it does in training.

use crate::backend::{self, DeviceImages, DevicePlan};
use anyhow::Result;
use burn::tensor::{Device, Tensor};
use runboard::data::{self, Images, Preprocessor, View, evaluation_batch, evaluation_plan};
use runboard::spec::Spec;
use std::collections::HashMap;
use std::ops::Range;

/// A set of images, and the views of each that are evaluated.
#[derive(Debug)]
pub struct EvaluationImages {
    /// The images on the host, which labels and pictures are taken from.
    pub images: Images,
    /// The central crop, then the others of test-time augmentation.
    pub views: Vec<View>,
    preprocessor: Preprocessor,
    on_gpu: Option<OnGpu>,
}

/// What a GPU keeps from one evaluation to the next.
#[derive(Debug)]
struct OnGpu {
    images: DeviceImages,
    /// How a batch's inputs are made of them, by its view and its images. Every evaluation has the same ones.
    plans: HashMap<(usize, Range<usize>), DevicePlan>,
}

impl EvaluationImages {
    /// These images, as the spec wants them seen; `gpu` says whether the device is one, which then gets them.
    ///
    /// # Errors
    /// libtorch's, such as memory that does not suffice.
    pub fn new(
        images: Images,
        spec: &Spec,
        preprocessor: &Preprocessor,
        device: &Device,
        gpu: bool,
    ) -> Result<Self> {
        let on_gpu = || -> Result<OnGpu> {
            Ok(OnGpu {
                images: DeviceImages::new(&images, &spec.input, device)?,
                plans: HashMap::new(),
            })
        };
        Ok(EvaluationImages {
            on_gpu: gpu.then(on_gpu).transpose()?,
            images,
            views: data::views(spec.eval.tta, &spec.input),
            preprocessor: preprocessor.clone(),
        })
    }

    /// The network's inputs of these images, by a view of each: [n, crop, crop, 3], on the device.
    ///
    /// # Errors
    /// libtorch's.
    ///
    /// # Panics
    /// If there is no such image or view.
    pub fn inputs(&mut self, view: usize, batch: Range<usize>) -> Result<Tensor<4>> {
        let (images, preprocessor) = (&self.images, &self.preprocessor);
        let augmentation = &self.views[view].augmentation;
        let Some(gpu) = &mut self.on_gpu else {
            let side = preprocessor.input().crop;
            let batch = evaluation_batch(images, preprocessor, augmentation, batch);
            return Ok(backend::host_batch(&batch, side)?.0);
        };
        let key = (view, batch.clone());
        if !gpu.plans.contains_key(&key) {
            let plan = evaluation_plan(images, preprocessor, augmentation, batch);
            let sent = gpu.images.send(&[plan])?;
            gpu.plans
                .extend(sent.into_iter().map(|plan| (key.clone(), plan)));
        }
        Ok(gpu.images.batch(&gpu.plans[&key])?.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runboard::spec::{Input, Normalize, PadMode, Seed, Tta};

    #[test]
    fn inputs_of_a_device_that_holds_the_images_are_the_hosts_bit_for_bit() {
        let (device, _) = backend::device("eval.device", "cpu").unwrap();
        let images = || Images::noise(Seed(3), 10);
        let input = |crop, normalize, pad_mode| Input {
            crop,
            normalize,
            pad: 4,
            pad_mode,
            cutout: 5,
            cutmix: 5,
            ..Input::default()
        };
        for input in [
            Input::default(),
            input(32, Normalize::Dataset, PadMode::Zero),
            input(28, Normalize::None, PadMode::Reflect),
        ] {
            for tta in [Tta::None, Tta::Mirror, Tta::MirrorTranslate, Tta::TenCrop] {
                let mut spec = Spec {
                    input: input.clone(),
                    ..Spec::default()
                };
                spec.eval.tta = tta;
                let preprocessor = Preprocessor::new(&input, Some(&images()));
                // The CPU makes them as a GPU would.
                let on = |gpu| {
                    EvaluationImages::new(images(), &spec, &preprocessor, &device, gpu).unwrap()
                };
                let (mut host, mut gpu) = (on(false), on(true));
                for _evaluation in 0..2 {
                    for view in 0..host.views.len() {
                        for batch in [0..4, 4..8, 8..10, 0..2] {
                            let [host, gpu] = [&mut host, &mut gpu].map(|images| {
                                let inputs = images.inputs(view, batch.clone()).unwrap();
                                assert_eq!(inputs.dims(), [batch.len(), input.crop, input.crop, 3]);
                                inputs.into_data().iter::<f32>().collect::<Vec<_>>()
                            });
                            assert!(host == gpu, "{tta:?}, view {view}, {batch:?}, {input:?}");
                        }
                    }
                }
                let kept = gpu.on_gpu.unwrap().plans.len();
                assert_eq!(kept, 4 * gpu.views.len(), "each is sent once");
            }
        }
    }
}
