//! NBD clients: requests in, replies out.
//!
//! A request reaches the engine only if it may be carried out and all of it has arrived; every
//! request gets one reply, or the connection ends. A client that leaves takes its replies with it,
//! but not its requests: they finish in the engine, and until then it counts as having the volume
//! open. Negotiation is over before a client gets here.
//!
//! The kernel's NBD client, behind a block device, is no opener: who has the device open is. It is
//! sent no error when everything ends, for it asks the next daemon again.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use rbd_engine::{Event, RequestError, RequestId, RequestKind, Room, Time};
use rbd_protocol::ids::{ByteRange, VolumeNumber};
use rbd_protocol::nbd::{Errno, Extent, Request, RequestKind as Asked, Session, SessionError};
use tracing::debug;

use super::buffer::{Buffer, Pool};
use super::link::Found;
use super::ring::{Completion, Ring};
use super::slab::Slab;
use super::stream::Stream;
use super::{Socket, Token};

/// All clients of one resource, and their requests in the engine.
#[derive(Debug)]
pub(super) struct Clients {
    pool: Pool,
    clients: Slab<Client>,
    pending: Slab<Pending>,
    /// Tells apart the requests that had the same place.
    next_generation: u32,
    /// How many clients each volume has, where the engine has been told.
    openers: BTreeMap<VolumeNumber, u32>,
    /// Clients with something to send or that may be over.
    touched: Vec<usize>,
    /// Volumes whose kernel devices have no connection any more, and the numbers of those.
    lost: Vec<(VolumeNumber, u64)>,
    /// The earliest time at which a dismissed client has to be gone.
    deadline: Option<Time>,
}

#[derive(Debug)]
struct Client {
    volume: VolumeNumber,
    /// The number of its connection if it is the kernel, for a block device.
    kernel: Option<u64>,
    session: Session,
    stream: Stream,
    /// Requests in the engine.
    in_flight: u32,
    /// The write whose payload is being gathered.
    arriving: Option<Request>,
    stage: Stage,
    is_touched: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// No more requests; replies go out, until the time has come if there is one.
    Leaving {
        until: Option<Time>,
    },
    /// The socket is shut.
    Closing,
}

/// A request in the engine.
#[derive(Debug)]
struct Pending {
    generation: u32,
    client: usize,
    request: Request,
}

/// What the room asks of its surroundings: which parts of a volume are holes, if that is known.
pub(super) type Holes<'a> = &'a dyn Fn(VolumeNumber, ByteRange) -> Option<Vec<Extent>>;

impl Clients {
    pub(super) fn new(pool: Pool) -> Self {
        Self {
            pool,
            clients: Slab::default(),
            pending: Slab::default(),
            next_generation: 0,
            openers: BTreeMap::new(),
            touched: Vec::new(),
            lost: Vec::new(),
            deadline: None,
        }
    }

    /// Takes a client over; the engine is told that the volume is opened.
    pub(super) fn arrive(
        &mut self,
        volume: VolumeNumber,
        socket: OwnedFd,
        session: Session,
        leftover: &[u8],
    ) -> (usize, Event<Buffer>) {
        let stream = Stream::new(socket, leftover);
        let client = Client::new(volume, session, stream);
        let key = self.clients.insert(client);
        let count = self.openers.entry(volume).or_default();
        *count += 1;
        (
            key,
            Event::Openers {
                volume,
                count: *count,
            },
        )
    }

    /// Takes the kernel's client over.
    pub(super) fn arrive_kernel(
        &mut self,
        volume: VolumeNumber,
        number: u64,
        socket: OwnedFd,
        session: Session,
    ) -> usize {
        let mut client = Client::new(volume, session, Stream::new(socket, &[]));
        client.kernel = Some(number);
        self.clients.insert(client)
    }

    /// The next volume whose kernel device has lost its connection, and which one that was.
    pub(super) fn lost_device(&mut self) -> Option<(VolumeNumber, u64)> {
        self.lost.pop()
    }

    /// How many requests are in the engine.
    pub(super) fn in_flight(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Takes no more requests of a volume's clients, or of all, and closes them when the replies
    /// have gone out or the time has come. A kernel device goes by itself, with its role.
    pub(super) fn dismiss(&mut self, volume: Option<VolumeNumber>, until: Time) {
        self.deadline = Some(self.deadline.map_or(until, |time| time.min(until)));
        for key in 0..self.clients.bound() {
            if let Some(client) = self.clients.get_mut(key)
                && volume.is_none_or(|volume| volume == client.volume && client.kernel.is_none())
                && client.stage != Stage::Closing
            {
                client.stage = Stage::Leaving { until: Some(until) };
                client.arriving = None;
                self.touch(key);
            }
        }
    }

    pub(super) fn received(&mut self, key: usize, completion: Completion<Token>) {
        if let Some(client) = self.clients.get_mut(key) {
            client.stream.received(completion);
        }
    }

    pub(super) fn sent(&mut self, key: usize, completion: Completion<Token>) {
        if let Some(client) = self.clients.get_mut(key) {
            client.stream.sent(completion);
        }
        self.touch(key);
    }

    /// Asks for more bytes of a client that is still heard.
    pub(super) fn receive(&mut self, ring: &mut Ring<Token>, key: usize) {
        if let Some(client) = self.clients.get_mut(key)
            && client.stage == Stage::Open
        {
            client
                .stream
                .receive(ring, Token::Receive(Socket::Client(key)));
            if client.stream.is_inbound_over() {
                client.stage = Stage::Leaving { until: None };
            }
        }
        self.touch(key);
    }

    /// The next request for the engine, if it has room for one.
    pub(super) fn next(&mut self, key: usize, room: Room, holes: Holes<'_>) -> Found {
        let Some(client) = self.clients.get_mut(key) else {
            return Found::Nothing;
        };
        loop {
            if client.stage != Stage::Open {
                return Found::Nothing;
            }
            if client.is_full() || room.requests == 0 || room.bytes == 0 {
                return Found::Stalled;
            }
            if let Some(request) = client.arriving {
                let Some(data) = client.stream.gathered() else {
                    return Found::Nothing;
                };
                client.arriving = None;
                return Found::Event(self.submit(key, request, Some(data)));
            }
            let Some(header) = client.stream.peek(client.session.request_header_len()) else {
                return Found::Nothing;
            };
            let decoded = client.session.decode(header);
            client.stream.consume(client.session.request_header_len());
            match decoded {
                Ok(request) if client.accepts(&request, &self.pool, holes) => {
                    return Found::Event(self.submit(key, request, None));
                }
                Ok(_) => {}
                Err(error) => client.give_up(error),
            }
        }
    }

    /// The engine has finished a request.
    pub(super) fn complete(&mut self, id: RequestId, result: Result<Option<Buffer>, RequestError>) {
        let Some(Pending {
            client: key,
            request,
            ..
        }) = self.take_pending(id)
        else {
            return;
        };
        if let Some(client) = self.clients.get_mut(key) {
            client.in_flight -= 1;
            if result.is_ok() || !client.is_left_to_the_next() {
                client.reply(&request, result);
            }
        }
        self.touch(key);
    }

    /// Once a turn: sends replies, closes clients that are done, and says through `events` which
    /// volumes have fewer openers.
    pub(super) fn settle(
        &mut self,
        ring: &mut Ring<Token>,
        now: Time,
        mut events: impl FnMut(Event<Buffer>),
    ) {
        let mut touched = std::mem::take(&mut self.touched);
        for key in touched.drain(..) {
            let Some(client) = self.clients.get_mut(key) else {
                continue;
            };
            client.is_touched = false;
            client.settle(ring, key, now);
            if client.stage == Stage::Closing && client.stream.is_idle() && client.in_flight == 0 {
                let volume = client.volume;
                let kernel = client.kernel;
                self.clients.remove(key);
                if let Some(number) = kernel {
                    self.lost.push((volume, number));
                    continue;
                }
                let count = self.openers.entry(volume).or_default();
                *count = count.saturating_sub(1);
                events(Event::Openers {
                    volume,
                    count: *count,
                });
            }
        }
        touched.append(&mut self.touched);
        self.touched = touched;
    }

    /// When [`expire`](Self::expire) has something to do, at the earliest.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.deadline
    }

    /// Looks again at the clients whose time is up.
    pub(super) fn expire(&mut self, now: Time) {
        if self.deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        self.deadline = None;
        for key in 0..self.clients.bound() {
            let stage = self.clients.get(key).map(|client| client.stage);
            let Some(Stage::Leaving { until: Some(until) }) = stage else {
                continue;
            };
            if until <= now {
                self.touch(key);
            } else {
                self.deadline = Some(self.deadline.map_or(until, |time| time.min(until)));
            }
        }
    }

    fn submit(&mut self, key: usize, request: Request, data: Option<Buffer>) -> Event<Buffer> {
        let client = self.clients.get_mut(key);
        let client = client.expect("a request is submitted for a client that was just heard");
        client.in_flight += 1;
        self.next_generation = self.next_generation.wrapping_add(1) & GENERATIONS;
        let generation = self.next_generation;
        let place = self.pending.insert(Pending {
            generation,
            client: key,
            request,
        });
        let place = u64::try_from(place).expect("places are small");
        Event::Request {
            id: RequestId(u64::from(generation) << 32 | place),
            volume: client.volume,
            kind: engine_kind(&request),
            range: request.range,
            data,
        }
    }

    fn take_pending(&mut self, id: RequestId) -> Option<Pending> {
        let place = usize::try_from(id.0 & u64::from(u32::MAX)).ok()?;
        let is_same = |pending: &Pending| u64::from(pending.generation) == id.0 >> 32;
        self.pending.get(place).filter(|pending| is_same(pending))?;
        self.pending.remove(place)
    }

    fn touch(&mut self, key: usize) {
        if let Some(client) = self.clients.get_mut(key)
            && !client.is_touched
        {
            client.is_touched = true;
            self.touched.push(key);
        }
    }
}

impl Client {
    fn new(volume: VolumeNumber, session: Session, stream: Stream) -> Self {
        Self {
            volume,
            kernel: None,
            session,
            stream,
            in_flight: 0,
            arriving: None,
            stage: Stage::Open,
            is_touched: false,
        }
    }

    /// Whether what fails now is to be asked of another server.
    fn is_left_to_the_next(&self) -> bool {
        self.kernel.is_some() && self.stage != Stage::Open
    }

    /// Whether it has as much in flight as one client may. Replies it does not take count, or a
    /// client that never reads could fill the memory.
    fn is_full(&self) -> bool {
        self.in_flight >= REQUEST_LIMIT || self.stream.unsent_bytes() >= UNSENT_LIMIT
    }

    /// Whether the request is one for the engine now. If not, it has been answered, or waits for
    /// its payload, or was a farewell.
    fn accepts(&mut self, request: &Request, pool: &Pool, holes: Holes<'_>) -> bool {
        let length = usize::try_from(request.payload_len()).unwrap_or(usize::MAX);
        if let Err(refusal) = self.session.check(request) {
            debug!(volume = %self.volume, %refusal, "request refused");
            self.stream.skip(length);
            self.fail(request.cookie, refusal.errno, &refusal.reason);
            return false;
        }
        match request.kind {
            Asked::Read | Asked::Flush | Asked::Trim | Asked::WriteZeroes => true,
            Asked::Write => {
                self.stream.gather(pool.take(length));
                self.arriving = Some(*request);
                false
            }
            Asked::BlockStatus => {
                let extents = holes(self.volume, request.range).unwrap_or_default();
                let session = &self.session;
                let append =
                    |out: &mut Vec<u8>| session.encode_block_status(request, &extents, out);
                self.stream.outgoing().append(append);
                false
            }
            Asked::Disconnect => {
                self.stage = Stage::Leaving { until: None };
                false
            }
            Asked::Cache | Asked::Unknown(_) => {
                let message = "the command is not served";
                self.fail(request.cookie, Errno::Invalid, &message);
                false
            }
        }
    }

    /// The stream can no longer be followed.
    fn give_up(&mut self, error: SessionError) {
        debug!(volume = %self.volume, %error, "client closed");
        if let SessionError::PayloadTooLong { cookie, .. } = error {
            self.fail(cookie, Errno::Invalid, &error);
        }
        self.stage = Stage::Leaving { until: None };
    }

    fn reply(&mut self, request: &Request, result: Result<Option<Buffer>, RequestError>) {
        if self.stage == Stage::Closing {
            return;
        }
        match (result, request.kind) {
            (Ok(Some(data)), Asked::Read) if data.len() == length_of(request.range) => {
                let header = self.session.encode_read(request);
                let outgoing = self.stream.outgoing();
                outgoing.append(|out| out.extend_from_slice(header.as_bytes()));
                outgoing.append_payload(data);
            }
            (Ok(_), Asked::Read) => {
                self.fail(request.cookie, Errno::InputOutput, &"the data came short");
            }
            (Ok(_), _) => {
                let header = self.session.encode_done(request);
                let outgoing = self.stream.outgoing();
                outgoing.append(|out| out.extend_from_slice(header.as_bytes()));
            }
            (Err(error), _) => {
                let (errno, message) = explain(error);
                self.fail(request.cookie, errno, &message);
            }
        }
    }

    fn fail(&mut self, cookie: u64, errno: Errno, message: &dyn std::fmt::Display) {
        let session = &self.session;
        let append = |out: &mut Vec<u8>| session.encode_error(cookie, errno, message, out);
        self.stream.outgoing().append(append);
    }

    fn settle(&mut self, ring: &mut Ring<Token>, key: usize, now: Time) {
        self.stream.send(ring, Token::Send(Socket::Client(key)));
        let is_done = match self.stage {
            Stage::Closing => false,
            Stage::Open | Stage::Leaving { .. } if self.stream.is_outbound_over() => true,
            Stage::Open => false,
            Stage::Leaving { until } => {
                let is_answered = self.in_flight == 0 && self.stream.has_sent_all();
                is_answered || until.is_some_and(|until| now >= until)
            }
        };
        if is_done {
            self.stage = Stage::Closing;
            self.arriving = None;
            self.stream.close();
        }
    }
}

fn engine_kind(request: &Request) -> RequestKind {
    let fua = request.flags.fua();
    match request.kind {
        Asked::Read => RequestKind::Read,
        Asked::Write => RequestKind::Write { fua },
        Asked::Trim => RequestKind::Zero { fua, discard: true },
        Asked::WriteZeroes => RequestKind::Zero {
            fua,
            discard: !request.flags.no_hole(),
        },
        Asked::Flush
        | Asked::Disconnect
        | Asked::Cache
        | Asked::BlockStatus
        | Asked::Unknown(_) => RequestKind::Flush,
    }
}

fn explain(error: RequestError) -> (Errno, &'static str) {
    match error {
        RequestError::Io => (Errno::InputOutput, "no usable disk, or an I/O error"),
        RequestError::NoSpace => (Errno::NoSpace, "no space left on a backing disk"),
        RequestError::Invalid => (Errno::Invalid, "the range is not one of the volume"),
        RequestError::NotPrimary => (Errno::Shutdown, "this node is not Primary any more"),
    }
}

fn length_of(range: ByteRange) -> usize {
    usize::try_from(range.length).unwrap_or(usize::MAX)
}

/// Requests one client may have in the engine.
const REQUEST_LIMIT: u32 = 128;

/// The highest bit of an id belongs to the requests of kernel devices.
const GENERATIONS: u32 = u32::MAX >> 1;

/// Bytes of replies a client may leave untaken before it is not heard any more.
const UNSENT_LIMIT: usize = 8 << 20;
