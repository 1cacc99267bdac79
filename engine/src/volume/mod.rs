//! One volume on this node: its disk, its copies on the peers, and everything in flight on it.
//!
//! | Part | Decides |
//! |---|---|
//! | [`write`] | when a client's write may start, where it goes, when it is complete |
//! | [`read`] | when a client's read may start |
//! | [`requester`] | how a request is answered, of a client or of a peer |
//! | [`remote`] | where requests go without usable data here, and what is done for such a node |
//! | [`server`] | whether a peer may serve the clients of a Primary without data |
//! | [`barrier`] | what a flush waits for, and what it proves |
//! | [`peer_write`] | when a peer's write may start |
//! | [`crossing`] | the order of what two Primaries write |
//! | [`again`] | what is done again after a link of two Primaries was lost |
//! | [`settling`] | which reads wait for the disk of a peer that is Primary too |
//! | [`resync`] | copying what differs: how it begins, and what the source does |
//! | [`resync_target`] | what the target asks for, and when it has everything |
//! | [`left_out`] | what the source of a resync cannot read |
//! | [`resync_window`] | how much of it at once, so that clients do not suffer |
//! | [`resync_compare`] | what need not be copied because both have it |
//! | [`resync_state`] | who holds it back, and what is told of it |
//! | [`resync_pace`] | how fast it is, for people |
//! | [`relocation`] | metadata on its way to the end of a disk that has grown |
//! | [`size`] | how large it is, and how large clients see it |
//! | [`verify`] | comparing both copies while clients go on |
//! | [`verified`] | what is read for a peer that does, and which writes wait |
//! | [`checkpoint`] | when marks and bits may leave the disk |
//! | [`generation`] | what must be durable before a peer may be left behind |
//! | [`freeze`] | what waits while clients must not be answered |
//! | [`loss`] | what is marked when a peer goes out of reach |
//! | [`mend`] | reads that the disk cannot do |
//! | [`scrub`] | what a verify cannot read |
//! | [`silence`] | a disk that does not answer |
//!
//! [`state`] decides nothing: it is the snapshot for `status`.

mod again;
mod barrier;
mod checkpoint;
mod crossing;
mod freeze;
mod generation;
mod left_out;
mod loss;
mod mend;
mod peer_write;
mod read;
mod relocation;
mod remote;
mod requester;
mod resync;
mod resync_compare;
mod resync_pace;
mod resync_state;
mod resync_target;
mod resync_window;
mod scrub;
mod server;
mod settling;
mod silence;
mod size;
mod state;
mod verified;
mod verify;
mod write;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use rbd_protocol::control::{OnIoError, VolumeConfig};
use rbd_protocol::ids::{ByteRange, GenerationId, NodeId, VolumeNumber};
use rbd_protocol::state::{DiskState, ReplicationState, Role};

pub(crate) use barrier::{Barrier, BarrierPurpose};
pub(crate) use checkpoint::{Checkpoint, is_due, is_full_due};
pub(crate) use crossing::{Crossing, Owed};
pub(crate) use freeze::Frozen;
pub(crate) use left_out::LeftOut;
use mend::Mending;
pub(crate) use peer_write::{PeerWrite, PeerWriteKind};
pub(crate) use read::Read;
pub(crate) use remote::Errand;
pub(crate) use requester::Requester;
pub(crate) use resync_pace::Pace;
pub(crate) use resync_state::Told;
pub(crate) use resync_window::{Asked, ResyncWindow};
pub(crate) use settling::Unsettled;
pub(crate) use state::Counters;
pub(crate) use verified::Held;
pub(crate) use verify::{Verify, Wish as VerifyWish};
pub(crate) use write::Write;

use crate::context::Context;
use crate::contract::{DiskError, DiskNote, Level, RequestError, Time};
use crate::handler::Handler;
use crate::local_disk::LocalDisk;
use crate::peer_device::PeerDevice;

/// One volume of the resource.
#[derive(Clone, Debug)]
pub(crate) struct Volume<B> {
    pub(crate) number: VolumeNumber,
    pub(crate) config: VolumeConfig,
    /// Copied from the resource: only a Primary has clients.
    pub(crate) role: Role,
    /// What the superblock is to say of it: ahead of the role while a change is being recorded,
    /// behind it while what clients asked of a Primary is still being finished.
    pub(crate) recorded_role: Role,
    pub(crate) disk: DiskState,
    pub(crate) disk_note: String,
    pub(crate) local: Option<LocalDisk>,
    pub(crate) peers: BTreeMap<NodeId, PeerDevice>,
    /// The generation of the data clients of this Primary have seen last, without a disk of its
    /// own.
    pub(crate) exposed: GenerationId,
    /// Size and smallest unit as a disk that is or was there has told them, here or on a peer.
    pub(crate) told_size: (u64, u32),
    /// The size before it grew, until clients may see the new one.
    pub(crate) held_size: Option<u64>,
    /// The disk was let go because it could not make durable what it had acknowledged: until it is
    /// in sync again it counts as one that has lost its power (B4).
    pub(crate) lost_cache: bool,
    /// It is noted elsewhere than on the disk that clients have gone on without that.
    pub(crate) left_behind: bool,
    /// A peer was connected while there was no disk here, and may have written alone.
    pub(crate) missed_writes: bool,
    /// Since this node came up, another one has had clients, or may have had.
    pub(crate) is_overtaken: bool,
    pub(crate) openers: u32,
    pub(crate) writes: BTreeMap<u64, Write<B>>,
    pub(crate) waiting_writes: BTreeSet<u64>,
    pub(crate) reads: BTreeMap<u64, Read>,
    pub(crate) waiting_reads: BTreeSet<u64>,
    mending: Mending<B>,
    pub(crate) peer_writes: BTreeMap<u64, PeerWrite<B>>,
    pub(crate) waiting_peer_writes: BTreeSet<u64>,
    /// Clients' writes that a peer's go before, and which wait for them.
    deferred: BTreeSet<u64>,
    /// Clients' writes that wait for none but these writes of a peer: those named before.
    reserved: BTreeMap<u64, u64>,
    /// Acknowledgements that wait for the peer's.
    owed: Vec<Owed>,
    /// Reads that show what a peer may not have on its disk.
    unsettled_reads: Unsettled<B>,
    /// What has been done last for a peer that may be Primary too: it may never have heard so.
    done_for_peer: VecDeque<(NodeId, u64)>,
    pub(crate) barriers: BTreeMap<u64, Barrier>,
    pub(crate) frozen: Frozen<B>,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) counters: Counters,
    /// A full checkpoint is worth making at once: a resync has ended, and what is on disk still
    /// says that blocks are missing.
    pub(crate) checkpoint_wanted: bool,
    /// The source of the last resync went out of reach at its end: people are told of that end when
    /// it is durable.
    ended_unheard: Option<NodeId>,
    /// The peer that served this Primary's clients went out of reach before it was known to have
    /// heard that the own disk does so now.
    took_over_unheard: bool,
    /// Something changed that may let waiting work go on.
    pub(crate) unsettled: bool,
    /// The link to this peer is to be made anew so that both sides decide again.
    pub(crate) renegotiate: bool,
}

impl<B: Clone> Volume<B> {
    pub(crate) fn new(config: VolumeConfig, peers: impl Iterator<Item = NodeId>) -> Self {
        let mut volume = Self {
            number: config.number,
            config,
            role: Role::Secondary,
            recorded_role: Role::Secondary,
            disk: DiskState::Diskless,
            disk_note: String::from("no disk has been attached"),
            local: None,
            peers: peers.map(|node| (node, PeerDevice::new(node))).collect(),
            exposed: GenerationId::NONE,
            told_size: (0, 512),
            held_size: None,
            lost_cache: false,
            left_behind: false,
            missed_writes: false,
            is_overtaken: false,
            openers: 0,
            writes: BTreeMap::new(),
            waiting_writes: BTreeSet::new(),
            reads: BTreeMap::new(),
            waiting_reads: BTreeSet::new(),
            mending: Mending::default(),
            peer_writes: BTreeMap::new(),
            waiting_peer_writes: BTreeSet::new(),
            deferred: BTreeSet::new(),
            reserved: BTreeMap::new(),
            owed: Vec::new(),
            unsettled_reads: BTreeMap::new(),
            done_for_peer: VecDeque::new(),
            barriers: BTreeMap::new(),
            frozen: Frozen::default(),
            checkpoint: Checkpoint::Idle,
            counters: Counters::default(),
            checkpoint_wanted: false,
            ended_unheard: None,
            took_over_unheard: false,
            unsettled: false,
            renegotiate: false,
        };
        let config = volume.config.clone();
        volume.configure_resync(&config, Time(0));
        volume
    }

    /// Smallest unit of a request.
    pub(crate) fn block_bytes(&self) -> u32 {
        self.local
            .as_ref()
            .map_or(self.told_size.1, LocalDisk::block_bytes)
    }

    /// Whether the range is a possible one on this volume.
    pub(crate) fn accepts(&self, range: ByteRange) -> bool {
        let block = u64::from(self.block_bytes());
        range.length > 0
            && range.offset.checked_add(u64::from(range.length)).is_some()
            && range.end() <= self.size_bytes()
            && range.offset.is_multiple_of(block)
            && u64::from(range.length).is_multiple_of(block)
    }

    /// Lets waiting work go on as far as it can, then starts the metadata writes it asked for.
    pub(crate) fn settle(&mut self, cx: &mut Context<B>) {
        while core::mem::take(&mut self.unsettled) {
            self.thaw(cx);
            // Reads first: a write also waits for an earlier read that still waits.
            self.start_reads(cx);
            self.start_writes(cx);
            self.start_peer_writes(cx);
            self.start_deferred(cx);
            self.acknowledge_owed(cx);
            self.answer_questions(cx);
            self.tell_resync_states(cx);
            self.start_resync_reads(cx);
            self.finish_writes(cx);
            self.advance_verify(cx);
            self.advance_resync_targets(cx);
            self.advance_checkpoint(cx);
            self.advance_relocation(cx);
            self.start_metadata(cx);
        }
    }

    /// Records the role that this node is about to have. Whatever else is recorded in the meantime
    /// keeps to it.
    pub(crate) fn record_role(&mut self, role: Role) {
        self.recorded_role = role;
        if let Some(local) = &mut self.local {
            local.record_primary(role == Role::Primary);
        }
        self.unsettled = true;
    }

    fn start_metadata(&mut self, cx: &mut Context<B>) {
        if let Some(local) = &mut self.local {
            self.counters.intent_writes += local.start_metadata(self.number, cx);
        }
    }

    /// The disk is out of service: nothing goes to it any more, and nobody is told otherwise.
    pub(crate) fn fail_disk(&mut self, why: &str, cx: &mut Context<B>) {
        if self.local.is_none() {
            return;
        }
        cx.report(
            Level::Error,
            None,
            Some(self.number),
            alloc::format!("local disk failed ({why}): detached, volume is Diskless"),
        );
        if self.config.on_disk_trouble.on_error == OnIoError::CallHandler {
            cx.call_handler(Handler::LocalIoError, None, Some(self.number));
        }
        if let Some(local) = &mut self.local {
            local.abandon_relocation();
        }
        self.say_last_words(cx);
        self.let_go(&alloc::format!("detached after an error: {why}"), cx);
    }

    /// Until the disk is in sync again it counts as one that has lost its power, whichever process
    /// has it.
    pub(crate) fn lose_cache(&mut self, cx: &mut Context<B>) {
        self.lost_cache = true;
        cx.note_of_disk(self.number, DiskNote::LostCache, true);
    }

    /// The disk could not make durable what it had acknowledged: some of that may be gone, and a
    /// later flush would not tell (B4). So it must not be taken for a copy that holds what it had,
    /// neither when it is attached again nor, as far as it still takes a metadata write, by
    /// another process.
    pub(crate) fn fail_flush(&mut self, why: &str, cx: &mut Context<B>) {
        self.lose_cache(cx);
        if let Some(local) = &mut self.local {
            local.abandon_relocation();
            local.note_lost_cache();
        }
        self.start_metadata(cx);
        self.fail_disk(why, cx);
    }

    /// A Primary goes on through its peer: the disk that has failed, or is taken away by force, is
    /// behind from here on. It is told so as far as it still takes a metadata write, so that
    /// another process cannot take it for the newest.
    pub(crate) fn say_last_words(&mut self, cx: &mut Context<B>) {
        let has_everything = |peer: &PeerDevice| {
            peer.link.is_some()
                && peer.replication == ReplicationState::Established
                && peer.peer_disk == DiskState::UpToDate
        };
        if self.role != Role::Primary || !self.peers.values().any(has_everything) {
            return;
        }
        if let Some(local) = &mut self.local {
            local.record_disk_state(DiskState::Outdated);
        }
        self.start_metadata(cx);
    }

    /// Whether anything is replicated to or from this peer.
    pub(crate) fn is_replicating(&self, node: NodeId) -> bool {
        let peer = self.peers.get(&node);
        peer.is_some_and(|peer| peer.replication != ReplicationState::Off)
    }

    /// Whether everything that has been started has ended.
    pub(crate) fn is_drained(&self) -> bool {
        let started = |write: &Write<B>| write.started;
        !self.writes.values().any(started)
            && self.reads.len() == self.waiting_reads.len()
            && self.barriers.is_empty()
            && (self.peer_writes.is_empty() || self.keeps_peers_waiting())
            && self.checkpoint == Checkpoint::Idle
    }

    fn keeps_peers_waiting(&self) -> bool {
        self.frozen.holding_peers && self.peer_writes.len() == self.waiting_peer_writes.len()
    }

    /// Whether nothing of this node's own clients is under way.
    pub(crate) fn is_drained_of_own(&self) -> bool {
        let started = |write: &Write<B>| write.started;
        !self.writes.values().any(started) && self.reads.len() == self.waiting_reads.len()
    }

    /// Whether nothing a client asked for is in flight.
    pub(crate) fn is_quiet(&self) -> bool {
        self.writes.is_empty()
            && self.reads.is_empty()
            && self.barriers.is_empty()
            && self.frozen.is_empty()
    }

    /// The same, but for what is done for a peer's clients. That does not depend on this node's
    /// role, and the peer asks for more and more.
    pub(crate) fn is_quiet_of_own(&self) -> bool {
        let barriers = self.barriers.values().map(|barrier| match barrier.purpose {
            BarrierPurpose::Client(requester) => Some(requester),
            _ => None,
        });
        let writes = self.writes.values().map(|write| Some(write.requester));
        let reads = self.reads.values().map(|read| Some(read.requester));
        let mut requesters = writes.chain(reads).chain(barriers);
        requesters.all(|one| one.is_some_and(|one| one.peer().is_some())) && self.frozen.is_empty()
    }
}

/// How a client is told of a disk's error.
pub(crate) fn as_request_error(error: DiskError) -> RequestError {
    match error {
        DiskError::NoSpace => RequestError::NoSpace,
        DiskError::Io | DiskError::Gone => RequestError::Io,
    }
}

/// The words for a disk's error.
pub(crate) fn describe(error: DiskError) -> &'static str {
    match error {
        DiskError::Io => "I/O error",
        DiskError::NoSpace => "no space left on the backing disk",
        DiskError::Gone => "the disk is gone",
    }
}

/// What one second of housekeeping is measured in.
pub(crate) fn elapsed_ms(now: Time, since: Time) -> u64 {
    now.ms_since(since)
}
