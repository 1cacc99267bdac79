//! Online verify: comparing two copies that are said to be identical, while clients go on.
//!
//! The node on which it was ordered leads. For each piece it holds back new writes of its own
//! clients and waits for those under way, here and on the peer; then it asks the peer. The peer
//! does the same with the writes of its clients, reads, and answers with one digest for each
//! block. Writes that the peer had sent before have all been acknowledged then, so they are on the
//! leader's disk; new ones wait on either node. Now the leader reads, compares, and lets the peer
//! go on. So both reads see the blocks while nobody writes them, and a difference is one (E6).
//!
//! What differs is marked out of sync on the leader and nowhere else: the next handshake finds
//! marks on one side, and where no node is Primary that side becomes the source. Nothing here
//! copies anything or changes a state. Payloads are not looked at: the hands make the digests.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use rbd_protocol::control::VerifyProgress;
use rbd_protocol::ids::{BLOCK_SIZE, ByteRange, NodeId};
use rbd_protocol::peer::{Digest, Packet};
use rbd_protocol::state::{DiskState, ReplicationState};

use super::write::Leg;
use super::{Checkpoint, Volume, describe};
use crate::context::{Context, Operation};
use crate::contract::{DiskError, DiskRequest, Level, LinkId, Time};
use crate::handler::Handler;
use crate::peer_device::PeerDevice;

/// A verify of one volume against one peer, on the node that leads it. It outlives links.
#[derive(Clone, Debug)]
pub(crate) struct Verify {
    /// Where it ends.
    until: u64,
    from: u64,
    /// Everything before this has been begun.
    cursor: u64,
    pieces: BTreeMap<u64, Piece>,
    /// What differs is to be copied at the end.
    repair: bool,
    compared_bytes: u64,
    differing_blocks: u64,
    started: Time,
}

/// A range being compared.
#[derive(Clone, Debug)]
struct Piece {
    range: ByteRange,
    step: Step,
}

#[derive(Clone, Debug)]
enum Step {
    /// Writes under way are waited for.
    Holding,
    /// The peer has been asked.
    Asked,
    /// These are the peer's digests; the own ones are being made.
    Reading(Vec<Digest>),
}

/// A range that a peer which leads a verify has asked for. No client writes it until it is let go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    range: ByteRange,
    /// The read is under way, or over.
    started: bool,
}

/// What is wanted of a verify.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) from: u64,
    pub(crate) until: u64,
    pub(crate) repair: bool,
}

impl<B: Clone> Volume<B> {
    /// Begins a verify against this peer, which is in sync.
    pub(crate) fn start_verify(&mut self, node: NodeId, wish: Wish, cx: &mut Context<B>) {
        let block = u64::from(BLOCK_SIZE);
        let from = wish.from / block * block;
        let until = wish.until.min(self.size_bytes());
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        peer.verify = Some(Verify {
            until,
            from,
            cursor: from,
            pieces: BTreeMap::new(),
            repair: wish.repair,
            compared_bytes: 0,
            differing_blocks: 0,
            started: cx.now,
        });
        let text = alloc::format!("verify begins: {} bytes", until.saturating_sub(from));
        cx.report(Level::Info, Some(node), Some(self.number), text);
        self.unsettled = true;
    }

    /// Ends the verify against this peer where it is. Tells how far it has come.
    pub(crate) fn stop_verify(&mut self, node: NodeId, cx: &mut Context<B>) -> Option<u64> {
        let peer = self.peers.get_mut(&node)?;
        let verify = peer.verify.take()?;
        if let Some(link) = peer.link {
            let volume = self.number;
            for id in verify.pieces.keys().copied() {
                cx.send(node, link, Packet::VerifyRelease { id, volume }, None);
            }
        }
        self.unsettled = true;
        Some(verify.position())
    }

    /// Whether some of these blocks are being compared: writes to them wait.
    pub(crate) fn is_being_verified(&self, range: ByteRange) -> bool {
        self.peers.values().any(|peer| {
            let own = peer.verify.iter().flat_map(|verify| verify.pieces.values());
            own.map(|piece| piece.range)
                .chain(peer.held.values().map(|held| held.range))
                .any(|held| held.overlaps(range))
        })
    }

    /// Whether the end of a write may let a verify go on.
    pub(crate) fn is_verifying(&self) -> bool {
        let mut peers = self.peers.values();
        peers.any(|peer| peer.verify.is_some() || !peer.held.is_empty())
    }

    /// Lets every verify go on as far as it can, on either side of it.
    pub(crate) fn advance_verify(&mut self, cx: &mut Context<B>) {
        let nodes: Vec<NodeId> = self
            .peers
            .values()
            .filter(|peer| peer.verify.is_some() || !peer.held.is_empty())
            .map(|peer| peer.node)
            .collect();
        for node in nodes {
            self.begin_pieces(node, cx);
            self.ask_for_digests(node, cx);
            self.read_held(node, cx);
            self.finish_verify(node, cx);
        }
    }

    fn begin_pieces(&mut self, node: NodeId, cx: &mut Context<B>) {
        let Some(peer) = self.peers.get_mut(&node).filter(|peer| is_in_sync(peer)) else {
            return;
        };
        let Some(verify) = &mut peer.verify else {
            return;
        };
        while verify.pieces.len() < PIECES_AT_ONCE && verify.cursor < verify.until {
            let left = verify.until - verify.cursor;
            let length = u32::try_from(left).unwrap_or(u32::MAX).min(PIECE_BYTES);
            let range = ByteRange::new(verify.cursor, length);
            verify.cursor = range.end();
            let step = Step::Holding;
            verify.pieces.insert(cx.name(), Piece { range, step });
        }
    }

    /// Whether a write of some of these blocks is under way, here or on a peer.
    fn is_being_written(&self, range: ByteRange) -> bool {
        self.writes.values().any(|write| {
            let on_peers = write.legs.iter().any(|(_, leg)| *leg == Leg::Pending);
            let under_way = write.local == Leg::Pending || on_peers;
            write.started && under_way && write.range.overlaps(range)
        })
    }

    fn ask_for_digests(&mut self, node: NodeId, cx: &mut Context<B>) {
        let Some(peer) = self.peers.get(&node) else {
            return;
        };
        let (Some(verify), Some(link)) = (&peer.verify, peer.link) else {
            return;
        };
        let holding = |piece: &Piece| matches!(piece.step, Step::Holding);
        let ready: Vec<(u64, ByteRange)> = verify
            .pieces
            .iter()
            .filter(|(_, piece)| holding(piece) && !self.is_being_written(piece.range))
            .map(|(id, piece)| (*id, piece.range))
            .collect();
        let volume = self.number;
        let Some(verify) = self
            .peers
            .get_mut(&node)
            .and_then(|peer| peer.verify.as_mut())
        else {
            return;
        };
        for (id, range) in ready {
            if let Some(piece) = verify.pieces.get_mut(&id) {
                piece.step = Step::Asked;
            }
            let packet = Packet::VerifyRequest { id, volume, range };
            cx.send(node, link, packet, None);
        }
    }

    /// A peer that leads a verify asks for the digests of a range.
    pub(crate) fn accept_verify_request(
        &mut self,
        node: NodeId,
        id: u64,
        range: ByteRange,
    ) -> Result<(), &'static str> {
        if !self.accepts(range) || range.length > PIECE_BYTES {
            return Err(
                "a verify request outside the volume, not on block boundaries, or too long",
            );
        }
        let Some(peer) = self.peers.get_mut(&node) else {
            return Err("an unknown peer");
        };
        if peer.held.len() >= HELD_LIMIT {
            return Err("verify requests for more than may be asked for at once");
        }
        let started = false;
        if peer.held.insert(id, Held { range, started }).is_some() {
            return Err("a verify request under a name already in use");
        }
        self.unsettled = true;
        Ok(())
    }

    /// Starts the reads for the peer's verify that no write is in the way of.
    fn read_held(&mut self, node: NodeId, cx: &mut Context<B>) {
        let Some(peer) = self.peers.get(&node) else {
            return;
        };
        let (Some(link), true) = (peer.link, self.local.is_some()) else {
            return;
        };
        let ready: Vec<(u64, ByteRange)> = peer
            .held
            .iter()
            .filter(|(_, held)| !held.started && !self.is_being_written(held.range))
            .map(|(id, held)| (*id, held.range))
            .collect();
        for (id, range) in ready {
            let held = self
                .peers
                .get_mut(&node)
                .and_then(|peer| peer.held.get_mut(&id));
            if let Some(held) = held {
                held.started = true;
            }
            let operation = Operation::Digest {
                volume: self.number,
                peer: node,
                link,
                id,
                for_peer: true,
            };
            cx.disk(operation, DiskRequest::Digest, range, None);
        }
    }

    /// The peer may let clients write this range again.
    pub(crate) fn verify_released(&mut self, node: NodeId, id: u64) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.held.remove(&id);
        }
        self.unsettled = true;
    }

    /// The peer's digests: now the own ones are made.
    pub(crate) fn verify_replied(
        &mut self,
        node: NodeId,
        id: u64,
        digests: Vec<Digest>,
        cx: &mut Context<B>,
    ) -> Result<(), &'static str> {
        let Some(peer) = self.peers.get_mut(&node) else {
            return Err("an unknown peer");
        };
        let (Some(verify), Some(link)) = (&mut peer.verify, peer.link) else {
            return Ok(()); // it has been stopped meanwhile
        };
        let Some(piece) = verify.pieces.get_mut(&id) else {
            return Ok(());
        };
        if !matches!(piece.step, Step::Asked) || digests.len() != blocks_of(piece.range) {
            return Err("digests nobody asked for");
        }
        let range = piece.range;
        piece.step = Step::Reading(digests);
        let operation = Operation::Digest {
            volume: self.number,
            peer: node,
            link,
            id,
            for_peer: false,
        };
        cx.disk(operation, DiskRequest::Digest, range, None);
        Ok(())
    }

    /// The digests of a range are made, for the peer's verify or for the own one.
    pub(crate) fn digests_made(
        &mut self,
        (node, link, id): (NodeId, LinkId, u64),
        for_peer: bool,
        result: Result<Vec<Digest>, DiskError>,
        cx: &mut Context<B>,
    ) {
        self.unsettled = true;
        let digests = match result {
            Ok(digests) => digests,
            Err(error) => {
                self.fail_disk(describe(error), cx);
                return;
            }
        };
        let volume = self.number;
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        if peer.link != Some(link) {
            return; // of an older link (A7)
        }
        if for_peer {
            let packet = Packet::VerifyReply {
                id,
                volume,
                digests,
            };
            cx.send(node, link, packet, None);
            return;
        }
        let Some(verify) = &mut peer.verify else {
            return;
        };
        let Some(piece) = verify.pieces.remove(&id) else {
            return;
        };
        cx.send(node, link, Packet::VerifyRelease { id, volume }, None);
        let Step::Reading(theirs) = piece.step else {
            return;
        };
        verify.compared_bytes += u64::from(piece.range.length);
        for range in differing(piece.range, &digests, &theirs) {
            verify.differing_blocks += u64::try_from(blocks_of(range)).unwrap_or(0);
            peer.bitmap.set_touched(range);
            let text = alloc::format!("out of sync: {}+{}", range.offset, range.length);
            cx.report(Level::Warn, Some(node), Some(volume), text);
        }
    }

    /// Everything has been compared: once the marks are durable, people are told.
    fn finish_verify(&mut self, node: NodeId, cx: &mut Context<B>) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let Some(verify) = &peer.verify else { return };
        if verify.cursor < verify.until || !verify.pieces.is_empty() {
            return;
        }
        let found = verify.differing_blocks;
        let unsaved = peer.bitmap.has_unsaved() || self.checkpoint != Checkpoint::Idle;
        if found > 0 && unsaved {
            self.checkpoint_wanted = true;
            return;
        }
        let repair = verify.repair && !peer.bitmap.is_clean();
        let bytes = verify.compared_bytes;
        peer.verify = None;
        let volume = self.number;
        let level = if found > 0 { Level::Warn } else { Level::Info };
        let text = alloc::format!("verify done: {bytes} bytes, {found} blocks out of sync");
        cx.report(level, Some(node), Some(volume), text);
        if found > 0 {
            cx.call_handler(Handler::OutOfSync, Some(node), Some(volume));
        }
        // With marks on this side both nodes decide anew, and copy.
        self.renegotiate |= repair;
    }

    /// The link is gone: what was being compared is compared again over the next one.
    pub(crate) fn interrupt_verify(&mut self, node: NodeId, cx: &mut Context<B>) {
        let has_disk = self.local.is_some();
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        peer.held.clear();
        if !has_disk && peer.verify.take().is_some() {
            let text = "verify ended: this node has no disk any more";
            cx.report(Level::Warn, Some(node), Some(self.number), text);
        }
        if let Some(verify) = &mut peer.verify {
            verify.cursor = verify.position();
            verify.pieces.clear();
        }
    }
}

impl Verify {
    /// Everything before this has been compared.
    fn position(&self) -> u64 {
        let pieces = self.pieces.values().map(|piece| piece.range.offset);
        pieces.chain([self.cursor]).min().unwrap_or(self.cursor)
    }

    /// For people.
    pub(crate) fn progress(&self, now: Time) -> VerifyProgress {
        VerifyProgress {
            start_bytes: self.from,
            stop_bytes: self.until,
            position_bytes: self.position(),
            differing_blocks: self.differing_blocks,
            elapsed_ms: now.ms_since(self.started),
        }
    }
}

/// What people see of the replication with a peer that is in sync.
pub(crate) fn shown_replication(peer: &PeerDevice) -> ReplicationState {
    match peer.replication {
        ReplicationState::Established if peer.verify.is_some() => ReplicationState::VerifyS,
        ReplicationState::Established if !peer.held.is_empty() => ReplicationState::VerifyT,
        state => state,
    }
}

fn is_in_sync(peer: &PeerDevice) -> bool {
    peer.link.is_some()
        && peer.replication == ReplicationState::Established
        && peer.peer_disk == DiskState::UpToDate
}

/// The blocks of a range whose digests differ, in runs.
fn differing(range: ByteRange, own: &[Digest], theirs: &[Digest]) -> Vec<ByteRange> {
    let mut runs: Vec<ByteRange> = Vec::new();
    let mut at = range.offset;
    for (own, theirs) in own.iter().zip(theirs) {
        let left = u32::try_from(range.end() - at).unwrap_or(BLOCK_SIZE);
        let length = left.min(BLOCK_SIZE);
        match runs.last_mut() {
            _ if own == theirs => {}
            Some(last) if last.end() == at => last.length += length,
            Some(_) | None => runs.push(ByteRange::new(at, length)),
        }
        at += u64::from(length);
    }
    runs
}

fn blocks_of(range: ByteRange) -> usize {
    usize::try_from(range.length.div_ceil(BLOCK_SIZE)).unwrap_or(usize::MAX)
}

/// How much is compared in one go: writes to it wait for two reads and a round trip.
const PIECE_BYTES: u32 = 64 << 10;

/// How many pieces are under way at once.
const PIECES_AT_ONCE: usize = 16;

/// How many a peer may have asked for. What it has let go may still be on its way.
const HELD_LIMIT: usize = 4 * PIECES_AT_ONCE;
