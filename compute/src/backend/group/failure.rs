//! Which rank is to blame when an operation fails. Gloo's error says at best which connection broke, and it breaks also
//! to a rank that has only noticed another's death before. So each rank that ends leaves its reason in the store, before
//! it closes its connections, and the others follow the reasons to the rank that left none.

use super::ffi::Store;
use super::meeting::Member;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;

/// Why a rank's part in the group is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// A connection to that rank broke, or to one that is not known.
    Closed(Option<usize>),
    /// An operation took too long.
    TimedOut,
    /// Another error of an operation.
    Failed(String),
    /// It left by itself, and said why, if it has an error of its own.
    Left(Option<String>),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Closed(Some(rank)) => write!(f, "the connection to rank {rank} is closed"),
            End::Closed(None) => f.write_str("a connection is closed"),
            End::TimedOut => f.write_str("timed out"),
            End::Failed(text) | End::Left(Some(text)) => f.write_str(text),
            End::Left(None) => f.write_str("left"),
        }
    }
}

/// For operations that know what their error means; of the others [`End::of`] tells it.
impl std::error::Error for End {}

impl End {
    /// What an operation's error says; `addresses` has the ends of all connections.
    pub fn of(error: &str, addresses: &HashMap<SocketAddr, usize>) -> Self {
        let rank = |mut address: SocketAddr| {
            // Gloo writes the port with its two bytes exchanged, as they go over the network.
            address.set_port(address.port().swap_bytes());
            addresses.get(&address).copied()
        };
        let peer = addresses_in(error).find_map(rank);
        let broken = ["closed", "reset", "roken pipe", "Read error", "Write error"];
        if error.contains("imed out") || error.contains("imeout") {
            End::TimedOut
        } else if peer.is_some() || broken.iter().any(|word| error.contains(word)) {
            End::Closed(peer)
        } else {
            End::Failed(error.to_owned())
        }
    }

    /// Tell the others. It is there when this returns.
    pub fn tell(&self, store: &Store, rank: usize) -> Result<()> {
        store.set(&key(rank), &serde_json::to_vec(self)?)?;
        // A store in another process answers this after it has the value, and a value itself not at all.
        store.get(&key(rank))?;
        Ok(())
    }
}

/// The addresses in an error of Gloo's, as in `Connection closed by peer [127.0.0.1]:4321`.
fn addresses_in(error: &str) -> impl Iterator<Item = SocketAddr> {
    error.split('[').skip(1).filter_map(|rest| {
        let (ip, rest) = rest.split_once("]:")?;
        let port = rest.split(|letter: char| !letter.is_ascii_digit()).next()?;
        Some(
            (
                ip.parse::<std::net::IpAddr>().ok()?.to_canonical(),
                port.parse().ok()?,
            )
                .into(),
        )
    })
}

fn key(rank: usize) -> String {
    format!("end/{rank}")
}

/// How each rank's part ended, as far as it said so.
pub fn ends(store: &Store, world: usize) -> Result<Vec<Option<End>>> {
    let end = |rank| {
        let value = store.get(&key(rank))?;
        Ok(value.map(|it| serde_json::from_slice(&it)).transpose()?)
    };
    (0..world).map(end).collect()
}

/// What is known of a failure.
#[derive(Debug, PartialEq, Eq)]
pub struct Blame {
    /// The ranks that are to blame, if any is.
    pub ranks: Vec<usize>,
    /// What happened.
    pub why: Why,
}

/// What happened to the ranks that are to blame.
#[derive(Debug, PartialEq, Eq)]
pub enum Why {
    /// The connection broke and the rank said nothing.
    Lost,
    /// Those do not answer, or nobody is known who does not.
    Silent,
    /// The rank left by itself.
    Left,
    /// That is what the rank said.
    Said(String),
}

impl Why {
    /// What a rank said for itself, if it did not go by another one.
    fn said(end: &End) -> Option<Self> {
        match end {
            End::Closed(_) | End::TimedOut => None,
            End::Left(None) => Some(Why::Left),
            End::Failed(text) | End::Left(Some(text)) => Some(Why::Said(text.clone())),
        }
    }
}

/// Whether this rank, `own`, waits for nobody any more: what others may yet tell changes nothing for it, and nobody needs the
/// store, which goes with rank 0.
pub fn is_settled(own: usize, ends: &[Option<End>]) -> bool {
    let blame = Blame::of(own, ends);
    let is_looking = |rank: usize| ends[rank].is_none() && !blame.ranks.contains(&rank);
    !blame.waits() && (own != 0 || !(0..ends.len()).any(is_looking))
}

impl Blame {
    /// By how the ranks' parts ended; `own` said so too.
    pub fn of(own: usize, ends: &[Option<End>]) -> Self {
        let mut rank = own;
        // Each step goes to another rank, or it would be the ranks that accuse each other: none is to blame then.
        for _ in 0..ends.len() {
            let (ranks, why) = match &ends[rank] {
                None => (vec![rank], Why::Lost),
                Some(End::Closed(Some(next))) => {
                    rank = *next;
                    continue;
                }
                Some(End::Closed(None) | End::TimedOut) => {
                    let silent = |rank: &usize| ends[*rank].is_none();
                    let silent: Vec<usize> = (0..ends.len()).filter(silent).collect();
                    // If all have spoken, the first of those that knew why.
                    let said = |(rank, end): (usize, &Option<End>)| {
                        Some((vec![rank], Why::said(end.as_ref()?)?))
                    };
                    let known = ends.iter().enumerate().find_map(said);
                    match known.filter(|_| silent.is_empty()) {
                        Some(known) => known,
                        None => (silent, Why::Silent),
                    }
                }
                Some(End::Failed(text) | End::Left(Some(text))) => {
                    (vec![rank], Why::Said(text.clone()))
                }
                Some(End::Left(None)) => (vec![rank], Why::Left),
            };
            return Blame { ranks, why };
        }
        let (ranks, why) = (Vec::new(), Why::Silent);
        Blame { ranks, why }
    }

    /// Whether the ranks that have said nothing may yet change it.
    pub fn waits(&self) -> bool {
        self.why == Why::Silent && !self.ranks.is_empty()
    }

    /// For people.
    pub fn text(&self, members: &[Member], seconds: f64) -> String {
        let ranks: Vec<String> = self
            .ranks
            .iter()
            .map(|&it| members[it].to_string())
            .collect();
        let names = ranks.join(", ");
        let they = if ranks.len() == 1 {
            "it is"
        } else {
            "they are"
        };
        match &self.why {
            Why::Lost => {
                format!("{names} is gone: it was killed, has crashed, or the network to it is cut")
            }
            Why::Silent if ranks.is_empty() => {
                format!("the ranks lost one another; an operation may take {seconds} s")
            }
            Why::Silent => format!(
                "no answer from {names} within {seconds} s: {they} stopped, too busy or cut off"
            ),
            Why::Left => format!("{names} has left"),
            Why::Said(text) => format!("{names} ended: {text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blame(own: usize, ends: &[Option<End>]) -> (Vec<usize>, Why) {
        let Blame { ranks, why } = Blame::of(own, ends);
        (ranks, why)
    }

    #[test]
    fn end_names_the_rank_whose_connection_broke() {
        let port = 4321_u16.swap_bytes();
        let addresses = HashMap::from([(([127, 0, 0, 1], port).into(), 2)]);
        let end = |error: &str| End::of(error, &addresses);
        let closed = "Connection closed by peer [127.0.0.1]:4321. This means";
        assert_eq!(end(closed), End::Closed(Some(2)));
        assert_eq!(
            end("Read error [::ffff:127.0.0.1]:4321: Connection reset by peer"),
            End::Closed(Some(2))
        );
        assert_eq!(end("Broken pipe [127.0.0.1]:99"), End::Closed(None));
        let late = "Timed out waiting 1000ms for recv operation to complete";
        assert_eq!(end(late), End::TimedOut);
        assert_eq!(end("no memory"), End::Failed("no memory".into()));
    }

    #[test]
    fn blame_follows_the_reasons_to_the_rank_that_gave_none() {
        let closed = |rank| Some(End::Closed(Some(rank)));
        let late = Some(End::TimedOut);
        let left = Some(End::Left(Some("disk full".into())));
        assert_eq!(blame(0, &[closed(1), None]), (vec![1], Why::Lost));
        assert_eq!(
            blame(0, &[closed(1), closed(2), None, None]),
            (vec![2], Why::Lost)
        );
        assert_eq!(
            blame(0, &[closed(1), late.clone(), None]),
            (vec![2], Why::Silent)
        );
        assert_eq!(
            blame(1, &[left, closed(0)]),
            (vec![0], Why::Said("disk full".into()))
        );
        assert_eq!(blame(0, &[closed(1), closed(0)]), (vec![], Why::Silent));
        assert_eq!(
            blame(0, &[late.clone(), late.clone()]),
            (vec![], Why::Silent)
        );
        let gone = Some(End::Left(None));
        assert_eq!(blame(0, &[closed(1), gone.clone()]), (vec![1], Why::Left));
        assert_eq!(blame(0, &[late, gone]), (vec![1], Why::Left));
    }

    #[test]
    fn rank_0_waits_for_all_that_may_look_into_its_store_and_others_only_for_who_is_to_blame() {
        let closed = |rank| Some(End::Closed(Some(rank)));
        let late = || Some(End::TimedOut);
        // Rank 2 is lost; rank 1 has not noticed yet.
        let ends = [closed(2), None, None];
        assert!(!is_settled(0, &ends));
        let ends = [closed(2), closed(2), None];
        assert!([0, 1].into_iter().all(|own| is_settled(own, &ends)));
        assert!(is_settled(1, &[None, closed(2), None]));
        // Nobody knows yet which of them does not answer.
        assert!(!is_settled(1, &[None, late(), None]));
        assert!(!is_settled(1, &[late(), late(), None]));
        assert!(is_settled(1, &[late(), late(), late()]));
    }
}
