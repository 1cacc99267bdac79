//! Everything there is in a run, and the queue of what happens when.
//!
//! The world performs the engines' actions and tells them what came of it, as the daemon does; in
//! between it lets as much time pass, and in such an order, as chance will have it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::ops::Range;

use rbd_engine::{Action, LinkLoss, OperationId};

use super::client::Operation;
use super::disk::Payload;
use super::fencing::{Cluster, HandlerEnd};
use super::marks::Watch;
use super::moves::EndNote;
use super::network::Link;
use super::node::Node;
use super::operator::Wish;
use super::profile::Options;
use super::random::Random;
use super::report::{Failure, Report};
use super::scrub::Scrub;
use super::without::Without;
use crate::check::{PairCheck, Registers};

/// Something that is going to happen.
#[derive(Clone, Copy, Debug)]
pub(super) enum Happening {
    /// The engine's timer.
    Timer { node: usize, life: u64, wake: u64 },
    /// A disk operation ends.
    DiskDone {
        node: usize,
        volume: usize,
        life: u64,
        id: OperationId,
    },
    /// A metadata write ends.
    MetaDone {
        node: usize,
        volume: usize,
        life: u64,
        id: OperationId,
    },
    /// Both nodes that seek each other meet.
    Meet,
    /// A node learns that the link stands.
    LinkUp { node: usize, life: u64, link: u64 },
    /// A node learns that the link is gone.
    LinkDown {
        node: usize,
        life: u64,
        link: u64,
        loss: LinkLoss,
    },
    /// The next piece of a stream arrives.
    Arrive { link: u64, to: usize, lane: usize },
    /// A client does something.
    Client { client: u64 },
    /// A client goes away.
    GiveUp { client: u64 },
    /// Something goes wrong, or someone commands something.
    Fault,
    /// The operator looks whether anything is to be done.
    Watch,
    /// A machine comes up.
    Start { node: usize },
    /// A process dies, or with `power` its machine.
    Crash { node: usize, power: bool },
    /// A clock jumps ahead, by so many nanoseconds.
    ClockJump { node: usize, ahead: u64 },
    /// Every link is cut.
    Cut,
    /// The network works again.
    Repair,
    /// Somebody has looked how large a disk is.
    Measured {
        node: usize,
        volume: usize,
        life: u64,
        id: OperationId,
    },
    /// It is noted where metadata is, or whoever does that says so.
    EndNoted(EndNote),
    /// A handler ends.
    HandlerDone(HandlerEnd),
    /// A command is given.
    Order { node: usize, life: u64, wish: Wish },
}

/// What is known of a volume, whichever node is asked.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) registers: Registers,
    pub(super) pair: PairCheck,
    pub(super) scrub: Scrub,
    /// The largest size a Primary's clients have seen.
    pub(super) shown_bytes: u64,
}

impl Record {
    fn new(volume: usize, most_bytes: u64) -> Self {
        Self {
            registers: Registers::of_volume(volume as u64),
            pair: PairCheck::new(most_bytes / 4096),
            scrub: Scrub::default(),
            shown_bytes: 0,
        }
    }
}

struct Queued {
    at: u64,
    number: u64,
    what: Happening,
}

/// All there is.
pub(super) struct World {
    pub(super) now: u64,
    pub(super) random: Random,
    pub(super) options: Options,
    pub(super) nodes: [Node; 2],
    pub(super) links: BTreeMap<u64, Link>,
    pub(super) next_name: u64,
    pub(super) network_works: bool,
    pub(super) meeting: bool,
    pub(super) records: Vec<Record>,
    pub(super) operations: BTreeMap<u64, Operation>,
    pub(super) cluster: Cluster,
    pub(super) calls: BTreeMap<u64, (usize, Wish)>,
    pub(super) set_up: bool,
    pub(super) faults_allowed: bool,
    pub(super) clients_allowed: bool,
    /// When clients and faults began their work.
    pub(super) began: u64,
    /// A careless operator may have made two histories of one.
    pub(super) is_forked: bool,
    /// Which node was promoted last.
    pub(super) last_primary: Option<usize>,
    /// Faults so far.
    pub(super) faults: u64,
    /// How often each client has asked for something.
    pub(super) steps: BTreeMap<u64, u64>,
    /// What is left out of this run.
    pub(super) without: Without,
    pub(super) report: Report,
    /// What is remembered to tell rare situations.
    pub(super) watches: [Watch; 2],
    pub(super) failure: Option<String>,
    /// Room for the list of blocks an event has changed.
    pub(super) changed: Vec<u64>,
    pub(super) actions: Vec<Action<Payload>>,
    queue: BinaryHeap<Reverse<Queued>>,
    queued: u64,
    trace: Option<VecDeque<String>>,
}

impl World {
    pub(super) fn new(
        seed: u64,
        options: Options,
        without: Without,
        random: Random,
        traced: bool,
    ) -> Self {
        let nodes = [Node::new(0, &options), Node::new(1, &options)];
        let records = (0..options.volumes)
            .map(|volume| Record::new(volume, options.most_bytes))
            .collect();
        Self {
            now: 0,
            random,
            options,
            nodes,
            links: BTreeMap::new(),
            next_name: 0,
            network_works: true,
            meeting: false,
            records,
            operations: BTreeMap::new(),
            cluster: Cluster::default(),
            calls: BTreeMap::new(),
            set_up: false,
            faults_allowed: false,
            clients_allowed: false,
            began: 0,
            is_forked: false,
            last_primary: None,
            faults: 0,
            steps: BTreeMap::new(),
            without,
            report: Report {
                seed,
                ..Report::default()
            },
            watches: Default::default(),
            failure: None,
            changed: Vec::new(),
            actions: Vec::new(),
            queue: BinaryHeap::new(),
            queued: 0,
            trace: traced.then(VecDeque::new),
        }
    }

    /// Lets things happen until `until`, or until something is wrong.
    pub(super) fn run_until(&mut self, until: u64) -> Result<(), Box<Failure>> {
        self.run_while(until, |_| true).map(|_| ())
    }

    /// Lets things happen while `wanted`; false when `until` came first.
    pub(super) fn run_while(
        &mut self,
        until: u64,
        wanted: impl Fn(&Self) -> bool,
    ) -> Result<bool, Box<Failure>> {
        while wanted(self) {
            match self.queue.peek() {
                Some(Reverse(next)) if next.at <= until => {}
                _ => {
                    self.now = self.now.max(until);
                    return Ok(false);
                }
            }
            let Some(Reverse(next)) = self.queue.pop() else {
                return Ok(false);
            };
            self.now = self.now.max(next.at);
            self.report.events += 1;
            self.report.mix(self.now ^ next.number);
            self.happen(next.what);
            self.check_pair();
            if self.report.events > MOST_EVENTS {
                self.violation("L2: more happens than any seed has a reason for");
            }
            if let Some(text) = self.failure.take() {
                return Err(self.fail(&text));
            }
        }
        Ok(true)
    }

    pub(super) fn fail(&mut self, text: &str) -> Box<Failure> {
        Box::new(Failure {
            report: self.report.clone(),
            text: format!("at {}: {text}", micros(self.now)),
            trace: self.trace.take().unwrap_or_default().into(),
            faults: self.faults,
            requests: self.steps.clone(),
            at_ms: self.now.saturating_sub(self.began) / 1_000_000,
        })
    }

    /// Notes that something must not have happened. The first one counts.
    pub(super) fn violation(&mut self, text: impl Into<String>) {
        self.failure.get_or_insert(text.into());
    }

    pub(super) fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            if trace.len() >= TRACE_LENGTH {
                trace.pop_front();
            }
            trace.push_back(format!("{} {}", micros(self.now), text()));
        }
    }

    pub(super) fn is_traced(&self) -> bool {
        self.trace.is_some()
    }

    /// The trace so far, if it is kept.
    pub(super) fn take_trace(&mut self) -> Vec<String> {
        self.trace.take().unwrap_or_default().into()
    }

    pub(super) fn after_us(&mut self, micros: u64, what: Happening) {
        self.at(self.now + micros * 1_000, what);
    }

    pub(super) fn at(&mut self, at: u64, what: Happening) {
        self.queued += 1;
        self.queue.push(Reverse(Queued {
            at,
            number: self.queued,
            what,
        }));
    }

    pub(super) fn name(&mut self) -> u64 {
        self.next_name += 1;
        self.next_name
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Timer { node, life, wake } => {
                if self.lives(node, life) && self.nodes[node].wake == wake {
                    self.timer(node);
                }
            }
            Happening::DiskDone {
                node,
                volume,
                life,
                id,
            } => self.disk_done((node, volume), life, id, false),
            Happening::MetaDone {
                node,
                volume,
                life,
                id,
            } => self.disk_done((node, volume), life, id, true),
            Happening::Crash { node, power } => {
                if self.faults_allowed {
                    self.crash(node, power);
                }
            }
            Happening::Meet => self.meet(),
            Happening::LinkUp { node, life, link } => {
                if self.lives(node, life) {
                    self.link_up(node, link);
                }
            }
            Happening::LinkDown {
                node,
                life,
                link,
                loss,
            } => {
                if self.lives(node, life) {
                    self.link_down(node, link, loss);
                }
            }
            Happening::Arrive { link, to, lane } => self.arrive(link, to, lane),
            Happening::Client { client } => self.client_step(client),
            Happening::GiveUp { client } => self.give_up(client),
            Happening::Fault => self.fault(),
            Happening::Watch => self.watch(),
            Happening::Start { node } => self.start_node(node),
            Happening::Cut => {
                if self.faults_allowed {
                    self.cut_links(false);
                }
            }
            Happening::Repair => {
                self.note(|| "network works".into());
                self.network_works = true;
                self.try_meet(0);
            }
            Happening::ClockJump { node, ahead } => self.clock_jumps(node, ahead),
            Happening::Measured {
                node,
                volume,
                life,
                id,
            } => self.measured((node, volume), life, id),
            Happening::EndNoted(note) => self.end_noted(note),
            Happening::HandlerDone(end) => self.handler_ended(&end),
            Happening::Order { node, life, wish } => {
                if self.lives(node, life) {
                    self.order(node, wish);
                }
            }
        }
    }

    /// Which volumes there are.
    pub(super) fn volumes(&self) -> Range<usize> {
        0..self.options.volumes
    }

    /// One of the volumes. Where there is but one, chance is not asked.
    pub(super) fn any_volume(&mut self) -> usize {
        match self.options.volumes {
            1 => 0,
            many => usize::try_from(self.random.below(many as u64)).unwrap_or(0),
        }
    }

    pub(super) fn lives(&self, node: usize, life: u64) -> bool {
        self.nodes[node].life == life && self.nodes[node].engine.is_some()
    }
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

fn micros(now: u64) -> String {
    format!("{:>10}.{:06}", now / 1_000_000_000, now / 1_000 % 1_000_000)
}

const TRACE_LENGTH: usize = 20_000;

/// Far more than any seed needs: nodes that go round in circles, at no time a wait that ends. Hours
/// of processes that are killed and copy, block by block, a disk that cannot be read take millions.
const MOST_EVENTS: u64 = 20_000_000;
