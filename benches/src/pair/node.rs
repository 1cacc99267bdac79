//! One `rbdd` and how to talk to it.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::{RESOURCE, Setup};
use crate::process::{self, Daemon};

/// One daemon, or the place where it was, if it has been killed.
#[derive(Debug)]
pub(crate) struct Node {
    name: &'static str,
    at: usize,
    daemon: Option<Daemon>,
    rbdadm: PathBuf,
    config: PathBuf,
    directory: PathBuf,
    starts: u32,
}

impl Node {
    pub(super) fn start(setup: &Setup<'_>, at: usize, config: &Path) -> Result<Self, String> {
        let mut node = Self {
            name: super::NAMES.get(at).copied().unwrap_or_default(),
            at,
            daemon: None,
            rbdadm: setup.programs.join("rbdadm"),
            config: config.to_path_buf(),
            directory: setup.directory(),
            starts: 0,
        };
        node.start_again(setup)?;
        Ok(node)
    }

    /// Starts the daemon once more, and waits until it answers.
    pub(crate) fn start_again(&mut self, setup: &Setup<'_>) -> Result<(), String> {
        let (run, state) = (self.run(), self.directory.join(self.name).join("state"));
        for directory in [&run, &state] {
            fs::create_dir_all(directory)
                .map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
        }
        let program = setup.programs.join("rbdd");
        let mut command = setup.network.command(self.at, &program);
        command.arg("--config").arg(&self.config);
        command.args(["--node", self.name]);
        command.arg("--run-dir").arg(&run);
        command.arg("--state-dir").arg(&state);
        command
            .env_remove("JOURNAL_STREAM")
            .env_remove("NOTIFY_SOCKET");
        self.starts += 1;
        let mut daemon = Daemon::start(&format!("rbdd of {}", self.name), command, &self.log())?;
        let socket = run.join("rbdd.sock");
        daemon.wait_until(|| UnixStream::connect(&socket).is_ok())?;
        self.daemon = Some(daemon);
        Ok(())
    }

    /// Kills the daemon without a warning.
    pub(crate) fn crash(&mut self) {
        self.daemon = None;
    }

    /// Asks the daemon to end, and waits.
    pub(crate) fn stop(self) {
        if let Some(daemon) = self.daemon {
            daemon.stop();
        }
    }

    /// An error if the daemon has ended by itself.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        self.daemon.as_mut().map_or(Ok(()), Daemon::check)
    }

    /// The daemon's process id, if it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(Daemon::pid)
    }

    /// Where its sockets are.
    pub(crate) fn run(&self) -> PathBuf {
        self.directory.join(self.name)
    }

    /// What the daemon now running, or the last one, has said.
    pub(crate) fn said(&self) -> String {
        let text = fs::read(self.log()).unwrap_or_default();
        String::from_utf8_lossy(&text).into_owned()
    }

    fn log(&self) -> PathBuf {
        let name = format!("{}-{}.log", self.name, self.starts);
        self.directory.join(name)
    }

    /// Gives an order and returns what it printed.
    pub(crate) fn rbdadm(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(&self.rbdadm);
        command.arg("--config").arg(&self.config);
        command.args(["--node", self.name]);
        command.arg("--run-dir").arg(self.run()).args(arguments);
        process::succeed(&mut command, COMMAND_DEADLINE)
    }

    /// What `status` says of the resource.
    pub(crate) fn status(&self) -> Result<Value, String> {
        let text = self.rbdadm(&["status", "--json", RESOURCE])?;
        let mut json: Value =
            serde_json::from_str(&text).map_err(|error| format!("status is not JSON: {error}"))?;
        Ok(json["resources"][0].take())
    }

    /// An error unless both disks are UpToDate and the connection replicates.
    pub(crate) fn check_in_sync(&self) -> Result<(), String> {
        check_status(&self.status()?)
    }
}

fn check_status(resource: &Value) -> Result<(), String> {
    let connection = &resource["connections"][0];
    let peer = &connection["peer_devices"][0];
    let states = [
        (&resource["role"], "Primary"),
        (&resource["devices"][0]["disk-state"], "UpToDate"),
        (&connection["connection-state"], "Connected"),
        (&peer["replication-state"], "Established"),
        (&peer["peer-disk-state"], "UpToDate"),
    ];
    match states.iter().find(|(found, expected)| found != expected) {
        None => Ok(()),
        Some((found, expected)) => Err(format!("not replicating: {found} instead of {expected}")),
    }
}

const COMMAND_DEADLINE: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::check_status;

    #[test]
    fn a_node_without_its_peer_is_not_what_is_to_be_measured() {
        let status = |connection: &str| {
            let text = format!(
                r#"{{"name":"r0","role":"Primary",
                "devices":[{{"disk-state":"UpToDate"}}],
                "connections":[{{"connection-state":"{connection}","peer_devices":[
                {{"replication-state":"Established","peer-disk-state":"UpToDate"}}]}}]}}"#
            );
            serde_json::from_str(&text).expect("JSON")
        };
        assert_eq!(check_status(&status("Connected")), Ok(()));
        let refusal = check_status(&status("Connecting")).expect_err("it is alone");
        assert!(refusal.contains("Connecting"), "{refusal}");
    }
}
