//! The hands of rbd: every effect the daemon `rbdd` has on the world.
//!
//! | Room | Holds | Runs on |
//! |---|---|---|
//! | [`shell`] | per-I/O work of one resource: disks, links, clients | one thread and io_uring per resource |
//! | [`messages`] | what it and the control plane say to each other | |
//!
//! Nothing here decides about data: decisions are the engine's.

pub mod messages;
pub mod shell;
