//! What must not be believed of a peer, or said to it, at the edges of roles, sizes and greetings.

use alloc::boxed::Box;
use alloc::vec;

use rbd_protocol::control::{Fencing, RefusalCode, VerifyOrder};
use rbd_protocol::ids::{ByteRange, GenerationId, NodeId};
use rbd_protocol::metadata::{Image, Layout, Placement};
use rbd_protocol::peer::{HelloVolume, Packet};
use rbd_protocol::policy::{ResyncConflict, SplitPolicies, WithoutPrimary};
use rbd_protocol::state::{DiskState, ReplicationState, Role};

use super::diskless::{SHARED, done, failed, remote_write, served, whole};
use super::fenced_return::without_disk;
use super::fencing::fenced;
use super::resync::{end, replication};
use super::sizes::{
    LARGE, RESIZE, asked_of_peer, external, grown, measure, peer_answers, roomy, size,
};
use super::split_brain::{OWN, changed_too, shown, told};
use super::two_primaries::with;
use super::{Bench, GENERATION, PEER, SECOND, SIZE, VOLUME, config, image};
use crate::{Command, DiskMeasure, DiskRequest, HandlerResult, LinkLoss, RequestError};

const WRITE: DiskRequest = DiskRequest::Write { fua: false };
const PROMOTE: Command = Command::Promote { force: false };

/// The peer, a Secondary, tells of its disk.
fn says(bench: &mut Bench, disk: DiskState) {
    bench.packet(Packet::State {
        role: Role::Secondary,
        tenure: 8,
        disks: vec![(VOLUME, disk)],
    });
}

/// The disk of a node that has gone on without its peer.
fn split_image() -> Image {
    let mut image = image();
    image.superblock.generation = OWN;
    image.superblock.history[0] = GENERATION;
    image.superblock.peers[0].bitmap_generation = GENERATION;
    image
}

/// The peer may not have grown, and go on with the smaller size.
#[test]
fn a_size_no_peer_is_known_to_have_is_not_shown_by_being_promoted_alone() {
    let mut bench = Bench::alone(config(), roomy());
    bench.meet(grown);
    bench.close_dropped();
    bench.meet(|hello| hello.seen_incarnation = 0);
    assert_eq!(replication(&bench), ReplicationState::WFBitMapS);
    bench.link_down(LinkLoss::Timeout);
    let call = bench.command(PROMOTE);
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(true));
    assert_eq!(size(&bench), SIZE);
}

/// It has had clients of its own since: what it would fill the disk with, clients here have not
/// seen.
#[test]
fn a_disk_is_not_filled_by_a_peer_that_has_gone_on_for_other_clients() {
    let mut bench = served();
    bench.attach(image());
    let own = bench.relink().expect("a greeting");
    let mut theirs = whole(&own);
    theirs.volumes[0].current = GenerationId(0x7777);
    theirs.volumes[0].bitmap = SHARED;
    theirs.tenure += 1;
    bench.packet(Packet::Hello(Box::new(theirs)));
    assert_eq!(bench.disk_state(), DiskState::Diskless);
    let write = bench.write(0);
    assert_eq!(bench.answer(write), None, "the peer is met anew");
    let own = bench.relink().expect("a greeting");
    assert_eq!(own.volumes[0].current, SHARED, "what clients have seen");
}

#[test]
fn clients_do_not_wait_for_a_peer_that_has_come_back_without_its_data() {
    let (mut bench, write) = failed();
    let own = bench.relink().expect("a greeting");
    let mut theirs = whole(&own);
    theirs.volumes[0].disk = DiskState::Inconsistent;
    bench.packet(Packet::Hello(Box::new(theirs)));
    assert_eq!(bench.answer(write), Some(Err(RequestError::Io)));
}

/// It is about to find out that it has just what they have seen.
#[test]
fn clients_wait_for_a_peer_that_does_not_know_yet_that_it_has_everything() {
    let (mut bench, write) = failed();
    let own = bench.relink().expect("a greeting");
    let mut theirs = whole(&own);
    theirs.volumes[0].disk = DiskState::Consistent;
    bench.packet(Packet::Hello(Box::new(theirs)));
    assert_eq!(bench.answer(write), None);
    says(&mut bench, DiskState::UpToDate);
    bench.packet(Packet::Ping { id: 1 });
    bench.wait_ms(9_999);
    bench.packet(Packet::Ping { id: 2 });
    bench.wait_ms(1);
    let id = remote_write(&mut bench);
    done(&mut bench, id, SHARED);
    assert_eq!(bench.answer(write), Some(Ok(())));
}

/// The disk of a node in sync, after it has met one without a disk.
fn after_meeting(role: Role, shown: GenerationId) -> DiskState {
    let mut bench = Bench::in_sync();
    bench.link_down(LinkLoss::Closed);
    bench.meet(|hello| {
        without_disk(hello);
        hello.role = role;
        hello.volumes[0].current = shown;
    });
    bench.disk_state()
}

#[test]
fn a_peer_without_a_disk_makes_no_disk_outdated_unless_its_clients_have_seen_other_data() {
    let other = GenerationId(0x2000);
    let newest = DiskState::UpToDate;
    assert_eq!(
        after_meeting(Role::Primary, other),
        DiskState::Outdated,
        "its clients"
    );
    assert_eq!(after_meeting(Role::Primary, GenerationId::NONE), newest);
    assert_eq!(after_meeting(Role::Secondary, other), newest);
}

/// A disk that was left in order or not, and was said to be behind or not, after it has met a
/// Primary without a disk whose clients have seen this very generation.
fn after_being_shown(was_clean: bool, is_behind: bool) -> DiskState {
    let mut image = image();
    image.superblock.boot_id = 6;
    image.superblock.flags.clean_shutdown = was_clean;
    let mut bench = Bench::alone(config(), image);
    if is_behind {
        bench.command(Command::Outdate);
    } else {
        assert_eq!(bench.disk_state(), DiskState::Consistent);
    }
    bench.meet(|hello| {
        without_disk(hello);
        hello.role = Role::Primary;
        hello.volumes[0].current = GENERATION;
    });
    bench.disk_state()
}

/// What has been said to be behind, or may have lost its power, may lack writes of the same
/// generation.
#[test]
fn a_disk_with_what_clients_have_seen_is_current_only_if_it_can_lack_nothing() {
    assert_eq!(after_being_shown(true, false), DiskState::UpToDate);
    assert_eq!(after_being_shown(true, true), DiskState::Outdated);
    assert_eq!(after_being_shown(false, false), DiskState::Consistent);
}

/// A half-copied disk has nothing to keep: it is filled, whoever keeps the data of another volume.
#[test]
fn volumes_may_go_different_ways_where_one_disk_is_torn() {
    let split = SplitPolicies {
        without_primary: WithoutPrimary::DiscardLocal,
        ..SplitPolicies::default()
    };
    let config = told(split, ResyncConflict::Disconnect);
    let mut bench = Bench::of_two_disks(config, split_image(), split_image());
    bench.meet(|hello| {
        changed_too(hello);
        hello.volumes[1] = HelloVolume {
            number: SECOND,
            disk: DiskState::Inconsistent,
            ..hello.volumes[0].clone()
        };
    });
    assert_eq!(bench.close_dropped(), None);
    let volumes = bench.connection().peer_devices;
    assert_eq!(volumes[0].replication_state, ReplicationState::WFBitMapT);
    assert_eq!(volumes[1].replication_state, ReplicationState::WFBitMapS);
}

/// The other volume is the same on both nodes: nothing of it is given up.
#[test]
fn a_copy_of_the_volumes_that_differ_is_enough_to_give_them_up() {
    let mut bench = Bench::of_two_disks(config(), split_image(), image());
    bench.meet(changed_too);
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Refused));
    let saved = bench.engine.changes(PEER, VOLUME, 0).expect("it is told");
    let call = bench.command(Command::Resolve {
        peer: PEER,
        keep_own: false,
        shown: shown(&bench),
        saved: vec![saved.standing],
    });
    assert_eq!(bench.reply(call), Some(true));
}

/// The peer would count on a size this node's disk does not have.
#[test]
fn a_peer_is_not_told_that_a_disk_has_grown_that_has_failed_on_the_way() {
    let mut bench = Bench::alone(config(), roomy());
    bench.meet(|_| {});
    bench.sent();
    bench.packet(Packet::ResizeRequest {
        id: 7,
        volume: VOLUME,
        capacity: LARGE,
        assume_clean: false,
    });
    assert!(measure(&mut bench, Ok(external(LARGE, LARGE))));
    bench.fail_metadata();
    bench.write_metadata();
    let grown = |packet: &Packet| matches!(packet, Packet::ResizeReply { granted: true, .. });
    assert!(!bench.sent().iter().any(grown));
}

/// It has been attached just now, and the link on which it is compared is still to come.
#[test]
fn nobody_grows_with_a_peer_whose_disk_has_not_been_compared() {
    let mut bench = Bench::alone(config(), roomy());
    bench.meet(|_| {});
    bench.link_down(LinkLoss::Closed);
    bench.meet(without_disk);
    says(&mut bench, DiskState::UpToDate);
    assert_eq!(bench.peer_disk(), DiskState::UpToDate);
    let call = bench.command(RESIZE);
    assert_eq!(bench.refusal(call).code, RefusalCode::StateNeedsConnection);
}

#[test]
fn one_volume_is_compared_while_another_grows() {
    let mut config = config();
    config.peers[0].net.verify = true;
    let mut bench = Bench::of_two_disks(config, roomy(), image());
    bench.meet(|_| {});
    bench.command(RESIZE);
    let (from, until, repair) = (Some(0), None, false);
    let call = bench.command(Command::Verify {
        volume: SECOND,
        peer: None,
        order: VerifyOrder::Start {
            from,
            until,
            repair,
        },
    });
    assert_eq!(bench.reply(call), Some(true));
}

/// Nobody would ever answer.
#[test]
fn a_node_without_a_peer_declares_no_two_disks_identical() {
    let mut config = config();
    config.peers.clear();
    let mut image = image();
    image.superblock.generation = GenerationId::JUST_CREATED;
    image.superblock.flags.consistent = false;
    image.superblock.flags.was_up_to_date = false;
    let mut bench = Bench::bare(config);
    bench.attach(image);
    let call = bench.command(Command::NewGeneration {
        volume: VOLUME,
        clear_bitmap: true,
    });
    assert_eq!(bench.refusal(call).code, RefusalCode::StateNeedsConnection);
}

#[test]
fn a_promotion_nobody_answers_ends_in_time_though_nothing_else_is_due() {
    let mut config = config();
    config.peers[0].net.ping_interval_ms = 600_000;
    let mut bench = Bench::in_sync_as(config);
    let call = bench.command(PROMOTE);
    bench.wait_ms(8_000);
    assert_eq!(bench.refusal(call).code, RefusalCode::StateTimeout);
}

/// Each side of a split brain is shown with the time from which it went on alone.
#[test]
fn since_when_either_side_has_gone_on_alone_is_told() {
    let mut changed = split_image();
    changed.superblock.peers[0].counted_since = 1_700_000_000;
    let mut bench = Bench::alone(config(), changed);
    bench.meet(|hello| {
        changed_too(hello);
        hello.volumes[0].counted_since = 1_800_000_000;
    });
    let refused = bench.connection().refused.expect("a split brain");
    let volume = &refused.volumes[0];
    let since = (volume.own_since, volume.peer_since);
    assert_eq!(since, (1_700_000_000, 1_800_000_000));
}

/// The peer's role when they met says nothing of who has clients now.
#[test]
fn a_peer_that_was_primary_once_lacks_what_it_had_not_flushed_when_it_was_lost() {
    let mut bench = Bench::alone(config(), image());
    bench.meet(|hello| hello.role = Role::Primary);
    says(&mut bench, DiskState::UpToDate);
    bench.command(PROMOTE);
    bench.consent();
    bench.write_metadata();
    assert_eq!(bench.engine.role(), Role::Primary);
    let before = bench.generation();
    bench.write(0);
    bench.write_metadata();
    bench.disk(WRITE, Ok(()));
    assert_eq!(bench.peer_acks(), 1);
    bench.link_down(LinkLoss::Closed);
    bench.write_metadata();
    assert_ne!(bench.generation(), before, "(A2)");
}

#[test]
fn a_promotion_goes_on_when_the_last_write_of_the_former_primary_is_on_the_disk() {
    let mut bench = Bench::in_sync();
    bench.packet(Packet::Write {
        id: 50,
        volume: VOLUME,
        range: ByteRange::new(0, 4096),
        fua: false,
        place: Default::default(),
    });
    bench.write_metadata();
    let call = bench.command(PROMOTE);
    bench.consent();
    assert!(
        !bench.is_writing_metadata(),
        "it would be written under clients"
    );
    bench.disk(WRITE, Ok(()));
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(true));
}

/// Nobody is told before that: the peer would take what it heard for certain (G3).
#[test]
fn a_peer_is_told_that_a_disk_is_behind_when_that_is_durable() {
    let mut bench = Bench::in_sync();
    bench.link_down(LinkLoss::Closed);
    bench.greeted(|hello| {
        without_disk(hello);
        hello.role = Role::Primary;
        hello.volumes[0].current = GenerationId(0x2000);
    });
    assert_eq!(bench.disk_state(), DiskState::Outdated);
    let behind = |packet: &Packet| match packet {
        Packet::State { disks, .. } => disks.contains(&(VOLUME, DiskState::Outdated)),
        _ => false,
    };
    assert!(!bench.sent().iter().any(behind));
    bench.write_metadata();
    assert!(bench.sent().iter().any(behind));
}

/// The disk has grown, and its metadata could move; but nobody wants the volume to be larger.
#[test]
fn a_volume_as_large_as_it_is_to_be_does_not_grow_with_its_disk() {
    let mut image = image();
    let former = SIZE + image.layout.metadata_bytes();
    image.layout = Layout::with_data(former, Placement::Internal, 1, SIZE).expect("room");
    image.superblock.device_bytes = former;
    image.superblock.metadata_offset = None;
    let mut config = config();
    config.volumes[0].size_limit_bytes = Some(SIZE);
    let mut bench = Bench::alone(config, image);
    bench.meet(|_| {});
    let call = bench.command(RESIZE);
    let found = DiskMeasure {
        device_bytes: LARGE,
        placement: Placement::Internal,
    };
    assert!(measure(&mut bench, Ok(found)));
    assert_eq!(bench.reply(call), Some(true));
    assert_eq!(size(&bench), SIZE);
}

/// The answer to a first question, given up long ago, comes after all.
#[test]
fn a_disk_that_tells_its_size_twice_has_the_peer_asked_once() {
    let mut bench = Bench::alone(config(), roomy());
    bench.meet(|_| {});
    let call = bench.command(RESIZE);
    bench.wait_ms(8_000);
    assert_eq!(bench.refusal(call).code, RefusalCode::StateTimeout);
    let call = bench.command(RESIZE);
    assert!(measure(&mut bench, Ok(external(LARGE, LARGE))));
    let (request, _) = asked_of_peer(&mut bench).expect("the peer is asked");
    assert!(measure(&mut bench, Ok(external(LARGE, LARGE))));
    assert_eq!(asked_of_peer(&mut bench), None);
    peer_answers(&mut bench, request, LARGE, true);
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(true));
}

#[test]
fn a_disk_of_the_size_in_use_is_attached_under_clients_without_a_change_of_size() {
    let mut bench = served();
    let call = bench.attach(image());
    assert_eq!(bench.reply(call), Some(true));
    let reports = bench.reports();
    let changes = reports.iter().any(|text| text.contains("size changes"));
    assert!(!changes, "{reports:?}");
}

/// Over such a link nobody has learnt that the other still goes on.
#[test]
fn a_link_that_is_lost_before_anybody_has_greeted_gives_no_primary_longer_to_notice() {
    let mut bench = with(NodeId(0), fenced(Fencing::ResourceAndStonith));
    bench.write(8192);
    bench.write_metadata();
    bench.link_down(LinkLoss::Timeout);
    let fence = bench.fence_starts();
    bench.handler_ends(fence, HandlerResult::Exited(4));
    bench.wait_ms(2_500);
    bench.sent();
    bench.link_up();
    bench.write_metadata();
    assert_eq!(bench.sent(), [], "its disk may be told to be filled");
    bench.link_down(LinkLoss::Closed);
    bench.wait_ms(2_500);
    bench.wait_ms(1_000);
    let fence = bench.fence_starts();
    bench.handler_ends(fence, HandlerResult::Exited(4));
    bench.write_metadata();
    assert!(!bench.is_frozen());
}

/// It may have been whole already, and have had no time to say so.
#[test]
fn when_a_peer_is_lost_that_was_being_filled_nothing_is_decided_before_the_verdict() {
    let mut bench = Bench::primary_as(fenced(Fencing::ResourceAndStonith));
    let before = bench.generation();
    bench.link_down(LinkLoss::Timeout);
    let fence = bench.fence_starts();
    bench.handler_ends(fence, HandlerResult::Exited(7));
    bench.write_metadata();
    bench.meet(|hello| {
        hello.role = Role::Secondary;
        hello.volumes[0].disk = DiskState::Outdated;
        hello.volumes[0].current = before;
        hello.volumes[0].bitmap = GenerationId::NONE;
        hello.volumes[0].history.clear();
    });
    bench.packet(end(before));
    bench.write_metadata();
    assert_eq!(replication(&bench), ReplicationState::SyncSource);
    let during = bench.generation();
    let write = bench.write(0);
    bench.write_metadata();
    bench.disk(WRITE, Ok(()));
    bench.link_down(LinkLoss::Timeout);
    assert!(bench.is_frozen());
    let fence = bench.fence_starts();
    assert_eq!(bench.generation(), during);
    assert_eq!(bench.answer(write), None);
    bench.handler_ends(fence, HandlerResult::Exited(7));
    bench.write_metadata();
    assert_eq!(bench.answer(write), Some(Ok(())));
}
