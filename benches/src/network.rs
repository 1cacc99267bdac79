//! The network between the two nodes: two namespaces joined by veth where that is allowed, else the
//! loopback interface.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, id};
use std::time::Duration;

use crate::process;

/// How the nodes reach each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    /// Each node has a network of its own; these are the namespaces' names.
    Veth([String; 2]),
    /// Both share this machine's loopback interface.
    Loopback,
}

impl Network {
    /// Makes namespaces if it may. Otherwise the loopback interface serves, and why.
    pub(crate) fn new() -> (Self, Option<String>) {
        let names = namespaces(&id().to_string());
        match connect(&names) {
            Ok(()) => (Self::Veth(names), None),
            Err(why) => {
                Self::remove(&id().to_string());
                (Self::Loopback, Some(why))
            }
        }
    }

    /// Removes the namespaces a process of this id has made, if it has.
    pub(crate) fn remove(process_id: &str) {
        for name in namespaces(process_id) {
            if Path::new("/run/netns").join(&name).exists() {
                drop(ip(&["netns", "del", &name]));
            }
        }
    }

    /// Limits the link, in both directions, to so many megabits a second; `None` takes the limit
    /// away.
    pub(crate) fn shape(&self, rate: Option<u64>) -> Result<(), String> {
        let Self::Veth(names) = self else {
            return Err("the loopback interface is not shaped: other programs use it".to_owned());
        };
        for name in names {
            let device = ["-n", name, "qdisc"];
            let Some(rate) = rate else {
                // There may be none.
                drop(tc(&[&device[..], &["del", "dev", "veth0", "root"]].concat()));
                continue;
            };
            let rate = format!("{rate}mbit");
            let limit = ["replace", "dev", "veth0", "root", "tbf", "rate", &rate];
            let depth = ["burst", "256kb", "latency", "50ms"];
            tc(&[&device[..], &limit, &depth].concat())?;
        }
        Ok(())
    }

    /// A command that runs a program on this node's network.
    pub(crate) fn command(&self, node: usize, program: &Path) -> Command {
        match self {
            Self::Veth(names) => {
                let mut command = ip_command();
                let name = names.get(node).map_or("", String::as_str);
                command.args(["netns", "exec", name]).arg(program);
                command
            }
            Self::Loopback => Command::new(program),
        }
    }

    /// The node's address.
    pub(crate) fn address(&self, node: usize) -> &'static str {
        self.one_of(node, ADDRESSES)
    }

    /// Another address of the node. What is sent between two of these is acknowledged at once,
    /// where the nodes have networks of their own: qemu before 8.1 leaves the end of a reply to
    /// TCP's delayed acknowledgement, which would cost it 40 ms again and again.
    pub(crate) fn hurried_address(&self, node: usize) -> &'static str {
        self.one_of(node, HURRIED_ADDRESSES)
    }

    fn one_of(&self, node: usize, [a, b]: [&'static str; 2]) -> &'static str {
        match (self, node) {
            (Self::Veth(_), 0) => a,
            (Self::Veth(_), _) => b,
            (Self::Loopback, _) => "127.0.0.1",
        }
    }

    /// Two different ports nobody listens on.
    pub(crate) fn free_ports() -> Result<[u16; 2], String> {
        let listen = || {
            TcpListener::bind(("127.0.0.1", 0)).map_err(|error| format!("no free port: {error}"))
        };
        let port = |listener: &TcpListener| {
            listener
                .local_addr()
                .map(|address| address.port())
                .map_err(|error| format!("no address: {error}"))
        };
        // Both are held until both are known, so that they differ.
        let listeners = [listen()?, listen()?];
        Ok([port(&listeners[0])?, port(&listeners[1])?])
    }

    /// What the report says about it.
    pub(crate) fn words(&self) -> &'static str {
        match self {
            Self::Veth(_) => "veth between two network namespaces",
            Self::Loopback => "the loopback interface",
        }
    }
}

fn namespaces(process_id: &str) -> [String; 2] {
    ["a", "b"].map(|node| format!("rbd-bench-{process_id}-{node}"))
}

fn connect([a, b]: &[String; 2]) -> Result<(), String> {
    ip(&["netns", "add", a])?;
    ip(&["netns", "add", b])?;
    ip(&[
        "link", "add", "veth0", "netns", a, "type", "veth", "peer", "name", "veth0", "netns", b,
    ])?;
    for (at, name) in [a, b].into_iter().enumerate() {
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        ip(&["-n", name, "link", "set", "veth0", "up"])?;
        let prefix = format!("{}/24", ADDRESSES[at]);
        ip(&["-n", name, "address", "add", &prefix, "dev", "veth0"])?;
        let (mine, theirs) = (HURRIED_ADDRESSES[at], HURRIED_ADDRESSES[1 - at]);
        ip(&["-n", name, "address", "add", mine, "dev", "veth0"])?;
        ip(&[
            "-n", name, "route", "add", theirs, "dev", "veth0", "src", mine, "quickack", "1",
        ])?;
    }
    Ok(())
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    process::succeed(ip_command().args(arguments), DEADLINE).map(drop)
}

fn tc(arguments: &[&str]) -> Result<(), String> {
    let program = process::find("tc").unwrap_or_else(|| "tc".into());
    process::succeed(Command::new(program).args(arguments), DEADLINE).map(drop)
}

fn ip_command() -> Command {
    Command::new(process::find("ip").unwrap_or_else(|| "ip".into()))
}

const ADDRESSES: [&str; 2] = ["192.0.2.1", "192.0.2.2"];
const HURRIED_ADDRESSES: [&str; 2] = ["198.51.100.1", "198.51.100.2"];

const DEADLINE: Duration = Duration::from_secs(10);
