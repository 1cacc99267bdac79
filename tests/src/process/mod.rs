//! Two real nodes on this machine, clients that load them, and the means to hurt them.
//!
//! [`Pair`] is where a test begins. Everything here fails by panicking with one clear line: it is
//! a harness for tests. Whatever happens, no process, file, mount or loop device stays behind.
//!
//! | File | Job |
//! |---|---|
//! | `pair`, `setup` | two nodes, their configuration and what is true of both |
//! | `node` | one daemon: start, kill, stop, pause, commands to it |
//! | `status` | what `rbdadm status --json` says |
//! | `load` | verified writing in the background |
//! | `proxy` | a wire between the nodes that can be cut, held up and damaged |
//! | `program` | other people's programs, with a deadline |
//! | `chance` | a sequence of numbers from a seed |
//! | `skip` | tests that cannot run here |

mod chance;
mod load;
mod node;
mod pair;
mod program;
mod proxy;
mod setup;
mod skip;
mod status;

use std::thread;
use std::time::{Duration, Instant};

pub use chance::Chance;
pub use load::{Load, LoadOptions, Outcome};
pub use node::{Node, binary};
pub use pair::Pair;
pub use program::{Output, capture, find, run};
pub use proxy::Proxy;
pub use setup::{Meta, Setup};
pub use skip::{is_root, lacks, skip};
pub use status::Status;

/// Waits until something is true.
///
/// # Panics
/// When it is not true in time; `seen` says what was there instead.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool, seen: impl FnOnce() -> String) {
    let start = Instant::now();
    while !is_so() {
        assert!(
            start.elapsed() < PATIENCE,
            "waited {} s in vain for: {what}; last seen: {}",
            PATIENCE.as_secs(),
            seen()
        );
        thread::sleep(POLL);
    }
}

/// How long anything may take that takes a second on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(20);
