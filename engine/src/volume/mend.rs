//! A client's read that the disk cannot answer: the peer that is in sync answers instead, and what
//! it has answered is written where the disk could not be read (H1). A disk gives such a place
//! another one when it is written; if it does not take the write either, it has failed.
//!
//! The data of the place is the same on both disks while this goes on: the read waited for every
//! earlier write, and later ones wait for the read, or, on a Secondary, until the place is written:
//! the Primary sends them after its answer. So nothing is marked, and stopping at any moment leaves
//! at worst a place that still cannot be read.
//!
//! If the peer cannot read it either, the client gets an error, and both disks go on: no third copy
//! would come of letting either go (H4).

use alloc::collections::BTreeMap;

use rbd_protocol::ids::{BLOCK_SIZE as BLOCK, ByteRange, NodeId};
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{DiskState, ReplicationState};

use super::{Read, Requester, Volume, describe};
use crate::context::{Context, Operation};
use crate::contract::{DiskError, DiskRequest, Level, LinkId, RequestError, Time};
use crate::peer_device::PeerDevice;

/// What is being mended.
#[derive(Clone, Debug)]
pub(crate) struct Mending<B> {
    /// The reads that could not be done: nothing while the peer is asked, then what is written.
    reads: BTreeMap<u64, Option<B>>,
    errors: u32,
    since: Time,
}

impl<B> Default for Mending<B> {
    fn default() -> Self {
        Self {
            reads: BTreeMap::new(),
            errors: 0,
            since: Time(0),
        }
    }
}

impl<B> Mending<B> {
    /// Whether one more read error is still mended: a disk with ever more of them is to be
    /// replaced before it is needed.
    fn bears_another(&mut self, now: Time) -> bool {
        let hours = now.ms_since(self.since) / HOUR_MS;
        if hours > 0 {
            self.errors = self
                .errors
                .checked_shr(u32::try_from(hours).unwrap_or(32))
                .unwrap_or(0);
            self.since = now;
        }
        self.errors = self.errors.saturating_add(1);
        self.errors <= MOST_ERRORS
    }

    /// The disk has been let go, and nothing of it is to be mended.
    pub(super) fn give_up(&mut self) {
        *self = Self::default();
    }
}

impl<B: Clone> Volume<B> {
    /// The disk could not do a read.
    pub(super) fn read_failed(&mut self, id: u64, error: DiskError, cx: &mut Context<B>) {
        let Some(read) = self.reads.get(&id) else {
            return;
        };
        if error == DiskError::Io
            && let Some(why) = self.why_not_elsewhere(read)
        {
            let text = alloc::format!("the disk cannot be read at {}, {why}", read.range.offset);
            cx.report(Level::Error, None, Some(self.number), text);
            self.give_up_read(id, cx);
            return;
        }
        // From here on it is done again where there is data.
        self.waiting_reads.insert(id);
        if error != DiskError::Io || !self.begin_to_mend(id, cx) {
            self.fail_disk(describe(error), cx);
        }
    }

    /// Why nobody has what this read asks for, if that is so: then letting the disk go would bring
    /// nobody the data, and take everything else from the clients (H4).
    fn why_not_elsewhere(&self, read: &Read) -> Option<&'static str> {
        if matches!(read.requester, Requester::Peer { .. }) {
            return Some("and the peer, which asks for it, cannot read it either");
        }
        let mut peers = self.peers.values();
        match peers.find(|peer| self.is_whole(peer)) {
            None => Some("and no other node has all of the data"),
            Some(peer) if is_marked(peer, read.range) => {
                Some("and the peer's copy of that place is known to differ")
            }
            Some(_) => None,
        }
    }

    /// Whether the peer is here with a copy of everything.
    pub(super) fn is_whole(&self, peer: &PeerDevice) -> bool {
        self.has_own_data()
            && peer.link.is_some()
            && peer.replication == ReplicationState::Established
            && peer.peer_disk == DiskState::UpToDate
    }

    /// Whoever asked is told that it cannot be read.
    pub(super) fn give_up_read(&mut self, id: u64, cx: &mut Context<B>) {
        self.unsettled = true;
        if let Some(read) = self.reads.get_mut(&id) {
            read.remote = None;
        }
        self.end_read(id, Err(RequestError::Io), cx);
    }

    /// Whether some of this is being mended.
    pub(super) fn is_being_mended(&self, range: ByteRange) -> bool {
        let reads = self
            .mending
            .reads
            .keys()
            .filter_map(|id| self.reads.get(id));
        reads
            .map(|read| read.range)
            .any(|other| other.overlaps(range))
    }

    /// Where what the peer has answered is being written.
    pub(super) fn written_anew(&self) -> impl Iterator<Item = ByteRange> {
        let answered = self.mending.reads.iter().filter(|(_, data)| data.is_some());
        let reads = answered.filter_map(|(id, _)| self.reads.get(id));
        reads.map(|read| read.range)
    }

    /// A peer whose data at this read's place is the same.
    fn mender(&self, id: u64) -> Option<(NodeId, LinkId)> {
        let range = self.reads.get(&id)?.range;
        let mut peers = self.peers.values();
        peers.find_map(|peer| {
            let same = self.is_whole(peer) && !is_marked(peer, range);
            Some((peer.node, peer.link.filter(|_| same)?))
        })
    }

    /// Whether it is known here that the peer's disk differs somewhere in this range. A verify
    /// tells that to the node that led it, and to no other.
    pub(super) fn differs_from(&self, node: NodeId, range: ByteRange) -> bool {
        let peer = self.peers.get(&node);
        peer.is_some_and(|peer| is_marked(peer, range))
    }

    /// Asks the peer for what could not be read. False if that is no way.
    fn begin_to_mend(&mut self, id: u64, cx: &mut Context<B>) -> bool {
        let Some(read) = self.reads.get(&id) else {
            return false;
        };
        if self.is_being_mended(read.range) {
            return true; // then it is read again
        }
        if matches!(read.requester, Requester::Peer { .. }) {
            return false;
        }
        let Some((node, link)) = self.mender(id) else {
            return false;
        };
        if !self.mending.bears_another(cx.now) {
            return false;
        }
        let Some(read) = self.reads.get_mut(&id) else {
            return false;
        };
        self.waiting_reads.remove(&id);
        self.mending.reads.insert(id, None);
        (read.remote, read.since) = (Some(node), cx.now);
        let (volume, range) = (self.number, read.range);
        let text = alloc::format!(
            "the disk cannot be read at {}: asking the peer",
            range.offset
        );
        cx.report(Level::Warn, Some(node), Some(volume), text);
        cx.send(node, link, Packet::RemoteRead { id, volume, range }, None);
        true
    }

    /// The peer has read for the client. Gives the data back if nothing is to be mended.
    pub(super) fn mend_with(
        &mut self,
        id: u64,
        data: Option<B>,
        cx: &mut Context<B>,
    ) -> Result<(), Option<B>> {
        let Some(range) = self.reads.get(&id).map(|read| read.range) else {
            return Err(data);
        };
        let held = self.is_held();
        let Some(kept) = self.mending.reads.get_mut(&id) else {
            return Err(data);
        };
        if held {
            // Nothing of clients goes to the disk now (G4).
            self.read_again(id);
            return Ok(());
        }
        kept.clone_from(&data);
        let operation = Operation::Mend {
            volume: self.number,
            read: id,
        };
        cx.disk(operation, DiskRequest::Write { fua: false }, range, data);
        Ok(())
    }

    fn read_again(&mut self, id: u64) {
        self.mending.reads.remove(&id);
        if let Some(read) = self.reads.get_mut(&id) {
            read.remote = None;
            self.waiting_reads.insert(id);
            self.unsettled = true;
        }
    }

    /// The place has been written.
    pub(crate) fn mend_done(
        &mut self,
        id: u64,
        result: Result<(), DiskError>,
        cx: &mut Context<B>,
    ) {
        let Some(data) = self.mending.reads.remove(&id) else {
            return;
        };
        self.unsettled = true; // others may wait for the place
        if let Err(error) = result {
            self.waiting_reads.insert(id);
            self.fail_disk(describe(error), cx);
            return;
        }
        if let Some(read) = self.reads.get(&id) {
            let offset = read.range.offset;
            let text = alloc::format!("what could not be read at {offset} is written anew");
            cx.report(Level::Info, None, Some(self.number), text);
        }
        self.has_read(id, data, cx);
    }

    /// The peer cannot read it either. Whether it was asked to mend.
    pub(super) fn mend_failed(&mut self, id: u64, cx: &mut Context<B>) -> bool {
        if self.mending.reads.remove(&id).is_none() {
            return false;
        }
        if let Some(read) = self.reads.get(&id) {
            let text = alloc::format!("neither node's disk can be read at {}", read.range.offset);
            cx.report(Level::Error, None, Some(self.number), text);
        }
        self.give_up_read(id, cx);
        true
    }

    /// The peer is out of reach, and so is what it was asked for.
    pub(super) fn lose_mender(&mut self, node: NodeId) {
        let asked = self.mending.reads.iter().filter(|(_, data)| data.is_none());
        let ids: alloc::vec::Vec<u64> = asked.map(|(id, _)| *id).collect();
        for id in ids {
            if self
                .reads
                .get(&id)
                .is_some_and(|read| read.remote == Some(node))
            {
                self.read_again(id);
            }
        }
    }
}

fn is_marked(peer: &PeerDevice, range: ByteRange) -> bool {
    let first = range.offset - range.offset % u64::from(BLOCK);
    let marked = peer.bitmap.next_run(first, BLOCK, u64::MAX);
    marked.is_some_and(|run| run.offset < range.end())
}

/// So many read errors are mended; for each hour that passes half as many are held against a disk.
const MOST_ERRORS: u32 = 20;
const HOUR_MS: u64 = 3_600_000;
