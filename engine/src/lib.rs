//! The mind of rbd: every decision about a replicated resource, as a pure function from events to
//! actions.
//!
//! [`Resource::handle`] is told what happened ([`Event`]) and says what to do ([`Action`]); see
//! [`contract`] for the rules both sides keep. There is no clock, file, socket, thread or chance in
//! here: time and a seed are arguments, so a run can be repeated bit for bit.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

mod bitmap;
mod connection;
mod context;
pub mod contract;
mod decide;
mod intent;
mod local_disk;
mod peer_device;
mod random;
mod resource;
mod volume;

pub use contract::{
    Action, AttachedDisk, CallId, Change, Command, DiskError, DiskRequest, Event, Level, LinkId,
    LinkLoss, OperationId, RequestError, RequestId, RequestKind, Room, Time, VolumeFacts,
};
pub use resource::{Resource, Seed};
