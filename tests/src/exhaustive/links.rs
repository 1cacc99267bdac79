//! Links that come and go, nodes that stop.

use rbd_engine::{LinkLoss, Seek};

use super::disk::Disk;
use super::node::{Node, durable};
use super::world::{Pending, World};

impl World {
    /// A node closes its end: what it has sent arrives, then the peer notices.
    pub(super) fn close(&mut self, node: usize, link: u64, loss: LinkLoss) {
        self.pending.push(Pending::LinkDown { node, link, loss });
        if self.wire == Some(link) {
            self.wire = None;
            let loss = LinkLoss::Closed;
            self.pending.push(Pending::LinkDown {
                node: 1 - node,
                link,
                loss,
            });
        }
    }

    pub(super) fn try_meet(&mut self) {
        let waits = self
            .pending
            .iter()
            .any(|what| matches!(what, Pending::Meet));
        if !waits && self.can_meet() {
            self.pending.push(Pending::Meet);
        }
    }

    fn can_meet(&self) -> bool {
        // Of two that are patient, neither dials before long.
        let dials = |node: &Node| matches!(node.seeking, Seek::AtOnce | Seek::Soon);
        self.network
            && self.wire.is_none()
            && self.nodes.iter().all(|node| node.seeking != Seek::Stop)
            && self.nodes.iter().any(dials)
    }

    pub(super) fn meet(&mut self) {
        if !self.can_meet() {
            return;
        }
        let link = self.name();
        self.wire = Some(link);
        for node in 0..2 {
            self.nodes[node].seeking = Seek::Stop;
            self.pending.push(Pending::LinkUp { node, link });
        }
    }

    /// The link breaks: nothing under way on it arrives.
    pub(super) fn cut(&mut self) {
        let Some(link) = self.wire.take() else { return };
        self.pending
            .retain(|what| !matches!(what, Pending::Packet(letter) if letter.link == link));
        for node in 0..2 {
            if self.nodes[node].engine.is_some() {
                let loss = LinkLoss::Closed;
                self.pending.push(Pending::LinkDown { node, link, loss });
            }
        }
    }

    /// The process of a node has ended, and its disk is this. Without power, what it has sent and
    /// has not arrived is lost as well.
    pub(super) fn stop(&mut self, node: usize, disk: Disk, power: bool) {
        self.note(|| format!("node {node} stops, power lost: {power}"));
        if power {
            self.nodes[node].boot += 1;
            self.nodes[node].lost_power = true;
        }
        if let Some(link) = self.wire.take() {
            let (peer, loss) = (1 - node, LinkLoss::Closed);
            self.pending.push(Pending::LinkDown {
                node: peer,
                link,
                loss,
            });
        }
        self.pending.retain(|what| match what {
            Pending::Disk { node: of, .. }
            | Pending::Meta { node: of, .. }
            | Pending::Handler { node: of, .. }
            | Pending::LinkUp { node: of, .. }
            | Pending::LinkDown { node: of, .. } => *of != node,
            Pending::Packet(letter) => letter.to != node && !power,
            Pending::Meet => true,
        });
        self.nodes[node].end_process();
        self.nodes[node].disk = disk;
        self.read_metadata(node);
        self.requests.retain(|request| request.node != node);
        self.calls.retain(|(_, of, _)| *of != node);
    }

    /// A node stops, and what that means for what clients may count on.
    pub(super) fn lose(&mut self, node: usize, disk: Disk, power: bool) {
        let held = self.holds_everything(node);
        self.stop(node, disk, power);
        let other = 1 - node;
        let survives = !self.nodes[other].lost_power
            && self.nodes[other].is_a_copy(self.time())
            && !self.is_newer(node, other)
            && self.holds_everything(other);
        if power && held && !survives {
            self.sectors.caches_lost();
        }
    }

    pub(super) fn read_metadata(&mut self, node: usize) {
        match durable(node, &self.nodes[node].disk) {
            Ok(found) => {
                // A copy that becomes a target by the word of a peer that has just lost its power
                // is a copy no more; the manual says so.
                let gave_way = self.nodes[node].durable.consistent && !found.consistent;
                if gave_way && self.nodes[1 - node].lost_power {
                    self.sectors.caches_lost();
                }
                self.nodes[node].durable = found;
            }
            Err(text) => self.violation(text),
        }
    }
}
