//! What Cargo knows about this workspace: where it is, its crates and what they depend on.

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::process;

/// The part of `cargo metadata` the developer commands need.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// The directory of the workspace's `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Where Cargo puts what it builds; follows `CARGO_TARGET_DIR`.
    pub(crate) target_directory: PathBuf,
    /// The workspace's crates.
    pub(crate) packages: Vec<Package>,
}

/// One crate of the workspace.
#[derive(Debug)]
pub(crate) struct Package {
    /// Its name in `Cargo.toml`.
    pub(crate) name: String,
    /// Names of what it depends on in `[dependencies]`; tests and build scripts may need more.
    pub(crate) dependencies: Vec<String>,
    /// Names of its integration tests.
    pub(crate) integration_tests: Vec<String>,
}

impl Workspace {
    /// Asks Cargo about the workspace this program was started in.
    pub(crate) fn load() -> Result<Self, String> {
        let mut command = cargo();
        command.args(["metadata", "--no-deps", "--format-version", "1"]);
        let answer = process::capture(&mut command, METADATA_DEADLINE)?;
        if !answer.status.success() {
            return Err(format!("cargo metadata failed: {}", answer.stderr.trim()));
        }
        Self::from_metadata(&answer.stdout)
    }

    /// Reads the JSON that `cargo metadata --no-deps` prints.
    pub(crate) fn from_metadata(text: &str) -> Result<Self, String> {
        let json: Value = serde_json::from_str(text)
            .map_err(|error| format!("cargo metadata is not JSON: {error}"))?;
        let directory = |key: &str| {
            json[key]
                .as_str()
                .map(PathBuf::from)
                .ok_or(format!("cargo metadata lacks {key}"))
        };
        Ok(Self {
            root: directory("workspace_root")?,
            target_directory: directory("target_directory")?,
            packages: list(&json["packages"]).iter().map(package).collect(),
        })
    }

    /// Where `cargo build --release` leaves programs.
    pub(crate) fn release_directory(&self) -> PathBuf {
        self.target_directory.join("release")
    }
}

/// The Cargo that started this program, in the workspace's root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Builds the daemon and the command line for release and returns the directory they are in.
pub(crate) fn build_programs(workspace: &Workspace) -> Result<PathBuf, String> {
    let mut command = cargo();
    command.args(["build", "--release"]);
    command.args(["--package", "rbd-replicator", "--bin", "rbdd"]);
    command.args(["--package", "rbdadm", "--bin", "rbdadm"]);
    process::run(&mut command)?;
    Ok(workspace.release_directory())
}

/// The workspace's root, found without asking Cargo.
pub(crate) fn root() -> PathBuf {
    // Cargo sets the variable for `cargo run`; the built-in value serves a copied binary.
    let manifest = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest
        .parent()
        .map_or_else(|| PathBuf::from("."), PathBuf::from)
}

fn package(json: &Value) -> Package {
    let is_test = |target: &&Value| list(&target["kind"]).iter().any(|kind| kind == "test");
    Package {
        name: name(json),
        dependencies: list(&json["dependencies"])
            .iter()
            .filter(|dependency| dependency["kind"].is_null())
            .map(name)
            .collect(),
        integration_tests: list(&json["targets"])
            .iter()
            .filter(is_test)
            .map(name)
            .collect(),
    }
}

fn name(json: &Value) -> String {
    json["name"].as_str().unwrap_or_default().to_owned()
}

fn list(json: &Value) -> &[Value] {
    json.as_array().map_or(&[], Vec::as_slice)
}

/// Reading the manifests takes well under a second; a hang is a broken Cargo.
const METADATA_DEADLINE: Duration = Duration::from_secs(60);
