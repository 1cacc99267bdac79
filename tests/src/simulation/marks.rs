//! Rare situations, counted by name, so that a simulation that no longer gets into one is noticed.
//!
//! What is told and asked of the engines is looked at from outside; nothing here changes a run.

use std::fmt;

use rbd_engine::{Action, Event, LinkLoss, OperationId};
use rbd_protocol::state::Role;

use super::disk::Payload;
use super::visited::{Between, Disk, situation};
use super::world::World;

/// A situation worth being in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Mark {
    /// A process died while it was the source of a resync.
    SourceDied,
    /// A process died while it was the target of a resync.
    TargetDied,
    /// A machine lost power while it was the source of a resync.
    SourceLostPower,
    /// A machine lost power while it was the target of a resync.
    TargetLostPower,
    /// A node went down while bitmaps were being exchanged.
    DiedInBitmapExchange,
    /// A node went down while connecting or in a handshake.
    DiedInHandshake,
    /// A node lost power again before it had come back into sync.
    PowerLostInRecovery,
    /// A node went down before its first superblock of this life was durable.
    DiedWhileAttaching,
    /// A node went down between a new generation and its durability.
    DiedBeforeGenerationDurable,
    /// The link went between a new generation and its durability.
    LinkLostBeforeGenerationDurable,
    /// A node went down while a superblock was being written.
    DiedInSuperblockWrite,
    /// A node went down while a block of the write-intent log was being written.
    DiedInLogWrite,
    /// A node went down while a page of the bitmap was being written.
    DiedInCheckpoint,
    /// A Primary lost its power.
    PrimaryLostPower,
    /// A Primary lost its power with its peer out of reach or not in sync.
    DegradedPrimaryLostPower,
    /// Both nodes were down at once.
    BothDown,
    /// The link went during a resync.
    LinkLostInResync,
    /// The link went while bitmaps were being exchanged.
    LinkLostInBitmapExchange,
    /// The link went during a handshake.
    LinkLostInHandshake,
    /// The link went while a client's request was under way.
    LinkLostWithRequests,
    /// A link was given up because nothing was heard.
    LinkFoundSilent,
    /// A resync had nothing to copy.
    ResyncOfNothing,
    /// A resync ended.
    ResyncEnded,
    /// A client wrote to the source of a resync.
    WriteToSource,
    /// A client wrote while bitmaps were being exchanged.
    WriteInBitmapExchange,
    /// A client wrote while the peer was out of reach.
    WriteAlone,
    /// A client wrote what was being written already.
    OverlappingWrite,
    /// What a disk could not read was written anew.
    ReadMended,
    /// A client read what was being written.
    ReadOfWriteUnderWay,
    /// A node was promoted while its peer was out of reach.
    PromotedAlone,
    /// A node was promoted while connected.
    PromotedConnected,
    /// A promotion was asked for while metadata was being written.
    PromotionDuringMetadataWrite,
    /// A node was demoted with requests under way.
    DemotedWithRequests,
    /// A node was stopped during a resync.
    StoppedInResync,
    /// A node that stopped in order came back.
    CameBackFromCleanStop,
    /// A disk was attached with marks in its write-intent log.
    AttachedWithMarks,
    /// A disk was attached with something torn on it.
    AttachedTorn,
    /// A node that crashed as Primary came back to a Primary.
    CrashedPrimaryMetSurvivor,
    /// Metadata was moved to the end of a disk that had grown.
    MetadataMoved,
    /// A node went down while metadata was moving and counted where it had been.
    DiedInMove,
    /// A node went down when moved metadata counted, and that was not known to be noted.
    DiedBeforeMoveNoted,
    /// A disk had grown when it was attached, and its metadata was where it had ended.
    AttachedEnlarged,
    /// A disk was attached with metadata in two places.
    AttachedInTwoPlaces,
    /// A node went down while it wiped the place that did not count.
    DiedInWipe,
    /// It could not be noted where metadata had moved to.
    MoveNotNoted,
    /// It could not be noted where metadata was to move to.
    MoveGivenUp,
    /// A disk had grown once more when it was attached, and its metadata was where it had been
    /// moving to.
    AttachedInBetween,
    /// A client wrote a superblock where one had been.
    SuperblockForged,
}

impl Mark {
    /// All of them.
    pub const ALL: [Self; COUNT] = [
        Self::SourceDied,
        Self::TargetDied,
        Self::SourceLostPower,
        Self::TargetLostPower,
        Self::DiedInBitmapExchange,
        Self::DiedInHandshake,
        Self::PowerLostInRecovery,
        Self::DiedWhileAttaching,
        Self::DiedBeforeGenerationDurable,
        Self::LinkLostBeforeGenerationDurable,
        Self::DiedInSuperblockWrite,
        Self::DiedInLogWrite,
        Self::DiedInCheckpoint,
        Self::PrimaryLostPower,
        Self::DegradedPrimaryLostPower,
        Self::BothDown,
        Self::LinkLostInResync,
        Self::LinkLostInBitmapExchange,
        Self::LinkLostInHandshake,
        Self::LinkLostWithRequests,
        Self::LinkFoundSilent,
        Self::ResyncOfNothing,
        Self::ResyncEnded,
        Self::WriteToSource,
        Self::WriteInBitmapExchange,
        Self::WriteAlone,
        Self::OverlappingWrite,
        Self::ReadMended,
        Self::ReadOfWriteUnderWay,
        Self::PromotedAlone,
        Self::PromotedConnected,
        Self::PromotionDuringMetadataWrite,
        Self::DemotedWithRequests,
        Self::StoppedInResync,
        Self::CameBackFromCleanStop,
        Self::AttachedWithMarks,
        Self::AttachedTorn,
        Self::CrashedPrimaryMetSurvivor,
        Self::MetadataMoved,
        Self::DiedInMove,
        Self::DiedBeforeMoveNoted,
        Self::AttachedEnlarged,
        Self::AttachedInTwoPlaces,
        Self::DiedInWipe,
        Self::MoveNotNoted,
        Self::MoveGivenUp,
        Self::AttachedInBetween,
        Self::SuperblockForged,
    ];

    /// Whether metadata has to move for it.
    fn is_of_moves(self) -> bool {
        self as usize >= Self::MetadataMoved as usize
    }
}

/// How many there are.
const COUNT: usize = 48;

/// How often each was hit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks([u64; COUNT]);

impl Default for Marks {
    fn default() -> Self {
        Self([0; COUNT])
    }
}

impl Marks {
    /// How often this one was hit.
    #[must_use]
    pub fn count(&self, mark: Mark) -> u64 {
        self.0[mark as usize]
    }

    pub(super) fn hit(&mut self, mark: Mark) {
        self.0[mark as usize] += 1;
    }

    /// Adds up another run's.
    pub fn add(&mut self, other: &Self) {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum += count;
        }
    }

    /// Those that were never hit, without those for which metadata has to move.
    #[must_use]
    pub fn missing(&self) -> Vec<Mark> {
        let missed = |mark: &Mark| self.count(*mark) == 0 && !mark.is_of_moves();
        Mark::ALL.into_iter().filter(missed).collect()
    }

    /// Those of the others that were never hit.
    #[must_use]
    pub fn missing_of_moves(&self) -> Vec<Mark> {
        let missed = |mark: &Mark| self.count(*mark) == 0 && mark.is_of_moves();
        Mark::ALL.into_iter().filter(missed).collect()
    }
}

impl fmt::Display for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mark in Mark::ALL {
            writeln!(f, "{:>10} {mark:?}", self.count(mark))?;
        }
        let missing = self.missing().len() + self.missing_of_moves().len();
        write!(f, "{} of {COUNT} marks hit", COUNT - missing)
    }
}

/// What is remembered of a node to tell in which situation it is.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Metadata writes under way, by what they write: 1 superblock, 2 log, 3 bitmap.
    metadata: Vec<(OperationId, u8)>,
    /// A superblock has become durable since the process came up.
    attached: bool,
    /// A generation has begun; until the second value's write has ended it is not durable.
    generation: Option<Option<OperationId>>,
    /// It has lost its power and has not been in sync since.
    recovering: bool,
    /// It was stopped in order.
    stopped: bool,
}

impl World {
    /// An engine is about to be told something.
    pub(super) fn watch_event(&mut self, node: usize, event: &Event<Payload>) {
        match event {
            Event::MetaDone { id, .. } => {
                let watch = &mut self.watches[node];
                watch.metadata.retain(|(other, _)| other != id);
                watch.attached = true;
                if watch.generation == Some(Some(*id)) {
                    watch.generation = None;
                }
            }
            Event::LinkDown { loss, .. } => {
                if self.watches[node].generation.is_some() {
                    self.hit(Mark::LinkLostBeforeGenerationDurable);
                }
                if *loss == LinkLoss::Timeout {
                    self.hit(Mark::LinkFoundSilent);
                }
                if self
                    .operations
                    .values()
                    .any(|operation| operation.node == node)
                {
                    self.hit(Mark::LinkLostWithRequests);
                }
                match self.between(node, 0) {
                    Between::Source | Between::Target => self.hit(Mark::LinkLostInResync),
                    Between::BitmapSource | Between::BitmapTarget => {
                        self.hit(Mark::LinkLostInBitmapExchange);
                    }
                    Between::Connecting => self.hit(Mark::LinkLostInHandshake),
                    Between::Alone | Between::Idle | Between::Established => {}
                }
            }
            _ => {}
        }
    }

    /// An engine has asked for something.
    pub(super) fn watch_action(&mut self, node: usize, action: &Action<Payload>) {
        match action {
            Action::Meta { id, block, .. } => {
                let kind = block[KIND_AT];
                let watch = &mut self.watches[node];
                watch.metadata.push((*id, kind));
                if kind == SUPERBLOCK && watch.generation == Some(None) {
                    watch.generation = Some(Some(*id));
                }
            }
            Action::Report(change) => {
                if change.text.starts_with("new current generation") {
                    self.watches[node].generation = Some(None);
                } else if change.text.starts_with("resync begins: 0 bytes") {
                    self.hit(Mark::ResyncOfNothing);
                } else if change.text.starts_with("what could not be read") {
                    self.hit(Mark::ReadMended);
                } else if change.text.starts_with("resync done") {
                    self.watches[node].recovering = false;
                    self.hit(Mark::ResyncEnded);
                }
            }
            _ => {}
        }
    }

    /// A process is about to die, or a machine to lose its power.
    pub(super) fn watch_death(&mut self, node: usize, power: bool) {
        let Some(status) = self.nodes[node].status(self.time(node)) else {
            if power {
                self.watches[node].recovering = true;
            }
            return;
        };
        if self.watches[node].stopped {
            return; // it had come to rest
        }
        self.watch_death_in_move(node);
        let here = situation(&status, 0);
        let watch = std::mem::take(&mut self.watches[node]);
        let writes = |kind| watch.metadata.iter().any(|(_, other)| *other == kind);
        let down = self.nodes[1 - node].engine.is_none();
        let in_resync = matches!(here.between, Between::Source | Between::Target);
        let in_sync = here.between == Between::Established && here.disk == Disk::Good;
        for (is_so, mark) in [
            (!power && here.between == Between::Source, Mark::SourceDied),
            (!power && here.between == Between::Target, Mark::TargetDied),
            (
                power && here.between == Between::Source,
                Mark::SourceLostPower,
            ),
            (
                power && here.between == Between::Target,
                Mark::TargetLostPower,
            ),
            (
                matches!(here.between, Between::BitmapSource | Between::BitmapTarget),
                Mark::DiedInBitmapExchange,
            ),
            (here.between == Between::Connecting, Mark::DiedInHandshake),
            (
                power && watch.recovering && !in_sync,
                Mark::PowerLostInRecovery,
            ),
            (
                !watch.attached && here.disk != Disk::None,
                Mark::DiedWhileAttaching,
            ),
            (
                watch.generation.is_some(),
                Mark::DiedBeforeGenerationDurable,
            ),
            (writes(SUPERBLOCK), Mark::DiedInSuperblockWrite),
            (writes(LOG), Mark::DiedInLogWrite),
            (writes(BITMAP), Mark::DiedInCheckpoint),
            (power && here.primary, Mark::PrimaryLostPower),
            (
                power && here.primary && !in_sync && !in_resync,
                Mark::DegradedPrimaryLostPower,
            ),
            (down, Mark::BothDown),
        ] {
            if is_so {
                self.hit(mark);
            }
        }
        self.watches[node].recovering = power || (watch.recovering && !in_sync);
    }

    /// A disk is about to be attached.
    pub(super) fn watch_attach(&mut self, node: usize, image: &rbd_protocol::metadata::Image) {
        if image.hot_regions.iter().any(|regions| !regions.is_empty()) {
            self.hit(Mark::AttachedWithMarks);
        }
        if !image.damage.is_empty() {
            self.hit(Mark::AttachedTorn);
        }
        if image.superblock.flags.clean_shutdown && std::mem::take(&mut self.watches[node].stopped)
        {
            self.hit(Mark::CameBackFromCleanStop);
        }
        if image.superblock.flags.primary && self.nodes[1 - node].is_primary() {
            self.hit(Mark::CrashedPrimaryMetSurvivor);
        }
    }

    /// A node was stopped in order.
    pub(super) fn watch_stopped(&mut self, node: usize) {
        self.watches[node].stopped = true;
    }

    /// A node is about to be stopped or to change its role; `role` is the one it is to have.
    pub(super) fn watch_order(&mut self, node: usize, role: Option<Role>) {
        let requests = self
            .operations
            .values()
            .any(|operation| operation.node == node);
        let between = self.between(node, 0);
        match role {
            Some(Role::Primary) => {
                if !self.watches[node].metadata.is_empty() {
                    self.hit(Mark::PromotionDuringMetadataWrite);
                }
            }
            Some(_) if requests => self.hit(Mark::DemotedWithRequests),
            None if matches!(between, Between::Source | Between::Target) => {
                self.hit(Mark::StoppedInResync);
            }
            Some(_) | None => {}
        }
    }

    /// A node has become Primary.
    pub(super) fn watch_promoted(&mut self, node: usize) {
        let mark = match self.between(node, 0) {
            Between::Alone | Between::Connecting => Mark::PromotedAlone,
            _ => Mark::PromotedConnected,
        };
        self.hit(mark);
    }

    /// A client is about to read or to write where something is being written already, or not.
    /// Only some are looked at closely, for what that costs.
    pub(super) fn watch_client(&mut self, node: usize, volume: usize, writes: bool, busy: bool) {
        if busy {
            self.hit(if writes {
                Mark::OverlappingWrite
            } else {
                Mark::ReadOfWriteUnderWay
            });
        }
        if !writes || !self.next_name.is_multiple_of(8) {
            return;
        }
        match self.between(node, volume) {
            Between::Source => self.hit(Mark::WriteToSource),
            Between::BitmapSource => self.hit(Mark::WriteInBitmapExchange),
            Between::Alone | Between::Connecting => self.hit(Mark::WriteAlone),
            _ => {}
        }
    }

    pub(super) fn hit(&mut self, mark: Mark) {
        self.report.marks.hit(mark);
    }

    fn between(&self, node: usize, volume: usize) -> Between {
        let status = self.nodes[node].status(self.time(node));
        status.map_or(Between::Alone, |status| situation(&status, volume).between)
    }
}

/// Where a metadata block says what it is, and the numbers it says.
const KIND_AT: usize = 10;
const SUPERBLOCK: u8 = 1;
const LOG: u8 = 2;
const BITMAP: u8 = 3;
