//! What two Primaries ask each other before a read is answered, and what people see of what is
//! under way.

use rbd_protocol::control::DiskTrouble;
use rbd_protocol::ids::ByteRange;
use rbd_protocol::peer::{Hello, Packet};
use rbd_protocol::state::{DiskState, ReplicationState};

use super::two_primaries::{BEFORE, higher, peer_writes};
use super::{Bench, GENERATION, SIZE, VOLUME, config, image};
use crate::{Action, Command, DiskRequest, Event, LinkLoss, RequestId, RequestKind};

const READ: DiskRequest = DiskRequest::Read;
const WRITE: DiskRequest = DiskRequest::Write { fua: false };

fn read(bench: &mut Bench, offset: u64) -> RequestId {
    bench.request(RequestKind::Read, ByteRange::new(offset, 4096))
}

/// What the peer is asked whether its disk has, since this was last looked at.
fn questions(bench: &mut Bench) -> alloc::vec::Vec<u64> {
    let asked = bench.sent().into_iter().filter_map(|packet| match packet {
        Packet::Settle { id, .. } => Some(id),
        _ => None,
    });
    asked.collect()
}

fn settled(bench: &mut Bench, id: u64) {
    let volume = VOLUME;
    bench.packet(Packet::Settled { id, volume });
}

/// The write to this place ends on the own disk.
fn written(bench: &mut Bench, place: u64) {
    let is_there = |action: &Action<u32>| match action {
        Action::Disk { request, range, .. } => *request == WRITE && range.offset == place,
        _ => false,
    };
    let at = bench
        .asked
        .iter()
        .position(is_there)
        .expect("it is written");
    if let Action::Disk { id, .. } = bench.asked.remove(at) {
        let result = Ok(None);
        bench.tell(Event::DiskDone { id, result });
    }
}

/// The peer has written one block and this node has it; a client here has read it.
fn unsettled() -> (Bench, RequestId) {
    let mut bench = higher();
    peer_writes(&mut bench, 70, (0, 1), BEFORE);
    bench.disk(WRITE, Ok(()));
    bench.sent();
    let request = read(&mut bench, 0);
    bench.disk(READ, Ok(()));
    assert_eq!(bench.answer(request), None);
    (bench, request)
}

#[test]
fn an_answer_about_other_writes_than_were_asked_about_costs_the_link() {
    let (mut bench, request) = unsettled();
    assert_eq!(questions(&mut bench), [1]);
    settled(&mut bench, 7);
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Protocol));
    assert_ne!(bench.answer(request), None, "the peer is gone: it stands");
    let (mut bench, request) = unsettled();
    settled(&mut bench, 1);
    assert_eq!(bench.answer(request), Some(Ok(())));
    settled(&mut bench, 1);
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Protocol), "once");
}

#[test]
fn one_question_at_a_time_is_asked() {
    let (mut bench, first) = unsettled();
    assert_eq!(questions(&mut bench), [1]);
    let second = read(&mut bench, 0);
    bench.disk(READ, Ok(()));
    assert_eq!(questions(&mut bench), []);
    settled(&mut bench, 1);
    assert_eq!(bench.answer(first), Some(Ok(())));
    assert_eq!(bench.answer(second), Some(Ok(())));
}

#[test]
fn what_was_read_stands_when_the_other_primary_is_lost() {
    let (mut bench, request) = unsettled();
    bench.link_down(LinkLoss::Closed);
    bench.write_metadata();
    assert_eq!(bench.answer(request), Some(Ok(())));
}

#[test]
fn a_read_waits_for_what_it_may_show_and_for_no_other_write() {
    let mut bench = higher();
    peer_writes(&mut bench, 70, (8192, 1), BEFORE);
    peer_writes(&mut bench, 71, (0, 1), BEFORE);
    bench.sent();
    let beside = read(&mut bench, 65_536);
    bench.disk(READ, Ok(()));
    assert_eq!(bench.answer(beside), Some(Ok(())), "nobody writes there");
    written(&mut bench, 0);
    let request = read(&mut bench, 0);
    bench.disk(READ, Ok(()));
    let asked = questions(&mut bench);
    settled(&mut bench, asked[0]);
    assert_eq!(bench.on_disk(WRITE), 1, "the other write is under way");
    assert_eq!(bench.answer(request), Some(Ok(())));
}

#[test]
fn a_read_that_meets_a_write_on_the_own_disk_may_show_it() {
    let mut bench = higher();
    let request = read(&mut bench, 0);
    peer_writes(&mut bench, 70, (0, 1), BEFORE);
    assert_eq!(bench.on_disk(WRITE), 1, "it does not wait for the read");
    bench.sent();
    bench.disk(READ, Ok(()));
    assert_eq!(bench.answer(request), None, "half of it may be there");
    bench.disk(WRITE, Ok(()));
    assert_eq!(bench.answer(request), None, "and the peer may not have it");
    let asked = questions(&mut bench);
    settled(&mut bench, asked[0]);
    assert_eq!(bench.answer(request), Some(Ok(())));
}

#[test]
fn what_is_under_way_is_counted_for_people() {
    let mut bench = Bench::primary();
    bench.write(0);
    bench.write_metadata();
    let flush = bench.flush();
    read(&mut bench, 1 << 20);
    let seen = |bench: &Bench| {
        let (status, connection) = (bench.engine.status(bench.now), bench.connection());
        let in_flight = connection.application_in_flight_bytes;
        let upper = status.devices[0].upper_pending;
        (upper, connection.peer_devices[0].pending, in_flight)
    };
    assert_eq!(seen(&bench), (3, 1, 4096));
    bench.peer_acks();
    assert_eq!(seen(&bench), (3, 0, 0));
    assert_eq!(bench.answer(flush), None);
    bench.command(Command::SuspendIo);
    bench.write(8192);
    assert_eq!(seen(&bench).0, 4, "what waits frozen counts too");
    let mut bench = Bench::in_sync();
    let of_peer = |bench: &Bench| bench.connection().peer_devices[0].unacknowledged;
    assert_eq!(of_peer(&bench), 0);
    bench.packet(Packet::Write {
        id: 1,
        volume: VOLUME,
        range: ByteRange::new(0, 4096),
        fua: false,
        place: Default::default(),
    });
    bench.write_metadata();
    assert_eq!(of_peer(&bench), 1);
}

/// A Primary whose clients the peer serves while a disk is filled that hangs.
#[test]
fn a_disk_that_hangs_while_it_is_filled_is_let_go() {
    let mut bench = super::diskless::served();
    bench.attach(image());
    let own = bench.relink().expect("a greeting");
    let mut theirs: Hello = super::diskless::whole(&own);
    theirs.volumes[0].current = super::resync::NEWER;
    theirs.volumes[0].bitmap = GENERATION;
    theirs.volumes[0].dirty_blocks = 1;
    bench.packet(Packet::Hello(alloc::boxed::Box::new(theirs)));
    bench.write_metadata();
    bench.packet(super::resync::blocks(&[0]));
    bench.packet(super::resync::end(super::resync::NEWER));
    bench.write_metadata();
    let replication = super::resync::replication(&bench);
    assert_eq!(replication, ReplicationState::SyncTarget);
    let mut limited = config();
    limited.volumes[0].on_disk_trouble = DiskTrouble {
        timeout_ms: 2_500,
        ..DiskTrouble::default()
    };
    bench.command(Command::Configure(alloc::boxed::Box::new(limited)));
    let asked = super::resync::asked_for(&mut bench);
    let ((id, range), volume) = (asked[0], VOLUME);
    bench.packet(Packet::ResyncData { id, volume, range });
    assert_eq!(bench.on_disk(WRITE), 1);
    bench.wait_ms(2_499);
    assert_ne!(bench.disk_state(), DiskState::Diskless);
    bench.wait_ms(1);
    assert_eq!(bench.disk_state(), DiskState::Diskless);
    let text = "no answer for 2.5 s";
    assert!(bench.reports().iter().any(|report| report.contains(text)));
}

/// A disk on which nothing was ever written takes the limit of the configuration.
#[test]
fn a_just_created_disk_takes_no_more_than_its_limit() {
    let shown = |limit| {
        let mut config = config();
        config.volumes[0].size_limit_bytes = limit;
        let mut found = image();
        found.superblock.generation = rbd_protocol::ids::GenerationId::JUST_CREATED;
        let mut bench = Bench::bare(config);
        bench.attach(found);
        let resized = bench
            .reports()
            .iter()
            .any(|text| text.contains("size changes"));
        (
            bench.engine.status(bench.now).devices[0].size_bytes,
            resized,
        )
    };
    assert_eq!(shown(None), (SIZE, false));
    assert_eq!(shown(Some(SIZE)), (SIZE, false));
    assert_eq!(shown(Some(SIZE / 2)), (SIZE / 2, true));
    assert_eq!(shown(Some(512)), (SIZE, false), "less than a block is none");
}

/// The peer gives signs of life for two minutes, and nothing else.
fn only_lives(bench: &mut Bench) -> Option<LinkLoss> {
    for id in 0..240 {
        bench.wait_ms(500);
        bench.packet(Packet::Ping { id });
    }
    bench.close_dropped()
}

#[test]
fn a_peer_that_lives_and_does_not_read_for_this_node_is_given_up() {
    let mut bench = super::diskless::served();
    assert_eq!(only_lives(&mut bench), None, "it owes nothing");
    let mut bench = super::diskless::served();
    read(&mut bench, 0);
    assert_eq!(only_lives(&mut bench), Some(LinkLoss::Timeout));
}

#[test]
fn a_peer_is_not_given_up_for_a_read_the_own_disk_owes() {
    let mut bench = Bench::primary();
    read(&mut bench, 0);
    assert_eq!(bench.on_disk(READ), 1);
    assert_eq!(only_lives(&mut bench), None);
}
