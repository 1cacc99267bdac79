//! What keeps the daemon going when the machine runs out of memory.
//!
//! The machine may then want to write dirty pages to a device that this daemon serves, and wait for
//! that before it gives anybody memory: the daemon must not be one of those who wait. So what it
//! has stays in memory, what it asks for comes without waiting for I/O, and it is among the last to
//! be killed. None of this is needed to serve; where it may not be had, one line says so.

use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, Rlimit, configure_io_flusher_behavior, getrlimit, setrlimit};

/// Does what may be done. To be called before there are threads: they inherit it.
pub(super) fn prepare() {
    let steps = [
        ("memory is not locked", lock_memory()),
        ("allocations may wait for I/O", mark_as_flusher()),
        ("not spared when memory runs out", be_spared()),
    ];
    let refused: Vec<String> = steps
        .into_iter()
        .filter_map(|(what, done)| done.err().map(|error| format!("{what} ({error})")))
        .collect();
    if !refused.is_empty() {
        tracing::info!(
            "without the rights for it: {}; a machine short of memory may come to a standstill \
             with file systems on this node's kernel devices",
            refused.join(", ")
        );
    }
}

/// What there is now is read in and stays; what comes stays from its first use on. Under a limit a
/// later allocation would fail that need not, so there must be none.
fn lock_memory() -> io::Result<()> {
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    if getrlimit(Resource::Memlock).current.is_some() {
        setrlimit(Resource::Memlock, unlimited)?;
    }
    mlockall(MlockAllFlags::CURRENT)?;
    mlockall(MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)?;
    Ok(())
}

/// Known since Linux 5.6.
fn mark_as_flusher() -> io::Result<()> {
    match configure_io_flusher_behavior(true) {
        Err(Errno::INVAL) => Err(io::Error::other("Linux 5.6 or newer is needed")),
        answer => Ok(answer?),
    }
}

/// Unless somebody has said how it is to be.
fn be_spared() -> io::Result<()> {
    if fs::read_to_string(OOM_SCORE)?.trim() == "0" {
        fs::write(OOM_SCORE, SPARED)?;
    }
    Ok(())
}

const OOM_SCORE: &str = "/proc/self/oom_score_adj";

/// As in `rbdd.service`: not quite never, for a daemon that eats all memory must not be kept.
const SPARED: &str = "-900";
