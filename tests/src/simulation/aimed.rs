//! Faults that are aimed: at a resync, at a handshake, at a node that has just been promoted.
//!
//! What takes two faults in one short time, at the right place, chance alone brings about in one
//! seed of thousands: both nodes restarted during a full resync, a peer that is lost in the middle
//! of a handshake and stays away, a promotion while one is under way, the end of a node whose
//! clients have just read what no other has. And a disk that is set back: to what it held when its
//! node came up some time ago, data and metadata, as after a restore from a backup.

use rbd_protocol::state::ReplicationState;

use super::disk::Copy;
use super::operator::Wish;
use super::submission::is_target;
use super::world::{Happening, World};

/// A copy of a whole disk, made while its node was down.
#[derive(Debug)]
pub(super) struct Backup {
    generation: u64,
    copy: Copy,
}

impl World {
    /// The node's replication has changed: a good time for something to go wrong.
    pub(super) fn aim_at_resync(
        &mut self,
        node: usize,
        before: ReplicationState,
        now: ReplicationState,
    ) {
        if self.options.heedless && is_target(before) && now == ReplicationState::Established {
            self.order_soon(node, Wish::Promote, 30_000);
            self.order_soon(1 - node, Wish::Promote, 30_000);
            return;
        }
        let begins = !is_target(before) && is_target(now);
        if !begins || !self.is_aiming() || !self.random.percent(60) {
            return;
        }
        let delay = self.random.magnitude(100, 6_000_000);
        if self.random.percent(10) {
            self.after_us(delay, Happening::Cut);
        }
        let (target, source) = match self.random.below(10) {
            0..=2 => (true, false),
            3..=4 => (false, true),
            _ => (true, true),
        };
        for (dies, node) in [(target, node), (source, 1 - node)] {
            if dies {
                self.crash_later(node, delay, 10);
            }
        }
    }

    /// A link stands for the node: what is decided over it is decided in the next few moments.
    pub(super) fn aim_at_handshake(&mut self, node: usize) {
        if !self.is_aiming() {
            return;
        }
        match self.random.below(10) {
            0 => {
                let delay = self.random.magnitude(10, 30_000);
                self.crash_later(node, delay, 60);
            }
            1 | 2 if self.may_promote_alone(node) => {
                self.order_soon(node, Wish::PromoteWithCare, 20_000);
            }
            _ => {}
        }
    }

    /// The node has become Primary, perhaps without its peer.
    pub(super) fn aim_at_promoted(&mut self, node: usize) {
        let is_alone = self.nodes[1 - node].engine.is_none() || !self.are_connected();
        if self.is_aiming() && is_alone && self.random.percent(30) {
            let delay = self.random.magnitude(1_000, 300_000);
            self.crash_later(node, delay, 10);
        }
    }

    fn is_aiming(&self) -> bool {
        self.options.aimed && self.set_up && self.faults_allowed
    }

    /// The node dies at that time or a little later, and now and then nobody sees to it for long.
    fn crash_later(&mut self, node: usize, delay_us: u64, away_percent: u64) {
        let delay = delay_us + self.random.magnitude(1, 5_000);
        let power = self.random.percent(40);
        if self.random.percent(away_percent) {
            self.nodes[node].away_us = self.random.magnitude(5_000_000, 90_000_000);
        }
        self.after_us(delay, Happening::Crash { node, power });
    }

    /// The node is about to come up: now and then somebody makes a copy of its disk before.
    pub(super) fn back_up(&mut self, node: usize) {
        for volume in self.volumes() {
            // A copy that has been made is mostly left to grow old.
            let is_first = self.nodes[node][volume].backup.is_none();
            let percent = if is_first { 30 } else { 3 };
            if !self.is_aiming() || !self.random.percent(percent) {
                continue;
            }
            let copy = &mut self.nodes[node][volume];
            let Ok(image) = copy.open() else { continue };
            let is_whole = image.superblock.flags.consistent && copy.disk.is_idle();
            if is_whole && image.superblock.generation.names_data() {
                copy.backup = Some(Backup {
                    generation: image.superblock.generation.0,
                    copy: copy.disk.copy(),
                });
            }
        }
    }

    /// The node's machine loses its power and comes up with the disk it had when the copy was made,
    /// if that is safe now; else the copy is kept.
    pub(super) fn set_back(&mut self, node: usize, volume: usize) {
        let other = 1 - node;
        // Whether the other one has lost its power since is no matter: its disk, not its cache, has
        // everything, and newer data is known by its generation.
        let has_everything = self.nodes[other].is_a_copy(volume, self.time(other))
            && !self.is_newer(node, other, volume)
            && self.holds_everything(other, volume);
        let is_safe = !self.nodes[node].is_primary() && has_everything;
        let backup = &self.nodes[node][volume].backup;
        let generation = backup.as_ref().map(|backup| backup.generation);
        let may_be_used = |generation| is_safe && self.is_told_apart(generation, other, volume);
        if !generation.is_some_and(may_be_used) {
            return;
        }
        let Some(backup) = self.nodes[node][volume].backup.take() else {
            return;
        };
        self.note(|| format!("node {node}: its disk is set back"));
        if self.nodes[node].engine.is_some() {
            self.lose_power(node);
        }
        self.nodes[node].boot += 1;
        let machine = &mut self.nodes[node][volume];
        machine.disk.restore(backup.copy);
        machine.suspect = true;
        machine.wrote_alone = false;
        machine.consistent = true;
        machine.set_back_to = Some(backup.generation);
        self.report.set_back += 1;
    }

    /// Whether the node knows this generation for one from before it began to count what its peer
    /// lacks. Only then can it tell: within one generation nothing on a disk says how late it is.
    fn is_told_apart(&self, generation: u64, node: usize, volume: usize) -> bool {
        let Ok(image) = self.nodes[node][volume].open() else {
            return false;
        };
        let block = &image.superblock;
        let slot = block.peers.iter().find(|slot| slot.node_id.is_some());
        let counts_from = slot.map_or(0, |slot| slot.bitmap_generation.0);
        let age = |id: u64| block.history.iter().position(|known| known.0 == id);
        let Some(age_of_copy) = age(generation) else {
            return false;
        };
        // It is to be remembered for some time yet.
        let is_remembered = age_of_copy + 8 < block.history.len();
        let is_older = counts_from == 0 || age(counts_from).is_some_and(|age| age < age_of_copy);
        is_remembered && is_older && generation != counts_from
    }
}
