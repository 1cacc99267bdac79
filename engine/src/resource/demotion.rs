//! Demotion and the end of a resource: each takes several steps, with everything in flight finished
//! and durable in between.
//!
//! A demotion drains the requests of this node's clients, flushes (G8) and records durably that it
//! is no longer Primary; what it does for a peer's clients goes on. The end demotes, disconnects,
//! makes a last checkpoint that clears every mark, and marks the metadata clean (C8).

use alloc::string::String;
use alloc::vec::Vec;

use rbd_protocol::control::{Refusal, RefusalCode};
use rbd_protocol::ids::NodeId;
use rbd_protocol::state::{DiskState, Role};

use super::Resource;
use super::promotion::{is_settled, one_change_at_a_time};
use crate::contract::{Action, CallId, Level};
use crate::volume::BarrierPurpose;

/// A demotion under way.
#[derive(Clone, Debug)]
pub(super) enum Demotion {
    /// Waiting for requests in flight.
    Draining(Option<CallId>),
    /// Waiting for barriers.
    Flushing(Option<CallId>),
    /// Waiting for the superblocks.
    Recording(Option<CallId>),
}

/// The end of the resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Not asked for.
    No,
    /// Being demoted, disconnected and brought to rest.
    Resting(CallId),
    /// The last checkpoint is being made.
    Saving(CallId),
    /// The clean mark is being written.
    Recording(CallId),
    /// Everything has been let go.
    Done,
}

impl<B: Clone> Resource<B> {
    pub(super) fn start_demotion(&mut self, call: CallId, force: bool) -> Result<(), Refusal> {
        self.refuse_another_change()?;
        if self.role != Role::Primary {
            self.cx.reply(call, Ok(None));
            return Ok(());
        }
        if !force {
            self.refuse_if_open()?;
            self.refuse_if_frozen()?;
        }
        self.begin_demotion(Some(call));
        Ok(())
    }

    pub(super) fn refuse_another_change(&self) -> Result<(), Refusal> {
        if self.stop != Stop::No
            || self.demotion.is_some()
            || self.promotion.is_some()
            || self.detaching.is_some()
            || self.is_parting()
            || self.invalidations.is_busy()
        {
            return Err(one_change_at_a_time());
        }
        Ok(())
    }

    fn refuse_if_open(&self) -> Result<(), Refusal> {
        let Some(volume) = self.volumes.values().find(|volume| volume.openers > 0) else {
            return Ok(());
        };
        let name = &self.config.name;
        let reason = alloc::format!("{name}/{} has {} client(s)", volume.number, volume.openers);
        let help = alloc::format!(
            "disconnect them first, or fail their I/O: rbdadm secondary --force {name}"
        );
        Err(Refusal::new(RefusalCode::StateHeldOpen, reason, help))
    }

    fn refuse_if_frozen(&self) -> Result<(), Refusal> {
        let waits = |volume: &&crate::volume::Volume<B>| volume.is_frozen() && !volume.is_quiet();
        let Some(volume) = self.volumes.values().find(waits) else {
            return Ok(());
        };
        let name = &self.config.name;
        let reason = alloc::format!("{name}/{}: I/O is suspended", volume.number);
        let help = alloc::format!(
            "let it go on: rbdadm resume-io {name}, or fail it: rbdadm secondary --force {name}"
        );
        Err(Refusal::new(RefusalCode::StateTransient, reason, help))
    }

    fn begin_demotion(&mut self, call: Option<CallId>) {
        // New requests are refused from here on; those in flight are finished.
        for volume in self.volumes.values_mut() {
            if volume.is_frozen() {
                volume.fail_frozen(&mut self.cx);
            }
            volume.role = Role::Secondary;
            volume.fail_waiting(crate::contract::RequestError::NotPrimary, &mut self.cx);
            self.cx.out.push(Action::CloseClients {
                volume: volume.number,
            });
            volume.unsettled = true;
        }
        self.demotion = Some(Demotion::Draining(call));
    }

    /// Takes a demotion as far as it can go. As with a stop, a step that starts nothing has no
    /// completion that would bring the next one about.
    pub(super) fn advance_demotion(&mut self) {
        while self.demotion.is_some() {
            let step = self.demotion.as_ref().map(core::mem::discriminant);
            self.advance_demotion_by_one_step();
            if step == self.demotion.as_ref().map(core::mem::discriminant) {
                return;
            }
        }
    }

    fn advance_demotion_by_one_step(&mut self) {
        let quiet = self.volumes.values().all(super::Volume::is_quiet_of_own);
        let ending = self.volumes.values().any(super::Volume::is_ending_resync);
        let settled = self
            .volumes
            .values()
            .all(|volume| is_settled(volume.local.as_ref()));
        match self.demotion {
            Some(Demotion::Draining(call)) if quiet && !ending => {
                for volume in self
                    .volumes
                    .values_mut()
                    .filter(|volume| volume.local.is_some() || volume.server().is_some())
                {
                    volume.start_barrier(BarrierPurpose::Demotion, &mut self.cx);
                }
                self.demotion = Some(Demotion::Flushing(call));
            }
            Some(Demotion::Flushing(call)) if quiet => {
                for volume in self.volumes.values_mut() {
                    volume.record_role(Role::Secondary);
                }
                self.demotion = Some(Demotion::Recording(call));
            }
            Some(Demotion::Recording(call)) if settled => {
                self.demotion = None;
                self.set_role(Role::Secondary);
                if let Some(call) = call {
                    self.cx.reply(call, Ok(None));
                }
            }
            Some(Demotion::Draining(_) | Demotion::Flushing(_) | Demotion::Recording(_)) | None => {
            }
        }
    }

    pub(super) fn start_stop(&mut self, call: CallId) -> Result<(), Refusal> {
        if self.stop != Stop::No || self.promotion.is_some() || self.detaching.is_some() {
            return Err(one_change_at_a_time());
        }
        self.refuse_if_open()?;
        self.stop = Stop::Resting(call);
        if self.role == Role::Primary && self.demotion.is_none() {
            let text = "a Primary is being stopped: it is demoted first";
            self.cx.report(Level::Warn, None, None, text);
        }
        Ok(())
    }

    /// Takes the end of the resource as far as it can go. A step that starts nothing, as none of
    /// a volume without a disk does, has no completion that would bring the next one about.
    pub(super) fn advance_stop(&mut self) {
        loop {
            let step = core::mem::discriminant(&self.stop);
            self.advance_stop_by_one_step();
            if step == core::mem::discriminant(&self.stop) {
                return;
            }
        }
    }

    fn advance_stop_by_one_step(&mut self) {
        match self.stop {
            Stop::No | Stop::Done => {}
            Stop::Resting(call) => {
                if self.role == Role::Primary && self.demotion.is_none() && !self.is_parting() {
                    self.begin_demotion(None);
                }
                if self.role == Role::Primary || self.demotion.is_some() {
                    return;
                }
                let nodes: Vec<NodeId> = self.connections.keys().copied().collect();
                for node in nodes {
                    if !self.begin_to_leave(node) {
                        self.disconnect_peer(node);
                    }
                }
                if self.is_any_leaving() {
                    return;
                }
                let idle = self.volumes.values().all(|volume| {
                    volume.is_quiet()
                        && volume.peer_writes.is_empty()
                        && is_settled(volume.local.as_ref())
                        && volume.checkpoint == crate::volume::Checkpoint::Idle
                        && volume
                            .local
                            .as_ref()
                            .is_none_or(|local| !local.intent.is_busy())
                });
                if idle {
                    for volume in self.volumes.values_mut() {
                        volume.start_last_checkpoint(&mut self.cx);
                    }
                    self.stop = Stop::Saving(call);
                }
            }
            Stop::Saving(call) => {
                if self.all_checkpoints_done() {
                    for volume in self.volumes.values_mut() {
                        if let Some(local) = &mut volume.local {
                            local.record_clean();
                        }
                        volume.unsettled = true;
                    }
                    self.stop = Stop::Recording(call);
                }
            }
            Stop::Recording(call) => {
                let links = self.connections.values().any(|peer| peer.link.is_some());
                if !links
                    && self
                        .volumes
                        .values()
                        .all(|volume| is_settled(volume.local.as_ref()))
                {
                    for volume in self.volumes.values_mut() {
                        if volume.local.take().is_some() {
                            volume.disk = DiskState::Diskless;
                            volume.disk_note = String::from("stopped");
                            self.cx.out.push(Action::ReleaseDisk {
                                volume: volume.number,
                            });
                        }
                    }
                    self.stop = Stop::Done;
                    self.cx.reply(call, Ok(None));
                }
            }
        }
    }
}
