//! A Secondary and a Primary part in order, with fencing: nobody is fenced, nothing answered is
//! given up, and nobody waits for ever.

use alloc::vec;
use alloc::vec::Vec;

use rbd_protocol::control::Fencing;
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{ConnectionState, DiskState, Role};

use super::fencing::{fenced, stonith};
use super::{Bench, VOLUME};
use crate::{Command, DiskRequest, LinkLoss};

/// A Secondary in sync with a Primary.
fn secondary() -> Bench {
    let mut bench = Bench::in_sync_as(fenced(Fencing::ResourceAndStonith));
    bench.packet(Packet::State {
        role: Role::Primary,
        tenure: 7,
        disks: vec![(VOLUME, DiskState::UpToDate)],
    });
    bench.asked.clear();
    bench
}

/// A Primary whose peer has just said that it wants to go, with a write on its way.
fn let_go() -> (Bench, crate::RequestId) {
    let mut bench = stonith();
    let write = bench.write(0);
    bench.write_metadata();
    bench.packet(Packet::Leave);
    (bench, write)
}

/// Ends what is in flight and lets everything be flushed; returns what was sent then.
pub(super) fn drain(bench: &mut Bench) -> Vec<Packet> {
    bench.disk(DiskRequest::Write { fua: false }, Ok(()));
    bench.peer_acks();
    bench.disk(DiskRequest::Flush, Ok(()));
    let mut said = Vec::new();
    for packet in bench.sent() {
        match packet {
            Packet::Flush { id, volume } => bench.packet(Packet::FlushAck { id, volume }),
            other => said.push(other),
        }
    }
    said.extend(bench.sent());
    said
}

#[test]
fn a_primary_gives_its_word_when_all_it_has_answered_is_durable() {
    let (mut bench, write) = let_go();
    bench.disk(DiskRequest::Write { fua: false }, Ok(()));
    bench.peer_acks();
    assert_eq!(bench.answer(write), Some(Ok(())));
    let word = Packet::LeaveReply { outdate: true };
    assert!(!bench.sent_so_far().any(|packet| *packet == word));
    assert_eq!(bench.on_disk(DiskRequest::Flush), 1);
    bench.peer_acks();
    assert!(!bench.sent_so_far().any(|packet| *packet == word), "A1");
    bench.disk(DiskRequest::Flush, Ok(()));
    assert!(bench.sent().contains(&word));
}

#[test]
fn a_secondary_asks_before_it_leaves_a_primary() {
    let mut bench = secondary();
    bench.command(Command::Disconnect {
        peer: None,
        force: false,
    });
    assert_eq!(bench.sent(), [Packet::Leave]);
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    bench.packet(Packet::LeaveReply { outdate: true });
    assert_eq!(bench.disk_state(), DiskState::Outdated);
    assert!(
        !bench.sent().contains(&Packet::Outdated),
        "not durable (G3)"
    );
    bench.write_metadata();
    let sent = bench.sent();
    let said = sent.iter().position(|packet| *packet == Packet::Outdated);
    let gone = sent.iter().position(|packet| *packet == Packet::Goodbye);
    assert!(said.is_some() && said < gone, "{sent:?}");
    assert_eq!(
        bench.connection().connection_state,
        ConnectionState::StandAlone
    );
    assert_eq!(bench.disk_state(), DiskState::Outdated);
}

#[test]
fn a_secondary_that_is_stopped_asks_too() {
    let mut bench = secondary();
    bench.command(Command::Stop);
    assert_eq!(bench.sent(), [Packet::Leave]);
    bench.packet(Packet::LeaveReply { outdate: true });
    bench.write_metadata();
    assert!(bench.sent().contains(&Packet::Outdated));
}

#[test]
fn nobody_asks_without_a_policy_or_a_primary() {
    for (policy, role) in [
        (Fencing::DontCare, Role::Primary),
        (Fencing::ResourceAndStonith, Role::Secondary),
    ] {
        let mut bench = Bench::in_sync_as(fenced(policy));
        bench.packet(Packet::State {
            role,
            tenure: 7,
            disks: vec![(VOLUME, DiskState::UpToDate)],
        });
        bench.asked.clear();
        bench.command(Command::Disconnect {
            peer: None,
            force: false,
        });
        assert_eq!(bench.sent(), [Packet::Goodbye]);
        assert_eq!(bench.disk_state(), DiskState::UpToDate);
    }
}

#[test]
fn a_secondary_whose_primary_is_silent_leaves_with_its_data() {
    let mut bench = secondary();
    bench.command(Command::Disconnect {
        peer: None,
        force: false,
    });
    for _ in 0..70 {
        bench.wait_ms(100);
        bench.packet(Packet::Ping { id: 1 });
    }
    assert_eq!(
        bench.connection().connection_state,
        ConnectionState::StandAlone
    );
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
}

#[test]
fn a_secondary_that_loses_the_link_while_it_asks_keeps_its_data_and_stays_away() {
    let mut bench = secondary();
    bench.command(Command::Disconnect {
        peer: None,
        force: false,
    });
    bench.link_down(LinkLoss::Timeout);
    assert_eq!(
        bench.connection().connection_state,
        ConnectionState::StandAlone
    );
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
}

#[test]
fn a_primary_gives_its_word_when_everything_is_durable_and_begins_nothing_new() {
    let (mut bench, write) = let_go();
    let reply = Packet::LeaveReply { outdate: true };
    let is_reply = |packet: &&Packet| **packet == reply;
    assert!(
        !bench.sent_so_far().any(|packet| is_reply(&packet)),
        "a write is in flight"
    );
    bench.peer_acks();
    bench.disk(DiskRequest::Write { fua: false }, Ok(()));
    assert_eq!(bench.answer(write), Some(Ok(())));
    let later = bench.write(4096);
    assert!(bench.disk(DiskRequest::Flush, Ok(())));
    assert!(
        !bench.sent_so_far().any(|packet| is_reply(&packet)),
        "the peer has not flushed"
    );
    bench.peer_acks();
    assert!(bench.sent().contains(&reply));
    assert!(
        !bench.disk(DiskRequest::Write { fua: false }, Ok(())),
        "held"
    );
    bench.packet(Packet::Outdated);
    bench.write_metadata();
    assert!(bench.disk(DiskRequest::Write { fua: false }, Ok(())));
    assert_eq!(bench.answer(later), Some(Ok(())));
    assert!(!bench.is_frozen());
    assert_eq!(bench.peer_disk(), DiskState::Outdated);
    bench.wait_ms(10_000);
    assert_eq!(bench.handler(), None);
}

#[test]
fn a_primary_that_disconnects_has_its_peer_declare_itself_first() {
    let mut bench = stonith();
    bench.command(Command::Disconnect {
        peer: None,
        force: false,
    });
    assert_eq!(drain(&mut bench), [Packet::LeaveReply { outdate: true }]);
    bench.packet(Packet::Outdated);
    bench.write_metadata();
    assert_eq!(
        bench.connection().connection_state,
        ConnectionState::StandAlone
    );
    assert!(!bench.is_frozen());
    assert_eq!(bench.handler(), None);
}

#[test]
fn a_peer_lost_while_it_is_let_go_is_fenced_for_it_may_not_have_declared_itself() {
    let (mut bench, _) = let_go();
    assert!(drain(&mut bench).contains(&Packet::LeaveReply { outdate: true }));
    bench.link_down(LinkLoss::Timeout);
    assert!(bench.is_frozen());
    bench.fence_starts();
}

#[test]
fn a_peer_that_does_not_declare_itself_in_time_is_fenced() {
    let (mut bench, _) = let_go();
    assert!(drain(&mut bench).contains(&Packet::LeaveReply { outdate: true }));
    for _ in 0..41 {
        bench.wait_ms(100);
        bench.packet(Packet::Ping { id: 1 });
    }
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Timeout));
    assert!(bench.is_frozen());
    bench.fence_starts();
}

#[test]
fn a_primary_that_cannot_promise_lets_the_peer_go_as_it_is() {
    let mut bench = stonith();
    bench.command(Command::SuspendIo);
    bench.asked.clear();
    bench.packet(Packet::Leave);
    assert_eq!(bench.sent(), [Packet::LeaveReply { outdate: false }]);
}

#[test]
fn what_nobody_has_asked_for_costs_the_link() {
    let mut bench = stonith();
    bench.packet(Packet::Outdated);
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Protocol));
    let mut bench = stonith();
    bench.packet(Packet::LeaveReply { outdate: true });
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Protocol));
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
}
