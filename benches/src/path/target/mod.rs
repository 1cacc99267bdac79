//! What is measured: each target is a block device that fio can be pointed at, made of two files
//! and some daemons, except the raw file.

mod quorum;
mod raw;
mod rbd;

use std::path::{Path, PathBuf};

use super::fio::Aim;
use crate::files;
use crate::network::Network;
use crate::place::Place;
use crate::process;

/// A running target.
pub(super) trait Target {
    /// What fio is pointed at.
    fn aim(&self) -> Aim;

    /// Its daemons, on both nodes.
    fn pids(&self) -> Vec<u32>;

    /// An error if it no longer does what it is measured for: keeping two replicas.
    fn check(&mut self) -> Result<(), String>;

    /// Stops its daemons. The two replicas, if there are two, must then be identical.
    fn stop(self: Box<Self>) -> Option<[PathBuf; 2]>;
}

/// What every target is made from.
#[derive(Debug)]
pub(super) struct Ground<'a> {
    /// Where its files go.
    pub(super) place: &'a Place,
    /// How its nodes reach each other.
    pub(super) network: &'a Network,
    /// How much of it is used.
    pub(super) bytes: u64,
    /// Where `rbdd` and `rbdadm` are.
    pub(super) programs: &'a Path,
}

/// The targets' names, in the order of the report.
pub(super) const NAMES: &[&str] = &[RAW, RBD, QUORUM];

/// The backing file by itself: the most there is to be had.
pub(super) const RAW: &str = "raw";

/// Two `rbdd`.
pub(super) const RBD: &str = "rbd";

/// Two `qemu-storage-daemon`, the first with a `quorum` node over a file and the second's export.
pub(super) const QUORUM: &str = "quorum";

/// One clear line for the first program that is missing.
pub(super) fn check_installed(names: &[&str]) -> Result<(), String> {
    if names.contains(&QUORUM) && process::find(quorum::PROGRAM).is_none() {
        return Err(format!(
            "{} is not installed (package qemu-system-common); \
             --targets raw,rbd does without it",
            quorum::PROGRAM
        ));
    }
    Ok(())
}

/// What the peer's version is.
pub(super) fn quorum_version() -> String {
    super::fio::version_of(Path::new(quorum::PROGRAM))
}

/// Whether this version leaves the end of a reply to TCP's delayed acknowledgement: those before
/// 8.1 do. What cannot be read as a version is taken to be newer.
pub(super) fn replies_late(version: &str) -> bool {
    let mut words = version.split_whitespace();
    let number = words.find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let mut parts = number.unwrap_or_default().split('.').map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < (8, 1),
        _ => false,
    }
}

/// Makes a target and waits until it can be measured.
pub(super) fn start(name: &str, ground: &Ground<'_>) -> Result<Box<dyn Target>, String> {
    let started: Result<Box<dyn Target>, String> = match name {
        RAW => raw::Raw::start(ground).map(|target| Box::new(target) as _),
        RBD => rbd::Rbd::start(ground).map(|target| Box::new(target) as _),
        QUORUM => quorum::Quorum::start(ground).map(|target| Box::new(target) as _),
        other => Err(format!("unknown target '{other}'")),
    };
    started.map_err(|error| format!("target {name}: {error}"))
}

impl Ground<'_> {
    /// A new file among the disks, every byte of it written.
    fn filled_file(&self, name: &str, bytes: u64) -> Result<PathBuf, String> {
        let path = self.place.disks().join(name);
        files::fill(&path, bytes)?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests;
