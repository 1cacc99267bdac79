//! Judges each handshake by what is on both disks (D4): "nothing to do" means that they are
//! identical, what a resync copies covers all that differs, and its source has everything if any
//! copy has.

use std::collections::BTreeSet;
use std::ops::Range;

use rbd_protocol::control::ResourceStatus;
use rbd_protocol::metadata::BITS_PER_BLOCK;
use rbd_protocol::peer::Packet;
use rbd_protocol::policy::{WithOnePrimary, WithoutPrimary};
use rbd_protocol::state::{DiskState, ReplicationState};

use super::network::Link;
use super::node::{device_of, peer_device_of, place};
use super::operator::Wish;
use super::patience::{is_frozen, is_suspended};
use super::submission::is_target;
use super::world::World;

/// What is known of the handshake over a link.
#[derive(Clone, Debug, Default)]
pub(super) struct Handshake {
    decided: bool,
    /// Blocks that either side has said may differ.
    marked: BTreeSet<u64>,
    bitmaps_sent: u32,
}

impl World {
    /// Something has changed on the node: perhaps it has decided what a handshake means. The first
    /// to do so decides for both, and nothing has happened since.
    pub(super) fn look_at_decision(&mut self, node: usize) {
        let status = self.nodes[node].status(self.time(node));
        if let Some(status) = &status {
            self.note_standing(node, status);
            self.nodes[node].was_frozen = is_frozen(status);
            self.nodes[node].was_suspended = is_suspended(status);
        }
        let targets_before = self.targets(node);
        for volume in self.volumes() {
            self.look_at_decision_on(node, volume, status.as_ref());
        }
        let targets = self.targets(node);
        if targets > targets_before && self.options.volumes > 1 {
            let all = targets == self.options.volumes;
            self.report.wholly_filled += u64::from(all);
            self.report.partly_filled += u64::from(!all);
        }
    }

    /// How many volumes of the node are the target of a resync.
    fn targets(&self, node: usize) -> usize {
        let volumes = self.nodes[node].volumes.iter();
        volumes.filter(|one| is_target(one.replication)).count()
    }

    fn look_at_decision_on(&mut self, node: usize, volume: usize, status: Option<&ResourceStatus>) {
        let own = status.and_then(|status| device_of(status, volume));
        if status.is_some() {
            let is_whole = own.is_some_and(|own| own.disk_state == DiskState::UpToDate);
            self.nodes[node][volume].is_whole = is_whole;
        }
        if let Some(own) = own.filter(|own| own.current_generation.names_data()) {
            self.nodes[node][volume].last_generation = own.current_generation.0;
        }
        let device = status.and_then(|status| peer_device_of(status, volume));
        let state = device.map_or(ReplicationState::Off, |device| device.replication_state);
        let before = std::mem::replace(&mut self.nodes[node][volume].replication, state);
        self.nodes[node][volume].was_target |= is_target(state);
        if is_target(state) && !is_target(before) {
            let spoken = &self.nodes[node].spoken;
            let joins = self.options.dual && spoken.has_met_its_like(volume);
            self.nodes[node][volume].may_be_filled = joins || spoken.greeted_to_be_filled(volume);
        }
        self.aim_at_resync(node, before, state);
        self.check_prepared(node, volume, before, state);
        if state == ReplicationState::Established
            && before != state
            && before != ReplicationState::Off
        {
            self.forget_who_wrote_alone(volume);
        }
        // What else happens while nothing is decided decides nothing, and nor does a refusal.
        let is_decided = before == ReplicationState::Off && state != before;
        if !is_decided || !self.set_up {
            return;
        }
        let Some(link) = self.links.values_mut().next_back() else {
            return;
        };
        // Over a link that is cut, or that one node has given up, nothing follows; and the peer may
        // be another by now.
        let is_over = link.cut || !link.is_used();
        if std::mem::replace(&mut link.handshakes[volume].decided, true) || is_over {
            return;
        }
        self.judge_split_brain(node, volume, state);
        match state {
            ReplicationState::Established => {
                self.judge_identity(volume);
                // The target may have recorded the end of a resync of which its source never heard.
                self.forget_who_wrote_alone(volume);
            }
            ReplicationState::WFBitMapS => self.judge_source(node, volume),
            ReplicationState::WFBitMapT => self.judge_source(1 - node, volume),
            _ => return,
        }
        self.report.handshakes += 1;
        self.linger_no_more();
    }

    /// The disks are identical: what either node wrote alone, the other has.
    fn forget_who_wrote_alone(&mut self, volume: usize) {
        for node in &mut self.nodes {
            node[volume].wrote_alone = false;
        }
    }

    /// The node has lost its power, and with that what it had completed and not made durable. What
    /// it completes without the peer is durable under a generation of its own first (A2), unless
    /// the peer had acknowledged it and lost its power too: without such a generation the node has
    /// no history of its own.
    pub(super) fn forget_what_was_lost(&mut self, node: usize, volume: usize) {
        let Ok(image) = self.nodes[node][volume].open() else {
            return;
        };
        let known = &self.nodes[1 - node][volume].generations;
        if known.contains(&image.superblock.generation.0) {
            self.nodes[node][volume].wrote_alone = false;
        }
    }

    /// A copy that was incomplete is complete from now on. Its source hears of it later, or never
    /// if the node is promoted by force in this moment, or the source's disk fails; but this copy
    /// has what that one wrote alone, if it has everything or is identical now, and a history that
    /// goes on from here is no second one.
    ///
    /// Unless somebody used force, only a resync ends so, or the first declaration of data as good:
    /// that is `in_order`.
    pub(super) fn look_at_completed(&mut self, target: usize, volume: usize, in_order: bool) {
        if self.set_up && !in_order && !self.options.careless {
            self.violation(format!(
                "E1: node {target} takes its disk for whole without the end of a resync"
            ));
        }
        let source = 1 - target;
        if !self.nodes[source][volume].wrote_alone {
            return;
        }
        let has_everything = !self.is_forked && self.holds_everything(target, volume);
        let written = self.sectors_being_written(volume);
        let moving = |block: &u64| is_moving(&written, *block);
        if has_everything || self.differing_now(volume).iter().all(moving) {
            self.nodes[source][volume].wrote_alone = false;
        }
    }

    /// What both nodes have written without the other is not joined unless someone said so (D2).
    fn judge_split_brain(&mut self, node: usize, volume: usize, state: ReplicationState) {
        let both_wrote = self.nodes.iter().all(|node| node[volume].wrote_alone);
        let target = match state {
            ReplicationState::WFBitMapS => Some(1 - node),
            ReplicationState::WFBitMapT => Some(node),
            _ => None,
        };
        let given_up = target.is_some_and(|target| self.nodes[target][volume].gives_up);
        if both_wrote && !given_up && !self.policy_says(target) {
            self.violation("D2: both nodes have written alone, and their data is joined");
        }
        if let Some(target) = target {
            let [one, other] = &self.nodes;
            let joins = self.options.dual && one.spoken.greets_like(&other.spoken, volume);
            let is_filled = joins || self.nodes[target].spoken.greeted_to_be_filled(volume);
            if self.nodes[target].is_primary() && !is_filled {
                self.violation(format!("D7: node {target} is Primary and becomes a target"));
            }
            self.nodes[target][volume].wrote_alone = false;
        }
    }

    /// Whether some policy ends a split brain so.
    fn policy_says(&self, target: Option<usize>) -> bool {
        let Some(target) = target else { return false };
        let split = self.options.split;
        let greeted = self
            .nodes
            .iter()
            .map(|node| node.spoken.greeted_as_primary());
        let primaries = greeted.filter(|is_primary| *is_primary).count();
        match (primaries, split.without_primary, split.with_one_primary) {
            (0, WithoutPrimary::Disconnect, _) | (1, _, WithOnePrimary::Disconnect) => false,
            (0, WithoutPrimary::DiscardLocal, _) => target == 0,
            (0, WithoutPrimary::DiscardRemote, _) => target == 1,
            (0 | 1, _, _) => true,
            (_, _, _) => false,
        }
    }

    fn judge_identity(&mut self, volume: usize) {
        let differing = self.differing_now(volume);
        // What the peer has long had may still be on its way to a slow disk of the Primary's own.
        let is_writing = |block: &&u64| {
            let mut nodes = self.nodes.iter();
            nodes.any(|node| node[volume].disk.is_writing(**block))
        };
        if let Some(block) = differing.iter().find(|block| !is_writing(block)) {
            self.violation(format!(
                "D4: the nodes agree that there is nothing to do, but block {block} differs"
            ));
        }
    }

    fn judge_source(&mut self, source: usize, volume: usize) {
        // Of two histories that a promotion by force has made, the answer to which may come later,
        // the policies may have decided which one goes on.
        let is_forced = self
            .calls
            .values()
            .any(|call| *call == (source, Wish::ForcePromote));
        let is_decided = self.is_forked && self.policy_says(Some(1 - source));
        if is_decided || self.options.careless && is_forced {
            return;
        }
        if let Err(missing) = self.missing(source, volume)
            && self.survives_with_everything(1 - source, volume)
        {
            self.violation(format!(
                "D4: node {source} is the source of a resync and lacks {missing}; the other lacks \
                 nothing"
            ));
        }
    }

    /// Notes which blocks the nodes say may differ; when both have said all, that must be so.
    pub(super) fn look_at_marks(&mut self, link: u64, packet: &Packet) {
        // What one end still sends after the other has closed decides nothing any more.
        let stands = |link: &&mut Link| link.ends.iter().all(|end| end.open);
        let found = self.links.get_mut(&link).filter(|_| self.set_up);
        let Some(found) = found.filter(stands) else {
            return;
        };
        // Over a link that one node has given up no resync begins, and that node goes on alone.
        let is_used = found.is_used();
        let handshakes = &mut found.handshakes;
        match packet {
            Packet::Bitmap {
                volume,
                block,
                words,
                ..
            } => {
                let handshake = &mut handshakes[place(*volume)];
                let base = u64::from(*block) * BITS_PER_BLOCK;
                for (index, word) in (0_u64..).zip(words.iter()).filter(|(_, word)| **word != 0) {
                    let bits = (0..64).filter(|bit| word >> bit & 1 == 1);
                    handshake
                        .marked
                        .extend(bits.map(|bit| base + index * 64 + bit));
                }
            }
            Packet::BitmapEnd { volume, .. } => {
                let volume = place(*volume);
                let handshake = &mut handshakes[volume];
                handshake.bitmaps_sent += 1;
                if handshake.bitmaps_sent == 2 && is_used {
                    let marked = std::mem::take(&mut handshake.marked);
                    self.judge_marks(volume, &marked);
                }
            }
            _ => {}
        }
    }

    fn judge_marks(&mut self, volume: usize, marked: &BTreeSet<u64>) {
        let written = self.sectors_being_written(volume);
        let unmarked = self
            .differing_now(volume)
            .into_iter()
            .find(|block| !marked.contains(block) && !is_moving(&written, *block));
        if let Some(block) = unmarked {
            self.violation(format!(
                "D4: a resync begins, block {block} differs, and neither node has it in its bitmap"
            ));
        }
    }

    /// What is being written differs for a moment, and is mirrored.
    fn sectors_being_written(&self, volume: usize) -> Vec<Range<u64>> {
        self.operations
            .values()
            .filter(|operation| operation.volume == volume)
            .filter_map(super::client::Operation::written_sectors)
            .collect()
    }

    /// Blocks that read differently on both disks.
    fn differing_now(&self, volume: usize) -> Vec<u64> {
        let [one, other] = &self.nodes;
        let differs =
            |sector: u64| one[volume].disk.content(sector) != other[volume].disk.content(sector);
        self.records[volume]
            .pair
            .differing_blocks()
            .filter(|block| *block < self.common_sectors(volume) / 8)
            .filter(|block| (block * 8..block * 8 + 8).any(differs))
            .filter(|block| !self.records[volume].pair.rotten().contains(block))
            .collect()
    }
}

fn is_moving(written: &[Range<u64>], block: u64) -> bool {
    let (first, end) = (block * 8, block * 8 + 8);
    written
        .iter()
        .any(|range| range.start < end && first < range.end)
}
