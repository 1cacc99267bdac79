//! Everything there is in a run, and the queue of what happens when.
//!
//! The world performs the engines' actions and tells them what came of it, as the daemon does; in
//! between it lets as much time pass, and in such an order, as chance will have it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use rbd_engine::{
    Action, CallId, Command, DiskRequest, Event, LinkId, LinkLoss, OperationId, RequestError,
    RequestId, Seek, Time,
};
use rbd_protocol::control::Refusal;

use super::client::Operation;
use super::disk::Payload;
use super::fencing::HandlerEnd;
use super::marks::Watch;
use super::network::Link;
use super::node::{Node, VOLUME, node_id};
use super::operator::Wish;
use super::profile::Options;
use super::random::Random;
use super::report::{Failure, Report};
use super::visited::{name as event_name, situation};
use super::wire::Parcel;
use crate::check::{PairCheck, Registers};

/// Something that is going to happen.
#[derive(Debug)]
pub(super) enum Happening {
    /// The engine's timer.
    Timer { node: usize, life: u64, wake: u64 },
    /// A disk operation ends.
    DiskDone {
        node: usize,
        life: u64,
        id: OperationId,
    },
    /// A metadata write ends.
    MetaDone {
        node: usize,
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
    /// A packet arrives.
    Arrive {
        link: u64,
        to: usize,
        lane: usize,
        number: u64,
        parcel: Parcel,
    },
    /// A client does something.
    Client { client: u64 },
    /// Something goes wrong, or someone commands something.
    Fault,
    /// The operator looks whether anything is to be done.
    Watch,
    /// A machine comes up.
    Start { node: usize },
    /// The network works again.
    Repair,
    /// A handler ends.
    HandlerDone(HandlerEnd),
    /// A command is given.
    Order { node: usize, life: u64, wish: Wish },
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
    pub(super) packets_under_way: u64,
    pub(super) registers: Registers,
    pub(super) pair: PairCheck,
    pub(super) operations: BTreeMap<u64, Operation>,
    pub(super) calls: BTreeMap<u64, (usize, Wish)>,
    pub(super) set_up: bool,
    pub(super) faults_allowed: bool,
    pub(super) clients_allowed: bool,
    pub(super) report: Report,
    /// What is remembered to tell rare situations.
    pub(super) watches: [Watch; 2],
    pub(super) failure: Option<String>,
    /// Room for the list of blocks an event has changed.
    pub(super) changed: Vec<u64>,
    actions: Vec<Action<Payload>>,
    queue: BinaryHeap<Reverse<Queued>>,
    queued: u64,
    trace: Option<VecDeque<String>>,
}

impl World {
    pub(super) fn new(seed: u64, options: Options, random: Random, traced: bool) -> Self {
        let nodes = [Node::new(0, &options), Node::new(1, &options)];
        let pair = PairCheck::new(options.size_bytes / 4096);
        Self {
            now: 0,
            random,
            options,
            nodes,
            links: BTreeMap::new(),
            next_name: 0,
            network_works: true,
            meeting: false,
            packets_under_way: 0,
            registers: Registers::default(),
            pair,
            operations: BTreeMap::new(),
            calls: BTreeMap::new(),
            set_up: false,
            faults_allowed: false,
            clients_allowed: false,
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

    pub(super) fn time(&self) -> Time {
        Time(self.now)
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Timer { node, life, wake } => {
                if self.lives(node, life) && self.nodes[node].wake == wake {
                    self.tell(node, Event::Timer);
                }
            }
            Happening::DiskDone { node, life, id } => {
                if self.lives(node, life) {
                    let data = self.nodes[node].disk.complete(id);
                    self.tell(
                        node,
                        Event::DiskDone {
                            id,
                            result: Ok(data),
                        },
                    );
                }
            }
            Happening::MetaDone { node, life, id } => {
                if self.lives(node, life) {
                    self.nodes[node].disk.complete(id);
                    self.tell(node, Event::MetaDone { id, result: Ok(()) });
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
            Happening::Arrive {
                link,
                to,
                lane,
                number,
                parcel,
            } => self.arrive(link, to, lane, number, parcel),
            Happening::Client { client } => self.client_step(client),
            Happening::Fault => self.fault(),
            Happening::Watch => self.watch(),
            Happening::Start { node } => self.start_node(node),
            Happening::Repair => {
                self.note(|| "network works".into());
                self.network_works = true;
                self.try_meet(0);
            }
            Happening::HandlerDone(end) => self.handler_ended(&end),
            Happening::Order { node, life, wish } => {
                if self.lives(node, life) {
                    self.order(node, wish);
                }
            }
        }
    }

    pub(super) fn lives(&self, node: usize, life: u64) -> bool {
        self.nodes[node].life == life && self.nodes[node].engine.is_some()
    }

    /// Tells an engine something and does what it asks for.
    pub(super) fn tell(&mut self, node: usize, event: Event<Payload>) {
        let now = self.time();
        self.note(|| format!("  {node} <- {}", shorten(&event)));
        self.watch_event(node, &event);
        let mut actions = std::mem::take(&mut self.actions);
        let Some(engine) = &mut self.nodes[node].engine else {
            return;
        };
        if let Some(visited) = &mut self.report.visited {
            let situation = situation(&engine.status(now));
            visited.note(situation, event_name(situation, &event));
        }
        engine.handle(now, event, &mut actions);
        let dies = std::mem::take(&mut self.nodes[node].dies_next) && !actions.is_empty();
        let keep = if dies {
            self.random
                .below(u64::try_from(actions.len()).unwrap_or(1) + 1)
        } else {
            u64::MAX
        };
        for (index, action) in (0_u64..).zip(actions.drain(..)) {
            if index >= keep {
                break;
            }
            if self.is_traced() {
                self.note(|| format!("    {node} -> {}", shorten(&action)));
            }
            self.watch_action(node, &action);
            self.perform(node, action);
        }
        self.actions = actions;
        if dies {
            self.kill(node);
        }
    }

    fn perform(&mut self, node: usize, action: Action<Payload>) {
        let life = self.nodes[node].life;
        match action {
            Action::Disk {
                id,
                request,
                range,
                data,
                ..
            } => {
                let result = self.nodes[node].disk.submit(
                    id,
                    request,
                    range,
                    data.as_ref(),
                    &mut self.random,
                );
                if let Err(text) = result {
                    self.violation(format!("node {node}: {text}"));
                }
                let (low, high) = self.options.disk_us;
                let slow = if request == DiskRequest::Flush { 4 } else { 1 };
                let delay = self.random.magnitude(low, high) * slow;
                self.after_us(delay, Happening::DiskDone { node, life, id });
            }
            Action::Meta {
                id, offset, block, ..
            } => {
                if let Err(text) = self.nodes[node].disk.submit_metadata(id, offset, block) {
                    self.violation(format!("node {node}: {text}"));
                }
                let (low, high) = self.options.disk_us;
                let delay = self.random.magnitude(low, high) * 4;
                self.after_us(delay, Happening::MetaDone { node, life, id });
            }
            Action::Send {
                link,
                channel,
                packet,
                data,
                ..
            } => self.send(node, link, channel, &packet, data.as_ref()),
            Action::DropLink { link, loss, .. } => {
                if loss == LinkLoss::Protocol {
                    self.violation(format!("node {node} says that its peer broke the protocol"));
                }
                self.drop_link(node, link, loss);
            }
            Action::SeekLink { seek, .. } => {
                self.nodes[node].seeking = seek != Seek::Stop;
                let pause = u64::from(self.options.connect_ms) * 1_000;
                self.try_meet(match seek {
                    Seek::Stop | Seek::AtOnce => 0,
                    Seek::Soon => pause,
                    Seek::Patiently => pause * 6,
                });
            }
            Action::Complete { id, result } => self.completed(node, id, result),
            Action::Reply { call, result } => self.replied(node, call, result),
            Action::WakeAt(time) => {
                let wake = self.name();
                self.nodes[node].wake = wake;
                let at = time.0.max(self.now);
                self.at(at, Happening::Timer { node, life, wake });
            }
            Action::ReleaseDisk { .. } => self.nodes[node].attached = false,
            Action::CloseClients { .. } => {
                self.nodes[node].openers = 0;
                self.after_us(
                    1,
                    Happening::Order {
                        node,
                        life,
                        wish: Wish::Openers(0),
                    },
                );
            }
            Action::RunHandler { id, handler, .. } => self.run_handler(node, id, handler),
            Action::Report(_) => {}
        }
    }

    fn completed(
        &mut self,
        node: usize,
        id: RequestId,
        result: Result<Option<Payload>, RequestError>,
    ) {
        match self.operations.remove(&id.0) {
            Some(operation) => self.operation_ended(node, operation, result),
            None => self.violation(format!("node {node}: {id:?} is completed twice")),
        }
    }

    fn replied(&mut self, node: usize, call: CallId, result: Result<Option<String>, Refusal>) {
        match self.calls.remove(&call.0) {
            Some((_, wish)) => self.wish_ended(node, wish, result),
            None => self.violation(format!("node {node}: {call:?} is answered twice")),
        }
    }

    /// Gives a command.
    pub(super) fn command(&mut self, node: usize, wish: Wish, command: Command) {
        let call = self.name();
        self.calls.insert(call, (node, wish));
        self.report.commands += 1;
        self.tell(
            node,
            Event::Command {
                call: CallId(call),
                command,
            },
        );
    }

    /// The process is gone: nobody waits for its answers any more.
    pub(super) fn forget_work_of(&mut self, node: usize) {
        self.calls.retain(|_, (of, _)| *of != node);
        let (gone, rest) = std::mem::take(&mut self.operations)
            .into_iter()
            .partition(|(_, operation)| operation.node == node);
        self.operations = rest;
        let gone: BTreeMap<u64, Operation> = gone;
        for operation in gone.into_values() {
            self.operation_abandoned(&operation);
        }
    }

    pub(super) fn peer_link(&self, node: usize, id: LinkId) -> Option<&Link> {
        self.links.get(&id.0).filter(|link| link.ends[node].open)
    }

    pub(super) fn openers(&mut self, node: usize, count: u32) {
        self.nodes[node].openers = count;
        self.tell(
            node,
            Event::Openers {
                volume: VOLUME,
                count,
            },
        );
    }

    pub(super) fn peer_id(node: usize) -> rbd_protocol::ids::NodeId {
        node_id(1 - node)
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

fn shorten(what: &impl std::fmt::Debug) -> String {
    let mut text = format!("{what:?}");
    if let Some((at, _)) = text.char_indices().nth(1_600) {
        text.truncate(at);
        text.push('…');
    }
    text
}

/// Far more than any seed needs: nodes that go round in circles, at no time a wait that ends.
const MOST_EVENTS: u64 = 500_000;

const TRACE_LENGTH: usize = 20_000;
