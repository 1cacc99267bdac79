//! Runs fio once and reads what it measured.

use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::job::{Job, Kind};
use crate::process::{self, Finished};

/// What fio is pointed at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Aim {
    /// A file, by io_uring and past the page cache.
    File(String),
    /// An NBD export, by its URI.
    Nbd(String),
}

/// What fio measured in one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Measured {
    /// Requests done; for commits the writes, their flushes not counted.
    pub(crate) operations: f64,
    /// Bytes they moved.
    pub(crate) bytes: f64,
    /// How long it ran, in microseconds.
    pub(crate) taken_us: f64,
    /// Half of the requests took at most so long, from submission to completion; for commits the
    /// time of one commit on average, because fio does not tell a flush's time everywhere.
    pub(crate) latency_us: f64,
    /// All but one of a hundred requests took at most so long; for commits that of the write.
    pub(crate) slow_us: f64,
    /// Processor time of fio itself.
    pub(crate) client_us: f64,
    /// The part of it in user space.
    pub(crate) client_user_us: f64,
}

impl Measured {
    /// Requests per second.
    pub(crate) fn per_second(&self) -> f64 {
        self.operations / self.taken_us * 1e6
    }
}

/// One run: this long, in these bytes of the aim, with random places drawn from `seed`.
pub(crate) fn run(
    aim: &Aim,
    job: &Job,
    places: Range<u64>,
    seconds: u64,
    seed: u64,
) -> Result<Measured, String> {
    let mut command = Command::new("fio");
    command
        .arg(format!("--name={}", job.name))
        .args(job.options);
    match aim {
        Aim::File(path) => {
            command.args(["--ioengine=io_uring", "--direct=1"]);
            command.arg(format!("--filename={path}"));
        }
        Aim::Nbd(uri) => {
            command.arg("--ioengine=nbd").arg(format!("--uri={uri}"));
        }
    }
    if job.kind == Kind::Commit {
        // fio's NBD client makes a flush of fsync only; on a file, servers use fdatasync.
        command.arg(match aim {
            Aim::File(_) => "--fdatasync=1",
            Aim::Nbd(_) => "--fsync=1",
        });
    }
    command
        .arg(format!("--offset={}", places.start))
        .arg(format!("--size={}", places.end - places.start))
        .arg(format!("--runtime={seconds}"))
        .arg(format!("--randseed={seed}"))
        .args(["--time_based", "--norandommap", "--thread"])
        .args(["--lat_percentiles=1", "--clat_percentiles=0"])
        .args(["--percentile_list=50:99", "--output-format=json"]);
    let deadline = Duration::from_secs(seconds + PATIENCE_SECONDS);
    outcome(&process::capture(&mut command, deadline)?, job.kind)
}

/// What an fio that has ended has measured.
pub(crate) fn outcome(finished: &Finished, kind: Kind) -> Result<Measured, String> {
    if !finished.status.success() {
        let all = format!("{}\n{}", finished.stderr, finished.stdout);
        let said = all.lines().find(|line| line.contains("fio:"));
        return Err(format!(
            "fio ended with {}: {}",
            finished.status,
            said.unwrap_or("it said nothing").trim()
        ));
    }
    parse(&finished.stdout, kind)
}

/// One clear line if fio or its NBD engine is missing.
pub(crate) fn check_installed(needs_nbd: bool) -> Result<(), String> {
    if process::find("fio").is_none() {
        return Err("fio is not installed (package fio)".to_owned());
    }
    let mut command = Command::new("fio");
    let engines = process::capture(command.arg("--enghelp"), Duration::from_secs(20))?;
    if needs_nbd && !engines.stdout.split_whitespace().any(|word| word == "nbd") {
        return Err("this fio was built without its nbd engine (libnbd)".to_owned());
    }
    Ok(())
}

/// Which fio it is.
pub(crate) fn version() -> String {
    version_of(Path::new("fio"))
}

/// The first line a program prints about its version.
pub(crate) fn version_of(program: &Path) -> String {
    let mut command = Command::new(program);
    let said = process::succeed(command.arg("--version"), Duration::from_secs(20));
    let said = said.unwrap_or_default();
    said.lines().next().unwrap_or_default().trim().to_owned()
}

fn parse(output: &str, kind: Kind) -> Result<Measured, String> {
    // Notes may come before the JSON.
    let json = output.find('{').and_then(|at| output.get(at..));
    let json: Value = serde_json::from_str(json.unwrap_or_default())
        .map_err(|error| format!("fio did not print JSON: {error}"))?;
    let job = &json["jobs"][0];
    let side = match kind {
        Kind::Read => &job["read"],
        Kind::Write | Kind::Commit => &job["write"],
    };
    let number = |value: &Value, what: &str| {
        value
            .as_f64()
            .ok_or_else(|| format!("fio's answer has no {what}"))
    };
    let operations = number(&side["total_ios"], "number of requests")?;
    let taken_us = 1e3 * number(&side["runtime"], "run time")?;
    if operations < 1.0 || taken_us < 1.0 {
        return Err("fio finished no request at all".to_owned());
    }
    let percentiles = &side["lat_ns"]["percentile"];
    let half_us = number(&percentiles["50.000000"], "median latency")? / 1e3;
    let slow_us = number(&percentiles["99.000000"], "99th percentile")? / 1e3;
    let user = number(&job["usr_cpu"], "user time")?;
    let system = number(&job["sys_cpu"], "system time")?;
    Ok(Measured {
        operations,
        bytes: number(&side["io_bytes"], "number of bytes")?,
        taken_us,
        latency_us: match kind {
            Kind::Commit => taken_us / operations,
            Kind::Read | Kind::Write => half_us,
        },
        slow_us,
        client_us: (user + system) / 100.0 * taken_us,
        client_user_us: user / 100.0 * taken_us,
    })
}

/// How much longer than asked a run may take before it counts as hung.
const PATIENCE_SECONDS: u64 = 60;

#[cfg(test)]
mod tests;
