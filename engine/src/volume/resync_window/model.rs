//! A source, a link, a disk and clients, in numbers: just enough to see what a window does to all
//! of them.
//!
//! Whatever goes to the target passes the link and then the disk, one after the other and in order,
//! the clients' writes as well as the resync's data.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use rbd_protocol::control::ResyncOptions;

use super::{Asked, ResyncWindow};
use crate::contract::Time;

/// What is between source and target, and what clients do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    /// Bytes a second.
    pub(super) link_rate: u64,
    /// Nanoseconds in each direction.
    pub(super) delay: u64,
    /// Bytes a second.
    pub(super) disk_rate: u64,
    /// Nanoseconds of every write.
    pub(super) disk_time: u64,
    /// At most so many nanoseconds more, at random, for whatever arrives.
    pub(super) jitter: u64,
    /// Whatever is sent, and whatever the target's disk does, takes up to so many nanoseconds more,
    /// of every order of magnitude as often: what is sent arrives in order all the same, the disk
    /// ends what it likes first.
    pub(super) uneven: (u64, u64),
    /// So many more, if the resync has nothing else under way: who has nothing to do sleeps.
    pub(super) waking: u64,
    /// Clients write 4 KiB so often a second, at random times.
    pub(super) writes: u64,
}

/// A gigabit network and a fast disk, nobody about.
pub(super) const GIGABIT: Way = Way {
    link_rate: 125_000_000,
    delay: 50_000,
    disk_rate: 1_000_000_000,
    disk_time: 50_000,
    jitter: 0,
    uneven: (0, 0),
    waking: 0,
    writes: 0,
};

/// A resync that never ends, over such a way.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) way: Way,
    pub(super) window: ResyncWindow,
    pub(super) options: ResyncOptions,
    /// Without it there are only the clients.
    pub(super) is_resyncing: bool,
    /// What the resync has brought to the disk.
    pub(super) bytes: u64,
    /// The same, of requests.
    pub(super) requests: u64,
    /// How long the clients' writes took.
    pub(super) latencies: Vec<u64>,
    pub(super) now: u64,
    /// So much ahead of that is the target's clock.
    pub(super) ahead: u64,
    under_way: BTreeMap<u64, (u64, Asked)>,
    events: BTreeMap<(u64, u64), What>,
    link_free: u64,
    /// When what was sent last arrives.
    arrival: u64,
    disk_free: u64,
    names: u64,
    chance: u64,
}

#[derive(Clone, Copy, Debug)]
enum What {
    /// The source has read what was asked for.
    Send { request: u64, length: u64 },
    /// A client writes at the source.
    Write,
    /// It has arrived at the target, after so long.
    Arrived { started: u64, request: Option<u64> },
    /// The target has it on its disk.
    Done { started: u64, request: Option<u64> },
    /// A limited rate allows more.
    Wake,
}

impl Run {
    pub(super) fn new(way: Way) -> Self {
        let mut run = Self {
            way,
            window: ResyncWindow::new(),
            options: ResyncOptions::default(),
            is_resyncing: true,
            bytes: 0,
            requests: 0,
            latencies: Vec::new(),
            now: 1_000_000_000_000,
            ahead: 0,
            under_way: BTreeMap::new(),
            events: BTreeMap::new(),
            link_free: 0,
            arrival: 0,
            disk_free: 0,
            names: 0,
            chance: 42,
        };
        run.after(0, What::Wake);
        run.after(0, What::Write);
        run
    }

    /// Lets time pass, and forgets what was counted before.
    pub(super) fn pass_ms(&mut self, milliseconds: u64) -> &mut Self {
        (self.bytes, self.requests) = (0, 0);
        self.latencies.clear();
        let end = self.now + milliseconds * 1_000_000;
        while let Some((&(time, name), &what)) = self.events.first_key_value()
            && time < end
        {
            self.events.remove(&(time, name));
            self.now = time;
            self.happen(what);
            if self.is_resyncing {
                self.ask();
            }
        }
        self.now = end;
        self
    }

    /// Thousandths of the link the resync has taken in so long.
    pub(super) fn share(&self, milliseconds: u64) -> u64 {
        self.bytes * 1_000_000 / milliseconds / self.way.link_rate
    }

    /// Only one in a hundred of the clients' writes took longer; 0 if there were none.
    pub(super) fn slow_write(&self) -> u64 {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() * 99 / 100).copied().unwrap_or(0)
    }

    pub(super) fn bytes_under_way(&self) -> u64 {
        self.under_way.values().map(|(length, _)| length).sum()
    }

    /// Nothing passes the link for so long.
    pub(super) fn stall_ms(&mut self, milliseconds: u64) -> &mut Self {
        self.link_free = self.link_free.max(self.now) + milliseconds * 1_000_000;
        self
    }

    fn clock(&self) -> Time {
        Time(self.now + self.ahead)
    }

    fn happen(&mut self, what: What) {
        let way = self.way;
        match what {
            What::Send { request, length } => self.send(self.now, length, Some(request)),
            What::Write => {
                // Whoever writes now and then looks again whether there is something to write.
                let pause = 1_000_000_000_u64.checked_div(way.writes);
                if pause.is_some() {
                    self.send(self.now, 4096, None);
                }
                let pause = pause.map_or(1_000_000, |pause| self.random(2 * pause));
                self.after(pause, What::Write);
            }
            What::Arrived { started, request } => {
                let length = request.map_or(4096, |request| self.under_way[&request].0);
                if request.is_none() {
                    let now = self.clock();
                    self.window.clients_at_work(&self.options, now);
                }
                let begin = self.disk_free.max(self.now);
                self.disk_free = begin + length * 1_000_000_000 / way.disk_rate;
                let late = self.magnitude(way.uneven.1);
                let done = self.disk_free + way.disk_time + late - self.now;
                self.after(done, What::Done { started, request });
            }
            What::Done { started, request } => match request {
                None => self.latencies.push(self.now + way.delay - started),
                Some(request) => {
                    let (length, asked) = self.under_way.remove(&request).expect("asked for");
                    let now = self.clock();
                    self.window.answered(asked, length, &self.options, now);
                    self.bytes += length;
                    self.requests += 1;
                }
            },
            What::Wake => {}
        }
    }

    fn send(&mut self, started: u64, length: u64, request: Option<u64>) {
        let begin = self.link_free.max(self.now);
        self.link_free = begin + length * 1_000_000_000 / self.way.link_rate;
        let is_alone = request.is_some() && self.under_way.len() == 1;
        let waking = if is_alone { self.way.waking } else { 0 };
        let late = self.random(self.way.jitter) + waking;
        let mut arrives = self.link_free + self.way.delay + late;
        if self.way.uneven.0 > 0 {
            arrives = (arrives + self.magnitude(self.way.uneven.0)).max(self.arrival);
            self.arrival = arrives;
        }
        self.after(arrives - self.now, What::Arrived { started, request });
    }

    fn ask(&mut self) {
        let now = self.clock();
        loop {
            let under_way = (self.under_way.len(), self.bytes_under_way());
            let Some(length) = self.window.room(under_way, &self.options, now) else {
                break;
            };
            let (length, alone) = (u64::from(length), self.under_way.is_empty());
            let asked = self.window.ask(length, alone, &self.options, now);
            self.names += 1;
            let request = self.names;
            self.under_way.insert(request, (length, asked));
            self.after(self.way.delay, What::Send { request, length });
        }
        if let Some(due) = self.window.due(now) {
            self.after(due.0 - now.0, What::Wake);
        }
    }

    fn after(&mut self, nanoseconds: u64, what: What) {
        self.names += 1;
        let time = self.now + nanoseconds;
        self.events.insert((time, self.names), what);
    }

    /// A number up to about `most` whose order of magnitude is evenly distributed.
    fn magnitude(&mut self, most: u64) -> u64 {
        let orders = u64::from(most.checked_ilog2().unwrap_or(0)).min(9);
        let order = self.random(orders + 1);
        let most = most >> order;
        most / 2 + self.random(most / 2)
    }

    /// A number below `end`, 0 if that is.
    fn random(&mut self, end: u64) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance.checked_rem(end).unwrap_or(0)
    }
}
