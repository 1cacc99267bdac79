//! Resyncs that wait for others of the same node (`resync-after`), because they share a disk or a
//! link.
//!
//! A volume waits while one it is to follow, directly or over others, is being resynchronised here,
//! as source or target, be it held back itself. One that is not up is not waited for. The
//! resources know nothing of each other: here their states are looked at, and each is told to hold
//! back or to go on, which it may be told again and again. Nothing here decides about data, and a
//! resync that begins a moment too early is held back a moment later.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use rbd_engine::{Command, PauseOrder, PausedBy};
use rbd_protocol::control::{Refusal, RefusalCode, ResourceConfig, ResourceStatus};
use rbd_protocol::ids::VolumeNumber;
use rbd_protocol::state::ReplicationState;
use tokio::time::{sleep, timeout};

use super::daemon::Daemon;
use super::service::Service;

/// A volume of this node.
pub(super) type Volume = (String, VolumeNumber);

/// Who follows whom.
pub(super) type Order = BTreeMap<Volume, Volume>;

/// What is configured, of all these resources.
pub(super) fn order<'a>(configs: impl IntoIterator<Item = &'a ResourceConfig>) -> Order {
    let of_resource = |config: &'a ResourceConfig| {
        config.volumes.iter().filter_map(|volume| {
            let after = volume.resync_after.clone()?;
            Some(((config.name.clone(), volume.number), after))
        })
    };
    configs.into_iter().flat_map(of_resource).collect()
}

/// Refuses volumes that would wait for each other for ever.
pub(super) fn check(order: &Order) -> Result<(), Refusal> {
    let Some(circle) = order.keys().find_map(|start| circle(order, start)) else {
        return Ok(());
    };
    let names: Vec<String> = circle.into_iter().map(name).collect();
    let reason = format!("each waits for the next: {}", names.join(", "));
    let help = "leave resync-after out of one of them";
    Err(Refusal::new(RefusalCode::ResyncAfterCycle, reason, help))
}

/// The way from a volume back to itself, if there is one.
fn circle<'a>(order: &'a Order, start: &'a Volume) -> Option<Vec<&'a Volume>> {
    let mut way = vec![start];
    for other in ancestors(order, start) {
        way.push(other);
        if other == start {
            return Some(way);
        }
    }
    None
}

/// Whom a volume follows, the nearest first; a circle is gone round once at most.
fn ancestors<'a>(order: &'a Order, volume: &'a Volume) -> impl Iterator<Item = &'a Volume> {
    let first = order.get(volume);
    let next = |before: &&Volume| order.get(*before);
    std::iter::successors(first, next).take(order.len())
}

/// Whether a volume must wait while these are being resynchronised.
fn must_wait(order: &Order, busy: &BTreeSet<Volume>, volume: &Volume) -> bool {
    ancestors(order, volume).any(|other| other != volume && busy.contains(other))
}

fn name((resource, volume): &Volume) -> String {
    format!("{resource}/{volume}")
}

/// Holds resyncs back and lets them go on, for as long as the daemon lives.
pub(super) async fn keep(daemon: Rc<Daemon>) {
    // Those held back from here: they are let go if the configuration no longer asks for it.
    let mut held = BTreeSet::new();
    let mut has_order = false;
    loop {
        // What a thread reports may mean that a resync has begun or ended.
        if has_order {
            sleep(PAUSE).await;
            drop(timeout(INTERVAL, daemon.changed()).await);
        } else {
            daemon.changed().await;
        }
        let services = daemon.all();
        let configs: Vec<ResourceConfig> = services
            .iter()
            .map(|service| service.config.borrow().clone())
            .collect();
        let order = order(&configs);
        has_order = !order.is_empty() || !held.is_empty();
        if has_order {
            held = look(&services, &order, held).await;
        }
    }
}

/// Looks once at every resource that has to do with it. Returns what is held back now.
async fn look(
    services: &[Rc<Service>],
    order: &Order,
    mut held: BTreeSet<Volume>,
) -> BTreeSet<Volume> {
    let is_concerned = |name: &str| {
        let mut named = order.iter().flat_map(|(one, other)| [one, other]);
        named.any(|(resource, _)| resource == name) || held.iter().any(|(held, _)| held == name)
    };
    let mut seen = Vec::new();
    for service in services.iter().filter(|one| is_concerned(&one.name)) {
        match service.status().await {
            Ok(status) => seen.push((service, status)),
            Err(refusal) => {
                // Of a resource that does not tell nothing is known: nothing is changed.
                let resource = &*service.name;
                tracing::debug!(resource, "its resyncs cannot be looked at: {refusal}");
                return held;
            }
        }
    }
    let busy = seen.iter().flat_map(|(_, status)| busy(status)).collect();
    held.retain(|(resource, _)| services.iter().any(|one| one.name == *resource));
    for (service, status) in seen {
        for device in &status.devices {
            let volume = (service.name.clone(), device.volume);
            let waits = must_wait(order, &busy, &volume);
            let is_told = is_held(&status, device.volume) == waits;
            if waits || held.contains(&volume) {
                if !is_told && !tell(service, device.volume, waits).await {
                    continue; // it is told again
                }
                if waits {
                    held.insert(volume);
                } else {
                    held.remove(&volume);
                }
            }
        }
    }
    held
}

/// The volumes of a resource that are being resynchronised here.
fn busy(status: &ResourceStatus) -> impl Iterator<Item = Volume> {
    let peers = status.connections.iter();
    let devices = peers.flat_map(|connection| &connection.peer_devices);
    let busy = devices.filter(|device| is_resync(device.replication_state));
    busy.map(|device| (status.name.clone(), device.volume))
}

fn is_resync(state: ReplicationState) -> bool {
    matches!(
        state,
        ReplicationState::WFBitMapS
            | ReplicationState::WFBitMapT
            | ReplicationState::SyncSource
            | ReplicationState::SyncTarget
            | ReplicationState::PausedSyncS
            | ReplicationState::PausedSyncT
    )
}

/// Whether resyncs of the volume are held back by an order from here, with every peer.
fn is_held(status: &ResourceStatus, volume: VolumeNumber) -> bool {
    let peers = status.connections.iter();
    let mut devices = peers.flat_map(|connection| &connection.peer_devices);
    devices.all(|device| device.volume != volume || device.resync_suspended.dependency)
}

/// Tells a resource to hold back, or to go on; whether it has been heard.
async fn tell(service: &Service, volume: VolumeNumber, paused: bool) -> bool {
    let command = Command::PauseSync(PauseOrder {
        volume,
        peer: None,
        by: PausedBy::Dependency,
        paused,
    });
    let answer = timeout(INTERVAL, service.command(command)).await;
    matches!(answer, Ok(Ok(_)))
}

/// How often it is looked without a reason, and how long a resource may take to hear.
const INTERVAL: Duration = Duration::from_secs(1);

/// The least time between two looks: threads may report much.
const PAUSE: Duration = Duration::from_millis(50);
