//! Letting go of a disk by command.

use rbd_protocol::control::RefusalCode;
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{DiskState, Role};

use super::{Bench, PEER, VOLUME};
use crate::{Action, Command, DiskRequest, Event, LinkLoss};

const WRITE: DiskRequest = DiskRequest::Write { fua: false };
const FLUSH: DiskRequest = DiskRequest::Flush;

const DETACH: Command = Command::Detach {
    volume: VOLUME,
    force: false,
};

fn acknowledge(bench: &mut Bench) {
    for packet in bench.sent() {
        match packet {
            Packet::Write { id, volume, .. } => bench.packet(Packet::WriteAck { id, volume }),
            Packet::Flush { id, volume } => bench.packet(Packet::FlushAck { id, volume }),
            _ => {}
        }
    }
}

fn is_released(bench: &Bench) -> bool {
    let released = |action: &Action<u32>| matches!(action, Action::ReleaseDisk { .. });
    bench.asked.iter().any(released)
}

#[test]
fn what_is_in_flight_ends_first_and_the_rest_waits() {
    let mut bench = Bench::primary();
    let before = bench.write(0);
    bench.write_metadata();
    let call = bench.command(DETACH);
    let after = bench.write(8192);
    assert_eq!(bench.on_disk(WRITE), 1);
    bench.disk(WRITE, Ok(()));
    acknowledge(&mut bench);
    assert_eq!(bench.answer(before), Some(Ok(())));
    assert_eq!(bench.reply(call), None, "nothing is flushed yet");
    bench.disk(FLUSH, Ok(()));
    acknowledge(&mut bench);
    assert!(
        !is_released(&bench),
        "its metadata does not say that it is behind"
    );
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(true));
    assert!(is_released(&bench));
    assert_eq!(bench.disk_state(), DiskState::Diskless);
    assert_eq!(bench.answer(after), None, "it waits for the peer");
    assert_eq!(bench.engine.role(), Role::Primary);
}

#[test]
fn the_last_copy_in_use_is_let_go_only_by_force() {
    let mut bench = Bench::primary();
    bench.tell(Event::LinkDown {
        peer: PEER,
        link: bench.link,
        loss: LinkLoss::Closed,
    });
    let call = bench.command(DETACH);
    let refusal = bench.refusal(call);
    assert_eq!(refusal.code, RefusalCode::StateNoUpToDateData);
    assert!(refusal.help.contains("--force"), "{refusal:?}");
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    let call = bench.command(Command::Detach {
        volume: VOLUME,
        force: true,
    });
    assert_eq!(bench.reply(call), Some(true));
    assert_eq!(bench.disk_state(), DiskState::Diskless);
}

#[test]
fn a_peer_lost_on_the_way_ends_it_and_the_disk_is_used_on() {
    let mut bench = Bench::primary();
    let call = bench.command(DETACH);
    let after = bench.write(8192);
    bench.tell(Event::LinkDown {
        peer: PEER,
        link: bench.link,
        loss: LinkLoss::Closed,
    });
    bench.disk(FLUSH, Ok(()));
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(false));
    assert!(bench.disk(WRITE, Ok(())));
    bench.write_metadata();
    assert_eq!(bench.answer(after), Some(Ok(())));
}

#[test]
fn a_disk_that_answers_nothing_is_let_go_by_force() {
    let mut bench = Bench::primary();
    bench.write(0);
    bench.write_metadata();
    let waits = bench.command(DETACH);
    assert_eq!(bench.reply(waits), None);
    let forced = bench.command(Command::Detach {
        volume: VOLUME,
        force: true,
    });
    assert_eq!(
        (bench.reply(forced), bench.reply(waits)),
        (Some(true), Some(true))
    );
    assert!(bench.disk(WRITE, Ok(())), "late, and for nobody");
    assert_eq!(bench.disk_state(), DiskState::Diskless);
}

#[test]
fn a_secondary_takes_nothing_from_its_peer_meanwhile() {
    let mut bench = Bench::in_sync();
    let call = bench.command(DETACH);
    assert!(bench.relink().is_none(), "it has a disk it is letting go");
    bench.disk(FLUSH, Ok(()));
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(true));
    assert!(is_released(&bench));
}

#[test]
fn a_volume_without_a_disk_is_detached_already() {
    let mut bench = Bench::in_sync();
    for _ in 0..2 {
        let call = bench.command(Command::Detach {
            volume: VOLUME,
            force: true,
        });
        assert_eq!(bench.reply(call), Some(true));
    }
}

#[test]
fn a_disk_that_is_let_go_by_force_under_a_primary_is_told_that_it_is_behind() {
    for connected in [true, false] {
        let mut bench = Bench::primary();
        if !connected {
            bench.link_down(LinkLoss::Closed);
        }
        bench.command(Command::Detach {
            volume: VOLUME,
            force: true,
        });
        bench.write_metadata();
        let outdated = bench.superblock.expect("written").flags.outdated;
        assert_eq!(outdated, connected, "the only copy is not given up (D9)");
    }
}
