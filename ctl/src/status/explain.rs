//! `explain`: the state of one resource in plain sentences, for someone who does not know the words
//! yet.
//!
//! The first paragraph says what this node is doing; one more follows for each thing that is not
//! healthy: what its state means, why it is in it and since when, and what helps. It works on the
//! daemon's snapshot alone, like everything here.

use rbd_protocol::control::ResourceStatus;
use rbd_protocol::state::{ConnectionState, DiskState, ReplicationState, Role};

use super::advice::{Subject, Trouble, troubles};
use super::measure::duration;
use super::split::automatic;

/// The paragraphs, each on one line.
pub(crate) fn explain(resource: &ResourceStatus) -> Vec<String> {
    let found = troubles(resource);
    let mut paragraphs = vec![summary(resource, found.len())];
    paragraphs.extend(found.iter().map(paragraph));
    paragraphs.extend(resource.connections.iter().filter_map(automatic));
    paragraphs
}

/// Breaks a paragraph into lines of at most `width` columns, at spaces only.
pub(crate) fn wrapped(paragraph: &str, width: usize) -> String {
    let mut text = String::new();
    let mut column = 0;
    for word in paragraph.split(' ') {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > width {
            text.push('\n');
            column = 0;
        } else if column > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    text
}

fn summary(resource: &ResourceStatus, troubles: usize) -> String {
    let name = &resource.name;
    let does = match resource.role {
        Role::Primary => "Primary: it serves the clients",
        Role::Secondary => "Secondary: it receives what the Primary writes and serves no clients",
        Role::Unknown => "in no known role",
    };
    let health = match troubles {
        0 => match resource.connections.len() {
            0 => "Its disk is UpToDate and it has no peers. Nothing needs to be done.",
            _ => {
                "Its data is the newest there is and every peer has the same. Nothing needs to be \
                 done."
            }
        }
        .to_owned(),
        1 => "One thing is not as it should be.".to_owned(),
        count => format!("{count} things are not as they should be."),
    };
    format!("{name}: this node is {does}. {health}")
}

fn paragraph(trouble: &Trouble) -> String {
    let (what, meaning) = match &trouble.subject {
        Subject::Disk(volume, state) => (
            format!("This node's disk of volume {volume} is {state}"),
            disk_meaning(*state),
        ),
        Subject::Connection(peer, state) => (
            format!("The connection to {peer} is {state}"),
            connection_meaning(*state),
        ),
        Subject::Replication(peer, volume, state) => (
            format!("Volume {volume} is {state} towards {peer}"),
            replication_meaning(*state),
        ),
        Subject::PeerDisk(peer, volume, state) => (
            format!("The disk of volume {volume} on {peer} is {state}"),
            disk_meaning(*state),
        ),
        Subject::OutOfSync(peer, volume) => (
            format!("Volume {volume} differs from the copy on {peer}"),
            "both disks are in use, but some blocks are known not to be equal",
        ),
        Subject::TwoPrimaries(peer) => (
            format!("This node and {peer} may be Primary at once"),
            "clients write on both, and each must know what the other has written",
        ),
        Subject::Suspended(why) => (
            format!("The I/O of this node's clients is suspended ({why})"),
            "what they ask for is neither done nor refused, it waits",
        ),
    };
    let since = trouble.since_ms.map_or_else(String::new, |since_ms| {
        format!(" and has been for {}", duration(since_ms / 1000))
    });
    let mut text = format!(
        "{what}{since}: {meaning}. The reason: {}.",
        trouble.reason.trim_end_matches(['.', '!'])
    );
    if !trouble.facts.is_empty() {
        text.push_str(&format!(" {}", trouble.facts));
    }
    if trouble.next.is_empty() {
        text.push_str(" It passes by itself.");
    } else {
        text.push_str(&format!(" What to do: {}.", trouble.next));
    }
    text
}

fn disk_meaning(state: DiskState) -> &'static str {
    match state {
        DiskState::Diskless => "there is no disk",
        DiskState::Attaching => "its metadata is being read",
        DiskState::Detaching => "I/O in flight is being finished before it is let go",
        DiskState::Failed => "it has had an error and is not used any more",
        DiskState::Negotiating => "the nodes are deciding which copy is the newest",
        DiskState::Inconsistent => {
            "its content is a mix of old and new, or was never made equal to another copy, so \
             nobody may use it"
        }
        DiskState::Outdated => "its content is whole, but older than another copy",
        DiskState::Consistent => {
            "its content is whole, but another copy may be newer, so it is not served without a \
             question"
        }
        DiskState::DUnknown => "nothing is known of it",
        DiskState::UpToDate => "it has the newest data",
    }
}

fn connection_meaning(state: ConnectionState) -> &'static str {
    match state {
        ConnectionState::StandAlone => "nothing is replicated",
        ConnectionState::Disconnecting | ConnectionState::TearDown => "it is being closed",
        ConnectionState::Unconnected | ConnectionState::Connecting => {
            "nothing is replicated until the two nodes have found each other"
        }
        ConnectionState::Timeout
        | ConnectionState::BrokenPipe
        | ConnectionState::NetworkFailure
        | ConnectionState::ProtocolError => "it was lost and is being made anew",
        ConnectionState::Connected => "it stands",
    }
}

fn replication_meaning(state: ReplicationState) -> &'static str {
    match state {
        ReplicationState::Off => "nothing is replicated",
        ReplicationState::Established => "both copies are kept identical",
        ReplicationState::StartingSyncS
        | ReplicationState::StartingSyncT
        | ReplicationState::WFBitMapS
        | ReplicationState::WFBitMapT
        | ReplicationState::WFSyncUUID => "the nodes are finding out which blocks differ",
        ReplicationState::SyncSource | ReplicationState::PausedSyncS => {
            "the peer is being given the blocks it lacks"
        }
        ReplicationState::SyncTarget | ReplicationState::PausedSyncT => {
            "this node is being given the blocks it lacks"
        }
        ReplicationState::VerifyS | ReplicationState::VerifyT => "the copies are being compared",
    }
}
