//! Where log lines go: the journal when systemd says that stderr is its, else stderr.
//!
//! Nobody waits for whoever reads them. A journal that cannot write, because its disk hangs or
//! because its disk is one of ours, must not stop clients: a thread of its own hands lines on, and
//! those that find no room are lost and counted.

mod journal;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, OnceLock};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

use journal::{Journal, JournalFields, JournalFormat};

/// Sets up logging for the whole process, until the returned value goes: then what still waits is
/// written, for a second at most. `RBD_LOG` says what is logged; a filter that cannot be understood
/// is reported and the default used.
pub(super) fn start() -> WorkerGuard {
    let wanted = std::env::var("RBD_LOG").unwrap_or_default();
    let (filter, complaint) = match EnvFilter::builder().parse(&wanted) {
        Ok(filter) if !wanted.is_empty() => (filter, None),
        Ok(_) => (EnvFilter::new("info"), None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let journal = stderr_is_the_journal()
        .then(Journal::connect)
        .and_then(Result::ok);
    let is_journal = journal.is_some();
    let (lines, guard) = match journal {
        Some(journal) => in_background(journal, tell_of_loss),
        None => in_background(io::stderr(), tell_of_loss),
    };
    let fields = is_journal.then(|| {
        fmt::layer()
            .fmt_fields(JournalFields)
            .event_format(JournalFormat)
            .with_writer(lines.clone())
            .with_ansi(false)
    });
    let text = (!is_journal).then(|| {
        fmt::layer()
            .with_writer(lines)
            .with_ansi(io::stderr().is_terminal())
            .with_target(false)
    });
    // A second start in one process keeps the first subscriber: harmless.
    drop(
        tracing_subscriber::registry()
            .with(filter)
            .with(fields)
            .with(text)
            .try_init(),
    );
    if let Some(error) = complaint {
        tracing::warn!(%error, "RBD_LOG is not a log filter, using info");
    }
    guard
}

fn tell_of_loss(count: usize) {
    tracing::warn!("{count} lines of the log were lost: it is not read as fast as it grows");
}

/// A writer that never waits, for one that may; `tell` hears of lines that found no room, when
/// there is some again.
fn in_background(
    inner: impl Write + Send + 'static,
    tell: impl FnMut(usize) + Send + 'static,
) -> (NonBlocking, WorkerGuard) {
    let lost = Arc::new(OnceLock::new());
    let counted = Counted {
        inner,
        tell,
        lost: Arc::clone(&lost),
        told: 0,
    };
    let (lines, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(WAITING_LINES)
        .lossy(true)
        .thread_name("log")
        .finish(counted);
    lost.get_or_init(|| lines.error_counter());
    (lines, guard)
}

/// A writer that says how many lines never got to it.
struct Counted<W, T> {
    inner: W,
    tell: T,
    lost: Arc<OnceLock<ErrorCounter>>,
    told: usize,
}

impl<W: Write, T: FnMut(usize)> Write for Counted<W, T> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // What cannot be written is nobody's fault whose line it was.
        drop(self.inner.write_all(line));
        let lost = self.lost.get().map_or(0, ErrorCounter::dropped_lines);
        if lost > self.told {
            (self.tell)(lost - self.told);
            self.told = lost;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// `JOURNAL_STREAM` names the device and inode of the journal's socket. An inherited variable with
/// a redirected stderr does not match.
fn stderr_is_the_journal() -> bool {
    let Some(named) = std::env::var("JOURNAL_STREAM").ok() else {
        return false;
    };
    let Ok(stat) = rustix::fs::fstat(io::stderr()) else {
        return false;
    };
    named == format!("{}:{}", stat.st_dev, stat.st_ino)
}

/// A few megabytes of them at most.
const WAITING_LINES: usize = 10_000;
