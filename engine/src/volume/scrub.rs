//! What a verify cannot read. Finding such places while there is a second copy is half of what it
//! is for, so they are not a reason to let the disk go: the range is let go, the node whose disk
//! could not read it reads it block by block as a client would, which mends what can be mended from
//! the other copy (H1), and then it is compared once more. What still cannot be read is reported,
//! and the verify goes on.
//!
//! Nothing is read while clients' writes are held back for the verify: the other node may have to
//! wait for one of those before it can answer.

use rbd_protocol::ids::{BLOCK_SIZE, ByteRange, NodeId};
use rbd_protocol::peer::Packet;

use super::verify::Step;
use super::{Requester, Volume};
use crate::context::Context;
use crate::contract::Level;

/// Which range of a verify that is led here is being read, if it is one.
pub(crate) type Piece = Option<(NodeId, u64)>;

impl<B: Clone> Volume<B> {
    /// A range cannot be compared, because one of the disks, the own one if `here`, cannot read it.
    pub(super) fn cannot_compare(
        &mut self,
        (node, id): (NodeId, u64),
        here: bool,
        cx: &mut Context<B>,
    ) {
        let volume = self.number;
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let (Some(verify), Some(link)) = (&mut peer.verify, peer.link) else {
            return;
        };
        let Some(piece) = verify.pieces.get_mut(&id) else {
            return;
        };
        let range = piece.range;
        if let Step::Asked { asked, .. } | Step::Reading { asked, .. } = piece.step {
            let (length, options) = (u64::from(range.length), &peer.resync_options);
            verify.window.answered(asked, length, options, cx.now);
        }
        cx.send(node, link, Packet::VerifyRelease { id, volume }, None);
        self.unsettled = true;
        if piece.is_second_time {
            verify.pieces.remove(&id);
            verify.unread_bytes += u64::from(range.length);
            let whose = if here { "this node's" } else { "the peer's" };
            let text = alloc::format!(
                "{}+{} cannot be compared: {whose} disk cannot read it",
                range.offset,
                range.length
            );
            cx.report(Level::Error, Some(node), Some(volume), text);
            return;
        }
        piece.is_second_time = true;
        let blocks = range.length.div_ceil(BLOCK_SIZE);
        piece.step = if here {
            Step::Mending { blocks }
        } else {
            Step::Waiting(cx.now.plus_ms(PEER_MENDS_MS))
        };
        if here {
            self.scrub(Some((node, id)), range, cx);
        }
    }

    /// Reads a range block by block, as a client would.
    pub(super) fn scrub(&mut self, piece: Piece, range: ByteRange, cx: &mut Context<B>) {
        let mut at = range.offset;
        while at < range.end() {
            let left = u32::try_from(range.end() - at).unwrap_or(BLOCK_SIZE);
            let block = ByteRange::new(at, left.min(BLOCK_SIZE));
            self.take_read(Requester::Scrub(piece), block, cx);
            at = block.end();
        }
    }

    /// A block has been read, or cannot be.
    pub(super) fn scrubbed(&mut self, piece: Piece) {
        let Some((node, id)) = piece else { return };
        let verify = self
            .peers
            .get_mut(&node)
            .and_then(|peer| peer.verify.as_mut());
        let Some(piece) = verify.and_then(|verify| verify.pieces.get_mut(&id)) else {
            return; // it has been stopped, or the link was lost meanwhile
        };
        if let Step::Mending { blocks } = &mut piece.step {
            *blocks = blocks.saturating_sub(1);
            if *blocks == 0 {
                piece.step = Step::Holding;
                self.unsettled = true;
            }
        }
    }
}

/// How long the peer is given to mend what it cannot read.
pub(super) const PEER_MENDS_MS: u64 = 1_000;
