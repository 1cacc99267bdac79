//! A volume that grows by command while everything else goes on.
//!
//! In order: both nodes look how large their disks are now; the peer takes the size both have room
//! for and says so when that is durable; this node takes it; the link is made anew, and the
//! handshake has the new part copied. Wherever that is cut short, the node whose disk says less
//! takes the larger size at the next handshake. What was never written is out of sync, unless it is
//! to be taken for clean.

use alloc::string::String;

use rbd_protocol::control::{Refusal, RefusalCode};
use rbd_protocol::ids::{BLOCK_SIZE, NodeId, VolumeNumber};
use rbd_protocol::metadata::Layout;
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{DiskState, ReplicationState};

use super::Resource;
use crate::context::Operation;
use crate::contract::{CallId, DiskError, DiskMeasure, Level, LinkId, OperationId, Time};
use crate::volume::Volume;

/// A volume that grows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resizing {
    volume: VolumeNumber,
    /// The peer that grows, too; a volume without peers grows alone.
    peer: Option<(NodeId, LinkId)>,
    who: Who,
    assume_clean: bool,
    step: Step,
    deadline: Time,
}

impl Resizing {
    pub(super) fn is_of(&self, volume: VolumeNumber) -> bool {
        self.volume == volume
    }
}

/// Who wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// An administrator of this node.
    Call(CallId),
    /// The peer, whose disk has room for so much.
    Peer { request: u64, capacity: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The own disk is looked at.
    Measuring,
    /// The peer has been asked.
    AwaitPeer { request: u64 },
    /// The larger size is being recorded.
    Recording { before: u64, bytes: u64 },
}

impl<B: Clone> Resource<B> {
    pub(super) fn start_resize(
        &mut self,
        call: CallId,
        number: VolumeNumber,
        assume_clean: bool,
    ) -> Result<(), Refusal> {
        self.refuse_another_change()?;
        let name = alloc::format!("{}/{number}", self.config.name);
        let Some(volume) = self.volumes.get(&number) else {
            let reason = alloc::format!("{} has no volume {number}", self.config.name);
            return Err(Refusal::new(RefusalCode::InvalidRequest, reason, ""));
        };
        if self.resizing.is_some() {
            let reason = "another volume is growing";
            let code = RefusalCode::StateConcurrent;
            return Err(Refusal::new(code, reason, "try again"));
        }
        refuse_unless_in_sync(volume, &name)?;
        let mut peers = volume.peers.values();
        let peer = peers.find_map(|peer| Some((peer.node, peer.link?)));
        self.begin_resize(number, peer, Who::Call(call), assume_clean);
        Ok(())
    }

    /// When an answer is no longer waited for.
    pub(super) fn resize_deadline(&self) -> Option<Time> {
        let resizing = self.resizing.as_ref()?;
        let waits = matches!(resizing.step, Step::Measuring | Step::AwaitPeer { .. });
        waits.then_some(resizing.deadline)
    }

    fn begin_resize(
        &mut self,
        volume: VolumeNumber,
        peer: Option<(NodeId, LinkId)>,
        who: Who,
        assume_clean: bool,
    ) {
        self.resizing = Some(Resizing {
            volume,
            peer,
            who,
            assume_clean,
            step: Step::Measuring,
            deadline: self.cx.now.plus_ms(ANSWER_MS),
        });
        self.cx.measure(volume);
    }

    /// A peer wants a volume to grow, or answers.
    pub(super) fn resize_packet(
        &mut self,
        peer: (NodeId, LinkId),
        packet: &Packet,
    ) -> Result<(), &'static str> {
        match *packet {
            Packet::ResizeRequest {
                id,
                volume,
                capacity,
                assume_clean,
            } => self.resize_request(peer, id, volume, (capacity, assume_clean)),
            Packet::ResizeReply {
                id, bytes, granted, ..
            } => {
                self.resize_reply(peer.0, id, bytes, granted);
                Ok(())
            }
            _ => Err("a packet out of place"),
        }
    }

    fn resize_request(
        &mut self,
        peer: (NodeId, LinkId),
        request: u64,
        number: VolumeNumber,
        (capacity, assume_clean): (u64, bool),
    ) -> Result<(), &'static str> {
        let volume = self.volumes.get(&number).ok_or("an unknown volume")?;
        let free = self.resizing.is_none() && self.refuse_another_change().is_ok();
        if free && refuse_unless_in_sync(volume, "").is_ok() {
            let who = Who::Peer { request, capacity };
            self.begin_resize(number, Some(peer), who, assume_clean);
        } else {
            self.answer_resize(peer, (request, number), 0, false);
        }
        Ok(())
    }

    /// It is known how large the disk is now.
    pub(super) fn measured(&mut self, id: OperationId, result: Result<DiskMeasure, DiskError>) {
        let Some(Operation::Measure { volume }) = self.cx.finished(id) else {
            return;
        };
        let Some(resizing) = self
            .resizing
            .filter(|one| one.volume == volume && one.step == Step::Measuring)
        else {
            return;
        };
        let name = alloc::format!("{}/{volume}", self.config.name);
        let Some(volume) = self.volumes.get_mut(&volume) else {
            return;
        };
        let room =
            refuse_unless_in_sync(volume, &name).and_then(|()| room_on(volume, &name, result));
        match (resizing.who, room) {
            (Who::Call(_), Ok(capacity)) => self.ask_to_grow(resizing, capacity),
            (Who::Call(_), Err(refusal)) => self.end_resize(resizing, Err(refusal)),
            (Who::Peer { capacity, .. }, Ok(own)) => {
                let bytes = capacity.min(own) / u64::from(BLOCK_SIZE) * u64::from(BLOCK_SIZE);
                if bytes > volume.size_bytes() {
                    self.grow(resizing, bytes);
                } else {
                    self.refuse_to_grow(resizing, own);
                }
            }
            (Who::Peer { .. }, Err(refusal)) => {
                let text = alloc::format!("cannot grow for the peer: {}", refusal.reason);
                let size = volume.size_bytes();
                let number = volume.number;
                self.cx.report(Level::Warn, None, Some(number), text);
                self.refuse_to_grow(resizing, size);
            }
        }
    }

    /// It has been noted where a volume's metadata is now, or not.
    pub(super) fn size_noted(&mut self, id: OperationId, result: Result<(), DiskError>) {
        let Some(Operation::NoteSize { volume, attachment }) = self.cx.finished(id) else {
            return;
        };
        if let Some(volume) = self.volumes.get_mut(&volume) {
            volume.size_noted(attachment, result, &mut self.cx);
        }
    }

    fn ask_to_grow(&mut self, resizing: Resizing, capacity: u64) {
        let size = self
            .volumes
            .get(&resizing.volume)
            .map_or(0, Volume::size_bytes);
        if capacity <= size {
            let note = alloc::format!(
                "{}/{} has all {size} bytes there is room for",
                self.config.name,
                resizing.volume
            );
            self.end_resize(resizing, Ok(Some(note)));
            return;
        }
        let Some((node, link)) = resizing.peer else {
            self.grow(resizing, capacity);
            return;
        };
        let request = self.cx.name();
        let packet = Packet::ResizeRequest {
            id: request,
            volume: resizing.volume,
            capacity,
            assume_clean: resizing.assume_clean,
        };
        self.cx.send(node, link, packet, None);
        self.resizing = Some(Resizing {
            step: Step::AwaitPeer { request },
            deadline: self.cx.now.plus_ms(PEER_MS),
            ..resizing
        });
    }

    /// The peer's answer.
    fn resize_reply(&mut self, node: NodeId, request: u64, bytes: u64, granted: bool) {
        let Some(resizing) = self.resizing.filter(|one| {
            let asked = one.peer.is_some_and(|(peer, _)| peer == node);
            asked && one.step == Step::AwaitPeer { request }
        }) else {
            if granted {
                // It has grown after all, if too late: the handshake lets this node follow.
                self.renegotiate();
            }
            return;
        };
        let peer = alloc::string::ToString::to_string(self.peer_name(node));
        let (size, capacity) = self
            .volumes
            .get(&resizing.volume)
            .map_or((0, 0), |one| (one.size_bytes(), one.capacity_bytes()));
        if granted && size < bytes && bytes <= capacity {
            self.grow(resizing, bytes);
            return;
        }
        let refusal = if granted || bytes == 0 {
            let reason = alloc::format!("{peer} is busy with something else");
            Refusal::new(RefusalCode::StateRefusedByPeer, reason, "try again")
        } else {
            let reason = alloc::format!(
                "{peer} has room for {bytes} bytes, and the volume has {size} already"
            );
            let help = alloc::format!("enlarge the disk of {peer}, or look into its log");
            Refusal::new(RefusalCode::DiskTooSmall, reason, help)
        };
        self.end_resize(resizing, Err(refusal));
    }

    fn grow(&mut self, resizing: Resizing, bytes: u64) {
        let Some(volume) = self.volumes.get_mut(&resizing.volume) else {
            return;
        };
        let before = volume.size_bytes();
        match volume.resize(bytes, !resizing.assume_clean, &mut self.cx) {
            Ok(()) => {
                let step = Step::Recording { before, bytes };
                self.resizing = Some(Resizing { step, ..resizing });
            }
            Err(error) => {
                let reason = alloc::format!("{}: {error}", resizing.volume);
                let refusal = Refusal::new(RefusalCode::InvalidRequest, reason, "");
                self.end_resize(resizing, Err(refusal));
            }
        }
    }

    /// Takes a growth as far as it can go.
    pub(super) fn advance_resize(&mut self) {
        let Some(resizing) = self.resizing else {
            return;
        };
        let name = alloc::format!("{}/{}", self.config.name, resizing.volume);
        let local = self
            .volumes
            .get(&resizing.volume)
            .and_then(|volume| volume.local.as_ref());
        let refuse = |code, reason: &str| Err(Refusal::new(code, reason, "try again"));
        let Some(local) = local else {
            let code = RefusalCode::StateDiskless;
            self.end_resize(resizing, refuse(code, "its disk has failed on the way"));
            return;
        };
        match resizing.step {
            Step::Recording { bytes, .. } if local.is_settled() && local.size_bytes() != bytes => {
                let code = RefusalCode::Environment;
                let reason = "its metadata has moved, but the volume has not grown: see the log";
                self.end_resize(resizing, refuse(code, reason));
            }
            Step::Recording { before, bytes } if local.is_settled() => {
                let note = alloc::format!("{name} grows from {before} to {bytes} bytes");
                self.end_resize(resizing, Ok(Some(note)));
            }
            Step::Recording { .. } => {}
            Step::Measuring | Step::AwaitPeer { .. } => {
                if self.cx.now >= resizing.deadline {
                    let code = RefusalCode::StateTimeout;
                    self.end_resize(resizing, refuse(code, "no answer from disk or peer"));
                }
            }
        }
    }

    /// The peer is out of reach: what has not begun here does not.
    pub(super) fn resize_lost_peer(&mut self, node: NodeId) {
        let Some(resizing) = self
            .resizing
            .filter(|one| one.peer.is_some_and(|(peer, _)| peer == node))
        else {
            return;
        };
        if !matches!(resizing.step, Step::Recording { .. }) {
            let reason = "the connection was lost on the way";
            let help = "connect, and run it again";
            let refusal = Refusal::new(RefusalCode::StateNeedsConnection, reason, help);
            self.end_resize(resizing, Err(refusal));
        }
    }

    fn refuse_to_grow(&mut self, resizing: Resizing, capacity: u64) {
        if let (Some(peer), Who::Peer { request, .. }) = (resizing.peer, resizing.who) {
            self.answer_resize(peer, (request, resizing.volume), capacity, false);
        }
        self.resizing = None;
    }

    fn end_resize(&mut self, resizing: Resizing, result: Result<Option<String>, Refusal>) {
        self.resizing = None;
        match (resizing.who, resizing.step) {
            (Who::Call(call), step) => {
                self.cx.reply(call, result);
                if matches!(step, Step::Recording { .. }) {
                    // The handshake has the new part copied.
                    self.renegotiate();
                }
            }
            (Who::Peer { request, .. }, Step::Recording { bytes, .. }) if result.is_ok() => {
                if let Some(peer) = resizing.peer {
                    self.answer_resize(peer, (request, resizing.volume), bytes, true);
                }
            }
            (Who::Peer { .. }, _) => self.refuse_to_grow(resizing, 0),
        }
    }

    fn answer_resize(
        &mut self,
        (node, link): (NodeId, LinkId),
        (id, volume): (u64, VolumeNumber),
        bytes: u64,
        granted: bool,
    ) {
        let packet = Packet::ResizeReply {
            id,
            volume,
            bytes,
            granted,
        };
        self.cx.send(node, link, packet, None);
    }
}

/// Only a volume that is whole on every node grows.
fn refuse_unless_in_sync<B: Clone>(volume: &Volume<B>, name: &str) -> Result<(), Refusal> {
    let refuse = |code, reason: &str, help: String| {
        let reason = alloc::format!("{name} {reason}");
        Err(Refusal::new(code, reason, help))
    };
    if volume.local.is_none() {
        let help = alloc::format!("rbdadm attach {name}");
        return refuse(RefusalCode::StateDiskless, "has no disk here", help);
    }
    let copies = |state| !matches!(state, ReplicationState::Off | ReplicationState::Established);
    if volume.peers.values().any(|peer| copies(peer.replication)) {
        let help = alloc::format!("wait for it: rbdadm wait-sync {name}");
        let code = RefusalCode::ResizeDuringResync;
        return refuse(code, "is being copied or compared", help);
    }
    let connected = volume.peers.values().all(|peer| {
        let stands = peer.link.is_some() && peer.replication == ReplicationState::Established;
        stands && peer.peer_disk == DiskState::UpToDate
    });
    if !connected {
        let code = RefusalCode::StateNeedsConnection;
        let help = "both nodes must be connected and UpToDate".into();
        return refuse(code, "is not in sync with its peer", help);
    }
    if volume.disk != DiskState::UpToDate {
        let reason = alloc::format!("is {}", volume.disk);
        return refuse(RefusalCode::StateNoUpToDateData, &reason, String::new());
    }
    Ok(())
}

/// What there is room for on a disk that is as large as it was found now.
fn room_on<B: Clone>(
    volume: &mut Volume<B>,
    name: &str,
    found: Result<DiskMeasure, DiskError>,
) -> Result<u64, Refusal> {
    let Ok(found) = found else {
        let reason = alloc::format!("the disk of {name} does not tell its size");
        return Err(Refusal::new(RefusalCode::Environment, reason, ""));
    };
    let limit = volume.config.size_limit_bytes;
    let size = volume.size_bytes();
    if let Some(local) = &mut volume.local {
        local.note_measure(found);
        let missing = local.missing_to_move(found).filter(|more| *more > 0);
        if let Some(more) = missing
            && local.capacity_bytes(limit) <= size
        {
            let reason = alloc::format!(
                "the disk of {name} must grow by {more} bytes more: the metadata at its end needs \
                 room to move"
            );
            let help = "enlarge it, then run it again";
            return Err(Refusal::new(RefusalCode::DiskTooSmall, reason, help));
        }
        let wanted = Layout::new(
            found.device_bytes,
            found.placement,
            local.max_peers(),
            limit,
        );
        if let (Err(error), None) = (wanted, missing) {
            let reason = alloc::format!("{name}: {error}");
            let help = "enlarge the meta-disk, then run it again";
            return Err(Refusal::new(RefusalCode::MetaDiskTooSmall, reason, help));
        }
    }
    Ok(volume.capacity_bytes())
}

/// How long a disk may take to tell its size: less than the peer that asked waits.
const ANSWER_MS: u64 = 8_000;

/// How long the peer may take to grow: less than who asked waits, and enough to write its internal
/// metadata anew, which is what takes time. A peer that is gone is noticed by its silence, and a
/// disk of its that hangs by the peer.
const PEER_MS: u64 = 900_000;
