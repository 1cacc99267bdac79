//! What a node says of itself in its greeting and when, and what it makes of the peer's.

use rbd_protocol::control::{Fencing, ResourceConfig};
use rbd_protocol::ids::{ByteRange, GenerationId, NodeId};
use rbd_protocol::metadata::Image;
use rbd_protocol::peer::{Hello, Packet};
use rbd_protocol::policy::{SplitPolicies, WithoutPrimary};
use rbd_protocol::state::{ConnectionState, DiskState, ReplicationState, Role};

use super::fencing::{fenced, stonith};
use super::resync::{NEWER, replication};
use super::split_brain::{changed_too, told};
use super::two_primaries::lower;
use super::{Bench, GENERATION, VOLUME, config, image};
use crate::{Command, DiskRequest, Handler, LinkLoss};

const WRITE: DiskRequest = DiskRequest::Write { fua: false };

/// A node with a handler that must end well before its disk is overwritten.
fn guarded(mut config: ResourceConfig) -> ResourceConfig {
    let name = Handler::BeforeResyncTarget.name();
    config.handlers.push((name.into(), "true".into()));
    config
}

/// How a disk counts after its node has only asked a peer what would become of it.
fn after_asking(config: ResourceConfig, image: Image, peer: impl FnOnce(&mut Hello)) -> DiskState {
    let mut bench = Bench::alone(guarded(config), image);
    bench.meet(|hello| {
        assert!(hello.tentative);
        hello.tentative = false;
        hello.volumes[0].disk = DiskState::UpToDate;
        peer(hello);
    });
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Renegotiate));
    bench.write_metadata();
    let superblock = bench.superblock.as_ref().expect("it was written");
    let is_behind = bench.disk_state() == DiskState::Outdated;
    assert_eq!(superblock.flags.outdated, is_behind);
    bench.disk_state()
}

fn newer(hello: &mut Hello) {
    hello.volumes[0].current = NEWER;
    hello.volumes[0].bitmap = GENERATION;
}

#[test]
fn a_disk_is_found_behind_only_by_a_peer_that_has_gone_on_from_it() {
    let consistent = DiskState::Consistent;
    assert_eq!(after_asking(config(), image(), newer), DiskState::Outdated);
    assert_eq!(after_asking(config(), image(), |_| {}), consistent);
    let older = |hello: &mut Hello| {
        hello.volumes[0].current = GenerationId(0x900);
        hello.volumes[0].history.clear();
    };
    let mut ahead = image();
    ahead.superblock.history[0] = GenerationId(0x900);
    ahead.superblock.peers[0].bitmap_generation = GenerationId(0x900);
    assert_eq!(after_asking(config(), ahead, older), DiskState::UpToDate);
    // The peer was Primary when it crashed: the same data, but for what was on its way.
    let crashed = |hello: &mut Hello| hello.volumes[0].crashed_primary = true;
    assert_eq!(after_asking(config(), image(), crashed), consistent);
}

#[test]
fn a_torn_disk_stays_torn_however_new_the_peers_data_is() {
    let mut torn = image();
    torn.superblock.flags.consistent = false;
    assert_eq!(after_asking(config(), torn, newer), DiskState::Inconsistent);
}

/// That a policy would choose the peer's data makes this node's no older.
#[test]
fn what_a_policy_would_give_up_is_not_behind() {
    let split = SplitPolicies {
        without_primary: WithoutPrimary::DiscardLocal,
        ..SplitPolicies::default()
    };
    let conflict = rbd_protocol::policy::ResyncConflict::Disconnect;
    let mut changed = image();
    changed.superblock.generation = GenerationId(0x2000);
    changed.superblock.history[0] = GENERATION;
    changed.superblock.peers[0].bitmap_generation = GENERATION;
    let disk = after_asking(told(split, conflict), changed, |hello| {
        changed_too(hello);
        hello.tentative = false;
    });
    assert_ne!(disk, DiskState::Outdated);
}

#[test]
fn a_promotion_under_way_is_not_found_behind_by_a_mere_question() {
    let mut bench = Bench::alone(guarded(config()), image());
    bench.write_metadata();
    bench.link_up();
    bench.write_metadata();
    let mut theirs = bench.greeting();
    bench.command(Command::Promote { force: true });
    theirs.tentative = false;
    theirs.incarnation = 99;
    theirs.volumes[0].disk = DiskState::UpToDate;
    newer(&mut theirs);
    bench.packet(Packet::Hello(theirs.into()));
    assert_ne!(bench.disk_state(), DiskState::Outdated);
}

fn has_greeted(bench: &mut Bench) -> bool {
    let mut packets = bench.sent().into_iter();
    packets.any(|packet| matches!(packet, Packet::Hello(_)))
}

/// A Primary, and a write that is on its disk and at its peer.
fn writing(mut bench: Bench) -> Bench {
    bench.write(1 << 20);
    bench.write_metadata();
    assert_eq!(bench.on_disk(WRITE), 1);
    bench
}

#[test]
fn nobody_greets_while_something_of_the_older_link_is_on_its_disk() {
    let mut bench = Bench::in_sync();
    bench.packet(Packet::Write {
        id: 50,
        volume: VOLUME,
        range: ByteRange::new(0, 4096),
        fua: false,
        place: Default::default(),
    });
    bench.write_metadata();
    assert!(bench.relink().is_none(), "(A7)");
    bench.disk(WRITE, Ok(()));
    assert!(has_greeted(&mut bench));
}

#[test]
fn a_lone_primary_greets_at_once_whatever_its_disk_is_doing() {
    let mut bench = writing(stonith());
    assert!(
        bench.relink().is_some(),
        "its clients are frozen until then"
    );
    assert!(bench.is_frozen());
}

#[test]
fn one_of_two_primaries_greets_when_its_disk_is_done_for_it_may_be_told_to_fill_it() {
    let mut config = fenced(Fencing::ResourceAndStonith);
    config.peers[0].net.two_primaries = true;
    let mut bench = writing(Bench::primary_as(config));
    assert!(bench.relink().is_none());
    bench.packet(Packet::Ping { id: 1 });
    assert!(!has_greeted(&mut bench));
    bench.disk(WRITE, Ok(()));
    bench.packet(Packet::Ping { id: 2 });
    assert!(has_greeted(&mut bench));
}

#[test]
fn one_of_two_primaries_that_has_gone_on_alone_is_told_to_fill_nothing() {
    let mut bench = lower();
    bench.link_down(LinkLoss::Closed);
    bench.write(0);
    bench.write_metadata();
    bench.disk(WRITE, Ok(()));
    bench.write_metadata();
    let mut bench = writing(bench);
    assert!(bench.relink().is_some());
}

#[test]
fn a_greeting_says_what_the_disk_says() {
    let mut bench = Bench::alone(config(), image());
    bench.command(Command::Outdate);
    bench.link_up();
    bench.end_metadata();
    if bench.is_writing_metadata() {
        let early = bench
            .sent_so_far()
            .any(|packet| matches!(packet, Packet::Hello(_)));
        assert!(!early, "it may still say something else after a crash (D5)");
    }
    bench.write_metadata();
    assert_eq!(bench.greeting().volumes[0].disk, DiskState::Outdated);
}

#[test]
fn only_an_unfinished_target_says_that_it_is_one() {
    let mut torn = image();
    torn.superblock.flags.consistent = false;
    for (image, was_target) in [(image(), false), (torn, true)] {
        let mut bench = Bench::alone(config(), image);
        bench.write_metadata();
        bench.link_up();
        bench.write_metadata();
        assert_eq!(bench.greeting().volumes[0].was_resync_target, was_target);
    }
}

fn is_overtaken(bench: &Bench) -> bool {
    let facts = bench.engine.volume_facts(VOLUME);
    facts.expect("it has data").is_overtaken
}

/// What a dead daemon left waiting in the kernel is done only where nobody else had clients.
#[test]
fn who_meets_a_primary_or_newer_data_knows_that_somebody_else_had_clients() {
    let mut bench = Bench::alone(config(), image());
    bench.meet(|_| {});
    assert!(!is_overtaken(&bench), "two Secondaries with the same data");
    bench.packet(Packet::State {
        role: Role::Primary,
        tenure: 8,
        disks: alloc::vec![(VOLUME, DiskState::UpToDate)],
    });
    assert!(is_overtaken(&bench));

    let mut bench = Bench::alone(config(), image());
    bench.meet(|hello| hello.role = Role::Primary);
    assert!(is_overtaken(&bench));

    let mut bench = Bench::alone(config(), image());
    bench.meet(|hello| {
        hello.volumes[0].disk = DiskState::UpToDate;
        newer(hello);
    });
    assert_eq!(replication(&bench), ReplicationState::WFBitMapT);
    bench.packet(super::resync::end(NEWER));
    bench.flush_all();
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    assert!(is_overtaken(&bench));
}

#[test]
fn what_has_never_held_data_is_not_up_to_date_by_being_met() {
    let mut fresh = image();
    fresh.superblock.generation = GenerationId::JUST_CREATED;
    fresh.superblock.flags.consistent = false;
    fresh.superblock.flags.was_up_to_date = false;
    fresh.superblock.peers[0].flags.full_sync = true;
    let mut bench = Bench::alone(config(), fresh);
    bench.meet(|_| {});
    let status = bench.connection();
    assert_eq!(status.connection_state, ConnectionState::Connected);
    assert_eq!(
        status.peer_devices[0].peer_disk_state,
        DiskState::Inconsistent
    );
    assert_eq!(bench.disk_state(), DiskState::Inconsistent);
    let mut bench = Bench::alone(config(), image());
    bench.meet(|_| {});
    let status = bench.connection();
    assert_eq!(status.peer_devices[0].peer_disk_state, DiskState::UpToDate);
}

/// Its greeting may have been read, and the peer have found itself UpToDate by it.
#[test]
fn a_peer_whose_answer_was_never_heard_may_be_whole_and_is_fenced() {
    let mut bench = Bench::in_sync_as(fenced(Fencing::ResourceAndStonith));
    bench.packet(Packet::State {
        role: Role::Secondary,
        tenure: 8,
        disks: alloc::vec![(VOLUME, DiskState::Outdated)],
    });
    bench.link_down(LinkLoss::Goodbye);
    bench.link_up();
    bench.write_metadata();
    bench.greeting();
    bench.link_down(LinkLoss::Closed);
    bench.command(Command::Promote { force: false });
    bench.fence_starts();
}

#[test]
fn nodes_of_any_number_mirror_to_each_other() {
    for node_id in [NodeId(0), NodeId(5)] {
        let mut bench = Bench::primary_as(ResourceConfig {
            node_id,
            ..config()
        });
        let write = bench.write(0);
        bench.write_metadata();
        bench.disk(WRITE, Ok(()));
        assert_eq!(bench.peer_acks(), 1);
        assert_eq!(bench.answer(write), Some(Ok(())));
    }
}
