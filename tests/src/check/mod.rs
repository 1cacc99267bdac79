//! What must hold, whatever engine and daemons do: judged from what clients were told and from what
//! is on the disks, never from the program's own view of itself.
//!
//! `pair` and `registers` check the simulation; `stamp`, `ledger`, `marks` and `compare` check real
//! disks.

mod compare;
mod ledger;
mod marks;
mod pair;
mod registers;
mod stamp;
#[cfg(test)]
mod stamp_tests;
#[cfg(test)]
mod tests;

pub use compare::first_difference;
pub use ledger::{Kind, Ledger, Shard};
pub use marks::{Marks, Replica, check_marks};
pub use pair::{PairCheck, Possible, dirty_after_crash};
pub use registers::{Registers, garbage, stamp};
pub use stamp::{Found, SECTOR, fill, look_at};
