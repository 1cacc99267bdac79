//! What is told and shown of a resync beside its data: whether somebody holds it back, how fast it
//! is, and what keeps it from being faster.
//!
//! A paused resync is one whose target asks for nothing more. What it has asked for still comes and
//! is written, both bitmaps go on agreeing, writes go on being mirrored, and where nothing is left
//! to ask for it ends as always: a pause decides nothing about data. Either node may hold it back;
//! each tells the other, before it sends its bitmap, so that nothing is asked for in between.

use rbd_protocol::control::{Pauses, ResyncProgress};
use rbd_protocol::ids::NodeId;
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{ReplicationState, ResyncLimit};

use super::Volume;
use crate::context::Context;
use crate::contract::{Level, Time};
use crate::pause::PausedBy;
use crate::peer_device::PeerDevice;

/// What this node has told a peer of a resync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    paused: bool,
    limit: Option<ResyncLimit>,
    disk_us: u32,
    at: Option<Time>,
}

impl<B: Clone> Volume<B> {
    /// Holds resyncs with this peer back, or lets them go on.
    pub(crate) fn pause_sync(
        &mut self,
        node: NodeId,
        by: PausedBy,
        paused: bool,
        cx: &mut Context<B>,
    ) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let mut pauses = peer.pauses;
        match by {
            PausedBy::User => pauses.user = paused,
            PausedBy::Dependency => pauses.dependency = paused,
        }
        self.change_pauses(node, pauses, cx);
    }

    /// What the peer tells of a resync.
    pub(crate) fn accept_resync_state(
        &mut self,
        node: NodeId,
        paused: bool,
        limit: Option<ResyncLimit>,
        disk_us: u32,
        cx: &mut Context<B>,
    ) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        peer.pace.hear(limit, disk_us);
        let pauses = Pauses {
            peer: paused,
            ..peer.pauses
        };
        self.change_pauses(node, pauses, cx);
    }

    fn change_pauses(&mut self, node: NodeId, pauses: Pauses, cx: &mut Context<B>) {
        let volume = self.number;
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        let before = core::mem::replace(&mut peer.pauses, pauses);
        if before == pauses {
            return;
        }
        self.unsettled = true;
        if before.is_any() == pauses.is_any() {
            return;
        }
        peer.pace.begin(cx.now);
        let text = match (is_running(peer), pauses.is_any()) {
            (true, true) => "resync paused",
            (true, false) => "resync goes on",
            (false, true) => "resyncs will be paused",
            (false, false) => "resyncs are not paused any more",
        };
        cx.report(Level::Info, Some(node), Some(volume), text);
    }

    /// Tells connected peers what they do not know yet of this node's part in a resync.
    pub(super) fn tell_resync_states(&mut self, cx: &mut Context<B>) {
        let volume = self.number;
        for (node, peer) in &mut self.peers {
            let Some(link) = peer.link else { continue };
            let own = peer.own_resync_state();
            let told = peer.told;
            let is_due = told.paused != own.paused || {
                let is_long_ago = told.at.is_none_or(|at| cx.now.ms_since(at) >= TELL_MS);
                let changed = told.limit != own.limit || differ(told.disk_us, own.disk_us);
                is_running(peer) && is_long_ago && changed
            };
            if !is_due {
                continue;
            }
            let at = Some(cx.now);
            peer.told = Told { at, ..own };
            let packet = Packet::ResyncState {
                volume,
                paused: own.paused,
                limit: own.limit,
                disk_us: own.disk_us,
            };
            cx.send(*node, link, packet, None);
        }
    }
}

impl PeerDevice {
    fn own_resync_state(&self) -> Told {
        Told {
            paused: self.pauses.user || self.pauses.dependency,
            limit: self.target.as_ref().and_then(|_| self.resync_limit()),
            disk_us: self.target.as_ref().map_or(self.pace.own_disk_us(), |_| 0),
            at: None,
        }
    }

    /// What keeps the resync from being faster, by the target's own measurements or as it told.
    pub(super) fn resync_limit(&self) -> Option<ResyncLimit> {
        match &self.target {
            Some(target) => target.window.bottleneck(&self.pace),
            None => self.pace.told_limit(),
        }
    }

    /// How far a resync is, for people.
    pub(super) fn resync_progress(&self, now: Time) -> Option<ResyncProgress> {
        let is_paused = self.pauses.is_any();
        let is_one = self.is_resync_source() || self.target.is_some();
        is_one.then(|| ResyncProgress {
            total_bytes: self.resync_total_bytes,
            remaining_bytes: self.out_of_sync_bytes(),
            elapsed_ms: now.ms_since(self.resync_started),
            rate: self.pace.rate(now).filter(|_| !is_paused),
            limit: self.resync_limit().filter(|_| !is_paused),
            same_bytes: self.same_bytes,
            zero_bytes: self.zero_bytes,
        })
    }

    /// The state in which people see a resync.
    pub(super) fn shown_resync(&self) -> ReplicationState {
        match self.replication {
            ReplicationState::SyncSource if self.pauses.is_any() => ReplicationState::PausedSyncS,
            ReplicationState::SyncTarget if self.pauses.is_any() => ReplicationState::PausedSyncT,
            state => state,
        }
    }
}

fn is_running(peer: &PeerDevice) -> bool {
    matches!(
        peer.replication,
        ReplicationState::SyncSource | ReplicationState::SyncTarget
    )
}

/// Whether two durations differ by more than a quarter.
fn differ(one: u32, other: u32) -> bool {
    one.abs_diff(other) > one.max(other) / 4
}

/// How often the peer is told of changes that only people want to know.
const TELL_MS: u64 = 1_000;
