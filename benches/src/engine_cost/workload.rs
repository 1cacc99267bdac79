//! What is done to an engine while it is measured, and by what it is measured against.
//!
//! A workload plays everything around one engine: client, disk and peer. Each asked-for operation
//! is answered in the order asked, so that with N outstanding there really are N in the engine.

use std::collections::VecDeque;

use rbd_engine::{
    Action, DiskRequest, Event, LinkId, OperationId, RequestId, RequestKind, Resource, Time,
};
use rbd_protocol::ids::{BLOCK_SIZE, ByteRange, REGION_SIZE};
use rbd_protocol::peer::{Channel, Packet, Place};

use super::pair::{Payload, VOLUME, VOLUME_BYTES, node_id};

/// What takes events and asks for actions: an engine, or what stands in for one.
pub(super) trait Handler {
    /// Takes one event and appends what is to be done about it.
    fn handle(&mut self, now: Time, event: Event<Payload>, actions: &mut Vec<Action<Payload>>);
}

impl Handler for Resource<Payload> {
    fn handle(&mut self, now: Time, event: Event<Payload>, actions: &mut Vec<Action<Payload>>) {
        Self::handle(self, now, event, actions);
    }
}

/// Asks for the same actions as an engine in the same places, and decides nothing: what is
/// measured with it is the workload itself.
#[derive(Debug)]
pub(super) struct Nothing;

impl Handler for Nothing {
    fn handle(&mut self, _now: Time, event: Event<Payload>, actions: &mut Vec<Action<Payload>>) {
        match event {
            Event::Request {
                id,
                volume,
                range,
                data,
                ..
            } => {
                let packet = Packet::Write {
                    id: id.0,
                    volume,
                    range,
                    fua: false,
                    place: Default::default(),
                };
                actions.push(send(Channel::Data, packet, data));
                actions.push(write(id.0, range, data));
            }
            Event::DiskDone { id, result } => {
                let result = Ok(result.unwrap_or_default());
                let id = RequestId(id.0);
                actions.push(Action::Complete { id, result });
            }
            _ => {}
        }
    }
}

/// Which side of the replication is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// A client's writes come in, and go to the disk and to the peer.
    Primary,
    /// The peer's writes come in, and go to the disk.
    Secondary,
}

/// Client, disk and peer of one engine.
#[derive(Debug)]
pub(super) struct Workload {
    side: Side,
    depth: usize,
    link: LinkId,
    /// Clock of the engine: moves by one write's pace with each write.
    now: Time,
    wake: Option<Time>,
    /// Answers that are still to be given.
    answers: VecDeque<Event<Payload>>,
    outstanding: usize,
    started: u64,
    finished: u64,
    state: u64,
}

impl Workload {
    /// Keeps `depth` writes outstanding.
    pub(super) fn new(side: Side, depth: usize, link: LinkId) -> Self {
        Self {
            side,
            depth,
            link,
            now: Time(2),
            wake: None,
            answers: VecDeque::new(),
            outstanding: 0,
            started: 0,
            finished: 0,
            state: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// Has the engine do `writes` of 4 KiB at random places.
    pub(super) fn run(&mut self, handler: &mut impl Handler, writes: u64) {
        let goal = self.finished + writes;
        let mut actions = Vec::new();
        while self.finished < goal {
            let offset = self.random() % (VOLUME_BYTES / u64::from(BLOCK_SIZE));
            self.step(handler, offset * u64::from(BLOCK_SIZE), &mut actions);
        }
    }

    /// The engine's time.
    #[cfg(test)]
    pub(super) fn now(&self) -> Time {
        self.now
    }

    /// Writes to each region once, so that none has to be marked later.
    pub(super) fn warm(&mut self, handler: &mut impl Handler) -> Result<(), String> {
        let mut actions = Vec::new();
        let regions = warm_writes();
        for region in 0..regions {
            self.step(handler, region * REGION_SIZE, &mut actions);
        }
        let mut patience = 100 * regions;
        while self.outstanding > 0 {
            let Some(answer) = self.answers.pop_front() else {
                return Err(format!(
                    "the engine left {} of {regions} writes unfinished",
                    self.outstanding
                ));
            };
            patience -= 1;
            if patience == 0 {
                return Err("the engine does not come to rest".to_owned());
            }
            self.deliver(handler, answer, &mut actions);
        }
        Ok(())
    }

    /// Starts a write and gives answers until there is room for the next.
    fn step(
        &mut self,
        handler: &mut impl Handler,
        offset: u64,
        actions: &mut Vec<Action<Payload>>,
    ) {
        let write = self.next_write(offset);
        self.deliver(handler, write, actions);
        if self.wake.is_some_and(|wake| wake <= self.now) {
            self.wake = None;
            self.deliver(handler, Event::Timer, actions);
        }
        while self.outstanding >= self.depth {
            let Some(answer) = self.answers.pop_front() else {
                return;
            };
            self.deliver(handler, answer, actions);
        }
    }

    fn next_write(&mut self, offset: u64) -> Event<Payload> {
        self.now = Time(self.now.0 + PACE_NS);
        self.started += 1;
        self.outstanding += 1;
        let range = ByteRange::new(offset, BLOCK_SIZE);
        match self.side {
            Side::Primary => Event::Request {
                id: RequestId(self.started),
                volume: VOLUME,
                kind: RequestKind::Write { fua: false },
                range,
                data: Some(0),
            },
            Side::Secondary => {
                let packet = Packet::Write {
                    id: self.started,
                    volume: VOLUME,
                    range,
                    fua: false,
                    place: Place {
                        seen: 0,
                        behind: u16::try_from(self.depth).unwrap_or(u16::MAX),
                    },
                };
                self.packet(packet, Some(0))
            }
        }
    }

    fn deliver(
        &mut self,
        handler: &mut impl Handler,
        event: Event<Payload>,
        actions: &mut Vec<Action<Payload>>,
    ) {
        handler.handle(self.now, event, actions);
        for action in actions.drain(..) {
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action<Payload>) {
        let answer = match action {
            Action::Disk { id, .. } => Event::DiskDone {
                id,
                result: Ok(None),
            },
            Action::Meta { id, .. } => Event::MetaDone { id, result: Ok(()) },
            Action::Send { packet, .. } => match packet {
                Packet::Write { id, volume, .. } => {
                    self.packet(Packet::WriteAck { id, volume }, None)
                }
                Packet::Flush { id, volume } => self.packet(Packet::FlushAck { id, volume }, None),
                Packet::Ping { id } => self.packet(Packet::PingAck { id }, None),
                Packet::WriteAck { .. } => return self.finish(),
                _ => return,
            },
            Action::Complete { .. } => return self.finish(),
            Action::WakeAt(time) => {
                self.wake = Some(time);
                return;
            }
            _ => return,
        };
        self.answers.push_back(answer);
    }

    fn finish(&mut self) {
        self.outstanding -= 1;
        self.finished += 1;
    }

    fn packet(&self, packet: Packet, data: Option<Payload>) -> Event<Payload> {
        let peer = match self.side {
            Side::Primary => node_id(1),
            Side::Secondary => node_id(0),
        };
        let link = self.link;
        Event::Packet {
            peer,
            link,
            packet,
            data,
        }
    }

    fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }
}

/// How many writes [`Workload::warm`] makes.
pub(super) fn warm_writes() -> u64 {
    VOLUME_BYTES / REGION_SIZE
}

fn send(channel: Channel, packet: Packet, data: Option<Payload>) -> Action<Payload> {
    Action::Send {
        peer: node_id(1),
        link: LinkId(1),
        channel,
        packet,
        data,
    }
}

fn write(id: u64, range: ByteRange, data: Option<Payload>) -> Action<Payload> {
    Action::Disk {
        id: OperationId(id),
        volume: VOLUME,
        request: DiskRequest::Write { fua: false },
        range,
        data,
    }
}

/// Time between two writes: 50 000 a second, so that timers fire as often as under load.
const PACE_NS: u64 = 20_000;
