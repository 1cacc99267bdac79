//! What must hold, whatever the daemons do: judged from what clients were told and from what is on
//! the disks, never from a daemon's own view of itself.

mod compare;
mod ledger;
mod stamp;
#[cfg(test)]
mod stamp_tests;

pub use compare::first_difference;
pub use ledger::{Kind, Ledger, Shard};
pub use stamp::{Found, SECTOR, fill, look_at};
