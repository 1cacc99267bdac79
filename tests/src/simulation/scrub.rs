//! Bits that flip on a disk, and verifies that must find just these (E6).
//!
//! Only the Secondary's disk rots: what a Primary reads is nobody's fault but its disk's. A verify
//! must report every block that was rotten when it began and still is when it ends, and no block
//! that is not, however much is written meanwhile and however often the link is cut.

use std::collections::BTreeSet;

use rbd_engine::Command;
use rbd_protocol::control::VerifyOrder;
use rbd_protocol::peer::Digest;

use super::node::{Node, VOLUME};
use super::operator::Wish;
use super::report::Failure;
use super::world::World;

/// The verify that is running.
#[derive(Debug, Default)]
pub(super) struct Scrub {
    running: Option<Running>,
    /// How many have ended.
    pub(super) ended: u64,
}

#[derive(Debug)]
struct Running {
    node: usize,
    /// What was rotten when it began.
    rotten: BTreeSet<u64>,
    reported: BTreeSet<u64>,
}

impl World {
    /// A bit on the Secondary's disk flips in a block both have alike.
    pub(super) fn rot(&mut self) {
        let Some(primary) = self.nodes.iter().position(Node::is_primary) else {
            return;
        };
        let node = 1 - primary;
        let sectors = self.nodes[node].disk.sectors();
        // As often where clients write as anywhere.
        let hot = (self.options.hot_blocks * 8).min(sectors);
        let most = if self.random.percent(50) {
            hot
        } else {
            sectors
        };
        let sector = self.random.below(most);
        let block = sector / 8;
        let busy = self.nodes.iter().any(|node| node.disk.is_writing(block));
        let differs = self.pair.differing_blocks().any(|other| other == block);
        if busy || differs || !self.nodes[node].attached {
            return;
        }
        self.pair.rots(block);
        let mask = 1 << self.random.below(64);
        if self.nodes[node].disk.rot(sector, mask) {
            self.note(|| format!("node {node}: sector {sector} rots"));
        }
    }

    pub(super) fn order_verify(&mut self, node: usize) {
        let repair = self.random.percent(40);
        self.order(node, Wish::Verify { repair });
    }

    pub(super) fn verify_began(&mut self, node: usize) {
        self.scrub.running = Some(Running {
            node,
            rotten: self.pair.rotten().clone(),
            reported: BTreeSet::new(),
        });
    }

    /// What an engine tells of a verify.
    pub(super) fn look_at_verify(&mut self, node: usize, text: &str) {
        if let Some(range) = text.strip_prefix("out of sync: ") {
            let (offset, length) = range.split_once('+').unwrap_or((range, "0"));
            let [offset, length] = [offset, length].map(|text| text.parse::<u64>().unwrap_or(0));
            for block in offset / 4096..(offset + length).div_ceil(4096) {
                self.look_at_difference(node, block);
            }
        }
        if text.starts_with("verify done") {
            self.look_at_end_of_verify(node);
        }
    }

    fn look_at_difference(&mut self, node: usize, block: u64) {
        if !self.pair.rotten().contains(&block) {
            let text = format!("E6: node {node} reports block {block}, which is the same on both");
            self.violation(text);
        }
        if let Some(running) = &mut self.scrub.running {
            running.reported.insert(block);
        }
    }

    fn look_at_end_of_verify(&mut self, node: usize) {
        let running = self.scrub.running.take();
        let Some(running) = running.filter(|running| running.node == node) else {
            self.violation(format!("E6: node {node} ends a verify that nobody began"));
            return;
        };
        self.scrub.ended += 1;
        let still = running.rotten.intersection(self.pair.rotten());
        let missed = still
            .copied()
            .find(|block| !running.reported.contains(block));
        if let Some(block) = missed {
            self.violation(format!(
                "E6: node {node} has not found that block {block} differs"
            ));
        }
    }

    /// Everything that has rotted is found and made good.
    pub(super) fn repair_rot(&mut self) -> Result<(), Box<Failure>> {
        let limit = self.now + SECOND * 120;
        self.run_while(limit, |world| {
            world.scrub.running.is_some() || !world.are_connected()
        })?;
        let node = usize::from(self.random.percent(50));
        self.order(node, Wish::Verify { repair: true });
        let limit = self.now + SECOND * 120;
        self.run_while(limit, |world| {
            !world.pair.rotten().is_empty() || !world.is_in_sync()
        })?;
        if self.pair.rotten().is_empty() {
            return Ok(());
        }
        let rotten = self.pair.rotten().clone();
        Err(self.fail(&format!(
            "E6: a verify with --repair has left {rotten:?} different"
        )))
    }
}

pub(super) fn verify_command(repair: bool) -> Command {
    Command::Verify {
        volume: VOLUME,
        peer: None,
        order: VerifyOrder::Start {
            from: Some(0),
            until: None,
            repair,
        },
    }
}

/// One digest for each block of eight sectors.
pub(super) fn digests(data: &[u64]) -> Vec<Digest> {
    data.chunks(8).map(digest).collect()
}

/// Values of different sectors never mix to the same by chance that a seed could come upon.
fn digest(sectors: &[u64]) -> Digest {
    let mut sum: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for value in sectors {
        sum ^= u128::from(*value);
        sum = sum.wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }
    sum.to_be_bytes()
}

const SECOND: u64 = 1_000_000_000;
