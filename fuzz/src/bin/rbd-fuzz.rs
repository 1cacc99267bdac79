//! Runs one input, or many mutations of the corpus, through a target, without libFuzzer.
//!
//! ```text
//! rbd-fuzz TARGET FILE...            run these inputs
//! rbd-fuzz TARGET --mutants N SEED   run N mutations of the corpus
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use rbd_fuzz::mutate::{Chance, mutant};
use rbd_fuzz::{Target, corpus, find};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(count) => {
            println!("{count} inputs");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("rbd-fuzz: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<u64, String> {
    let (name, rest) = arguments
        .split_first()
        .ok_or("usage: rbd-fuzz TARGET FILE... | TARGET --mutants N SEED")?;
    let target = find(name).ok_or_else(|| format!("no target {name}"))?;
    if let [option, count, seed] = rest
        && option == "--mutants"
    {
        let number = |text: &String| {
            text.parse::<u64>()
                .map_err(|error| format!("{text}: {error}"))
        };
        return mutants(target, number(count)?, number(seed)?);
    }
    let mut count = 0;
    for path in rest {
        let bytes = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
        (target.run)(&bytes);
        count += 1;
    }
    Ok(count)
}

fn mutants(target: &Target, count: u64, seed: u64) -> Result<u64, String> {
    let known = corpus::read(target.name).map_err(|error| format!("the corpus: {error}"))?;
    let known: Vec<Vec<u8>> = known.into_iter().map(|(_, bytes)| bytes).collect();
    let mut chance = Chance::new(seed);
    for number in 0..count {
        let bytes = mutant(&known, target.longest, &mut chance);
        if catch_unwind(AssertUnwindSafe(|| (target.run)(&bytes))).is_err() {
            let path = format!("{}-{seed}-{number}", target.name);
            std::fs::write(&path, &bytes).map_err(|error| format!("{path}: {error}"))?;
            return Err(format!("mutation {number}, kept in {path}"));
        }
    }
    Ok(count)
}
