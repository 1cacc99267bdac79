//! The handler that must end before a resync overwrites anything.

use rbd_protocol::control::ResourceConfig;
use rbd_protocol::ids::GenerationId;
use rbd_protocol::peer::Hello;
use rbd_protocol::state::{ConnectionState, DiskState, ReplicationState, Role};

use super::diskless::{SHARED, served, whole};
use super::resync::{NEWER, end, replication};
use super::{Bench, GENERATION, VOLUME, config, image};
use crate::{Action, Command, Handler, HandlerResult, LinkLoss, OperationId, Seek};

const GOOD: HandlerResult = HandlerResult::Exited(0);

fn guard(config: &mut ResourceConfig) {
    let name = Handler::BeforeResyncTarget.name();
    config.handlers.push((name.into(), "true".into()));
}

fn guarded() -> ResourceConfig {
    let mut config = config();
    guard(&mut config);
    config
}

/// A peer that has something newer than `than` in this volume.
fn newer(hello: &mut Hello, volume: usize, (now, than): (GenerationId, GenerationId)) {
    hello.tentative = false;
    let volume = &mut hello.volumes[volume];
    volume.disk = DiskState::UpToDate;
    volume.current = now;
    volume.bitmap = than;
    volume.dirty_blocks = 2;
}

/// Meets a peer that has newer data, and looks what comes of that.
fn meet_source(bench: &mut Bench) {
    bench.meet(|hello| newer(hello, 0, (NEWER, GENERATION)));
}

/// Meets a peer that has the same.
fn meet_same(bench: &mut Bench) {
    bench.meet(|hello| hello.tentative = false);
}

/// A node whose handler runs, and the name it runs under.
fn preparing() -> (Bench, OperationId) {
    let mut bench = Bench::alone(guarded(), image());
    meet_source(&mut bench);
    assert!(bench.greeting().tentative, "nothing may be carried out");
    let id = starts(&mut bench);
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Renegotiate));
    (bench, id)
}

fn starts(bench: &mut Bench) -> OperationId {
    let (id, handler) = bench.handler().expect("it runs");
    assert_eq!(handler, Handler::BeforeResyncTarget);
    id
}

/// A target whose handler has ended well.
fn prepared() -> Bench {
    let (mut bench, id) = preparing();
    bench.handler_ends(id, GOOD);
    meet_source(&mut bench);
    assert_eq!(replication(&bench), ReplicationState::WFBitMapT);
    bench
}

fn last_seek(bench: &Bench) -> Option<Seek> {
    let mut seeks = bench.asked.iter().filter_map(|action| match action {
        Action::SeekLink { seek, .. } => Some(*seek),
        _ => None,
    });
    seeks.next_back()
}

#[test]
fn nothing_of_a_resync_happens_before_the_handler_has_ended() {
    let (mut bench, id) = preparing();
    bench.write_metadata();
    assert_eq!(replication(&bench), ReplicationState::Off);
    assert_ne!(bench.disk_state(), DiskState::Inconsistent);
    assert_eq!(bench.generation(), GENERATION);
    assert_eq!(last_seek(&bench), Some(Seek::Stop), "nobody waits for it");
    let note = bench.connection().note;
    assert!(note.contains("before-resync-target runs"), "{note}");
    bench.handler_ends(id, GOOD);
    assert_eq!(last_seek(&bench), Some(Seek::AtOnce));
    meet_source(&mut bench);
    assert_eq!(bench.handler(), None, "once is enough");
    assert_eq!(replication(&bench), ReplicationState::WFBitMapT);
}

#[test]
fn a_link_that_comes_meanwhile_is_not_taken() {
    let (mut bench, id) = preparing();
    bench.asked.clear();
    bench.link_up();
    let drops = |action: &Action<u32>| matches!(action, Action::DropLink { .. });
    assert!(bench.asked.iter().any(drops));
    assert_eq!(bench.sent_so_far().count(), 0);
    bench.handler_ends(id, GOOD);
    meet_source(&mut bench);
    assert_eq!(replication(&bench), ReplicationState::WFBitMapT);
}

#[test]
fn a_handler_that_fails_keeps_the_data_and_stops_the_connection() {
    for result in [HandlerResult::Exited(1), HandlerResult::Failed] {
        let (mut bench, id) = preparing();
        bench.handler_ends(id, result);
        let connection = bench.connection();
        assert_eq!(connection.connection_state, ConnectionState::StandAlone);
        assert!(
            connection.note.contains("rbdadm connect r0"),
            "{connection:?}"
        );
        assert_eq!(last_seek(&bench), Some(Seek::Stop));
        assert_ne!(bench.disk_state(), DiskState::Inconsistent);
        // Somebody has made room for the snapshot.
        bench.connect();
        meet_source(&mut bench);
        assert_eq!(replication(&bench), ReplicationState::Off);
        starts(&mut bench);
    }
}

#[test]
fn an_interrupted_resync_begins_again_without_it_and_the_next_one_does_not() {
    let mut bench = prepared();
    bench.link_down(LinkLoss::Closed);
    meet_source(&mut bench);
    assert_eq!(bench.handler(), None);
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Renegotiate));
    meet_source(&mut bench);
    assert_eq!(bench.handler(), None);
    assert_eq!(replication(&bench), ReplicationState::WFBitMapT);
    bench.packet(end(NEWER));
    bench.flush_all();
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    bench.link_down(LinkLoss::Closed);
    bench.meet(|hello| newer(hello, 0, (GenerationId(0x3000), NEWER)));
    starts(&mut bench);
}

#[test]
fn a_resync_whose_end_nobody_heard_of_has_ended_too() {
    let mut bench = prepared();
    bench.packet(end(NEWER));
    bench.write_metadata();
    assert!(bench.disk(crate::DiskRequest::Flush, Ok(())));
    bench.peer_acks();
    bench.link_down(LinkLoss::Closed);
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    bench.write_metadata();
    bench.meet(|hello| newer(hello, 0, (GenerationId(0x3000), NEWER)));
    starts(&mut bench);
}

#[test]
fn who_disconnects_meanwhile_stays_disconnected() {
    let (mut bench, id) = preparing();
    bench.command(Command::Disconnect {
        peer: None,
        force: false,
    });
    bench.handler_ends(id, GOOD);
    let state = bench.connection().connection_state;
    assert_eq!(state, ConnectionState::StandAlone);
    assert_eq!(last_seek(&bench), Some(Seek::Stop));
    bench.connect();
    meet_source(&mut bench);
    starts(&mut bench);
}

#[test]
fn who_connects_anew_meanwhile_waits_for_the_end() {
    let (mut bench, id) = preparing();
    bench.command(Command::Disconnect {
        peer: None,
        force: false,
    });
    bench.asked.clear();
    bench.connect();
    assert_eq!(last_seek(&bench), None);
    bench.handler_ends(id, GOOD);
    assert_eq!(last_seek(&bench), Some(Seek::AtOnce));
    meet_source(&mut bench);
    assert_eq!(replication(&bench), ReplicationState::WFBitMapT);
}

#[test]
fn who_is_no_target_is_connected_at_once() {
    let mut bench = Bench::alone(guarded(), image());
    meet_same(&mut bench);
    assert_eq!(bench.handler(), None);
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Renegotiate));
    assert_eq!(last_seek(&bench), Some(Seek::AtOnce));
    meet_same(&mut bench);
    assert!(!bench.greeting().tentative);
    assert_eq!(replication(&bench), ReplicationState::Established);
}

#[test]
fn two_nodes_that_ask_do_not_take_turns() {
    let mut bench = Bench::alone(guarded(), image());
    meet_same(&mut bench);
    bench.close_dropped();
    // The peer has not heard the answer.
    bench.meet(|hello| hello.tentative = true);
    assert!(!bench.greeting().tentative);
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Goodbye));
    meet_same(&mut bench);
    assert_eq!(replication(&bench), ReplicationState::Established);
}

#[test]
fn who_becomes_a_target_meanwhile_asks_once_more() {
    let mut bench = Bench::alone(guarded(), image());
    meet_same(&mut bench);
    bench.close_dropped();
    meet_source(&mut bench);
    assert_eq!(replication(&bench), ReplicationState::Off);
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Renegotiate));
    assert_eq!(bench.handler(), None);
    meet_source(&mut bench);
    starts(&mut bench);
    assert_ne!(bench.disk_state(), DiskState::Inconsistent);
}

#[test]
fn what_is_known_of_the_peer_grows_old() {
    let mut bench = Bench::alone(guarded(), image());
    meet_same(&mut bench);
    bench.close_dropped();
    bench.wait_ms(60_000);
    meet_source(&mut bench);
    assert!(bench.greeting().tentative);
    starts(&mut bench);
}

#[test]
fn who_has_been_primary_meanwhile_has_other_data_to_keep() {
    let (mut bench, id) = preparing();
    bench.command(Command::Promote { force: true });
    bench.write_metadata();
    assert_eq!(bench.engine.role(), Role::Primary);
    bench.command(Command::Demote { force: false });
    bench.flush_all();
    assert_eq!(bench.engine.role(), Role::Secondary);
    bench.handler_ends(id, GOOD);
    assert_eq!(last_seek(&bench), Some(Seek::AtOnce));
    let own = bench.generation();
    bench.meet(|hello| newer(hello, 0, (NEWER, own)));
    starts(&mut bench);
}

#[test]
fn a_failure_says_nothing_to_who_has_become_primary() {
    let (mut bench, id) = preparing();
    bench.command(Command::Promote { force: true });
    bench.write_metadata();
    bench.handler_ends(id, HandlerResult::Exited(1));
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    let state = bench.connection().connection_state;
    assert_eq!(state, ConnectionState::Connecting);
    assert_eq!(last_seek(&bench), Some(Seek::AtOnce));
    bench.meet(|hello| hello.role = Role::Secondary);
    assert!(!bench.greeting().tentative, "its data is in use");
}

/// A node whose two volumes are both to be overwritten.
fn two_volumes() -> (Bench, [OperationId; 2]) {
    let mut bench = Bench::of_two_volumes(guarded());
    meet_both(&mut bench);
    let ids = [starts(&mut bench), starts(&mut bench)];
    bench.close_dropped();
    (bench, ids)
}

fn meet_both(bench: &mut Bench) {
    bench.meet(|hello| {
        newer(hello, 0, (NEWER, GENERATION));
        newer(hello, 1, (NEWER, GENERATION));
    });
}

#[test]
fn all_volumes_are_waited_for() {
    let (mut bench, [first, second]) = two_volumes();
    bench.asked.clear();
    bench.handler_ends(second, GOOD);
    assert_eq!(last_seek(&bench), None);
    bench.handler_ends(first, GOOD);
    assert_eq!(last_seek(&bench), Some(Seek::AtOnce));
    meet_both(&mut bench);
    assert_eq!(replication(&bench), ReplicationState::WFBitMapT);
}

#[test]
fn one_volume_that_is_not_prepared_keeps_all() {
    let (mut bench, [first, second]) = two_volumes();
    bench.handler_ends(first, HandlerResult::Failed);
    let state = bench.connection().connection_state;
    assert_eq!(state, ConnectionState::StandAlone);
    // Two runs for one volume at the same time would be in each other's way.
    bench.asked.clear();
    bench.connect();
    assert_eq!(last_seek(&bench), None);
    bench.handler_ends(second, GOOD);
    assert_eq!(last_seek(&bench), Some(Seek::AtOnce));
    meet_both(&mut bench);
    assert_eq!(replication(&bench), ReplicationState::Off);
    starts(&mut bench);
    starts(&mut bench);
}

#[test]
fn a_primary_whose_new_disk_is_not_prepared_goes_on_without_it() {
    for result in [GOOD, HandlerResult::Exited(1)] {
        let mut bench = served();
        let mut config = guarded();
        config.peers = super::config().peers;
        bench.command(Command::Configure(alloc::boxed::Box::new(config)));
        bench.attach(image());
        bench.close_dropped();
        let meet = |bench: &mut Bench| {
            bench.meet(|hello| {
                *hello = whole(hello);
                newer(hello, 0, (NEWER, SHARED));
            });
        };
        meet(&mut bench);
        let id = starts(&mut bench);
        let write = bench.write(0);
        bench.close_dropped();
        bench.wait_ms(60_000);
        assert_eq!(bench.answer(write), None, "clients wait for it");
        bench.handler_ends(id, result);
        assert_eq!(last_seek(&bench), Some(Seek::AtOnce));
        meet(&mut bench);
        let disk = bench.disk_state();
        let expected = if result == GOOD {
            DiskState::Inconsistent
        } else {
            DiskState::Diskless
        };
        assert_eq!(disk, expected);
        assert_eq!(bench.answer(write), None, "the peer is asked to write");
        let asks = |packet: &&rbd_protocol::peer::Packet| {
            matches!(packet, rbd_protocol::peer::Packet::RemoteWrite { .. })
        };
        assert_eq!(bench.sent_so_far().filter(asks).count(), 1);
    }
}

#[test]
fn clients_of_a_primary_wait_for_the_handler_and_not_for_ever_after_it() {
    for result in [GOOD, HandlerResult::Exited(1)] {
        let mut bench = served();
        let mut config = guarded();
        config.peers = super::config().peers;
        bench.command(Command::Configure(alloc::boxed::Box::new(config)));
        bench.attach(image());
        bench.close_dropped();
        bench.meet(|hello| {
            *hello = whole(hello);
            newer(hello, 0, (NEWER, SHARED));
        });
        let id = starts(&mut bench);
        let write = bench.write(0);
        bench.close_dropped();
        bench.handler_ends(id, result);
        bench.wait_ms(60_000);
        assert!(bench.answer(write).is_some(), "the peer does not come");
    }
}

#[test]
fn a_primary_asks_nothing_first() {
    let mut bench = Bench::alone(guarded(), image());
    meet_same(&mut bench);
    bench.close_dropped();
    meet_same(&mut bench);
    bench.command(Command::Promote { force: false });
    bench.consent();
    bench.write_metadata();
    bench.link_down(LinkLoss::Closed);
    bench.meet(|hello| hello.role = Role::Secondary);
    assert!(!bench.greeting().tentative);
}

#[test]
fn without_the_handler_nothing_is_asked_first() {
    let mut config = guarded();
    config.handlers[0].1.clear();
    let mut bench = Bench::alone(config, image());
    bench.meet(|hello| newer(hello, 0, (NEWER, GENERATION)));
    assert_eq!(replication(&bench), ReplicationState::WFBitMapT);
    let status = bench.engine.status(bench.now);
    assert_eq!(status.devices[0].volume, VOLUME);
}

#[test]
fn a_resync_that_does_not_come_about_is_not_prepared_for_ever() {
    let (mut bench, id) = preparing();
    bench.handler_ends(id, GOOD);
    meet_same(&mut bench);
    assert_eq!(replication(&bench), ReplicationState::Established);
    bench.link_down(LinkLoss::Closed);
    meet_source(&mut bench);
    starts(&mut bench);
}

#[test]
fn who_has_been_primary_since_has_other_data_to_keep() {
    let (mut bench, id) = preparing();
    bench.handler_ends(id, GOOD);
    bench.command(Command::Promote { force: true });
    bench.write_metadata();
    assert_eq!(bench.engine.role(), Role::Primary);
    bench.command(Command::Demote { force: false });
    bench.flush_all();
    let own = bench.generation();
    bench.meet(|hello| newer(hello, 0, (NEWER, own)));
    assert_eq!(replication(&bench), ReplicationState::Off);
    bench.close_dropped();
    bench.meet(|hello| newer(hello, 0, (NEWER, own)));
    starts(&mut bench);
}

#[test]
fn another_disk_has_other_data_to_keep() {
    let (mut bench, id) = preparing();
    let volume = VOLUME;
    let force = false;
    bench.command(Command::Detach { volume, force });
    bench.flush_all();
    assert_eq!(bench.disk_state(), DiskState::Diskless);
    bench.attach(image());
    bench.handler_ends(id, GOOD);
    meet_source(&mut bench);
    starts(&mut bench);
}

#[test]
fn a_disk_that_is_let_go_takes_its_permission_along() {
    let (mut bench, id) = preparing();
    bench.handler_ends(id, GOOD);
    let volume = VOLUME;
    let force = false;
    bench.command(Command::Detach { volume, force });
    bench.flush_all();
    assert_eq!(bench.disk_state(), DiskState::Diskless);
    bench.attach(image());
    meet_source(&mut bench);
    assert_eq!(replication(&bench), ReplicationState::Off);
    bench.close_dropped();
    meet_source(&mut bench);
    starts(&mut bench);
}

#[test]
fn a_failure_takes_back_the_order_to_give_up_data() {
    let mut bench = Bench::bare(guarded());
    bench.attach(image());
    bench.command(Command::Connect {
        peer: None,
        discard_my_data: true,
        tentative: false,
    });
    meet_source(&mut bench);
    assert!(bench.greeting().discard_my_data);
    let id = starts(&mut bench);
    bench.handler_ends(id, HandlerResult::Exited(1));
    bench.connect();
    meet_source(&mut bench);
    assert!(!bench.greeting().discard_my_data);
}

#[test]
fn a_disk_that_is_to_be_overwritten_is_durably_behind_before_the_handler_ends() {
    let (mut bench, _) = preparing();
    bench.write_metadata();
    assert_eq!(bench.disk_state(), DiskState::Outdated);
    assert!(bench.superblock.expect("written").flags.outdated, "(G3)");
}
