//! What two nodes are to look like, and the configuration that says so.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::{Cable, skip};
use crate::faultfs::{Opening, mount_privately};

/// A pair to be made.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Name of the resource.
    pub resource: &'static str,
    /// Bytes of each backing file of alpha and of beta.
    pub disk_bytes: [u64; 2],
    /// Where the metadata of each volume lies.
    pub volumes: Vec<Meta>,
    /// The `shared-secret` of alpha's and of beta's configuration.
    pub secrets: [&'static str; 2],
    /// More lines for the `net` section.
    pub net: String,
    /// More lines for the resource.
    pub more: String,
    /// Whether everything between the nodes goes through a [`Proxy`](super::Proxy).
    pub proxied: bool,
    /// What the nodes' daemons are started with, such as a program that limits them.
    pub prefixes: [Vec<String>; 2],
    /// Their addresses, if they are not on the loopback device.
    pub addresses: Option<[SocketAddr; 2]>,
    /// Disks that can be made to fail, and how they can be opened.
    pub faulty: Option<Opening>,
}

/// Where the metadata of a volume lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meta {
    /// At the end of the disk.
    Internal,
    /// In a file of its own.
    External,
    /// In a slot of a file shared by all volumes.
    Indexed(u32),
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            resource: "r0",
            disk_bytes: [DISK_BYTES; 2],
            volumes: vec![Meta::Internal],
            secrets: ["between the two of us"; 2],
            net: String::new(),
            more: String::new(),
            proxied: false,
            prefixes: [Vec::new(), Vec::new()],
            addresses: None,
            faulty: None,
        }
    }
}

impl Setup {
    /// Both disks have so many bytes.
    #[must_use]
    pub fn sized(mut self, bytes: u64) -> Self {
        self.disk_bytes = [bytes; 2];
        self
    }

    /// Where the metadata of each volume lies; there are as many volumes.
    #[must_use]
    pub fn volumes(mut self, volumes: &[Meta]) -> Self {
        self.volumes = volumes.to_vec();
        self
    }

    /// More lines for the `net` section.
    #[must_use]
    pub fn net(mut self, lines: &str) -> Self {
        self.net.push_str(lines);
        self
    }

    /// Fences with this policy, by the scripts `fence` and `unfence` in each node's run directory.
    #[must_use]
    pub fn fencing(mut self, policy: &str) -> Self {
        self.net.push_str(&format!("    fencing {policy};\n"));
        self.more.push_str(
            "  handlers {\n    fence-peer \"exec sh $RBD_RUN_DIR/fence\";\n    \
             unfence-peer \"exec sh $RBD_RUN_DIR/unfence\";\n  }\n",
        );
        self
    }

    /// Puts a wire between the nodes that the test can damage.
    #[must_use]
    pub fn proxied(mut self) -> Self {
        self.proxied = true;
        self
    }

    /// Puts disks under the nodes that lose power and fail on command; the test must stay in this
    /// thread. `None`, and noted as skipped, where that is not possible.
    #[must_use]
    pub fn faulty(mut self, test: &str, opening: Opening) -> Option<Self> {
        if let Err(reason) = mount_privately() {
            skip(test, &reason);
            return None;
        }
        self.faulty = Some(opening);
        Some(self)
    }

    /// The nodes are at the ends of this cable.
    #[must_use]
    pub fn on(mut self, cable: &Cable) -> Self {
        self.prefixes = [cable.prefix(0), cable.prefix(1)];
        self.addresses = Some(Cable::addresses());
        self
    }

    /// The directory a node's disks are in.
    pub(super) fn disks(&self, home: &Path) -> PathBuf {
        match self.faulty {
            None => home.to_path_buf(),
            Some(_) => home.join("disks"),
        }
    }

    /// The configuration as this node sees it. `addresses` are alpha's and beta's.
    pub(super) fn configuration(
        &self,
        node: usize,
        addresses: [SocketAddr; 2],
        directory: &Path,
    ) -> String {
        let mut text = format!(
            "common {{\n  export {{ nbd unix; kernel none; }}\n}}\n\nresource {} {{\n  net {{\n    \
             protocol C;\n    cram-hmac-alg sha256;\n    shared-secret \"{}\";\n{}  }}\n{}",
            self.resource, self.secrets[node], self.net, self.more
        );
        for (id, name) in NAMES.iter().enumerate() {
            let disks = self.disks(&directory.join(name));
            write!(
                text,
                "  on {name} {{\n    node-id {id};\n    address {};\n",
                addresses[id]
            )
            .expect("a string takes any text");
            for (number, meta) in self.volumes.iter().enumerate() {
                let meta = match meta {
                    Meta::Internal => "internal".to_owned(),
                    Meta::External => meta_file(&disks, Some(number)),
                    Meta::Indexed(index) => format!("{}[{index}]", meta_file(&disks, None)),
                };
                write!(
                    text,
                    "    volume {number} {{\n      device minor {};\n      disk {};\n      \
                     meta-disk {meta};\n    }}\n",
                    number + 1,
                    disk_file(&disks, number),
                )
                .expect("a string takes any text");
            }
            text.push_str("  }\n");
        }
        text.push_str("}\n");
        text
    }
}

/// The backing file of a volume.
pub(super) fn disk_file(disks: &Path, volume: usize) -> String {
    format!("{}/disk{volume}", disks.display())
}

/// The file of a volume's external metadata, or of all.
pub(super) fn meta_file(disks: &Path, volume: Option<usize>) -> String {
    match volume {
        Some(volume) => format!("{}/meta{volume}", disks.display()),
        None => format!("{}/meta", disks.display()),
    }
}

/// The nodes' names, by node-id.
pub(super) const NAMES: [&str; 2] = ["alpha", "beta"];

/// Large enough for several regions of the intent log, small enough to be compared often.
const DISK_BYTES: u64 = 32 << 20;
