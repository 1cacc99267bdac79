//! What goes wrong: which fault when, and what each of them does.

use rbd_engine::{DiskError, Time};

use super::disk::Trouble;
use super::hands::SLOWEST_US;
use super::node::Node;
use super::operator::Wish;
use super::random::Random;
use super::world::{Happening, World};

/// Faults that tend to come together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Network,
    Power,
    Disk,
    Clock,
    Command,
    Role,
    Careless,
    Scrub,
    Growth,
}

impl Class {
    pub(super) const ALL: [Self; 9] = [
        Self::Network,
        Self::Power,
        Self::Disk,
        Self::Clock,
        Self::Command,
        Self::Role,
        Self::Careless,
        Self::Scrub,
        Self::Growth,
    ];
}

/// Something that goes wrong, or that someone does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// Links are cut.
    Cut,
    /// Links are cut and none can be made for a while.
    Partition,
    /// Nothing arrives for a while, in one direction or both.
    Stall,
    /// A bit flips on its way.
    Damage,
    /// A process dies.
    Kill,
    /// A machine loses its power.
    Power,
    /// Both do, at the same moment or one soon after the other; the other may be spared its power
    /// and lose its process.
    PowerOfBoth,
    /// A process dies or its machine loses power, and again while it comes up.
    CrashLoop,
    /// A process dies or its machine loses power, and nobody sees to it for long.
    Away,
    /// One or a few operations fail, or all until the disk is looked after.
    DiskError,
    /// Some sectors can no longer be read until they are written again.
    BadSectors,
    /// Writes find no space for a while.
    DiskFull,
    /// Everything takes 10 to 1,000 times as long for a while.
    DiskSlow,
    /// Nothing completes for a while, then everything.
    DiskStuck,
    /// The disk is no longer there for a while.
    DiskGone,
    /// An operator takes a disk away, in order or by force, and attaches it again some time.
    Detach,
    /// The disk is replaced by an empty one.
    DiskReplaced,
    /// A disk is set back to what it held some time ago.
    SetBack,
    /// A node's clock jumps ahead.
    ClockJump,
    /// A node's clock stands still for a while.
    ClockStop,
    /// An operator disconnects and connects.
    Disconnect,
    /// An operator stops a node.
    Stop,
    /// An operator has an errand at a node.
    Errand,
    /// An operator demotes the Primary; either node is promoted then.
    SwitchOver,
    /// An operator promotes a node without looking at the other one.
    PromoteBlindly,
    /// An operator promotes a node by force.
    PromoteByForce,
    /// An operator begins a new generation by hand.
    NewGeneration,
    /// An operator connects a node and gives up its data.
    DiscardData,
    /// A bit on the disk of a Secondary flips.
    Rot,
    /// An operator compares both copies.
    Verify,
    /// An operator enlarges one disk or both, and lets the volume grow.
    Enlarge,
}

impl Fault {
    pub(super) const ALL: [(Self, Class); 30] = [
        (Self::Cut, Class::Network),
        (Self::Partition, Class::Network),
        (Self::Stall, Class::Network),
        (Self::Damage, Class::Network),
        (Self::Kill, Class::Power),
        (Self::Power, Class::Power),
        (Self::PowerOfBoth, Class::Power),
        (Self::CrashLoop, Class::Power),
        (Self::Away, Class::Power),
        (Self::DiskError, Class::Disk),
        (Self::BadSectors, Class::Disk),
        (Self::DiskFull, Class::Disk),
        (Self::DiskSlow, Class::Disk),
        (Self::DiskStuck, Class::Disk),
        (Self::DiskGone, Class::Disk),
        (Self::Detach, Class::Disk),
        (Self::DiskReplaced, Class::Disk),
        (Self::ClockJump, Class::Clock),
        (Self::ClockStop, Class::Clock),
        (Self::Disconnect, Class::Command),
        (Self::Stop, Class::Command),
        (Self::Errand, Class::Command),
        (Self::SwitchOver, Class::Role),
        (Self::PromoteBlindly, Class::Careless),
        (Self::PromoteByForce, Class::Careless),
        (Self::NewGeneration, Class::Careless),
        (Self::DiscardData, Class::Careless),
        (Self::Rot, Class::Scrub),
        (Self::Verify, Class::Scrub),
        (Self::Enlarge, Class::Growth),
    ];
}

impl World {
    /// The next fault. What it is, and when the one after it comes, depends on nothing but its
    /// number, so that leaving one out changes no other.
    pub(super) fn fault(&mut self) {
        if !self.faults_allowed {
            return;
        }
        self.faults += 1;
        let number = self.faults;
        let mut random = Random::of(self.report.seed, FAULTS, number);
        // The first synchronisation is short: what is to hit it must come soon.
        let pause = if self.options.early && number < EARLY_FAULTS {
            random.magnitude(1_000, 300_000)
        } else {
            random.below(self.options.fault_every_ms * 2_000) + 1_000
        };
        self.after_us(pause, Happening::Fault);
        let faults = &self.options.faults;
        let mut lot = random.below(faults.iter().map(|(_, weight)| weight).sum());
        let chosen = faults.iter().find(|(_, weight)| {
            let hit = lot < *weight;
            lot = lot.saturating_sub(*weight);
            hit
        });
        let Some((fault, _)) = chosen.copied() else {
            return;
        };
        if self.without.fault(number) {
            return;
        }
        self.note(|| format!("fault {number}: {fault:?}"));
        *self.report.faults.entry(format!("{fault:?}")).or_default() += 1;
        let node = usize::from(random.percent(50));
        let before = std::mem::replace(&mut self.random, random);
        self.happens(fault, node);
        self.random = before;
    }

    fn happens(&mut self, fault: Fault, node: usize) {
        let volume = self.any_volume();
        match fault {
            Fault::Cut => {
                let silently = self.random.percent(20);
                self.cut_links(silently);
            }
            Fault::Partition => {
                self.network_works = false;
                self.note(|| "network fails".into());
                self.cut_links(true);
                let delay = self.random.magnitude(1_000, 60_000_000);
                self.after_us(delay, Happening::Repair);
            }
            Fault::Stall => self.stall_links(180_000_000),
            Fault::Damage => self.damage_links(),
            Fault::Kill => {
                if self.random.percent(70) && self.nodes[node].engine.is_some() {
                    self.nodes[node].dies_next = true;
                } else {
                    self.kill(node);
                }
            }
            Fault::Power => self.lose_power(node),
            Fault::PowerOfBoth => {
                self.lose_power(node);
                let other = 1 - node;
                if self.random.percent(50) {
                    self.lose_power(other);
                } else {
                    let delay = self.random.magnitude(1, 50_000);
                    let power = self.random.percent(60);
                    let what = Happening::Crash { node: other, power };
                    self.after_us(delay, what);
                }
            }
            Fault::CrashLoop => {
                self.nodes[node].crashes_left = self.random.between(1, 5);
                self.crash(node, true);
            }
            Fault::Away => {
                self.nodes[node].away_us = self.random.magnitude(5_000_000, 180_000_000);
                let power = self.random.percent(50);
                self.crash(node, power);
            }
            Fault::SetBack => self.set_back(node, volume),
            Fault::DiskReplaced => self.replace_spare_disk(node, volume),
            Fault::DiskError
            | Fault::BadSectors
            | Fault::DiskFull
            | Fault::DiskSlow
            | Fault::DiskStuck
            | Fault::DiskGone => self.disk_trouble(fault, node, volume),
            Fault::ClockJump => {
                let ahead = self.random.magnitude(1_000, 3_600_000_000) * 1_000;
                self.clock_jumps(node, ahead);
            }
            // The lease of a Primary beside another relies on clocks that go on.
            Fault::ClockStop if self.options.dual => {}
            Fault::ClockStop => {
                let until = self.now + self.random.magnitude(1_000, 60_000_000) * 1_000;
                self.excuse_both(until);
                self.nodes[node].clock.stop(self.now, until);
            }
            Fault::Rot => self.rot(),
            Fault::Verify => self.order_verify(node, volume),
            Fault::Enlarge => self.enlarge(),
            Fault::Disconnect
            | Fault::Detach
            | Fault::Stop
            | Fault::Errand
            | Fault::PromoteBlindly
            | Fault::PromoteByForce
            | Fault::NewGeneration
            | Fault::DiscardData
            | Fault::SwitchOver => self.somebody_commands(fault, node, volume),
        }
    }

    /// Someone commands something at a bad moment.
    fn somebody_commands(&mut self, fault: Fault, node: usize, volume: usize) {
        let life = self.nodes[node].life;
        let soon = |wish| Happening::Order { node, life, wish };
        match fault {
            Fault::Disconnect if self.nodes[node].engine.is_some() => {
                self.order(node, Wish::Disconnect);
                let delay = self.random.magnitude(1_000, 1_000_000);
                self.after_us(delay, soon(Wish::Connect));
            }
            Fault::Detach if self.random.percent(30) => {
                self.order_if_up(node, Wish::ForceDetach(volume));
            }
            Fault::Detach => self.order_if_up(node, Wish::Detach(volume)),
            Fault::Stop => self.order_if_up(node, Wish::Stop),
            Fault::Errand if self.nodes[node].engine.is_some() => self.run_errand(node),
            Fault::PromoteBlindly => self.order_if_up(node, Wish::Promote),
            Fault::PromoteByForce => self.order_if_up(node, Wish::ForcePromote),
            Fault::NewGeneration => self.order_if_up(node, Wish::NewGeneration(volume)),
            Fault::DiscardData => {
                self.order_if_up(node, Wish::Disconnect);
                self.after_us(100_000, soon(Wish::ConnectDiscarding));
            }
            Fault::SwitchOver => {
                if let Some(primary) = self.nodes.iter().position(Node::is_primary) {
                    self.order(primary, Wish::Demote);
                }
            }
            _ => {}
        }
    }

    pub(super) fn order_if_up(&mut self, node: usize, wish: Wish) {
        if self.nodes[node].engine.is_some() {
            self.order(node, wish);
        }
    }

    fn disk_trouble(&mut self, fault: Fault, node: usize, volume: usize) {
        let until = self.now + self.random.magnitude(1_000, 120_000_000) * 1_000;
        if matches!(fault, Fault::DiskSlow | Fault::DiskStuck) {
            let over = until + SLOWEST_US * 1_000;
            self.excuse(node, volume, over);
            let hindered = &mut self.nodes[node][volume].hindered_until;
            *hindered = (*hindered).max(over);
        }
        let disk = &mut self.nodes[node][volume].disk;
        match fault {
            Fault::DiskError => {
                // Flushes are rare, most of all on a Secondary.
                let kinds = [
                    Trouble::Read,
                    Trouble::Write,
                    Trouble::Flush,
                    Trouble::Flush,
                    Trouble::Metadata,
                ];
                let kind = self.random.pick(&kinds).unwrap_or(Trouble::Write);
                let times = self.random.pick(&[1, 1, 3, u64::MAX]).unwrap_or(1);
                disk.fail(kind, times);
            }
            Fault::BadSectors => {
                let first = self.random.below(disk.sectors());
                let count = self.random.magnitude(1, 4_096);
                disk.spoil(first, count);
            }
            Fault::DiskFull => disk.full_until = until,
            Fault::DiskSlow => {
                disk.slow_until = until;
                disk.slow_factor = self.random.magnitude(10, 1_000);
            }
            Fault::DiskStuck => disk.stuck_until = until,
            _ => disk.gone_until = until,
        }
    }

    /// Nobody throws away the last copy there is, nor the last that is as large as the volume.
    fn replace_spare_disk(&mut self, node: usize, volume: usize) {
        let other = 1 - node;
        let shown_bytes = self.records[volume].shown_bytes;
        let is_large = self.nodes[other][volume].volume_bytes >= shown_bytes;
        let is_whole = is_large && self.survives_with_everything(other, volume);
        if !self.nodes[node].is_primary() && is_whole {
            self.replace_disk(node, volume);
        }
    }

    /// The node goes down and comes up with another disk.
    pub(super) fn replace_disk(&mut self, node: usize, volume: usize) {
        self.note(|| format!("node {node}: the disk is replaced"));
        let ran = self.nodes[node].engine.is_some();
        if ran {
            self.abandon_links(node, false);
            self.end_process(node);
            self.leave_disks(node);
        }
        self.nodes[node][volume].replace_disk();
        self.take_back_fence_of(node);
        self.nodes[node][volume].suspect = true;
        self.nodes[node][volume].wrote_alone = false;
        if ran {
            self.come_back(node, 1_000_000);
        }
    }

    /// An operation has failed: whatever the disk holds from here on, it holds by luck.
    pub(super) fn disk_failed(&mut self, node: usize, volume: usize, error: DiskError) {
        self.report.disk_errors += 1;
        self.note(|| format!("node {node}: the disk fails: {error:?}"));
        self.nodes[node][volume].disk_failed = true;
        self.note_suspect(node, volume);
        // Word of it, and what was sent before it, may take different times on their ways.
        if self.faults_allowed && self.has(Fault::Stall) && self.random.percent(30) {
            self.stall_links(300_000);
        }
        self.run_errands_soon(300_000);
    }

    /// Whether this kind of fault is among those of this run.
    pub(super) fn has(&self, fault: Fault) -> bool {
        self.options.faults.iter().any(|(kind, _)| *kind == fault)
    }

    /// The node's disk is no longer known to hold everything. If no other copy is, what was not
    /// flushed may be gone.
    pub(super) fn note_suspect(&mut self, node: usize, volume: usize) {
        let held = self.holds_everything(node, volume);
        let other = 1 - node;
        self.nodes[node][volume].suspect = true;
        let survivor = self.survives_with_everything(other, volume);
        if held && !survivor {
            self.note(|| "nobody is known to hold everything any more".into());
            self.records[volume].registers.caches_lost();
        }
    }

    /// Whether the node's disk is known to hold everything, whatever becomes of the other one's.
    pub(super) fn survives_with_everything(&self, node: usize, volume: usize) -> bool {
        !self.nodes[node][volume].suspect
            && self.nodes[node].is_a_copy(volume, self.time(node))
            && !self.is_newer(1 - node, node, volume)
            && self.holds_everything(node, volume)
    }

    /// The process dies; the machine goes on.
    pub(super) fn kill(&mut self, node: usize) {
        if self.nodes[node].engine.is_none() {
            return;
        }
        self.note(|| format!("node {node}: process dies"));
        self.watch_death(node, false);
        self.report.kills += 1;
        self.abandon_links(node, false);
        self.end_process(node);
        self.leave_disks(node);
        self.come_back(node, 1_000_000);
    }

    /// The process dies, or the power fails.
    pub(super) fn crash(&mut self, node: usize, power: bool) {
        if power {
            self.lose_power(node);
        } else {
            self.kill(node);
        }
    }

    pub(super) fn lose_power(&mut self, node: usize) {
        self.note(|| format!("node {node}: power fails"));
        self.watch_death(node, true);
        self.report.power_losses += 1;
        let ran = self.nodes[node].engine.is_some();
        let volumes = self.volumes();
        let held: Vec<bool> = volumes
            .clone()
            .map(|volume| self.holds_everything(node, volume))
            .collect();
        if ran {
            self.abandon_links(node, true);
            self.end_process(node);
        }
        self.nodes[node].boot += 1;
        for (volume, held) in volumes.zip(held) {
            self.lose_cache(node, volume, held);
        }
        if ran {
            self.come_back(node, 3_000_000);
        }
    }

    /// What one of its disks has not made durable is gone.
    fn lose_cache(&mut self, node: usize, volume: usize, held: bool) {
        self.nodes[node][volume].disk.power_loss(&mut self.random);
        self.forget_what_was_lost(node, volume);
        self.nodes[node][volume].lost_cache = false;
        let other = 1 - node;
        self.nodes[node][volume].suspect = true;
        let survivor = self.survives_with_everything(other, volume);
        if self.is_traced() {
            let lost = self.missing(node, volume);
            self.note(|| {
                format!(
                    "held everything: {held}, afterwards: {lost:?}, \
                     the peer survives with everything: {survivor}"
                )
            });
        }
        if held && !survivor {
            self.note(|| "nobody holds everything any more".into());
            self.records[volume].registers.caches_lost();
        }
    }

    /// The process is gone, its machine and its disks are not.
    fn leave_disks(&mut self, node: usize) {
        for volume in &mut self.nodes[node].volumes {
            volume.disk.process_crash(&mut self.random);
        }
    }

    fn end_process(&mut self, node: usize) {
        let clients = self.clients_at(node);
        self.forget_work_of(node);
        self.nodes[node].forget_process();
        for record in &mut self.records {
            record.scrub.forget(node);
        }
        self.revive_clients(clients);
    }

    fn come_back(&mut self, node: usize, most_us: u64) {
        let away_us = std::mem::take(&mut self.nodes[node].away_us);
        let delay = self.random.magnitude(1_000, most_us) + away_us;
        self.after_us(delay, Happening::Start { node });
        if self.nodes[node].crashes_left > 0 {
            self.nodes[node].crashes_left -= 1;
            let power = self.random.percent(50);
            let delay = delay + self.random.magnitude(10, 300_000);
            self.after_us(delay, Happening::Crash { node, power });
        }
    }

    /// Nothing is wrong with any disk, clock or link any more.
    pub(super) fn repair_everything(&mut self) {
        self.network_works = true;
        for node in 0..2 {
            let now = self.now;
            for volume in &mut self.nodes[node].volumes {
                volume.disk.repair();
                volume.excused_until = now;
                volume.hindered_until = now;
            }
            self.nodes[node].clock.go_on(self.now);
            self.nodes[node].crashes_left = 0;
            self.nodes[node].dies_next = false;
            self.nodes[node].away_us = 0; // it was to stay away, but was down already
            self.wake_again(node);
        }
        self.cut_stalled_links();
        // The cluster demotes it, its clients do not let go, so it is switched off.
        for node in 0..2 {
            if self.is_barred(node) && self.nodes[node].is_primary() {
                self.lose_power(node);
            }
        }
    }

    pub(super) fn clock_jumps(&mut self, node: usize, ahead: u64) {
        // Two Primaries rely on clocks that do not count time that has not passed.
        if self.options.dual && self.nodes.iter().any(Node::is_primary) {
            return;
        }
        self.nodes[node].clock.jump(self.now, ahead);
        self.note(|| format!("node {node}: the clock jumps ahead by {ahead} ns"));
        self.wake_again(node);
    }

    /// The node's clock has changed: when the timer fires is reckoned anew.
    fn wake_again(&mut self, node: usize) {
        let (life, wake) = (self.nodes[node].life, self.nodes[node].wake);
        self.after_us(1, Happening::Timer { node, life, wake });
    }

    /// The time on the node's own clock.
    pub(super) fn time(&self, node: usize) -> Time {
        Time(self.nodes[node].clock.read(self.now))
    }
}

/// How many faults follow each other closely where they do not wait for the first synchronisation.
const EARLY_FAULTS: u64 = 12;

/// The stream of chance that faults are drawn from.
const FAULTS: u64 = 1;
