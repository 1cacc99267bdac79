//! What is not healthy in a resource: why, since when, and which command helps.
//!
//! Only states decide whether something is a trouble; the daemon's notes say why. Nothing is
//! advised that destroys data without saying so. Here each trouble becomes one line; `explain`
//! makes a paragraph of it (see [`super::explain`]).

use rbd_protocol::control::{
    ConnectionStatus, DeviceStatus, Divergence, Pauses, PeerDeviceStatus, ResourceStatus,
};
use rbd_protocol::ids::VolumeNumber;
use rbd_protocol::state::{ConnectionState, DiskState, ReplicationState};

use super::measure::{
    duration, is_intentionally_diskless, limited_by, mib_per_second, percent, size,
};
use super::split::{brief, sentences};

/// One thing that is not as it should be.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) subject: Subject,
    /// Since when, if that is known.
    pub(super) since_ms: Option<u64>,
    /// Why.
    pub(super) reason: String,
    /// How much, in few words; for `status` only.
    pub(super) figures: String,
    /// What else is known, in sentences; for `explain` only.
    pub(super) facts: String,
    /// What helps; empty when it passes by itself.
    pub(super) next: String,
}

/// What is in which state.
#[derive(Debug)]
pub(super) enum Subject {
    /// The local disk of a volume.
    Disk(VolumeNumber, DiskState),
    /// The connection to a peer.
    Connection(String, ConnectionState),
    /// A volume's replication to a connected peer.
    Replication(String, VolumeNumber, ReplicationState),
    /// A connected peer's disk.
    PeerDisk(String, VolumeNumber, DiskState),
    /// A volume that differs although nothing is being resynchronised.
    OutOfSync(String, VolumeNumber),
    /// A peer that may be Primary at the same time, in a way that may lose data.
    TwoPrimaries(String),
    /// Clients' I/O, which waits for this reason.
    Suspended(&'static str),
}

/// One line per trouble, `WHAT STATE: reason; next: step`. Empty when all is well.
pub(crate) fn advice(resource: &ResourceStatus) -> Vec<String> {
    troubles(resource).iter().map(Trouble::line).collect()
}

/// Everything that is not healthy, in the order of `status`.
pub(super) fn troubles(resource: &ResourceStatus) -> Vec<Trouble> {
    let mut found = suspensions(resource);
    for device in &resource.devices {
        found.extend(disk_trouble(resource, device));
    }
    for connection in &resource.connections {
        found.extend(two_primaries(&resource.name, connection));
        match connection_trouble(&resource.name, connection) {
            Some(trouble) => found.push(trouble),
            None => {
                let devices = connection.peer_devices.iter();
                found.extend(devices.filter_map(|one| peer_trouble(resource, connection, one)));
            }
        }
    }
    found
}

/// What is not as it should be where both nodes may be Primary.
fn two_primaries(name: &str, connection: &ConnectionStatus) -> Vec<Trouble> {
    let told = connection.two_primaries;
    let peer = &connection.name;
    let trouble = |reason: String, next: String| Trouble {
        subject: Subject::TwoPrimaries(peer.clone()),
        since_ms: None,
        reason,
        facts: String::new(),
        figures: String::new(),
        next,
    };
    let mut found = Vec::new();
    if told.is_unfenced {
        let reason = "allow-two-primaries-without-fencing is set: should the link be lost while \
                      both are Primary, each goes on alone, and what one of them has written is \
                      lost in the end";
        let next = format!(
            "set 'fencing resource-and-stonith' and a fence-peer handler, rbdadm adjust {name}"
        );
        found.push(trouble(reason.to_owned(), next));
    }
    if told.migration_ms == Some(0) {
        let reason = "the time of the migration is over, and both nodes are in use";
        let next = format!("on the node that was moved from: rbdadm secondary {name}");
        found.push(trouble(reason.to_owned(), next));
    }
    let is_connected = connection.connection_state == ConnectionState::Connected;
    if told.is_configured && is_connected && !told.is_agreed {
        let reason = format!("allow-two-primaries is not in force on {peer}");
        let next = format!("set it there too; on {peer}: rbdadm adjust {name}");
        found.push(trouble(reason, next));
    }
    found
}

/// Why clients' I/O waits.
fn suspensions(resource: &ResourceStatus) -> Vec<Trouble> {
    let name = &resource.name;
    let why = resource.suspended;
    let trouble = |cause, reason: &str, next: String| Trouble {
        subject: Subject::Suspended(cause),
        since_ms: None,
        reason: reason.to_owned(),
        facts: String::new(),
        figures: String::new(),
        next,
    };
    let mut found = Vec::new();
    if why.user {
        let next = format!("rbdadm resume-io {name}");
        found.push(trouble("user", "by rbdadm suspend-io", next));
    }
    if why.no_data {
        let next =
            format!("mend the disk, rbdadm adjust {name}; to fail it: rbdadm resume-io {name}");
        found.push(trouble("no-data", "there is no usable data", next));
    }
    if why.fencing {
        let next = format!(
            "reach the peer, or see in the log what its fence-peer handler did; if the peer is \
             known to be off: rbdadm resume-io {name}"
        );
        let reason = "a lost peer has not been fenced yet";
        found.push(trouble("fencing", reason, next));
    }
    found
}

impl Trouble {
    fn line(&self) -> String {
        let what = match &self.subject {
            Subject::Disk(volume, state) => format!("volume {volume} {state}"),
            Subject::Connection(peer, state) => format!("{peer} {state}"),
            Subject::Replication(peer, volume, state) => format!("{peer} volume {volume} {state}"),
            Subject::PeerDisk(peer, volume, state) => format!("{peer} volume {volume} {state}"),
            Subject::OutOfSync(peer, volume) => format!("{peer} volume {volume} out of sync"),
            Subject::TwoPrimaries(peer) => format!("{peer} two Primaries"),
            Subject::Suspended(why) => format!("I/O suspended ({why})"),
        };
        let since = self.since_ms.map_or_else(String::new, |since_ms| {
            format!(" for {}", duration(since_ms / 1000))
        });
        let mut reason = self.reason.clone();
        if !self.figures.is_empty() {
            reason.push_str(&format!("; changed: {}", self.figures));
        }
        if self.next.is_empty() {
            format!("{what}{since}: {reason}")
        } else {
            format!("{what}{since}: {reason}; next: {}", self.next)
        }
    }
}

fn disk_trouble(resource: &ResourceStatus, device: &DeviceStatus) -> Option<Trouble> {
    let name = &resource.name;
    let state = device.disk_state;
    let (reason, next) = match state {
        DiskState::UpToDate => return None,
        DiskState::Diskless if is_intentionally_diskless(device) => return None,
        DiskState::Diskless => (
            "no local disk".to_owned(),
            format!("see the log of rbdd, mend the disk, rbdadm attach {name}"),
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
    Some(Trouble {
        subject: Subject::Disk(device.volume, state),
        since_ms: None,
        reason,
        figures: String::new(),
        facts: String::new(),
        next,
    })
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
        .find(|(_, one)| is_target(one.replication_state));
    if let Some((connection, one)) = receiving {
        let next = if one.resync_suspended.user {
            format!("rbdadm resume-sync {name}")
        } else {
            format!("wait: rbdadm wait-sync {name}")
        };
        let reason = format!("being resynchronised from {}", connection.name);
        return (reason, next);
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

fn is_target(state: ReplicationState) -> bool {
    matches!(
        state,
        ReplicationState::StartingSyncT
            | ReplicationState::WFBitMapT
            | ReplicationState::SyncTarget
            | ReplicationState::PausedSyncT
    )
}

fn connection_trouble(resource: &str, connection: &ConnectionStatus) -> Option<Trouble> {
    let state = connection.connection_state;
    let peer = &connection.name;
    let (reason, next) = match state {
        ConnectionState::Connected => return None,
        ConnectionState::StandAlone if is_split_brain(connection) => (
            "both nodes have changes the other lacks",
            split_brain_advice(resource, connection),
        ),
        ConnectionState::StandAlone if connection.refused.is_some() => (
            "the data must not be joined",
            format!(
                "mend what the reason names; it is tried again by itself, and at once with rbdadm \
                 connect {resource}:{peer}"
            ),
        ),
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
    Some(Trouble {
        subject: Subject::Connection(peer.clone(), state),
        since_ms: Some(connection.since_ms),
        reason: reason.to_owned(),
        figures: connection
            .refused
            .as_ref()
            .filter(|_| is_split_brain(connection))
            .map_or_else(String::new, |refused| brief(connection, refused)),
        facts: connection
            .refused
            .as_ref()
            .map_or_else(String::new, |refused| sentences(connection, refused)),
        next,
    })
}

fn split_brain_advice(resource: &str, connection: &ConnectionStatus) -> String {
    let peer = &connection.name;
    let refused = connection.refused.as_ref();
    let demoted = match refused.and_then(|refused| refused.loses_by_policy) {
        None => String::new(),
        Some(node) if node == connection.peer_node_id => format!(
            "on {peer}: rbdadm secondary {resource}, after which the policies give up its changes \
             by themselves; or decide: "
        ),
        Some(_) => format!(
            "rbdadm secondary {resource}, after which the policies give up this node's changes by \
             themselves; or decide: "
        ),
    };
    format!(
        "{demoted}rbdadm resolve {resource} --keep NODE --dry-run shows what would be lost, \
         without --dry-run it ends the split brain, with --save FILE it keeps what is given up"
    )
}

fn is_split_brain(connection: &ConnectionStatus) -> bool {
    let refused = connection.refused.as_ref();
    refused.is_some_and(|refused| match refused.divergence {
        Divergence::Both | Divergence::Own | Divergence::Peer => true,
        Divergence::Unknown | Divergence::Neither => false,
    })
}

fn peer_trouble(
    resource: &ResourceStatus,
    connection: &ConnectionStatus,
    peer_device: &PeerDeviceStatus,
) -> Option<Trouble> {
    let state = peer_device.replication_state;
    let reason = match state {
        ReplicationState::SyncSource | ReplicationState::SyncTarget => progress(peer_device),
        ReplicationState::VerifyS | ReplicationState::VerifyT => verifying(peer_device),
        ReplicationState::PausedSyncS | ReplicationState::PausedSyncT => {
            let by = held_by(peer_device.resync_suspended);
            format!("{}, held back by {by}", progress(peer_device))
        }
        ReplicationState::StartingSyncS
        | ReplicationState::StartingSyncT
        | ReplicationState::WFBitMapS
        | ReplicationState::WFBitMapT
        | ReplicationState::WFSyncUUID => "a resync is about to start".to_owned(),
        ReplicationState::Off | ReplicationState::Established => {
            return peer_disk_trouble(resource, connection, peer_device);
        }
    };
    Some(Trouble {
        subject: Subject::Replication(connection.name.clone(), peer_device.volume, state),
        since_ms: None,
        reason,
        figures: String::new(),
        facts: String::new(),
        next: String::new(),
    })
}

fn has_no_disk(resource: &ResourceStatus, peer_device: &PeerDeviceStatus) -> bool {
    resource.devices.iter().any(|device| {
        device.volume == peer_device.volume && device.disk_state == DiskState::Diskless
    })
}

fn peer_disk_trouble(
    resource: &ResourceStatus,
    connection: &ConnectionStatus,
    peer_device: &PeerDeviceStatus,
) -> Option<Trouble> {
    let (name, peer) = (&resource.name, &connection.name);
    let disk = peer_device.peer_disk_state;
    let reason = match disk {
        // A node without a disk has nothing that could differ; what it will lack once it has one
        // again is filled then. The disk's own line says how.
        DiskState::UpToDate if has_no_disk(resource, peer_device) => return None,
        DiskState::UpToDate if peer_device.out_of_sync_bytes > 0 => {
            return Some(Trouble {
                subject: Subject::OutOfSync(peer.clone(), peer_device.volume),
                since_ms: None,
                reason: format!("{} differ", size(peer_device.out_of_sync_bytes)),
                figures: String::new(),
                facts: String::new(),
                next: format!("rbdadm disconnect {name}:{peer}, then rbdadm connect {name}:{peer}"),
            });
        }
        DiskState::UpToDate => return None,
        DiskState::Diskless | DiskState::Failed => "the peer has no usable disk",
        // Its own line says what to do when this node's disk is not usable either.
        DiskState::Attaching
        | DiskState::Detaching
        | DiskState::Negotiating
        | DiskState::Inconsistent
        | DiskState::Outdated
        | DiskState::DUnknown
        | DiskState::Consistent => "the peer's copy is not usable",
    };
    Some(Trouble {
        subject: Subject::PeerDisk(peer.clone(), peer_device.volume, disk),
        since_ms: None,
        reason: reason.to_owned(),
        figures: String::new(),
        facts: String::new(),
        next: format!("rbdadm status {name} on {peer}"),
    })
}

fn verifying(peer_device: &PeerDeviceStatus) -> String {
    match &peer_device.verify {
        Some(verify) => format!(
            "{} % compared, {} blocks differ so far",
            percent(verify.percent_done()),
            verify.differing_blocks
        ),
        None => "the peer compares the copies".to_owned(),
    }
}

/// Who holds a resync back; the one who can end that comes first.
fn held_by(pauses: Pauses) -> &'static str {
    match pauses {
        Pauses { user: true, .. } => "pause-sync on this node",
        Pauses {
            dependency: true, ..
        } => "the resync named in resync-after",
        _ => "the peer's node",
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
    if let Some(seconds) = resync.seconds_left() {
        let rate = mib_per_second(resync);
        text.push_str(&format!(
            ", {rate:.2} MiB/s, about {} to go",
            duration(seconds)
        ));
    }
    if let Some(limit) = resync.limit {
        text.push_str(&format!(", limited by {}", limited_by(limit)));
    }
    text
}
