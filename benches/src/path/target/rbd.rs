//! Two `rbdd` on this machine, brought up as an administrator would.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::{Ground, Target};
use crate::path::fio::Aim;
use crate::path::network::Network;
use crate::process::{self, Daemon};

/// Two nodes, the first of them Primary.
#[derive(Debug)]
pub(super) struct Rbd {
    nodes: [Node; 2],
    files: [PathBuf; 2],
}

/// One daemon and how to talk to it.
#[derive(Debug)]
struct Node {
    name: &'static str,
    daemon: Daemon,
    rbdadm: PathBuf,
    config: PathBuf,
    run: PathBuf,
}

impl Rbd {
    /// Makes files and daemons, skips the initial sync and promotes.
    pub(super) fn start(ground: &Ground<'_>) -> Result<Self, String> {
        let bytes = ground.bytes + METADATA_BYTES;
        let files = [
            ground.filled_file("rbd-a", bytes)?,
            ground.filled_file("rbd-b", bytes)?,
        ];
        let config = ground.place.run().join("rbd.conf");
        fs::write(&config, configuration(ground, &files)?)
            .map_err(|error| format!("cannot write {}: {error}", config.display()))?;
        let nodes = [
            Node::start(ground, 0, &config)?,
            Node::start(ground, 1, &config)?,
        ];
        for node in &nodes {
            // The files are full of noise, and noise may look like anything.
            node.rbdadm(&["create-md", "--force", RESOURCE])?;
            node.rbdadm(&["up", RESOURCE])?;
        }
        let [alpha, _] = &nodes;
        alpha.rbdadm(&["wait-connect", RESOURCE])?;
        alpha.rbdadm(&["new-current-uuid", "--clear-bitmap", VOLUME])?;
        alpha.rbdadm(&["primary", RESOURCE])?;
        alpha.rbdadm(&["wait-sync", RESOURCE])?;
        alpha.check_in_sync()?;
        Ok(Self { nodes, files })
    }
}

impl Target for Rbd {
    fn aim(&self) -> Aim {
        let socket = self.nodes[0].run.join("nbd.sock");
        Aim::Nbd(format!("nbd+unix:///{VOLUME}?socket={}", socket.display()))
    }

    fn pids(&self) -> Vec<u32> {
        self.nodes.iter().map(|node| node.daemon.pid()).collect()
    }

    // Without its peer a node goes on, and would be measured doing half the work.
    fn check(&mut self) -> Result<(), String> {
        for node in &mut self.nodes {
            node.daemon.check()?;
        }
        self.nodes[0].check_in_sync()
    }

    fn stop(self: Box<Self>) -> Option<[PathBuf; 2]> {
        for node in self.nodes {
            node.daemon.stop();
        }
        Some(self.files)
    }
}

impl Node {
    fn start(ground: &Ground<'_>, at: usize, config: &Path) -> Result<Self, String> {
        let name = if at == 0 { "alpha" } else { "beta" };
        let run = ground.place.run().join(name);
        let state = ground.place.run().join(format!("{name}-state"));
        for directory in [&run, &state] {
            fs::create_dir_all(directory)
                .map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
        }
        let mut command = ground.network.command(at, &ground.programs.join("rbdd"));
        command.arg("--config").arg(config).args(["--node", name]);
        command.arg("--run-dir").arg(&run);
        command.arg("--state-dir").arg(&state);
        command
            .env_remove("JOURNAL_STREAM")
            .env_remove("NOTIFY_SOCKET");
        let log = ground.place.run().join(format!("{name}.log"));
        let mut daemon = Daemon::start(&format!("rbdd of {name}"), command, &log)?;
        let socket = run.join("rbdd.sock");
        daemon.wait_until(|| UnixStream::connect(&socket).is_ok())?;
        Ok(Self {
            name,
            daemon,
            rbdadm: ground.programs.join("rbdadm"),
            config: config.to_path_buf(),
            run,
        })
    }

    fn rbdadm(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(&self.rbdadm);
        command.arg("--config").arg(&self.config);
        command.args(["--node", self.name]);
        command.arg("--run-dir").arg(&self.run).args(arguments);
        process::succeed(&mut command, COMMAND_DEADLINE)
    }

    fn check_in_sync(&self) -> Result<(), String> {
        let text = self.rbdadm(&["status", "--json", RESOURCE])?;
        check_status(&text)
    }
}

/// An error unless both disks are UpToDate and the connection replicates.
fn check_status(text: &str) -> Result<(), String> {
    let json: Value =
        serde_json::from_str(text).map_err(|error| format!("status is not JSON: {error}"))?;
    let resource = &json["resources"][0];
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

fn configuration(ground: &Ground<'_>, files: &[PathBuf; 2]) -> Result<String, String> {
    let ports = Network::free_ports()?;
    let mut text = String::from(
        "common {\n  export { nbd unix; kernel none; }\n}\n\nresource r0 {\n  net {\n    \
         protocol C;\n    cram-hmac-alg sha256;\n    shared-secret \"of the benchmark\";\n  }\n",
    );
    for (at, ((name, file), port)) in ["alpha", "beta"].iter().zip(files).zip(ports).enumerate() {
        let address = ground.network.address(at);
        text.push_str(&format!(
            "  on {name} {{\n    node-id {at};\n    address {address}:{port};\n    \
             volume 0 {{\n      device minor 1;\n      disk {};\n      \
             meta-disk internal;\n    }}\n  }}\n",
            file.display()
        ));
    }
    text.push_str("}\n");
    Ok(text)
}

const RESOURCE: &str = "r0";
const VOLUME: &str = "r0/0";

/// Room for the metadata behind the data.
const METADATA_BYTES: u64 = 64 << 20;

const COMMAND_DEADLINE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::check_status;

    #[test]
    fn a_node_without_its_peer_is_not_what_is_to_be_measured() {
        let status = |connection: &str| {
            format!(
                r#"{{"schema_version":1,"resources":[{{"name":"r0","role":"Primary",
                "devices":[{{"disk-state":"UpToDate"}}],
                "connections":[{{"connection-state":"{connection}","peer_devices":[
                {{"replication-state":"Established","peer-disk-state":"UpToDate"}}]}}]}}]}}"#
            )
        };
        assert_eq!(check_status(&status("Connected")), Ok(()));
        let refusal = check_status(&status("Connecting")).expect_err("it is alone");
        assert!(refusal.contains("Connecting"), "{refusal}");
    }
}
