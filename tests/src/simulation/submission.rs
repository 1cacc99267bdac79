//! What must be so when a write is given to a disk.
//!
//! Whoever is being brought up to date by a resync must durably be Inconsistent before anything of
//! it, or of what is mirrored meanwhile, reaches the disk: else a crash leaves a mixture of two
//! generations that takes itself for a whole one (E1). Whether that ever shows depends on a crash
//! at the right moment; that the order was wrong does not.
//!
//! What came over a link that is gone is forgotten, unless it had been given to the disk already
//! (A7). And nothing of a client is given to the disk of a node whose clients wait (G4): a snapshot
//! may be under way, or somebody else may be about to become Primary.

use std::rc::Rc;

use rbd_engine::{DiskRequest, OperationId};
use rbd_protocol::peer::Packet;
use rbd_protocol::state::ReplicationState;

use super::disk::Payload;
use super::node::place;
use super::wire::volume_of;
use super::world::World;

/// Data a peer has sent and that has not been written yet.
#[derive(Debug, Default)]
pub(super) struct FromPeer {
    resync: Vec<Payload>,
    mirrored: Vec<Payload>,
    /// What it wants written for its clients.
    asked: Vec<Payload>,
    /// What came over a link that is gone.
    stale: Vec<Payload>,
    /// The writes of it that the disk has been given and has not finished.
    being_written: Vec<OperationId>,
}

impl FromPeer {
    /// The link is gone, and with it what it brought and has not been given to the disk.
    pub(super) fn lose_link(&mut self) {
        self.stale.append(&mut self.resync);
        self.stale.append(&mut self.mirrored);
        self.stale.append(&mut self.asked);
    }

    /// Whether something the peer has sent is on its way to the disk.
    pub(super) fn is_being_written(&self) -> bool {
        !self.being_written.is_empty()
    }

    /// The disk has finished an operation.
    pub(super) fn ended(&mut self, id: OperationId) {
        self.being_written.retain(|known| *known != id);
    }
}

/// What a node has sent of its clients' writes: it may have to write that late, or once more.
#[derive(Debug, Default)]
pub(super) struct Begun(Vec<Payload>);

impl Begun {
    fn note(&mut self, data: &Payload) {
        if self.0.len() >= MANY {
            self.0.retain(|known| Rc::strong_count(known) > 1);
        }
        self.0.push(Rc::clone(data));
    }

    /// A zeroing of the peer's cannot be told from one of this node's: those are looked at only
    /// when they are sent.
    fn holds(&self, data: Option<&Payload>) -> bool {
        data.is_none_or(|data| self.0.iter().any(|known| Rc::ptr_eq(known, data)))
    }
}

impl World {
    /// A node sends this.
    pub(super) fn note_begun(&mut self, node: usize, packet: &Packet, data: Option<&Payload>) {
        if !matches!(packet, Packet::Write { .. } | Packet::Zero { .. }) {
            return;
        }
        let Some(volume) = volume_of(packet).map(place) else {
            return;
        };
        let machine = &self.nodes[node];
        let is_suspended = machine.was_suspended && self.is_suspended(node);
        let waits = machine.waits && is_suspended && machine.is_primary();
        if self.options.dual && waits && !self.is_being_demoted(node) {
            self.violation(format!(
                "G4: node {node} sends a client's write while clients are to wait"
            ));
        }
        if let Some(data) = data {
            self.nodes[node][volume].begun.note(data);
        }
    }

    /// A packet reaches a node's engine, over a link that is gone if it is `stale`.
    pub(super) fn note_data_from_peer(
        &mut self,
        to: usize,
        packet: &Packet,
        data: &Payload,
        stale: bool,
    ) {
        let Some(volume) = volume_of(packet).map(place) else {
            return;
        };
        let from_peer = &mut self.nodes[to][volume].from_peer;
        // The same data may be sent once more over the next link.
        take(&mut from_peer.stale, data);
        let list = match packet {
            Packet::ResyncData { .. } | Packet::Write { .. } | Packet::RemoteWrite { .. }
                if stale =>
            {
                &mut from_peer.stale
            }
            Packet::RemoteWrite { .. } => &mut from_peer.asked,
            Packet::ResyncData { .. } => &mut from_peer.resync,
            Packet::Write { .. } => &mut from_peer.mirrored,
            _ => return,
        };
        if list.len() >= MANY {
            // What only this list still holds, the engine has let go of.
            list.retain(|known| Rc::strong_count(known) > 1);
        }
        list.push(Rc::clone(data));
    }

    /// A write is given to a node's disk.
    pub(super) fn look_at_submission(
        &mut self,
        node: usize,
        volume: usize,
        id: OperationId,
        request: DiskRequest,
        data: Option<&Payload>,
    ) {
        if !matches!(
            request,
            DiskRequest::Write { .. } | DiskRequest::Zero { .. }
        ) {
            return;
        }
        let machine = &mut self.nodes[node][volume];
        let from_peer = &mut machine.from_peer;
        let mut came_by = |list: fn(&mut FromPeer) -> &mut Vec<Payload>| {
            data.is_some_and(|data| take(list(from_peer), data))
        };
        let is_resync = came_by(|from_peer| &mut from_peer.resync);
        let is_mirrored = !is_resync && came_by(|from_peer| &mut from_peer.mirrored);
        if !is_resync && !is_mirrored {
            // What is asked for anew may still come over the link it was first sent over.
            let is_asked = came_by(|from_peer| &mut from_peer.asked);
            if came_by(|from_peer| &mut from_peer.stale) && !is_asked {
                self.violation(format!(
                    "A7: node {node} begins to write what came over a link that is gone"
                ));
            }
            self.look_at_client_write(node, volume, data);
            return;
        }
        from_peer.being_written.push(id);
        let what = if is_resync {
            "resync data"
        } else if is_target(machine.replication) {
            "a mirrored write"
        } else {
            return;
        };
        if !self.set_up {
            return;
        }
        let machine = &self.nodes[node][volume];
        let consistent = if machine.disk.marks_changed {
            machine
                .open()
                .is_ok_and(|image| image.superblock.flags.consistent)
        } else {
            machine.consistent
        };
        if consistent {
            self.violation(format!(
                "E1: {what} is written on node {node}, which is not durably Inconsistent"
            ));
        }
    }
}

impl World {
    /// A write that is not a peer's is given to a node's disk.
    fn look_at_client_write(&mut self, node: usize, volume: usize, data: Option<&Payload>) {
        let machine = &self.nodes[node];
        // While its disk is being filled, all that goes there is the peer's.
        let has_clients = machine.is_primary() && machine[volume].serves_itself();
        // As one that is to be no Primary any more it does what the other one's clients ask for.
        if self.options.dual && self.is_being_demoted(node) {
            return;
        }
        // What has crossed a write of the peer goes to the disk late, or once more: but only what
        // was sent before.
        let has_begun = self.options.dual && machine[volume].begun.holds(data);
        let waits = machine.waits && machine.was_suspended;
        if waits && !has_begun && has_clients && self.is_suspended(node) {
            self.violation(format!(
                "G4: node {node} gives a client's write to its disk while clients are to wait"
            ));
        }
    }
}

pub(super) fn is_target(state: ReplicationState) -> bool {
    matches!(
        state,
        ReplicationState::WFBitMapT | ReplicationState::SyncTarget | ReplicationState::PausedSyncT
    )
}

/// Whether this very data is in the list; it is taken out then.
fn take(list: &mut Vec<Payload>, data: &Payload) -> bool {
    let found = list.iter().position(|known| Rc::ptr_eq(known, data));
    found.map(|at| list.swap_remove(at)).is_some()
}

/// More than a peer has under way as a rule.
const MANY: usize = 64;
