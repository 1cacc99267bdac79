//! `cargo xtask coverage`: which lines of `protocol` and `engine` are ever run by the unit tests, a
//! few seeds of the simulation, a small exhaustive search and the fuzzers' corpora.
//!
//! A line that has run is not a line that was checked: this finds what nobody has looked at, and
//! the zoo finds what was looked at without seeing. Nothing here starts a daemon, so what only the
//! process tests reach counts as not reached.

mod lines;
mod tools;

#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::process;
use crate::workspace::{self, Workspace};
use lines::Lines;
use tools::Tools;

/// Builds, runs and counts; an error when a test fails or a crate has too few lines covered.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let options = Options::parse(arguments)?;
    let workspace = Workspace::load()?;
    let tools = match Tools::find()? {
        Ok(tools) => tools,
        Err(missing) => {
            println!("skipped: coverage: {missing}");
            return Ok(());
        }
    };
    let plan = Plan::new(&workspace, &tools);
    let programs = plan.build()?;
    plan.empty_profiles()?;
    for program in &programs {
        plan.run(program, options.seeds)?;
    }
    let lcov = plan.merge(&tools, &programs)?;
    let lines = Lines::read(&lcov, &workspace.root);
    print!("{}", lines.table(&CRATES));
    if let Some(part) = &options.uncovered {
        print!("{}", lines.uncovered(&workspace.root, &CRATES, part));
    }
    lines.verdict(&CRATES, PERCENT)
}

/// Where things are built and counted.
#[derive(Debug)]
struct Plan {
    target_directory: PathBuf,
    host: String,
}

/// A built test program.
#[derive(Debug)]
struct Program {
    executable: PathBuf,
    /// The directory of its crate, where Cargo would run it.
    directory: PathBuf,
}

impl Plan {
    fn new(workspace: &Workspace, tools: &Tools) -> Self {
        Self {
            // Apart from other builds: the flags below would undo them.
            target_directory: workspace.target_directory.join("coverage"),
            host: tools.host.clone(),
        }
    }

    fn profiles(&self) -> PathBuf {
        self.target_directory.join("profiles")
    }

    fn cargo_test(&self) -> Command {
        let mut command = workspace::cargo();
        command.args(["test", "--no-run", "--profile", PROFILE]);
        // Naming the target keeps the counters out of build scripts and macros.
        command.args(["--target", &self.host]);
        command.args(PACKAGES.iter().flat_map(|package| ["--package", package]));
        command.args(TESTS);
        command.env("CARGO_TARGET_DIR", &self.target_directory);
        let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
        command.env("RUSTFLAGS", format!("{flags} -C instrument-coverage"));
        command
    }

    /// Builds the test programs, and says where they are.
    fn build(&self) -> Result<Vec<Program>, String> {
        process::run(&mut self.cargo_test())?;
        // Once more, for their names; there is nothing left to build.
        let mut command = self.cargo_test();
        command.args(["--quiet", "--message-format", "json-render-diagnostics"]);
        let answer = process::capture(&mut command, DEADLINE)?;
        if !answer.status.success() {
            return Err(format!("cannot build the tests: {}", answer.stderr.trim()));
        }
        let programs: Vec<Program> = answer.stdout.lines().filter_map(program).collect();
        if programs.is_empty() {
            return Err("cargo names no test program".to_owned());
        }
        Ok(programs)
    }

    /// What an earlier run has counted says nothing about this one.
    fn empty_profiles(&self) -> Result<(), String> {
        let directory = self.profiles();
        if directory.exists() {
            fs::remove_dir_all(&directory)
                .map_err(|error| format!("cannot empty {}: {error}", directory.display()))?;
        }
        fs::create_dir_all(&directory)
            .map_err(|error| format!("cannot make {}: {error}", directory.display()))
    }

    fn run(&self, program: &Program, seeds: u64) -> Result<(), String> {
        let mut command = Command::new(&program.executable);
        command.arg("--quiet").current_dir(&program.directory);
        command.env("LLVM_PROFILE_FILE", self.profiles().join("%m-%p.profraw"));
        command.env("RBD_SIM_SEEDS", seeds.to_string());
        command.env("RBD_EXHAUST_STATES", EXHAUST_STATES);
        command.env("RBD_EXHAUST_PAIRS", EXHAUST_PAIRS);
        process::run(&mut command)
    }

    /// The counts of all programs together, line by line, in the format of lcov.
    fn merge(&self, tools: &Tools, programs: &[Program]) -> Result<String, String> {
        let profiles = self.profiles();
        let merged = profiles.join("all.profdata");
        let mut command = Command::new(&tools.profdata);
        command.args(["merge", "--sparse", "--output"]).arg(&merged);
        process::run(command.args(raw_profiles(&profiles)?))?;
        let mut command = Command::new(&tools.cov);
        command.args(["export", "--format=lcov", "--instr-profile"]);
        command.arg(&merged);
        for (index, program) in programs.iter().enumerate() {
            // The first is named without an option.
            if index > 0 {
                command.arg("--object");
            }
            command.arg(&program.executable);
        }
        let answer = process::capture(&mut command, DEADLINE)?;
        if !answer.status.success() {
            return Err(format!("llvm-cov failed: {}", answer.stderr.trim()));
        }
        Ok(answer.stdout)
    }
}

/// The test program a line of Cargo's JSON is about; `None` for what is not run here.
fn program(line: &str) -> Option<Program> {
    let json: Value = serde_json::from_str(line).ok()?;
    let executable = json["executable"].as_str()?;
    let directory = Path::new(json["manifest_path"].as_str()?).parent()?;
    let name = directory.file_name()?.to_str()?;
    // The unit tests of the tests' own machinery say nothing of the product.
    let is_library = json["target"]["kind"][0] == "lib";
    let is_wanted = !is_library || CRATES.contains(&name);
    // A test program may need the crate's ordinary programs too; those are no tests.
    (is_wanted && json["profile"]["test"] == true).then(|| Program {
        executable: executable.into(),
        directory: directory.into(),
    })
}

fn raw_profiles(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(directory)
        .map_err(|error| format!("cannot read {}: {error}", directory.display()))?;
    let paths = entries.flatten().map(|entry| entry.path());
    Ok(paths
        .filter(|path| path.extension().is_some_and(|end| end == "profraw"))
        .collect())
}

#[derive(Debug, PartialEq, Eq)]
struct Options {
    seeds: u64,
    /// Show the lines nobody ran, of files whose path holds this.
    uncovered: Option<String>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self {
            seeds: SEEDS,
            uncovered: None,
        };
        let mut arguments = arguments.iter().peekable();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--uncovered" => {
                    let part = arguments.next_if(|next| !next.starts_with('-'));
                    options.uncovered = Some(part.cloned().unwrap_or_default());
                }
                "--seeds" => {
                    options.seeds = arguments
                        .next()
                        .and_then(|value| value.parse().ok())
                        .ok_or("--seeds of coverage needs a number")?;
                }
                other => return Err(format!("unknown option '{other}' of coverage")),
            }
        }
        Ok(options)
    }
}

/// The crates whose lines are counted, by directory.
const CRATES: [&str; 2] = ["protocol", "engine"];

/// The share of its lines that each of them must have run.
const PERCENT: f64 = 95.0;

/// Whose tests are run.
const PACKAGES: [&str; 4] = ["rbd-protocol", "rbd-engine", "rbd-tests", "rbd-fuzz"];

/// Of those, the ones that stay inside one process and need no other program.
const TESTS: [&str; 7] = [
    "--lib",
    "--test",
    "simulation",
    "--test",
    "exhaustive",
    "--test",
    "replay",
];

/// Soon built, and fast enough to simulate with.
const PROFILE: &str = "zoo";

/// Seeds of each profile of the simulation. More of them reach hardly more lines.
const SEEDS: u64 = 20;

const EXHAUST_STATES: &str = "5000";
const EXHAUST_PAIRS: &str = "300";

/// Reading what has been counted takes seconds.
const DEADLINE: Duration = Duration::from_secs(600);
