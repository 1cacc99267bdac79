//! The sectors of a disk: what of each is durable, what it has held since, what is on its way.
//!
//! Only a *live* sector, one that is being written or has something in the cache, costs more than
//! its one durable value; the live ones are listed, so that a flush walks nothing else.

use rbd_protocol::ids::ByteRange;

use super::super::random::Random;
use super::{Payload, SECTOR, SECTORS_PER_BLOCK, at};

#[derive(Debug)]
pub(super) struct Sectors {
    stable: Vec<u64>,
    /// Per sector its place in `live`, plus one; 0 for a sector that is not.
    place: Vec<u32>,
    live: Vec<Live>,
    /// Emptied histories, to be used again.
    spare: Vec<Vec<(u64, u64)>>,
    order: u64,
    /// Blocks whose content, or what of it is durable, has changed since they were last taken.
    changed: Vec<u64>,
    is_changed: Vec<bool>,
}

#[derive(Debug)]
struct Live {
    sector: u64,
    /// What it has held since it was last made durable, oldest first, and in which order.
    cached: Vec<(u64, u64)>,
    /// What the write in flight will leave in it.
    coming: Option<u64>,
    /// That is readable already: it is the last in `cached`.
    early: bool,
}

/// How much of an interrupted write has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    Nothing,
    SomeSectors,
    All,
}

impl Extent {
    pub(super) fn any(random: &mut Random) -> Self {
        let all = [Self::Nothing, Self::SomeSectors, Self::All];
        random.pick(&all).unwrap_or(Self::All)
    }
}

impl Sectors {
    pub(super) fn new(count: u64) -> Self {
        Self {
            stable: vec![0; at(count)],
            place: vec![0; at(count)],
            live: Vec::new(),
            spare: Vec::new(),
            order: 0,
            changed: Vec::new(),
            is_changed: vec![false; at(count.div_ceil(SECTORS_PER_BLOCK))],
        }
    }

    pub(super) fn count(&self) -> u64 {
        u64::try_from(self.stable.len()).expect("a disk's length fits")
    }

    pub(super) fn preset(&mut self, sector: u64, value: u64) {
        self.set_stable(sector, value);
    }

    /// Everything is another value, durably.
    pub(super) fn replace(&mut self, value: impl Fn(u64) -> u64) {
        self.live.clear();
        self.place.fill(0);
        let count = self.count();
        for sector in 0..count {
            self.set_stable(sector, value(sector));
        }
        for block in 0..count / SECTORS_PER_BLOCK {
            let offset = block * SECTORS_PER_BLOCK * SECTOR;
            self.note(ByteRange::new(offset, 4096));
        }
    }

    /// Changes a sector that nothing is being done to.
    pub(super) fn rot(&mut self, sector: u64, mask: u64) -> bool {
        if self.look(sector).is_some() {
            return false;
        }
        self.set_stable(sector, self.stable_value(sector) ^ mask);
        self.note(ByteRange::new(sector * SECTOR, 512));
        true
    }

    /// What a read of the sector returns now.
    pub(super) fn content(&self, sector: u64) -> u64 {
        let cached = self.look(sector).and_then(|live| live.cached.last());
        cached.map_or_else(|| self.stable_value(sector), |(_, value)| *value)
    }

    /// What everything that completes from now on comes after.
    pub(super) fn order(&self) -> u64 {
        self.order
    }

    pub(super) fn is_being_written(&self, range: ByteRange) -> bool {
        sectors(range).any(|sector| self.look(sector).is_some_and(|live| live.coming.is_some()))
    }

    /// A write has been given to the disk; `early`, it is readable from now on.
    pub(super) fn begin(&mut self, range: ByteRange, data: Option<&Payload>, early: bool) {
        self.order += 1;
        let order = self.order;
        for (index, sector) in sectors(range).enumerate() {
            let value = value_at(data, index);
            let live = self.enliven(sector);
            live.coming = Some(value);
            live.early = early;
            if early {
                live.cached.push((order, value));
            }
        }
        self.note(range);
    }

    /// The write has completed: it decides which flushes cover it, so an early one is stored anew.
    pub(super) fn complete(&mut self, range: ByteRange, fua: bool) {
        self.order += 1;
        let order = self.order;
        for sector in sectors(range) {
            let live = self.enliven(sector);
            let value = live.coming.take();
            if std::mem::take(&mut live.early) {
                live.cached.pop();
            }
            let Some(value) = value else { continue };
            if fua {
                live.cached.clear();
                self.set_stable(sector, value);
                self.settle(sector);
            } else {
                live.cached.push((order, value));
            }
        }
        self.note(range);
    }

    /// The write will never complete: this much of it has happened.
    pub(super) fn abandon(&mut self, range: ByteRange, extent: Extent, random: &mut Random) {
        self.order += 1;
        let order = self.order;
        for sector in sectors(range) {
            let live = self.enliven(sector);
            let value = live.coming.take();
            if std::mem::take(&mut live.early) {
                live.cached.pop();
            }
            let happens = match extent {
                Extent::Nothing => false,
                Extent::SomeSectors => random.percent(50),
                Extent::All => true,
            };
            if let Some(value) = value.filter(|_| happens) {
                live.cached.push((order, value));
            }
            self.settle(sector);
        }
        self.note(range);
    }

    /// A flush that began at this point of the order has completed.
    pub(super) fn flush(&mut self, up_to: u64) {
        let mut index = self.live.len();
        while index > 0 {
            index -= 1;
            let Some(live) = self.live.get_mut(index) else {
                continue;
            };
            // What a write in flight has put into the cache early has not completed.
            let pinned = usize::from(live.early);
            let complete = live.cached.len() - pinned;
            let last = live
                .cached
                .iter()
                .take(complete)
                .rposition(|(order, _)| *order <= up_to);
            let Some((last, (_, value))) = last.and_then(|at| Some((at, *live.cached.get(at)?)))
            else {
                continue;
            };
            let sector = live.sector;
            live.cached.drain(..=last);
            self.set_stable(sector, value);
            self.settle(sector);
        }
    }

    /// A flush that began at this point has failed: of what it should have made durable, no later
    /// one does so many sectors in a hundred.
    pub(super) fn fail_flush(&mut self, up_to: u64, percent: u64, random: &mut Random) {
        for live in &mut self.live {
            if random.percent(percent) {
                for (order, _) in live.cached.iter_mut().filter(|(order, _)| *order <= up_to) {
                    *order = u64::MAX;
                }
            }
        }
    }

    /// A later flush makes durable after all what a failed one should have.
    pub(super) fn forgive(&mut self) {
        let order = self.order;
        for live in &mut self.live {
            for (of, _) in live.cached.iter_mut().filter(|(of, _)| *of == u64::MAX) {
                *of = order;
            }
        }
    }

    /// The power is gone, and with it every write in flight: of what is in the cache each sector
    /// keeps any one value, so many in a hundred.
    pub(super) fn lose_cache(&mut self, keep_percent: u64, random: &mut Random) {
        for mut live in std::mem::take(&mut self.live) {
            let survives = random.percent(keep_percent);
            if survives {
                let survivor = random.below(u64::try_from(live.cached.len()).unwrap_or(0));
                if let Some((_, value)) = live.cached.get(at(survivor)) {
                    let value = *value;
                    self.set_stable(live.sector, value);
                }
            }
            if let Some(place) = self.place.get_mut(at(live.sector)) {
                *place = 0;
            }
            self.note_block(live.sector / SECTORS_PER_BLOCK);
            live.cached.clear();
            self.spare.push(live.cached);
        }
    }

    /// Gives away the list of changed blocks, in the order in which they changed.
    pub(super) fn take_changed(&mut self, into: &mut Vec<u64>) {
        for block in self.changed.drain(..) {
            if let Some(flag) = self.is_changed.get_mut(at(block)) {
                *flag = false;
            }
            into.push(block);
        }
    }

    /// Calls `visit` with every value the sector may have after a crash now.
    pub(super) fn possible(&self, sector: u64, visit: &mut dyn FnMut(u64)) {
        visit(self.stable_value(sector));
        let Some(live) = self.look(sector) else {
            return;
        };
        for (_, value) in &live.cached {
            visit(*value);
        }
        if let Some(value) = live.coming {
            visit(value);
        }
    }

    /// The value the sector has after any crash, if it can have but one.
    pub(super) fn only(&self, sector: u64) -> Option<u64> {
        let stable = self.stable_value(sector);
        let Some(live) = self.look(sector) else {
            return Some(stable);
        };
        let same = live.cached.iter().all(|(_, value)| *value == stable)
            && live.coming.is_none_or(|value| value == stable);
        same.then_some(stable)
    }

    fn stable_value(&self, sector: u64) -> u64 {
        self.stable.get(at(sector)).copied().unwrap_or(0)
    }

    fn set_stable(&mut self, sector: u64, value: u64) {
        if let Some(stable) = self.stable.get_mut(at(sector)) {
            *stable = value;
        }
        self.note_block(sector / SECTORS_PER_BLOCK);
    }

    fn look(&self, sector: u64) -> Option<&Live> {
        let place = *self.place.get(at(sector))?;
        self.live.get(at(u64::from(place)).checked_sub(1)?)
    }

    fn enliven(&mut self, sector: u64) -> &mut Live {
        let place = self
            .place
            .get_mut(at(sector))
            .expect("the range was checked");
        if *place == 0 {
            self.live.push(Live {
                sector,
                cached: self.spare.pop().unwrap_or_default(),
                coming: None,
                early: false,
            });
            *place = u32::try_from(self.live.len()).expect("a simulated disk is small");
        }
        let index = at(u64::from(*place)) - 1;
        self.live.get_mut(index).expect("its place was noted")
    }

    /// Takes the sector off the list if nothing is in its cache and nothing on its way.
    fn settle(&mut self, sector: u64) {
        let idle = |live: &Live| live.cached.is_empty() && live.coming.is_none();
        if !self.look(sector).is_some_and(idle) {
            return;
        }
        let Some(place) = self.place.get_mut(at(sector)) else {
            return;
        };
        let place = std::mem::take(place);
        let gone = self.live.swap_remove(at(u64::from(place)) - 1);
        self.spare.push(gone.cached);
        if let Some(moved) = self.live.get(at(u64::from(place)) - 1)
            && let Some(entry) = self.place.get_mut(at(moved.sector))
        {
            *entry = place;
        }
    }

    fn note(&mut self, range: ByteRange) {
        let block = SECTOR * SECTORS_PER_BLOCK;
        for block in range.offset / block..=(range.end() - 1) / block {
            self.note_block(block);
        }
    }

    fn note_block(&mut self, block: u64) {
        if let Some(flag) = self.is_changed.get_mut(at(block))
            && !std::mem::replace(flag, true)
        {
            self.changed.push(block);
        }
    }
}

fn value_at(data: Option<&Payload>, index: usize) -> u64 {
    data.map_or(0, |data| data.get(index).copied().unwrap_or(0))
}

fn sectors(range: ByteRange) -> impl Iterator<Item = u64> {
    range.offset / SECTOR..range.end() / SECTOR
}
