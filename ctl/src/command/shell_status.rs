//! `sh-status`: the state of resources for scripts that have no parser but the shell.
//!
//! One question to the daemon for each resource named, and none to the configuration.

use super::states::{complain_of, dry_run, names};
use crate::failure::Failure;
use crate::session::Session;
use crate::status::{shell_block_without_state, shell_blocks};

/// `sh-status`
pub(super) fn run(session: &mut Session, words: &[String]) {
    let names = names(session, words, "sh-status");
    let is_about_all = words.is_empty() || words.iter().any(|word| word == "all");
    if names.is_empty() && !is_about_all {
        return;
    }
    if session.options.dry_run {
        return dry_run(session, &names);
    }
    let fetched = match Session::fetch_named(&session.daemon, &names) {
        Ok(fetched) => fetched,
        Err(failure) => {
            if let Failure::Unreachable {
                nobody_listens: true,
                ..
            } = failure
            {
                say_of_each(session, &names, "Unreachable");
            }
            return session.fail(&failure);
        }
    };
    for status in &fetched.statuses {
        session.console.print(&shell_blocks(status));
    }
    let missing = names.iter().filter(|name| !fetched.knows(name));
    let missing: Vec<String> = missing.cloned().collect();
    say_of_each(session, &missing, "Unconfigured");
    complain_of(session, fetched.silent);
}

fn say_of_each(session: &mut Session, names: &[String], known: &'static str) {
    for name in names {
        let block = shell_block_without_state(name, known);
        session.console.print(&block);
    }
}
