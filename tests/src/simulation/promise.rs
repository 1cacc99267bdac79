//! At the moment of an answer: what it promises is so already.
//!
//! The registers notice a broken promise when something is read that should not be; that needs a
//! crash or a loss of power at the right moment. Here the disks are looked at when the answer is
//! given, so no such luck is needed.
//!
//! | Answer | On the Primary's disk | On the peer's |
//! |---|---|---|
//! | write | it, or something newer (A1) | the same, or its generation is durably behind (A2, D5) |
//! | flush, FUA | whatever a loss of power leaves of it (B1, B2) | the same |
//! | read | | what it returned, or something newer, or its generation is durably behind (B8) |

use super::volume::Volume;
use super::world::World;
use crate::check::Possible;

impl World {
    /// A request that covers these sectors has been answered.
    pub(super) fn check_promise(
        &mut self,
        node: usize,
        volume: usize,
        sectors: impl Iterator<Item = u64>,
        durable: bool,
    ) {
        if self.is_forked {
            return; // which of the two histories it belongs to, nobody keeps track of
        }
        if !self.nodes[node][volume].serves_itself() {
            self.check_remote_promise(node, volume, sectors, durable);
            return;
        }
        let peer = 1 - node;
        let (own, other) = (&self.nodes[node][volume], &self.nodes[peer][volume]);
        // Told apart by what is durable on both disks.
        let is_behind = match own.disk.marks_changed.then(|| own.open()) {
            // The answer follows from what has become durable in this very event.
            Some(Ok(image)) => !other.generations.contains(&image.superblock.generation.0),
            Some(Err(_)) | None => self.is_newer(node, peer, volume),
        };
        // With fencing it must also be unable to go on with what it has (A2, iii).
        let is_behind = is_behind && self.is_kept_from_its_data(peer, volume);
        for sector in sectors {
            if let Err(text) = self.holds(volume, own, sector, durable) {
                let what = if durable {
                    "B1/B2: not stable"
                } else {
                    "A1: not"
                };
                self.violation(format!("{what} on node {node}, which answered: {text}"));
                return;
            }
            // A peer that has just lost its power may lack what it acknowledged: nobody knows yet.
            let is_rotten = self.records[volume].pair.rotten().contains(&(sector / 8));
            if is_behind || is_rotten || (other.suspect && !durable) {
                continue;
            }
            if let Err(text) = self.holds(volume, other, sector, durable) {
                let what = if durable {
                    "B1/B2: not stable"
                } else {
                    "A2: not"
                };
                self.violation(format!(
                    "{what} on node {peer}, which is not durably behind: {text}"
                ));
                return;
            }
        }
    }

    /// A read of these sectors has been answered. A peer that has less, and is not told apart,
    /// could be the one whose data counts after a crash.
    pub(super) fn check_shown(
        &mut self,
        node: usize,
        volume: usize,
        mut sectors: std::ops::Range<u64>,
    ) {
        let peer = 1 - node;
        let (own, other) = (&self.nodes[node][volume], &self.nodes[peer][volume]);
        if !self.set_up || !own.serves_itself() || other.suspect || !other.consistent {
            return;
        }
        let is_rotten = |sector: u64| self.records[volume].pair.rotten().contains(&(sector / 8));
        let lacks = |sector: u64| {
            let missing = self.holds(volume, other, sector, false).err();
            missing.filter(|_| !is_rotten(sector))
        };
        let Some(text) = sectors.find_map(lacks) else {
            return;
        };
        let is_behind = match own.disk.marks_changed.then(|| own.open()) {
            Some(Ok(image)) => !other.generations.contains(&image.superblock.generation.0),
            Some(Err(_)) | None => self.is_newer(node, peer, volume),
        };
        if !is_behind {
            self.violation(format!(
                "B8: node {node} has shown a client what node {peer}, which is not durably behind, \
                 does not have: {text}"
            ));
        }
    }

    /// The same of a node whose clients its peer serves: the peer has it, and this node's own disk
    /// has it too, or is durably told apart, Outdated or Inconsistent (A2).
    fn check_remote_promise(
        &mut self,
        node: usize,
        volume: usize,
        sectors: impl Iterator<Item = u64>,
        durable: bool,
    ) {
        let peer = 1 - node;
        let (own, server) = (&self.nodes[node][volume], &self.nodes[peer][volume]);
        let is_behind = match server.disk.marks_changed.then(|| server.open()) {
            Some(Ok(image)) => !own.generations.contains(&image.superblock.generation.0),
            Some(Err(_)) | None => self.is_newer(peer, node, volume),
        };
        let is_behind = is_behind || !own.consistent || self.is_outdated(node, volume);
        // A server that has just lost its power may lack what it acknowledged: nobody knows yet.
        if server.suspect && !durable {
            return;
        }
        for sector in sectors {
            let result = self.holds(volume, server, sector, durable).and_then(|()| {
                if is_behind {
                    Ok(())
                } else {
                    self.holds(volume, own, sector, durable)
                }
            });
            if let Err(text) = result {
                self.violation(format!(
                    "A2: not on node {peer}, which serves node {node}, or not told apart: {text}"
                ));
                return;
            }
        }
    }

    /// Whether the disk has what was acknowledged of the sector: now, or after any loss of power.
    fn holds(
        &self,
        volume: usize,
        node: &Volume,
        sector: u64,
        durable: bool,
    ) -> Result<(), String> {
        if !durable {
            return self.records[volume]
                .registers
                .holds(sector, node.disk.content(sector));
        }
        let mut result = Ok(());
        node.disk.possible(sector, &mut |value| {
            if result.is_ok() {
                result = self.records[volume].registers.keeps(sector, value);
            }
        });
        result
    }
}
