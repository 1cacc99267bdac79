//! Declaring the data of one node bad by command, so that it is copied anew from the other.
//!
//! One node is the *loser*, the other the *keeper*. Without force nothing is given up before the
//! keeper has answered for the data: it is UpToDate, durably, and has pledged to stay so, which
//! keeps it from being the loser of a command that comes to it at the same time. So two commands
//! given on both nodes at once can never give up both copies; each is refused by the other.
//!
//! The loser marks what is to be copied, becomes Inconsistent, and makes the link anew; the next
//! greeting, which is sent when all that is durable, has both nodes decide as after any other
//! interruption. By that greeting a keeper learns that its command has been carried out.
//! Nothing here copies anything, and no data is touched.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use rbd_protocol::control::{Refusal, RefusalCode};
use rbd_protocol::ids::{NodeId, VolumeNumber};
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{DiskState, ReplicationState, Role};

use super::Resource;
use crate::connection::Connection;
use crate::contract::{CallId, Level, LinkId, LinkLoss, Time};
use crate::local_disk::LocalDisk;
use crate::peer_device::PeerDevice;

/// How data is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct How {
    /// Only what is marked out of sync is copied.
    pub(super) marked_only: bool,
    /// Even if no peer is known to have the data.
    pub(super) force: bool,
}

/// A peer asks that one of the two give up its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Question {
    node: NodeId,
    request: u64,
    volume: VolumeNumber,
    sender_loses: bool,
    marked_only: bool,
}

/// Everything about data that is being declared bad.
#[derive(Clone, Debug, Default)]
pub(super) struct Invalidations {
    running: Option<Invalidation>,
    /// Volumes whose data this node keeps because a peer gives up its own.
    pledges: BTreeSet<(NodeId, VolumeNumber)>,
    /// Not answered yet.
    questions: Vec<Question>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Invalidation {
    call: CallId,
    volume: VolumeNumber,
    step: Step,
    deadline: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The peer is asked to keep its data.
    AwaitPledge {
        node: NodeId,
        request: u64,
        marked_only: bool,
    },
    /// The peer is asked to give up its data, and says in its next greeting that it has.
    AwaitLoss { node: NodeId, request: u64 },
    /// This node's data has been given up; that is being recorded.
    Recording,
}

impl Invalidations {
    pub(super) fn is_busy(&self) -> bool {
        self.running.is_some()
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let running = self.running.as_ref()?;
        (running.step != Step::Recording).then_some(running.deadline)
    }
}

impl<B: Clone> Resource<B> {
    pub(super) fn start_invalidation(
        &mut self,
        call: CallId,
        number: VolumeNumber,
        peer: Option<NodeId>,
        remote: bool,
        how: How,
    ) -> Result<(), Refusal> {
        self.refuse_another_change()?;
        let nodes = self.selected(peer)?;
        let name = alloc::format!("{}/{number}", self.config.name);
        let refuse = |code, reason: String, help: String| Err(Refusal::new(code, reason, help));
        let Some(volume) = self.volumes.get(&number) else {
            let reason = alloc::format!("{} has no volume {number}", self.config.name);
            return refuse(RefusalCode::InvalidRequest, reason, String::new());
        };
        if volume.local.is_none() {
            let reason = alloc::format!("{name} has no disk here");
            return refuse(RefusalCode::StateDiskless, reason, String::new());
        }
        let busy = |node: &NodeId| {
            let peer = volume.peers.get(node);
            peer.is_some_and(|peer| {
                let idle = [ReplicationState::Off, ReplicationState::Established];
                !idle.contains(&peer.replication)
            })
        };
        if nodes.iter().any(busy) {
            let reason = alloc::format!("{name} is being copied already");
            let help = alloc::format!("wait for the resync: rbdadm wait-sync {name}");
            return refuse(RefusalCode::StateSyncActive, reason, help);
        }
        if remote {
            return self.ask_to_lose(call, number, &nodes, how);
        }
        self.refuse_data_in_use(number)?;
        if self.connections.values().any(Connection::is_handshaking) {
            let reason = String::from("a handshake is under way");
            return refuse(RefusalCode::StateTransient, reason, "try again".into());
        }
        if let Some((node, link)) = self.keeper(number, &nodes) {
            let marked_only = how.marked_only;
            let request = self.ask(node, link, number, (true, marked_only));
            let step = Step::AwaitPledge {
                node,
                request,
                marked_only,
            };
            self.begin_invalidation(call, number, step);
            return Ok(());
        }
        // A target whose end of a resync is recorded and not yet known is a copy all the same.
        let worthless = self.volumes.get(&number).is_some_and(|volume| {
            let local = volume.local.as_ref().map(LocalDisk::state_alone);
            volume.disk == DiskState::Inconsistent && local == Some(DiskState::Inconsistent)
        });
        if !how.force && !worthless {
            let reason = alloc::format!(
                "no peer is connected and UpToDate: this may be the last good copy of {name}"
            );
            let help = alloc::format!(
                "connect the peer, or, if this data is to be lost: rbdadm invalidate --force {name}"
            );
            return refuse(RefusalCode::StateNoUpToDateData, reason, help);
        }
        self.begin_invalidation(call, number, Step::Recording);
        self.give_up(number, how.marked_only);
        Ok(())
    }

    /// A Primary's data is never overwritten (D7), nor that of the disk a Primary lives on.
    fn refuse_data_in_use(&self, number: VolumeNumber) -> Result<(), Refusal> {
        let name = &self.config.name;
        if self.role == Role::Primary {
            let reason = "this node is Primary: its data is in use";
            let help = alloc::format!("rbdadm secondary {name}");
            return Err(Refusal::new(RefusalCode::StateNoUpToDateData, reason, help));
        }
        let peers = self.volumes.get(&number).map(|volume| &volume.peers);
        let depends = |connection: &&Connection| {
            let peer = peers.and_then(|peers| peers.get(&connection.node()));
            connection.peer_role == Role::Primary
                && peer.is_some_and(|peer| peer.peer_disk != DiskState::UpToDate)
        };
        if let Some(peer) = self.connections.values().find(depends) {
            let peer = &peer.config.name;
            let reason =
                alloc::format!("{peer} is Primary and has no other UpToDate disk than this one");
            return Err(Refusal::new(RefusalCode::StateNoUpToDateData, reason, ""));
        }
        Ok(())
    }

    /// A peer that is in sync with this node, so that it can answer for the data.
    fn keeper(&self, number: VolumeNumber, nodes: &[NodeId]) -> Option<(NodeId, LinkId)> {
        let volume = self.volumes.get(&number)?;
        let mut peers = nodes.iter().filter_map(|node| volume.peers.get(node));
        let peer = peers.find(|peer| is_in_sync(peer))?;
        Some((peer.node, peer.link?))
    }

    /// The peer is to give up its data, and this node to keep its own.
    fn ask_to_lose(
        &mut self,
        call: CallId,
        number: VolumeNumber,
        nodes: &[NodeId],
        how: How,
    ) -> Result<(), Refusal> {
        let name = alloc::format!("{}/{number}", self.config.name);
        let refuse = |code, reason: String, help: &str| Err(Refusal::new(code, reason, help));
        let connected = nodes.iter().find_map(|node| {
            let peer = self.volumes.get(&number)?.peers.get(node)?;
            let stands = peer.replication == ReplicationState::Established;
            Some((*node, peer.link.filter(|_| stands)?))
        });
        let Some((node, link)) = connected else {
            let reason = alloc::format!("no peer with a disk is connected to {name}");
            return refuse(RefusalCode::StateNeedsConnection, reason, "");
        };
        let keeps = self.volumes.get(&number).is_some_and(|volume| {
            let settled = volume.local.as_ref().is_some_and(LocalDisk::is_settled);
            volume.disk == DiskState::UpToDate && settled
        });
        if !keeps {
            let reason = alloc::format!("{name} is not UpToDate here, and would be all there is");
            return refuse(RefusalCode::StateNoUpToDateData, reason, "");
        }
        if let Some(peer) = self.connections.get(&node)
            && peer.peer_role == Role::Primary
        {
            let reason = alloc::format!("{} is Primary: its data is in use", peer.config.name);
            return refuse(RefusalCode::StateRefusedByPeer, reason, "");
        }
        self.invalidations.pledges.insert((node, number));
        let request = self.ask(node, link, number, (false, how.marked_only));
        self.begin_invalidation(call, number, Step::AwaitLoss { node, request });
        Ok(())
    }

    fn ask(
        &mut self,
        node: NodeId,
        link: LinkId,
        volume: VolumeNumber,
        (sender_loses, marked_only): (bool, bool),
    ) -> u64 {
        let id = self.cx.name();
        let packet = Packet::InvalidateRequest {
            id,
            volume,
            sender_loses,
            marked_only,
        };
        self.cx.send(node, link, packet, None);
        id
    }

    fn begin_invalidation(&mut self, call: CallId, volume: VolumeNumber, step: Step) {
        self.invalidations.running = Some(Invalidation {
            call,
            volume,
            step,
            deadline: self.cx.now.plus_ms(ANSWER_MS),
        });
    }

    /// This node's data is bad from here on. The peers are told in the next greeting, which waits
    /// until that is durable.
    fn give_up(&mut self, number: VolumeNumber, marked_only: bool) {
        let Some(volume) = self.volumes.get_mut(&number) else {
            return;
        };
        let nodes: Vec<NodeId> = volume.peers.keys().copied().collect();
        for node in nodes.iter().filter(|_| !marked_only) {
            if let Some(peer) = volume.peers.get_mut(node) {
                peer.bitmap.set_all();
            }
            if let Some(local) = &mut volume.local {
                local.set_full_sync(*node, true);
            }
        }
        let note = "declared bad by command";
        volume.set_disk_state(DiskState::Inconsistent, note, &mut self.cx);
        self.cx.report(
            Level::Warn,
            None,
            Some(number),
            "data declared bad by command",
        );
        for node in nodes {
            self.drop_link(node, LinkLoss::Renegotiate);
        }
    }

    /// A peer asks, or answers.
    pub(super) fn invalidation_packet(
        &mut self,
        node: NodeId,
        packet: &Packet,
    ) -> Result<(), &'static str> {
        match *packet {
            Packet::InvalidateRequest {
                id: request,
                volume,
                sender_loses,
                marked_only,
            } => self.invalidate_request(Question {
                node,
                request,
                volume,
                sender_loses,
                marked_only,
            }),
            Packet::InvalidateReply {
                id,
                volume,
                granted,
            } => {
                self.invalidate_reply(node, volume, id, granted);
                Ok(())
            }
            _ => Err("a packet out of place"),
        }
    }

    /// A peer asks that one of the two give up its data.
    fn invalidate_request(&mut self, question: Question) -> Result<(), &'static str> {
        if !self.volumes.contains_key(&question.volume) {
            return Err("an unknown volume");
        }
        let asked = &mut self.invalidations.questions;
        if asked.len() >= QUESTION_LIMIT {
            return Err("more questions than it may ask at once");
        }
        asked.push(question);
        Ok(())
    }

    /// Lets everything about data that is being declared bad go on.
    pub(super) fn advance_invalidations(&mut self) {
        for question in core::mem::take(&mut self.invalidations.questions) {
            let volume = self.volumes.get(&question.volume);
            let local = volume.and_then(|volume| volume.local.as_ref());
            if local.is_some_and(|local| !local.is_settled()) {
                self.invalidations.questions.push(question);
            } else {
                self.answer_question(question);
            }
        }
        let Some(running) = self.invalidations.running else {
            return;
        };
        let volume = self.volumes.get(&running.volume);
        let result = match volume.and_then(|volume| volume.local.as_ref()) {
            None => {
                let reason = "the disk was let go on the way";
                Err(Refusal::new(RefusalCode::StateDiskless, reason, ""))
            }
            Some(local) if running.step == Step::Recording && local.is_settled() => Ok(None),
            Some(_) => return,
        };
        self.end_invalidation(result);
    }

    fn answer_question(&mut self, question: Question) {
        let Question {
            node,
            request,
            volume: number,
            sender_loses,
            marked_only,
        } = question;
        let Some(volume) = self.volumes.get(&number) else {
            return;
        };
        let peer = volume.peers.get(&node);
        let Some(link) = peer.and_then(|peer| peer.link) else {
            return;
        };
        let both = peer.is_some_and(is_in_sync) && volume.disk == DiskState::UpToDate;
        let loses = self.invalidations.running.is_some_and(|running| {
            let keeps = matches!(running.step, Step::AwaitLoss { .. });
            running.volume == number && !keeps
        });
        let agreed = if sender_loses {
            both && !loses
        } else {
            both && self.role == Role::Secondary
                && self.refuse_another_change().is_ok()
                && !self.invalidations.pledges.contains(&(node, number))
        };
        if agreed && !sender_loses {
            self.give_up(number, marked_only);
            return; // the next greeting is the answer
        }
        if agreed {
            self.invalidations.pledges.insert((node, number));
        }
        let packet = Packet::InvalidateReply {
            id: request,
            volume: number,
            granted: agreed,
        };
        self.cx.send(node, link, packet, None);
    }

    /// The peer's answer.
    fn invalidate_reply(&mut self, from: NodeId, number: VolumeNumber, id: u64, granted: bool) {
        let Some(running) = &mut self.invalidations.running else {
            return;
        };
        if running.volume != number {
            return;
        }
        match running.step {
            Step::AwaitPledge {
                node,
                request,
                marked_only,
            } if node == from && request == id && granted => {
                running.step = Step::Recording;
                self.give_up(number, marked_only);
            }
            Step::AwaitPledge { node, request, .. } if node == from && request == id => {
                self.refuse_by_peer(from, "cannot answer for the data");
            }
            Step::AwaitLoss { node, request } if node == from && request == id && !granted => {
                self.invalidations.pledges.remove(&(from, number));
                self.refuse_by_peer(from, "does not give up its data");
            }
            Step::AwaitPledge { .. } | Step::AwaitLoss { .. } | Step::Recording => {}
        }
    }

    fn refuse_by_peer(&mut self, node: NodeId, why: &str) {
        let reason = alloc::format!(
            "{} {why}: it is Primary, not UpToDate, or busy with another change",
            self.peer_name(node)
        );
        let refusal = Refusal::new(RefusalCode::StateRefusedByPeer, reason, "");
        self.end_invalidation(Err(refusal));
    }

    /// The link is gone. A peer that was to give up its data may have dropped it because it does.
    pub(super) fn invalidation_lost_peer(&mut self, lost: NodeId) {
        let invalidations = &mut self.invalidations;
        invalidations.questions.retain(|asked| asked.node != lost);
        invalidations.pledges.retain(|(node, _)| *node != lost);
        if let Some(running) = invalidations.running
            && let Step::AwaitPledge { node, .. } = running.step
            && node == lost
        {
            let reason = "the connection was lost on the way, and nothing was changed";
            let refusal = Refusal::new(RefusalCode::StateNeedsConnection, reason, "");
            self.end_invalidation(Err(refusal));
        }
    }

    /// A handshake has been decided: now it is known whether the peer has given up its data.
    pub(super) fn invalidation_met(&mut self, met: NodeId) {
        let Some(running) = self.invalidations.running else {
            return;
        };
        let Step::AwaitLoss { node, .. } = running.step else {
            return;
        };
        if node != met {
            return;
        }
        let volume = self.volumes.get(&running.volume);
        let peer = volume.and_then(|volume| volume.peers.get(&node));
        let result = if peer.is_some_and(|peer| peer.peer_disk == DiskState::Inconsistent) {
            Ok(None)
        } else {
            let reason = "the connection was lost on the way, and nothing was changed";
            Err(Refusal::new(RefusalCode::StateNeedsConnection, reason, ""))
        };
        self.end_invalidation(result);
    }

    pub(super) fn check_invalidation_deadline(&mut self) {
        let now = self.cx.now;
        if self.invalidations.deadline().is_some_and(|due| due <= now) {
            let reason = "the peer has not answered; if it does later, status will show it";
            let refusal = Refusal::new(RefusalCode::StateTimeout, reason, "");
            self.end_invalidation(Err(refusal));
        }
    }

    fn end_invalidation(&mut self, result: Result<Option<String>, Refusal>) {
        if let Some(running) = self.invalidations.running.take() {
            self.cx.reply(running.call, result);
        }
    }
}

/// Whether the peer has the same data as this node, and both know it.
fn is_in_sync(peer: &PeerDevice) -> bool {
    peer.link.is_some()
        && peer.replication == ReplicationState::Established
        && peer.peer_disk == DiskState::UpToDate
}

/// How long the peer may take to answer, or to greet anew.
const ANSWER_MS: u64 = 8_000;

/// Questions of peers that wait for an answer at most: one for each volume and way to ask.
const QUESTION_LIMIT: usize = 128;
