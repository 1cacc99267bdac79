//! The copy of the workspace in which mutants are made and built.
//!
//! It lives below `target/`, and keeps what it has built, so that a mutant costs a build of what it
//! changes and what depends on that. The working copy is never touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::hunt::Prey;
use super::mutant::{Finder, Mutant};
use crate::check::source_files;
use crate::process;
use crate::workspace::{self, Workspace};

/// The copy.
#[derive(Debug)]
pub(super) struct Scratch {
    copy: PathBuf,
    target: PathBuf,
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
            copy: place.join("source"),
            target: place.join("target"),
            programs: place.join("programs"),
            changed: Vec::new(),
            built: 0,
        };
        let wanted = source_files(&workspace.root, &[]);
        for path in source_files(&scratch.copy, &[]) {
            let shown = path.strip_prefix(&scratch.copy).unwrap_or(&path);
            if !workspace.root.join(shown).exists() {
                fs::remove_file(&path).map_err(|error| cannot("remove", &path, &error))?;
            }
        }
        for path in &wanted {
            let shown = path.strip_prefix(&workspace.root).unwrap_or(path);
            let bytes = fs::read(path).map_err(|error| cannot("read", path, &error))?;
            put(&scratch.copy.join(shown), &bytes)?;
        }
        fs::create_dir_all(&scratch.programs)
            .map_err(|error| cannot("make", &scratch.programs, &error))?;
        Ok(scratch)
    }

    /// Makes a mutant and what is needed to look for it.
    pub(super) fn build(&mut self, mutant: &Mutant) -> Result<Prey, String> {
        for (path, text) in std::mem::take(&mut self.changed) {
            put(&path, text.as_bytes())?;
        }
        for (shown, text) in mutant.apply(&self.copy)? {
            let path = self.copy.join(&shown);
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
        let mut command = self.cargo();
        command.args(["build", "--quiet", "--profile", PROFILE]);
        command.args(["--package", "rbd-tests", "--bin", "rbd-simulate"]);
        command.arg("--no-default-features");
        capture(&mut command)?;
        // The next build would take it away while it is in use.
        self.built += 1;
        let program = self
            .programs
            .join(format!("rbd-simulate-{}", self.built % 4));
        let from = self.target.join(PROFILE).join("rbd-simulate");
        fs::copy(&from, &program).map_err(|error| cannot("copy", &from, &error))?;
        Ok(Prey::Simulation(program))
    }

    /// Tests are run at once: their programs would be in the way of the next build.
    fn build_test(&self, package: &str, filter: &str) -> Result<Prey, String> {
        let mut command = self.cargo();
        command.args([
            "test",
            "--quiet",
            "--profile",
            PROFILE,
            "--package",
            package,
        ]);
        let mut build = self.cargo();
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

    fn cargo(&self) -> Command {
        let mut command = workspace::cargo();
        command.current_dir(&self.copy);
        command.env("CARGO_TARGET_DIR", &self.target);
        // Lints are for people; a mutant may leave a variable unused.
        command.env("RUSTFLAGS", "--cap-lints=allow");
        command
    }
}

/// Writes a file unless it already says so: Cargo goes by the time of the last change.
fn put(path: &Path, bytes: &[u8]) -> Result<(), String> {
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(|error| cannot("make", directory, &error))?;
    }
    fs::write(path, bytes).map_err(|error| cannot("write", path, &error))
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

fn cannot(verb: &str, path: &Path, error: &std::io::Error) -> String {
    format!("cannot {verb} {}: {error}", path.display())
}

/// The profile of `Cargo.toml` mutants are built with: quick to build, quick enough to run.
const PROFILE: &str = "zoo";

/// The first build makes everything.
const BUILD_DEADLINE: Duration = Duration::from_secs(1_200);
const TEST_DEADLINE: Duration = Duration::from_secs(600);
