//! `completions`: what a shell needs to complete command lines of `rbdadm`.

use clap_complete::Shell;

use crate::session::Session;

/// Prints the script for a shell.
pub(super) fn print(session: &mut Session, shell: Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut crate::command_line(), "rbdadm", &mut script);
    session.console.print(&String::from_utf8_lossy(&script));
}
