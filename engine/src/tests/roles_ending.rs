//! The order in which a node gives up its role and its disk: nothing is said before it is so.

use rbd_protocol::ids::ByteRange;
use rbd_protocol::metadata::Superblock;
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{DiskState, Role};

use super::fencing::stonith;
use super::{Bench, VOLUME};
use crate::{Action, CallId, Command, DiskRequest, LinkLoss};

const WRITE: DiskRequest = DiskRequest::Write { fua: false };
const FLUSH: DiskRequest = DiskRequest::Flush;

const DEMOTE: Command = Command::Demote { force: false };

const DETACH: Command = Command::Detach {
    volume: VOLUME,
    force: false,
};

fn is_released(bench: &Bench) -> bool {
    let released = |action: &Action<u32>| matches!(action, Action::ReleaseDisk { .. });
    bench.asked.iter().any(released)
}

/// Whether the disk says that it was left in order.
fn is_clean(bench: &Bench) -> bool {
    let written = bench.superblock.as_ref();
    written.is_some_and(|superblock| superblock.flags.clean_shutdown)
}

/// Whether the disk says that its node is Primary.
fn says_primary(bench: &Bench) -> bool {
    let written = bench.superblock.as_ref();
    written.expect("it was written").flags.primary
}

/// A Secondary with a write of its Primary on the disk.
fn written_to() -> Bench {
    let mut bench = Bench::in_sync();
    bench.packet(Packet::Write {
        id: 50,
        volume: VOLUME,
        range: ByteRange::new(0, 4096),
        fua: false,
        place: Default::default(),
    });
    bench.write_metadata();
    assert_eq!(bench.on_disk(WRITE), 1);
    bench
}

#[test]
fn a_demotion_waits_for_what_is_in_flight_then_for_both_disks_then_for_its_record() {
    let mut bench = Bench::primary();
    let write = bench.write(0);
    bench.write_metadata();
    let call = bench.command(DEMOTE);
    assert_eq!(bench.on_disk(FLUSH), 0, "what it is to flush is in flight");
    bench.disk(WRITE, Ok(()));
    assert_eq!(bench.on_disk(FLUSH), 0, "the peer has not answered");
    bench.peer_acks();
    assert_eq!(bench.answer(write), Some(Ok(())));
    assert_eq!(bench.on_disk(FLUSH), 1, "(G8)");
    bench.write_metadata();
    assert!(says_primary(&bench));
    bench.disk(FLUSH, Ok(()));
    bench.write_metadata();
    assert!(says_primary(&bench), "the peer has not flushed");
    bench.peer_acks();
    assert!(bench.is_writing_metadata());
    assert_eq!(
        (bench.engine.role(), bench.reply(call)),
        (Role::Primary, None),
        "it is not durable"
    );
    bench.write_metadata();
    assert!(!says_primary(&bench));
    assert_eq!(
        (bench.engine.role(), bench.reply(call)),
        (Role::Secondary, Some(true))
    );
}

#[test]
fn a_frozen_primary_nobody_waits_for_is_demoted() {
    let mut bench = stonith();
    bench.link_down(LinkLoss::Timeout);
    assert!(bench.is_frozen());
    let call = bench.command(DEMOTE);
    bench.flush_all();
    assert_eq!(bench.reply(call), Some(true));
    assert_eq!(bench.engine.role(), Role::Secondary);
}

#[test]
fn a_disk_is_left_clean_when_everything_on_it_is_durable_and_let_go_when_it_says_so() {
    let mut bench = written_to();
    let call = bench.command(Command::Stop);
    bench.close_dropped();
    bench.write_metadata();
    assert_eq!(bench.on_disk(FLUSH), 0, "the write of the peer goes on");
    bench.disk(WRITE, Ok(()));
    assert_eq!(bench.on_disk(FLUSH), 1);
    bench.write_metadata();
    assert!(
        !is_clean(&bench),
        "the cache of the disk holds the write (C8)"
    );
    bench.disk(FLUSH, Ok(()));
    while !is_clean(&bench) {
        assert!(bench.is_writing_metadata() && !is_released(&bench));
        bench.end_metadata();
    }
    assert!(is_released(&bench));
    assert_eq!(bench.reply(call), Some(true));
    assert!(bench.engine.is_stopped());
}

#[test]
fn a_resource_is_not_stopped_before_its_link_is_down() {
    let mut bench = Bench::in_sync();
    let call = bench.command(Command::Stop);
    bench.flush_all();
    assert_eq!(bench.reply(call), None);
    assert!(!bench.engine.is_stopped());
    assert!(!is_released(&bench));
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Commanded));
    bench.flush_all();
    assert_eq!(bench.reply(call), Some(true));
    assert!(is_released(&bench));
}

#[test]
fn a_disk_nobody_writes_to_without_is_not_behind_when_it_is_detached() {
    for (primary, is_behind) in [(false, false), (true, true)] {
        let mut bench = Bench::in_sync();
        if primary {
            bench.packet(Packet::State {
                role: Role::Primary,
                tenure: 8,
                disks: alloc::vec![(VOLUME, DiskState::UpToDate)],
            });
        }
        let call = bench.command(DETACH);
        bench.close_dropped();
        bench.flush_all();
        assert_eq!(bench.reply(call), Some(true));
        let superblock = bench.superblock.as_ref().expect("it was written");
        assert_eq!(superblock.flags.outdated, is_behind);
    }
}

/// Whether it is just being recorded that the disk is behind.
fn is_recording_behind(bench: &Bench) -> bool {
    bench.asked.iter().any(|action| match action {
        Action::Meta { block, .. } => {
            Superblock::decode(&block[..]).is_ok_and(|superblock| superblock.flags.outdated)
        }
        _ => false,
    })
}

/// A Primary that lets its disk go; all that is missing is the record of that.
fn almost_detached() -> (Bench, CallId) {
    let mut bench = Bench::primary();
    let call = bench.command(DETACH);
    bench.disk(FLUSH, Ok(()));
    bench.peer_acks();
    while !is_recording_behind(&bench) {
        assert!(bench.is_writing_metadata());
        bench.end_metadata();
    }
    assert!(
        !is_released(&bench),
        "it does not say yet that it is behind"
    );
    assert_eq!(bench.reply(call), None);
    (bench, call)
}

#[test]
fn a_disk_that_is_kept_after_all_says_again_what_it_is_and_can_be_stopped_in_order() {
    let (mut bench, call) = almost_detached();
    bench.link_down(LinkLoss::Closed);
    bench.write_metadata();
    assert_eq!(bench.reply(call), Some(false), "it is the last copy now");
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    assert!(says_primary(&bench));
    assert!(!bench.superblock.as_ref().expect("written").flags.outdated);
    bench.write(0);
    bench.write_metadata();
    bench.disk(WRITE, Ok(()));
    bench.write_metadata();
    bench.command(Command::Stop);
    assert_eq!(bench.on_disk(FLUSH), 1);
    bench.write_metadata();
    assert!(
        !is_released(&bench),
        "what was written since is not durable"
    );
    bench.flush_all();
    assert!(is_clean(&bench) && is_released(&bench));
}

#[test]
fn a_detach_that_is_given_up_while_the_disk_is_flushed_ends_after_that() {
    let mut bench = Bench::primary();
    let call = bench.command(DETACH);
    assert_eq!(bench.on_disk(FLUSH), 1);
    bench.link_down(LinkLoss::Closed);
    assert_eq!(bench.reply(call), None, "its last checkpoint is under way");
    bench.flush_all();
    assert_eq!(bench.reply(call), Some(false));
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    bench.write(0);
    bench.write_metadata();
    bench.disk(WRITE, Ok(()));
    bench.write_metadata();
    bench.command(Command::Stop);
    assert_eq!(bench.on_disk(FLUSH), 1);
    bench.write_metadata();
    assert!(!is_clean(&bench), "what was written since is not durable");
    bench.flush_all();
    assert!(is_clean(&bench) && is_released(&bench));
}
