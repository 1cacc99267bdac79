//! The run directory: who owns it, and the sockets in it.
//!
//! Ownership is a lock on a file, held as long as the process lives, so it cannot be stale.
//! Nothing in the directory is touched before the lock is held.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode};

/// Why the daemon cannot start.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    /// Another daemon has the directory.
    #[error("another rbdd{} serves {}", pid_text(*pid), directory.display())]
    Taken {
        /// Its process id, if it was there to be read.
        pid: Option<u32>,
        /// The directory.
        directory: PathBuf,
    },
    /// A file, directory or socket cannot be had.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// How it failed.
        source: io::Error,
    },
    /// The kernel does not let us use io_uring.
    #[error("{0}")]
    Ring(String),
    /// Something the runtime needs is missing.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// How it failed.
        source: io::Error,
    },
    /// The host has no name and none was given.
    #[error("this host has no usable name; use --node")]
    NoName,
}

/// The run directory of this node, owned by this process.
#[derive(Debug)]
pub(super) struct RunDirectory {
    path: PathBuf,
    /// Holds the lock.
    _lock: File,
}

impl RunDirectory {
    /// Creates the directory if needed and takes the lock.
    pub(super) fn claim(path: &Path) -> Result<Self, StartError> {
        create_directory(path, 0o755)?;
        let lock_path = path.join("rbdd.lock");
        let failed = |what, source| StartError::File {
            what,
            path: lock_path.clone(),
            source,
        };
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(&lock_path)
            .map_err(|error| failed("open", error))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let pid = match lock.read_to_string(&mut text) {
                    Ok(_) => text.trim().parse().ok(),
                    Err(_) => None,
                };
                return Err(StartError::Taken {
                    pid,
                    directory: path.to_path_buf(),
                });
            }
            Err(error) => return Err(failed("lock", error.into())),
        }
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(|error| failed("write", error))?;
        Ok(Self {
            path: path.to_path_buf(),
            _lock: lock,
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Replaces the socket a dead daemon left behind by a new one with exactly this mode from its
    /// first instant on. To be called while the process has one thread: the mask is the process's.
    pub(super) fn bind(&self, name: &str, mode: u32) -> Result<UnixListener, StartError> {
        let path = self.path.join(name);
        let failed = |what, source| StartError::File {
            what,
            path: path.clone(),
            source,
        };
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("replace", error)),
        }
        let mask = rustix::process::umask(Mode::from_raw_mode(0o777 & !mode));
        let listener = UnixListener::bind(&path);
        rustix::process::umask(mask);
        let listener = listener.map_err(|error| failed("listen on", error))?;
        listener
            .set_nonblocking(true)
            .map_err(|error| failed("listen on", error))?;
        Ok(listener)
    }

    /// Takes the sockets away, so that a client of a stopped daemon sees that it is stopped.
    pub(super) fn remove_sockets(&self) {
        for name in [CONTROL_SOCKET, NBD_SOCKET] {
            if let Err(error) = fs::remove_file(self.path.join(name)) {
                tracing::debug!(%error, name, "socket not removed");
            }
        }
    }
}

/// Creates a directory and its parents; one that exists is left as it is.
pub(super) fn create_directory(path: &Path, mode: u32) -> Result<(), StartError> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|source| StartError::File {
            what: "create directory",
            path: path.to_path_buf(),
            source,
        })
}

fn pid_text(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (pid {pid})"))
}

/// Name of the control socket in the run directory.
pub(super) const CONTROL_SOCKET: &str = "rbdd.sock";

/// Name of the NBD socket in the run directory.
pub(super) const NBD_SOCKET: &str = "nbd.sock";
