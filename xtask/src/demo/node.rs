//! One node of the demo: its daemon, its directories and the commands given to it.
//!
//! It only does what an administrator could do; it never looks into a daemon.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::status::Seen;
use crate::nbd_client::{self, Client};
use crate::process::{self, Finished};

/// Where the two programs are.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    rbdd: PathBuf,
    rbdadm: PathBuf,
}

impl Programs {
    /// The programs of one build.
    pub(super) fn in_directory(directory: &Path) -> Self {
        Self {
            rbdd: directory.join("rbdd"),
            rbdadm: directory.join("rbdadm"),
        }
    }
}

/// A node; its daemon, if it runs, ends with it.
#[derive(Debug)]
pub(super) struct Node {
    name: &'static str,
    directory: PathBuf,
    config: PathBuf,
    programs: Programs,
    daemon: Option<Child>,
    verbose: bool,
}

impl Node {
    /// Makes the node's directories.
    pub(super) fn new(
        name: &'static str,
        parent: &Path,
        config: &Path,
        programs: &Programs,
        verbose: bool,
    ) -> Result<Self, String> {
        let node = Self {
            name,
            directory: parent.join(name),
            config: config.to_path_buf(),
            programs: programs.clone(),
            daemon: None,
            verbose,
        };
        for directory in [node.run_directory(), node.state_directory()] {
            fs::create_dir_all(&directory)
                .map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
        }
        Ok(node)
    }

    /// Its name in the configuration.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Its backing file.
    pub(super) fn disk(&self) -> PathBuf {
        self.directory.join("disk")
    }

    /// The socket on which it serves NBD.
    pub(super) fn nbd_socket(&self) -> PathBuf {
        self.run_directory().join("nbd.sock")
    }

    /// Starts the daemon and waits until it can be asked.
    pub(super) fn start(&mut self) -> Result<(), String> {
        let mut command = Command::new(&self.programs.rbdd);
        command
            .arg("--config")
            .arg(&self.config)
            .args(["--node", self.name]);
        command.arg("--run-dir").arg(self.run_directory());
        command.arg("--state-dir").arg(self.state_directory());
        self.announce("rbdd &", &command);
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .map_err(|error| format!("cannot open {}: {error}", self.log().display()))?;
        let errors = log
            .try_clone()
            .map_err(|error| format!("cannot share the log: {error}"))?;
        let mut daemon = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .env_remove("JOURNAL_STREAM")
            .env_remove("NOTIFY_SOCKET")
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", self.programs.rbdd.display()))?;
        let socket = self.run_directory().join("rbdd.sock");
        let start = Instant::now();
        let outcome = loop {
            if let Ok(Some(status)) = daemon.try_wait() {
                break Err(format!(
                    "the daemon of {} ended at once: {status}",
                    self.name
                ));
            }
            if UnixStream::connect(&socket).is_ok() {
                break Ok(());
            }
            if start.elapsed() > COMMAND_DEADLINE {
                break Err(format!("the daemon of {} does not answer", self.name));
            }
            thread::sleep(process::POLL);
        };
        self.daemon = Some(daemon);
        outcome
    }

    /// Ends the daemon as a power failure of the process would: SIGKILL.
    pub(super) fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            println!("\n{}$ kill -9 {}    # its daemon", self.name, daemon.id());
            process::end(&mut daemon);
        }
    }

    /// Asks the daemon to end, as systemd would, and expects it to end well.
    pub(super) fn stop(&mut self) -> Result<(), String> {
        let Some(mut daemon) = self.daemon.take() else {
            return Ok(());
        };
        println!("\n{}$ kill {}    # its daemon", self.name, daemon.id());
        process::signal("TERM", daemon.id());
        match process::wait(&mut daemon, COMMAND_DEADLINE) {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("the daemon of {} ended with {status}", self.name)),
            None => {
                process::end(&mut daemon);
                Err(format!(
                    "the daemon of {} did not stop on SIGTERM",
                    self.name
                ))
            }
        }
    }

    /// Gives a command, shows it and what it printed, and expects it to succeed.
    pub(super) fn rbdadm(&self, arguments: &[&str]) -> Result<(), String> {
        let mut command = self.command(arguments);
        self.announce(&format!("rbdadm {}", arguments.join(" ")), &command);
        let answer = process::capture(&mut command, WAIT_DEADLINE)?;
        print!("{}{}", answer.stdout, answer.stderr);
        if answer.status.success() {
            Ok(())
        } else {
            Err(format!(
                "{}: rbdadm {}: {}",
                self.name,
                arguments.join(" "),
                answer.status
            ))
        }
    }

    /// What the node says about the resource.
    pub(super) fn seen(&self) -> Result<Seen, String> {
        let Finished {
            status,
            stdout,
            stderr,
        } = process::capture(
            &mut self.command(&["status", "--json", RESOURCE]),
            COMMAND_DEADLINE,
        )?;
        if !status.success() {
            return Err(format!(
                "{}: rbdadm status --json: {status}: {stderr}",
                self.name
            ));
        }
        Seen::parse(&stdout, RESOURCE).map_err(|error| format!("{}: {error}", self.name))
    }

    /// Waits until the node sees what is waited for, showing each change on the way.
    pub(super) fn wait_until(
        &self,
        what: &str,
        condition: impl Fn(&Seen) -> bool,
    ) -> Result<Seen, String> {
        let start = Instant::now();
        let mut last = String::new();
        loop {
            let seen = self.seen()?;
            let shown = seen.to_string();
            if shown != last {
                println!("  {}: {shown}", self.name);
                last = shown;
            }
            if condition(&seen) {
                return Ok(seen);
            }
            if start.elapsed() > WAIT_DEADLINE {
                return Err(format!(
                    "{}: not {what} after {} s: {last}",
                    self.name,
                    WAIT_DEADLINE.as_secs()
                ));
            }
            thread::sleep(STATUS_PAUSE);
        }
    }

    /// Opens the device over NBD.
    pub(super) fn open(&self) -> Result<Client<UnixStream>, nbd_client::Error> {
        Client::unix(&self.nbd_socket(), EXPORT, CLIENT_LIMIT)
    }

    /// Prints the end of the daemon's log.
    pub(super) fn print_log(&self) {
        let text = fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let first = lines.len().saturating_sub(LOG_LINES);
        eprintln!("\n-- the last lines of {}'s log", self.name);
        for line in &lines[first..] {
            eprintln!("{line}");
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.programs.rbdadm);
        command
            .arg("--config")
            .arg(&self.config)
            .args(["--node", self.name]);
        command.arg("--run-dir").arg(self.run_directory());
        command.args(arguments);
        command
    }

    fn announce(&self, short: &str, command: &Command) {
        if self.verbose {
            println!("\n{}$ {}", self.name, process::show(command));
        } else {
            println!("\n{}$ {short}", self.name);
        }
    }

    fn run_directory(&self) -> PathBuf {
        self.directory.join("run")
    }

    fn state_directory(&self) -> PathBuf {
        self.directory.join("state")
    }

    fn log(&self) -> PathBuf {
        self.directory.join("rbdd.log")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            process::end(daemon);
        }
    }
}

/// The resource of the demo.
pub(super) const RESOURCE: &str = "r0";

/// The name under which its volume 0 is exported.
pub(super) const EXPORT: &str = "r0/0";

const COMMAND_DEADLINE: Duration = Duration::from_secs(30);

/// Connecting and resyncing 64 MiB takes seconds; a busy machine may need more.
const WAIT_DEADLINE: Duration = Duration::from_secs(120);

/// A client's request may have to wait for a peer that is being given up.
const CLIENT_LIMIT: Duration = Duration::from_secs(60);

const STATUS_PAUSE: Duration = Duration::from_millis(200);
const LOG_LINES: usize = 40;
