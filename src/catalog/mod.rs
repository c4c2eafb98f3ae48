//! The runs in a directory as a table: an [`Entry`] for each run, sweep and point, [`Column`]s of what is known of one, a
//! [`Filter`] that chooses among them, and the forms in which a [`Table`] is written.
//!
//! An entry reads what is asked of it when it is asked, once, and nothing else: of 3,000 runs a list reads the statuses,
//! not the journals. What cannot be read is damage that the entry tells of; it hides no other.

mod column;
mod curves;
mod differences;
mod differing;
mod entry;
mod filter;
#[cfg(test)]
mod fuzz;
mod group;
mod parallel;
mod table;
mod trash;
mod value;
mod warnings;

pub use column::{COLUMNS, Column, First, Key, Kind, short};
pub use curves::{WRITERS, curve_name, curves_of};
pub use differences::Difference;
pub use differing::{differing, differing_settings};
pub use entry::{Entry, states};
pub use filter::{Filter, age};
pub use group::Group;
pub use parallel::map;
pub use table::{Form, Head, Row, Table};
pub use trash::{Trash, Trashed};
pub use value::{Value, plain};
