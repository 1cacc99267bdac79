//! The words of rbd: every type and byte that crosses a wall between two programs or between a
//! program and a disk.
//!
//! | Room | Wall |
//! |---|---|
//! | [`peer`] | the link between two nodes |
//! | [`metadata`] | the disk, beside the data |
//! | [`nbd`] | the socket of an NBD client |
//! | [`control`] | the Unix socket between `rbdadm` and `rbdd` |
//! | [`undo`] | a file for the administrator, which another `rbdadm` reads |
//! | [`ids`], [`state`], [`policy`] | all of them: names, ranges, states and policies |
//!
//! Nothing here decides, and nothing here performs I/O: bytes become values, values become bytes,
//! and whatever is wrong with the bytes becomes an error. No input makes it panic.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod control;
pub mod ids;
pub mod metadata;
pub mod nbd;
pub mod peer;
pub mod policy;
pub mod state;
pub mod undo;
