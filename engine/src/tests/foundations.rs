//! What everything else stands on: names, times, operations in flight, and what a peer has that may
//! not be durable there.

use alloc::vec::Vec;

use rbd_protocol::control::Shown;
use rbd_protocol::ids::{ByteRange, GenerationId, VolumeNumber};
use rbd_protocol::state::{ConnectionState, DiskState, ReplicationState};

use super::{LINK, PEER, config};
use crate::Action;
use crate::bitmap::{BITS_PER_PAGE, Bitmap};
use crate::connection::{Connection, Order};
use crate::context::{Context, Operation};
use crate::contract::{DiskRequest, LinkId, OperationId, Time};
use crate::peer_device::{Origin, PeerDevice};
use crate::random::Random;

const FIRST: VolumeNumber = VolumeNumber(1);
const SECOND: VolumeNumber = VolumeNumber(2);

/// From the reference implementation of `SplitMix64`: runs that are repeated elsewhere draw the
/// same names.
#[test]
fn names_are_drawn_as_the_generator_is_published() {
    let mut random = Random::new(1_234_567);
    let drawn = [(); 3].map(|()| random.next());
    let published = [
        6_457_827_717_110_365_317,
        3_203_168_211_198_807_973,
        9_817_491_932_198_370_423,
    ];
    assert_eq!(drawn, published);
}

#[test]
fn a_generation_is_never_a_reserved_value() {
    // The first that is drawn from these is 15, and 16.
    let (reserved, smallest) = (0xBEB7_21C5_11B0_DA6D, 0xF5BC_E96B_412C_7155);
    assert_eq!(Random::new(reserved).next(), 15);
    let after = GenerationId(0xF550_061D_876A_5716);
    assert_eq!(Random::new(reserved).generation(), after);
    assert_eq!(Random::new(smallest).generation(), GenerationId(16));
}

#[test]
fn times_are_told_apart_in_whole_milliseconds_and_never_wrap() {
    let time = Time(5_000_000);
    assert_eq!(time.plus_ms(3), Time(8_000_000));
    assert_eq!(Time(8_999_999).ms_since(time), 3);
    assert_eq!(time.ms_since(Time(8_000_000)), 0);
    assert_eq!(time.plus_ms(u64::MAX), Time(u64::MAX));
}

fn context() -> Context<u32> {
    Context::new(Random::new(1), 0)
}

/// Starts a disk operation. Returns its name.
fn begin(cx: &mut Context<u32>, operation: Operation) -> OperationId {
    let range = ByteRange::new(0, 4096);
    cx.disk(operation, DiskRequest::Read, range, None);
    match cx.out.pop() {
        Some(Action::Disk { id, .. }) => id,
        _ => panic!("the disk is asked"),
    }
}

fn read(volume: VolumeNumber, read: u64) -> Operation {
    Operation::Read { volume, read }
}

#[test]
fn a_clock_on_the_wall_is_told_in_seconds_and_not_made_up() {
    let mut cx: Context<u32> = Context::new(Random::new(1), 1_000);
    cx.now = Time(5_900_000_000);
    assert_eq!(cx.unix_seconds(), 1_005);
    let mut cx = context();
    cx.now = Time(5_900_000_000);
    assert_eq!(cx.unix_seconds(), 0, "it is not known");
}

#[test]
fn the_oldest_operation_of_a_volume_is_told_from_those_of_others() {
    let mut cx = context();
    let mut ids = Vec::new();
    for (time, volume) in [(5, FIRST), (9, SECOND), (12, FIRST)] {
        cx.now = Time(time);
        ids.push(begin(&mut cx, read(volume, time)));
    }
    assert_eq!(cx.oldest_on(FIRST), Some(Time(5)));
    assert_eq!(cx.oldest_on(SECOND), Some(Time(9)));
    assert_eq!(cx.oldest_on(VolumeNumber(0)), None);
    assert_eq!(cx.operations_on(FIRST), 2);
    assert_eq!(cx.operations_on(SECOND), 1);
    assert_eq!(cx.operations_on(VolumeNumber(0)), 0);
    assert_eq!(cx.finished(ids[0]), Some(read(FIRST, 5)));
    assert_eq!(cx.finished(ids[0]), None, "it finishes once");
    assert_eq!(cx.oldest_on(FIRST), Some(Time(12)));
    assert_eq!(cx.operation_count(), 2);
}

#[test]
fn what_a_disk_does_that_was_let_go_finishes_for_nobody_and_is_waited_for() {
    let mut cx = context();
    let ours = begin(&mut cx, read(FIRST, 1));
    let gone = begin(&mut cx, read(SECOND, 2));
    let flush = begin(
        &mut cx,
        Operation::Barrier {
            volume: SECOND,
            barrier: 3,
        },
    );
    cx.orphan(SECOND);
    assert_eq!(cx.oldest_on(SECOND), None, "no disk is silent");
    assert_eq!(cx.operations_on(SECOND), 2);
    assert_eq!(cx.operations_on(FIRST), 1);
    assert_eq!(cx.operation_count(), 3);
    assert_eq!(cx.orphan_finished(gone), None, "it proves nothing");
    assert_eq!(cx.orphan_finished(flush), Some(SECOND));
    assert_eq!(cx.orphan_finished(flush), None);
    assert_eq!(cx.orphan_finished(ours), None);
    assert_eq!(cx.operation_count(), 1);
    assert_eq!(cx.finished(ours), Some(read(FIRST, 1)));
}

#[test]
fn a_failure_of_what_flushes_shows_that_a_disk_let_go_has_lost_something() {
    let (volume, attachment, peer, link) = (FIRST, 1, PEER, LINK);
    let flushing = [
        Operation::Barrier { volume, barrier: 1 },
        Operation::PeerFlush {
            volume,
            peer,
            link,
            id: 1,
        },
        Operation::Superblock {
            volume,
            attachment,
            version: 1,
        },
        Operation::Intent {
            volume,
            attachment,
            block: 1,
        },
        Operation::BitmapPage {
            volume,
            attachment,
            peer,
            page: 1,
        },
        Operation::Relocation { volume, attachment },
    ];
    let others = [
        Operation::Write { volume, write: 1 },
        Operation::Mend { volume, read: 1 },
        Operation::PeerWrite { volume, write: 1 },
        Operation::NoteSize { volume, attachment },
        Operation::Measure { volume },
    ];
    let told = |operation: &Operation| {
        let mut cx = context();
        let id = begin(&mut cx, operation.clone());
        cx.orphan(volume);
        cx.orphan_finished(id)
    };
    for operation in &flushing {
        assert_eq!(told(operation), Some(volume), "{operation:?}");
    }
    for operation in &others {
        assert_eq!(told(operation), None, "{operation:?}");
    }
}

#[test]
fn the_timer_is_set_anew_only_for_something_earlier() {
    let mut cx = context();
    for time in [10, 20, 10, 5, 7] {
        cx.wake_by(Time(time));
    }
    cx.timer_fired();
    assert!(!cx.is_wake_pending());
    cx.wake_by(Time(30));
    assert!(cx.is_wake_pending());
    let set = cx.out.into_iter().map(|action| match action {
        Action::WakeAt(time) => time.0,
        _ => panic!("only the timer is set"),
    });
    assert_eq!(set.collect::<Vec<_>>(), [10, 5, 30]);
}

/// A peer's copy of three pages, in sync with the own one.
fn peer() -> PeerDevice {
    let mut peer = PeerDevice::new(PEER);
    peer.bitmap = Bitmap::new(3 * BITS_PER_PAGE * 4096);
    peer.link = Some(LinkId(1));
    peer.replication = ReplicationState::Established;
    peer.peer_disk = DiskState::UpToDate;
    peer
}

fn block(number: u64) -> ByteRange {
    ByteRange::new(number * 4096, 4096)
}

#[test]
fn what_a_barrier_covers_is_durable_on_the_peer_and_what_came_later_is_not() {
    let mut peer = peer();
    for number in 0..3 {
        peer.note_unstable(block(10 * number), Origin::Write);
    }
    peer.note_unstable(block(40), Origin::ResyncTarget);
    assert_eq!((peer.unstable.len(), peer.unstable_writes), (4, 3));
    peer.retire_unstable(2);
    assert_eq!((peer.unstable.len(), peer.unstable_writes), (2, 1));
    assert!(peer.mark_unstable_dirty(), "a client's write among them");
    assert_eq!(peer.unstable_writes, 0);
    assert_eq!(peer.bitmap.count(), 2);
    assert_eq!(peer.out_of_sync_bytes(), 8192);
    let first = peer.bitmap.next_run(0, 4096, u64::MAX);
    assert_eq!(first, Some(block(20)));
    peer.note_unstable(block(50), Origin::Write);
    peer.retire_unstable(u64::MAX);
    assert!(!peer.mark_unstable_dirty(), "nothing is unstable");
}

#[test]
fn what_a_resync_copied_is_marked_again_but_is_no_clients_write() {
    for origin in [Origin::ResyncTarget, Origin::ResyncSource] {
        let mut peer = peer();
        peer.note_unstable(block(1), origin);
        assert_eq!(peer.unstable_writes, 0, "it holds no writes back");
        assert!(!peer.mark_unstable_dirty());
        assert_eq!(peer.bitmap.count(), 1);
    }
}

#[test]
fn the_end_of_a_resync_makes_only_what_it_copied_durable() {
    let mut peer = peer();
    peer.note_unstable(block(1), Origin::Write);
    peer.note_unstable(block(2), Origin::ResyncTarget);
    peer.note_unstable(block(3), Origin::ResyncSource);
    peer.retire_resynced();
    assert_eq!((peer.unstable.len(), peer.unstable_writes), (2, 1));
    peer.mark_unstable_dirty();
    assert_eq!(peer.bitmap.count(), 2);
    assert_eq!(peer.bitmap.page(0)[0], 0b1010);
}

#[test]
fn pages_saved_with_unstable_marks_are_saved_without_when_those_are_durable() {
    // The last block of page 0 and the first of page 1.
    let across = ByteRange::new(4096 * (BITS_PER_PAGE - 1), 8192);
    for origin in [Origin::Write, Origin::ResyncTarget] {
        let mut peer = peer();
        peer.note_unstable(across, origin);
        peer.saved_with_unstable.extend([0, 1, 2]);
        if origin == Origin::Write {
            peer.retire_unstable(u64::MAX);
        } else {
            peer.retire_resynced();
        }
        let unsaved = |page| peer.bitmap.next_unsaved(page);
        assert_eq!(
            (unsaved(0), unsaved(1), unsaved(2)),
            (Some(0), Some(1), None)
        );
        assert_eq!(peer.saved_with_unstable.len(), 1, "the third page");
    }
}

#[test]
fn what_one_resync_did_not_have_to_send_is_not_told_of_the_next() {
    let mut peer = peer();
    (peer.same_bytes, peer.zero_bytes) = (4096, 8192);
    let text = "; not sent: 4096 bytes that were the same, 8192 bytes of zeroes";
    assert_eq!(peer.saved(), text);
    peer.forget_saved();
    assert_eq!(peer.saved(), "");
}

#[test]
fn with_another_disk_nothing_is_known_of_what_the_peer_has() {
    let mut peer = peer();
    peer.note_unstable(block(1), Origin::Write);
    peer.saved_with_unstable.insert(0);
    peer.forget_unstable();
    assert!(peer.unstable.is_empty() && peer.saved_with_unstable.is_empty());
    assert_eq!(peer.unstable_writes, 0);
    assert!(!peer.mark_unstable_dirty());
    assert!(peer.bitmap.is_clean());
}

#[test]
fn writes_go_to_a_peer_that_has_a_link_a_disk_and_everything_else() {
    assert!(peer().is_mirrored());
    let mut linkless = peer();
    linkless.link = None;
    assert!(!linkless.is_mirrored());
    for state in [DiskState::Diskless, DiskState::Failed, DiskState::DUnknown] {
        let mut diskless = peer();
        diskless.peer_disk = state;
        assert!(!diskless.is_mirrored(), "{state}");
    }
    for (state, mirrored, source) in [
        (ReplicationState::Off, false, false),
        (ReplicationState::WFBitMapS, true, true),
        (ReplicationState::SyncSource, true, true),
        (ReplicationState::WFBitMapT, false, false),
        (ReplicationState::SyncTarget, false, false),
    ] {
        let mut peer = peer();
        peer.replication = state;
        assert_eq!(peer.is_mirrored(), mirrored, "{state}");
        assert_eq!(peer.is_resync_source(), source, "{state}");
    }
}

#[test]
fn an_order_to_give_up_data_lapses_with_its_time() {
    let mut connection = Connection::new(config().peers.remove(0));
    assert!(connection.condemned(Time(0)).is_none());
    let condemned = Shown {
        own_tenure: 1,
        tenure: 2,
        generations: Vec::new(),
    };
    connection.order = Some(Order {
        condemned,
        until: Time(50),
    });
    let tenure = |time| connection.condemned(Time(time)).map(|shown| shown.tenure);
    assert_eq!((tenure(49), tenure(50), tenure(51)), (Some(2), None, None));
    connection.forget_orders();
    assert!(connection.condemned(Time(49)).is_none());
}

#[test]
fn a_state_of_a_connection_began_when_it_was_entered_and_not_when_it_was_told_again() {
    let mut connection = Connection::new(config().peers.remove(0));
    connection.enter(ConnectionState::Connecting, "looking", Time(5));
    connection.enter(ConnectionState::Connecting, "still looking", Time(9));
    assert_eq!(
        (connection.since, &connection.note[..]),
        (Time(5), "still looking")
    );
    connection.enter(ConnectionState::Timeout, "gone", Time(12));
    assert_eq!(connection.since, Time(12));
}
