//! Tests that need more than one crate, and what they are made of.
//!
//! - [`simulation`]: two engines, their disks and the network between them on virtual time; one
//!   seed decides everything.
//! - [`process`]: real daemons under real clients, and everything bad that can happen to them.
//! - [`faultfs`]: disks with a cache that is lost with the power, and with every fault disks have.
//! - [`check`]: what must hold, as code that knows nothing of the programs' inner state.
//! - [`nbd_client`]: a client that knows exactly what it was promised.
//! - [`write_log`]: what the kernel logs of the writes of a disk, applied step by step.

pub mod check;
pub mod exhaustive;
#[cfg(feature = "daemons")]
pub mod faultfs;
pub mod nbd_client;
#[cfg(feature = "daemons")]
pub mod process;
pub mod simulation;
pub mod write_log;
