//! What a disk's errors and silence lead to, as configured.

use alloc::boxed::Box;

use rbd_protocol::control::{OnIoError, ResourceConfig};
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{DiskState, Role};

use super::{Bench, VOLUME, config};
use crate::{Command, DiskError, DiskRequest, Handler, LinkLoss, RequestError};

const WRITE: DiskRequest = DiskRequest::Write { fua: false };

fn configured(on_error: OnIoError, timeout_ms: u32) -> ResourceConfig {
    let mut config = config();
    let trouble = &mut config.volumes[0].on_disk_trouble;
    (trouble.on_error, trouble.timeout_ms) = (on_error, timeout_ms);
    let handler = ("local-io-error".into(), "/bin/true".into());
    config.handlers.push(handler);
    config
}

/// A Primary whose peer is out of reach, and that has recorded this.
fn alone(on_error: OnIoError) -> Bench {
    let mut bench = Bench::primary_as(configured(on_error, 0));
    bench.link_down(LinkLoss::Closed);
    bench.write(0);
    bench.write_metadata();
    bench.disk(WRITE, Ok(()));
    bench
}

#[test]
fn the_handler_is_called_only_where_the_policy_says_so() {
    let policies = [OnIoError::Detach, OnIoError::PassOn, OnIoError::CallHandler];
    for policy in policies {
        let mut bench = Bench::primary_as(configured(policy, 0));
        bench.write(0);
        bench.write_metadata();
        bench.disk(WRITE, Err(DiskError::Io));
        assert_eq!(bench.disk_state(), DiskState::Diskless, "{policy:?}");
        let called = bench.handlers().contains(&Handler::LocalIoError);
        assert_eq!(called, policy == OnIoError::CallHandler);
    }
}

#[test]
fn the_only_copy_is_let_go_after_a_failed_write_unless_errors_are_passed_on() {
    for policy in [OnIoError::Detach, OnIoError::PassOn] {
        let mut bench = alone(policy);
        let before = bench.out_of_sync_bytes();
        let write = bench.write(8192);
        bench.write_metadata();
        bench.disk(WRITE, Err(DiskError::Io));
        assert_eq!(bench.answer(write), Some(Err(RequestError::Io)));
        let stays = policy == OnIoError::PassOn;
        let state = bench.disk_state();
        assert_eq!(state == DiskState::UpToDate, stays, "{state:?}");
        if stays {
            assert_eq!(bench.out_of_sync_bytes(), before + 4096);
            let write = bench.write(8192);
            bench.write_metadata();
            bench.disk(WRITE, Ok(()));
            assert_eq!(bench.answer(write), Some(Ok(())), "it is used on");
        }
    }
}

#[test]
fn a_full_disk_that_is_the_only_copy_is_a_write_error() {
    let mut bench = alone(OnIoError::Detach);
    let write = bench.write(8192);
    bench.write_metadata();
    bench.disk(WRITE, Err(DiskError::NoSpace));
    assert_eq!(bench.answer(write), Some(Err(RequestError::NoSpace)), "H5");
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
}

/// The peer comes back, and is being given what it lacks.
fn resync(bench: &mut Bench) {
    bench.meet(|hello| {
        hello.role = Role::Secondary;
        let volume = &mut hello.volumes[0];
        volume.current = super::GENERATION;
        volume.history.clear();
        volume.bitmap = Default::default();
        volume.disk = DiskState::Outdated;
        volume.dirty_blocks = 0;
    });
    let (volume, generation) = (VOLUME, super::GENERATION);
    bench.packet(Packet::BitmapEnd { volume, generation });
    bench.write_metadata();
}

/// The target has everything it knows of: the rest is agreed on anew.
fn end_resync(bench: &mut Bench) {
    let generation = bench.engine.status(bench.now).devices[0].current_generation;
    let volume = VOLUME;
    bench.packet(Packet::ResyncDone { volume, generation });
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Renegotiate));
}

#[test]
fn a_failed_write_differs_from_what_a_resync_target_has_got() {
    let mut bench = alone(OnIoError::PassOn);
    resync(&mut bench);
    let before = bench.out_of_sync_bytes();
    let write = bench.write(1 << 20);
    bench.write_metadata();
    bench.peer_acks();
    bench.disk(WRITE, Err(DiskError::Io));
    assert_eq!(bench.answer(write), Some(Err(RequestError::Io)));
    assert_eq!(bench.out_of_sync_bytes(), before + 4096);
    end_resync(&mut bench);
}

#[test]
fn so_does_one_that_failed_before_the_resync_and_is_answered_in_it() {
    let mut bench = alone(OnIoError::PassOn);
    let write = bench.write(1 << 20);
    bench.write_metadata();
    bench.command(Command::SuspendIo);
    bench.disk(WRITE, Err(DiskError::Io));
    resync(&mut bench);
    assert_eq!(bench.answer(write), None, "it is frozen");
    bench.command(Command::ResumeIo);
    assert_eq!(bench.answer(write), Some(Err(RequestError::Io)));
    end_resync(&mut bench);
}

#[test]
fn a_disk_that_answers_nothing_is_let_go_where_somebody_else_has_the_data() {
    let mut bench = Bench::primary_as(configured(OnIoError::Detach, 5_000));
    let write = bench.write(0);
    bench.write_metadata();
    bench.wait_ms(4_999);
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    bench.wait_ms(1);
    assert_eq!(bench.disk_state(), DiskState::Diskless);
    let own = bench.relink().expect("a greeting");
    bench.packet(Packet::Hello(Box::new(super::diskless::whole(&own))));
    let id = super::diskless::remote_write(&mut bench);
    super::diskless::done(&mut bench, id, super::diskless::SHARED);
    assert_eq!(bench.answer(write), Some(Ok(())));
}

#[test]
fn a_hanging_disk_of_a_secondary_is_let_go_too() {
    let mut bench = Bench::in_sync_as(configured(OnIoError::Detach, 5_000));
    let (id, volume) = (7, VOLUME);
    bench.packet(Packet::Flush { id, volume });
    bench.wait_ms(5_000);
    assert_eq!(bench.disk_state(), DiskState::Diskless);
}

#[test]
fn a_peer_that_is_behind_is_no_reason_to_let_go_of_the_disk_of_a_secondary() {
    let mut bench = Bench::in_sync_as(configured(OnIoError::Detach, 5_000));
    bench.packet(Packet::State {
        role: Role::Secondary,
        tenure: 7,
        disks: alloc::vec![(VOLUME, DiskState::Inconsistent)],
    });
    let (id, volume) = (7, VOLUME);
    bench.packet(Packet::Flush { id, volume });
    bench.wait_ms(5_000);
    assert_ne!(bench.disk_state(), DiskState::Diskless);
}

#[test]
fn the_only_copy_is_waited_for_and_so_is_any_without_a_limit() {
    let mut alone = Bench::primary_as(configured(OnIoError::Detach, 5_000));
    alone.link_down(LinkLoss::Closed);
    alone.write_metadata();
    let unlimited = Bench::primary_as(configured(OnIoError::Detach, 0));
    for mut bench in [alone, unlimited] {
        let write = bench.write(0);
        bench.write_metadata();
        bench.wait_ms(4_000);
        bench.wait_ms(4_000);
        assert_eq!(bench.disk_state(), DiskState::UpToDate);
        assert!(bench.disk(WRITE, Ok(())));
        bench.peer_acks();
        bench.write_metadata();
        assert_eq!(bench.answer(write), Some(Ok(())));
    }
}

#[test]
fn a_disk_that_answers_slowly_is_not_one_that_hangs() {
    let mut bench = Bench::primary_as(configured(OnIoError::Detach, 5_000));
    for _ in 0..5 {
        bench.write(0);
        bench.write_metadata();
        bench.wait_ms(3_000);
        bench.disk(WRITE, Ok(()));
        bench.flush_all();
    }
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
}

#[test]
fn a_changed_limit_counts_at_once() {
    let mut bench = Bench::primary_as(configured(OnIoError::Detach, 0));
    bench.write(0);
    bench.write_metadata();
    bench.wait_ms(4_000);
    let changed = Box::new(configured(OnIoError::CallHandler, 4_000));
    bench.command(Command::Configure(changed));
    bench.wait_ms(1);
    assert_eq!(bench.disk_state(), DiskState::Diskless);
    assert!(bench.handlers().contains(&Handler::LocalIoError));
}
