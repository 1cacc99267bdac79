//! The two programs of LLVM that read what instrumented programs have counted. They must be of
//! the version the compiler was made with: the format changes from one to the next.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process;

/// Where the programs are.
#[derive(Debug)]
pub(super) struct Tools {
    /// Merges the counts of several programs.
    pub(super) profdata: PathBuf,
    /// Tells to which lines they belong.
    pub(super) cov: PathBuf,
    /// What the compiler calls this machine.
    pub(super) host: String,
}

impl Tools {
    /// Looks for them in Rust's own directory, in Debian's and in `PATH`. When they are nowhere,
    /// says in one line what is missing and how to get it.
    pub(super) fn find() -> Result<Result<Self, String>, String> {
        let verbose = ask(Command::new("rustc").arg("-vV"))?;
        let (host, major) = version(&verbose).ok_or("rustc -vV does not name host and LLVM")?;
        let libraries = ask(Command::new("rustc").args(["--print", "target-libdir"]))?;
        let of_rust = Path::new(libraries.trim()).with_file_name("bin");
        let find = |name: &str| {
            let candidates = [
                Some(of_rust.join(name)),
                Some(PathBuf::from(format!("/usr/lib/llvm-{major}/bin/{name}"))),
                process::find_program(&format!("{name}-{major}")),
                process::find_program(name),
            ];
            let mut candidates = candidates.into_iter().flatten();
            candidates.find(|path| path.is_file() && is_version(path, major))
        };
        let (Some(profdata), Some(cov)) = (find("llvm-profdata"), find("llvm-cov")) else {
            return Ok(Err(format!(
                "no llvm-profdata and llvm-cov of LLVM {major}, which this rustc is made with: \
                 rustup component add llvm-tools, or apt-get install llvm-{major}"
            )));
        };
        Ok(Ok(Self {
            profdata,
            cov,
            host: host.to_owned(),
        }))
    }
}

/// The host and the major version of LLVM that `rustc -vV` names.
pub(super) fn version(verbose: &str) -> Option<(&str, u32)> {
    let field = |name: &str| verbose.lines().find_map(|line| line.strip_prefix(name));
    let llvm = field("LLVM version: ")?;
    let major = llvm.split('.').next()?.parse().ok()?;
    Some((field("host: ")?, major))
}

/// Whether what a program says about its version is of this major version of LLVM.
pub(super) fn says_version(text: &str, major: u32) -> bool {
    text.split("version ")
        .skip(1)
        .filter_map(|rest| rest.split('.').next())
        .any(|number| number.parse() == Ok(major))
}

fn is_version(path: &Path, major: u32) -> bool {
    ask(Command::new(path).arg("--version")).is_ok_and(|text| says_version(&text, major))
}

fn ask(command: &mut Command) -> Result<String, String> {
    let answer = process::capture(command, DEADLINE)?;
    if answer.status.success() {
        return Ok(answer.stdout);
    }
    let line = process::show(command);
    Err(format!("`{line}` failed: {}", answer.stderr.trim()))
}

/// Each answers at once.
const DEADLINE: Duration = Duration::from_secs(60);
