//! Tests that need more than one crate, and what they are made of.
//!
//! - [`simulation`]: two engines, their disks and the network between them on virtual time; one
//!   seed decides everything.
//! - [`check`]: what must hold, as code that knows nothing of the engine's inner state.

pub mod check;
pub mod simulation;
