//! Fencing: a peer out of reach must not be able to use its data before this node goes on alone.
//!
//! With `fencing resource-only` or `resource-and-stonith` the `fence-peer` handler is called when a
//! Primary loses a peer whose disk is not known to be unusable, and before a node is promoted
//! without such a peer. Its exit code is the verdict. With `resource-and-stonith` a Primary's I/O
//! is frozen from the loss until the verdict is durable (A2, G4). Whatever is not a clear verdict
//! changes nothing (G5): the handler is called again after a pause, the peer may come back, or an
//! administrator decides with `resume-io`.
//!
//! That the handler has been called is durable before it runs, so that what it may have done is
//! taken back one day, by the same node that had it done (G6): by the `unfence-peer` handler, when
//! both replicas are identical again. The two never run at the same time for one peer.

use alloc::string::String;
use alloc::vec::Vec;

use rbd_protocol::control::Fencing;
use rbd_protocol::ids::NodeId;
use rbd_protocol::state::{DiskState, ReplicationState, Role};

use super::Resource;
use super::promotion::is_settled;
use crate::connection::Fence;
use crate::contract::{Level, LinkLoss, OperationId, Time};
use crate::handler::{Handler, HandlerResult, Wanted};
use crate::peer_device::PeerDevice;
use crate::volume::Volume;

/// How long a peer whose link has just been closed may take to come back before it is fenced: a
/// link that is made anew on purpose, or a daemon that is restarted, costs no more than a pause.
const GRACE_MS: u64 = 1_000;

/// Pause after a handler without a verdict.
const AGAIN_MS: u64 = 30_000;

/// What a handler's end says about the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Its disk is in this state, and it will not leave it without this node.
    Harmless(DiskState),
    /// It is Primary.
    IsPrimary,
    /// Nothing.
    Unclear,
}

impl<B: Clone> Resource<B> {
    pub(super) fn fencing_policy(&self, node: NodeId) -> Fencing {
        let connection = self.connections.get(&node);
        connection.map_or(Fencing::DontCare, |peer| peer.config.net.fencing)
    }

    /// Whether any peer's data being out of reach would be minded.
    pub(super) fn is_anyone_fenced(&self) -> bool {
        let mut peers = self.connections.keys();
        peers.any(|node| self.fencing_policy(*node) != Fencing::DontCare)
    }

    /// Whether the peer's data is out of reach and might be used, and the policy minds.
    pub(super) fn is_unfenced(&self, node: NodeId) -> bool {
        self.fencing_policy(node) != Fencing::DontCare
            && self.has_disk()
            && !self.is_there(node)
            && !self.is_harmless(node)
    }

    /// Whether this node has data to go on with. A Primary without a disk has none, and neither has
    /// a node whose disk fails while it is promoted: to fence the peer would take the only data
    /// there is out of use, and nothing would remember to take that back (G6).
    fn has_disk(&self) -> bool {
        let is_primary = self.role == Role::Primary;
        let has_data = |volume: &Volume<B>| {
            let will_do = !is_primary && volume.local.is_some();
            will_do || volume.has_own_data() || volume.is_recording_end()
        };
        self.volumes.values().any(has_data)
    }

    /// Whether the peer is connected, and with its disks. What is on a disk that has not been
    /// attached, or that has failed, may yet be used by another process of the peer's daemon.
    pub(super) fn is_there(&self, node: NodeId) -> bool {
        let link = self.connections.get(&node);
        link.is_some_and(|peer| peer.connected_link().is_some()) && !self.lacks_disk(node)
    }

    fn lacks_disk(&self, node: NodeId) -> bool {
        self.volumes.values().any(|volume| {
            // A disk that is attached while connected is compared over the next link.
            let compared = |peer: &PeerDevice| {
                volume.local.is_none() || peer.replication != ReplicationState::Off
            };
            let peer = volume.peers.get(&node);
            peer.is_some_and(|peer| !peer.has_disk() || !compared(peer))
        })
    }

    /// Whether a handler may be called: the peer is not to be met any moment.
    fn is_away(&self, node: NodeId) -> bool {
        self.connections.get(&node).is_some_and(|peer| {
            let without_disk = peer.connected_link().is_some() && self.lacks_disk(node);
            !peer.has_open_link() || without_disk
        })
    }

    /// Whether clients are frozen, and the peer has come back but may not have read the greeting
    /// that makes it a target: were the link lost again, it could go on with its old data.
    pub(super) fn is_unread(&self, node: NodeId) -> bool {
        self.volumes.values().any(|volume| {
            let peer = volume.peers.get(&node);
            volume.frozen.fencing
                && peer.is_some_and(|peer| peer.replication == ReplicationState::WFBitMapS)
        })
    }

    /// A node is being promoted: where a peer may not have read the greeting that makes it a
    /// target, clients begin frozen.
    pub(super) fn freeze_for_greetings(&mut self) {
        let nodes: Vec<NodeId> = self.connections.keys().copied().collect();
        for node in nodes {
            if self.fencing_policy(node) != Fencing::ResourceAndStonith {
                continue;
            }
            for volume in self.volumes.values_mut() {
                let peer = volume.peers.get(&node);
                volume.frozen.fencing |=
                    peer.is_some_and(|peer| peer.replication == ReplicationState::WFBitMapS);
            }
        }
    }

    /// Whether the peer's copy is known to be unusable, or has none.
    pub(super) fn is_harmless(&self, node: NodeId) -> bool {
        self.volumes.values().all(|volume| {
            let peer = volume.peers.get(&node);
            peer.is_none_or(|peer| {
                remembered(volume, peer) != DiskState::DUnknown && !peer.may_be_whole
            })
        })
    }

    /// The link to a peer is being lost: freezes at once, before anything is made of the loss.
    pub(super) fn freeze_for_loss(&mut self, node: NodeId, loss: LinkLoss) {
        let stays_harmless = self.volumes.values().all(|volume| {
            let peer = volume.peers.get(&node);
            peer.is_none_or(|peer| {
                remembered(volume, peer) != DiskState::DUnknown && !peer.is_resync_source()
            })
        });
        let policy = self.fencing_policy(node);
        let now = self.cx.now;
        let is_concerned = self.role == Role::Primary && self.has_disk();
        if policy == Fencing::DontCare || stays_harmless || !is_concerned {
            return;
        }
        if let Some(connection) = self.connections.get_mut(&node)
            && matches!(connection.fence, Fence::Idle | Fence::Unclear(_))
        {
            let pause = match loss {
                LinkLoss::Closed | LinkLoss::Renegotiate => GRACE_MS,
                LinkLoss::Timeout
                | LinkLoss::Protocol
                | LinkLoss::Goodbye
                | LinkLoss::Commanded
                | LinkLoss::Refused => 0,
            };
            connection.fence = Fence::Wanted(now.plus_ms(pause));
        }
        let is_overridden = self
            .connections
            .get(&node)
            .is_some_and(|peer| peer.fence == Fence::Overridden);
        if policy == Fencing::ResourceAndStonith && !is_overridden {
            for volume in self.volumes.values_mut() {
                volume.frozen.fencing = true;
            }
        }
    }

    /// Takes the fencing of every peer as far as it can go, and freezes and thaws accordingly.
    pub(super) fn advance_fencing(&mut self) {
        let nodes: Vec<NodeId> = self.connections.keys().copied().collect();
        let mut freeze = false;
        for node in nodes {
            while self.advance_fence(node) {}
            self.advance_unfence(node);
            freeze |= self.role == Role::Primary
                && self.fencing_policy(node) == Fencing::ResourceAndStonith
                && self.connections.get(&node).is_some_and(|peer| {
                    peer.fence == Fence::Recording
                        || (peer.fence != Fence::Overridden
                            && (self.is_unfenced(node) || self.is_unread(node)))
                });
        }
        for volume in self.volumes.values_mut() {
            if volume.frozen.fencing != freeze {
                volume.frozen.fencing = freeze;
                volume.unsettled = true;
            }
        }
        self.report_suspension();
    }

    /// Takes one step, if one is possible.
    fn advance_fence(&mut self, node: NodeId) -> bool {
        let now = self.cx.now;
        let Some(connection) = self.connections.get(&node) else {
            return false;
        };
        let fence = connection.fence;
        let may_start = self.is_away(node)
            && connection.unfencing.is_none()
            && !self.is_running(Handler::FencePeer, node);
        let goes_alone = self.role == Role::Primary || self.promotion_awaits_fencing();
        let needed = goes_alone && self.is_unfenced(node);
        let next = match fence {
            Fence::Idle if needed => Fence::Wanted(now),
            Fence::Overridden if !needed && !self.is_unread(node) => Fence::Idle,
            Fence::Wanted(_) | Fence::Unclear(_) if !needed => Fence::Idle,
            Fence::Unclear(again) if again <= now => Fence::Wanted(now),
            Fence::Wanted(at) if at <= now && may_start => self.call_fence(node),
            Fence::Recording if self.all_settled() => {
                let text = "the peer cannot use its data: going on without it";
                self.cx.report(Level::Warn, Some(node), None, text);
                Fence::Idle
            }
            other => other,
        };
        self.set_fence(node, next);
        next != fence
    }

    fn all_settled(&self) -> bool {
        self.volumes
            .values()
            .all(|volume| is_settled(volume.local.as_ref()))
    }

    /// Calls the handler, once it is durable that it may have been called.
    fn call_fence(&mut self, node: NodeId) -> Fence {
        if !self.has_handler(Handler::FencePeer) {
            let text = "no fence-peer handler is configured, so the peer cannot be fenced";
            self.cx.report(Level::Error, Some(node), None, text);
            return Fence::Unclear(self.cx.now.plus_ms(AGAIN_MS));
        }
        for volume in self.volumes.values_mut() {
            if let Some(local) = &mut volume.local
                && !local.is_fenced(node)
            {
                local.note_fenced(node, true);
                volume.unsettled = true;
            }
        }
        if !self.all_settled() {
            return Fence::Wanted(self.cx.now);
        }
        Fence::Running(self.start_handler(Wanted {
            handler: Handler::FencePeer,
            peer: Some(node),
            volume: None,
        }))
    }

    /// The fence handler has ended.
    pub(super) fn fence_done(&mut self, node: NodeId, id: OperationId, result: HandlerResult) {
        let own_is_newest = self
            .volumes
            .values()
            .all(|volume| volume.disk == DiskState::UpToDate);
        let now = self.cx.now;
        let is_away = self.is_away(node);
        let is_primary = self.role == Role::Primary;
        let waits = self.verdict_waits(node, result);
        let Some(connection) = self.connections.get_mut(&node) else {
            return;
        };
        // Of two Primaries that cannot reach each other both could say so, and both go on.
        let are_two =
            is_primary && (connection.was_primary || connection.peer_role == Role::Primary);
        let may_rely_on_silence = own_is_newest && !are_two;
        if connection.fence != Fence::Running(id) {
            let text = "the fence handler's verdict comes too late: it does not count";
            self.cx.report(Level::Info, Some(node), None, text);
            return;
        }
        if !is_away {
            // The peer is there after all; should it go again, it is asked again.
            connection.fence = Fence::Wanted(now);
            return;
        }
        let verdict = judge(result, may_rely_on_silence);
        if let (Verdict::Harmless(_), Some(until)) = (verdict, waits) {
            self.set_fence(node, Fence::Wanted(until));
            let text = "the peer was Primary too and may not have noticed yet that the link is \
                        lost: the fence handler is called again when it has";
            self.cx.report(Level::Info, Some(node), None, text);
            return;
        }
        match verdict {
            Verdict::Harmless(disk) => {
                let text = "the peer has been fenced";
                self.peer_is_harmless(node, disk, text);
            }
            Verdict::IsPrimary => {
                self.set_fence(node, Fence::Unclear(now.plus_ms(AGAIN_MS)));
                let text = "the fence handler says that the peer is Primary";
                self.cx.report(Level::Error, Some(node), None, text);
                if self.role == Role::Secondary {
                    self.outdate_disks("the peer is Primary, as the fence handler says");
                }
            }
            Verdict::Unclear => {
                self.set_fence(node, Fence::Unclear(now.plus_ms(AGAIN_MS)));
                let text = unclear_text(result);
                self.cx.report(Level::Error, Some(node), None, text);
            }
        }
    }

    fn set_fence(&mut self, node: NodeId, fence: Fence) {
        if let Some(connection) = self.connections.get_mut(&node) {
            connection.fence = fence;
        }
    }

    /// The peer cannot use its data. A Primary records that, and that the peer is behind, before
    /// it goes on (A2); a promotion does when it records itself.
    pub(super) fn peer_is_harmless(&mut self, node: NodeId, disk: DiskState, why: &str) {
        let is_primary = self.role == Role::Primary;
        for volume in self.volumes.values_mut() {
            if let Some(peer) = volume.peers.get_mut(&node) {
                if peer.link.is_some() {
                    peer.is_fenced_diskless = true;
                } else if peer.peer_disk != DiskState::Inconsistent || peer.may_be_whole {
                    peer.peer_disk = disk;
                }
                peer.may_be_whole = false;
            }
            if is_primary {
                volume.leave_fenced_behind(node, &mut self.cx);
            }
        }
        let text = alloc::format!("{why}; its disk counts as {disk}");
        self.cx.report(Level::Info, Some(node), None, text);
        self.set_fence(
            node,
            if is_primary {
                Fence::Recording
            } else {
                Fence::Idle
            },
        );
    }

    /// Both replicas are identical again: what the fence handler may have done is taken back.
    fn advance_unfence(&mut self, node: NodeId) {
        let now = self.cx.now;
        let Some(connection) = self.connections.get(&node) else {
            return;
        };
        let fenced = |volume: &Volume<B>| {
            let local = volume.local.as_ref();
            local.is_some_and(|local| local.is_fenced(node))
        };
        let wanted = connection.connected_link().is_some()
            && connection.unfencing.is_none()
            && connection.unfence_again <= now
            && !matches!(connection.fence, Fence::Running(_))
            && !self.is_running(Handler::FencePeer, node)
            && self.volumes.values().any(fenced);
        if !wanted || !self.is_in_sync_with(node) || !self.all_settled() {
            return;
        }
        if !self.has_handler(Handler::UnfencePeer) {
            self.forget_fenced(node);
            return;
        }
        let id = self.start_handler(Wanted {
            handler: Handler::UnfencePeer,
            peer: Some(node),
            volume: None,
        });
        if let Some(connection) = self.connections.get_mut(&node) {
            connection.unfencing = Some(id);
        }
    }

    fn is_running(&self, handler: Handler, node: NodeId) -> bool {
        let mut runs = self.handlers.values();
        runs.any(|run| run.handler == handler && run.peer == Some(node))
    }

    fn is_in_sync_with(&self, node: NodeId) -> bool {
        self.volumes.values().all(|volume| {
            volume.disk == DiskState::UpToDate
                && volume.peers.get(&node).is_some_and(|peer| {
                    peer.replication == ReplicationState::Established
                        && peer.peer_disk == DiskState::UpToDate
                })
        })
    }

    fn forget_fenced(&mut self, node: NodeId) {
        for volume in self.volumes.values_mut() {
            if let Some(local) = &mut volume.local {
                local.note_fenced(node, false);
                volume.unsettled = true;
            }
        }
    }

    /// The unfence handler has ended. Until it has succeeded once, it is called again.
    pub(super) fn unfence_done(&mut self, node: NodeId, id: OperationId, result: HandlerResult) {
        let now = self.cx.now;
        let Some(connection) = self.connections.get_mut(&node) else {
            return;
        };
        if connection.unfencing != Some(id) {
            return;
        }
        connection.unfencing = None;
        if result == HandlerResult::Exited(0) {
            self.forget_fenced(node);
            return;
        }
        connection.unfence_again = now.plus_ms(AGAIN_MS);
        let text = "the unfence-peer handler failed: it is called again in a while";
        self.cx.report(Level::Warn, Some(node), None, text);
    }

    /// When something of this is due.
    pub(super) fn next_fencing(&self) -> Option<Time> {
        let due = |peer: &crate::connection::Connection| {
            let fence = match peer.fence {
                Fence::Wanted(at) | Fence::Unclear(at) => Some(at),
                Fence::Idle | Fence::Running(_) | Fence::Recording | Fence::Overridden => None,
            };
            let unfence = Some(peer.unfence_again).filter(|at| *at > self.cx.now);
            [fence, unfence].into_iter().flatten().min()
        };
        self.connections
            .values()
            .filter_map(due)
            .filter(|at| *at > self.cx.now)
            .min()
    }
}

/// What is remembered of a peer's disk when the peer goes out of reach.
pub(super) fn remembered<B: Clone>(volume: &Volume<B>, peer: &PeerDevice) -> DiskState {
    let is_outdated = || {
        let local = volume.local.as_ref();
        peer.is_fenced_diskless || local.is_some_and(|local| local.is_peer_outdated(peer.node))
    };
    match peer.peer_disk {
        disk @ (DiskState::Inconsistent | DiskState::Outdated) => disk,
        // Nobody has seen it since it was found to be behind.
        _ if !peer.has_disk() && is_outdated() => DiskState::Outdated,
        _ => DiskState::DUnknown,
    }
}

/// What a fence handler's end says, by DRBD's exit codes. That nobody can reach the peer is worth
/// something only to a node that has the newest data itself, and alone.
fn judge(result: HandlerResult, may_rely_on_silence: bool) -> Verdict {
    match result {
        HandlerResult::Exited(3) => Verdict::Harmless(DiskState::Inconsistent),
        HandlerResult::Exited(4 | 7) => Verdict::Harmless(DiskState::Outdated),
        HandlerResult::Exited(5) if may_rely_on_silence => Verdict::Harmless(DiskState::Outdated),
        HandlerResult::Exited(6) => Verdict::IsPrimary,
        HandlerResult::Exited(_) | HandlerResult::Failed => Verdict::Unclear,
    }
}

fn unclear_text(result: HandlerResult) -> String {
    match result {
        HandlerResult::Exited(code) => alloc::format!(
            "the fence-peer handler exited with {code}, which is no verdict: nothing changes"
        ),
        HandlerResult::Failed => {
            "the fence-peer handler failed or did not end in time: nothing changes".into()
        }
    }
}
