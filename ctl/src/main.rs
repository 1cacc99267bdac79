//! The `rbdadm` program: see the library of the same name.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(rbdadm::run(std::env::args_os()))
}
