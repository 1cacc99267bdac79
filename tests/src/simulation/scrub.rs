//! Bits that flip on a disk, and verifies that must find just these (E6).
//!
//! Only the Secondary's disk rots: what a Primary reads is nobody's fault but its disk's. A verify
//! must report every block that was rotten when it began and still is when it ends, and no block
//! that is not, however much is written meanwhile and however often the link is cut. In seeds in
//! which machines crash, disks fail and roles change, nothing rots, and so nothing may be reported.

use std::collections::BTreeSet;
use std::ops::Range;

use rbd_engine::Command;
use rbd_protocol::control::VerifyOrder;
use rbd_protocol::peer::Digest;

use super::node::{Node, number, peer_device_of};
use super::operator::Wish;
use super::report::Failure;
use super::world::World;

/// The verifies that are running.
#[derive(Debug, Default)]
pub(super) struct Scrub {
    running: [Option<Running>; 2],
}

#[derive(Debug)]
struct Running {
    /// The blocks it is to compare.
    blocks: Range<u64>,
    /// What of them was rotten when it began, and has not been written since.
    rotten: BTreeSet<u64>,
    reported: BTreeSet<u64>,
}

/// How much is to be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Everything,
    /// From where the last verify was ended, up to this block.
    Some(u64),
}

impl Scrub {
    /// Nothing more is heard of the verify this node leads.
    pub(super) fn forget(&mut self, node: usize) {
        self.running[node] = None;
    }
}

impl World {
    /// A bit on the Secondary's disk flips in a block both have alike.
    pub(super) fn rot(&mut self) {
        let Some(primary) = self.nodes.iter().position(Node::is_primary) else {
            return;
        };
        let (node, volume) = (1 - primary, self.any_volume());
        let sectors = self.nodes[node][volume].disk.sectors();
        // As often where clients write as anywhere.
        let hot = (self.options.hot_blocks * 8).min(sectors);
        let most = if self.random.percent(50) {
            hot
        } else {
            sectors
        };
        let sector = self.random.below(most);
        let block = sector / 8;
        let busy = self
            .nodes
            .iter()
            .any(|node| node[volume].disk.is_writing(block));
        let differs = self.records[volume]
            .pair
            .differing_blocks()
            .any(|other| other == block);
        if busy || differs || !self.nodes[node][volume].attached {
            return;
        }
        let mask = 1 << self.random.below(64);
        if !self.nodes[node][volume].disk.rot(sector, mask) {
            return;
        }
        self.records[volume].pair.rots(block);
        self.note(|| format!("node {node}: sector {sector} rots"));
    }

    /// These blocks have changed. Those that have rotted may be equal again: because they have been
    /// written, or copied.
    pub(super) fn note_healed(&mut self, volume: usize, changed: &[u64]) {
        for block in changed {
            let running = || self.records[volume].scrub.running.iter().flatten();
            let is_sought = running().any(|running| running.rotten.contains(block));
            if !is_sought || self.reads_differently(volume, *block) {
                continue;
            }
            for running in self.records[volume].scrub.running.iter_mut().flatten() {
                running.rotten.remove(block);
            }
        }
    }

    fn reads_differently(&self, volume: usize, block: u64) -> bool {
        let [one, other] = &self.nodes;
        let differs =
            |sector: u64| one[volume].disk.content(sector) != other[volume].disk.content(sector);
        (block * 8..block * 8 + 8).any(differs)
    }

    pub(super) fn order_verify(&mut self, node: usize, volume: usize) {
        let repair = self.random.percent(40);
        let blocks = self.nodes[node][volume].disk.sectors() / 8;
        let wish = match self.random.below(10) {
            0 | 1 => Wish::EndVerify(volume),
            2..=4 => {
                let part = Part::Some(self.random.between(1, blocks));
                Wish::Verify {
                    volume,
                    part,
                    repair,
                }
            }
            _ => {
                let part = Part::Everything;
                Wish::Verify {
                    volume,
                    part,
                    repair,
                }
            }
        };
        self.order_if_up(node, wish);
    }

    pub(super) fn verify_began(&mut self, node: usize, volume: usize) {
        let status = self.nodes[node].status(self.time(node));
        let device = status
            .as_ref()
            .and_then(|status| peer_device_of(status, volume));
        let Some(verify) = device.and_then(|device| device.verify) else {
            self.violation(format!(
                "E6: node {node} says it has begun a verify, and has not"
            ));
            return;
        };
        let blocks = verify.start_bytes / BLOCK..verify.stop_bytes.div_ceil(BLOCK);
        let rotten = self.records[volume].pair.rotten().iter().copied();
        self.records[volume].scrub.running[node] = Some(Running {
            rotten: rotten
                .filter(|block| blocks.contains(block) && self.reads_differently(volume, *block))
                .collect(),
            blocks,
            reported: BTreeSet::new(),
        });
    }

    /// What an engine tells of a verify.
    pub(super) fn look_at_verify(&mut self, node: usize, volume: usize, text: &str) {
        if let Some(range) = text.strip_prefix("out of sync: ") {
            let (offset, length) = range.split_once('+').unwrap_or((range, "0"));
            let [offset, length] = [offset, length].map(|text| text.parse::<u64>().unwrap_or(0));
            for block in offset / BLOCK..(offset + length).div_ceil(BLOCK) {
                self.look_at_difference(node, volume, block);
            }
        }
        if text.starts_with("verify done") {
            self.look_at_end_of_verify(node, volume);
        }
        if text.starts_with("verify ended") {
            self.records[volume].scrub.forget(node);
        }
    }

    fn look_at_difference(&mut self, node: usize, volume: usize, block: u64) {
        if !self.records[volume].pair.rotten().contains(&block)
            || !self.reads_differently(volume, block)
        {
            let text = format!("E6: node {node} reports block {block}, which is the same on both");
            self.violation(text);
        }
        self.report.found_rotten += 1;
        let running = self.records[volume].scrub.running[node].as_mut();
        let Some(running) = running.filter(|running| running.blocks.contains(&block)) else {
            let text = format!("E6: node {node} reports block {block} unasked");
            self.violation(text);
            return;
        };
        running.reported.insert(block);
    }

    fn look_at_end_of_verify(&mut self, node: usize, volume: usize) {
        let Some(running) = self.records[volume].scrub.running[node].take() else {
            self.violation(format!("E6: node {node} ends a verify that nobody began"));
            return;
        };
        self.report.verifies += 1;
        if let Some(block) = running.rotten.difference(&running.reported).next() {
            self.violation(format!(
                "E6: node {node} has not found that block {block} differs"
            ));
        }
    }

    /// Every verify ends; everything that has rotted is found and made good.
    pub(super) fn repair_rot(&mut self) -> Result<(), Box<Failure>> {
        for volume in self.volumes() {
            self.repair_rot_of(volume)?;
        }
        Ok(())
    }

    fn repair_rot_of(&mut self, volume: usize) -> Result<(), Box<Failure>> {
        let is_running = |world: &Self| {
            let scrub = &world.records[volume].scrub;
            scrub.running.iter().any(Option::is_some)
        };
        let limit = self.now + SECOND * 120;
        self.run_while(limit, |world| is_running(world) || !world.is_in_sync())?;
        if is_running(self) {
            let running = format!("E6: never ended: {:?}", self.records[volume].scrub.running);
            return Err(self.fail(&running));
        }
        let node = usize::from(self.random.percent(50));
        let (part, repair) = (Part::Everything, true);
        self.order_if_up(
            node,
            Wish::Verify {
                volume,
                part,
                repair,
            },
        );
        let limit = self.now + SECOND * 120;
        self.run_while(limit, |world| {
            is_running(world)
                || !world.records[volume].pair.rotten().is_empty()
                || !world.is_in_sync()
        })?;
        if self.records[volume].pair.rotten().is_empty() {
            // What an earlier one has found and nobody has repaired is copied at the next connect.
            self.cut_links(false);
            return Ok(());
        }
        let rotten = self.records[volume].pair.rotten().clone();
        Err(self.fail(&format!(
            "E6: a verify with --repair has left {rotten:?} different"
        )))
    }
}

pub(super) fn verify_command(volume: usize, part: Part, repair: bool) -> Command {
    let (from, until) = match part {
        Part::Everything => (Some(0), None),
        Part::Some(blocks) => (None, Some(blocks * BLOCK)),
    };
    let order = VerifyOrder::Start {
        from,
        until,
        repair,
    };
    command(volume, order)
}

pub(super) fn end_command(volume: usize) -> Command {
    command(volume, VerifyOrder::Stop)
}

fn command(volume: usize, order: VerifyOrder) -> Command {
    Command::Verify {
        volume: number(volume),
        peer: None,
        order,
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

const BLOCK: u64 = 4096;

const SECOND: u64 = 1_000_000_000;
