//! Runs seeds of the simulation and prints what they were, or what went wrong.
//!
//! `rbd-simulate [--profile NAME] [--trace] --seed N | --seeds A..B`

use std::process::ExitCode;
use std::time::Instant;

use rbd_tests::simulation::{Failure, Profile, Report, run, run_traced};

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|_| {})); // a panic of the engine is a failure like any other
    match Options::parse() {
        Ok(options) => options.run(),
        Err(text) => {
            eprintln!("rbd-simulate: {text}");
            eprintln!("usage: rbd-simulate [--profile NAME] [--trace] --seed N | --seeds A..B");
            ExitCode::from(1)
        }
    }
}

struct Options {
    profile: Profile,
    seeds: std::ops::Range<u64>,
    trace: bool,
    go_on: bool,
}

impl Options {
    fn parse() -> Result<Self, String> {
        let mut options = Self {
            profile: Profile::Swarm,
            seeds: 0..0,
            trace: false,
            go_on: false,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--trace" => options.trace = true,
                "--go-on" => options.go_on = true,
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
        let began = Instant::now();
        let mut total = Report::default();
        let mut failures = 0_u64;
        let count = self.seeds.end - self.seeds.start;
        for seed in self.seeds.clone() {
            if self.trace {
                let (result, trace) = run_traced(seed, self.profile);
                let text = result
                    .as_ref()
                    .err()
                    .map_or(trace, |failure| failure.trace.clone());
                for line in text {
                    println!("{line}");
                }
                println!("{}", summary(result));
                continue;
            }
            match run(seed, self.profile) {
                Ok(report) => total.add(&report),
                Err(failure) => {
                    failures += 1;
                    total.add(&failure.report);
                    println!("seed {seed}: {}", failure.text);
                    if !self.go_on {
                        let (_, trace) = retrace(seed, self.profile);
                        for line in trace.iter().rev().take(50).rev() {
                            println!("{line}");
                        }
                        return ExitCode::from(2);
                    }
                }
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        println!("{total}");
        println!("{count} seeds, {failures} failed, {seconds:.1} s");
        if failures == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(2)
        }
    }
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
