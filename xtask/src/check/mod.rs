//! `cargo xtask check`: what every commit must pass.
//!
//! All steps run even when one fails, so that one run shows everything there is to mend. It
//! changes no file.

mod imports;
mod invariants;
mod purity;
mod scripts;
mod step;
mod tidy;

#[cfg(test)]
mod tests;

use std::process::Command;
use std::time::Duration;

use crate::workspace::{self, Workspace};
use crate::{process, zoo};
use step::{Report, Verdict};
pub(crate) use tidy::source_files;

/// Runs every step and fails when one of them did.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    if let Some(argument) = arguments.first() {
        return Err(format!("check takes no argument, but got '{argument}'"));
    }
    let workspace = Workspace::load()?;
    let mut report = Report::default();
    report.step("format", format);
    report.step("lints", lints);
    report.step("documents", documents);
    report.step("purity of protocol and engine", || {
        purity::check(&workspace)
    });
    report.step("imports and dependencies", || imports::check(&workspace));
    report.step("tidy", || tidy::check(&workspace.root));
    report.step("zoo: mutants that still apply", || {
        Verdict::of_complaints(&zoo::check(&workspace.root))
    });
    report.step("invariants and who checks them", || {
        invariants::check(&workspace.root)
    });
    report.step("shell scripts", || scripts::check(&workspace.root));
    report.step("licences, sources and duplicates", || {
        deny(&["bans", "licenses", "sources"])
    });
    report.step("advisories", || deny(&["advisories"]));
    report.finish()
}

fn format() -> Verdict {
    if !cargo_has("fmt") {
        return Verdict::Skipped("rustfmt is not installed".to_owned());
    }
    Verdict::of(process::run(
        workspace::cargo().args(["fmt", "--all", "--", "--check"]),
    ))
}

fn lints() -> Verdict {
    if !cargo_has("clippy") {
        return Verdict::Skipped("clippy is not installed".to_owned());
    }
    let mut command = workspace::cargo();
    command.args([
        "clippy",
        "--quiet",
        "--keep-going",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]);
    Verdict::of(process::run(&mut command))
}

fn documents() -> Verdict {
    let mut command = workspace::cargo();
    command.env("RUSTDOCFLAGS", "-D warnings");
    command.args(["doc", "--quiet", "--keep-going", "--no-deps", "--workspace"]);
    Verdict::of(process::run(&mut command))
}

/// One run of cargo-deny. The advisories live on the network; a machine that cannot reach them
/// can still check the rest.
fn deny(what: &[&str]) -> Verdict {
    if !cargo_has("deny") {
        return Verdict::Skipped("cargo-deny is not installed".to_owned());
    }
    let mut command = workspace::cargo();
    command
        .args([
            "deny",
            "--color",
            "never",
            "check",
            "--hide-inclusion-graph",
        ])
        .args(what);
    let answer = match process::capture(&mut command, DENY_DEADLINE) {
        Ok(answer) => answer,
        Err(message) => return Verdict::Failed(message),
    };
    if !answer.status.success() && answer.stderr.contains("failed to fetch advisory database") {
        return Verdict::Skipped("the advisory database cannot be reached".to_owned());
    }
    eprint!("{}", answer.stderr);
    if answer.status.success() {
        Verdict::Passed
    } else {
        Verdict::Failed(format!(
            "`{}` ended with {}",
            process::show(&command),
            answer.status
        ))
    }
}

fn cargo_has(subcommand: &str) -> bool {
    answers(workspace::cargo().args([subcommand, "--version"]))
}

/// Whether a program exists and answers a harmless question.
fn answers(command: &mut Command) -> bool {
    process::capture(command, PROBE_DEADLINE).is_ok_and(|answer| answer.status.success())
}

const PROBE_DEADLINE: Duration = Duration::from_secs(30);

/// The first run clones the advisory database.
const DENY_DEADLINE: Duration = Duration::from_secs(300);
