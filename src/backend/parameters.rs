//! A network's parameters one after the other in memory, so that a step changes all of them at once.

use super::{handles, with_handles};
use crate::model::Network;
use anyhow::Result;
use tch::Tensor;

/// One value for each parameter: weights, their moving average, or what else an optimizer remembers.
#[derive(Debug)]
pub(super) struct FlatParameters {
    /// Views of `values`.
    network: Network,
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
        let values = flat(&handles)?;
        let mut views = Vec::with_capacity(handles.len());
        let mut start = 0;
        for handle in &handles {
            let length = handle.numel() as i64;
            let view = values.f_narrow(0, start, length)?;
            views.push(view.f_view(&handle.size()[..])?);
            start += length;
        }
        Ok(FlatParameters {
            network: with_handles(network, views),
            values,
        })
    }

    /// The network, on the same memory.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// All values; to change them in place is to change the network's.
    pub fn values(&mut self) -> &mut Tensor {
        &mut self.values
    }
}

/// All values one after the other, copied.
pub(super) fn flat(handles: &[Tensor]) -> Result<Tensor> {
    let flat = handles.iter().map(|handle| handle.f_flatten(0, -1));
    let flat = flat.collect::<Result<Vec<_>, _>>()?;
    Ok(Tensor::f_cat(&flat, 0)?)
}
