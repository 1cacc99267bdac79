//! The environment of a handler: DRBD's variables, old and new, so that scripts written for it can
//! be used as they are, and ours, so that `rbdadm` works without options.

use std::net::SocketAddr;

use rbd_protocol::control::{PeerConfig, ResourceConfig, VolumeConfig};

use super::Surroundings;
use crate::messages::HandlerRun;

/// All variables a handler is started with, beside those the daemon was started with.
pub(super) fn variables(
    surroundings: &Surroundings,
    config: &ResourceConfig,
    run: &HandlerRun,
) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    let mut set = |name: &str, value: String| variables.push((name.to_owned(), value));
    let file = surroundings.config.display().to_string();
    set("RBD_CONFIG", file.clone());
    set("RBD_NODE", surroundings.node.clone());
    set("RBD_RUN_DIR", surroundings.run_dir.display().to_string());
    set(
        "RBD_STATE_DIR",
        surroundings.state_dir.display().to_string(),
    );
    set("RBD_HANDLER", run.handler.name().to_owned());
    set("DRBD_CONF", file);
    set("DRBD_RESOURCE", config.name.clone());
    set("DRBD_MY_NODE_ID", config.node_id.to_string());
    set(
        &numbered("DRBD_NODE_ID", config.node_id),
        config.node_name.clone(),
    );
    for peer in &config.peers {
        set(&numbered("DRBD_NODE_ID", peer.node_id), peer.name.clone());
    }
    let names: Vec<_> = config.peers.iter().map(|peer| &*peer.name).collect();
    set("DRBD_PEERS", names.join(" "));
    if let Some(listen) = &config.listen {
        set("DRBD_MY_AF", family(listen).to_owned());
        set("DRBD_MY_ADDRESS", host(listen));
    }
    if let Some(peer) = peer(config, run) {
        set("DRBD_PEER_NODE_ID", peer.node_id.to_string());
        set("DRBD_PEER", peer.name.clone());
        set("DRBD_PEER_AF", family(&peer.address).to_owned());
        set("DRBD_PEER_ADDRESS", host(&peer.address));
    }
    if let Some(state) = run.facts.connection {
        set("DRBD_CSTATE", state.to_string());
    }
    if let Some(state) = run.facts.disk {
        set("RBD_DISK_STATE", state.to_string());
    }
    let mask = run.facts.up_to_date_nodes;
    set(
        "UP_TO_DATE_NODES",
        format!("{mask:#010X}").replace('X', "x"),
    );
    for (name, value) in of_volumes(config, run) {
        set(&name, value);
    }
    variables
}

/// The peer it is about; of two nodes there is no doubt.
fn peer<'a>(config: &'a ResourceConfig, run: &HandlerRun) -> Option<&'a PeerConfig> {
    match (run.peer, &config.peers[..]) {
        (Some(node), peers) => peers.iter().find(|peer| peer.node_id == node),
        (None, [only]) => Some(only),
        (None, _) => None,
    }
}

/// One volume's number, minor and disk, or those of all volumes, separated by spaces.
fn of_volumes(config: &ResourceConfig, run: &HandlerRun) -> Vec<(String, String)> {
    let volumes: Vec<&VolumeConfig> = config
        .volumes
        .iter()
        .filter(|volume| run.volume.is_none_or(|number| volume.number == number))
        .collect();
    let minor = |volume: &VolumeConfig| {
        volume
            .minor
            .map_or_else(String::new, |minor| minor.to_string())
    };
    let disk = |volume: &VolumeConfig| volume.disk.clone().unwrap_or_else(|| "none".to_owned());
    let all = |text: &dyn Fn(&VolumeConfig) -> String| {
        let texts: Vec<String> = volumes.iter().map(|volume| text(volume)).collect();
        texts.join(" ")
    };
    let mut variables = vec![
        (
            "DRBD_VOLUME".to_owned(),
            all(&|volume| volume.number.to_string()),
        ),
        ("DRBD_MINOR".to_owned(), all(&minor)),
        ("DRBD_LL_DISK".to_owned(), all(&disk)),
        ("DRBD_BACKING_DEV".to_owned(), all(&disk)),
    ];
    for volume in volumes {
        let number = volume.number;
        variables.push((numbered("DRBD_MINOR", number), minor(volume)));
        variables.push((numbered("DRBD_LL_DISK", number), disk(volume)));
        variables.push((numbered("DRBD_BACKING_DEV", number), disk(volume)));
    }
    variables
}

fn numbered(name: &str, number: impl std::fmt::Display) -> String {
    format!("{name}_{number}")
}

fn family(address: &str) -> &'static str {
    match address.parse() {
        Ok(SocketAddr::V6(_)) => "ipv6",
        Ok(SocketAddr::V4(_)) | Err(_) => "ipv4",
    }
}

/// The address without its port.
fn host(address: &str) -> String {
    address.parse().map_or_else(
        |_| address.to_owned(),
        |address: SocketAddr| address.ip().to_string(),
    )
}
