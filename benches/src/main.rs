//! `rbd-bench`: how fast it is, measured beside what it is to be compared with.
//!
//! | Command | Measures |
//! |---|---|
//! | `engine` | the engine alone: what the decisions about one replicated write cost |
//! | `path` | two nodes end to end through NBD, beside the raw disk and qemu's quorum node |
//! | `resync` | how fast a resync is, what clients notice of it, and how much it copies |
//! | `two` | two Primaries: writers on both nodes at once, and what the mode costs one |
//!
//! It only ever reports: no figure makes it fail, so that a slow or busy machine breaks nothing.

#![forbid(unsafe_code)]

mod cpu;
mod engine_cost;
mod files;
mod finding;
mod network;
mod options;
mod pair;
mod path;
mod place;
mod process;
mod programs;
mod resync;
mod statistics;
mod two;

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments: Vec<String> = env::args().skip(1).collect();
    let named = arguments
        .first()
        .is_some_and(|word| !word.starts_with("--"));
    // The end-to-end benchmark is what people mean by "the benchmark".
    let command = if named {
        arguments.remove(0)
    } else if arguments
        .iter()
        .any(|word| word == "--help" || word == "-h")
    {
        "help".to_owned()
    } else {
        "path".to_owned()
    };
    let outcome = match command.as_str() {
        "engine" => engine_cost::run(&arguments),
        "path" => path::run(&arguments),
        "resync" => resync::run(&arguments),
        "two" => two::run(&arguments),
        place::JANITOR_COMMAND => place::janitor(&arguments),
        resync::LINK_SINK => resync::link_sink(&arguments),
        resync::LINK_SOURCE => resync::link_source(&arguments),
        "help" | "-h" => {
            print!("{USAGE}");
            Ok(())
        }
        other => Err(format!("unknown command '{other}'\n\n{USAGE}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("rbd-bench: {message}");
            ExitCode::FAILURE
        }
    }
}

const USAGE: &str = "\
usage: rbd-bench [path] [OPTIONS]     two nodes end to end (the default)
       rbd-bench engine [OPTIONS]     the engine alone
       rbd-bench resync [OPTIONS]     resyncs: speed, what clients notice, how much is copied
       rbd-bench two [OPTIONS]        two Primaries: writers on both nodes, and on one
";
