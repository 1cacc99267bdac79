//! Judges a recorded history of a volume: could any order of the writes explain every answer?
//!
//! `rbd-check-history FILE`; `-` reads standard input. Exit codes: 0 it could, 1 it cannot be read,
//! 2 it could not. `docs/reliability/checkers.md` has the format.

use std::fs::File;
use std::io::{BufRead, BufReader, stdin};
use std::process::ExitCode;

use rbd_tests::check::check_history;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(name), None) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: rbd-check-history FILE|-");
        return ExitCode::from(1);
    };
    let text: Box<dyn BufRead> = if name == "-" {
        Box::new(stdin().lock())
    } else {
        match File::open(&name) {
            Ok(file) => Box::new(BufReader::new(file)),
            Err(error) => {
                eprintln!("rbd-check-history: {name}: {error}");
                return ExitCode::from(1);
            }
        }
    };
    match check_history(text) {
        Ok(summary) => {
            println!(
                "{name}: good: {} requests, {} answered, {} sectors read back, {} power losses",
                summary.requests, summary.answered, summary.sectors_read, summary.power_losses
            );
            ExitCode::SUCCESS
        }
        Err(text) => {
            println!("{name}: WRONG: {text}");
            ExitCode::from(2)
        }
    }
}
