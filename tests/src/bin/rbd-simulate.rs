//! Runs seeds of the simulation and prints what they were, or what went wrong.
//!
//! `rbd-simulate [--profile NAME] [--trace] [--go-on] [--jobs N] [--matrix] [--marks]
//! [--json] --seed N | --seeds A..B`

use std::process::ExitCode;

use rbd_tests::simulation::{Batch, Failure, Mark, Outcome, Profile, Report, run_traced};

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|_| {})); // a panic of the engine is a failure like any other
    match Options::parse() {
        Ok(options) => options.run(),
        Err(text) => {
            eprintln!("rbd-simulate: {text}");
            eprintln!(
                "usage: rbd-simulate [--profile NAME] [--trace] [--go-on] [--jobs N] [--matrix] \
                 [--marks] [--json] --seed N | --seeds A..B"
            );
            ExitCode::from(1)
        }
    }
}

struct Options {
    profile: Profile,
    seeds: std::ops::Range<u64>,
    trace: bool,
    go_on: bool,
    matrix: bool,
    marks: bool,
    json: bool,
    jobs: usize,
}

impl Options {
    fn parse() -> Result<Self, String> {
        let mut options = Self {
            profile: Profile::Swarm,
            seeds: 0..0,
            trace: false,
            go_on: false,
            matrix: false,
            marks: false,
            json: false,
            jobs: 0,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--trace" => options.trace = true,
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
                    options.profile =
                        Profile::named(&name).ok_or(format!("no profile {name:?}"))?;
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
        if self.trace {
            for seed in self.seeds {
                show(seed, self.profile);
            }
            return ExitCode::SUCCESS;
        }
        let mut batch = Batch::new(self.profile, self.seeds);
        batch.go_on = self.go_on;
        batch.jobs = self.jobs;
        batch.visits = self.matrix;
        let outcome = batch.run();
        for failure in &outcome.failures {
            println!("seed {}: {}", failure.report.seed, failure.text);
        }
        if let Some(first) = outcome.failures.first().filter(|_| !self.go_on) {
            let (_, trace) = retrace(first.report.seed, self.profile);
            for line in trace.iter().rev().take(50).rev() {
                println!("{line}");
            }
        }
        if let Some(visited) = &outcome.total.visited {
            println!("{visited}");
        }
        if self.marks {
            println!("{}", outcome.total.marks);
        }
        if self.json {
            println!("{}", figures(&outcome));
        }
        println!("{outcome}");
        if outcome.failures.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(2)
        }
    }
}

fn show(seed: u64, profile: Profile) {
    let (result, trace) = run_traced(seed, profile);
    let text = result
        .as_ref()
        .err()
        .map_or(trace, |failure| failure.trace.clone());
    for line in text {
        println!("{line}");
    }
    println!("{}", summary(result));
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

fn retrace(seed: u64, profile: Profile) -> (String, Vec<String>) {
    let (result, trace) = run_traced(seed, profile);
    match result {
        Ok(_) => ("it did not fail again".into(), trace),
        Err(failure) => (failure.text, failure.trace),
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
