//! A split brain in words: what each side has changed, and what ending it would destroy.

use rbd_protocol::control::{
    ConnectionStatus, Divergence, RefusedPeer, RefusedVolume, ResourceStatus,
};
use rbd_protocol::ids::BLOCK_SIZE;
use rbd_protocol::policy::ResyncConflict;

use super::measure::{duration, moment, size};

/// What is lost when one side's data is kept: a line for each volume.
pub(crate) fn losses(
    resource: &ResourceStatus,
    connection: &ConnectionStatus,
    refused: &RefusedPeer,
    keep_own: bool,
) -> Vec<String> {
    let peer = &connection.name;
    let loser = if keep_own { peer } else { "this node" };
    let line = |volume: &RefusedVolume| {
        if let Some(line) = without_loss(peer, volume) {
            return line;
        }
        let own_bytes = own_bytes(connection, volume);
        let changed = if keep_own {
            volume.changed_bytes
        } else {
            own_bytes
        };
        let mut line = format!(
            "volume {}: what {loser} changed is lost, {}",
            volume.volume,
            amount(changed)
        );
        if volume.is_exact {
            let most = own_bytes.saturating_add(volume.changed_bytes);
            line.push_str(&format!("; at most {} are copied", size(most)));
        } else {
            let whole = whole_bytes(resource, volume);
            line.push_str(&format!(
                " that are known of; everything ({}) is copied, as the nodes do not count from \
                 the same generation",
                size(whole)
            ));
        }
        line
    };
    refused.volumes.iter().map(line).collect()
}

/// How many bytes of a volume a copy of what this node gives up would have.
pub(crate) fn to_be_saved(
    resource: &ResourceStatus,
    connection: &ConnectionStatus,
    volume: &RefusedVolume,
    whole: bool,
) -> u64 {
    let is_split = volume.divergence == Divergence::Both;
    if whole || (is_split && !volume.is_exact) {
        whole_bytes(resource, volume)
    } else if is_split {
        own_bytes(connection, volume)
    } else {
        0
    }
}

/// What is known of a peer that was refused, in sentences.
pub(super) fn sentences(connection: &ConnectionStatus, refused: &RefusedPeer) -> String {
    let peer = &connection.name;
    let who = match refused.divergence {
        Divergence::Unknown => "What the two nodes have changed cannot be compared.".to_owned(),
        Divergence::Neither => "Neither node has changes the other lacks.".to_owned(),
        Divergence::Own => format!("Only this node has changes that {peer} lacks."),
        Divergence::Peer => format!("Only {peer} has changes that this node lacks."),
        Divergence::Both => {
            "Both nodes have changes that the other lacks, so one of them must give up its own."
                .to_owned()
        }
    };
    let mut text = format!(
        "{who} When {peer} was last heard, {} ago, it was {}.",
        duration(refused.told_ms_ago / 1000),
        refused.role
    );
    for volume in &refused.volumes {
        let since = if volume.is_exact {
            "Since their last common generation"
        } else {
            "As far as each of them knows"
        };
        text.push_str(&format!(
            " {since}, this node has changed {} of volume {}{} and {peer} {}{}.",
            amount(own_bytes(connection, volume)),
            volume.volume,
            since_when(volume.own_since),
            amount(volume.changed_bytes),
            since_when(volume.peer_since)
        ));
    }
    text
}

/// The same in few words, for one line.
pub(super) fn brief(connection: &ConnectionStatus, refused: &RefusedPeer) -> String {
    let each = refused.volumes.iter().map(|volume| {
        format!(
            "volume {}: this node {}{}, {} {}{}",
            volume.volume,
            size(own_bytes(connection, volume)),
            since_when(volume.own_since),
            connection.name,
            size(volume.changed_bytes),
            since_when(volume.peer_since)
        )
    });
    each.collect::<Vec<_>>().join("; ")
}

/// What a connection may do by itself in a split brain or against a Primary, if it may do anything.
pub(super) fn automatic(connection: &ConnectionStatus) -> Option<String> {
    let (split, conflict) = (connection.split, connection.resync_conflict);
    if split.is_default() && conflict == ResyncConflict::default() {
        return None;
    }
    let always = if split.always { "yes" } else { "no" };
    Some(format!(
        "Towards {} a split brain may be ended without a person, and then the changes of one node \
         are lost: after-sb-0pri {}, after-sb-1pri {}, after-sb-2pri {}, always-asbp {always}, \
         rr-conflict {}.",
        connection.name,
        split.without_primary.word(),
        split.with_one_primary.word(),
        split.with_two_primaries.word(),
        conflict.word()
    ))
}

/// A volume that has no part in the split brain of the others.
fn without_loss(peer: &str, volume: &RefusedVolume) -> Option<String> {
    let number = volume.volume;
    match volume.divergence {
        Divergence::Both | Divergence::Unknown => None,
        Divergence::Neither => Some(format!("volume {number}: the same on both nodes")),
        Divergence::Own => Some(format!(
            "volume {number}: only this node has changed it, so its data is kept in any case"
        )),
        Divergence::Peer => Some(format!(
            "volume {number}: only {peer} has changed it, so {peer}'s data is kept in any case"
        )),
    }
}

fn since_when(seconds: u64) -> String {
    match seconds {
        0 => String::new(),
        known => format!(" (since {})", moment(known)),
    }
}

fn own_bytes(connection: &ConnectionStatus, volume: &RefusedVolume) -> u64 {
    let mut devices = connection.peer_devices.iter();
    let device = devices.find(|one| one.volume == volume.volume);
    device.map_or(0, |one| one.out_of_sync_bytes)
}

fn whole_bytes(resource: &ResourceStatus, volume: &RefusedVolume) -> u64 {
    let mut devices = resource.devices.iter();
    let device = devices.find(|one| one.volume == volume.volume);
    device.map_or(0, |one| one.size_bytes)
}

fn amount(bytes: u64) -> String {
    let blocks = bytes / u64::from(BLOCK_SIZE);
    format!("{} in {blocks} block(s)", size(bytes))
}
