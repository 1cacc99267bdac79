//! What a greeting means where one node's clients are, or could be, served by the other.

use rbd_protocol::ids::{GenerationId, NodeId};
use rbd_protocol::state::{DiskState, Role};

use super::Resource;
use crate::connection::Connection;
use crate::context::Context;
use crate::contract::Level;
use crate::decide::Verdict;
use crate::volume::Volume;

impl<B: Clone> Resource<B> {
    /// Notes where clients of either node go on without this node's disk, before anything is done
    /// for them: what that disk holds is then not the newest, and it may be unable to say so.
    pub(super) fn note_disks_left_behind(&mut self) {
        let is_used = |peer: &Connection| peer.peer_role == Role::Primary && peer.link.is_some();
        let goes_on = self.connections.values().any(is_used);
        for volume in self.volumes.values_mut() {
            volume.note_left_behind(goes_on, &mut self.cx);
        }
    }
}

/// The peer has no disk to replicate to: perhaps this node is to serve its clients.
pub(super) fn meet_diskless<B: Clone>(
    volume: &mut Volume<B>,
    node: NodeId,
    peer_role: Role,
    cx: &mut Context<B>,
) {
    let Some(peer) = volume.peers.get(&node) else {
        return;
    };
    let (peer_disk, shown) = (peer.peer_disk, peer.current);
    if peer_role == Role::Primary && peer_disk == DiskState::Diskless && shown.names_data() {
        hold_against_shown(volume, shown, cx);
    }
}

/// This Primary's clients need a peer to serve them: perhaps it is this one.
pub(super) fn meet_server<B: Clone>(
    volume: &mut Volume<B>,
    node: NodeId,
    verdict: Verdict,
    cx: &mut Context<B>,
) {
    let Some(peer) = volume.peers.get(&node) else {
        return;
    };
    let (peer_disk, shown, serves) = (peer.peer_disk, peer.current, peer.serves);
    if peer_disk < DiskState::Consistent {
        volume.frozen.awaiting = None;
    }
    if serves {
        // From here on it is this generation that clients see.
        if !shown.is_none() {
            volume.exposed = shown;
        }
    } else {
        volume.frozen.awaiting = None;
        let text =
            "the peer's data is not what clients here have seen: they are not served from it";
        cx.report(Level::Error, Some(node), Some(volume.number), text);
    }
    let fills = serves && matches!(verdict, Verdict::Target { .. });
    if volume.local.is_some() && !fills {
        let why = "not used: it cannot be filled with what the clients of this Primary have seen";
        cx.report(Level::Error, Some(node), Some(volume.number), why);
        volume.let_go(why, cx);
    }
}

/// The only clients there are have seen data of the generation `shown`, and nobody but this node
/// has a disk: what they have seen is here, or it is not and must not be taken for current.
fn hold_against_shown<B: Clone>(volume: &mut Volume<B>, shown: GenerationId, cx: &mut Context<B>) {
    let Some(local) = &volume.local else { return };
    let is_current = shown == local.current();
    let is_known = is_current || local.history().contains(&shown);
    let is_shown = is_current && local.holds_what_it_had();
    if !is_known && volume.role == Role::Secondary && volume.disk > DiskState::Outdated {
        let note = "the Primary has no disk and has shown other data";
        volume.set_disk_state(DiskState::Outdated, note, cx);
    }
    if is_shown && volume.disk == DiskState::Consistent {
        let note = "the Primary has no disk and has shown this data";
        volume.set_disk_state(DiskState::UpToDate, note, cx);
    }
}
