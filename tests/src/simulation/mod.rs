//! Two engines, their disks and the network between them, on virtual time.
//!
//! One seed decides everything: sizes, delays, faults, commands, what clients ask. The engines are
//! the real ones, told of everything as the daemon tells them, and exchanging the protocol's own
//! bytes; `docs/reliability/simulation.md` says what is modelled and what is not.

mod aimed;
mod answer;
mod client;
mod clock;
mod disk;
mod errands;
mod faults;
mod fencing;
mod growth;
mod guard;
mod hands;
mod judge;
mod many;
mod marks;
mod moves;
mod network;
mod node;
mod operator;
mod patience;
mod profile;
mod promise;
mod random;
mod report;
mod said;
mod scrub;
mod shrink;
mod submission;
mod verdict;
mod visited;
mod volume;
mod wire;
#[cfg(test)]
mod wire_tests;
mod without;
mod world;

pub use many::{Batch, Outcome};
pub use marks::{Mark, Marks};
pub use profile::Profile;
pub use report::{Failure, Report};
pub use shrink::{Shrunk, shrink};
pub use verdict::{run, run_traced, run_without};
pub use visited::{Between, Disk, Rare, Situation, Visited};
pub use without::Without;
