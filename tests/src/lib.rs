//! Tests that need more than one crate, and what they are made of.
//!
//! - [`check`]: what must hold, as code that knows nothing of the programs' inner state.
//! - [`process`]: real daemons under real clients, and everything bad that can happen to them.
//! - [`nbd_client`]: a client that knows exactly what it was promised.

pub mod check;
pub mod nbd_client;
pub mod process;
