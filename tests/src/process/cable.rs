//! A cable between two network namespaces, one for each node: it can be pulled, made slow, and made
//! to carry nothing in one direction. Needs root, and `ip`, `tc`, `nft`, `nsenter`, `setpriv` and
//! `unshare`.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::program::{self, capture};
use super::{is_root, lacks, skip, unless, wait_until};

/// The cable; it and its namespaces go with it.
#[derive(Debug)]
pub struct Cable {
    /// A process in each namespace, which keeps it.
    holders: [Child; 2],
}

impl Cable {
    /// Lays one. `None`, and noted as skipped, where that is not allowed.
    ///
    /// # Panics
    /// When it cannot be laid although it is allowed.
    #[must_use]
    pub fn lay(test: &str) -> Option<Self> {
        if lacks(test, &["ip", "tc", "nft", "nsenter", "setpriv", "unshare"]) {
            return None;
        }
        if !is_root() {
            skip(test, "only root may make network namespaces");
            return None;
        }
        let cable = Self {
            holders: [hold(), hold()],
        };
        for holder in &cable.holders {
            wait_until("a network namespace", || {
                let is_own = fs::read_link(namespace(holder)).ok() != fs::read_link(OURS).ok();
                unless(is_own, || "none".to_owned())
            });
        }
        let [alpha, beta] = cable.holders.each_ref().map(|one| one.id().to_string());
        let ends = ["type", "veth", "peer", "name", "veth0", "netns"];
        let mut add = Command::new("ip");
        add.args(["link", "add", "veth0", "netns", &alpha]);
        must(add.args(ends).arg(&beta));
        for node in 0..2 {
            let address = format!("{}/24", Self::host(node));
            cable.inside(node, &["ip", "address", "add", &address, "dev", "veth0"]);
            cable.inside(node, &["ip", "link", "set", "lo", "up"]);
            cable.inside(node, &["ip", "link", "set", "veth0", "up"]);
        }
        Some(cable)
    }

    /// What a program is started with to run at this node's end.
    #[must_use]
    pub fn prefix(&self, node: usize) -> Vec<String> {
        let namespace = namespace(&self.holders[node]);
        let option = format!("--net={}", namespace.display());
        vec!["nsenter".into(), option, "--".into()]
    }

    /// Both nodes' addresses.
    #[must_use]
    pub fn addresses() -> [SocketAddr; 2] {
        [0, 1].map(|node| SocketAddr::new(Self::host(node), PORT))
    }

    fn host(node: usize) -> IpAddr {
        IpAddr::from([10, 91, 0, if node == 0 { 1 } else { 2 }])
    }

    /// Pulls the plug, or puts it in again.
    ///
    /// # Panics
    /// When that fails.
    pub fn plug(&self, is_in: bool) {
        let state = if is_in { "up" } else { "down" };
        self.inside(0, &["ip", "link", "set", "veth0", state]);
    }

    /// So many bits a second are carried in each direction, such as `8mbit`.
    ///
    /// # Panics
    /// When that fails.
    pub fn throttle(&self, rate: &str) {
        let how = ["burst", "32kb", "latency", "100ms"];
        for node in 0..2 {
            let limit = [
                "tc", "qdisc", "replace", "dev", "veth0", "root", "tbf", "rate", rate,
            ];
            self.inside(node, &[&limit[..], &how[..]].concat());
        }
    }

    /// As fast as it can.
    ///
    /// # Panics
    /// When that fails.
    pub fn open_up(&self) {
        for node in 0..2 {
            self.inside(node, &["tc", "qdisc", "del", "dev", "veth0", "root"]);
        }
    }

    /// Nothing that is sent to this node arrives any more; what it sends does.
    ///
    /// # Panics
    /// When that fails.
    pub fn deafen(&self, node: usize) {
        let chain = "add chain inet cut in { type filter hook input priority 0; policy drop; }";
        self.inside(node, &["nft", "add table inet cut"]);
        self.inside(node, &["nft", chain]);
    }

    /// What is sent to this node arrives again.
    ///
    /// # Panics
    /// When that fails.
    pub fn hear(&self, node: usize) {
        self.inside(node, &["nft", "delete table inet cut"]);
    }

    fn inside(&self, node: usize, words: &[&str]) {
        let prefix = self.prefix(node);
        let mut command = Command::new(&prefix[0]);
        must(command.args(&prefix[1..]).args(words));
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.holders.iter_mut().for_each(program::end);
    }
}

/// A process in a new network namespace.
fn hold() -> Child {
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", "unshare", "--net", "--"])
        .args(["sleep", "infinity"])
        .stdin(Stdio::null())
        .spawn()
        .expect("root may make a network namespace")
}

fn namespace(holder: &Child) -> PathBuf {
    format!("/proc/{}/ns/net", holder.id()).into()
}

fn must(command: &mut Command) {
    let output = capture(command, Duration::from_secs(20));
    assert_eq!(output.code, Some(0), "{command:?}: {}", output.text());
}

const OURS: &str = "/proc/self/ns/net";

/// In namespaces of its own a pair may always use the same one.
const PORT: u16 = 7789;
