//! What two Primaries cost and bring: writers on both nodes at once, beside one writer alone, and
//! beside two devices that have nothing to do with each other.
//!
//! The figures to trust are the ratios within a round, whose order changes from round to round.

use std::env;
use std::ops::Range;
use std::path::PathBuf;
use std::thread;

use crate::files;
use crate::finding::{self, Finding, Target};
use crate::network::Network;
use crate::options::Options;
use crate::pair::{Pair, Primaries, Setup};
use crate::path::fio::{self, Aim, Measured};
use crate::path::job::{JOBS, Job};
use crate::place::Place;
use crate::programs;

/// Measures and prints the report.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    if arguments.iter().any(|word| word == "--help") {
        print!("{USAGE}");
        return Ok(());
    }
    let plan = Plan::new(arguments)?;
    fio::check_installed(true)?;
    let programs = programs::build(plan.programs.as_deref())?;
    let place = Place::new(&plan.parent)?;
    let (network, why_not) = Network::new();
    if let Some(why) = why_not {
        eprintln!("the nodes talk over the loopback interface: {why}");
    }
    let pair = |name, primaries| {
        Pair::start(&Setup {
            name,
            place: &place,
            network: &network,
            programs: &programs,
            bytes: plan.bytes,
            is_sparse: false,
            primaries,
        })
    };
    let mut bench = Bench {
        both: pair("both", Primaries::Both)?,
        first: pair("first", Primaries::First)?,
        second: pair("second", Primaries::Second)?,
        plan: &plan,
    };
    let mut findings = Vec::new();
    for name in DEPTHS {
        let job = JOBS.iter().find(|job| job.name == name);
        let job = job.ok_or_else(|| format!("there is no job {name}"))?;
        bench.measure(job, &mut findings)?;
    }
    bench.end()?;
    let file_system = programs::file_system(&plan.parent);
    drop(place);
    print!("{}", markdown(&plan, &file_system, &findings));
    Ok(())
}

/// What the options ask for.
#[derive(Debug)]
struct Plan {
    rounds: u64,
    seconds: u64,
    bytes: u64,
    parent: PathBuf,
    programs: Option<PathBuf>,
}

impl Plan {
    fn new(arguments: &[String]) -> Result<Self, String> {
        let mut options = Options::new(arguments);
        let plan = Self {
            rounds: options.number("--rounds", 7, 1)?,
            seconds: options.number("--seconds", 2, 1)?,
            bytes: options.number("--size", 128, 8)? << 20,
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

/// Three devices, all there all the time.
struct Bench<'a> {
    /// Both nodes Primary.
    both: Pair,
    /// One at a time, on the first node.
    first: Pair,
    /// The same on the second.
    second: Pair,
    plan: &'a Plan,
}

/// What one measurement is of.
#[derive(Clone, Copy, Debug)]
enum Case {
    /// A writer of a device with one Primary, on the first node.
    One,
    /// A writer of the shared device, on one of the nodes, the other Primary and idle.
    OneOfTwo(usize),
    /// Writers of devices with one Primary each, on each node.
    Strangers,
    /// Writers of the shared device on both nodes, each on a half of its own.
    Halves,
    /// The same, both on the same 1 MiB.
    Same,
}

const CASES: [Case; 6] = [
    Case::One,
    Case::OneOfTwo(0),
    Case::OneOfTwo(1),
    Case::Strangers,
    Case::Halves,
    Case::Same,
];

impl Bench<'_> {
    fn measure(&mut self, job: &Job, findings: &mut Vec<Finding>) -> Result<(), String> {
        let words = job.words;
        let mut cost = Finding::judged(
            format!("{words}: one writer, two Primaries / one Primary"),
            Target::AtLeast(0.95),
        );
        let mut halves = Finding::judged(
            format!(
                "{words}: halves from both nodes / two devices that share disk, link and cores"
            ),
            Target::AtLeast(0.9),
        );
        let mut sum = Finding::told(
            format!("{words}: halves from both nodes / the sum of each alone"),
            2,
        );
        let mut same = Finding::judged(
            format!("{words}: the same 1 MiB from both nodes / halves"),
            Target::AtLeast(0.2),
        );
        let mut rate = Finding::told(format!("{words}: halves from both nodes, a second"), 0);
        for round in 0..=self.plan.rounds {
            let mut found = [0.0; CASES.len()];
            for turn in 0..CASES.len() {
                let at = (turn + usize::try_from(round).unwrap_or(0)) % CASES.len();
                if let (Some(case), Some(found)) = (CASES.get(at), found.get_mut(at)) {
                    *found = self.take(*case, job, round)?;
                }
            }
            if round == 0 {
                continue; // it marked the regions
            }
            let [one, left, right, strangers, apart, together] = found;
            eprintln!(
                "  {} round {round}: {one:.0} alone, {left:.0} and {right:.0} with two, \
                 {strangers:.0} on two devices, {apart:.0} on halves, {together:.0} on the same",
                job.name
            );
            cost.add(left / one);
            halves.add(apart / strangers);
            sum.add(apart / (left + right));
            same.add(together / apart);
            rate.add(apart);
        }
        findings.extend([cost, halves, sum, same, rate]);
        Ok(())
    }

    /// Requests a second, of all writers together.
    fn take(&mut self, case: Case, job: &Job, round: u64) -> Result<f64, String> {
        for pair in [&mut self.both, &mut self.first, &mut self.second] {
            pair.check()?;
        }
        let bytes = self.plan.bytes;
        let (low, high) = (0..bytes / 2, bytes / 2..bytes);
        let seconds = self.plan.seconds;
        let writer = |pair: &Pair, node: usize, places: Range<u64>| {
            let aim = Aim::Nbd(pair.uri_of(node));
            let seed = 2 * round + node as u64 + 1;
            move || fio::run(&aim, job, places, seconds, seed)
        };
        let (one, other) = match case {
            Case::One => return Ok(writer(&self.first, 0, low)()?.per_second()),
            Case::OneOfTwo(node) => return Ok(writer(&self.both, node, low)()?.per_second()),
            Case::Strangers => (writer(&self.first, 0, low), writer(&self.second, 1, high)),
            Case::Halves => (writer(&self.both, 0, low), writer(&self.both, 1, high)),
            Case::Same => {
                let places = 0..SAME_BYTES;
                (
                    writer(&self.both, 0, places.clone()),
                    writer(&self.both, 1, places),
                )
            }
        };
        let both: [Result<Measured, String>; 2] = thread::scope(|scope| {
            [scope.spawn(one), scope.spawn(other)].map(|writer| {
                let ended = writer.join();
                ended.unwrap_or_else(|_| Err("a thread of the benchmark has died".to_owned()))
            })
        });
        let [one, other] = both;
        Ok(one?.per_second() + other?.per_second())
    }

    /// Stops everything and compares the disks of each device.
    fn end(self) -> Result<(), String> {
        for pair in [self.both, self.first, self.second] {
            let disks = pair.stop();
            if let Some(at) = files::first_difference(&disks, self.plan.bytes)? {
                let [one, other] = disks.map(|disk| disk.display().to_string());
                return Err(format!("{one} and {other} differ at byte {at}"));
            }
        }
        Ok(())
    }
}

fn markdown(plan: &Plan, file_system: &str, findings: &[Finding]) -> String {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let head = format!(
        "- {} with {cores} core(s) for both nodes and their clients; \
         disks of both on one {file_system}\n\
         - {} round(s) of {} s, interleaved; devices of {} MiB; the disks of each were the same \
         in the end\n\n",
        env::consts::ARCH,
        plan.rounds,
        plan.seconds,
        plan.bytes >> 20,
    );
    head + &finding::table(findings)
}

/// The jobs that are measured.
const DEPTHS: [&str; 2] = ["rw4k_qd1", "rw4k_qd32"];

/// Where both write at once.
const SAME_BYTES: u64 = 1 << 20;

const USAGE: &str = "\
usage: rbd-bench two [OPTIONS]        as root with a network of its own, else over loopback

  --rounds N       how often everything is measured, after once for nothing (7)
  --seconds N      how long each (2)
  --size N         MiB of each device (128)
  --dir DIR        where the devices' files are made (beside this program); not on tmpfs
  --programs DIR   where rbdd and rbdadm are (beside this program; cargo builds them)
";
