//! Other programs: found, run with a deadline, and what they printed.

use std::env;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A program that has ended.
#[derive(Debug)]
pub struct Output {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// Everything it printed, for messages.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Runs a program without input to its end.
///
/// # Panics
/// When it cannot be started or has not ended after `deadline`; then it has been killed.
pub fn capture(command: &mut Command, deadline: Duration) -> Output {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let stdout = child.stdout.take().map(collect);
    let stderr = child.stderr.take().map(collect);
    let Some(status) = wait(&mut child, deadline) else {
        end(&mut child);
        let (stdout, stderr) = (text(stdout), text(stderr));
        panic!(
            "{command:?} had not ended after {} s; it printed: {stdout}{stderr}",
            deadline.as_secs()
        );
    };
    Output {
        code: status.code(),
        stdout: text(stdout),
        stderr: text(stderr),
    }
}

/// Runs a program that must succeed and returns what it printed.
///
/// # Panics
/// When it fails.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let path = find(program).unwrap_or_else(|| panic!("{program} is not installed"));
    let output = capture(Command::new(path).args(arguments), LONG);
    assert!(
        output.code == Some(0),
        "{program} {}: exit {:?}: {}",
        arguments.join(" "),
        output.code,
        output.text()
    );
    output.text()
}

/// Where a program is, administrators' directories included.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|file| {
            file.metadata()
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
}

/// Where one of our programs is.
///
/// # Panics
/// When it has not been built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    if let Some(directory) = env::var_os("RBD_TEST_BIN_DIR") {
        return Path::new(&directory).join(name);
    }
    let target = match env::var_os("CARGO_TARGET_DIR") {
        Some(target) => target.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
    };
    ["release", "debug"]
        .iter()
        .map(|profile| target.join(profile).join(name))
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{name} has not been built: cargo build --release"))
}

/// Waits until the child has ended; `None` when the deadline passed first.
pub(super) fn wait(child: &mut Child, deadline: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if start.elapsed() < deadline => thread::sleep(POLL),
            Ok(None) | Err(_) => return None,
        }
    }
}

/// Kills the child with SIGKILL and collects its exit status.
pub(super) fn end(child: &mut Child) {
    // Both fail only for a child that is already gone, which is what is wanted.
    drop(child.kill());
    drop(child.wait());
}

fn collect<R: Read + Send + 'static>(mut source: R) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What arrived before an error is still worth showing.
        drop(source.read_to_end(&mut bytes));
        bytes
    })
}

fn text(reader: Option<JoinHandle<Vec<u8>>>) -> String {
    let bytes = reader.and_then(|reader| reader.join().ok());
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}

/// How long a client may take for a whole test's work.
const LONG: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(5);
