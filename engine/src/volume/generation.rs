//! What must be durable before a peer may be left behind.
//!
//! Before a write that some peer lacks is completed, the superblock must say so: a new current
//! generation, and the old one as the generation since when the bitmap towards that peer counts
//! (A2, D5, D6). While a greeting is on its way its generations must stay as sent, so a write that
//! needs a new one waits for the handshake's end, which has a deadline.

use rbd_protocol::ids::GenerationId;
use rbd_protocol::state::{DiskState, ReplicationState, Role};

use super::Volume;
use crate::context::Context;
use crate::contract::{DiskNote, Level};
use crate::peer_device::PeerDevice;

impl<B: Clone> Volume<B> {
    /// Whether it is durable that this peer lacks data written here.
    pub(crate) fn is_behind(&self, peer: &PeerDevice) -> bool {
        self.local.as_ref().is_some_and(|local| {
            peer.source.unrecorded != Some(local.current())
                && !local.bitmap_generation(peer.node).is_none()
                && local.is_durable(peer.behind_since_version)
        })
    }

    /// Whether what this peer did not get is no longer only in memory: it is durably behind, or has
    /// been brought up to date since.
    pub(crate) fn loss_is_recorded(&self, node: rbd_protocol::ids::NodeId) -> bool {
        self.peers.get(&node).is_none_or(|peer| {
            let again = peer.is_mirrored() && self.is_behind(peer);
            again || self.is_left_behind(peer) || peer.replication == ReplicationState::Established
        })
    }

    /// Whether data written here without this peer is durably told from what the peer has.
    pub(crate) fn is_left_behind(&self, peer: &PeerDevice) -> bool {
        self.is_behind(peer)
            && self
                .local
                .as_ref()
                .is_some_and(|local| !local.may_have_current(peer.node))
    }

    /// Whether it is durable for every peer that does not get writes now that it is behind. Starts
    /// making it so if not.
    pub(crate) fn absent_peers_are_behind(&mut self, cx: &mut Context<B>) -> bool {
        let all = self
            .peers
            .values()
            .all(|peer| peer.is_mirrored() || self.is_left_behind(peer));
        if !all {
            self.leave_absent_peers_behind(cx);
        }
        all
    }

    /// Begins a new generation if some peer that does not get writes is not yet recorded as behind.
    pub(crate) fn leave_absent_peers_behind(&mut self, cx: &mut Context<B>) {
        if self.frozen.fencing || self.peers.values().any(|peer| peer.handshaking) {
            return;
        }
        let Some(local) = &self.local else { return };
        let needed = self.peers.values().any(|peer| {
            !peer.is_mirrored()
                && (local.bitmap_generation(peer.node).is_none()
                    || local.may_have_current(peer.node))
        });
        if needed {
            self.begin_generation(|peer| !peer.is_mirrored(), cx);
        }
    }

    /// The peer has been fenced: that it is out of use, and what tells its data from what is
    /// written from here on, are recorded in one step. The one without the other would let the
    /// peer come back as identical while a restart of this node still took it to be out of use.
    pub(crate) fn leave_fenced_behind(
        &mut self,
        node: rbd_protocol::ids::NodeId,
        cx: &mut Context<B>,
    ) {
        let Some(local) = &mut self.local else { return };
        local.note_peer_outdated(node, true);
        let known = !local.bitmap_generation(node).is_none() && !local.may_have_current(node);
        if !known {
            self.begin_generation(|peer| !peer.is_mirrored(), cx);
        }
        self.unsettled = true;
    }

    /// Begins a new generation; the chosen peers count as behind since the old one.
    pub(crate) fn begin_generation(
        &mut self,
        left_behind: impl Fn(&PeerDevice) -> bool,
        cx: &mut Context<B>,
    ) {
        let generation = cx.random.generation();
        let Some(local) = &mut self.local else { return };
        let old = local.current();
        local.begin_generation(generation);
        for peer in self.peers.values_mut().filter(|peer| left_behind(peer)) {
            if local.bitmap_generation(peer.node).is_none() {
                local.set_bitmap_generation(peer.node, old);
                local.note_counting(peer.node, self.role == Role::Primary, cx.unix_seconds());
            }
            local.note_may_have_current(peer.node, false);
            peer.behind_since_version = local.version();
        }
        cx.report(
            Level::Info,
            None,
            Some(self.number),
            alloc::format!("new current generation {generation}, before it {old}"),
        );
        local.start_metadata(self.number, cx);
    }

    /// Both copies are identical and both nodes know it under the same generation.
    pub(crate) fn note_in_sync(&mut self, node: rbd_protocol::ids::NodeId, cx: &mut Context<B>) {
        let Some(local) = &mut self.local else { return };
        local.forget_bitmap_generation(node);
        local.note_interruption_settled(self.recorded_role == Role::Primary);
        local.note_boot();
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.replication = ReplicationState::Established;
            peer.behind_since_version = 0;
            peer.lacks_writes = false;
            peer.target = None;
            peer.left_out = super::LeftOut::default();
            peer.source = crate::peer_device::Source::default();
        }
        self.checkpoint_wanted = true;
        self.missed_writes = false;
        if core::mem::take(&mut self.lost_cache) {
            cx.note_of_disk(self.number, DiskNote::LostCache, false);
        }
        local.start_metadata(self.number, cx);
        self.unsettled = true;
    }

    /// The disk's state changes, in memory and (what of it outlives a restart) in the superblock.
    pub(crate) fn set_disk_state(&mut self, state: DiskState, note: &str, cx: &mut Context<B>) {
        if self.disk != state {
            let (old, new) = (self.disk, state);
            let text = alloc::format!("disk {old} -> {new}");
            cx.report(Level::Info, None, Some(self.number), text);
        }
        self.disk = state;
        self.disk_note = note.into();
        if let Some(local) = &mut self.local {
            local.record_disk_state(state);
            local.start_metadata(self.number, cx);
        }
        self.unsettled = true;
    }

    /// A Primary that its peer serves has been given this disk. Whatever it says of itself, clients
    /// are not served from it before it has been filled; nothing of that is recorded before the
    /// peer has been met.
    pub(crate) fn await_filling(&mut self, state: DiskState, cx: &mut Context<B>) {
        self.disk = state.min(DiskState::Outdated);
        self.disk_note = "to be filled from the peer that serves the clients".into();
        let text = alloc::format!("disk attached as {}: {}", self.disk, self.disk_note);
        cx.report(Level::Info, None, Some(self.number), text);
        self.unsettled = true;
    }

    /// Adopts a generation made elsewhere as this disk's current one.
    pub(crate) fn adopt_generation(&mut self, generation: GenerationId) {
        if let Some(local) = &mut self.local {
            local.begin_generation(generation);
        }
    }
}
