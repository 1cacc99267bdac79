//! A Primary that its peer serves is given a disk.

use alloc::boxed::Box;

use rbd_protocol::control::{RefusalCode, ResourceConfig};
use rbd_protocol::ids::{ByteRange, GenerationId};
use rbd_protocol::peer::{Hello, Packet};
use rbd_protocol::state::{DiskState, Role};

use super::diskless::{SHARED, ask_write, done, failed, remote_write, served, whole};
use super::{Bench, VOLUME, config, image};
use crate::{Command, DiskRequest, LinkLoss, RequestError, RequestKind};

const WRITE: DiskRequest = DiskRequest::Write { fua: false };

/// What the peer has begun for the writes of the clients here.
const SINCE: GenerationId = GenerationId(0x2000);

/// A served Primary whose disk has been attached again, its greeting and the peer's.
fn attached() -> (Bench, Hello, Hello) {
    let mut bench = served();
    let call = bench.attach(image());
    assert_eq!(bench.reply(call), Some(true));
    let own = bench.relink().expect("a greeting");
    let mut theirs = whole(&own);
    theirs.volumes[0].current = SINCE;
    theirs.volumes[0].bitmap = SHARED;
    theirs.volumes[0].dirty_blocks = 1;
    (bench, own, theirs)
}

/// The same, and the peer has one block for it.
pub(super) fn being_filled() -> Bench {
    let (bench, _, theirs) = attached();
    met(bench, theirs)
}

fn met(mut bench: Bench, theirs: Hello) -> Bench {
    bench.packet(Packet::Hello(Box::new(theirs)));
    bench.write_metadata();
    let mut words = Box::new([0; 504]);
    words[0] = 1;
    let (volume, block) = (VOLUME, 0);
    bench.packet(Packet::Bitmap {
        volume,
        block,
        words,
    });
    let generation = SINCE;
    bench.packet(Packet::BitmapEnd { volume, generation });
    bench.write_metadata();
    bench
}

/// The block has come, and is on the disk.
pub(super) fn fill(bench: &mut Bench) {
    let asked = bench.sent().into_iter().find_map(|packet| match packet {
        Packet::ResyncRequest { id, range, .. } => Some((id, range)),
        _ => None,
    });
    let (id, range) = asked.expect("the block is asked for");
    let volume = VOLUME;
    bench.packet(Packet::ResyncData { id, volume, range });
    assert!(bench.disk(WRITE, Ok(())));
}

fn ping(bench: &mut Bench) -> Option<u64> {
    bench.sent().into_iter().find_map(|packet| match packet {
        Packet::Ping { id } => Some(id),
        _ => None,
    })
}

#[test]
fn a_node_promoted_without_a_disk_is_durably_primary_when_it_has_been_filled() {
    let mut bench = Bench::bare(config());
    bench.connect();
    let own = bench.relink().expect("a greeting");
    bench.packet(Packet::Hello(Box::new(whole(&own))));
    let call = bench.command(Command::Promote { force: false });
    bench.consent();
    assert_eq!(bench.reply(call), Some(true));
    bench.write(0);
    let id = remote_write(&mut bench);
    done(&mut bench, id, SINCE);
    bench.attach(image());
    let own = bench.relink().expect("a greeting");
    let mut theirs = whole(&own);
    theirs.volumes[0].current = SINCE;
    theirs.volumes[0].bitmap = SHARED;
    theirs.volumes[0].dirty_blocks = 1;
    let mut bench = met(bench, theirs);
    fill(&mut bench);
    assert!(bench.disk(DiskRequest::Flush, Ok(())));
    bench.peer_acks();
    bench.write_metadata();
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    assert!(bench.superblock.expect("written").flags.primary);
}

#[test]
fn it_greets_with_a_disk_that_is_not_whole_whatever_it_says_of_itself() {
    let (mut bench, own, theirs) = attached();
    assert_eq!(own.role, Role::Primary);
    assert_eq!(own.volumes[0].disk, DiskState::Outdated);
    bench.packet(Packet::Hello(Box::new(theirs)));
    assert_eq!(bench.disk_state(), DiskState::Inconsistent);
}

#[test]
fn while_it_is_filled_clients_go_on_with_the_peers_data() {
    let mut bench = being_filled();
    let write = bench.write(8192);
    let read = bench.request(RequestKind::Read, ByteRange::new(4096, 4096));
    assert_eq!(bench.on_disk(DiskRequest::Read), 0);
    let sent = bench.sent();
    let id = sent.iter().find_map(|packet| match packet {
        Packet::RemoteRead { id, .. } => Some(*id),
        _ => None,
    });
    let (id, volume, range) = (id.expect("a read"), VOLUME, ByteRange::new(4096, 4096));
    bench.packet(Packet::RemoteData { id, volume, range });
    assert_eq!(bench.answer(read), Some(Ok(())));
    // The peer mirrors what it was asked to write, and answers when both have it.
    let asked = sent.iter().find_map(|packet| match packet {
        Packet::RemoteWrite { id, .. } => Some(*id),
        _ => None,
    });
    let range = ByteRange::new(8192, 4096);
    bench.packet(Packet::Write {
        id: 900,
        volume,
        range,
        fua: false,
        place: Default::default(),
    });
    assert_eq!(bench.on_disk(WRITE), 1);
    done(&mut bench, asked.expect("a write"), SINCE);
    assert_eq!(bench.answer(write), Some(Ok(())));
}

#[test]
fn it_is_used_when_it_is_whole_and_the_peer_knows_that() {
    let mut bench = being_filled();
    let early = bench.write(8192);
    let asked = remote_write_kept(&bench);
    fill(&mut bench);
    // What the peer was asked for comes first, and nothing new begins meanwhile.
    let late = bench.write(16384);
    assert_eq!(bench.on_disk(DiskRequest::Flush), 0);
    done(&mut bench, asked, SINCE);
    assert_eq!(bench.answer(early), Some(Ok(())));
    assert!(bench.disk(DiskRequest::Flush, Ok(())));
    bench.peer_acks();
    let (id, _) = bench.next_metadata().expect("the end is being recorded");
    let superblock = bench.superblock.as_ref().expect("it is the superblock");
    assert!(
        superblock.flags.primary,
        "and that clients are about to use it"
    );
    bench.tell(crate::Event::MetaDone { id, result: Ok(()) });
    bench.write_metadata();
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    assert_eq!(bench.on_disk(WRITE), 0, "the peer may not know yet");
    let id = ping(&mut bench).expect("a question");
    bench.packet(Packet::PingAck { id: id + 1 });
    bench.write_metadata();
    assert_eq!(bench.on_disk(WRITE), 0, "that was an older one");
    bench.packet(Packet::PingAck { id });
    bench.write_metadata();
    assert_eq!(bench.on_disk(WRITE), 1);
    bench.disk(WRITE, Ok(()));
    assert_eq!(bench.peer_acks(), 1, "it is mirrored");
    assert_eq!(bench.answer(late), Some(Ok(())));
}

/// The peer may keep what it has answered as failed, and clients would see one and the other.
#[test]
fn when_the_peer_was_lost_before_it_heard_reads_wait_until_it_is_told_apart() {
    for is_told in [false, true] {
        let mut bench = being_filled();
        fill(&mut bench);
        assert!(bench.disk(DiskRequest::Flush, Ok(())));
        bench.peer_acks();
        if is_told {
            bench.write_metadata();
        }
        let read = bench.request(RequestKind::Read, ByteRange::new(4096, 4096));
        bench.link_down(LinkLoss::Closed);
        assert_eq!(bench.disk_state(), DiskState::UpToDate);
        assert_eq!(bench.on_disk(DiskRequest::Read), 0, "told: {is_told} (B8)");
        bench.write_metadata();
        assert!(bench.disk(DiskRequest::Read, Ok(())), "told: {is_told}");
        assert_eq!(bench.answer(read), Some(Ok(())));
        let superblock = bench.superblock.expect("written");
        assert_eq!(superblock.peers[0].bitmap_generation, SINCE);
    }
}

fn remote_write_kept(bench: &Bench) -> u64 {
    let found = bench.sent_so_far().find_map(|packet| match packet {
        Packet::RemoteWrite { id, .. } => Some(*id),
        _ => None,
    });
    found.expect("the peer is asked to write")
}

#[test]
fn a_link_lost_on_the_way_costs_clients_nothing() {
    let mut bench = being_filled();
    let write = bench.write(8192);
    let flush = bench.flush();
    let own = bench.relink().expect("a greeting");
    assert_eq!(own.volumes[0].disk, DiskState::Inconsistent);
    assert_eq!(bench.answer(write), None);
    let mut theirs = whole(&own);
    theirs.volumes[0].current = SINCE;
    theirs.volumes[0].bitmap = SHARED;
    bench.packet(Packet::Hello(Box::new(theirs)));
    let sent = bench.sent();
    let flushes = |packet: &&Packet| matches!(packet, Packet::RemoteFlush { .. });
    assert_eq!(sent.iter().filter(flushes).count(), 1);
    let asked = sent.iter().find_map(|packet| match packet {
        Packet::RemoteWrite { id, .. } => Some(*id),
        _ => None,
    });
    done(&mut bench, asked.expect("it is asked again"), SINCE);
    assert_eq!(bench.answer(write), Some(Ok(())));
    assert_eq!(bench.answer(flush), None);
}

#[test]
fn a_disk_that_fails_again_leaves_the_clients_with_the_peer() {
    let mut bench = being_filled();
    let write = bench.write(8192);
    let asked = bench.sent().into_iter().find_map(|packet| match packet {
        Packet::ResyncRequest { id, range, .. } => Some((id, range)),
        _ => None,
    });
    let (id, range) = asked.expect("the block is asked for");
    let volume = VOLUME;
    bench.packet(Packet::ResyncData { id, volume, range });
    bench.disk(WRITE, Err(crate::DiskError::Io));
    assert_eq!(bench.disk_state(), DiskState::Diskless);
    let own = bench.relink().expect("a greeting");
    assert_eq!(own.volumes[0].current, SINCE, "what clients have seen");
    let mut theirs = whole(&own);
    theirs.volumes[0].current = SINCE;
    bench.packet(Packet::Hello(Box::new(theirs)));
    let id = remote_write(&mut bench);
    done(&mut bench, id, SINCE);
    assert_eq!(bench.answer(write), Some(Ok(())));
}

#[test]
fn a_disk_with_other_data_is_let_go_and_the_peer_serves_on() {
    let mut bench = served();
    bench.attach(image());
    let own = bench.relink().expect("a greeting");
    let mut theirs = whole(&own);
    theirs.volumes[0].current = GenerationId(0x7777);
    theirs.volumes[0].bitmap = GenerationId(0x7000);
    theirs.tenure += 1; // what clients here have seen is not what the peer has
    bench.packet(Packet::Hello(Box::new(theirs)));
    assert_eq!(bench.disk_state(), DiskState::Diskless);
    assert_eq!(
        bench.connection().peer_role,
        Role::Unknown,
        "it meets the peer anew"
    );
    let own = bench.relink().expect("a greeting");
    bench.packet(Packet::Hello(Box::new(whole(&own))));
    let read = bench.request(RequestKind::Read, ByteRange::new(4096, 4096));
    assert_eq!(bench.answer(read), None, "the peer is asked");
}

#[test]
fn without_a_peer_that_serves_it_is_refused() {
    let (mut bench, write) = failed();
    bench.wait_ms(10_000);
    assert_eq!(bench.answer(write), Some(Err(RequestError::Io)));
    bench.link_down(LinkLoss::Closed);
    let call = bench.attach(image());
    assert_eq!(bench.refusal(call).code, RefusalCode::DataNotCurrent);
    assert_eq!(bench.disk_state(), DiskState::Diskless);
}

#[test]
fn a_disk_of_another_size_is_refused() {
    let mut bench = served();
    let mut other = image();
    other.superblock.data_bytes /= 2;
    let call = bench.attach(other);
    assert_eq!(bench.refusal(call).code, RefusalCode::DiskTooSmall);
}

#[test]
fn a_new_disk_that_is_larger_takes_the_size_in_use() {
    let mut bench = served();
    let (size, block_bytes) = (super::SIZE, 512);
    let mut larger = super::fixtures::image_of(2 * size);
    larger.superblock.generation = GenerationId::JUST_CREATED;
    larger.superblock.flags = Default::default();
    let call = bench.attach(larger);
    assert_eq!(bench.reply(call), Some(true));
    let facts = bench.engine.volume_facts(VOLUME).expect("it is served");
    assert_eq!((facts.size_bytes, facts.block_bytes), (size, block_bytes));
    let own = bench.relink().expect("a greeting");
    assert_eq!(own.volumes[0].size_bytes, size);
}

/// A node that serves a Primary and fills the disk it has been given, which lacks nothing; one
/// write for its clients is on both disks, and not flushed.
fn filling() -> Bench {
    filling_as(config())
}

pub(super) fn filling_as(config: ResourceConfig) -> Bench {
    let mut bench = Bench::in_sync_as(config);
    let mut hello = bench.relink().expect("a greeting");
    hello.incarnation = 99;
    hello.role = Role::Primary;
    hello.volumes[0].disk = DiskState::Outdated;
    bench.packet(Packet::Hello(Box::new(hello)));
    let (volume, generation) = (VOLUME, SHARED);
    bench.packet(Packet::BitmapEnd { volume, generation });
    bench.write_metadata();
    ask_write(&mut bench, 70);
    bench.write_metadata();
    bench.disk(WRITE, Ok(()));
    assert_eq!(bench.peer_acks(), 1, "it goes to the disk that is filled");
    assert_eq!(bench.out_of_sync_bytes(), 0);
    bench
}

/// Between the two, a client of this node may have read it and written something newer.
#[test]
fn what_was_done_for_the_other_primary_before_the_link_was_lost_is_not_done_again() {
    let mut config = config();
    config.peers[0].net.two_primaries = true;
    let mut bench = filling_as(config);
    let mut hello = bench.relink().expect("a greeting");
    hello.incarnation = 99;
    hello.role = Role::Primary;
    hello.volumes[0].disk = DiskState::Outdated;
    bench.packet(Packet::Hello(Box::new(hello)));
    bench.write_metadata();
    bench.asked.clear();
    for (id, is_new) in [(70, false), (71, true)] {
        ask_write(&mut bench, id);
        bench.write_metadata();
        assert_eq!(bench.disk(WRITE, Ok(())), is_new, "{id} (F7)");
        let sent = bench.sent();
        let done =
            |packet: &Packet| matches!(packet, Packet::RemoteDone { id: of, .. } if *of == id);
        assert!(is_new || sent.iter().any(done), "{sent:?}");
    }
}

fn current(bench: &Bench) -> GenerationId {
    bench.engine.status(bench.now).devices[0].current_generation
}

#[test]
fn what_a_primary_had_from_here_makes_no_second_history_of_it() {
    // Its word of the end may be lost, and it goes on: only it may begin a generation then.
    let mut bench = filling();
    let before = current(&bench);
    ask_write(&mut bench, 71);
    bench.link_down(LinkLoss::Closed);
    bench.disk(WRITE, Ok(()));
    bench.write_metadata();
    assert_eq!(current(&bench), before);
    assert_eq!(bench.out_of_sync_bytes(), 4096, "but it is marked");
    assert!(bench.relink().is_some(), "nothing of before is under way");
}

#[test]
fn the_end_of_filling_says_that_everything_is_durable() {
    let mut bench = filling();
    let (volume, generation) = (VOLUME, current(&bench));
    bench.packet(Packet::ResyncDone { volume, generation });
    let before = current(&bench);
    bench.link_down(LinkLoss::Closed);
    bench.write_metadata();
    assert_eq!(current(&bench), before);
    assert_eq!(bench.out_of_sync_bytes(), 0);
}

#[test]
fn a_client_that_comes_while_the_peer_is_met_anew_is_not_turned_away() {
    let (mut bench, _) = failed();
    assert!(bench.engine.volume_facts(VOLUME).is_some());
    bench.wait_ms(10_000);
    assert!(bench.engine.volume_facts(VOLUME).is_none(), "nobody came");
}

#[test]
fn a_demotion_asks_the_peer_for_nothing_while_the_end_is_under_way() {
    let mut bench = being_filled();
    fill(&mut bench);
    let call = bench.command(Command::Demote { force: false });
    let asks = |packet: &Packet| matches!(packet, Packet::RemoteFlush { .. });
    assert!(
        !bench.sent_so_far().any(asks),
        "it may hear of the end first"
    );
    bench.flush_all();
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    bench.flush_all();
    assert_eq!(bench.reply(call), Some(true));
}

#[test]
fn a_disk_that_fails_while_it_is_filled_makes_no_second_history_either() {
    // The clients have been served from here all the time, and are to be served on.
    let mut bench = filling();
    let before = current(&bench);
    bench.packet(Packet::State {
        role: Role::Primary,
        tenure: 7,
        disks: alloc::vec![(VOLUME, DiskState::Failed)],
    });
    bench.write_metadata();
    assert_eq!(current(&bench), before);
    // What is written without that disk is told from what it has before it is answered (D6).
    ask_write(&mut bench, 71);
    assert_ne!(current(&bench), before);
}

#[test]
fn a_disk_that_fails_when_it_has_just_been_filled_is_told_from_the_data_there_is() {
    // What failed on it has been answered, and may be missing there.
    let mut bench = filling();
    let before = current(&bench);
    for disk in [DiskState::UpToDate, DiskState::Failed] {
        bench.packet(Packet::State {
            role: Role::Primary,
            tenure: 7,
            disks: alloc::vec![(VOLUME, disk)],
        });
    }
    bench.write_metadata();
    assert_ne!(current(&bench), before);
}
