//! Disks that are enlarged while they are in use, and volumes that grow.
//!
//! A node's new sectors hold what may be on a disk nobody has written yet, different on each node:
//! a new part that is not copied is noticed when the copies are compared. Clients ask for what the
//! node they ask shows them, and what was shown once stays: a volume never shrinks.

use rbd_engine::{DiskMeasure, Event, OperationId};

use super::disk::SECTOR;
use super::node::device_of;
use super::operator::Wish;
use super::world::{Happening, World};

impl World {
    /// An operator enlarges one disk or both, and lets the volume grow, perhaps too early.
    pub(super) fn enlarge(&mut self) {
        let most = self.options.most_bytes;
        for node in 0..2 {
            if self.random.percent(70) {
                let volume = self.any_volume();
                let size = self.nodes[node][volume].disk.size_bytes;
                let larger = if self.random.percent(10) {
                    most
                } else if self.options.inside.moves {
                    self.enlarged_by_far(size)
                } else {
                    size + self.random.below((most - size) / BLOCK / 8 + 1) * BLOCK
                };
                self.note(|| format!("disk of {node} is enlarged from {size} to {larger}"));
                self.nodes[node][volume].disk.size_bytes = larger;
            }
        }
        for _ in 0..self.random.between(1, 2) {
            let node = usize::from(self.random.percent(50));
            let volume = self.any_volume();
            self.order_soon(node, Wish::Resize(volume), 100_000);
        }
    }

    /// Whether what is new of both disks holds the same. Who has seen a node die in the middle of a
    /// move does not say so any more: what it had written of that is nobody's.
    pub(super) fn is_clean(&self, volume: usize) -> bool {
        let mut disks = self.nodes.iter().map(|node| &node[volume].disk);
        self.options.inside.clean && disks.all(|disk| !disk.has_remains())
    }

    /// Mostly its metadata has room beyond its end; and few disks end where a block does.
    pub(super) fn enlarged_by_far(&mut self, size: u64) -> u64 {
        let most = self.options.most_bytes;
        let few = self.random.below(2) * 8;
        let blocks = few + self.random.below((most - size) / BLOCK / 8 + 1);
        let sectors = self.random.pick(&[0, 0, 1, 7]).unwrap_or(0);
        most.min(size + blocks * BLOCK + sectors * SECTOR)
    }

    /// Somebody looks how large the node's disk is.
    pub(super) fn measure(&mut self, node: usize, volume: usize, id: OperationId) {
        let life = self.nodes[node].life;
        let delay = self.random.magnitude(10, 100_000);
        let what = Happening::Measured {
            node,
            volume,
            life,
            id,
        };
        self.after_us(delay, what);
    }

    /// He has looked.
    pub(super) fn measured(&mut self, (node, volume): (usize, usize), life: u64, id: OperationId) {
        if self.lives(node, life) {
            let result = Ok(DiskMeasure {
                device_bytes: self.nodes[node][volume].disk.size_bytes,
                placement: self.nodes[node][volume].placement(),
            });
            self.tell(node, Event::Measured { id, result });
        }
    }

    /// How many sectors a client of the node is shown.
    pub(super) fn shown_sectors(&mut self, node: usize, volume: usize) -> u64 {
        let size = self.options.size_bytes;
        if self.options.most_bytes == size {
            return size / SECTOR;
        }
        let status = self.nodes[node].status(self.time(node));
        let device = status.as_ref().and_then(|status| device_of(status, volume));
        let shown = device.map_or(0, |device| device.size_bytes);
        if shown == 0 {
            return size / SECTOR; // by no disk and no peer
        }
        if self.nodes[node].is_primary() {
            // One of two Primaries is the first to show more; the other, and whoever has been one
            // and has no data now, must not show less than it has shown itself.
            let is_beside = self.nodes[1 - node].is_primary() || !self.is_answering(node);
            let is_shared = self.options.dual && is_beside;
            let before = if is_shared {
                self.nodes[node][volume].has_shown
            } else {
                self.records[volume].shown_bytes
            };
            self.nodes[node][volume].has_shown = shown;
            if shown < before && !self.is_forked {
                self.violation(format!(
                    "node {node} shows its clients {shown} bytes; they have seen {before}"
                ));
            }
            self.report.growths += u64::from(
                self.records[volume].shown_bytes > 0 && shown > self.records[volume].shown_bytes,
            );
            self.records[volume].shown_bytes = self.records[volume].shown_bytes.max(shown);
        }
        shown / SECTOR
    }

    /// How many sectors both nodes count as the volume's.
    pub(super) fn common_sectors(&self, volume: usize) -> u64 {
        let [one, other] = &self.nodes;
        one[volume].volume_bytes.min(other[volume].volume_bytes) / SECTOR
    }
}

const BLOCK: u64 = 4096;
