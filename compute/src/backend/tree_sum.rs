//! Sums whose last bits do not depend on who has computed which part: the additions' order follows from the number of parts
//! alone.

/// Add parts of `length` values each into the first one: neighbours first, then the sums of two, of four and so on. So
/// does the network on the CPU with the parts of a batch, and where a rank's share is a whole subtree of them, the sum
/// over the ranks has the bits of the sum in one process.
#[inline(always)] // for the vector instructions of whoever calls it
pub fn tree_sum(parts: &mut [f32], length: usize) {
    let count = parts.len() / length.max(1);
    let mut step = 1;
    while step < count {
        for left in (0..count - step).step_by(2 * step) {
            let (head, tail) = parts.split_at_mut((left + step) * length);
            for (sum, value) in head[left * length..][..length].iter_mut().zip(tail) {
                *sum += *value;
            }
        }
        step *= 2;
    }
}
