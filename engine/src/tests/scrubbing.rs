//! What a verify compares, when, and what people are told of it, at its edges.

use alloc::vec::Vec;

use rbd_protocol::control::{ResourceConfig, VerifyOrder, VerifyProgress};
use rbd_protocol::ids::ByteRange;
use rbd_protocol::peer::{Digest, Packet};
use rbd_protocol::state::{DiskState, ReplicationState, Role};

use super::resync::{NEWER, end, replication};
use super::{Bench, GENERATION, VOLUME, config};
use crate::{Action, Command, DiskError, DiskRequest, Event, Level, LinkLoss};

const BLOCK: u64 = 4096;
const WRITE: DiskRequest = DiskRequest::Write { fua: false };
const DIGEST: DiskRequest = DiskRequest::Digest;
const LIKE: Digest = [1; 16];
const UNLIKE: Digest = [2; 16];

fn verifying() -> ResourceConfig {
    let mut config = config();
    config.peers[0].net.verify = true;
    let handler = ("out-of-sync".into(), "/bin/true".into());
    config.handlers.push(handler);
    config
}

fn primary() -> Bench {
    Bench::primary_as(verifying())
}

fn start(bench: &mut Bench, from: u64, until: u64, repair: bool) {
    let (from, until) = (Some(from), Some(until));
    bench.command(Command::Verify {
        volume: VOLUME,
        peer: None,
        order: VerifyOrder::Start {
            from,
            until,
            repair,
        },
    });
}

/// What the peer has been asked for since this was last looked at. What else it was sent stays.
fn asked(bench: &mut Bench) -> Vec<(u64, ByteRange)> {
    let mut requests = Vec::new();
    bench.asked.retain(|action| match action {
        Action::Send {
            packet: Packet::VerifyRequest { id, range, .. },
            ..
        } => {
            requests.push((*id, *range));
            false
        }
        _ => true,
    });
    requests
}

fn replies(bench: &mut Bench, id: u64, digests: Vec<Digest>) {
    let volume = VOLUME;
    bench.packet(Packet::VerifyReply {
        id,
        volume,
        digests,
    });
}

/// The oldest digests the own disk was asked for are made. Returns of which range, if it was.
fn digests_made(bench: &mut Bench, result: Result<Digest, DiskError>) -> Option<ByteRange> {
    let is_digest = |action: &Action<u32>| match action {
        Action::Disk { request, .. } => *request == DIGEST,
        _ => false,
    };
    let at = bench.asked.iter().position(is_digest)?;
    let Action::Disk { id, range, .. } = bench.asked.remove(at) else {
        return None;
    };
    let count = usize::try_from(range.length / 4096).unwrap();
    let result = result.map(|digest| alloc::vec![digest; count]);
    bench.tell(Event::Digests { id, result });
    Some(range)
}

/// Lets the verify go on to its end; the blocks differ of which this is true.
fn compare(bench: &mut Bench, differs: impl Fn(u64) -> bool) {
    let mut waiting = asked(bench);
    while let Some((id, range)) = waiting.pop() {
        bench.now = bench.now.plus_ms(1);
        let blocks = range.offset / BLOCK..range.end() / BLOCK;
        let digest = |block| if differs(block) { UNLIKE } else { LIKE };
        replies(bench, id, blocks.map(digest).collect());
        assert_eq!(digests_made(bench, Ok(LIKE)), Some(range));
        waiting.extend(asked(bench));
    }
}

/// The peer, which leads a verify, asks for digests.
fn peer_asks(bench: &mut Bench, id: u64, range: ByteRange) {
    let volume = VOLUME;
    bench.packet(Packet::VerifyRequest { id, volume, range });
}

fn levels_of(bench: &Bench, text: &str) -> Vec<Level> {
    let found = bench.asked.iter().filter_map(|action| match action {
        Action::Report(change) if change.text.starts_with(text) => Some(change.level),
        _ => None,
    });
    found.collect()
}

#[test]
fn differences_are_told_as_runs_of_blocks_and_only_so_many_of_them() {
    let mut bench = primary();
    start(&mut bench, 0, 4_000 * BLOCK, false);
    // Of every three blocks two differ, where the runs are told one by one and beyond.
    compare(&mut bench, |block| block >= 100 && block % 3 != 0);
    assert_eq!(bench.out_of_sync_bytes(), 2_600 * BLOCK);
    let told = levels_of(&bench, "out of sync: ");
    assert_eq!(told.len(), 1_000);
    let reports = bench.reports();
    let runs = reports.iter().filter(|text| text.ends_with("+8192"));
    assert!(runs.count() > 800, "all but those that end with a piece");
    let rest = levels_of(&bench, "what else is out of sync is only counted");
    assert_eq!(rest, [Level::Warn], "once");
    bench.flush_all();
    let done = "verify done: 16384000 bytes, 2600 blocks out of sync";
    assert_eq!(levels_of(&bench, done), [Level::Warn]);
}

#[test]
fn copies_that_are_the_same_are_no_reason_to_warn_or_to_copy() {
    let mut bench = primary();
    start(&mut bench, 0, BLOCK, true);
    compare(&mut bench, |_| false);
    bench.flush_all();
    let done = "verify done: 4096 bytes, 0 blocks out of sync";
    assert_eq!(levels_of(&bench, done), [Level::Info]);
    assert_eq!(bench.close_dropped(), None);
    assert!(bench.handlers().is_empty());
}

#[test]
fn what_cannot_be_compared_is_a_reason_to_warn_but_no_difference() {
    let mut bench = primary();
    start(&mut bench, 0, BLOCK, true);
    for _ in 0..2 {
        let (id, _) = asked(&mut bench)[0];
        replies(&mut bench, id, Vec::new());
        bench.wait_ms(1_000);
    }
    let done = "verify done: 0 bytes, 0 blocks out of sync, 4096 bytes cannot be read";
    assert_eq!(levels_of(&bench, done), [Level::Warn]);
    assert!(bench.handlers().is_empty());
    assert_eq!(bench.close_dropped(), None);
}

/// A checkpoint that began before may have saved the page already, or not look at it at all.
#[test]
fn a_barrier_that_began_before_the_last_difference_was_found_does_not_make_it_durable() {
    let mut bench = primary();
    bench.write(1 << 20);
    bench.write_metadata();
    bench.disk(WRITE, Ok(()));
    bench.peer_acks();
    bench.wait_ms(1_000);
    assert_eq!(bench.on_disk(DiskRequest::Flush), 1, "what the peer has");
    let barrier = bench.sent_so_far().find_map(|packet| match packet {
        Packet::Flush { id, .. } => Some(*id),
        _ => None,
    });
    start(&mut bench, 0, BLOCK, false);
    let (id, range) = asked(&mut bench)[0];
    replies(&mut bench, id, alloc::vec![UNLIKE]);
    assert_eq!(digests_made(&mut bench, Ok(LIKE)), Some(range));
    assert!(bench.handlers().is_empty(), "its mark is not durable");
    bench.disk(DiskRequest::Flush, Ok(()));
    let (id, volume) = (barrier.expect("a barrier"), VOLUME);
    bench.packet(Packet::FlushAck { id, volume });
    assert!(bench.handlers().is_empty(), "nor is it after that barrier");
    bench.flush_all();
    assert_eq!(bench.handlers().len(), 1);
}

#[test]
fn digests_of_fewer_or_more_blocks_than_were_asked_for_break_the_protocol() {
    for wrong in [1, 3] {
        let mut bench = primary();
        start(&mut bench, 0, 400 * BLOCK, false);
        let found = loop {
            bench.now = bench.now.plus_ms(1);
            let (id, range) = asked(&mut bench)[0];
            let count = usize::try_from(range.length / 4096).unwrap();
            if count > 1 {
                break (id, count);
            }
            replies(&mut bench, id, alloc::vec![LIKE; count]);
            digests_made(&mut bench, Ok(LIKE));
        };
        let (id, count) = found;
        replies(&mut bench, id, alloc::vec![LIKE; count - 2 + wrong]);
        assert_eq!(bench.close_dropped(), Some(LinkLoss::Protocol));
        assert_eq!(bench.on_disk(DIGEST), 0);
    }
}

#[test]
fn what_a_verify_asks_for_is_whole_blocks() {
    let mut bench = primary();
    start(&mut bench, BLOCK + 512, 2 * BLOCK + 1, false);
    let mut ranges = Vec::new();
    while let Some((id, range)) = asked(&mut bench).pop() {
        ranges.push((range.offset, range.end()));
        replies(&mut bench, id, alloc::vec![LIKE; 1]);
        digests_made(&mut bench, Ok(LIKE));
        bench.now = bench.now.plus_ms(1);
    }
    assert_eq!(ranges.first().unwrap().0, BLOCK);
    assert_eq!(ranges.last().unwrap().1, 3 * BLOCK);
}

#[test]
fn people_see_how_far_a_verify_is() {
    let mut bench = primary();
    start(&mut bench, BLOCK, 3 * BLOCK, false);
    assert_eq!(replication(&bench), ReplicationState::VerifyS);
    bench.now = bench.now.plus_ms(30);
    let (id, range) = asked(&mut bench)[0];
    let progress = |bench: &Bench| bench.connection().peer_devices[0].verify;
    let begun = VerifyProgress {
        start_bytes: BLOCK,
        stop_bytes: 3 * BLOCK,
        position_bytes: BLOCK,
        differing_blocks: 0,
        elapsed_ms: 30,
    };
    assert_eq!(progress(&bench), Some(begun));
    replies(&mut bench, id, alloc::vec![UNLIKE; 1]);
    digests_made(&mut bench, Ok(LIKE));
    let now = progress(&bench).expect("it goes on");
    assert_eq!(now.position_bytes, range.end());
    assert_eq!(now.differing_blocks, 1);
    let is_over = |action: &Action<u32>| match action {
        Action::WakeAt(time) => *time <= bench.now,
        _ => false,
    };
    assert!(!bench.asked.iter().any(is_over), "it wakes up for nothing");
}

#[test]
fn a_verify_that_the_peer_leads_is_shown_for_as_long_as_it_asks() {
    let mut bench = primary();
    let asked_at = bench.now;
    peer_asks(&mut bench, 7, ByteRange::new(0, 4096));
    digests_made(&mut bench, Ok(LIKE));
    let (id, volume) = (7, VOLUME);
    bench.packet(Packet::VerifyRelease { id, volume });
    bench.now = asked_at.plus_ms(999);
    assert_eq!(replication(&bench), ReplicationState::VerifyT);
    bench.now = asked_at.plus_ms(1_000);
    assert_eq!(replication(&bench), ReplicationState::Established);
}

#[test]
fn a_leader_may_ask_for_as_much_as_one_holds_at_once_and_no_more() {
    let mut bench = primary();
    for id in 0..128 {
        peer_asks(&mut bench, id, ByteRange::new(64 * 1024 * id, 64 << 10));
    }
    assert_eq!(bench.close_dropped(), None);
    assert_eq!(bench.on_disk(DIGEST), 128);
    peer_asks(&mut bench, 128, ByteRange::new(48 << 20, 4096));
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Protocol));
}

#[test]
fn what_a_leader_asks_for_is_read_when_writes_under_way_have_ended_on_both_nodes() {
    let mut bench = primary();
    for offset in [0, 1 << 20] {
        bench.write(offset);
    }
    bench.write_metadata();
    peer_asks(&mut bench, 7, ByteRange::new(0, 4096));
    assert_eq!(bench.on_disk(DIGEST), 0, "it is being written");
    bench.disk(WRITE, Ok(()));
    assert_eq!(bench.on_disk(DIGEST), 0, "by the peer, too");
    // The other write does not matter.
    let written = bench.sent().into_iter().find_map(|packet| match packet {
        Packet::Write { id, range, .. } if range.offset == 0 => Some(id),
        _ => None,
    });
    let (id, volume) = (written.expect("it was sent"), VOLUME);
    bench.packet(Packet::WriteAck { id, volume });
    assert_eq!(bench.on_disk(DIGEST), 1);
}

#[test]
fn writes_elsewhere_do_not_keep_a_verify_waiting() {
    let mut bench = primary();
    bench.write(1 << 20);
    bench.write_metadata();
    bench.sent();
    start(&mut bench, 0, BLOCK, false);
    assert_eq!(asked(&mut bench).len(), 1);
}

#[test]
fn digests_wanted_over_an_older_link_are_not_sent_over_the_next() {
    let mut bench = primary();
    peer_asks(&mut bench, 7, ByteRange::new(0, 4096));
    let at = bench.asked.iter().find_map(|action| match action {
        Action::Disk { id, request, .. } if *request == DIGEST => Some(*id),
        _ => None,
    });
    bench.link_down(LinkLoss::Closed);
    let id = at.expect("it is read");
    bench.meet(|hello| hello.role = Role::Secondary);
    // The new link uses the same name.
    peer_asks(&mut bench, 7, ByteRange::new(8192, 4096));
    bench.sent();
    let result = Ok(alloc::vec![LIKE]);
    bench.tell(Event::Digests { id, result });
    let mut sent = bench.sent().into_iter();
    assert!(!sent.any(|packet| matches!(packet, Packet::VerifyReply { .. })));
}

#[test]
fn a_disk_that_is_gone_while_it_makes_digests_has_failed() {
    let mut bench = primary();
    peer_asks(&mut bench, 7, ByteRange::new(0, 4096));
    digests_made(&mut bench, Err(DiskError::Gone));
    assert_eq!(bench.disk_state(), DiskState::Diskless);
}

/// A Secondary that leads a verify is brought up to date by the peer first.
#[test]
fn nothing_is_compared_during_a_resync_and_then_the_verify_goes_on() {
    let mut bench = Bench::in_sync_as(verifying());
    start(&mut bench, 0, 2 * BLOCK, false);
    assert!(!asked(&mut bench).is_empty());
    bench.link_down(LinkLoss::Closed);
    bench.meet(|hello| {
        hello.role = Role::Primary;
        hello.volumes[0].disk = DiskState::UpToDate;
        hello.volumes[0].current = NEWER;
        hello.volumes[0].bitmap = GENERATION;
        hello.volumes[0].history.clear();
        hello.volumes[0].dirty_blocks = 1;
    });
    assert_eq!(replication(&bench), ReplicationState::WFBitMapT);
    bench.packet(super::resync::blocks(&[5]));
    bench.packet(end(NEWER));
    bench.write_metadata();
    assert!(
        asked(&mut bench).is_empty(),
        "the copies are known to differ"
    );
    assert_eq!(replication(&bench), ReplicationState::SyncTarget);
}

#[test]
fn a_peer_that_is_no_longer_up_to_date_is_not_compared_with() {
    let mut bench = primary();
    start(&mut bench, 0, 400 * BLOCK, false);
    let (id, range) = asked(&mut bench)[0];
    bench.packet(Packet::State {
        role: Role::Secondary,
        tenure: 7,
        disks: alloc::vec![(VOLUME, DiskState::Outdated)],
    });
    bench.write_metadata();
    bench.sent();
    bench.now = bench.now.plus_ms(1);
    let count = usize::try_from(range.length / 4096).unwrap();
    replies(&mut bench, id, alloc::vec![LIKE; count]);
    digests_made(&mut bench, Ok(LIKE));
    assert!(asked(&mut bench).is_empty());
}

#[test]
fn a_verify_that_has_just_asked_is_not_held_against_a_peer_met_long_ago() {
    let mut bench = primary();
    let lives = |bench: &mut Bench, halves: u64| {
        for id in 0..halves {
            bench.wait_ms(500);
            bench.packet(Packet::Ping { id });
        }
    };
    lives(&mut bench, 600);
    start(&mut bench, 0, BLOCK, false);
    lives(&mut bench, 4);
    assert_eq!(bench.close_dropped(), None);
}
