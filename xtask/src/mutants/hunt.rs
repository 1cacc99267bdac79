//! Looking for one mutant: the unit tests until one fails, then the simulation.
//!
//! Limits are of processor time, not of time: a busy machine makes nothing endless.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::build::Programs;
use super::reach::Reach;
use super::results::Outcome;
use crate::process;

/// What a program is asked to do.
#[derive(Debug)]
pub(super) enum Asked<'a> {
    /// To run the mutant of this number.
    Mutant(u32),
    /// To write the functions it comes to into this file.
    Notes(&'a Path),
}

/// Runs against a mutant what comes to its function, until something is wrong; with
/// `skip_tests` the simulation only, with no seeds the tests only.
pub(super) fn hunt(
    programs: &Programs,
    reach: &Reach,
    id: u32,
    seeds: u64,
    skip_tests: bool,
) -> Result<Outcome, String> {
    let function = programs.functions.get(&id);
    let function = *function.ok_or_else(|| format!("mutant {id} has not been built"))?;
    let asked = Asked::Mutant(id);
    let batches = if skip_tests {
        Vec::new()
    } else {
        reach.batches(function)
    };
    for batch in batches {
        let limit = TEST_TIME + TIMES * batch.time;
        let mut command = tests(programs, &batch.program, &batch.names, &asked, limit)?;
        if let Some(outcome) = run_tests(&mut command)?.outcome(&batch.program) {
            return Ok(outcome);
        }
    }
    for (profile, time) in reach.profiles(function) {
        let limit = SIMULATION_TIME + TIMES * time;
        let mut command = simulation(programs, profile, seeds, &asked, limit);
        let Ok(answer) = process::capture(&mut command, DEADLINE + limit) else {
            return Ok(Outcome::Endless {
                place: profile.to_owned(),
            });
        };
        let failed = answer.stdout.lines().find(|line| line.starts_with("seed "));
        if let Some(outcome) = simulated(profile, answer.status, failed, &answer.stderr)? {
            return Ok(outcome);
        }
    }
    Ok(Outcome::Missed { seeds })
}

/// A run of these tests of a program.
pub(super) fn tests(
    programs: &Programs,
    program: &str,
    names: &[String],
    asked: &Asked<'_>,
    limit: Duration,
) -> Result<Command, String> {
    let built = programs.tests.get(program);
    let (path, directory) = built.ok_or_else(|| format!("{program} has not been built"))?;
    let mut command = limited(path, asked, limit);
    command
        .current_dir(directory)
        .args(["--test-threads=1", "--exact"]);
    command.args(names);
    Ok(command)
}

/// A run of the first seeds of a profile.
pub(super) fn simulation(
    programs: &Programs,
    profile: &str,
    seeds: u64,
    asked: &Asked<'_>,
    limit: Duration,
) -> Command {
    let mut command = limited(&programs.simulation, asked, limit);
    command.args(["--profile", profile, "--jobs", "1"]);
    command.args(["--seeds", &format!("0..{seeds}")]);
    command
}

/// How a run of tests ended.
enum Run {
    Failed(String),
    Ended(ExitStatus),
    /// It has not.
    Stuck,
}

impl Run {
    fn outcome(self, program: &str) -> Option<Outcome> {
        let is_endless = match &self {
            Self::Failed(_) => false,
            Self::Ended(status) => is_endless(*status),
            Self::Stuck => true,
        };
        match self {
            _ if is_endless => Some(Outcome::Endless {
                place: program.to_owned(),
            }),
            Self::Failed(test) => Some(Outcome::Tested { test }),
            Self::Ended(status) if !status.success() => Some(Outcome::Tested {
                test: format!("{program} ends with {status}"),
            }),
            Self::Ended(_) | Self::Stuck => None,
        }
    }
}

/// Runs tests until one fails.
fn run_tests(command: &mut Command) -> Result<Run, String> {
    let line = process::show(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot start `{line}`: {error}"))?;
    let (said, heard) = mpsc::channel();
    let output = child.stdout.take().map(BufReader::new);
    // It ends with the program, whose output then ends.
    thread::spawn(move || {
        let lines = output.into_iter().flat_map(BufRead::lines);
        for line in lines.map_while(Result::ok) {
            drop(said.send(line));
        }
    });
    let start = Instant::now();
    loop {
        match heard.recv_timeout(DEADLINE.saturating_sub(start.elapsed())) {
            Ok(line) => {
                if let Some(test) = failed_test(&line) {
                    process::end(&mut child);
                    return Ok(Run::Failed(test.to_owned()));
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                process::end(&mut child);
                return Ok(Run::Stuck);
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = child
        .wait()
        .map_err(|error| format!("cannot wait for `{line}`: {error}"))?;
    Ok(Run::Ended(status))
}

/// The test a line says has failed.
pub(super) fn failed_test(line: &str) -> Option<&str> {
    let test = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
    Some(test.strip_suffix(" - should panic").unwrap_or(test))
}

/// What a run of the simulation that ended so has found.
pub(super) fn simulated(
    profile: &str,
    status: ExitStatus,
    failed: Option<&str>,
    errors: &str,
) -> Result<Option<Outcome>, String> {
    let found = |what: &str| {
        Ok(Some(Outcome::Simulated {
            profile: profile.to_owned(),
            what: what.to_owned(),
        }))
    };
    match status.code() {
        Some(0) => Ok(None),
        Some(2) => found(failed.unwrap_or("a seed fails")),
        // The simulation's words for options it does not know.
        Some(1) => Err(format!("rbd-simulate: {}", errors.trim())),
        _ if is_endless(status) => Ok(Some(Outcome::Endless {
            place: profile.to_owned(),
        })),
        _ => found("the simulation dies"),
    }
}

/// A program that may not use more processor time than this, nor too much memory.
fn limited(program: &Path, asked: &Asked<'_>, limit: Duration) -> Command {
    let mut command = Command::new("sh");
    let seconds = limit.as_secs();
    let script = format!("ulimit -v {MOST_KIB}; ulimit -S -t {seconds}; exec \"$0\" \"$@\"");
    command.arg("-c").arg(script).arg(program);
    command.env("RUST_BACKTRACE", "0");
    match asked {
        Asked::Mutant(id) => command.env("RBD_MUTANT", id.to_string()),
        Asked::Notes(file) => command.env("RBD_MUTANT_NOTES", file),
    };
    command
}

/// Whether its processor time was used up.
fn is_endless(status: ExitStatus) -> bool {
    status.signal() == Some(SIGXCPU)
}

/// Every profile in which nothing may be found, those that find most first.
pub(super) const PROFILES: [&str; 17] = [
    "swarm",
    "power",
    "network",
    "disk",
    "calm",
    "recovery",
    "dual-faults",
    "volumes",
    "fencing",
    "scrub",
    "moves",
    "growth",
    "operator",
    "migration",
    "rivals",
    "dual",
    "sparse",
];

/// How many times longer than without a mutant something takes that has an end.
const TIMES: u32 = 10;

/// Tests and seeds that take hardly any time may take this.
const TEST_TIME: Duration = Duration::from_secs(5);
const SIMULATION_TIME: Duration = Duration::from_secs(10);

/// What one program may hold in memory, which is many times what it needs.
const MOST_KIB: u64 = 4 * 1_024 * 1_024;

/// For what uses no processor time and does not end either, on a machine that is very busy.
pub(super) const DEADLINE: Duration = Duration::from_secs(900);

const SIGXCPU: i32 = 24;
