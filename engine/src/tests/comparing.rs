//! A resync that compares before it copies, and one that sends no zeroes.

use alloc::vec::Vec;

use rbd_protocol::control::ResourceConfig;
use rbd_protocol::ids::ByteRange;
use rbd_protocol::metadata::Image;
use rbd_protocol::peer::{Digest, Packet};
use rbd_protocol::state::{ConnectionState, DiskState};

use super::resync::{NEWER, WRITE, asked_for, blocks, end, source, target, target_with};
use super::{Bench, PEER, VOLUME, config, image};
use crate::{Action, DiskError, DiskRequest, Event, LinkId, RequestError};

const DIGEST: DiskRequest = DiskRequest::Digest;
const READ: DiskRequest = DiskRequest::ReadUnlessZero;
const ZERO: DiskRequest = DiskRequest::Zero {
    fua: false,
    discard: true,
};

const LIKE: Digest = [1; 16];
const UNLIKE: Digest = [2; 16];

fn comparing() -> ResourceConfig {
    let mut config = config();
    config.peers[0].net.compare_first = true;
    config
}

/// A disk whose host has been booted since it was last in sync.
fn booted() -> Image {
    let mut image = image();
    image.superblock.boot_id = 6;
    image
}

/// A target that compares and lacks these blocks.
fn lacking(numbers: &[usize]) -> Bench {
    let mut bench = target_with(comparing(), booted());
    bench.packet(blocks(numbers));
    bench.packet(end(NEWER));
    bench
}

/// The disk has made digests, the oldest that were asked for.
fn digests(bench: &mut Bench, result: Result<&[Digest], DiskError>) {
    let at = bench
        .asked
        .iter()
        .position(|action| matches!(action, Action::Disk { request, .. } if *request == DIGEST));
    let Action::Disk { id, .. } = bench.asked.remove(at.expect("they were asked for")) else {
        return;
    };
    let result = result.map(<[Digest]>::to_vec);
    bench.tell(Event::Digests { id, result });
}

fn compares(bench: &mut Bench) -> Option<(u64, ByteRange, usize)> {
    bench.sent().into_iter().find_map(|packet| match packet {
        Packet::ResyncCompare {
            id, range, digests, ..
        } => Some((id, range, digests.len())),
        _ => None,
    })
}

fn same(id: u64, range: ByteRange) -> Packet {
    Packet::ResyncSame {
        id,
        volume: VOLUME,
        range,
    }
}

fn is_connected(bench: &Bench) -> bool {
    bench.connection().connection_state == ConnectionState::Connected
}

/// A source asked to compare its first blocks with these.
fn asked_to_compare(digests: &[Digest]) -> Bench {
    let mut bench = source();
    bench.sent();
    bench.packet(Packet::ResyncCompare {
        id: 7,
        volume: VOLUME,
        range: ByteRange::new(0, 4096 * u32::try_from(digests.len()).unwrap_or(1)),
        digests: digests.to_vec(),
    });
    bench
}

#[test]
fn a_target_asks_with_the_digests_of_its_own_blocks() {
    let mut bench = lacking(&[0, 3, 4, 5]);
    assert_eq!(asked_for(&mut bench), [], "not before they are known");
    digests(&mut bench, Ok(&[LIKE]));
    let (id, range, _) = compares(&mut bench).expect("it asks");
    assert_eq!(
        range,
        ByteRange::new(0, 4096),
        "one that is alone comes first"
    );
    bench.packet(same(id, range));
    digests(&mut bench, Ok(&[LIKE, LIKE, LIKE]));
    let (id, range, count) = compares(&mut bench).expect("it asks");
    assert_eq!((range, count), (ByteRange::new(3 * 4096, 3 * 4096), 3));
    // The middle one differs.
    bench.packet(same(id, ByteRange::new(3 * 4096, 4096)));
    bench.packet(same(id, ByteRange::new(5 * 4096, 4096)));
    assert_eq!(bench.on_disk(WRITE), 0);
    assert_eq!(bench.out_of_sync_bytes(), 4096);
    bench.packet(Packet::ResyncData {
        id,
        volume: VOLUME,
        range: ByteRange::new(4 * 4096, 4096),
    });
    assert_eq!(bench.out_of_sync_bytes(), 4096);
    assert!(bench.disk(WRITE, Ok(())));
    assert_eq!(bench.out_of_sync_bytes(), 0);
    let acked = |packet: &&Packet| matches!(packet, Packet::ResyncAck { .. });
    assert_eq!(bench.sent_so_far().filter(acked).count(), 3);
    bench.flush_all();
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    let told = bench.reports().join("\n");
    assert!(told.contains("12288 bytes that were the same"), "{told}");
}

#[test]
fn a_block_that_is_the_same_waits_for_the_writes_sent_before() {
    let mut bench = lacking(&[3]);
    digests(&mut bench, Ok(&[LIKE]));
    let (id, range, _) = compares(&mut bench).expect("it asks");
    bench.packet(Packet::Write {
        id: 9,
        volume: VOLUME,
        range,
        fua: false,
        place: Default::default(),
    });
    bench.packet(same(id, range));
    assert_eq!(
        bench.out_of_sync_bytes(),
        4096,
        "the write is not done (E2)"
    );
    assert!(bench.disk(WRITE, Ok(())));
    assert_eq!(bench.out_of_sync_bytes(), 0);
}

#[test]
fn what_is_being_written_is_not_read_to_be_compared() {
    let mut bench = target_with(comparing(), booted());
    bench.packet(Packet::Write {
        id: 9,
        volume: VOLUME,
        range: ByteRange::new(3 * 4096, 512),
        fua: false,
        place: Default::default(),
    });
    bench.packet(blocks(&[3]));
    bench.packet(end(NEWER));
    assert_eq!(bench.on_disk(DIGEST), 0);
    assert_eq!(asked_for(&mut bench).len(), 1);
}

#[test]
fn what_a_target_cannot_read_is_overwritten() {
    let mut bench = lacking(&[3]);
    digests(&mut bench, Err(DiskError::Io));
    assert_eq!(asked_for(&mut bench).len(), 1);
    assert_eq!(bench.disk_state(), DiskState::Inconsistent);
}

#[test]
fn nobody_is_told_that_something_is_the_same_without_having_asked() {
    let mut bench = target();
    bench.packet(blocks(&[3]));
    bench.packet(end(NEWER));
    let asked = asked_for(&mut bench);
    bench.packet(same(asked[0].0, asked[0].1));
    assert!(!is_connected(&bench));
    let mut bench = lacking(&[3]);
    digests(&mut bench, Ok(&[LIKE]));
    let (id, _, _) = compares(&mut bench).expect("it asks");
    bench.packet(same(id, ByteRange::new(4 * 4096, 4096)));
    assert!(!is_connected(&bench), "another block");
    assert_eq!(bench.out_of_sync_bytes(), 4096);
}

#[test]
fn a_source_sends_only_what_differs() {
    let mut bench = asked_to_compare(&[LIKE, UNLIKE, LIKE]);
    assert_eq!(bench.on_disk(READ), 0);
    digests(&mut bench, Ok(&[LIKE, LIKE, LIKE]));
    let alike: Vec<Packet> = bench.sent();
    assert!(alike.contains(&same(7, ByteRange::new(0, 4096))));
    assert!(alike.contains(&same(7, ByteRange::new(8192, 4096))));
    let write = bench.write(4096);
    assert_eq!(bench.on_disk(WRITE), 0, "its block is being read (E2)");
    assert!(bench.disk(READ, Ok(())));
    let sent = bench.sent();
    let data = sent.iter().position(
        |packet| matches!(packet, Packet::ResyncData { id: 7, range, .. } if range.offset == 4096),
    );
    let mirrored = sent
        .iter()
        .position(|packet| matches!(packet, Packet::Write { .. }));
    assert!(data.is_some() && data < mirrored, "{sent:?}");
    assert!(bench.disk(WRITE, Ok(())));
    assert_eq!(bench.answer(write), None);
}

#[test]
fn a_source_compares_when_no_write_is_in_the_way() {
    let mut bench = source();
    bench.asked.clear();
    bench.write(0);
    bench.write_metadata();
    assert_eq!(bench.on_disk(WRITE), 1);
    bench.packet(Packet::ResyncCompare {
        id: 7,
        volume: VOLUME,
        range: ByteRange::new(0, 4096),
        digests: alloc::vec![LIKE],
    });
    assert_eq!(bench.on_disk(DIGEST), 0);
    assert!(bench.disk(WRITE, Ok(())));
    assert_eq!(bench.on_disk(DIGEST), 1);
    bench.peer_acks();
    bench.write(0);
    assert_eq!(bench.on_disk(WRITE), 0, "nor may one start meanwhile");
    digests(&mut bench, Ok(&[LIKE]));
    assert_eq!(bench.on_disk(WRITE), 1);
}

#[test]
fn digests_must_fit_their_range() {
    for count in [0, 2] {
        let mut bench = source();
        bench.packet(Packet::ResyncCompare {
            id: 7,
            volume: VOLUME,
            range: ByteRange::new(0, 4096),
            digests: alloc::vec![LIKE; count],
        });
        assert!(!is_connected(&bench), "{count}");
    }
}

#[test]
fn a_source_that_cannot_read_what_is_to_be_compared_says_so() {
    let mut bench = asked_to_compare(&[LIKE]);
    digests(&mut bench, Err(DiskError::Io));
    let told = |packet: &Packet| matches!(packet, Packet::ResyncNegativeAck { id: 7, .. });
    assert!(bench.sent().iter().any(told));
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
}

#[test]
fn digests_of_an_older_link_ask_for_nothing() {
    let mut bench = lacking(&[3]);
    bench.tell(Event::LinkDown {
        peer: PEER,
        link: LinkId(1),
        loss: crate::LinkLoss::Closed,
    });
    bench.sent();
    digests(&mut bench, Ok(&[LIKE]));
    assert_eq!(compares(&mut bench), None);
}

#[test]
fn zeroes_are_not_sent_and_give_back_space_at_the_target() {
    let mut bench = source();
    bench.sent();
    let range = ByteRange::new(0, 4096);
    bench.packet(Packet::ResyncRequest {
        id: 7,
        volume: VOLUME,
        range,
    });
    bench.disk_zero();
    let zero = |id| Packet::ResyncZero {
        id,
        volume: VOLUME,
        range,
    };
    assert!(bench.sent().contains(&zero(7)));

    let mut bench = target();
    bench.packet(blocks(&[0]));
    bench.packet(end(NEWER));
    let asked = asked_for(&mut bench);
    bench.packet(zero(asked[0].0));
    assert_eq!(bench.out_of_sync_bytes(), 4096);
    assert!(bench.disk(ZERO, Ok(())));
    assert_eq!(bench.out_of_sync_bytes(), 0);
}

#[test]
fn a_disk_that_may_read_what_it_has_lost_is_written_and_not_compared() {
    // The boot it was last in sync in, and whether it was let go in order; this one is 7.
    for (boot, clean, compares) in [
        (6, false, true),
        (6, true, true),
        (7, true, true),
        (7, false, false), // the process ended, and perhaps a flush had failed before
        (0, true, false),  // it is known that one had, or that power was lost
        (0, false, false),
    ] {
        let mut image = image();
        image.superblock.boot_id = boot;
        image.superblock.flags.clean_shutdown = clean;
        let mut bench = target_with(comparing(), image);
        bench.packet(blocks(&[3]));
        bench.packet(end(NEWER));
        let case = (boot, clean);
        assert_eq!(bench.on_disk(DIGEST) == 1, compares, "{case:?}");
        assert_eq!(asked_for(&mut bench).is_empty(), compares, "{case:?}");
    }
}

#[test]
fn after_a_flush_that_failed_nothing_is_compared_until_both_are_in_sync() {
    let mut bench = lacking(&[]);
    assert!(bench.disk(DiskRequest::Flush, Err(DiskError::Io)));
    bench.close_dropped();
    bench.attach(booted());
    super::resync::meet_source(&mut bench);
    bench.packet(blocks(&[3]));
    bench.packet(end(NEWER));
    assert_eq!(bench.on_disk(DIGEST), 0);
    assert_eq!(asked_for(&mut bench).len(), 1);
}

#[test]
fn after_a_write_that_failed_here_nothing_counts_as_the_same() {
    let mut bench = source();
    bench.asked.clear();
    let write = bench.write(0);
    bench.write_metadata();
    bench.packet(Packet::ResyncCompare {
        id: 7,
        volume: VOLUME,
        range: ByteRange::new(0, 4096),
        digests: alloc::vec![LIKE],
    });
    assert!(
        bench.disk(WRITE, Err(DiskError::NoSpace)),
        "the target gets it"
    );
    digests(&mut bench, Ok(&[LIKE]));
    let same = |packet: &Packet| matches!(packet, Packet::ResyncSame { .. });
    assert!(!bench.sent_so_far().any(same));
    assert!(
        bench.disk(DiskRequest::ReadUnlessZero, Ok(())),
        "it is sent"
    );
    bench.peer_acks();
    assert_eq!(bench.answer(write), Some(Err(RequestError::NoSpace)));
}
