//! Hurts a pair of nodes round after round and checks after each that nothing was lost.
//!
//! ```text
//! rbd-torture [--rounds N] [--seed S] [--faults]
//! ```
//!
//! The programs are looked for in `RBD_TEST_BIN_DIR`, else where Cargo has built them. With
//! `RBD_KEEP` set, the nodes' directories stay. With `--faults`, nodes lose their power and disks
//! fail as well, which needs root and FUSE.

use std::env;
use std::process::ExitCode;
use std::time::Instant;

use rbd_tests::process::{Chance, Torture};

fn main() -> ExitCode {
    let options = match read(env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!(
                "rbd-torture: {error}\nusage: rbd-torture [--rounds N] [--seed S] [--faults]"
            );
            return ExitCode::from(1);
        }
    };
    let Options {
        rounds,
        seed,
        faults,
    } = options;
    let more = if faults { " --faults" } else { "" };
    println!("rbd-torture --rounds {rounds} --seed {seed}{more}");
    let torture = if faults {
        Torture::with_faults("rbd-torture --faults", seed)
    } else {
        Some(Torture::new(seed))
    };
    let Some(mut torture) = torture else {
        return ExitCode::from(1);
    };
    for round in 1..=rounds {
        let start = Instant::now();
        let story = torture.round();
        println!(
            "round {round}: {story} ({} ms)",
            start.elapsed().as_millis()
        );
    }
    println!("survived {}", torture.finish());
    ExitCode::SUCCESS
}

struct Options {
    rounds: u64,
    seed: u64,
    faults: bool,
}

fn read(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        rounds: 100,
        seed: Chance::seed(),
        faults: false,
    };
    while let Some(argument) = arguments.next() {
        let number = match &*argument {
            "--rounds" => &mut options.rounds,
            "--seed" => &mut options.seed,
            "--faults" => {
                options.faults = true;
                continue;
            }
            other => return Err(format!("unknown option '{other}'")),
        };
        let value = arguments.next().unwrap_or_default();
        *number = value
            .parse()
            .map_err(|_| format!("{argument} takes a number, not '{value}'"))?;
    }
    Ok(options)
}
