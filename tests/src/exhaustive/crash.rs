//! Everything that may be left of a world when nodes crash in it at this very moment.

use super::disk::{Disk, Open};
use super::hash::Hash;
use super::world::World;

/// What becomes of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on, or stays down.
    Goes,
    /// Its process dies; what is in the disk's cache stays there.
    Dies,
    /// Its machine loses power.
    LosesPower,
}

const FATES: [Fate; 3] = [Fate::Goes, Fate::Dies, Fate::LosesPower];

/// One way a crash may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crash {
    /// What becomes of each node.
    pub fates: [Fate; 2],
    /// Which of the ways the open ends on each disk may go.
    pub ways: [u64; 2],
}

/// At most so many ways of one disk are tried; of more, an even choice, with both extremes.
const MOST_WAYS: u64 = 64;

/// A crash about to happen.
pub(super) struct Crashes<'a> {
    world: &'a World,
    /// Per node and kind of crash.
    ends: [[Vec<Open>; 2]; 2],
    living: [Option<u64>; 2],
}

impl<'a> Crashes<'a> {
    pub(super) fn of(world: &'a World) -> Self {
        let ends = [0, 1].map(|node: usize| {
            let disk = &world.nodes[node].disk;
            [disk.open_ends(false), disk.open_ends(true)]
        });
        Self {
            world,
            ends,
            living: [None; 2],
        }
    }

    /// Every way in which at least one node crashes; `dying` certainly does.
    pub(super) fn all(&self, dying: Option<usize>) -> Vec<Crash> {
        let mut crashes = Vec::new();
        for first in FATES {
            for second in FATES {
                let fates = [first, second];
                let sensible = (0..2).all(|node| self.is_sensible(node, fates[node]));
                let dies = dying.is_none_or(|node| fates[node] != Fate::Goes);
                if !sensible || !dies || fates == [Fate::Goes; 2] {
                    continue;
                }
                for one in self.ways(0, first) {
                    for other in self.ways(1, second) {
                        crashes.push(Crash {
                            fates,
                            ways: [one, other],
                        });
                    }
                }
            }
        }
        crashes
    }

    fn is_sensible(&self, node: usize, fate: Fate) -> bool {
        let runs = self.world.nodes[node].engine.is_some();
        match fate {
            Fate::Goes => true,
            Fate::Dies => runs,
            Fate::LosesPower => runs || !self.ends[node][1].is_empty(),
        }
    }

    fn ends(&self, node: usize, fate: Fate) -> &[Open] {
        match fate {
            Fate::Goes => &[],
            Fate::Dies => &self.ends[node][0],
            Fate::LosesPower => &self.ends[node][1],
        }
    }

    fn ways(&self, node: usize, fate: Fate) -> Vec<u64> {
        let all: u64 = self.ends(node, fate).iter().map(Open::ways).product();
        if all <= MOST_WAYS {
            return (0..all).collect();
        }
        let last = MOST_WAYS - 1;
        (0..MOST_WAYS).map(|step| step * (all - 1) / last).collect()
    }

    fn disk(&self, node: usize, crash: &Crash) -> Disk {
        let disk = &self.world.nodes[node].disk;
        let fate = crash.fates[node];
        match fate {
            Fate::Goes => disk.clone(),
            Fate::Dies | Fate::LosesPower => {
                let power = fate == Fate::LosesPower;
                disk.after_crash(power, self.ends(node, fate), crash.ways[node])
            }
        }
    }

    /// What tells the state after this crash from others.
    pub(super) fn fingerprint(&mut self, crash: &Crash) -> u64 {
        let mut hash = Hash::default();
        self.world.sectors.hash(&mut hash);
        for node in 0..2 {
            let fate = crash.fates[node];
            let of = &self.world.nodes[node];
            hash.mix(u64::from(of.lost_power) * 2 + u64::from(of.engine.is_some()));
            self.disk(node, crash).hash(&mut hash);
            if fate == Fate::Goes && of.engine.is_some() {
                let world = self.world;
                let process = self.living[node].get_or_insert_with(|| {
                    let mut hash = Hash::default();
                    world.hash_of_process(node, &mut hash);
                    hash.0
                });
                hash.mix(*process);
            } else {
                hash.mix(u64::from(fate == Fate::LosesPower));
            }
        }
        hash.0
    }

    /// The world after it.
    pub(super) fn after(&self, crash: &Crash) -> World {
        let mut world = self.world.clone();
        for node in 0..2 {
            let power = match crash.fates[node] {
                Fate::Goes => continue,
                Fate::Dies => false,
                Fate::LosesPower => true,
            };
            world.lose(node, self.disk(node, crash), power);
        }
        world
    }
}
