//! Commands that begin and end a verify, and the digests it is made of.

use alloc::string::String;
use alloc::vec::Vec;

use rbd_protocol::control::{Refusal, RefusalCode, VerifyOrder};
use rbd_protocol::ids::{NodeId, VolumeNumber};
use rbd_protocol::peer::Digest;
use rbd_protocol::state::{DiskState, ReplicationState};

use super::Resource;
use super::demotion::Stop;
use crate::context::Operation;
use crate::contract::{DiskError, OperationId};
use crate::volume::VerifyWish;

impl<B: Clone> Resource<B> {
    pub(super) fn verify(
        &mut self,
        number: VolumeNumber,
        peer: Option<NodeId>,
        order: VerifyOrder,
    ) -> Result<Option<String>, Refusal> {
        let nodes = self.selected(peer)?;
        let (from, until, repair) = match order {
            VerifyOrder::Start {
                from,
                until,
                repair,
            } => (from, until.unwrap_or(u64::MAX), repair),
            VerifyOrder::Stop => return self.stop_verify(number, &nodes),
        };
        let node = self.comparable(number, &nodes)?;
        let name = alloc::format!("{}/{number}", self.config.name);
        let Some(volume) = self.volumes.get_mut(&number) else {
            return Ok(None);
        };
        let goes_on = || volume.peers.get(&node).map_or(0, |peer| peer.verify_next);
        let from = from.unwrap_or_else(goes_on);
        if from >= until.min(volume.size_bytes()) {
            let size = volume.size_bytes();
            let reason =
                alloc::format!("there is nothing between start and stop; {name} has {size} bytes");
            return Err(Refusal::new(RefusalCode::InvalidRequest, reason, ""));
        }
        let wish = VerifyWish {
            from,
            until,
            repair,
        };
        volume.start_verify(node, wish, &mut self.cx);
        Ok(None)
    }

    /// A peer whose copy can be compared with this node's now.
    fn comparable(&self, number: VolumeNumber, nodes: &[NodeId]) -> Result<NodeId, Refusal> {
        let name = alloc::format!("{}/{number}", self.config.name);
        let refuse = |code, reason: String, help: &str| Err(Refusal::new(code, reason, help));
        let Some(volume) = self.volumes.get(&number) else {
            let reason = alloc::format!("{} has no volume {number}", self.config.name);
            return refuse(RefusalCode::InvalidRequest, reason, "");
        };
        if self.stop != Stop::No {
            return refuse(
                RefusalCode::StateTransient,
                "it is being stopped".into(),
                "",
            );
        }
        if volume.local.is_none() {
            let reason = alloc::format!("{name} has no disk here");
            return refuse(RefusalCode::StateDiskless, reason, "");
        }
        let connected = nodes.iter().find_map(|node| {
            let peer = volume.peers.get(node)?;
            peer.link.map(|_| peer)
        });
        let Some(peer) = connected else {
            let reason = alloc::format!("{name} is not connected to its peer");
            return refuse(RefusalCode::StateNeedsConnection, reason, "");
        };
        let configured = self
            .connections
            .get(&peer.node)
            .is_some_and(|connection| connection.config.net.verify);
        if !configured {
            let reason = alloc::format!(
                "no verify-alg is set for the connection to {}",
                self.peer_name(peer.node)
            );
            let help = "in its net section: verify-alg sha256; then on this node: rbdadm adjust";
            return refuse(RefusalCode::StateNoVerifyAlgorithm, reason, help);
        }
        // What is new differs, and is copied soon.
        let is_growing = self.resizing.is_some_and(|one| one.is_of(number));
        if is_growing || volume.is_growing() {
            let reason = alloc::format!("{name} is growing");
            return refuse(RefusalCode::StateTransient, reason, "try again");
        }
        if peer.verify.is_some() {
            let reason = alloc::format!("{name} is being verified already");
            return refuse(RefusalCode::StateSyncActive, reason, "");
        }
        match peer.replication {
            ReplicationState::Established if peer.peer_disk == DiskState::UpToDate => Ok(peer.node),
            ReplicationState::Established | ReplicationState::Off => {
                let reason = alloc::format!("{name}: the peer has no data to compare with");
                refuse(RefusalCode::StateNoUpToDateData, reason, "")
            }
            _ => {
                let reason = alloc::format!("{name} is being resynchronised");
                refuse(RefusalCode::StateSyncActive, reason, "")
            }
        }
    }

    fn stop_verify(
        &mut self,
        number: VolumeNumber,
        nodes: &[NodeId],
    ) -> Result<Option<String>, Refusal> {
        let Some(volume) = self.volumes.get_mut(&number) else {
            let reason = alloc::format!("{} has no volume {number}", self.config.name);
            return Err(Refusal::new(RefusalCode::InvalidRequest, reason, ""));
        };
        let mut positions = Vec::new();
        for node in nodes {
            positions.extend(volume.stop_verify(*node, &mut self.cx));
        }
        let (name, size) = (&self.config.name, volume.size_bytes());
        Ok(positions.first().map(|at| {
            alloc::format!(
                "{name}/{number}: verify ended at {at} of {size} bytes; the next one goes on there"
            )
        }))
    }

    /// A new link: whether a resync over it compares first is settled by the configuration of now.
    pub(super) fn choose_comparing(&mut self, node: NodeId) {
        let connection = self.connections.get(&node);
        let compares = connection.is_some_and(|known| known.config.net.compare_first);
        for volume in self.volumes.values_mut() {
            if let Some(peer) = volume.peers.get_mut(&node) {
                peer.compare_first = compares;
            }
        }
    }

    pub(super) fn digests_made(&mut self, id: OperationId, result: Result<Vec<Digest>, DiskError>) {
        let cx = &mut self.cx;
        match cx.finished(id) {
            Some(Operation::Digest {
                volume,
                peer,
                link,
                id,
                for_peer,
            }) => {
                if let Some(volume) = self.volumes.get_mut(&volume) {
                    volume.digests_made((peer, link, id), for_peer, result, cx);
                }
            }
            Some(Operation::ResyncDigest {
                volume,
                peer,
                link,
                id,
                at_source,
            }) => {
                let Some(volume) = self.volumes.get_mut(&volume) else {
                    return;
                };
                if at_source {
                    volume.compare_for_target((peer, link, id), result, cx);
                } else {
                    volume.ask_to_compare((peer, link, id), result, cx);
                }
            }
            _ => {}
        }
    }
}
