//! The part of a peer that is asked for digests by one that leads a verify, and what waits on
//! either of them.
//!
//! New writes of this node's clients to what the leader asks for are held back from here on until
//! the leader has read as well; those under way end first, which means that the leader has them.
//! Then the disk is read. What the leader sends is never held back: it sends nothing for a range
//! it compares. When and why a range is compared is in `verify`.

use alloc::vec::Vec;

use rbd_protocol::ids::{ByteRange, NodeId};
use rbd_protocol::peer::{Digest, Packet};
use rbd_protocol::state::ReplicationState;

use super::verify::{PIECE_BYTES, PIECES_AT_ONCE, Verify};
use super::write::Leg;
use super::{Volume, describe};
use crate::context::{Context, Operation};
use crate::contract::{DiskError, DiskRequest, LinkId, Time};
use crate::peer_device::PeerDevice;

/// A range that a peer which leads a verify has asked for. No client writes it until it is let go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held {
    range: ByteRange,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Writes under way are waited for.
    Waiting,
    /// The disk is being read.
    Reading,
    /// The leader has the digests, and has owed the release since then.
    Answered(Time),
}

impl<B: Clone> Volume<B> {
    /// Whether some of these blocks are being compared: writes to them wait.
    pub(crate) fn is_being_verified(&self, range: ByteRange) -> bool {
        self.peers.values().any(|peer| {
            let own = peer.verify.iter().flat_map(Verify::ranges);
            own.chain(peer.held.values().map(|held| held.range))
                .any(|held| held.overlaps(range))
        })
    }

    /// Whether the end of a write may let a verify go on.
    pub(crate) fn is_verifying(&self) -> bool {
        let mut peers = self.peers.values();
        peers.any(|peer| peer.verify.is_some() || !peer.held.is_empty())
    }

    /// Whether a write of some of these blocks is under way, here or on a peer.
    pub(super) fn is_being_written(&self, range: ByteRange) -> bool {
        let is_mended = self.is_being_mended(range);
        is_mended
            || self.writes.values().any(|write| {
                let on_peers = write.legs.iter().any(|(_, leg)| *leg == Leg::Pending);
                let under_way = write.local == Leg::Pending || on_peers;
                write.started && under_way && write.range.overlaps(range)
            })
    }

    /// A peer that leads a verify asks for the digests of a range.
    pub(crate) fn accept_verify_request(
        &mut self,
        node: NodeId,
        id: u64,
        range: ByteRange,
        cx: &Context<B>,
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
        let step = Step::Waiting;
        if peer.held.insert(id, Held { range, step }).is_some() {
            return Err("a verify request under a name already in use");
        }
        peer.verify_asked = Some(cx.now);
        self.unsettled = true;
        Ok(())
    }

    /// Starts the reads for the peer's verify that no write is in the way of.
    pub(super) fn read_held(&mut self, node: NodeId, cx: &mut Context<B>) {
        let Some(peer) = self.peers.get(&node) else {
            return;
        };
        let (Some(link), true) = (peer.link, self.local.is_some()) else {
            return;
        };
        let ready: Vec<(u64, ByteRange)> = peer
            .held
            .iter()
            .filter(|(_, held)| held.step == Step::Waiting && !self.is_being_written(held.range))
            .map(|(id, held)| (*id, held.range))
            .collect();
        for (id, range) in ready {
            let held = self
                .peers
                .get_mut(&node)
                .and_then(|peer| peer.held.get_mut(&id));
            if let Some(held) = held {
                held.step = Step::Reading;
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
            Ok(digests) => Some(digests),
            Err(DiskError::Io) => None,
            Err(error) => {
                self.fail_disk(describe(error), cx);
                return;
            }
        };
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        if peer.link != Some(link) {
            return; // of an older link (A7)
        }
        if !for_peer {
            match digests {
                Some(digests) => self.compare((node, id), &digests, cx),
                None => self.cannot_compare((node, id), true, cx),
            }
            return;
        }
        // What has been let go meanwhile may have been read while it was written.
        let Some(held) = peer.held.get_mut(&id) else {
            return;
        };
        held.step = Step::Answered(cx.now);
        let (volume, range) = (self.number, held.range);
        let cannot_read = digests.is_none();
        let packet = Packet::VerifyReply {
            id,
            volume,
            digests: digests.unwrap_or_default(),
        };
        cx.send(node, link, packet, None);
        if cannot_read {
            self.scrub(None, range, cx);
        }
    }

    /// Since when this peer has owed something to a verify for which writes wait here.
    pub(super) fn verify_unanswered(&self, node: NodeId) -> Option<Time> {
        let peer = self.peers.get(&node)?;
        let answered = peer.held.values().filter_map(|held| match held.step {
            Step::Answered(since) => Some(since),
            Step::Waiting | Step::Reading => None,
        });
        let owed = peer.verify.iter().filter_map(|own| own.oldest_unanswered());
        answered.chain(owed).min()
    }
}

/// What people see of the replication with a peer that is in sync.
pub(super) fn shown_replication(peer: &PeerDevice, now: Time) -> ReplicationState {
    // Between two requests there may be none.
    let is_led = |asked: Time| now.ms_since(asked) < SHOWN_MS;
    match peer.replication {
        ReplicationState::Established if peer.verify.is_some() => ReplicationState::VerifyS,
        ReplicationState::Established if peer.verify_asked.is_some_and(is_led) => {
            ReplicationState::VerifyT
        }
        _ => peer.shown_resync(),
    }
}

/// How many ranges a peer may have asked for.
const HELD_LIMIT: usize = 2 * PIECES_AT_ONCE;

/// How long after the last request of a leader its verify is still shown.
const SHOWN_MS: u64 = 1_000;
