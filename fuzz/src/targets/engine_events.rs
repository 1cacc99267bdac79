//! The engine under arbitrary events: requests, packets of a faulty peer, commands, and completions
//! in any order and with any outcome, from several beginnings.
//!
//! It never panics, answers everything once, reports no success a disk has not reported, touches
//! nothing outside its volumes, and whatever it has written of metadata opens again. In the end,
//! when everything under way ends well, everything is answered and the resource can be stopped.

use rbd_engine::{Command, DiskError, Event, LinkId, LinkLoss, RequestKind};
use rbd_protocol::ids::{ByteRange, GenerationId, VolumeNumber};
use rbd_protocol::peer::{Hello, Packet};

use crate::engine::{Area, Machine, Shape, arbitrary, hello, mature, within};
use crate::input::Input;

/// Shape, beginning, then event after event.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let shape = Shape::read(&mut input);
    let volumes = if input.one_in(4) { 2 } else { 1 };
    let mut machine = Machine::new(shape, volumes);
    begin(&mut machine, volumes, input.u8());
    while !input.is_over() {
        happen(&mut machine, volumes, &mut input);
    }
    end(&mut machine, volumes);
}

/// Brings the machine somewhere worth starting from.
fn begin(machine: &mut Machine, volumes: u16, stage: u8) {
    let shape = machine.shape();
    let stage = stage % 8;
    if stage == 0 {
        return;
    }
    for volume in 0..volumes {
        if stage >= 3 {
            let area = Area::create_with(shape, 0, volume, |superblock| {
                mature(superblock, 0xa1, 0xb007);
                if stage == 6 {
                    superblock.peers[0].bitmap_generation = GenerationId(0xa0);
                }
            });
            machine.areas[usize::from(volume)] = area;
        }
        machine.attach(VolumeNumber(volume));
    }
    machine.finish_operations();
    if stage == 2 {
        machine.command(Command::Promote { force: true });
        machine.finish_operations();
    }
    if stage < 3 {
        return;
    }
    connect(machine, |hello| {
        for volume in &mut hello.volumes {
            match stage {
                5 => (volume.current, volume.bitmap) = (GenerationId(0xa2), GenerationId(0xa1)),
                6 => volume.current = GenerationId(0xa0),
                _ => {}
            }
        }
    });
    if stage == 4 {
        promote(machine);
    }
}

fn connect(machine: &mut Machine, change: impl FnOnce(&mut Hello)) {
    machine.command(Command::Connect {
        peer: None,
        discard_my_data: false,
        tentative: false,
    });
    machine.link_up();
    machine.finish_operations();
    if let Some(mut hello) = hello(machine, &mut Input::new(&[])) {
        change(&mut hello);
        machine.receive(Packet::Hello(Box::new(hello)), None);
    }
    machine.finish_operations();
}

fn promote(machine: &mut Machine) {
    machine.command(Command::Promote { force: false });
    let asked = machine.outbox.iter().find_map(|(packet, _)| match packet {
        Packet::PromoteRequest { id, .. } => Some(*id),
        _ => None,
    });
    if let Some(id) = asked {
        machine.receive(Packet::PromoteReply { id, granted: true }, None);
    }
    machine.finish_operations();
}

fn happen(machine: &mut Machine, volumes: u16, input: &mut Input<'_>) {
    match input.u8() % 32 {
        0..=5 => ask(machine, volumes, input),
        6..=9 => {
            let index = input.index(machine.disk_operations());
            machine.finish_disk(index, disk_error(input));
        }
        10..=12 => {
            let index = input.index(machine.meta_operations());
            let (error, reaches) = (disk_error(input), input.flag());
            machine.finish_meta(index, error, reaches);
        }
        13 | 14 => machine.finish_operations(),
        15 => machine.link_up(),
        16 => machine.link_down(LinkLoss::Closed),
        17..=22 => {
            if let Some((packet, data)) = arbitrary(machine, input) {
                machine.receive(packet, data);
            }
        }
        23 => {
            if let Some((packet, data)) = arbitrary(machine, input) {
                let link = LinkId(u64::from(input.u8()));
                machine.receive_over(link, packet, data);
            }
        }
        24 | 25 => {
            if let Some(hello) = hello(machine, input) {
                machine.receive(Packet::Hello(Box::new(hello)), None);
            }
        }
        26 => machine.timer(),
        27 => {
            machine.wait(input.pick(&[0, 1, 100, 1_000, 10_000, 100_000]));
            machine.timer();
        }
        28 | 29 => command(machine, volumes, input),
        30 => {
            let volume = VolumeNumber(input.u16() % (volumes + 1));
            let count = u32::from(input.u8() % 3);
            machine.tell(Event::Openers { volume, count });
        }
        _ if input.one_in(4) => machine.crash(|| input.flag()),
        _ => machine.outbox.clear(),
    }
}

/// Mostly none.
fn disk_error(input: &mut Input<'_>) -> Option<DiskError> {
    match input.u8() {
        0xfd => Some(DiskError::NoSpace),
        0xfe => Some(DiskError::Gone),
        0xff => Some(DiskError::Io),
        _ => None,
    }
}

fn ask(machine: &mut Machine, volumes: u16, input: &mut Input<'_>) {
    let mode = input.u8();
    let (fua, discard) = (mode & 1 == 1, mode & 2 == 2);
    let kind = match mode >> 2 & 7 {
        0 | 1 => RequestKind::Read,
        2..=4 => RequestKind::Write { fua },
        5 | 6 => RequestKind::Zero { fua, discard },
        _ => RequestKind::Flush,
    };
    let range = if mode & 0xe0 == 0xe0 {
        ByteRange::new(input.u64(), input.u32())
    } else {
        within(machine, input)
    };
    let volume = if mode & 0x60 == 0x60 {
        VolumeNumber(input.u16() % (volumes + 1))
    } else {
        VolumeNumber(0)
    };
    machine.request(volume, kind, range);
}

fn command(machine: &mut Machine, volumes: u16, input: &mut Input<'_>) {
    let peer = if input.one_in(8) {
        None
    } else {
        Some(machine.peer())
    };
    let command = match input.u8() % 16 {
        0..=2 => {
            let volume = input.u16() % volumes;
            machine.attach(VolumeNumber(volume));
            return;
        }
        3..=5 => {
            let how = input.u8();
            Command::Connect {
                peer,
                discard_my_data: how % 4 == 3,
                tentative: how % 8 == 6,
            }
        }
        6 => Command::Disconnect { peer, force: true },
        7..=8 => Command::Promote { force: false },
        9 => Command::Promote { force: true },
        10 => Command::Demote { force: false },
        11 => Command::Demote { force: true },
        12 | 13 => Command::NewGeneration {
            volume: VolumeNumber(input.u16() % (volumes + 1)),
            clear_bitmap: input.flag(),
        },
        14 => {
            let mut config = machine.config();
            let net = &mut config.peers[0].net;
            net.ping_interval_ms = input.pick(&[1, 1_000, 120_000]);
            net.timeout_ms = input.pick(&[100, 6_000]);
            net.ko_count = input.pick(&[0, 1, 7]);
            config.options.hot_region_limit = input.pick(&[0, 1, 6_433]);
            Command::Configure(Box::new(config))
        }
        _ => Command::Stop,
    };
    machine.command(command);
}

fn end(machine: &mut Machine, volumes: u16) {
    machine.finish_everything();
    for volume in (0..volumes).map(VolumeNumber) {
        machine.tell(Event::Openers { volume, count: 0 });
    }
    machine.command(Command::Stop);
    machine.finish_everything();
    assert!(
        machine.engine.is_stopped(),
        "stopped, and yet not at its end"
    );
    for area in &machine.areas {
        if let Err(error) = area.open(false) {
            panic!("C2: what the engine has left behind does not open: {error}");
        }
    }
}
