//! Links over socket pairs: both ends in one room, or one end played by hand.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use rbd_engine::{Event, LinkId, LinkLoss, Room, Time};
use rbd_protocol::ids::{ByteRange, NodeId, VolumeNumber};
use rbd_protocol::peer::{Channel, Packet};

use super::super::buffer::{Buffer, Pool};
use super::super::link::{Found, Links};
use super::super::ring::Ring;
use super::super::{Socket, Token};
use super::{Deadline, pattern, turn};

const VOLUME: VolumeNumber = VolumeNumber(0);
const PLENTY: Room = Room {
    requests: 100,
    bytes: 1 << 30,
};
const NOTHING: Room = Room {
    requests: 0,
    bytes: 0,
};

struct Bench {
    ring: Ring<Token>,
    links: Links,
    pool: Pool,
    now: Time,
    room: Room,
    events: Vec<Event<Buffer>>,
    stalled: Vec<Socket>,
}

impl Bench {
    fn new() -> Self {
        let pool = Pool::default();
        Self {
            ring: Ring::new().unwrap(),
            links: Links::new(pool.clone()),
            pool,
            now: Time(0),
            room: PLENTY,
            events: Vec::new(),
            stalled: Vec::new(),
        }
    }

    fn arrive(&mut self, peer: u8) -> (UnixStream, UnixStream) {
        let (data, our_data) = UnixStream::pair().unwrap();
        let (control, our_control) = UnixStream::pair().unwrap();
        self.links
            .arrive(NodeId(peer), our_data.into(), our_control.into());
        (data, control)
    }

    /// Links the room with itself: what goes out to peer 1 comes in from peer 2.
    fn arrive_looped(&mut self) -> (LinkId, LinkId) {
        let (data, control) = self.arrive(2);
        rustix::net::sockopt::set_socket_send_buffer_size(&data, 1).unwrap();
        self.links.arrive(NodeId(1), data.into(), control.into());
        self.settle();
        (self.up(1), self.up(2))
    }

    fn up(&self, wanted: u8) -> LinkId {
        let up = self.events.iter().find_map(|event| match event {
            Event::LinkUp { peer, link } if *peer == NodeId(wanted) => Some(*link),
            _ => None,
        });
        up.expect("the link came up")
    }

    fn settle(&mut self) {
        for socket in std::mem::take(&mut self.stalled) {
            self.read(socket);
        }
        let events = &mut self.events;
        self.links
            .settle(&mut self.ring, self.now, |event| events.push(event));
    }

    fn read(&mut self, socket: Socket) {
        let Socket::Link(key, channel) = socket else {
            unreachable!()
        };
        loop {
            match self.links.next(key, channel, self.room) {
                Found::Event(event) => self.events.push(event),
                Found::Nothing => return self.links.receive(&mut self.ring, key, channel),
                Found::Stalled => return self.stalled.push(socket),
            }
        }
    }

    fn turn(&mut self) {
        self.settle();
        for completion in turn(&mut self.ring) {
            match completion.token {
                Token::Receive(socket @ Socket::Link(key, channel)) => {
                    self.links.received(key, channel, completion);
                    self.read(socket);
                }
                Token::Send(Socket::Link(key, channel)) => {
                    self.links.sent(key, channel, completion);
                }
                other => panic!("{other:?}"),
            }
        }
        self.settle();
    }

    fn turn_until(&mut self, mut is_done: impl FnMut(&[Event<Buffer>]) -> bool) {
        let deadline = Deadline::new();
        while !is_done(&self.events) {
            deadline.check();
            self.turn();
        }
    }

    fn losses(&self) -> Vec<(NodeId, LinkLoss)> {
        let losses = self.events.iter().filter_map(|event| match event {
            Event::LinkDown { peer, loss, .. } => Some((*peer, *loss)),
            _ => None,
        });
        losses.collect()
    }

    fn packets(&self) -> usize {
        packets(&self.events)
    }
}

fn packets(events: &[Event<Buffer>]) -> usize {
    let is_packet = |event: &&Event<Buffer>| matches!(event, Event::Packet { .. });
    events.iter().filter(is_packet).count()
}

fn write(id: u64, length: usize) -> Packet {
    let range = ByteRange::new(id * 4096, u32::try_from(length).unwrap());
    Packet::Write {
        id,
        volume: VOLUME,
        range,
        fua: false,
        place: Default::default(),
    }
}

fn encode(packet: &Packet, bulk: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(bulk, &mut bytes);
    bytes.extend_from_slice(bulk);
    bytes
}

#[test]
fn payloads_of_all_sizes_arrive_whole_and_in_order() {
    let mut bench = Bench::new();
    let (to, _) = bench.arrive_looped();
    let lengths = [
        512,
        4096,
        1 << 20,
        4096,
        0,
        65536,
        40000,
        131_072,
        4096,
        33_000,
        3 << 20,
    ];
    for round in 0..20 {
        for (index, length) in lengths.into_iter().enumerate() {
            let id = u64::try_from(round * 100 + index).unwrap();
            let data = Some(bench.pool.copy_of(&pattern(length, index)));
            bench
                .links
                .send(to, Channel::Data, &write(id, length), data);
            bench
                .links
                .send(to, Channel::Control, &Packet::Ping { id }, None);
        }
        bench.turn();
    }
    let expected = lengths.len() * 20;
    bench.turn_until(|events| packets(events) == expected * 2);
    let (mut pings, mut writes) = (0, 0);
    for event in &bench.events {
        let Event::Packet {
            packet,
            data,
            peer: NodeId(2),
            ..
        } = event
        else {
            continue;
        };
        match packet {
            Packet::Write { id, .. } => {
                let (round, index) = (writes / lengths.len(), writes % lengths.len());
                assert_eq!(*id, u64::try_from(round * 100 + index).unwrap());
                let data = data.as_ref().unwrap().bytes();
                assert!(data == pattern(lengths[index], index), "payload {index}");
                writes += 1;
            }
            Packet::Ping { .. } => pings += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((writes, pings), (expected, expected));
}

#[test]
fn a_packet_cut_anywhere_is_the_same_packet() {
    let mut bench = Bench::new();
    let (mut data, _control) = bench.arrive(5);
    let bulk = pattern(600, 3);
    let mut bytes = encode(&write(8, 600), &bulk);
    bytes.extend(encode(
        &Packet::Flush {
            id: 9,
            volume: VOLUME,
        },
        &[],
    ));
    for byte in bytes {
        data.write_all(&[byte]).unwrap();
        bench.turn();
    }
    bench.turn_until(|events| packets(events) == 2);
    let mut events = bench.events.into_iter().skip(1);
    let Some(Event::Packet {
        packet,
        data: Some(data),
        ..
    }) = events.next()
    else {
        panic!()
    };
    assert_eq!((packet, data.bytes()), (write(8, 600), &bulk[..]));
}

#[test]
fn a_damaged_packet_ends_the_link_and_is_not_delivered() {
    let good = encode(&write(1, 600), &pattern(600, 3));
    for place in [0, 5, 47, 48, 600] {
        let mut bench = Bench::new();
        let (mut data, mut control) = bench.arrive(5);
        let mut bytes = good.clone();
        bytes[place] ^= 1;
        bytes.extend_from_slice(&good);
        data.write_all(&bytes).unwrap();
        bench.turn_until(|events| events.len() == 2);
        assert_eq!(bench.losses(), [(NodeId(5), LinkLoss::Protocol)]);
        assert!(bench.links.is_empty());
        let mut rest = Vec::new();
        control.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty());
    }
}

#[test]
fn an_endless_payload_is_not_waited_for() {
    let mut bench = Bench::new();
    let (mut data, _control) = bench.arrive(5);
    let bytes = encode(&write(1, 600), &pattern(600, 3));
    let mut header = bytes[..48].to_vec();
    header[12..16].copy_from_slice(&u32::MAX.to_be_bytes());
    header[32..36].copy_from_slice(&u32::MAX.to_be_bytes());
    let checksum = rbd_protocol::peer::header::checksum(&header[..44]);
    header[44..].copy_from_slice(&checksum.to_be_bytes());
    data.write_all(&header).unwrap();
    bench.turn_until(|events| events.len() == 2);
    assert_eq!(bench.losses(), [(NodeId(5), LinkLoss::Protocol)]);
}

#[test]
fn without_room_data_waits_and_control_does_not() {
    let mut bench = Bench::new();
    let (mut data, mut control) = bench.arrive(5);
    bench.room = NOTHING;
    data.write_all(&encode(&write(1, 600), &pattern(600, 3)))
        .unwrap();
    control
        .write_all(&encode(&Packet::Ping { id: 4 }, &[]))
        .unwrap();
    bench.turn_until(|events| packets(events) == 1);
    for _ in 0..5 {
        bench.turn();
    }
    assert_eq!(bench.packets(), 1);
    bench.room = PLENTY;
    bench.turn_until(|events| packets(events) == 2);
}

#[test]
fn what_was_sent_before_the_end_still_arrives() {
    let mut bench = Bench::new();
    let (to, from) = bench.arrive_looped();
    let length = 2 << 20;
    let data = Some(bench.pool.copy_of(&pattern(length, 1)));
    bench.links.send(to, Channel::Data, &write(1, length), data);
    bench
        .links
        .send(to, Channel::Control, &Packet::Goodbye, None);
    bench.links.drop_link(to, LinkLoss::Goodbye, bench.now);
    bench
        .links
        .send(to, Channel::Control, &Packet::Ping { id: 1 }, None);
    bench.turn_until(|events| packets(events) == 2);
    bench.links.drop_link(from, LinkLoss::Commanded, bench.now);
    bench.turn_until(|events| packets(events) + 4 == events.len());
    let mut losses = bench.losses();
    losses.sort_by_key(|(peer, _)| peer.0);
    let expected = [
        (NodeId(1), LinkLoss::Goodbye),
        (NodeId(2), LinkLoss::Commanded),
    ];
    assert_eq!(losses, expected);
    assert!(bench.links.is_empty());
}

#[test]
fn a_peer_that_takes_nothing_delays_the_end_only_for_a_moment() {
    let mut bench = Bench::new();
    let (_data, _control) = bench.arrive(5);
    bench.settle();
    let link = bench.up(5);
    let data = Some(bench.pool.zeroes(8 << 20));
    bench
        .links
        .send(link, Channel::Data, &write(1, 8 << 20), data);
    bench.links.drop_link(link, LinkLoss::Commanded, bench.now);
    for _ in 0..5 {
        bench.turn();
    }
    assert_eq!(bench.losses(), []);
    bench.now = bench.links.deadline().expect("there is an end to it");
    bench.turn_until(|events| events.len() == 2);
    assert_eq!(bench.losses(), [(NodeId(5), LinkLoss::Commanded)]);
}

#[test]
fn a_peer_that_is_gone_is_lost_once_and_its_last_words_are_heard() {
    let mut bench = Bench::new();
    let (mut data, control) = bench.arrive(5);
    bench.settle();
    drop(control);
    bench.turn();
    bench.turn();
    assert_eq!(bench.losses(), []);
    data.write_all(&encode(&Packet::Goodbye, &[])).unwrap();
    drop(data);
    bench.turn_until(|events| events.len() == 3);
    assert_eq!(bench.packets(), 1);
    assert_eq!(bench.losses(), [(NodeId(5), LinkLoss::Closed)]);
    for _ in 0..3 {
        bench.turn();
    }
    assert_eq!(bench.events.len(), 3);
}

#[test]
fn half_a_link_is_given_up_after_a_moment() {
    let mut bench = Bench::new();
    let (_data, control) = bench.arrive(5);
    bench.settle();
    drop(control);
    bench.turn();
    bench.turn();
    bench.now = bench.links.deadline().expect("there is an end to it");
    bench.turn_until(|events| events.len() == 2);
    assert_eq!(bench.losses(), [(NodeId(5), LinkLoss::Closed)]);
}

#[test]
fn a_newer_link_comes_up_after_the_older_one_went_down() {
    let mut bench = Bench::new();
    let (mut old, _old_control) = bench.arrive(5);
    bench.settle();
    old.write_all(&encode(&Packet::Goodbye, &[])).unwrap();
    let (_lost, _lost_control) = bench.arrive(5);
    let (mut new, _new_control) = bench.arrive(5);
    new.write_all(&encode(&Packet::Ping { id: 1 }, &[]))
        .unwrap();
    bench.turn_until(|events| packets(events) == 1);
    let [
        Event::LinkUp { link: first, .. },
        Event::LinkDown {
            link: down, loss, ..
        },
        Event::LinkUp { link: second, .. },
        Event::Packet {
            link: from, packet, ..
        },
    ] = &bench.events[..]
    else {
        panic!("{:?}", bench.events);
    };
    assert_eq!((first, *loss), (down, LinkLoss::Closed));
    assert_ne!(first, second);
    assert_eq!((from, packet), (second, &Packet::Ping { id: 1 }));
}

#[test]
fn nothing_arrives_after_the_link_is_down() {
    let mut bench = Bench::new();
    let (mut data, mut control) = bench.arrive(5);
    bench.settle();
    let ping = encode(&Packet::Ping { id: 1 }, &[]);
    data.write_all(&ping.repeat(100)).unwrap();
    control.write_all(&ping.repeat(100)).unwrap();
    let link = bench.up(5);
    bench.links.drop_link(link, LinkLoss::Timeout, bench.now);
    bench.turn_until(|events| matches!(events.last(), Some(Event::LinkDown { .. })));
    for _ in 0..3 {
        bench.turn();
    }
    assert_eq!(bench.packets(), 0);
    assert_eq!(bench.losses(), [(NodeId(5), LinkLoss::Timeout)]);
}
