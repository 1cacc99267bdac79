//! The first process of a namespace, held so that it cannot be mistaken for another: a machine that
//! ends by itself gives its number back, and within minutes something else has it, of another test
//! or of this machine.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process;

use rustix::fs::{Mode, OFlags, openat};
use rustix::process::{Signal, pidfd_send_signal};

/// A process, dead or alive.
#[derive(Debug)]
pub(super) struct FirstProcess {
    number: u32,
    /// Its directory in `/proc`. Whatever is looked up in it fails once the process is gone.
    directory: File,
}

impl FirstProcess {
    /// The first child of a process, if there is one.
    pub(super) fn child_of(parent: u32) -> Option<Self> {
        fs::read_dir("/proc")
            .ok()?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(Self::hold)
            .find(|process| process.parent() == Some(parent))
    }

    /// The number that others know it by while it lives.
    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// A path as the process sees it; nothing is there when it is gone.
    pub(super) fn seen(&self, path: &Path) -> PathBuf {
        let root = self.place("root");
        root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// What `nsenter` has to be told to enter its namespaces of these kinds.
    pub(super) fn namespaces(&self, kinds: &[(&str, &str)]) -> Vec<String> {
        let word = |(option, file): &(&str, &str)| {
            let place = self.place(&format!("ns/{file}"));
            format!("--{option}={}", place.display())
        };
        kinds.iter().map(word).collect()
    }

    /// It is dead afterwards, if it was not before.
    pub(super) fn kill(&self) {
        // Fails only for a process that has ended.
        let _ended = pidfd_send_signal(&self.directory, Signal::KILL);
    }

    fn hold(number: u32) -> Option<Self> {
        let directory = File::open(format!("/proc/{number}")).ok()?;
        Some(Self { number, directory })
    }

    fn parent(&self) -> Option<u32> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(self.directory.as_fd(), "stat", flags, Mode::empty()).ok()?;
        let mut stat = String::new();
        File::from(file).read_to_string(&mut stat).ok()?;
        let (_, rest) = stat.rsplit_once(')')?;
        rest.split_whitespace().nth(1)?.parse().ok()
    }

    /// A path that any process of this machine can use.
    fn place(&self, name: &str) -> PathBuf {
        let (own, descriptor) = (process::id(), self.directory.as_raw_fd());
        PathBuf::from(format!("/proc/{own}/fd/{descriptor}/{name}"))
    }
}
