//! Links to peers: a pair of sockets each, packets in and packets out.
//!
//! A packet reaches the engine only when all of it has arrived and its checksums fit. A link ends
//! once: when its last operation has come back from the kernel the engine is told, and no packet
//! of it is delivered after that. Nothing here decides what a packet means or when to connect.

use std::os::fd::OwnedFd;

use rbd_engine::{Event, LinkId, LinkLoss, Room, Time};
use rbd_protocol::ids::NodeId;
use rbd_protocol::peer::{Channel, HEADER_BYTES, Header, Packet, WireError};
use tracing::{debug, warn};

use super::buffer::{Buffer, Pool};
use super::ring::{Completion, Ring};
use super::slab::Slab;
use super::stream::Stream;
use super::{Socket, Token};

/// All links of one resource.
#[derive(Debug)]
pub(super) struct Links {
    pool: Pool,
    links: Slab<Link>,
    next_id: u64,
    /// Links whose peer still has an older one, which has to end first.
    waiting: Vec<Arrival>,
}

#[derive(Debug)]
struct Arrival {
    peer: NodeId,
    data: OwnedFd,
    control: OwnedFd,
}

#[derive(Debug)]
struct Link {
    peer: NodeId,
    id: LinkId,
    data: Lane,
    control: Lane,
    stage: Stage,
}

/// One of a link's two connections.
#[derive(Debug)]
struct Lane {
    stream: Stream,
    /// Of the packet whose payload is being gathered.
    header: Option<Header>,
}

/// The life of a link, in this order; stages may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Up,
    /// One connection has ended. The other one is heard until it ends too or the time has come:
    /// a goodbye may still be in it.
    Ending {
        until: Time,
    },
    /// What was sent goes out, what arrives is thrown away, until the peer has closed its side or
    /// the time has come.
    Draining {
        loss: LinkLoss,
        until: Time,
        told: bool,
    },
    /// The sockets are shut; the kernel gives back what it holds.
    Closing {
        loss: LinkLoss,
    },
}

/// What came out of looking at a connection.
#[derive(Debug)]
pub(super) enum Found {
    /// A packet.
    Event(Event<Buffer>),
    /// Nothing until more arrives.
    Nothing,
    /// Perhaps something, but the engine has no room now.
    Stalled,
}

impl Links {
    pub(super) fn new(pool: Pool) -> Self {
        Self {
            pool,
            links: Slab::default(),
            next_id: 1,
            waiting: Vec::new(),
        }
    }

    /// Takes over a pair of sockets. An older link to the same peer ends first.
    pub(super) fn arrive(&mut self, peer: NodeId, data: OwnedFd, control: OwnedFd) {
        self.waiting.retain(|arrival| arrival.peer != peer);
        self.waiting.push(Arrival {
            peer,
            data,
            control,
        });
        for key in 0..self.links.bound() {
            if let Some(link) = self.links.get_mut(key)
                && link.peer == peer
            {
                link.close(LinkLoss::Closed);
            }
        }
    }

    /// Queues a packet. Without effect when the link is gone or going.
    pub(super) fn send(
        &mut self,
        id: LinkId,
        channel: Channel,
        packet: &Packet,
        data: Option<Buffer>,
    ) {
        let Some(link) = self.find(id) else { return };
        if !link.delivers() {
            return;
        }
        let outgoing = link.lane(channel).stream.outgoing();
        let bulk = data.as_ref().map_or(&[][..], Buffer::bytes);
        outgoing.append(|bytes| packet.encode(bulk, bytes));
        if let Some(data) = data {
            outgoing.append_payload(data);
        }
    }

    /// Ends the link, after what was sent has gone out where that can matter.
    pub(super) fn drop_link(&mut self, id: LinkId, loss: LinkLoss, now: Time) {
        let Some(link) = self.find(id) else { return };
        if !link.delivers() {
            return;
        }
        match loss {
            LinkLoss::Goodbye | LinkLoss::Commanded | LinkLoss::Renegotiate | LinkLoss::Refused => {
                let until = now.plus_ms(DRAIN_MS);
                link.stage = Stage::Draining {
                    loss,
                    until,
                    told: false,
                };
            }
            // Nobody is there to hear it.
            LinkLoss::Closed | LinkLoss::Timeout | LinkLoss::Protocol => link.close(loss),
        }
    }

    /// Ends all links, as for a command.
    pub(super) fn drop_all(&mut self, now: Time) {
        self.waiting.clear();
        for key in 0..self.links.bound() {
            if let Some(id) = self.links.get(key).map(|link| link.id) {
                self.drop_link(id, LinkLoss::Commanded, now);
            }
        }
    }

    /// Whether there is no link, nor one on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.links.is_empty() && self.waiting.is_empty()
    }

    /// The peer at the other end.
    pub(super) fn peer(&self, key: usize) -> Option<NodeId> {
        self.links.get(key).map(|link| link.peer)
    }

    /// A receive is over.
    pub(super) fn received(&mut self, key: usize, channel: Channel, completion: Completion<Token>) {
        if let Some(link) = self.links.get_mut(key) {
            link.lane(channel).stream.received(completion);
        }
    }

    /// A send is over.
    pub(super) fn sent(&mut self, key: usize, channel: Channel, completion: Completion<Token>) {
        if let Some(link) = self.links.get_mut(key) {
            link.lane(channel).stream.sent(completion);
        }
    }

    /// The next packet that has arrived, if the engine has room for it.
    pub(super) fn next(&mut self, key: usize, channel: Channel, room: Room) -> Found {
        let Some(link) = self.links.get_mut(key).filter(|link| link.delivers()) else {
            return Found::Nothing;
        };
        if channel == Channel::Data && (room.requests == 0 || room.bytes == 0) {
            return Found::Stalled;
        }
        match link.lane(channel).next(&self.pool) {
            Ok(Some((packet, data))) => Found::Event(Event::Packet {
                peer: link.peer,
                link: link.id,
                packet,
                data,
            }),
            Ok(None) => Found::Nothing,
            Err(error) => {
                warn!(peer = %link.peer, ?channel, %error, "the peer breaks the protocol");
                link.close(LinkLoss::Protocol);
                Found::Nothing
            }
        }
    }

    /// Asks for more bytes on one connection.
    pub(super) fn receive(&mut self, ring: &mut Ring<Token>, key: usize, channel: Channel) {
        if let Some(link) = self.links.get_mut(key) {
            let token = Token::Receive(Socket::Link(key, channel));
            link.lane(channel).stream.receive(ring, token);
        }
    }

    /// Once a turn: moves links on in their lives, sends what was queued, and says through
    /// `events` which links came up and went down.
    pub(super) fn settle(
        &mut self,
        ring: &mut Ring<Token>,
        now: Time,
        mut events: impl FnMut(Event<Buffer>),
    ) {
        for key in 0..self.links.bound() {
            let Some(link) = self.links.get_mut(key) else {
                continue;
            };
            link.settle(ring, key, now);
            if let Stage::Closing { loss } = link.stage
                && link.is_idle()
                && let Some(link) = self.links.remove(key)
            {
                debug!(peer = %link.peer, ?loss, "link closed");
                let Link { peer, id, .. } = link;
                events(Event::LinkDown {
                    peer,
                    link: id,
                    loss,
                });
            }
        }
        for index in (0..self.waiting.len()).rev() {
            let peer = self.waiting[index].peer;
            if self.links.iter().all(|(_, link)| link.peer != peer) {
                let arrival = self.waiting.swap_remove(index);
                events(self.admit(ring, arrival));
            }
        }
    }

    /// When [`settle`](Self::settle) has to be called again at the latest.
    pub(super) fn deadline(&self) -> Option<Time> {
        let deadlines = self.links.iter().filter_map(|(_, link)| match link.stage {
            Stage::Ending { until } | Stage::Draining { until, .. } => Some(until),
            Stage::Up | Stage::Closing { .. } => None,
        });
        deadlines.min()
    }

    fn admit(&mut self, ring: &mut Ring<Token>, arrival: Arrival) -> Event<Buffer> {
        let Arrival {
            peer,
            data,
            control,
        } = arrival;
        let id = LinkId(self.next_id);
        self.next_id += 1;
        let key = self.links.insert(Link {
            peer,
            id,
            data: Lane::new(data),
            control: Lane::new(control),
            stage: Stage::Up,
        });
        self.receive(ring, key, Channel::Data);
        self.receive(ring, key, Channel::Control);
        Event::LinkUp { peer, link: id }
    }

    fn find(&mut self, id: LinkId) -> Option<&mut Link> {
        let key = self.links.iter().find(|(_, link)| link.id == id)?.0;
        self.links.get_mut(key)
    }
}

impl Link {
    fn lane(&mut self, channel: Channel) -> &mut Lane {
        match channel {
            Channel::Data => &mut self.data,
            Channel::Control => &mut self.control,
        }
    }

    /// Whether packets still pass between the engine and the peer.
    fn delivers(&self) -> bool {
        matches!(self.stage, Stage::Up | Stage::Ending { .. })
    }

    fn is_idle(&self) -> bool {
        self.data.stream.is_idle() && self.control.stream.is_idle()
    }

    fn close(&mut self, loss: LinkLoss) {
        // A reason that was given before is kept: the engine knows it.
        let loss = match self.stage {
            Stage::Draining { loss, .. } | Stage::Closing { loss } => loss,
            Stage::Up | Stage::Ending { .. } => loss,
        };
        self.stage = Stage::Closing { loss };
        self.data.stream.close();
        self.control.stream.close();
    }

    fn settle(&mut self, ring: &mut Ring<Token>, key: usize, now: Time) {
        self.send(ring, key);
        match self.stage {
            Stage::Up => {
                if self.data.is_over() || self.control.is_over() {
                    self.stage = Stage::Ending {
                        until: now.plus_ms(LAST_WORDS_MS),
                    };
                    self.settle_ending(now);
                }
            }
            Stage::Ending { .. } => self.settle_ending(now),
            Stage::Draining { loss, until, told } => {
                self.discard(ring, key);
                self.settle_draining(loss, until, told, now);
            }
            Stage::Closing { .. } => {}
        }
    }

    fn settle_ending(&mut self, now: Time) {
        let is_over = self.data.is_over() && self.control.is_over();
        if let Stage::Ending { until } = self.stage
            && (is_over || now >= until)
        {
            self.close(LinkLoss::Closed);
        }
    }

    fn settle_draining(&mut self, loss: LinkLoss, until: Time, told: bool, now: Time) {
        let lanes = [&self.data.stream, &self.control.stream];
        let is_heard = lanes.iter().all(|stream| stream.is_inbound_over());
        if now >= until || (told && is_heard) {
            self.close(loss);
        } else if !told && lanes.iter().all(|stream| stream.has_sent_all()) {
            lanes.iter().for_each(|stream| stream.close_outbound());
            self.stage = Stage::Draining {
                loss,
                until,
                told: true,
            };
        }
    }

    fn send(&mut self, ring: &mut Ring<Token>, key: usize) {
        for channel in [Channel::Data, Channel::Control] {
            let token = Token::Send(Socket::Link(key, channel));
            self.lane(channel).stream.send(ring, token);
        }
    }

    /// Receives only to throw away: unread bytes would make the kernel reset the connection and
    /// with it what the peer has not read yet.
    fn discard(&mut self, ring: &mut Ring<Token>, key: usize) {
        for channel in [Channel::Data, Channel::Control] {
            let lane = self.lane(channel);
            lane.stream.forget_inbound();
            lane.stream
                .receive(ring, Token::Receive(Socket::Link(key, channel)));
        }
    }
}

impl Lane {
    fn new(socket: OwnedFd) -> Self {
        Self {
            stream: Stream::new(socket, &[]),
            header: None,
        }
    }

    fn is_over(&self) -> bool {
        self.stream.is_inbound_over() || self.stream.is_outbound_over()
    }

    fn next(&mut self, pool: &Pool) -> Result<Option<(Packet, Option<Buffer>)>, WireError> {
        let header = match self.header {
            Some(header) => header,
            None => {
                let Some(bytes) = self.stream.peek(HEADER_BYTES) else {
                    return Ok(None);
                };
                let bytes = bytes.first_chunk().expect("as many bytes were asked for");
                let header = Header::decode(bytes)?;
                self.stream.consume(HEADER_BYTES);
                if header.payload_length == 0 {
                    header.check_payload(&[])?;
                    let data = header.kind.is_bulk().then(|| pool.take(0));
                    return Ok(Some((Packet::decode(&header, &[])?, data)));
                }
                let length = usize::try_from(header.payload_length).unwrap_or(usize::MAX);
                self.stream.gather(pool.take(length));
                self.header = Some(header);
                header
            }
        };
        let Some(payload) = self.stream.gathered() else {
            return Ok(None);
        };
        self.header = None;
        if payload.checksum() != header.payload_crc {
            return Err(WireError::PayloadChecksum { kind: header.kind });
        }
        if header.kind.is_bulk() {
            Ok(Some((Packet::decode(&header, &[])?, Some(payload))))
        } else {
            Ok(Some((Packet::decode(&header, payload.bytes())?, None)))
        }
    }
}

/// How long a link that was ended on purpose waits for the peer to take the last packets.
const DRAIN_MS: u64 = 1_000;

/// How long one connection is still heard after the other one has ended.
const LAST_WORDS_MS: u64 = 1_000;
