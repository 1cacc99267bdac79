//! One change at a time, and what it leaves as it is; what the peer and people are told of changes.

use alloc::boxed::Box;
use alloc::vec;

use rbd_protocol::control::{Divergence, Fencing, RefusalCode, WriteCache};
use rbd_protocol::ids::GenerationId;
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{DiskState, ReplicationState, Role};

use super::diskless::served;
use super::fencing::{fenced, stonith};
use super::resync::replication;
use super::split_brain::{OWN, THEIRS, changed_too, divergence};
use super::{Bench, GENERATION, PEER, SIZE, VOLUME, config, image};
use crate::{Action, AttachedDisk, Command, DiskRequest, Handler, HandlerResult, Level, LinkLoss};

const DEMOTE: Command = Command::Demote { force: false };
const PROMOTE: Command = Command::Promote { force: false };

const DETACH: Command = Command::Detach {
    volume: VOLUME,
    force: false,
};

fn is_in_the_way(bench: &mut Bench, command: Command) {
    let call = bench.command(command);
    assert_eq!(bench.refusal(call).code, RefusalCode::StateTransient);
}

fn says(bench: &mut Bench, role: Role, disk: DiskState) {
    bench.packet(Packet::State {
        role,
        tenure: 8,
        disks: vec![(VOLUME, disk)],
    });
}

#[test]
fn while_one_change_is_under_way_no_other_begins() {
    let mut parting = stonith();
    parting.packet(Packet::Leave);
    is_in_the_way(&mut parting, DEMOTE);
    is_in_the_way(&mut parting, DETACH);

    let mut demoting = Bench::primary();
    demoting.write(0);
    demoting.write_metadata();
    demoting.command(DEMOTE);
    is_in_the_way(&mut demoting, DETACH);
    is_in_the_way(&mut demoting, DEMOTE);

    let mut detaching = Bench::primary();
    detaching.command(DETACH);
    is_in_the_way(&mut detaching, DEMOTE);
    is_in_the_way(&mut detaching, Command::Stop);

    let mut giving_up = Bench::in_sync();
    giving_up.command(Command::Invalidate {
        volume: VOLUME,
        peer: None,
        remote: false,
        marked_only: false,
        force: false,
    });
    is_in_the_way(&mut giving_up, PROMOTE);
    is_in_the_way(&mut giving_up, DETACH);

    let mut stopping = Bench::in_sync();
    stopping.command(Command::Stop);
    is_in_the_way(&mut stopping, PROMOTE);
}

#[test]
fn a_stop_waits_until_a_peer_has_been_let_go() {
    let mut bench = stonith();
    bench.packet(Packet::Leave);
    bench.command(Command::Stop);
    let closes = |action: &Action<u32>| matches!(action, Action::CloseClients { .. });
    assert!(!bench.asked.iter().any(closes), "it is still Primary");
    super::parting::drain(&mut bench);
    bench.packet(Packet::Outdated);
    bench.close_dropped();
    bench.flush_all();
    assert!(bench.engine.is_stopped());
}

#[test]
fn a_primary_does_not_let_go_of_its_disk_while_the_peer_lacks_something() {
    for disk in [DiskState::Outdated, DiskState::Inconsistent] {
        let mut bench = Bench::primary();
        says(&mut bench, Role::Secondary, disk);
        let call = bench.command(DETACH);
        assert_eq!(bench.refusal(call).code, RefusalCode::StateNoUpToDateData);
        assert_eq!(bench.disk_state(), DiskState::UpToDate);
    }
}

/// A smaller disk of the peer's was the only one there was to tell the size.
#[test]
fn the_disk_of_a_secondary_keeps_its_size_whatever_was_told_before() {
    let mut bench = Bench::bare(config());
    bench.connect();
    let own = bench.relink().expect("a greeting");
    let mut theirs = super::diskless::whole(&own);
    theirs.volumes[0].size_bytes = SIZE / 2;
    bench.packet(Packet::Hello(Box::new(theirs)));
    bench.link_down(LinkLoss::Closed);
    bench.attach(image());
    bench.write_metadata();
    let facts = bench.engine.volume_facts(VOLUME);
    assert_eq!(facts, None, "nobody has met it yet");
    bench.link_up();
    bench.write_metadata();
    assert_eq!(bench.greeting().volumes[0].size_bytes, SIZE);
}

#[test]
fn a_disk_with_larger_blocks_than_clients_use_is_not_taken_under_them() {
    for (block, taken) in [(4096, false), (512, true)] {
        let mut bench = served();
        let disk = AttachedDisk::new(Box::new(image()), block, WriteCache::Volatile);
        let volume = VOLUME;
        let call = bench.command(Command::Attach { volume, disk });
        assert_eq!(bench.reply(call), Some(taken), "{block}");
    }
}

#[test]
fn the_peer_hears_that_a_disk_is_behind_when_that_is_durable_and_not_before() {
    let mut bench = Bench::in_sync_as(fenced(Fencing::ResourceAndStonith));
    says(&mut bench, Role::Primary, DiskState::UpToDate);
    bench.command(Command::Disconnect {
        peer: None,
        force: false,
    });
    bench.sent();
    bench.packet(Packet::LeaveReply { outdate: true });
    assert_eq!(bench.disk_state(), DiskState::Outdated);
    let says_so = |packet: &Packet| match packet {
        Packet::State { disks, .. } => disks.contains(&(VOLUME, DiskState::Outdated)),
        other => *other == Packet::Outdated,
    };
    assert!(!bench.sent().iter().any(says_so), "(G3)");
    bench.write_metadata();
    assert!(bench.sent().iter().any(says_so));
}

#[test]
fn the_peer_is_told_of_a_role_once() {
    let mut bench = Bench::in_sync();
    bench.command(PROMOTE);
    bench.consent();
    bench.write_metadata();
    for id in 0..3 {
        bench.packet(Packet::Ping { id });
        bench.wait_ms(500);
    }
    let sent = bench.sent();
    let told = sent.iter().filter(|packet| match packet {
        Packet::State { role, .. } => *role == Role::Primary,
        _ => false,
    });
    assert_eq!(told.count(), 1, "{sent:?}");
}

#[test]
fn a_lost_link_is_something_to_look_at_and_one_that_was_ended_is_not() {
    for (loss, level) in [
        (LinkLoss::Closed, Level::Warn),
        (LinkLoss::Timeout, Level::Warn),
        (LinkLoss::Goodbye, Level::Info),
    ] {
        let mut bench = Bench::in_sync();
        bench.link_down(loss);
        let told = bench.asked.iter().find_map(|action| match action {
            Action::Report(change) if change.text.starts_with("disconnected") => Some(change.level),
            _ => None,
        });
        assert_eq!(told, Some(level), "{loss:?}");
    }
}

#[test]
fn a_peer_may_always_send_as_much_as_its_own_limits_allow() {
    let bench = Bench::primary();
    let clients = bench.engine.room();
    let peer = bench.engine.link_room(PEER);
    assert!(peer.requests >= clients.requests && peer.bytes >= clients.bytes);
}

#[test]
fn that_a_peer_was_fenced_for_a_promotion_is_durable_with_it() {
    let mut bench = Bench::in_sync_as(fenced(Fencing::ResourceOnly));
    bench.link_down(LinkLoss::Timeout);
    bench.command(PROMOTE);
    let fence = bench.fence_starts();
    bench.handler_ends(fence, HandlerResult::Exited(7));
    bench.write_metadata();
    assert_eq!(bench.engine.role(), Role::Primary);
    let superblock = bench.superblock.as_ref().expect("it was written");
    assert!(superblock.peers[0].flags.peer_outdated);
    let forced = bench.reports().iter().any(|text| text.contains("forced"));
    assert!(!forced, "{:?}", bench.reports());
}

#[test]
fn what_a_handler_did_is_not_taken_back_while_the_peer_lacks_something() {
    let mut bench = stonith();
    bench.link_down(LinkLoss::Timeout);
    let fence = bench.fence_starts();
    bench.meet(|hello| hello.role = Role::Secondary);
    says(&mut bench, Role::Secondary, DiskState::Outdated);
    bench.handler_ends(fence, HandlerResult::Failed);
    bench.write_metadata();
    assert_eq!(bench.handler(), None);
    says(&mut bench, Role::Secondary, DiskState::UpToDate);
    bench.write_metadata();
    let handler = bench.handler().map(|(_, handler)| handler);
    assert_eq!(handler, Some(Handler::UnfencePeer));
}

/// A node with two volumes, both with data.
fn two_volumes() -> Bench {
    Bench::of_two_volumes(config())
}

#[test]
fn volumes_that_only_the_peer_has_changed_make_no_split_brain() {
    for (related, expected) in [(true, Divergence::Peer), (false, Divergence::Unknown)] {
        let mut bench = two_volumes();
        bench.command(Command::Promote { force: true });
        bench.write_metadata();
        bench.meet(|hello| {
            hello.role = Role::Secondary;
            for volume in &mut hello.volumes {
                volume.bitmap = volume.current;
                volume.current = THEIRS;
                volume.disk = DiskState::UpToDate;
                volume.history.clear();
            }
            if !related {
                hello.volumes[1].bitmap = GenerationId(0x9998);
            }
        });
        assert_eq!(bench.close_dropped(), Some(LinkLoss::Refused));
        assert_eq!(divergence(&bench), Some(expected));
    }
}

#[test]
fn two_that_have_never_held_data_have_never_been_in_sync() {
    let mut fresh = image();
    fresh.superblock.generation = GenerationId::JUST_CREATED;
    fresh.superblock.flags.consistent = false;
    fresh.superblock.flags.was_up_to_date = false;
    fresh.superblock.peers[0].flags.full_sync = true;
    let mut bench = Bench::alone(config(), fresh);
    bench.meet(|_| {});
    assert_eq!(replication(&bench), ReplicationState::Established);
    let greeting = bench.relink().expect("a greeting was sent");
    assert_eq!(greeting.seen_incarnation, 0);
}

/// An order gives up data that is whole: nothing but the order says that it is not the newest.
#[test]
fn what_an_order_gives_up_is_prepared_once() {
    let mut config = config();
    let name = Handler::BeforeResyncTarget.name();
    config.handlers.push((name.into(), "true".into()));
    let mut changed = image();
    changed.superblock.generation = OWN;
    changed.superblock.history[0] = GENERATION;
    changed.superblock.peers[0].bitmap_generation = GENERATION;
    let mut bench = Bench::bare(config);
    bench.attach(changed);
    bench.command(Command::Connect {
        peer: None,
        discard_my_data: true,
        tentative: false,
    });
    let meet = |bench: &mut Bench| {
        bench.meet(|hello| {
            changed_too(hello);
            hello.tentative = false;
        });
    };
    meet(&mut bench);
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    let (id, handler) = bench.handler().expect("it runs");
    assert_eq!(handler, Handler::BeforeResyncTarget);
    bench.close_dropped();
    bench.handler_ends(id, HandlerResult::Exited(0));
    meet(&mut bench);
    assert_eq!(bench.handler(), None);
    assert_eq!(replication(&bench), ReplicationState::WFBitMapT);
    assert_eq!(bench.on_disk(DiskRequest::Flush), 0);
}
