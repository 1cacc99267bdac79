//! What clients do meanwhile: fio writes blocks of 4 KiB at random places.

use std::process::Command;
use std::time::Duration;

use super::Ground;
use crate::pair::Pair;
use crate::path::fio::{self, Measured};
use crate::path::job::Kind;
use crate::process::{self, Daemon};

/// A load.
#[derive(Clone, Debug)]
pub(super) struct Load {
    uri: String,
    /// How many writes at a time.
    depth: u64,
    /// How long, in seconds.
    seconds: u64,
    /// Writes a second; `None` for as many as there can be.
    rate: Option<f64>,
    /// The places are in the first so many bytes.
    span: u64,
    seed: u64,
}

impl Load {
    /// As many as there can be, all over the device.
    pub(super) fn new(ground: &Ground<'_>, pair: &Pair, round: u64) -> Self {
        Self {
            uri: pair.uri(),
            depth: ground.plan.depth,
            seconds: ground.plan.seconds,
            rate: None,
            span: ground.plan.bytes,
            seed: round + 1,
        }
    }

    /// Half of what there can be.
    pub(super) fn half(ground: &Ground<'_>, pair: &Pair) -> Result<Self, String> {
        let whole = Self::new(ground, pair, 0);
        // The first moments mark the regions of the device.
        whole.run()?;
        let most = whole.run()?.per_second();
        let rate = (most / 2.0).max(1.0);
        eprintln!("  {most:.0} writes a second are the most, half of it is the load");
        Ok(Self {
            rate: Some(rate),
            ..whole
        })
    }

    /// The same in the first `span` bytes only, until it is ended, or for so many seconds.
    pub(super) fn until_ended(self, span: u64, seconds: u64) -> Self {
        Self {
            span,
            seconds,
            ..self
        }
    }

    /// The same load in another round.
    pub(super) fn in_round(&self, round: u64) -> Self {
        Self {
            seed: round + 1,
            ..self.clone()
        }
    }

    /// Runs it to its end.
    pub(super) fn run(&self) -> Result<Measured, String> {
        let deadline = Duration::from_secs(self.seconds + PATIENCE_SECONDS);
        let finished = process::capture(&mut self.command(), deadline)?;
        fio::outcome(&finished, Kind::Write)
    }

    /// Starts it; it ends after its time, or with the value.
    pub(super) fn start(&self, ground: &Ground<'_>) -> Result<Daemon, String> {
        let log = ground.place.run().join("load.log");
        Daemon::start("fio", self.command(), &log)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("fio");
        command
            .args(["--name=load", "--ioengine=nbd", "--rw=randwrite", "--bs=4k"])
            .arg(format!("--uri={}", self.uri))
            .arg(format!("--iodepth={}", self.depth))
            .arg(format!("--size={}", self.span))
            .arg(format!("--runtime={}", self.seconds))
            .arg(format!("--randseed={}", self.seed))
            .args(["--time_based", "--norandommap", "--thread"])
            .args(["--lat_percentiles=1", "--clat_percentiles=0"])
            .args(["--percentile_list=50:99", "--output-format=json"]);
        if let Some(rate) = self.rate {
            command.arg(format!("--rate_iops={rate:.0}"));
        }
        command
    }
}

/// How much longer than asked a run may take before it counts as hung.
const PATIENCE_SECONDS: u64 = 60;
