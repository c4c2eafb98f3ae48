//! The optimizer: the weights, and what a step makes of them.

use super::cpu::{self, Descended, Descent};
use super::handles;
use super::losses::DeviceLosses;
use super::memory::host;
use super::parameters::FlatParameters;
use super::update_rule::UpdateRule;
use crate::model::{LAYERS, Network};
use anyhow::{Result, ensure};
use runboard::checkpoint::{self, EMA, LOOKAHEAD, NamedTensor, TensorGroups, WEIGHTS};
use runboard::schedule::StepRates;
use runboard::spec::{AverageName, Spec};
use tch::{Device, Kind, Tensor};

/// The group of the gradients that wait for their update.
const GRADIENT: &str = "gradient";

/// The weights, the rule that changes them, and their average.
///
/// The one place that takes a step; the drawn graph (trainer/graph.rs) shows it, and changes with it. What the rule
/// remembers and the average are groups of [`Optimizer::state`] and [`Optimizer::restore`]: trainer and checkpoint
/// carry them without knowing them.
#[derive(Debug)]
pub struct Optimizer {
    weights: FlatParameters,
    rule: UpdateRule,
    route: Route,
    average: Average,
    /// False from the first step on that had no finite loss; a scalar on the weights' device.
    all_finite: Tensor,
}

/// The average of the weights.
#[derive(Debug)]
enum Average {
    None,
    /// Beside the weights.
    Ema(FlatParameters),
    /// It takes the weights' place each time that it is updated.
    Lookahead(FlatParameters),
}

impl Average {
    /// Of the network that `network` makes of the name of its group.
    fn of(name: AverageName, network: impl Fn(&str) -> Result<Network>) -> Result<Self> {
        let values = |group| FlatParameters::of(&network(group)?);
        Ok(match name {
            AverageName::None => Average::None,
            AverageName::Ema => Average::Ema(values(EMA)?),
            AverageName::Lookahead => Average::Lookahead(values(LOOKAHEAD)?),
        })
    }

    /// average -= (1 - decay) * (average - weights); lookahead's then takes the weights' place, if `all_finite` is true.
    fn follow(&mut self, weights: &mut Tensor, decay: f64, all_finite: &Tensor) -> Result<()> {
        match self {
            Average::None => {}
            Average::Ema(average) => {
                let _ = average.values().f_lerp_(weights, 1.0 - decay)?;
            }
            Average::Lookahead(average) => {
                let _ = average.values().f_lerp_(weights, 1.0 - decay)?;
                if all_finite.device() == Device::Cpu {
                    weights.f_copy_(average.values())?; // it has been asked
                } else {
                    copy_if(all_finite, weights, average.values())?;
                }
            }
        }
        Ok(())
    }
}

impl Optimizer {
    /// At the beginning: the average starts at the weights.
    ///
    /// # Errors
    /// libtorch's.
    pub fn new(spec: &Spec, network: &Network) -> Result<Self> {
        let rule = UpdateRule::new(&spec.optimizer, network)?;
        let average = Average::of(spec.average.name, |_| Ok(network.clone()))?;
        Self::of(spec, rule, network, average)
    }

    /// Where [`Optimizer::state`] was; `like` is any network of the same shapes, on the device to train on.
    ///
    /// # Errors
    /// A group that is missing, or is of another network, and libtorch's.
    pub fn restore(spec: &Spec, like: &Network, state: &TensorGroups) -> Result<Self> {
        let network = |group: &str| like.clone().with_tensors(checkpoint::group(state, group)?);
        let weights = network(WEIGHTS)?;
        let average = Average::of(spec.average.name, network)?;
        let rule = UpdateRule::restore(&spec.optimizer, like, state)?;
        let mut optimizer = Self::of(spec, rule, &weights, average)?;
        if let Route::Operations(update) = &mut optimizer.route
            && state.contains_key(GRADIENT)
        {
            update.values.copy(&network(GRADIENT)?)?;
            update.is_waiting = true;
        }
        Ok(optimizer)
    }

    fn of(spec: &Spec, rule: UpdateRule, weights: &Network, average: Average) -> Result<Self> {
        let mut flat = FlatParameters::of(weights)?;
        let device = flat.values().device();
        Ok(Optimizer {
            weights: flat,
            rule,
            route: Route::of(spec, weights, device)?,
            average,
            all_finite: Tensor::f_ones([], (Kind::Bool, device))?,
        })
    }

    /// All that the next step depends on, copied to the host.
    pub fn state(&self) -> TensorGroups {
        let mut groups = self.rule.state();
        let mut add = |group: &str, parameters: &FlatParameters| {
            groups.insert(group.to_owned(), parameters.network().named());
        };
        add(WEIGHTS, &self.weights);
        match &self.average {
            Average::None => {}
            Average::Ema(average) => add(EMA, average),
            Average::Lookahead(average) => add(LOOKAHEAD, average),
        }
        if let Route::Operations(update) = &self.route
            && update.is_waiting
        {
            add(GRADIENT, &update.values);
        }
        groups
    }

    /// The network with the weights after the last step.
    pub fn network(&self) -> &Network {
        self.weights.network()
    }

    /// What the last step took off the weights, by the gradients that it was given, unchanged; zeros before the first, none if it only added up
    /// gradients. After a step in one pass it is computed here: few steps are asked for it, and to store it would cost each.
    pub fn update(&self, gradients: &[NamedTensor]) -> Option<Vec<NamedTensor>> {
        let last = match &self.route {
            Route::OnePass(last) => last,
            Route::Operations(update) => {
                return (!update.is_waiting).then(|| update.values.network().named());
            }
        };
        let sums = self.rule.descent_sum().map(|sum| sum.network().named());
        let mut update = gradients.to_vec();
        for (index, NamedTensor { values, .. }) in update.iter_mut().enumerate() {
            let sum = sums.as_ref().map(|sums| &sums[index].values[..]);
            match last {
                Some(descent) => descent.update(values, sum),
                None => values.fill(0.0),
            }
        }
        Some(update)
    }

    /// Take step `step`, counted from 0. From the first one on that had no finite total loss, the weights stay what
    /// they were before it, however late somebody reads that loss.
    ///
    /// # Errors
    /// libtorch's.
    pub fn step(
        &mut self,
        step: u64,
        gradients: &Network,
        losses: &DeviceLosses,
        rates: StepRates,
    ) -> Result<()> {
        let _ = self.all_finite.f_logical_and_(&losses.is_finite()?)?;
        let on_cpu = self.all_finite.device() == Device::Cpu;
        let is_taken = !on_cpu || self.all_finite.f_int64_value(&[])? != 0; // to ask costs nothing on a CPU
        match &mut self.route {
            Route::OnePass(last) => {
                *last = None;
                if is_taken {
                    self.route = Route::OnePass(Some(self.descend(step, gradients, rates)?));
                }
            }
            Route::Operations(update) if is_taken => {
                let (weights, all_finite) = (&mut self.weights, &self.all_finite);
                if let Some(count) = update.add(step, gradients)? {
                    let rate = rates.learning_rate;
                    update.apply(&mut self.rule, weights, all_finite, count, rate)?;
                }
                // Also while gradients are left over: lookahead ends as its average.
                if let Some(decay) = rates.average_decay {
                    self.average.follow(weights.values(), decay, all_finite)?;
                }
            }
            Route::Operations(_) => {}
        }
        Ok(())
    }

    /// Take a step in one pass over memory; its constants.
    fn descend(&mut self, step: u64, gradients: &Network, rates: StepRates) -> Result<Descent> {
        let (descent, sum) = self.rule.descent(step, rates.learning_rate);
        let average = match &mut self.average {
            Average::Ema(average) if rates.average_decay.is_some() => Some(average),
            _ => None,
        };
        let gradients = handles(gradients)?;
        let gradients: Vec<_> = gradients.iter().map(host).collect::<Result<_>>()?;
        let lengths = gradients.iter().map(|values| values.len());
        ensure!(
            lengths.eq(self.weights.lengths()),
            "got a network of other sizes"
        );
        let mut sums = host_values(sum)?;
        let mut averages = host_values(average)?;
        let parameters = self.weights.host_values()?.into_iter().zip(&gradients);
        let parameters = parameters.map(|(weights, gradient)| Descended {
            gradient,
            weights,
            sum: sums.next(),
            average: averages.next(),
        });
        descent.step(parameters.collect(), rates.average_decay.unwrap_or(1.0));
        Ok(descent)
    }
}

/// How steps change the weights.
#[derive(Debug)]
enum Route {
    /// In one pass over memory (`cpu/descent.rs`); the constants of the last step, if there was one.
    OnePass(Option<Descent>),
    /// By libtorch's operations, one after the other.
    Operations(Box<Update>),
}

impl Route {
    fn of(spec: &Spec, weights: &Network, device: Device) -> Result<Self> {
        let in_one_pass = device == Device::Cpu
            && cpu::has_vectors()
            && UpdateRule::is_descent(&spec.optimizer)
            && spec.average.name != AverageName::Lookahead
            && !spec.network.frozen().contains(&true);
        Ok(match in_one_pass {
            true => Route::OnePass(None),
            false => Route::Operations(Box::new(Update::new(spec, weights)?)),
        })
    }
}

/// An update that is being made, of the gradients of one step or several.
#[derive(Debug)]
struct Update {
    /// The gradient of a step, or the sum of several, and then what is taken off the weights.
    values: FlatParameters,
    /// Steps that make one update.
    accumulation: u64,
    /// Whether there is a sum to which more is to be added.
    is_waiting: bool,
    /// Whether each layer's weights stay as they began.
    frozen: [bool; LAYERS.len()],
}

impl Update {
    fn new(spec: &Spec, weights: &Network) -> Result<Self> {
        Ok(Update {
            values: FlatParameters::zeros(weights)?,
            accumulation: spec.optimizer.gradient_accumulation,
            is_waiting: false,
            frozen: spec.network.frozen(),
        })
    }

    /// Add the gradients of a step. Returns how many updates came before the one that they complete, if they complete one.
    fn add(&mut self, step: u64, gradients: &Network) -> Result<Option<u64>> {
        match self.is_waiting {
            true => self.values.add(gradients)?,
            false => self.values.copy(gradients)?,
        }
        self.is_waiting = !(step + 1).is_multiple_of(self.accumulation);
        Ok((!self.is_waiting).then_some(step / self.accumulation))
    }

    /// Change the weights by the gradients that were added up, unless `all_finite` is false; `count` updates came before.
    fn apply(
        &mut self,
        rule: &mut UpdateRule,
        weights: &mut FlatParameters,
        all_finite: &Tensor,
        count: u64,
        learning_rate: f64,
    ) -> Result<()> {
        if self.accumulation > 1 {
            let mean = 1.0 / self.accumulation as f64;
            let _ = self.values.values().f_mul_scalar_(mean)?;
        }
        // Once for clipping and what the rule remembers, once more for the decay that the rule adds.
        clear_frozen(&mut self.values, self.frozen)?;
        rule.apply(&mut self.values, weights, count, learning_rate)?;
        clear_frozen(&mut self.values, self.frozen)?;
        let update = self.values.values();
        if all_finite.device() != Device::Cpu {
            clear_unless(all_finite, update)?; // a CPU has been asked
        }
        let _ = weights.values().f_sub_(update)?;
        Ok(())
    }
}

/// The values of each parameter, if there are any.
fn host_values(of: Option<&mut FlatParameters>) -> Result<impl Iterator<Item = &mut [f32]>> {
    let values = of.map(FlatParameters::host_values).transpose()?;
    Ok(values.unwrap_or_default().into_iter())
}

/// Zeros in the place of the frozen layers' weights.
fn clear_frozen(values: &mut FlatParameters, frozen: [bool; LAYERS.len()]) -> Result<()> {
    for (weights, frozen) in values.weights().zip(frozen) {
        if frozen {
            let _ = weights.f_zero_()?;
        }
    }
    Ok(())
}

/// Zeros in the place of all values, also of NaN, if `condition`, a scalar on the same device, is false.
fn clear_unless(condition: &Tensor, values: &mut Tensor) -> Result<()> {
    let _ = values.f_masked_fill_(&condition.f_logical_not()?, 0.0)?;
    Ok(())
}

/// The values of `from` in the place of `values` if `condition`, a scalar on the same device, is true.
fn copy_if(condition: &Tensor, values: &mut Tensor, from: &Tensor) -> Result<()> {
    values.f_copy_(&from.f_where_self(condition, values)?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::native::tests::small;
    use super::*;
    use runboard::checkpoint::{self, Checkpoint, CheckpointState};
    use runboard::spec;

    fn network(seed: u64) -> Network {
        let (spec, crop) = small();
        let device = burn::tensor::Device::libtorch();
        Network::init(&spec.network, crop, spec::Seed(seed), &device)
    }

    fn optimizer(seed: u64) -> Optimizer {
        Optimizer::new(&Spec::default(), &network(seed)).unwrap()
    }

    fn rates(learning_rate: f64, average_decay: f64) -> StepRates {
        StepRates {
            learning_rate,
            average_decay: Some(average_decay),
        }
    }

    fn loss(value: f32) -> DeviceLosses {
        DeviceLosses::new(Tensor::from(value), Tensor::from(0.0f32), vec![]).unwrap()
    }

    #[test]
    fn step_follows_its_formula_and_leaves_the_network_that_it_began_with() {
        let (first, gradient) = (network(3), network(4));
        let before = first.named();
        let mut optimizer = optimizer(3);
        optimizer
            .step(8, &gradient, &loss(1.0), rates(0.5, 0.3))
            .unwrap();
        assert!(first.named() == before);
        let state = optimizer.state();
        assert!(state[WEIGHTS] == optimizer.network().named());
        let gradient = gradient.named();
        for (index, (after, average)) in state[WEIGHTS].iter().zip(&state[EMA]).enumerate() {
            let NamedTensor { name, shape, .. } = &before[index];
            assert_eq!((&after.name, &after.shape), (name, shape));
            for i in 0..after.values.len() {
                let (old, g) = (before[index].values[i], gradient[index].values[i]);
                assert!((after.values[i] - (old - 0.5 * g)).abs() < 1e-6);
                let decay = 0.3;
                let want = old - (1.0 - decay) * (old - after.values[i]);
                assert!((average.values[i] - want).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn step_after_a_loss_that_is_not_finite_changes_no_weight() {
        for broken in [f32::NAN, f32::INFINITY] {
            let mut optimizer = optimizer(3);
            optimizer
                .step(0, &network(4), &loss(1.0), rates(0.5, 0.9))
                .unwrap();
            let before = optimizer.network().named();
            optimizer
                .step(1, &network(5), &loss(broken), rates(0.5, 0.9))
                .unwrap();
            optimizer
                .step(2, &network(6), &loss(1.0), rates(0.5, 0.9))
                .unwrap();
            assert!(optimizer.network().named() == before);
        }
    }

    #[test]
    fn update_is_zeros_and_lookahead_waits_on_a_gpu_that_is_not_asked() {
        let of = |all_finite: bool| {
            let mut values = Tensor::from_slice(&[1.0f32, f32::NAN, f32::INFINITY]);
            clear_unless(&Tensor::from(all_finite), &mut values).unwrap();
            Vec::<f32>::try_from(values).unwrap()
        };
        assert_eq!(of(false), [0.0, 0.0, 0.0]);
        assert!(of(true)[0] == 1.0 && of(true)[1].is_nan() && of(true)[2].is_infinite());
        let copied = |all_finite: bool| {
            let mut values = Tensor::from_slice(&[1.0f32, 2.0]);
            let from = Tensor::from_slice(&[3.0f32, 4.0]);
            copy_if(&Tensor::from(all_finite), &mut values, &from).unwrap();
            Vec::<f32>::try_from(values).unwrap()
        };
        assert_eq!(
            (copied(true), copied(false)),
            (vec![3.0, 4.0], vec![1.0, 2.0])
        );
    }

    /// One of each rule, with all options that take part in the update.
    fn specs() -> [Spec; 4] {
        let mut nesterov = Spec::default();
        nesterov.optimizer = spec::Optimizer {
            momentum: 0.9,
            nesterov: true,
            weight_decay: 0.1,
            bias_rate_factor: 2.0,
            clip_norm: 1.0,
            ..spec::Optimizer::default()
        };
        let with = |name, average| {
            let mut spec = nesterov.clone();
            (spec.optimizer.name, spec.average.name) = (name, average);
            spec
        };
        let adamw = with(spec::OptimizerName::Adamw, AverageName::None);
        let mut muon = with(spec::OptimizerName::Muon, AverageName::Lookahead);
        muon.optimizer.gradient_accumulation = 2;
        let all = [Spec::default(), nesterov, adamw, muon];
        let is_there = |name| all.iter().any(|spec| spec.optimizer.name == name);
        assert!(spec::OptimizerName::ALL.into_iter().all(is_there));
        all
    }

    #[test]
    fn step_of_every_rule_shows_what_it_took_off_the_weights() {
        for mut spec in specs().into_iter().chain(one_pass_specs()) {
            spec.optimizer.gradient_accumulation = 1;
            spec.average.name = AverageName::Ema;
            let mut optimizer = Optimizer::new(&spec, &network(3)).unwrap();
            for step in 0..3 {
                let before = optimizer.network().named();
                let gradient = network(4 + step);
                optimizer
                    .step(step, &gradient, &loss(1.0), rates(0.5, 0.9))
                    .unwrap();
                let after = optimizer.network().named();
                let update = optimizer.update(&gradient.named()).unwrap();
                for ((before, after), update) in before.iter().zip(after).zip(update) {
                    for ((before, after), update) in
                        before.values.iter().zip(&after.values).zip(update.values)
                    {
                        assert_eq!(before - update, *after);
                    }
                }
            }
        }
    }

    #[test]
    fn step_is_in_one_pass_only_where_that_is_all_of_it() {
        let takes = |change: fn(&mut Spec)| {
            let mut spec = Spec::default();
            change(&mut spec);
            let optimizer = Optimizer::new(&spec, &network(3)).unwrap();
            matches!(optimizer.route, Route::OnePass(_))
        };
        assert!(takes(|_| {}));
        assert!(takes(|it| it.average.name = AverageName::None));
        let others: [fn(&mut Spec); 8] = [
            |it| it.average.name = AverageName::Lookahead,
            |it| it.network.local3.frozen = true,
            |it| it.optimizer.clip_norm = 1.0,
            |it| it.optimizer.bias_rate_factor = 2.0,
            |it| it.optimizer.weight_decay = 0.1,
            |it| it.optimizer.gradient_accumulation = 2,
            |it| it.optimizer.name = spec::OptimizerName::Adamw,
            |it| it.optimizer.name = spec::OptimizerName::Muon,
        ];
        assert!(others.into_iter().all(|change| !takes(change)));
    }

    /// One of each kind of gradient descent whose steps are in one pass.
    fn one_pass_specs() -> [Spec; 4] {
        let with = |momentum, nesterov, dampening| {
            let mut spec = Spec::default();
            (spec.optimizer.momentum, spec.optimizer.nesterov) = (momentum, nesterov);
            spec.optimizer.dampening = dampening;
            spec
        };
        [
            with(0.0, false, 0.0),
            with(0.9, false, 0.0),
            with(0.9, true, 0.0),
            with(0.9, false, 0.5),
        ]
    }

    #[test]
    fn step_in_one_pass_is_that_of_libtorchs_operations() {
        for spec in one_pass_specs() {
            let mut one = Optimizer::new(&spec, &network(3)).unwrap();
            assert!(matches!(one.route, Route::OnePass(_)));
            let mut other = Optimizer::new(&spec, &network(3)).unwrap();
            let update = Update::new(&spec, &network(3)).unwrap();
            other.route = Route::Operations(Box::new(update));
            for (step, decay) in [(0, 0.1), (1, 4.0 / 13.0), (2, 0.6), (3, 0.99)] {
                let (gradient, rates) = (network(10 + step), rates(0.5, decay));
                for optimizer in [&mut one, &mut other] {
                    optimizer.step(step, &gradient, &loss(1.0), rates).unwrap();
                }
            }
            let groups = one.state().into_iter().zip(other.state());
            for ((group, got), (_, wanted)) in groups {
                for (got, wanted) in got.iter().zip(&wanted) {
                    for (got, wanted) in got.values.iter().zip(&wanted.values) {
                        // The same bits where libtorch, too, adds a product in one rounding.
                        let close = (got - wanted).abs() <= 2e-7 * wanted.abs().max(0.05);
                        assert!(close, "{group}: got {got}, want {wanted}");
                    }
                }
            }
        }
    }

    #[test]
    fn frozen_weights_stay_bit_for_bit_with_every_rule_and_their_biases_do_not() {
        for mut spec in specs() {
            spec.network.conv1.frozen = true;
            spec.network.local3.frozen = true;
            let mut optimizer = Optimizer::new(&spec, &network(3)).unwrap();
            for step in 0..4 {
                optimizer
                    .step(step, &network(10 + step), &loss(1.0), rates(0.1, 0.7))
                    .unwrap();
            }
            let before = network(3).named();
            for (group, tensors) in optimizer.state() {
                for (tensor, before) in tensors.iter().zip(&before) {
                    if before.values.iter().all(|&it| it == 0.0) {
                        continue; // biases whose gradient is zero here, too
                    }
                    let is_frozen = ["conv1/weights", "local3/weights"].contains(&&*tensor.name);
                    if [WEIGHTS, EMA, LOOKAHEAD].contains(&&*group) {
                        let same = tensor.values == before.values;
                        assert_eq!(same, is_frozen, "{group} of {}: {spec:?}", tensor.name);
                    } else {
                        let zeros = tensor.values.iter().all(|&it| it == 0.0);
                        assert_eq!(zeros, is_frozen, "{group} of {}: {spec:?}", tensor.name);
                    }
                }
            }
        }
    }

    #[test]
    fn frozen_weights_have_no_share_in_the_norm_that_is_clipped() {
        let mut spec = Spec::default();
        spec.optimizer.clip_norm = 0.1;
        spec.network.local3.frozen = true;
        let after = |gradient: &Network| {
            let mut optimizer = Optimizer::new(&spec, &network(3)).unwrap();
            let rates = rates(0.5, 0.9);
            optimizer.step(0, gradient, &loss(1.0), rates).unwrap();
            optimizer.network().named()
        };
        let gradient = network(4);
        let mut without = gradient.named();
        without[4].values.fill(0.0);
        let without = gradient.clone().with_tensors(&without).unwrap();
        assert!(after(&gradient) == after(&without));
    }

    #[test]
    fn steps_that_are_accumulated_make_one_of_the_mean_gradient() {
        let mut spec = Spec::default();
        spec.optimizer.momentum = 0.9;
        let mean = |one: u64, other: u64| {
            let (mut mean, other) = (network(one).named(), network(other).named());
            for (mean, other) in mean.iter_mut().zip(other) {
                let values = mean.values.iter_mut().zip(other.values);
                values.for_each(|(mean, other)| *mean = (*mean + other) / 2.0);
            }
            network(1).with_tensors(&mean).unwrap()
        };
        let mut whole = Optimizer::new(&spec, &network(3)).unwrap();
        spec.optimizer.gradient_accumulation = 2;
        let mut parted = Optimizer::new(&spec, &network(3)).unwrap();
        for update in 0..3 {
            let seeds = [10 + 2 * update, 11 + 2 * update];
            let gradient = mean(seeds[0], seeds[1]);
            whole
                .step(update, &gradient, &loss(1.0), rates(0.1, 0.9))
                .unwrap();
            for (part, seed) in (0..).zip(seeds) {
                let (step, before) = (2 * update + part, parted.network().named());
                let average_decay = (part == 1).then_some(0.9);
                let rates = StepRates {
                    average_decay,
                    ..rates(0.1, 0.9)
                };
                let gradient = network(seed);
                parted.step(step, &gradient, &loss(1.0), rates).unwrap();
                assert_eq!(parted.update(&gradient.named()).is_none(), part == 0);
                assert_eq!(parted.network().named() == before, part == 0);
            }
        }
        assert!(parted.state() == whole.state());
    }

    #[test]
    fn lookahead_puts_its_average_in_the_place_of_the_weights() {
        let mut spec = Spec::default();
        spec.average.name = AverageName::Lookahead;
        let mut optimizer = Optimizer::new(&spec, &network(3)).unwrap();
        let slow = network(3).named();
        let no_average = StepRates {
            learning_rate: 0.5,
            average_decay: None,
        };
        let mut step = |step, seed, rates| {
            let gradient = network(seed);
            optimizer.step(step, &gradient, &loss(1.0), rates).unwrap();
            optimizer.state()
        };
        let state = step(0, 4, no_average);
        assert!(state[LOOKAHEAD] == slow && state[WEIGHTS] != slow);
        let after = step(1, 5, rates(0.5, 0.75));
        assert!(after[LOOKAHEAD] == after[WEIGHTS] && !after.contains_key(EMA));
        let gradients = [network(4).named(), network(5).named()];
        for (index, slow) in slow.iter().enumerate() {
            for at in 0..slow.values.len() {
                let taken: f32 = gradients.iter().map(|g| 0.5 * g[index].values[at]).sum();
                let want = slow.values[at] - 0.25 * taken;
                assert!((after[WEIGHTS][index].values[at] - want).abs() < 1e-6);
            }
        }
    }

    /// The states after each step of a short run, by its schedule.
    fn states(spec: &Spec) -> Vec<TensorGroups> {
        let schedule = runboard::schedule::Schedule::new(spec, 50_000);
        let mut optimizer = Optimizer::new(spec, &network(3)).unwrap();
        let steps = 0..spec.train.steps.unwrap();
        let states = steps.map(|step| {
            let (gradient, rates) = (network(4 + step), schedule.rates(step));
            optimizer.step(step, &gradient, &loss(1.0), rates).unwrap();
            optimizer.state()
        });
        states.collect()
    }

    #[test]
    fn lookahead_takes_its_average_at_the_end_also_with_gradients_left_over() {
        let mut spec = Spec::default();
        spec.average.name = AverageName::Lookahead;
        spec.optimizer.gradient_accumulation = 2;
        spec.average.every = 2;
        spec.train.steps = Some(5);
        for (step, state) in states(&spec).iter().enumerate() {
            let is_average = state[WEIGHTS] == state[LOOKAHEAD];
            assert_eq!(is_average, [0, 3, 4].contains(&step), "after step {step}");
        }
    }

    #[test]
    fn lookahead_without_an_update_ends_with_what_was_trained() {
        let mut spec = Spec::default();
        spec.average.name = AverageName::Lookahead;
        spec.average.every = 4;
        spec.train.steps = Some(3);
        let state = states(&spec).pop().unwrap();
        assert!(state[LOOKAHEAD] == state[WEIGHTS] && state[WEIGHTS] != network(3).named());
    }

    #[test]
    fn step_does_not_depend_on_the_number_of_threads() {
        // Large enough for libtorch to share the work, of an uneven size.
        let shapes = Spec::default().network;
        let device = burn::tensor::Device::libtorch();
        let large = |seed| Network::init(&shapes, 23, spec::Seed(seed), &device);
        let threads = tch::get_num_threads();
        for spec in specs() {
            let mut states = [1, 2, 3].map(|threads| {
                tch::set_num_threads(threads as i32);
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
                pool.build().unwrap().install(|| {
                    let mut optimizer = Optimizer::new(&spec, &large(1)).unwrap();
                    for step in 0..3 {
                        let gradient = large(10 + step);
                        optimizer
                            .step(step, &gradient, &loss(1.0), rates(0.1, 0.9))
                            .unwrap();
                    }
                    optimizer.state()
                })
            });
            tch::set_num_threads(threads);
            let first = std::mem::take(&mut states[0]);
            assert!(states[1..].iter().all(|state| *state == first), "{spec:?}");
        }
    }

    #[test]
    fn state_through_a_checkpoint_goes_on_bit_for_bit_with_every_rule() {
        specs().into_iter().for_each(assert_state_goes_on);
    }

    fn assert_state_goes_on(spec: Spec) {
        let step = |optimizer: &mut Optimizer, step: u64| {
            let gradient = network(10 + step);
            optimizer
                .step(step, &gradient, &loss(1.0), rates(0.1, 0.9))
                .unwrap();
        };
        let mut whole = Optimizer::new(&spec, &network(3)).unwrap();
        (0..3).for_each(|n| step(&mut whole, n));

        let directory = tempfile::tempdir().unwrap();
        let saved = Checkpoint {
            state: CheckpointState {
                step: 2,
                ..CheckpointState::default()
            },
            tensors: whole.state(),
        };
        let path = checkpoint::save(directory.path(), &saved).unwrap();
        let mut tensors = checkpoint::load(&path).unwrap().tensors;
        let mut parted = Optimizer::restore(&spec, &network(4), &tensors).unwrap();
        assert!(parted.state() == whole.state());
        for n in 3..5 {
            step(&mut whole, n);
            step(&mut parted, n);
        }
        assert!(parted.state() == whole.state());

        tensors.retain(|group, _| group == WEIGHTS);
        if spec.average.name != AverageName::Ema {
            return assert!(Optimizer::restore(&spec, &network(4), &tensors).is_err());
        }
        assert!(parted.state()[WEIGHTS] != parted.state()[EMA]);
        let error = Optimizer::restore(&spec, &network(4), &tensors).unwrap_err();
        assert_eq!(
            error.to_string(),
            "got the tensors of weights, want those of ema"
        );
    }
}
