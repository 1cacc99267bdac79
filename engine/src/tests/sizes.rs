//! Disks of different sizes, and a volume that grows.

use alloc::boxed::Box;

use rbd_protocol::control::{RefusalCode, VerifyOrder};
use rbd_protocol::ids::GenerationId;
use rbd_protocol::metadata::{Image, Layout, PeerBitmap, Placement, required_external_bytes};
use rbd_protocol::peer::{Hello, Packet};
use rbd_protocol::state::{ConnectionState, DiskState, Role};

use super::{Bench, SIZE, VOLUME, config, image};
use crate::{Action, CallId, Command, DiskError, DiskMeasure, Event, LinkLoss, RequestError};

pub(super) const LARGE: u64 = 256 << 20;

/// The same disk, on a device with more room than the volume uses.
pub(super) fn roomy() -> Image {
    let mut image = image();
    let placement = Placement::External {
        offset: 0,
        available: required_external_bytes(LARGE, 1),
    };
    image.layout = Layout::with_data(LARGE, placement, 1, SIZE).expect("there is room");
    image
}

/// A disk on which nothing was ever written.
fn created(size: u64) -> Image {
    let mut image = roomy();
    let placement = image.layout.placement();
    image.layout = Layout::with_data(LARGE, placement, 1, size).expect("there is room");
    image.superblock.data_bytes = size;
    image.superblock.generation = GenerationId::JUST_CREATED;
    image.superblock.flags.consistent = false;
    image.superblock.flags.was_up_to_date = false;
    image.superblock.peers[0].flags.full_sync = true;
    image.peers = alloc::vec![PeerBitmap::Everything];
    image
}

pub(super) fn size(bench: &Bench) -> u64 {
    bench.engine.status(bench.now).devices[0].size_bytes
}

pub(super) fn grown(hello: &mut Hello) {
    hello.volumes[0].size_bytes = LARGE;
    hello.volumes[0].capacity_bytes = LARGE;
}

/// What the disk says of itself would be read after a crash now.
fn durable_size(bench: &Bench) -> Option<u64> {
    bench
        .superblock
        .as_ref()
        .map(|superblock| superblock.data_bytes)
}

#[test]
fn just_created_disks_take_the_smaller_size_before_they_are_connected() {
    let mut bench = Bench::alone(config(), created(LARGE));
    bench.meet(|hello| {
        hello.volumes[0].size_bytes = SIZE;
        hello.volumes[0].capacity_bytes = SIZE;
    });
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Renegotiate));
    assert_eq!(size(&bench), SIZE);
    bench.write_metadata();
    assert_eq!(durable_size(&bench), Some(SIZE));
    bench.meet(|hello| hello.volumes[0].capacity_bytes = SIZE);
    assert_eq!(bench.close_dropped(), None);
    assert_eq!(
        bench.connection().connection_state,
        ConnectionState::Connected
    );
}

#[test]
fn a_size_in_use_is_not_given_up_for_a_smaller_disk() {
    let mut bench = Bench::alone(config(), image());
    bench.meet(|hello| {
        hello.volumes[0].size_bytes = SIZE / 2;
        hello.volumes[0].capacity_bytes = SIZE / 2;
    });
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Refused));
    assert!(
        bench
            .connection()
            .note
            .starts_with("The peer's disk size is too small!")
    );
    assert_eq!(size(&bench), SIZE);
}

#[test]
fn a_node_that_missed_a_growth_grows_and_is_synchronised() {
    let mut bench = Bench::alone(config(), roomy());
    bench.meet(grown);
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Renegotiate));
    bench.meet(|hello| {
        assert_eq!(hello.volumes[0].size_bytes, LARGE);
        assert_eq!(hello.volumes[0].dirty_blocks, (LARGE - SIZE) / 4096);
        hello.role = Role::Primary;
    });
    assert_eq!(bench.close_dropped(), None);
    assert_eq!(
        bench.disk_state(),
        DiskState::Inconsistent,
        "it is the target"
    );
    assert_eq!(bench.out_of_sync_bytes(), LARGE - SIZE);
}

#[test]
fn the_larger_size_is_greeted_with_only_when_it_and_its_marks_are_durable() {
    let mut bench = Bench::alone(config(), roomy());
    bench.meet(|_| {});
    bench.link_down(LinkLoss::Closed);
    bench.write_metadata();
    bench.link_up();
    let mut theirs = bench.greeting();
    theirs.incarnation = 99;
    grown(&mut theirs);
    bench.packet(Packet::Hello(Box::new(theirs)));
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Renegotiate));
    bench.sent();
    bench.link_up();
    assert_eq!(bench.sent_so_far().count(), 0, "nothing of it is durable");
    let written = bench.write_metadata();
    // The log's block with the added marks, twice, then the superblock.
    assert_eq!(written.len(), 3, "{written:?}");
    assert!(written[0] != written[1] && written[..2].iter().all(|at| *at >= 8192));
    assert!(written[2] < 8192);
    assert_eq!(durable_size(&bench), Some(LARGE));
    assert_eq!(bench.greeting().volumes[0].size_bytes, LARGE);
}

#[test]
fn clients_see_a_larger_size_when_the_peer_is_durably_a_target() {
    let mut bench = Bench::alone(config(), roomy());
    bench.meet(|_| {});
    bench.command(Command::Promote { force: false });
    bench.consent();
    bench.write_metadata();
    bench.link_down(LinkLoss::Closed);
    bench.meet(|hello| {
        hello.role = Role::Secondary;
        grown(hello);
    });
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Renegotiate));
    bench.write_metadata();
    assert_eq!(size(&bench), SIZE);
    let beyond = bench.write(SIZE);
    assert_eq!(bench.answer(beyond), Some(Err(RequestError::Invalid)));
    bench.meet(|hello| hello.role = Role::Secondary);
    assert_eq!(size(&bench), SIZE, "the target has not said that it is one");
    let generation = bench.greeting().volumes[0].current;
    bench.packet(Packet::BitmapEnd {
        volume: VOLUME,
        generation,
    });
    assert_eq!(size(&bench), LARGE);
}

pub(super) const RESIZE: Command = Command::Resize {
    volume: VOLUME,
    assume_clean: false,
};

/// A node in sync with its peer, whose disk has grown.
fn before_growth() -> Bench {
    let mut bench = Bench::alone(config(), roomy());
    bench.meet(|_| {});
    bench.asked.clear();
    bench
}

pub(super) fn external(device_bytes: u64, described: u64) -> DiskMeasure {
    DiskMeasure {
        device_bytes,
        placement: Placement::External {
            offset: 0,
            available: required_external_bytes(described, 1),
        },
    }
}

/// The disk tells its size. Whether it was asked.
pub(super) fn measure(bench: &mut Bench, result: Result<DiskMeasure, DiskError>) -> bool {
    let asked = |action: &Action<u32>| matches!(action, Action::Measure { .. });
    let Some(at) = bench.asked.iter().position(asked) else {
        return false;
    };
    if let Action::Measure { id, .. } = bench.asked.remove(at) {
        bench.tell(Event::Measured { id, result });
    }
    true
}

/// What the peer was asked: the request, and for how much there is room here.
pub(super) fn asked_of_peer(bench: &mut Bench) -> Option<(u64, u64)> {
    bench.sent().into_iter().find_map(|packet| match packet {
        Packet::ResizeRequest { id, capacity, .. } => Some((id, capacity)),
        _ => None,
    })
}

pub(super) fn peer_answers(bench: &mut Bench, id: u64, bytes: u64, granted: bool) {
    bench.packet(Packet::ResizeReply {
        id,
        volume: VOLUME,
        bytes,
        granted,
    });
}

fn refused_with(bench: &Bench, call: CallId) -> RefusalCode {
    bench.refusal(call).code
}

#[test]
fn a_volume_grows_here_when_it_has_grown_on_the_peer() {
    let mut bench = before_growth();
    let call = bench.command(RESIZE);
    assert!(measure(&mut bench, Ok(external(LARGE, LARGE))));
    let (request, capacity) = asked_of_peer(&mut bench).expect("the peer is asked");
    assert_eq!(capacity, LARGE);
    assert!(!bench.is_writing_metadata(), "the peer has not grown");
    peer_answers(&mut bench, request, LARGE / 2, true);
    assert_eq!(bench.reply(call), None, "nothing is durable here");
    bench.write_metadata();
    assert_eq!(
        durable_size(&bench),
        Some(LARGE / 2),
        "what both have room for"
    );
    assert_eq!(bench.reply(call), Some(true));
    assert_eq!(size(&bench), SIZE, "the peer is not yet known to take part");
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Renegotiate));
    bench.meet(|hello| {
        assert_eq!(hello.volumes[0].dirty_blocks, (LARGE / 2 - SIZE) / 4096);
        hello.role = Role::Primary;
    });
    assert_eq!(bench.out_of_sync_bytes(), LARGE / 2 - SIZE);
    assert_eq!(size(&bench), LARGE / 2);
}

#[test]
fn what_is_assumed_clean_is_not_copied() {
    let mut bench = before_growth();
    bench.command(Command::Resize {
        volume: VOLUME,
        assume_clean: true,
    });
    measure(&mut bench, Ok(external(LARGE, LARGE)));
    let (request, _) = asked_of_peer(&mut bench).expect("the peer is asked");
    peer_answers(&mut bench, request, LARGE, true);
    bench.write_metadata();
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Renegotiate));
    bench.meet(|_| {});
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    assert_eq!(bench.out_of_sync_bytes(), 0);
    assert_eq!(size(&bench), LARGE);
}

#[test]
fn for_the_peer_it_grows_as_far_as_both_have_room_and_says_so_when_that_is_durable() {
    let mut bench = before_growth();
    bench.packet(Packet::ResizeRequest {
        id: 7,
        volume: VOLUME,
        capacity: LARGE,
        assume_clean: false,
    });
    assert!(measure(&mut bench, Ok(external(LARGE / 2, LARGE))));
    assert_eq!(bench.sent().len(), 0, "nothing is durable");
    bench.write_metadata();
    assert_eq!(durable_size(&bench), Some(LARGE / 2));
    let reply = Packet::ResizeReply {
        id: 7,
        volume: VOLUME,
        bytes: LARGE / 2,
        granted: true,
    };
    assert!(bench.sent().contains(&reply));
    assert_eq!(
        size(&bench),
        SIZE,
        "its clients wait until the peer has it, too"
    );
}

#[test]
fn without_room_here_the_peer_is_told_how_much_there_is_and_may_ask_again() {
    let mut bench = before_growth();
    let reply = |id, bytes, granted| Packet::ResizeReply {
        id,
        volume: VOLUME,
        bytes,
        granted,
    };
    for id in [7, 8] {
        bench.packet(Packet::ResizeRequest {
            id,
            volume: VOLUME,
            capacity: LARGE,
            assume_clean: false,
        });
        assert!(measure(&mut bench, Ok(external(SIZE, LARGE))));
        assert!(bench.sent().contains(&reply(id, SIZE, false)));
    }
}

#[test]
fn a_volume_does_not_grow_during_a_resync_or_alone() {
    let mut bench = Bench::alone(config(), roomy());
    let call = bench.command(RESIZE);
    assert_eq!(
        refused_with(&bench, call),
        RefusalCode::StateNeedsConnection
    );
    bench.meet(|hello| {
        hello.role = Role::Primary;
        hello.volumes[0].dirty_blocks = 1;
    });
    let call = bench.command(RESIZE);
    assert_eq!(refused_with(&bench, call), RefusalCode::ResizeDuringResync);
    bench.packet(Packet::ResizeRequest {
        id: 7,
        volume: VOLUME,
        capacity: LARGE,
        assume_clean: false,
    });
    let busy = Packet::ResizeReply {
        id: 7,
        volume: VOLUME,
        bytes: 0,
        granted: false,
    };
    assert!(bench.sent().contains(&busy));
}

#[test]
fn too_little_room_for_the_metadata_is_said_before_anybody_grows() {
    let mut bench = before_growth();
    let call = bench.command(RESIZE);
    measure(&mut bench, Ok(external(LARGE, SIZE)));
    assert_eq!(refused_with(&bench, call), RefusalCode::MetaDiskTooSmall);
    assert_eq!(asked_of_peer(&mut bench), None);
}

#[test]
fn a_peer_without_room_keeps_the_size_as_it_is() {
    let mut bench = before_growth();
    let call = bench.command(RESIZE);
    measure(&mut bench, Ok(external(LARGE, LARGE)));
    let (request, _) = asked_of_peer(&mut bench).expect("the peer is asked");
    peer_answers(&mut bench, request, SIZE, false);
    assert_eq!(refused_with(&bench, call), RefusalCode::DiskTooSmall);
    assert!(!bench.is_writing_metadata());
    let call = bench.command(RESIZE);
    measure(&mut bench, Ok(external(LARGE, LARGE)));
    let (request, _) = asked_of_peer(&mut bench).expect("the peer is asked");
    peer_answers(&mut bench, request, LARGE * 2, true);
    assert_eq!(refused_with(&bench, call), RefusalCode::StateRefusedByPeer);
    assert!(!bench.is_writing_metadata(), "more than there is room for");
}

#[test]
fn a_disk_that_has_not_grown_is_no_error() {
    let mut bench = Bench::in_sync();
    let call = bench.command(RESIZE);
    measure(&mut bench, Ok(external(SIZE, SIZE)));
    assert_eq!(bench.reply(call), Some(true));
    assert_eq!(asked_of_peer(&mut bench), None);
}

#[test]
fn a_lost_link_a_silent_disk_and_a_silent_peer_end_it() {
    let mut bench = before_growth();
    let call = bench.command(RESIZE);
    bench.wait_ms(8_000);
    assert_eq!(refused_with(&bench, call), RefusalCode::StateTimeout);
    assert!(measure(&mut bench, Ok(external(LARGE, LARGE))));
    assert_eq!(asked_of_peer(&mut bench), None, "its answer comes too late");
    let call = bench.command(RESIZE);
    measure(&mut bench, Err(DiskError::Io));
    assert_eq!(refused_with(&bench, call), RefusalCode::Environment);
    let call = bench.command(RESIZE);
    measure(&mut bench, Ok(external(LARGE, LARGE)));
    bench.link_down(LinkLoss::Closed);
    assert_eq!(
        refused_with(&bench, call),
        RefusalCode::StateNeedsConnection
    );
}

#[test]
fn another_resize_waits_for_its_turn() {
    let mut bench = before_growth();
    bench.command(RESIZE);
    let call = bench.command(RESIZE);
    assert_eq!(refused_with(&bench, call), RefusalCode::StateConcurrent);
}

/// The peer is there all the time, and says nothing of the growth.
fn peer_works_for(bench: &mut Bench, seconds: u64) {
    for id in 0..seconds {
        bench.packet(Packet::Ping { id });
        bench.wait_ms(1_000);
    }
}

#[test]
fn a_peer_that_moves_its_metadata_for_minutes_is_waited_for() {
    let mut bench = before_growth();
    let call = bench.command(RESIZE);
    measure(&mut bench, Ok(external(LARGE, LARGE)));
    let (request, _) = asked_of_peer(&mut bench).expect("the peer is asked");
    peer_works_for(&mut bench, 600);
    peer_answers(&mut bench, request, LARGE, true);
    bench.write_metadata();
    assert_eq!(durable_size(&bench), Some(LARGE));
    assert_eq!(bench.reply(call), Some(true));
}

#[test]
fn a_peer_that_has_grown_too_late_is_met_anew() {
    let mut bench = before_growth();
    let call = bench.command(RESIZE);
    measure(&mut bench, Ok(external(LARGE, LARGE)));
    let (request, _) = asked_of_peer(&mut bench).expect("the peer is asked");
    peer_works_for(&mut bench, 900);
    assert_eq!(refused_with(&bench, call), RefusalCode::StateTimeout);
    peer_answers(&mut bench, request, SIZE, false);
    assert_eq!(bench.close_dropped(), None, "it has not");
    peer_answers(&mut bench, request, LARGE, true);
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Renegotiate));
}

/// The peer has not said that it has it, and now nobody has.
#[test]
fn a_larger_size_that_was_not_agreed_on_is_forgotten_with_the_disk() {
    let mut bench = before_growth();
    bench.command(RESIZE);
    measure(&mut bench, Ok(external(LARGE, LARGE)));
    let (request, _) = asked_of_peer(&mut bench).expect("the peer is asked");
    peer_answers(&mut bench, request, LARGE, true);
    bench.fail_metadata();
    assert_eq!(bench.disk_state(), DiskState::Diskless);
    assert_eq!(size(&bench), SIZE);
    bench.close_dropped();
    bench.meet(super::fenced_return::without_disk);
    assert_eq!(size(&bench), SIZE, "no disk says anything else");
}

#[test]
fn a_disk_that_serves_nobody_does_not_tell_a_primary_its_size() {
    let (mut bench, _) = super::diskless::failed();
    bench.close_dropped();
    bench.meet(|hello| {
        grown(hello);
        hello.role = Role::Secondary;
        let volume = &mut hello.volumes[0];
        volume.disk = DiskState::Inconsistent;
        volume.current = GenerationId::JUST_CREATED;
        volume.history.clear();
    });
    assert_eq!(size(&bench), SIZE, "its clients may be shown no other");
}

/// In sync with its peer, and both may be compared.
fn comparable() -> Bench {
    let mut config = config();
    config.peers[0].net.verify = true;
    let mut bench = Bench::alone(config, roomy());
    bench.meet(|_| {});
    bench.asked.clear();
    bench
}

/// Why nothing is compared.
fn why_not(bench: &mut Bench) -> alloc::string::String {
    let (from, until, repair) = (Some(0), None, false);
    let call = bench.command(Command::Verify {
        volume: VOLUME,
        peer: None,
        order: VerifyOrder::Start {
            from,
            until,
            repair,
        },
    });
    bench.refusal(call).reason
}

/// What is new would be found different, and is to be copied anyway.
#[test]
fn nothing_is_compared_while_a_volume_grows() {
    let mut bench = comparable();
    bench.command(RESIZE);
    assert!(why_not(&mut bench).contains("is growing"));
    measure(&mut bench, Ok(external(LARGE, LARGE)));
    assert!(why_not(&mut bench).contains("is growing"));
}

#[test]
fn nor_before_the_peer_that_wanted_it_has_grown_too() {
    let mut bench = comparable();
    bench.packet(Packet::ResizeRequest {
        id: 60,
        volume: VOLUME,
        capacity: LARGE,
        assume_clean: false,
    });
    measure(&mut bench, Ok(external(LARGE, LARGE)));
    bench.write_metadata();
    assert!(why_not(&mut bench).contains("is growing"));
}
