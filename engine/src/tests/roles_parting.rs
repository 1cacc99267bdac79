//! Who may part from whom in order, and what happens when one of the two cannot keep its word.

use alloc::vec;
use alloc::vec::Vec;

use rbd_protocol::control::Fencing;
use rbd_protocol::ids::NodeId;
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{ConnectionState, DiskState, Role};

use super::fencing::{fenced, stonith};
use super::parting::drain;
use super::two_primaries::with;
use super::{Bench, VOLUME};
use crate::{Command, DiskError, DiskRequest, LinkLoss};

const FLUSH: DiskRequest = DiskRequest::Flush;

const DISCONNECT: Command = Command::Disconnect {
    peer: None,
    force: false,
};

const WORD: Packet = Packet::LeaveReply { outdate: true };
const NO_WORD: Packet = Packet::LeaveReply { outdate: false };

fn peer_is(bench: &mut Bench, role: Role, disk: DiskState) {
    bench.packet(Packet::State {
        role,
        tenure: 7,
        disks: vec![(VOLUME, disk)],
    });
}

/// A Secondary of a Primary with this disk, where fencing is configured.
fn secondary(disk: DiskState) -> Bench {
    let mut bench = Bench::in_sync_as(fenced(Fencing::ResourceAndStonith));
    peer_is(&mut bench, Role::Primary, disk);
    bench.asked.clear();
    bench
}

/// What the peer is told when it wants to go.
fn told(bench: &mut Bench) -> Vec<Packet> {
    bench.sent();
    bench.packet(Packet::Leave);
    if bench.sent_so_far().any(|packet| *packet == NO_WORD) {
        return vec![NO_WORD];
    }
    let mut said = drain(bench);
    said.retain(|packet| matches!(packet, Packet::LeaveReply { .. }));
    said
}

#[test]
fn only_a_primary_that_can_go_on_alone_gives_its_word() {
    assert_eq!(told(&mut stonith()), [WORD]);

    let mut secondary = Bench::in_sync_as(fenced(Fencing::ResourceAndStonith));
    assert_eq!(told(&mut secondary), [NO_WORD], "it has no clients");

    let mut trusting = Bench::primary_as(fenced(Fencing::DontCare));
    assert_eq!(told(&mut trusting), [NO_WORD], "it minds nothing");

    let mut two = with(NodeId(0), fenced(Fencing::ResourceAndStonith));
    assert_eq!(told(&mut two), [NO_WORD], "the peer is Primary too");

    let mut bench = stonith();
    bench.flush();
    bench.disk(FLUSH, Err(DiskError::Io));
    assert_eq!(bench.disk_state(), DiskState::Diskless);
    let own = bench.relink().expect("a greeting");
    bench.packet(Packet::Hello(super::diskless::whole(&own).into()));
    assert_eq!(told(&mut bench), [NO_WORD], "it has no disk");
}

#[test]
fn who_is_busy_with_its_own_role_or_disk_gives_no_word() {
    let detach = Command::Detach {
        volume: VOLUME,
        force: false,
    };
    for command in [Command::Demote { force: false }, detach, Command::Stop] {
        let mut bench = stonith();
        let write = bench.write(0);
        bench.write_metadata();
        bench.command(command);
        bench.sent();
        bench.packet(Packet::Leave);
        let said = bench.sent();
        assert!(said.contains(&NO_WORD), "{said:?}");
        assert_eq!(bench.answer(write), None, "it is still busy");
    }
}

#[test]
fn a_secondary_that_is_told_twice_to_go_asks_once() {
    let mut bench = secondary(DiskState::UpToDate);
    let first = bench.command(DISCONNECT);
    let second = bench.command(DISCONNECT);
    assert_eq!(bench.sent(), [Packet::Leave]);
    bench.packet(WORD);
    bench.write_metadata();
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Commanded));
    for call in [first, second] {
        assert_eq!(bench.reply(call), Some(true));
    }
}

#[test]
fn a_primary_told_to_disconnect_while_its_peer_leaves_stays_disconnected() {
    let mut bench = stonith();
    bench.packet(Packet::Leave);
    let call = bench.command(DISCONNECT);
    assert_eq!(drain(&mut bench), [WORD], "once for both");
    bench.packet(Packet::Outdated);
    bench.write_metadata();
    bench.close_dropped();
    assert_eq!(bench.reply(call), Some(true));
    assert_eq!(
        bench.connection().connection_state,
        ConnectionState::StandAlone
    );
}

/// What it would declare behind is all there is.
#[test]
fn a_secondary_whose_primary_lacks_something_or_that_has_no_disk_asks_for_no_word() {
    let mut bench = secondary(DiskState::Inconsistent);
    bench.command(DISCONNECT);
    assert!(!bench.sent().contains(&Packet::Leave));
    assert_eq!(bench.disk_state(), DiskState::UpToDate);

    let mut bench = secondary(DiskState::UpToDate);
    bench.command(Command::Detach {
        volume: VOLUME,
        force: true,
    });
    bench.sent();
    bench.command(DISCONNECT);
    assert!(!bench.sent().contains(&Packet::Leave));
}

#[test]
fn a_word_of_parting_from_a_secondary_costs_the_link_and_not_the_data() {
    let mut bench = Bench::in_sync_as(fenced(Fencing::ResourceAndStonith));
    bench.packet(WORD);
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Protocol));
    bench.write_metadata();
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
}

/// The peer gave it before it had read that this node has been promoted.
#[test]
fn a_word_that_comes_too_late_for_a_second_primary_is_ignored() {
    let mut bench = with(NodeId(0), fenced(Fencing::ResourceAndStonith));
    bench.packet(WORD);
    assert_eq!(bench.close_dropped(), None);
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
}

#[test]
fn a_refusal_nobody_has_asked_for_changes_nothing() {
    let mut bench = secondary(DiskState::UpToDate);
    bench.packet(NO_WORD);
    assert_eq!(bench.close_dropped(), None);
    assert_eq!(
        bench.connection().connection_state,
        ConnectionState::Connected
    );
}

#[test]
fn a_secondary_that_gets_no_word_leaves_with_its_data() {
    let mut bench = secondary(DiskState::UpToDate);
    bench.command(DISCONNECT);
    bench.packet(NO_WORD);
    bench.write_metadata();
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Commanded));
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
}

/// It was promised that nothing new begins, and that what has been answered is here.
#[test]
fn a_primary_whose_disk_fails_or_whose_io_is_suspended_takes_nothing_for_promised() {
    for fails in [true, false] {
        let mut bench = stonith();
        bench.packet(Packet::Leave);
        assert_eq!(bench.on_disk(FLUSH), 1);
        if fails {
            bench.disk(FLUSH, Err(DiskError::Io));
        } else {
            bench.command(Command::SuspendIo);
            bench.disk(FLUSH, Ok(()));
        }
        let refused = bench.sent_so_far().any(|packet| *packet == NO_WORD);
        assert!(fails || refused);
        bench.peer_acks();
        assert!(!bench.sent().contains(&WORD));
        bench.command(Command::ResumeIo);
        assert_ne!(bench.disk_state(), DiskState::Outdated);
    }
}

#[test]
fn a_parting_that_takes_too_long_is_given_up_and_clients_go_on() {
    let mut bench = stonith();
    bench.write(0);
    bench.write_metadata();
    bench.packet(Packet::Leave);
    let held = bench.write(8192);
    for _ in 0..39 {
        bench.wait_ms(100);
        bench.packet(Packet::Ping { id: 1 });
    }
    let refused = |bench: &Bench| bench.sent_so_far().any(|packet| *packet == NO_WORD);
    assert!(!refused(&bench));
    bench.wait_ms(200);
    assert!(refused(&bench));
    assert_eq!(bench.close_dropped(), None);
    for _ in 0..2 {
        bench.disk(DiskRequest::Write { fua: false }, Ok(()));
    }
    bench.peer_acks();
    assert_eq!(bench.answer(held), Some(Ok(())));
}
