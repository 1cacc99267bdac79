//! Both nodes, the wire between them, their clients, and everything that has begun and not ended.
//! Nothing here is left to chance: which of the things under way ends next is the caller's choice.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rbd_engine::{Action, DiskRequest, Event, HandlerResult, LinkId, LinkLoss, OperationId, Time};
use rbd_protocol::peer::{Channel, Packet};

use super::asking::{Request, Wish};
use super::disk::{Data, touched};
use super::geometry::BLOCK_OF;
use super::hash::Hash;
use super::node::{Node, node_id};
use super::sectors::Sectors;
use super::watch::Watch;

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
    Handler {
        node: usize,
        id: OperationId,
    },
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
    pub(super) to: usize,
    pub(super) link: u64,
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
    pub(super) requests: Vec<Request>,
    pub(super) calls: Vec<(u64, usize, Wish)>,
    names: u64,
    pub(super) steps: u64,
    pub(super) set_up: bool,
    pub(super) failure: Option<String>,
    /// If wanted: what the nodes decide about each other; then nothing keeps both from being
    /// Primary.
    pub(super) watch: Option<Box<Watch>>,
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
            watch: None,
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

    pub(super) fn name(&mut self) -> u64 {
        self.names += 1;
        self.names
    }

    /// Ends one thing that is under way; false if there is none.
    pub(super) fn step(&mut self, order: Order) -> bool {
        let Some(index) = self.choose(order) else {
            return false;
        };
        self.steps += 1;
        if self.steps > MOST_STEPS {
            self.violation("L2: the nodes never come to rest");
        }
        let what = self.pending.remove(index);
        match what {
            Pending::Handler { node, id } => {
                let result = HandlerResult::Failed;
                self.tell(node, Event::HandlerDone { id, result });
            }
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
        self.look_at_verdicts();
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
            | Pending::Handler { .. }
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
                if let (Packet::Hello(hello), Some(watch)) = (&packet, &mut self.watch) {
                    watch.note_greeting(node, hello);
                }
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
            Action::RunHandler { id, .. } => self.pending.push(Pending::Handler { node, id }),
            Action::ReleaseDisk { .. }
            | Action::CloseClients { .. }
            | Action::Migration(_)
            | Action::Measure { .. }
            | Action::NoteSize { .. }
            | Action::NoteOfDisk { .. }
            | Action::Report(_) => {}
        }
    }

    /// What must hold after every step, whatever crashes then: blocks that may differ are marked.
    pub(super) fn check(&mut self) {
        if !self.set_up {
            return;
        }
        if self.watch.is_none() && self.nodes.iter().all(Node::is_primary) {
            self.violation("G1: both nodes are Primary");
        }
        let marks = self.nodes[0].durable.marks | self.nodes[1].durable.marks;
        for (sector, block) in BLOCK_OF.into_iter().enumerate() {
            if marks & (1 << block) != 0 {
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
                | Pending::Handler { node: of, .. }
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

/// More than any sequence needs.
const MOST_STEPS: u64 = 20_000;
