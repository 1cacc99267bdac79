//! Commands that hold resyncs back and let them go on.
//!
//! A pause is remembered for the peer, not for a resync: it outlives links, and holds for the next
//! resync as for this one. What it means for a resync that runs is decided in `volume`.

use alloc::string::String;

use rbd_protocol::control::{Pauses, Refusal, RefusalCode};
use rbd_protocol::state::ReplicationState;

use super::Resource;
use crate::pause::{PauseOrder, PausedBy};

impl<B: Clone> Resource<B> {
    pub(super) fn pause_sync(&mut self, order: PauseOrder) -> Result<Option<String>, Refusal> {
        let nodes = self.selected(order.peer)?;
        let name = alloc::format!("{}/{}", self.config.name, order.volume);
        let Some(volume) = self.volumes.get_mut(&order.volume) else {
            let reason = alloc::format!("{} has no volume {}", self.config.name, order.volume);
            return Err(Refusal::new(RefusalCode::InvalidRequest, reason, ""));
        };
        let peers = || {
            volume
                .peers
                .values()
                .filter(|peer| nodes.contains(&peer.node))
        };
        let is_so = |pauses: Pauses| match order.by {
            PausedBy::User => pauses.user == order.paused,
            PausedBy::Dependency => pauses.dependency == order.paused,
        };
        if order.by == PausedBy::User && peers().all(|peer| is_so(peer.pauses)) {
            if order.paused {
                let reason = alloc::format!("resyncs of {name} are paused already");
                return Err(Refusal::new(RefusalCode::PauseIsSet, reason, ""));
            }
            let running = |state| {
                matches!(
                    state,
                    ReplicationState::SyncSource | ReplicationState::SyncTarget
                )
            };
            let held = peers().find(|peer| running(peer.replication) && peer.pauses.is_any());
            return Err(not_paused_here(&name, held.map(|peer| peer.pauses)));
        }
        for node in nodes {
            volume.pause_sync(node, order.by, order.paused, &mut self.cx);
        }
        Ok(None)
    }
}

fn not_paused_here(name: &str, held: Option<Pauses>) -> Refusal {
    let (code, why, help) = match held {
        Some(pauses) if pauses.dependency => (
            RefusalCode::PausedByDependency,
            "it waits for the resync named in resync-after",
            "rbdadm status",
        ),
        Some(_) => (
            RefusalCode::PausedByPeer,
            "it is held back on the peer's node",
            "on the peer: rbdadm resume-sync",
        ),
        None => (RefusalCode::PauseIsClear, "nobody has paused it here", ""),
    };
    Refusal::new(code, alloc::format!("{name}: {why}"), help)
}
