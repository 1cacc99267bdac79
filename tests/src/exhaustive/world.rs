//! Both nodes, the wire between them, their clients, and everything that has begun and not ended.
//! Nothing here is left to chance: which of the things under way ends next is the caller's choice.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rbd_engine::{
    Action, CallId, Command, DiskRequest, Event, LinkId, LinkLoss, OperationId, RequestError,
    RequestId, RequestKind, Time,
};
use rbd_protocol::control::Refusal;
use rbd_protocol::ids::ByteRange;
use rbd_protocol::peer::{Channel, Packet};

use super::disk::{Data, touched};
use super::geometry::{BLOCK_OF, SECTORS, write_range};
use super::hash::Hash;
use super::node::{Node, VOLUME, durable, node_id};
use super::sectors::Sectors;

/// Something that has begun and not ended.
#[derive(Clone, Debug)]
pub(super) enum Pending {
    Disk {
        node: usize,
        id: OperationId,
    },
    Meta {
        node: usize,
        id: OperationId,
    },
    Packet(Box<Letter>),
    Meet,
    LinkUp {
        node: usize,
        link: u64,
    },
    LinkDown {
        node: usize,
        link: u64,
        loss: LinkLoss,
    },
}

/// A packet under way.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    to: usize,
    link: u64,
    channel: Channel,
    packet: Packet,
    data: Option<Data>,
}

/// Which of the things under way ends next. Packets of one channel keep their order always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// What began first.
    Oldest,
    /// What began last.
    Newest,
    /// Disks only when nothing else is left.
    DisksLast,
    /// The wire only when nothing else is left.
    WireLast,
}

/// A client's request.
#[derive(Clone, Debug)]
struct Request {
    id: u64,
    node: usize,
    what: Asked,
}

#[derive(Clone, Debug)]
enum Asked {
    Write {
        range: ByteRange,
        value: u8,
        fua: bool,
    },
    Flush {
        covered: Data,
    },
}

/// What a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Attach,
    Connect,
    Promote,
    /// Demote this node, then promote the other node.
    HandOver,
    SkipSync,
}

/// All there is.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) now: u64,
    pub(super) nodes: [Node; 2],
    pub(super) pending: Vec<Pending>,
    pub(super) network: bool,
    /// The link over which packets arrive.
    pub(super) wire: Option<u64>,
    pub(super) sectors: Sectors,
    requests: Vec<Request>,
    calls: Vec<(u64, usize, Wish)>,
    names: u64,
    pub(super) steps: u64,
    pub(super) set_up: bool,
    pub(super) failure: Option<String>,
    /// If wanted: the moments between two actions of one event, and whose.
    pub(super) midway: Option<Vec<(Self, usize)>>,
    pub(super) log: Option<Vec<String>>,
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            now: 1,
            nodes: [Node::new(0), Node::new(1)],
            pending: Vec::new(),
            network: true,
            wire: None,
            sectors: Sectors::new(),
            requests: Vec::new(),
            calls: Vec::new(),
            names: 0,
            steps: 0,
            set_up: false,
            failure: None,
            midway: None,
            log: None,
        }
    }

    pub(super) fn time(&self) -> Time {
        Time(self.now)
    }

    pub(super) fn violation(&mut self, text: impl Into<String>) {
        self.failure.get_or_insert(text.into());
    }

    pub(super) fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(text());
        }
    }

    fn name(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    /// Ends one thing that is under way; false if there is none.
    pub(super) fn step(&mut self, order: Order) -> bool {
        let Some(index) = self.choose(order) else {
            return false;
        };
        self.steps += 1;
        let what = self.pending.remove(index);
        match what {
            Pending::Disk { node, id } => {
                let data = self.nodes[node].disk.complete(id);
                self.tell(
                    node,
                    Event::DiskDone {
                        id,
                        result: Ok(data),
                    },
                );
            }
            Pending::Meta { node, id } => {
                self.nodes[node].disk.complete(id);
                self.read_metadata(node);
                self.tell(node, Event::MetaDone { id, result: Ok(()) });
            }
            Pending::Packet(letter) => {
                let Letter {
                    to,
                    link,
                    packet,
                    data,
                    ..
                } = *letter;
                if self.nodes[to].link == Some(link) {
                    let peer = node_id(1 - to);
                    let link = LinkId(link);
                    self.tell(
                        to,
                        Event::Packet {
                            peer,
                            link,
                            packet,
                            data,
                        },
                    );
                }
            }
            Pending::Meet => self.meet(),
            Pending::LinkUp { node, link } => {
                self.nodes[node].link = Some(link);
                let (peer, link) = (node_id(1 - node), LinkId(link));
                self.tell(node, Event::LinkUp { peer, link });
            }
            Pending::LinkDown { node, link, loss } => {
                if self.nodes[node].link == Some(link) {
                    self.nodes[node].link = None;
                    let (peer, link) = (node_id(1 - node), LinkId(link));
                    self.tell(node, Event::LinkDown { peer, link, loss });
                }
            }
        }
        self.check();
        true
    }

    fn choose(&self, order: Order) -> Option<usize> {
        let disk = |at: &usize| {
            matches!(
                self.pending[*at],
                Pending::Disk { .. } | Pending::Meta { .. }
            )
        };
        let mut ready = (0..self.pending.len()).filter(|at| self.is_ready(*at));
        match order {
            Order::Oldest => ready.next(),
            Order::Newest => ready.next_back(),
            Order::DisksLast => {
                let first = ready.clone().find(|at| !disk(at));
                first.or_else(|| ready.next())
            }
            Order::WireLast => {
                let first = ready.clone().find(disk);
                first.or_else(|| ready.next())
            }
        }
    }

    /// Whether nothing it must come after is still under way.
    fn is_ready(&self, at: usize) -> bool {
        let before = &self.pending[..at];
        let comes_up = |node: usize, link: u64| {
            self.pending.iter().any(|other| {
                matches!(other, Pending::LinkUp { node: n, link: l } if (*n, *l) == (node, link))
            })
        };
        match &self.pending[at] {
            Pending::Packet(letter) => {
                let same = |other: &Letter| {
                    (other.to, other.link, other.channel)
                        == (letter.to, letter.link, letter.channel)
                };
                !comes_up(letter.to, letter.link)
                    && !before
                        .iter()
                        .any(|other| matches!(other, Pending::Packet(other) if same(other)))
            }
            Pending::LinkDown { node, link, .. } => {
                let towards = |other: &Letter| (other.to, other.link) == (*node, *link);
                !comes_up(*node, *link)
                    && !before
                        .iter()
                        .any(|other| matches!(other, Pending::Packet(other) if towards(other)))
            }
            Pending::Disk { .. }
            | Pending::Meta { .. }
            | Pending::Meet
            | Pending::LinkUp { .. } => true,
        }
    }

    /// Ends everything that is under way.
    pub(super) fn run(&mut self, order: Order) {
        while self.failure.is_none() && self.step(order) {}
    }

    pub(super) fn tell(&mut self, node: usize, event: Event<Data>) {
        let now = self.time();
        self.note(|| format!("{node} <- {}", shorten(&event)));
        let Some(engine) = &mut self.nodes[node].engine else {
            return;
        };
        let mut actions = Vec::new();
        let handled = catch_unwind(AssertUnwindSafe(|| engine.handle(now, event, &mut actions)));
        if let Err(panic) = handled {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.unwrap_or_else(|| {
                let text = panic.downcast_ref::<&str>();
                text.map_or_else(String::new, |text| (*text).to_owned())
            });
            return self.violation(format!("node {node}: panic: {text}"));
        }
        actions.retain(|action| !matches!(action, Action::Report(_)));
        let count = actions.len();
        for (index, action) in actions.into_iter().enumerate() {
            self.note(|| format!("    {node} -> {}", shorten(&action)));
            self.perform(node, action);
            if index + 1 < count
                && let Some(mut midway) = self.midway.take()
            {
                midway.push((self.clone(), node));
                self.midway = Some(midway);
            }
        }
    }

    fn perform(&mut self, node: usize, action: Action<Data>) {
        match action {
            Action::Disk {
                id,
                request,
                range,
                data,
                ..
            } => {
                if let Err(text) = self.nodes[node].disk.submit(id, request, range, data) {
                    self.violation(format!("node {node}: {text}"));
                }
                if let DiskRequest::Write { .. } | DiskRequest::Zero { .. } = request
                    && touched(range).next().is_some()
                {
                    self.check();
                }
                self.pending.push(Pending::Disk { node, id });
            }
            Action::Meta {
                id, offset, block, ..
            } => {
                let taken = self.nodes[node].disk.submit_metadata(id, offset, *block);
                if let Err(text) = taken {
                    self.violation(format!("node {node}: {text}"));
                }
                self.pending.push(Pending::Meta { node, id });
            }
            Action::Send {
                link,
                channel,
                packet,
                data,
                ..
            } => {
                if self.wire == Some(link.0) {
                    let to = 1 - node;
                    let link = link.0;
                    let letter = Letter {
                        to,
                        link,
                        channel,
                        packet,
                        data,
                    };
                    self.pending.push(Pending::Packet(Box::new(letter)));
                }
            }
            Action::DropLink { link, loss, .. } => self.close(node, link.0, loss),
            Action::SeekLink { seek, .. } => {
                self.nodes[node].seeking = seek;
                self.try_meet();
            }
            Action::Complete { id, result } => self.completed(node, id, &result),
            Action::Reply { call, result } => self.replied(node, call, &result),
            Action::WakeAt(time) => self.nodes[node].wake = Some(time),
            Action::ReleaseDisk { .. } | Action::CloseClients { .. } | Action::Report(_) => {}
        }
    }

    /// A node closes its end: what it has sent arrives, then the peer notices.
    fn close(&mut self, node: usize, link: u64, loss: LinkLoss) {
        self.pending.push(Pending::LinkDown { node, link, loss });
        if self.wire == Some(link) {
            self.wire = None;
            let loss = LinkLoss::Closed;
            self.pending.push(Pending::LinkDown {
                node: 1 - node,
                link,
                loss,
            });
        }
    }

    pub(super) fn try_meet(&mut self) {
        let waits = self
            .pending
            .iter()
            .any(|what| matches!(what, Pending::Meet));
        if !waits && self.can_meet() {
            self.pending.push(Pending::Meet);
        }
    }

    fn can_meet(&self) -> bool {
        self.network && self.wire.is_none() && self.nodes.iter().all(|node| node.seeking)
    }

    fn meet(&mut self) {
        if !self.can_meet() {
            return;
        }
        let link = self.name();
        self.wire = Some(link);
        for node in 0..2 {
            self.nodes[node].seeking = false;
            self.pending.push(Pending::LinkUp { node, link });
        }
    }

    /// The link breaks: nothing under way on it arrives.
    pub(super) fn cut(&mut self) {
        let Some(link) = self.wire.take() else { return };
        self.pending
            .retain(|what| !matches!(what, Pending::Packet(letter) if letter.link == link));
        for node in 0..2 {
            if self.nodes[node].engine.is_some() {
                let loss = LinkLoss::Closed;
                self.pending.push(Pending::LinkDown { node, link, loss });
            }
        }
    }

    /// The process of a node has ended, and its disk is this. Without power, what it has sent and
    /// has not arrived is lost as well.
    pub(super) fn stop(&mut self, node: usize, disk: super::disk::Disk, power: bool) {
        self.note(|| format!("node {node} stops, power lost: {power}"));
        if power {
            self.nodes[node].boot += 1;
            self.nodes[node].lost_power = true;
        }
        if let Some(link) = self.wire.take() {
            let (peer, loss) = (1 - node, LinkLoss::Closed);
            self.pending.push(Pending::LinkDown {
                node: peer,
                link,
                loss,
            });
        }
        self.pending.retain(|what| match what {
            Pending::Disk { node: of, .. }
            | Pending::Meta { node: of, .. }
            | Pending::LinkUp { node: of, .. }
            | Pending::LinkDown { node: of, .. } => *of != node,
            Pending::Packet(letter) => letter.to != node && !power,
            Pending::Meet => true,
        });
        self.nodes[node].end_process();
        self.nodes[node].disk = disk;
        self.read_metadata(node);
        self.requests.retain(|request| request.node != node);
        self.calls.retain(|(_, of, _)| *of != node);
    }

    fn read_metadata(&mut self, node: usize) {
        match durable(node, &self.nodes[node].disk) {
            Ok(found) => {
                // A copy that becomes a target by the word of a peer that has just lost its power
                // is a copy no more; the manual says so.
                let gave_way = self.nodes[node].durable.consistent && !found.consistent;
                if gave_way && self.nodes[1 - node].lost_power {
                    self.sectors.caches_lost();
                }
                self.nodes[node].durable = found;
            }
            Err(text) => self.violation(text),
        }
    }

    pub(super) fn command(&mut self, node: usize, wish: Wish) {
        let command = match wish {
            Wish::Attach => match self.nodes[node].attachable() {
                Ok(disk) => Command::Attach {
                    volume: VOLUME,
                    disk,
                },
                Err(text) => return self.violation(text),
            },
            Wish::Connect => Command::Connect {
                peer: None,
                discard_my_data: false,
            },
            Wish::Promote => Command::Promote { force: false },
            Wish::HandOver => Command::Demote { force: false },
            Wish::SkipSync => Command::NewGeneration {
                volume: VOLUME,
                clear_bitmap: true,
            },
        };
        let call = self.name();
        self.calls.push((call, node, wish));
        self.tell(
            node,
            Event::Command {
                call: CallId(call),
                command,
            },
        );
        self.check();
    }

    fn replied(&mut self, node: usize, call: CallId, result: &Result<Option<String>, Refusal>) {
        let Some(at) = self.calls.iter().position(|(id, ..)| *id == call.0) else {
            return self.violation(format!("node {node}: {call:?} is answered twice"));
        };
        let (_, _, wish) = self.calls.remove(at);
        match (wish, result) {
            (Wish::HandOver, Ok(_)) => {
                // The link may have been cut in the meantime.
                if self.may_promote(1 - node) {
                    self.command(1 - node, Wish::Promote);
                }
            }
            (Wish::Attach, Err(refusal)) => {
                self.violation(format!("node {node}: attach refused: {refusal:?}"));
            }
            _ => {}
        }
    }

    /// A client of the Primary writes a block.
    pub(super) fn write(&mut self, block: usize, value: u8, fua: bool) {
        let range = write_range(block);
        let mut data = Data::default();
        for sector in touched(range) {
            data[sector] = value;
            self.sectors.issue(sector, value);
        }
        let kind = RequestKind::Write { fua };
        self.request(Asked::Write { range, value, fua }, kind, range, Some(data));
    }

    /// A client of the Primary flushes.
    pub(super) fn flush(&mut self) {
        let covered = self.sectors.lo;
        let range = ByteRange::new(0, 0);
        self.request(Asked::Flush { covered }, RequestKind::Flush, range, None);
    }

    fn request(&mut self, what: Asked, kind: RequestKind, range: ByteRange, data: Option<Data>) {
        let Some(node) = self.nodes.iter().position(Node::is_primary) else {
            return;
        };
        let id = self.name();
        self.requests.push(Request { id, node, what });
        let (id, volume) = (RequestId(id), VOLUME);
        self.tell(
            node,
            Event::Request {
                id,
                volume,
                kind,
                range,
                data,
            },
        );
        self.check();
    }

    fn completed(
        &mut self,
        node: usize,
        id: RequestId,
        result: &Result<Option<Data>, RequestError>,
    ) {
        let Some(at) = self.requests.iter().position(|request| request.id == id.0) else {
            return self.violation(format!("node {node}: {id:?} is completed twice"));
        };
        let request = self.requests.remove(at);
        match (result, request.what) {
            (Ok(_), Asked::Write { range, value, fua }) => {
                for sector in touched(range) {
                    self.sectors.acknowledge(sector, value, fua);
                }
            }
            (Ok(_), Asked::Flush { covered }) => self.sectors.flushed(covered),
            (Err(RequestError::NotPrimary), _) => {}
            (Err(error), what) => {
                self.violation(format!("node {node}: {what:?} failed: {error:?}"));
            }
        }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.requests.is_empty() && self.calls.is_empty()
    }

    pub(super) fn has_calls(&self) -> bool {
        !self.calls.is_empty()
    }

    /// Names everything clients and operators still wait for.
    pub(super) fn waiting(&self) -> String {
        format!("{:?} {:?}", self.requests, self.calls)
    }

    /// What must hold after every step, whatever crashes then: blocks that may differ are marked.
    pub(super) fn check(&mut self) {
        if !self.set_up {
            return;
        }
        if self.nodes.iter().all(Node::is_primary) {
            self.violation("G1: both nodes are Primary");
        }
        let marks = self.nodes[0].durable.marks | self.nodes[1].durable.marks;
        for sector in 0..SECTORS {
            if marks & (1 << BLOCK_OF[sector]) != 0 {
                continue;
            }
            let [one, other] = &self.nodes;
            let values = one.disk.possible(sector) | other.disk.possible(sector);
            if values.count_ones() > 1 {
                self.violation(format!(
                    "pair-check: sector {sector} may differ after a crash now and neither disk \
                     says so"
                ));
            }
        }
    }

    /// Whether the generation durable on `one` is one that `other` has never heard of.
    pub(super) fn is_newer(&self, one: usize, other: usize) -> bool {
        let current = self.nodes[one].durable.generations.first();
        current.is_some_and(|current| !self.nodes[other].durable.generations.contains(current))
    }

    pub(super) fn holds_everything(&self, node: usize) -> bool {
        self.sectors.allow(self.nodes[node].disk.contents()).is_ok()
    }

    pub(super) fn is_in_sync(&self) -> bool {
        self.nodes.iter().all(|node| node.is_in_sync(self.time()))
    }

    /// Whoever is in sync or Primary counts as a copy again.
    pub(super) fn forgive_power_losses(&mut self) {
        let in_sync = self.is_in_sync();
        for node in &mut self.nodes {
            node.lost_power &= !(in_sync || node.is_primary());
        }
    }

    /// Everything that what happens next depends on, as far as it shows.
    pub(super) fn hash_of_process(&self, node: usize, hash: &mut Hash) {
        if let Some(engine) = &self.nodes[node].engine {
            hash.mix_debug(engine);
        }
        for what in &self.pending {
            match what {
                Pending::Packet(letter) if letter.to != node => {}
                Pending::Disk { node: of, .. }
                | Pending::Meta { node: of, .. }
                | Pending::LinkUp { node: of, .. }
                | Pending::LinkDown { node: of, .. }
                    if *of != node => {}
                _ => hash.mix_debug(what),
            }
        }
    }
}

fn shorten(what: &impl std::fmt::Debug) -> String {
    let text = format!("{what:?}");
    match text.char_indices().nth(160) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
