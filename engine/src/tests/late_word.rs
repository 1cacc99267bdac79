//! What is heard late counts at once: of newer data, of a peer that has everything, of larger
//! blocks.

use alloc::boxed::Box;

use rbd_protocol::control::Fencing;
use rbd_protocol::ids::ByteRange;
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{DiskState, Role};

use super::attach::{being_filled, fill};
use super::diskless::{SHARED, done, failed, remote_write, whole};
use super::fencing::fenced;
use super::resync::NEWER;
use super::{Bench, GENERATION, VOLUME, config, image};
use crate::{Command, DiskError, DiskRequest, Handler, RequestError, RequestKind};

const WRITE: DiskRequest = DiskRequest::Write { fua: false };
const PROMOTE: Command = Command::Promote { force: false };

/// Else it would fence the peer of whose newer data it has just heard, and go on with its own.
#[test]
fn a_promotion_under_way_does_not_hide_that_a_peer_has_newer_data() {
    for is_first in [true, false] {
        let mut config = fenced(Fencing::ResourceAndStonith);
        let name = Handler::BeforeResyncTarget.name();
        config.handlers.push((name.into(), "true".into()));
        let mut kept_power = image();
        kept_power.superblock.boot_id = 7;
        let mut bench = Bench::alone(config, kept_power);
        bench.write_metadata();
        bench.link_up();
        bench.write_metadata();
        let mut theirs = bench.greeting();
        theirs.tentative = false;
        theirs.incarnation = 99;
        theirs.volumes[0].disk = DiskState::UpToDate;
        theirs.volumes[0].current = NEWER;
        theirs.volumes[0].bitmap = GENERATION;
        let early = is_first.then(|| bench.command(PROMOTE));
        bench.packet(Packet::Hello(Box::new(theirs)));
        bench.write_metadata();
        assert_eq!(bench.disk_state(), DiskState::Outdated, "(G3)");
        let call = early.unwrap_or_else(|| bench.command(PROMOTE));
        bench.write_metadata();
        assert_eq!(bench.reply(call), Some(false), "first: {is_first}");
        assert!(!bench.handlers().contains(&Handler::FencePeer));
        assert_eq!(bench.engine.role(), Role::Secondary);
    }
}

#[test]
fn clients_go_on_as_soon_as_the_peer_says_that_it_has_everything() {
    let mut config = config();
    config.options.suspend_without_data = true;
    let mut bench = Bench::primary_as(config);
    let write = bench.write(0);
    bench.write_metadata();
    bench.disk(WRITE, Err(DiskError::Io));
    let own = bench.relink().expect("a greeting");
    let mut theirs = whole(&own);
    theirs.volumes[0].disk = DiskState::Consistent;
    bench.packet(Packet::Hello(Box::new(theirs)));
    assert_eq!(bench.answer(write), None);
    bench.packet(Packet::State {
        role: Role::Secondary,
        tenure: 8,
        disks: alloc::vec![(VOLUME, DiskState::UpToDate)],
    });
    let id = remote_write(&mut bench);
    done(&mut bench, id, SHARED);
    assert_eq!(bench.answer(write), Some(Ok(())));
}

#[test]
fn only_what_does_not_fit_the_peers_disk_is_turned_away() {
    let (mut bench, whole_block) = failed();
    let kind = RequestKind::Write { fua: false };
    let part = bench.request(kind, ByteRange::new(8192 + 512, 512));
    let read = bench.request(RequestKind::Read, ByteRange::new(16_384 + 512, 512));
    let own = bench.relink().expect("a greeting");
    let mut theirs = whole(&own);
    theirs.volumes[0].block_bytes = 4096;
    bench.packet(Packet::Hello(Box::new(theirs)));
    for small in [part, read] {
        assert_eq!(bench.answer(small), Some(Err(RequestError::Invalid)));
    }
    assert_eq!(bench.answer(whole_block), None);
    let id = remote_write(&mut bench);
    done(&mut bench, id, SHARED);
    assert_eq!(bench.answer(whole_block), Some(Ok(())));
}

/// Nothing else may happen for long, and the disk would not count as whole.
#[test]
fn a_resync_ends_with_the_answer_to_a_read_it_has_waited_for() {
    let mut bench = being_filled();
    bench.request(RequestKind::Read, ByteRange::new(0, 4096));
    let (id, range) = bench
        .sent_so_far()
        .find_map(asked_to_read)
        .expect("the peer is asked");
    fill(&mut bench);
    assert_eq!(
        bench.on_disk(DiskRequest::Flush),
        0,
        "a read is under way at the peer"
    );
    let volume = VOLUME;
    bench.packet(Packet::RemoteData { id, volume, range });
    assert_eq!(bench.on_disk(DiskRequest::Flush), 1);
}

fn asked_to_read(packet: &Packet) -> Option<(u64, ByteRange)> {
    match packet {
        Packet::RemoteRead { id, range, .. } => Some((*id, *range)),
        _ => None,
    }
}
