//! Who may depend on whom: words, mind, hands, voice. And that each crate of somebody else's has
//! its reason written down.
//!
//! Between our crates only `[dependencies]` counts. Tests may look wherever they like.

use std::fs;

use super::step::Verdict;
use crate::workspace::Workspace;

/// Compares every crate's dependencies on other crates of the workspace with what is allowed, and
/// the rest with the reasons given for them.
pub(super) fn check(workspace: &Workspace) -> Verdict {
    let mut found = complaints(workspace);
    let read = |name: &str| fs::read_to_string(workspace.root.join(name)).unwrap_or_default();
    found.extend(unexplained(&read("Cargo.toml"), &read(REASONS)));
    Verdict::of_complaints(&found)
}

pub(super) fn complaints(workspace: &Workspace) -> Vec<String> {
    let ours = |name: &String| {
        workspace
            .packages
            .iter()
            .any(|package| package.name == *name)
    };
    let mut found = Vec::new();
    for package in &workspace.packages {
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == package.name) else {
            found.push(format!(
                "{}: a crate whose place is not known; add it to xtask/src/check/imports.rs",
                package.name
            ));
            continue;
        };
        let Allowed::Only(allowed) = allowed else {
            continue;
        };
        for dependency in package.dependencies.iter().filter(|name| ours(name)) {
            if !allowed.contains(&dependency.as_str()) {
                found.push(format!("{} must not depend on {dependency}", package.name));
            }
        }
    }
    found
}

/// The workspace's dependencies that have no row of their own among the reasons.
pub(super) fn unexplained(manifest: &str, reasons: &str) -> Vec<String> {
    manifest
        .lines()
        .skip_while(|line| line.trim() != "[workspace.dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.contains("path = "))
        .filter_map(|line| line.split_once('=').map(|(name, _)| name.trim()))
        .filter(|name| !reasons.contains(&format!("| `{name}` |")))
        .map(|name| format!("{REASONS}: no row says why we depend on {name}"))
        .collect()
}

enum Allowed {
    /// Exactly these crates of the workspace.
    Only(&'static [&'static str]),
    /// Nothing depends on this crate, so it may see everything.
    Anything,
}

const ALLOWED: &[(&str, Allowed)] = &[
    ("rbd-protocol", Allowed::Only(&[])),
    ("rbd-engine", Allowed::Only(&["rbd-protocol"])),
    (
        "rbd-replicator",
        Allowed::Only(&["rbd-engine", "rbd-protocol"]),
    ),
    ("rbdadm", Allowed::Only(&["rbd-protocol"])),
    ("rbd-tests", Allowed::Anything),
    ("rbd-benches", Allowed::Anything),
    ("rbd-fuzz", Allowed::Anything),
    // Shares no code with what it examines.
    ("xtask", Allowed::Only(&[])),
];

const REASONS: &str = "docs/decisions/dependencies.md";
