//! Whether a peer may serve the clients of a Primary that has no data of its own (H4).

use rbd_protocol::ids::{GenerationId, NodeId};
use rbd_protocol::state::Role;

use super::Volume;

impl<B: Clone> Volume<B> {
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
