//! `cargo xtask fuzz`: libFuzzer on the targets of `fuzz/`, on all cores, for as long as wanted.
//!
//! It needs a C++ compiler, for libFuzzer itself, and no nightly Rust: the compiler's own coverage
//! pass is asked for by hand. What it finds lies below `target/fuzz`; nothing is committed by it.

#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process;
use crate::workspace;

/// Builds the fuzzer and runs the target named, or one after the other.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let options = Options::parse(arguments)?;
    let root = workspace::root();
    let targets = if options.target == "all" {
        targets(&root)?
    } else {
        vec![options.target.clone()]
    };
    let program = build(&root)?;
    let mut failed = Vec::new();
    for target in &targets {
        println!("== {target}");
        let outcome = if options.keep {
            keep(&root, &program, target)
        } else {
            fuzz(&root, &program, target, options.minutes)
        };
        if let Err(message) = outcome {
            eprintln!("{message}");
            failed.push(target.as_str());
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    let found = root.join(FOUND);
    Err(format!(
        "{} ended badly; what was found is in {}",
        failed.join(", "),
        found.display()
    ))
}

#[derive(Debug, PartialEq, Eq)]
struct Options {
    target: String,
    minutes: u64,
    keep: bool,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self {
            target: String::new(),
            minutes: 5,
            keep: false,
        };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--minutes" => {
                    let number = arguments.next().ok_or("--minutes needs a number")?;
                    options.minutes = number
                        .parse()
                        .map_err(|_| format!("--minutes needs a number, not '{number}'"))?;
                }
                "--keep" => options.keep = true,
                name if options.target.is_empty() && !name.starts_with('-') => {
                    name.clone_into(&mut options.target);
                }
                other => return Err(format!("fuzz does not understand '{other}'")),
            }
        }
        if options.target.is_empty() {
            return Err("usage: cargo xtask fuzz TARGET|all [--minutes N] [--keep]".to_owned());
        }
        Ok(options)
    }
}

/// Every target has a corpus, named like it.
fn targets(root: &Path) -> Result<Vec<String>, String> {
    let directory = root.join(CORPUS);
    let entries = fs::read_dir(&directory)
        .map_err(|error| format!("cannot list {}: {error}", directory.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}

fn build(root: &Path) -> Result<PathBuf, String> {
    if process::find_program("c++").is_none() {
        return Err("fuzzing needs a C++ compiler; on Debian: apt-get install g++".to_owned());
    }
    let directory = root.join("target/libfuzzer");
    let mut command = workspace::cargo();
    command
        .args(["build", "--release", "--locked", "--target", HOST])
        .arg("--manifest-path")
        .arg(root.join("fuzz/libfuzzer/Cargo.toml"))
        .env("CARGO_TARGET_DIR", &directory)
        .env("RUSTFLAGS", COVERAGE.join(" "));
    process::run(&mut command)?;
    Ok(directory.join(HOST).join("release/rbd-libfuzzer"))
}

fn fuzz(root: &Path, program: &Path, target: &str, minutes: u64) -> Result<(), String> {
    let (work, found) = (root.join(WORK).join(target), root.join(FOUND).join(target));
    for directory in [&work, &found] {
        fs::create_dir_all(directory)
            .map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut command = command(program, target);
    command
        .arg(format!("-fork={cores}"))
        .arg(format!("-max_total_time={}", minutes.saturating_mul(60)))
        .arg(format!("-artifact_prefix={}/", found.display()))
        .args(["-max_len=8192", "-timeout=20", "-rss_limit_mb=2048"])
        .args([
            "-use_value_profile=1",
            "-len_control=0",
            "-print_final_stats=1",
        ])
        .arg(&work)
        .arg(root.join(CORPUS).join(target));
    process::run(&mut command)
}

/// Chooses from everything seen so far the few inputs that reach as much as all of them.
fn keep(root: &Path, program: &Path, target: &str) -> Result<(), String> {
    let mut command = command(program, target);
    command
        .args(["-set_cover_merge=1", "-max_len=8192", "-timeout=20"])
        .arg(root.join(CORPUS).join(target))
        .arg(root.join(WORK).join(target));
    process::run(&mut command)
}

fn command(program: &Path, target: &str) -> Command {
    let mut command = Command::new(program);
    command.env("RBD_FUZZ_TARGET", target);
    command
}

const CORPUS: &str = "fuzz/corpus";
const WORK: &str = "target/fuzz/work";
const FOUND: &str = "target/fuzz/found";
/// Naming the target keeps the coverage pass away from build scripts.
const HOST: &str = if cfg!(target_arch = "aarch64") {
    "aarch64-unknown-linux-gnu"
} else {
    "x86_64-unknown-linux-gnu"
};

/// What cargo-fuzz asks of a nightly compiler, in words the stable one understands.
const COVERAGE: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];
