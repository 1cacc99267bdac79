//! The hands of a resource: one thread, one io_uring, one engine called in between.
//!
//! | Room | Does |
//! |---|---|
//! | `interpreter` | the loop: completions become events, the engine's actions become operations |
//! | `inbox` | what the control plane sends |
//! | `pace` | how long to look for completions before sleeping |
//! | `recorder` | the last events, for the log after a crash |
//! | `ring`, `operation` | the kernel's side: start, own until completion, give back |
//! | `buffer`, `batch`, `stream` | payload memory; what a socket is to send; a socket |
//! | `disk`, `zero` | a volume's files |
//! | `disk_notes` | what disks may be unable to say themselves, noted for the next process |
//! | `link` | the connections to a peer |
//! | `client` | NBD clients |
//! | `kernel` | the requests of kernel block devices |
//! | `slab` | the tables of what is in flight |
//!
//! The control plane speaks to the thread through [`ResourceHandle`] and hears of it through the
//! notices channel. Nothing here decides anything about data: that is the engine's.

mod batch;
mod buffer;
mod client;
mod digest;
mod disk;
mod disk_notes;
mod inbox;
mod interpreter;
mod kernel;
mod link;
mod operation;
mod pace;
mod recorder;
mod ring;
mod slab;
mod stream;
#[cfg(test)]
mod tests;
mod zero;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use rbd_engine::{Resource, Seed};
use rbd_protocol::control::ResourceConfig;
use rbd_protocol::peer::Channel;
use rustix::io::Errno;
use tokio::sync::mpsc::UnboundedSender;
use tracing::{error, error_span};

use disk_notes::DiskNotes;
pub use inbox::{Gone, ResourceHandle};
use interpreter::{Interpreter, Notices};
use ring::{Ring, RingError};

use crate::messages::FromResource;
#[cfg(test)]
use crate::messages::ToResource;

/// Why a resource cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// The kernel refuses io_uring altogether.
    #[error("io_uring is refused: {reason}; {cure}")]
    Refused {
        /// By whom.
        reason: String,
        /// What to do about it.
        cure: &'static str,
    },
    /// The kernel's io_uring cannot do what is needed.
    #[error("{what}; Linux 5.11 or newer is needed")]
    TooOld {
        /// What is missing.
        what: String,
    },
    /// No thread, no counter to wake it with, or no memory.
    #[error("cannot start a resource: {0}")]
    System(#[source] io::Error),
}

/// What an operation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    /// Messages of the control plane.
    Inbox,
    /// A job of the disk room.
    Disk(usize),
    /// Bytes from a socket.
    Receive(Socket),
    /// Bytes to a socket.
    Send(Socket),
    /// A tag of a kernel device.
    Kernel(usize, u16),
}

/// Which socket: a place in the client or link room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Socket {
    Client(usize),
    Link(usize, Channel),
}

/// Checks that this machine lets us use io_uring with all we need of it.
///
/// # Errors
/// In one sentence what is missing, and the cure.
pub fn probe() -> Result<(), ShellError> {
    let ring = Ring::<Token>::new().map_err(explain)?;
    ring.check_operations().map_err(explain)
}

/// Starts the thread of a resource. What happens there is told through `notices`, with the name;
/// what its next process has to know of a disk that cannot say it is noted in the run and the state
/// directory.
///
/// # Errors
/// When io_uring is refused or the machine has no thread to give.
pub fn spawn(
    name: String,
    config: ResourceConfig,
    seed: Seed,
    (run_dir, state_dir): (&Path, &Path),
    notices: UnboundedSender<(String, FromResource)>,
) -> Result<ResourceHandle, ShellError> {
    // The ring belongs to the thread that makes it, so the answer comes back through a channel.
    let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
    let (handle, inbox) = inbox::new().map_err(ShellError::System)?;
    let thread_name = format!("rbd-{name}");
    let disk_notes = DiskNotes::of(&name, run_dir, state_dir);
    let body = move || {
        let span = error_span!("resource", name);
        let _entered = span.enter();
        let ring = match Ring::new() {
            Ok(ring) => ring,
            Err(error) => return report(&ready, Err(explain(error))),
        };
        let notices = Notices::new(name, notices);
        let resource = Resource::new(config, seed);
        let interpreter = Interpreter::new(ring, inbox, resource, (notices, disk_notes));
        report(&ready, Ok(()));
        live(interpreter);
    };
    let thread = std::thread::Builder::new()
        .name(thread_name)
        .spawn(body)
        .map_err(ShellError::System)?;
    let ended_early = || ShellError::System(io::Error::other("the thread ended at once"));
    is_ready.recv().map_err(|_| ended_early())??;
    Ok(handle.with_thread(thread))
}

/// A resource without a thread: its messages are taken with the second value, by whoever keeps it,
/// and wait for that as they do for a thread that hangs.
#[cfg(test)]
pub(crate) fn without_thread() -> (ResourceHandle, impl Fn() -> Option<ToResource>) {
    let (handle, inbox) = inbox::new().expect("a counter");
    (handle, move || inbox.next().ok().flatten())
}

/// Runs until the end. A panic, a broken invariant that is, ends this resource and no other.
fn live(mut interpreter: Interpreter) {
    let why = match catch_unwind(AssertUnwindSafe(|| interpreter.run())) {
        Ok(Ok(())) => return interpreter.finish(),
        Ok(Err(error)) => format!("io_uring: {error}"),
        Err(panic) => {
            interpreter.dump_record();
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            format!("internal error: {}", text.unwrap_or("unknown"))
        }
    };
    error!(why, "the resource is out of service");
    interpreter.fail(why);
}

fn report(
    ready: &std::sync::mpsc::SyncSender<Result<(), ShellError>>,
    result: Result<(), ShellError>,
) {
    // Nobody listening means that nobody wants the resource; its handle is gone too.
    let _not_wanted = ready.send(result);
}

fn explain(error: RingError) -> ShellError {
    let source = match error {
        RingError::Lacks(_) => {
            return ShellError::TooOld {
                what: error.to_string(),
            };
        }
        RingError::Setup(source) => source,
    };
    match Errno::from_io_error(&source) {
        Some(Errno::PERM | Errno::ACCESS) => refused(),
        Some(Errno::NOSYS) => ShellError::Refused {
            reason: "this kernel does not have it, or a seccomp filter hides it".into(),
            cure: "use Linux 5.11 or newer with CONFIG_IO_URING, and in a container allow the \
                   io_uring system calls in its seccomp profile",
        },
        Some(Errno::NOMEM) => ShellError::Refused {
            reason: "there is too little memory, or the limit of locked memory is too low".into(),
            cure: "free some, or raise the limit (LimitMEMLOCK=infinity in the unit, or ulimit -l)",
        },
        _ => ShellError::System(source),
    }
}

fn refused() -> ShellError {
    let setting = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    match setting.trim() {
        number @ ("1" | "2") => ShellError::Refused {
            reason: format!("kernel.io_uring_disabled={number}"),
            cure: "run sysctl kernel.io_uring_disabled=0",
        },
        _ => ShellError::Refused {
            reason: "a seccomp filter or security module forbids it".into(),
            cure: "allow the io_uring system calls in the container's seccomp profile",
        },
    }
}
