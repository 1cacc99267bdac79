//! `cargo xtask test`: every test this machine can run.
//!
//! Installs what it may, builds the programs the process tests start, runs everything and says
//! what was skipped and why. It judges no test itself; it only counts.

mod packages;
mod tally;

#[cfg(test)]
mod tests;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::process;
use crate::workspace::{self, Workspace};
use tally::Tally;

/// Runs the tests; an error when one failed or could not be built.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let options = Options::parse(arguments)?;
    let workspace = Workspace::load()?;
    if options.list {
        return list(&workspace, options.quick);
    }
    let directory = tempfile::Builder::new()
        .prefix("rbd-test-")
        .tempdir()
        .map_err(|error| format!("cannot make a temporary directory: {error}"))?;
    let skip_log = directory.path().join("skipped");
    let mut tally = Tally::default();
    let mut not_here = Vec::new();
    if !options.quick {
        not_here = packages::install_missing();
        workspace::build_programs(&workspace)?;
    }
    for run in runs(&workspace, options.quick) {
        println!("== {}", process::show(&run));
        watch(run, &workspace, &skip_log, &mut tally)?;
    }
    tally.add_skipped(&fs::read_to_string(&skip_log).unwrap_or_default());
    report(&tally, &not_here, options.quick)
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    quick: bool,
    list: bool,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self::default();
        for argument in arguments {
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--list" => options.list = true,
                other => return Err(format!("unknown option '{other}' of test")),
            }
        }
        Ok(options)
    }
}

/// The runs of `cargo test` that together are all tests: first everything that stays inside one
/// process, then the tests that start daemons, few at a time because each brings its own load.
/// All select the whole workspace, so that nothing is built twice with other features.
fn runs(workspace: &Workspace, quick: bool) -> Vec<Command> {
    let tests = workspace
        .packages
        .iter()
        .flat_map(|package| &package.integration_tests);
    let (process, single): (Vec<_>, Vec<_>) = tests.partition(|name| name.starts_with(PROCESS));
    let mut inside = cargo_test();
    inside.args(["--lib", "--bins", "--examples"]);
    inside.args(single.iter().flat_map(|name| ["--test", name]));
    let mut documents = cargo_test();
    documents.arg("--doc");
    let mut runs = vec![inside, documents];
    if !quick && !process.is_empty() {
        let mut command = cargo_test();
        command.args(process.iter().flat_map(|name| ["--test", name]));
        command.args(["--", "--test-threads", PROCESS_TEST_THREADS]);
        runs.push(command);
    }
    runs
}

fn cargo_test() -> Command {
    let mut command = workspace::cargo();
    command.args(["test", "--no-fail-fast", "--workspace"]);
    command
}

/// Runs one `cargo test`, passing on what it prints and counting results as they go by.
fn watch(
    mut command: Command,
    workspace: &Workspace,
    skip_log: &Path,
    tally: &mut Tally,
) -> Result<(), String> {
    command
        .env("RBD_TEST_BIN_DIR", workspace.release_directory())
        .env("RBD_SKIP_LOG", skip_log)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|error| format!("cannot start cargo: {error}"))?;
    let failed_before = tally.failed;
    if let Some(output) = child.stdout.take() {
        let mut terminal = std::io::stdout().lock();
        for line in BufReader::new(output).split(b'\n') {
            let line = line.map_err(|error| format!("cannot read from cargo: {error}"))?;
            let line = String::from_utf8_lossy(&line);
            tally.line(&line);
            writeln!(terminal, "{line}").map_err(|error| format!("cannot print: {error}"))?;
        }
    }
    let status = child
        .wait()
        .map_err(|error| format!("cannot wait for cargo: {error}"))?;
    if !status.success() && tally.failed == failed_before {
        // A test program that did not compile, or died without its last line.
        tally.failed += 1;
        tally
            .failures
            .push(format!("`{}` ended with {status}", process::show(&command)));
    }
    Ok(())
}

fn list(workspace: &Workspace, quick: bool) -> Result<(), String> {
    for mut command in runs(workspace, quick) {
        if !command.get_args().any(|argument| argument == "--") {
            command.arg("--");
        }
        process::run(command.arg("--list"))?;
    }
    Ok(())
}

fn report(tally: &Tally, not_here: &[String], quick: bool) -> Result<(), String> {
    println!();
    if !tally.failures.is_empty() {
        println!("Failed:");
        for failure in &tally.failures {
            println!("  {failure}");
        }
    }
    if quick || !not_here.is_empty() || !tally.skipped.is_empty() {
        println!("Skipped, and why:");
        if quick {
            println!("  tests that start real daemons: --quick was given");
        }
        for line in not_here.iter().chain(&tally.skipped) {
            println!("  {line}");
        }
    }
    println!("{}", tally.summary());
    if tally.failed == 0 {
        Ok(())
    } else {
        Err(format!("{} failed", tally.failed))
    }
}

/// How the name of an integration test begins when it starts real daemons.
const PROCESS: &str = "process";

/// Each process test runs two daemons and a client; more at once would measure the scheduler.
const PROCESS_TEST_THREADS: &str = "2";
