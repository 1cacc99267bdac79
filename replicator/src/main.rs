//! `rbdd`, the daemon of one node: reads its command line and hands over to the control plane.

use std::process::ExitCode;

use clap::Parser;
use rbd_replicator::control::{self, Settings};

fn main() -> ExitCode {
    match Settings::try_parse() {
        Ok(settings) => control::run(settings),
        Err(error) => {
            let asked_for = !error.use_stderr();
            // Nothing useful can be done when even this cannot be printed.
            drop(error.print());
            if asked_for {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(1)
            }
        }
    }
}
