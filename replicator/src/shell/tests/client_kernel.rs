//! The kernel's NBD client, behind a block device: what it is not told, and when it is missed.

use std::os::unix::net::UnixStream;

use rbd_engine::{RequestError, Time};
use rbd_protocol::nbd::{BlockSizes, ExportInfo, Features, Session};

use super::Deadline;
use super::client::{Bench, FLUSH, VOLUME, WRITE, request, requests, simple_reply};
use crate::shell::Socket;

fn arrive(bench: &mut Bench) -> UnixStream {
    let (theirs, ours) = UnixStream::pair().unwrap();
    let session = Session::without_negotiation(ExportInfo {
        name: String::new(),
        description: String::new(),
        size: u64::MAX,
        features: Features::default(),
        block_sizes: BlockSizes::UNCONSTRAINED,
    });
    let key = bench
        .clients
        .arrive_kernel(VOLUME, NUMBER, ours.into(), session);
    bench.read(Socket::Client(key));
    theirs.set_nonblocking(true).unwrap();
    theirs
}

/// A device with a write and a flush in the engine.
fn busy() -> (Bench, UnixStream) {
    let mut bench = Bench::new();
    let mut device = arrive(&mut bench);
    let write = [request(WRITE, 0, 1, 0, 4096), vec![7; 4096]].concat();
    bench.say(&mut device, &write);
    bench.say(&mut device, &request(FLUSH, 0, 2, 0, 0));
    bench.turn_until(|events| requests(events).count() == 2);
    (bench, device)
}

#[test]
fn it_is_no_opener_of_its_volume() {
    let (mut bench, device) = busy();
    for id in bench.ids() {
        bench.clients.complete(id, Ok(None));
    }
    drop(device);
    let deadline = Deadline::new();
    while bench.clients.lost_device() != Some((VOLUME, NUMBER)) {
        deadline.check();
        bench.turn();
    }
    assert_eq!(bench.openers(), None);
    assert!(bench.clients.is_empty());
}

#[test]
fn it_is_told_of_errors_while_it_is_served() {
    let (mut bench, mut device) = busy();
    let ids = bench.ids();
    bench.clients.complete(ids[0], Err(RequestError::Io));
    assert_eq!(bench.hear(&mut device, 16), simple_reply(1, 5));
}

#[test]
fn when_everything_ends_it_is_told_what_is_done_and_nothing_of_what_fails() {
    let (mut bench, mut device) = busy();
    bench.clients.dismiss(None, Time(u64::MAX));
    let ids = bench.ids();
    bench.clients.complete(ids[0], Ok(None));
    bench
        .clients
        .complete(ids[1], Err(RequestError::NotPrimary));
    assert_eq!(bench.hear(&mut device, 64), simple_reply(1, 0));
    let deadline = Deadline::new();
    while bench.clients.lost_device() != Some((VOLUME, NUMBER)) {
        deadline.check();
        bench.turn();
    }
}

#[test]
fn it_stays_when_the_clients_of_its_volume_go() {
    let (mut bench, mut device) = busy();
    let mut client = bench.arrive(false);
    bench.clients.dismiss(Some(VOLUME), bench.now);
    assert_eq!(bench.hear(&mut client, 1), []);
    for id in bench.ids() {
        bench.clients.complete(id, Ok(None));
    }
    let both = [simple_reply(1, 0), simple_reply(2, 0)].concat();
    assert_eq!(bench.hear(&mut device, 32), both);
    assert_eq!(bench.clients.lost_device(), None);
}

/// Which of the volume's connections it is.
const NUMBER: u64 = 7;
