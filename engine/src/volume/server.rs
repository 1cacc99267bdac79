//! Whether a peer may serve the clients of a Primary that has no data of its own (H4).

use rbd_protocol::ids::{GenerationId, NodeId};
use rbd_protocol::state::{DiskState, Role};

use super::Volume;
use crate::context::Context;
use crate::contract::{DiskNote, Level};
use crate::local_disk::LocalDisk;

impl<B: Clone> Volume<B> {
    /// Keeps a note, elsewhere than on the disk, of whether clients have gone on without it: until
    /// the disk, attached again, says durably itself that it is behind (A2). `goes_on`: a connected
    /// peer has clients.
    pub(crate) fn note_left_behind(&mut self, goes_on: bool, cx: &mut Context<B>) {
        let holds = match &self.local {
            Some(local) => self.left_behind && !local.is_settled(),
            None => {
                let is_served = self.role == Role::Primary && self.server().is_some();
                self.left_behind || is_served || (goes_on && self.missed_writes)
            }
        };
        if holds != self.left_behind {
            self.left_behind = holds;
            cx.note_of_disk(self.number, DiskNote::LeftBehind, holds);
        }
    }

    /// This disk is being attached: if clients have gone on without it, it is behind, whatever it
    /// says.
    pub(crate) fn hold_back_if_left_behind(&mut self, local: &mut LocalDisk, cx: &mut Context<B>) {
        if self.left_behind && local.state_alone() > DiskState::Outdated {
            local.record_disk_state(DiskState::Outdated);
            self.unsettled = true;
            let text = "clients have gone on without this disk: it counts as Outdated until it \
                        has met the peer";
            cx.report(Level::Warn, None, Some(self.number), text);
        }
    }

    /// The peer greets. `same_boot`: its host has not been booted since it was last met. Else what
    /// it had done for clients of this node may be lost, and stays so however often it is met.
    pub(crate) fn note_lost_by(&mut self, node: NodeId, same_boot: bool) {
        let has_clients = self.role == Role::Primary && !self.has_own_data();
        if let Some(peer) = self.peers.get_mut(&node) {
            let is_whole = same_boot || peer.remote_stable == peer.remote_written;
            peer.has_lost = has_clients && (peer.has_lost || !is_whole);
        }
    }

    /// Whether the peer's data is what this node's clients have seen last. `same_tenure`: the peer
    /// has had no clients of its own since this node last knew its generation.
    pub(crate) fn may_be_served(
        &self,
        node: NodeId,
        (current, since): (GenerationId, GenerationId),
        same_tenure: bool,
    ) -> bool {
        let Some(peer) = self.peers.get(&node) else {
            return false;
        };
        if self.role != Role::Primary || self.has_own_data() {
            return true; // there are no clients that have seen anything of it
        }
        let began_for_us = same_tenure && since == self.exposed;
        !peer.has_lost && current.names_data() && (current == self.exposed || began_for_us)
    }
}
