//! The kernel's NBD client: what it is told and what it tells, over generic netlink.
//!
//! | File | Job |
//! |---|---|
//! | `message` | bytes ⇄ values |
//! | `control` | making, joining again, resizing and removing devices; blocks |
//!
//! The driver gets one end of a pair of sockets; the other end is a client of the resource's thread
//! like any other (`shell/client`). Which volume gets a device and when is decided in
//! `control/kernel`.

pub(crate) mod control;
pub(crate) mod message;
#[cfg(test)]
mod tests;
