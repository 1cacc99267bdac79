//! Where a run lives, and the janitor that removes every trace of it however the run ends.
//!
//! The janitor is this program once more, waiting on a pipe for this one to be gone: by its own
//! end, an error, or any signal. Then it ends what still runs, and removes namespaces and files.

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self as std_process, Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::network::Network;
use crate::process;

/// The directories of a run, and their janitor.
#[derive(Debug)]
pub(crate) struct Place {
    disks: PathBuf,
    run: PathBuf,
    janitor: Child,
}

impl Place {
    /// Makes the directories: one below `parent` for the disks, one for sockets and logs where
    /// paths are short enough for sockets.
    pub(crate) fn new(parent: &Path) -> Result<Self, String> {
        let make = |parent: &Path| {
            tempfile::Builder::new()
                .prefix("rbd-bench-")
                .tempdir_in(parent)
                .map_err(|error| {
                    format!("cannot make a directory in {}: {error}", parent.display())
                })
        };
        let (disks, run) = (make(parent)?, make(&env::temp_dir())?);
        let program =
            env::current_exe().map_err(|error| format!("cannot find my own program: {error}"))?;
        let janitor = Command::new(program)
            .arg(JANITOR_COMMAND)
            .args([disks.path(), run.path()])
            .arg(std_process::id().to_string())
            .stdin(Stdio::piped())
            // Its own group: an interrupt from the keyboard is not meant for it.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start the janitor: {error}"))?;
        Ok(Self {
            disks: disks.keep(),
            run: run.keep(),
            janitor,
        })
    }

    /// Where the disks are.
    pub(crate) fn disks(&self) -> &Path {
        &self.disks
    }

    /// Where everything else is.
    pub(crate) fn run(&self) -> &Path {
        &self.run
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(mut pipe) = self.janitor.stdin.take() {
            // A janitor that is gone cannot be told; nothing else depends on it.
            drop(pipe.write_all(b"done\n"));
        }
        drop(self.janitor.wait());
    }
}

/// What the janitor does: waits until the run has ended, then clears up after it.
pub(crate) fn janitor(arguments: &[String]) -> Result<(), String> {
    let [disks, run, pid] = arguments else {
        return Err("the janitor takes two directories and a process".to_owned());
    };
    let mut farewell = String::new();
    // Ends when the last holder of the pipe's other end is gone, however it went.
    drop(std::io::stdin().read_to_string(&mut farewell));
    let start = Instant::now();
    loop {
        let left = programs_in(&[disks, run]);
        if left.is_empty() || start.elapsed() > DEADLINE {
            break;
        }
        for pid in left {
            process::signal("KILL", pid);
        }
        thread::sleep(process::POLL);
    }
    Network::remove(pid);
    for directory in [disks, run] {
        drop(fs::remove_dir_all(directory));
    }
    if farewell.is_empty() {
        eprintln!("\nrbd-bench: interrupted; its daemons, namespaces and files are removed");
    }
    Ok(())
}

/// Programs of a run one of whose arguments names one of the directories. Their names cannot be
/// guessed, so these can only be the run's own.
fn programs_in(directories: &[&String]) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        // The janitor is told the directories, too.
        .filter(|pid| *pid != std_process::id())
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            is_ours(&String::from_utf8_lossy(&line), directories)
        })
        .collect()
}

fn is_ours(command_line: &str, directories: &[&String]) -> bool {
    let program = command_line.split('\0').next().map(Path::new);
    let known = program
        .and_then(Path::file_name)
        .is_some_and(|name| PROGRAMS.iter().any(|program| name == *program));
    known
        && directories
            .iter()
            .any(|directory| command_line.contains(directory.as_str()))
}

/// How this program is told to be the janitor.
pub(crate) const JANITOR_COMMAND: &str = "janitor";

/// What a run starts.
const PROGRAMS: &[&str] = &[
    "rbdd",
    "rbdadm",
    "qemu-storage-daemon",
    "fio",
    "ip",
    "dd",
    "rbd-bench",
];

const DEADLINE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::is_ours;

    #[test]
    fn only_known_programs_with_the_directory_in_an_argument_are_ended() {
        let directory = "/tmp/rbd-bench-a1b2c3".to_owned();
        let ours = |line: &str| is_ours(line, &[&directory]);
        assert!(ours("/usr/bin/fio\0--filename=/tmp/rbd-bench-a1b2c3/raw\0"));
        assert!(!ours("/usr/bin/less\0/tmp/rbd-bench-a1b2c3/fio.log\0"));
        assert!(!ours("/usr/bin/fio\0--filename=/tmp/rbd-bench-other\0"));
        assert!(!ours(""));
    }
}
