//! Where log lines go: the journal when systemd says that stderr is its, else stderr.

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

/// Sets up logging for the whole process. `RBD_LOG` says what is logged; a filter that cannot be
/// understood is reported and the default used.
pub(super) fn start() {
    let wanted = std::env::var("RBD_LOG").unwrap_or_default();
    let (filter, complaint) = match EnvFilter::builder().parse(&wanted) {
        Ok(filter) if !wanted.is_empty() => (filter, None),
        Ok(_) => (EnvFilter::new("info"), None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let journal = stderr_is_the_journal()
        .then(tracing_journald::layer)
        .and_then(Result::ok)
        .map(|journal| journal.with_field_prefix(Some("RBD".to_owned())));
    let text = journal.is_none().then(|| {
        fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(false)
    });
    // A second start in one process keeps the first subscriber: harmless.
    drop(
        tracing_subscriber::registry()
            .with(filter)
            .with(journal)
            .with(text)
            .try_init(),
    );
    if let Some(error) = complaint {
        tracing::warn!(%error, "RBD_LOG is not a log filter, using info");
    }
}

/// `JOURNAL_STREAM` names the device and inode of the journal's socket. An inherited variable with
/// a redirected stderr does not match.
fn stderr_is_the_journal() -> bool {
    let Some(named) = std::env::var("JOURNAL_STREAM").ok() else {
        return false;
    };
    let Ok(stat) = rustix::fs::fstat(std::io::stderr()) else {
        return false;
    };
    named == format!("{}:{}", stat.st_dev, stat.st_ino)
}
