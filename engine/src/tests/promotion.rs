//! Promotion, step by step.
use super::fencing::fenced;
use super::resync::target;
use super::{Bench, LINK, PEER, VOLUME, config, image};
use crate::{Action, Command, DiskRequest, Event, LinkLoss};
use rbd_protocol::control::{Fencing, RefusalCode};
use rbd_protocol::ids::{ByteRange, GenerationId};
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{ConnectionState, DiskState, Role};

const WRITE: DiskRequest = DiskRequest::Write { fua: false };

#[test]
fn a_node_is_primary_only_when_the_peer_consents_and_the_disk_says_so() {
    let mut bench = Bench::in_sync();
    let call = bench.command(Command::Promote { force: false });
    assert!(!bench.is_writing_metadata(), "the peer has not consented");
    bench.consent();
    assert!(bench.is_writing_metadata());
    assert_eq!(
        (bench.engine.role(), bench.reply(call)),
        (Role::Secondary, None)
    );
    bench.write_metadata();
    assert_eq!(
        (bench.engine.role(), bench.reply(call)),
        (Role::Primary, Some(true))
    );
}

#[test]
fn a_peer_that_objects_ends_it() {
    let mut bench = Bench::in_sync();
    let call = bench.command(Command::Promote { force: false });
    let request = bench.sent().into_iter().find_map(|packet| match packet {
        Packet::PromoteRequest { id, .. } => Some(id),
        _ => None,
    });
    let id = request.expect("the peer is asked");
    bench.packet(Packet::PromoteReply { id, granted: false });
    assert_eq!(
        (bench.engine.role(), bench.reply(call)),
        (Role::Secondary, Some(false))
    );
    assert!(!bench.is_writing_metadata());
}

#[test]
fn a_peer_that_is_gone_before_it_has_answered_is_asked_nothing_more() {
    let mut bench = Bench::in_sync();
    let call = bench.command(Command::Promote { force: false });
    bench.link_down(LinkLoss::Closed);
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(true), "it is promoted alone");
    assert_eq!(bench.engine.role(), Role::Primary);
}

#[test]
fn a_peer_that_never_answers_ends_it() {
    let mut bench = Bench::in_sync();
    let call = bench.command(Command::Promote { force: false });
    bench.wait_ms(8_000);
    assert_eq!(bench.reply(call), Some(false));
    assert_eq!(bench.engine.role(), Role::Secondary);
}

#[test]
fn what_the_last_primary_is_still_writing_here_is_waited_for() {
    let mut bench = Bench::in_sync();
    bench.packet(Packet::Write {
        id: 50,
        volume: VOLUME,
        range: ByteRange::new(0, 4096),
        fua: false,
        place: Default::default(),
    });
    assert_eq!(bench.on_disk(WRITE), 1);
    bench.tell(Event::LinkDown {
        peer: PEER,
        link: LINK,
        loss: LinkLoss::Closed,
    });
    let call = bench.command(Command::Promote { force: false });
    bench.write_metadata();
    assert_eq!(
        bench.reply(call),
        None,
        "a read could return what the write then changes (B8)"
    );
    bench.disk(WRITE, Ok(()));
    bench.write_metadata();
    assert_eq!(
        (bench.engine.role(), bench.reply(call)),
        (Role::Primary, Some(true))
    );
}

#[test]
fn a_node_promoted_without_its_peer_begins_a_generation_the_peer_does_not_have() {
    let mut bench = Bench::in_sync();
    bench.tell(Event::LinkDown {
        peer: PEER,
        link: LINK,
        loss: LinkLoss::Closed,
    });
    let before = bench.engine.status(bench.now).devices[0].current_generation;
    let call = bench.command(Command::Promote { force: false });
    assert_eq!(bench.reply(call), None, "it is not durable yet (D6)");
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(true));
    let status = bench.engine.status(bench.now);
    assert_ne!(status.devices[0].current_generation, before);
    assert_eq!(
        status.connections[0].peer_devices[0].bitmap_generation,
        before
    );
}

#[test]
fn nobody_consents_to_a_second_primary() {
    let mut bench = Bench::primary();
    bench.packet(Packet::PromoteRequest {
        id: 60,
        migration_ms: 0,
    });
    let refused = Packet::PromoteReply {
        id: 60,
        granted: false,
    };
    assert!(bench.sent().contains(&refused));
}

/// A source that has sent everything and waits for its peer to say so.
fn source() -> Bench {
    let mut bench = Bench::in_sync();
    let then = bench.superblock.clone().expect("written").generation;
    bench.link_down(LinkLoss::Closed);
    bench.command(Command::NewGeneration {
        volume: VOLUME,
        clear_bitmap: false,
    });
    bench.meet(|hello| {
        for volume in &mut hello.volumes {
            volume.current = then;
            volume.bitmap = GenerationId::NONE;
            volume.history.clear();
        }
    });
    bench.packet(Packet::BitmapEnd {
        volume: VOLUME,
        generation: then,
    });
    bench.write_metadata();
    bench.asked.clear();
    bench
}

#[test]
fn a_promotion_stays_recorded_when_a_resync_ends_meanwhile() {
    let mut bench = source();
    let generation = bench.superblock.clone().expect("written").generation;
    let call = bench.command(Command::Promote { force: false });
    bench.consent();
    assert!(
        bench.is_writing_metadata(),
        "the promotion is being recorded"
    );
    bench.packet(Packet::ResyncDone {
        volume: VOLUME,
        generation,
    });
    bench.write_metadata();
    assert_eq!(
        (bench.engine.role(), bench.reply(call)),
        (Role::Primary, Some(true))
    );
    assert!(bench.superblock.expect("written").flags.primary);
}

#[test]
fn a_node_whose_disk_fails_while_that_is_recorded_is_not_promoted_and_fences_nobody() {
    for config in [config(), fenced(Fencing::ResourceAndStonith)] {
        let mut bench = Bench::in_sync_as(config);
        let call = bench.command(Command::Promote { force: false });
        bench.consent();
        bench.fail_metadata();
        bench.write_metadata();
        assert_eq!(bench.disk_state(), DiskState::Diskless);
        assert_eq!(bench.engine.role(), Role::Secondary);
        let refusal = bench.refusal(call);
        assert_eq!(refusal.code, RefusalCode::StateNoUpToDateData);
        assert_eq!(bench.handlers(), []);
    }
}

/// A node that comes up alone and was the source of a resync. The target has not said that it has
/// everything; `behind` tells whether it cannot have had.
fn interrupted_source(behind: bool) -> Bench {
    let mut image = image();
    image.superblock.peers[0].bitmap_generation = GenerationId(0x900);
    image.superblock.peers[0].flags.may_have_current = !behind;
    let mut bench = Bench::alone(config(), image);
    bench.write_metadata();
    bench
}

#[test]
fn a_source_whose_target_may_have_gone_on_alone_does_not_take_itself_for_the_newest() {
    let mut bench = interrupted_source(false);
    assert_eq!(bench.disk_state(), DiskState::Consistent);
    let call = bench.command(Command::Promote { force: false });
    assert_eq!(bench.refusal(call).code, RefusalCode::StateNoUpToDateData);
    assert_eq!(bench.engine.role(), Role::Secondary);
}

#[test]
fn a_node_that_knows_its_peer_to_be_behind_is_promoted_alone() {
    let mut bench = interrupted_source(true);
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    let call = bench.command(Command::Promote { force: false });
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(true));
}

#[test]
fn a_forced_promotion_waits_for_a_resyncs_end_that_is_being_recorded() {
    let mut bench = target();
    let generation = GenerationId(0x2000);
    bench.packet(Packet::BitmapEnd {
        volume: VOLUME,
        generation,
    });
    assert!(bench.disk(DiskRequest::Flush, Ok(())));
    bench.peer_acks();
    assert!(bench.is_writing_metadata(), "the end is being recorded");
    assert_eq!(bench.disk_state(), DiskState::Inconsistent);
    let call = bench.command(Command::Promote { force: true });
    bench.consent();
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(true));
    assert_eq!(
        bench.generation(),
        generation,
        "the data is the source's: no other history begins"
    );
    assert_eq!(bench.out_of_sync_bytes(), 0);
    assert_eq!(
        bench.connection().connection_state,
        ConnectionState::Connected
    );
}

/// A deadline that has nothing to end any more would wake the daemon again and again.
#[test]
fn nobody_is_woken_for_a_promotion_that_is_being_recorded() {
    let mut bench = Bench::in_sync();
    let call = bench.command(Command::Promote { force: false });
    bench.consent();
    assert!(bench.is_writing_metadata());
    bench.wait_ms(60_000);
    assert_eq!(bench.reply(call), None, "it is only the disk that is slow");
    let soon = bench.now.plus_ms(100);
    let again = bench.asked.iter().rev().find_map(|action| match action {
        Action::WakeAt(time) => Some(*time),
        _ => None,
    });
    assert!(again.is_none_or(|time| time > soon), "{again:?} {soon:?}");
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(true));
}
