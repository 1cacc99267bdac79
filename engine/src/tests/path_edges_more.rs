//! What is owed to a peer, or to clients, when something is lost or overridden: it is neither
//! forgotten nor done under a name of old.

use alloc::boxed::Box;
use alloc::vec::Vec;

use rbd_protocol::control::{Fencing, VerifyOrder};
use rbd_protocol::ids::{ByteRange, NodeId};
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{DiskState, ReplicationState, Role};

use super::attach::{being_filled, fill};
use super::diskless::{SHARED, ask_write, done, remote_write, served, whole};
use super::fenced_return::without_disk;
use super::fencing::{fenced, stonith};
use super::resync::{NEWER, asked_for, blocks, end, replication, source, source_of, target};
use super::two_primaries::{self, with};
use super::{Bench, GENERATION, SIZE, VOLUME, config, image};
use crate::{
    Action, Command, DiskError, DiskRequest, HandlerResult, Level, LinkLoss, RequestError,
    RequestId, RequestKind,
};

const WRITE: DiskRequest = DiskRequest::Write { fua: false };
const FLUSH: DiskRequest = DiskRequest::Flush;
const READ: DiskRequest = DiskRequest::ReadUnlessZero;

/// The peer may have lost it with its power, and come back as one that has everything.
#[test]
fn what_a_peer_may_lack_is_recorded_when_clients_go_on_without_a_verdict() {
    let mut bench = stonith();
    bench.write(0);
    bench.write_metadata();
    bench.disk(WRITE, Ok(()));
    bench.peer_acks();
    let generation = bench.generation();
    bench.link_down(LinkLoss::Timeout);
    assert!(bench.is_frozen());
    assert_eq!(bench.generation(), generation);
    bench.command(Command::ResumeIo);
    bench.write_metadata();
    assert!(!bench.is_frozen());
    assert_ne!(bench.generation(), generation, "(A2)");
}

#[test]
fn what_is_on_its_way_and_what_is_not_durable_there_are_bounded_together() {
    let mut bench = Bench::primary();
    bench.write(0);
    bench.write_metadata();
    bench.disk(WRITE, Ok(()));
    for block in 1..400 {
        bench.write(block * 4096);
        bench.disk(WRITE, Ok(()));
    }
    assert_eq!(bench.peer_acks(), 400);
    for block in 400..1_023 {
        bench.write(block * 4096);
    }
    let writes = |packet: &&Packet| matches!(packet, Packet::Write { .. });
    let sent = bench.sent_so_far().filter(writes).count();
    assert!((500..=600).contains(&sent), "{sent} beside 400 (B5)");
}

fn peer_writes(bench: &mut Bench, id: u64) {
    bench.packet(Packet::Write {
        id,
        volume: VOLUME,
        range: ByteRange::new(0, 4096),
        fua: false,
        place: Default::default(),
    });
}

/// Its sender writes it anew, or something newer.
#[test]
fn what_a_peer_sent_over_a_link_that_is_gone_is_not_begun_any_more() {
    let mut bench = Bench::in_sync();
    peer_writes(&mut bench, 70);
    peer_writes(&mut bench, 71);
    bench.link_down(LinkLoss::Closed);
    bench.disk(WRITE, Ok(()));
    assert_eq!(bench.on_disk(WRITE), 0, "(A7)");
}

/// The peer may be doing what the own disk would then lack.
#[test]
fn a_disk_is_not_taken_for_whole_while_the_peer_is_asked_for_anything() {
    let range = ByteRange::new(16384, 4096);
    let asks: [fn(&mut Bench, ByteRange) -> RequestId; 3] = [
        |bench, range| bench.request(RequestKind::Read, range),
        |bench, range| bench.request(RequestKind::Write { fua: false }, range),
        |bench, _| bench.flush(),
    ];
    for (number, ask) in asks.into_iter().enumerate() {
        let mut bench = being_filled();
        ask(&mut bench, range);
        let asked = bench.sent_so_far().find_map(|packet| match packet {
            Packet::RemoteRead { id, .. }
            | Packet::RemoteWrite { id, .. }
            | Packet::RemoteFlush { id, .. } => Some(*id),
            _ => None,
        });
        assert!(asked.is_some(), "the peer is asked");
        fill(&mut bench);
        assert_eq!(bench.on_disk(FLUSH), 0, "{number}");
    }
}

#[test]
fn a_disk_becomes_whole_though_clients_wait_for_an_order() {
    let mut bench = being_filled();
    bench.write(16384);
    let asked = bench.sent_so_far().find_map(|packet| match packet {
        Packet::RemoteWrite { id, .. } => Some(*id),
        _ => None,
    });
    bench.command(Command::SuspendIo);
    done(&mut bench, asked.expect("the peer is asked"), NEWER);
    fill(&mut bench);
    assert_eq!(bench.on_disk(FLUSH), 1);
}

/// One of two Primaries, which serves the other.
fn serving_primary() -> Bench {
    let mut bench = with(NodeId(0), fenced(Fencing::ResourceAndStonith));
    bench.link_down(LinkLoss::Closed);
    bench.meet(|hello| {
        without_disk(hello);
        hello.role = Role::Primary;
    });
    bench.wait_ms(1_000);
    let handler = bench.fence_starts();
    bench.handler_ends(handler, HandlerResult::Exited(4));
    bench.write_metadata();
    bench.sent();
    bench
}

#[test]
fn a_flush_for_the_other_primary_ends_well_though_this_one_is_demoted_by_force() {
    let mut bench = serving_primary();
    ask_write(&mut bench, 70);
    bench.write_metadata();
    bench.disk(WRITE, Ok(()));
    let (id, volume) = (71, VOLUME);
    bench.packet(Packet::RemoteFlush { id, volume });
    let own = bench.flush();
    bench.command(Command::SuspendIo);
    while bench.disk(FLUSH, Ok(())) {}
    bench.write_metadata();
    bench.command(Command::Demote { force: true });
    bench.write_metadata();
    let sent = bench.sent();
    let is_done = |packet: &Packet| matches!(packet, Packet::RemoteDone { id: 71, .. });
    assert!(sent.iter().any(is_done), "{sent:?}");
    let error = RequestError::NotPrimary;
    assert_eq!(bench.answer(own), Some(Err(error)), "clients here are told");
}

/// It may have lost what it had acknowledged, and what clients here have seen.
#[test]
fn an_idle_primary_that_is_filled_is_not_served_by_one_that_has_lost_its_power() {
    for boots in [0, 1] {
        let mut bench = with(NodeId(5), fenced(Fencing::ResourceAndStonith));
        bench.link_down(LinkLoss::Closed);
        bench.meet(|hello| hello.role = Role::Primary);
        assert_eq!(bench.disk_state(), DiskState::Inconsistent);
        let own = bench.relink().expect("a greeting");
        let mut theirs = whole(&own);
        theirs.role = Role::Primary;
        theirs.boot += boots;
        bench.packet(Packet::Hello(Box::new(theirs)));
        bench.write_metadata();
        bench.write(8192);
        let asked = |packet: &Packet| matches!(packet, Packet::RemoteWrite { .. });
        let is_asked = bench.sent().iter().any(asked);
        assert_eq!(is_asked, boots == 0, "{boots} (B7)");
    }
}

fn was_primary(bench: &Bench) -> bool {
    let superblock = bench.superblock.as_ref().expect("written");
    superblock.peers[0].flags.was_primary
}

/// The peer may never have read the greeting, and go on without this node: a generation would make
/// a split brain of nobody's writes.
#[test]
fn a_secondary_begins_a_generation_for_a_target_when_that_has_shown() {
    let mut bench = Bench::alone(config(), image());
    bench.meet(|hello| hello.volumes[0].disk = DiskState::Inconsistent);
    assert_eq!(replication(&bench), ReplicationState::WFBitMapS);
    assert_eq!(bench.generation(), GENERATION);
    bench.packet(end(GENERATION));
    bench.write_metadata();
    assert_ne!(bench.generation(), GENERATION);
    assert!(!was_primary(&bench));
}

/// Of two whose data differs, policies ask which of them has had clients.
#[test]
fn a_primary_that_goes_on_alone_records_that_it_was_one() {
    let mut bench = Bench::primary();
    bench.link_down(LinkLoss::Closed);
    bench.write(0);
    bench.write_metadata();
    assert_ne!(bench.generation(), SHARED);
    assert!(was_primary(&bench));
}

#[test]
fn people_are_told_of_the_first_place_a_resync_cannot_read_and_the_log_of_all() {
    let mut bench = source();
    bench.asked.clear();
    for (id, offset) in [(1, 0), (2, 1 << 20)] {
        bench.packet(Packet::ResyncRequest {
            id,
            volume: VOLUME,
            range: ByteRange::new(offset, 4096),
        });
        bench.disk(READ, Err(DiskError::Io));
    }
    let levels = bench.asked.iter().filter_map(|action| match action {
        Action::Report(change) if change.text.contains("left out") => Some(change.level),
        _ => None,
    });
    let levels: Vec<Level> = levels.collect();
    assert_eq!(levels, [Level::Error, Level::Debug]);
}

#[test]
fn people_are_shown_how_fast_a_resync_is_unless_it_is_paused() {
    let mut bench = target();
    bench.packet(blocks(&[3, 400, 500, 600, 700]));
    bench.packet(end(NEWER));
    let volume = VOLUME;
    let rate = |bench: &Bench| {
        let progress = bench.connection().peer_devices.remove(0).resync;
        progress.expect("a resync").rate
    };
    for (id, range) in asked_for(&mut bench).into_iter().take(3) {
        bench.wait_ms(1_000);
        bench.packet(Packet::ResyncData { id, volume, range });
        bench.disk(WRITE, Ok(()));
    }
    assert!(rate(&bench).is_some());
    bench.packet(Packet::ResyncState {
        volume,
        paused: true,
        limit: None,
        disk_us: 0,
    });
    assert_eq!(rate(&bench), None);
}

#[test]
fn a_resync_holds_up_only_the_writes_of_what_it_reads() {
    let mut bench = source();
    bench.asked.clear();
    bench.packet(Packet::ResyncRequest {
        id: 1,
        volume: VOLUME,
        range: ByteRange::new(0, 4096),
    });
    assert_eq!(bench.on_disk(DiskRequest::ReadUnlessZero), 1);
    bench.write(0);
    bench.write(8192);
    bench.write_metadata();
    assert_eq!(bench.on_disk(WRITE), 1);
}

/// The peer has grown, or another disk has been given to it.
#[test]
fn a_primary_without_a_disk_shows_the_size_of_the_disk_it_is_served_from() {
    let mut bench = served();
    let size = |bench: &Bench| {
        let facts = bench.engine.volume_facts(VOLUME);
        facts.expect("it is served").size_bytes
    };
    assert_eq!(size(&bench), SIZE);
    let own = bench.relink().expect("a greeting");
    let mut theirs = whole(&own);
    theirs.volumes[0].size_bytes = 2 * SIZE;
    bench.packet(Packet::Hello(Box::new(theirs)));
    assert_eq!(size(&bench), 2 * SIZE);
}

/// The copies differ there as long as one of them has not got it.
#[test]
fn what_is_being_written_is_compared_when_both_disks_have_it() {
    for is_own_first in [false, true] {
        let mut config = config();
        config.peers[0].net.verify = true;
        let mut bench = Bench::primary_as(config);
        bench.write(0);
        bench.write_metadata();
        let ends = |bench: &mut Bench, is_own: bool| {
            if is_own {
                bench.disk(WRITE, Ok(()));
            } else {
                bench.peer_acks();
            }
        };
        ends(&mut bench, is_own_first);
        bench.command(Command::Verify {
            volume: VOLUME,
            peer: None,
            order: VerifyOrder::Start {
                from: Some(0),
                until: Some(4096),
                repair: false,
            },
        });
        let asks = |bench: &Bench| {
            let is_one = |packet: &Packet| matches!(packet, Packet::VerifyRequest { .. });
            bench.sent_so_far().any(is_one) || bench.on_disk(DiskRequest::Digest) > 0
        };
        assert!(!asks(&bench), "{is_own_first}");
        ends(&mut bench, !is_own_first);
        assert!(asks(&bench), "{is_own_first}");
    }
}

/// Else marks would stay for good, and an orderly stop would wait for as long.
#[test]
fn a_checkpoint_that_is_under_way_when_the_peer_that_serves_is_lost_comes_to_its_end() {
    let mut bench = being_filled();
    bench.write(16384);
    fill(&mut bench);
    bench.wait_ms(1_000);
    assert_eq!(bench.on_disk(FLUSH), 1, "what it has got is not stable");
    let own = bench.relink().expect("a greeting");
    let mut theirs = whole(&own);
    theirs.volumes[0].current = NEWER;
    theirs.volumes[0].bitmap = SHARED;
    bench.packet(Packet::Hello(Box::new(theirs)));
    let id = remote_write(&mut bench);
    done(&mut bench, id, NEWER);
    bench.packet(end(NEWER));
    bench.write_metadata();
    fill(&mut bench);
    let mut marked = 0;
    for second in 0..60 {
        bench.wait_ms(1_000);
        bench.disk(FLUSH, Ok(()));
        bench.disk(WRITE, Ok(()));
        bench.write_metadata();
        for packet in bench.sent() {
            match packet {
                Packet::Ping { id } => bench.packet(Packet::PingAck { id }),
                Packet::Flush { id, volume } => bench.packet(Packet::FlushAck { id, volume }),
                Packet::Write { id, volume, .. } => bench.packet(Packet::WriteAck { id, volume }),
                _ => {}
            }
        }
        if second == 10 {
            bench.write(16384);
            bench.write_metadata();
        }
        marked = bench.engine.status(bench.now).devices[0].hot_regions;
        assert!(marked == 1 || second != 10, "the write has its mark");
    }
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    assert_eq!(marked, 0);
}

/// One of two Primaries that is being demoted when its disk is brought into line with the other's.
fn demoted(ask: impl Fn(&mut Bench) -> RequestId) -> (Bench, RequestId) {
    let mut config = config();
    config.node_id = NodeId(5);
    config.peers[0].net.two_primaries = true;
    let mut bench = Bench::primary_as(config);
    bench.write(0);
    bench.write_metadata();
    bench.disk(WRITE, Ok(()));
    bench.peer_acks();
    let request = ask(&mut bench);
    bench.command(Command::Demote { force: false });
    let mut theirs = bench.relink().expect("a greeting");
    theirs.incarnation = 99;
    bench.packet(Packet::Hello(theirs.into()));
    assert_eq!(bench.disk_state(), DiskState::Inconsistent);
    bench.write_metadata();
    (bench, request)
}

#[test]
fn what_was_under_way_at_a_demotion_does_not_count_on_a_disk_that_is_filled() {
    let (mut bench, flush) = demoted(Bench::flush);
    bench.disk(FLUSH, Ok(()));
    bench.flush_all();
    assert_ne!(bench.answer(flush), Some(Ok(())), "(B1)");
    let (mut bench, write) = demoted(|bench| bench.write(4096));
    bench.disk(WRITE, Ok(()));
    assert_ne!(bench.answer(write), Some(Ok(())), "(A1)");
}

/// What it let go first is on the disk: two at a time would leave any of them there.
#[test]
fn a_write_that_a_verify_had_held_back_waits_for_what_the_other_primary_writes_there() {
    let mut config = config();
    config.peers[0].net.verify = true;
    let mut bench = with(NodeId(5), config);
    peer_writes_over(&mut bench, 70);
    bench.write(0);
    let volume = VOLUME;
    let start = VerifyOrder::Start {
        from: Some(0),
        until: Some(4096),
        repair: false,
    };
    for order in [start, VerifyOrder::Stop] {
        let peer = None;
        bench.command(Command::Verify {
            volume,
            peer,
            order,
        });
        if order == start {
            peer_writes_over(&mut bench, 71);
            bench.disk(WRITE, Ok(()));
        }
        assert_eq!(bench.on_disk(WRITE), 1, "{order:?} (A6)");
    }
    bench.disk(WRITE, Ok(()));
    assert_eq!(bench.on_disk(WRITE), 1);
    let is_sent = |packet: &Packet| matches!(packet, Packet::Write { .. });
    assert!(bench.sent().iter().any(is_sent));
}

fn peer_writes_over(bench: &mut Bench, id: u64) {
    two_primaries::peer_writes(bench, id, (0, 1), two_primaries::BEFORE);
}

/// It shows nothing to clients, and a generation would make a split brain of nobody's writes.
#[test]
fn a_node_that_is_demoted_before_the_peer_has_heard_of_the_end_of_its_resync_begins_nothing() {
    let mut bench = being_filled();
    fill(&mut bench);
    bench.disk(FLUSH, Ok(()));
    bench.peer_acks();
    bench.write_metadata();
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    bench.command(Command::Demote { force: false });
    bench.flush_all();
    assert_eq!(bench.engine.role(), Role::Secondary);
    let generation = bench.generation();
    bench.link_down(LinkLoss::Closed);
    bench.flush_all();
    assert_eq!(bench.generation(), generation, "(D5)");
}

/// It may have heard of the end of its resync, and nobody of that: it would be taken for the same.
#[test]
fn a_target_that_is_fenced_at_its_end_is_told_from_this_disk_by_a_generation() {
    let mut bench = Bench::primary_as(fenced(Fencing::ResourceAndStonith));
    bench.link_down(LinkLoss::Timeout);
    bench.wait_ms(2_000);
    let fence = bench.fence_starts();
    bench.handler_ends(fence, HandlerResult::Exited(4));
    bench.write_metadata();
    bench.write(0);
    bench.write_metadata();
    bench.disk(WRITE, Ok(()));
    let mut bench = source_of(bench);
    while let Some((unfence, _)) = bench.handler() {
        bench.handler_ends(unfence, HandlerResult::Exited(0));
    }
    let (volume, range) = (VOLUME, ByteRange::new(0, 4096));
    bench.packet(Packet::ResyncAck {
        id: 1,
        volume,
        range,
    });
    assert_eq!(bench.out_of_sync_bytes(), 0);
    let generation = bench.generation();
    bench.link_down(LinkLoss::Timeout);
    bench.wait_ms(2_000);
    bench.wait_ms(2_000);
    let fence = bench.fence_starts();
    bench.handler_ends(fence, HandlerResult::Exited(4));
    bench.write_metadata();
    assert_ne!(bench.generation(), generation);
}
