//! The snapshot for people. Decides nothing.

use rbd_protocol::control::{ConnectionStatus, ResourceStatus};

use super::Resource;
use crate::connection::{Connection, Tentative};
use crate::contract::Time;

impl<B: Clone> Resource<B> {
    /// A snapshot for people.
    #[must_use]
    pub fn status(&self, now: Time) -> ResourceStatus {
        let lower = |number| self.cx.operations_on(number);
        let devices = self
            .volumes
            .values()
            .map(|volume| volume.device_status(lower(volume.number)));
        ResourceStatus {
            name: self.config.name.clone(),
            node_id: self.config.node_id,
            role: self.role,
            suspended: self.suspended(),
            tenure: self.tenure,
            devices: devices.collect(),
            connections: self
                .connections
                .values()
                .map(|peer| self.peer_status(peer, now))
                .collect(),
        }
    }

    fn peer_status(&self, connection: &Connection, now: Time) -> ConnectionStatus {
        let node = connection.node();
        let volumes = self.volumes.values();
        ConnectionStatus {
            peer_node_id: node,
            name: connection.config.name.clone(),
            connection_state: connection.state,
            note: connection.note.clone(),
            is_refused: false,
            since_ms: now.ms_since(connection.since),
            peer_role: connection.peer_role,
            application_in_flight_bytes: volumes
                .clone()
                .map(|volume| volume.in_flight_bytes(node))
                .sum(),
            resync_in_flight_bytes: volumes
                .clone()
                .filter_map(|volume| volume.peers.get(&node)?.target.as_ref())
                .map(|target| target.outstanding_bytes)
                .sum(),
            local_address: self.config.listen.clone().unwrap_or_default(),
            peer_address: connection.config.address.clone(),
            peer_devices: volumes
                .filter_map(|volume| volume.peer_device_status(node, now))
                .collect(),
            refused: connection
                .refused
                .as_ref()
                .map(|refused| refused.status(now)),
            tentative: match &connection.tentative {
                Tentative::Told(text) => Some(text.clone()),
                Tentative::No | Tentative::Wanted => None,
            },
            peer_tenure: connection.greeted.1,
            split: connection.config.net.split,
            resync_conflict: connection.config.net.resync_conflict,
            two_primaries: self.two_primaries_status(connection, now),
        }
    }
}
