//! What must hold, whatever engine and daemons do: judged from what clients were told and from what
//! is on the disks, never from the program's own view of itself.
//!
//! `pair` and `registers` check the simulation; `stamp`, `ledger`, `marks` and `compare` check real
//! disks; `area` and `suspect` read their metadata; `history` judges a recorded run. Those of use
//! to people are programs too: `rbd-check-history`, `rbd-pair-check`, `rbd-marks`.

mod area;
mod compare;
mod history;
mod ledger;
mod ledger_log;
mod marks;
mod pair;
mod registers;
mod shared;
mod stamp;
#[cfg(test)]
mod stamp_tests;
mod suspect;
#[cfg(test)]
mod tests;

pub use area::{MetaPlace, Replica};
pub use compare::first_difference;
pub use history::{Event, History, Recorder, Summary, Value, Values, check_history};
pub use ledger::{Kind, Ledger, Shard};
pub use marks::{Marks, check_marks, compare_with_marks};
pub use pair::{PairCheck, Possible};
pub use registers::{Registers, garbage, stamp};
pub use shared::{Asked, Shared};
pub use stamp::{Found, SECTOR, fill, look_at};
pub use suspect::{Suspect, Why, dirty_after_crash, suspects};
