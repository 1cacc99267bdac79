//! Packets of a peer that is who it says it is, and faulty: every kind, any field, and often the
//! numbers this node is waiting for.

use rbd_protocol::ids::{ByteRange, GenerationId, VolumeNumber};
use rbd_protocol::peer::{BULK_LIMIT, Header, Hello, Kind, Packet};
use rbd_protocol::state::{DiskState, Role};

use super::Tag;
use super::machine::Machine;
use crate::input::Input;

/// Any packet but a greeting, and its payload.
pub fn arbitrary(machine: &mut Machine, input: &mut Input<'_>) -> Option<(Packet, Option<Tag>)> {
    let kind = input.pick(KINDS);
    let (id, mut range) = named(machine, input);
    if range.length > BULK_LIMIT && kind.is_bulk() {
        range.length = BULK_LIMIT;
    }
    let volume = if input.one_in(16) { input.u8() % 3 } else { 0 };
    let offset = match kind {
        Kind::NewGeneration | Kind::BitmapEnd | Kind::ResyncDone => generation(machine, input).0,
        _ => range.offset,
    };
    let header = Header {
        kind,
        flags: u16::from(input.u8() % 4),
        volume: u16::from(volume),
        payload_length: 0,
        id,
        offset,
        range_length: range.length,
        payload_crc: 0,
        seen: u32::try_from(id & 0xFFFF_FFFF).unwrap_or(0),
        behind: 1,
    };
    let body = match kind {
        Kind::State => vec![input.u8() % 3, 0, 0, input.u8() % 10],
        Kind::Bitmap => {
            let mut body = vec![0; 504 * 8];
            for _ in 0..input.u8() % 4 {
                let at = usize::from(input.u16()) % body.len();
                body[at] = input.u8();
            }
            body
        }
        Kind::VerifyReply | Kind::ResyncCompare => vec![0; 16 * usize::from(input.u8() % 17)],
        _ => Vec::new(),
    };
    let header = Header {
        id: if kind == Kind::Bitmap { id % 4 } else { id },
        ..header
    };
    let packet = Packet::decode(&header, &body).ok()?;
    let data = (kind.is_bulk() && !input.one_in(32)).then(|| machine.data(range.length));
    Some((packet, data))
}

/// A name and a range: of something this node has sent, or any.
fn named(machine: &Machine, input: &mut Input<'_>) -> (u64, ByteRange) {
    let mode = input.u8();
    let sent = machine
        .outbox
        .iter()
        .rev()
        .filter_map(|(packet, _)| name_of(packet));
    let known = sent.clone().nth(usize::from(input.u8() % 8));
    let (id, range) = known
        .or_else(|| sent.clone().next_back())
        .unwrap_or((1, ByteRange::new(0, 4096)));
    let id = match mode & 3 {
        0..=1 => id,
        2 => u64::from(input.u8()),
        _ => input.u64(),
    };
    let range = match mode >> 2 & 3 {
        0..=1 => range.filter_empty(),
        2 => within(machine, input),
        _ => ByteRange::new(input.u64(), input.u32()),
    };
    (id, range)
}

/// A possible range of a volume.
pub fn within(machine: &Machine, input: &mut Input<'_>) -> ByteRange {
    let unit = machine.shape().block_bytes;
    let units = machine.shape().data_bytes / u64::from(unit);
    let first = match input.u8() % 4 {
        0 => u64::from(input.u8()),
        1 => units - 1 - u64::from(input.u8()) % units,
        2 => u64::from(input.u8() % 40) * (4 << 20) / u64::from(unit),
        _ => u64::from(input.u16()),
    } % units;
    let most = (units - first).min(u64::from((8 << 20) / unit));
    let length = 1 + u64::from(input.u8()) * [1, 1, 1, 17][input.index(4)];
    let length = u32::try_from(length.min(most)).unwrap_or(1);
    ByteRange::new(first * u64::from(unit), length * unit)
}

trait FilterEmpty {
    fn filter_empty(self) -> Self;
}

impl FilterEmpty for ByteRange {
    fn filter_empty(self) -> Self {
        if self.length == 0 {
            Self::new(0, 4096)
        } else {
            self
        }
    }
}

fn name_of(packet: &Packet) -> Option<(u64, ByteRange)> {
    let nowhere = ByteRange::new(0, 0);
    match packet {
        Packet::Write { id, range, .. }
        | Packet::Zero { id, range, .. }
        | Packet::ResyncRequest { id, range, .. }
        | Packet::ResyncCompare { id, range, .. }
        | Packet::VerifyRequest { id, range, .. }
        | Packet::ResyncData { id, range, .. }
        | Packet::RemoteRead { id, range, .. }
        | Packet::RemoteWrite { id, range, .. }
        | Packet::RemoteZero { id, range, .. } => Some((*id, *range)),
        Packet::Flush { id, .. }
        | Packet::RemoteFlush { id, .. }
        | Packet::PromoteRequest { id, .. }
        | Packet::InvalidateRequest { id, .. }
        | Packet::ResizeRequest { id, .. }
        | Packet::NewGeneration { id, .. } => Some((*id, nowhere)),
        _ => None,
    }
}

/// A generation this node has, or a reserved one, or any.
fn generation(machine: &Machine, input: &mut Input<'_>) -> GenerationId {
    let own = machine.engine.status(machine.time());
    let own = own.devices.first().map(|device| device.current_generation);
    match input.u8() % 8 {
        0 => GenerationId::NONE,
        1 => GenerationId::JUST_CREATED,
        2 | 3 => GenerationId(0xa1 + u64::from(input.u8() % 4)),
        4 => GenerationId(input.u64()),
        _ => own.unwrap_or(GenerationId::NONE),
    }
}

/// The greeting of a peer much like this node, changed in a few places.
pub fn hello(machine: &Machine, input: &mut Input<'_>) -> Option<Hello> {
    let sent = machine.outbox.iter().rev();
    let mut hello = sent
        .filter_map(|(packet, _)| match packet {
            Packet::Hello(hello) => Some((**hello).clone()),
            _ => None,
        })
        .next()?;
    hello.role = Role::Secondary;
    hello.incarnation ^= 1;
    let volume = input.u8();
    for _ in 0..input.u8() % 6 {
        change(machine, &mut hello, usize::from(volume), input);
    }
    Some(hello)
}

fn change(machine: &Machine, hello: &mut Hello, volume: usize, input: &mut Input<'_>) {
    match input.u8() % 24 {
        0 => hello.role = Role::Primary,
        1 => hello.incarnation = input.u64(),
        2 => hello.seen_incarnation = input.u64(),
        3 => hello.boot = input.u128(),
        4 => hello.discard_my_data = true,
        5 if input.flag() => {
            hello.volumes.pop();
        }
        choice => {
            let count = hello.volumes.len().max(1);
            let Some(volume) = hello.volumes.get_mut(volume % count) else {
                return;
            };
            let current = volume.current;
            match choice {
                6..=8 => volume.current = generation(machine, input),
                9..=10 => volume.bitmap = generation(machine, input),
                11..=12 => volume.history.insert(0, generation(machine, input)),
                13 => {
                    // It has gone on from what this node has.
                    volume.bitmap = current;
                    volume.current = GenerationId(0xb1);
                }
                14 => volume.history.truncate(usize::from(input.u8())),
                15..=16 => {
                    if let Some(disk) = DiskState::from_number(input.u8() % 10) {
                        volume.disk = disk;
                    }
                }
                17 => volume.dirty_blocks = input.u64(),
                18 => volume.crashed_primary ^= true,
                19 => volume.was_resync_target ^= true,
                20 => volume.kept_power ^= true,
                21 => volume.size_bytes = input.u64(),
                22 => volume.block_bytes = input.u32(),
                23 => volume.capacity_bytes = input.u64(),
                _ => volume.number = VolumeNumber(input.u16()),
            }
        }
    }
}

const KINDS: &[Kind] = &[
    Kind::State,
    Kind::PromoteRequest,
    Kind::PromoteReply,
    Kind::NewGeneration,
    Kind::NewGenerationAck,
    Kind::Goodbye,
    Kind::Leave,
    Kind::LeaveReply,
    Kind::Outdated,
    Kind::Write,
    Kind::Discard,
    Kind::WriteZeroes,
    Kind::Flush,
    Kind::WriteAck,
    Kind::NegativeAck,
    Kind::FlushAck,
    Kind::Settle,
    Kind::Settled,
    Kind::Bitmap,
    Kind::BitmapEnd,
    Kind::ResyncRequest,
    Kind::ResyncData,
    Kind::ResyncAck,
    Kind::ResyncNegativeAck,
    Kind::ResyncDone,
    Kind::ResyncState,
    Kind::ResyncZero,
    Kind::ResyncCompare,
    Kind::ResyncSame,
    Kind::Ping,
    Kind::PingAck,
    Kind::RemoteRead,
    Kind::RemoteWrite,
    Kind::RemoteDiscard,
    Kind::RemoteWriteZeroes,
    Kind::RemoteFlush,
    Kind::RemoteDone,
    Kind::RemoteData,
    Kind::RemoteFailed,
    Kind::InvalidateRequest,
    Kind::InvalidateReply,
    Kind::VerifyRequest,
    Kind::VerifyRelease,
    Kind::VerifyReply,
    Kind::ResizeRequest,
    Kind::ResizeReply,
];
