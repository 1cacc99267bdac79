//! Clients of the volume: what they ask, and what they make of the answers.

use std::ops::Range;

use rbd_engine::{Event, RequestError, RequestId, RequestKind};
use rbd_protocol::ids::{BLOCK_SIZE, ByteRange, REGION_SIZE};
use rbd_protocol::metadata::BITS_PER_BLOCK;
use rbd_protocol::state::DiskState;

use super::disk::{Payload, SECTOR};
use super::node::{number, peer_device_of};
use super::random::Random;
use super::volume::Volume;
use super::world::{Happening, World};

/// An operation a client waits for.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) node: usize,
    pub(super) volume: usize,
    /// When it was asked for.
    pub(super) since: u64,
    client: u64,
    first: u64,
    what: What,
    /// Its client has gone away.
    given_up: bool,
    /// The node was no Primary when it was asked.
    astray: bool,
}

#[derive(Clone, Debug)]
enum What {
    /// The oldest index each sector may return.
    Read(Vec<u32>),
    /// The index each sector is given.
    Write { indices: Vec<u32>, fua: bool },
    /// What becomes durable.
    Flush(Vec<(u64, u32)>),
}

impl Operation {
    /// The sectors it writes, if it writes any.
    pub(super) fn written_sectors(&self) -> Option<Range<u64>> {
        match &self.what {
            What::Write { indices, .. } => {
                let count = u64::try_from(indices.len()).unwrap_or(u64::MAX);
                Some(self.first..self.first.saturating_add(count))
            }
            What::Read(_) | What::Flush(_) => None,
        }
    }
}

/// So many operations are asked for as fast as the seed's options say, the rest at leisure: a seed
/// with fast disks and few faults would otherwise go on for most of a minute.
const EAGER_OPERATIONS: u64 = 15_000;

impl World {
    pub(super) fn start_clients(&mut self) {
        self.clients_allowed = true;
        for client in 0..self.options.clients {
            let delay = self.random.below(self.options.think_us + 1);
            self.after_us(delay, Happening::Client { client });
        }
    }

    /// A client asks for something if it can. What for depends on nothing but how often it has
    /// asked before.
    pub(super) fn client_step(&mut self, client: u64) {
        if !self.clients_allowed || self.without.client(client) {
            return;
        }
        let volume = self.volume_of_client(client);
        let ready = |node: &super::node::Node| {
            node.is_primary()
                && node[volume].openers > 0
                && node
                    .engine
                    .as_ref()
                    .is_some_and(|engine| engine.room().requests > 0)
        };
        let both = self.nodes.iter().all(ready);
        let chosen = if both {
            Some(usize::from(self.random.percent(50))) // two Primaries, one of which is frozen
        } else {
            self.nodes.iter().position(ready)
        };
        let chosen = chosen.or_else(|| self.wrong_node(client));
        let Some(node) = chosen else {
            let pause = self.options.think_us.max(20_000);
            self.after_us(pause, Happening::Client { client });
            return;
        };
        let steps = self.steps.entry(client).or_default();
        *steps += 1;
        if self.without.request(client, *steps) {
            let pause = self.options.think_us.max(1);
            self.after_us(pause, Happening::Client { client });
            return;
        }
        let random = Random::of(self.report.seed, CLIENTS + client, *steps);
        let before = std::mem::replace(&mut self.random, random);
        self.ask(node, volume, client);
        self.random = before;
    }

    /// Whoever uses several volumes uses one after the other.
    fn volume_of_client(&self, client: u64) -> usize {
        let steps = self.steps.get(&client).copied().unwrap_or(0);
        let volumes = self.options.volumes as u64;
        usize::try_from((client + steps) % volumes).unwrap_or(0)
    }

    /// A client that has not heard who is Primary, or that nobody is, asks any node. How often
    /// depends on the seed alone.
    fn wrong_node(&self, client: u64) -> Option<usize> {
        let number = self.report.events;
        let mut random = Random::of(self.report.seed, STRAYS + client, number);
        let node = usize::from(random.percent(50));
        let asks = random.percent(self.options.stray_percent);
        let machine = &self.nodes[node];
        (asks && machine.engine.is_some() && !machine.is_primary()).then_some(node)
    }

    fn ask(&mut self, node: usize, volume: usize, client: u64) {
        let options = &self.options;
        let (reads, flushes) = (options.reads_percent, options.flush_percent);
        let (zeroes, fua) = (options.zero_percent, options.fua_percent);
        if self.random.below(1_000) < self.options.give_up_permille {
            let delay = self.random.magnitude(1, 1_000_000);
            self.after_us(delay, Happening::GiveUp { client });
        }
        if self.random.percent(flushes) {
            self.flush(node, volume, client);
        } else if self.random.percent(reads) {
            let (first, count) = self.pick_range(node, volume);
            self.read(node, volume, client, first, count);
        } else {
            let zero = self.random.percent(zeroes);
            let fua = self.random.percent(fua);
            let (first, count) = self.pick_range(node, volume);
            let busy = (first..first + count)
                .any(|at| self.records[volume].registers.is_being_written(at));
            if busy && !self.random.percent(self.options.overlap_percent) {
                self.watch_client(node, volume, false, busy);
                self.read(node, volume, client, first, count);
            } else {
                self.watch_client(node, volume, true, busy);
                self.write(node, volume, client, (first, count), zero, fua);
            }
        }
    }

    /// A client goes away in the middle of a request, and another takes its place. What it asked
    /// for may be done or not; the answer is owed all the same, and reaches nobody.
    pub(super) fn give_up(&mut self, client: u64) {
        let asked = |operation: &Operation| operation.client == client && !operation.given_up;
        let Some(operation) = self.operations.values_mut().find(|known| asked(known)) else {
            return;
        };
        operation.given_up = true;
        let operation = operation.clone();
        self.report.given_up += 1;
        self.operation_abandoned(&operation);
        self.revive_clients(vec![client]);
    }

    fn pick_range(&mut self, node: usize, volume: usize) -> (u64, u64) {
        let sectors = self.shown_sectors(node, volume);
        let blocks = sectors / 8;
        if self.options.edge_percent > 0 && self.random.percent(self.options.edge_percent) {
            return self.pick_edge(sectors);
        }
        let block = if self.random.percent(70) {
            // Hot spots, spread over the volume so that they lie in several regions.
            let hot = self.random.below(self.options.hot_blocks);
            hot * 7_919 % blocks
        } else {
            self.random.below(blocks)
        };
        let first = block * 8;
        match self.random.below(10) {
            0..=3 => (first, 8),
            4..=6 => (first + self.random.below(8), 1),
            7..=8 => {
                let first = first + self.random.below(8);
                let count = self.random.between(1, 24);
                (first, count.min(sectors - first))
            }
            _ => {
                let count = 8 * self.random.between(1, 64);
                (first, count.min(sectors - first))
            }
        }
    }

    /// A range about where one region of the write-intent log ends and the next begins, or one
    /// page of the bitmap.
    fn pick_edge(&mut self, sectors: u64) -> (u64, u64) {
        let page = BITS_PER_BLOCK * u64::from(BLOCK_SIZE) / SECTOR;
        let step = if sectors > page && self.random.percent(50) {
            page
        } else {
            REGION_SIZE / SECTOR
        };
        let edge = self.random.between(1, (sectors / step).max(1)) * step;
        let first = edge.min(sectors) - self.random.between(1, 16);
        let count = self.random.between(1, 24);
        (first, count.min(sectors - first))
    }

    pub(super) fn read(&mut self, node: usize, volume: usize, client: u64, first: u64, count: u64) {
        let oldest = (first..first + count)
            .map(|sector| self.records[volume].registers.read_invoked(sector))
            .collect();
        let operation = Operation {
            node,
            volume,
            since: self.now,
            client,
            first,
            what: What::Read(oldest),
            given_up: false,
            astray: false,
        };
        self.request(operation, RequestKind::Read, (first, count), None);
    }

    fn flush(&mut self, node: usize, volume: usize, client: u64) {
        let covered = self.records[volume].registers.flush_invoked();
        let operation = Operation {
            node,
            volume,
            since: self.now,
            client,
            first: 0,
            what: What::Flush(covered),
            given_up: false,
            astray: false,
        };
        self.request(operation, RequestKind::Flush, (0, 0), None);
    }

    fn write(
        &mut self,
        node: usize,
        volume: usize,
        client: u64,
        range: (u64, u64),
        zero: bool,
        fua: bool,
    ) {
        let (first, count) = range;
        let indices: Vec<u32> = (first..first + count)
            .map(|sector| self.records[volume].registers.write_invoked(sector, zero))
            .collect();
        let registers = &self.records[volume].registers;
        let data: Option<Payload> = (!zero).then(|| {
            (first..)
                .zip(&indices)
                .map(|(sector, index)| registers.stamp(sector, *index))
                .collect()
        });
        let kind = if zero {
            let discard = self.random.percent(50);
            RequestKind::Zero { fua, discard }
        } else {
            RequestKind::Write { fua }
        };
        let what = What::Write { indices, fua };
        let operation = Operation {
            node,
            volume,
            since: self.now,
            client,
            first,
            what,
            given_up: false,
            astray: false,
        };
        self.request(operation, kind, range, data);
    }

    fn request(
        &mut self,
        operation: Operation,
        kind: RequestKind,
        (first, count): (u64, u64),
        data: Option<Payload>,
    ) {
        let (id, node, volume) = (self.name(), operation.node, operation.volume);
        let astray = !self.nodes[node].is_primary();
        self.operations.insert(
            id,
            Operation {
                astray,
                ..operation
            },
        );
        let length = u32::try_from(count * SECTOR).expect("requests are small");
        self.tell(
            node,
            Event::Request {
                id: RequestId(id),
                volume: number(volume),
                kind,
                range: ByteRange::new(first * SECTOR, length),
                data,
            },
        );
    }

    pub(super) fn operation_ended(
        &mut self,
        node: usize,
        operation: Operation,
        result: Result<Option<Payload>, RequestError>,
    ) {
        if operation.given_up {
            self.linger_no_more();
            return;
        }
        // A client that is refused tries again after a while, however eager it is; and all tire.
        let is_tired = self.report.operations >= EAGER_OPERATIONS;
        let pause = if result.is_err() || is_tired {
            20_000
        } else {
            0
        };
        let delay = self.random.below(self.options.think_us * 2 + 1).max(pause);
        let (client, volume) = (operation.client, operation.volume);
        self.after_us(delay, Happening::Client { client });
        self.report.operations += 1;
        let first = operation.first;
        if operation.astray && result.as_ref().err() != Some(&RequestError::NotPrimary) {
            self.violation(format!(
                "G8: node {node} was no Primary when it was asked, and answers {result:?}"
            ));
        }
        let data = match result {
            Ok(data) => data,
            Err(error) => {
                self.report.failed_operations += 1;
                if !self.is_explained(node, &operation, error) {
                    self.violation(format!("node {node}: {operation:?} failed: {error:?}"));
                }
                self.operation_abandoned(&operation);
                return;
            }
        };
        match operation.what {
            What::Write { indices, fua } => {
                let end = first + u64::try_from(indices.len()).unwrap_or(0);
                let told = indices.clone();
                for (sector, index) in (first..).zip(indices) {
                    self.records[volume]
                        .registers
                        .write_acknowledged(sector, index, fua);
                }
                if !fua && self.was_lost_on_the_way(node, volume, first..end) {
                    self.records[volume].registers.caches_lost();
                } else {
                    self.note_told(node, volume, first, &told);
                }
                self.note_if_written_alone(node, volume, first..end);
                self.check_promise(node, volume, first..end, fua);
            }
            What::Flush(covered) => {
                self.records[volume].registers.flush_acknowledged(&covered);
                self.check_promise(
                    node,
                    volume,
                    covered.into_iter().map(|(sector, _)| sector),
                    true,
                );
            }
            What::Read(oldest) => {
                let data = data.unwrap_or_default();
                if data.len() != oldest.len() {
                    self.violation(format!("node {node}: a read returned another length"));
                }
                if self.is_forked {
                    return; // which of the two histories it is from, nobody keeps track of
                }
                for ((sector, oldest), value) in (first..).zip(oldest).zip(data.iter()) {
                    if let Err(text) = self.records[volume]
                        .registers
                        .read_returned(sector, oldest, *value)
                    {
                        self.violation(format!("node {node}: read returned {text}"));
                    }
                }
                let end = first + u64::try_from(data.len()).unwrap_or(0);
                self.check_shown(node, volume, first..end);
            }
        }
    }

    /// Whether the node that serves this one has done the write, lost it with its power, and only
    /// then its answer has come: it went into a cache, and nobody has flushed it.
    fn was_lost_on_the_way(&self, node: usize, volume: usize, mut sectors: Range<u64>) -> bool {
        let [own, server] = [&self.nodes[node][volume], &self.nodes[1 - node][volume]];
        let lacks = |sector| {
            let content = server.disk.content(sector);
            self.records[volume]
                .registers
                .holds(sector, content)
                .is_err()
        };
        !own.serves_itself() && server.suspect && sectors.any(lacks)
    }

    /// Clients of one of two Primaries have been told that this is written.
    fn note_told(&mut self, node: usize, volume: usize, first: u64, indices: &[u32]) {
        if !self.options.dual {
            return;
        }
        for (sector, index) in (first..).zip(indices) {
            let certain = self.records[volume].registers.certain(sector, *index);
            let told = self.nodes[node][volume].told.entry(sector).or_default();
            *told = certain.max(*told);
        }
    }

    /// Whether there is a reason for a client of the node to be told of an error (H1, H2).
    fn is_explained(&self, node: usize, operation: &Operation, error: RequestError) -> bool {
        let volume = operation.volume;
        let [own, server] = [&self.nodes[node][volume], &self.nodes[1 - node][volume]];
        if error == RequestError::NotPrimary {
            return true;
        }
        if own.serves_itself() {
            return own.disk_failed || self.is_impossible(node, operation);
        }
        // A peer that can serve, does; once it has said so, if it did not greet so.
        let are_connected = [0, 1].iter().all(|node| self.is_connected(*node));
        let is_known = !self.is_peer_partial(node, volume);
        let may_serve = are_connected && is_known && !own.is_unserved && server.serves_itself();
        let fails = [own, server].iter().any(|node| fails_on(node, operation));
        !may_serve || server.disk_failed || fails
    }

    /// Whether the peer's disk has not all of the data, as far as the node knows.
    fn is_peer_partial(&self, node: usize, volume: usize) -> bool {
        let status = self.nodes[node].status(self.time(node));
        let partial = DiskState::Inconsistent..DiskState::UpToDate;
        status.is_some_and(|status| {
            let device = peer_device_of(&status, volume);
            device.is_some_and(|device| partial.contains(&device.peer_disk_state))
        })
    }

    /// Whether no disk that has everything could do what this operation asks for (H4).
    fn is_impossible(&self, node: usize, operation: &Operation) -> bool {
        let volume = operation.volume;
        let [own, peer] = [&self.nodes[node][volume], &self.nodes[1 - node][volume]];
        fails_on(own, operation) && (fails_on(peer, operation) || !self.is_in_sync_of(volume))
    }

    fn note_if_written_alone(&mut self, node: usize, volume: usize, mut sectors: Range<u64>) {
        if !self.nodes[node][volume].serves_itself() {
            // The peer has it, and it alone unless this node's disk got it before it was let go.
            let own = &self.nodes[node][volume].disk;
            let has = |sector| {
                self.records[volume]
                    .registers
                    .holds(sector, own.content(sector))
                    .is_ok()
            };
            let wrote_alone = !sectors.all(has);
            self.nodes[1 - node][volume].wrote_alone |= wrote_alone;
            return;
        }
        let is_alone = !self.nodes[node].is_replicating(volume);
        // The peer may have had it before the link was lost.
        let peer = &self.nodes[1 - node][volume].disk;
        let peer_has = |sector| {
            self.records[volume]
                .registers
                .holds(sector, peer.content(sector))
                .is_ok()
        };
        let wrote_alone = is_alone && !sectors.all(peer_has);
        self.nodes[node][volume].wrote_alone |= wrote_alone;
    }

    /// Whoever asked will never hear of it.
    pub(super) fn operation_abandoned(&mut self, operation: &Operation) {
        let volume = operation.volume;
        if let What::Write { indices, .. } = &operation.what {
            for (sector, index) in (operation.first..).zip(indices) {
                if self.options.dual {
                    self.records[volume].registers.write_lingers(sector, *index);
                } else {
                    self.records[volume]
                        .registers
                        .write_abandoned(sector, *index);
                }
            }
        }
    }

    /// Of two Primaries one's write may still be on its way when its client has long gone, and the
    /// other's client writes the same. That ends with its answer, or when both nodes have greeted
    /// each other anew.
    pub(super) fn linger_no_more(&mut self) {
        if self.options.dual && self.are_connected() {
            for record in &mut self.records {
                record.registers.forget_lingering();
            }
            let given_up = self.operations.values().filter(|known| known.given_up);
            for operation in given_up.cloned().collect::<Vec<_>>() {
                self.operation_abandoned(&operation);
            }
        }
    }

    /// The clients of a process that died go on elsewhere.
    pub(super) fn revive_clients(&mut self, clients: Vec<u64>) {
        for client in clients {
            let delay = self.random.below(self.options.think_us * 2 + 1);
            self.after_us(delay, Happening::Client { client });
        }
    }

    /// Whose operations wait at this node.
    pub(super) fn clients_at(&self, node: usize) -> Vec<u64> {
        self.operations
            .values()
            .filter(|operation| operation.node == node && !operation.given_up)
            .map(|operation| operation.client)
            .collect()
    }
}

/// Whether the node's disk could not do what this operation asks for.
fn fails_on(node: &Volume, operation: &Operation) -> bool {
    let length = match &operation.what {
        What::Read(oldest) => oldest.len(),
        What::Write { indices, .. } => indices.len(),
        What::Flush(_) => return false,
    };
    let end = operation.first + u64::try_from(length).unwrap_or(0);
    let is_there = |at: &ByteRange| at.offset / 512 < end && at.end() / 512 > operation.first;
    match operation.what {
        What::Read(_) => node.unread.iter().any(is_there),
        What::Write { .. } | What::Flush(_) => node.untaken.iter().any(is_there),
    }
}

/// The first of the streams of chance that clients draw from.
const CLIENTS: u64 = 1_000;

/// The same for whether they ask the wrong node.
const STRAYS: u64 = 2_000;
