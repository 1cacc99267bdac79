//! What is under way when a link, a disk or a role is lost: none of it is answered by mistake, and
//! none of it is done twice.

use alloc::boxed::Box;
use alloc::vec::Vec;

use rbd_protocol::control::{Fencing, ResyncOptions};
use rbd_protocol::ids::{ByteRange, GenerationId, NodeId};
use rbd_protocol::peer::{FailureCode, Packet};
use rbd_protocol::state::{ConnectionState, DiskState, ReplicationState, Role};

use super::attach::filling_as;
use super::diskless::{SHARED, ask_write, done, failed, served, serving, whole};
use super::fenced_return::without_disk;
use super::fencing::fenced;
use super::resync::{NEWER, asked_for, blocks, end, replication, target, target_with};
use super::two_primaries::{BEFORE, higher, lower, peer_writes, with};
use super::{Bench, PEER, VOLUME, config, image};
use crate::{
    Action, Command, DiskError, DiskRequest, LinkLoss, RequestError, RequestId, RequestKind,
};

const WRITE: DiskRequest = DiskRequest::Write { fua: false };
const FLUSH: DiskRequest = DiskRequest::Flush;

/// The writes the peer that serves has been asked for since this was last looked at.
fn asked_to_write(bench: &mut Bench) -> Vec<(u64, u64)> {
    let asked = bench.sent().into_iter().filter_map(|packet| match packet {
        Packet::RemoteWrite { id, range, .. } => Some((id, range.offset)),
        _ => None,
    });
    asked.collect()
}

fn asked_to_flush(bench: &Bench) -> Option<u64> {
    bench.sent_so_far().find_map(|packet| match packet {
        Packet::RemoteFlush { id, .. } => Some(*id),
        _ => None,
    })
}

/// What was mirrored, the peer neither does nor fails for a client: it has its own ways to say so.
#[test]
fn an_answer_to_what_was_not_asked_for_ends_no_write() {
    let mut bench = Bench::primary();
    let write = bench.write(0);
    bench.write_metadata();
    let id = bench.sent().into_iter().find_map(|packet| match packet {
        Packet::Write { id, .. } => Some(id),
        _ => None,
    });
    let (id, volume) = (id.expect("it is mirrored"), VOLUME);
    let code = FailureCode::Io;
    bench.packet(Packet::RemoteFailed { id, volume, code });
    done(&mut bench, id, SHARED);
    bench.disk(WRITE, Ok(()));
    assert_eq!(bench.answer(write), None, "the peer may not have it (A1)");
    bench.packet(Packet::WriteAck { id, volume });
    assert_eq!(bench.answer(write), Some(Ok(())));
}

/// The Primary writes to both disks itself: this one would have what the other has not.
#[test]
fn a_peer_that_is_in_sync_may_not_have_something_written_here_alone() {
    let mut bench = Bench::in_sync();
    bench.packet(Packet::RemoteWrite {
        id: 70,
        volume: VOLUME,
        range: ByteRange::new(0, 4096),
        fua: false,
    });
    bench.write_metadata();
    assert_eq!(bench.on_disk(WRITE), 0, "(A1)");
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Protocol));
}

#[test]
fn of_what_the_peer_was_asked_only_what_it_has_not_answered_is_asked_again() {
    let mut bench = served();
    let (first, second) = (bench.write(8192), bench.write(1 << 20));
    let asked = asked_to_write(&mut bench);
    bench.command(Command::SuspendIo);
    done(&mut bench, asked[0].0, SHARED);
    assert_eq!(bench.answer(first), None, "clients wait");
    let own = bench.relink().expect("a greeting");
    bench.packet(Packet::Hello(Box::new(whole(&own))));
    bench.command(Command::ResumeIo);
    assert_eq!(bench.answer(first), Some(Ok(())));
    let again = asked_to_write(&mut bench);
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].1, 1 << 20);
    done(&mut bench, again[0].0, SHARED);
    assert_eq!(bench.answer(second), Some(Ok(())));
}

/// One of two Primaries with writes that both disks have, and a flush under way when the link was
/// lost: its disk is brought into line with the other's.
fn turned() -> (Bench, RequestId) {
    let mut bench = with(NodeId(5), fenced(Fencing::ResourceAndStonith));
    let flush = bench.flush();
    bench.link_down(LinkLoss::Closed);
    bench.meet(|hello| hello.role = Role::Primary);
    assert_eq!(bench.disk_state(), DiskState::Inconsistent);
    (bench, flush)
}

/// What is on the own disk, which is behind, says nothing of what clients were told is written.
#[test]
fn a_flush_of_one_that_is_filled_from_the_other_primary_is_made_there() {
    let (mut bench, flush) = turned();
    bench.disk(FLUSH, Ok(()));
    bench.write_metadata();
    assert_eq!(bench.answer(flush), None, "(B1)");
    let id = asked_to_flush(&bench).expect("the peer is asked");
    done(&mut bench, id, SHARED);
    assert_eq!(bench.answer(flush), Some(Ok(())));
}

/// It may have lost what it had acknowledged to both.
#[test]
fn one_that_is_filled_from_the_other_primary_is_not_served_by_it_when_that_has_lost_its_power() {
    for boots in [0, 1] {
        let (mut bench, _) = turned();
        let own = bench.relink().expect("a greeting");
        let mut theirs = whole(&own);
        theirs.role = Role::Primary;
        theirs.boot += boots;
        bench.packet(Packet::Hello(Box::new(theirs)));
        bench.write_metadata();
        let is_asked = asked_to_flush(&bench).is_some();
        assert_eq!(is_asked, boots == 0, "{boots} (B7)");
    }
}

/// Between the two, a client of this node may have read them and written something newer.
#[test]
fn nothing_that_was_done_for_the_other_primary_is_done_again() {
    let mut config = config();
    config.peers[0].net.two_primaries = true;
    let mut bench = filling_as(config);
    for id in [71, 72] {
        ask_write(&mut bench, id);
        bench.write_metadata();
        assert!(bench.disk(WRITE, Ok(())));
        bench.peer_acks();
    }
    let mut theirs = bench.relink().expect("a greeting");
    theirs.incarnation = 99;
    theirs.role = Role::Primary;
    theirs.volumes[0].disk = DiskState::Outdated;
    bench.packet(Packet::Hello(theirs.into()));
    bench.write_metadata();
    bench.asked.clear();
    for id in [70, 71, 72] {
        ask_write(&mut bench, id);
        bench.write_metadata();
        assert!(!bench.disk(WRITE, Ok(())), "{id} (F7)");
    }
}

fn hot_regions(bench: &Bench) -> u64 {
    bench.engine.status(bench.now).devices[0].hot_regions
}

fn metadata_writes(bench: &Bench) -> usize {
    let is_one = |action: &&Action<u32>| matches!(action, Action::Meta { .. });
    bench.asked.iter().filter(is_one).count()
}

/// Else a log whose Primary writes all the time, without its peer, would fill up for good.
#[test]
fn a_region_is_cleared_though_its_page_changes_again_while_it_is_saved() {
    const FAR: u64 = 32 << 20;
    let mut bench = Bench::primary();
    bench.link_down(LinkLoss::Closed);
    for offset in [0, FAR] {
        bench.write(offset);
        bench.write_metadata();
        bench.disk(WRITE, Ok(()));
    }
    for block in 1..7 {
        bench.wait_ms(5_000);
        bench.flush_all();
        bench.write(FAR + block * 4096);
        bench.disk(WRITE, Ok(()));
    }
    assert_eq!(hot_regions(&bench), 2);
    bench.wait_ms(5_000);
    bench.disk(FLUSH, Ok(()));
    assert_eq!(metadata_writes(&bench), 1, "the page, and no log before it");
    bench.write(FAR + 8 * 4096);
    bench.disk(WRITE, Ok(()));
    bench.write_metadata();
    assert_eq!(hot_regions(&bench), 1);
}

/// What it began over the link before has been written there, and what comes now is newer.
#[test]
fn what_the_other_primary_writes_over_a_new_link_comes_after_what_was_sent_over_the_old_one() {
    let mut bench = lower();
    bench.flush();
    bench.flush_all();
    let fua = true;
    let own = bench.request(RequestKind::Write { fua }, ByteRange::new(0, 4096));
    assert_eq!(bench.peer_acks(), 1);
    bench.command(Command::SuspendIo);
    bench.disk(DiskRequest::Write { fua }, Ok(()));
    bench.link_down(LinkLoss::Closed);
    bench.meet(|hello| hello.role = Role::Primary);
    assert_eq!(replication(&bench), ReplicationState::Established);
    assert_eq!(bench.answer(own), None);
    peer_writes(&mut bench, 70, (0, 1), 0);
    assert!(bench.disk(WRITE, Ok(())), "it is the later one (F1)");
    let ack = Packet::WriteAck {
        id: 70,
        volume: VOLUME,
    };
    assert!(bench.sent().contains(&ack));
    assert_eq!(bench.on_disk(DiskRequest::Write { fua }), 0, "nor over it");
    bench.command(Command::ResumeIo);
    assert_eq!(bench.answer(own), Some(Ok(())));
}

/// The own disk had smaller blocks.
#[test]
fn what_the_peers_disk_cannot_do_is_turned_away_before_it_costs_the_link() {
    let (mut bench, _) = failed();
    let range = ByteRange::new(8192 + 512, 512);
    let small = bench.request(RequestKind::Write { fua: false }, range);
    assert_eq!(bench.answer(small), None, "the peer is being connected");
    let own = bench.relink().expect("a greeting");
    let mut theirs = whole(&own);
    theirs.volumes[0].block_bytes = 4096;
    bench.packet(Packet::Hello(Box::new(theirs)));
    assert_eq!(bench.answer(small), Some(Err(RequestError::Invalid)));
    let asked = asked_to_write(&mut bench);
    assert!(asked.iter().all(|(_, offset)| *offset != range.offset));
    assert_eq!(
        bench.connection().connection_state,
        ConnectionState::Connected
    );
}

/// It is asked for again over the next link, and nothing has been written alone.
#[test]
fn a_flush_that_was_asked_for_over_a_link_that_is_gone_tells_nothing_apart() {
    let mut bench = serving();
    let generation = bench.generation();
    bench.packet(Packet::RemoteFlush {
        id: 70,
        volume: VOLUME,
    });
    bench.link_down(LinkLoss::Closed);
    bench.write_metadata();
    bench.disk(FLUSH, Ok(()));
    bench.write_metadata();
    assert_eq!(bench.generation(), generation);
}

/// A target that lacks many blocks and has been told of the first that it cannot be read.
fn refused(max_rate: Option<u64>) -> Bench {
    let mut config = config();
    let options = ResyncOptions {
        max_rate,
        ..ResyncOptions::default()
    };
    config.volumes[0].resync = alloc::vec![(PEER, options)];
    let mut bench = target_with(config, image());
    bench.packet(blocks(&[3, 400, 500]));
    bench.packet(end(NEWER));
    let ((id, range), volume) = (asked_for(&mut bench)[0], VOLUME);
    bench.packet(Packet::ResyncNegativeAck { id, volume, range });
    bench
}

/// A timer that is always due would keep a processor busy.
fn is_woken_for_nothing(bench: &mut Bench) -> bool {
    (0..15).any(|_| {
        bench.wait_ms(1_000);
        bench.packet(Packet::Ping { id: 1 });
        let soon = bench.now.plus_ms(10);
        bench.wake.is_some_and(|wake| wake <= soon)
    })
}

#[test]
fn what_is_to_be_asked_for_again_waits_for_the_rate_without_being_woken_for_nothing() {
    let mut bench = refused(Some(64)); // 64 s for each block
    assert!(!is_woken_for_nothing(&mut bench));
    assert_eq!(asked_for(&mut bench), []);
}

#[test]
fn a_paused_resync_is_not_woken_for_what_it_could_ask_for_again() {
    let mut bench = target();
    bench.packet(blocks(&[3]));
    bench.packet(end(NEWER));
    let ((id, range), volume) = (asked_for(&mut bench)[0], VOLUME);
    bench.packet(Packet::ResyncNegativeAck { id, volume, range });
    bench.packet(Packet::ResyncState {
        volume,
        paused: true,
        limit: None,
        disk_us: 0,
    });
    assert!(!is_woken_for_nothing(&mut bench));
    assert_eq!(asked_for(&mut bench), []);
}

#[test]
fn people_are_told_why_a_disk_did_not_do_it() {
    for (error, words) in [
        (DiskError::Io, "I/O error"),
        (DiskError::NoSpace, "no space left"),
        (DiskError::Gone, "gone"),
    ] {
        let mut bench = Bench::primary();
        bench.write(0);
        bench.write_metadata();
        bench.disk(WRITE, Err(error));
        let is_told = bench.reports().iter().any(|text| text.contains(words));
        assert!(is_told, "{words}");
    }
}

/// The other Primary's disk has it: should that node fail now, this one would show what was before.
#[test]
fn what_a_read_shows_of_the_other_primarys_write_is_on_the_own_disk_too() {
    let mut bench = lower();
    let read = bench.request(RequestKind::Read, ByteRange::new(0, 4096));
    peer_writes(&mut bench, 70, (0, 1), BEFORE);
    peer_writes(&mut bench, 71, (8192, 1), BEFORE);
    assert!(bench.disk(DiskRequest::Read, Ok(())));
    assert_eq!(
        bench.answer(read),
        None,
        "it may show what was written (B8)"
    );
    assert!(bench.disk(WRITE, Ok(())));
    assert_eq!(bench.answer(read), Some(Ok(())));
}

/// What counts then is what the peer has.
#[test]
fn a_power_loss_of_the_peer_while_nobody_was_served_does_not_keep_it_from_serving_later() {
    let mut bench = served();
    bench.link_down(LinkLoss::Closed);
    let call = bench.command(Command::Demote { force: true });
    assert_eq!(bench.reply(call), Some(true));
    let meet = |bench: &mut Bench| {
        let own = bench.relink().expect("a greeting");
        let mut theirs = whole(&own);
        theirs.boot += 1;
        bench.packet(Packet::Hello(Box::new(theirs)));
    };
    meet(&mut bench);
    let call = bench.command(Command::Promote { force: false });
    bench.consent();
    assert_eq!(bench.reply(call), Some(true));
    meet(&mut bench);
    let write = bench.write(8192);
    assert_eq!(bench.answer(write), None);
    assert_eq!(asked_to_write(&mut bench).len(), 1);
}

#[test]
fn a_limit_that_leaves_no_room_at_all_keeps_no_new_disk_from_being_used() {
    let mut config = config();
    config.volumes[0].size_limit_bytes = Some(512);
    let mut fresh = image();
    fresh.superblock.generation = GenerationId::JUST_CREATED;
    fresh.superblock.flags = Default::default();
    let mut bench = Bench::bare(config);
    let call = bench.attach(fresh);
    assert_eq!(bench.reply(call), Some(true));
    assert_eq!(bench.disk_state(), DiskState::Inconsistent);
}

/// It was mirrored, and the acknowledgement was lost with the link.
#[test]
fn what_the_other_primary_had_mirrored_is_not_done_again_when_it_has_lost_its_disk() {
    let mut bench = lower();
    peer_writes(&mut bench, 70, (0, 1), BEFORE);
    assert!(bench.disk(WRITE, Ok(())));
    bench.link_down(LinkLoss::Closed);
    bench.meet(|hello| {
        without_disk(hello);
        (hello.role, hello.tenure) = (Role::Primary, 8);
    });
    for (id, is_new) in [(70, false), (71, true)] {
        ask_write(&mut bench, id);
        bench.write_metadata();
        assert_eq!(bench.disk(WRITE, Ok(())), is_new, "{id} (F7)");
    }
}

#[test]
fn a_read_goes_on_when_the_other_primarys_write_is_on_the_disk() {
    let mut bench = lower();
    peer_writes(&mut bench, 70, (0, 1), BEFORE);
    bench.request(RequestKind::Read, ByteRange::new(0, 4096));
    assert_eq!(bench.on_disk(DiskRequest::Read), 0);
    assert!(bench.disk(WRITE, Ok(())));
    assert_eq!(bench.on_disk(DiskRequest::Read), 1);
}

/// Else each node could wait for the other.
#[test]
fn a_question_is_answered_though_clients_writes_wait() {
    let mut bench = lower();
    bench.command(Command::SuspendIo);
    bench.write(0);
    let (id, volume) = (u64::from(BEFORE), VOLUME);
    bench.packet(Packet::Settle { id, volume });
    assert!(bench.sent().contains(&Packet::Settled { id, volume }));
}

#[test]
fn on_the_higher_node_a_write_waits_for_all_that_had_come_before_it() {
    let mut bench = higher();
    for id in [70, 71] {
        peer_writes(&mut bench, id, (0, 1), BEFORE);
    }
    bench.write(0);
    for _ in [70, 71] {
        let is_sent = |packet: &Packet| matches!(packet, Packet::Write { .. });
        assert!(!bench.sent().iter().any(is_sent));
        assert_eq!(bench.on_disk(WRITE), 1);
        bench.disk(WRITE, Ok(()));
    }
    let seen = bench.sent().into_iter().find_map(|packet| match packet {
        Packet::Write { place, .. } => Some(place.seen),
        _ => None,
    });
    assert_eq!(seen, Some(2));
}

#[test]
fn an_acknowledgement_waits_for_the_record_of_the_boot_whatever_happens_meanwhile() {
    let mut bench = Bench::just_in_sync();
    bench.packet(Packet::Write {
        id: 70,
        volume: VOLUME,
        range: ByteRange::new(0, 4096),
        fua: false,
        place: Default::default(),
    });
    bench.disk(WRITE, Ok(()));
    bench.command(Command::Configure(Box::new(config())));
    let ack = Packet::WriteAck {
        id: 70,
        volume: VOLUME,
    };
    assert!(!bench.sent().contains(&ack), "(B7)");
    bench.write_metadata();
    assert!(bench.sent().contains(&ack));
}

/// The disk is lost meanwhile, and nothing of it is to be mended any more.
#[test]
fn a_read_that_was_to_be_mended_is_done_by_the_peer_when_the_disk_is_lost() {
    let mut bench = Bench::primary();
    let range = ByteRange::new(4096, 4096);
    let read = bench.request(RequestKind::Read, range);
    bench.disk(DiskRequest::Read, Err(DiskError::Io));
    bench.write(1 << 20);
    bench.write_metadata();
    bench.disk(WRITE, Err(DiskError::Io));
    assert_eq!(bench.disk_state(), DiskState::Diskless);
    let own = bench.relink().expect("a greeting");
    bench.packet(Packet::Hello(Box::new(whole(&own))));
    let id = bench.sent().into_iter().find_map(|packet| match packet {
        Packet::RemoteRead { id, .. } => Some(id),
        _ => None,
    });
    let (id, volume) = (id.expect("the peer is asked"), VOLUME);
    bench.packet(Packet::RemoteData { id, volume, range });
    assert_eq!(bench.answer(read), Some(Ok(())));
}
