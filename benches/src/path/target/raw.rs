//! The backing file by itself, without any daemon.

use std::path::PathBuf;

use super::{Ground, Target};
use crate::path::fio::Aim;

/// A file of the same size on the same file system as everybody else's.
#[derive(Debug)]
pub(super) struct Raw {
    file: PathBuf,
}

impl Raw {
    /// Makes the file.
    pub(super) fn start(ground: &Ground<'_>) -> Result<Self, String> {
        let file = ground.filled_file("raw", ground.bytes)?;
        Ok(Self { file })
    }
}

impl Target for Raw {
    fn aim(&self) -> Aim {
        Aim::File(self.file.display().to_string())
    }

    fn pids(&self) -> Vec<u32> {
        Vec::new()
    }

    fn check(&mut self) -> Result<(), String> {
        Ok(())
    }

    fn stop(self: Box<Self>) -> Option<[PathBuf; 2]> {
        None
    }
}
