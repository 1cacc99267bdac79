//! Disks that lose their cache, fail, hang, run full and lie, for programs that think they are
//! files.
//!
//! | File | Job |
//! |---|---|
//! | `cache` | the volatile cache of a disk, and what a power cut leaves of it |
//! | `fault` | what can go wrong, and when it does |
//! | `disks` | the disks of a node: requests, faults, power |
//! | `mount` | the disks as files, by FUSE |
//! | `private` | mounts that end with the test |
//! | `control` | faults and power by words, for the program `rbd-faultfs` |

mod cache;
mod control;
mod disks;
mod fault;
mod mount;
mod private;
#[cfg(test)]
mod tests;

pub use control::{ask, obey, serve};
pub use disks::Disks;
pub use fault::{Effect, Fault, FaultId, On};
pub use mount::{FaultFs, Opening};
pub use private::mount_privately;
