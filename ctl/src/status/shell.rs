//! `sh-status`: the state of resources as assignments that a shell can evaluate. One block for each
//! volume and peer, with the names DRBD 8.4 has for it; each ends with a call of the function
//! `_sh_status_process`, which the script defines.
//!
//! Names are added, never renamed or removed. Whatever a value is made of, to the shell it is one
//! word.

use std::fmt::Write as _;

use rbd_protocol::control::{ConnectionStatus, DeviceStatus, PeerDeviceStatus, ResourceStatus};
use rbd_protocol::state::{ConnectionState, DiskState, ReplicationState, Role};

use super::measure::{is_intentionally_diskless, percent};

/// Everything that is known of a resource.
pub(crate) fn shell_blocks(status: &ResourceStatus) -> String {
    let mut text = String::new();
    for device in one_at_least(&status.devices) {
        for connection in one_at_least(&status.connections) {
            text.push_str(&Block::of(status, device, connection).text());
        }
    }
    text
}

/// The one block of a resource of which only this is known: `Unconfigured` when the daemon does
/// not have it, `Unreachable` when there is no daemon.
pub(crate) fn shell_block_without_state(resource: &str, known: &'static str) -> String {
    let block = Block {
        resource: resource.to_owned(),
        known,
        ..Block::default()
    };
    block.text()
}

/// The values of one block, as they are printed.
#[derive(Default)]
struct Block {
    minor: String,
    resource: String,
    volume: String,
    known: &'static str,
    connection: &'static str,
    role: &'static str,
    peer_role: &'static str,
    disk: &'static str,
    peer_disk: &'static str,
    suspended: String,
    paused_by_dependency: &'static str,
    paused_by_peer: &'static str,
    paused_by_user: &'static str,
    resynced_percent: String,
    peer_name: String,
    is_client: &'static str,
    open_count: String,
}

impl Block {
    fn of(
        status: &ResourceStatus,
        device: Option<&DeviceStatus>,
        connection: Option<&ConnectionStatus>,
    ) -> Self {
        let on_peer = connection.and_then(|connection| {
            let mut all = connection.peer_devices.iter();
            all.find(|one| Some(one.volume) == device.map(|device| device.volume))
        });
        let pauses = on_peer.map(|one| one.resync_suspended).unwrap_or_default();
        let disk = device.map_or(DiskState::Diskless, |one| one.disk_state);
        let peer_disk = on_peer.map_or(DiskState::DUnknown, |one| one.peer_disk_state);
        let peer_role = connection.map_or(Role::Unknown, |one| one.peer_role);
        let resync = on_peer.and_then(|one| one.resync.as_ref());
        Self {
            minor: or_empty(device.and_then(|one| one.minor)),
            resource: status.name.clone(),
            volume: or_empty(device.map(|one| one.volume.0)),
            known: "Configured",
            connection: connected_as(connection, on_peer),
            role: status.role.word(),
            peer_role: peer_role.word(),
            disk: disk.word(),
            peer_disk: peer_disk.word(),
            suspended: suspended(status),
            paused_by_dependency: flag(pauses.dependency),
            paused_by_peer: flag(pauses.peer),
            paused_by_user: flag(pauses.user),
            resynced_percent: or_empty(resync.map(|one| percent(one.percent_done()))),
            peer_name: or_empty(connection.map(|one| &one.name)),
            is_client: flag(device.is_some_and(is_intentionally_diskless)),
            open_count: or_empty(device.map(|one| one.open_count)),
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (name, value) in [
            ("_minor", self.minor.as_str()),
            ("_res_name", &self.resource),
            ("_volume", &self.volume),
            ("_known", self.known),
            ("_cstate", self.connection),
            ("_role", self.role),
            ("_peer", self.peer_role),
            ("_disk", self.disk),
            ("_pdsk", self.peer_disk),
            ("_flags_susp", &self.suspended),
            ("_flags_aftr_isp", self.paused_by_dependency),
            ("_flags_peer_isp", self.paused_by_peer),
            ("_flags_user_isp", self.paused_by_user),
            ("_resynced_percent", &self.resynced_percent),
            ("_peer_name", &self.peer_name),
            ("_client", self.is_client),
            ("_open", &self.open_count),
        ] {
            assign(&mut text, name, value);
        }
        text.push_str("_sh_status_process\n\n");
        text
    }
}

/// As DRBD 8.4 has it: once there is a connection, what it is used for.
fn connected_as(
    connection: Option<&ConnectionStatus>,
    on_peer: Option<&PeerDeviceStatus>,
) -> &'static str {
    let Some(connection) = connection else {
        return ConnectionState::StandAlone.word();
    };
    match on_peer.map(|one| one.replication_state) {
        None | Some(ReplicationState::Off | ReplicationState::Established) => {
            connection.connection_state.word()
        }
        Some(state) => state.word(),
    }
}

fn suspended(status: &ResourceStatus) -> String {
    let why = status.suspended;
    let all = [
        (why.user, "user"),
        (why.no_data, "no-data"),
        (why.fencing, "fencing"),
    ];
    let words = all.into_iter().filter(|(is_so, _)| *is_so);
    words.map(|(_, word)| word).collect::<Vec<_>>().join(",")
}

fn flag(is_so: bool) -> &'static str {
    if is_so { "1" } else { "" }
}

fn or_empty(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

fn assign(text: &mut String, name: &str, value: &str) {
    let is_plain = value
        .chars()
        .all(|one| one.is_ascii_alphanumeric() || "_-.,:/%+@".contains(one));
    if is_plain {
        writeln!(text, "{name}={value}").expect("a string takes any text");
    } else {
        let quoted = value.replace('\'', r"'\''");
        writeln!(text, "{name}='{quoted}'").expect("a string takes any text");
    }
}

/// A resource without volumes or peers still has a state.
fn one_at_least<T>(all: &[T]) -> Vec<Option<&T>> {
    if all.is_empty() {
        return vec![None];
    }
    all.iter().map(Some).collect()
}
