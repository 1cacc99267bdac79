//! Developer commands: `cargo xtask check | test | demo | bench | zoo | mutants | campaign |
//! fuzz | torture | lab | package | coverage`.
//!
//! Everything here drives other programs (cargo, `rbdd`, `rbdadm`, NBD clients) and reports what
//! they said. It shares no code with the crates it examines, so it cannot hide their mistakes,
//! and it depends on almost nothing, so that it builds in seconds.

#![forbid(unsafe_code)]

mod bench;
mod campaign;
mod check;
mod coverage;
mod demo;
mod fuzz;
mod lab;
mod mutants;
mod nbd_client;
mod package;
mod process;
mod scratch;
mod suite;
mod torture;
mod workspace;
mod zoo;

use std::env;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.is_empty() {
        eprint!("{USAGE}");
        return ExitCode::FAILURE;
    }
    let command = arguments.remove(0);
    let outcome = match command.as_str() {
        "check" => check::run(&arguments),
        "test" => suite::run(&arguments),
        "demo" => demo::run(&arguments),
        "bench" => bench::run(&arguments),
        "zoo" => zoo::run(&arguments),
        "mutants" => mutants::run(&arguments),
        "campaign" => campaign::run(&arguments),
        "fuzz" => fuzz::run(&arguments),
        "torture" => torture::run(&arguments),
        "lab" => lab::run(&arguments),
        "package" => package::run(&arguments),
        "coverage" => coverage::run(&arguments),
        demo::JANITOR_COMMAND => demo::janitor(&arguments),
        "help" | "-h" | "--help" => {
            print!("{USAGE}");
            Ok(())
        }
        other => Err(format!("unknown command '{other}'\n\n{USAGE}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask {command}: {message}");
            ExitCode::FAILURE
        }
    }
}

const USAGE: &str = "\
usage: cargo xtask COMMAND

  check            format, lints, documents, purity, tidy: what every commit must pass
  test [OPTIONS]   every test this machine can run
      --quick      leave out the tests that start real daemons
      --list       name the tests instead of running them
  demo             two nodes on this machine mirror a device, lose each other and fail over
      --verbose    print every command line in full
  bench [ARGS]     the end-to-end benchmark; ARGS are handed on to it
  bench resync     resyncs beside disk and link, what clients notice, how much is copied (root)
  bench lab        the kernel device beside DRBD and md over nbd, in two emulated machines (root)
      --rounds N, --seconds N, --size MEGABYTES    how often, how long each time, how large
  zoo [NAME…]      breaks the engine on purpose, in a copy, and sees that the simulation notices
      --seeds N    how many seeds a mutant has (5000)
      --profile P  use this profile of the simulation, not the one each mutant names
      --list       name the mutants instead
      --unfound    those nobody has found so far; the manual says why
      --json FILE, --table FILE    write down what came of it
  mutants          every change cargo-mutants can think of in protocol and engine, all in one build:
                   who notices, the unit tests or the simulation; goes on where it stopped
      --part P     only those in protocol, or in engine
      --file PART  only those in files with PART in their path
      --seeds N    how many seeds of each profile of the simulation (40); 0: unit tests only
      --minutes N  begin no other after so long
      --list       name the mutants instead
      --json FILE  write down what came of it
  campaign         runs fresh seeds of the simulation and adds a row to the ledger
      --minutes N  for so long (10)
      --from SEED  from this seed on, instead of one nobody has run
  fuzz TARGET|all  libFuzzer on a target, or on one after the other, on all cores
      --minutes N  how long for each (5)
      --keep       instead, take the few inputs that reach most into the committed corpus
  torture          real daemons, clients, disks and links hurt at random, round after round
      --minutes N  for so long (10): half of it with power cuts and failing disks (root)
      --seed S     with this seed, instead of one nobody has run
  lab test [NAME…] tests that need a kernel with ublk, in an emulated machine (QEMU; root to build)
  lab up           only builds the machine's disk and kernel, in target/lab or $RBD_LAB_CACHE
  lab down         throws them away
  package [deb|rpm]  a Debian package and an RPM, in target/package (dpkg-deb, cargo-generate-rpm)
  coverage         which lines of protocol and engine the tests inside one process run
      --uncovered [PART]  show those nobody ran, of files with PART in their path
      --seeds N    how many seeds of each profile of the simulation (20)
";
