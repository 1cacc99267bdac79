//! The report for people: medians, and ratios within each round. It judges nothing.

use std::env;
use std::fmt::Write;
use std::thread;

use super::job::Job;
use super::sample::{Figures, Sample};
use super::target::{QUORUM, RAW, RBD};
use crate::statistics::Spread;

/// Under which circumstances it was measured.
#[derive(Debug)]
pub(super) struct Setting {
    /// How often.
    pub(super) rounds: u64,
    /// How long each time.
    pub(super) seconds: u64,
    /// Size of each device.
    pub(super) bytes: u64,
    /// Versions of other people's programs that took part.
    pub(super) versions: Vec<String>,
    /// What a reader must know lest a figure mislead.
    pub(super) warnings: Vec<String>,
    /// What joined the nodes.
    pub(super) network: &'static str,
    /// What the files were on.
    pub(super) file_system: String,
    /// What the comparison of each target's replicas found.
    pub(super) replicas: Vec<String>,
}

/// A figure that is compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figure {
    /// Its name, for programs.
    pub(super) name: &'static str,
    /// Its name, for people.
    pub(super) words: &'static str,
    /// It of one measurement.
    pub(super) of: fn(&Figures) -> Option<f64>,
}

/// What targets are compared by.
pub(super) const COMPARED: &[Figure] = &[
    Figure {
        name: "iops",
        words: "IOPS",
        of: |figures| Some(figures.measured.per_second()),
    },
    Figure {
        name: "latency_us",
        words: "p50 latency",
        of: |figures| Some(figures.measured.latency_us),
    },
    Figure {
        name: "daemon_us",
        words: "CPU per operation",
        of: |figures| figures.daemon_us,
    },
];

/// Which targets are set against which.
pub(super) const PAIRS: &[(&str, &str)] = &[(RBD, QUORUM), (RBD, RAW), (QUORUM, RAW)];

/// The whole report.
pub(super) fn markdown(
    setting: &Setting,
    jobs: &[&Job],
    targets: &[&'static str],
    samples: &[Sample],
) -> String {
    let mut text = String::new();
    write_all(&mut text, setting, jobs, targets, samples).map_or_else(|_| String::new(), |()| text)
}

fn write_all(
    out: &mut String,
    setting: &Setting,
    jobs: &[&Job],
    targets: &[&'static str],
    samples: &[Sample],
) -> std::fmt::Result {
    write_setting(out, setting, samples)?;
    writeln!(out, "## Medians of {} round(s)\n", setting.rounds)?;
    write!(
        out,
        "| job | target | IOPS (min–max) | MB/s | p50 µs | p99 µs "
    )?;
    writeln!(out, "| daemons' CPU µs/op | fio's CPU µs/op |")?;
    writeln!(out, "|---|---|---:|---:|---:|---:|---:|---:|")?;
    for job in jobs {
        for target in targets {
            write_row(out, job, target, samples)?;
        }
    }
    write_comparison(out, jobs, targets, samples)?;
    writeln!(out)?;
    for job in jobs {
        writeln!(out, "- `{}`: {}", job.name, job.words)?;
    }
    writeln!(
        out,
        "- fs4k_qd1 counts one write and its flush as one operation; its p50 is the time both take \
         on average, its p99 the write's alone."
    )
}

fn write_setting(out: &mut String, setting: &Setting, samples: &[Sample]) -> std::fmt::Result {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let foreign = Spread::of(samples.iter().map(|sample| sample.figures.foreign_cores));
    writeln!(out, "## Setting\n")?;
    writeln!(
        out,
        "- {} with {cores} core(s); {}",
        env::consts::ARCH,
        setting.versions.join("; ")
    )?;
    writeln!(
        out,
        "- files of {} MiB on {}; nodes joined by {}",
        setting.bytes >> 20,
        setting.file_system,
        setting.network
    )?;
    writeln!(
        out,
        "- {} round(s) of {} s per job and target, interleaved; {} measurements",
        setting.rounds,
        setting.seconds,
        samples.len()
    )?;
    for warning in &setting.warnings {
        writeln!(out, "- **{warning}**")?;
    }
    if let Some(foreign) = foreign {
        writeln!(
            out,
            "- other programs kept {:.2} cores busy (median; {:.2}–{:.2})",
            foreign.median, foreign.least, foreign.most
        )?;
    }
    if !setting.replicas.is_empty() {
        writeln!(
            out,
            "- replicas compared at the end: {}",
            setting.replicas.join(", ")
        )?;
    }
    writeln!(out)
}

fn write_row(out: &mut String, job: &Job, target: &str, samples: &[Sample]) -> std::fmt::Result {
    let spread = |of: fn(&Figures) -> Option<f64>| spread(samples, job, target, of);
    write!(out, "| {} | {target} ", job.name)?;
    match spread(|figures| Some(figures.measured.per_second())) {
        Some(rate) => write!(
            out,
            "| {:.0} ({:.0}–{:.0}) ",
            rate.median, rate.least, rate.most
        )?,
        None => write!(out, "| – ")?,
    }
    let columns: [fn(&Figures) -> Option<f64>; 5] = [
        |figures| Some(figures.measured.bytes / figures.measured.taken_us),
        |figures| Some(figures.measured.latency_us),
        |figures| Some(figures.measured.slow_us),
        |figures| figures.daemon_us,
        |figures| Some(figures.client_us()),
    ];
    for of in columns {
        match spread(of) {
            Some(spread) => write!(out, "| {:.1} ", spread.median)?,
            None => write!(out, "| – ")?,
        }
    }
    writeln!(out, "|")
}

fn write_comparison(
    out: &mut String,
    jobs: &[&Job],
    targets: &[&'static str],
    samples: &[Sample],
) -> std::fmt::Result {
    if targets.len() < 2 {
        return Ok(());
    }
    writeln!(out, "\n## Ratios within a round: median (min–max)\n")?;
    write!(out, "| job | of |")?;
    for figure in COMPARED {
        write!(out, " {} |", figure.words)?;
    }
    writeln!(out, "\n|---|---|---:|---:|---:|")?;
    for job in jobs {
        for (one, other) in PAIRS {
            if targets.contains(one) && targets.contains(other) {
                write_ratios(out, job, one, other, samples)?;
            }
        }
    }
    Ok(())
}

fn write_ratios(
    out: &mut String,
    job: &Job,
    one: &str,
    other: &str,
    samples: &[Sample],
) -> std::fmt::Result {
    write!(out, "| {} | {one} / {other} |", job.name)?;
    for figure in COMPARED {
        match ratio(samples, job, one, other, figure.of) {
            Some(ratio) => write!(
                out,
                " {:.2} ({:.2}–{:.2}) |",
                ratio.median, ratio.least, ratio.most
            )?,
            None => write!(out, " – |")?,
        }
    }
    writeln!(out)
}

/// One figure of a target in a job, over all rounds.
pub(super) fn spread(
    samples: &[Sample],
    job: &Job,
    target: &str,
    of: fn(&Figures) -> Option<f64>,
) -> Option<Spread> {
    Spread::of(
        samples
            .iter()
            .filter(|sample| sample.job == job.name && sample.target == target)
            .filter_map(|sample| of(&sample.figures)),
    )
}

/// One target's figure divided by another's of the same round, over all rounds that have both.
pub(super) fn ratio(
    samples: &[Sample],
    job: &Job,
    one: &str,
    other: &str,
    of: fn(&Figures) -> Option<f64>,
) -> Option<Spread> {
    let figure = |target: &str, round: u64| {
        samples
            .iter()
            .find(|sample| {
                sample.job == job.name && sample.target == target && sample.round == round
            })
            .and_then(|sample| of(&sample.figures))
    };
    let rounds = samples.iter().map(|sample| sample.round).max()?;
    Spread::of((0..=rounds).filter_map(|round| {
        let divisor = figure(other, round).filter(|value| *value > 0.0)?;
        Some(figure(one, round)? / divisor)
    }))
}

#[cfg(test)]
mod tests;
