//! One volume as seen on one peer: what the peer's copy is known to be, and what it may lack.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use rbd_protocol::control::{Pauses, ResyncOptions};
use rbd_protocol::ids::{ByteRange, GenerationId, NodeId};
use rbd_protocol::peer::Digest;
use rbd_protocol::state::{DiskState, ReplicationState};

use crate::bitmap::{Bitmap, page_of};
use crate::contract::{LinkId, Time};
use crate::volume::{Asked, Crossing, Held, LeftOut, Pace, ResyncWindow, Told, Verify};

/// One volume on one peer.
#[derive(Clone, Debug)]
pub(crate) struct PeerDevice {
    pub(crate) node: NodeId,
    /// The link over which this volume is replicated; `None` before the handshake is done.
    pub(crate) link: Option<LinkId>,
    /// A greeting has been sent and not been answered: what it said must stay true.
    pub(crate) handshaking: bool,
    /// Its data may be shown to clients of this node.
    pub(crate) serves: bool,
    /// Its generation when the link came up.
    pub(crate) current: GenerationId,
    /// Counts what it has done for clients of this node that need not be durable there, and what
    /// of it is.
    pub(crate) remote_written: u64,
    pub(crate) remote_stable: u64,
    /// It has come back without power in between, and may have lost what it had done for clients
    /// of this node.
    pub(crate) has_lost: bool,
    /// The question whose answer says that the peer has heard of the end of a resync after which
    /// this Primary's clients are served from the own disk.
    pub(crate) takes_note: Option<u64>,
    pub(crate) replication: ReplicationState,
    pub(crate) peer_disk: DiskState,
    /// The peer was the target of a resync when it went out of reach: it may have finished without
    /// this node's having heard of it, whatever is remembered of its disk.
    pub(crate) may_be_whole: bool,
    /// It is connected without its disk, and has been fenced.
    pub(crate) is_fenced_diskless: bool,
    /// It went out of reach with writes it may lack, since both were last in sync.
    pub(crate) lacks_writes: bool,
    /// Blocks the peer may lack or have otherwise.
    pub(crate) bitmap: Bitmap,
    /// Writes the peer has acknowledged and not yet made durable, oldest first (B5).
    pub(crate) unstable: VecDeque<Unstable>,
    /// How many of them a client wrote.
    pub(crate) unstable_writes: usize,
    pub(crate) next_unstable: u64,
    /// Pages on disk that mark unstable blocks as dirty, to be safe.
    pub(crate) saved_with_unstable: BTreeSet<u32>,
    /// The superblock version that records that this peer is behind.
    pub(crate) behind_since_version: u64,
    pub(crate) source: Source,
    pub(crate) target: Option<Target>,
    /// `before-resync-target` has ended well for the resync to come, or under way.
    pub(crate) is_prepared: bool,
    /// The verify this node leads against it.
    pub(crate) verify: Option<Verify>,
    /// What it has asked for in a verify it leads.
    pub(crate) held: BTreeMap<u64, Held>,
    /// When it last did.
    pub(crate) verify_asked: Option<Time>,
    /// Where the last verify this node led was ended, and the next one goes on.
    pub(crate) verify_next: u64,
    pub(crate) resync_options: ResyncOptions,
    pub(crate) resync_total_bytes: u64,
    pub(crate) resync_started: Time,
    /// As a target, ask only for blocks that differ (`csums-alg`).
    pub(crate) compare_first: bool,
    /// What of the resync did not have to be sent: equal blocks, and zeroes, in bytes.
    pub(crate) same_bytes: u64,
    pub(crate) zero_bytes: u64,
    /// Who holds resyncs back: the own part outlives links, the peer's is told over each anew.
    pub(crate) pauses: Pauses,
    /// What it has been told of this node's part in a resync, over this link.
    pub(crate) told: Told,
    /// How fast a resync is.
    pub(crate) pace: Pace,
    /// What it could not read as the source of a resync that was interrupted.
    pub(crate) left_out: LeftOut,
    /// The order of writes of both nodes.
    pub(crate) crossing: Crossing,
    pub(crate) sent_bytes: u64,
    pub(crate) received_bytes: u64,
}

/// What a peer has and may not have made durable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unstable {
    /// Counts up, so that a barrier can say what it covers.
    sequence: u64,
    pub(crate) range: ByteRange,
    origin: Origin,
}

/// How a peer came by what it may not have made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It has acknowledged a client's write.
    Write,
    /// It has acknowledged resync data, which the end of the resync makes durable.
    ResyncTarget,
    /// It has sent it as resync data: were it to lose that, only this node would know where.
    ResyncSource,
}

/// This node's part when it is the source of a resync.
#[derive(Clone, Debug, Default)]
pub(crate) struct Source {
    /// Own bitmap has been sent.
    pub(crate) bitmap_sent: bool,
    /// The peer's bitmap has been received and joined: the peer is durably a target.
    pub(crate) bitmap_received: bool,
    /// The peer is a Primary whose clients this node serves until its disk is whole.
    pub(crate) fills_primary: bool,
    /// Something has been left out that cannot be read here: people have been told.
    pub(crate) cannot_read: bool,
    /// A client's write has failed here and gone to the target: what it covered is marked, and the
    /// target does not know of that.
    pub(crate) has_failed_writes: bool,
    /// The generation the peer counts from, until it has been recorded that it is behind.
    pub(crate) unrecorded: Option<GenerationId>,
    /// Requests of the target not yet answered, by its name for them.
    pub(crate) reads: BTreeMap<u64, SourceRead>,
}

/// One range the target has asked for, until all of it has been answered.
#[derive(Clone, Debug)]
pub(crate) struct SourceRead {
    pub(crate) range: ByteRange,
    /// What the target has there, if only what differs is to be sent.
    pub(crate) digests: Vec<Digest>,
    /// Bytes not answered yet.
    pub(crate) left: u64,
    /// The disk read is under way: overlapping writes wait until its data has been sent (E2).
    pub(crate) started: bool,
    /// When it was asked for.
    pub(crate) at: Time,
}

/// What a target waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outstanding {
    pub(crate) range: ByteRange,
    pub(crate) asked: Asked,
    pub(crate) question: Question,
    /// Bytes that have not come yet.
    pub(crate) to_come: u64,
    /// Bytes that are not on the disk yet.
    pub(crate) left: u64,
}

/// What the source has been asked about a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// Nothing: the own blocks are being read, to be compared.
    NotYet,
    WhatIsThere,
    /// What differs from the own blocks.
    WhatDiffers,
}

/// This node's part when it is the target of a resync.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// That this disk is inconsistent is durable from this superblock version on (E1).
    pub(crate) inconsistent_version: u64,
    /// Own bitmap has been sent.
    pub(crate) bitmap_sent: bool,
    /// The source's generation, once its bitmap is complete.
    pub(crate) generation: Option<GenerationId>,
    /// Ranges asked for and not yet on the disk.
    pub(crate) outstanding: BTreeMap<u64, Outstanding>,
    /// Only blocks that differ are asked for.
    pub(crate) compares: bool,
    pub(crate) outstanding_bytes: u64,
    /// How much that may be.
    pub(crate) window: ResyncWindow,
    /// What the source cannot read.
    pub(crate) left_out: LeftOut,
    /// Where to look for the next dirty block.
    pub(crate) cursor: u64,
    pub(crate) finish: Finish,
}

/// The end of a resync at the target, step by step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// Blocks are still missing.
    NotYet,
    /// Nothing is missing; what clients here have asked of the source has to end first.
    Draining,
    /// Everything is written; the disk is being flushed.
    Flushing,
    /// The new state is being written to the superblock, in this version.
    Recording(u64),
}

impl PeerDevice {
    pub(crate) fn new(node: NodeId) -> Self {
        Self {
            node,
            link: None,
            handshaking: false,
            serves: false,
            current: GenerationId::NONE,
            remote_written: 0,
            remote_stable: 0,
            has_lost: false,
            takes_note: None,
            replication: ReplicationState::Off,
            peer_disk: DiskState::DUnknown,
            may_be_whole: false,
            is_fenced_diskless: false,
            lacks_writes: false,
            bitmap: Bitmap::new(0),
            unstable: VecDeque::new(),
            unstable_writes: 0,
            next_unstable: 0,
            saved_with_unstable: BTreeSet::new(),
            behind_since_version: 0,
            source: Source::default(),
            target: None,
            is_prepared: false,
            verify: None,
            held: BTreeMap::new(),
            verify_asked: None,
            verify_next: 0,
            resync_options: ResyncOptions::default(),
            resync_total_bytes: 0,
            resync_started: Time(0),
            compare_first: false,
            same_bytes: 0,
            zero_bytes: 0,
            pauses: Pauses::default(),
            told: Told::default(),
            pace: Pace::default(),
            left_out: LeftOut::default(),
            crossing: Crossing::default(),
            sent_bytes: 0,
            received_bytes: 0,
        }
    }

    /// Whether writes go to this peer at this moment. If not, they are marked out of sync: never
    /// both, never neither (A3).
    pub(crate) fn is_mirrored(&self) -> bool {
        let replicating = matches!(
            self.replication,
            ReplicationState::Established
                | ReplicationState::WFBitMapS
                | ReplicationState::SyncSource
        );
        replicating && self.link.is_some() && self.has_disk()
    }

    /// Whether the peer has a disk that can take writes.
    pub(crate) fn has_disk(&self) -> bool {
        is_disk(self.peer_disk)
    }

    /// Whether this node feeds the peer's resync.
    pub(crate) fn is_resync_source(&self) -> bool {
        matches!(
            self.replication,
            ReplicationState::WFBitMapS | ReplicationState::SyncSource
        )
    }

    /// The peer has this range and may not have made it durable.
    pub(crate) fn note_unstable(&mut self, range: ByteRange, origin: Origin) {
        self.next_unstable += 1;
        self.unstable_writes += usize::from(origin == Origin::Write);
        self.unstable.push_back(Unstable {
            sequence: self.next_unstable,
            range,
            origin,
        });
    }

    /// Everything noted so far up to this point has been made durable.
    pub(crate) fn retire_unstable(&mut self, up_to: u64) {
        while let Some(first) = self.unstable.front().copied()
            && first.sequence <= up_to
        {
            self.unstable.pop_front();
            self.unstable_writes -= usize::from(first.origin == Origin::Write);
            self.save_again(first.range);
        }
    }

    /// The resync is over, and the peer has made all of its data durable.
    pub(crate) fn retire_resynced(&mut self) {
        let all = core::mem::take(&mut self.unstable);
        let (resynced, rest) = all
            .into_iter()
            .partition(|entry| entry.origin == Origin::ResyncTarget);
        self.unstable = rest;
        let resynced: VecDeque<Unstable> = resynced;
        for entry in resynced {
            self.save_again(entry.range);
        }
    }

    /// The disk is another one: nothing is known of what the peer has.
    pub(crate) fn forget_unstable(&mut self) {
        self.unstable.clear();
        self.unstable_writes = 0;
        self.saved_with_unstable.clear();
    }

    /// Pages that were saved with marks for this range may be saved without.
    fn save_again(&mut self, range: ByteRange) {
        for page in [
            page_of(range.offset),
            page_of(range.end().saturating_sub(1)),
        ] {
            if self.saved_with_unstable.remove(&page) {
                self.bitmap.note_unsaved(page);
            }
        }
    }

    /// Marks everything that may not be durable on the peer. Tells whether any of it is a client's
    /// write: what a resync copied is told from the peer's data by the generation it began with.
    pub(crate) fn mark_unstable_dirty(&mut self) -> bool {
        let mut written = false;
        self.unstable_writes = 0;
        for entry in core::mem::take(&mut self.unstable) {
            self.bitmap.set_touched(entry.range);
            written |= entry.origin == Origin::Write;
        }
        written
    }

    /// A resync begins.
    pub(crate) fn forget_saved(&mut self) {
        self.same_bytes = 0;
        self.zero_bytes = 0;
    }

    /// How much of a resync did not have to be sent, for people.
    pub(crate) fn saved(&self) -> String {
        match (self.same_bytes, self.zero_bytes) {
            (0, 0) => String::new(),
            (same, zero) => alloc::format!(
                "; not sent: {same} bytes that were the same, {zero} bytes of zeroes"
            ),
        }
    }

    /// Bytes that may differ.
    pub(crate) fn out_of_sync_bytes(&self) -> u64 {
        self.bitmap.count() * u64::from(rbd_protocol::ids::BLOCK_SIZE)
    }
}

impl Target {
    pub(crate) fn new(inconsistent_version: u64, compares: bool, left_out: LeftOut) -> Self {
        Self {
            inconsistent_version,
            bitmap_sent: false,
            generation: None,
            outstanding: BTreeMap::new(),
            outstanding_bytes: 0,
            compares,
            window: ResyncWindow::new(),
            left_out,
            cursor: 0,
            finish: Finish::NotYet,
        }
    }
}

/// Whether a connected peer whose disk is in this state has one that can take writes.
pub(crate) fn is_disk(state: DiskState) -> bool {
    matches!(
        state,
        DiskState::Inconsistent | DiskState::Outdated | DiskState::Consistent | DiskState::UpToDate
    )
}
