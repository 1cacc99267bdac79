//! Resources in typical states, for tests.

use rbd_protocol::control::{
    ConnectionStatus, DeviceStatus, Divergence, Pauses, PeerDeviceStatus, RefusedPeer,
    RefusedVolume, ResourceStatus, ResyncProgress, TwoPrimaries,
};
use rbd_protocol::ids::{GenerationId, NodeId, VolumeNumber};
use rbd_protocol::policy::{ResyncConflict, SplitPolicies};
use rbd_protocol::state::{ConnectionState, DiskState, ReplicationState, ResyncLimit, Role};

pub(crate) fn device(volume: u16, disk_state: DiskState) -> DeviceStatus {
    DeviceStatus {
        volume: VolumeNumber(volume),
        minor: Some(1000 + u32::from(volume)),
        disk_state,
        disk_note: String::new(),
        backing_disk: Some("/dev/sda".to_owned()),
        open_count: 0,
        size_bytes: 10_000 << 10,
        read_bytes: 10 << 10,
        written_bytes: 15 << 10,
        intent_writes: 40,
        bitmap_writes: 50,
        upper_pending: 60,
        lower_pending: 70,
        hot_regions: 3,
        current_generation: GenerationId(0xF00D),
        write_cache: None,
    }
}

pub(crate) fn peer_device(
    volume: u16,
    replication_state: ReplicationState,
    peer_disk_state: DiskState,
) -> PeerDeviceStatus {
    PeerDeviceStatus {
        volume: VolumeNumber(volume),
        replication_state,
        peer_disk_state,
        received_bytes: 5 << 10,
        sent_bytes: 10 << 10,
        out_of_sync_bytes: 0,
        pending: 30,
        unacknowledged: 40,
        bitmap_generation: GenerationId::NONE,
        resync_suspended: Pauses::default(),
        resync: None,
        verify: None,
    }
}

pub(crate) fn peer(
    name: &str,
    role: Role,
    peer_devices: Vec<PeerDeviceStatus>,
) -> ConnectionStatus {
    ConnectionStatus {
        peer_node_id: NodeId(1),
        name: name.to_owned(),
        connection_state: ConnectionState::Connected,
        note: String::new(),
        is_refused: false,
        since_ms: 125_000,
        peer_role: role,
        application_in_flight_bytes: 10 * 512,
        resync_in_flight_bytes: 20 * 512,
        local_address: "10.0.0.1:7789".to_owned(),
        peer_address: "[fd00::2]:7790".to_owned(),
        peer_devices,
        refused: None,
        tentative: None,
        peer_tenure: 0,
        split: SplitPolicies::default(),
        resync_conflict: ResyncConflict::default(),
        two_primaries: TwoPrimaries::default(),
    }
}

pub(crate) fn resource(
    name: &str,
    role: Role,
    devices: Vec<DeviceStatus>,
    connections: Vec<ConnectionStatus>,
) -> ResourceStatus {
    ResourceStatus {
        suspended: rbd_protocol::control::Suspended::default(),
        name: name.to_owned(),
        node_id: NodeId(4),
        role,
        tenure: 9,
        devices,
        connections,
    }
}

pub(crate) fn healthy() -> ResourceStatus {
    let on_peer = peer_device(0, ReplicationState::Established, DiskState::UpToDate);
    resource(
        "r0",
        Role::Secondary,
        vec![device(0, DiskState::UpToDate)],
        vec![peer("beta", Role::Primary, vec![on_peer])],
    )
}

pub(crate) fn resyncing(
    volume: u16,
    direction: ReplicationState,
    disk: DiskState,
) -> PeerDeviceStatus {
    PeerDeviceStatus {
        out_of_sync_bytes: 2500 << 10,
        resync: Some(ResyncProgress {
            total_bytes: 4000 << 10,
            remaining_bytes: 2500 << 10,
            elapsed_ms: 6_100,
            rate: Some(250 << 10),
            limit: Some(ResyncLimit::Link),
            same_bytes: 1 << 20,
            zero_bytes: 512 << 10,
        }),
        ..peer_device(volume, direction, disk)
    }
}

pub(crate) fn split_brain() -> ResourceStatus {
    let mut status = lost_link();
    let connection = &mut status.connections[0];
    connection.connection_state = ConnectionState::StandAlone;
    connection.note = "Split-Brain detected but unresolved, dropping connection!".to_owned();
    connection.peer_devices[0].out_of_sync_bytes = 8 << 10;
    connection.refused = Some(RefusedPeer {
        told_ms_ago: 30_000,
        role: Role::Secondary,
        tenure: 5,
        divergence: Divergence::Both,
        was_ordered: false,
        loses_by_policy: None,
        volumes: vec![RefusedVolume {
            volume: VolumeNumber(0),
            divergence: Divergence::Both,
            disk_state: DiskState::UpToDate,
            generation: GenerationId(0xBEEF),
            changed_bytes: 64 << 10,
            own_since: 1_700_000_000,
            peer_since: 1_700_003_601,
            is_exact: true,
        }],
    });
    status
}

pub(crate) fn lost_link() -> ResourceStatus {
    let mut status = healthy();
    let connection = &mut status.connections[0];
    connection.connection_state = ConnectionState::Connecting;
    connection.peer_role = Role::Unknown;
    connection.note = "connection refused".to_owned();
    connection.peer_devices[0].replication_state = ReplicationState::Off;
    connection.peer_devices[0].peer_disk_state = DiskState::DUnknown;
    status
}
