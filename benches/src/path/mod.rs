//! Two nodes end to end, as a client sees them: fio through NBD over a Unix socket, in turn with
//! the raw file and with what a user of qemu has today.
//!
//! All targets are up all the time, and each job is run on each in turn, in an order that rotates
//! and turns round, so that whatever else the machine does hits all alike. The figures to trust are
//! the ratios within a round.

pub(crate) mod fio;
pub(crate) mod job;
mod json;
mod report;
mod sample;
mod target;

use std::fs;
use std::path::PathBuf;

use crate::files;
use crate::network::Network;
use crate::options::Options;
use crate::place::Place;
use crate::programs::{self, file_system};
use job::{JOBS, Job};
use report::Setting;
use sample::Sample;
use target::{Ground, Target};

/// Measures and prints the report.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    if arguments.iter().any(|word| word == "--help") {
        print!("{USAGE}");
        return Ok(());
    }
    let plan = Plan::new(arguments)?;
    check_tools(&plan)?;
    let programs = if plan.targets.contains(&target::RBD) {
        programs::build(plan.programs.as_deref())?
    } else {
        PathBuf::new()
    };
    let place = Place::new(&plan.parent)?;
    let (network, why_loopback) = Network::new();
    if let Some(why) = why_loopback {
        eprintln!("no namespaces of our own ({why}); the loopback interface serves instead");
    }
    let ground = Ground {
        place: &place,
        network: &network,
        bytes: plan.bytes,
        programs: &programs,
    };
    let file_system = file_system(&plan.parent);
    eprintln!("making {} and filling their files", plan.targets.join(", "));
    let mut targets = Vec::new();
    for name in &plan.targets {
        targets.push((*name, target::start(name, &ground)?));
    }
    let seconds = plan.rounds * plan.seconds * (plan.jobs.len() * targets.len()) as u64;
    eprintln!("measuring for about {} minute(s)", seconds.div_ceil(60));
    let samples = measure(&plan, &mut targets);
    let replicas = compare(targets, plan.bytes);
    let setting = Setting {
        rounds: plan.rounds,
        seconds: plan.seconds,
        bytes: plan.bytes,
        versions: versions(&plan),
        warnings: warnings(&plan, &network, &file_system),
        network: network.words(),
        file_system,
        replicas,
    };
    drop(place);
    print!(
        "{}",
        report::markdown(&setting, &plan.jobs, &plan.targets, &samples)
    );
    if let Some(file) = &plan.json {
        let text = json::document(&setting, &plan.jobs, &plan.targets, &samples);
        fs::write(file, text)
            .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    }
    Ok(())
}

/// What the options ask for.
#[derive(Debug)]
struct Plan {
    rounds: u64,
    seconds: u64,
    bytes: u64,
    parent: PathBuf,
    jobs: Vec<&'static Job>,
    targets: Vec<&'static str>,
    json: Option<PathBuf>,
    programs: Option<PathBuf>,
}

impl Plan {
    fn new(arguments: &[String]) -> Result<Self, String> {
        let mut options = Options::new(arguments);
        let rounds = options.number("--rounds", 5, 1)?;
        let seconds = options.number("--seconds", 4, 1)?;
        let mebibytes = options.number("--size", 512, 16)?;
        let parent = match options.text("--dir")? {
            Some(directory) => PathBuf::from(directory),
            None => programs::own_directory()?,
        };
        let names: Vec<&str> = JOBS.iter().map(|job| job.name).collect();
        let chosen = options.choice("--jobs", &names)?;
        let targets = options.choice("--targets", target::NAMES)?;
        let json = options.text("--json")?.map(PathBuf::from);
        let programs = options.text("--programs")?.map(PathBuf::from);
        options.end()?;
        Ok(Self {
            rounds,
            seconds,
            bytes: mebibytes << 20,
            parent,
            jobs: JOBS
                .iter()
                .filter(|job| chosen.contains(&job.name))
                .collect(),
            targets,
            json,
            programs,
        })
    }
}

fn check_tools(plan: &Plan) -> Result<(), String> {
    let needs_nbd = plan.targets.iter().any(|name| *name != target::RAW);
    fio::check_installed(needs_nbd)?;
    target::check_installed(&plan.targets)
}

/// Every job on every target, round after round.
fn measure(plan: &Plan, targets: &mut [(&'static str, Box<dyn Target>)]) -> Vec<Sample> {
    let mut samples = Vec::new();
    for round in 0..plan.rounds {
        for (at, job) in plan.jobs.iter().enumerate() {
            eprint!("round {} of {}, {}:", round + 1, plan.rounds, job.name);
            for index in order(targets.len(), at, round) {
                let Some((name, target)) = targets.get_mut(index) else {
                    continue;
                };
                match sample::take(target.as_mut(), job, plan.bytes, plan.seconds, round) {
                    Ok(figures) => {
                        eprint!(" {name} {:.0}/s", figures.measured.per_second());
                        samples.push(Sample {
                            target: name,
                            job: job.name,
                            round,
                            figures,
                        });
                    }
                    Err(error) => eprint!(" {name} failed ({error})"),
                }
            }
            eprintln!();
        }
    }
    samples
}

/// Who comes when: each round of a job begins with the next target, and every second round goes
/// backwards.
fn order(targets: usize, job: usize, round: u64) -> Vec<usize> {
    let round = usize::try_from(round).unwrap_or_default();
    let mut order: Vec<usize> = (0..targets).collect();
    order.rotate_left((job + round / 2) % targets.max(1));
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

/// Stops every target, and says what the comparison of its replicas found.
fn compare(targets: Vec<(&'static str, Box<dyn Target>)>, bytes: u64) -> Vec<String> {
    let mut found = Vec::new();
    for (name, target) in targets {
        let Some(files) = target.stop() else { continue };
        found.push(match files::first_difference(&files, bytes) {
            Ok(None) => format!("{name}: identical"),
            Ok(Some(offset)) => format!("{name}: DIFFERENT from byte {offset} on"),
            Err(error) => format!("{name}: {error}"),
        });
    }
    found.sort();
    found
}

fn versions(plan: &Plan) -> Vec<String> {
    let mut versions = vec![fio::version()];
    if plan.targets.contains(&target::QUORUM) {
        versions.push(target::quorum_version());
    }
    versions
}

fn warnings(plan: &Plan, network: &Network, file_system: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    if file_system == "tmpfs" {
        warnings.push("the files are in memory: no disk is measured".to_owned());
    }
    let has_quorum = plan.targets.contains(&target::QUORUM);
    if has_quorum
        && *network == Network::Loopback
        && target::replies_late(&target::quorum_version())
    {
        warnings.push(
            "this qemu, before 8.1, waits for delayed acknowledgements on the loopback interface: \
             its figures at depths above 1 say nothing; as root they would"
                .to_owned(),
        );
    }
    warnings
}

const USAGE: &str = "\
usage: rbd-bench [path] [OPTIONS]

  --rounds N       how often everything is measured (5)
  --seconds N      how long each measurement takes (4)
  --size N         MiB of each device (512)
  --dir DIR        where the devices' files are made (beside this program); not on tmpfs
  --jobs A,B       only these: rw4k_qd1, rw4k_qd32, rr4k_qd1, rr4k_qd32, sw1m_qd4, fs4k_qd1
  --targets A,B    only these: raw, rbd, quorum
  --programs DIR   where rbdd and rbdadm are (beside this program; cargo builds them)
  --json FILE      also write every figure to FILE
";

#[cfg(test)]
mod tests {
    use super::order;

    #[test]
    fn over_the_rounds_every_target_has_every_place() {
        for place in 0..3 {
            let mut seen: Vec<usize> = (0..6).map(|round| order(3, 1, round)[place]).collect();
            seen.sort_unstable();
            assert_eq!(seen, [0, 0, 1, 1, 2, 2], "place {place}");
        }
        assert_ne!(order(2, 0, 0), order(2, 0, 1));
    }
}
