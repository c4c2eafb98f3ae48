//! What the ranks say to one another in each step.

use crate::backend::group::Member;
use anyhow::{Result, bail};

/// What the ranks say before the sums of a step, in one of their own. It is positive if any rank says so.
#[derive(Clone, Copy, Debug, Default)]
pub struct Notes {
    /// A rank's supervisor was asked to stop.
    pub stop: bool,
    /// What rank 0 does.
    pub turn: Turn,
}

/// What rank 0 does next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Turn {
    /// It makes the step.
    #[default]
    Now,
    /// It makes the step later, and is alive: they say it all again.
    Later,
    /// It makes no more steps.
    Over,
}

impl Notes {
    /// What a rank adds to a sum, with its numbers if it takes part: the checksum of its weights, 0 where none is
    /// compared, and how many seconds it waited for its batch. The sums then have those of all ranks, in order.
    pub fn to_sum(self, ranks: usize, own: Option<(usize, f32, f32)>) -> Vec<f32> {
        let notes = [self.stop, self.turn == Turn::Over, self.turn == Turn::Later];
        let notes = notes.map(|it| f32::from(u8::from(it)));
        let mut values = notes.to_vec();
        values.resize(notes.len() + 2 * ranks, 0.0);
        if let Some((rank, checksum, waited)) = own {
            values[notes.len() + rank] = checksum;
            values[notes.len() + ranks + rank] = waited;
        }
        values
    }

    /// What the ranks have added, the checksums and the seconds.
    pub fn of_sums(sums: &[f32]) -> (Self, &[f32], &[f32]) {
        let (notes, numbers) = sums.split_at(3);
        let (checksums, waits) = numbers.split_at(numbers.len() / 2);
        let [stop, over, later] = [0, 1, 2].map(|at| notes[at] > 0.0);
        let turn = match (over, later) {
            (true, _) => Turn::Over,
            (false, true) => Turn::Later,
            (false, false) => Turn::Now,
        };
        (Notes { stop, turn }, checksums, waits)
    }
}

/// Make sure that the ranks have the same weights, by their checksums.
///
/// # Errors
/// Names the ranks whose weights are not those of most; of two that differ, rank 1.
pub fn compare(step: u64, checksums: &[f32], members: &[Member]) -> Result<()> {
    let count = |&checksum: &f32| checksums.iter().filter(|it| **it == checksum).count();
    // The last of several that are as frequent, and so rank 0's.
    let Some(&most) = checksums.iter().rev().max_by_key(|it| count(it)) else {
        return Ok(());
    };
    let others = checksums.iter().zip(members);
    let others = others.filter(|(checksum, _)| **checksum != most);
    let names: Vec<String> = others.map(|(_, member)| member.to_string()).collect();
    if !names.is_empty() {
        let has = if names.len() == 1 { "has" } else { "have" };
        let rest = match members.len() - names.len() {
            1 => "rank 0".to_owned(),
            rest => format!("the other {rest}"),
        };
        let whose = match 2 * names.len() < members.len() {
            true => "that host",
            false => "one of the hosts",
        };
        bail!(
            "the weights of the ranks differ before step {step}: {} {has} others than {rest}; the memory or a processor \
             of {whose} may be faulty, or their GPUs are of different kinds",
            names.join(", ")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_whose_weights_are_not_those_of_most_are_named() {
        let compared = |checksums: &[f32]| {
            let member = |rank| Member {
                rank,
                host: "h".to_owned(),
                pid: 9,
            };
            let members: Vec<Member> = (0..checksums.len()).map(member).collect();
            let error = compare(200, checksums, &members).err()?.to_string();
            let what = error.strip_prefix("the weights of the ranks differ before step 200: ");
            let (what, _) = what.unwrap().split_once(';').unwrap();
            Some(what.replace(" on h (pid 9)", ""))
        };
        let named = |text: &str| Some(text.to_owned());
        assert_eq!(compared(&[7.0, 7.0, 7.0]), None);
        assert_eq!(
            compared(&[7.0, 65535.0]),
            named("rank 1 has others than rank 0")
        );
        assert_eq!(
            compared(&[7.0, 8.0, 7.0]),
            named("rank 1 has others than the other 2")
        );
        assert_eq!(
            compared(&[8.0, 7.0, 7.0]),
            named("rank 0 has others than the other 2")
        );
        assert_eq!(
            compared(&[7.0, 8.0, 9.0]),
            named("rank 1, rank 2 have others than rank 0")
        );
        assert_eq!(
            compared(&[7.0, 8.0, 8.0, 7.0]),
            named("rank 1, rank 2 have others than the other 2")
        );
    }

    #[test]
    fn numbers_of_a_rank_are_at_its_place_in_the_sums() {
        let notes = |stop, turn| Notes { stop, turn };
        for turn in [Turn::Now, Turn::Later, Turn::Over] {
            let one = notes(false, turn).to_sum(2, Some((0, 7.0, 0.25)));
            let other = notes(true, Turn::Now).to_sum(2, Some((1, 8.0, 0.5)));
            let sums: Vec<f32> = one.iter().zip(&other).map(|(a, b)| a + b).collect();
            let (all, checksums, waits) = Notes::of_sums(&sums);
            assert_eq!((all.stop, all.turn), (true, turn));
            assert_eq!((checksums, waits), (&[7.0, 8.0][..], &[0.25, 0.5][..]));
            assert_eq!(notes(false, turn).to_sum(2, None).len(), one.len());
        }
    }
}
