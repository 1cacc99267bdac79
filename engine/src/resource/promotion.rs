//! Promotion, which takes several steps, with the peer's consent and durability in between.
//!
//! A node becomes Primary when every volume is UpToDate here (S6, G2) or force is used, no peer
//! objects, nothing of a peer is still being written here (B8), and the superblock says durably
//! that it is Primary, so that a crash will be known as a crashed Primary's.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use rbd_protocol::control::{Fencing, Refusal, RefusalCode};
use rbd_protocol::ids::{GenerationId, NodeId};
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{DiskState, ReplicationState, Role};

use super::Resource;
use super::fencing::remembered;
use crate::connection::{Connection, Fence};
use crate::contract::{CallId, Level, LinkId, Time};
use crate::local_disk::LocalDisk;
use crate::peer_device::PeerDevice;

/// How long a promotion may wait for handshakes and consent.
const PROMOTION_MS: u64 = 8_000;

/// How long a consent given to a peer keeps this node from being promoted itself.
const CONSENT_MS: u64 = 8_000;

/// A promotion under way.
#[derive(Clone, Debug)]
pub(super) struct Promotion {
    call: CallId,
    pub(super) force: bool,
    /// Beside the other Primary, for so long; 0 if for good.
    pub(super) migration_ms: u32,
    deadline: Time,
    /// Names the request for consent, once it has been sent.
    request: Option<u64>,
    missing_consents: BTreeSet<NodeId>,
    /// The superblocks are being written.
    recording: bool,
    /// Nothing else is in the way: peers out of reach are being fenced, or have been.
    fencing: bool,
}

impl<B: Clone> Resource<B> {
    pub(super) fn start_promotion(
        &mut self,
        call: CallId,
        force: bool,
        migration_ms: u32,
    ) -> Result<(), Refusal> {
        self.refuse_another_change()?;
        if self.role == Role::Primary {
            self.cx.reply(call, Ok(None));
            return Ok(());
        }
        if migration_ms > 0 {
            self.order_migration(migration_ms);
        }
        self.promotion = Some(Promotion {
            call,
            force,
            migration_ms,
            deadline: self.cx.now.plus_ms(PROMOTION_MS),
            request: None,
            missing_consents: BTreeSet::new(),
            recording: false,
            fencing: false,
        });
        Ok(())
    }

    pub(super) fn promotion_deadline(&self) -> Option<Time> {
        self.promotion
            .as_ref()
            .filter(|step| !step.recording && !self.is_fence_running())
            .map(|step| step.deadline)
    }

    pub(super) fn check_promotion_deadline(&mut self) {
        let now = self.cx.now;
        if self.is_fence_running() {
            return; // it has a deadline of its own
        }
        let late = |step: &mut Promotion| !step.recording && step.deadline <= now;
        if let Some(step) = self.promotion.take_if(late) {
            let reason = "the peer has not answered, or a handshake is still under way";
            self.cx.reply(
                step.call,
                Err(Refusal::new(RefusalCode::StateTimeout, reason, "try again")),
            );
        }
    }

    /// Whether the superblocks are being written for a promotion, which is then certain.
    pub(super) fn is_recording_promotion(&self) -> bool {
        self.promotion.as_ref().is_some_and(|step| step.recording)
    }

    /// Takes a promotion as far as it can go.
    pub(super) fn advance_promotion(&mut self) {
        let Some(step) = &self.promotion else { return };
        if step.recording {
            if self
                .volumes
                .values()
                .all(|volume| is_settled(volume.local.as_ref()))
            {
                self.end_promotion();
            }
            return;
        }
        if self.connections.values().any(Connection::is_handshaking) {
            return;
        }
        if let Some(refusal) = self.promotion_refusal() {
            if let Some(step) = self.promotion.take() {
                self.cx.reply(step.call, Err(refusal));
            }
            return;
        }
        if !self.is_fenced_for_promotion() || !self.has_all_consents() || !self.has_leases() {
            return;
        }
        // Nor is a resync whose end is being recorded an unfinished one.
        if self.volumes.values().any(|volume| {
            let unfinished = !volume.peer_writes.is_empty() && !self.has_primary_peer();
            unfinished || !volume.is_quiet() || volume.is_recording_end()
        }) {
            return;
        }
        self.record_promotion();
    }

    /// Whether a promotion has come so far that peers out of reach are to be fenced.
    pub(super) fn promotion_awaits_fencing(&self) -> bool {
        self.promotion.as_ref().is_some_and(|step| step.fencing)
    }

    fn is_fence_running(&self) -> bool {
        let running = |peer: &Connection| matches!(peer.fence, Fence::Running(_));
        self.connections.values().any(running)
    }

    /// Whether every peer out of reach is out of use, as far as the policy minds. Sees to it.
    fn is_fenced_for_promotion(&mut self) -> bool {
        if let Some(step) = &mut self.promotion
            && !step.fencing
        {
            step.fencing = true;
            self.advance_fencing();
        }
        let nodes: Vec<NodeId> = self.connections.keys().copied().collect();
        let unfenced = |node: &NodeId| self.is_unfenced(*node);
        let Some(node) = nodes.into_iter().find(unfenced) else {
            return true;
        };
        let now = self.cx.now;
        let Some(step) = &mut self.promotion else {
            return false;
        };
        step.deadline = now.plus_ms(PROMOTION_MS);
        let force = step.force;
        let Some(connection) = self.connections.get_mut(&node) else {
            return true;
        };
        match connection.fence {
            Fence::Overridden => true,
            Fence::Unclear(_) if force => {
                connection.fence = Fence::Overridden;
                let text = "forced: promoted although the peer has not been fenced";
                self.cx.report(Level::Warn, Some(node), None, text);
                self.is_fenced_for_promotion()
            }
            Fence::Unclear(_) => {
                let name = &self.config.name;
                let reason = alloc::format!(
                    "{} is not connected and could not be fenced",
                    connection.config.name
                );
                let help = alloc::format!(
                    "connect the peer, see in the log what its fence-peer handler did, or, if it \
                     is known to be off: rbdadm primary --force {name}"
                );
                let refusal = Refusal::new(RefusalCode::StatePeerNotOutdated, reason, help);
                if let Some(step) = self.promotion.take() {
                    self.cx.reply(step.call, Err(refusal));
                }
                false
            }
            Fence::Idle | Fence::Wanted(_) | Fence::Running(_) | Fence::Recording => false,
        }
    }

    /// Asks every connected peer for its consent; true when all have given it.
    fn has_all_consents(&mut self) -> bool {
        self.tell_state(); // the peer's answer depends on the state of the disks
        let Some(step) = &self.promotion else {
            return false;
        };
        if step.migration_ms > 0 && step.request.is_none() {
            let nodes: Vec<NodeId> = self.connections.keys().copied().collect();
            for node in nodes {
                self.share_link_with(node); // before the peer hears of it
            }
        }
        let Some(step) = &mut self.promotion else {
            return false;
        };
        if step.request.is_none() {
            let request = self.cx.name();
            step.request = Some(request);
            let migration_ms = step.migration_ms;
            for connection in self.connections.values() {
                let Some(link) = connection.connected_link() else {
                    continue;
                };
                let node = connection.node();
                step.missing_consents.insert(node);
                let packet = Packet::PromoteRequest {
                    id: request,
                    migration_ms,
                };
                self.cx.send(node, link, packet, None);
            }
        }
        step.missing_consents.is_empty()
    }

    /// A peer asks whether it may become Primary.
    pub(super) fn promote_request(&mut self, node: NodeId, id: u64, migration_ms: u32) {
        if let Some(connection) = self.connections.get_mut(&node) {
            connection.asked_for_consent = Some((id, migration_ms));
        }
    }

    /// Answers the peers that have asked. One that has just finished a resync from here says so on
    /// the control connection: until that has been heard, its first write would come too early.
    pub(super) fn answer_requests(&mut self) {
        let asking: Vec<(NodeId, LinkId, (u64, u32))> = self
            .connections
            .values()
            .filter(|peer| {
                let mut devices = self.volumes.values().map(|volume| &volume.peers);
                !devices.any(|peers| peers.get(&peer.node()).is_some_and(ends_resync))
            })
            .filter_map(|peer| Some((peer.node(), peer.connected_link()?, peer.asked_for_consent?)))
            .collect();
        for (node, link, (id, migration_ms)) in asking {
            self.answer_request(node, link, id, migration_ms);
        }
    }

    fn answer_request(&mut self, node: NodeId, link: LinkId, id: u64, migration_ms: u32) {
        if migration_ms > 0 && self.role == Role::Primary {
            let granted = self.consent_to_migration(node, migration_ms);
            let mut volumes = self.volumes.values();
            if granted && !volumes.all(|volume| volume.has_finished_alone(node)) {
                return; // it is answered when they have
            }
        }
        let mine = self.config.node_id;
        // If both ask at once, the lower node number goes first.
        let rival = self
            .promotion
            .as_ref()
            .is_some_and(|step| step.recording || mine < node);
        let granted = !rival
            && (self.role != Role::Primary
                || self.may_be_two_with(node) && self.refuse_another_change().is_ok());
        let is_primary = self.role == Role::Primary;
        if let Some(connection) = self.connections.get_mut(&node) {
            connection.asked_for_consent = None;
            if granted {
                connection.consented_until = Some(self.cx.now.plus_ms(CONSENT_MS));
                if let Some(link) = connection.link.as_mut().filter(|_| is_primary) {
                    link.let_in = true;
                    link.prove(self.cx.now); // to a peer that makes use of it
                }
            }
        }
        let packet = Packet::PromoteReply { id, granted };
        self.cx.send(node, link, packet, None);
    }

    /// A peer's consent or refusal.
    pub(super) fn promote_reply(&mut self, node: NodeId, id: u64, granted: bool) {
        let Some(step) = &mut self.promotion else {
            return;
        };
        if step.request != Some(id) {
            return;
        }
        step.missing_consents.remove(&node);
        if granted {
            return;
        }
        let Some(step) = self.promotion.take() else {
            return;
        };
        let name = self.peer_name(node);
        let reason = if step.migration_ms > 0 {
            alloc::format!("{name} does not let this node be Primary beside it")
        } else {
            alloc::format!("{name} is Primary or about to be")
        };
        let help = if step.migration_ms > 0 {
            "it is changing its role, misses the same fencing options, or its disk is not UpToDate"
        } else {
            ""
        };
        let refusal = Refusal::new(RefusalCode::StateRefusedByPeer, reason, help);
        self.cx.reply(step.call, Err(refusal));
    }

    /// A peer whose consent was missing is gone: nothing to ask it any more.
    pub(super) fn promotion_lost_peer(&mut self, node: NodeId) {
        if let Some(step) = &mut self.promotion
            && !step.recording
        {
            step.missing_consents.remove(&node);
            step.request = None; // whoever is there when the links have settled is asked anew
        }
    }

    fn record_promotion(&mut self) {
        let mut forced = false;
        let force = self.promotion.as_ref().is_some_and(|step| step.force);
        let fenced: Vec<NodeId> = self
            .connections
            .values()
            .filter(|peer| peer.config.net.fencing != Fencing::DontCare)
            .map(Connection::node)
            .filter(|node| !self.is_there(*node))
            .collect();
        for volume in self.volumes.values_mut() {
            if volume.local.is_none() {
                volume.show_data_of_server();
                // A disk that is attached later says so once it has been filled.
                volume.record_role(Role::Primary);
                continue;
            }
            if volume.disk == DiskState::Consistent && !force {
                let note = "every peer has been fenced";
                volume.set_disk_state(DiskState::UpToDate, note, &mut self.cx);
            }
            for node in &fenced {
                let peer = volume.peers.get(node);
                if peer.is_some_and(|peer| remembered(volume, peer) == DiskState::Outdated) {
                    volume.leave_fenced_behind(*node, &mut self.cx);
                }
            }
            if volume.disk == DiskState::UpToDate {
                // What clients are about to read may differ from an absent peer's copy by writes
                // of the last Primary that nobody acknowledged: from here on it is this copy that
                // counts (B8).
                volume.leave_absent_peers_behind(&mut self.cx);
                volume.record_targets(&mut self.cx);
            } else {
                let text =
                    alloc::format!("forced: {} data is declared UpToDate", volume.disk.word());
                self.cx.report(Level::Warn, None, Some(volume.number), text);
                let incomplete = volume.disk == DiskState::Inconsistent;
                volume.begin_generation(|_| true, &mut self.cx);
                volume.set_disk_state(DiskState::UpToDate, "", &mut self.cx);
                if incomplete {
                    // What a half-finished or never-made resync lacks is not known block by block.
                    for peer in volume.peers.values_mut() {
                        peer.bitmap.set_all();
                        if let Some(local) = &mut volume.local {
                            local.set_full_sync(peer.node, true);
                        }
                    }
                }
                forced = true;
            }
            volume.record_role(Role::Primary);
        }
        if let Some(step) = &mut self.promotion {
            step.recording = true;
        }
        if forced {
            // The peers must decide anew, and nothing of theirs is to arrive in the meantime: what
            // a resync still brings would be written over what clients write next (E2).
            self.renegotiate();
        }
    }

    fn end_promotion(&mut self) {
        let Some(step) = self.promotion.take() else {
            return;
        };
        let refusal = self.refusal_without_disk();
        if let Some(refusal) = refusal.or_else(|| self.refusal_with_disk_behind()) {
            // A disk has failed since this began, or the peer has let this node go.
            for volume in self.volumes.values_mut() {
                volume.record_role(Role::Secondary);
            }
            self.cx.reply(step.call, Err(refusal));
            return;
        }
        self.freeze_for_greetings();
        self.show_all_alone();
        self.set_role(Role::Primary);
        self.has_arrived();
        self.cx.reply(step.call, Ok(None));
    }

    pub(super) fn set_role(&mut self, role: Role) {
        self.role = role;
        self.tenure = self.cx.random.generation().0;
        for volume in self.volumes.values_mut() {
            volume.role = role;
            volume.frozen.failing = false;
            if role != Role::Primary {
                volume.exposed = GenerationId::NONE;
                volume.frozen.awaiting = None;
            }
            volume.unsettled = true;
        }
        self.cx
            .report(Level::Info, None, None, alloc::format!("role {role}"));
        let nodes: Vec<NodeId> = self.connections.keys().copied().collect();
        for node in nodes {
            // A consent to lose this node's data was given for what it had then, not for what a
            // Primary writes.
            if let (Role::Primary, Some(connection)) = (role, self.connections.get_mut(&node)) {
                connection.discard_my_data = false;
            }
            self.reconsider(node);
        }
    }
}

/// Whether the peer has everything of a resync from here, and its word of that is on the way.
fn ends_resync(peer: &PeerDevice) -> bool {
    peer.replication == ReplicationState::SyncSource && peer.peer_disk == DiskState::UpToDate
}

/// The answer while another change of role is under way.
pub(super) fn one_change_at_a_time() -> Refusal {
    Refusal::new(
        RefusalCode::StateTransient,
        "another change of role is under way",
        "try again",
    )
}

pub(super) fn is_settled(local: Option<&LocalDisk>) -> bool {
    local.is_none_or(LocalDisk::is_settled)
}
