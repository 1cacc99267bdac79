//! Live migrations, as far as they are not the engine's: what a daemon that comes up anew has to
//! know of one, and the demotion of a node that nobody uses when the time is over.

#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rbd_engine::{Command, MigrationNews};
use rbd_protocol::control::{Refusal, RefusalCode};

use super::kernel;
use super::service::Service;

/// The order to become Primary beside the other node for so long.
pub(super) fn order(seconds: u32) -> Result<Command, Refusal> {
    if !(SHORTEST_SECONDS..=LONGEST_SECONDS).contains(&seconds) {
        let reason = format!(
            "a migration takes {SHORTEST_SECONDS} to {LONGEST_SECONDS} seconds, not {seconds}"
        );
        return Err(Refusal::new(RefusalCode::InvalidRequest, reason, ""));
    }
    let ms = seconds.saturating_mul(1000);
    Ok(Command::Migrate { ms })
}

/// How a node becomes Primary again whose daemon was restarted in the middle of a migration.
pub(super) fn resumed(service: &Service) -> Option<Command> {
    let until = read(&file(service)).ok()??;
    let left = until.duration_since(SystemTime::now()).unwrap_or_default();
    // Over or not, both are still to be Primary until somebody has let go.
    let left = left.max(LEAST);
    let ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
    Some(Command::Migrate { ms })
}

/// Does what the engine says of a migration.
pub(super) async fn heed(service: &Service, news: MigrationNews) {
    let result = match news {
        MigrationNews::Begun { ms } => {
            let until = SystemTime::now() + Duration::from_millis(u64::from(ms));
            write(&file(service), until)
        }
        MigrationNews::Over => forget(&file(service)),
        MigrationNews::Expired => {
            match kernel::demote(service, false).await {
                Ok(_) => tracing::info!(
                    resource = service.name,
                    "demoted: the time of the migration is over, and nobody uses it here"
                ),
                Err(refusal) => tracing::debug!(
                    resource = service.name,
                    "the time of the migration is over, still Primary: {refusal}"
                ),
            }
            Ok(())
        }
    };
    if let Err(error) = result {
        tracing::warn!(
            resource = service.name,
            %error,
            "not noted: a daemon that is restarted in this migration does not go on with it"
        );
    }
}

/// Beside the remembered configurations, in a directory that a reboot empties.
fn file(service: &Service) -> PathBuf {
    let run = service.kernel.run_directory();
    run.join("migrations").join(&*service.name)
}

/// When it is over, in seconds since 1970. Nothing if there is none.
fn read(path: &Path) -> io::Result<Option<SystemTime>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text?,
    };
    let seconds = text.trim().parse::<u32>();
    let seconds = seconds.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Some(UNIX_EPOCH + Duration::from_secs(u64::from(seconds))))
}

fn write(path: &Path, until: SystemTime) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let since = until.duration_since(UNIX_EPOCH).unwrap_or_default();
    fs::write(path, format!("{}\n", since.as_secs()))
}

fn forget(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Shorter ones would be over before anything could be moved.
const SHORTEST_SECONDS: u32 = 10;

/// A day.
const LONGEST_SECONDS: u32 = 86_400;

/// How long a migration goes on at least after a restart of the daemon.
const LEAST: Duration = Duration::from_secs(30);
