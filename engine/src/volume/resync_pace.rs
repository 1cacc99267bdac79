//! How fast a resync is, and where its time goes. For people: nothing is decided by it.

use alloc::collections::VecDeque;

use rbd_protocol::state::ResyncLimit;

use crate::contract::Time;

/// What is remembered of the last seconds of a resync.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace {
    /// Bytes dealt with.
    done: u64,
    /// How much that was at some moments, oldest first.
    marks: VecDeque<(Time, u64)>,
    /// How long this node's disk takes to read for a request, or to write what has come; in
    /// nanoseconds, 0 if not known.
    own_disk: u64,
    /// The same of the peer's disk, as it has told.
    peer_disk: u64,
    /// What limits it, as the peer has told.
    told: Option<ResyncLimit>,
}

impl Pace {
    /// A resync begins, or goes on after a pause: what was before says nothing about its speed.
    pub(crate) fn begin(&mut self, now: Time) {
        self.marks.clear();
        self.marks.push_back((now, self.done));
    }

    /// So many more bytes are not out of sync any more.
    pub(crate) fn done(&mut self, bytes: u64, now: Time) {
        self.done = self.done.saturating_add(bytes);
        let is_due = self
            .marks
            .back()
            .is_none_or(|(at, _)| now.ms_since(*at) >= STEP_MS);
        if is_due {
            self.marks.push_back((now, self.done));
        }
        if self.marks.len() > MARKS {
            self.marks.pop_front();
        }
    }

    /// The own disk has taken so long for one request of the resync.
    pub(crate) fn disk_took(&mut self, since: Time, now: Time) {
        let took = now.0.saturating_sub(since.0).max(1);
        self.own_disk = match self.own_disk {
            0 => took,
            known => known / 8 * 7 + took / 8,
        };
    }

    /// The link is gone: what the peer has told may have changed.
    pub(crate) fn forget_told(&mut self) {
        self.told = None;
        self.peer_disk = 0;
        self.own_disk = 0;
    }

    /// What the peer tells.
    pub(crate) fn hear(&mut self, limit: Option<ResyncLimit>, disk_us: u32) {
        self.told = limit.map(ResyncLimit::from_there);
        self.peer_disk = u64::from(disk_us) * 1_000;
    }

    pub(crate) fn told_limit(&self) -> Option<ResyncLimit> {
        self.told
    }

    /// How long the own disk takes, in microseconds.
    pub(crate) fn own_disk_us(&self) -> u32 {
        u32::try_from(self.own_disk / 1_000).unwrap_or(u32::MAX)
    }

    /// Bytes a second over the last seconds. A resync that has come to a stop becomes slower and
    /// slower; one that has just begun has no speed yet.
    pub(crate) fn rate(&self, now: Time) -> Option<u64> {
        let (since, before) = self.marks.front()?;
        let elapsed = now.ms_since(*since);
        if elapsed < STEP_MS {
            return None;
        }
        let bytes = u128::from(self.done.saturating_sub(*before));
        u64::try_from(bytes * 1_000 / u128::from(elapsed)).ok()
    }

    /// Where a request that takes so many nanoseconds from being made to being on the disk spends
    /// most of them: what is in the way of the others queues there.
    pub(crate) fn slowest(&self, usual: u64) -> Option<ResyncLimit> {
        if usual == 0 || self.own_disk == 0 {
            return None;
        }
        let on_link = usual
            .saturating_sub(self.own_disk)
            .saturating_sub(self.peer_disk);
        let longest = on_link.max(self.own_disk).max(self.peer_disk);
        Some(match longest {
            _ if longest == on_link => ResyncLimit::Link,
            _ if longest == self.own_disk => ResyncLimit::DiskHere,
            _ => ResyncLimit::DiskOfPeer,
        })
    }
}

/// How far apart marks are, and how many there are: the speed shown is that of the last quarter of
/// a minute.
const STEP_MS: u64 = 1_000;
const MARKS: usize = 16;

#[cfg(test)]
mod tests;
