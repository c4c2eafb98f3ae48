//! Sums over the ranks by Gloo, whose additions have the order of [`tree_sum`], so that no two ranks come to different bits.

use super::super::tree_sum::tree_sum;
use super::ffi::{Gloo, Number, Ranks, Shared};
use anyhow::Result;
use half::bf16;
use pulp::{Arch, Simd, WithSimd};

/// So many values of each rank are summed at a time: they stay in the first cache.
const BLOCK: usize = 1024;

/// So few bytes each rank sends to all others, who sum them all. Otherwise each rank sums a share of the values, and all gather the
/// shares: that sends as little as any way to sum does, but takes two exchanges, each of which waits for all ranks.
const FEW: usize = 16 << 10;

/// Replace the values by their sums over the ranks, divided.
///
/// # Errors
/// A rank that does not take part in time.
pub fn reduce<T: Summed>(
    gloo: &mut Gloo,
    ranks: Ranks,
    values: &mut Shared<T>,
    divisor: f32,
) -> Result<()> {
    let (length, bytes) = (values.len(), values.bytes());
    // Two ranks send the same either way.
    let all = ranks.count <= 2 || bytes <= FEW;
    let (own, received) = match all {
        true => {
            gloo.exchange(values, ranks.count)?;
            (0..length, ranks.count * bytes)
        }
        false => {
            gloo.all_to_all(values)?;
            let share = length / ranks.count;
            (ranks.own * share..(ranks.own + 1) * share, bytes)
        }
    };
    let (_, output) = gloo.memory(0, received)?;
    Arch::new().dispatch(Sum {
        own: &mut values.numbers()[own],
        others: bytemuck::cast_slice(output),
        ranks,
        divisor,
    });
    if !all {
        gloo.all_gather(values)?;
    }
    Ok(())
}

/// As [`reduce`], of values that are rounded to bfloat16 before they are sent, as their divided sums are. The additions are in
/// float32.
///
/// # Errors
/// As [`reduce`].
pub fn reduce_rounded(
    gloo: &mut Gloo,
    ranks: Ranks,
    values: &mut Shared<f32>,
    divisor: f32,
) -> Result<()> {
    let arch = Arch::new();
    let mut rounded = Shared::<bf16>::any(values.len(), ranks.count)?;
    arch.dispatch(|| bf16::round(values.numbers(), rounded.numbers()));
    reduce(gloo, ranks, &mut rounded, divisor)?;
    arch.dispatch(|| bf16::widen(rounded.numbers(), values.numbers()));
    Ok(())
}

/// Numbers that are summed as float32.
pub trait Summed: Number {
    /// As float32.
    fn widen(numbers: &[Self], floats: &mut [f32]);
    /// The nearest to each.
    fn round(floats: &[f32], numbers: &mut [Self]);
}

impl Summed for f32 {
    #[inline(always)]
    fn widen(numbers: &[f32], floats: &mut [f32]) {
        floats.copy_from_slice(numbers);
    }

    #[inline(always)]
    fn round(floats: &[f32], numbers: &mut [f32]) {
        numbers.copy_from_slice(floats);
    }
}

impl Summed for bf16 {
    #[inline(always)]
    fn widen(numbers: &[bf16], floats: &mut [f32]) {
        let pairs = numbers.iter().zip(floats);
        pairs.for_each(|(number, float)| *float = number.to_f32());
    }

    /// Of two nearest ones the even one.
    #[inline(always)]
    fn round(floats: &[f32], numbers: &mut [bf16]) {
        for (float, number) in floats.iter().zip(numbers) {
            // half's own conversion branches, and so makes a step some milliseconds longer.
            let bits = float.to_bits();
            let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
            let nan = bits >> 16 | 0x40;
            *number = bf16::from_bits(if float.is_nan() { nan } else { nearest } as u16);
        }
    }
}

/// Replaces the values of this rank by the sums over all of them, divided.
struct Sum<'a, T> {
    own: &'a mut [T],
    /// As many of each rank, those of rank 0 first. There is nothing in this rank's place.
    others: &'a [T],
    ranks: Ranks,
    divisor: f32,
}

impl<T: Summed> WithSimd for Sum<'_, T> {
    type Output = ();

    #[inline(always)] // for the vector instructions of whoever calls it, as all that it calls
    fn with_simd<S: Simd>(self, _: S) {
        let (length, ranks) = (self.own.len(), self.ranks);
        let mut block = vec![0.0; ranks.count * BLOCK];
        for start in (0..length).step_by(BLOCK) {
            let size = BLOCK.min(length - start);
            let own = &mut self.own[start..][..size];
            let block = &mut block[..ranks.count * size];
            for (rank, floats) in block.chunks_exact_mut(size).enumerate() {
                let part = match rank == ranks.own {
                    true => &*own,
                    false => &self.others[rank * length + start..][..size],
                };
                T::widen(part, floats);
            }
            tree_sum(block, size);
            let sums = &mut block[..size];
            sums.iter_mut().for_each(|sum| *sum /= self.divisor);
            T::round(sums, own);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ffi::Store;
    use super::*;
    use std::net::Ipv4Addr;
    use std::thread;
    use std::time::Duration;
    use tch::Tensor;

    /// What some ranks' threads come to that sum values as many as `length`, each of which sends first or not.
    fn sums(sends_first: &[bool], length: usize) -> Vec<Vec<f32>> {
        let (count, timeout) = (sends_first.len(), Duration::from_secs(120));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let sum = &|own: usize| {
            let ranks = Ranks { own, count };
            let store = Store::open(&path, count, timeout).unwrap();
            let address = Ipv4Addr::LOCALHOST.into();
            let mut gloo = Gloo::new(&store, ranks, address, sends_first[own], timeout).unwrap();
            let values = Tensor::from_slice(&of(own, length));
            let mut values = Shared::new(values, count).unwrap();
            for _ in 0..3 {
                reduce(&mut gloo, ranks, &mut values, 1.0).unwrap();
            }
            gloo.barrier().unwrap();
            values.numbers().to_vec()
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..count)
                .map(|own| scope.spawn(move || sum(own)))
                .collect();
            let sums = threads.into_iter().map(|thread| thread.join().unwrap());
            sums.collect()
        })
    }

    fn of(rank: usize, length: usize) -> Vec<f32> {
        (0..length).map(|at| (at % 7 + rank) as f32).collect()
    }

    #[test]
    fn ranks_come_to_the_same_whether_they_send_or_receive_first() {
        for sends_first in [
            &[true, true][..],
            &[false, false],
            &[true, false],
            &[true; 3],
            &[false; 3],
            &[false, true, true],
        ] {
            let count = sends_first.len();
            for length in [6, 60_000] {
                // Of three sums each is of as many times the one before.
                let times = (count * count) as f32;
                let of_all = |value: f32| {
                    let ranks = (0..count).map(|rank| value + rank as f32);
                    times * ranks.sum::<f32>()
                };
                let want: Vec<f32> = of(0, length).into_iter().map(of_all).collect();
                let found = sums(sends_first, length);
                assert!(
                    found.iter().all(|it| *it == want),
                    "{sends_first:?} {length}"
                );
            }
        }
    }

    #[test]
    fn floats_are_rounded_to_the_nearest_bfloat16() {
        // All upper halves, NaN and infinity among them, with lower ones on both sides of the middle and at it.
        for lower in [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
            let floats = (0..=0xffff_u32).map(|upper| f32::from_bits(upper << 16 | lower));
            let floats: Vec<f32> = floats.collect();
            let mut rounded = vec![bf16::ZERO; floats.len()];
            bf16::round(&floats, &mut rounded);
            for (float, rounded) in floats.iter().zip(&rounded) {
                assert_eq!(
                    rounded.to_bits(),
                    bf16::from_f32(*float).to_bits(),
                    "{float}"
                );
            }
            let mut wide = vec![0.0; floats.len()];
            bf16::widen(&rounded, &mut wide);
            for (wide, rounded) in wide.iter().zip(&rounded) {
                assert_eq!(wide.to_bits(), rounded.to_f32().to_bits());
            }
        }
    }
}
