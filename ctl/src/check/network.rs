//! Whether the addresses are this machine's, and who may connect to them.

use std::net::{SocketAddr, TcpListener};

use rbd_protocol::control::{NbdExport, ResourceConfig};

use super::{Finding, broken, doubtful, fine};

/// What there is to say about the addresses of one resource.
pub(super) fn findings(config: &ResourceConfig) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(listen) = &config.listen {
        findings.push(own_address(&format!("{} address", config.name), listen));
    }
    for peer in &config.peers {
        let what = format!("{} connection to {}", config.name, peer.name);
        if peer.net.shared_secret.is_none() {
            findings.push(doubtful(
                what,
                "anybody who can reach the port is taken for the peer",
                "set shared-secret in net { }, the same on both nodes",
            ));
        }
    }
    for volume in &config.volumes {
        for export in &volume.exports {
            let NbdExport::Tcp(address) = export else {
                continue;
            };
            let what = format!("{}/{} nbd export", config.name, volume.number);
            findings.push(own_address(&what, address));
            if is_reachable_from_outside(address) {
                findings.push(doubtful(
                    what,
                    format!("whoever can reach {address} can read and write the data"),
                    "use 'nbd unix' or a loopback address, or guard the port with a firewall",
                ));
            }
        }
    }
    findings
}

/// Only an address of this machine can be bound.
fn own_address(what: &str, address: &str) -> Finding {
    let Ok(parsed) = address.parse::<SocketAddr>() else {
        return broken(what, format!("{address} is no ADDRESS:PORT"), "mend it");
    };
    let any_port = SocketAddr::new(parsed.ip(), 0);
    match TcpListener::bind(any_port) {
        Ok(_) => fine(
            what,
            format!("{} is an address of this machine", parsed.ip()),
        ),
        Err(error) => broken(
            what,
            format!("{} cannot be used on this machine: {error}", parsed.ip()),
            "configure the address, or name this node with --node",
        ),
    }
}

fn is_reachable_from_outside(address: &str) -> bool {
    let parsed = address.parse::<SocketAddr>();
    parsed.is_ok_and(|address| !address.ip().is_loopback())
}
