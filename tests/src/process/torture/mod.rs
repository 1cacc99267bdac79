//! Rounds of random harm to a pair under verified load.
//!
//! Each round starts with both nodes in sync and ends with both in sync, their data areas equal
//! byte for byte and every answered write in its place. The record of what was answered lives in
//! this process, which is never harmed. The seed decides what is done; what comes of it depends on
//! the machine's timing as well.
//!
//! With faulty disks (see [`faultfs`](crate::faultfs)), nodes lose their power and disks fail too.

mod harm;
mod standstill;
mod tally;

use std::thread;
use std::time::{Duration, Instant};

use harm::{Harm, breakage};
pub use tally::Tally;

use super::{Chance, Load, LoadOptions, Node, Outcome, Pair, Setup};
use crate::faultfs::{Effect, Fault, On, Opening};

/// A pair that has a hard life.
#[derive(Debug)]
pub struct Torture {
    pair: Pair,
    chance: Chance,
    primary: &'static str,
    with_faults: bool,
    tally: Tally,
}

impl Torture {
    /// A pair in sync.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with(Setup::default(), seed)
    }

    /// A pair in sync on disks that can fail; the test must stay in this thread. `None`, and noted
    /// as skipped, where that is not possible.
    #[must_use]
    pub fn with_faults(test: &str, seed: u64) -> Option<Self> {
        let opening = match seed % 2 {
            0 => Opening::Buffered,
            _ => Opening::Direct,
        };
        let setup = Setup::default().faulty(test, opening)?;
        Some(Self::with(setup, seed))
    }

    fn with(setup: Setup, seed: u64) -> Self {
        Self {
            with_faults: setup.faulty.is_some(),
            pair: Pair::primary(setup.sized(48 << 20).proxied()),
            chance: Chance::new(seed),
            primary: "alpha",
            tally: Tally::default(),
        }
    }

    /// One round; returns what was done, in words.
    ///
    /// # Panics
    /// When anything is not as it should be.
    pub fn round(&mut self) -> String {
        let options = LoadOptions {
            seed: self.chance.below(u64::MAX),
            depth: usize::try_from(1 + self.chance.below(16)).unwrap_or(1),
            longest: [1, 8, 64, 256][usize::try_from(self.chance.below(4)).unwrap_or(0)],
            pause: Duration::from_micros(self.chance.below(2000)),
            share: [3, 30, 100][usize::try_from(self.chance.below(3)).unwrap_or(0)],
            ..LoadOptions::default()
        };
        self.vary_latency();
        let load = self.pair.load(self.primary, options);
        self.let_work(&load);
        let links_lost = self.links_lost();
        let mut story = Vec::new();
        // What is done to the peer or the wire leaves the Primary alone with new data, for as long
        // as they are not in sync again; then only it may go on.
        let mut is_peer_current = true;
        let mut disks_work = true;
        for _ in 0..=self.chance.below(2) {
            let harm = Harm::choose(&mut self.chance, self.with_faults);
            let is_still_current = is_peer_current && self.links_lost() == links_lost;
            // Nobody else has what the last good disk loses.
            if matches!(harm, Harm::BreakPrimaryDisk) && !is_still_current {
                continue;
            }
            story.push(format!("{harm:?}"));
            if harm.ends_the_primary() {
                let is_peer_current = is_still_current;
                let took_over = self.end_primary(harm, load, is_peer_current);
                return self.end_round(story, took_over);
            }
            self.harm(harm);
            is_peer_current = false;
            // Often too short to be noticed, sometimes long enough to be given up.
            let longest = if self.chance.one_in(4) { 5000 } else { 300 };
            self.pause(longest);
            disks_work &= !harm.touches_a_disk();
            if disks_work {
                self.check_marks_at_a_standstill();
            }
            if self.chance.one_in(2) {
                self.mend();
            }
        }
        self.mend();
        self.let_work(&load);
        let outcome = load.stop(&mut self.pair.ledger);
        outcome.assert_undisturbed();
        self.tally.answered += outcome.answered;
        self.end_round(story, None)
    }

    /// What has been survived so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// The last comparison, with both daemons stopped.
    ///
    /// # Panics
    /// When anything is not as it should be.
    pub fn finish(mut self) -> Tally {
        if self.with_faults {
            let nodes = self.pair.nodes();
            self.tally.faults = nodes.iter().map(|node| node.disks().all_hits()).sum();
            self.pair.finish_without_power();
        } else {
            self.pair.finish();
        }
        self.tally
    }

    /// Harm that clients of the Primary must not notice.
    fn harm(&mut self, harm: Harm) {
        let (primary, secondary) = (self.primary, other(self.primary));
        let after = self.chance.below(1 << 18);
        match harm {
            Harm::KillSecondary => {
                self.tally.killed += 1;
                self.pair.node(secondary).kill();
            }
            Harm::StopSecondary => {
                self.tally.stopped += 1;
                let node = self.pair.node(secondary);
                node.resume();
                node.heal();
                node.stop();
            }
            Harm::FreezeSecondary => {
                self.tally.frozen += 1;
                self.pair.node(secondary).pause();
            }
            Harm::FreezePrimary => {
                self.tally.frozen += 1;
                self.pair.node(primary).pause();
                self.pause(4000);
                self.pair.node(primary).resume();
            }
            Harm::Cut => self.pair.cut(),
            Harm::Reset => self.pair.wires.iter().for_each(|wire| wire.reset()),
            Harm::Stall => self.pair.wires.iter().for_each(|wire| wire.stall()),
            Harm::FlipBit => self
                .pair
                .wires
                .iter()
                .for_each(|wire| wire.flip_a_bit(after)),
            Harm::CutOff => self.pair.wires.iter().for_each(|wire| wire.cut_off(after)),
            Harm::Disconnect => {
                self.pair.nodes().iter().for_each(|node| node.heal());
                self.pair.node(primary).ok("disconnect");
            }
            Harm::UnplugSecondary => {
                self.tally.unplugged += 1;
                let seed = self.chance.below(u64::MAX);
                Node::cut_power(&mut [self.pair.node(secondary)], seed);
            }
            Harm::BreakSecondaryDisk => self.break_disk(secondary),
            Harm::HangSecondaryDisk | Harm::HangPrimaryDisk => {
                self.tally.broken += 1;
                let node = match harm {
                    Harm::HangPrimaryDisk => primary,
                    _ => secondary,
                };
                let fault = Fault::new(On::Any, Effect::Hang).after(self.chance.below(20));
                self.pair.node(node).disks().set(fault);
            }
            Harm::ShortenReads => {
                self.tally.broken += 2;
                for node in self.pair.nodes() {
                    node.disks().set(Fault::new(On::Read, Effect::Short));
                }
            }
            Harm::KillPrimary
            | Harm::KillBoth
            | Harm::StopPrimary
            | Harm::UnplugPrimary
            | Harm::UnplugPrimaryKillSecondary
            | Harm::UnplugBoth
            | Harm::BreakPrimaryDisk => {}
        }
        if matches!(
            harm,
            Harm::Cut | Harm::Reset | Harm::Stall | Harm::FlipBit | Harm::CutOff
        ) {
            self.tally.wire += 1;
        }
    }

    /// Ends the Primary's daemon. Returns who took over, if the other one did.
    fn end_primary(&mut self, harm: Harm, load: Load, is_peer_current: bool) -> Option<Load> {
        let (primary, secondary) = (self.primary, other(self.primary));
        // What was answered and not flushed is nowhere but in a cache that is lost.
        let mut is_lost = harm.unplugs_the_primary() && !is_peer_current;
        match harm {
            Harm::StopPrimary => {
                self.tally.stopped += 1;
                self.pair.nodes().iter().for_each(|node| node.heal());
                self.pair.node(primary).stop();
            }
            Harm::BreakPrimaryDisk => {
                self.break_disk(primary);
                if !self.has_noticed(&load) {
                    // If it was met at all, the peer has served the clients meanwhile.
                    self.pair.node(primary).heal();
                    self.reattach();
                    let outcome = load.stop(&mut self.pair.ledger);
                    self.note(&outcome);
                    return None;
                }
            }
            Harm::UnplugPrimary => {
                self.tally.unplugged += 1;
                let seed = self.chance.below(u64::MAX);
                Node::cut_power(&mut [self.pair.node(primary)], seed);
            }
            Harm::UnplugPrimaryKillSecondary => {
                self.tally.unplugged += 1;
                self.tally.killed += 1;
                let seed = self.chance.below(u64::MAX);
                let secondary_first = self.chance.one_in(2);
                if secondary_first {
                    self.pair.node(secondary).kill();
                }
                Node::cut_power(&mut [self.pair.node(primary)], seed);
                self.pair.node(secondary).kill();
                // The last writes may have gone to the one that loses its cache, and only there.
                is_lost |= secondary_first;
            }
            Harm::UnplugBoth => {
                self.tally.unplugged += 2;
                let seed = self.chance.below(u64::MAX);
                Node::cut_power(&mut self.pair.nodes(), seed);
                is_lost = true;
            }
            Harm::KillBoth => {
                self.tally.killed += 2;
                let first = if self.chance.one_in(2) {
                    primary
                } else {
                    secondary
                };
                self.pair.node(first).kill();
                self.pause(3);
                self.pair.node(other(first)).kill();
            }
            _ => {
                self.tally.killed += 1;
                self.pair.node(primary).kill();
            }
        }
        let outcome = load.join(&mut self.pair.ledger);
        self.note(&outcome);
        if is_lost {
            self.pair.ledger.power_lost();
        }
        let both_are_dead = !self.pair.alpha.is_started() && !self.pair.beta.is_started();
        if both_are_dead && harm.kills() {
            // What a broken disk holds is looked at from outside.
            self.pair.nodes().into_iter().for_each(|node| node.heal());
        }
        if !self.with_faults || both_are_dead && harm.kills() {
            self.check_marks_at_a_standstill();
        }
        let is_broken = matches!(harm, Harm::BreakPrimaryDisk);
        if is_broken {
            // No peer served it: the disk it has lost is not what its clients have seen.
            self.pair.demote(primary);
        }
        let is_over = harm.kills() || is_broken;
        if is_over && is_peer_current && !both_are_dead && !self.chance.one_in(3) {
            return Some(self.fail_over());
        }
        None
    }

    /// The survivor must be able to take over at once, with everything that was answered.
    fn fail_over(&mut self) -> Load {
        let survivor = other(self.primary);
        self.tally.failovers += 1;
        self.pair.node(survivor).wait_for("alone", |status| {
            !status.is_connected() || status.peer_role() == "Secondary"
        });
        self.pair.node(survivor).ok("primary");
        self.pair.verify(survivor);
        self.primary = survivor;
        let options = LoadOptions {
            seed: self.chance.below(u64::MAX),
            ..LoadOptions::default()
        };
        let load = self.pair.load(survivor, options);
        self.let_work(&load);
        load
    }

    /// Everything is mended, both nodes get in sync, and everything is compared.
    fn end_round(&mut self, mut story: Vec<String>, load: Option<Load>) -> String {
        self.mend();
        if self.with_faults {
            self.reattach();
        }
        self.pair.wait_in_sync();
        if let Some(load) = load {
            story.push(format!("{} took over", self.primary));
            let outcome = load.stop(&mut self.pair.ledger);
            outcome.assert_undisturbed();
            self.note(&outcome);
        }
        if self.pair.node(self.primary).status().role() == "Primary" {
            self.pair.verify(self.primary);
            self.pair.demote(self.primary);
        }
        // At rest: nobody writes, so the files can be compared under the daemons.
        self.pair.assert_equal();
        if self.chance.one_in(3) {
            self.primary = other(self.primary);
        }
        self.pair.promote(self.primary);
        self.pair.verify(self.primary);
        self.tally.rounds += 1;
        story.join(", ")
    }

    /// Undoes all harm; what was up is up again, and looking for its peer.
    fn mend(&mut self) {
        self.pair.mend();
        for node in self.pair.nodes() {
            node.heal();
            if node.is_paused() {
                node.resume();
            }
            if !node.is_started() {
                node.start();
            }
            if is_served(node) {
                continue;
            }
            // What a failed disk was last asked for may not have ended: it is attached later.
            let refused = node.verb("up");
            let attaches_later = self.with_faults && refused.text().contains("has not ended");
            assert!(
                refused.code == Some(0) || attaches_later,
                "{}",
                refused.text()
            );
        }
    }

    /// A disk that has failed is taken again, as an administrator would who has replaced a cable.
    fn reattach(&mut self) {
        let nodes = [&self.pair.alpha, &self.pair.beta];
        super::wait_until("both disks are attached and in sync", || {
            for node in nodes {
                if node.try_status()?.disk() == "Diskless" {
                    // Refused while a served Primary's link is made anew.
                    let up = node.verb("up");
                    super::unless(up.code == Some(0), || up.text())?;
                }
            }
            let status = nodes[0].try_status()?;
            super::unless(status.is_in_sync(), || status.text())
        });
    }

    fn break_disk(&mut self, node: &str) {
        self.tally.broken += 1;
        let data = self.pair.data_size();
        let (fault, _) = breakage(&mut self.chance, data);
        self.pair.node(node).disks().set(fault);
    }

    /// Whether the clients notice what is wrong with the disk: some faults wait for what may not
    /// come.
    fn has_noticed(&self, load: &Load) -> bool {
        let start = Instant::now();
        while !load.has_ended() && start.elapsed() < NOTICE {
            thread::sleep(Duration::from_millis(10));
        }
        load.has_ended()
    }

    /// Sometimes disks take their time, and then more is under way when the power goes.
    fn vary_latency(&mut self) {
        if self.with_faults {
            let longest = [0, 0, 2, 10][usize::try_from(self.chance.below(4)).unwrap_or(0)];
            for node in self.pair.nodes() {
                node.disks().set_latency(Duration::from_millis(longest));
            }
        }
    }

    /// How often the Secondary has lost its link: on a busy machine not only when it is harmed.
    fn links_lost(&mut self) -> usize {
        let log = self.pair.node(other(self.primary)).log();
        log.matches("disconnected:").count()
    }

    fn note(&mut self, outcome: &Outcome) {
        self.tally.answered += outcome.answered;
    }

    fn let_work(&mut self, load: &Load) {
        load.let_work(10 + self.chance.below(300));
    }

    fn pause(&mut self, longest_ms: u64) {
        thread::sleep(Duration::from_millis(self.chance.below(longest_ms)));
    }
}

/// Whether it is a Primary without a disk: it gets one back only while the peer serves it.
fn is_served(node: &Node) -> bool {
    let status = node.status();
    status.role() == "Primary" && status.disk() == "Diskless"
}

fn other(node: &str) -> &'static str {
    if node == "alpha" { "beta" } else { "alpha" }
}

/// How long a fault may take to be met.
const NOTICE: Duration = Duration::from_secs(3);
