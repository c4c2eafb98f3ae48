//! A network's parameters one after the other in memory, so that a step changes all of them at once.

use super::memory::{flattened, host};
use super::{handles, memory, with_handles};
use crate::model::{Network, PER_LAYER};
use anyhow::{Result, ensure};
use rayon::prelude::*;
use tch::{Device, Tensor};

/// Values that are a thread's work at a time when they are copied.
const COPIED: usize = 1 << 16;

/// One value for each parameter: weights, their moving average, a gradient, or what else an optimizer remembers.
#[derive(Debug)]
pub(super) struct FlatParameters {
    /// Views of `values`.
    network: Network,
    /// The same views, weights and biases by turns.
    views: Vec<Tensor>,
    /// [number of values], in the order of the network's fields.
    values: Tensor,
}

impl FlatParameters {
    /// A copy of the network's.
    ///
    /// # Errors
    /// libtorch's.
    pub fn of(network: &Network) -> Result<Self> {
        let handles = handles(network)?;
        let values = Tensor::f_cat(&flattened(&handles)?, 0)?;
        let views = memory::views(&values, &handles)?;
        let copies = views.iter().map(Tensor::shallow_clone).collect();
        Ok(FlatParameters {
            network: with_handles(network, copies),
            views,
            values,
        })
    }

    /// Zeros in the network's shapes.
    ///
    /// # Errors
    /// libtorch's.
    pub fn zeros(like: &Network) -> Result<Self> {
        let mut zeros = Self::of(like)?;
        let _ = zeros.values.f_zero_()?;
        Ok(zeros)
    }

    /// Take over the values of another network, in the memory that is there.
    ///
    /// # Errors
    /// libtorch's.
    pub fn copy(&mut self, network: &Network) -> Result<()> {
        let from = handles(network)?;
        if !self.is_on_host() {
            let _ = Tensor::f_cat_out(&self.values, &flattened(&from)?, 0)?;
            return Ok(());
        }
        if self.is_memory_of(&from) {
            return Ok(());
        }
        // libtorch's is the work of one thread.
        let from: Vec<_> = from.iter().map(host).collect::<Result<_>>()?;
        let own: Vec<usize> = self.lengths().collect();
        let to = self.host_values()?;
        let lengths = from.iter().map(|values| values.len());
        ensure!(lengths.eq(own), "got a network of other sizes");
        to.into_par_iter().zip(from).for_each(|(to, from)| {
            let to = to.par_chunks_mut(COPIED);
            to.zip(from.par_chunks(COPIED))
                .for_each(|(to, from)| to.copy_from_slice(from));
        });
        Ok(())
    }

    /// How many values each parameter has.
    pub fn lengths(&self) -> impl Iterator<Item = usize> {
        self.views.iter().map(Tensor::numel)
    }

    /// Whether these tensors are the parameters themselves.
    fn is_memory_of(&self, tensors: &[Tensor]) -> bool {
        let own = self.views.iter().map(Tensor::data_ptr);
        own.eq(tensors.iter().map(Tensor::data_ptr))
    }

    /// Add the values of another network.
    ///
    /// # Errors
    /// libtorch's.
    pub fn add(&mut self, network: &Network) -> Result<()> {
        for (own, other) in self.views.iter_mut().zip(handles(network)?) {
            let _ = own.f_add_(&other)?;
        }
        Ok(())
    }

    /// The network, on the same memory.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Whether they are in the host's memory.
    pub fn is_on_host(&self) -> bool {
        self.values.device() == Device::Cpu
    }

    /// The values of each parameter, in the host's memory.
    ///
    /// # Errors
    /// They are not there.
    pub fn host_values(&mut self) -> Result<Vec<&mut [f32]>> {
        ensure!(self.is_on_host(), "parameters are not in the host's memory");
        // SAFETY: a tensor of this struct's own, made as floats in a row; `&mut self` keeps others from it, and networks on its
        // memory are written by libtorch, or through such slices, in operations of this struct's owner, one at a time.
        Ok(unsafe { memory::split(&mut self.values, &self.views) })
    }

    /// All values; to change them in place is to change the network's.
    pub fn values(&mut self) -> &mut Tensor {
        &mut self.values
    }

    /// The weights of each layer, on the same memory.
    pub fn weights(&mut self) -> impl Iterator<Item = &mut Tensor> {
        self.views.iter_mut().step_by(PER_LAYER)
    }

    /// The biases of each layer, on the same memory.
    pub fn biases(&mut self) -> impl Iterator<Item = &mut Tensor> {
        self.views.iter_mut().skip(1).step_by(PER_LAYER)
    }
}
