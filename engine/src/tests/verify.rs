//! Comparing both copies while clients go on.

use alloc::vec::Vec;

use rbd_protocol::control::{RefusalCode, VerifyOrder};
use rbd_protocol::ids::{ByteRange, NodeId};
use rbd_protocol::peer::{Digest, FailureCode, Packet};
use rbd_protocol::state::{DiskState, ReplicationState, Role};

use super::two_primaries::{BEFORE, peer_writes, with};
use super::{Bench, VOLUME, config};
use crate::{Action, Command, DiskError, DiskRequest, Event, Handler, LinkLoss};

/// Little is compared at first, so that tests of one request know what it is.
const BLOCK: u64 = 4096;
const WRITE: DiskRequest = DiskRequest::Write { fua: false };

fn start(from: u64, until: u64, repair: bool) -> Command {
    Command::Verify {
        volume: VOLUME,
        peer: None,
        order: VerifyOrder::Start {
            from: Some(from),
            until: Some(until),
            repair,
        },
    }
}

fn primary() -> Bench {
    let mut config = config();
    config.peers[0].net.verify = true;
    config
        .handlers
        .push(("out-of-sync".into(), "/bin/true".into()));
    Bench::primary_as(config)
}

/// What the peer has been asked for.
fn asked(bench: &mut Bench) -> Vec<(u64, ByteRange)> {
    let requests = bench.sent().into_iter().filter_map(|packet| match packet {
        Packet::VerifyRequest { id, range, .. } => Some((id, range)),
        _ => None,
    });
    requests.collect()
}

/// The peer answers with digests that are all `fill`.
fn peer_replies(bench: &mut Bench, id: u64, range: ByteRange, fill: u8) {
    let volume = VOLUME;
    let digests = digests(range, fill);
    bench.packet(Packet::VerifyReply {
        id,
        volume,
        digests,
    });
}

fn digests(range: ByteRange, fill: u8) -> Vec<Digest> {
    (0..range.length / 4096).map(|_| [fill; 16]).collect()
}

/// The disk has made the digests asked for, all `fill`. Returns where.
fn digests_made(bench: &mut Bench, fill: u8) -> Option<ByteRange> {
    let at = bench.asked.iter().position(
        |action| matches!(action, Action::Disk { request, .. } if *request == DiskRequest::Digest),
    )?;
    let Action::Disk { id, range, .. } = bench.asked.remove(at) else {
        return None;
    };
    let result = Ok(digests(range, fill));
    bench.tell(Event::Digests { id, result });
    Some(range)
}

/// Lets the verify compare everything; both copies are the same but for these blocks.
fn compare(bench: &mut Bench, differing: &[u64]) -> Vec<ByteRange> {
    let mut compared = Vec::new();
    loop {
        bench.now = bench.now.plus_ms(1);
        let Some((id, range)) = asked_first(bench) else {
            return compared;
        };
        let blocks = || (range.offset / BLOCK..range.end() / BLOCK).zip(0..);
        let (volume, mut digests) = (VOLUME, digests(range, 1));
        for (block, at) in blocks() {
            if differing.contains(&block) {
                digests[usize::from(u16::try_from(at).unwrap())] = [2; 16];
            }
        }
        bench.packet(Packet::VerifyReply {
            id,
            volume,
            digests,
        });
        assert_eq!(digests_made(bench, 1), Some(range));
        compared.push(range);
    }
}

/// The oldest request that has not been answered.
/// A verify of the first blocks has found that this one differs.
pub(super) fn finds(bench: &mut Bench, block: u64) {
    bench.command(start(0, 4 * BLOCK, false));
    compare(bench, &[block]);
    bench.sent();
}

fn asked_first(bench: &mut Bench) -> Option<(u64, ByteRange)> {
    let at = bench
        .asked
        .iter()
        .position(|action| matches!(action, Action::Send { packet, .. } if is_request(packet)))?;
    match bench.asked.remove(at) {
        Action::Send {
            packet: Packet::VerifyRequest { id, range, .. },
            ..
        } => Some((id, range)),
        _ => None,
    }
}

fn is_request(packet: &Packet) -> bool {
    matches!(packet, Packet::VerifyRequest { .. })
}

fn abort() -> Command {
    Command::Verify {
        volume: VOLUME,
        peer: None,
        order: VerifyOrder::Stop,
    }
}

/// Goes on where the last one was ended, until the end.
fn go_on() -> Command {
    Command::Verify {
        volume: VOLUME,
        peer: None,
        order: VerifyOrder::Start {
            from: None,
            until: None,
            repair: false,
        },
    }
}

#[test]
fn a_verify_needs_an_algorithm_a_connection_and_data_on_both_sides() {
    let mut bench = Bench::primary();
    let call = bench.command(start(0, BLOCK, false));
    assert_eq!(
        bench.refusal(call).code,
        RefusalCode::StateNoVerifyAlgorithm
    );
    let mut bench = primary();
    bench.command(start(0, BLOCK, false));
    let call = bench.command(start(0, BLOCK, false));
    assert_eq!(bench.refusal(call).code, RefusalCode::StateSyncActive);
    bench.link_down(LinkLoss::Closed);
    let call = bench.command(start(0, BLOCK, false));
    assert_eq!(bench.refusal(call).code, RefusalCode::StateNeedsConnection);
    let mut bench = primary();
    bench.packet(Packet::State {
        role: Role::Secondary,
        tenure: 7,
        disks: alloc::vec![(VOLUME, DiskState::Diskless)],
    });
    let call = bench.command(start(0, BLOCK, false));
    assert_eq!(bench.refusal(call).code, RefusalCode::StateNoUpToDateData);
}

#[test]
fn a_piece_is_asked_for_when_writes_to_it_that_are_under_way_have_ended_on_both_nodes() {
    let mut bench = primary();
    bench.write(0);
    bench.write_metadata();
    bench.command(start(0, BLOCK, false));
    let is_asked = |bench: &Bench| bench.sent_so_far().any(is_request);
    assert!(!is_asked(&bench), "both disks have it to do");
    bench.disk(WRITE, Ok(()));
    assert!(!is_asked(&bench), "the peer has it to do");
    bench.peer_acks();
    assert!(is_asked(&bench));
}

#[test]
fn everything_is_compared_once_and_what_differs_is_told_block_by_block() {
    let mut bench = primary();
    bench.command(start(BLOCK, 300 * BLOCK, false));
    let compared = compare(&mut bench, &[7, 8, 200]);
    let mut at = BLOCK;
    for range in compared {
        assert_eq!(range.offset, at);
        at = range.end();
    }
    assert_eq!(at, 300 * BLOCK);
    assert_eq!(bench.out_of_sync_bytes(), 3 * BLOCK);
    bench.flush_all();
    let reports = bench.reports();
    assert!(reports.contains(&"out of sync: 819200+4096"), "{reports:?}");
    let done = "verify done: 1224704 bytes, 3 blocks out of sync";
    assert!(reports.contains(&done), "{reports:?}");
}

#[test]
fn a_verify_that_was_ended_goes_on_where_it_was_and_then_begins_anew() {
    let mut bench = primary();
    bench.command(start(0, 2 * BLOCK, false));
    compare(&mut bench, &[]);
    bench.command(go_on());
    assert_eq!(asked_first(&mut bench).unwrap().1.offset, 2 * BLOCK);
    bench.command(abort());
    bench.command(go_on());
    assert_eq!(asked_first(&mut bench).unwrap().1.offset, 2 * BLOCK);
    bench.command(abort());
    let size = bench.engine.status(bench.now).devices[0].size_bytes;
    bench.command(start(size - BLOCK, size, false));
    compare(&mut bench, &[]);
    bench.command(go_on());
    assert_eq!(asked_first(&mut bench).unwrap().1.offset, 0);
}

#[test]
fn a_verify_ends_with_the_disk_of_its_node_and_holds_nothing_back() {
    let mut bench = primary();
    bench.command(start(0, BLOCK, false));
    let (id, range) = asked(&mut bench)[0];
    bench.write(1 << 20);
    bench.write_metadata();
    assert!(bench.disk(WRITE, Err(DiskError::Io)));
    peer_replies(&mut bench, id, range, 1);
    let ended = "verify ended: this node has no disk any more";
    assert!(bench.reports().contains(&ended));
    assert!(bench.connection().peer_devices[0].verify.is_none());
}

#[test]
fn a_peer_whose_disk_fails_while_it_is_compared_holds_no_write_back() {
    let mut bench = primary();
    bench.command(start(0, BLOCK, false));
    assert_eq!(asked(&mut bench).len(), 1);
    bench.write(0);
    bench.write_metadata();
    assert_eq!(bench.on_disk(WRITE), 0);
    let code = FailureCode::Io;
    let volume = VOLUME;
    bench.packet(Packet::NegativeAck {
        id: 0,
        volume,
        code,
    });
    bench.write_metadata();
    assert_eq!(bench.on_disk(WRITE), 1);
}

#[test]
fn a_peer_that_lives_and_makes_no_digests_is_given_up() {
    let mut bench = primary();
    bench.command(start(0, BLOCK, false));
    for step in 0..240 {
        bench.wait_ms(500);
        bench.packet(Packet::Ping { id: step });
    }
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Timeout));
}

#[test]
fn a_leader_that_lives_and_lets_nothing_go_is_given_up() {
    let mut bench = primary();
    let (id, volume, range) = (7, VOLUME, ByteRange::new(0, 4096));
    bench.packet(Packet::VerifyRequest { id, volume, range });
    digests_made(&mut bench, 1);
    for step in 0..240 {
        bench.wait_ms(500);
        bench.packet(Packet::Ping { id: step });
    }
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Timeout));
}

#[test]
fn a_leader_that_asks_for_too_much_breaks_the_protocol() {
    for range in [ByteRange::new(0, 128 << 10), ByteRange::new(100, 4096)] {
        let mut bench = primary();
        let (id, volume) = (7, VOLUME);
        bench.packet(Packet::VerifyRequest { id, volume, range });
        assert_eq!(bench.close_dropped(), Some(LinkLoss::Protocol));
    }
}

#[test]
fn digests_of_a_range_that_was_let_go_are_not_sent() {
    let mut bench = primary();
    let (id, volume, range) = (7, VOLUME, ByteRange::new(0, 4096));
    bench.packet(Packet::VerifyRequest { id, volume, range });
    bench.packet(Packet::VerifyRelease { id, volume });
    digests_made(&mut bench, 1);
    let mut sent = bench.sent_so_far();
    assert!(!sent.any(|packet| matches!(packet, Packet::VerifyReply { .. })));
}

#[test]
fn a_write_that_comes_during_the_comparison_waits_for_its_end() {
    let mut bench = primary();
    bench.command(start(0, BLOCK, false));
    let (id, range) = asked(&mut bench)[0];
    bench.write(0);
    bench.write_metadata();
    assert_eq!(bench.on_disk(WRITE), 0);
    peer_replies(&mut bench, id, range, 1);
    assert_eq!(digests_made(&mut bench, 1), Some(range));
    assert!(
        bench
            .sent()
            .contains(&Packet::VerifyRelease { id, volume: VOLUME })
    );
    bench.write_metadata();
    assert_eq!(bench.on_disk(WRITE), 1);
    assert!(bench.handlers().is_empty(), "nothing differs");
}

#[test]
fn what_differs_is_marked_durably_before_people_are_told() {
    let mut bench = primary();
    bench.command(start(0, BLOCK, true));
    let (id, range) = asked(&mut bench)[0];
    peer_replies(&mut bench, id, range, 1);
    digests_made(&mut bench, 2);
    assert_eq!(bench.out_of_sync_bytes(), BLOCK);
    assert!(bench.handlers().is_empty());
    bench.flush_all();
    assert_eq!(bench.handlers(), [Handler::OutOfSync]);
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Renegotiate));
}

#[test]
fn without_repair_the_marks_stay() {
    let mut bench = primary();
    bench.command(start(0, BLOCK, false));
    let (id, range) = asked(&mut bench)[0];
    peer_replies(&mut bench, id, range, 1);
    digests_made(&mut bench, 2);
    bench.flush_all();
    assert_eq!(bench.close_dropped(), None);
    assert_eq!(bench.out_of_sync_bytes(), BLOCK);
}

#[test]
fn what_was_being_compared_when_the_link_was_lost_is_compared_again() {
    let mut bench = primary();
    bench.command(start(BLOCK, 4 * BLOCK, false));
    assert_eq!(asked(&mut bench)[0].1.offset, BLOCK);
    bench.link_down(LinkLoss::Closed);
    bench.meet(|hello| hello.role = Role::Secondary);
    let again = compare(&mut bench, &[]);
    assert_eq!(again.first().unwrap().offset, BLOCK);
    assert_eq!(again.last().unwrap().end(), 4 * BLOCK);
}

#[test]
fn a_peer_that_leads_holds_back_clients_here_until_it_lets_go() {
    let mut bench = primary();
    let (id, volume, range) = (7, VOLUME, ByteRange::new(0, 4096));
    bench.packet(Packet::VerifyRequest { id, volume, range });
    assert_eq!(
        bench.connection().peer_devices[0].replication_state,
        ReplicationState::VerifyT
    );
    bench.write(0);
    bench.write_metadata();
    assert_eq!(bench.on_disk(WRITE), 0);
    digests_made(&mut bench, 1);
    assert_eq!(bench.on_disk(WRITE), 0, "the peer still compares");
    bench.packet(Packet::VerifyRelease { id, volume });
    bench.write_metadata();
    assert_eq!(bench.on_disk(WRITE), 1);
}

#[test]
fn a_verify_that_is_ended_by_command_tells_where_it_was_and_lets_everything_go() {
    let mut bench = primary();
    bench.command(start(0, 2 * BLOCK, false));
    let held = asked(&mut bench).len();
    bench.command(abort());
    let released = bench.sent().into_iter();
    let released = released.filter(|packet| matches!(packet, Packet::VerifyRelease { .. }));
    assert_eq!(released.count(), held);
    bench.write(0);
    bench.write_metadata();
    assert_eq!(bench.on_disk(WRITE), 1);
}

#[test]
fn what_is_known_to_differ_is_not_read_for_a_primary_whose_disk_cannot_read_it() {
    let mut config = config();
    config.peers[0].net.verify = true;
    let mut bench = Bench::in_sync_as(config);
    bench.command(start(0, 4 * BLOCK, false));
    compare(&mut bench, &[1]);
    bench.packet(Packet::State {
        role: Role::Primary,
        tenure: 7,
        disks: alloc::vec![(VOLUME, DiskState::UpToDate)],
    });
    bench.sent();
    for (id, offset) in [(71, BLOCK), (72, 2 * BLOCK)] {
        let (volume, range) = (VOLUME, ByteRange::new(offset, 512));
        bench.packet(Packet::RemoteRead { id, volume, range });
    }
    let (id, volume, code) = (71, VOLUME, FailureCode::Io);
    let failed = Packet::RemoteFailed { id, volume, code };
    assert!(bench.sent().contains(&failed));
    assert_eq!(bench.on_disk(DiskRequest::Read), 1, "the other one is");
}

/// The comparison may wait for that write's end on the peer, and the client's for the comparison.
#[test]
fn a_write_of_the_other_primary_waits_for_none_that_a_comparison_holds_back() {
    let mut told = config();
    told.peers[0].net.verify = true;
    let mut bench = with(NodeId(5), told);
    peer_writes(&mut bench, 70, (0, 1), BEFORE);
    bench.write(0);
    bench.sent();
    bench.command(start(0, 65_536, false));
    assert!(asked_first(&mut bench).is_some(), "it is being compared");
    peer_writes(&mut bench, 71, (0, 1), BEFORE);
    bench.disk(WRITE, Ok(()));
    assert_eq!(bench.on_disk(WRITE), 1, "the second of the peer (F3)");
    bench.disk(WRITE, Ok(()));
    let acks = bench.sent().into_iter().filter_map(|packet| match packet {
        Packet::WriteAck { id, .. } => Some(id),
        _ => None,
    });
    assert_eq!(acks.collect::<Vec<_>>(), [70, 71]);
}
