//! What is not healthy in a resource: why, since when, and which command helps.
//!
//! Only states decide whether there is a line; the daemon's notes say why. Nothing is advised
//! that destroys data without saying so.

use rbd_protocol::control::{ConnectionStatus, DeviceStatus, PeerDeviceStatus, ResourceStatus};
use rbd_protocol::state::{ConnectionState, DiskState, ReplicationState};

use super::measure::{
    duration, is_intentionally_diskless, mib_per_second, percent, seconds_left, size,
};

/// One line per trouble, `WHAT STATE: reason; next: step`. Empty when all is well.
pub(crate) fn advice(resource: &ResourceStatus) -> Vec<String> {
    let mut lines = suspension_advice(resource);
    for device in &resource.devices {
        lines.extend(disk_advice(resource, device));
    }
    for connection in &resource.connections {
        match connection_advice(&resource.name, connection) {
            Some(line) => lines.push(line),
            None => {
                let devices = connection.peer_devices.iter();
                lines.extend(devices.filter_map(|one| peer_advice(resource, connection, one)));
            }
        }
    }
    lines
}

fn suspension_advice(resource: &ResourceStatus) -> Vec<String> {
    let name = &resource.name;
    let why = resource.suspended;
    let mut lines = Vec::new();
    if why.user {
        let next = format!("rbdadm resume-io {name}");
        lines.push(joined("I/O suspended", "by rbdadm suspend-io", &next));
    }
    if why.no_data {
        let next = format!("mend the disk, rbdadm adjust {name}; to fail it: rbdadm resume-io");
        lines.push(joined("I/O suspended", "there is no usable data", &next));
    }
    if why.fencing {
        let next = format!(
            "reach the peer, or see in the log what its fence-peer handler did; if the peer is \
             known to be off: rbdadm resume-io {name}"
        );
        let reason = "a lost peer has not been fenced yet";
        lines.push(joined("I/O suspended", reason, &next));
    }
    lines
}

fn disk_advice(resource: &ResourceStatus, device: &DeviceStatus) -> Option<String> {
    let name = &resource.name;
    let state = device.disk_state;
    let (reason, next) = match state {
        DiskState::UpToDate => return None,
        DiskState::Diskless if is_intentionally_diskless(device) => return None,
        DiskState::Diskless => (
            "no local disk".to_owned(),
            format!("see the log of rbdd, mend the disk, rbdadm adjust {name}"),
        ),
        DiskState::Failed => (
            "I/O error on the local disk".to_owned(),
            "replace the disk".to_owned(),
        ),
        DiskState::Attaching | DiskState::Negotiating | DiskState::Detaching => {
            ("in transition".to_owned(), String::new())
        }
        DiskState::Inconsistent => inconsistent(resource, device),
        DiskState::Outdated => (
            "the data is known to be behind a peer's".to_owned(),
            format!("reach that peer: rbdadm connect {name}"),
        ),
        DiskState::Consistent | DiskState::DUnknown => (
            "whether this is the newest data is not known until a peer has been seen".to_owned(),
            format!(
                "start the peer; if it is lost for good, rbdadm primary --force {name} takes this \
                 data"
            ),
        ),
    };
    let reason = if device.disk_note.is_empty() {
        reason
    } else {
        device.disk_note.clone()
    };
    let what = format!("volume {} {state}", device.volume);
    Some(joined(&what, &reason, &next))
}

fn inconsistent(resource: &ResourceStatus, device: &DeviceStatus) -> (String, String) {
    let name = &resource.name;
    let mut towards_peers = resource.connections.iter().flat_map(|connection| {
        let devices = connection.peer_devices.iter();
        devices
            .filter(|one| one.volume == device.volume)
            .map(move |one| (connection, one))
    });
    let receiving = towards_peers
        .clone()
        .find(|(_, one)| one.replication_state == ReplicationState::SyncTarget);
    if let Some((connection, _)) = receiving {
        return (
            format!("being resynchronised from {}", connection.name),
            format!("wait: rbdadm wait-sync {name}"),
        );
    }
    let connected =
        |connection: &ConnectionStatus| connection.connection_state == ConnectionState::Connected;
    if towards_peers.any(|(connection, _)| connected(connection)) {
        return (
            "never synchronised, and no connected peer has UpToDate data".to_owned(),
            format!(
                "rbdadm primary --force {name} on the node whose data counts; or, when all disks \
                 are equally empty, rbdadm new-current-uuid --clear-bitmap {name}/{}",
                device.volume
            ),
        );
    }
    (
        "never synchronised, or a resync was cut short".to_owned(),
        format!("connect a peer with UpToDate data: rbdadm connect {name}"),
    )
}

fn connection_advice(resource: &str, connection: &ConnectionStatus) -> Option<String> {
    let state = connection.connection_state;
    let peer = &connection.name;
    let (reason, next) = match state {
        ConnectionState::Connected => return None,
        ConnectionState::StandAlone => (
            "not trying to reach the peer",
            format!("rbdadm connect {resource}:{peer}"),
        ),
        ConnectionState::Disconnecting | ConnectionState::TearDown => {
            ("an orderly disconnect", String::new())
        }
        ConnectionState::Connecting if connection.is_refused => (
            "the link was refused",
            format!(
                "rbdadm status {resource} on {peer}; compare rbdadm dump {resource} here and there"
            ),
        ),
        ConnectionState::Unconnected | ConnectionState::Connecting => (
            "the peer has not been reached",
            format!(
                "see that rbdd runs on {peer}, that rbdadm up {resource} was done there and that \
                 {} can be reached",
                connection.peer_address
            ),
        ),
        ConnectionState::Timeout => (
            "the peer did not answer in time",
            format!("look at {peer} and the network"),
        ),
        ConnectionState::BrokenPipe | ConnectionState::NetworkFailure => (
            "the network failed",
            format!("look at {peer} and the network"),
        ),
        ConnectionState::ProtocolError => (
            "the peer broke the protocol",
            format!("compare the versions and the log of rbdd here and on {peer}"),
        ),
    };
    let reason = if connection.note.is_empty() {
        reason
    } else {
        &connection.note
    };
    let since = duration(connection.since_ms / 1000);
    Some(joined(
        &format!("{peer} {state} for {since}"),
        reason,
        &next,
    ))
}

fn peer_advice(
    resource: &ResourceStatus,
    connection: &ConnectionStatus,
    peer_device: &PeerDeviceStatus,
) -> Option<String> {
    let state = peer_device.replication_state;
    let what = format!("{} volume {}", connection.name, peer_device.volume);
    match state {
        ReplicationState::SyncSource | ReplicationState::SyncTarget => {
            return Some(format!("{what} {state}: {}", progress(peer_device)));
        }
        ReplicationState::PausedSyncS | ReplicationState::PausedSyncT => {
            return Some(format!("{what} {state}: {}, paused", progress(peer_device)));
        }
        ReplicationState::VerifyS | ReplicationState::VerifyT => {
            return Some(format!("{what} {state}: {}", progress(peer_device)));
        }
        ReplicationState::StartingSyncS
        | ReplicationState::StartingSyncT
        | ReplicationState::WFBitMapS
        | ReplicationState::WFBitMapT
        | ReplicationState::WFSyncUUID => {
            return Some(format!("{what} {state}: a resync is about to start"));
        }
        ReplicationState::Off | ReplicationState::Established => {}
    }
    let peer = &connection.name;
    let disk = peer_device.peer_disk_state;
    match disk {
        DiskState::UpToDate if peer_device.out_of_sync_bytes > 0 => Some(joined(
            &format!("{what} out of sync"),
            &format!("{} differ", size(peer_device.out_of_sync_bytes)),
            &format!(
                "rbdadm disconnect {0}:{peer}, then rbdadm connect {0}:{peer}",
                resource.name
            ),
        )),
        DiskState::UpToDate => None,
        DiskState::Diskless | DiskState::Failed => Some(joined(
            &format!("{what} {disk}"),
            "the peer has no usable disk",
            &format!("rbdadm status {} on {peer}", resource.name),
        )),
        // Its own line says what to do when this node's disk is not usable either.
        DiskState::Attaching
        | DiskState::Detaching
        | DiskState::Negotiating
        | DiskState::Inconsistent
        | DiskState::Outdated
        | DiskState::DUnknown
        | DiskState::Consistent => Some(joined(
            &format!("{what} {disk}"),
            "the peer's copy is not usable",
            &format!("rbdadm status {} on {peer}", resource.name),
        )),
    }
}

fn progress(peer_device: &PeerDeviceStatus) -> String {
    let left = size(peer_device.out_of_sync_bytes);
    let Some(resync) = &peer_device.resync else {
        return format!("{left} left");
    };
    let mut text = format!(
        "{} % done, {} left",
        percent(resync.percent_done()),
        size(resync.remaining_bytes)
    );
    if let Some(seconds) = seconds_left(resync) {
        let rate = mib_per_second(resync);
        text.push_str(&format!(
            ", {rate:.2} MiB/s, about {} to go",
            duration(seconds)
        ));
    }
    text
}

fn joined(what: &str, reason: &str, next: &str) -> String {
    if next.is_empty() {
        format!("{what}: {reason}")
    } else {
        format!("{what}: {reason}; next: {next}")
    }
}
