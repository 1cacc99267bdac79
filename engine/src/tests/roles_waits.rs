//! What is waited for ends, also where nothing else happens; and what is heard meanwhile counts for
//! what it says.

use alloc::vec;
use alloc::vec::Vec;

use rbd_protocol::control::{Fencing, RefusalCode, ResourceConfig, VerifyOrder};
use rbd_protocol::ids::ByteRange;
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{ConnectionState, DiskState, ReplicationState, Role};

use super::fencing::{fenced, reunited, stonith};
use super::parting::drain;
use super::resync::replication;
use super::split_brain::{changed_too, split};
use super::{Bench, VOLUME, config, image};
use crate::{Action, Command, DiskRequest, Handler, HandlerResult, LinkLoss, Seek};

const PROMOTE: Command = Command::Promote { force: false };

const DISCONNECT: Command = Command::Disconnect {
    peer: None,
    force: false,
};

const ASK: Command = Command::Connect {
    peer: None,
    discard_my_data: false,
    tentative: true,
};

/// A link on which nobody asks for signs of life for a long time.
fn quiet(mut config: ResourceConfig) -> ResourceConfig {
    config.peers[0].net.ping_interval_ms = 600_000;
    config
}

fn kept_apart() -> ResourceConfig {
    fenced(Fencing::ResourceAndStonith)
}

/// Time passes in small steps; nothing happens but what was asked for.
fn pass(bench: &mut Bench, milliseconds: u64) {
    for _ in 0..milliseconds / 100 {
        bench.wait_ms(100);
    }
}

fn says(bench: &mut Bench, role: Role, disk: DiskState) {
    bench.packet(Packet::State {
        role,
        tenure: 8,
        disks: vec![(VOLUME, disk)],
    });
}

fn seeks(bench: &Bench) -> Vec<Seek> {
    let seeks = bench.asked.iter().filter_map(|action| match action {
        Action::SeekLink { seek, .. } => Some(*seek),
        _ => None,
    });
    seeks.collect()
}

#[test]
fn a_frozen_primary_asks_again_though_nothing_else_happens() {
    let mut bench = stonith();
    bench.link_down(LinkLoss::Closed);
    bench.write_metadata();
    pass(&mut bench, 1_000);
    for _ in 0..3 {
        let fence = bench.fence_starts();
        bench.handler_ends(fence, HandlerResult::Exited(1));
        pass(&mut bench, 29_900);
        assert_eq!(bench.handler(), None);
        pass(&mut bench, 200);
    }
    bench.fence_starts();
}

#[test]
fn what_fencing_did_is_taken_back_in_the_end_though_nothing_else_happens() {
    let mut bench = reunited(quiet(kept_apart()));
    for _ in 0..3 {
        let (unfence, handler) = bench.handler().expect("a handler is run");
        assert_eq!(handler, Handler::UnfencePeer);
        bench.handler_ends(unfence, HandlerResult::Failed);
        bench.write_metadata();
        pass(&mut bench, 29_900);
        assert_eq!(bench.handler(), None);
        pass(&mut bench, 200);
    }
    assert!(bench.handler().is_some());
}

#[test]
fn clients_held_for_a_peer_that_does_not_declare_itself_wait_four_seconds() {
    let mut bench = Bench::primary_as(quiet(kept_apart()));
    bench.packet(Packet::Leave);
    assert!(drain(&mut bench).contains(&Packet::LeaveReply { outdate: true }));
    pass(&mut bench, 3_900);
    assert_eq!(bench.close_dropped(), None);
    pass(&mut bench, 200);
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Timeout));
}

#[test]
fn a_secondary_that_asks_to_go_waits_no_longer_than_it_said() {
    let mut bench = Bench::in_sync_as(quiet(kept_apart()));
    says(&mut bench, Role::Primary, DiskState::UpToDate);
    bench.command(DISCONNECT);
    pass(&mut bench, 5_900);
    assert_eq!(bench.close_dropped(), None);
    pass(&mut bench, 200);
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Commanded));
}

#[test]
fn two_primaries_keep_their_lease_on_a_link_that_is_seldom_asked_for_signs_of_life() {
    let mut two = quiet(kept_apart());
    two.peers[0].net.two_primaries = true;
    let mut bench = Bench::primary_as(two);
    says(&mut bench, Role::Primary, DiskState::UpToDate);
    for _ in 0..200 {
        bench.wait_ms(100);
        for packet in bench.sent() {
            if let Packet::Ping { id } = packet {
                bench.packet(Packet::PingAck { id });
            }
        }
    }
    assert!(!bench.is_frozen());
    pass(&mut bench, 4_100);
    assert!(bench.is_frozen(), "and notices when it is over");
}

#[test]
fn an_answer_about_bad_data_is_waited_for_eight_seconds() {
    let mut bench = Bench::in_sync_as(quiet(config()));
    let call = bench.command(Command::Invalidate {
        volume: VOLUME,
        peer: None,
        remote: false,
        marked_only: false,
        force: false,
    });
    pass(&mut bench, 7_900);
    assert_eq!(bench.reply(call), None);
    pass(&mut bench, 200);
    assert_eq!(bench.refusal(call).code, RefusalCode::StateTimeout);
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
}

#[test]
fn without_a_ko_count_a_peer_that_lives_is_never_given_up() {
    let mut patient = config();
    patient.peers[0].net.ko_count = 0;
    let mut bench = Bench::primary_as(patient);
    bench.write(0);
    bench.write_metadata();
    bench.disk(DiskRequest::Write { fua: false }, Ok(()));
    for id in 0..600 {
        bench.wait_ms(500);
        bench.packet(Packet::Ping { id });
    }
    assert_eq!(bench.close_dropped(), None);
}

#[test]
fn another_handler_that_runs_keeps_nobody_from_fencing() {
    let mut config = kept_apart();
    let name = Handler::Disconnected.name();
    config.handlers.push((name.into(), "true".into()));
    let mut bench = Bench::primary_as(config);
    bench.link_down(LinkLoss::Timeout);
    bench.write_metadata();
    assert_eq!(
        bench.handlers(),
        [Handler::Disconnected, Handler::FencePeer]
    );
}

#[test]
fn that_the_peer_is_primary_makes_torn_data_no_better() {
    let mut torn = image();
    torn.superblock.flags.consistent = false;
    let mut bench = Bench::alone(kept_apart(), torn);
    bench.command(Command::Promote { force: true });
    let fence = bench.fence_starts();
    bench.handler_ends(fence, HandlerResult::Exited(6));
    let reports = bench.reports();
    let relabelled = reports.iter().any(|text| text.contains("-> Outdated"));
    assert!(!relabelled, "{reports:?}");
}

#[test]
fn data_that_is_behind_is_declared_so_again_without_complaint() {
    let mut behind = image();
    behind.superblock.flags.outdated = true;
    let mut bench = Bench::alone(config(), behind);
    let call = bench.command(Command::Outdate);
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(true));
    assert_eq!(bench.disk_state(), DiskState::Outdated);
}

#[test]
fn copies_are_not_compared_with_one_that_lacks_something() {
    let mut config = config();
    config.peers[0].net.verify = true;
    let mut bench = Bench::in_sync_as(config);
    says(&mut bench, Role::Secondary, DiskState::Outdated);
    let call = bench.command(Command::Verify {
        volume: VOLUME,
        peer: None,
        order: VerifyOrder::Start {
            from: None,
            until: None,
            repair: false,
        },
    });
    assert_eq!(bench.refusal(call).code, RefusalCode::StateNoUpToDateData);
}

#[test]
fn a_refused_connection_is_tried_at_once_when_a_role_changes() {
    let mut bench = split();
    bench.asked.clear();
    bench.command(PROMOTE);
    bench.write_metadata();
    assert_eq!(bench.engine.role(), Role::Primary);
    assert_eq!(seeks(&bench), [Seek::AtOnce]);
}

#[test]
fn a_question_stops_a_connection_nobody_wants_and_no_other() {
    let mut bench = Bench::bare(config());
    bench.attach(image());
    bench.command(ASK);
    bench.meet(|hello| hello.tentative = false);
    assert_eq!(seeks(&bench), [Seek::Stop]);

    let mut bench = split();
    bench.command(ASK);
    bench.meet(|hello| {
        changed_too(hello);
        hello.tentative = false;
    });
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Commanded));
    assert_eq!(seeks(&bench), [Seek::Patiently], "it is found out anew");
}

#[test]
fn a_forecast_tells_how_much_is_marked_here() {
    let mut bench = Bench::primary();
    let then = bench.generation();
    bench.command(DISCONNECT);
    bench.close_dropped();
    bench.write(0);
    bench.write_metadata();
    bench.disk(DiskRequest::Write { fua: false }, Ok(()));
    bench.write_metadata();
    bench.command(ASK);
    bench.meet(|hello| {
        (hello.tentative, hello.role) = (false, Role::Secondary);
        hello.volumes[0].current = then;
        hello.volumes[0].bitmap = rbd_protocol::ids::GenerationId::NONE;
        hello.volumes[0].history.clear();
        hello.volumes[0].dirty_blocks = 0;
    });
    let told = bench.connection().tentative.expect("there is an answer");
    assert!(told.contains("SyncSource"), "{told}");
    assert!(told.contains("on this node 4096 bytes"), "{told}");
}

#[test]
fn a_peer_that_says_goodbye_has_broken_nothing() {
    let mut bench = Bench::in_sync();
    bench.packet(Packet::Goodbye);
    let state = bench.connection().connection_state;
    assert_eq!(state, ConnectionState::TearDown);
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Goodbye));
}

#[test]
fn a_second_primary_that_was_let_in_and_has_gone_answers_nobody() {
    let mut two = kept_apart();
    two.peers[0].net.two_primaries = true;
    let mut bench = Bench::primary_as(two);
    bench.packet(Packet::PromoteRequest {
        id: 77,
        migration_ms: 0,
    });
    let reply = |packet: &Packet| matches!(packet, Packet::PromoteReply { granted: true, .. });
    assert!(bench.sent().iter().any(reply));
    says(&mut bench, Role::Primary, DiskState::UpToDate);
    says(&mut bench, Role::Secondary, DiskState::UpToDate);
    bench.link_down(LinkLoss::Timeout);
    let fence = bench.fence_starts();
    bench.handler_ends(fence, HandlerResult::Exited(4));
    bench.write_metadata();
    assert!(!bench.is_frozen());
}

#[test]
fn zeroes_of_a_peer_without_a_disk_are_written_here() {
    let mut bench = Bench::in_sync();
    bench.link_down(LinkLoss::Closed);
    let generation = bench.generation();
    bench.meet(|hello| {
        super::fenced_return::without_disk(hello);
        hello.role = Role::Primary;
        hello.volumes[0].current = generation;
    });
    bench.packet(Packet::RemoteZero {
        id: 7,
        volume: VOLUME,
        range: ByteRange::new(0, 4096),
        fua: false,
        discard: true,
    });
    bench.write_metadata();
    let (fua, discard) = (false, true);
    assert_eq!(bench.on_disk(DiskRequest::Zero { fua, discard }), 1);
    assert_eq!(bench.close_dropped(), None);
}

#[test]
fn a_target_that_gets_word_goes_in_the_middle_of_its_resync() {
    let mut bench = Bench::alone(kept_apart(), image());
    bench.meet(|hello| {
        hello.role = Role::Primary;
        hello.volumes[0].disk = DiskState::UpToDate;
        hello.volumes[0].current = super::resync::NEWER;
        hello.volumes[0].bitmap = super::GENERATION;
        hello.volumes[0].dirty_blocks = 2;
    });
    assert_eq!(replication(&bench), ReplicationState::WFBitMapT);
    bench.command(DISCONNECT);
    assert!(bench.sent().contains(&Packet::Leave));
    bench.packet(Packet::LeaveReply { outdate: true });
    bench.write_metadata();
    assert!(bench.sent().contains(&Packet::Outdated));
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Commanded));
    assert_eq!(bench.disk_state(), DiskState::Inconsistent);
}
