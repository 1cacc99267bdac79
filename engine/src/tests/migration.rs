//! Live migrations: two Primaries for a while, over a link that was made for one.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use rbd_protocol::control::{Fencing, RefusalCode, ResourceConfig};
use rbd_protocol::ids::ByteRange;
use rbd_protocol::peer::{Packet, Place};
use rbd_protocol::state::{DiskState, Role};

use super::fencing::fenced;
use super::{Bench, VOLUME, config, image};
use crate::{
    Action, Command, DiskRequest, Event, HandlerResult, LinkLoss, MigrationNews, RequestKind,
};

const WRITE: DiskRequest = DiskRequest::Write { fua: false };

fn kept_apart() -> ResourceConfig {
    fenced(Fencing::ResourceAndStonith)
}

fn becomes(bench: &mut Bench, role: Role, tenure: u64) {
    let disks = vec![(VOLUME, DiskState::UpToDate)];
    bench.packet(Packet::State {
        role,
        tenure,
        disks,
    });
}

/// This node is Secondary, and its peer Primary.
fn beside_a_primary(config: ResourceConfig) -> Bench {
    let mut bench = Bench::in_sync_as(config);
    becomes(&mut bench, Role::Primary, 8);
    bench.asked.clear();
    bench
}

/// This node has been moved to.
fn arrived() -> Bench {
    let mut bench = beside_a_primary(kept_apart());
    bench.command(Command::Migrate { ms: 60_000 });
    bench.consent();
    bench.write_metadata();
    assert_eq!(bench.engine.role(), Role::Primary);
    bench
}

/// This node is being moved from: the peer has asked, and is Primary too.
fn left() -> Bench {
    let mut bench = Bench::primary_as(kept_apart());
    asks(&mut bench, 70);
    assert_eq!(consents(&mut bench), [true]);
    becomes(&mut bench, Role::Primary, 9);
    bench
}

fn asks(bench: &mut Bench, id: u64) {
    bench.packet(Packet::PromoteRequest {
        id,
        migration_ms: 60_000,
    });
}

fn consents(bench: &mut Bench) -> Vec<bool> {
    let replies = bench.sent().into_iter().filter_map(|packet| match packet {
        Packet::PromoteReply { granted, .. } => Some(granted),
        _ => None,
    });
    replies.collect()
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

fn left_ms(bench: &Bench) -> Option<u64> {
    bench.connection().two_primaries.migration_ms
}

/// Time passes, and the peer is there.
fn pass(bench: &mut Bench, milliseconds: u64) {
    for _ in 0..milliseconds.div_ceil(500) {
        bench.wait_ms(500);
        for packet in bench.sent() {
            if let Packet::Ping { id } = packet {
                bench.packet(Packet::PingAck { id });
            }
        }
    }
}

fn open(bench: &mut Bench, count: u32) {
    let volume = VOLUME;
    bench.tell(Event::Openers { volume, count });
}

#[test]
fn a_node_is_promoted_beside_the_primary_it_is_moved_to_from() {
    let mut bench = beside_a_primary(kept_apart());
    let call = bench.command(Command::Migrate { ms: 60_000 });
    let asked = bench.sent_so_far().find_map(|packet| match packet {
        Packet::PromoteRequest { migration_ms, .. } => Some(*migration_ms),
        _ => None,
    });
    assert_eq!(asked, Some(60_000));
    bench.consent();
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(true));
    assert_eq!(news(&mut bench), [MigrationNews::Begun { ms: 60_000 }]);
    assert_eq!(left_ms(&bench), Some(60_000));
    assert!(bench.connection().two_primaries.is_agreed);
}

#[test]
fn without_fencing_nobody_is_moved_unless_that_is_accepted() {
    let mut bench = beside_a_primary(config());
    let call = bench.command(Command::Migrate { ms: 60_000 });
    let refusal = bench.refusal(call);
    assert_eq!(refusal.code, RefusalCode::StateTwoPrimaries);
    assert!(refusal.reason.contains("fencing"), "{}", refusal.reason);
    assert_eq!(left_ms(&bench), None);
    let mut accepted = config();
    accepted.peers[0].net.two_without_fencing = true;
    let mut bench = beside_a_primary(accepted);
    bench.command(Command::Migrate { ms: 60_000 });
    bench.consent();
    bench.write_metadata();
    assert_eq!(bench.engine.role(), Role::Primary);
}

#[test]
fn a_primary_without_fencing_does_not_let_another_be_beside_it() {
    let mut bench = Bench::primary();
    asks(&mut bench, 70);
    assert_eq!(consents(&mut bench), [false]);
    assert_eq!(left_ms(&bench), None);
}

#[test]
fn nobody_is_moved_from_a_node_that_is_not_connected() {
    let mut bench = beside_a_primary(kept_apart());
    bench.link_down(LinkLoss::Closed);
    let call = bench.command(Command::Migrate { ms: 60_000 });
    assert_eq!(bench.refusal(call).code, RefusalCode::StateNeedsConnection);
    assert_eq!(bench.handlers(), [], "and nobody is fenced for it");
}

#[test]
fn a_primary_that_has_a_disk_less_is_not_moved_from() {
    let mut bench = beside_a_primary(kept_apart());
    bench.packet(Packet::State {
        role: Role::Primary,
        tenure: 8,
        disks: vec![(VOLUME, DiskState::Diskless)],
    });
    let call = bench.command(Command::Migrate { ms: 60_000 });
    assert_eq!(bench.refusal(call).code, RefusalCode::StateTwoPrimaries);
}

#[test]
fn an_order_without_a_migration_is_refused_in_one() {
    let mut bench = left();
    becomes(&mut bench, Role::Secondary, 10);
    bench.packet(Packet::PromoteRequest {
        id: 71,
        migration_ms: 0,
    });
    assert_eq!(consents(&mut bench), [false]);
}

fn sent_write(bench: &mut Bench) -> u64 {
    let id = bench.sent().into_iter().find_map(|packet| match packet {
        Packet::Write { id, .. } => Some(id),
        _ => None,
    });
    id.expect("a write was sent")
}

/// The peer keeps no account of what it got before it asked: were it to do that again for this
/// node later on, it could write it over something newer.
#[test]
fn consent_waits_until_what_was_sent_before_is_complete() {
    let mut bench = Bench::primary_as(kept_apart());
    bench.write(0);
    bench.write_metadata();
    let id = sent_write(&mut bench);
    asks(&mut bench, 70);
    assert_eq!(consents(&mut bench), [], "neither disk has it");
    let later = bench.write(4096);
    bench.disk(WRITE, Ok(()));
    assert_eq!(consents(&mut bench), [], "the peer may not have it");
    bench.packet(Packet::WriteAck { id, volume: VOLUME });
    assert_eq!(consents(&mut bench), [true]);
    assert_eq!(
        bench.answer(later),
        None,
        "the peer takes note of later ones"
    );
}

/// What it got before its first request is in its account from the moment it asked.
#[test]
fn what_arrives_after_the_order_is_settled_before_it_is_read() {
    let mut bench = beside_a_primary(kept_apart());
    bench.command(Command::Migrate { ms: 60_000 });
    bench.packet(Packet::Write {
        id: 80,
        volume: VOLUME,
        range: ByteRange::new(0, 4096),
        fua: false,
        place: Place {
            seen: 0,
            behind: u16::MAX,
        },
    });
    bench.write_metadata();
    bench.disk(WRITE, Ok(()));
    bench.consent();
    bench.write_metadata();
    bench.sent();
    let read = bench.request(RequestKind::Read, ByteRange::new(0, 4096));
    bench.disk(DiskRequest::Read, Ok(()));
    assert_eq!(bench.answer(read), None, "the peer's disk may lack it");
    let asked = bench.sent().into_iter().find_map(|packet| match packet {
        Packet::Settle { id, .. } => Some(id),
        _ => None,
    });
    let id = asked.expect("the peer is asked");
    bench.packet(Packet::Settled { id, volume: VOLUME });
    assert_eq!(bench.answer(read), Some(Ok(())));
}

/// A node that consents tells from then on which of its writes its own disk lacks, those that were
/// under way included.
#[test]
fn what_was_under_way_counts_when_the_other_asks() {
    let mut bench = Bench::primary_as(kept_apart());
    bench.write(0);
    bench.write_metadata();
    asks(&mut bench, 70);
    bench.sent();
    bench.write(4096);
    let behind = bench.sent().into_iter().find_map(|packet| match packet {
        Packet::Write { place, .. } => Some(place.behind),
        _ => None,
    });
    assert_eq!(behind, Some(2));
}

#[test]
fn over_a_new_link_both_are_still_two() {
    for mut bench in [left(), arrived()] {
        if bench.connection().peer_role != Role::Primary {
            becomes(&mut bench, Role::Primary, 9);
        }
        let hello = bench.relink().expect("a greeting was sent");
        assert!(hello.two_primaries);
    }
}

#[test]
fn who_is_moved_from_goes_first_when_nobody_uses_it() {
    let mut bench = left();
    news(&mut bench);
    open(&mut bench, 1);
    pass(&mut bench, 60_500);
    assert_eq!(news(&mut bench), [], "it is in use");
    assert_eq!(left_ms(&bench), Some(0));
    open(&mut bench, 0);
    pass(&mut bench, 2_000);
    assert_eq!(news(&mut bench), [MigrationNews::Expired]);
    pass(&mut bench, 2_000);
    assert_eq!(
        news(&mut bench),
        [MigrationNews::Expired],
        "until it is done"
    );
    bench.command(Command::Demote { force: false });
    bench.flush_all();
    assert_eq!(bench.engine.role(), Role::Secondary);
    assert_eq!(news(&mut bench), [MigrationNews::Over]);
    assert_eq!(left_ms(&bench), None);
}

#[test]
fn who_is_moved_to_waits_a_little_longer() {
    let mut bench = arrived();
    news(&mut bench);
    pass(&mut bench, 60_500);
    assert_eq!(news(&mut bench), []);
    pass(&mut bench, 5_000);
    assert_eq!(news(&mut bench), [MigrationNews::Expired]);
}

#[test]
fn it_is_over_when_either_is_secondary() {
    for mut bench in [left(), arrived()] {
        news(&mut bench);
        becomes(&mut bench, Role::Secondary, 10);
        assert_eq!(news(&mut bench), [MigrationNews::Over]);
        pass(&mut bench, 70_000);
        assert_eq!(news(&mut bench), []);
        assert_eq!(bench.engine.role(), Role::Primary);
    }
}

#[test]
fn a_consent_that_nothing_comes_of_is_void_after_its_time() {
    let mut bench = Bench::primary_as(kept_apart());
    asks(&mut bench, 70);
    assert_eq!(consents(&mut bench), [true]);
    pass(&mut bench, 60_500);
    assert_eq!(left_ms(&bench), Some(0), "its promotion may just be ending");
    pass(&mut bench, 10_000);
    assert_eq!(left_ms(&bench), None);
}

#[test]
fn an_order_that_is_refused_leaves_nothing_behind() {
    let mut bench = beside_a_primary(kept_apart());
    let call = bench.command(Command::Migrate { ms: 60_000 });
    let asked = bench.sent().into_iter().find_map(|packet| match packet {
        Packet::PromoteRequest { id, .. } => Some(id),
        _ => None,
    });
    let id = asked.expect("the peer is asked");
    bench.packet(Packet::PromoteReply { id, granted: false });
    assert_eq!(bench.refusal(call).code, RefusalCode::StateRefusedByPeer);
    assert_eq!(left_ms(&bench), None);
    assert!(!bench.connection().two_primaries.is_agreed);
}

#[test]
fn who_goes_on_alone_is_in_no_migration_any_more() {
    let mut bench = left();
    news(&mut bench);
    bench.link_down(LinkLoss::Closed);
    assert_eq!(news(&mut bench), [], "the peer may still come back");
    bench.wait_ms(1_000);
    let fence = bench.fence_starts();
    bench.handler_ends(fence, HandlerResult::Exited(7));
    bench.write(0);
    bench.write_metadata();
    assert_eq!(news(&mut bench), [MigrationNews::Over]);
}

#[test]
fn a_peer_that_has_consent_may_take_its_time() {
    let mut bench = Bench::primary_as(kept_apart());
    asks(&mut bench, 70);
    pass(&mut bench, 75_000);
    assert_eq!(left_ms(&bench), None);
    becomes(&mut bench, Role::Primary, 9);
    assert_eq!(bench.close_dropped(), None, "the link stays");
    assert_eq!(left_ms(&bench), Some(0), "and one of the two goes soon");
}

#[test]
fn a_peer_without_consent_is_not_let_in() {
    let mut bench = Bench::primary_as(kept_apart());
    becomes(&mut bench, Role::Primary, 9);
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Protocol));
}

/// A peer that does not tell what its disk has, because it has never been asked for two, is asked
/// now and then.
#[test]
fn books_that_nobody_shortens_do_not_grow_for_ever() {
    let mut bench = beside_a_primary(kept_apart());
    bench.command(Command::Migrate { ms: 60_000 });
    bench.sent();
    for id in 1000..3000 {
        bench.packet(Packet::Write {
            id,
            volume: VOLUME,
            range: ByteRange::new(0, 4096),
            fua: false,
            place: Place {
                seen: 0,
                behind: u16::MAX,
            },
        });
        bench.write_metadata();
        bench.disk(WRITE, Ok(()));
        let asked = bench.sent().into_iter().find_map(|packet| match packet {
            Packet::Settle { id, .. } => Some(id),
            _ => None,
        });
        if let Some(count) = asked {
            assert_eq!(count, 1024);
            return;
        }
    }
    panic!("the peer is never asked");
}

/// Both lose sight of each other while this node's promotion is being recorded, and the other one
/// its power: what it had answered and not flushed is here alone.
#[test]
fn what_the_other_primary_lost_with_its_power_is_told_apart_before_anything_is_shown() {
    let mut bench = beside_a_primary(kept_apart());
    bench.command(Command::Migrate { ms: 60_000 });
    bench.consent();
    bench.link_down(LinkLoss::Closed);
    bench.link_up();
    let mut other = Bench::alone(kept_apart(), image());
    other.write_metadata();
    other.link_up();
    other.write_metadata();
    let mut hello = other.greeting();
    hello.incarnation = 100;
    hello.volumes[0].disk = DiskState::Consistent;
    hello.volumes[0].crashed_primary = true;
    hello.volumes[0].kept_power = false;
    hello.volumes[0].dirty_blocks = 8;
    bench.packet(Packet::Hello(Box::new(hello)));
    assert_eq!(bench.engine.role(), Role::Secondary, "it is being recorded");
    let before = bench.generation();
    for _ in 0..3 {
        if bench.engine.role() != Role::Primary {
            bench.end_metadata();
        }
    }
    assert_eq!(bench.engine.role(), Role::Primary);
    assert_ne!(bench.generation(), before, "this is not durable yet");
    let read = bench.request(RequestKind::Read, ByteRange::new(0, 4096));
    let flush = bench.flush();
    bench.disk(DiskRequest::Read, Ok(()));
    while bench.disk(DiskRequest::Flush, Ok(())) {}
    bench.peer_acks();
    assert_eq!(bench.answer(read), None, "(B8)");
    assert_eq!(bench.answer(flush), None, "(B1)");
    bench.write_metadata();
    bench.disk(DiskRequest::Read, Ok(()));
    bench.flush_all();
    assert_eq!(bench.answer(read), Some(Ok(())));
    assert_eq!(bench.answer(flush), Some(Ok(())));
}
