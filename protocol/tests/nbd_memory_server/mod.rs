//! A small NBD server for tests: a thread for each connection, a socket in a directory of its own.
//!
//! Its threads and files never outlive the [`MemoryServer`].

pub(crate) mod disk;

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use disk::Disk;
use tempfile::TempDir;

/// A server on a socket in a directory of its own.
pub(crate) struct MemoryServer {
    pub(crate) disk: Arc<Disk>,
    directory: TempDir,
    stopping: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl MemoryServer {
    pub(crate) fn start(disk: Disk) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("nbd.sock")).unwrap();
        let disk = Arc::new(disk);
        let shared = Arc::clone(&disk);
        let stopping = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stopping);
        let accepting = Some(thread::spawn(move || accept(&listener, &shared, &told)));
        Self {
            disk,
            directory,
            stopping,
            accepting,
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("nbd.sock")
    }

    /// A file beside the socket, gone with it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The address of an export in the form libnbd and qemu both take.
    pub(crate) fn uri(&self, export: &str) -> String {
        format!("nbd+unix:///{export}?socket={}", self.socket().display())
    }
}

impl Drop for MemoryServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // One more connection, only so that the accepting thread looks up.
        drop(UnixStream::connect(self.socket()));
        if let Some(accepting) = self.accepting.take() {
            drop(accepting.join());
        }
    }
}

/// Accepts until told to stop, then waits for the connections, whose clients are gone by then.
fn accept(listener: &UnixListener, disk: &Arc<Disk>, stopping: &AtomicBool) {
    let mut connections = Vec::new();
    for stream in listener.incoming() {
        if stopping.load(Ordering::SeqCst) {
            break;
        }
        let disk = Arc::clone(disk);
        connections.push(thread::spawn(move || {
            if let Err(error) = disk.serve(stream.unwrap()) {
                eprintln!("connection: {error}");
            }
        }));
    }
    for connection in connections {
        drop(connection.join());
    }
}
