//! The power supply of a node whose disks can lose it.

use std::fs;
use std::path::Path;

use super::{Chance, Node};
use crate::faultfs::{Disks, FaultFs, Opening};

/// Disks under power, and how often that has come back.
#[derive(Debug)]
pub(super) struct Power {
    disks: FaultFs,
    host: u64,
    boots: u64,
}

impl Power {
    /// Serves the files in `media` as disks in `at`.
    ///
    /// # Panics
    /// When that is not possible.
    pub(super) fn mount(media: &Path, at: &Path, opening: Opening) -> Self {
        fs::create_dir_all(at).expect("a fresh directory can be written to");
        let disks = FaultFs::mount(media, at, opening)
            .unwrap_or_else(|error| panic!("cannot mount {}: {error}", at.display()));
        Self {
            disks,
            host: Chance::seed(),
            boots: 1,
        }
    }

    pub(super) fn disks(&self) -> &Disks {
        &self.disks
    }

    /// The power is back.
    pub(super) fn boot(&mut self) {
        self.boots += 1;
        self.disks.power_on();
    }

    /// What the daemon is to take for the name of this boot.
    pub(super) fn boot_id(&self) -> String {
        format!("{:016x}{:016x}", self.host, self.boots)
    }
}

impl Node {
    /// Its disks, to make them fail.
    ///
    /// # Panics
    /// When they cannot: see [`Setup::faulty`](super::Setup::faulty).
    #[must_use]
    pub fn disks(&self) -> &Disks {
        self.power().disks()
    }

    /// Whatever its disks had has passed, late as it is.
    pub fn heal(&self) {
        if let Some(power) = &self.power {
            power.disks().clear();
            power.disks().release();
        }
    }

    /// The power of these nodes goes, at the same moment, and comes back: their daemons are dead,
    /// their disks keep what chance leaves of the unflushed, and their next boot is another.
    ///
    /// # Panics
    /// When their disks are ordinary ones.
    pub fn cut_power(nodes: &mut [&mut Self], seed: u64) {
        nodes.iter().for_each(|node| node.strike());
        for (node, seed) in nodes.iter().zip(seed..) {
            node.disks().power_cut(seed);
        }
        for node in nodes {
            node.kill();
            if let Some(power) = &mut node.power {
                power.boot();
            }
        }
    }

    fn power(&self) -> &Power {
        self.power.as_ref().expect("the disks are faulty ones")
    }
}
