//! What the unit tests of several modules share: random edits of valid files, places of golden files, a bound
//! on memory. Nothing here is in the program.

mod docs;
pub mod fuzz;
pub mod golden;
pub mod heap;
mod imports;
mod module_order;
