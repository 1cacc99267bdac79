//! Two Primaries: who lets whom in, what a lease is worth, and which of the two goes.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use rbd_protocol::control::{Fencing, RefusalCode, ResourceConfig};
use rbd_protocol::ids::{ByteRange, NodeId};
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{DiskState, Role};

use super::fencing::fenced;
use super::two_primaries::{lower, with};
use super::{Bench, VOLUME, config};
use crate::{
    Action, Command, DiskRequest, Event, HandlerResult, LinkLoss, MigrationNews, RequestKind, Time,
};

const FLUSH: DiskRequest = DiskRequest::Flush;

const PROMOTE: Command = Command::Promote { force: false };
const MIGRATE: Command = Command::Migrate { ms: 60_000 };

/// How long a Primary answers without a word of the other.
const LEASE_MS: u64 = 4_000;

fn kept_apart() -> ResourceConfig {
    fenced(Fencing::ResourceAndStonith)
}

fn two_configured() -> ResourceConfig {
    let mut config = kept_apart();
    config.peers[0].net.two_primaries = true;
    config
}

fn says(bench: &mut Bench, role: Role, disk: DiskState) {
    bench.packet(Packet::State {
        role,
        tenure: 8,
        disks: vec![(VOLUME, disk)],
    });
}

fn asks(bench: &mut Bench, id: u64, migration_ms: u32) {
    bench.packet(Packet::PromoteRequest { id, migration_ms });
}

fn answers(bench: &mut Bench) -> Vec<bool> {
    let packets = bench.sent().into_iter();
    let answers = packets.filter_map(|packet| match packet {
        Packet::PromoteReply { granted, .. } => Some(granted),
        _ => None,
    });
    answers.collect()
}

fn questions(bench: &mut Bench) -> Vec<u64> {
    let packets = bench.sent().into_iter();
    let ids = packets.filter_map(|packet| match packet {
        Packet::Ping { id } => Some(id),
        _ => None,
    });
    ids.collect()
}

fn news(bench: &mut Bench) -> Vec<MigrationNews> {
    let mut told = Vec::new();
    bench.asked.retain(|action| match action {
        Action::Migration(news) => {
            told.push(*news);
            false
        }
        _ => true,
    });
    told
}

/// Time passes, and the peer answers every question.
fn pass(bench: &mut Bench, milliseconds: u64) {
    for _ in 0..milliseconds.div_ceil(500) {
        bench.wait_ms(500);
        for id in questions(bench) {
            bench.packet(Packet::PingAck { id });
        }
    }
}

fn last_wake(bench: &Bench) -> Option<Time> {
    bench.asked.iter().rev().find_map(|action| match action {
        Action::WakeAt(time) => Some(*time),
        _ => None,
    })
}

fn reads(bench: &mut Bench) -> Option<Result<(), crate::RequestError>> {
    let read = bench.request(RequestKind::Read, ByteRange::new(1 << 20, 4096));
    bench.disk(DiskRequest::Read, Ok(()));
    bench.answer(read)
}

#[test]
fn one_of_two_answers_as_long_as_its_lease_and_no_longer() {
    let mut bench = with(NodeId(0), kept_apart());
    // What the peer says of itself proves nothing of what it has read.
    for _ in 0..7 {
        bench.wait_ms(500);
        says(&mut bench, Role::Primary, DiskState::UpToDate);
    }
    assert_eq!(reads(&mut bench), Some(Ok(())));
    bench.wait_ms(500);
    assert_eq!(reads(&mut bench), None);
    assert!(bench.is_frozen());
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Timeout));
}

#[test]
fn a_lease_lasts_longer_where_the_link_is_set_up_to_be_slow() {
    let mut slow = kept_apart();
    slow.peers[0].net.ping_timeout_ms = 5_000;
    let mut bench = with(NodeId(0), slow);
    for _ in 0..19 {
        bench.wait_ms(500);
        says(&mut bench, Role::Primary, DiskState::UpToDate);
    }
    assert_eq!(reads(&mut bench), Some(Ok(())));
    bench.wait_ms(500);
    assert_eq!(reads(&mut bench), None);
}

#[test]
fn only_the_answer_to_the_question_renews_a_lease() {
    let mut bench = with(NodeId(0), kept_apart());
    for _ in 0..8 {
        bench.wait_ms(LEASE_MS / 8);
        for id in questions(&mut bench) {
            bench.packet(Packet::PingAck { id: id + 1 });
        }
        says(&mut bench, Role::Primary, DiskState::UpToDate);
    }
    assert!(bench.is_frozen());
}

/// An answer proves that the question has been read, which was sent long before.
#[test]
fn a_lease_counts_from_when_the_question_was_sent() {
    let mut bench = with(NodeId(0), kept_apart());
    let mut asked = Vec::new();
    while asked.is_empty() {
        bench.wait_ms(100);
        asked = questions(&mut bench);
    }
    for _ in 0..4 {
        bench.wait_ms(500);
        says(&mut bench, Role::Primary, DiskState::UpToDate);
    }
    bench.sent();
    for id in asked {
        bench.packet(Packet::PingAck { id });
    }
    for _ in 0..3 {
        bench.wait_ms(500);
        says(&mut bench, Role::Primary, DiskState::UpToDate);
    }
    assert!(!bench.is_frozen());
    bench.wait_ms(500);
    assert_eq!(reads(&mut bench), None);
}

#[test]
fn one_who_shares_asks_about_once_a_second_and_one_who_does_not_does_not() {
    let mut bench = with(NodeId(0), kept_apart());
    let mut count = 0;
    for _ in 0..100 {
        bench.wait_ms(100);
        for id in questions(&mut bench) {
            count += 1;
            bench.packet(Packet::PingAck { id });
        }
        says(&mut bench, Role::Primary, DiskState::UpToDate);
    }
    assert!((8..=10).contains(&count), "{count}");
    let mut alone = Bench::primary_as(kept_apart());
    let mut beside = Bench::in_sync_as(kept_apart());
    says(&mut beside, Role::Primary, DiskState::UpToDate);
    for bench in [&mut alone, &mut beside] {
        bench.sent();
        for _ in 0..100 {
            bench.wait_ms(100);
            bench.packet(Packet::Ping { id: 1 });
            assert_eq!(questions(bench), []);
        }
    }
}

#[test]
fn nobody_joins_a_primary_it_has_not_heard_an_answer_of_for_too_long() {
    let mut bench = Bench::in_sync_as(two_configured());
    for _ in 0..10 {
        bench.wait_ms(500);
        says(&mut bench, Role::Primary, DiskState::UpToDate);
    }
    bench.sent();
    let call = bench.command(PROMOTE);
    bench.consent();
    assert!(
        !bench.is_writing_metadata(),
        "its lease would be over already"
    );
    let mut asked = Vec::new();
    while asked.is_empty() {
        assert_eq!(bench.reply(call), None);
        bench.wait_ms(100);
        asked = questions(&mut bench);
    }
    for id in asked {
        bench.packet(Packet::PingAck { id });
    }
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(true));
}

#[test]
fn a_lease_is_renewed_by_answers_that_take_a_while() {
    let mut bench = with(NodeId(0), kept_apart());
    let mut late = Vec::new();
    for step in 0..200_u64 {
        bench.wait_ms(100);
        late.extend(questions(&mut bench).into_iter().map(|id| (step + 5, id)));
        let due = |(at, _): &(u64, u64)| *at <= step;
        for (_, id) in late.iter().filter(|one| due(one)) {
            bench.packet(Packet::PingAck { id: *id });
        }
        late.retain(|one| !due(one));
        says(&mut bench, Role::Primary, DiskState::UpToDate);
    }
    assert!(!bench.is_frozen());
}

#[test]
fn one_of_two_that_was_primary_may_answer_still_and_one_that_has_said_secondary_does_not() {
    // The other has been Primary, and has come back as such before it is lost again.
    let mut bench = with(NodeId(0), kept_apart());
    bench.link_down(LinkLoss::Closed);
    bench.greeted(|theirs| theirs.role = Role::Secondary);
    bench.write_metadata();
    bench.link_down(LinkLoss::Timeout);
    let fence = bench.fence_starts();
    bench.handler_ends(fence, HandlerResult::Exited(4));
    bench.write_metadata();
    assert!(!bench.is_frozen(), "it has greeted as a Secondary since");
}

#[test]
fn the_second_is_let_in_where_both_have_everything_and_nobody_changes() {
    let mut bench = Bench::in_sync_as(two_configured());
    says(&mut bench, Role::Primary, DiskState::UpToDate);
    let call = bench.command(PROMOTE);
    bench.consent();
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(true));
    assert_eq!(bench.engine.role(), Role::Primary);

    let mut bench = Bench::in_sync_as(two_configured());
    says(&mut bench, Role::Primary, DiskState::Inconsistent);
    let call = bench.command(PROMOTE);
    let refusal = bench.refusal(call);
    assert_eq!(refusal.code, RefusalCode::StateTwoPrimaries);
    assert!(refusal.help.contains("wait-sync"), "{refusal:?}");
}

#[test]
fn a_link_between_two_is_not_made_anew_for_another_address() {
    let mut bench = lower();
    let mut moved = config();
    moved.peers[0].net.two_primaries = true;
    moved.listen = Some("10.0.0.1:7789".into());
    let call = bench.command(Command::Configure(Box::new(moved)));
    assert_eq!(bench.refusal(call).code, RefusalCode::StateTwoPrimaries);
    assert_eq!(bench.close_dropped(), None);
}

#[test]
fn a_primary_disconnects_from_a_secondary_without_force() {
    let mut bench = Bench::primary();
    let call = bench.command(Command::Disconnect {
        peer: None,
        force: false,
    });
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Commanded));
    assert_eq!(bench.reply(call), Some(true));
}

#[test]
fn a_second_primary_that_is_just_being_recorded_leaves_by_force_only_too() {
    let mut bench = Bench::in_sync_as(two_configured());
    says(&mut bench, Role::Primary, DiskState::UpToDate);
    bench.command(PROMOTE);
    bench.consent();
    assert!(bench.is_writing_metadata());
    let peer = None;
    let call = bench.command(Command::Disconnect { peer, force: false });
    assert_eq!(bench.refusal(call).code, RefusalCode::StatePeerNotOutdated);
    assert_eq!(bench.close_dropped(), None);
}

#[test]
fn nobody_is_moved_from_a_node_that_is_busy_or_lacks_something() {
    let mut busy = Bench::primary_as(kept_apart());
    busy.write(0);
    busy.write_metadata();
    busy.command(Command::Demote { force: false });
    busy.sent();
    asks(&mut busy, 70, 60_000);
    assert_eq!(answers(&mut busy), [false]);

    let mut lacking = Bench::primary_as(kept_apart());
    says(&mut lacking, Role::Secondary, DiskState::Inconsistent);
    asks(&mut lacking, 70, 60_000);
    assert_eq!(answers(&mut lacking), [false]);
    assert_eq!(lacking.connection().two_primaries.migration_ms, None);
}

/// A daemon that was restarted asks again.
#[test]
fn a_migration_that_is_asked_for_twice_begins_once_and_lasts_longer() {
    let mut bench = Bench::primary_as(kept_apart());
    asks(&mut bench, 70, 60_000);
    assert_eq!(news(&mut bench), [MigrationNews::Begun { ms: 60_000 }]);
    pass(&mut bench, 10_000);
    asks(&mut bench, 71, 60_000);
    assert_eq!(answers(&mut bench).last(), Some(&true));
    assert_eq!(news(&mut bench), []);
    assert_eq!(bench.connection().two_primaries.migration_ms, Some(60_000));
    let told = bench.reports();
    let said = told
        .iter()
        .filter(|text| text.contains("for 60 s both nodes"));
    assert_eq!(said.count(), 1, "{told:?}");
}

#[test]
fn a_migration_ends_with_a_promotion_that_times_out() {
    let mut bench = Bench::in_sync_as(kept_apart());
    says(&mut bench, Role::Primary, DiskState::UpToDate);
    let call = bench.command(MIGRATE);
    pass(&mut bench, 8_500);
    assert_eq!(bench.refusal(call).code, RefusalCode::StateTimeout);
    assert_eq!(bench.connection().two_primaries.migration_ms, None);
}

#[test]
fn a_refused_migration_says_more_than_a_refused_promotion() {
    for (command, migrates) in [(MIGRATE, true), (PROMOTE, false)] {
        let mut bench = Bench::in_sync_as(kept_apart());
        if migrates {
            says(&mut bench, Role::Primary, DiskState::UpToDate);
        }
        bench.sent();
        let call = bench.command(command);
        let id = bench.sent().into_iter().find_map(|packet| match packet {
            Packet::PromoteRequest { id, .. } => Some(id),
            _ => None,
        });
        let id = id.expect("the peer is asked");
        bench.packet(Packet::PromoteReply { id, granted: false });
        let refusal = bench.refusal(call);
        assert_eq!(refusal.code, RefusalCode::StateRefusedByPeer);
        let is_about_two = refusal.reason.contains("beside it");
        assert_eq!(is_about_two, migrates, "{refusal:?}");
        assert_eq!(!refusal.help.is_empty(), migrates, "{refusal:?}");
    }
}

#[test]
fn who_may_go_is_told_again_and_a_user_only_once() {
    let mut bench = Bench::primary_as(kept_apart());
    asks(&mut bench, 70, 60_000);
    says(&mut bench, Role::Primary, DiskState::UpToDate);
    let (volume, count) = (VOLUME, 1);
    bench.tell(Event::Openers { volume, count });
    pass(&mut bench, 60_000);
    news(&mut bench);
    pass(&mut bench, 10_000);
    assert_eq!(news(&mut bench), []);
    let told = bench.reports();
    let said = told
        .iter()
        .filter(|text| text.contains("still in use here"));
    assert_eq!(said.count(), 1, "{told:?}");
    bench.tell(Event::Openers { volume, count: 0 });
    pass(&mut bench, 10_000);
    assert_eq!(news(&mut bench), [MigrationNews::Expired; 5]);
}

#[test]
fn nobody_is_told_to_go_while_it_is_going() {
    let mut bench = Bench::primary_as(kept_apart());
    asks(&mut bench, 70, 60_000);
    says(&mut bench, Role::Primary, DiskState::UpToDate);
    pass(&mut bench, 58_000);
    bench.command(Command::Demote { force: false });
    assert_eq!(bench.on_disk(FLUSH), 1);
    news(&mut bench);
    pass(&mut bench, 10_000);
    assert_eq!(news(&mut bench), []);
}

/// Of two that both take themselves for the one that was moved to, one goes first.
#[test]
fn the_higher_of_two_that_have_been_moved_to_stays_longer() {
    for (node_id, stays_ms) in [(NodeId(0), 5_000), (NodeId(5), 10_000)] {
        let config = ResourceConfig {
            node_id,
            ..kept_apart()
        };
        let mut bench = Bench::in_sync_as(config);
        says(&mut bench, Role::Primary, DiskState::UpToDate);
        bench.command(MIGRATE);
        bench.consent();
        bench.write_metadata();
        assert_eq!(bench.engine.role(), Role::Primary);
        pass(&mut bench, 60_000 + stays_ms - 500);
        assert!(!news(&mut bench).contains(&MigrationNews::Expired));
        pass(&mut bench, 1_000);
        assert_eq!(news(&mut bench), [MigrationNews::Expired], "node {node_id}");
    }
}

/// Who only waits for the time to be over does nothing meanwhile.
#[test]
fn nobody_is_woken_again_and_again_for_a_migration_whose_other_node_is_gone() {
    let mut bench = Bench::primary_as(kept_apart());
    asks(&mut bench, 70, 60_000);
    says(&mut bench, Role::Primary, DiskState::UpToDate);
    bench.link_down(LinkLoss::Timeout);
    bench.fence_starts();
    bench.wait_ms(120_000);
    let soon = bench.now.plus_ms(100);
    let again = last_wake(&bench);
    assert!(again.is_none_or(|time| time > soon), "{again:?} {soon:?}");
}
