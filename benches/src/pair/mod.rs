//! Two `rbdd` on this machine, brought up as an administrator would.

mod node;

use std::fs;
use std::path::{Path, PathBuf};

use crate::files;
use crate::network::Network;
use crate::place::Place;
pub(crate) use node::Node;

/// What a pair is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup<'a> {
    /// Its name, different from that of other pairs of the run.
    pub(crate) name: &'static str,
    /// Where its files go.
    pub(crate) place: &'a Place,
    /// How its nodes reach each other.
    pub(crate) network: &'a Network,
    /// Where `rbdd` and `rbdadm` are.
    pub(crate) programs: &'a Path,
    /// How much of the device is used.
    pub(crate) bytes: u64,
    /// The files are holes, and everything is out of sync; else they are written in full, hold the
    /// same, and the initial sync is skipped.
    pub(crate) is_sparse: bool,
    /// Which of its nodes are Primary.
    pub(crate) primaries: Primaries,
}

/// Which nodes are Primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Primaries {
    First,
    Second,
    Both,
}

impl Primaries {
    fn nodes(self) -> &'static [usize] {
        match self {
            Self::First => &[0],
            Self::Second => &[1],
            Self::Both => &[0, 1],
        }
    }
}

/// Two nodes.
#[derive(Debug)]
pub(crate) struct Pair {
    primaries: Primaries,
    /// Its nodes.
    pub(crate) nodes: [Node; 2],
    /// Their disks.
    pub(crate) files: [PathBuf; 2],
}

impl Setup<'_> {
    /// Where everything but the disks is.
    fn directory(&self) -> PathBuf {
        self.place.run().join(self.name)
    }

    fn disk(&self, node: &str) -> Result<PathBuf, String> {
        let path = self.place.disks().join(format!("{}-{node}", self.name));
        let bytes = self.bytes + METADATA_BYTES;
        if self.is_sparse {
            let file = fs::File::create_new(&path).and_then(|file| file.set_len(bytes));
            file.map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        } else {
            files::fill(&path, bytes)?;
        }
        Ok(path)
    }
}

impl Pair {
    /// Makes files and daemons and promotes the first node.
    pub(crate) fn start(setup: &Setup<'_>) -> Result<Self, String> {
        let files = [setup.disk("a")?, setup.disk("b")?];
        let directory = setup.directory();
        let config = directory.join("rbd.conf");
        fs::create_dir_all(&directory)
            .and_then(|()| fs::write(&config, configuration(setup, &files)?))
            .map_err(|error| format!("cannot write {}: {error}", config.display()))?;
        let nodes = [
            Node::start(setup, 0, &config)?,
            Node::start(setup, 1, &config)?,
        ];
        for node in &nodes {
            // The files are full of noise, and noise may look like anything.
            node.rbdadm(&["create-md", "--force", RESOURCE])?;
            node.rbdadm(&["up", RESOURCE])?;
        }
        let [alpha, _] = &nodes;
        alpha.rbdadm(&["wait-connect", RESOURCE])?;
        if setup.is_sparse {
            alpha.rbdadm(&["primary", "--force", RESOURCE])?;
        } else {
            alpha.rbdadm(&["new-current-uuid", "--clear-bitmap", VOLUME])?;
            for node in &nodes {
                node.rbdadm(&["wait-sync", RESOURCE])?;
            }
            let primaries = setup.primaries.nodes().iter();
            for node in primaries.filter_map(|at| nodes.get(*at)) {
                node.rbdadm(&["primary", RESOURCE])?;
                node.rbdadm(&["wait-sync", RESOURCE])?;
                node.check_in_sync()?;
            }
        }
        Ok(Self {
            primaries: setup.primaries,
            nodes,
            files,
        })
    }

    /// What a client connects to.
    pub(crate) fn uri(&self) -> String {
        uri(&self.nodes[0])
    }

    /// What a client of this node connects to.
    pub(crate) fn uri_of(&self, node: usize) -> String {
        let [one, other] = &self.nodes;
        uri(if node == 0 { one } else { other })
    }

    /// Its daemons.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.nodes.iter().filter_map(Node::pid).collect()
    }

    /// An error unless it is what is to be measured: both run and are in sync. Without its peer a
    /// node goes on, and would be measured doing half the work.
    pub(crate) fn check(&mut self) -> Result<(), String> {
        for node in &mut self.nodes {
            node.check()?;
        }
        let primaries = self.primaries.nodes().iter();
        let mut primaries = primaries.filter_map(|at| self.nodes.get(*at));
        primaries.try_for_each(Node::check_in_sync)
    }

    /// Stops both; what is left are their disks.
    pub(crate) fn stop(self) -> [PathBuf; 2] {
        for node in self.nodes {
            node.stop();
        }
        self.files
    }
}

fn uri(node: &Node) -> String {
    let socket = node.run().join("nbd.sock");
    format!("nbd+unix:///{VOLUME}?socket={}", socket.display())
}

fn configuration(setup: &Setup<'_>, files: &[PathBuf; 2]) -> std::io::Result<String> {
    let network = setup.network;
    let ports = Network::free_ports().map_err(std::io::Error::other)?;
    let mut text = String::from(
        "common {\n  export { nbd unix; kernel none; }\n}\n\nresource r0 {\n  net {\n    \
         protocol C;\n    verify-alg crc32c;\n    cram-hmac-alg sha256;\n    \
         shared-secret \"of the benchmark\";\n",
    );
    if setup.primaries == Primaries::Both {
        // Nothing is cut here, and there is nobody to fence.
        text.push_str(
            "    allow-two-primaries yes;\n    allow-two-primaries-without-fencing yes;\n",
        );
    }
    text.push_str("  }\n");
    for (at, ((name, file), port)) in NAMES.iter().zip(files).zip(ports).enumerate() {
        let address = network.address(at);
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

const NAMES: [&str; 2] = ["alpha", "beta"];

/// The resource of every pair.
pub(crate) const RESOURCE: &str = "r0";
/// Its only volume.
pub(crate) const VOLUME: &str = "r0/0";

/// Room for the metadata behind the data.
const METADATA_BYTES: u64 = 64 << 20;
