//! Running other programs: find them, start daemons, wait with a deadline, end what was started.
//!
//! Nothing here knows which programs they are.

use std::env;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A program that runs until it is told to stop; it ends with this value.
#[derive(Debug)]
pub(crate) struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it, with what it says going to `log`, in a process group of its own: an interrupt
    /// from the keyboard is for this program alone, which then ends the others.
    pub(crate) fn start(name: &str, mut command: Command, log: &Path) -> Result<Self, String> {
        let open = |error| format!("cannot write {}: {error}", log.display());
        let output = File::create(log).map_err(open)?;
        let errors = output.try_clone().map_err(open)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start {name}: {error}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_path_buf(),
        })
    }

    /// Waits until it is ready, as `ready` sees it.
    pub(crate) fn wait_until(&mut self, ready: impl Fn() -> bool) -> Result<(), String> {
        let start = Instant::now();
        while !ready() {
            self.check()?;
            if start.elapsed() > START_DEADLINE {
                let seconds = START_DEADLINE.as_secs();
                return Err(format!("{} was not ready after {seconds} s", self.name));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// An error if it has ended, with the last thing it said.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                let text = fs::read(&self.log).unwrap_or_default();
                let text = String::from_utf8_lossy(&text);
                let last = text.lines().rfind(|line| !line.trim().is_empty());
                Err(format!(
                    "{} ended with {status}: {}",
                    self.name,
                    last.unwrap_or("it said nothing")
                ))
            }
            Err(error) => Err(format!("cannot watch {}: {error}", self.name)),
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, so that what it has not yet written is written; kills it if it does not.
    pub(crate) fn stop(mut self) {
        signal("TERM", self.pid());
        let start = Instant::now();
        while start.elapsed() < STOP_DEADLINE {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(POLL);
        }
        eprintln!("{} did not stop when asked and is killed", self.name);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Both fail only for a process that is already gone, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

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

/// Runs a program without input and returns what it printed. One that has not ended after
/// `deadline` is killed, which is an error.
pub(crate) fn capture(command: &mut Command, deadline: Duration) -> Result<Finished, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("cannot start {name}: {error}"))?;
    let stdout = child.stdout.take().map(collect);
    let stderr = child.stderr.take().map(collect);
    let start = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if start.elapsed() < deadline => thread::sleep(POLL),
            Ok(None) => {
                drop(child.kill());
                drop(child.wait());
                let seconds = deadline.as_secs();
                return Err(format!("{name} had not ended after {seconds} s"));
            }
            Err(error) => return Err(format!("cannot wait for {name}: {error}")),
        }
    };
    Ok(Finished {
        status,
        stdout: text(stdout),
        stderr: text(stderr),
    })
}

/// Runs a program that is expected to succeed; the error says what it said. Returns its output.
pub(crate) fn succeed(command: &mut Command, deadline: Duration) -> Result<String, String> {
    let words: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let finished = capture(command, deadline)?;
    if finished.status.success() {
        return Ok(finished.stdout);
    }
    let said = finished.stderr.trim();
    Err(format!(
        "`{}` ended with {}: {said}",
        words.join(" "),
        finished.status
    ))
}

/// Sends a signal, named as for kill(1), to a process that need not be a child.
pub(crate) fn signal(name: &str, pid: u32) {
    const SCRIPT: &str = "kill -s \"$1\" \"$2\" 2>/dev/null";
    // The shell's own kill is always there; a process that is gone needs no signal.
    let status = Command::new("sh")
        .args(["-c", SCRIPT, "kill", name, &pid.to_string()])
        .status();
    drop(status);
}

/// Where a program is, looked up in `PATH` and in the directories that hold administrators'
/// programs, which are often missing from an ordinary user's `PATH`.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| {
            candidate
                .metadata()
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
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

const START_DEADLINE: Duration = Duration::from_secs(20);
const STOP_DEADLINE: Duration = Duration::from_secs(15);
