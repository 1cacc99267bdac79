//! A Primary without a disk: what its peer has been asked for and has not answered.

use alloc::boxed::Box;
use alloc::vec::Vec;

use rbd_protocol::ids::{ByteRange, GenerationId};
use rbd_protocol::peer::{FailureCode, Packet};
use rbd_protocol::state::DiskState;

use super::attach::being_filled;
use super::diskless::{SHARED, ask_write, done, served, serving, whole};
use super::resync::source;
use super::{Bench, VOLUME};
use crate::{Command, DiskError, DiskRequest, LinkLoss, RequestError, RequestId, RequestKind};

const WRITE: DiskRequest = DiskRequest::Write { fua: false };

/// What a client asks of it, and how the peer is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Asked {
    Read,
    Write,
    Zero,
    Flush,
}

const ALL: [Asked; 4] = [Asked::Read, Asked::Write, Asked::Zero, Asked::Flush];

fn ask(bench: &mut Bench, what: Asked) -> RequestId {
    let range = ByteRange::new(8192, 4096);
    let (fua, discard) = (false, true);
    match what {
        Asked::Read => bench.request(RequestKind::Read, range),
        Asked::Write => bench.request(RequestKind::Write { fua }, range),
        Asked::Zero => bench.request(RequestKind::Zero { fua, discard }, range),
        Asked::Flush => bench.flush(),
    }
}

/// What the peer has been asked for since this was last looked at.
fn passed_on(bench: &mut Bench) -> Vec<(u64, Asked)> {
    let asked = bench.sent().into_iter().filter_map(|packet| match packet {
        Packet::RemoteRead { id, .. } => Some((id, Asked::Read)),
        Packet::RemoteWrite { id, .. } => Some((id, Asked::Write)),
        Packet::RemoteZero { id, discard, .. } if discard => Some((id, Asked::Zero)),
        Packet::RemoteFlush { id, .. } => Some((id, Asked::Flush)),
        _ => None,
    });
    asked.collect()
}

fn answer(bench: &mut Bench, (id, what): (u64, Asked)) {
    if what != Asked::Read {
        return done(bench, id, SHARED);
    }
    let (volume, range) = (VOLUME, ByteRange::new(8192, 4096));
    bench.packet(Packet::RemoteData { id, volume, range });
}

/// The link is lost, and a new one stands.
fn meet_again(bench: &mut Bench) {
    let own = bench.relink().expect("a greeting");
    bench.packet(Packet::Hello(Box::new(whole(&own))));
}

#[test]
fn whatever_the_peer_has_not_answered_is_asked_again_and_answered_once() {
    for what in ALL {
        let mut bench = served();
        let request = ask(&mut bench, what);
        let first = passed_on(&mut bench);
        assert_eq!(first.len(), 1, "{what:?}");
        meet_again(&mut bench);
        let again = passed_on(&mut bench);
        assert_eq!(again.len(), 1, "{what:?}");
        assert_eq!(again[0].1, what);
        assert_eq!(bench.answer(request), None);
        answer(&mut bench, again[0]);
        assert_eq!(bench.answer(request), Some(Ok(())), "{what:?}");
        assert_eq!(passed_on(&mut bench), []);
    }
}

#[test]
fn what_the_peer_has_answered_is_not_asked_again() {
    for what in [Asked::Write, Asked::Zero, Asked::Flush] {
        let mut bench = served();
        let request = ask(&mut bench, what);
        let asked = passed_on(&mut bench);
        bench.command(Command::SuspendIo);
        answer(&mut bench, asked[0]);
        assert_eq!(bench.answer(request), None, "clients wait");
        meet_again(&mut bench);
        assert_eq!(passed_on(&mut bench), [], "{what:?}");
        bench.command(Command::ResumeIo);
        assert_eq!(passed_on(&mut bench), [], "{what:?}");
        assert_eq!(bench.answer(request), Some(Ok(())), "{what:?}");
    }
}

#[test]
fn clients_wait_for_a_peer_that_goes_out_of_reach_and_not_for_ever() {
    for what in ALL {
        let mut bench = served();
        let request = ask(&mut bench, what);
        bench.link_down(LinkLoss::Closed);
        let later = ask(&mut bench, what);
        bench.wait_ms(9_999);
        assert_eq!(bench.answer(request), None, "{what:?}");
        assert_eq!(bench.answer(later), None, "{what:?}");
        bench.wait_ms(1);
        let error = Some(Err(RequestError::Io));
        assert_eq!(bench.answer(request), error, "{what:?}");
        assert_eq!(bench.answer(later), error, "{what:?}");
    }
}

#[test]
fn an_answer_over_an_older_link_answers_nothing() {
    for what in ALL {
        let mut bench = served();
        let request = ask(&mut bench, what);
        let first = passed_on(&mut bench);
        let own = bench.relink().expect("a greeting");
        answer(&mut bench, first[0]);
        assert_eq!(bench.answer(request), None, "{what:?}");
        bench.packet(Packet::Hello(Box::new(whole(&own))));
    }
}

#[test]
fn data_of_another_place_than_was_asked_for_costs_the_link() {
    let mut bench = served();
    let request = ask(&mut bench, Asked::Read);
    let (id, _) = passed_on(&mut bench)[0];
    let (volume, range) = (VOLUME, ByteRange::new(0, 4096));
    bench.packet(Packet::RemoteData { id, volume, range });
    assert_eq!(bench.answer(request), None);
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Protocol));
}

#[test]
fn a_place_the_peer_cannot_read_costs_only_that_read() {
    let mut bench = served();
    let request = ask(&mut bench, Asked::Read);
    let (id, _) = passed_on(&mut bench)[0];
    let (volume, code) = (VOLUME, FailureCode::Io);
    bench.packet(Packet::RemoteFailed { id, volume, code });
    assert_eq!(bench.answer(request), Some(Err(RequestError::Io)));
    let other = ask(&mut bench, Asked::Read);
    let asked = passed_on(&mut bench);
    answer(&mut bench, asked[0]);
    assert_eq!(bench.answer(other), Some(Ok(())), "the peer serves on");
}

#[test]
fn a_write_that_failed_there_is_not_tried_again_and_counts_for_no_other() {
    let mut bench = served();
    let first = ask(&mut bench, Asked::Write);
    let second = bench.write(1 << 20);
    let asked = passed_on(&mut bench);
    let (volume, code) = (VOLUME, FailureCode::NoSpace);
    let id = asked[0].0;
    bench.packet(Packet::RemoteFailed { id, volume, code });
    assert_eq!(bench.answer(first), Some(Err(RequestError::NoSpace)));
    assert_eq!(bench.answer(second), None);
    answer(&mut bench, asked[1]);
    assert_eq!(bench.answer(second), Some(Ok(())));
    assert_eq!(passed_on(&mut bench), []);
}

/// Its generation tells what clients have seen last: a greeting says so.
#[test]
fn the_generation_the_peer_writes_under_is_what_clients_have_seen() {
    let mut bench = served();
    let newer = GenerationId(0x3000);
    ask(&mut bench, Asked::Write);
    let asked = passed_on(&mut bench);
    done(&mut bench, asked[0].0, newer);
    assert_eq!(bench.generation(), newer);
    let own = bench.relink().expect("a greeting");
    assert_eq!(own.volumes[0].current, newer);
}

#[test]
fn what_overlaps_goes_to_the_peer_one_after_the_other() {
    let mut bench = served();
    let first = ask(&mut bench, Asked::Write);
    ask(&mut bench, Asked::Zero);
    ask(&mut bench, Asked::Read);
    let asked = passed_on(&mut bench);
    assert_eq!(asked.len(), 1, "the peer may do them in any order");
    answer(&mut bench, asked[0]);
    assert_eq!(bench.answer(first), Some(Ok(())));
    let next = passed_on(&mut bench);
    assert_eq!(next.len(), 1);
    assert_eq!(next[0].1, Asked::Zero);
    answer(&mut bench, next[0]);
    assert_eq!(passed_on(&mut bench)[0].1, Asked::Read);
}

/// The answers of one that serves, by the names of what was asked.
fn answers(bench: &mut Bench) -> Vec<(u64, Result<(), FailureCode>)> {
    let answers = bench.sent().into_iter().filter_map(|packet| match packet {
        Packet::RemoteDone { id, .. } | Packet::RemoteData { id, .. } => Some((id, Ok(()))),
        Packet::RemoteFailed { id, code, .. } => Some((id, Err(code))),
        _ => None,
    });
    answers.collect()
}

#[test]
fn one_that_serves_says_what_it_could_not_do_and_why() {
    for (error, code) in [
        (DiskError::Io, FailureCode::NoDisk),
        (DiskError::Gone, FailureCode::NoDisk),
    ] {
        let mut bench = serving();
        bench.packet(Packet::RemoteFlush {
            id: 70,
            volume: VOLUME,
        });
        bench.write_metadata();
        bench.disk(DiskRequest::Flush, Err(error));
        assert_eq!(answers(&mut bench), [(70, Err(code))], "{error:?}");
    }
}

#[test]
fn one_that_serves_answers_reads_from_its_disk_after_earlier_writes() {
    let mut bench = serving();
    ask_write(&mut bench, 70);
    bench.packet(Packet::RemoteRead {
        id: 71,
        volume: VOLUME,
        range: ByteRange::new(0, 4096),
    });
    bench.write_metadata();
    assert_eq!(bench.on_disk(DiskRequest::Read), 0, "the write goes first");
    bench.disk(WRITE, Ok(()));
    bench.write_metadata();
    bench.disk(DiskRequest::Read, Ok(()));
    assert_eq!(answers(&mut bench), [(70, Ok(())), (71, Ok(()))]);
}

#[test]
fn what_lies_outside_of_the_volume_costs_one_that_serves_its_link() {
    for (offset, length) in [(64 << 20, 4096), (256, 4096), (0, 100), (0, 0)] {
        let mut bench = serving();
        bench.packet(Packet::RemoteRead {
            id: 70,
            volume: VOLUME,
            range: ByteRange::new(offset, length),
        });
        let place = (offset, length);
        assert_eq!(bench.close_dropped(), Some(LinkLoss::Protocol), "{place:?}");
    }
}

#[test]
fn clients_do_not_wait_for_a_peer_that_did_not_serve_them() {
    let mut bench = served();
    let own = bench.relink().expect("a greeting");
    let mut hello = whole(&own);
    hello.volumes[0].current = GenerationId(0x7777);
    bench.packet(Packet::Hello(Box::new(hello)));
    let error = Some(Err(RequestError::Io));
    let request = ask(&mut bench, Asked::Read);
    assert_eq!(bench.answer(request), error, "it has other data");
    bench.link_down(LinkLoss::Closed);
    let request = ask(&mut bench, Asked::Read);
    assert_eq!(bench.answer(request), error);
}

#[test]
fn clients_do_not_wait_for_a_peer_that_lacks_data_when_the_disk_is_lost() {
    let mut bench = source();
    let write = bench.write(0);
    bench.write_metadata();
    bench.disk(WRITE, Err(DiskError::Io));
    assert_eq!(bench.disk_state(), DiskState::Diskless);
    assert_eq!(bench.answer(write), Some(Err(RequestError::Io)));
}

/// It has holes: whatever process attaches it next is not to take it for an old state of the data.
#[test]
fn a_disk_that_fails_while_it_is_filled_does_not_say_that_it_is_consistent() {
    let mut bench = being_filled();
    bench.sent();
    bench.packet(Packet::Write {
        id: 900,
        volume: VOLUME,
        range: ByteRange::new(8192, 4096),
        fua: false,
        place: Default::default(),
    });
    bench.disk(WRITE, Err(DiskError::Io));
    assert_eq!(bench.disk_state(), DiskState::Diskless);
    bench.write_metadata();
    let superblock = bench.superblock.expect("written");
    assert!(!superblock.flags.consistent, "(E1)");
}
