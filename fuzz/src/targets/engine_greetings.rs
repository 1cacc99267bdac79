//! Two nodes with arbitrary metadata meet: each greeting is decided without a panic, both decisions
//! mirror each other (D1), and a resync that begins ends with both in sync (E5).

use rbd_engine::Command;
use rbd_protocol::ids::GenerationId;
use rbd_protocol::metadata::{Image, PeerBitmap, Superblock};
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{ConnectionState, DiskState, ReplicationState, Role};

use crate::engine::{Area, Machine, Shape, mature};
use crate::input::Input;

/// Shape, then what each of the two has on its disk and is told before they meet.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let shape = Shape::read(&mut input);
    let mut nodes = [0, 1].map(|node| {
        let mut machine = Machine::on(node, shape, 1);
        prepare(&mut machine, node, &mut input);
        machine
    });
    for machine in &mut nodes {
        machine.link_up();
        machine.finish_operations();
    }
    let [one, other] = &mut nodes;
    greet(one, other);
    check_mirrored(one, other);
    settle(one, other);
}

fn prepare(machine: &mut Machine, node: u8, input: &mut Input<'_>) {
    let mode = input.u8();
    if mode & 7 != 7 {
        let area = Area::create_with(machine.shape(), node, 0, |superblock| {
            write_history(superblock, input);
        });
        let mut image = match area.open(false) {
            Ok(image) => image,
            Err(error) => panic!("what was just written does not open: {error}"),
        };
        mark(&mut image, input);
        machine.areas = vec![area];
        machine.attach_image(image);
        machine.finish_operations();
    }
    match mode >> 3 & 7 {
        0 => machine.command(Command::Promote { force: false }),
        1 => machine.command(Command::Promote { force: true }),
        _ => {}
    }
    machine.finish_operations();
    machine.timer();
    machine.finish_operations();
    machine.command(Command::Connect {
        peer: None,
        tentative: false,
        // A Primary is not heard when it wants to give up its data.
        discard_my_data: mode & 0xc0 == 0xc0 && machine.engine.role() != Role::Primary,
    });
    machine.finish_operations();
}

fn write_history(superblock: &mut Superblock, input: &mut Input<'_>) {
    let mode = input.u8();
    if mode == 0 {
        return;
    }
    mature(superblock, generation(input), 0xb000 + u128::from(mode & 7));
    superblock.flags.consistent = input.u8() % 8 != 7;
    superblock.flags.was_up_to_date = input.u8() % 8 != 7;
    superblock.flags.primary = input.one_in(4);
    superblock.flags.clean_shutdown = input.one_in(4);
    superblock.flags.outdated = input.one_in(8);
    let slot = &mut superblock.peers[0];
    slot.bitmap_generation = GenerationId(generation(input));
    slot.flags.full_sync = input.one_in(4);
    slot.flags.may_have_current = input.one_in(4);
    for place in 0..usize::from(input.u8() % 5) {
        superblock.history[place] = GenerationId(generation(input));
    }
}

fn generation(input: &mut Input<'_>) -> u64 {
    match input.u8() % 10 {
        0 => 0,
        1 => 4,
        other => 0xa0 + u64::from(other),
    }
}

fn mark(image: &mut Image, input: &mut Input<'_>) {
    if let Some(PeerBitmap::Pages(pages)) = image.peers.first_mut() {
        for _ in 0..input.u8() % 3 {
            let mut words = Box::new([0; 504]);
            words[input.index(8)] = input.u64();
            pages.insert(0, words);
        }
    }
    let regions = image.layout.data_bytes().div_ceil(4 << 20);
    let first = u64::from(input.u8()) % (regions + 1);
    if first < regions {
        image.hot_regions.push(first..first + 1);
    }
}

/// Each hears the other's greeting, and nothing else yet.
fn greet(one: &mut Machine, other: &mut Machine) {
    let first = take_hello(one);
    let second = take_hello(other);
    if let Some(packet) = first {
        other.receive(packet, None);
    }
    if let Some(packet) = second {
        one.receive(packet, None);
    }
}

fn take_hello(machine: &mut Machine) -> Option<Packet> {
    let is_hello = |(packet, _): &(Packet, Option<u64>)| matches!(packet, Packet::Hello(_));
    let at = machine.outbox.iter().position(is_hello)?;
    Some(machine.outbox.remove(at).0)
}

fn check_mirrored(one: &Machine, other: &Machine) {
    let (mine, theirs) = (seen(one), seen(other));
    assert_eq!(mine.0, theirs.0, "D1: one is connected, the other not");
    let mirrored = match mine.1 {
        ReplicationState::WFBitMapS => ReplicationState::WFBitMapT,
        ReplicationState::WFBitMapT => ReplicationState::WFBitMapS,
        same => same,
    };
    assert_eq!(mirrored, theirs.1, "D1: the decisions do not mirror");
    if mine.1 == ReplicationState::WFBitMapT {
        assert!(
            one.engine.role() != Role::Primary,
            "D7: a Primary as target"
        );
    }
    if theirs.1 == ReplicationState::WFBitMapT {
        assert!(
            other.engine.role() != Role::Primary,
            "D7: a Primary as target"
        );
    }
}

fn seen(machine: &Machine) -> (ConnectionState, ReplicationState) {
    let status = machine.engine.status(machine.time());
    let connection = &status.connections[0];
    let replication = connection.peer_devices[0].replication_state;
    (connection.connection_state, replication)
}

/// All packets are delivered and all operations end well: where they have connected, both are in
/// sync in the end, and where the link was made anew, they meet again.
fn settle(one: &mut Machine, other: &mut Machine) {
    for _ in 0..MOST_ROUNDS {
        let mut quiet = true;
        for (from, to) in [(0, 1), (1, 0)] {
            let mut both = [&mut *one, &mut *other];
            let packets = std::mem::take(&mut both[from].outbox);
            quiet &= packets.is_empty();
            for (packet, data) in packets {
                let length = match &packet {
                    Packet::Write { range, .. }
                    | Packet::ResyncData { range, .. }
                    | Packet::RemoteWrite { range, .. }
                    | Packet::RemoteData { range, .. } => range.length,
                    _ => 0,
                };
                let data = data.map(|_| both[to].data(length));
                both[to].receive(packet, data);
            }
            both[to].finish_operations();
        }
        let dropped = |machine: &Machine| machine.link.is_some_and(|link| link.dropped.is_some());
        if dropped(one) || dropped(other) {
            for machine in [&mut *one, &mut *other] {
                machine.link_down(rbd_engine::LinkLoss::Closed);
                machine.finish_operations();
            }
            let wanted = |machine: &Machine| seen(machine).0 != ConnectionState::StandAlone;
            if !wanted(one) || !wanted(other) {
                return; // refused
            }
            for machine in [&mut *one, &mut *other] {
                machine.link_up();
                machine.finish_operations();
            }
        } else if quiet {
            check_settled(one, other);
            return;
        }
    }
    panic!("E5: still not at rest");
}

fn check_settled(one: &Machine, other: &Machine) {
    let (mine, theirs) = (seen(one), seen(other));
    assert_eq!(mine, theirs, "at rest in different states");
    if mine.1 == ReplicationState::Established {
        let device = |machine: &Machine| {
            let status = machine.engine.status(machine.time());
            let device = &status.devices[0];
            let peer = &status.connections[0].peer_devices[0];
            (
                device.disk_state,
                device.current_generation,
                peer.out_of_sync_bytes,
            )
        };
        let (mine, theirs) = (device(one), device(other));
        assert_eq!(mine.0, theirs.0, "one is UpToDate, the other not");
        if mine.0 == DiskState::UpToDate {
            assert_eq!(mine.1, theirs.1, "in sync under different generations");
            assert_eq!((mine.2, theirs.2), (0, 0), "in sync with dirty blocks");
        }
    }
}

/// Enough for a full resync of the largest shape.
const MOST_ROUNDS: usize = 400;
