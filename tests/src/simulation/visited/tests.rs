//! What is told of pairs that are met, and of those that are not.

use rbd_engine::{Event, RequestKind};
use rbd_protocol::peer::Packet;

use super::*;

const TARGET: Situation = Situation {
    beside: false,
    primary: false,
    disk: Disk::Partial,
    between: Between::Target,
};

fn flush() -> Event<()> {
    Event::Request {
        id: rbd_engine::RequestId(1),
        volume: rbd_protocol::ids::VolumeNumber(0),
        range: rbd_protocol::ids::ByteRange::new(0, 0),
        kind: RequestKind::Flush,
        data: None,
    }
}

#[test]
fn what_cannot_be_is_told_when_it_is_met() {
    let mut visited = Visited::default();
    visited.note::<()>(0, TARGET, &Event::Timer);
    assert_eq!(visited.impossible(), []);
    visited.note(0, TARGET, &flush());
    let why = "only a Primary has clients (X3)";
    assert_eq!(visited.impossible(), [(TARGET, "request Flush", why)]);
}

#[test]
fn what_was_met_is_no_longer_missing() {
    let mut visited = Visited::default();
    let (met, missing) = visited.missing();
    assert_eq!(met, 0);
    assert!(missing.contains(&(TARGET, "Timer")));
    visited.note::<()>(0, TARGET, &Event::Timer);
    let (met, rest) = visited.missing();
    assert_eq!((met, rest.len()), (1, missing.len() - 1));
}

#[test]
fn a_packet_of_an_older_link_is_not_taken_for_one_of_the_newest() {
    let peer = rbd_protocol::ids::NodeId(1);
    let link = rbd_engine::LinkId;
    let packet = |number| Event::<()>::Packet {
        peer,
        link: link(number),
        packet: Packet::Goodbye,
        data: None,
    };
    let mut visited = Visited::default();
    let up = Event::<()>::LinkUp {
        peer,
        link: link(2),
    };
    visited.note(0, TARGET, &up);
    visited.note(0, TARGET, &packet(1));
    visited.note(0, TARGET, &packet(2));
    let met: Vec<&str> = visited.pairs.keys().map(|(_, event)| *event).collect();
    assert_eq!(met, ["LinkUp", "packet Goodbye", OLDER]);
}

#[test]
fn where_a_pair_was_met_first_does_not_depend_on_the_order_of_the_runs() {
    let met = |profile, seed| {
        let mut visited = Visited::new(profile, seed);
        visited.note::<()>(0, TARGET, &Event::Timer);
        visited
    };
    let mut visited = met("power", 7);
    visited.add(&met("disk", 9));
    visited.add(&met("disk", 8));
    let text = visited
        .pairs
        .values()
        .map(Met::to_string)
        .collect::<String>();
    assert_eq!(text, "3 times in 3 seeds, first in disk 8");
}

#[test]
fn two_primaries_write_to_each_other_and_one_alone_is_written_to_by_nobody() {
    let alone = Situation {
        primary: true,
        beside: false,
        disk: Disk::Good,
        between: Between::Established,
    };
    let both = Situation {
        beside: true,
        ..alone
    };
    assert_eq!(verdict(both, "packet Write"), Verdict::Possible);
    let why = "there is one Primary at most (G1)";
    assert_eq!(verdict(alone, "packet Write"), Verdict::Impossible(why));
}

#[test]
fn nobody_knows_of_another_primary_without_a_link() {
    let both = Situation {
        primary: true,
        beside: true,
        disk: Disk::Good,
        between: Between::Connecting,
    };
    let why = "a peer's role is known over a link only";
    assert_eq!(verdict(both, "Timer"), Verdict::Impossible(why));
}
