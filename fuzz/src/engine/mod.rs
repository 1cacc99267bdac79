//! A machine for one engine: hands that do what the engine asks, in any order and with any
//! outcome, and check every action they are given.
//!
//! Data is not kept, only named: what is looked at is that every action is possible, that every
//! request and command is answered once, and that no success is reported which no disk reported.

mod area;
mod check;
mod config;
mod machine;
mod packets;

pub use area::{Area, NAMES, RESOURCE, Shape, mature};
pub use machine::{Link, Machine};
pub use packets::{arbitrary, hello, within};

/// Names data; the machine remembers how much of it there is.
pub type Tag = u64;
