//! `cargo xtask lab`: tests that need a kernel of their own, in an emulated machine.
//!
//! The machine is QEMU without hardware help, so it needs no rights but those of building its disk:
//! a Debian root file system and a stock kernel with its modules, both out of Debian packages
//! (`tests/lab/image.sh`). A guest sees `tests/lab/tests` and the programs in a shared directory;
//! its root disk forgets everything. Alone it has no network, runs one test and switches itself
//! off; of two, each does what the test orders, until that ends.

pub(crate) mod bench;
mod guest;
mod machine;
mod pair;
mod share;
#[cfg(test)]
mod tests;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{process, workspace};

/// Builds what guests boot from, runs tests in them, or throws away what was built.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let workspace = workspace::Workspace::load()?;
    let lab = workspace::root().join("tests/lab");
    let cache = cache(&workspace.release_directory());
    match parse(arguments)? {
        Order::Up => match missing() {
            Some(reason) => Err(reason),
            None => up(&lab, &cache),
        },
        Order::Test(names) => {
            if let Some(reason) = missing() {
                println!("lab: skipped: {reason}");
                return Ok(());
            }
            up(&lab, &cache)?;
            test(&workspace, &lab, &cache, &names)
        }
        Order::Down => match fs::remove_dir_all(&cache) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("{}: {error}", cache.display()))
            }
            Ok(()) | Err(_) => Ok(()),
        },
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Order {
    Up,
    /// These tests, or all.
    Test(Vec<String>),
    Down,
}

fn parse(arguments: &[String]) -> Result<Order, String> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *words {
        ["up"] => Ok(Order::Up),
        ["down"] => Ok(Order::Down),
        ["test", ..] => Ok(Order::Test(arguments[1..].to_vec())),
        _ => Err("lab takes up, test [NAME…] or down".into()),
    }
}

/// Where the image is kept: between runs, and not in the source tree.
fn cache(release: &Path) -> PathBuf {
    let built = || release.with_file_name("lab");
    env::var_os("RBD_LAB_CACHE").map_or_else(built, PathBuf::from)
}

/// What this machine lacks, in one line.
fn missing() -> Option<String> {
    let lacking: Vec<&str> = PROGRAMS
        .iter()
        .filter(|(program, _)| process::find_program(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if !lacking.is_empty() {
        return Some(format!("needs: apt-get install {}", lacking.join(" ")));
    }
    let mut version = Command::new(PROGRAMS[0].0);
    let told = process::capture(version.arg("--version"), VERSION_DEADLINE);
    told.map_or_else(Some, |told| too_old(&told.stdout))
}

/// What is wrong with the emulator that says this of its version.
fn too_old(told: &str) -> Option<String> {
    let version = told.split_once("version ").map_or(told, |(_, rest)| rest);
    let version = version.split_whitespace().next().unwrap_or_default();
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
    let number = (numbers.next().flatten(), numbers.next().flatten());
    let (major, minor) = OLDEST_QEMU;
    (number < (Some(major), Some(minor))).then(|| {
        format!(
            "needs QEMU {major}.{minor} or later, this is {version:?}; on Debian 12: \
             apt-get install -t bookworm-backports qemu-system-x86"
        )
    })
}

/// Builds the image, unless it is there and of this description.
fn up(lab: &Path, cache: &Path) -> Result<(), String> {
    let description = ["image.sh", "first-init"]
        .into_iter()
        .map(|name| read(&lab.join(name)))
        .collect::<Result<Vec<_>, _>>()?
        .concat();
    let stamp = cache.join("stamp");
    let described = cache.join("description");
    if stamp.exists() && fs::read_to_string(&described).is_ok_and(|one| one == description) {
        return Ok(());
    }
    if !is_root() {
        return Err("root is needed once, to build the image".into());
    }
    fs::create_dir_all(cache).map_err(|error| format!("{}: {error}", cache.display()))?;
    process::run(Command::new("sh").arg(lab.join("image.sh")).arg(cache))?;
    fs::write(&described, description).map_err(|error| format!("{}: {error}", described.display()))
}

fn test(
    workspace: &workspace::Workspace,
    lab: &Path,
    cache: &Path,
    names: &[String],
) -> Result<(), String> {
    let known = known_tests(lab)?;
    let wanted = if names.is_empty() { &known } else { names };
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(name)) {
        return Err(format!(
            "no test {unknown}; there are: {}",
            known.join(", ")
        ));
    }
    let mut files = programs(workspace)?;
    if wanted.iter().any(|name| name.starts_with("package")) {
        files.push(crate::package::build(workspace)?);
        files.extend(crate::package::build_rpms(workspace)?);
    }
    let mut failed = Vec::new();
    for name in wanted {
        println!("lab: {name}");
        let is_pair = pair::is_wanted(&read(&lab.join("tests").join(name))?);
        if let Some(reason) = pair::missing().filter(|_| is_pair) {
            println!("lab: {name}: skipped: {reason}");
            continue;
        }
        let run = if is_pair { pair::run } else { guest::run };
        match run(cache, lab, &files, name) {
            Ok(()) => println!("lab: {name}: ok"),
            Err(reason) => {
                println!("lab: {name}: FAILED: {reason}");
                failed.push(name.clone());
            }
        }
    }
    if failed.is_empty() {
        Ok(())
    } else {
        Err(format!("failed in the lab: {}", failed.join(", ")))
    }
}

/// Builds what guests are given, and says where it is.
fn programs(workspace: &workspace::Workspace) -> Result<Vec<PathBuf>, String> {
    let programs = workspace::build_programs(workspace)?;
    let mut build = workspace::cargo();
    build.args(["build", "--release", "--package", "rbd-tests"]);
    process::run(build.args(TOOLS.map(|tool| ["--bin", tool]).as_flattened()))?;
    let files = ["rbdd", "rbdadm"].into_iter().chain(TOOLS);
    Ok(files.map(|name| programs.join(name)).collect())
}

/// Every executable file is a test; what they share is not executable.
fn known_tests(lab: &Path) -> Result<Vec<String>, String> {
    use std::os::unix::fs::PermissionsExt;
    let directory = lab.join("tests");
    let entries = fs::read_dir(&directory);
    let entries = entries.map_err(|error| format!("{}: {error}", directory.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| {
            let metadata = entry.metadata();
            metadata.is_ok_and(|one| one.is_file() && one.permissions().mode() & 0o111 != 0)
        })
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Programs of the tests' own that scripts call.
const TOOLS: [&str; 3] = ["rbd-faultfs", "rbd-pair-check", "rbd-replay-log"];

/// The first whose networks between two machines are made again by themselves.
const OLDEST_QEMU: (u32, u32) = (9, 2);

const VERSION_DEADLINE: Duration = Duration::from_secs(20);

/// Programs the lab drives, and the Debian packages that have them.
const PROGRAMS: [(&str, &str); 7] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("mmdebstrap", "mmdebstrap"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("xz", "xz-utils"),
    ("depmod", "kmod"),
    ("mke2fs", "e2fsprogs"),
];
