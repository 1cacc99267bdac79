//! Hurts a pair of nodes round after round and checks after each that nothing was lost.
//!
//! ```text
//! rbd-torture [--rounds N] [--seed S]
//! ```
//!
//! The programs are looked for in `RBD_TEST_BIN_DIR`, else where Cargo has built them. With
//! `RBD_KEEP` set, the nodes' directories stay.

use std::env;
use std::process::ExitCode;
use std::time::Instant;

use rbd_tests::process::{Chance, Torture};

fn main() -> ExitCode {
    let (rounds, seed) = match read(env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("rbd-torture: {error}\nusage: rbd-torture [--rounds N] [--seed S]");
            return ExitCode::from(1);
        }
    };
    println!("rbd-torture --rounds {rounds} --seed {seed}");
    let mut torture = Torture::new(seed);
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

fn read(mut arguments: impl Iterator<Item = String>) -> Result<(u64, u64), String> {
    let (mut rounds, mut seed) = (100, Chance::seed());
    while let Some(argument) = arguments.next() {
        let number = match &*argument {
            "--rounds" => &mut rounds,
            "--seed" => &mut seed,
            other => return Err(format!("unknown option '{other}'")),
        };
        let value = arguments.next().unwrap_or_default();
        *number = value
            .parse()
            .map_err(|_| format!("{argument} takes a number, not '{value}'"))?;
    }
    Ok((rounds, seed))
}
