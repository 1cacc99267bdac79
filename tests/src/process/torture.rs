//! Rounds of random harm to a pair under verified load.
//!
//! Each round starts with both nodes in sync and ends with both in sync, their data areas equal
//! byte for byte and every answered write in its place. The record of what was answered lives in
//! this process, which is never harmed. The seed decides what is done; what comes of it depends on
//! the machine's timing as well.

use std::fmt;
use std::thread;
use std::time::Duration;

use super::{Chance, Load, LoadOptions, Outcome, Pair, Setup};

/// A pair that has a hard life.
#[derive(Debug)]
pub struct Torture {
    pair: Pair,
    chance: Chance,
    primary: &'static str,
    tally: Tally,
}

/// What has been survived.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Rounds.
    pub rounds: u64,
    /// Daemons killed.
    pub killed: u64,
    /// Daemons stopped in an orderly way.
    pub stopped: u64,
    /// Daemons frozen for a while.
    pub frozen: u64,
    /// Times the wire was cut, reset, held up or damaged.
    pub wire: u64,
    /// Times the other node took over.
    pub failovers: u64,
    /// Requests answered.
    pub answered: u64,
    /// Times both disks were checked against their marks.
    pub mark_checks: u64,
    /// Blocks that differed then, all of them marked.
    pub differing: u64,
}

/// What is done in a round.
#[derive(Clone, Copy, Debug)]
enum Harm {
    KillSecondary,
    KillPrimary,
    KillBoth,
    StopSecondary,
    StopPrimary,
    FreezeSecondary,
    FreezePrimary,
    Cut,
    Reset,
    Stall,
    FlipBit,
    CutOff,
    Disconnect,
}

impl Torture {
    /// A pair in sync.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let setup = Setup::default().sized(48 << 20).proxied();
        Self {
            pair: Pair::primary(setup),
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
        };
        let load = self.pair.load(self.primary, options);
        self.let_work(&load);
        let links_lost = self.links_lost();
        let mut story = Vec::new();
        // What is done to the peer or the wire leaves the Primary alone with new data, for as long
        // as they are not in sync again; then only it may go on.
        let mut is_peer_current = true;
        for _ in 0..=self.chance.below(2) {
            let harm = self.choose();
            story.push(format!("{harm:?}"));
            if harm.ends_the_primary() {
                let is_peer_current = is_peer_current && self.links_lost() == links_lost;
                let took_over = self.end_primary(harm, load, is_peer_current);
                return self.end_round(story, took_over);
            }
            self.harm(harm);
            is_peer_current = false;
            // Often too short to be noticed, sometimes long enough to be given up.
            let longest = if self.chance.one_in(4) { 5000 } else { 300 };
            self.pause(longest);
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
    pub fn finish(self) -> Tally {
        self.pair.finish();
        self.tally
    }

    fn choose(&mut self) -> Harm {
        let harms = [
            Harm::KillSecondary,
            Harm::KillSecondary,
            Harm::KillPrimary,
            Harm::KillPrimary,
            Harm::KillBoth,
            Harm::KillBoth,
            Harm::StopSecondary,
            Harm::StopPrimary,
            Harm::FreezeSecondary,
            Harm::FreezePrimary,
            Harm::Cut,
            Harm::Reset,
            Harm::Stall,
            Harm::FlipBit,
            Harm::CutOff,
            Harm::Disconnect,
        ];
        harms[usize::try_from(self.chance.below(harms.len() as u64)).unwrap_or(0)]
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
                self.pair.node(secondary).resume();
                self.pair.node(secondary).stop();
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
                self.pair.node(primary).ok("disconnect");
            }
            Harm::KillPrimary | Harm::KillBoth | Harm::StopPrimary => {}
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
        match harm {
            Harm::StopPrimary => {
                self.tally.stopped += 1;
                self.pair.node(primary).stop();
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
        let both_are_dead = !self.pair.alpha.is_started() && !self.pair.beta.is_started();
        if both_are_dead && harm.kills() {
            self.tally.mark_checks += 1;
            self.tally.differing += self.pair.check_marks().differing;
        }
        if harm.kills() && is_peer_current && !both_are_dead && !self.chance.one_in(3) {
            return Some(self.fail_over());
        }
        None
    }

    /// The survivor must be able to take over at once, with everything that was answered.
    fn fail_over(&mut self) -> Load {
        let survivor = other(self.primary);
        self.tally.failovers += 1;
        self.pair
            .node(survivor)
            .wait_for("alone", |status| !status.is_connected());
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
            if node.is_paused() {
                node.resume();
            }
            if !node.is_started() {
                node.start();
            }
            node.ok("up");
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

impl Harm {
    fn ends_the_primary(self) -> bool {
        self.kills() || matches!(self, Self::StopPrimary)
    }

    fn kills(self) -> bool {
        matches!(self, Self::KillPrimary | Self::KillBoth)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} rounds: {} daemons killed, {} stopped, {} frozen; wire damaged {} times; {} \
             fail-overs; {} requests answered; marks checked {} times, {} differing blocks, all \
             marked",
            self.rounds,
            self.killed,
            self.stopped,
            self.frozen,
            self.wire,
            self.failovers,
            self.answered,
            self.mark_checks,
            self.differing
        )
    }
}

fn other(node: &str) -> &'static str {
    if node == "alpha" { "beta" } else { "alpha" }
}
