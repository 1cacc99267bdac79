//! One node: its daemon, its directories and the commands given to it.
//!
//! It does what an administrator, a supervisor or an accident could do, and nothing else.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::power::Power;
use super::program::{self, Output, binary, capture, find};
use super::{PATIENCE, Status, setup};
use crate::faultfs::Opening;
use crate::nbd_client::{Client, Error};

/// A node; its daemon, if it runs, ends with it.
#[derive(Debug)]
pub struct Node {
    name: &'static str,
    resource: String,
    home: PathBuf,
    disks: PathBuf,
    daemon: Option<Child>,
    is_paused: bool,
    handler_timeout: Option<u32>,
    prefix: Vec<String>,
    pub(super) power: Option<Power>,
}

impl Node {
    /// Makes the node's directories in `parent`.
    ///
    /// # Panics
    /// When they cannot be made.
    #[must_use]
    pub fn new(name: &'static str, resource: &str, parent: &Path) -> Self {
        let home = parent.join(name);
        for directory in ["run", "state"] {
            fs::create_dir_all(home.join(directory)).expect("a fresh directory can be written to");
        }
        Self {
            name,
            resource: resource.to_owned(),
            disks: home.clone(),
            home,
            daemon: None,
            is_paused: false,
            power: None,
            handler_timeout: None,
            prefix: Vec::new(),
        }
    }

    /// From its next start on, its daemon is started with these words in front.
    pub fn run_under(&mut self, prefix: &[String]) {
        self.prefix = prefix.to_vec();
    }

    /// From its next start on, its handlers have so many seconds.
    pub fn set_handler_timeout(&mut self, seconds: u32) {
        self.handler_timeout = Some(seconds);
    }

    /// Makes this shell script what a handler configured as `sh $RBD_RUN_DIR/NAME` does.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn set_script(&self, name: &str, script: &str) {
        fs::write(self.run_directory().join(name), script).expect("it can be written");
    }

    /// Puts its disks, whose media are the files in `media`, under its own power.
    ///
    /// # Panics
    /// When they cannot be mounted.
    pub(super) fn power_up(&mut self, media: &Path, disks: &Path, opening: Opening) {
        self.power = Some(Power::mount(media, disks, opening));
        disks.clone_into(&mut self.disks);
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Where everything of it is.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Its run directory.
    #[must_use]
    pub fn run_directory(&self) -> PathBuf {
        self.home.join("run")
    }

    /// Its state directory.
    #[must_use]
    pub fn state_directory(&self) -> PathBuf {
        self.home.join("state")
    }

    /// The resource commands are about.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// Gives commands about another resource from here on.
    pub fn set_resource(&mut self, resource: &str) {
        resource.clone_into(&mut self.resource);
    }

    /// The file behind a volume.
    #[must_use]
    pub fn disk(&self, volume: usize) -> PathBuf {
        setup::disk_file(&self.disks, volume).into()
    }

    /// The file of a volume's external metadata.
    #[must_use]
    pub fn meta(&self, volume: Option<usize>) -> PathBuf {
        setup::meta_file(&self.disks, volume).into()
    }

    /// Its configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.home.join("rbd.conf")
    }

    /// Replaces a piece of its configuration file.
    ///
    /// # Panics
    /// When that piece is not in it.
    pub fn reconfigure(&self, old: &str, new: &str) {
        let text = fs::read_to_string(self.config()).expect("the configuration is there");
        assert!(text.contains(old), "{old:?} is not in {text}");
        fs::write(self.config(), text.replace(old, new)).expect("it can be written");
    }

    /// The socket on which it serves NBD.
    #[must_use]
    pub fn nbd_socket(&self) -> PathBuf {
        self.run_directory().join("nbd.sock")
    }

    /// The address of a volume for programs that take URIs.
    #[must_use]
    pub fn uri(&self, volume: usize) -> String {
        format!(
            "nbd+unix:///{}/{volume}?socket={}",
            self.resource,
            self.nbd_socket().display()
        )
    }

    /// Opens a volume.
    ///
    /// # Errors
    /// Why it could not be opened.
    pub fn try_open(&self, volume: usize) -> Result<Client, Error> {
        let export = format!("{}/{volume}", self.resource);
        Client::unix(&self.nbd_socket(), &export, CLIENT_LIMIT)
    }

    /// Opens volume 0.
    ///
    /// # Panics
    /// When it cannot be opened.
    #[must_use]
    pub fn open(&self) -> Client {
        self.try_open(0)
            .unwrap_or_else(|error| panic!("{}: cannot open: {error}", self.name))
    }

    /// The command that starts its daemon. Where the system can, the daemon dies with the thread
    /// that started it, so that not even a killed test leaves it behind.
    #[must_use]
    pub fn daemon_command(&self) -> Command {
        let mut words: Vec<OsString> = Vec::new();
        if let Some(setpriv) = find("setpriv") {
            words.push(setpriv.into());
            words.extend(["--pdeathsig", "KILL", "--"].map(OsString::from));
        }
        words.extend(self.prefix.iter().map(OsString::from));
        words.push(binary("rbdd").into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
            .arg("--config")
            .arg(self.config())
            .args(["--node", self.name]);
        command.arg("--run-dir").arg(self.run_directory());
        command.arg("--state-dir").arg(self.home.join("state"));
        if let Some(seconds) = self.handler_timeout {
            command.args(["--handler-timeout", &seconds.to_string()]);
        }
        command
            .stdin(Stdio::null())
            .env_remove("JOURNAL_STREAM")
            .env_remove("NOTIFY_SOCKET")
            // An interrupt from the keyboard is the test's business.
            .process_group(0);
        if let Some(power) = &self.power {
            command.env("RBD_BOOT_ID", power.boot_id());
        }
        command
    }

    /// Starts the daemon and waits until it can be asked.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(&mut self) {
        if let Err(status) = self.try_start() {
            panic!("{}'s daemon: {status}: {}", self.name, self.log());
        }
    }

    /// The same, when it may end at once.
    ///
    /// # Errors
    /// How it ended, or that it does not answer.
    ///
    /// # Panics
    /// When it cannot even be tried.
    pub fn try_start(&mut self) -> Result<(), String> {
        assert!(self.daemon.is_none(), "{}'s daemon runs already", self.name);
        let mut log = File::options();
        let log = log.create(true).append(true).open(self.log_file());
        let log = log.expect("the log can be opened");
        let errors = log.try_clone().expect("a file can be shared");
        let mut command = self.daemon_command();
        let daemon = command.stdout(log).stderr(errors).spawn();
        let mut daemon = daemon.unwrap_or_else(|error| panic!("cannot start rbdd: {error}"));
        let start = Instant::now();
        let socket = self.run_directory().join("rbdd.sock");
        while UnixStream::connect(&socket).is_err() {
            if let Ok(Some(status)) = daemon.try_wait() {
                return Err(format!("ended at once: {status}"));
            }
            if start.elapsed() > PATIENCE {
                program::end(&mut daemon);
                return Err("does not answer".into());
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Whether its daemon was started and neither killed nor stopped.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.daemon.is_some()
    }

    /// The daemon's process id.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.daemon.as_ref().expect("the daemon runs").id()
    }

    /// SIGKILL. A disk that hangs then goes on: the daemon cannot end before it has answered.
    pub fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            signal(&daemon, Signal::KILL);
            if let Some(power) = &self.power {
                power.disks().release();
            }
            program::end(&mut daemon);
        }
        self.is_paused = false;
    }

    /// SIGKILL, without waiting for the end.
    pub(super) fn strike(&self) {
        if let Some(daemon) = &self.daemon {
            signal(daemon, Signal::KILL);
        }
    }

    /// SIGTERM; the daemon must end well.
    ///
    /// # Panics
    /// When it does not.
    pub fn stop(&mut self) {
        let Some(mut daemon) = self.daemon.take() else {
            return;
        };
        signal(&daemon, Signal::TERM);
        let status = program::wait(&mut daemon, PATIENCE);
        program::end(&mut daemon);
        match status {
            Some(status) if status.success() => {}
            Some(status) => panic!("{}'s daemon ended with {status}", self.name),
            None => panic!("{}'s daemon did not end on SIGTERM", self.name),
        }
    }

    /// SIGSTOP: the daemon is there and does nothing.
    pub fn pause(&mut self) {
        if let Some(daemon) = &self.daemon {
            signal(daemon, Signal::STOP);
            self.is_paused = true;
        }
    }

    /// SIGCONT.
    pub fn resume(&mut self) {
        if let Some(daemon) = &self.daemon {
            signal(daemon, Signal::CONT);
            self.is_paused = false;
        }
    }

    /// Whether it was paused and not resumed.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Whether the daemon is alive; one that has died says so in its log.
    pub fn is_alive(&mut self) -> bool {
        match &mut self.daemon {
            Some(daemon) => matches!(daemon.try_wait(), Ok(None)),
            None => false,
        }
    }

    /// Gives a command.
    #[must_use]
    pub fn rbdadm(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary("rbdadm"));
        command
            .arg("--config")
            .arg(self.config())
            .args(["--node", self.name]);
        command.arg("--run-dir").arg(self.run_directory());
        command.arg("--state-dir").arg(self.home.join("state"));
        capture(command.args(arguments), PATIENCE * 2)
    }

    /// Gives a command that must succeed; its last word, the resource, may be left out by writing
    /// only the verb and options.
    ///
    /// # Panics
    /// When it fails.
    pub fn ok(&self, words: &str) -> String {
        let output = self.verb(words);
        assert!(
            output.code == Some(0),
            "{}: rbdadm {words}: exit {:?}: {}",
            self.name,
            output.code,
            output.text()
        );
        output.stdout
    }

    /// Gives a command that must fail with this exit code, and returns what it said.
    ///
    /// # Panics
    /// When it succeeds or fails otherwise.
    pub fn refused(&self, words: &str, code: i32) -> String {
        let output = self.verb(words);
        assert!(
            output.code == Some(code),
            "{}: rbdadm {words}: exit {:?} instead of {code}: {}",
            self.name,
            output.code,
            output.text()
        );
        output.stderr
    }

    /// A verb and options, for the resource.
    #[must_use]
    pub fn verb(&self, words: &str) -> Output {
        let mut arguments: Vec<&str> = words.split_whitespace().collect();
        arguments.push(&self.resource);
        self.rbdadm(&arguments)
    }

    /// What the node says about the resource.
    ///
    /// # Panics
    /// When it says nothing.
    #[must_use]
    pub fn status(&self) -> Status {
        self.try_status()
            .unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// What the node says about the resource.
    ///
    /// # Errors
    /// Why it says nothing.
    pub fn try_status(&self) -> Result<Status, String> {
        let output = self.rbdadm(&["status", "--json", &self.resource]);
        if output.code != Some(0) {
            return Err(format!("status: {:?}: {}", output.code, output.text()));
        }
        Status::parse(&output.stdout, &self.resource)
    }

    /// Waits until the node sees what is waited for.
    ///
    /// # Panics
    /// When it does not in time.
    pub fn wait_for(&self, what: &str, is_so: impl Fn(&Status) -> bool) -> Status {
        let start = Instant::now();
        loop {
            let seen = self.try_status();
            match &seen {
                Ok(status) if is_so(status) => return status.clone(),
                _ => {}
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{}: waited {} s in vain for: {what}; last seen: {}",
                self.name,
                PATIENCE.as_secs(),
                seen.map_or_else(|error| error, |status| status.text())
            );
            thread::sleep(STATUS_PAUSE);
        }
    }

    /// Waits until the log has a line with these words.
    ///
    /// # Panics
    /// When it has not in time.
    pub fn wait_for_log(&self, words: &str) {
        super::wait_until(&format!("{words:?} in {}'s log", self.name), || {
            super::unless(self.log().contains(words), || self.log_end())
        });
    }

    /// Everything the daemon has logged.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_file()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines of the log.
    #[must_use]
    pub fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let first = lines.len().saturating_sub(LOG_LINES);
        format!(
            "-- the last lines of {}'s log\n{}\n",
            self.name,
            lines[first..].join("\n")
        )
    }

    fn log_file(&self) -> PathBuf {
        self.home.join("rbdd.log")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if thread::panicking() {
            let alive = if self.is_alive() {
                "alive"
            } else {
                "not alive"
            };
            eprintln!("-- {}'s daemon is {alive}\n{}", self.name, self.log_end());
        }
        self.kill();
    }
}

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // Fails only for a process that has just died, and then nothing needs to be said to it.
        kill_process(pid, signal).ok();
    }
}

/// A client's request may have to wait for a peer that is being given up.
const CLIENT_LIMIT: Duration = Duration::from_secs(60);
const STATUS_PAUSE: Duration = Duration::from_millis(50);
const LOG_LINES: usize = 60;
