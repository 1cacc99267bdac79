//! A resync step by step, from either side.

use alloc::boxed::Box;
use alloc::vec::Vec;

use rbd_protocol::control::{ResourceConfig, ResyncOptions};
use rbd_protocol::ids::{ByteRange, GenerationId};
use rbd_protocol::metadata::Image;
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{DiskState, ReplicationState, Role};

use super::{Bench, GENERATION, PEER, VOLUME, config, image};
use crate::{Command, DiskError, DiskRequest, Handler, LinkLoss, RequestError, RequestKind};

pub(crate) const NEWER: GenerationId = GenerationId(0x2000);

pub(crate) const READ: DiskRequest = DiskRequest::ReadUnlessZero;
pub(crate) const WRITE: DiskRequest = DiskRequest::Write { fua: false };
const FLUSH: DiskRequest = DiskRequest::Flush;

/// One dirty block of each of these numbers.
pub(crate) fn blocks(numbers: &[usize]) -> Packet {
    let mut words = Box::new([0; 504]);
    for number in numbers {
        words[number / 64] |= 1 << (number % 64);
    }
    Packet::Bitmap {
        volume: VOLUME,
        block: 0,
        words,
    }
}

pub(crate) fn end(generation: GenerationId) -> Packet {
    Packet::BitmapEnd {
        volume: VOLUME,
        generation,
    }
}

pub(crate) fn replication(bench: &Bench) -> ReplicationState {
    bench.connection().peer_devices[0].replication_state
}

/// A node whose peer has been away while two blocks were written.
pub(crate) fn behind() -> Bench {
    let mut bench = Bench::primary();
    bench.link_down(LinkLoss::Closed);
    for offset in [0, 1 << 20] {
        bench.write(offset);
        bench.write_metadata();
        bench.disk(WRITE, Ok(()));
    }
    assert_eq!(bench.out_of_sync_bytes(), 8192);
    bench
}

/// The same, with the peer back: the source of a resync.
pub(crate) fn source() -> Bench {
    source_of(behind())
}

/// The same of this Primary whose peer is away.
pub(crate) fn source_of(mut bench: Bench) -> Bench {
    bench.meet(|hello| {
        hello.role = Role::Secondary;
        hello.volumes[0].disk = DiskState::UpToDate;
        hello.volumes[0].current = GENERATION;
        hello.volumes[0].bitmap = GenerationId::NONE;
        hello.volumes[0].history.clear();
        hello.volumes[0].dirty_blocks = 0;
    });
    assert_eq!(replication(&bench), ReplicationState::WFBitMapS);
    bench.packet(end(GENERATION));
    bench.write_metadata();
    assert_eq!(replication(&bench), ReplicationState::SyncSource);
    bench
}

/// A node whose peer has newer data, before the peer's bitmap has come.
pub(crate) fn target() -> Bench {
    target_as(config())
}

fn target_as(config: ResourceConfig) -> Bench {
    target_with(config, image())
}

/// The same with this disk.
pub(crate) fn target_with(config: ResourceConfig, image: Image) -> Bench {
    let mut bench = Bench::alone(config, image);
    meet_source(&mut bench);
    bench
}

/// Meets a peer that has newer data.
pub(crate) fn meet_source(bench: &mut Bench) {
    bench.meet(|hello| {
        hello.volumes[0].disk = DiskState::UpToDate;
        hello.volumes[0].current = NEWER;
        hello.volumes[0].bitmap = GENERATION;
        hello.volumes[0].dirty_blocks = 2;
    });
    assert_eq!(replication(bench), ReplicationState::WFBitMapT);
}

pub(crate) fn asked_for(bench: &mut Bench) -> Vec<(u64, ByteRange)> {
    let requests = bench.sent().into_iter().filter_map(|packet| match packet {
        Packet::ResyncRequest { id, range, .. } => Some((id, range)),
        _ => None,
    });
    requests.collect()
}

fn data((id, range): (u64, ByteRange)) -> Packet {
    Packet::ResyncData {
        id,
        volume: VOLUME,
        range,
    }
}

#[test]
fn a_target_asks_for_the_union_of_both_bitmaps_and_ends_when_it_is_durable() {
    let mut bench = target();
    bench.packet(blocks(&[3, 400]));
    bench.packet(end(NEWER));
    assert_eq!(replication(&bench), ReplicationState::SyncTarget);
    let asked = asked_for(&mut bench);
    let ranges: Vec<u64> = asked.iter().map(|(_, range)| range.offset / 4096).collect();
    assert_eq!(ranges, [3, 400]);
    for request in asked {
        bench.packet(data(request));
        assert!(bench.disk(WRITE, Ok(())));
    }
    let acked = |packet: &&Packet| matches!(packet, Packet::ResyncAck { .. });
    assert_eq!(bench.sent_so_far().filter(acked).count(), 2);
    assert_eq!(bench.out_of_sync_bytes(), 0);
    assert_eq!(
        bench.disk_state(),
        DiskState::Inconsistent,
        "it is not flushed (E1)"
    );
    assert!(bench.disk(FLUSH, Ok(())));
    assert_eq!(bench.peer_acks(), 1);
    assert_eq!(
        bench.disk_state(),
        DiskState::Inconsistent,
        "it is not recorded (E1)"
    );
    assert_eq!(bench.sent_so_far().count(), 0);
    bench.write_metadata();
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    assert_eq!(bench.generation(), NEWER);
    let done = Packet::ResyncDone {
        volume: VOLUME,
        generation: NEWER,
    };
    assert!(bench.sent().contains(&done));
}

/// A target that lacks everything, with these limits.
fn limited_target(options: ResyncOptions) -> Bench {
    let mut config = config();
    config.volumes[0].resync = alloc::vec![(PEER, options)];
    let mut bench = target_as(config);
    bench.packet(blocks(&[0, 1, 2, 3, 4, 5, 6, 7]));
    bench.packet(end(NEWER));
    bench
}

pub(crate) fn answer(bench: &mut Bench, asked: &[(u64, ByteRange)]) {
    for request in asked {
        bench.packet(data(*request));
        assert!(bench.disk(WRITE, Ok(())));
    }
}

#[test]
fn a_resync_of_limited_rate_goes_on_with_the_timer() {
    let mut bench = limited_target(ResyncOptions {
        max_rate: Some(4096),
        ..ResyncOptions::default()
    });
    let asked = asked_for(&mut bench);
    assert_eq!(asked.len(), 1, "one block a second");
    answer(&mut bench, &asked);
    assert_eq!(asked_for(&mut bench), []);
    bench.wait_ms(500);
    assert_eq!(asked_for(&mut bench), []);
    bench.wait_ms(500);
    assert_eq!(asked_for(&mut bench).len(), 1);
}

#[test]
fn a_limit_that_is_lifted_holds_back_nothing_more() {
    let options = ResyncOptions {
        fixed_rate: Some(1),
        ..ResyncOptions::default()
    };
    let mut bench = limited_target(options);
    let asked = asked_for(&mut bench);
    answer(&mut bench, &asked);
    assert_eq!(asked_for(&mut bench), []);
    bench.command(Command::Configure(Box::new(config())));
    assert!(!asked_for(&mut bench).is_empty());
}

#[test]
fn a_clients_write_shrinks_what_is_under_way() {
    let mut bench = limited_target(ResyncOptions::default());
    let asked = asked_for(&mut bench);
    assert!(asked.len() > 1);
    let range = ByteRange::new(1 << 20, 4096);
    bench.packet(Packet::Write {
        id: 9,
        volume: VOLUME,
        range,
        fua: false,
        place: Default::default(),
    });
    assert!(bench.disk(WRITE, Ok(())));
    let (last, first) = asked.split_last().expect("more than one");
    answer(&mut bench, first);
    assert_eq!(asked_for(&mut bench), [], "the window is let run empty");
    answer(&mut bench, &[*last]);
}

#[test]
fn a_request_that_is_refused_shrinks_nothing() {
    let mut bench = target();
    let separate: Vec<usize> = (0..64).map(|block| block * 2).collect();
    bench.packet(blocks(&separate));
    bench.packet(end(NEWER));
    let asked = asked_for(&mut bench);
    assert!(asked.len() < separate.len(), "the window is full");
    let request = bench.request(RequestKind::Read, ByteRange::new(0, 4096));
    assert_eq!(
        bench.answer(request),
        Some(Err(RequestError::NotPrimary)),
        "there are no clients here"
    );
    answer(&mut bench, &asked[..1]);
    assert_ne!(asked_for(&mut bench), [], "nothing waits for a lone block");
}

#[test]
fn an_empty_resync_ends_at_once() {
    let mut bench = target();
    bench.packet(end(NEWER));
    let asks = |packet: &&Packet| matches!(packet, Packet::ResyncRequest { .. });
    assert_eq!(bench.sent_so_far().filter(asks).count(), 0);
    bench.flush_all();
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    assert_eq!(bench.generation(), NEWER);
}

#[test]
fn a_target_whose_source_is_lost_while_the_end_is_recorded_has_everything() {
    let mut config = config();
    config.handlers = [Handler::AfterResyncTarget]
        .map(|handler| (handler.name().into(), "true".into()))
        .into();
    let mut bench = target_as(config);
    bench.packet(end(NEWER));
    bench.write_metadata();
    assert!(bench.disk(FLUSH, Ok(())));
    bench.peer_acks();
    assert_eq!(bench.disk_state(), DiskState::Inconsistent);
    bench.link_down(LinkLoss::Closed);
    // The superblock on its way to the disk says so, and a restart would find it.
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    assert!(!bench.handlers().contains(&Handler::AfterResyncTarget));
    bench.write_metadata();
    assert!(bench.handlers().contains(&Handler::AfterResyncTarget));
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    assert_eq!(bench.generation(), NEWER);
}

#[test]
fn an_interrupted_target_stays_inconsistent_and_keeps_what_it_lacks() {
    let mut bench = target();
    bench.packet(blocks(&[3, 400]));
    bench.packet(end(NEWER));
    let asked = asked_for(&mut bench);
    bench.packet(data(asked[0]));
    bench.disk(WRITE, Ok(()));
    bench.link_down(LinkLoss::Closed);
    assert_eq!(bench.disk_state(), DiskState::Inconsistent);
    assert_eq!(
        bench.out_of_sync_bytes(),
        8192,
        "what has come is not flushed, and the source may lose it (B10)"
    );
    assert_eq!(bench.generation(), GENERATION);
}

#[test]
fn a_flush_that_fails_at_the_end_of_a_resync_fails_the_disk() {
    let mut bench = target();
    bench.packet(end(NEWER));
    bench.disk(FLUSH, Err(DiskError::Io));
    assert_eq!(bench.disk_state(), DiskState::Diskless);
    assert!(
        !bench
            .sent()
            .iter()
            .any(|packet| matches!(packet, Packet::ResyncDone { .. }))
    );
}

#[test]
fn a_source_reads_when_no_write_is_in_the_way_and_a_write_waits_for_the_read() {
    let mut bench = source();
    bench.asked.clear();
    let first = ByteRange::new(0, 4096);
    bench.write(0);
    bench.write_metadata();
    assert_eq!(bench.on_disk(WRITE), 1);
    let request = |id, range| Packet::ResyncRequest {
        id,
        volume: VOLUME,
        range,
    };
    bench.packet(request(1, first));
    bench.packet(request(2, ByteRange::new(1 << 20, 4096)));
    assert_eq!(bench.on_disk(READ), 1, "one block is being written (E2)");
    bench.disk(READ, Ok(()));
    bench.disk(WRITE, Ok(()));
    assert_eq!(bench.on_disk(READ), 1, "whether or not the peer has it");
    bench.peer_acks();
    bench.write(0);
    assert_eq!(bench.on_disk(WRITE), 0, "the block is being read (E2)");
    bench.disk(READ, Ok(()));
    assert_eq!(bench.on_disk(WRITE), 1);
    let order: Vec<bool> = bench
        .sent()
        .into_iter()
        .map(|packet| matches!(packet, Packet::ResyncData { .. }))
        .collect();
    assert_eq!(order, [true, false], "the write follows what it overtakes");
}

#[test]
fn a_source_takes_writes_of_a_target_whose_end_it_has_not_heard_of() {
    for (disk, accepted) in [
        (DiskState::UpToDate, true),
        (DiskState::Inconsistent, false),
    ] {
        let mut bench = source();
        bench.command(Command::Demote { force: false });
        bench.flush_all();
        bench.packet(Packet::State {
            role: Role::Primary,
            tenure: 7,
            disks: alloc::vec![(VOLUME, disk)],
        });
        bench.packet(Packet::Write {
            id: 1,
            volume: VOLUME,
            range: ByteRange::new(0, 4096),
            fua: false,
            place: Default::default(),
        });
        bench.write_metadata();
        assert_eq!(bench.disk(WRITE, Ok(())), accepted, "{disk}");
        if !accepted {
            assert_eq!(bench.close_dropped(), Some(LinkLoss::Protocol));
            continue;
        }
        for offset in [0, 1 << 20] {
            bench.packet(Packet::ResyncAck {
                id: offset,
                volume: VOLUME,
                range: ByteRange::new(offset, 4096),
            });
        }
        let generation = bench.generation();
        bench.packet(Packet::ResyncDone {
            volume: VOLUME,
            generation,
        });
        assert_eq!(replication(&bench), ReplicationState::Established);
    }
}

#[test]
fn a_source_marks_a_block_clean_when_the_target_has_it() {
    let mut bench = source();
    for (id, offset) in [(1, 0), (2, 1 << 20)] {
        let range = ByteRange::new(offset, 4096);
        bench.packet(Packet::ResyncAck {
            id,
            volume: VOLUME,
            range,
        });
    }
    assert_eq!(bench.out_of_sync_bytes(), 0);
    assert_eq!(
        bench.connection().peer_devices[0].peer_disk_state,
        DiskState::Inconsistent
    );
    let generation = bench.generation();
    bench.packet(Packet::ResyncDone {
        volume: VOLUME,
        generation,
    });
    assert_eq!(
        bench.connection().peer_devices[0].peer_disk_state,
        DiskState::UpToDate
    );
    assert_eq!(replication(&bench), ReplicationState::Established);
    nothing_is_counted_any_more(bench, GENERATION);
}

/// What this node's disk says of a peer that has everything: no marks count, and the generation
/// they counted from is known as an old one (D4).
fn nothing_is_counted_any_more(mut bench: Bench, since: GenerationId) {
    bench.command(Command::Demote { force: false });
    bench.flush_all();
    let greeting = bench.relink().expect("it greets again");
    let volume = &greeting.volumes[0];
    assert_eq!(volume.bitmap, GenerationId::NONE);
    let times = volume.history.iter().filter(|known| **known == since);
    assert_eq!(times.count(), 1, "{:?}", volume.history);
}

#[test]
fn what_a_target_has_acknowledged_and_not_flushed_is_marked_again_when_it_is_lost() {
    let mut bench = source();
    bench.packet(Packet::ResyncAck {
        id: 1,
        volume: VOLUME,
        range: ByteRange::new(0, 4096),
    });
    assert_eq!(bench.out_of_sync_bytes(), 4096);
    bench.link_down(LinkLoss::Closed);
    assert_eq!(bench.out_of_sync_bytes(), 8192, "(B5)");
}

#[test]
fn a_source_that_cannot_read_says_so_and_keeps_its_disk() {
    let mut bench = source();
    bench.asked.clear();
    let range = ByteRange::new(0, 4096);
    bench.packet(Packet::ResyncRequest {
        id: 1,
        volume: VOLUME,
        range,
    });
    bench.disk(READ, Err(DiskError::Io));
    let refused = Packet::ResyncNegativeAck {
        id: 1,
        volume: VOLUME,
        range,
    };
    assert!(bench.sent().contains(&refused));
    assert_eq!(bench.disk_state(), DiskState::UpToDate, "H4");
}

#[test]
fn a_source_that_has_lost_its_disk_asks_nothing_more_of_it() {
    let mut bench = source();
    bench.asked.clear();
    bench.write(0);
    bench.write_metadata();
    for (id, offset) in [(1, 0), (2, 1 << 20)] {
        bench.packet(Packet::ResyncRequest {
            id,
            volume: VOLUME,
            range: ByteRange::new(offset, 4096),
        });
    }
    assert_eq!(bench.on_disk(READ), 1, "one block is being written (E2)");
    bench.disk(READ, Err(DiskError::Gone));
    assert_eq!(bench.disk_state(), DiskState::Diskless);
    assert_eq!(bench.on_disk(READ), 0, "the disk has been let go of");
}

#[test]
fn a_target_whose_disk_fails_while_the_end_is_recorded_has_no_data() {
    let mut bench = target();
    bench.packet(end(NEWER));
    bench.disk(FLUSH, Ok(()));
    bench.peer_acks();
    assert!(bench.is_writing_metadata(), "the end is being recorded");
    bench.fail_metadata();
    assert_eq!(bench.disk_state(), DiskState::Diskless);
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Renegotiate));
    assert_eq!(bench.disk_state(), DiskState::Diskless);
}
