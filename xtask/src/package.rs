//! `cargo xtask package`: a Debian package of the programs, the units, the agent and the handlers.
//!
//! What goes into it is listed here, file by file; what is generated (manual pages, completions)
//! comes from the programs' own command lines. `dpkg-deb` packs it; root is not needed.

#[cfg(test)]
mod tests;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{process, workspace};

/// Builds the package and says where it is.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    if let Some(argument) = arguments.first() {
        return Err(format!("package takes no arguments, but got {argument}"));
    }
    let workspace = workspace::Workspace::load()?;
    println!("{}", build(&workspace)?.display());
    Ok(())
}

/// Builds the package.
pub(crate) fn build(workspace: &workspace::Workspace) -> Result<PathBuf, String> {
    if process::find_program("dpkg-deb").is_none() {
        return Err("needs dpkg-deb, of Debian's dpkg".into());
    }
    let programs = workspace::build_programs(workspace)?;
    let directory = workspace.target_directory.join("package");
    let root = directory.join("root");
    match fs::remove_dir_all(&root) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(format!("{}: {error}", root.display()));
        }
        Ok(()) | Err(_) => {}
    }
    for name in ["rbdd", "rbdadm"] {
        let to = root.join("usr/sbin").join(name);
        place(
            &root,
            &fs_read(&programs.join(name))?,
            &format!("usr/sbin/{name}"),
            0o755,
        )?;
        // Symbols are three quarters of it.
        if process::find_program("strip").is_some() {
            process::run(Command::new("strip").arg("--strip-unneeded").arg(&to))?;
        }
    }
    for (from, to, mode) in FILES {
        place(&root, &fs_read(&workspace.root.join(from))?, to, *mode)?;
    }
    for (package, example, to) in MANUALS {
        let mut cargo = workspace::cargo();
        cargo.args([
            "run",
            "--quiet",
            "--release",
            "--package",
            package,
            "--example",
            example,
        ]);
        place(&root, &said(&mut cargo)?, to, 0o644)?;
        process::run(Command::new("gzip").args(["-9n"]).arg(root.join(to)))?;
    }
    for (shell, to) in COMPLETIONS {
        let mut rbdadm = Command::new(programs.join("rbdadm"));
        rbdadm.args(["completions", shell]);
        place(&root, &said(&mut rbdadm)?, to, 0o644)?;
    }
    let version = version(&fs_read(&workspace.root.join("Cargo.toml"))?)?;
    let architecture = text(&said(Command::new("dpkg").arg("--print-architecture"))?);
    let libc = text(&said(Command::new("getconf").arg("GNU_LIBC_VERSION"))?);
    let control = control(&version, &architecture, libc.trim_start_matches("glibc "));
    place(&root, control.as_bytes(), "DEBIAN/control", 0o644)?;
    let kept: String = FILES
        .iter()
        .filter(|(_, to, _)| to.starts_with("etc/"))
        .map(|(_, to, _)| format!("/{to}\n"))
        .collect();
    place(&root, kept.as_bytes(), "DEBIAN/conffiles", 0o644)?;
    let package = directory.join(format!("rbdd_{version}_{architecture}.deb"));
    let mut pack = Command::new("dpkg-deb");
    pack.args(["--root-owner-group", "--build"]);
    said(pack.arg(&root).arg(&package))?;
    Ok(package)
}

/// The description of the package, without which there is none.
fn control(version: &str, architecture: &str, libc: &str) -> String {
    format!(
        "Package: rbdd\n\
         Version: {version}\n\
         Architecture: {architecture}\n\
         Maintainer: the rbd developers <rbd@localhost>\n\
         Section: admin\n\
         Priority: optional\n\
         Depends: libc6 (>= {libc}), kmod, udev\n\
         Suggests: pacemaker, resource-agents, nbd-client\n\
         Description: replicated block devices in user space\n \
         Keeps two copies of a block device identical over the network, with the\n \
         configuration, commands and states of DRBD, and without a kernel module of\n \
         its own. A daemon that is restarted, upgraded or killed costs those who use\n \
         the device a pause, and no error.\n"
    )
}

/// The version of the workspace's crates.
fn version(manifest: &[u8]) -> Result<String, String> {
    let manifest = String::from_utf8_lossy(manifest);
    let mut lines = manifest.lines();
    let version = lines.find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
    let version = version.ok_or("Cargo.toml says no version")?;
    Ok(version.to_owned())
}

fn place(root: &Path, bytes: &[u8], to: &str, mode: u32) -> Result<(), String> {
    let path = root.join(to);
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    for directory in Path::new(to)
        .ancestors()
        .skip(1)
        .collect::<Vec<_>>()
        .iter()
        .rev()
    {
        let directory = root.join(directory);
        fs::create_dir_all(&directory).map_err(failed)?;
        fs::set_permissions(&directory, Permissions::from_mode(0o755)).map_err(failed)?;
    }
    fs::write(&path, bytes).map_err(failed)?;
    fs::set_permissions(&path, Permissions::from_mode(mode)).map_err(failed)
}

fn fs_read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// What a program prints.
fn said(command: &mut Command) -> Result<Vec<u8>, String> {
    let answer = process::capture(command, PATIENCE)?;
    if !answer.status.success() {
        return Err(format!("{command:?}: {}", answer.stderr.trim()));
    }
    Ok(answer.stdout.into_bytes())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// Where each file of the repository goes, and its mode. What is below `etc` is the administrator's
/// afterwards.
const FILES: &[(&str, &str, u32)] = &[
    ("cluster/ocf/rbd", "usr/lib/ocf/resource.d/rbd/rbd", 0o755),
    (
        "cluster/handlers/crm-fence-peer.sh",
        "usr/lib/rbd/crm-fence-peer.sh",
        0o755,
    ),
    (
        "cluster/handlers/crm-unfence-peer.sh",
        "usr/lib/rbd/crm-unfence-peer.sh",
        0o755,
    ),
    ("cluster/fence/fence_rbd", "usr/sbin/fence_rbd", 0o755),
    (
        "cluster/handlers/stonith-peer.sh",
        "usr/lib/rbd/stonith-peer.sh",
        0o755,
    ),
    (
        "cluster/handlers/snapshot-resync-target-lvm.sh",
        "usr/lib/rbd/snapshot-resync-target-lvm.sh",
        0o755,
    ),
    (
        "cluster/udev/is-backing-disk",
        "usr/lib/rbd/is-backing-disk",
        0o755,
    ),
    (
        "cluster/udev/61-rbd-backing.rules",
        "usr/lib/udev/rules.d/61-rbd-backing.rules",
        0o644,
    ),
    (
        "cluster/systemd/rbdd.service",
        "usr/lib/systemd/system/rbdd.service",
        0o644,
    ),
    (
        "cluster/systemd/rbd@.service",
        "usr/lib/systemd/system/rbd@.service",
        0o644,
    ),
    (
        "cluster/systemd/rbd@.target",
        "usr/lib/systemd/system/rbd@.target",
        0o644,
    ),
    (
        "cluster/systemd/rbd-promote@.service",
        "usr/lib/systemd/system/rbd-promote@.service",
        0o644,
    ),
    (
        "cluster/etc/modules-load.conf",
        "usr/lib/modules-load.d/rbdd.conf",
        0o644,
    ),
    ("cluster/etc/rbd.conf", "etc/rbd.conf", 0o640),
    (
        "cluster/etc/global_common.conf",
        "etc/rbd.d/global_common.conf",
        0o640,
    ),
    ("docs/running.md", "usr/share/doc/rbd/running.md", 0o644),
    ("docs/rbdadm.md", "usr/share/doc/rbd/rbdadm.md", 0o644),
    (
        "docs/configuration.md",
        "usr/share/doc/rbd/configuration.md",
        0o644,
    ),
    ("cluster/README.md", "usr/share/doc/rbd/cluster.md", 0o644),
    ("LICENSE-MIT", "usr/share/doc/rbdd/copyright", 0o644),
    ("LICENSE-APACHE", "usr/share/doc/rbdd/LICENSE-APACHE", 0o644),
    ("cluster/package/postinst", "DEBIAN/postinst", 0o755),
    ("cluster/package/prerm", "DEBIAN/prerm", 0o755),
    ("cluster/package/postrm", "DEBIAN/postrm", 0o755),
];

/// Crate and example that print a manual page, and where it goes.
const MANUALS: &[(&str, &str, &str)] = &[
    ("rbdadm", "rbdadm-man", "usr/share/man/man8/rbdadm.8"),
    ("rbd-replicator", "rbdd-man", "usr/share/man/man8/rbdd.8"),
];

/// Shells and where they look for completions.
const COMPLETIONS: &[(&str, &str)] = &[
    ("bash", "usr/share/bash-completion/completions/rbdadm"),
    ("fish", "usr/share/fish/vendor_completions.d/rbdadm.fish"),
    ("zsh", "usr/share/zsh/vendor-completions/_rbdadm"),
];

/// How long one program may take: the first one compiles.
const PATIENCE: Duration = Duration::from_secs(1800);
