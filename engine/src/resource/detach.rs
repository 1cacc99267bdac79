//! Letting go of a volume's disk by command, while everything else goes on.
//!
//! In order, it takes several steps: what is in flight ends while new requests wait; a last
//! checkpoint makes everything durable and clears every mark, so that coming back costs no more
//! than what is written meanwhile; the superblock says that the data is behind, if somebody goes
//! on without it; then the disk is let go, and clients go on through the peer. By force there is
//! one step, and whatever the disk still does counts no more.

use rbd_protocol::control::{Refusal, RefusalCode};
use rbd_protocol::ids::VolumeNumber;
use rbd_protocol::state::{DiskState, ReplicationState, Role};

use super::Resource;
use crate::contract::{CallId, Level};
use crate::volume::Checkpoint;

/// A disk that is being let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Detaching {
    call: CallId,
    volume: VolumeNumber,
    step: Step,
    /// Somebody goes on writing without this disk.
    goes_on: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// What is in flight ends.
    Draining,
    /// The last checkpoint is being made.
    Saving,
    /// The superblock is being written.
    Recording,
}

impl<B: Clone> Resource<B> {
    pub(super) fn start_detach(
        &mut self,
        call: CallId,
        number: VolumeNumber,
        force: bool,
    ) -> Result<(), Refusal> {
        let Some(volume) = self.volumes.get_mut(&number) else {
            let reason = alloc::format!("{} has no volume {number}", self.config.name);
            return Err(Refusal::new(RefusalCode::InvalidRequest, reason, ""));
        };
        if volume.local.is_none() {
            self.cx.reply(call, Ok(None));
            return Ok(());
        }
        if force {
            let text = "disk detached by force";
            self.cx.report(Level::Warn, None, Some(number), text);
            volume.say_last_words(&mut self.cx);
            volume.let_go("detached by command, by force", &mut self.cx);
            self.cx.reply(call, Ok(None));
            return Ok(());
        }
        self.refuse_another_change()?;
        self.refuse_last_copy(number)?;
        let Some(volume) = self.volumes.get_mut(&number) else {
            return Ok(());
        };
        volume.frozen.holding = true;
        let roles = self.connections.values().map(|peer| peer.peer_role);
        let goes_on = roles.chain([self.role]).any(|role| role == Role::Primary);
        self.detaching = Some(Detaching {
            call,
            volume: number,
            step: Step::Draining,
            goes_on,
        });
        if self.role != Role::Primary {
            // Nothing more arrives from peers, which learn of it in the next greeting.
            self.renegotiate();
        }
        Ok(())
    }

    /// Refuses to let go of the data that is being used, if nobody else has it.
    fn refuse_last_copy(&self, number: VolumeNumber) -> Result<(), Refusal> {
        let name = &self.config.name;
        if let Some(reason) = self.who_needs(number) {
            let reason = alloc::format!("{name}/{number}: {reason}");
            let help = alloc::format!(
                "wait until a peer is UpToDate, or: rbdadm detach --force {name}/{number}"
            );
            return Err(Refusal::new(RefusalCode::StateNoUpToDateData, reason, help));
        }
        Ok(())
    }

    fn who_needs(&self, number: VolumeNumber) -> Option<&'static str> {
        let volume = self.volumes.get(&number)?;
        if self.role == Role::Primary {
            let in_sync = |peer: &crate::peer_device::PeerDevice| {
                peer.link.is_some()
                    && peer.replication == ReplicationState::Established
                    && peer.peer_disk == DiskState::UpToDate
            };
            let served = volume.server().is_some() || volume.peers.values().any(in_sync);
            return (!served).then_some("clients use this disk, and no peer has all of its data");
        }
        let depends = self.connections.values().any(|connection| {
            let peer = volume.peers.get(&connection.node());
            connection.peer_role == Role::Primary
                && peer.is_some_and(|peer| peer.peer_disk != DiskState::UpToDate)
        });
        depends.then_some("the peer is Primary and has no other UpToDate disk than this one")
    }

    /// Takes a detach as far as it can go.
    pub(super) fn advance_detach(&mut self) {
        while let Some(before) = self.detaching {
            self.advance_detach_by_one_step(before);
            if self.detaching == Some(before) {
                return;
            }
        }
    }

    fn advance_detach_by_one_step(&mut self, detaching: Detaching) {
        let Detaching { volume: number, .. } = detaching;
        let needed = self.who_needs(number);
        let Some(volume) = self.volumes.get_mut(&number) else {
            return;
        };
        if volume.local.is_none() {
            self.end_detach(detaching, None); // by an error, or by force
            return;
        }
        let saves = detaching.step == Step::Saving && volume.checkpoint != Checkpoint::Done;
        if let Some(reason) = needed.filter(|_| !saves) {
            self.end_detach(detaching, Some(reason));
            return;
        }
        let Some(local) = &mut volume.local else {
            return;
        };
        let settled = local.is_settled();
        match detaching.step {
            Step::Draining => {
                // Another Primary writes on and on. What it has sent is kept back as soon as
                // nothing of this node waits for its answers: it is not to wait for this node then.
                if volume.is_drained_of_own() {
                    volume.frozen.holding_peers = true;
                }
                let Some(local) = &mut volume.local else {
                    return;
                };
                let busy = local.intent.is_busy();
                if settled && !busy && volume.is_drained() {
                    volume.start_last_checkpoint(&mut self.cx);
                    self.step_detach(Step::Saving);
                }
            }
            Step::Saving if volume.checkpoint == Checkpoint::Done => {
                local.record_primary(false);
                if detaching.goes_on {
                    local.record_disk_state(DiskState::Outdated);
                }
                volume.unsettled = true;
                self.step_detach(Step::Recording);
            }
            Step::Recording if settled => {
                let text = "disk detached by command";
                self.cx.report(Level::Info, None, Some(number), text);
                volume.let_go("detached by command", &mut self.cx);
                self.end_detach(detaching, None);
            }
            Step::Saving | Step::Recording => {}
        }
    }

    fn step_detach(&mut self, step: Step) {
        if let Some(detaching) = &mut self.detaching {
            detaching.step = step;
        }
    }

    fn end_detach(&mut self, detaching: Detaching, needed: Option<&'static str>) {
        self.detaching = None;
        let Some(volume) = self.volumes.get_mut(&detaching.volume) else {
            return;
        };
        volume.frozen.holding = false;
        volume.frozen.holding_peers = false;
        volume.unsettled = true;
        let Some(reason) = needed else {
            self.cx.reply(detaching.call, Ok(None));
            return;
        };
        if let Some(local) = &mut volume.local {
            // It is used on: what has been recorded for its absence is taken back.
            local.record_primary(self.role == Role::Primary);
            local.record_disk_state(volume.disk);
        }
        if volume.checkpoint == Checkpoint::Done {
            volume.checkpoint = Checkpoint::Idle;
        }
        let refusal = Refusal::new(RefusalCode::StateNoUpToDateData, reason, "");
        self.cx.reply(detaching.call, Err(refusal));
    }
}
