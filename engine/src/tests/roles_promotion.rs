//! Who becomes Primary and who does not: what a node's own data is worth, and what the other says.

use alloc::vec;
use alloc::vec::Vec;

use rbd_protocol::control::{Fencing, RefusalCode, ResourceConfig};
use rbd_protocol::ids::{ByteRange, NodeId};
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{DiskState, Role};

use super::fenced_return::without_disk;
use super::fencing::fenced;
use super::resync::{source, target};
use super::{Bench, PEER, SIZE, VOLUME, config, image};
use crate::{Action, CallId, Command, HandlerResult, LinkLoss, Time};

const PROMOTE: Command = Command::Promote { force: false };
const FORCE: Command = Command::Promote { force: true };

/// The boot the benches run in.
const BOOT: u128 = 7;

/// How long a promotion waits for an answer, and a consent holds.
const WAIT_MS: u64 = 8_000;

fn of_node(node_id: NodeId) -> ResourceConfig {
    ResourceConfig {
        node_id,
        ..config()
    }
}

/// The question that has been sent, if one has.
fn question(bench: &mut Bench) -> Option<u64> {
    bench.sent().into_iter().find_map(|packet| match packet {
        Packet::PromoteRequest { id, .. } => Some(id),
        _ => None,
    })
}

fn asks(bench: &mut Bench, id: u64) {
    bench.packet(Packet::PromoteRequest {
        id,
        migration_ms: 0,
    });
}

/// The answers that have been sent.
fn answers(bench: &mut Bench) -> Vec<bool> {
    let packets = bench.sent().into_iter();
    let answers = packets.filter_map(|packet| match packet {
        Packet::PromoteReply { granted, .. } => Some(granted),
        _ => None,
    });
    answers.collect()
}

fn says(bench: &mut Bench, role: Role, disk: DiskState) {
    bench.packet(Packet::State {
        role,
        tenure: 8,
        disks: vec![(VOLUME, disk)],
    });
}

fn refused(bench: &mut Bench, command: Command) -> RefusalCode {
    let call = bench.command(command);
    bench.refusal(call).code
}

fn last_wake(bench: &Bench) -> Option<Time> {
    bench.asked.iter().rev().find_map(|action| match action {
        Action::WakeAt(time) => Some(*time),
        _ => None,
    })
}

/// Time passes, and the peer is there.
fn pass(bench: &mut Bench, milliseconds: u64) {
    for _ in 0..milliseconds / 500 {
        bench.wait_ms(500);
        bench.packet(Packet::Ping { id: 1 });
    }
}

#[test]
fn of_two_that_ask_at_once_the_lower_number_goes_first() {
    for (own, granted) in [(NodeId(0), false), (NodeId(5), true)] {
        let mut bench = Bench::in_sync_as(of_node(own));
        bench.command(PROMOTE);
        bench.sent();
        asks(&mut bench, 60);
        assert_eq!(answers(&mut bench), [granted], "node {own}");
    }
}

#[test]
fn nobody_consents_while_its_own_promotion_is_being_recorded() {
    let mut bench = Bench::in_sync_as(of_node(NodeId(5)));
    let call = bench.command(PROMOTE);
    bench.consent();
    assert!(bench.is_writing_metadata());
    asks(&mut bench, 60);
    assert_eq!(answers(&mut bench), [false]);
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(true));
}

#[test]
fn who_has_consented_is_not_promoted_until_the_other_has_been_or_its_time_is_over() {
    let mut bench = Bench::in_sync();
    asks(&mut bench, 60);
    assert_eq!(answers(&mut bench), [true]);
    assert_eq!(refused(&mut bench, PROMOTE), RefusalCode::StateConcurrent);
    assert_eq!(refused(&mut bench, FORCE), RefusalCode::StateConcurrent);
    pass(&mut bench, WAIT_MS - 500);
    assert_eq!(refused(&mut bench, PROMOTE), RefusalCode::StateConcurrent);
    pass(&mut bench, 500);
    bench.sent();
    let call = bench.command(PROMOTE);
    bench.consent();
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(true));
}

#[test]
fn beside_a_primary_nobody_is_promoted_even_by_force() {
    for command in [PROMOTE, FORCE] {
        let mut bench = Bench::in_sync();
        says(&mut bench, Role::Primary, DiskState::UpToDate);
        bench.sent();
        let call = bench.command(command);
        let refusal = bench.refusal(call);
        assert_eq!(refusal.code, RefusalCode::StateTwoPrimaries);
        assert!(refusal.help.contains("rbdadm secondary"), "{refusal:?}");
        assert_eq!(question(&mut bench), None);
    }
}

#[test]
fn a_primary_that_may_have_a_second_one_lets_none_in_while_it_changes_its_role() {
    let mut two = config();
    two.peers[0].net.two_primaries = true;
    let mut bench = Bench::primary_as(two.clone());
    asks(&mut bench, 60);
    assert_eq!(answers(&mut bench), [true]);
    let mut bench = Bench::primary_as(two.clone());
    bench.write(0);
    bench.write_metadata();
    bench.command(Command::Demote { force: false });
    bench.sent();
    asks(&mut bench, 60);
    assert_eq!(answers(&mut bench), [false]);
    let mut bench = Bench::primary_as(two);
    says(&mut bench, Role::Secondary, DiskState::Inconsistent);
    asks(&mut bench, 60);
    assert_eq!(answers(&mut bench), [false], "it lacks something");
}

/// Its first write would come before word of the resync's end, over the other connection.
#[test]
fn a_peer_that_has_just_been_filled_gets_consent_when_its_end_has_been_heard_of() {
    let mut bench = source();
    bench.command(Command::Demote { force: false });
    bench.flush_all();
    assert_eq!(bench.engine.role(), Role::Secondary);
    bench.sent();
    says(&mut bench, Role::Secondary, DiskState::UpToDate);
    asks(&mut bench, 60);
    assert_eq!(answers(&mut bench), []);
    for offset in [0, 1 << 20] {
        bench.packet(Packet::ResyncAck {
            id: 1,
            volume: VOLUME,
            range: ByteRange::new(offset, 4096),
        });
    }
    assert_eq!(answers(&mut bench), []);
    let generation = bench.generation();
    bench.packet(Packet::ResyncDone {
        volume: VOLUME,
        generation,
    });
    bench.write_metadata();
    assert_eq!(answers(&mut bench), [true]);
}

#[test]
fn a_peer_that_is_only_being_filled_is_answered_at_once() {
    let mut bench = source();
    asks(&mut bench, 60);
    assert_eq!(answers(&mut bench), [false], "this node is Primary");
}

#[test]
fn a_slow_answer_is_waited_for() {
    let mut bench = Bench::in_sync();
    let call = bench.command(PROMOTE);
    let id = question(&mut bench).expect("the peer is asked");
    pass(&mut bench, WAIT_MS - 500);
    assert_eq!(bench.reply(call), None);
    bench.packet(Packet::PromoteReply { id, granted: true });
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(true));
}

#[test]
fn over_a_new_link_the_peer_is_asked_anew() {
    let mut bench = Bench::in_sync();
    let call = bench.command(PROMOTE);
    let first = question(&mut bench).expect("the peer is asked");
    bench.link_up();
    bench.write_metadata();
    let mut theirs = bench.greeting();
    theirs.incarnation = 99;
    bench.sent();
    bench.packet(Packet::Hello(theirs.into()));
    let second = question(&mut bench).expect("it is asked again");
    assert_ne!(first, second);
    let granted = true;
    bench.packet(Packet::PromoteReply { id: first, granted });
    assert!(!bench.is_writing_metadata(), "that was about another link");
    bench.packet(Packet::PromoteReply {
        id: second,
        granted,
    });
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(true));
}

/// The last write of a Primary that is gone hangs on this node's disk, and nothing else happens.
#[test]
fn a_promotion_that_waits_for_its_own_disk_ends_in_time_too() {
    let mut bench = Bench::in_sync();
    bench.packet(Packet::Write {
        id: 50,
        volume: VOLUME,
        range: ByteRange::new(0, 4096),
        fua: false,
        place: Default::default(),
    });
    bench.write_metadata();
    bench.link_down(LinkLoss::Closed);
    let call = bench.command(PROMOTE);
    bench.write_metadata();
    bench.wait_ms(WAIT_MS);
    assert_eq!(bench.refusal(call).code, RefusalCode::StateTimeout);
    assert_eq!(bench.engine.role(), Role::Secondary);
}

#[test]
fn nobody_is_woken_for_a_promotion_while_a_fence_handler_runs() {
    let mut bench = Bench::in_sync_as(fenced(Fencing::ResourceAndStonith));
    bench.link_down(LinkLoss::Timeout);
    let call = bench.command(PROMOTE);
    bench.fence_starts();
    bench.wait_ms(60_000);
    assert_eq!(bench.reply(call), None);
    let soon = bench.now.plus_ms(100);
    let again = last_wake(&bench);
    assert!(again.is_none_or(|time| time > soon), "{again:?} {soon:?}");
}

/// Promotes this node, whose peer is off, by force. Returns whether that was done.
fn forced(bench: &mut Bench) -> CallId {
    let call = bench.command(FORCE);
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(true));
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    call
}

#[test]
fn data_that_is_forced_to_be_the_newest_is_told_apart_from_all_other() {
    let mut behind = image();
    behind.superblock.flags.outdated = true;
    let mut torn = image();
    torn.superblock.flags.consistent = false;
    for (image, word, marked) in [
        (image(), "Consistent", 0),
        (behind, "Outdated", 0),
        (torn, "Inconsistent", SIZE),
    ] {
        let mut bench = Bench::alone(config(), image);
        let before = bench.generation();
        forced(&mut bench);
        assert_ne!(bench.generation(), before, "{word}");
        let forced = alloc::format!("forced: {word} data");
        let said = bench.reports().iter().any(|text| text.contains(&forced));
        assert!(said, "{:?}", bench.reports());
        // What a resync that was never finished lacks is not known block by block.
        assert_eq!(bench.out_of_sync_bytes(), marked, "{word}");
        let superblock = bench.superblock.as_ref().expect("it was written");
        assert_eq!(superblock.peers[0].flags.full_sync, marked > 0, "{word}");
        assert!(superblock.flags.primary && superblock.flags.consistent);
    }
}

#[test]
fn whose_peer_is_fenced_is_promoted_on_consistent_data_only_if_it_missed_nothing() {
    for (boot, done) in [(BOOT, true), (BOOT + 1, false)] {
        let mut image = image();
        image.superblock.boot_id = boot;
        let mut bench = Bench::alone(fenced(Fencing::ResourceOnly), image);
        assert_eq!(bench.disk_state(), DiskState::Consistent);
        let call = bench.command(PROMOTE);
        bench.write_metadata();
        if let Some((fence, _)) = bench.handler() {
            bench.handler_ends(fence, HandlerResult::Exited(7));
            bench.write_metadata();
        }
        assert_eq!(bench.reply(call), Some(done));
        let told = bench.reports();
        let forced = told.iter().any(|text| text.contains("forced"));
        assert!(!forced, "{told:?}");
    }
}

#[test]
fn a_disk_that_was_not_there_while_the_peer_was_is_not_taken_for_the_newest() {
    let mut bench = Bench::bare(fenced(Fencing::ResourceOnly));
    bench.connect();
    let own = bench.relink().expect("a greeting");
    bench.packet(Packet::Hello(super::diskless::whole(&own).into()));
    bench.link_down(LinkLoss::Closed);
    bench.attach(image());
    bench.write_metadata();
    assert_eq!(
        refused(&mut bench, PROMOTE),
        RefusalCode::StateNoUpToDateData
    );
    assert_eq!(bench.handlers(), [], "and nobody is fenced for it");
}

/// A peer that is there without its disk may have had newer data on it.
#[test]
fn consistent_data_is_not_lifted_while_the_peer_is_there_or_might_be() {
    let mut kept_power = image();
    kept_power.superblock.boot_id = BOOT;
    let mut bench = Bench::alone(config(), kept_power.clone());
    let call = bench.command(PROMOTE);
    let refusal = bench.refusal(call);
    assert_eq!(refusal.code, RefusalCode::StateNoUpToDateData);
    let why = "no peer has been seen since it was attached";
    assert!(refusal.reason.contains(why), "nobody fences: {refusal:?}");
    let mut bench = Bench::alone(fenced(Fencing::ResourceOnly), kept_power);
    bench.meet(without_disk);
    assert_eq!(bench.disk_state(), DiskState::Consistent);
    assert_eq!(
        refused(&mut bench, PROMOTE),
        RefusalCode::StateNoUpToDateData
    );
}

#[test]
fn a_target_is_told_to_wait_for_its_resync() {
    let mut bench = target();
    let call = bench.command(PROMOTE);
    let refusal = bench.refusal(call);
    assert_eq!(refusal.code, RefusalCode::StateNoUpToDateData);
    assert!(refusal.help.contains("wait-sync"), "{refusal:?}");
    let mut torn = image();
    torn.superblock.flags.consistent = false;
    let mut bench = Bench::alone(config(), torn);
    let call = bench.command(PROMOTE);
    let refusal = bench.refusal(call);
    assert!(refusal.help.contains("--force"), "{refusal:?}");
}

#[test]
fn a_node_without_a_disk_and_a_peer_is_not_promoted_even_by_force() {
    for command in [PROMOTE, FORCE] {
        let mut bench = Bench::bare(config());
        bench.connect();
        let code = refused(&mut bench, command);
        assert_eq!(code, RefusalCode::StateNoUpToDateData);
        assert_eq!(bench.engine.primary_peer(), None);
    }
}

#[test]
fn the_peer_that_is_primary_is_known_while_it_is_there() {
    let mut bench = Bench::in_sync();
    assert_eq!(bench.engine.primary_peer(), None);
    says(&mut bench, Role::Primary, DiskState::UpToDate);
    assert_eq!(bench.engine.primary_peer(), Some(PEER));
    bench.link_down(LinkLoss::Closed);
    assert_eq!(bench.engine.primary_peer(), None);
}
