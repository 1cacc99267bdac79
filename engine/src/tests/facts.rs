//! What the hands ask of a resource between events.

use rbd_protocol::ids::{ByteRange, GenerationId, NodeId, VolumeNumber};
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{DiskState, Role};

use super::{Bench, GENERATION, PEER, VOLUME, config, image};
use crate::{
    Action, DiskRequest, Event, Handler, HandlerResult, LinkLoss, RequestError, RequestId,
    RequestKind, VolumeFacts,
};

#[test]
fn a_volume_is_described_only_while_it_can_be_served() {
    let bench = Bench::in_sync();
    let facts = VolumeFacts {
        size_bytes: 64 << 20,
        block_bytes: 512,
        generation: GENERATION,
        is_overtaken: false,
    };
    assert_eq!(bench.engine.volume_facts(VOLUME), Some(facts));
    assert_eq!(bench.engine.volume_facts(VolumeNumber(9)), None);
    let mut behind = image();
    behind.superblock.flags.outdated = true;
    let bench = Bench::alone(config(), behind);
    assert_eq!(bench.engine.volume_facts(VOLUME), None);
    let bench = Bench::bare(config());
    assert_eq!(bench.engine.volume_facts(VOLUME), None);
}

fn is_overtaken(bench: &Bench) -> Option<bool> {
    let facts = bench.engine.volume_facts(VOLUME);
    facts.map(|facts| facts.is_overtaken)
}

#[test]
fn it_is_known_whether_another_node_has_had_clients_meanwhile() {
    let mut bench = Bench::in_sync();
    assert_eq!(is_overtaken(&bench), Some(false));
    for role in [Role::Primary, Role::Secondary] {
        bench.packet(Packet::State {
            tenure: 7,
            role,
            disks: alloc::vec![(VOLUME, DiskState::UpToDate)],
        });
        assert_eq!(is_overtaken(&bench), Some(true));
    }
}

#[test]
fn a_survivor_of_the_same_generation_has_gone_on_with_nobody() {
    for (generation, overtaken) in [(GENERATION, false), (GenerationId(0x9000), true)] {
        let mut bench = Bench::alone(config(), image());
        bench.meet(|hello| {
            let volume = &mut hello.volumes[0];
            volume.current = generation;
            volume.bitmap = GENERATION;
            volume.dirty_blocks = 1;
        });
        let volume = VOLUME;
        bench.packet(Packet::BitmapEnd { volume, generation });
        bench.write_metadata();
        bench.flush_all();
        assert_eq!(bench.disk_state(), DiskState::UpToDate);
        assert_eq!(is_overtaken(&bench), Some(overtaken));
    }
}

#[test]
fn the_primary_peer_is_known_as_long_as_it_is_connected() {
    let mut bench = Bench::in_sync();
    assert_eq!(bench.engine.primary_peer(), None);
    bench.packet(Packet::State {
        tenure: 7,
        role: Role::Primary,
        disks: alloc::vec![(VOLUME, DiskState::UpToDate)],
    });
    assert_eq!(bench.engine.primary_peer(), Some(PEER));
    bench.link_down(LinkLoss::Closed);
    assert_eq!(bench.engine.primary_peer(), None);
}

#[test]
fn room_for_a_peers_writes_shrinks_until_they_are_on_the_disk() {
    let mut bench = Bench::in_sync();
    let empty = bench.engine.link_room(PEER);
    bench.packet(Packet::Write {
        id: 1,
        volume: VOLUME,
        range: ByteRange::new(0, 8192),
        fua: false,
        place: Default::default(),
    });
    let room = bench.engine.link_room(PEER);
    assert_eq!(
        (empty.requests - room.requests, empty.bytes - room.bytes),
        (1, 8192)
    );
    assert_eq!(bench.engine.link_room(NodeId(9)), empty, "it is not theirs");
    bench.disk(DiskRequest::Write { fua: false }, Ok(()));
    assert_eq!(bench.engine.link_room(PEER), empty);
}

#[test]
fn room_for_clients_shrinks_until_they_are_answered() {
    let mut bench = Bench::primary();
    let empty = bench.engine.room();
    let read = bench.request(RequestKind::Read, ByteRange::new(0, 4096));
    assert_eq!(bench.engine.room().requests, empty.requests - 1);
    bench.disk(DiskRequest::Read, Ok(()));
    assert_eq!(bench.answer(read), Some(Ok(())));
    assert_eq!(bench.engine.room(), empty);
}

#[test]
fn requests_that_make_no_sense_are_answered_and_leave_no_trace() {
    let mut bench = Bench::primary();
    let empty = bench.engine.room();
    let range = ByteRange::new(0, 4096);
    let impossible = [
        (VolumeNumber(9), RequestKind::Read, range),
        (VOLUME, RequestKind::Write { fua: false }, range),
        (VOLUME, RequestKind::Read, ByteRange::new(1, 512)),
        (VOLUME, RequestKind::Read, ByteRange::new(64 << 20, 512)),
        (VOLUME, RequestKind::Read, ByteRange::new(0, 0)),
        (
            VOLUME,
            RequestKind::Read,
            ByteRange::new(u64::MAX - 511, 512),
        ),
    ];
    for (name, (volume, kind, range)) in (1000..).zip(impossible) {
        let id = RequestId(name);
        bench.tell(Event::Request {
            id,
            volume,
            kind,
            range,
            data: None,
        });
        let answer = bench.answer(id);
        assert_eq!(
            answer,
            Some(Err(RequestError::Invalid)),
            "{kind:?} {range:?}"
        );
        assert_eq!(bench.engine.room(), empty);
    }
}

#[test]
fn completions_nobody_waits_for_are_ignored() {
    let mut bench = Bench::primary();
    let write = bench.write(0);
    let id = crate::OperationId(1 << 40);
    bench.tell(Event::DiskDone {
        id,
        result: Ok(None),
    });
    bench.tell(Event::MetaDone { id, result: Ok(()) });
    bench.tell(Event::HandlerDone {
        id,
        result: HandlerResult::Failed,
    });
    assert_eq!(bench.answer(write), None);
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
}

#[test]
fn links_of_nobody_are_ignored() {
    let mut bench = Bench::in_sync();
    let (peer, link) = (NodeId(9), crate::LinkId(77));
    bench.tell(Event::LinkUp { peer, link });
    bench.tell(Event::LinkDown {
        peer,
        link,
        loss: LinkLoss::Closed,
    });
    bench.tell(Event::LinkDown {
        peer: PEER,
        link,
        loss: LinkLoss::Closed,
    });
    let connected = rbd_protocol::state::ConnectionState::Connected;
    assert_eq!(bench.connection().connection_state, connected);
}

#[test]
fn handlers_are_told_who_is_up_to_date_and_their_failures_are_reported() {
    let mut config = config();
    config.handlers = [Handler::Disconnected]
        .map(|handler| (handler.name().into(), "true".into()))
        .into();
    let mut bench = Bench::in_sync_as(config);
    let ends = [
        (HandlerResult::Exited(0), None),
        (
            HandlerResult::Exited(3),
            Some("handler disconnected exited with 3"),
        ),
        (
            HandlerResult::Failed,
            Some("handler disconnected failed or did not end in time"),
        ),
    ];
    for (result, report) in ends {
        bench.link_down(LinkLoss::Closed);
        let run = bench.asked.iter().find_map(|action| match action {
            Action::RunHandler {
                id,
                handler: Handler::Disconnected,
                peer: Some(PEER),
                facts,
                ..
            } => Some((*id, *facts)),
            _ => None,
        });
        let (id, facts) = run.expect("it is configured");
        assert_eq!(facts.up_to_date_nodes, 0b01, "the peer is out of reach");
        bench.asked.clear();
        bench.tell(Event::HandlerDone { id, result });
        let told = bench.reports();
        assert_eq!(told, report.into_iter().collect::<alloc::vec::Vec<_>>());
        bench.meet(|_| {});
    }
}

#[test]
fn every_handler_has_a_name_of_its_own() {
    let mut names: alloc::vec::Vec<&str> = Handler::ALL.map(Handler::name).into();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Handler::ALL.len());
    assert_eq!(
        Handler::PrimaryOnInconsistentDegraded.name(),
        "pri-on-incon-degr"
    );
}
