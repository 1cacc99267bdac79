//! Two nodes that are Primary at once, and how one of them is fenced.

use std::ops::Range;
use std::time::Duration;

use super::{Pair, RivalOptions, Rivals, Setup, wait_until};
use crate::check::Shared;
use crate::faultfs::Opening;

/// One of two that want to fence each other wins: who makes this directory first. The loser is
/// killed before the winner is told.
pub const STONITH: &str = "mkdir $RBD_RUN_DIR/../../winner 2>/dev/null || exit 1\n\
                       kill -9 $(cat $RBD_RUN_DIR/victim); exit 7";

/// Both nodes Primary, and the record of what clients are told.
#[derive(Debug)]
pub struct Two {
    /// The nodes.
    pub pair: Pair,
    /// What clients were told.
    pub record: Shared,
    seed: u64,
    /// Sectors a request is a multiple of.
    unit: u64,
}

impl Two {
    /// Both Primary, fenced by this script.
    ///
    /// # Panics
    /// When it does not come to that.
    #[must_use]
    pub fn new(setup: Setup, fence: &str) -> Self {
        let setup = setup.net("    allow-two-primaries yes;\n");
        let two = Self::prepared(setup, fence);
        two.promote_both();
        two
    }

    /// Alpha Primary, and no other beside it but for a migration.
    ///
    /// # Panics
    /// When it does not come to that.
    #[must_use]
    pub fn to_migrate(setup: Setup, fence: &str) -> Self {
        let two = Self::prepared(setup, fence);
        two.pair.promote("alpha");
        two
    }

    fn prepared(setup: Setup, fence: &str) -> Self {
        let setup = setup.fencing("resource-and-stonith");
        let unit = if setup.faulty == Some(Opening::Direct) {
            8
        } else {
            1
        };
        let pair = Pair::synced(setup);
        for node in [&pair.alpha, &pair.beta] {
            node.set_script("fence", fence);
            node.set_script("unfence", "rm -rf $RBD_RUN_DIR/../../winner; exit 0");
        }
        let record = Shared::new(pair.ledger.run(), pair.ledger.sectors());
        Self {
            pair,
            record,
            seed: 0,
            unit,
        }
    }

    /// Promotes both as soon as they can be: a resync must end first.
    ///
    /// # Panics
    /// When it does not come to that.
    pub fn promote_both(&self) {
        for node in [&self.pair.alpha, &self.pair.beta] {
            self.pair.promote(node.name());
        }
        self.name_victims();
    }

    /// Tells each node's fence handler whom it is to kill.
    pub fn name_victims(&self) {
        let (alpha, beta) = (self.pair.alpha.pid(), self.pair.beta.pid());
        self.pair.alpha.set_script("victim", &beta.to_string());
        self.pair.beta.set_script("victim", &alpha.to_string());
    }

    /// Waits until one has fenced the other by [`STONITH`], and tells which is dead.
    ///
    /// # Panics
    /// When neither does.
    pub fn wait_for_the_fenced(&mut self) -> &'static str {
        wait_until("one is dead", || {
            match self.pair.nodes().map(|node| node.is_alive()) {
                [true, true] => Err("both live".into()),
                _ => Ok(()),
            }
        });
        if self.pair.alpha.is_alive() {
            "beta"
        } else {
            "alpha"
        }
    }

    /// Clients of one node, on these sectors.
    ///
    /// # Panics
    /// When the node cannot be written to.
    #[must_use]
    pub fn load(&mut self, node: &str, sectors: Range<u64>) -> Rivals {
        self.seed += 1;
        let options = RivalOptions {
            seed: self.seed,
            clients: 2,
            depth: 8,
            longest: 64,
            unit: self.unit,
            sectors,
            pause: Duration::ZERO,
        };
        let record = self.record.clone();
        Rivals::start(self.pair.node(node), &record, &options)
    }

    /// Clients of both nodes, all on the same few sectors.
    ///
    /// # Panics
    /// When they cannot be written to.
    #[must_use]
    pub fn quarrel(&mut self) -> (Rivals, Rivals) {
        (self.load("alpha", FEW), self.load("beta", FEW))
    }

    /// Half of the sectors for each node.
    #[must_use]
    pub fn halves(&self) -> [Range<u64>; 2] {
        let all = self.pair.ledger.sectors();
        [0..all / 2, all / 2..all]
    }

    /// Stops both daemons and compares the disks with each other and with what clients were told.
    ///
    /// # Panics
    /// When anything is not as it should be.
    pub fn finish(mut self) {
        for node in self.pair.nodes() {
            node.stop();
        }
        self.record.settle();
        self.pair.assert_equal();
        for path in [self.pair.alpha.disk(0), self.pair.beta.disk(0)] {
            if let Err(error) = self.record.verify_file(&path) {
                panic!("{error}");
            }
        }
    }
}

/// Few enough for clients to meet all the time.
const FEW: Range<u64> = 0..1024;
