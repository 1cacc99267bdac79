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
//!
//! How much is compared at once is decided in `resync_window`, as for a resync: clients go first.
//! The peer's part is in `verified`, and what happens when a disk cannot read a range in `scrub`.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use rbd_protocol::control::VerifyProgress;
use rbd_protocol::ids::{BLOCK_SIZE, ByteRange, NodeId};
use rbd_protocol::peer::{Digest, Packet};
use rbd_protocol::state::{DiskState, ReplicationState};

use super::scrub::PEER_MENDS_MS;
use super::{Asked, Checkpoint, ResyncWindow, Volume};
use crate::context::{Context, Operation};
use crate::contract::{DiskRequest, Level, Time};
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
    pub(super) pieces: BTreeMap<u64, Piece>,
    /// How much may be compared at once.
    pub(super) window: ResyncWindow,
    /// What differs is to be copied at the end.
    repair: bool,
    compared_bytes: u64,
    differing_blocks: u64,
    /// What one of the disks could not read.
    pub(super) unread_bytes: u64,
    /// Ranges that people were told of.
    told: u32,
    /// Everything has been compared; marks are being made durable.
    is_saving: bool,
    started: Time,
}

/// A range being compared.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) range: ByteRange,
    pub(super) step: Step,
    /// One of the disks could not read it before.
    pub(super) is_second_time: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Writes under way are waited for.
    Holding,
    /// The peer has been asked.
    Asked { since: Time, asked: Asked },
    /// These are the peer's digests; the own ones are being made.
    Reading { theirs: Vec<Digest>, asked: Asked },
    /// The own disk could not read it, and so many blocks are still being read one by one.
    Mending { blocks: u32 },
    /// The peer's disk could not read it, and is given until then to mend that.
    Waiting(Time),
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
        let until = wish.until.div_ceil(block).saturating_mul(block);
        let until = until.min(self.size_bytes());
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        peer.verify = Some(Verify {
            until,
            from,
            cursor: from,
            pieces: BTreeMap::new(),
            window: ResyncWindow::new(),
            repair: wish.repair,
            compared_bytes: 0,
            differing_blocks: 0,
            unread_bytes: 0,
            told: 0,
            is_saving: false,
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
        peer.verify_next = verify.position();
        Some(peer.verify_next)
    }

    /// Ends every verify this node leads: there is no disk to compare any more.
    pub(super) fn abandon_verify(&mut self, cx: &mut Context<B>) {
        for peer in self.peers.values_mut() {
            let Some(verify) = peer.verify.take() else {
                continue;
            };
            peer.verify_next = verify.position();
            let text = "verify ended: this node has no disk any more";
            cx.report(Level::Warn, Some(peer.node), Some(self.number), text);
        }
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
        let read_for_peer: Vec<ByteRange> = self.errands_of(node).collect();
        let Some(peer) = self.peers.get_mut(&node).filter(|peer| is_in_sync(peer)) else {
            return;
        };
        let Some(verify) = &mut peer.verify else {
            return;
        };
        for piece in verify.pieces.values_mut() {
            if matches!(piece.step, Step::Waiting(until) if until <= cx.now) {
                // Writes that are held back now may be in the way of what the peer mends it with.
                let is_mending = read_for_peer
                    .iter()
                    .any(|range| range.overlaps(piece.range));
                piece.step = if is_mending {
                    Step::Waiting(cx.now.plus_ms(PEER_MENDS_MS))
                } else {
                    Step::Holding
                };
            }
        }
        while verify.pieces.len() < PIECES_AT_ONCE && verify.cursor < verify.until {
            let pieces = verify.pieces.values();
            let bytes = pieces.map(|piece| u64::from(piece.range.length)).sum();
            let under_way = (verify.pieces.len(), bytes);
            let Some(room) = verify.window.room(under_way, &peer.resync_options, cx.now) else {
                break;
            };
            let left = verify.until - verify.cursor;
            let length = u32::try_from(left).unwrap_or(u32::MAX).min(room);
            let range = ByteRange::new(verify.cursor, length.min(PIECE_BYTES));
            verify.cursor = range.end();
            let piece = Piece {
                range,
                step: Step::Holding,
                is_second_time: false,
            };
            verify.pieces.insert(cx.name(), piece);
        }
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
        let (volume, since) = (self.number, cx.now);
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let Some(verify) = &mut peer.verify else {
            return;
        };
        let is_alone = verify.pieces.len() == 1;
        for (id, range) in ready {
            let (length, options) = (u64::from(range.length), &peer.resync_options);
            let asked = verify.window.ask(length, is_alone, options, since);
            if let Some(piece) = verify.pieces.get_mut(&id) {
                piece.step = Step::Asked { since, asked };
            }
            let packet = Packet::VerifyRequest { id, volume, range };
            cx.send(node, link, packet, None);
        }
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
        if digests.is_empty() && matches!(piece.step, Step::Asked { .. }) {
            self.cannot_compare((node, id), false, cx);
            return Ok(());
        }
        let range = piece.range;
        piece.step = match piece.step {
            Step::Asked { asked, .. } if digests.len() == blocks_of(range) => Step::Reading {
                theirs: digests,
                asked,
            },
            _ => return Err("digests nobody asked for"),
        };
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

    /// The own digests of a piece are made: it is compared, and let go.
    pub(super) fn compare(
        &mut self,
        (node, id): (NodeId, u64),
        own: &[Digest],
        cx: &mut Context<B>,
    ) {
        let volume = self.number;
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let (Some(verify), Some(link)) = (&mut peer.verify, peer.link) else {
            return;
        };
        let Some(Piece { range, step, .. }) = verify.pieces.remove(&id) else {
            return;
        };
        cx.send(node, link, Packet::VerifyRelease { id, volume }, None);
        let Step::Reading { theirs, asked } = step else {
            return;
        };
        let length = u64::from(range.length);
        verify.compared_bytes += length;
        let options = &peer.resync_options;
        verify.window.answered(asked, length, options, cx.now);
        for range in differing(range, own, &theirs) {
            verify.differing_blocks += u64::try_from(blocks_of(range)).unwrap_or(0);
            peer.bitmap.set_touched(range);
            verify.told += 1;
            if verify.told > TOLD_LIMIT {
                continue;
            }
            let text = alloc::format!("out of sync: {}+{}", range.offset, range.length);
            cx.report(Level::Warn, Some(node), Some(volume), text);
            if verify.told == TOLD_LIMIT {
                let text = "what else is out of sync is only counted, and marked";
                cx.report(Level::Warn, Some(node), Some(volume), text);
            }
        }
    }

    /// Everything has been compared: once the marks are durable, people are told.
    fn finish_verify(&mut self, node: NodeId, cx: &mut Context<B>) {
        let size = self.size_bytes();
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let Some(verify) = &mut peer.verify else {
            return;
        };
        if verify.cursor < verify.until || !verify.pieces.is_empty() {
            return;
        }
        let found = verify.differing_blocks;
        if found > 0 {
            // Only a checkpoint that begins when the last mark has been set is known to save all.
            match self.checkpoint {
                Checkpoint::Idle if !verify.is_saving => {
                    verify.is_saving = true;
                    self.checkpoint_wanted = true;
                    self.unsettled = true;
                    return;
                }
                Checkpoint::Idle | Checkpoint::Light if verify.is_saving => {}
                _ => return,
            }
        }
        let repair = verify.repair && !peer.bitmap.is_clean();
        let (bytes, unread) = (verify.compared_bytes, verify.unread_bytes);
        peer.verify_next = if verify.until < size { verify.until } else { 0 };
        peer.verify = None;
        let volume = self.number;
        let level = if found + unread > 0 {
            Level::Warn
        } else {
            Level::Info
        };
        let mut text = alloc::format!("verify done: {bytes} bytes, {found} blocks out of sync");
        if unread > 0 {
            text += &alloc::format!(", {unread} bytes cannot be read");
        }
        cx.report(level, Some(node), Some(volume), text);
        if found > 0 {
            cx.call_handler(Handler::OutOfSync, Some(node), Some(volume));
        }
        // With marks on this side both nodes decide anew, and copy.
        self.renegotiate |= repair;
    }

    /// The link is gone: what was being compared is compared again over the next one.
    pub(super) fn interrupt_verify(&mut self, node: NodeId) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        peer.held.clear();
        if let Some(verify) = &mut peer.verify {
            verify.cursor = verify.position();
            verify.pieces.clear();
            // The next link may be another one, and what was under way never came back.
            verify.window = ResyncWindow::new();
        }
    }
}

impl Verify {
    /// How much may be compared at once.
    pub(super) fn window(&mut self) -> &mut ResyncWindow {
        &mut self.window
    }

    /// When the limits let it go on although nothing has come back.
    pub(super) fn due(&self, now: Time) -> Option<Time> {
        let waits = self.pieces.values().filter_map(|piece| match piece.step {
            Step::Waiting(until) => Some(until),
            _ => None,
        });
        waits.chain(self.window.due(now)).min()
    }

    /// Everything before this has been compared.
    fn position(&self) -> u64 {
        let pieces = self.pieces.values().map(|piece| piece.range.offset);
        pieces.chain([self.cursor]).min().unwrap_or(self.cursor)
    }

    /// The ranges that are being compared.
    pub(super) fn ranges(&self) -> impl Iterator<Item = ByteRange> {
        let is_compared =
            |piece: &&Piece| !matches!(piece.step, Step::Mending { .. } | Step::Waiting(_));
        let pieces = self.pieces.values().filter(is_compared);
        pieces.map(|piece| piece.range)
    }

    /// Since when the peer has owed digests.
    pub(super) fn oldest_unanswered(&self) -> Option<Time> {
        let steps = self.pieces.values().map(|piece| &piece.step);
        let asked = steps.filter_map(|step| match step {
            Step::Asked { since, .. } => Some(*since),
            Step::Holding | Step::Reading { .. } | Step::Mending { .. } | Step::Waiting(_) => None,
        });
        asked.min()
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
pub(super) const PIECE_BYTES: u32 = 64 << 10;

/// How many pieces are under way at once.
pub(super) const PIECES_AT_ONCE: usize = 64;

/// How many ranges people are told of one by one: a disk may be all different.
const TOLD_LIMIT: u32 = 1_000;
