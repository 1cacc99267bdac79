//! One measurement: fio on one target, and what the daemons and everybody else used meanwhile.

use std::time::Instant;

use super::fio::{self, Measured};
use super::job::Job;
use super::target::Target;
use crate::cpu::CpuTime;

/// One measurement and what it is of.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    /// The target's name.
    pub(super) target: &'static str,
    /// The job's name.
    pub(super) job: &'static str,
    /// The round, from 0.
    pub(super) round: u64,
    /// What was found.
    pub(super) figures: Figures,
}

/// What one measurement found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Figures {
    /// What fio says.
    pub(super) measured: Measured,
    /// Processor time of all daemons of the target per operation; `None` if it has no daemon.
    pub(super) daemon_us: Option<f64>,
    /// How many cores programs that are none of ours kept busy: how disturbed the measurement was.
    pub(super) foreign_cores: f64,
}

impl Figures {
    /// Processor time of fio itself per operation.
    pub(super) fn client_us(&self) -> f64 {
        self.measured.client_us / self.measured.operations
    }
}

/// Takes one measurement.
pub(super) fn take(
    target: &mut dyn Target,
    job: &Job,
    bytes: u64,
    seconds: u64,
    round: u64,
) -> Result<Figures, String> {
    target.check()?;
    let pids = target.pids();
    let (daemons, everybody, start) = (
        CpuTime::of(&pids),
        CpuTime::everybody_user(),
        Instant::now(),
    );
    let measured = fio::run(&target.aim(), job, 0..bytes, seconds, round + 1)?;
    let daemons = CpuTime::of(&pids).since(daemons);
    let everybody = CpuTime::everybody_user() - everybody;
    let elapsed_us = start.elapsed().as_secs_f64() * 1e6;
    target.check()?;
    let foreign_us = (everybody - daemons.user - measured.client_user_us).max(0.0);
    Ok(Figures {
        measured,
        daemon_us: (!pids.is_empty()).then(|| daemons.total() / measured.operations),
        foreign_cores: foreign_us / elapsed_us,
    })
}
