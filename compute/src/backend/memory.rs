//! The memory of libtorch's tensors as slices: parameters and images are read where they are, and gradients written to where
//! the optimizer takes them from.

use super::gpu::pinned;
use anyhow::{Result, ensure};
use std::borrow::Cow;
use std::slice;
use tch::{Device, Kind, Tensor};

/// A tensor's values, row by row; a copy only where they do not lie so.
///
/// # Errors
/// libtorch's.
pub fn host(tensor: &Tensor) -> Result<Cow<'_, [f32]>> {
    let is_plain = tensor.kind() == Kind::Float && tensor.device() == Device::Cpu;
    let len = tensor.numel();
    if is_plain && tensor.is_contiguous() && len > 0 {
        // SAFETY: contiguous, of this kind and on this device: `len` floats from there on. They live as long as the tensor,
        // and nobody writes to parameters or images during a pass: that takes a `&mut` of what owns them.
        let values = unsafe { slice::from_raw_parts(tensor.data_ptr().cast::<f32>(), len) };
        return Ok(Cow::Borrowed(values));
    }
    let tensor = tensor.f_to_kind(Kind::Float)?.f_contiguous()?;
    let mut values = vec![0.0; len];
    tensor.f_copy_data(&mut values, len)?;
    Ok(Cow::Owned(values))
}

/// A tensor on the host with a copy of these values. libtorch's own way fills it with zeros first, and that with all of its
/// threads.
///
/// # Errors
/// Another number of values than the shape has, and libtorch's.
pub fn tensor_of(values: &[f32], shape: &[usize]) -> Result<Tensor> {
    let len: usize = shape.iter().product();
    ensure!(
        values.len() == len,
        "got {} values, want {len}",
        values.len()
    );
    let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
    let tensor = Tensor::f_empty(&shape, (Kind::Float, Device::Cpu))?;
    if len > 0 {
        // SAFETY: a new tensor, made as `len` floats in a row, which nobody else has.
        let to = unsafe { slice::from_raw_parts_mut(tensor.data_ptr().cast::<f32>(), len) };
        to.copy_from_slice(values);
    }
    Ok(tensor)
}

/// A copy on a device, which may not be done when this returns: nobody waits for it. A GPU reads by itself what is pinned; of
/// other memory the driver takes a copy first, when the device has done all that was issued before
/// (<https://docs.nvidia.com/cuda/cuda-runtime-api/api-sync-behavior.html>).
///
/// # Errors
/// libtorch's.
pub fn send(values: &Tensor, device: Device) -> Result<Tensor> {
    let pinned = match device {
        // Not to pin, as where the system allows no more of it, only costs time.
        Device::Cuda(_) => pinned(values),
        _ => None,
    };
    let values = pinned.as_ref().unwrap_or(values);
    Ok(values.f_to_device_(device, values.kind(), true, false)?)
}

/// Each one in a row; a copy only of what does not lie so.
///
/// # Errors
/// libtorch's.
pub fn flattened(tensors: &[Tensor]) -> Result<Vec<Tensor>> {
    let flat = tensors.iter().map(|tensor| tensor.f_flatten(0, -1));
    Ok(flat.collect::<Result<Vec<_>, _>>()?)
}

/// Views of values that lie one after the other, in the shapes of some tensors.
///
/// # Errors
/// libtorch's.
pub fn views(values: &Tensor, like: &[Tensor]) -> Result<Vec<Tensor>> {
    let mut start = 0;
    let mut views = Vec::with_capacity(like.len());
    for tensor in like {
        let length = tensor.numel() as i64;
        let view = values.f_narrow(0, start, length)?;
        views.push(view.f_view(&tensor.size()[..])?);
        start += length;
    }
    Ok(views)
}

/// Zeros after the last value of [`FlatTensors`]: so many ranks, less one, may share them evenly.
const ROOM: usize = 1023;

/// Tensors of floats on the host, one after the other in memory.
pub struct FlatTensors {
    /// The values, and [`ROOM`] zeros.
    values: Tensor,
    /// Views of the values in the tensors' shapes.
    pub views: Vec<Tensor>,
}

impl FlatTensors {
    /// Tensors of the shapes of others, of values that somebody left there.
    ///
    /// # Errors
    /// libtorch's.
    pub fn like(tensors: &[Tensor]) -> Result<Self> {
        let len: usize = tensors.iter().map(Tensor::numel).sum();
        let values = Tensor::f_empty([(len + ROOM) as i64], (Kind::Float, Device::Cpu))?;
        let _ = values.f_narrow(0, len as i64, ROOM as i64)?.f_zero_()?;
        let views = views(&values, tensors)?;
        Ok(FlatTensors { values, views })
    }

    /// The values of the first tensors, so many, on the same memory.
    ///
    /// # Errors
    /// libtorch's.
    pub fn head(&self, tensors: usize) -> Result<Tensor> {
        let len: usize = self.views[..tensors].iter().map(Tensor::numel).sum();
        Ok(self.values.f_narrow(0, 0, len as i64)?)
    }

    /// All values, one after the other, on the same memory.
    ///
    /// # Errors
    /// libtorch's.
    pub fn flat(&self) -> Result<Tensor> {
        self.head(self.views.len())
    }

    /// The values from a tensor on, on the same memory, and zeros up to the next number that is divisible so.
    ///
    /// # Errors
    /// More ranks than there is room for, and libtorch's.
    pub fn tail(&self, first: usize, ranks: usize) -> Result<Tensor> {
        let start = self.head(first)?.numel();
        let len = (self.flat()?.numel() - start).next_multiple_of(ranks);
        Ok(self.values.f_narrow(0, start as i64, len as i64)?)
    }

    /// The values of each.
    pub fn values(&mut self) -> Vec<&mut [f32]> {
        // SAFETY: a tensor of this struct's own, made as `len` floats in a row; `&mut self` keeps others from it, and tensors
        // on its memory are given values by libtorch alone. `Group::start_mean`, which has unsafe code, writes only what nobody
        // has a slice of any more.
        unsafe { split(&mut self.values, &self.views) }
    }
}

/// The memory of a tensor of floats in a row on the host, cut into as many values as each of some tensors has, one after the
/// other.
///
/// # Safety
/// Nobody else reads or writes that memory while the slices are there.
///
/// # Panics
/// The tensors have more values than the memory.
pub unsafe fn split<'a>(values: &'a mut Tensor, like: &[Tensor]) -> Vec<&'a mut [f32]> {
    let start = values.data_ptr().cast::<f32>();
    // SAFETY: so many floats from there on, which live as long as the tensor; the rest is the caller's promise.
    let mut rest = unsafe { slice::from_raw_parts_mut(start, values.numel()) };
    let mut parts = Vec::with_capacity(like.len());
    for tensor in like {
        let (own, later) = rest.split_at_mut(tensor.numel());
        parts.push(own);
        rest = later;
    }
    parts
}
