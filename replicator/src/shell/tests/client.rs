//! NBD clients over socket pairs, the engine played by the test.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use rbd_engine::{Event, RequestError, RequestId, RequestKind, Room, Time};
use rbd_protocol::ids::{ByteRange, VolumeNumber};
use rbd_protocol::nbd::{
    BlockSizes, ExportInfo, Exports, Features, Handshake, Lookup, Policy, Session, Step,
};

use super::super::buffer::{Buffer, Pool};
use super::super::client::Clients;
use super::super::link::Found;
use super::super::ring::Ring;
use super::super::{Socket, Token};
use super::{Deadline, pattern, turn};

pub(super) const VOLUME: VolumeNumber = VolumeNumber(1);
const SIZE: u64 = 1 << 30;
const READ: u16 = 0;
pub(super) const WRITE: u16 = 1;
const DISCONNECT: u16 = 2;
pub(super) const FLUSH: u16 = 3;
const TRIM: u16 = 4;
const FUA: u16 = 1;
const EINVAL: u32 = 22;
const ESHUTDOWN: u32 = 108;

struct Export;

impl Exports for Export {
    fn lookup(&self, name: &str) -> Lookup {
        Lookup::Serve(ExportInfo {
            name: name.into(),
            description: String::new(),
            size: SIZE,
            features: Features {
                trim: true,
                write_zeroes: true,
                ..Features::default()
            },
            block_sizes: BlockSizes::new(4096, 4096, 32 << 20).unwrap(),
        })
    }

    fn list(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

/// Negotiates as a client that wants simple replies, or structured ones.
pub(super) fn session(structured: bool) -> Session {
    let option = |number: u32, data: &[u8]| {
        let mut bytes = b"IHAVEOPT".to_vec();
        bytes.extend_from_slice(&number.to_be_bytes());
        bytes.extend_from_slice(&u32::try_from(data.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(data);
        bytes
    };
    let mut input = 3_u32.to_be_bytes().to_vec();
    if structured {
        input.extend(option(8, &[]));
    }
    input.extend(option(7, &[0, 0, 0, 1, b'x', 0, 0]));
    let mut handshake = Handshake::new(Policy::default());
    let mut out = Vec::new();
    handshake.feed(&[], &Export, &mut out).unwrap();
    let mut used = 0;
    loop {
        let (count, step) = handshake.feed(&input[used..], &Export, &mut out).unwrap();
        used += count;
        match step {
            Step::Serve(session) => return session,
            Step::More if used < input.len() => {}
            step => panic!("{step:?}"),
        }
    }
}

pub(super) struct Bench {
    ring: Ring<Token>,
    pub(super) clients: Clients,
    pool: Pool,
    pub(super) now: Time,
    room: Room,
    events: Vec<Event<Buffer>>,
    stalled: Vec<Socket>,
}

impl Bench {
    pub(super) fn new() -> Self {
        let pool = Pool::default();
        Self {
            ring: Ring::new().unwrap(),
            clients: Clients::new(pool.clone()),
            pool,
            now: Time(0),
            room: Room {
                requests: 256,
                bytes: 64 << 20,
            },
            events: Vec::new(),
            stalled: Vec::new(),
        }
    }

    pub(super) fn arrive(&mut self, structured: bool) -> UnixStream {
        let (theirs, ours) = UnixStream::pair().unwrap();
        self.arrive_with(ours, structured, &[]);
        theirs.set_nonblocking(true).unwrap();
        theirs
    }

    fn arrive_with(&mut self, ours: UnixStream, structured: bool, leftover: &[u8]) {
        let (key, event) = self
            .clients
            .arrive(VOLUME, ours.into(), session(structured), leftover);
        self.events.push(event);
        self.read(Socket::Client(key));
    }

    pub(super) fn read(&mut self, socket: Socket) {
        let Socket::Client(key) = socket else {
            unreachable!()
        };
        loop {
            match self.clients.next(key, self.room, &|_, _| None) {
                Found::Event(event) => self.events.push(event),
                Found::Nothing => return self.clients.receive(&mut self.ring, key),
                Found::Stalled => return self.stalled.push(socket),
            }
        }
    }

    fn settle(&mut self) {
        for socket in std::mem::take(&mut self.stalled) {
            self.read(socket);
        }
        self.clients.expire(self.now);
        let events = &mut self.events;
        self.clients
            .settle(&mut self.ring, self.now, |event| events.push(event));
    }

    pub(super) fn turn(&mut self) {
        self.settle();
        for completion in turn(&mut self.ring) {
            match completion.token {
                Token::Receive(socket @ Socket::Client(key)) => {
                    self.clients.received(key, completion);
                    self.read(socket);
                }
                Token::Send(Socket::Client(key)) => self.clients.sent(key, completion),
                other => panic!("{other:?}"),
            }
        }
        self.settle();
    }

    pub(super) fn turn_until(&mut self, mut is_done: impl FnMut(&[Event<Buffer>]) -> bool) {
        let deadline = Deadline::new();
        while !is_done(&self.events) {
            deadline.check();
            self.turn();
        }
    }

    /// What the client receives, `length` bytes or up to the end.
    pub(super) fn hear(&mut self, client: &mut UnixStream, length: usize) -> Vec<u8> {
        let deadline = Deadline::new();
        let mut heard = Vec::new();
        while heard.len() < length {
            deadline.check();
            let mut bytes = vec![0; length - heard.len()];
            match client.read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => heard.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.turn(),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) => panic!("{error}"),
            }
        }
        heard
    }

    /// Sends all of it, the room working meanwhile.
    pub(super) fn say(&mut self, client: &mut UnixStream, mut bytes: &[u8]) {
        let deadline = Deadline::new();
        while !bytes.is_empty() {
            deadline.check();
            match client.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.turn(),
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub(super) fn ids(&self) -> Vec<RequestId> {
        requests(&self.events).map(|(id, ..)| id).collect()
    }

    pub(super) fn openers(&self) -> Option<u32> {
        self.events.iter().rev().find_map(|event| match event {
            Event::Openers { count, .. } => Some(*count),
            _ => None,
        })
    }
}

pub(super) fn requests(
    events: &[Event<Buffer>],
) -> impl Iterator<Item = (RequestId, RequestKind, ByteRange, Option<&Buffer>)> {
    events.iter().filter_map(|event| match event {
        Event::Request {
            id,
            kind,
            range,
            data,
            ..
        } => Some((*id, *kind, *range, data.as_ref())),
        _ => None,
    })
}

pub(super) fn request(command: u16, flags: u16, cookie: u64, offset: u64, length: u32) -> Vec<u8> {
    let mut bytes = 0x2560_9513_u32.to_be_bytes().to_vec();
    bytes.extend_from_slice(&flags.to_be_bytes());
    bytes.extend_from_slice(&command.to_be_bytes());
    bytes.extend_from_slice(&cookie.to_be_bytes());
    bytes.extend_from_slice(&offset.to_be_bytes());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes
}

pub(super) fn simple_reply(cookie: u64, error: u32) -> Vec<u8> {
    let mut bytes = 0x6744_6698_u32.to_be_bytes().to_vec();
    bytes.extend_from_slice(&error.to_be_bytes());
    bytes.extend_from_slice(&cookie.to_be_bytes());
    bytes
}

#[test]
fn writes_of_all_sizes_arrive_whole_and_are_answered() {
    let mut bench = Bench::new();
    let mut client = bench.arrive(false);
    let lengths = [4096, 1 << 20, 4096, 65536, 8192, 3 << 20, 40960];
    for (index, length) in lengths.into_iter().enumerate() {
        let cookie = u64::try_from(index).unwrap();
        let mut bytes = request(WRITE, FUA, cookie, 4096, u32::try_from(length).unwrap());
        bytes.extend(pattern(length, index));
        bench.say(&mut client, &bytes);
    }
    bench.turn_until(|events| requests(events).count() == lengths.len());
    for (index, (_, kind, range, data)) in requests(&bench.events).enumerate() {
        assert_eq!(kind, RequestKind::Write { fua: true });
        assert_eq!(
            range,
            ByteRange::new(4096, u32::try_from(lengths[index]).unwrap())
        );
        assert!(
            data.unwrap().bytes() == pattern(lengths[index], index),
            "payload {index}"
        );
    }
    for (index, id) in bench.ids().into_iter().enumerate().rev() {
        bench.clients.complete(id, Ok(None));
        let reply = bench.hear(&mut client, 16);
        assert_eq!(reply, simple_reply(u64::try_from(index).unwrap(), 0));
    }
}

#[test]
fn a_request_cut_anywhere_is_the_same_request() {
    let mut bench = Bench::new();
    let (mut client, ours) = UnixStream::pair().unwrap();
    let mut bytes = request(WRITE, 0, 5, 0, 4096);
    bytes.extend(pattern(4096, 2));
    bytes.extend(request(FLUSH, 0, 6, 0, 0));
    bench.arrive_with(ours, false, &bytes[..100]);
    for part in bytes[100..].chunks(97) {
        client.write_all(part).unwrap();
        bench.turn();
    }
    bench.turn_until(|events| requests(events).count() == 2);
    let kinds: Vec<_> = requests(&bench.events).map(|(_, kind, ..)| kind).collect();
    assert_eq!(
        kinds,
        [RequestKind::Write { fua: false }, RequestKind::Flush]
    );
}

#[test]
fn reads_carry_their_data_in_both_kinds_of_reply() {
    for structured in [false, true] {
        let mut bench = Bench::new();
        let mut client = bench.arrive(structured);
        for (cookie, length) in [(1, 4096_u32), (2, 1 << 20)] {
            bench.say(&mut client, &request(READ, 0, cookie, 8192, length));
        }
        bench.turn_until(|events| requests(events).count() == 2);
        for (index, id) in bench.ids().into_iter().enumerate() {
            let length = [4096, 1 << 20][index];
            let data = pattern(length, index);
            bench
                .clients
                .complete(id, Ok(Some(bench.pool.copy_of(&data))));
            let header = if structured { 28 } else { 16 };
            let reply = bench.hear(&mut client, header + length);
            assert!(reply[header..] == data, "payload {index}");
            assert_eq!(
                reply[8..16],
                u64::try_from(index + 1).unwrap().to_be_bytes()
            );
        }
    }
}

#[test]
fn a_read_without_its_data_is_an_error_not_other_data() {
    let mut bench = Bench::new();
    let mut client = bench.arrive(false);
    bench.say(&mut client, &request(READ, 0, 1, 0, 8192));
    bench.turn_until(|events| requests(events).count() == 1);
    let id = bench.ids()[0];
    let short = bench.pool.zeroes(4096);
    bench.clients.complete(id, Ok(Some(short)));
    assert_eq!(bench.hear(&mut client, 16), simple_reply(1, 5));
}

#[test]
fn a_wrong_request_is_refused_and_the_next_one_is_served() {
    let mut bench = Bench::new();
    let mut client = bench.arrive(false);
    let mut bytes = request(WRITE, 0, 1, 100, 4096);
    bytes.extend(pattern(4096, 1));
    bytes.extend(request(READ, 0, 2, SIZE, 4096));
    bytes.extend(request(READ, 0, 3, 0, 0));
    bytes.extend(request(77, 0, 4, 0, 4096));
    bytes.extend(request(WRITE, 0, 5, 0, (1 << 20) + 1));
    bytes.extend(pattern((1 << 20) + 1, 1));
    bytes.extend(request(TRIM, FUA, 6, 4096, 1 << 20));
    bench.say(&mut client, &bytes);
    let replies = bench.hear(&mut client, 5 * 16);
    let refused = (1..=5).flat_map(|cookie| simple_reply(cookie, EINVAL));
    assert_eq!(replies, refused.collect::<Vec<_>>());
    bench.turn_until(|events| requests(events).count() == 1);
    let (_, kind, range, _) = requests(&bench.events).next().unwrap();
    assert_eq!(
        kind,
        RequestKind::Zero {
            fua: true,
            discard: true
        }
    );
    assert_eq!(range, ByteRange::new(4096, 1 << 20));
}

#[test]
fn errors_have_the_number_clients_know_and_structured_ones_a_text() {
    let mut bench = Bench::new();
    let mut client = bench.arrive(true);
    bench.say(&mut client, &request(FLUSH, 0, 9, 0, 0));
    bench.turn_until(|events| requests(events).count() == 1);
    bench
        .clients
        .complete(bench.ids()[0], Err(RequestError::NotPrimary));
    let header = bench.hear(&mut client, 20);
    let length = u32::from_be_bytes(header[16..].try_into().unwrap());
    let payload = bench.hear(&mut client, usize::try_from(length).unwrap());
    assert_eq!(payload[..4], ESHUTDOWN.to_be_bytes());
    let text = String::from_utf8(payload[6..].to_vec()).unwrap();
    assert!(text.contains("not Primary"), "{text}");
}

#[test]
fn a_client_has_a_limited_number_of_requests_in_the_engine() {
    let mut bench = Bench::new();
    let mut client = bench.arrive(false);
    for cookie in 0..200 {
        bench.say(&mut client, &request(READ, 0, cookie, 0, 4096));
    }
    bench.turn_until(|events| requests(events).count() == 128);
    for _ in 0..3 {
        bench.turn();
    }
    assert_eq!(bench.ids().len(), 128);
    for id in bench.ids().into_iter().take(10) {
        bench.clients.complete(id, Err(RequestError::Io));
    }
    bench.turn_until(|events| requests(events).count() == 138);
}

#[test]
fn a_client_that_takes_no_replies_is_not_heard_for_ever() {
    let mut bench = Bench::new();
    let mut client = bench.arrive(false);
    let mut asked = 0;
    let mut answered = 0;
    let data = bench.pool.zeroes(1 << 20);
    for _ in 0..100 {
        if client.write(&request(READ, 0, asked, 0, 1 << 20)).is_ok() {
            asked += 1;
        }
        bench.turn();
        for id in bench.ids().split_off(answered) {
            bench.clients.complete(id, Ok(Some(data.clone())));
            answered += 1;
        }
    }
    assert_eq!(asked, 100);
    assert!(
        answered < 12,
        "{answered} replies of a MiB wait for a client"
    );
}

#[test]
fn without_room_in_the_engine_requests_wait() {
    let mut bench = Bench::new();
    bench.room.requests = 0;
    let mut client = bench.arrive(false);
    bench.say(&mut client, &request(READ, 0, 1, 0, 4096));
    for _ in 0..3 {
        bench.turn();
    }
    assert_eq!(bench.ids(), []);
    bench.room.requests = 1;
    bench.turn_until(|events| requests(events).count() == 1);
}

#[test]
fn requests_of_a_client_that_left_finish_and_only_then_it_is_gone() {
    let mut bench = Bench::new();
    let mut client = bench.arrive(false);
    bench.say(&mut client, &request(READ, 0, 1, 0, 4096));
    bench.turn_until(|events| requests(events).count() == 1);
    drop(client);
    for _ in 0..3 {
        bench.turn();
    }
    assert_eq!(bench.openers(), Some(1));
    bench
        .clients
        .complete(bench.ids()[0], Ok(Some(bench.pool.zeroes(4096))));
    let deadline = Deadline::new();
    while bench.openers() != Some(0) {
        deadline.check();
        bench.turn();
    }
    assert!(bench.clients.is_empty());
    assert_eq!(bench.clients.in_flight(), 0);
}

#[test]
fn a_farewell_is_followed_by_the_outstanding_replies_and_the_end() {
    let mut bench = Bench::new();
    let mut client = bench.arrive(false);
    bench.say(&mut client, &request(FLUSH, 0, 1, 0, 0));
    bench.say(&mut client, &request(DISCONNECT, 0, 2, 0, 0));
    bench.turn_until(|events| requests(events).count() == 1);
    bench.turn();
    bench.clients.complete(bench.ids()[0], Ok(None));
    assert_eq!(bench.hear(&mut client, 100), simple_reply(1, 0));
    bench.turn();
    assert_eq!(bench.openers(), Some(0));
}

#[test]
fn a_client_that_sends_garbage_is_closed() {
    let mut bench = Bench::new();
    let mut client = bench.arrive(false);
    bench.say(&mut client, &[0xFF; 28]);
    assert!(bench.hear(&mut client, 100).is_empty());
    bench.turn();
    assert_eq!(bench.openers(), Some(0));
}

#[test]
fn dismissed_clients_get_what_is_done_and_are_closed_in_time() {
    let mut bench = Bench::new();
    let mut client = bench.arrive(false);
    bench.say(&mut client, &request(FLUSH, 0, 1, 0, 0));
    bench.say(&mut client, &request(FLUSH, 0, 2, 0, 0));
    bench.turn_until(|events| requests(events).count() == 2);
    bench.clients.dismiss(Some(VolumeNumber(9)), Time(5));
    bench.clients.dismiss(Some(VOLUME), Time(5));
    bench.say(&mut client, &request(FLUSH, 0, 3, 0, 0));
    bench.clients.complete(bench.ids()[0], Ok(None));
    assert_eq!(bench.hear(&mut client, 16), simple_reply(1, 0));
    assert_eq!((bench.ids().len(), bench.openers()), (2, Some(1)));
    assert_eq!(bench.clients.deadline(), Some(Time(5)));
    bench.now = Time(5);
    bench.turn();
    assert!(bench.hear(&mut client, 1).is_empty());
    bench.clients.complete(bench.ids()[1], Ok(None));
    bench.turn();
    assert_eq!(bench.openers(), Some(0));
}
