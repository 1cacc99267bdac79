//! `status --json`: DRBD's keys inside `{"schema_version":1,"resources":[…]}`.
//!
//! Keys are added, never renamed or removed. Where DRBD has a key for something this version
//! does not do, the key is there with the value that says so. Sizes and traffic are in KiB and
//! in-flight counters in sectors, as DRBD has them; keys that end in `-bytes` are exact.

use rbd_protocol::control::{
    ConnectionStatus, DeviceStatus, Divergence, PeerDeviceStatus, RefusedPeer, ResourceStatus,
    ResyncProgress, VerifyProgress, WriteCache,
};
use rbd_protocol::state::ResyncLimit;
use serde::Serialize;

use super::advice::advice;
use super::measure::{KIB, average_mib_per_second, is_intentionally_diskless, mib_per_second};

/// The whole document.
#[derive(Debug, Serialize)]
pub(crate) struct Document {
    schema_version: u32,
    resources: Vec<Resource>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Resource {
    name: String,
    node_id: u8,
    role: &'static str,
    suspended: bool,
    suspended_user: bool,
    suspended_no_data: bool,
    suspended_fencing: bool,
    suspended_quorum: bool,
    force_io_failures: bool,
    write_ordering: &'static str,
    devices: Vec<Device>,
    connections: Vec<Connection>,
    advice: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Device {
    volume: u16,
    minor: Option<u32>,
    disk_state: &'static str,
    client: bool,
    open: bool,
    quorum: bool,
    size: u64,
    read: u64,
    written: u64,
    al_writes: u64,
    bm_writes: u64,
    upper_pending: u64,
    lower_pending: u64,
    size_bytes: u64,
    read_bytes: u64,
    written_bytes: u64,
    open_count: u32,
    hot_regions: u64,
    backing_dev: Option<String>,
    write_cache: Option<&'static str>,
    current_uuid: String,
    note: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Connection {
    peer_node_id: u8,
    name: String,
    connection_state: &'static str,
    congested: bool,
    peer_role: &'static str,
    tls: bool,
    ap_in_flight: u64,
    rs_in_flight: u64,
    paths: Vec<Path>,
    #[serde(rename = "peer_devices")]
    peer_devices: Vec<PeerDevice>,
    since_ms: u64,
    note: String,
    refused: Option<Refused>,
    tentative: Option<String>,
    after_sb_0pri: &'static str,
    after_sb_1pri: &'static str,
    after_sb_2pri: &'static str,
    always_asbp: bool,
    rr_conflict: &'static str,
    allow_two_primaries: bool,
    two_primaries_agreed: bool,
    two_primaries_without_fencing: bool,
    /// Both may be Primary for a migration, for so long.
    #[serde(skip_serializing_if = "Option::is_none")]
    migration_left_ms: Option<u64>,
}

/// What is known of a peer whose data must not be joined with this node's.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Refused {
    changes: &'static str,
    peer_role: &'static str,
    told_ms_ago: u64,
    volumes: Vec<RefusedVolume>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct RefusedVolume {
    volume: u16,
    changes: &'static str,
    peer_disk_state: &'static str,
    peer_current_uuid: String,
    peer_changed_bytes: u64,
    own_changed_since: Option<u64>,
    peer_changed_since: Option<u64>,
    is_exact: bool,
}

#[derive(Debug, Serialize)]
struct Path {
    this_host: Endpoint,
    remote_host: Endpoint,
    established: bool,
}

#[derive(Debug, Serialize)]
struct Endpoint {
    address: String,
    port: Option<u16>,
    family: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct PeerDevice {
    volume: u16,
    replication_state: &'static str,
    peer_disk_state: &'static str,
    peer_client: bool,
    resync_suspended: &'static str,
    received: u64,
    sent: u64,
    out_of_sync: u64,
    pending: u64,
    unacked: u64,
    has_sync_details: bool,
    has_online_verify_details: bool,
    percent_in_sync: f64,
    received_bytes: u64,
    sent_bytes: u64,
    out_of_sync_bytes: u64,
    bitmap_uuid: String,
    #[serde(flatten)]
    sync: Option<SyncDetails>,
    #[serde(flatten)]
    verify: Option<VerifyDetails>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct VerifyDetails {
    ov_start_sector: u64,
    ov_stop_sector: u64,
    ov_position_sector: u64,
    percent_verify_done: f64,
    verify_out_of_sync_blocks: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct SyncDetails {
    rs_total: u64,
    rs_dt_start_ms: u64,
    rs_paused_ms: u64,
    rs_dt0_ms: u64,
    rs_db0_sectors: u64,
    rs_dt1_ms: u64,
    rs_db1_sectors: u64,
    rs_failed: u64,
    rs_same_csum: u64,
    want: u64,
    #[serde(rename = "db0/dt0 [MiB/s]")]
    rate_0: f64,
    #[serde(rename = "db1/dt1 [MiB/s]")]
    rate_1: f64,
    estimated_seconds_to_finish: Option<u64>,
    #[serde(rename = "db/dt [MiB/s]")]
    rate: f64,
    percent_resync_done: f64,
    limited_by: Option<&'static str>,
    resync_same_bytes: u64,
    resync_zero_bytes: u64,
    resync_total_bytes: u64,
    resync_remaining_bytes: u64,
}

/// The document for these resources.
pub(crate) fn document(resources: &[ResourceStatus]) -> Document {
    Document {
        schema_version: SCHEMA_VERSION,
        resources: resources.iter().map(resource).collect(),
    }
}

fn resource(status: &ResourceStatus) -> Resource {
    let why = status.suspended;
    Resource {
        name: status.name.clone(),
        node_id: status.node_id.0,
        role: status.role.word(),
        suspended: why.user || why.no_data || why.fencing,
        suspended_user: why.user,
        suspended_no_data: why.no_data,
        suspended_fencing: why.fencing,
        suspended_quorum: false,
        force_io_failures: false,
        write_ordering: "flush",
        devices: status.devices.iter().map(device).collect(),
        connections: status
            .connections
            .iter()
            .map(|one| connection(status, one))
            .collect(),
        advice: advice(status),
    }
}

fn device(status: &DeviceStatus) -> Device {
    Device {
        volume: status.volume.0,
        minor: status.minor,
        disk_state: status.disk_state.word(),
        client: is_intentionally_diskless(status),
        open: status.open_count > 0,
        quorum: true,
        size: status.size_bytes / KIB,
        read: status.read_bytes / KIB,
        written: status.written_bytes / KIB,
        al_writes: status.intent_writes,
        bm_writes: status.bitmap_writes,
        upper_pending: status.upper_pending,
        lower_pending: status.lower_pending,
        size_bytes: status.size_bytes,
        read_bytes: status.read_bytes,
        written_bytes: status.written_bytes,
        open_count: status.open_count,
        hot_regions: status.hot_regions,
        backing_dev: status.backing_disk.clone(),
        write_cache: status.write_cache.map(WriteCache::word),
        current_uuid: status.current_generation.to_string(),
        note: status.disk_note.clone(),
    }
}

fn connection(resource: &ResourceStatus, status: &ConnectionStatus) -> Connection {
    use rbd_protocol::state::ConnectionState::Connected;
    Connection {
        peer_node_id: status.peer_node_id.0,
        name: status.name.clone(),
        connection_state: status.connection_state.word(),
        congested: false,
        peer_role: status.peer_role.word(),
        tls: false,
        ap_in_flight: status.application_in_flight_bytes / SECTOR,
        rs_in_flight: status.resync_in_flight_bytes / SECTOR,
        paths: vec![Path {
            this_host: endpoint(&status.local_address),
            remote_host: endpoint(&status.peer_address),
            established: status.connection_state == Connected,
        }],
        peer_devices: status
            .peer_devices
            .iter()
            .map(|one| peer_device(resource, one))
            .collect(),
        since_ms: status.since_ms,
        note: status.note.clone(),
        refused: status.refused.as_ref().map(refused),
        tentative: status.tentative.clone(),
        after_sb_0pri: status.split.without_primary.word(),
        after_sb_1pri: status.split.with_one_primary.word(),
        after_sb_2pri: status.split.with_two_primaries.word(),
        always_asbp: status.split.always,
        rr_conflict: status.resync_conflict.word(),
        allow_two_primaries: status.two_primaries.is_configured,
        two_primaries_agreed: status.two_primaries.is_agreed,
        two_primaries_without_fencing: status.two_primaries.is_unfenced,
        migration_left_ms: status.two_primaries.migration_ms,
    }
}

fn refused(status: &RefusedPeer) -> Refused {
    Refused {
        changes: changes(status.divergence),
        peer_role: status.role.word(),
        told_ms_ago: status.told_ms_ago,
        volumes: status
            .volumes
            .iter()
            .map(|one| RefusedVolume {
                volume: one.volume.0,
                changes: changes(one.divergence),
                peer_disk_state: one.disk_state.word(),
                peer_current_uuid: one.generation.to_string(),
                peer_changed_bytes: one.changed_bytes,
                own_changed_since: Some(one.own_since).filter(|since| *since != 0),
                peer_changed_since: Some(one.peer_since).filter(|since| *since != 0),
                is_exact: one.is_exact,
            })
            .collect(),
    }
}

/// Who has changes the other lacks.
fn changes(divergence: Divergence) -> &'static str {
    match divergence {
        Divergence::Unknown => "unknown",
        Divergence::Neither => "none",
        Divergence::Own => "own",
        Divergence::Peer => "peer",
        Divergence::Both => "both",
    }
}

fn endpoint(text: &str) -> Endpoint {
    let (address, port) = match text.rsplit_once(':') {
        Some((address, port)) => (address, port.parse().ok()),
        None => (text, None),
    };
    let address = address.trim_start_matches('[').trim_end_matches(']');
    Endpoint {
        address: address.to_owned(),
        port,
        family: if address.contains(':') {
            "ipv6"
        } else {
            "ipv4"
        },
    }
}

fn peer_device(resource: &ResourceStatus, status: &PeerDeviceStatus) -> PeerDevice {
    let local = resource
        .devices
        .iter()
        .find(|one| one.volume == status.volume);
    let size_bytes = local.map_or(0, |device| device.size_bytes);
    PeerDevice {
        volume: status.volume.0,
        replication_state: status.replication_state.word(),
        peer_disk_state: status.peer_disk_state.word(),
        peer_client: false,
        resync_suspended: status.resync_suspended.words(),
        received: status.received_bytes / KIB,
        sent: status.sent_bytes / KIB,
        out_of_sync: status.out_of_sync_bytes / KIB,
        pending: status.pending,
        unacked: status.unacknowledged,
        has_sync_details: status.resync.is_some(),
        has_online_verify_details: status.verify.is_some(),
        percent_in_sync: percent_in_sync(size_bytes, status.out_of_sync_bytes),
        received_bytes: status.received_bytes,
        sent_bytes: status.sent_bytes,
        out_of_sync_bytes: status.out_of_sync_bytes,
        bitmap_uuid: status.bitmap_generation.to_string(),
        sync: status.resync.as_ref().map(sync_details),
        verify: status.verify.as_ref().map(verify_details),
    }
}

fn verify_details(verify: &VerifyProgress) -> VerifyDetails {
    VerifyDetails {
        ov_start_sector: verify.start_bytes / SECTOR,
        ov_stop_sector: verify.stop_bytes / SECTOR,
        ov_position_sector: verify.position_bytes / SECTOR,
        percent_verify_done: two_decimals(verify.percent_done()),
        verify_out_of_sync_blocks: verify.differing_blocks,
    }
}

fn sync_details(resync: &ResyncProgress) -> SyncDetails {
    let done = resync.total_bytes.saturating_sub(resync.remaining_bytes);
    let rate = two_decimals(mib_per_second(resync));
    let average = two_decimals(average_mib_per_second(resync));
    SyncDetails {
        rs_total: resync.total_bytes / SECTOR,
        rs_dt_start_ms: resync.elapsed_ms,
        rs_paused_ms: 0,
        rs_dt0_ms: resync.elapsed_ms,
        rs_db0_sectors: done / SECTOR,
        rs_dt1_ms: resync.elapsed_ms,
        rs_db1_sectors: done / SECTOR,
        rs_failed: 0,
        rs_same_csum: resync.same_bytes / SECTOR,
        want: 0,
        rate_0: average,
        rate_1: rate,
        estimated_seconds_to_finish: resync.seconds_left(),
        rate: average,
        percent_resync_done: two_decimals(resync.percent_done()),
        limited_by: resync.limit.map(ResyncLimit::word),
        resync_same_bytes: resync.same_bytes,
        resync_zero_bytes: resync.zero_bytes,
        resync_total_bytes: resync.total_bytes,
        resync_remaining_bytes: resync.remaining_bytes,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
fn percent_in_sync(size_bytes: u64, out_of_sync_bytes: u64) -> f64 {
    if out_of_sync_bytes == 0 {
        return 100.0;
    }
    if size_bytes == 0 {
        return 0.0;
    }
    let in_sync = size_bytes.saturating_sub(out_of_sync_bytes);
    two_decimals(100.0 * in_sync as f64 / size_bytes as f64)
}

/// Rounded down, so that 100 is never shown for almost.
fn two_decimals(value: f64) -> f64 {
    (value * 100.0).floor() / 100.0
}

/// Grows only when a reader of the former shape would be misled.
const SCHEMA_VERSION: u32 = 1;
/// The unit of DRBD's in-flight and resync counters, in bytes.
const SECTOR: u64 = 512;
