//! A snapshot of the volume for people, and the counters in it.

use alloc::vec::Vec;

use rbd_protocol::control::{DeviceStatus, PeerDeviceStatus};
use rbd_protocol::ids::{GenerationId, NodeId};

use super::Volume;
use super::verified::shown_replication;
use crate::contract::Time;
use crate::local_disk::LocalDisk;

/// What has been counted since the resource came up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) read_bytes: u64,
    pub(crate) written_bytes: u64,
    pub(crate) intent_writes: u64,
    pub(crate) bitmap_writes: u64,
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

impl<B: Clone> Volume<B> {
    pub(crate) fn device_status(&self, lower_pending: usize) -> DeviceStatus {
        let upper =
            self.writes.len() + self.reads.len() + self.barriers.len() + self.frozen.count();
        let local = self.local.as_ref();
        DeviceStatus {
            volume: self.number,
            minor: self.config.minor,
            disk_state: self.disk,
            disk_note: self.disk_note.clone(),
            backing_disk: self.config.disk.clone(),
            open_count: self.openers,
            size_bytes: self.shown_bytes(),
            read_bytes: self.counters.read_bytes,
            written_bytes: self.counters.written_bytes,
            intent_writes: self.counters.intent_writes,
            bitmap_writes: self.counters.bitmap_writes,
            upper_pending: count(upper),
            lower_pending: count(lower_pending),
            hot_regions: local.map_or(0, |local| u64::from(local.intent.hot_count())),
            current_generation: self.shown_generation(),
            write_cache: local.map(LocalDisk::write_cache),
        }
    }

    pub(crate) fn peer_device_status(&self, node: NodeId, now: Time) -> Option<PeerDeviceStatus> {
        let peer = self.peers.get(&node)?;
        let pending = |range: &(NodeId, super::write::Leg)| {
            range.0 == node && range.1 == super::write::Leg::Pending
        };
        let waiting: Vec<_> = self
            .writes
            .values()
            .filter(|write| write.legs.iter().any(pending))
            .collect();
        let unacknowledged = self
            .peer_writes
            .values()
            .filter(|write| write.peer == node)
            .count();
        Some(PeerDeviceStatus {
            volume: self.number,
            replication_state: shown_replication(peer, now),
            peer_disk_state: peer.peer_disk,
            received_bytes: peer.received_bytes,
            sent_bytes: peer.sent_bytes,
            out_of_sync_bytes: peer.out_of_sync_bytes(),
            pending: count(waiting.len()),
            unacknowledged: count(unacknowledged),
            bitmap_generation: self
                .local
                .as_ref()
                .map_or(GenerationId::NONE, |local| local.bitmap_generation(node)),
            resync_suspended: peer.pauses,
            resync: peer.resync_progress(now),
            verify: peer.verify.as_ref().map(|verify| verify.progress(now)),
        })
    }

    /// Bytes of client writes sent to the peer and not acknowledged.
    pub(crate) fn in_flight_bytes(&self, node: NodeId) -> u64 {
        self.writes
            .values()
            .filter(|write| write.legs.contains(&(node, super::write::Leg::Pending)))
            .map(|write| u64::from(write.range.length))
            .sum()
    }
}
