//! The mind of rbd: every decision about a replicated resource, as a pure function from events to
//! actions.
//!
//! [`Resource::handle`] is told what happened ([`Event`]) and says what to do ([`Action`]); see
//! [`contract`] for the rules both sides keep. There is no clock, file, socket, thread or chance in
//! here: time and a seed are arguments, so a run can be repeated bit for bit.
//!
//! | Part | Holds |
//! |---|---|
//! | [`contract`] | events and actions: the whole interface |
//! | `resource` | one resource: links, greetings, packets, commands, roles |
//! | `volume` | one volume: reads, writes, flushes, resyncs in flight, and what must be durable |
//! | `connection`, `peer_device` | what is known of a peer, and of its copy of a volume |
//! | `local_disk` | the metadata as it should be, and how much of it is durable |
//! | `intent`, `bitmap` | the write-intent log; the dirty blocks towards one peer |
//! | `pause` | the wish to hold resyncs back |
//! | `decide` | who synchronises from whom |
//! | [`handler`] | the administrator's programs that are told or asked something |
//! | `context`, `random` | what every part needs: actions, names, limits; identifiers from a seed |
//!
//! A part changes state and adds actions to the list; nothing else leaves it.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

mod bitmap;
mod connection;
mod context;
pub mod contract;
mod decide;
pub mod handler;
mod intent;
mod local_disk;
mod pause;
mod peer_device;
mod random;
mod resource;
#[cfg(test)]
mod tests;
mod time;
mod volume;

pub use contract::{
    Action, AttachedDisk, CallId, Change, Command, DiskError, DiskMeasure, DiskNote, DiskRequest,
    Event, Level, LinkId, LinkLoss, MigrationNews, OperationId, RequestError, RequestId,
    RequestKind, Room, Seek, Time, VolumeFacts,
};
pub use handler::{Handler, HandlerFacts, HandlerResult};
pub use pause::{PauseOrder, PausedBy};
pub use resource::{Resource, Seed};
