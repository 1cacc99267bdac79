//! A Secondary and a Primary part in an orderly way, where fencing is configured: the Secondary
//! declares its data behind before it is gone, so that nobody has to be fenced.
//!
//! It may do so only on the Primary's word, and the Primary gives its word only when all it has
//! answered is durable on its own disk, and begins nothing new before the other has declared
//! itself. A Secondary that gave up its data on its own could give up the only copy of what a
//! Primary, dead without anybody's having noticed, had answered (A1, B7).

use alloc::vec::Vec;

use rbd_protocol::control::Fencing;
use rbd_protocol::ids::NodeId;
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{DiskState, Role};

use super::Resource;
use super::demotion::Stop;
use super::promotion::is_settled;
use crate::connection::{Connection, Leaving, Parting, PartingStep};
use crate::contract::{Level, LinkLoss, Time};
use crate::peer_device::{Finish, PeerDevice};
use crate::volume::BarrierPurpose;

/// How long a Primary's clients may have to wait for a peer to be let go.
const PARTING_MS: u64 = 4_000;

/// How long a Secondary waits for a Primary to let it go: longer than that takes.
const LEAVING_MS: u64 = 6_000;

impl<B: Clone> Resource<B> {
    /// The connection to the peer is to end by command. Tells whether there is something to do
    /// first; the connection ends by itself when that is done, or takes too long.
    pub(super) fn begin_to_leave(&mut self, node: NodeId) -> bool {
        let asks = self.minds_leaving(node);
        if asks {
            // One of two Primaries that has just been demoted is let go as a Secondary only.
            self.tell_state();
        }
        let parts = self.may_part(node);
        let now = self.cx.now;
        let Some(connection) = self.connections.get_mut(&node) else {
            return false;
        };
        if connection.leaving.is_some() || connection.parting.is_some() {
            connection.is_ending = true;
            return true;
        }
        let Some(link) = connection.connected_link() else {
            return false;
        };
        if asks {
            connection.leaving = Some(Leaving::Asked(now.plus_ms(LEAVING_MS)));
            self.cx.send(node, link, Packet::Leave, None);
        } else if parts {
            self.begin_parting(node);
        } else {
            return false;
        }
        if let Some(connection) = self.connections.get_mut(&node) {
            connection.is_ending = true;
        }
        true
    }

    /// Whether a Primary has to be asked before this node leaves it.
    fn minds_leaving(&self, node: NodeId) -> bool {
        let has_everything = |peer: &PeerDevice| peer.peer_disk == DiskState::UpToDate;
        self.role == Role::Secondary
            && self.fencing_policy(node) != Fencing::DontCare
            && self
                .connections
                .get(&node)
                .is_some_and(|peer| peer.peer_role == Role::Primary)
            && self.volumes.values().any(|volume| volume.local.is_some())
            && self
                .volumes
                .values()
                .all(|volume| volume.peers.get(&node).is_some_and(has_everything))
    }

    /// Whether this node is a Primary that can go on without the peer, and would otherwise have to
    /// fence it.
    fn may_part(&self, node: NodeId) -> bool {
        self.role == Role::Primary
            && self.fencing_policy(node) != Fencing::DontCare
            && !self.has_primary_peer()
            && self.is_there(node)
            && self.demotion.is_none()
            && self.detaching.is_none()
            && self.stop == Stop::No
            && self.volumes.values().all(|volume| {
                volume.local.is_some() && volume.disk == DiskState::UpToDate && !volume.is_frozen()
            })
    }

    fn begin_parting(&mut self, node: NodeId) {
        let until = self.cx.now.plus_ms(PARTING_MS);
        if let Some(connection) = self.connections.get_mut(&node) {
            let step = PartingStep::Draining;
            connection.parting = Some(Parting { step, until });
        }
        for volume in self.volumes.values_mut() {
            volume.frozen.holding = true;
            volume.unsettled = true;
        }
    }

    /// Whether clients wait for a peer to be let go.
    pub(super) fn is_parting(&self) -> bool {
        let parts = |peer: &Connection| peer.parting.is_some();
        self.connections.values().any(parts)
    }

    /// Whether some connection is about to end.
    pub(super) fn is_any_leaving(&self) -> bool {
        let leaves = |peer: &Connection| peer.parting.is_some() || peer.leaving.is_some();
        self.connections.values().any(leaves)
    }

    /// A Secondary wants to go.
    pub(super) fn peer_leaves(&mut self, node: NodeId) {
        let Some(connection) = self.connections.get(&node) else {
            return;
        };
        if connection.parting.is_some() {
            return; // what it is told anyway is the answer
        }
        if self.may_part(node) {
            self.begin_parting(node);
        } else {
            self.reply_to_leave(node, false);
        }
    }

    fn reply_to_leave(&mut self, node: NodeId, outdate: bool) {
        let link = self
            .connections
            .get(&node)
            .and_then(Connection::connected_link);
        if let Some(link) = link {
            let packet = Packet::LeaveReply { outdate };
            self.cx.send(node, link, packet, None);
        }
    }

    /// The Primary's word. It also comes unasked, when it is the Primary that ends the connection.
    pub(super) fn may_leave(&mut self, node: NodeId, outdate: bool) -> Result<(), &'static str> {
        let is_primary = self.role == Role::Primary;
        let Some(connection) = self.connections.get_mut(&node) else {
            return Ok(());
        };
        if outdate {
            if is_primary && connection.two_primaries {
                return Ok(()); // promoted since the peer gave it: it is no Secondary to be let go
            }
            if is_primary || connection.peer_role != Role::Primary {
                return Err("a word of parting that only a Primary may give a Secondary");
            }
            connection.leaving = Some(Leaving::Declaring);
        } else if matches!(connection.leaving, Some(Leaving::Asked(_))) {
            self.disconnect_peer(node);
        }
        Ok(())
    }

    /// The peer has declared its data behind: the Primary goes on without it.
    pub(super) fn peer_outdated_itself(&mut self, node: NodeId) -> Result<(), &'static str> {
        let told = |connection: &Connection| {
            let step = connection.parting.map(|parting| parting.step);
            step == Some(PartingStep::Told)
        };
        let Some(connection) = self.connections.get(&node).filter(|peer| told(peer)) else {
            return Err("a declaration nobody has asked for");
        };
        let is_ending = connection.is_ending;
        if is_ending {
            self.disconnect_peer(node);
        } else {
            self.drop_link(node, LinkLoss::Goodbye);
        }
        let text = "the peer has declared its data behind before it left";
        self.peer_is_harmless(node, DiskState::Outdated, text);
        Ok(())
    }

    /// The link is lost, for whatever reason: nobody waits for anything over it.
    pub(super) fn forget_parting(&mut self, node: NodeId) {
        let Some(connection) = self.connections.get_mut(&node) else {
            return;
        };
        connection.leaving = None;
        if connection.parting.take().is_none() {
            return;
        }
        for volume in self.volumes.values_mut() {
            volume.frozen.holding = false;
            volume.unsettled = true;
        }
    }

    /// Takes every parting as far as it can go.
    pub(super) fn advance_partings(&mut self) {
        if !self.is_any_leaving() {
            return;
        }
        let nodes: Vec<NodeId> = self.connections.keys().copied().collect();
        for node in nodes {
            while self.advance_parting(node) {}
            self.advance_leaving(node);
        }
    }

    /// The Primary's part; takes one step, if one is possible.
    fn advance_parting(&mut self, node: NodeId) -> bool {
        let Some(connection) = self.connections.get(&node) else {
            return false;
        };
        let (is_ending, parting) = (connection.is_ending, connection.parting);
        let Some(parting) = parting else { return false };
        let able = self.volumes.values().all(|volume| {
            volume.local.is_some() && volume.disk == DiskState::UpToDate && !volume.is_frozen()
        });
        if parting.until <= self.cx.now || !able {
            let text = "the peer could not be let go in order";
            self.cx.report(Level::Warn, Some(node), None, text);
            let told = parting.step == PartingStep::Told;
            self.forget_parting(node);
            if is_ending {
                self.disconnect_peer(node);
            } else if told {
                self.drop_link(node, LinkLoss::Timeout); // it may have declared itself already
            } else {
                self.reply_to_leave(node, false);
            }
            return false;
        }
        let drained = self.volumes.values().all(crate::volume::Volume::is_drained);
        let next = match parting.step {
            PartingStep::Draining if drained => {
                for volume in self.volumes.values_mut() {
                    volume.start_barrier(BarrierPurpose::Parting, &mut self.cx);
                }
                PartingStep::Flushing
            }
            PartingStep::Flushing if drained => {
                self.reply_to_leave(node, true);
                PartingStep::Told
            }
            step => step,
        };
        if let Some(connection) = self.connections.get_mut(&node)
            && let Some(parting) = &mut connection.parting
        {
            parting.step = next;
        }
        next != parting.step
    }

    /// The Secondary's part.
    fn advance_leaving(&mut self, node: NodeId) {
        let Some(connection) = self.connections.get(&node) else {
            return;
        };
        let (is_ending, link) = (connection.is_ending, connection.connected_link());
        match connection.leaving {
            Some(Leaving::Asked(until)) if until <= self.cx.now => {
                let text = "the Primary has not answered in time: leaving without its word";
                self.cx.report(Level::Warn, Some(node), None, text);
                self.disconnect_peer(node);
                return;
            }
            None | Some(Leaving::Asked(_)) => return,
            Some(Leaving::Declaring) => {}
        }
        // The end of a resync would make the data whole again; it is let come first.
        let ends_resync = self.volumes.values().any(|volume| {
            let target = |peer: &PeerDevice| {
                let target = peer.target.as_ref();
                target.is_some_and(|target| target.finish != Finish::NotYet)
            };
            volume.peers.values().any(target)
        });
        if ends_resync {
            return;
        }
        let usable = |volume: &crate::volume::Volume<B>| {
            volume.local.is_some() && volume.disk > DiskState::Outdated
        };
        if self.volumes.values().any(usable) {
            self.outdate_disks("it leaves a Primary that goes on");
        }
        let settled = |volume: &crate::volume::Volume<B>| is_settled(volume.local.as_ref());
        let Some(link) = link.filter(|_| self.volumes.values().all(settled)) else {
            return;
        };
        self.cx.send(node, link, Packet::Outdated, None);
        if is_ending {
            self.disconnect_peer(node);
        } else {
            self.drop_link(node, LinkLoss::Goodbye);
        }
    }

    /// When the next of these waits is over.
    pub(super) fn next_parting(&self) -> Option<Time> {
        let due = |peer: &Connection| {
            let leaving = match peer.leaving {
                Some(Leaving::Asked(until)) => Some(until),
                Some(Leaving::Declaring) | None => None,
            };
            [leaving, peer.parting.map(|parting| parting.until)]
                .into_iter()
                .flatten()
                .min()
        };
        self.connections.values().filter_map(due).min()
    }
}
