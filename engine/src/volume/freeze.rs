//! Freezing: clients are neither served nor turned away until a reason to wait is gone (G4).
//!
//! While a volume is frozen, what clients ask is taken in and not started, and what has been
//! started is not answered, not even a read: after a fail-over its data could be old. Nothing that
//! serves the replicas themselves waits: peers' writes, resync and housekeeping go on.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use rbd_protocol::ids::ByteRange;
use rbd_protocol::state::Role;

use super::{BarrierPurpose, Requester, Volume};
use crate::context::Context;
use crate::contract::{RequestError, Time};

/// Why clients' requests wait, and which do.
#[derive(Clone, Debug)]
pub(crate) struct Frozen<B> {
    /// By command.
    pub(crate) user: bool,
    /// Until a peer out of reach cannot use its data.
    pub(crate) fencing: bool,
    /// Without usable data requests wait; else they fail.
    pub(crate) without_data: bool,
    /// Until then clients wait for a peer to come back that can serve them.
    pub(crate) awaiting: Option<Time>,
    /// Nothing new is started: what is in flight is to end.
    pub(crate) holding: bool,
    /// What peers write waits too.
    pub(crate) holding_peers: bool,
    /// By command, not for want of data this time.
    pub(crate) data_given_up: bool,
    /// Everything that waits is to fail: this node is being demoted by force.
    pub(crate) failing: bool,
    /// Reads that have their answer.
    reads: BTreeMap<u64, Result<Option<B>, RequestError>>,
    /// Flushes that have not been started.
    flushes: Vec<Requester>,
    /// A peer was lost that had acknowledged or been sent writes; what must be recorded of it must
    /// be recorded before anything goes on, and not before that.
    owes_generation: bool,
}

impl<B> Default for Frozen<B> {
    fn default() -> Self {
        Self {
            user: false,
            fencing: false,
            without_data: false,
            awaiting: None,
            holding: false,
            holding_peers: false,
            data_given_up: false,
            failing: false,
            reads: BTreeMap::new(),
            flushes: Vec::new(),
            owes_generation: false,
        }
    }
}

impl<B> Frozen<B> {
    /// Whether nothing a client asked for is kept here alone.
    pub(crate) fn is_empty(&self) -> bool {
        self.flushes.is_empty()
    }

    /// Forgets the answers of reads: they are read anew.
    pub(super) fn take_reads(&mut self) -> Vec<u64> {
        core::mem::take(&mut self.reads).into_keys().collect()
    }

    /// The disk is filled from a peer: that one tells what is newer.
    pub(super) fn owe_nothing(&mut self) {
        self.owes_generation = false;
    }

    /// How many requests are kept here alone.
    pub(crate) fn count(&self) -> usize {
        self.flushes.len()
    }
}

impl<B: Clone> Volume<B> {
    /// Whether clients' requests wait.
    pub(crate) fn is_frozen(&self) -> bool {
        let frozen = &self.frozen;
        let user = frozen.user && self.role == Role::Primary;
        !frozen.failing && (user || frozen.fencing || self.waits_for_data() || self.awaits_server())
    }

    /// Whether clients' requests are not started now.
    pub(crate) fn is_held(&self) -> bool {
        self.frozen.holding
            || self.is_frozen()
            || self.is_taking_over()
            || self.is_recording_target()
            || self.is_recording_boot()
    }

    /// Whether it is not durable yet that the own disk has kept its power since it was in sync:
    /// beside another Primary that loses its own this alone tells whose data counts (B7).
    fn is_recording_boot(&self) -> bool {
        self.role == Role::Primary && !self.boot_is_recorded()
    }

    /// Whether it is not durable yet that a target lacks what clients could be shown: should both
    /// machines fail now, it could be its data that counts (B1, B8).
    fn is_recording_target(&self) -> bool {
        let mut peers = self.peers.values();
        self.role == Role::Primary
            && self.local.is_some()
            && peers.any(|peer| {
                peer.lacks_writes && peer.is_mirrored() && !self.loss_is_recorded(peer.node)
            })
    }

    /// Whether clients wait for a peer to come back that can serve them.
    pub(crate) fn awaits_server(&self) -> bool {
        self.frozen.awaiting.is_some() && self.role == Role::Primary && !self.has_data()
    }

    /// Whether clients' requests wait because there is no usable data.
    pub(crate) fn waits_for_data(&self) -> bool {
        self.frozen.without_data
            && !self.frozen.data_given_up
            && self.role == Role::Primary
            && !self.has_data()
    }

    /// Clients wait no longer for a peer that does not come back.
    pub(crate) fn check_patience(&mut self, now: Time) {
        if self.frozen.awaiting.is_some_and(|until| until <= now) {
            self.frozen.awaiting = None;
            self.unsettled = true;
        }
    }

    /// A flush that comes while the volume is frozen.
    pub(crate) fn keep_flush(&mut self, requester: Requester) {
        self.frozen.flushes.push(requester);
    }

    /// The answer to a read that must not be given yet.
    pub(crate) fn keep_read(&mut self, id: u64, result: Result<Option<B>, RequestError>) {
        self.frozen.reads.insert(id, result);
    }

    /// The loss of a peer is to be recorded when clients go on, and not before: were the verdict
    /// that it is this node that must not go on, a generation begun here would make a split brain
    /// of writes nobody was told of.
    pub(crate) fn owe_generation(&mut self) {
        self.frozen.owes_generation = true;
    }

    /// Everything that waits for the end of a freeze goes on, if it has ended.
    pub(crate) fn thaw(&mut self, cx: &mut Context<B>) {
        if self.has_data() {
            self.frozen.data_given_up = false;
            self.frozen.awaiting = None;
        }
        if self.is_frozen() {
            return;
        }
        if core::mem::take(&mut self.frozen.owes_generation) && !self.frozen.failing {
            self.leave_absent_peers_behind(cx);
        }
        if self.role == Role::Primary {
            self.record_targets(cx);
        }
        for (id, result) in core::mem::take(&mut self.frozen.reads) {
            self.answer_read(id, result, cx);
        }
        if !self.is_held() {
            self.start_kept_flushes(cx);
        }
        if self.has_data() {
            self.fail_impossible(cx);
        } else {
            self.fail_waiting(RequestError::Io, cx);
        }
    }

    fn start_kept_flushes(&mut self, cx: &mut Context<B>) {
        for requester in core::mem::take(&mut self.frozen.flushes) {
            match self.check_client(None) {
                Ok(()) => {
                    self.start_barrier(BarrierPurpose::Client(requester), cx);
                }
                Err(error) => self.answer(requester, ByteRange::new(0, 0), Err(error), cx),
            }
        }
    }

    /// Turns away what was taken in while there was no disk to judge it by, and does not fit.
    fn fail_impossible(&mut self, cx: &mut Context<B>) {
        let fits = |id: &u64| {
            let write = self.writes.get(id).map(|write| write.range);
            let read = self.reads.get(id).map(|read| read.range);
            write.or(read).is_none_or(|range| self.accepts(range))
        };
        let waiting = self.waiting_writes.iter().chain(&self.waiting_reads);
        let misfits: BTreeSet<u64> = waiting.copied().filter(|id| !fits(id)).collect();
        if !misfits.is_empty() {
            let is_kept = |id: u64, _| !misfits.contains(&id);
            self.end_waiting(RequestError::Invalid, is_kept, cx);
        }
    }

    /// Fails everything that has not started: there is no disk for it any more, or this node is to
    /// be Primary no more. What a peer asks for depends on the disk only.
    pub(crate) fn fail_waiting(&mut self, error: RequestError, cx: &mut Context<B>) {
        let is_kept = |_, of: Requester| error == RequestError::NotPrimary && of.peer().is_some();
        self.end_waiting(error, is_kept, cx);
    }

    /// Ends every wait with an error: clients are told that this node serves them no more.
    pub(crate) fn fail_frozen(&mut self, cx: &mut Context<B>) {
        self.frozen.failing = true;
        for requester in core::mem::take(&mut self.frozen.flushes) {
            let error = Err(RequestError::NotPrimary);
            self.answer(requester, ByteRange::new(0, 0), error, cx);
        }
        self.unsettled = true;
    }
}
