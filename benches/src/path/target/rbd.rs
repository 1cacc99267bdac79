//! Two `rbdd`.

use std::path::PathBuf;

use super::{Ground, Target};
use crate::pair::{Pair, Primaries, Setup};
use crate::path::fio::Aim;

/// Two nodes, the first of them Primary.
#[derive(Debug)]
pub(super) struct Rbd(Pair);

impl Rbd {
    /// Makes files and daemons.
    pub(super) fn start(ground: &Ground<'_>) -> Result<Self, String> {
        let setup = Setup {
            name: "rbd",
            place: ground.place,
            network: ground.network,
            programs: ground.programs,
            bytes: ground.bytes,
            is_sparse: false,
            primaries: Primaries::First,
        };
        Pair::start(&setup).map(Self)
    }
}

impl Target for Rbd {
    fn aim(&self) -> Aim {
        Aim::Nbd(self.0.uri())
    }

    fn pids(&self) -> Vec<u32> {
        self.0.pids()
    }

    fn check(&mut self) -> Result<(), String> {
        self.0.check()
    }

    fn stop(self: Box<Self>) -> Option<[PathBuf; 2]> {
        Some(self.0.stop())
    }
}
