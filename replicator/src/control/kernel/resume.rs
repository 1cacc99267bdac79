//! Devices that go on: after a daemon has died, and after the kernel's NBD client has lost its
//! connection to this one.

use std::time::Duration;

use rbd_engine::Command;
use rbd_protocol::control::{RefusalCode, ResourceStatus};
use rbd_protocol::ids::VolumeNumber;
use rbd_protocol::state::{ConnectionState, ReplicationState, Role};
use tokio::time::{Instant, sleep};

use super::device::BlockDevice;
use super::{PAUSE, all_of, promote, provide};
use crate::control::migration;
use crate::control::service::Service;

/// After the daemon came up again: a volume whose device an earlier daemon has left behind becomes
/// Primary again, as far as the engine lets it, and the device goes on.
pub(in crate::control) async fn resume(service: &Service) {
    let start = Instant::now();
    super::company::recall(service);
    let is_waiting = || async { !all_of(service).await.is_empty() };
    while is_waiting().await && start.elapsed() < PEER_LIMIT && !is_connected(service).await {
        sleep(PAUSE).await;
    }
    // How long a resync takes says nothing about whether promotion is refused after it.
    let mut begun = start;
    let mut is_told = false;
    // Somebody may have ended the waiting by force meanwhile.
    while is_waiting().await {
        let command = migration::resumed(service).unwrap_or(Command::Promote { force: false });
        match promote(service, command).await {
            Ok(_) => return,
            Err(refusal)
                if refusal.code == RefusalCode::StateNoUpToDateData
                    && is_to_come(service).await =>
            {
                // Promotion may run handlers: it is tried again when something has changed.
                while is_waiting().await && is_to_come(service).await {
                    if !is_told && start.elapsed() > RESUME_LIMIT {
                        is_told = true;
                        let name = &service.name;
                        tracing::warn!(
                            resource = name,
                            "its kernel device waits for the end of the resync to this node, or \
                             for the peer: {}; or fail its I/O: rbdadm secondary --force {name}",
                            refusal.reason
                        );
                    }
                    sleep(PAUSE).await;
                }
                begun = Instant::now();
            }
            Err(refusal) if begun.elapsed() > RESUME_LIMIT => {
                let name = &service.name;
                tracing::error!(
                    resource = name,
                    "its kernel device waits for this node to become Primary: {refusal}: {}; then: \
                     rbdadm primary {name}, or fail its I/O: rbdadm secondary --force {name}",
                    refusal.reason
                );
                return;
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// Whether data that is missing here may come by itself: with the peer, or from it.
async fn is_to_come(service: &Service) -> bool {
    let is_filled = |status: ResourceStatus| is_being_filled(&status);
    !is_connected(service).await || service.status().await.is_ok_and(is_filled)
}

/// Whether a resync to this node is under way, or held back.
fn is_being_filled(status: &ResourceStatus) -> bool {
    let devices = status.connections.iter().flat_map(|one| &one.peer_devices);
    let mut states = devices.map(|one| one.replication_state);
    states.any(|state| match state {
        ReplicationState::StartingSyncT
        | ReplicationState::WFBitMapT
        | ReplicationState::WFSyncUUID
        | ReplicationState::SyncTarget
        | ReplicationState::PausedSyncT => true,
        ReplicationState::Off
        | ReplicationState::Established
        | ReplicationState::StartingSyncS
        | ReplicationState::WFBitMapS
        | ReplicationState::SyncSource
        | ReplicationState::VerifyS
        | ReplicationState::VerifyT
        | ReplicationState::PausedSyncS => false,
    })
}

async fn is_connected(service: &Service) -> bool {
    service.status().await.is_ok_and(|status| {
        let mut connections = status.connections.iter();
        connections.all(|one| one.connection_state == ConnectionState::Connected)
    })
}

/// The kernel's NBD client has lost the connection of a volume's device. Unless that has been
/// taken away, and perhaps another made since, it gets another one.
pub(in crate::control) async fn rejoin(service: &Service, volume: VolumeNumber, number: u64) {
    let start = Instant::now();
    let mut told = None;
    loop {
        sleep(REJOIN_PAUSE).await;
        let is_primary = |status: ResourceStatus| status.role == Role::Primary;
        if !service.status().await.is_ok_and(is_primary) {
            return; // who ends that ends the device
        }
        if told.is_none() {
            let Some(device) = let_go(service, volume, number).await else {
                return;
            };
            told = Some(device);
            tracing::warn!(
                resource = service.name,
                volume = volume.0,
                "{device} has lost its connection and gets another one"
            );
        }
        let provided = provide(service).await;
        if service.kernel.device(volume).is_some() {
            return;
        }
        if start.elapsed() > RESUME_LIMIT {
            let name = &service.name;
            let why = provided
                .err()
                .map_or_else(String::new, |error| error.reason);
            tracing::error!(
                resource = name,
                "its kernel device waits: rbdadm adjust {name}; {why}"
            );
            return;
        }
    }
}

/// Forgets that a device is served, if it is one that loses connections.
async fn let_go(service: &Service, volume: VolumeNumber, number: u64) -> Option<BlockDevice> {
    let _changing = service.kernel.changing.lock().await;
    if service.kernel.handed_over.borrow().get(&volume) != Some(&number) {
        return None;
    }
    let mut provided = service.kernel.provided.borrow_mut();
    match provided.get(&volume).copied()? {
        device @ BlockDevice::Nbd(_) => {
            provided.remove(&volume);
            Some(device)
        }
        BlockDevice::Ublk(_) => None,
    }
}

/// How long the peer may take to come back before this node goes on without it: a restart of the
/// daemon should not make a generation of its own.
const PEER_LIMIT: Duration = Duration::from_secs(3);

/// How long promotion is tried again after a restart.
const RESUME_LIMIT: Duration = Duration::from_secs(20);

/// How long it takes before a connection that was lost is made anew: the driver may just be letting
/// go of the old one, and what was lost at once would be lost again.
const REJOIN_PAUSE: Duration = Duration::from_secs(1);
