//! Taking over a changed configuration while the resource runs.
//!
//! What may change at run time: connection options, addresses, resource options, handlers, and how
//! volumes are exported. What may not is refused by name; `down` and `up` do it.

use std::rc::Rc;

use rbd_engine::Command;
use rbd_protocol::control::{
    NetOptions, PeerConfig, Refusal, RefusalCode, ResourceConfig, VolumeConfig,
};
use rbd_protocol::ids::NodeId;
use rbd_protocol::state::ConnectionState;

use super::bring_up::{self, Notes};
use super::daemon::Daemon;
use super::service::Service;

/// Brings a running resource to this configuration, and finishes what is missing of it.
pub(super) async fn bring_to(
    daemon: &Rc<Daemon>,
    service: &Rc<Service>,
    wanted: ResourceConfig,
) -> Result<Notes, Refusal> {
    let running = service.config.borrow().clone();
    if running == wanted {
        return bring_up::finish(service).await;
    }
    refuse_fixed(&running, &wanted)?;
    daemon.claim(&wanted)?;
    if let Err(refusal) = take_over(daemon, service, &running, &wanted).await {
        // What was in force stays in force.
        if let Err(error) = daemon.claim(&running) {
            tracing::debug!(resource = service.name, %error, "claim not taken back");
        }
        daemon.leave_unused_addresses();
        return Err(refusal);
    }
    daemon.leave_unused_addresses();
    daemon.remembered.keep(&wanted);
    tracing::info!(resource = service.name, "configuration changed");
    for peer in affected(&running, &wanted) {
        reconnect(service, peer).await?;
    }
    bring_up::finish(service).await
}

async fn take_over(
    daemon: &Rc<Daemon>,
    service: &Service,
    running: &ResourceConfig,
    wanted: &ResourceConfig,
) -> Result<(), Refusal> {
    let listen_anew = running.listen != wanted.listen;
    let listener = if listen_anew {
        bring_up::listen(daemon, wanted)?
    } else {
        None
    };
    bring_up::listen_for_clients(daemon, wanted)?;
    let command = Command::Configure(Box::new(wanted.clone()));
    service.command(command).await?;
    *service.config.borrow_mut() = wanted.clone();
    service.links.configure(wanted);
    if listen_anew {
        service.links.listen_on(listener);
    }
    Ok(())
}

/// A link that stands, or is being made, is made anew; StandAlone stays StandAlone here.
async fn reconnect(service: &Service, peer: NodeId) -> Result<(), Refusal> {
    let status = service.status().await?;
    let is_trying = status.connections.iter().any(|connection| {
        connection.peer_node_id == peer
            && connection.connection_state != ConnectionState::StandAlone
    });
    if is_trying {
        let peer = Some(peer);
        let force = false;
        service.command(Command::Disconnect { peer, force }).await?;
        bring_up::connect(service, peer, false, false).await?;
    }
    Ok(())
}

/// The peers whose link depends on something that has changed.
fn affected(running: &ResourceConfig, wanted: &ResourceConfig) -> Vec<NodeId> {
    let listen_changed = running.listen != wanted.listen;
    let is_affected = |(old, new): &(&PeerConfig, &PeerConfig)| {
        listen_changed || old.address != new.address || needs_new_link(&old.net, &new.net)
    };
    running
        .peers
        .iter()
        .zip(&wanted.peers)
        .filter(is_affected)
        .map(|(_, new)| new.node_id)
        .collect()
}

/// Timeouts and intervals take effect on a link that stands.
fn needs_new_link(old: &NetOptions, new: &NetOptions) -> bool {
    old.shared_secret != new.shared_secret
        || old.send_buffer_bytes != new.send_buffer_bytes
        || old.receive_buffer_bytes != new.receive_buffer_bytes
}

/// Names the first thing that cannot change while the resource runs.
pub(super) fn refuse_fixed(
    running: &ResourceConfig,
    wanted: &ResourceConfig,
) -> Result<(), Refusal> {
    let Some(difference) = fixed_difference(running, wanted) else {
        return Ok(());
    };
    Err(Refusal::new(
        RefusalCode::InvalidRequest,
        format!(
            "{} at {}: {difference}, which cannot change while it is up",
            wanted.name, wanted.defined_at
        ),
        format!("rbdadm down {0} && rbdadm up {0}", wanted.name),
    ))
}

fn fixed_difference(running: &ResourceConfig, wanted: &ResourceConfig) -> Option<String> {
    if running.node_id != wanted.node_id {
        return Some(differs("node-id", &running.node_id, &wanted.node_id));
    }
    let peers = |config: &ResourceConfig| {
        let names = config.peers.iter();
        let names: Vec<_> = names
            .map(|peer| format!("{} (node-id {})", peer.name, peer.node_id))
            .collect();
        names.join(", ")
    };
    if peers(running) != peers(wanted) {
        return Some(differs("peers", &peers(running), &peers(wanted)));
    }
    let numbers = |config: &ResourceConfig| {
        let numbers = config.volumes.iter();
        let numbers: Vec<_> = numbers.map(|volume| volume.number.to_string()).collect();
        numbers.join(", ")
    };
    if numbers(running) != numbers(wanted) {
        return Some(differs("volumes", &numbers(running), &numbers(wanted)));
    }
    let volumes = running.volumes.iter().zip(&wanted.volumes);
    volumes
        .into_iter()
        .find_map(|(old, new)| volume_difference(old, new))
}

fn volume_difference(old: &VolumeConfig, new: &VolumeConfig) -> Option<String> {
    let volume = old.number;
    let optional = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
    if old.disk != new.disk {
        let (old, new) = (optional(&old.disk), optional(&new.disk));
        return Some(differs(&format!("disk of volume {volume}"), &old, &new));
    }
    if old.meta_disk != new.meta_disk {
        return Some(format!("meta-disk of volume {volume} differs"));
    }
    // A larger size is a permission; `resize` makes use of it.
    let limit = |config: &VolumeConfig| config.size_limit_bytes.unwrap_or(u64::MAX);
    if limit(new) < limit(old) {
        return Some(format!("size of volume {volume} is smaller than before"));
    }
    if old.device != new.device || old.minor != new.minor {
        let what = format!("device of volume {volume}");
        return Some(differs(&what, &old.device, &new.device));
    }
    None
}

fn differs(what: &str, running: &impl ToString, wanted: &impl ToString) -> String {
    format!(
        "{what}: {} is up, {} is configured",
        running.to_string(),
        wanted.to_string()
    )
}
