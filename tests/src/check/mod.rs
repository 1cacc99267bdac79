//! What must hold, whatever the engine does: judged from what clients were told and from what is on
//! the disks, never from the engine's own view of itself.

mod pair;
mod registers;

pub use pair::{PairCheck, Possible, dirty_after_crash};
pub use registers::{Registers, garbage, stamp};
#[cfg(test)]
mod tests;
