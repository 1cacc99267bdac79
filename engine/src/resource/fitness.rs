//! Why a node is not promoted: somebody else is Primary, or its data is not the newest there is.
//! Asks only; what a promotion does is in `promotion.rs`.

use rbd_protocol::control::{Fencing, Refusal, RefusalCode};
use rbd_protocol::state::{DiskState, Role};

use super::Resource;
use crate::connection::Connection;
use crate::local_disk::LocalDisk;
use crate::volume::Volume;

impl<B: Clone> Resource<B> {
    /// Whether every peer is out of reach, and fenced before this node goes on without it: then
    /// consistent data is the newest there is to be had, unless this machine has lost its power
    /// and with it what its disk had acknowledged and a peer may still have (B7).
    fn may_lift_consistent(&self) -> bool {
        self.connections
            .values()
            .all(|peer| peer.config.net.fencing != Fencing::DontCare && !peer.has_open_link())
    }

    pub(super) fn promotion_refusal(&self) -> Option<Refusal> {
        let name = &self.config.name;
        let force = self.promotion.as_ref().is_some_and(|step| step.force);
        let primary = |peer: &&Connection| peer.peer_role == Role::Primary;
        let migrates = self
            .promotion
            .as_ref()
            .is_some_and(|step| step.migration_ms > 0);
        if migrates && let Some(refusal) = self.migration_refusal() {
            return Some(refusal);
        }
        let together =
            |node| self.may_be_two_with(node) || migrates && self.has_everything_with(node);
        let alone = |peer: &&Connection| primary(peer) && !together(peer.node());
        if let Some(peer) = self.connections.values().find(alone) {
            if migrates || peer.config.net.two_primaries {
                return Some(self.not_yet_two(peer));
            }
            let reason = alloc::format!("{} is Primary", peer.config.name);
            let help = alloc::format!("on {}: rbdadm secondary {name}", peer.config.name);
            return Some(Refusal::new(RefusalCode::StateTwoPrimaries, reason, help));
        }
        let now = self.cx.now;
        let promised = |peer: &&Connection| peer.consented_until.is_some_and(|until| now < until);
        if let Some(peer) = self.connections.values().find(promised) {
            let reason = alloc::format!("{} is being promoted", peer.config.name);
            return Some(Refusal::new(RefusalCode::StateConcurrent, reason, ""));
        }
        if let Some(refusal) = self.refusal_without_disk() {
            return Some(refusal);
        }
        if force {
            return None;
        }
        let lift = self.may_lift_consistent();
        let volume = self.volumes.values().find(|volume| {
            if volume.local.is_none() {
                return false; // a peer has what this node lacks
            }
            let holds = volume
                .local
                .as_ref()
                .is_some_and(LocalDisk::holds_what_it_had);
            let holds = holds && !volume.missed_writes;
            let lifted = lift && holds && volume.disk == DiskState::Consistent;
            volume.disk != DiskState::UpToDate && !lifted
        })?;
        let reason = alloc::format!(
            "{name}/{} is {}: {}",
            volume.number,
            volume.disk,
            volume.disk_note
        );
        let help = match volume.disk {
            DiskState::Inconsistent if volume.peers.values().any(|peer| peer.target.is_some()) => {
                alloc::format!("wait for the resync: rbdadm wait-sync {name}")
            }
            _ => alloc::format!(
                "connect the peer, or, if this node is known to have the newest data: \
                 rbdadm primary --force {name}"
            ),
        };
        Some(Refusal::new(RefusalCode::StateNoUpToDateData, reason, help))
    }

    /// Why this node is not promoted with the disks it lacks.
    pub(super) fn refusal_without_disk(&self) -> Option<Refusal> {
        let name = &self.config.name;
        let without = |volume: &&Volume<B>| volume.local.is_none() && volume.server().is_none();
        if let Some(volume) = self.volumes.values().find(without) {
            let reason = alloc::format!("{name}/{}: {}", volume.number, volume.disk_note);
            let help = alloc::format!("rbdadm up {name}");
            return Some(Refusal::new(RefusalCode::StateNoUpToDateData, reason, help));
        }
        if let Some(volume) = self.volumes.values().find(|volume| volume.local.is_none())
            && self.is_anyone_fenced()
        {
            // That disk does not know that somebody went on without it: after a restart it could be
            // taken for the newest there is, once the peer has been fenced (A2).
            let number = volume.number;
            let reason = alloc::format!("{name}/{number} is not attached, and fencing is on");
            let help = alloc::format!("rbdadm attach {name}/{number}");
            return Some(Refusal::new(RefusalCode::StateNoUpToDateData, reason, help));
        }
        None
    }

    /// Why this node does not become Primary although it was about to: a disk of its own has been
    /// declared behind since (G2).
    pub(super) fn refusal_with_disk_behind(&self) -> Option<Refusal> {
        let behind =
            |volume: &&Volume<B>| volume.local.is_some() && volume.disk != DiskState::UpToDate;
        let volume = self.volumes.values().find(behind)?;
        let name = &self.config.name;
        let (number, disk, note) = (volume.number, volume.disk, &volume.disk_note);
        let reason = alloc::format!("{name}/{number} is {disk}: {note}");
        let help = alloc::format!("rbdadm connect {name}");
        Some(Refusal::new(RefusalCode::StateNoUpToDateData, reason, help))
    }
}
