//! The two greetings, and what they mean for each volume.
//!
//! A greeting is sent when all it says is durable (D5) and nothing of an older link is in flight
//! (A7). From then on until the peer's has come, the generations stay as sent.

use alloc::boxed::Box;
use alloc::vec::Vec;

use rbd_protocol::ids::{GenerationId, NodeId, VolumeNumber};
use rbd_protocol::peer::{Hello, HelloVolume, Packet};
use rbd_protocol::state::{ConnectionState, DiskState, ReplicationState, Role};

use super::Resource;
use super::objection::Objection;
use super::served::{meet_diskless, meet_server};
use crate::connection::{Fence, Phase, Tentative};
use crate::contract::{Level, LinkId};
use crate::decide::{self, Conflict, Side, Verdict, decide};
use crate::local_disk::LocalDisk;
use crate::peer_device::is_disk;
use crate::volume::Volume;

/// What was decided on one volume.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decided {
    pub(super) number: VolumeNumber,
    peer_disk: DiskState,
    peer_current: GenerationId,
    peer_bitmap: GenerationId,
    peer_size: (u64, u32),
    pub(super) verdict: Verdict,
    /// An order or a policy had to choose.
    is_split: bool,
}

impl Decided {
    /// Whether the peer has gone on from this generation, and nobody has to be asked about that.
    pub(super) fn is_newer_than(&self, own: GenerationId) -> bool {
        let is_target = matches!(self.verdict, Verdict::Target { .. });
        is_target && !self.is_split && self.peer_current != own
    }

    fn keeps_own(&self) -> bool {
        matches!(self.verdict, Verdict::Source { .. })
    }
}

impl<B: Clone> Resource<B> {
    /// Sends the greetings that have become due, and decides where both are known.
    pub(super) fn advance_handshakes(&mut self) {
        let preparing: Vec<NodeId> = self
            .connections
            .values()
            .filter(|peer| {
                peer.link
                    .as_ref()
                    .is_some_and(|link| matches!(link.phase, Phase::Preparing { .. }))
            })
            .map(super::Connection::node)
            .collect();
        for node in preparing {
            if self.is_ready_to_greet(node) {
                self.greet(node);
            }
        }
    }

    fn is_ready_to_greet(&self, node: NodeId) -> bool {
        // A promotion being recorded can no longer be refused: a greeting that still said Secondary
        // could make a Primary the target (D7).
        if self.is_recording_promotion() {
            return false;
        }
        self.volumes.values().all(|volume| {
            // A Primary that has not gone on alone may be told to fill its disk from another one.
            let peer = volume.peers.get(&node);
            let went_on = peer.is_some_and(|peer| volume.is_left_behind(peer));
            let may_be_filled = self.role == Role::Primary && self.is_told_of_two(node) && !went_on;
            let at_work = may_be_filled && volume.is_on_disk();
            let quiet = !at_work
                && !volume.peer_writes.values().any(|write| write.peer == node)
                && !volume.works_for(node)
                && !volume.frozen.holding;
            quiet && volume.local.as_ref().is_none_or(LocalDisk::is_settled)
        })
    }

    fn greet(&mut self, node: NodeId) {
        let asks_first = self.asks_first(node);
        let two_primaries = self.is_told_of_two(node);
        let Some(connection) = self.connections.get_mut(&node) else {
            return;
        };
        if connection.link.is_none() {
            return;
        }
        let condemned = connection.condemned(self.cx.now);
        let hello = Hello {
            role: self.role,
            incarnation: self.incarnation,
            boot: self.boot,
            seen_incarnation: connection.seen_incarnation,
            tenure: self.tenure,
            condemned_tenure: condemned.map_or(0, |shown| shown.tenure),
            policies: connection.config.net.split,
            tentative: connection.tentative == Tentative::Wanted || asks_first,
            discard_my_data: connection.discard_my_data,
            two_primaries,
            volumes: self
                .volumes
                .values()
                .map(|volume| HelloVolume {
                    condemned: condemned.map_or(GenerationId::NONE, |shown| {
                        shown.generation_of(volume.number)
                    }),
                    ..describe(volume, node)
                })
                .collect(),
        };
        let sent = Box::new(hello.clone());
        let Some(link) = &mut connection.link else {
            return;
        };
        let before = core::mem::replace(&mut link.phase, Phase::AwaitHello { sent });
        let id = link.id;
        for volume in self.volumes.values_mut() {
            // By this greeting the peer may find itself UpToDate, even if this node never hears
            // of it, unless the generations tell that it is behind.
            let told_apart = volume
                .peers
                .get(&node)
                .is_some_and(|peer| volume.is_left_behind(peer));
            if let Some(peer) = volume.peers.get_mut(&node) {
                peer.handshaking = true;
                peer.may_be_whole |= !told_apart;
            }
        }
        self.cx.send(node, id, Packet::Hello(Box::new(hello)), None);
        if let Phase::Preparing {
            theirs: Some(theirs),
        } = before
        {
            self.hello(node, theirs);
        }
    }

    /// The peer's greeting.
    pub(super) fn hello(&mut self, node: NodeId, theirs: Box<Hello>) {
        let Some(connection) = self.connections.get_mut(&node) else {
            return;
        };
        let Some(link) = &mut connection.link else {
            return;
        };
        if theirs.role != Role::Primary {
            connection.was_primary = false;
            connection.may_answer_until = None;
        }
        match &mut link.phase {
            Phase::Preparing {
                theirs: slot @ None,
            } => *slot = Some(theirs),
            Phase::AwaitHello { sent } => {
                let sent = sent.clone();
                self.decide_volumes(node, &sent, &theirs);
            }
            Phase::Preparing { theirs: Some(_) } | Phase::Connected => {
                self.violation(node, "a second greeting");
            }
            Phase::Closing => {}
        }
    }

    fn decide_volumes(&mut self, node: NodeId, sent: &Hello, theirs: &Hello) {
        let outcome = self.compare_volumes(node, sent, theirs);
        if self.ends_early(node, sent, theirs, &outcome) {
            return;
        }
        let meeting = self.meeting(node, sent, theirs);
        self.tell_of_split_brain(node, &meeting);
        let verdicts = match outcome {
            Ok(verdicts) => verdicts,
            Err(objection) => {
                self.refuse_link(node, objection, meeting);
                return;
            }
        };
        if self.is_unprepared(node, &verdicts) {
            return;
        }
        if theirs.role == Role::Primary {
            self.note_overtaken();
        }
        let Some(connection) = self.connections.get_mut(&node) else {
            return;
        };
        let Some(link) = &mut connection.link else {
            return;
        };
        link.phase = Phase::Connected;
        link.peer_incarnation = theirs.incarnation;
        let id = link.id;
        let known = connection.meets_again(theirs);
        let two_primaries = sent.two_primaries && theirs.two_primaries;
        connection.two_primaries = two_primaries;
        connection.peer_role = theirs.role;
        connection.forget_orders();
        connection.tentative = Tentative::No;
        connection.refused = None;
        connection.reconsider = false;
        connection.enter(ConnectionState::Connected, "", self.cx.now);
        let disks = sent
            .volumes
            .iter()
            .map(|volume| (volume.number, volume.disk))
            .collect();
        connection.told = Some((sent.role, disks));
        if verdicts
            .iter()
            .any(|entry| matches!(entry.verdict, Verdict::Target { .. }))
        {
            connection.seen_incarnation = 0;
        }
        self.cx.report(Level::Info, Some(node), None, "connected");
        let own_is_later = self.config.node_id < node;
        for decided in verdicts {
            if let Some(volume) = self.volumes.get_mut(&decided.number) {
                volume.begin_counting(node, two_primaries, own_is_later);
                if !known.0 {
                    volume.forget_done_for(node);
                }
            }
            self.meet_volume((node, id), theirs.role, decided, known);
        }
        self.invalidation_met(node);
        if self.is_there(node)
            && let Some(connection) = self.connections.get_mut(&node)
        {
            connection.fence = Fence::Idle;
        }
    }

    /// What was decided on a volume takes effect.
    fn meet_volume(
        &mut self,
        (node, link): (NodeId, LinkId),
        peer_role: Role,
        decided: Decided,
        known: (bool, bool),
    ) {
        let Decided {
            number,
            peer_disk,
            peer_current,
            verdict,
            ..
        } = decided;
        let Some(volume) = self.volumes.get_mut(&number) else {
            return;
        };
        volume.note_lost_by(node, known.1);
        let serves = volume.may_be_served(node, (peer_current, decided.peer_bitmap), known.0);
        volume.note_size(decided.peer_size, serves);
        if let Some(peer) = volume.peers.get_mut(&node) {
            peer.link = Some(link);
            peer.handshaking = false;
            peer.serves = serves;
            peer.current = peer_current;
            peer.peer_disk = peer_disk;
            peer.may_be_whole = false;
        }
        if let Some(local) = &mut volume.local
            && is_disk(peer_disk)
        {
            local.note_peer_outdated(node, false); // from here on it can become UpToDate
        }
        apply(volume, node, verdict, peer_current, &mut self.cx);
        if let Some(peer) = volume.peers.get_mut(&node) {
            peer.source.fills_primary =
                peer_role == Role::Primary && matches!(verdict, Verdict::Source { .. });
        }
        if verdict == Verdict::NoDisk && volume.local.is_some() {
            meet_diskless(volume, node, peer_role, &mut self.cx);
        }
        if volume.role == Role::Primary && !volume.has_own_data() {
            meet_server(volume, node, verdict, &mut self.cx);
        }
    }

    /// Whether the link is not to be used: it was only a question, or the sizes must change first.
    fn ends_early(
        &mut self,
        node: NodeId,
        sent: &Hello,
        theirs: &Hello,
        outcome: &Result<Vec<Decided>, Objection>,
    ) -> bool {
        if sent.tentative || theirs.tentative {
            self.end_tentative(node, sent, outcome);
            return true;
        }
        outcome.is_ok() && self.agree_on_sizes(node, sent, theirs)
    }

    /// The verdict on every volume, or why this link must not be.
    fn compare_volumes(
        &mut self,
        node: NodeId,
        sent: &Hello,
        theirs: &Hello,
    ) -> Result<Vec<Decided>, Objection> {
        if sent.volumes.len() != theirs.volumes.len() {
            return Err(Objection::of_configuration(alloc::format!(
                "the peer has {} volumes, this node {}: the configurations differ",
                theirs.volumes.len(),
                sent.volumes.len()
            )));
        }
        let mut verdicts = Vec::new();
        for own in &sent.volumes {
            let Some(peer) = theirs
                .volumes
                .iter()
                .find(|theirs| theirs.number == own.number)
            else {
                let number = own.number;
                return Err(Objection::of_configuration(alloc::format!(
                    "the peer has no {number:?}: the configurations differ"
                )));
            };
            let (own_side, peer_side) = self.sides(node, (sent, own), (theirs, peer));
            let verdict = decide(own_side, peer_side);
            let text = alloc::format!("decided {verdict:?} from own {own:?}, the peer's {peer:?}");
            self.cx
                .report(Level::Debug, Some(node), Some(own.number), text);
            if let Verdict::Refuse(conflict) = verdict {
                return Err(Objection::of_data(conflict));
            }
            decide::agree(own, peer).map_err(Objection::of_configuration)?;
            verdicts.push(Decided {
                number: own.number,
                peer_disk: peer.disk,
                peer_current: peer.current,
                peer_bitmap: peer.bitmap,
                peer_size: (peer.size_bytes, peer.block_bytes),
                verdict,
                is_split: decide::is_split_brain(own_side, peer_side) && !is_torn(own, peer),
            });
        }
        let kept = |decided: &&Decided| decided.is_split;
        let mut directions = verdicts.iter().filter(kept).map(Decided::keeps_own);
        if let Some(first) = directions.next()
            && directions.any(|other| other != first)
        {
            return Err(Objection::of_data(Conflict::VolumesDisagree));
        }
        Ok(verdicts)
    }

    pub(super) fn sides<'a>(
        &self,
        node: NodeId,
        own: (&'a Hello, &'a HelloVolume),
        peer: (&'a Hello, &'a HelloVolume),
    ) -> (Side<'a>, Side<'a>) {
        let own = Side {
            node: self.config.node_id,
            hello: own.0,
            volume: own.1,
        };
        let peer = Side {
            node,
            hello: peer.0,
            volume: peer.1,
        };
        (own, peer)
    }

    /// Remembers that both nodes are in sync in these incarnations of theirs.
    pub(super) fn note_seen(&mut self) {
        for connection in self.connections.values_mut() {
            let Some(link) = &connection.link else {
                continue;
            };
            if !matches!(link.phase, Phase::Connected)
                || connection.seen_incarnation == link.peer_incarnation
            {
                continue;
            }
            let node = connection.config.node_id;
            let in_sync = self.volumes.values().all(|volume| {
                volume.peers.get(&node).is_some_and(|peer| {
                    peer.replication == ReplicationState::Established
                        && peer.peer_disk == DiskState::UpToDate
                        && volume.disk == DiskState::UpToDate
                })
            });
            if in_sync {
                connection.seen_incarnation = link.peer_incarnation;
            }
        }
    }
}

fn apply<B: Clone>(
    volume: &mut Volume<B>,
    node: NodeId,
    verdict: Verdict,
    peer_current: GenerationId,
    cx: &mut crate::context::Context<B>,
) {
    volume.sizes_agree(verdict);
    match verdict {
        Verdict::NoSync => {
            let fresh = volume.local.as_ref().is_some_and(LocalDisk::is_fresh);
            if let Some(peer) = volume.peers.get_mut(&node) {
                peer.replication = ReplicationState::Established;
                if !fresh {
                    peer.peer_disk = DiskState::UpToDate;
                }
            }
            if !fresh {
                volume.set_disk_state(DiskState::UpToDate, "", cx);
                volume.note_in_sync(node, cx);
            }
        }
        Verdict::NoDisk => {
            volume.missed_writes |= volume.local.is_none();
            if let Some(peer) = volume.peers.get_mut(&node) {
                peer.replication = ReplicationState::Off;
            }
        }
        Verdict::Source { full } => {
            if volume.disk < DiskState::UpToDate {
                volume.set_disk_state(DiskState::UpToDate, "", cx);
            }
            volume.become_source(node, full, peer_current, cx);
        }
        Verdict::Target { full } => {
            let own = volume.local.as_ref().map(LocalDisk::current);
            volume.is_overtaken |= own != Some(peer_current);
            volume.become_target(node, full, cx);
        }
        Verdict::Refuse(_) => {}
    }
    volume.unsettled = true;
}

fn describe<B: Clone>(volume: &Volume<B>, node: NodeId) -> HelloVolume {
    let local = volume.local.as_ref();
    let peer = volume.peers.get(&node);
    let bitmap = local.map_or_else(Default::default, |local| local.bitmap_generation(node));
    let (was_primary, counted_since) = local
        .filter(|_| !bitmap.is_none())
        .map_or((false, 0), |local| local.counting(node));
    HelloVolume {
        number: volume.number,
        size_bytes: local.map_or(0, LocalDisk::size_bytes),
        capacity_bytes: volume.capacity_bytes(),
        block_bytes: volume.block_bytes(),
        disk: volume.disk,
        current: volume.shown_generation(),
        bitmap,
        was_primary,
        counted_since,
        history: local.map_or_else(Vec::new, LocalDisk::history),
        dirty_blocks: peer.map_or(0, |peer| peer.bitmap.count()),
        crashed_primary: local.is_some_and(LocalDisk::crashed_primary),
        condemned: Default::default(),
        was_resync_target: volume.disk == DiskState::Inconsistent,
        kept_power: local.is_some_and(LocalDisk::kept_power),
    }
}

fn is_torn(own: &HelloVolume, peer: &HelloVolume) -> bool {
    own.disk == DiskState::Inconsistent || peer.disk == DiskState::Inconsistent
}
