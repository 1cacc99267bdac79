//! `new-current-uuid`: a new generation by command, and two just-created replicas declared
//! identical without copying anything.

use alloc::string::String;
use alloc::vec::Vec;

use rbd_protocol::control::{Refusal, RefusalCode};
use rbd_protocol::ids::{GenerationId, NodeId, VolumeNumber};
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{DiskState, ReplicationState, Role};

use super::Resource;
use crate::contract::{CallId, LinkId};
use crate::local_disk::LocalDisk;
use crate::peer_device::PeerDevice;

impl<B: Clone> Resource<B> {
    pub(super) fn new_generation(
        &mut self,
        call: CallId,
        number: VolumeNumber,
        clear_bitmap: bool,
    ) -> Result<Option<Option<String>>, Refusal> {
        let name = self.config.name.clone();
        let refuse = |code, reason: String, help: String| Err(Refusal::new(code, reason, help));
        let Some(volume) = self.volumes.get_mut(&number) else {
            let reason = alloc::format!("{name} has no {number:?}");
            return refuse(RefusalCode::InvalidRequest, reason, String::new());
        };
        let Some(local) = &volume.local else {
            let reason = alloc::format!("{name}/{number} has no disk");
            let help = alloc::format!("rbdadm up {name}");
            return refuse(RefusalCode::StateDiskless, reason, help);
        };
        if !clear_bitmap {
            if volume.disk != DiskState::UpToDate {
                let reason = alloc::format!("{name}/{number} is {}", volume.disk);
                return refuse(RefusalCode::StateNoUpToDateData, reason, String::new());
            }
            // A greeting that is on its way names the generation there is (D1).
            let meets = |peer: &PeerDevice| peer.link.is_some() || peer.handshaking;
            if volume.peers.values().any(meets) {
                let reason = String::from("a connected peer would not learn of it");
                let help = alloc::format!("rbdadm disconnect {name}");
                return refuse(RefusalCode::InvalidRequest, reason, help);
            }
            volume.begin_generation(|_| true, &mut self.cx);
            self.recording.push((call, Some(number)));
            return Ok(None);
        }
        if !local.is_fresh() {
            let reason = alloc::format!("{name}/{number} already has data of a known generation");
            let help = String::from("only fresh metadata can skip the initial sync");
            return refuse(RefusalCode::InvalidRequest, reason, help);
        }
        if self.role == Role::Primary || self.clearing.is_some() {
            let reason =
                String::from("both nodes must be Secondary, and no other such command run");
            return refuse(RefusalCode::InvalidRequest, reason, String::new());
        }
        let established: Vec<(NodeId, LinkId)> = volume
            .peers
            .values()
            .filter(|peer| peer.replication == ReplicationState::Established)
            .filter_map(|peer| Some((peer.node, peer.link?)))
            .collect();
        if established.is_empty() || established.len() != volume.peers.len() {
            let reason = alloc::format!("{name}/{number} is not connected to its peer");
            let help = alloc::format!("rbdadm connect {name}; rbdadm wait-connect {name}");
            return refuse(RefusalCode::StateNeedsConnection, reason, help);
        }
        let generation = self.cx.random.generation();
        self.clearing = Some((call, number, generation));
        for (node, link) in established {
            let packet = Packet::NewGeneration {
                id: generation.0,
                volume: number,
                generation,
            };
            self.cx.send(node, link, packet, None);
        }
        Ok(None)
    }

    /// A peer asks to declare both just-created replicas identical.
    pub(super) fn new_generation_request(
        &mut self,
        node: NodeId,
        link: LinkId,
        id: u64,
        number: VolumeNumber,
        generation: GenerationId,
    ) {
        let adopted = generation.names_data()
            && self.role == Role::Secondary
            && self.volumes.get(&number).is_some_and(|volume| {
                volume.local.as_ref().is_some_and(LocalDisk::is_fresh)
                    && volume
                        .peers
                        .get(&node)
                        .is_some_and(|peer| peer.replication == ReplicationState::Established)
            });
        if adopted {
            self.skip_initial_sync(node, number, generation);
        }
        // The answer is not held back until it is durable here: were it lost, the next handshake
        // would find just-created metadata and copy everything, which is safe.
        let packet = Packet::NewGenerationAck {
            id,
            volume: number,
            adopted,
        };
        self.cx.send(node, link, packet, None);
    }

    /// The peer's answer to that.
    pub(super) fn new_generation_reply(
        &mut self,
        node: NodeId,
        number: VolumeNumber,
        id: u64,
        adopted: bool,
    ) {
        let is_answer = |asked: &mut (_, _, GenerationId)| asked.1 == number && asked.2.0 == id;
        let Some((call, asked, generation)) = self.clearing.take_if(is_answer) else {
            return;
        };
        if adopted {
            self.skip_initial_sync(node, asked, generation);
            self.recording.push((call, Some(asked)));
        } else {
            let reason = "the peer's volume is in use or not just created";
            let refusal = Refusal::new(RefusalCode::StateRefusedByPeer, reason, "");
            self.cx.reply(call, Err(refusal));
        }
    }

    /// The peer that was asked is gone.
    pub(super) fn clearing_lost_peer(&mut self, _node: NodeId) {
        if let Some((call, ..)) = self.clearing.take() {
            let reason = "the connection was lost on the way";
            let refusal = Refusal::new(RefusalCode::StateNeedsConnection, reason, "");
            self.cx.reply(call, Err(refusal));
        }
    }

    fn skip_initial_sync(&mut self, node: NodeId, number: VolumeNumber, generation: GenerationId) {
        let Some(volume) = self.volumes.get_mut(&number) else {
            return;
        };
        volume.adopt_generation(generation);
        if let Some(peer) = volume.peers.get_mut(&node) {
            peer.bitmap.clear_all();
            peer.peer_disk = DiskState::UpToDate;
        }
        volume.set_disk_state(DiskState::UpToDate, "", &mut self.cx);
        volume.note_in_sync(node, &mut self.cx);
    }
}
