//! The copy of the workspace in which mutants are made and built.
//!
//! A mutant costs a build of what it changes and what depends on that.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::hunt::Prey;
use super::mutant::{Finder, Mutant};
use crate::process;
use crate::scratch::{PROFILE, ScratchCopy, cannot, put};
use crate::workspace::Workspace;

/// The copy.
#[derive(Debug)]
pub(super) struct Scratch {
    copy: ScratchCopy,
    programs: PathBuf,
    /// What the last mutant changed, as it was: the working copy may have changed since.
    changed: Vec<(PathBuf, String)>,
    built: u32,
}

impl Scratch {
    /// Copies what has changed since the last time.
    pub(super) fn new(workspace: &Workspace) -> Result<Self, String> {
        let place = workspace.target_directory.join("zoo");
        let scratch = Self {
            copy: ScratchCopy::new(&place),
            programs: place.join("programs"),
            changed: Vec::new(),
            built: 0,
        };
        scratch.copy.fill(workspace, &BTreeMap::new())?;
        fs::create_dir_all(&scratch.programs)
            .map_err(|error| cannot("make", &scratch.programs, &error))?;
        Ok(scratch)
    }

    /// Makes a mutant and what is needed to look for it.
    pub(super) fn build(&mut self, mutant: &Mutant) -> Result<Prey, String> {
        for (path, text) in std::mem::take(&mut self.changed) {
            put(&path, text.as_bytes())?;
        }
        for (shown, text) in mutant.apply(&self.copy.source)? {
            let path = self.copy.source.join(&shown);
            let before =
                fs::read_to_string(&path).map_err(|error| cannot("read", &path, &error))?;
            put(&path, text.as_bytes())?;
            self.changed.push((path, before));
        }
        match &mutant.finder {
            Finder::Simulation { .. } => self.build_simulation(),
            Finder::Test { package, filter } => self.build_test(package, filter),
        }
    }

    fn build_simulation(&mut self) -> Result<Prey, String> {
        let mut command = self.copy.cargo();
        command.args(["build", "--quiet", "--profile", PROFILE]);
        command.args(["--package", "rbd-tests", "--bin", "rbd-simulate"]);
        command.arg("--no-default-features");
        capture(&mut command)?;
        // The next build would take it away while it is in use.
        self.built += 1;
        let program = self
            .programs
            .join(format!("rbd-simulate-{}", self.built % 4));
        let from = self.copy.target.join(PROFILE).join("rbd-simulate");
        fs::copy(&from, &program).map_err(|error| cannot("copy", &from, &error))?;
        Ok(Prey::Simulation(program))
    }

    /// Tests are run at once: their programs would be in the way of the next build.
    fn build_test(&self, package: &str, filter: &str) -> Result<Prey, String> {
        let mut command = self.copy.cargo();
        command.args([
            "test",
            "--quiet",
            "--profile",
            PROFILE,
            "--package",
            package,
        ]);
        let mut build = self.copy.cargo();
        build.args(command.get_args());
        capture(build.arg("--no-run"))?;
        command.args(filter.split(' '));
        let answer = process::capture(&mut command, TEST_DEADLINE)?;
        if answer.stdout.contains("running 0 tests") && !answer.stdout.contains("FAILED") {
            let ran = answer
                .stdout
                .lines()
                .any(|line| line.starts_with("test result: ok. ") && !line.contains(" 0 passed"));
            if !ran {
                return Err(format!("no test of {package} is called {filter}"));
            }
        }
        Ok(Prey::Tested {
            failed: !answer.status.success(),
            output: answer.stdout,
        })
    }
}

fn capture(command: &mut Command) -> Result<(), String> {
    let answer = process::capture(command, BUILD_DEADLINE)?;
    if answer.status.success() {
        return Ok(());
    }
    let first = answer
        .stderr
        .lines()
        .find(|line| line.starts_with("error"))
        .unwrap_or("cargo does not say why");
    let place = answer.stderr.lines().find(|line| line.contains("-->"));
    Err(format!(
        "does not build: {first} {}",
        place.unwrap_or_default().trim()
    ))
}

/// The first build makes everything.
const BUILD_DEADLINE: Duration = Duration::from_secs(1_200);
const TEST_DEADLINE: Duration = Duration::from_secs(600);
