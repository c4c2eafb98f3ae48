//! The network against TensorFlow's: layers, losses, gradients, and five steps of gradient descent.

use super::{Comparisons, NETWORK};
use crate::backend::native::{self, activations, gradients, logits};
use crate::backend::{DeviceLosses, Optimizer, Recorder, upload};
use crate::model::Network;
use anyhow::{Result, bail};
use burn::tensor::{Device, Int, Tensor as Burn};
use runboard::checkpoint::NamedTensor;
use runboard::reference::{Golden, Tensor};
use runboard::schedule::Schedule;
use runboard::spec::{self, Precision, Spec};

pub(super) const CASES: [&str; 3] = ["tutorial", "strong", "other"];

/// A case of the golden file: the network that TensorFlow ran, on the batch that it ran it on.
pub(super) struct Case<'a> {
    name: &'a str,
    golden: &'a Golden,
    pub spec: Spec,
    pub network: Network,
    device: Device,
}

impl<'a> Case<'a> {
    pub fn of(
        name: &'a str,
        golden: &'a Golden,
        device: &Device,
        precision: Precision,
    ) -> Result<Self> {
        let shape = |parameter: &str| -> Result<&Vec<usize>> {
            Ok(&golden.get(&format!("{name}/initial/{parameter}"))?.shape)
        };
        let mut whole = Spec::default();
        whole.compute.precision = precision;
        let spec = &mut whole.network;
        (spec.pool, spec.norm) = settings(golden.get(&format!("{name}/settings"))?)?;
        spec.conv1.channels = shape("conv1/biases")?[0];
        spec.conv2.channels = shape("conv2/biases")?[0];
        spec.local3.units = shape("local3/biases")?[0];
        spec.local4.units = shape("local4/biases")?[0];
        let crop = golden.get(&format!("{name}/images"))?.shape[1];
        let values = golden.below(&format!("{name}/initial"))?.into_iter();
        let values = values.map(|(name, tensor)| NamedTensor {
            name: name.to_owned(),
            shape: tensor.shape.clone(),
            values: tensor.floats(),
        });
        let network = Network::init(spec, crop, spec::Seed(1), device)
            .with_tensors(&values.collect::<Vec<_>>())?;
        Ok(Case {
            name,
            golden,
            spec: whole,
            network,
            device: device.clone(),
        })
    }

    pub fn want(&self, what: &str) -> Result<&Tensor> {
        self.golden.get(&format!("{}/{what}", self.name))
    }

    pub fn batch(&self) -> Result<(Burn<4>, Burn<1, Int>)> {
        let images = self.want("images")?;
        let labels = self.want("labels")?.values.iter();
        let labels = labels.map(|&label| label as i64).collect();
        let side = images.shape[1];
        Ok(upload(images.floats(), labels, side, &self.device))
    }
}

/// Pooling and normalisation.
pub(super) fn settings(tensor: &Tensor) -> Result<(spec::Pool, spec::Norm)> {
    let [radius, bias, alpha, beta, size, stride] = tensor.values[..] else {
        bail!("got {} settings, want 6", tensor.values.len());
    };
    let (size, stride) = (size as usize, stride as usize);
    let norm = spec::Norm {
        name: spec::NormName::Lrn,
        radius: radius as usize,
        bias,
        alpha,
        beta,
    };
    Ok((spec::Pool { size, stride }, norm))
}

impl Comparisons {
    /// The networks of all cases.
    pub fn networks(&mut self) -> Result<()> {
        let golden = Golden::parse(NETWORK)?;
        for name in CASES {
            let case = Case::of(name, &golden, &self.device, self.precision)?;
            self.layers(&case)?;
            self.losses(&case)?;
            self.updates(&case)?;
        }
        Ok(())
    }

    /// What each layer makes of the batch, by libtorch's operations, and the logits as evaluation has them.
    pub fn layers(&mut self, case: &Case) -> Result<()> {
        let (name, tolerances) = (case.name, self.tolerances);
        activations(&case.network, &case.spec, case.batch()?.0, |layer| {
            let want = case.want(&format!("activations/{}", layer.name))?;
            if layer.shape != want.shape {
                let (got, want) = (&layer.shape, &want.shape);
                bail!("{name}/{}: got shape {got:?}, want {want:?}", layer.name);
            }
            let (layer, got) = (&layer.name, &layer.values);
            let what = format!("layers/{name}/{layer}");
            self.add(what, got, &want.values, tolerances.values);
            let zeros = got.iter().filter(|&&x| x == 0.0).count() as f64 / got.len() as f64;
            let want = case.want(&format!("sparsity/{layer}"))?.values[0];
            let what = format!("zeros/{name}/{layer}");
            self.add_deviation(what, (zeros - want).abs(), tolerances.zeros);
            Ok(())
        })?;
        let got = logits(&case.network, &case.spec, case.batch()?.0)?;
        let want = &case.want("activations/softmax_linear")?.values;
        self.add(format!("logits/{name}"), &got, want, tolerances.values);
        Ok(())
    }

    /// Losses and gradients as training has them, and by libtorch's operations where that is something else.
    fn losses(&mut self, case: &Case) -> Result<()> {
        let (images, labels) = case.batch()?;
        let own = gradients(
            &case.network,
            &case.spec,
            0,
            images,
            labels,
            &mut Recorder::default(),
        )?;
        self.losses_of(case, "", own)?;
        let (images, labels) = case.batch()?;
        match native::gradients_beside_kernels(&case.network, &case.spec, images, labels)? {
            Some(libtorchs) => self.losses_of(case, "libtorch-", libtorchs),
            None => Ok(()),
        }
    }

    fn losses_of(
        &mut self,
        case: &Case,
        whose: &str,
        (losses, gradients): (DeviceLosses, Network),
    ) -> Result<()> {
        let losses = DeviceLosses::read(&[&losses])?[0];
        let [_, _, local3, local4, _] = losses.weight_decay;
        for (loss, got) in [
            ("total_loss", losses.total),
            ("cross_entropy", losses.cross_entropy),
            ("local3/weight_loss", local3),
            ("local4/weight_loss", local4),
        ] {
            let want = case.want(&format!("loss/{loss}"))?.values[0];
            let what = format!("{whose}losses/{}/{loss}", case.name);
            self.add_deviation(what, (got / want - 1.0).abs(), self.tolerances.losses);
        }
        let tolerance = self.tolerances.gradients;
        self.parameters(case, whose, "gradients", &gradients.named(), tolerance)
    }

    /// Weights and averages after one and five steps.
    fn updates(&mut self, case: &Case) -> Result<()> {
        let spec = Spec::default();
        let schedule = Schedule::new(&spec, 50_000);
        let mut optimizer = Optimizer::new(&spec, &case.network)?;
        // On a GPU the last steps are issued as a graph.
        let mut recorder = Recorder::default();
        for step in 0..5 {
            let (images, labels) = case.batch()?;
            let (losses, gradient_network) = gradients(
                optimizer.network(),
                &case.spec,
                0,
                images,
                labels,
                &mut recorder,
            )?;
            let rates = schedule.rates(step);
            optimizer.step(step, &gradient_network, &losses, rates)?;
            if let 0 | 4 = step {
                for (group, tensors) in optimizer.state() {
                    let directory = format!("{group}-{}", step + 1);
                    let tolerance = self.tolerances.weights;
                    self.parameters(case, "", &directory, &tensors, tolerance)?;
                }
            }
        }
        Ok(())
    }

    fn parameters(
        &mut self,
        case: &Case,
        whose: &str,
        directory: &str,
        tensors: &[NamedTensor],
        tolerance: f64,
    ) -> Result<()> {
        for got in tensors {
            let want = case.want(&format!("{directory}/{}", got.name))?;
            if got.shape != want.shape {
                let (shape, want) = (&got.shape, &want.shape);
                bail!(
                    "{directory}/{}: got shape {shape:?}, want {want:?}",
                    got.name
                );
            }
            let what = format!("{whose}{directory}/{}/{}", case.name, got.name);
            self.add(what, &got.values, &want.values, tolerance);
        }
        Ok(())
    }
}
