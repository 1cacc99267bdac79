//! Metadata inside of disks that grow: what the daemon does for it beside the engine.
//!
//! Before a disk is attached, the place that does not count is wiped; where the metadata is, is
//! noted outside of the disk, at each attach and when it has moved. Machines die in the middle of
//! both, and notes cannot be written. What counts is for the daemon's own reader to say.

use rbd_engine::{DiskError, Event, OperationId};
use rbd_protocol::metadata::{Block, FormerEnd, Located, Write};

use super::marks::Mark;
use super::world::{Happening, World};

/// It is being noted where metadata is.
#[derive(Clone, Copy, Debug)]
pub(super) struct EndNote {
    node: usize,
    volume: usize,
    life: u64,
    id: OperationId,
    end: FormerEnd,
    /// It is on the other disk before anybody is told.
    kept: bool,
    /// Whoever waits for it is told that it could not be written.
    fails: bool,
    /// The note is where it is to be, or not; it remains to be told.
    told: bool,
}

impl World {
    /// The node's disk is about to be attached. False if the node died of it.
    pub(super) fn take_end(&mut self, node: usize, volume: usize) -> bool {
        if !self.options.inside.moves {
            return true;
        }
        let Ok(Located { image, again, wipe }) = self.nodes[node][volume].locate() else {
            return true; // whoever attaches it says so
        };
        let device_bytes = image.layout.device_bytes();
        let goes_to = self.nodes[node][volume].noted.and_then(|end| end.moves_to);
        let is_enlarged = device_bytes / BLOCK < self.nodes[node][volume].disk.size_bytes / BLOCK;
        for (is_so, mark) in [
            (is_enlarged, Mark::AttachedEnlarged),
            (!wipe.is_empty(), Mark::AttachedInTwoPlaces),
            (
                is_enlarged && goes_to == Some(device_bytes),
                Mark::AttachedInBetween,
            ),
        ] {
            if is_so {
                self.hit(mark);
            }
        }
        for writes in [again, wipe] {
            if !self.write_at_once(node, volume, &writes) {
                return false;
            }
        }
        self.nodes[node][volume]
            .disk
            .metadata_counts(&image.superblock);
        self.nodes[node][volume].noted = Some(FormerEnd {
            device_bytes,
            device_id: Some(image.superblock.device_id),
            moves_to: None,
        });
        true
    }

    /// These become durable one after the other, or the node dies in the middle: of what had been
    /// begun, nobody knows what has happened.
    fn write_at_once(&mut self, node: usize, volume: usize, writes: &[Write]) -> bool {
        let dies = self.faults_allowed && !writes.is_empty() && self.random.percent(20);
        for write in writes {
            let disk = &mut self.nodes[node][volume].disk;
            if dies {
                disk.begin_metadata(write.offset, &write.block, &mut self.random);
            } else {
                disk.preset_metadata(write.offset, write.block.clone());
            }
        }
        if !dies && !writes.is_empty() {
            self.nodes[node][volume].disk.settle_metadata();
        }
        if dies {
            self.hit(Mark::DiedInWipe);
            let power = self.random.percent(50);
            self.crash(node, power);
        }
        !dies
    }

    /// The engine wants to have it noted where its metadata is.
    pub(super) fn note_end(&mut self, node: usize, volume: usize, id: OperationId, end: FormerEnd) {
        if !self.options.inside.moves {
            self.violation("no metadata is inside of a volume here");
        }
        let fails = self.faults_allowed && self.random.percent(15);
        let kept = !fails || self.random.percent(30);
        let note = EndNote {
            node,
            volume,
            life: self.nodes[node].life,
            id,
            end,
            kept,
            fails,
            told: false,
        };
        let delay = self.random.magnitude(10, 100_000);
        self.after_us(delay, Happening::EndNoted(note));
        let dies = self.crash_in_move(node, 30, delay);
        if dies && self.random.percent(40) {
            let size = self.nodes[node][volume].disk.size_bytes;
            self.nodes[node][volume].disk.size_bytes = self.enlarged_by_far(size);
        }
    }

    /// A block of metadata is about to be written, perhaps one of those that decide which place
    /// counts.
    pub(super) fn aim_at_commit(&mut self, node: usize, volume: usize, offset: u64, block: &Block) {
        if self.options.inside.moves && self.nodes[node][volume].disk.decides_place(offset, block) {
            let most = self.options.disk_us.1 * 6;
            self.crash_in_move(node, 10, most);
        }
    }

    /// The node dies within so many microseconds, in so many of a hundred times.
    fn crash_in_move(&mut self, node: usize, percent: u64, most_us: u64) -> bool {
        let dies = self.faults_allowed && self.random.percent(percent);
        if dies {
            let delay = self.random.magnitude(10, most_us.max(10));
            let power = self.random.percent(50);
            self.after_us(delay, Happening::Crash { node, power });
        }
        dies
    }

    /// It is noted, or whoever waits for it is told.
    pub(super) fn end_noted(&mut self, note: EndNote) {
        let EndNote {
            node, volume, id, ..
        } = note;
        if !self.lives(node, note.life) {
            return;
        }
        if !note.told {
            if note.kept {
                self.nodes[node][volume].noted = Some(note.end);
                self.nodes[node][volume].disk.marks_changed = true;
            }
            let delay = self.random.magnitude(10, 20_000);
            let told = EndNote { told: true, ..note };
            self.after_us(delay, Happening::EndNoted(told));
            return;
        }
        let result = if note.fails {
            if note.end.moves_to.is_none() {
                self.hit(Mark::MoveNotNoted);
            }
            Err(DiskError::Io)
        } else {
            Ok(())
        };
        self.tell(node, Event::SizeNoted { id, result });
    }

    /// The node has said something, perhaps of its metadata: a good time for something to go wrong.
    pub(super) fn look_at_move(&mut self, node: usize, volume: usize, text: &str) {
        if text.starts_with("metadata moves to the end") {
            self.nodes[node][volume].moving = true;
            let most = self.options.disk_us.1 * 40;
            self.crash_in_move(node, 25, most);
        } else if text.starts_with("metadata stays where it is") {
            self.nodes[node][volume].moving = false;
            self.hit(Mark::MoveGivenUp);
        } else if text.starts_with("metadata has moved to the end") {
            self.nodes[node][volume].moving = false;
            self.hit(Mark::MetadataMoved);
        }
    }

    /// A node is about to die.
    pub(super) fn watch_death_in_move(&mut self, node: usize) {
        for volume in self.volumes() {
            let machine = &self.nodes[node][volume];
            let Some(image) = machine.open().ok().filter(|_| machine.moving) else {
                continue;
            };
            let is_left = machine
                .noted
                .is_some_and(|noted| noted.device_bytes < image.layout.device_bytes());
            self.hit(if is_left {
                Mark::DiedBeforeMoveNoted
            } else {
                Mark::DiedInMove
            });
        }
    }
}

const BLOCK: u64 = 4096;
