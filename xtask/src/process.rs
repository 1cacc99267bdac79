//! Running other programs: show the command line, wait with a deadline, keep what was printed.
//!
//! Nothing here knows which programs they are.

use std::env;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A program that has ended, and what it printed.
#[derive(Debug)]
pub(crate) struct Finished {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// Its standard output.
    pub(crate) stdout: String,
    /// Its standard error.
    pub(crate) stderr: String,
}

/// Runs a program on the caller's terminal, without input, for as long as it takes.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let line = show(command);
    let status = command
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("cannot start `{line}`: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{line}` ended with {status}"))
    }
}

/// Runs a program without input and returns what it printed. A program that has not ended
/// after `deadline` is killed, which is an error.
pub(crate) fn capture(command: &mut Command, deadline: Duration) -> Result<Finished, String> {
    let line = show(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start `{line}`: {error}"))?;
    let stdout = child.stdout.take().map(collect);
    let stderr = child.stderr.take().map(collect);
    let ended = wait(&mut child, deadline);
    if ended.is_none() {
        end(&mut child);
        return Err(format!(
            "`{line}` had not ended after {} s",
            deadline.as_secs()
        ));
    }
    let status = child
        .wait()
        .map_err(|error| format!("cannot wait for `{line}`: {error}"))?;
    Ok(Finished {
        status,
        stdout: text(stdout),
        stderr: text(stderr),
    })
}

/// Waits until the child has ended; `None` when the deadline passed first.
pub(crate) fn wait(child: &mut Child, deadline: Duration) -> Option<ExitStatus> {
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
pub(crate) fn end(child: &mut Child) {
    // Both fail only for a child that is already gone, which is what is wanted.
    drop(child.kill());
    drop(child.wait());
}

/// Sends a signal, named as for kill(1), to a process that need not be a child.
pub(crate) fn signal(name: &str, pid: u32) {
    let pid = pid.to_string();
    // The shell's own kill is always there; a process that is gone needs no signal.
    let status = Command::new("sh")
        .args([
            "-c",
            "kill -s \"$1\" \"$2\" 2>/dev/null",
            "kill",
            name,
            &pid,
        ])
        .status();
    drop(status);
}

/// The command line as a person would type it.
pub(crate) fn show(command: &Command) -> String {
    let program = Path::new(command.get_program());
    // Which cargo it was is of no interest; it is the one that started us.
    let program = if program.ends_with("cargo") {
        Path::new("cargo")
    } else {
        program
    };
    let mut words = vec![program.to_string_lossy().into_owned()];
    words.extend(
        command
            .get_args()
            .map(|word| quote(&word.to_string_lossy())),
    );
    words.join(" ")
}

/// Where a program is, looked up in `PATH` and in the directories that hold administrators'
/// programs, which are often missing from an ordinary user's `PATH`.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| is_executable(candidate))
}

/// A duration in seconds, as reports print it.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
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
    let bytes = reader
        .and_then(|handle| handle.join().ok())
        .unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// How often a waiting loop looks again.
pub(crate) const POLL: Duration = Duration::from_millis(10);
