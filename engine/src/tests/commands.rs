//! Commands that are refused, each with its reason and without having changed anything.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;

use rbd_protocol::control::{Refusal, RefusalCode, ResourceConfig};
use rbd_protocol::ids::{GenerationId, NodeId, VolumeNumber};
use rbd_protocol::metadata::NodeName;
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{ConnectionState, DiskState, ReplicationState, Role};

use super::{Bench, PEER, SECOND, VOLUME, config, image};
use crate::{Action, Command, Event, LinkLoss, Seek};

const STRANGER: NodeId = NodeId(9);

const NO_VOLUME: VolumeNumber = VolumeNumber(9);

fn refused(bench: &mut Bench, command: Command) -> Refusal {
    let call = bench.command(command);
    bench.refusal(call)
}

fn new_generation(volume: VolumeNumber, clear_bitmap: bool) -> Command {
    Command::NewGeneration {
        volume,
        clear_bitmap,
    }
}

/// A node whose disk has never been in sync with anything, connected to another like it.
fn fresh_pair() -> Bench {
    let mut image = image();
    image.superblock.generation = GenerationId::JUST_CREATED;
    image.superblock.flags.consistent = false;
    image.superblock.flags.was_up_to_date = false;
    image.superblock.peers[0].flags.full_sync = true;
    let mut bench = Bench::alone(config(), image);
    bench.meet(|_| {});
    let connection = bench.connection();
    assert_eq!(connection.connection_state, ConnectionState::Connected);
    assert_eq!(
        connection.peer_devices[0].replication_state,
        ReplicationState::Established
    );
    assert_eq!(bench.disk_state(), DiskState::Inconsistent);
    bench.asked.clear();
    bench
}

/// The generation the peer is asked to adopt, and the name of the question.
fn asked_to_adopt(bench: &mut Bench) -> (u64, GenerationId) {
    let asked = bench.sent().into_iter().find_map(|packet| match packet {
        Packet::NewGeneration { id, generation, .. } => Some((id, generation)),
        _ => None,
    });
    asked.expect("the peer is asked")
}

#[test]
fn a_second_disk_is_refused_and_one_of_no_volume() {
    let mut bench = Bench::in_sync();
    let call = bench.attach(image());
    assert_eq!(bench.refusal(call).code, RefusalCode::AlreadyAttached);
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    let mut config = config();
    config.volumes[0].number = NO_VOLUME;
    let mut bench = Bench::bare(config);
    let call = bench.attach(image());
    assert_eq!(bench.refusal(call).code, RefusalCode::InvalidRequest);
}

#[test]
fn a_disk_without_room_for_the_peer_is_refused() {
    let mut full = image();
    full.superblock.peers[0].node_id = Some(STRANGER);
    let mut bench = Bench::bare(config());
    let call = bench.attach(full);
    let refusal = bench.refusal(call);
    assert_eq!(refusal.code, RefusalCode::InvalidRequest);
    assert!(refusal.help.contains("--max-peers"), "{refusal:?}");
    assert_eq!(bench.disk_state(), DiskState::Diskless);
}

#[test]
fn a_peer_whose_name_the_metadata_cannot_hold_is_refused() {
    let mut config = config();
    config.peers[0].name = "b".repeat(64);
    let mut empty = image();
    empty.superblock.peers[0].node_id = None;
    empty.superblock.peers[0].name = NodeName::new("").expect("short");
    let mut bench = Bench::bare(config);
    let call = bench.attach(empty);
    assert!(bench.refusal(call).reason.contains("too long"));
}

#[test]
fn a_primary_that_has_lost_its_disk_takes_no_other() {
    let mut bench = Bench::primary();
    bench.flush();
    bench.disk(crate::DiskRequest::Flush, Err(crate::DiskError::Io));
    assert_eq!(bench.disk_state(), DiskState::Diskless);
    let call = bench.attach(image());
    assert!(bench.refusal(call).help.contains("secondary --force"));
}

#[test]
fn damage_of_the_metadata_is_told_with_the_attach() {
    use rbd_protocol::metadata::{BlockAddress, BlockError, Damage, Effect};
    let mut damaged = image();
    damaged.damage.push(Damage {
        at: BlockAddress::Intent { block: 0, slot: 1 },
        blocks: 1,
        cause: BlockError::NoSignature { found: 0 },
        effect: Effect::RegionsHot,
    });
    let mut bench = Bench::bare(config());
    bench.attach(damaged);
    let note = bench.asked.iter().find_map(|action| match action {
        Action::Reply { result, .. } => result.clone().ok().flatten(),
        _ => None,
    });
    assert!(note.is_some_and(|note| note.contains("1 damaged place")));
}

#[test]
fn a_peer_nobody_has_configured_is_neither_connected_nor_disconnected() {
    let mut bench = Bench::in_sync();
    let peer = Some(STRANGER);
    let connect = Command::Connect {
        peer,
        discard_my_data: false,
        tentative: false,
    };
    for command in [connect, Command::Disconnect { peer, force: false }] {
        let refusal = refused(&mut bench, command);
        assert_eq!(refusal.code, RefusalCode::InvalidRequest);
        assert!(refusal.reason.contains("node-id"), "{refusal:?}");
    }
    assert_eq!(
        bench.connection().connection_state,
        ConnectionState::Connected
    );
}

#[test]
fn a_primary_does_not_give_up_its_data() {
    let mut bench = Bench::primary();
    let connect = Command::Connect {
        peer: None,
        discard_my_data: true,
        tentative: false,
    };
    let refusal = refused(&mut bench, connect);
    assert_eq!(refusal.code, RefusalCode::DiscardWhilePrimary);
}

#[test]
fn a_disconnect_is_answered_when_the_link_is_gone_and_a_second_at_once() {
    let mut bench = Bench::in_sync();
    let peer = Some(PEER);
    let call = bench.command(Command::Disconnect { peer, force: false });
    assert!(bench.sent().contains(&Packet::Goodbye));
    assert_eq!(bench.reply(call), None);
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Commanded));
    assert_eq!(bench.reply(call), Some(true));
    let again = bench.command(Command::Disconnect { peer, force: false });
    assert_eq!(bench.reply(again), Some(true));
    assert_eq!(
        bench.connection().connection_state,
        ConnectionState::StandAlone
    );
}

#[test]
fn a_link_nobody_wants_is_dropped() {
    let mut bench = Bench::bare(config());
    bench.link_up();
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Commanded));
    assert!(bench.sent().is_empty(), "no greeting");
}

#[test]
fn a_connect_while_connected_changes_nothing() {
    let mut bench = Bench::in_sync();
    let call = bench.connect();
    assert_eq!(bench.reply(call), Some(true));
    assert_eq!(bench.close_dropped(), None);
    assert_eq!(
        bench.connection().connection_state,
        ConnectionState::Connected
    );
}

#[test]
fn a_new_generation_waits_for_a_handshake_that_names_the_old_one() {
    let mut bench = Bench::in_sync();
    bench.link_down(LinkLoss::Closed);
    bench.write_metadata();
    bench.link_up();
    assert!(bench.greeting().volumes[0].current == bench.generation());
    let refusal = refused(&mut bench, new_generation(VOLUME, false));
    assert_eq!(refusal.code, RefusalCode::InvalidRequest, "(D1)");
}

#[test]
fn a_new_generation_needs_a_volume_a_disk_and_good_data() {
    let mut bench = Bench::in_sync();
    let refusal = refused(&mut bench, new_generation(NO_VOLUME, false));
    assert_eq!(refusal.code, RefusalCode::InvalidRequest);
    let refusal = refused(&mut bench, new_generation(VOLUME, false));
    assert!(refusal.help.contains("disconnect"), "{refusal:?}");
    let mut bench = Bench::bare(config());
    let refusal = refused(&mut bench, new_generation(VOLUME, false));
    assert_eq!(refusal.code, RefusalCode::StateDiskless);
    let mut behind = image();
    behind.superblock.flags.outdated = true;
    let mut bench = Bench::alone(config(), behind);
    let refusal = refused(&mut bench, new_generation(VOLUME, false));
    assert_eq!(refusal.code, RefusalCode::StateNoUpToDateData);
}

#[test]
fn a_new_generation_begins_on_an_up_to_date_node_alone() {
    let mut bench = Bench::primary();
    bench.link_down(LinkLoss::Closed);
    bench.write_metadata();
    let before = bench.generation();
    let call = bench.command(new_generation(VOLUME, false));
    assert_eq!(bench.reply(call), None, "it is not durable");
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(true));
    assert_ne!(bench.generation(), before);
}

#[test]
fn a_new_generation_of_one_volume_is_answered_whatever_becomes_of_another() {
    let mut bench = Bench::of_two_volumes(config());
    bench.meet(|_| {});
    bench.link_down(LinkLoss::Closed);
    bench.write_metadata();
    let call = bench.command(new_generation(VOLUME, false));
    let (volume, force) = (SECOND, true);
    bench.command(Command::Detach { volume, force });
    assert_eq!(bench.reply(call), None);
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(true));
}

#[test]
fn a_new_generation_is_begun_though_its_disk_is_let_go_afterwards() {
    let mut bench = Bench::in_sync();
    bench.link_down(LinkLoss::Closed);
    bench.write_metadata();
    let (volume, force) = (VOLUME, false);
    let detach = bench.command(Command::Detach { volume, force });
    let call = bench.command(new_generation(VOLUME, false));
    bench.flush_all();
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(true));
    assert_eq!(bench.reply(detach), Some(true));
}

#[test]
fn only_just_created_data_skips_the_initial_sync() {
    let mut bench = Bench::in_sync();
    let refusal = refused(&mut bench, new_generation(VOLUME, true));
    assert!(refusal.help.contains("fresh metadata"), "{refusal:?}");
    let mut bench = fresh_pair();
    bench.link_down(LinkLoss::Closed);
    let refusal = refused(&mut bench, new_generation(VOLUME, true));
    assert_eq!(refusal.code, RefusalCode::StateNeedsConnection);
}

#[test]
fn the_initial_sync_is_skipped_when_the_peer_agrees() {
    let mut bench = fresh_pair();
    let call = bench.command(new_generation(VOLUME, true));
    let (id, generation) = asked_to_adopt(&mut bench);
    let second = refused(&mut bench, new_generation(VOLUME, true));
    assert_eq!(second.code, RefusalCode::InvalidRequest);
    let answer = |id, adopted| Packet::NewGenerationAck {
        id,
        volume: VOLUME,
        adopted,
    };
    bench.packet(answer(id + 1, true));
    assert_eq!(bench.reply(call), None, "it answers another question");
    bench.packet(answer(id, true));
    assert_eq!(bench.reply(call), None, "a power cut would take it back");
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(true));
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    assert_eq!(bench.generation(), generation);
    assert_eq!(bench.out_of_sync_bytes(), 0);
}

#[test]
fn a_generation_that_cannot_be_recorded_is_not_begun() {
    let mut bench = fresh_pair();
    let call = bench.command(new_generation(VOLUME, true));
    let (id, _) = asked_to_adopt(&mut bench);
    bench.packet(Packet::NewGenerationAck {
        id,
        volume: VOLUME,
        adopted: true,
    });
    bench.fail_metadata();
    bench.write_metadata();
    assert_eq!(bench.refusal(call).code, RefusalCode::StateDiskless);
}

#[test]
fn the_initial_sync_is_not_skipped_when_the_peer_refuses_or_goes() {
    let mut bench = fresh_pair();
    let call = bench.command(new_generation(VOLUME, true));
    let (id, _) = asked_to_adopt(&mut bench);
    bench.packet(Packet::NewGenerationAck {
        id,
        volume: VOLUME,
        adopted: false,
    });
    assert_eq!(bench.refusal(call).code, RefusalCode::StateRefusedByPeer);
    let call = bench.command(new_generation(VOLUME, true));
    bench.link_down(LinkLoss::Closed);
    assert_eq!(bench.refusal(call).code, RefusalCode::StateNeedsConnection);
    assert_eq!(bench.disk_state(), DiskState::Inconsistent);
}

#[test]
fn a_peer_is_told_whether_its_generation_was_adopted() {
    let ask = |generation| Packet::NewGeneration {
        id: 5,
        volume: VOLUME,
        generation,
    };
    let answer = |adopted| Packet::NewGenerationAck {
        id: 5,
        volume: VOLUME,
        adopted,
    };
    let mut used = Bench::in_sync();
    let before = used.generation();
    used.packet(ask(GenerationId(0x7777)));
    assert!(used.sent().contains(&answer(false)));
    assert_eq!(used.generation(), before, "it has data of its own");
    let mut fresh = fresh_pair();
    fresh.packet(ask(GenerationId::NONE));
    assert!(fresh.sent().contains(&answer(false)), "that names no data");
    fresh.packet(ask(GenerationId(0x7777)));
    assert!(fresh.sent().contains(&answer(true)));
    assert_eq!(fresh.generation(), GenerationId(0x7777));
    assert_eq!(fresh.disk_state(), DiskState::UpToDate);
}

#[test]
fn nothing_is_begun_while_the_resource_is_being_stopped() {
    let mut bench = Bench::in_sync();
    bench.command(Command::Stop);
    let call = bench.connect();
    assert_eq!(bench.refusal(call).code, RefusalCode::StateTransient);
    let call = bench.attach(image());
    assert_eq!(bench.refusal(call).code, RefusalCode::StateTransient);
}

#[test]
fn an_open_volume_is_not_demoted_unless_by_force() {
    let mut bench = Bench::primary();
    let (volume, count) = (VOLUME, 2);
    bench.tell(Event::Openers { volume, count });
    let refusal = refused(&mut bench, Command::Demote { force: false });
    assert_eq!(refusal.code, RefusalCode::StateHeldOpen);
    assert!(refusal.reason.contains("2 client(s)"), "{refusal:?}");
    assert_eq!(bench.engine.role(), Role::Primary);
    bench.command(Command::Demote { force: true });
    bench.flush_all();
    assert_eq!(bench.engine.role(), Role::Secondary);
}

#[test]
fn a_role_a_node_has_already_is_no_change() {
    let mut bench = Bench::in_sync();
    let call = bench.command(Command::Demote { force: false });
    assert_eq!(bench.reply(call), Some(true));
    let mut bench = Bench::primary();
    let call = bench.command(Command::Promote { force: false });
    assert_eq!(bench.reply(call), Some(true));
    assert!(bench.sent().is_empty(), "nobody is asked");
}

fn configured(change: impl FnOnce(&mut ResourceConfig)) -> Bench {
    let mut bench = Bench::in_sync();
    let mut config = config();
    change(&mut config);
    let call = bench.command(Command::Configure(Box::new(config)));
    assert_eq!(bench.reply(call), Some(true));
    bench
}

#[test]
fn options_that_have_not_changed_cost_no_link() {
    let mut bench = configured(|config| config.options.hot_region_limit = 5);
    assert_eq!(bench.close_dropped(), None);
    let mut bench = configured(|config| config.volumes[0].minor = Some(4));
    assert_eq!(bench.close_dropped(), None);
}

#[test]
fn options_of_a_connection_are_taken_over_with_a_new_link() {
    let mut bench = configured(|config| config.peers[0].net.ping_interval_ms = 7_000);
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Renegotiate));
    let at_once = Action::SeekLink {
        peer: PEER,
        seek: Seek::AtOnce,
    };
    let sought = |action: &Action<u32>| alloc::format!("{action:?}");
    let wanted = sought(&at_once);
    assert!(bench.asked.iter().any(|action| sought(action) == wanted));
    bench.meet(|_| {});
    bench.asked.clear();
    // The old interval, a second, has passed; the new one has not.
    bench.wait_ms(2_000);
    assert!(bench.sent().is_empty());
    bench.wait_ms(5_000);
    assert!(matches!(bench.sent()[..], [Packet::Ping { .. }]));
}

#[test]
fn another_address_to_listen_on_makes_every_link_anew() {
    let mut bench = configured(|config| config.listen = Some(String::from("10.0.0.1:7789")));
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Renegotiate));
    assert_eq!(bench.connection().local_address, "10.0.0.1:7789");
}

#[test]
fn a_peer_that_is_new_in_the_configuration_is_not_taken_up_while_running() {
    let mut bench = configured(|config| {
        let mut stranger = config.peers[0].clone();
        stranger.node_id = STRANGER;
        config.peers = vec![config.peers[0].clone(), stranger];
    });
    assert_eq!(bench.engine.status(bench.now).connections.len(), 1);
    assert_eq!(bench.close_dropped(), None);
}

#[test]
fn a_stop_waits_for_no_promotion_and_no_detach_but_is_refused() {
    let mut bench = Bench::in_sync();
    bench.command(Command::Promote { force: false });
    let refusal = refused(&mut bench, Command::Stop);
    assert_eq!(refusal.code, RefusalCode::StateTransient);
    bench.consent();
    bench.write_metadata();
    assert_eq!(bench.engine.role(), Role::Primary);
    bench.command(Command::Stop);
    let refusal = refused(&mut bench, Command::Stop);
    assert_eq!(refusal.code, RefusalCode::StateTransient);
}
