//! The kernel's ublk driver: what it is told and what it tells.
//!
//! | File | Job |
//! |---|---|
//! | `abi` | bytes ⇄ values |
//! | `control` | making, starting, taking over and removing devices; blocks |
//!
//! The requests of a device are served in the resource's thread (`shell/kernel`). Which volume gets
//! a device and when is decided in `control/kernel`.

pub(crate) mod abi;
pub(crate) mod control;
#[cfg(test)]
mod tests;
