//! What must be so when a write is given to a disk.
//!
//! Whoever is being brought up to date by a resync must durably be Inconsistent before anything of
//! it, or of what is mirrored meanwhile, reaches the disk: else a crash leaves a mixture of two
//! generations that takes itself for a whole one (E1). Whether that ever shows depends on a crash
//! at the right moment; that the order was wrong does not.

use std::rc::Rc;

use rbd_engine::DiskRequest;
use rbd_protocol::peer::Packet;
use rbd_protocol::state::ReplicationState;

use super::disk::Payload;
use super::world::World;

/// Data a peer has sent and that has not been written yet.
#[derive(Debug, Default)]
pub(super) struct FromPeer {
    resync: Vec<Payload>,
    mirrored: Vec<Payload>,
}

impl World {
    /// A packet reaches a node's engine.
    pub(super) fn note_data_from_peer(&mut self, to: usize, packet: &Packet, data: &Payload) {
        let from_peer = &mut self.nodes[to].from_peer;
        let list = match packet {
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
        request: DiskRequest,
        data: Option<&Payload>,
    ) {
        let (DiskRequest::Write { .. }, Some(data)) = (request, data) else {
            return;
        };
        let machine = &mut self.nodes[node];
        let what = if take(&mut machine.from_peer.resync, data) {
            "resync data"
        } else if take(&mut machine.from_peer.mirrored, data) && is_target(machine.replication) {
            "a mirrored write"
        } else {
            return;
        };
        if !self.set_up {
            return;
        }
        let machine = &self.nodes[node];
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

fn is_target(state: ReplicationState) -> bool {
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
