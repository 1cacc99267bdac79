//! The target's part of a resync: it asks for what is missing, and says when it has everything.
//!
//! No block is asked for before it is durable that the disk is `Inconsistent` (E1), and the
//! source's generation is adopted only after a flush of everything received. How much it asks for
//! at once is decided in `resync_window`. What the source does, and how both begin, is in `resync`.

use alloc::vec::Vec;

use rbd_protocol::control::VolumeConfig;
use rbd_protocol::ids::NodeId;
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{DiskState, ReplicationState, Role};

use super::{BarrierPurpose, Volume};
use crate::context::{Context, Operation};
use crate::contract::{DiskRequest, Level, Time};
use crate::handler::Handler;
use crate::local_disk::LocalDisk;
use crate::peer_device::{Finish, Outstanding, PeerDevice, Question};

impl<B: Clone> Volume<B> {
    /// Lets every resync of which this node is the target go on.
    pub(crate) fn advance_resync_targets(&mut self, cx: &mut Context<B>) {
        let nodes: Vec<NodeId> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.target.is_some())
            .map(|(node, _)| *node)
            .collect();
        for node in nodes {
            self.begin_target(node, cx);
            self.request_more(node, cx);
            self.finish_target(node, cx);
        }
        if self.local.as_ref().is_none_or(LocalDisk::is_settled)
            && let Some(node) = self.ended_unheard.take()
            && self.local.is_some()
        {
            self.tell_target_ended(node, cx);
        }
        if self.took_over_unheard && (self.local.is_none() || self.absent_peers_are_behind(cx)) {
            self.took_over_unheard = false;
            self.unsettled = true;
        }
    }

    fn begin_target(&mut self, node: NodeId, cx: &mut Context<B>) {
        let Some(peer) = self.peers.get(&node) else {
            return;
        };
        let (Some(target), Some(local)) = (&peer.target, &self.local) else {
            return;
        };
        if peer.replication != ReplicationState::WFBitMapT
            || !local.is_durable(target.inconsistent_version)
        {
            return;
        }
        if !target.bitmap_sent {
            self.send_bitmap(node, cx);
        }
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let Some(target) = &mut peer.target else {
            return;
        };
        target.bitmap_sent = true;
        if target.generation.is_some() {
            peer.replication = ReplicationState::SyncTarget;
            target.left_out.resume(&peer.bitmap);
            peer.resync_total_bytes = peer.out_of_sync_bytes();
            peer.pace.begin(cx.now);
            let text = alloc::format!(
                "resync begins: {} bytes to receive",
                peer.resync_total_bytes
            );
            cx.report(Level::Info, Some(node), Some(self.number), text);
        }
    }

    fn request_more(&mut self, node: NodeId, cx: &mut Context<B>) {
        if self.local.is_none() {
            return; // the resync ends with the link, which is about to be given up
        }
        let (volume, size) = (self.number, self.size_bytes());
        let peer_writes = &self.peer_writes;
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let Some(link) = peer
            .link
            .filter(|_| peer.replication == ReplicationState::SyncTarget)
            .filter(|_| !peer.pauses.is_any())
        else {
            return;
        };
        let Some(target) = &mut peer.target else {
            return;
        };
        let options = &peer.resync_options;
        let missing = peer.bitmap.count();
        if target.outstanding.is_empty() && !target.left_out.leaves_more_of(missing) {
            target.left_out.try_again(&mut target.cursor, cx.now);
        }
        loop {
            let under_way = (target.outstanding.len(), target.outstanding_bytes);
            let Some(room) = target.window.room(under_way, options, cx.now) else {
                break;
            };
            let run = target
                .left_out
                .next_run(&peer.bitmap, &mut target.cursor, (room, size));
            let Some(range) = run else {
                let is_more = target.left_out.leaves_more_of(missing);
                if target.outstanding.is_empty() && target.cursor > 0 && is_more {
                    target.cursor = 0; // what was asked for has been answered: look once more
                    continue;
                }
                break;
            };
            let id = cx.name();
            let (length, is_alone) = (u64::from(range.length), target.outstanding.is_empty());
            let asked = target.window.ask(length, is_alone, options, cx.now);
            target.outstanding_bytes += length;
            // What is being written is not read at the same time: it is asked for as it is.
            let is_busy = || {
                peer_writes
                    .values()
                    .any(|write| write.range.overlaps(range))
            };
            let question = if target.compares && !is_busy() {
                let operation = Operation::ResyncDigest {
                    volume,
                    peer: node,
                    link,
                    id,
                    at_source: false,
                };
                cx.disk(operation, DiskRequest::Digest, range, None);
                Question::NotYet
            } else {
                let packet = Packet::ResyncRequest { id, volume, range };
                cx.send(node, link, packet, None);
                Question::WhatIsThere
            };
            let outstanding = Outstanding {
                range,
                asked,
                question,
                to_come: length,
                left: length,
            };
            target.outstanding.insert(id, outstanding);
        }
    }

    /// A client of either node is at work: resyncs and verifies of this volume make room.
    pub(crate) fn clients_at_work(&mut self, cx: &Context<B>) {
        for peer in self.peers.values_mut() {
            let options = &peer.resync_options;
            if let Some(target) = &mut peer.target {
                target.window.clients_at_work(options, cx.now);
            }
            if let Some(verify) = &mut peer.verify {
                verify.window().clients_at_work(options, cx.now);
            }
        }
    }

    /// Takes over changed limits; a resync that runs keeps to them from now on.
    pub(crate) fn configure_resync(&mut self, config: &VolumeConfig, now: Time) {
        for (node, peer) in &mut self.peers {
            let found = config.resync.iter().find(|(named, _)| named == node);
            peer.resync_options = found.map(|(_, options)| *options).unwrap_or_default();
            if let Some(target) = &mut peer.target {
                target.window.options_changed(now);
            }
            if let Some(verify) = &mut peer.verify {
                verify.window().options_changed(now);
            }
        }
    }

    /// When a resync or a verify of limited rate may ask for more.
    pub(crate) fn next_resync(&self, now: Time) -> Option<Time> {
        let is_running = |peer: &&PeerDevice| is_target(peer) && !peer.pauses.is_any();
        let running = self.peers.values().filter(is_running);
        let resyncs = running.filter_map(|peer| {
            let target = peer.target.as_ref()?;
            let left_out = &target.left_out;
            let is_all = || !left_out.leaves_more_of(peer.bitmap.count());
            let again = left_out.due();
            let again = again.filter(|_| target.outstanding.is_empty() && is_all());
            target.window.due(now).into_iter().chain(again).min()
        });
        let verifies = self.peers.values().filter_map(|peer| peer.verify.as_ref());
        resyncs
            .chain(verifies.filter_map(|verify| verify.due(now)))
            .min()
    }

    /// The timer has fired: a resync or a verify of limited rate may be allowed to ask for more.
    pub(crate) fn wake_resync(&mut self) {
        let is_running = |peer: &PeerDevice| is_target(peer) || peer.verify.is_some();
        self.unsettled |= self.peers.values().any(is_running);
    }

    fn finish_target(&mut self, node: NodeId, cx: &mut Context<B>) {
        if self.local.is_none() {
            return; // it has just failed, and the peer does not know yet
        }
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        if peer.replication != ReplicationState::SyncTarget {
            return;
        }
        let Some(target) = &mut peer.target else {
            return;
        };
        match target.finish {
            Finish::NotYet => {
                if target.outstanding.is_empty() && peer.bitmap.is_clean() {
                    target.finish = Finish::Draining;
                    self.finish_target(node, cx);
                }
            }
            Finish::Draining => {
                if !self.is_asking() {
                    self.set_finish(node, Finish::Flushing);
                    self.start_barrier(BarrierPurpose::ResyncEnd(node), cx);
                }
            }
            Finish::Flushing => {}
            Finish::Recording(version) => {
                if self
                    .local
                    .as_ref()
                    .is_some_and(|local| local.is_durable(version))
                {
                    self.end_target(node, cx);
                }
            }
        }
    }

    /// Everything of the resync is durable here: now the superblock may say so.
    pub(crate) fn resync_target_flushed(&mut self, node: NodeId, cx: &mut Context<B>) {
        let Some(peer) = self.peers.get(&node) else {
            return;
        };
        let Some(generation) = peer.target.as_ref().and_then(|target| target.generation) else {
            return;
        };
        if peer
            .target
            .as_ref()
            .is_none_or(|target| target.finish != Finish::Flushing)
        {
            return;
        }
        self.adopt_generation(generation);
        if let Some(local) = &mut self.local {
            local.forget_bitmap_generation(node);
            local.note_interruption_settled(self.recorded_role == Role::Primary);
            local.record_disk_state(DiskState::UpToDate);
            let version = local.version();
            local.start_metadata(self.number, cx);
            self.set_finish(node, Finish::Recording(version));
        }
        self.unsettled = true;
    }

    fn set_finish(&mut self, node: NodeId, finish: Finish) {
        let peer = self.peers.get_mut(&node);
        if let Some(target) = peer.and_then(|peer| peer.target.as_mut()) {
            target.finish = finish;
        }
    }

    fn end_target(&mut self, node: NodeId, cx: &mut Context<B>) {
        let volume = self.number;
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let generation = peer.target.take().and_then(|target| target.generation);
        peer.peer_disk = DiskState::UpToDate;
        if let (Some(link), Some(generation)) = (peer.link, generation) {
            cx.send(node, link, Packet::ResyncDone { volume, generation }, None);
        }
        if self.role == Role::Primary {
            self.take_over(node, cx);
        }
        self.set_disk_state(DiskState::UpToDate, "", cx);
        self.note_in_sync(node, cx);
        self.tell_target_ended(node, cx);
    }

    /// The clients of this Primary, served by the source so far, are about to be served from here.
    /// The source has flushed all it did for them; and it must have heard of the end, which is told
    /// over the other channel, before the first of their writes comes as a mirrored one.
    fn take_over(&mut self, node: NodeId, cx: &mut Context<B>) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        peer.remote_stable = peer.remote_written;
        if let Some(link) = peer.link {
            let id = cx.name();
            peer.takes_note = Some(id);
            cx.send(node, link, Packet::Ping { id }, None);
        }
    }

    /// The peer has read everything that was sent before this question.
    pub(crate) fn has_taken_note(&mut self, node: NodeId, id: u64) {
        if let Some(peer) = self.peers.get_mut(&node)
            && peer.takes_note == Some(id)
        {
            peer.takes_note = None;
            self.unsettled = true;
        }
    }

    /// Whether clients wait because they are about to be served from the own disk.
    pub(crate) fn is_taking_over(&self) -> bool {
        let takes_note = |peer: &PeerDevice| peer.takes_note.is_some();
        let ends = self.is_ending_resync() || self.peers.values().any(takes_note);
        self.role == Role::Primary && (ends || self.took_over_unheard)
    }

    /// The peer goes out of reach. If it served the clients until just now, it may have a write
    /// that was answered as failed and that is not here: before clients are shown what is, it is
    /// durably told that the peer's data is another (B8).
    pub(super) fn take_over_unheard(&mut self, node: NodeId) {
        let takes_note = |peer: &PeerDevice| peer.takes_note.is_some();
        let takes_over = self.role == Role::Primary && self.has_own_data();
        self.took_over_unheard |= takes_over && self.peers.get(&node).is_some_and(takes_note);
    }

    /// Whether nothing is missing here any more, and the end of the resync is under way. The source
    /// must not be asked for anything now: it may hear of the end first.
    pub(crate) fn is_ending_resync(&self) -> bool {
        let mut targets = self.peers.values().filter_map(|peer| peer.target.as_ref());
        targets.any(|target| target.finish != Finish::NotYet)
    }

    /// Whether this node has everything, and only the superblock that says so is being written.
    pub(crate) fn is_recording_end(&self) -> bool {
        self.peers.values().any(is_recording_end)
    }

    /// The source goes out of reach. If only the superblock that ends the resync was still being
    /// written, it ends here nevertheless: that superblock says UpToDate from a restart on, so that
    /// this node must not call itself Inconsistent (D5), which would let the other one take its
    /// data for out of use (A2).
    pub(super) fn end_target_unheard(&mut self, node: NodeId, cx: &mut Context<B>) {
        let records = self.peers.get(&node).is_some_and(is_recording_end);
        if !records || self.local.is_none() {
            return; // a disk that has failed meanwhile has ended nothing
        }
        self.set_disk_state(DiskState::UpToDate, "", cx);
        self.note_in_sync(node, cx);
        self.ended_unheard = Some(node);
        self.took_over_unheard |= self.role == Role::Primary;
    }

    fn tell_target_ended(&mut self, node: NodeId, cx: &mut Context<B>) {
        let volume = self.number;
        cx.call_handler(Handler::AfterResyncTarget, Some(node), Some(volume));
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.is_prepared = false;
        }
        let saved = self.peers.get(&node).map(PeerDevice::saved);
        let text = alloc::format!(
            "resync done (this node was the target){}",
            saved.unwrap_or_default()
        );
        cx.report(Level::Info, Some(node), Some(volume), text);
    }
}

fn is_target(peer: &PeerDevice) -> bool {
    peer.replication == ReplicationState::SyncTarget
}

fn is_recording_end(peer: &PeerDevice) -> bool {
    let target = peer.target.as_ref();
    target.is_some_and(|target| matches!(target.finish, Finish::Recording(_)))
}
