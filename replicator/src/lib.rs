//! The hands of rbd: every effect the daemon `rbdd` has on the world.
//!
//! | Room | Holds | Runs on |
//! |---|---|---|
//! | [`control`] | the daemon's life, `rbdadm`'s wishes, opening of connections | a tokio thread |
//! | [`shell`] | per-I/O work: disks, links, clients | a thread and an io_uring per resource |
//! | `ublk`, `nbd_driver` | what the kernel is told for its block devices | |
//! | [`messages`] | what the two say to each other | |
//!
//! Nothing here decides about data: decisions are the engine's.

pub mod control;
pub mod messages;
mod nbd_driver;
pub mod shell;
mod ublk;
