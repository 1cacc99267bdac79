//! `status` as text, in DRBD 9's layout.
//!
//! One block per resource: the resource, its volumes, then each peer with its volumes. What is
//! normal is left out unless everything is asked for. Lines that begin with `  # ` follow for
//! whatever is not healthy (see [`super::advice`]); DRBD has no such lines, and a reader that
//! skips comments loses nothing DRBD would have told it.

use rbd_protocol::control::{ConnectionStatus, DeviceStatus, PeerDeviceStatus, ResourceStatus};
use rbd_protocol::state::{ConnectionState, DiskState, ReplicationState, Role};

use super::advice::advice;
use super::measure::{KIB, is_intentionally_diskless, mib_per_second, percent};
use super::wrap::{Tone, Wrapped};
use crate::failure::printable;

/// How much to show, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// Show what is normal too.
    pub(crate) verbose: bool,
    /// Show counters.
    pub(crate) statistics: bool,
    /// Colour state words.
    pub(crate) color: bool,
    /// Columns.
    pub(crate) width: usize,
    /// Add the lines about what is not healthy.
    pub(crate) advice: bool,
}

/// The resources, each followed by a blank line.
pub(crate) fn render(resources: &[ResourceStatus], layout: Layout) -> String {
    let mut lines = Wrapped::new(layout.width, layout.color);
    for resource in resources {
        render_resource(&mut lines, resource, layout);
        if layout.advice {
            for line in advice(resource) {
                lines.verbatim(&format!("  # {}", printable(&line)));
            }
        }
        lines.verbatim("");
    }
    lines.into_text()
}

fn render_resource(lines: &mut Wrapped, resource: &ResourceStatus, layout: Layout) {
    lines.begin(0);
    lines.toned("", &printable(&resource.name), Tone::Bold);
    if layout.verbose {
        lines.word(&format!("node-id:{}", resource.node_id));
    }
    lines.toned("role:", resource.role.word(), role_tone(resource.role));
    let reasons = suspended_words(resource);
    if !reasons.is_empty() {
        lines.toned("suspended:", &reasons, Tone::Bad);
    } else if layout.verbose {
        lines.word("suspended:no");
    }
    if layout.verbose {
        lines.word("force-io-failures:no");
    }
    if layout.statistics {
        lines.continued();
        lines.word("write-ordering:flush");
    }
    lines.end();
    let only_volume_0 = matches!(&*resource.devices, [only] if only.volume.0 == 0);
    let name_volumes = layout.verbose || !only_volume_0;
    for device in &resource.devices {
        render_device(lines, device, name_volumes, layout);
    }
    for connection in &resource.connections {
        render_connection(lines, connection, name_volumes, layout);
    }
}

/// Why I/O is frozen, as DRBD names it; empty when it is not.
fn suspended_words(resource: &ResourceStatus) -> String {
    let reasons = [
        (resource.suspended.user, "user"),
        (resource.suspended.no_data, "no-data"),
        (resource.suspended.fencing, "fencing"),
    ];
    let reasons = reasons.into_iter().filter(|(holds, _)| *holds);
    let reasons: Vec<&str> = reasons.map(|(_, name)| name).collect();
    reasons.join(",")
}

fn render_device(lines: &mut Wrapped, device: &DeviceStatus, name_volumes: bool, layout: Layout) {
    lines.begin(2);
    if name_volumes {
        lines.word(&format!("volume:{}", device.volume));
    }
    let intentional = is_intentionally_diskless(device);
    if let (true, Some(minor)) = (layout.verbose, device.minor) {
        lines.word(&format!("minor:{minor}"));
    }
    let tone = match device.disk_state {
        DiskState::Diskless if intentional => Tone::Good,
        state => disk_tone(state),
    };
    lines.toned("disk:", device.disk_state.word(), tone);
    if intentional {
        lines.word("client:yes");
    } else if layout.verbose && device.disk_state == DiskState::Diskless {
        lines.word("client:no");
    }
    if layout.verbose {
        let disk = device.backing_disk.as_deref().unwrap_or("none");
        lines.word(&format!("backing_dev:{}", printable(disk)));
        lines.word("quorum:yes");
    }
    let open = if device.open_count > 0 { "yes" } else { "no" };
    lines.word(&format!("open:{open}"));
    if let (true, Some(cache)) = (layout.verbose, device.write_cache) {
        lines.word(&format!("write-cache:{}", cache.word()));
    }
    if layout.statistics {
        lines.continued();
        let counters = [
            ("size", device.size_bytes / KIB),
            ("read", device.read_bytes / KIB),
            ("written", device.written_bytes / KIB),
            ("al-writes", device.intent_writes),
            ("bm-writes", device.bitmap_writes),
            ("upper-pending", device.upper_pending),
            ("lower-pending", device.lower_pending),
        ];
        render_counters(lines, &counters);
        lines.word("al-suspended:no");
        lines.word("blocked:no");
    }
    lines.end();
}

fn render_connection(
    lines: &mut Wrapped,
    connection: &ConnectionStatus,
    name_volumes: bool,
    layout: Layout,
) {
    let state = connection.connection_state;
    let connected = state == ConnectionState::Connected;
    lines.begin(2);
    lines.toned("", &printable(&connection.name), Tone::Bold);
    if layout.verbose {
        lines.word(&format!("node-id:{}", connection.peer_node_id));
    }
    if layout.verbose || !connected {
        lines.toned("connection:", state.word(), connection_tone(state));
    }
    if layout.verbose || connected {
        let role = connection.peer_role;
        lines.toned("role:", role.word(), role_tone(role));
    }
    if let Some(left) = connection.two_primaries.migration_ms {
        lines.word(&format!("migration-left:{}s", left.div_ceil(1000)));
    }
    if layout.verbose {
        lines.word("tls:no");
        lines.word("congested:no");
    }
    if layout.statistics {
        lines.continued();
        let counters = [
            (
                "ap-in-flight",
                connection.application_in_flight_bytes / SECTOR,
            ),
            ("rs-in-flight", connection.resync_in_flight_bytes / SECTOR),
        ];
        render_counters(lines, &counters);
    }
    lines.end();
    for peer_device in &connection.peer_devices {
        let remembered = peer_device.peer_disk_state != DiskState::DUnknown;
        if layout.verbose || connected || remembered {
            render_peer_device(lines, peer_device, name_volumes, layout);
        }
    }
}

fn render_peer_device(
    lines: &mut Wrapped,
    peer_device: &PeerDeviceStatus,
    name_volumes: bool,
    layout: Layout,
) {
    lines.begin(4);
    if name_volumes {
        lines.word(&format!("volume:{}", peer_device.volume));
    }
    let replication = peer_device.replication_state;
    let usual = matches!(
        replication,
        ReplicationState::Off | ReplicationState::Established
    );
    if layout.verbose || !usual {
        let tone = if usual { Tone::Plain } else { Tone::Busy };
        lines.toned("replication:", replication.word(), tone);
    }
    let disk = peer_device.peer_disk_state;
    lines.toned("peer-disk:", disk.word(), disk_tone(disk));
    if let Some(resync) = &peer_device.resync {
        lines.word(&format!("done:{}", percent(resync.percent_done())));
    }
    if let Some(verify) = &peer_device.verify {
        lines.word(&format!("done:{}", percent(verify.percent_done())));
    }
    let paused = peer_device.resync_suspended.words();
    if layout.verbose || peer_device.resync_suspended.is_any() {
        lines.word(&format!("resync-suspended:{paused}"));
    }
    if layout.statistics {
        lines.continued();
        let counters = [
            ("received", peer_device.received_bytes / KIB),
            ("sent", peer_device.sent_bytes / KIB),
            ("out-of-sync", peer_device.out_of_sync_bytes / KIB),
            ("pending", peer_device.pending),
            ("unacked", peer_device.unacknowledged),
        ];
        render_counters(lines, &counters);
        if let Some(resync) = &peer_device.resync {
            lines.word(&format!("dbdt1:{:.2}", mib_per_second(resync)));
            if let Some(seconds) = resync.seconds_left() {
                lines.glued(&format!("eta:{seconds}"));
            }
        }
    }
    lines.end();
}

fn render_counters(lines: &mut Wrapped, counters: &[(&str, u64)]) {
    for (name, value) in counters {
        lines.word(&format!("{name}:{value}"));
    }
}

fn role_tone(role: Role) -> Tone {
    match role {
        Role::Primary => Tone::Good,
        Role::Secondary => Tone::Plain,
        Role::Unknown => Tone::Busy,
    }
}

fn disk_tone(state: DiskState) -> Tone {
    match state {
        DiskState::UpToDate => Tone::Good,
        DiskState::Attaching
        | DiskState::Detaching
        | DiskState::Negotiating
        | DiskState::Consistent
        | DiskState::DUnknown => Tone::Busy,
        DiskState::Diskless | DiskState::Failed | DiskState::Inconsistent | DiskState::Outdated => {
            Tone::Bad
        }
    }
}

fn connection_tone(state: ConnectionState) -> Tone {
    match state {
        ConnectionState::Connected => Tone::Good,
        ConnectionState::Unconnected | ConnectionState::Connecting => Tone::Busy,
        ConnectionState::StandAlone
        | ConnectionState::Disconnecting
        | ConnectionState::Timeout
        | ConnectionState::BrokenPipe
        | ConnectionState::NetworkFailure
        | ConnectionState::ProtocolError
        | ConnectionState::TearDown => Tone::Bad,
    }
}

/// The unit of the in-flight counters, in bytes.
const SECTOR: u64 = 512;
