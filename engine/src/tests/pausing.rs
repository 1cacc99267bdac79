//! A resync that somebody holds back.

use rbd_protocol::control::RefusalCode;
use rbd_protocol::ids::ByteRange;
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{DiskState, ReplicationState, ResyncLimit};

use super::resync::{NEWER, READ, WRITE, replication};
use super::resync::{answer, asked_for, blocks, end, meet_source, source, target};
use super::{Bench, PEER, VOLUME};
use crate::{Command, LinkLoss, PauseOrder, PausedBy};

fn order(bench: &mut Bench, by: PausedBy, paused: bool) -> crate::CallId {
    bench.command(Command::PauseSync(PauseOrder {
        volume: VOLUME,
        peer: Some(PEER),
        by,
        paused,
    }))
}

fn pause(bench: &mut Bench) {
    let call = order(bench, PausedBy::User, true);
    assert_eq!(bench.reply(call), Some(true));
}

fn resume(bench: &mut Bench) {
    let call = order(bench, PausedBy::User, false);
    assert_eq!(bench.reply(call), Some(true));
}

/// What the peer tells.
fn tells(paused: bool) -> Packet {
    Packet::ResyncState {
        volume: VOLUME,
        paused,
        limit: None,
        disk_us: 0,
    }
}

fn suspended(bench: &Bench) -> &'static str {
    bench.connection().peer_devices[0].resync_suspended.words()
}

/// A target that lacks many blocks, none of which it has asked for yet.
fn paused_target() -> Bench {
    let mut bench = target();
    pause(&mut bench);
    bench.packet(blocks(&[3, 400]));
    bench.packet(end(NEWER));
    bench
}

#[test]
fn a_paused_target_asks_for_nothing_and_goes_on_where_it_was() {
    let mut bench = target();
    bench.packet(blocks(&[3, 400]));
    bench.packet(end(NEWER));
    let asked = asked_for(&mut bench);
    assert_eq!(asked.len(), 2);
    pause(&mut bench);
    assert_eq!(replication(&bench), ReplicationState::PausedSyncT);
    answer(&mut bench, &asked[..1]);
    assert_eq!(bench.out_of_sync_bytes(), 4096, "what had been asked for");
    bench.packet(tells(true));
    resume(&mut bench);
    assert_eq!(suspended(&bench), "peer");
    assert_eq!(replication(&bench), ReplicationState::PausedSyncT);

    let mut bench = paused_target();
    assert_eq!(replication(&bench), ReplicationState::PausedSyncT);
    assert_eq!(suspended(&bench), "user");
    bench.wait_ms(1_000);
    assert_eq!(asked_for(&mut bench), []);
    resume(&mut bench);
    assert_eq!(replication(&bench), ReplicationState::SyncTarget);
    assert_eq!(asked_for(&mut bench).len(), 2);
}

#[test]
fn a_paused_target_is_inconsistent_and_takes_writes() {
    let mut bench = paused_target();
    bench.packet(Packet::Write {
        id: 9,
        volume: VOLUME,
        range: ByteRange::new(3 * 4096, 4096),
        fua: false,
        place: Default::default(),
    });
    assert!(bench.disk(WRITE, Ok(())));
    let acked = |packet: &&Packet| matches!(packet, Packet::WriteAck { id: 9, .. });
    assert_eq!(bench.sent_so_far().filter(acked).count(), 1);
    assert_eq!(bench.out_of_sync_bytes(), 8192, "only resync data clears");
    assert_eq!(bench.disk_state(), DiskState::Inconsistent);
}

#[test]
fn a_pause_outlives_the_link_and_is_told_before_the_bitmap() {
    let mut bench = paused_target();
    bench.sent();
    bench.link_down(LinkLoss::Closed);
    meet_source(&mut bench);
    let sent = bench.sent();
    let at = |wanted: &dyn Fn(&Packet) -> bool| sent.iter().position(wanted);
    let told = at(&|packet| matches!(packet, Packet::ResyncState { paused: true, .. }));
    let bitmap = at(&|packet| matches!(packet, Packet::BitmapEnd { .. }));
    assert!(told.is_some() && told < bitmap, "{sent:?}");
    bench.packet(end(NEWER));
    assert_eq!(replication(&bench), ReplicationState::PausedSyncT);
    assert_eq!(asked_for(&mut bench), []);
    resume(&mut bench);
    assert_eq!(asked_for(&mut bench).len(), 2);
}

#[test]
fn a_source_that_is_paused_tells_its_target_and_still_answers() {
    let mut bench = source();
    bench.sent();
    pause(&mut bench);
    assert!(bench.sent().contains(&tells(true)));
    assert_eq!(replication(&bench), ReplicationState::PausedSyncS);
    bench.packet(Packet::ResyncRequest {
        id: 1,
        volume: VOLUME,
        range: ByteRange::new(0, 4096),
    });
    assert!(bench.disk(READ, Ok(())));
    let answered = |packet: &&Packet| matches!(packet, Packet::ResyncData { .. });
    assert_eq!(bench.sent_so_far().filter(answered).count(), 1);
    resume(&mut bench);
    assert!(bench.sent().contains(&tells(false)));
    assert_eq!(replication(&bench), ReplicationState::SyncSource);
}

#[test]
fn what_the_peer_pauses_it_lets_go_on_or_takes_with_its_link() {
    let mut bench = target();
    bench.packet(tells(true));
    bench.packet(blocks(&[3]));
    bench.packet(end(NEWER));
    assert_eq!(suspended(&bench), "peer");
    assert_eq!(asked_for(&mut bench), []);
    bench.packet(tells(false));
    assert_eq!(suspended(&bench), "no");
    assert_eq!(asked_for(&mut bench).len(), 1);
    bench.packet(tells(true));
    bench.link_down(LinkLoss::Closed);
    assert_eq!(suspended(&bench), "no");
}

#[test]
fn a_resync_waits_until_nobody_holds_it_back() {
    let mut bench = paused_target();
    for _ in 0..2 {
        let call = order(&mut bench, PausedBy::Dependency, true);
        assert_eq!(bench.reply(call), Some(true));
    }
    assert_eq!(suspended(&bench), "user,dependency");
    resume(&mut bench);
    assert_eq!(asked_for(&mut bench), []);
    order(&mut bench, PausedBy::Dependency, false);
    assert_eq!(asked_for(&mut bench).len(), 2);
}

#[test]
fn a_flag_that_is_set_is_not_set_again() {
    let mut bench = paused_target();
    let refused = |bench: &mut Bench, paused| {
        let call = order(bench, PausedBy::User, paused);
        bench.refusal(call).code
    };
    assert_eq!(refused(&mut bench, true), RefusalCode::PauseIsSet);
    resume(&mut bench);
    assert_eq!(refused(&mut bench, false), RefusalCode::PauseIsClear);
    bench.packet(tells(true));
    assert_eq!(refused(&mut bench, false), RefusalCode::PausedByPeer);
    order(&mut bench, PausedBy::Dependency, true);
    assert_eq!(refused(&mut bench, false), RefusalCode::PausedByDependency);
}

#[test]
fn the_target_says_what_limits_the_resync_and_the_source_shows_it() {
    let mut bench = source();
    bench.packet(Packet::ResyncState {
        volume: VOLUME,
        paused: false,
        limit: Some(ResyncLimit::DiskHere),
        disk_us: 0,
    });
    let progress = bench.connection().peer_devices[0].resync.expect("it runs");
    assert_eq!(progress.limit, Some(ResyncLimit::DiskOfPeer));
    pause(&mut bench);
    let progress = bench.connection().peer_devices[0].resync.expect("it runs");
    assert_eq!(progress.limit, None, "nothing but the pause");
}
