//! Hurts a pair of nodes round after round and checks after each that nothing was lost.
//!
//! ```text
//! rbd-torture [--rounds N] [--seconds T] [--seed S] [--faults]
//! ```
//!
//! It ends after N rounds (100), or with the round in which T seconds have passed.
//! The programs are looked for in `RBD_TEST_BIN_DIR`, else where Cargo has built them. With
//! `RBD_KEEP` set, the nodes' directories stay. With `--faults`, nodes lose their power and disks
//! fail as well, which needs root and FUSE.

use std::env;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rbd_tests::process::{Chance, Torture};

fn main() -> ExitCode {
    let options = match read(env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!(
                "rbd-torture: {error}\nusage: rbd-torture [--rounds N] [--seconds T] [--seed S] \
                 [--faults]"
            );
            return ExitCode::from(1);
        }
    };
    let Options {
        rounds,
        seconds,
        seed,
        faults,
    } = options;
    let rounds = match (rounds, seconds) {
        (None, None) => 100,
        (rounds, _) => rounds.unwrap_or(u64::MAX),
    };
    let longest = Duration::from_secs(seconds.unwrap_or(u64::MAX));
    let more = if faults { " --faults" } else { "" };
    println!("rbd-torture --seed {seed}{more}");
    let torture = if faults {
        Torture::with_faults("rbd-torture --faults", seed)
    } else {
        Some(Torture::new(seed))
    };
    let Some(mut torture) = torture else {
        return ExitCode::from(1);
    };
    let begin = Instant::now();
    for round in 1..=rounds {
        let start = Instant::now();
        let story = torture.round();
        println!(
            "round {round}: {story} ({} ms)",
            start.elapsed().as_millis()
        );
        if begin.elapsed() >= longest {
            break;
        }
    }
    println!("survived {}", torture.finish());
    ExitCode::SUCCESS
}

struct Options {
    rounds: Option<u64>,
    seconds: Option<u64>,
    seed: u64,
    faults: bool,
}

fn read(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        rounds: None,
        seconds: None,
        seed: Chance::seed(),
        faults: false,
    };
    while let Some(argument) = arguments.next() {
        let number = match &*argument {
            "--rounds" => options.rounds.insert(0),
            "--seconds" => options.seconds.insert(0),
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
