//! Two real nodes on this machine, clients that load them, and the means to hurt them.
//!
//! [`Pair`] is where a test begins. Everything here fails by panicking with one clear line: it is
//! a harness for tests. Whatever happens, no process, file, mount or loop device stays behind.
//!
//! | File | Job |
//! |---|---|
//! | `pair`, `setup` | two nodes, their configuration and what is true of both |
//! | `node` | one daemon: start, kill, stop, pause, commands to it |
//! | `power` | the power of a node's disks, where it can be cut |
//! | `status` | what `rbdadm status --json` says |
//! | `load` | verified writing in the background |
//! | `rivals` | the same through both nodes at once |
//! | `bystander` | a client that must not notice what is done to others |
//! | `cluster` | two machines with a real cluster on them |
//! | `cable` | a cable between two network namespaces, which can be pulled, slow or one-way |
//! | `proxy` | a wire between the nodes that can be cut, held up and damaged |
//! | `two` | both nodes Primary, and how one of them is fenced |
//! | `torture` | rounds of random harm |
//! | `program` | other people's programs, with a deadline |
//! | `chance` | a sequence of numbers from a seed |
//! | `skip` | tests that cannot run here |

mod bystander;
mod cable;
mod chance;
mod cluster;
mod crowd;
mod load;
mod node;
mod pair;
mod power;
mod program;
mod proxy;
mod rivals;
mod setup;
mod skip;
mod status;
mod torture;
mod two;

use std::thread;
use std::time::{Duration, Instant};

pub use bystander::undisturbed;
pub use cable::Cable;
pub use chance::Chance;
pub use cluster::{Cluster, Link, Options, Switch};
pub use load::{Load, LoadOptions, Outcome};
pub use node::Node;
pub use pair::Pair;
pub use program::{Output, binary, capture, find, run};
pub use proxy::Proxy;
pub use rivals::{RivalOptions, Rivals};
pub use setup::{Meta, Setup};
pub use skip::{is_root, lacks, skip};
pub use status::Status;
pub use torture::{Tally, Torture};
pub use two::{STONITH, Two};

/// Waits until something is so.
///
/// # Panics
/// When it is not so in time, with what the last attempt says was there instead.
pub fn wait_until(what: &str, mut attempt: impl FnMut() -> Result<(), String>) {
    let start = Instant::now();
    while let Err(seen) = attempt() {
        assert!(
            start.elapsed() < PATIENCE,
            "waited {} s in vain for: {what}; last seen: {seen}",
            PATIENCE.as_secs()
        );
        thread::sleep(POLL);
    }
}

/// An attempt's result.
///
/// # Errors
/// What is there instead, unless it is so.
pub fn unless(is_so: bool, seen: impl FnOnce() -> String) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(seen()) }
}

/// How long anything may take that takes a second on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(20);
