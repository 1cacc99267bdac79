//! What must be done before a resync may overwrite this node's disks: the administrator's handler
//! `before-resync-target`, which may take a snapshot, must have ended well.
//!
//! It runs while there is no link: a target is written to by the peer's clients from the moment
//! both have decided, and these must not wait for a handler. Nor may a Primary take this node for
//! one it has just lost. So a node with such a handler first greets only to know what would become
//! of its disks (a tentative handshake), and in earnest when that is settled.
//!
//! That it has ended well is remembered with the volume, until the resync it ran for has ended or
//! has become needless: a resync that is interrupted begins again without another run.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use rbd_protocol::ids::{NodeId, VolumeNumber};
use rbd_protocol::state::{ConnectionState, DiskState, Role};

use super::Resource;
use super::handshake::Decided;
use crate::connection::{Preparation, Runs};
use crate::contract::{Action, Level, LinkLoss, OperationId, Seek};
use crate::decide::Verdict;
use crate::handler::{Handler, HandlerResult, Wanted};
use crate::local_disk::LocalDisk;
use crate::volume::Volume;

const HANDLER: Handler = Handler::BeforeResyncTarget;

impl<B: Clone> Resource<B> {
    /// Whether the next greeting is only to find out what would become of this node's disks.
    pub(super) fn asks_first(&self, node: NodeId) -> bool {
        let preparation = self.connections.get(&node).map(|peer| &peer.preparation);
        let is_settled = match preparation {
            Some(Preparation::Settled(until)) => self.cx.now < *until,
            Some(Preparation::Needed) => return true,
            Some(Preparation::Unknown | Preparation::Running(_)) | None => false,
        };
        // What the clients of a Primary use is not overwritten (D7), or hardly ever: by another
        // Primary, which had everything that they have seen.
        let is_at_risk = |volume: &Volume<B>| {
            volume.local.is_some() && !(self.role == Role::Primary && volume.has_own_data())
        };
        self.has_handler(HANDLER) && !is_settled && self.volumes.values().any(is_at_risk)
    }

    /// Both know what would become of this node's disks, and nothing of it has been carried out: if
    /// one is to be overwritten the handler runs first, else the next handshake is in earnest.
    pub(super) fn prepare(&mut self, node: NodeId, verdicts: &[Decided]) {
        let volumes = self.unprepared(node, verdicts);
        self.note_behind(verdicts);
        self.drop_link(node, LinkLoss::Renegotiate);
        if volumes.is_empty() {
            self.settle_preparation(node);
            return;
        }
        self.cx.report(Level::Info, Some(node), None, PREPARES);
        let seek = Seek::Stop;
        self.cx.out.push(Action::SeekLink { peer: node, seek });
        let run = |volume: &VolumeNumber| {
            self.start_handler(Wanted {
                handler: HANDLER,
                peer: Some(node),
                volume: Some(*volume),
            })
        };
        let left = volumes.iter().map(run).collect();
        if self.role == Role::Primary {
            // Clients that this node does not serve itself wait no shorter than the handler runs.
            let until = self.cx.now.plus_ms(LONGEST_MS);
            for volume in self.volumes.values_mut() {
                if volume.frozen.awaiting.is_some() {
                    volume.frozen.awaiting = Some(until);
                }
            }
        }
        let began = self.data_marks();
        if let Some(connection) = self.connections.get_mut(&node) {
            connection.preparation = Preparation::Running(Runs {
                left,
                volumes,
                began,
                has_failed: false,
            });
            connection.refused = None;
            connection.enter(ConnectionState::Connecting, PREPARES, self.cx.now);
        }
    }

    /// However the handler ends, and whether or not the peer is met again: a disk that is known to
    /// be behind is not taken for the newest (G3), nor by a promotion that waits for that word.
    fn note_behind(&mut self, verdicts: &[Decided]) {
        if self.role != Role::Secondary || self.is_recording_promotion() {
            return;
        }
        for decided in verdicts {
            let Some(volume) = self.volumes.get_mut(&decided.number) else {
                continue;
            };
            let own = volume.local.as_ref().map(LocalDisk::current);
            if own.is_some_and(|own| decided.is_newer_than(own))
                && volume.disk >= DiskState::Consistent
            {
                let why = "a peer has newer data";
                volume.set_disk_state(DiskState::Outdated, why, &mut self.cx);
            }
        }
    }

    /// Whether this must not be carried out: it was not to be expected when last asked, and the
    /// handler has not run. Then it is asked anew.
    pub(super) fn is_unprepared(&mut self, node: NodeId, verdicts: &[Decided]) -> bool {
        if !self.has_handler(HANDLER) || self.unprepared(node, verdicts).is_empty() {
            return false;
        }
        if let Some(connection) = self.connections.get_mut(&node) {
            connection.preparation = Preparation::Needed;
        }
        self.drop_link(node, LinkLoss::Renegotiate);
        true
    }

    /// The handler has ended for one volume.
    pub(super) fn preparation_done(
        &mut self,
        node: NodeId,
        id: OperationId,
        volume: Option<VolumeNumber>,
        result: HandlerResult,
    ) {
        let data_marks = self.data_marks();
        let Some(connection) = self.connections.get_mut(&node) else {
            return;
        };
        let Preparation::Running(runs) = &mut connection.preparation else {
            return;
        };
        runs.left.retain(|run| *run != id);
        // What it was to keep may have changed while it ran; then its end says nothing.
        let is_current = runs.began == data_marks;
        let failure = failure(result).filter(|_| is_current);
        runs.has_failed |= failure.is_some() || !is_current;
        let ended = runs.left.is_empty().then(|| runs.clone());
        if let Some(why) = failure {
            self.preparation_failed(node, volume, &why);
        }
        if let Some(runs) = ended {
            self.preparation_ended(node, &runs);
        }
    }

    /// Nothing must be overwritten. A Primary goes on with its peer's data and without that disk;
    /// else the connection is StandAlone until a person has looked.
    fn preparation_failed(&mut self, node: NodeId, number: Option<VolumeNumber>, why: &str) {
        let resource = self.config.name.clone();
        let said = format!(
            "{} {why}: no resync, nothing is overwritten",
            HANDLER.name()
        );
        if self.role == Role::Primary {
            let volume = number.and_then(|number| self.volumes.get_mut(&number));
            if let Some(volume) = volume {
                let name = format!("{resource}/{}", volume.number);
                let text = format!("{said}; when the cause is gone: rbdadm attach {name}");
                volume.let_go(&text, &mut self.cx);
                self.cx.report(Level::Error, Some(node), number, text);
            }
            return;
        }
        let text = format!("{said}; when the cause is gone: rbdadm connect {resource}");
        self.disconnect_peer(node);
        if let Some(connection) = self.connections.get_mut(&node) {
            let state = ConnectionState::StandAlone;
            connection.enter(state, text.as_str(), self.cx.now);
        }
        self.cx.report(Level::Error, Some(node), number, text);
    }

    /// It has ended for every volume. If it has ended well the resync may begin; if a link is
    /// wanted all the same, it is asked anew.
    fn preparation_ended(&mut self, node: NodeId, runs: &Runs) {
        let Some(connection) = self.connections.get_mut(&node) else {
            return;
        };
        connection.preparation = Preparation::Unknown;
        if !connection.is_wanted() {
            return;
        }
        let note = "trying to reach the peer";
        connection.enter(ConnectionState::Connecting, note, self.cx.now);
        let seek = Seek::AtOnce;
        self.cx.out.push(Action::SeekLink { peer: node, seek });
        for volume in self.volumes.values_mut() {
            if volume.frozen.awaiting.is_some() {
                volume.await_server(self.cx.now);
            }
            if !runs.has_failed
                && runs.volumes.contains(&volume.number)
                && let Some(peer) = volume.peers.get_mut(&node)
            {
                peer.is_prepared = true;
            }
        }
        if !runs.has_failed {
            self.settle_preparation(node);
        }
    }

    fn settle_preparation(&mut self, node: NodeId) {
        if let Some(connection) = self.connections.get_mut(&node) {
            let until = self.cx.now.plus_ms(SETTLED_MS);
            connection.preparation = Preparation::Settled(until);
        }
    }

    /// What has been prepared for is not going to happen, or this node's data is not what it was.
    pub(super) fn forget_preparations(&mut self) {
        let is_any = |volume: &Volume<B>| volume.peers.values().any(|peer| peer.is_prepared);
        if !self.volumes.values().any(is_any) {
            return;
        }
        let nodes = self.connections.keys().copied();
        let kept_from: Vec<NodeId> = nodes.filter(|node| self.keeps_own(*node)).collect();
        for volume in self.volumes.values_mut() {
            let has_disk = volume.local.is_some();
            let is_in_use = volume.has_own_data();
            for (node, peer) in &mut volume.peers {
                let lapses = !has_disk || is_in_use && kept_from.contains(node);
                let is_needless = peer.link.is_some() && peer.target.is_none();
                peer.is_prepared &= !lapses && !is_needless;
            }
        }
    }

    /// Whether this node's data, if it has any, is never overwritten: what the clients of a Primary
    /// use is not (D7), except by another Primary, which had everything that they have seen.
    fn keeps_own(&self, node: NodeId) -> bool {
        self.role == Role::Primary && !self.is_told_of_two(node)
    }

    /// The volumes that would be overwritten, and for which the handler has not run.
    fn unprepared(&self, node: NodeId, verdicts: &[Decided]) -> Vec<VolumeNumber> {
        let is_prepared = |number: &VolumeNumber| {
            let volume = self.volumes.get(number);
            let peer = volume.and_then(|volume| volume.peers.get(&node));
            peer.is_some_and(|peer| peer.is_prepared)
        };
        let targets = verdicts
            .iter()
            .filter(|decided| matches!(decided.verdict, Verdict::Target { .. }));
        let numbers = targets.map(|decided| decided.number);
        numbers.filter(|number| !is_prepared(number)).collect()
    }

    /// Both stay the same as long as no client and no other disk changes what is here.
    fn data_marks(&self) -> (u64, u64) {
        (self.tenure, self.attachments)
    }
}

fn failure(result: HandlerResult) -> Option<String> {
    match result {
        HandlerResult::Exited(0) => None,
        HandlerResult::Exited(code) => Some(format!("exited with {code}")),
        HandlerResult::Failed => Some("failed or did not end in time".into()),
    }
}

/// What people are told meanwhile.
const PREPARES: &str = "before-resync-target runs, and is waited for";

/// How long the answer to a tentative greeting is believed. If it turns out to be wrong the link is
/// given up and it is asked anew; that costs a Primary with fencing more than another question.
/// Long enough for a link to come up: two nodes that ask must not take turns.
const SETTLED_MS: u64 = 10_000;

/// Longer than any handler: those who run it have a deadline of their own.
const LONGEST_MS: u64 = 3_600_000;
