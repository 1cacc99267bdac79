//! Small scope, exhaustively: two real engines on disks of a few sectors, without chance.
//!
//! All short sequences of operations, in several orders of what is under way, with every crash at
//! every moment and everything it may leave behind. See `docs/reliability/exhaustive.md`.

mod asking;
mod crash;
mod disk;
mod geometry;
mod hash;
mod links;
mod node;
mod operation;
mod pairs;
mod search;
mod sectors;
mod watch;
mod world;

pub use crash::{Crash, Fate};
pub use operation::Operation;
pub use pairs::{Harm, Move, PairTally, Word, WrongPair, explore_pairs, retell_pair};
pub use search::{Case, Manner, Plan, Tally, Wrong, retell, search};
pub use world::Order;
