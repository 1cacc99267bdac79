//! How fast a resync is, what clients notice of it, and how much is copied after what.
//!
//! Each part measures what it says beside what it is to be compared with, in the same round, in an
//! order that changes from round to round. The figures to trust are the ratios within a round.
//! Whether a target is met is printed; nothing fails because of it. A part that ends in sync
//! compares both disks, and fails if they differ.

mod copied;
mod huge;
mod idle;
mod load;
mod log;
mod noticed;
mod report;
mod yardstick;

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::cpu::CpuTime;
use crate::files;
use crate::finding::Finding;
use crate::network::Network;
use crate::options::Options;
use crate::pair::{Pair, Primaries, Setup};
use crate::path::fio;
use crate::place::Place;
use crate::process;
use crate::programs;
pub(crate) use yardstick::{LINK_SINK, LINK_SOURCE, link_sink, link_source};

/// Measures and prints the report.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    if arguments.iter().any(|word| word == "--help") {
        print!("{USAGE}");
        return Ok(());
    }
    let plan = Plan::new(arguments)?;
    fio::check_installed(true)?;
    for program in ["tc", "dd"] {
        if process::find(program).is_none() {
            return Err(format!("{program} is not installed"));
        }
    }
    let programs = programs::build(plan.programs.as_deref())?;
    let place = Place::new(&plan.parent)?;
    let (network, why_not) = Network::new();
    if let Some(why) = why_not {
        return Err(format!(
            "needs root and network namespaces, to limit a link nobody else uses: {why}"
        ));
    }
    let ground = Ground {
        plan: &plan,
        place: &place,
        network: &network,
        programs: &programs,
    };
    let mut findings = Vec::new();
    let mut failed = Vec::new();
    for part in &plan.parts {
        eprintln!("{part}:");
        let measure = PARTS.iter().find(|(name, _)| name == part);
        let Some((_, measure)) = measure else {
            continue;
        };
        // One that cannot be measured is no reason to lose the others.
        let outcome = measure(&ground, &mut findings);
        if let Err(error) = outcome.and_then(|()| network.shape(None)) {
            eprintln!("  failed: {error}");
            failed.push(*part);
            findings.push(Finding::failed(part, error));
        }
    }
    let file_system = programs::file_system(&plan.parent);
    drop(place);
    print!("{}", report::markdown(&plan, &file_system, &findings));
    if failed.is_empty() {
        return Ok(());
    }
    Err(format!("failed: {}", failed.join(", ")))
}

/// What the options ask for.
#[derive(Debug)]
struct Plan {
    rounds: u64,
    seconds: u64,
    absence: u64,
    bytes: u64,
    rate: u64,
    depth: u64,
    parts: Vec<&'static str>,
    parent: PathBuf,
    programs: Option<PathBuf>,
}

impl Plan {
    fn new(arguments: &[String]) -> Result<Self, String> {
        let mut options = Options::new(arguments);
        let names: Vec<&'static str> = PARTS.iter().map(|(name, _)| *name).collect();
        let plan = Self {
            rounds: options.number("--rounds", 5, 1)?,
            seconds: options.number("--seconds", 4, 1)?,
            absence: options.number("--absence", 10, 1)?,
            bytes: options.number("--size", 1024, 128)? << 20,
            rate: options.number("--rate", 1000, 1)?,
            depth: options.number("--depth", 4, 1)?,
            parts: options.choice("--parts", &names)?,
            parent: match options.text("--dir")? {
                Some(directory) => PathBuf::from(directory),
                None => programs::own_directory()?,
            },
            programs: options.text("--programs")?.map(PathBuf::from),
        };
        options.end()?;
        Ok(plan)
    }
}

/// What every part works with.
#[derive(Clone, Copy, Debug)]
struct Ground<'a> {
    plan: &'a Plan,
    place: &'a Place,
    network: &'a Network,
    programs: &'a std::path::Path,
}

impl<'a> Ground<'a> {
    /// A pair of nodes with disks of the planned size.
    fn setup(&self, name: &'static str) -> Setup<'a> {
        Setup {
            name,
            place: self.place,
            network: self.network,
            programs: self.programs,
            bytes: self.plan.bytes,
            is_sparse: false,
            primaries: Primaries::First,
        }
    }

    /// Stops a pair. If all has gone well, both nodes must be in sync, and their disks the same.
    fn end(&self, mut pair: Pair, outcome: Result<(), String>) -> Result<(), String> {
        let outcome = outcome.and_then(|()| pair.check());
        let files = pair.stop();
        let outcome = outcome.and_then(|()| self.compare(&files));
        remove(&files);
        outcome
    }

    fn compare(&self, files: &[PathBuf; 2]) -> Result<(), String> {
        match files::first_difference(files, self.plan.bytes)? {
            None => Ok(()),
            Some(at) => Err(format!("the nodes' disks differ from byte {at} on")),
        }
    }

    /// How many cores other programs keep busy while this one waits.
    fn foreign_cores(&self) -> f64 {
        let before = CpuTime::everybody_user();
        thread::sleep(LOOK);
        (CpuTime::everybody_user() - before) / 1e6 / LOOK.as_secs_f64()
    }
}

/// Gives back the room of disks that are not needed any more.
fn remove(files: &[PathBuf]) {
    for file in files {
        // What cannot be removed now goes with the directory.
        drop(std::fs::remove_file(file));
    }
}

type Part = fn(&Ground<'_>, &mut Vec<Finding>) -> Result<(), String>;

/// All parts, in the order of the report.
const PARTS: &[(&str, Part)] = &[
    ("idle", idle::measure),
    ("huge", huge::measure),
    ("noticed", noticed::measure_resync),
    ("crash", copied::measure_crashes),
    ("absence", copied::measure_absence),
    ("verify", noticed::measure_verify),
];

const LOOK: Duration = Duration::from_millis(500);

const USAGE: &str = "\
usage: rbd-bench resync [OPTIONS]     as root

  --rounds N       how often everything is measured (5)
  --seconds N      how long a load of clients is measured (4)
  --absence N      seconds a node is away under load (10)
  --size N         MiB of each device (1024)
  --rate N         megabits a second of the limited link (1000)
  --depth N        writes of clients at a time (4)
  --parts A,B      only these: idle, huge, noticed, crash, absence, verify
  --dir DIR        where the devices' files are made (beside this program); not on tmpfs
  --programs DIR   where rbdd and rbdadm are (beside this program; cargo builds them)
";
