//! Runs seeds of the simulation and prints what they were, or what went wrong.
//!
//! `rbd-simulate [--profile NAME] [--trace] [--go-on] [--jobs N] [--json] [--shrink] [--matrix]
//! [--marks] [--figures]
//! [--without LIST] --seed N | --seeds A..B`
//!
//! `--profile all` runs the seeds in each profile in which nothing may be found.

use std::process::ExitCode;

use rbd_tests::simulation::{
    Batch, Failure, Mark, Outcome, Profile, Report, Visited, Without, run_without, shrink,
};

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|_| {})); // a panic of the engine is a failure like any other
    match Options::parse() {
        Ok(options) => options.run(),
        Err(text) => {
            eprintln!("rbd-simulate: {text}");
            eprintln!(
                "usage: rbd-simulate [--profile NAME] [--trace] [--go-on] [--jobs N] [--json] \
                 [--matrix] [--marks] [--figures] \
                 [--shrink] [--without LIST] --seed N | --seeds A..B"
            );
            ExitCode::from(1)
        }
    }
}

struct Options {
    profiles: Vec<Profile>,
    seeds: std::ops::Range<u64>,
    trace: bool,
    go_on: bool,
    matrix: bool,
    marks: bool,
    figures: bool,
    jobs: usize,
    json: bool,
    shrink: bool,
    without: Without,
}

impl Options {
    fn parse() -> Result<Self, String> {
        let mut options = Self {
            profiles: vec![Profile::Swarm],
            seeds: 0..0,
            trace: false,
            go_on: false,
            matrix: false,
            marks: false,
            figures: false,
            jobs: 0,
            json: false,
            shrink: false,
            without: Without::default(),
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--trace" => options.trace = true,
                "--figures" => options.figures = true,
                "--shrink" => options.shrink = true,
                "--without" => options.without = value()?.parse()?,
                "--go-on" => options.go_on = true,
                "--matrix" => options.matrix = true,
                "--marks" => options.marks = true,
                "--json" => options.json = true,
                "--jobs" => {
                    let text = value()?;
                    options.jobs = text
                        .parse()
                        .map_err(|_| format!("{text:?} is no number of jobs"))?;
                }
                "--profile" => {
                    let name = value()?;
                    let named = || Profile::named(&name).map(|profile| vec![profile]);
                    options.profiles = match name.as_str() {
                        "all" => Profile::without_findings().collect(),
                        _ => named().ok_or(format!("no profile {name:?}"))?,
                    };
                }
                "--seed" => {
                    let seed = number(&value()?)?;
                    options.seeds = seed..seed + 1;
                }
                "--seeds" => {
                    let range = value()?;
                    let (from, to) = range.split_once("..").ok_or("a range is A..B")?;
                    options.seeds = number(from)?..number(to)?;
                }
                other => return Err(format!("unknown option {other:?}")),
            }
        }
        if options.seeds.is_empty() {
            return Err("which seeds?".into());
        }
        Ok(options)
    }

    fn run(self) -> ExitCode {
        let mut good = true;
        let mut visited = Visited::default();
        for profile in &self.profiles {
            if self.trace {
                self.seeds
                    .clone()
                    .for_each(|seed| self.show(*profile, seed));
            } else if self.shrink || self.without != Without::default() {
                good &= self.run_parts(*profile);
            } else {
                good &= self.run_profile(*profile, &mut visited);
            }
        }
        if self.matrix {
            println!("{visited}");
            let (_, missing) = visited.missing();
            let all = self.profiles.len() > 1;
            good &= visited.impossible().is_empty() && (missing.is_empty() || !all);
        }
        code(good)
    }

    fn run_profile(&self, profile: Profile, visited: &mut Visited) -> bool {
        let mut batch = Batch::new(profile, self.seeds.clone());
        batch.go_on = self.go_on;
        batch.jobs = self.jobs;
        batch.visits = self.matrix;
        let outcome = batch.run();
        for failure in &outcome.failures {
            println!("seed {}: {}", failure.report.seed, failure.text);
        }
        if let Some(first) = outcome.failures.first().filter(|_| !self.go_on) {
            self.show_end(profile, first.report.seed, &self.without);
        }
        if let Some(met) = &outcome.total.visited {
            visited.add(met);
        }
        if self.marks {
            println!("{}", outcome.total.marks);
        }
        if self.figures {
            println!("{}", figures(&outcome));
        }
        if self.json {
            println!("{}", outcome.to_json(profile));
        } else {
            println!("{}: {outcome}", profile.name());
        }
        outcome.failures.is_empty()
    }

    /// Runs seeds with something left out, or leaves out of each what can be.
    fn run_parts(&self, profile: Profile) -> bool {
        let mut good = true;
        for seed in self.seeds.clone() {
            if !self.shrink {
                let (result, _) = run_without(seed, profile, &self.without, false);
                good &= result.is_ok();
                println!("seed {seed}: {}", summary(result));
                continue;
            }
            let Some(shrunk) = shrink(seed, profile, &self.without, SHRINK_RUNS) else {
                println!("seed {seed} does not fail");
                continue;
            };
            good = false;
            self.show_end(profile, seed, &shrunk.without);
            println!(
                "seed {seed}: {} ({} events, {} runs to find it)",
                shrunk.failure.text, shrunk.failure.report.events, shrunk.runs
            );
        }
        good
    }

    /// The last things that happened in a failing seed, and how to see them again.
    fn show_end(&self, profile: Profile, seed: u64, without: &Without) {
        let (result, trace) = run_without(seed, profile, without, true);
        let trace = result.err().map_or(trace, |failure| failure.trace);
        for line in trace.iter().rev().take(50).rev() {
            println!("{line}");
        }
        let profile = profile.name();
        let mut line = format!("rbd-simulate --profile {profile} --seed {seed} --trace");
        if *without != Without::default() {
            line += &format!(" --without {without}");
        }
        println!("again: {line}");
    }

    fn show(&self, profile: Profile, seed: u64) {
        let (result, trace) = run_without(seed, profile, &self.without, true);
        let text = result
            .as_ref()
            .err()
            .map_or(trace, |failure| failure.trace.clone());
        for line in text {
            println!("{line}");
        }
        println!("{}", summary(result));
    }
}

/// What `cargo xtask campaign` writes down, on one line.
fn figures(outcome: &Outcome) -> serde_json::Value {
    let total = &outcome.total;
    serde_json::json!({
        "seeds": outcome.seeds,
        "failed": outcome.failures.len(),
        "events": total.events,
        "operations": total.operations,
        "virtual_ms": total.virtual_ms,
        "faults": total.faults,
        "marks": Mark::ALL.map(|mark| (format!("{mark:?}"), total.marks.count(mark))).to_vec(),
        "processor_seconds": outcome.processor_seconds,
    })
}

fn code(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(2)
    }
}

fn summary(result: Result<Report, Box<Failure>>) -> String {
    match result {
        Ok(report) => report.to_string(),
        Err(failure) => format!("FAILED: {}", failure.text),
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not a number"))
}

/// How many runs a search for a smaller failure may take.
const SHRINK_RUNS: u64 = 1_000;
