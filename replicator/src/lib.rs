//! The hands of rbd: every effect the daemon `rbdd` has on the world.
//!
//! | Room | Holds | Runs on |
//! |---|---|---|
//! | [`control`] | command line, control socket, opening of links and NBD connections, life of the daemon | tokio, one thread |
//! | [`shell`] | per-I/O work of one resource: disks, links, clients | one thread and io_uring per resource |
//! | [`messages`] | what the two say to each other | |
//!
//! Nothing here decides about data: decisions are the engine's.

pub mod control;
pub mod messages;
pub mod shell;
