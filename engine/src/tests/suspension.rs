//! I/O that is suspended by command, or for want of data; data declared behind by command.

use alloc::boxed::Box;

use rbd_protocol::control::{RefusalCode, ResourceConfig};
use rbd_protocol::ids::ByteRange;
use rbd_protocol::peer::Packet;
use rbd_protocol::state::DiskState;

use super::diskless::{failed, whole};
use super::{Bench, config, image};
use crate::{Command, DiskError, DiskRequest, LinkLoss, RequestError, RequestKind};

const WRITE: DiskRequest = DiskRequest::Write { fua: false };

fn read(bench: &mut Bench) -> crate::RequestId {
    bench.request(RequestKind::Read, ByteRange::new(0, 4096))
}

#[test]
fn suspended_requests_wait_and_go_on_with_resume_io() {
    let mut bench = Bench::primary();
    let before = read(&mut bench);
    bench.command(Command::SuspendIo);
    assert!(bench.engine.status(bench.now).suspended.user);
    assert_eq!(bench.reports(), ["I/O is suspended: user"]);
    bench.disk(DiskRequest::Read, Ok(()));
    let write = bench.write(0);
    let flush = bench.flush();
    assert_eq!(bench.on_disk(WRITE) + bench.on_disk(DiskRequest::Flush), 0);
    for request in [before, write, flush] {
        assert_eq!(
            bench.answer(request),
            None,
            "not even what was under way (G4)"
        );
    }
    bench.asked.clear();
    bench.command(Command::ResumeIo);
    assert!(bench.reports().contains(&"I/O goes on"));
    assert_eq!(bench.answer(before), Some(Ok(())));
    bench.write_metadata();
    assert_eq!(
        (bench.on_disk(WRITE), bench.on_disk(DiskRequest::Flush)),
        (1, 1)
    );
}

#[test]
fn what_could_not_be_read_while_io_was_suspended_is_read_anew() {
    let mut bench = Bench::primary();
    bench.link_down(LinkLoss::Closed);
    bench.write_metadata();
    let read = read(&mut bench);
    bench.command(Command::SuspendIo);
    bench.disk(DiskRequest::Read, Err(DiskError::Io));
    assert_eq!(bench.on_disk(DiskRequest::Read), 0);
    bench.command(Command::ResumeIo);
    assert_eq!(bench.answer(read), None);
    assert!(bench.disk(DiskRequest::Read, Ok(())));
    assert_eq!(bench.answer(read), Some(Ok(())));
}

/// A Primary with requests that wait for data, whose disk has just failed.
fn without_data() -> Bench {
    let mut config = config();
    config.options.suspend_without_data = true;
    let mut bench = Bench::primary_as(config);
    bench.flush();
    bench.disk(DiskRequest::Flush, Err(DiskError::Io));
    assert_eq!(bench.disk_state(), DiskState::Diskless);
    bench
}

#[test]
fn without_data_requests_wait_if_so_configured_until_they_are_given_up() {
    let mut bench = without_data();
    assert!(bench.engine.status(bench.now).suspended.no_data);
    let waiting = [read(&mut bench), bench.write(0), bench.flush()];
    for request in waiting {
        assert_eq!(bench.answer(request), None);
    }
    bench.command(Command::ResumeIo);
    for request in waiting {
        assert_eq!(bench.answer(request), Some(Err(RequestError::Io)));
    }
    assert!(!bench.engine.status(bench.now).suspended.no_data);
}

#[test]
fn without_data_requests_fail_if_so_configured_while_they_wait() {
    let mut bench = without_data();
    let waiting = read(&mut bench);
    bench.wait_ms(10_000); // for the peer, which does not come back
    assert_eq!(bench.answer(waiting), None);
    let changed: ResourceConfig = config();
    bench.command(Command::Configure(Box::new(changed)));
    assert_eq!(bench.answer(waiting), Some(Err(RequestError::Io)));
}

#[test]
fn requests_that_wait_for_a_peer_to_serve_them_count_as_suspended() {
    let suspended = |bench: &Bench| bench.engine.status(bench.now).suspended.no_data;
    let (mut bench, _) = failed();
    assert!(
        suspended(&bench),
        "clients see no error: this is no failure"
    );
    let own = bench.relink().expect("a greeting");
    bench.packet(Packet::Hello(Box::new(whole(&own))));
    assert!(!suspended(&bench), "the peer serves them");
    let (mut bench, write) = failed();
    bench.wait_ms(10_000);
    assert_eq!(bench.answer(write), Some(Err(RequestError::Io)));
    assert!(!suspended(&bench), "they see errors");
}

#[test]
fn a_resume_on_a_primary_whose_peer_is_there_overrides_nothing() {
    let mut bench = Bench::primary();
    bench.command(Command::ResumeIo);
    assert!(bench.reports().is_empty());
}

#[test]
fn data_is_declared_behind_only_by_a_secondary_without_a_connection() {
    let refused = |bench: &mut Bench| {
        let call = bench.command(Command::Outdate);
        bench.refusal(call).code
    };
    assert_eq!(
        refused(&mut Bench::primary()),
        RefusalCode::StateNoUpToDateData
    );
    assert_eq!(
        refused(&mut Bench::in_sync()),
        RefusalCode::StateOutdatedWhileConnected
    );
    assert_eq!(
        refused(&mut Bench::bare(config())),
        RefusalCode::StateDiskless
    );
    let mut torn = image();
    torn.superblock.flags.consistent = false;
    assert_eq!(
        refused(&mut Bench::alone(config(), torn)),
        RefusalCode::StateLowerThanOutdated
    );
    let mut greeting = Bench::alone(config(), image());
    greeting.link_up();
    assert_eq!(refused(&mut greeting), RefusalCode::StateTransient);
}

#[test]
fn one_such_command_at_a_time_and_not_while_the_role_changes() {
    let mut bench = Bench::in_sync();
    bench.link_down(LinkLoss::Closed);
    let first = bench.command(Command::Outdate);
    let second = bench.command(Command::Outdate);
    assert_eq!(bench.refusal(second).code, RefusalCode::StateTransient);
    assert_eq!(bench.reply(first), None);
    let mut bench = Bench::in_sync();
    bench.command(Command::Promote { force: false });
    let call = bench.command(Command::Outdate);
    assert_eq!(bench.refusal(call).code, RefusalCode::StateTransient);
}

#[test]
fn a_disk_that_fails_while_it_is_declared_behind_ends_the_command() {
    let mut bench = Bench::in_sync();
    bench.link_down(LinkLoss::Closed);
    let call = bench.command(Command::Outdate);
    bench.fail_metadata();
    assert_eq!(bench.refusal(call).code, RefusalCode::StateDiskless);
    assert_eq!(bench.disk_state(), DiskState::Diskless);
}

#[test]
fn data_declared_behind_is_not_promoted_without_force() {
    let mut behind = image();
    behind.superblock.flags.outdated = true;
    let mut bench = Bench::alone(config(), behind);
    assert_eq!(bench.disk_state(), DiskState::Outdated);
    let call = bench.command(Command::Promote { force: false });
    let refusal = bench.refusal(call);
    assert_eq!(refusal.code, RefusalCode::StateNoUpToDateData);
    assert!(refusal.help.contains("--force"), "{refusal:?}");
}
