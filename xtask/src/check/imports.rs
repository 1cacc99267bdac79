//! Who may depend on whom: words, mind, hands, voice.
//!
//! Only `[dependencies]` counts. Tests may look wherever they like.

use super::step::Verdict;
use crate::workspace::Workspace;

/// Compares every crate's dependencies on other crates of the workspace with what is allowed.
pub(super) fn check(workspace: &Workspace) -> Verdict {
    Verdict::of_complaints(&complaints(workspace))
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
    // Shares no code with what it examines.
    ("xtask", Allowed::Only(&[])),
];
