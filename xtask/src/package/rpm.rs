//! The RPM: what is said about it (with `replicator/Cargo.toml`, which has all but the list of
//! files), and the check that it carries what the Debian package does.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use super::{Tree, fs_read, header, said};
use crate::{process, workspace};

pub(super) fn is_possible() -> bool {
    process::find_program("cargo-generate-rpm").is_some()
}

/// Builds a release of the package, and reads it back: it has every file of the tree, and no other.
pub(super) fn build(
    workspace: &workspace::Workspace,
    tree: &Tree,
    release: u32,
) -> Result<PathBuf, String> {
    if !is_possible() {
        return Err(format!("needs {TOOL}"));
    }
    let files = tree.directory.join("files.toml");
    fs::write(&files, assets(tree)?).map_err(|error| format!("{}: {error}", files.display()))?;
    let name = format!("rbdd-{}-{release}.rpm", tree.version);
    let package = tree.directory.join(name);
    let mut pack = Command::new("cargo-generate-rpm");
    pack.args(["generate-rpm", "--package", "replicator", "--output"]);
    pack.arg(&package).arg("--metadata-overwrite").arg(&files);
    pack.args(["--set-metadata", &format!("release = {release}")]);
    pack.arg("--target-dir").arg(&workspace.target_directory);
    said(pack.current_dir(&workspace.root))?;
    let found = header::files(&fs_read(&package)?)?;
    let mut wanted = std::collections::BTreeMap::new();
    for name in tree.names()? {
        wanted.insert(place_of(&name), mode(tree, &name)?);
    }
    if found == wanted {
        return Ok(package);
    }
    let differ = |(name, mode): &(&String, &u32)| wanted.get(*name) != Some(mode);
    let strange = found.iter().filter(differ).map(|(name, _)| name.as_str());
    let missing = wanted.keys().filter(|name| !found.contains_key(*name));
    let names: Vec<&str> = strange.chain(missing.map(String::as_str)).collect();
    Err(format!(
        "{}: not as in the tree: {}",
        package.display(),
        names.join(", ")
    ))
}

/// The list of files, as `cargo generate-rpm` reads it.
fn assets(tree: &Tree) -> Result<String, String> {
    let mut text = String::from("assets = [\n");
    for name in tree.names()? {
        let source = tree.root.join(name.trim_start_matches('/'));
        let kind = if name.starts_with("/etc/") {
            ", config = \"noreplace\""
        } else if name.starts_with("/usr/share/doc/") || name.starts_with("/usr/share/man/") {
            ", doc = true"
        } else {
            ""
        };
        let to = place_of(&name);
        let mode = mode(tree, &name)?;
        writeln!(
            text,
            "    {{ source = {source:?}, dest = {to:?}, mode = \"{mode:o}\"{kind} }},"
        )
        .expect("a string takes whatever is written to it");
    }
    text.push_str("]\n");
    Ok(text)
}

/// Where it goes: everywhere the same but for one shell, whose vendors disagree.
pub(super) fn place_of(name: &str) -> String {
    name.replace("/zsh/vendor-completions/", "/zsh/site-functions/")
}

fn mode(tree: &Tree, name: &str) -> Result<u32, String> {
    let path = tree.root.join(name.trim_start_matches('/'));
    let metadata = fs::metadata(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(metadata.permissions().mode() & 0o7777)
}

pub(super) const TOOL: &str = "cargo-generate-rpm: cargo install cargo-generate-rpm";
