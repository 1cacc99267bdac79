//! The voice of rbd: everything behind the `rbdadm` command line.
//!
//! It parses, asks and prints. State lives in the daemon, decisions in the engine; the only things
//! done here with the own hands are those that happen while a volume is not up, such as
//! `create-md` (see `offline`).
//!
//! | Room | Does |
//! |---|---|
//! | `arguments`, `target` | the command line, and what a target on it means |
//! | [`config`] | the configuration language: from files to what one node has to do |
//! | `configuration`, `site` | that answer in the form the commands use |
//! | `command` | each command, from arguments to printed lines |
//! | `daemon` | one conversation with `rbdd` |
//! | `offline` | metadata of volumes that are not up |
//! | `undo` | files that keep what a split brain's loser gives up |
//! | `status` | states as text, JSON and advice |
//! | `check` | mistakes in the configuration and on the machine |
//! | `session`, `step`, `console`, `failure` | one run: output, dry run, errors, exit code |

use std::ffi::OsString;

mod arguments;
mod check;
mod command;
pub mod config;
mod configuration;
mod console;
mod daemon;
mod failure;
mod offline;
mod session;
mod site;
mod status;
mod step;
mod target;
mod undo;

/// Runs `rbdadm` with these arguments, the program's name first, and gives its exit code.
pub fn run(arguments: impl Iterator<Item = OsString>) -> u8 {
    let mut console = console::Console::of_process();
    let arguments = match arguments::parse(arguments) {
        Ok(arguments) => arguments,
        Err(answer) if answer.is_mistake => {
            console.complain_raw(&answer.text);
            return 1;
        }
        Err(answer) => {
            console.print(&answer.text);
            return 0;
        }
    };
    if arguments.global.version {
        console.print(&version());
        return 0;
    }
    let Some(command) = arguments.command else {
        console.complain("rbdadm: a command is missing; rbdadm --help lists them");
        return 1;
    };
    let mut session = session::Session::new(arguments.global, console);
    command::run(&mut session, command);
    session.finish()
}

/// The command line as `clap` knows it, for what is generated from it.
#[must_use]
pub fn command_line() -> clap::Command {
    <arguments::Arguments as clap::CommandFactory>::command()
}

/// What `--version` prints: assignments a shell can evaluate.
fn version() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let numbers = version.split(['.', '-']).take(3);
    let code = numbers.fold(0_u32, |code, number| {
        code << 8 | number.parse::<u32>().unwrap_or(0) & 0xff
    });
    format!(
        "RBDADM_VERSION={version}\nRBDADM_VERSION_CODE=0x{code:06x}\nRBDADM_API_VERSION={}\n",
        rbd_protocol::control::frame::VERSION
    )
}
