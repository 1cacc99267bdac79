//! `cargo xtask package`: packages of the programs, the units, the agent and the handlers, for
//! Debian and for distributions that have RPM.
//!
//! What goes into them is listed once (`files`), file by file; what is generated (manual pages,
//! completions) comes from the programs' own command lines. `dpkg-deb` and `cargo generate-rpm`
//! (`rpm`) pack it; root is not needed.

mod files;
mod header;
mod rpm;
#[cfg(test)]
mod tests;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use self::files::{COMPLETIONS, FILES, MANUALS};
use crate::{process, workspace};

/// Builds the packages that can be built here, or those that are named, and says where they are.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (is_debian_wanted, is_rpm_wanted) = match *words {
        [] => (has_dpkg(), rpm::is_possible()),
        ["deb"] => (true, false),
        ["rpm"] => (false, true),
        _ => return Err("package takes deb or rpm, or nothing for both".into()),
    };
    if !is_debian_wanted && !is_rpm_wanted {
        return Err(format!("needs {DPKG}, or {}", rpm::TOOL));
    }
    let workspace = workspace::Workspace::load()?;
    let tree = Tree::stage(&workspace)?;
    if is_debian_wanted {
        println!("{}", tree.debian()?.display());
    } else if words.is_empty() {
        println!("skipped: the Debian package needs {DPKG}");
    }
    if is_rpm_wanted {
        println!("{}", rpm::build(&workspace, &tree, 1)?.display());
    } else if words.is_empty() {
        println!("skipped: the RPM needs {}", rpm::TOOL);
    }
    Ok(())
}

/// Builds the Debian package.
pub(crate) fn build(workspace: &workspace::Workspace) -> Result<PathBuf, String> {
    Tree::stage(workspace)?.debian()
}

/// Builds two releases of the RPM; none where the program that does is missing.
pub(crate) fn build_rpms(workspace: &workspace::Workspace) -> Result<Vec<PathBuf>, String> {
    if !rpm::is_possible() {
        return Ok(Vec::new());
    }
    let tree = Tree::stage(workspace)?;
    [1, 2]
        .into_iter()
        .map(|release| rpm::build(workspace, &tree, release))
        .collect()
}

fn has_dpkg() -> bool {
    process::find_program("dpkg-deb").is_some()
}

/// Everything as it will be on the machines it is installed on.
struct Tree {
    /// Where the packages go.
    directory: PathBuf,
    root: PathBuf,
    version: String,
}

impl Tree {
    fn stage(workspace: &workspace::Workspace) -> Result<Self, String> {
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
        Ok(Self {
            directory,
            root,
            version,
        })
    }

    /// The files that are in every package, as absolute names.
    fn names(&self) -> Result<Vec<String>, String> {
        let mut names = Vec::new();
        names_below(&self.root, &self.root, &mut names)
            .map_err(|error| format!("{}: {error}", self.root.display()))?;
        names.sort();
        Ok(names)
    }

    fn debian(&self) -> Result<PathBuf, String> {
        if !has_dpkg() {
            return Err(format!("needs {DPKG}"));
        }
        let Self {
            directory,
            root,
            version,
        } = self;
        let version = version.as_str();
        for (from, to) in SCRIPTS {
            place(root, &fs_read(&workspace::root().join(from))?, to, 0o755)?;
        }
        let architecture = text(&said(Command::new("dpkg").arg("--print-architecture"))?);
        let libc = text(&said(Command::new("getconf").arg("GNU_LIBC_VERSION"))?);
        let control = control(version, &architecture, libc.trim_start_matches("glibc "));
        place(root, control.as_bytes(), "DEBIAN/control", 0o644)?;
        let kept: String = FILES
            .iter()
            .filter(|(_, to, _)| to.starts_with("etc/"))
            .map(|(_, to, _)| format!("/{to}\n"))
            .collect();
        place(root, kept.as_bytes(), "DEBIAN/conffiles", 0o644)?;
        let package = directory.join(format!("rbdd_{version}_{architecture}.deb"));
        let mut pack = Command::new("dpkg-deb");
        pack.args(["--root-owner-group", "--build"]);
        said(pack.arg(root).arg(&package))?;
        Ok(package)
    }
}

/// The files below a directory, but for what tells Debian about the package.
fn names_below(root: &Path, directory: &Path, names: &mut Vec<String>) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.strip_prefix(root).unwrap_or(&path);
        if name == Path::new("DEBIAN") {
            continue;
        }
        if path.is_dir() {
            names_below(root, &path, names)?;
        } else {
            names.push(format!("/{}", name.display()));
        }
    }
    Ok(())
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

/// What Debian runs when the package comes and goes.
const SCRIPTS: &[(&str, &str)] = &[
    ("cluster/package/postinst", "DEBIAN/postinst"),
    ("cluster/package/prerm", "DEBIAN/prerm"),
    ("cluster/package/postrm", "DEBIAN/postrm"),
];

const DPKG: &str = "dpkg-deb, of Debian's dpkg";

/// How long one program may take: the first one compiles.
const PATIENCE: Duration = Duration::from_secs(1800);
