//! Copying what differs, in one direction, while the application goes on writing.
//!
//! The bitmaps are exchanged and joined (A2: the union of both nodes' marks). The target pulls: it
//! asks for runs of dirty blocks, the source reads and answers, the target writes and acknowledges,
//! and both clear the bits. The data connection keeps order, so a mirrored write and resync data of
//! the same blocks reach the target in the order in which the source read and wrote them, if only
//! the source starts no resync read while an overlapping write is on its way to its own disk, and
//! starts no overlapping write while the read is under way (E2). It waits for the local disk only,
//! never for the peer's acknowledgement: that would be a distributed deadlock.
//!
//! Here is how a resync begins on both sides, and the source's part; the target's is in
//! `resync_target`.

use alloc::vec::Vec;

use rbd_protocol::ids::{ByteRange, GenerationId, NodeId};
use rbd_protocol::peer::{BULK_LIMIT, Digest, Packet};
use rbd_protocol::state::{DiskState, ReplicationState, Role};

use super::write::Leg;
use super::{Volume, describe};
use crate::bitmap::Words;
use crate::context::{Context, Operation};
use crate::contract::{DiskError, DiskRequest, Level, LinkId, Time};
use crate::handler::Handler;
use crate::local_disk::LocalDisk;
use crate::peer_device::{Origin, Source, SourceRead, Target};

/// How much a target may have asked for and not yet been sent: several times what one does ask
/// for. Each request costs memory here.
const OUTSTANDING_LIMIT: u64 = 64 << 20;

impl<B: Clone> Volume<B> {
    /// The handshake has made this node the source.
    pub(crate) fn become_source(
        &mut self,
        node: NodeId,
        full: bool,
        peer_current: GenerationId,
        cx: &mut Context<B>,
    ) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        cx.call_handler(Handler::BeforeResyncSource, Some(node), Some(self.number));
        peer.replication = ReplicationState::WFBitMapS;
        peer.peer_disk = DiskState::Inconsistent;
        peer.source = Source {
            unrecorded: Some(peer_current),
            ..Source::default()
        };
        peer.resync_started = cx.now;
        peer.forget_saved();
        if full {
            peer.bitmap.set_all();
            if let Some(local) = &mut self.local {
                local.set_full_sync(node, true);
            }
        }
        if self.role == Role::Primary && !self.frozen.fencing {
            self.record_target(node, cx);
        }
        self.unsettled = true;
    }

    /// This node is about to serve clients what a target may lack: that is recorded first.
    pub(crate) fn record_targets(&mut self, cx: &mut Context<B>) {
        let nodes: Vec<NodeId> = self.peers.keys().copied().collect();
        for node in nodes {
            self.record_target(node, cx);
        }
    }

    /// Records that the peer is behind, and since when. While no clients are served that waits
    /// until the peer's bitmap has come: it may never have read the greeting and go on without this
    /// node, and a generation begun for it would then make a split brain of nobody's writes. For
    /// the same reason what the peer has counts as given up only from then on: until it is durably
    /// a target it may add to that, and nobody must take those writes for older than the own (D2).
    fn record_target(&mut self, node: NodeId, cx: &mut Context<B>) {
        let source = self.peers.get(&node).map(|peer| &peer.source);
        let Some((peer_current, is_target)) =
            source.and_then(|source| Some((source.unrecorded?, source.bitmap_received)))
        else {
            return;
        };
        let needs_generation = self.local.as_ref().is_some_and(|local| {
            local.bitmap_generation(node).is_none() || local.current() == peer_current
        });
        if needs_generation {
            self.begin_generation(|peer| peer.node == node, cx);
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.lacks_writes = true; // it may be what it lost with its power
            }
        }
        if !is_target {
            return;
        }
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.source.unrecorded = None;
        }
        let Some(local) = &mut self.local else { return };
        // The bitmap has recorded every change since what the target has now, if only because all
        // of it is set. Counting from there keeps the target recognisable however many generations
        // begin before it is brought up to date (D8).
        if !peer_current.is_none() {
            local.set_bitmap_generation(node, peer_current);
        }
        // The target adopts this generation at the end, and its word of that may be lost.
        local.note_may_have_current(node, true);
        local.start_metadata(self.number, cx);
    }

    /// The handshake has made this node the target.
    pub(crate) fn become_target(&mut self, node: NodeId, full: bool, cx: &mut Context<B>) {
        self.set_disk_state(
            DiskState::Inconsistent,
            "resync from the peer is under way",
            cx,
        );
        // One that is being demoted may have requests in flight as well.
        if self.role == Role::Primary || self.has_clients_requests() {
            self.turn_to_server(node, cx);
        }
        // The source tells what is newer.
        self.frozen.owe_nothing();
        self.took_over_unheard = false;
        let version = self.local.as_ref().map_or(0, LocalDisk::version);
        let reads_true = self.local.as_ref().is_some_and(LocalDisk::reads_true);
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        peer.replication = ReplicationState::WFBitMapT;
        let compares = peer.compare_first && reads_true;
        let left_out = core::mem::take(&mut peer.left_out);
        peer.target = Some(Target::new(version, compares, left_out));
        peer.forget_saved();
        peer.resync_started = cx.now;
        if full {
            peer.bitmap.set_all();
            if let Some(local) = &mut self.local {
                local.set_full_sync(node, true);
                local.start_metadata(self.number, cx);
            }
        }
        self.unsettled = true;
    }

    /// Sends the own bitmap as soon as what it counts from is durable (D5).
    pub(super) fn send_bitmap(&mut self, node: NodeId, cx: &mut Context<B>) {
        let Some(local) = &self.local else { return };
        let (volume, generation) = (self.number, local.current());
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let Some(link) = peer.link else { return };
        for (block, words) in peer.bitmap.dirty_pages() {
            let words = alloc::boxed::Box::new(*words);
            cx.send(
                node,
                link,
                Packet::Bitmap {
                    volume,
                    block,
                    words,
                },
                None,
            );
        }
        cx.send(node, link, Packet::BitmapEnd { volume, generation }, None);
    }

    /// A page of the peer's bitmap.
    pub(crate) fn join_bitmap_page(
        &mut self,
        node: NodeId,
        page: u32,
        words: &Words,
    ) -> Result<(), &'static str> {
        let Some(peer) = self.peers.get_mut(&node) else {
            return Err("an unknown peer");
        };
        match peer.replication {
            ReplicationState::WFBitMapS | ReplicationState::WFBitMapT => {}
            _ => return Err("a bitmap nobody waits for"),
        }
        peer.bitmap.merge_page(page, words, false);
        Ok(())
    }

    /// The peer's bitmap is complete.
    pub(crate) fn join_bitmap_end(
        &mut self,
        node: NodeId,
        generation: GenerationId,
    ) -> Result<(), &'static str> {
        let Some(peer) = self.peers.get_mut(&node) else {
            return Err("an unknown peer");
        };
        match peer.replication {
            ReplicationState::WFBitMapS => {
                peer.source.bitmap_received = true;
                self.held_size = None; // the peer is durably a target
            }
            ReplicationState::WFBitMapT => {
                self.held_size = None; // the source shows it
                let Some(target) = &mut peer.target else {
                    return Err("no resync");
                };
                if !generation.names_data() {
                    return Err("a bitmap of data of no generation");
                }
                target.generation = Some(generation);
            }
            _ => return Err("a bitmap nobody waits for"),
        }
        self.unsettled = true;
        Ok(())
    }

    /// The target asks for a range.
    pub(crate) fn accept_resync_request(
        &mut self,
        node: NodeId,
        id: u64,
        (range, digests): (ByteRange, Vec<Digest>),
        now: Time,
    ) -> Result<(), &'static str> {
        if !self.accepts(range) {
            return Err("a resync request outside the volume or not on block boundaries");
        }
        let Some(peer) = self.peers.get_mut(&node) else {
            return Err("an unknown peer");
        };
        if !peer.is_resync_source() {
            return Err("a resync request while this node is not the source");
        }
        let reads = peer.source.reads.values();
        let outstanding: u64 = reads.map(|read| u64::from(read.range.length)).sum();
        if range.length > BULK_LIMIT || outstanding > OUTSTANDING_LIMIT {
            return Err("resync requests for more than a target may ask for at once");
        }
        if peer
            .source
            .reads
            .insert(
                id,
                SourceRead {
                    range,
                    digests,
                    left: u64::from(range.length),
                    started: false,
                    at: now,
                },
            )
            .is_some()
        {
            return Err("a resync request under a name already in use");
        }
        self.unsettled = true;
        Ok(())
    }

    /// Whether a resync read of some of these blocks is under way.
    pub(crate) fn resync_read_overlaps(&self, range: ByteRange) -> bool {
        self.peers.values().any(|peer| {
            peer.source
                .reads
                .values()
                .any(|read| read.started && read.range.overlaps(range))
        })
    }

    /// Starts the reads of the target's requests that no write is in the way of, and sends own
    /// bitmaps that have become due.
    pub(crate) fn start_resync_reads(&mut self, cx: &mut Context<B>) {
        if self.local.is_none() {
            return; // it has just failed, and the peer does not know yet
        }
        let nodes: Vec<NodeId> = self.peers.keys().copied().collect();
        let written_anew: Vec<ByteRange> = self.written_anew().collect();
        for node in nodes {
            self.advance_source(node, cx);
            let Some(peer) = self.peers.get_mut(&node) else {
                continue;
            };
            let Some(link) = peer
                .link
                .filter(|_| peer.replication == ReplicationState::SyncSource)
            else {
                continue;
            };
            let writes = &self.writes;
            for (id, read) in peer
                .source
                .reads
                .iter_mut()
                .filter(|(_, read)| !read.started)
            {
                let in_the_way = writes.values().any(|write| {
                    write.started && write.local == Leg::Pending && write.range.overlaps(read.range)
                });
                if in_the_way || written_anew.iter().any(|anew| anew.overlaps(read.range)) {
                    continue;
                }
                read.started = true;
                let (volume, id, range) = (self.number, *id, read.range);
                let (operation, request) = if read.digests.is_empty() {
                    let operation = Operation::ResyncRead {
                        volume,
                        peer: node,
                        link,
                        id,
                        range,
                    };
                    (operation, DiskRequest::ReadUnlessZero)
                } else {
                    let operation = Operation::ResyncDigest {
                        volume,
                        peer: node,
                        link,
                        id,
                        at_source: true,
                    };
                    (operation, DiskRequest::Digest)
                };
                cx.disk(operation, request, range, None);
            }
        }
    }

    fn advance_source(&mut self, node: NodeId, cx: &mut Context<B>) {
        let Some(peer) = self.peers.get(&node) else {
            return;
        };
        if peer.replication != ReplicationState::WFBitMapS {
            return;
        }
        if peer.source.bitmap_received {
            self.record_target(node, cx);
        }
        let Some(peer) = self.peers.get(&node) else {
            return;
        };
        let due = peer.source.unrecorded.is_none()
            && self.is_behind(peer)
            && self
                .local
                .as_ref()
                .is_some_and(|local| local.is_durable(local.version()));
        if due && !peer.source.bitmap_sent {
            self.send_bitmap(node, cx);
            if let Some(peer) = self.peers.get_mut(&node) {
                peer.source.bitmap_sent = true;
            }
        }
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        if peer.source.bitmap_sent && peer.source.bitmap_received {
            peer.replication = ReplicationState::SyncSource;
            peer.resync_total_bytes = peer.out_of_sync_bytes();
            peer.pace.begin(cx.now);
            let text = alloc::format!("resync begins: {} bytes to send", peer.resync_total_bytes);
            cx.report(Level::Info, Some(node), Some(self.number), text);
        }
    }

    /// The disk has answered a read for the target.
    pub(crate) fn resync_read_done(
        &mut self,
        node: NodeId,
        link: LinkId,
        id: u64,
        range: ByteRange,
        result: Result<Option<B>, DiskError>,
        cx: &mut Context<B>,
    ) {
        let error = result.as_ref().err().copied();
        let volume = self.number;
        self.unsettled = true;
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let length = u64::from(range.length);
        if peer.link == Some(link)
            && let Some(read) = peer.source.reads.get_mut(&id)
        {
            read.left = read.left.saturating_sub(length);
            if read.left == 0 {
                peer.pace.disk_took(read.at, cx.now);
                peer.source.reads.remove(&id);
            }
            match result {
                Ok(None) => {
                    peer.zero_bytes += length;
                    cx.send(node, link, Packet::ResyncZero { id, volume, range }, None);
                }
                Ok(data) => {
                    peer.sent_bytes += length;
                    cx.send(node, link, Packet::ResyncData { id, volume, range }, data);
                }
                Err(_) => {
                    cx.send(
                        node,
                        link,
                        Packet::ResyncNegativeAck { id, volume, range },
                        None,
                    );
                }
            }
        }
        match error {
            Some(DiskError::Io) => {
                let text = alloc::format!(
                    "the disk cannot be read at {}+{}: left out of the resync",
                    range.offset,
                    range.length
                );
                let is_first = self
                    .peers
                    .get_mut(&node)
                    .is_some_and(|peer| !core::mem::replace(&mut peer.source.cannot_read, true));
                let level = if is_first { Level::Error } else { Level::Debug };
                cx.report(level, Some(node), Some(self.number), text);
            }
            Some(error @ (DiskError::NoSpace | DiskError::Gone)) => {
                self.fail_disk(describe(error), cx);
            }
            None => {}
        }
    }

    /// The target has the range on its disk; not yet durably.
    pub(crate) fn resync_acked(
        &mut self,
        node: NodeId,
        range: ByteRange,
        now: Time,
    ) -> Result<(), &'static str> {
        if !self.accepts(range) {
            return Err("a resync acknowledgement outside the volume");
        }
        let Some(peer) = self.peers.get_mut(&node) else {
            return Err("an unknown peer");
        };
        if peer.replication != ReplicationState::SyncSource {
            return Err("a resync acknowledgement while this node is not the source");
        }
        peer.bitmap.clear_covered(range);
        peer.pace.done(u64::from(range.length), now);
        peer.note_unstable(range, Origin::ResyncTarget);
        Ok(())
    }

    /// The target has everything, durably, under this generation.
    pub(crate) fn resync_done(
        &mut self,
        node: NodeId,
        generation: GenerationId,
        cx: &mut Context<B>,
    ) -> Result<(), &'static str> {
        let current = self.local.as_ref().map(LocalDisk::current);
        let Some(peer) = self.peers.get_mut(&node) else {
            return Err("an unknown peer");
        };
        if peer.replication != ReplicationState::SyncSource {
            return Err("the end of a resync that is not running");
        }
        if current != Some(generation) {
            return Err("the end of a resync under another generation");
        }
        if !peer.bitmap.is_clean() && peer.source.has_failed_writes {
            self.renegotiate = true; // for the rest
            return Ok(());
        }
        if !peer.bitmap.is_clean() {
            return Err("the end of a resync while blocks are still missing");
        }
        peer.peer_disk = DiskState::UpToDate;
        if peer.source.fills_primary {
            // It has asked for nothing more since before it flushed.
            peer.retire_unstable(peer.next_unstable);
        }
        peer.retire_resynced();
        let text = alloc::format!("resync done (this node was the source){}", peer.saved());
        self.note_in_sync(node, cx);
        cx.report(Level::Info, Some(node), Some(self.number), text);
        Ok(())
    }
}
