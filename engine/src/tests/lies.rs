//! A peer that breaks the protocol: it costs the link, and nothing else.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use rbd_protocol::ids::{ByteRange, GenerationId, VolumeNumber};
use rbd_protocol::peer::{Hello, Packet};
use rbd_protocol::state::{DiskState, Role};

use super::resync::{source, target};
use super::split_brain::{changed, unchanged};
use super::{Bench, GENERATION, PEER, VOLUME, config, image};
use crate::{Event, LinkLoss};

const BLOCK: ByteRange = ByteRange {
    offset: 0,
    length: 4096,
};

/// Beyond the end.
const OUTSIDE: ByteRange = ByteRange {
    offset: 1 << 40,
    length: 4096,
};

fn write(range: ByteRange) -> Packet {
    Packet::Write {
        id: 1,
        volume: VOLUME,
        range,
        fua: false,
        place: Default::default(),
    }
}

fn request(id: u64, range: ByteRange) -> Packet {
    Packet::ResyncRequest {
        id,
        volume: VOLUME,
        range,
    }
}

fn ack(range: ByteRange) -> Packet {
    Packet::ResyncAck {
        id: 1,
        volume: VOLUME,
        range,
    }
}

fn data(range: ByteRange) -> Packet {
    Packet::ResyncData {
        id: 1,
        volume: VOLUME,
        range,
    }
}

fn bitmap() -> Packet {
    Packet::Bitmap {
        volume: VOLUME,
        block: 0,
        words: Box::new([u64::MAX; 504]),
    }
}

fn bitmap_end(generation: GenerationId) -> Packet {
    Packet::BitmapEnd {
        volume: VOLUME,
        generation,
    }
}

fn done(generation: GenerationId) -> Packet {
    Packet::ResyncDone {
        volume: VOLUME,
        generation,
    }
}

fn state(role: Role) -> Packet {
    Packet::State {
        tenure: 7,
        role,
        disks: vec![
            (VOLUME, DiskState::UpToDate),
            (VolumeNumber(9), DiskState::Failed),
        ],
    }
}

fn hello() -> Packet {
    Packet::Hello(Box::new(Bench::alone(config(), image()).first_greeting()))
}

impl Bench {
    fn first_greeting(mut self) -> Hello {
        self.link_up();
        self.write_metadata();
        self.greeting()
    }
}

/// A Secondary that is the source of a resync.
fn secondary_source() -> Bench {
    let mut bench = changed(config());
    bench.meet(unchanged);
    bench
}

/// Sends the packets to a node in this situation; the last of them breaks a rule.
fn breaks_a_rule(situation: fn() -> Bench, packets: Vec<Packet>, rule: &str) {
    let mut bench = situation();
    let (disk, role) = (bench.disk_state(), bench.engine.role());
    let last = packets.len() - 1;
    for (index, packet) in packets.into_iter().enumerate() {
        let text = alloc::format!("{packet:?}");
        bench.packet(packet);
        let reported = bench.reports().iter().any(|report| report.contains(rule));
        assert_eq!(reported, index == last, "{text} breaks '{rule}'");
    }
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Protocol), "{rule}");
    assert_eq!(
        (bench.disk_state(), bench.engine.role()),
        (disk, role),
        "{rule}"
    );
}

#[test]
fn a_second_greeting_and_packets_before_the_first_break_the_protocol() {
    let greeted = || {
        let mut bench = Bench::alone(config(), image());
        bench.link_up();
        bench
    };
    breaks_a_rule(greeted, vec![hello(), hello()], "a second greeting");
    breaks_a_rule(greeted, vec![write(BLOCK)], "a packet before the greeting");
    breaks_a_rule(Bench::in_sync, vec![hello()], "a second greeting");
}

#[test]
fn writes_must_fit_the_volume_and_come_from_a_primary() {
    breaks_a_rule(
        Bench::in_sync,
        vec![write(OUTSIDE)],
        "a write outside the volume",
    );
    let odd = ByteRange::new(1, 4096);
    breaks_a_rule(
        Bench::in_sync,
        vec![write(odd)],
        "a write outside the volume",
    );
    breaks_a_rule(Bench::primary, vec![write(BLOCK)], "a write to a Primary");
    let zero = Packet::Zero {
        id: 1,
        volume: VOLUME,
        range: BLOCK,
        fua: false,
        discard: true,
        place: Default::default(),
    };
    breaks_a_rule(Bench::primary, vec![zero], "a write to a Primary");
    breaks_a_rule(
        secondary_source,
        vec![write(BLOCK)],
        "a write while nothing is being replicated",
    );
}

#[test]
fn a_write_without_its_data_breaks_the_protocol() {
    for packet in [write(BLOCK), data(BLOCK)] {
        let mut bench = Bench::in_sync();
        let (peer, link) = (PEER, super::LINK);
        bench.tell(Event::Packet {
            peer,
            link,
            packet,
            data: None,
        });
        assert_eq!(bench.close_dropped(), Some(LinkLoss::Protocol));
    }
}

#[test]
fn a_volume_nobody_has_breaks_the_protocol() {
    let flush = Packet::Flush {
        id: 1,
        volume: VolumeNumber(9),
    };
    breaks_a_rule(Bench::in_sync, vec![flush], "an unknown volume");
}

#[test]
fn acknowledgements_of_nothing_break_the_protocol() {
    let (id, volume) = (7, VOLUME);
    let acks = [
        (Packet::WriteAck { id, volume }, "of a write"),
        (Packet::FlushAck { id, volume }, "of a flush"),
    ];
    for (packet, rule) in acks {
        breaks_a_rule(Bench::primary, vec![packet], rule);
    }
}

#[test]
fn a_second_primary_breaks_the_protocol() {
    breaks_a_rule(
        Bench::primary,
        vec![state(Role::Primary)],
        "both nodes are Primary",
    );
    let mut bench = Bench::in_sync();
    bench.packet(state(Role::Primary));
    assert_eq!(
        bench.close_dropped(),
        None,
        "an unknown volume is none of ours"
    );
}

#[test]
fn bitmaps_nobody_waits_for_break_the_protocol() {
    breaks_a_rule(Bench::in_sync, vec![bitmap()], "a bitmap nobody waits for");
    breaks_a_rule(
        Bench::in_sync,
        vec![bitmap_end(GENERATION)],
        "a bitmap nobody waits for",
    );
    breaks_a_rule(
        target,
        vec![bitmap_end(GenerationId::NONE)],
        "a bitmap of data of no generation",
    );
}

#[test]
fn a_target_asks_for_possible_ranges_of_a_source_and_not_for_too_many() {
    breaks_a_rule(Bench::in_sync, vec![request(1, BLOCK)], "not the source");
    breaks_a_rule(source, vec![request(1, OUTSIDE)], "outside the volume");
    breaks_a_rule(
        source,
        vec![request(1, BLOCK), request(1, BLOCK)],
        "under a name already in use",
    );
    let huge = ByteRange::new(0, (32 << 20) + 4096);
    breaks_a_rule(
        source,
        vec![request(1, huge)],
        "more than a target may ask for",
    );
    let many = ByteRange::new(0, 1 << 20);
    let requests = (0..66).map(|id| request(id, many)).collect();
    breaks_a_rule(source, requests, "more than a target may ask for");
}

#[test]
fn acknowledgements_of_a_resync_must_belong_to_one() {
    breaks_a_rule(Bench::in_sync, vec![ack(BLOCK)], "not the source");
    breaks_a_rule(source, vec![ack(OUTSIDE)], "outside the volume");
}

#[test]
fn a_resync_ends_only_when_everything_has_been_acknowledged_under_its_generation() {
    breaks_a_rule(Bench::in_sync, vec![done(GENERATION)], "not running");
    breaks_a_rule(source, vec![done(GenerationId(5))], "another generation");
    let generation = source().generation();
    breaks_a_rule(source, vec![done(generation)], "still missing");
}

#[test]
fn resync_data_must_have_been_asked_for() {
    breaks_a_rule(target, vec![data(BLOCK)], "nobody asked for");
    breaks_a_rule(
        Bench::in_sync,
        vec![data(BLOCK)],
        "while nothing is being replicated",
    );
}

#[test]
fn what_still_comes_over_a_link_that_is_being_closed_is_ignored() {
    let mut bench = Bench::primary();
    bench.packet(Packet::Goodbye);
    bench.asked.clear();
    bench.packet(Packet::Ping { id: 4 });
    bench.packet(write(BLOCK));
    bench.packet(hello());
    assert!(bench.asked.is_empty(), "{:?}", bench.asked);
}

#[test]
fn a_write_for_a_disk_that_has_failed_is_refused_and_so_is_a_flush() {
    use rbd_protocol::peer::FailureCode;
    let mut bench = Bench::bare(config());
    bench.connect();
    bench.meet(|hello| hello.volumes[0].disk = DiskState::UpToDate);
    bench.asked.clear();
    bench.packet(write(BLOCK));
    bench.packet(Packet::Flush {
        id: 2,
        volume: VOLUME,
    });
    let refused = |id| Packet::NegativeAck {
        id,
        volume: VOLUME,
        code: FailureCode::NoDisk,
    };
    assert_eq!(bench.sent(), [refused(1), refused(2)]);
    assert_eq!(bench.close_dropped(), None);
}
