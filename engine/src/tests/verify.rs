//! Comparing both copies while clients go on.

use alloc::vec::Vec;

use rbd_protocol::control::{RefusalCode, VerifyOrder};
use rbd_protocol::ids::ByteRange;
use rbd_protocol::peer::{Digest, Packet};
use rbd_protocol::state::ReplicationState;

use super::{Bench, VOLUME, config};
use crate::{Action, Command, DiskRequest, Event, Handler, LinkLoss};

const PIECE: u64 = 64 << 10;
const WRITE: DiskRequest = DiskRequest::Write { fua: false };

fn start(from: u64, until: u64, repair: bool) -> Command {
    Command::Verify {
        volume: VOLUME,
        peer: None,
        order: VerifyOrder::Start {
            from,
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

#[test]
fn a_verify_needs_an_algorithm_a_connection_and_data_on_both_sides() {
    let mut bench = Bench::primary();
    let call = bench.command(start(0, PIECE, false));
    assert_eq!(
        bench.refusal(call).code,
        RefusalCode::StateNoVerifyAlgorithm
    );
    let mut bench = primary();
    bench.command(start(0, PIECE, false));
    let call = bench.command(start(0, PIECE, false));
    assert_eq!(bench.refusal(call).code, RefusalCode::StateSyncActive);
    bench.link_down(LinkLoss::Closed);
    let call = bench.command(start(0, PIECE, false));
    assert_eq!(bench.refusal(call).code, RefusalCode::StateNeedsConnection);
}

#[test]
fn a_piece_is_asked_for_when_no_write_to_it_is_under_way_and_writes_wait_for_its_end() {
    let mut bench = primary();
    bench.write(0);
    bench.write_metadata();
    bench.command(start(0, PIECE, false));
    assert!(asked(&mut bench).is_empty(), "a write is under way");
}

#[test]
fn a_write_that_comes_during_the_comparison_waits_for_its_end() {
    let mut bench = primary();
    bench.command(start(0, PIECE, false));
    let (id, range) = asked(&mut bench)[0];
    bench.write(4096);
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
    bench.command(start(0, PIECE, true));
    let (id, range) = asked(&mut bench)[0];
    peer_replies(&mut bench, id, range, 1);
    digests_made(&mut bench, 2);
    assert_eq!(bench.out_of_sync_bytes(), PIECE);
    assert!(bench.handlers().is_empty());
    bench.flush_all();
    assert_eq!(bench.handlers(), [Handler::OutOfSync]);
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Renegotiate));
}

#[test]
fn without_repair_the_marks_stay() {
    let mut bench = primary();
    bench.command(start(0, PIECE, false));
    let (id, range) = asked(&mut bench)[0];
    peer_replies(&mut bench, id, range, 1);
    digests_made(&mut bench, 2);
    bench.flush_all();
    assert_eq!(bench.close_dropped(), None);
    assert_eq!(bench.out_of_sync_bytes(), PIECE);
}

#[test]
fn what_was_being_compared_when_the_link_was_lost_is_compared_again() {
    let mut bench = primary();
    bench.command(start(PIECE, 4 * PIECE, false));
    assert_eq!(asked(&mut bench).len(), 3);
    bench.link_down(LinkLoss::Closed);
    bench.meet(|_| {});
    let again = asked(&mut bench);
    assert_eq!(again[0].1.offset, PIECE);
    assert_eq!(again.len(), 3);
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
    assert_eq!(bench.on_disk(WRITE), 1);
}

#[test]
fn a_verify_that_is_ended_by_command_tells_where_it_was_and_lets_everything_go() {
    let mut bench = primary();
    bench.command(start(0, 2 * PIECE, false));
    let held = asked(&mut bench).len();
    bench.command(Command::Verify {
        volume: VOLUME,
        peer: None,
        order: VerifyOrder::Stop,
    });
    let released = bench.sent().into_iter();
    let released = released.filter(|packet| matches!(packet, Packet::VerifyRelease { .. }));
    assert_eq!(released.count(), held);
    bench.write(0);
    bench.write_metadata();
    assert_eq!(bench.on_disk(WRITE), 1);
}
