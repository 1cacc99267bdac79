//! Comparing before copying, where that is configured: what both copies have alike is not sent.
//!
//! The target reads its own blocks, and asks with their digests. The source reads after that, while
//! no write of the range is on its way to its own disk and none may start (E2), and answers part by
//! part, on the channel of its writes: this is the same, this is zero, this is what I have. That a
//! block is the same is said of what the source has at that moment. Every write the source has made
//! to the block by then was sent before the answer; so when the target comes to the answer, in that
//! order, it has applied them, and its block is the source's whatever the reading had met: what a
//! write has covered is what was written last on either side, and what none has covered was read as
//! it is. So such an answer waits for its turn among the writes of its range, and then counts as a
//! block that has just been written.

use alloc::vec::Vec;

use rbd_protocol::ids::{BLOCK_SIZE, ByteRange, NodeId};
use rbd_protocol::peer::{Digest, Packet};

use super::Volume;
use crate::context::{Context, Operation};
use crate::contract::{DiskError, DiskRequest, LinkId, Time};
use crate::peer_device::{Outstanding, Question};

impl<B: Clone> Volume<B> {
    /// The target's own blocks have been read, and it asks. What it cannot read is overwritten.
    pub(crate) fn ask_to_compare(
        &mut self,
        (node, link, id): (NodeId, LinkId, u64),
        result: Result<Vec<Digest>, DiskError>,
        cx: &mut Context<B>,
    ) {
        let volume = self.number;
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let asked = peer.target.as_mut();
        let asked = asked.and_then(|target| target.outstanding.get_mut(&id));
        let Some(asked) = asked.filter(|_| peer.link == Some(link)) else {
            return;
        };
        let range = asked.range;
        let packet = if let Ok(digests) = result {
            asked.question = Question::WhatDiffers;
            Packet::ResyncCompare {
                id,
                volume,
                range,
                digests,
            }
        } else {
            asked.question = Question::WhatIsThere;
            Packet::ResyncRequest { id, volume, range }
        };
        cx.send(node, link, packet, None);
    }

    /// The target asks for what differs from its own blocks.
    pub(crate) fn accept_resync_compare(
        &mut self,
        node: NodeId,
        id: u64,
        (range, digests): (ByteRange, Vec<Digest>),
        now: Time,
    ) -> Result<(), &'static str> {
        let blocks = usize::try_from(range.length.div_ceil(BLOCK_SIZE)).unwrap_or(usize::MAX);
        let fits = !digests.is_empty() && digests.len() == blocks;
        if !fits || !range.offset.is_multiple_of(u64::from(BLOCK_SIZE)) {
            return Err("digests that do not fit their range");
        }
        self.accept_resync_request(node, id, (range, digests), now)
    }

    /// The source has read what the target wants to be compared.
    pub(crate) fn compare_for_target(
        &mut self,
        (node, link, id): (NodeId, LinkId, u64),
        result: Result<Vec<Digest>, DiskError>,
        cx: &mut Context<B>,
    ) {
        self.unsettled = true;
        let volume = self.number;
        let peer = self.peers.get_mut(&node);
        let Some(peer) = peer.filter(|peer| peer.link == Some(link)) else {
            return;
        };
        let Some(read) = peer.source.reads.get_mut(&id) else {
            return;
        };
        let own = match result {
            Ok(own) => own,
            Err(error) => {
                let range = read.range;
                self.resync_read_done(node, link, id, range, Err(error), cx);
                return;
            }
        };
        let mut theirs = core::mem::take(&mut read.digests);
        if peer.source.has_failed_writes {
            // The target may have a write that is not here, and has read before it: what is the
            // same by its digest need not be when its turn comes.
            theirs.clear();
        }
        for (range, is_same) in runs(read.range, &own, &theirs) {
            let length = u64::from(range.length);
            if is_same {
                read.left = read.left.saturating_sub(length);
                peer.same_bytes += length;
                cx.send(node, link, Packet::ResyncSame { id, volume, range }, None);
            } else {
                let operation = Operation::ResyncRead {
                    volume,
                    peer: node,
                    link,
                    id,
                    range,
                };
                cx.disk(operation, DiskRequest::ReadUnlessZero, range, None);
            }
        }
        if read.left == 0 {
            peer.pace.disk_took(read.at, cx.now);
            peer.source.reads.remove(&id);
        }
    }
}

impl Outstanding {
    /// A part of the answer has come. Tells whether it can be one.
    pub(super) fn takes(&mut self, part: ByteRange, is_same: bool) -> bool {
        let length = u64::from(part.length);
        let lies_within = self.range.offset <= part.offset && part.end() <= self.range.end();
        let may_be = match self.question {
            Question::NotYet => false,
            Question::WhatIsThere => !is_same && part == self.range,
            Question::WhatDiffers => lies_within,
        };
        let takes = may_be && length <= self.to_come;
        if takes {
            self.to_come -= length;
        }
        takes
    }
}

/// The range in runs of blocks that are all the same, or all not.
fn runs(range: ByteRange, own: &[Digest], theirs: &[Digest]) -> Vec<(ByteRange, bool)> {
    let mut runs: Vec<(ByteRange, bool)> = Vec::new();
    let mut at = range.offset;
    let mut digests = own.iter().zip(theirs);
    while at < range.end() {
        let is_same = digests.next().is_some_and(|(own, theirs)| own == theirs);
        let left = u32::try_from(range.end() - at).unwrap_or(u32::MAX);
        let length = left.min(BLOCK_SIZE);
        match runs.last_mut() {
            Some((run, same)) if *same == is_same => run.length += length,
            _ => runs.push((ByteRange::new(at, length), is_same)),
        }
        at += u64::from(length);
    }
    runs
}
