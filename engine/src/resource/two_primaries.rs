//! Whether both nodes may be Primary at once: when both have been told so, are connected and have
//! everything (F4).

use rbd_protocol::control::{Refusal, RefusalCode, ResourceConfig, TwoPrimaries};
use rbd_protocol::ids::NodeId;
use rbd_protocol::state::{DiskState, ReplicationState, Role};

use super::Resource;
use crate::connection::Connection;
use crate::contract::Time;

impl<B: Clone> Resource<B> {
    /// Whether this node has been told that the peer may be Primary too.
    pub(super) fn is_told_of_two(&self, node: NodeId) -> bool {
        let peer = self.connections.get(&node);
        let configured = peer.is_some_and(|peer| peer.config.net.two_primaries);
        (configured || self.is_migrating_with(node)) && self.connections.len() == 1
    }

    /// Whether this node and the peer may be Primary together now.
    pub(super) fn may_be_two_with(&self, node: NodeId) -> bool {
        self.connections.len() == 1
            && self.have_agreed_on_two(node)
            && self.has_everything_with(node)
    }

    /// Whether both nodes have been told so, as their greetings said.
    pub(super) fn have_agreed_on_two(&self, node: NodeId) -> bool {
        let agreed = |peer: &Connection| peer.connected_link().is_some() && peer.two_primaries;
        self.is_told_of_two(node) && self.connections.get(&node).is_some_and(agreed)
    }

    /// Whether both disks have everything, and get what is written. A volume that one of two
    /// Primaries has lost the disk of is served by the other, and that one is enough.
    pub(super) fn has_everything_with(&self, node: NodeId) -> bool {
        self.volumes.values().all(|volume| {
            let is_both = volume.peers.get(&node).is_some_and(|peer| {
                peer.peer_disk == DiskState::UpToDate
                    && matches!(
                        peer.replication,
                        ReplicationState::Established | ReplicationState::SyncSource
                    )
            });
            is_both && volume.disk == DiskState::UpToDate
        })
    }

    /// Another node has clients.
    pub(super) fn note_overtaken(&mut self) {
        for volume in self.volumes.values_mut() {
            volume.is_overtaken = true;
        }
    }

    pub(super) fn has_primary_peer(&self) -> bool {
        let mut peers = self.connections.values();
        peers.any(|peer| peer.peer_role == Role::Primary)
    }

    /// A link between two Primaries does not end by the way: without fencing each would go on
    /// alone, and with it one of them would be fenced.
    pub(super) fn refuse_leaving_primary(&self, node: NodeId) -> Result<(), Refusal> {
        let Some(peer) = self.second_primary().filter(|peer| peer.node() == node) else {
            return Ok(());
        };
        let name = &self.config.name;
        let reason = alloc::format!(
            "{} is Primary too: one of the two would be fenced, or each go on for itself",
            peer.config.name
        );
        let help = alloc::format!(
            "on either node: rbdadm secondary {name}; or, to part them all the same: rbdadm \
             disconnect --force {name}"
        );
        Err(Refusal::new(
            RefusalCode::StatePeerNotOutdated,
            reason,
            help,
        ))
    }

    /// The same for what would make the link anew, also where both may no longer be Primary.
    pub(super) fn refuse_parting_two(&self, wanted: &ResourceConfig) -> Result<(), Refusal> {
        let Some(peer) = self.second_primary() else {
            return Ok(());
        };
        let same = wanted.peers.contains(&peer.config) && wanted.listen == self.config.listen;
        if same {
            return Ok(());
        }
        let name = &self.config.name;
        let reason = alloc::format!(
            "options of the connection have changed, and {} is Primary too",
            peer.config.name
        );
        let help = alloc::format!("on either node: rbdadm secondary {name}, then adjust again");
        Err(Refusal::new(RefusalCode::StateTwoPrimaries, reason, help))
    }

    /// The connected peer that is Primary as this node is.
    fn second_primary(&self) -> Option<&Connection> {
        let is_primary = self.role == Role::Primary || self.is_recording_promotion();
        let mut peers = self.connections.values();
        peers.find(|peer| {
            is_primary && peer.peer_role == Role::Primary && peer.connected_link().is_some()
        })
    }

    pub(super) fn two_primaries_status(&self, peer: &Connection, now: Time) -> TwoPrimaries {
        let net = &peer.config.net;
        TwoPrimaries {
            is_configured: net.two_primaries,
            is_agreed: self.have_agreed_on_two(peer.node()),
            is_unfenced: net.is_two_without_fencing(),
            migration_ms: self.migration_left(peer.node(), now),
        }
    }

    /// Why the second node is not promoted although this one has been told that it may be.
    pub(super) fn not_yet_two(&self, peer: &Connection) -> Refusal {
        let name = &self.config.name;
        if !peer.two_primaries && !self.is_migrating_with(peer.node()) {
            let told = &peer.config.name;
            let reason = alloc::format!("{told} is Primary, and has not been told of a second one");
            let help = alloc::format!(
                "set allow-two-primaries for {told} as well; on {told}: rbdadm adjust {name}"
            );
            return Refusal::new(RefusalCode::StateTwoPrimaries, reason, help);
        }
        let reason = alloc::format!(
            "{} is Primary, and both disks are not UpToDate yet",
            peer.config.name
        );
        let help = alloc::format!("wait for the resync: rbdadm wait-sync {name}");
        Refusal::new(RefusalCode::StateTwoPrimaries, reason, help)
    }
}
