//! Packets survive the way to bytes and back: one of each kind.

mod bytes;
mod refused;

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::ids::{ByteRange, GenerationId, VolumeNumber};
use crate::policy::{SplitPolicies, WithOnePrimary, WithTwoPrimaries, WithoutPrimary};
use crate::state::{DiskState, ResyncLimit, Role};

fn hello() -> Hello {
    Hello {
        role: Role::Primary,
        incarnation: 7,
        boot: 9,
        seen_incarnation: 11,
        tenure: 12,
        condemned_tenure: 13,
        policies: SplitPolicies {
            without_primary: WithoutPrimary::DiscardLeastChanges,
            with_one_primary: WithOnePrimary::CallPrimaryLost,
            with_two_primaries: WithTwoPrimaries::CallPrimaryLost,
            always: true,
        },
        tentative: true,
        two_primaries: true,
        discard_my_data: true,
        volumes: vec![HelloVolume {
            number: VolumeNumber(3),
            size_bytes: 1 << 40,
            capacity_bytes: 1 << 41,
            block_bytes: 512,
            disk: DiskState::Consistent,
            current: GenerationId(1),
            bitmap: GenerationId(2),
            condemned: GenerationId(6),
            history: vec![GenerationId(3), GenerationId(4)],
            dirty_blocks: 5,
            was_primary: true,
            counted_since: 14,
            crashed_primary: true,
            was_resync_target: false,
            kept_power: true,
        }],
    }
}

#[expect(clippy::too_many_lines, reason = "one of each kind of packet")]
fn one_of_each() -> Vec<Packet> {
    let volume = VolumeNumber(3);
    let range = ByteRange::new(1 << 33, 8192);
    let id = 0x0102_0304_0506_0708;
    let generation = GenerationId(0x1111_2222_3333_4444);
    let mut words = Box::new([0_u64; 504]);
    words[0] = 1;
    words[503] = u64::MAX;
    vec![
        Packet::Hello(Box::new(hello())),
        Packet::State {
            role: Role::Secondary,
            tenure: 7,
            disks: vec![(volume, DiskState::UpToDate)],
        },
        Packet::PromoteRequest {
            id,
            migration_ms: 600_000,
        },
        Packet::PromoteReply { id, granted: true },
        Packet::NewGeneration {
            id,
            volume,
            generation,
        },
        Packet::NewGenerationAck {
            id,
            volume,
            adopted: false,
        },
        Packet::Goodbye,
        Packet::Leave,
        Packet::LeaveReply { outdate: true },
        Packet::Outdated,
        Packet::InvalidateRequest {
            id,
            volume,
            sender_loses: false,
            marked_only: true,
        },
        Packet::InvalidateReply {
            id,
            volume,
            granted: true,
        },
        Packet::ResizeRequest {
            id,
            volume,
            capacity: 1 << 40,
            assume_clean: true,
        },
        Packet::ResizeReply {
            id,
            volume,
            bytes: 1 << 40,
            granted: true,
        },
        Packet::Write {
            id,
            volume,
            range,
            fua: true,
            place: Place {
                seen: 0xD5D6_D7D8,
                behind: 0xD9DA,
            },
        },
        Packet::Zero {
            id,
            volume,
            range,
            fua: false,
            discard: true,
            place: Place::default(),
        },
        Packet::Zero {
            id,
            volume,
            range,
            fua: true,
            discard: false,
            place: Place::default(),
        },
        Packet::Flush { id, volume },
        Packet::Settle { id, volume },
        Packet::Settled { id, volume },
        Packet::WriteAck { id, volume },
        Packet::NegativeAck {
            id,
            volume,
            code: FailureCode::NoSpace,
        },
        Packet::FlushAck { id, volume },
        Packet::Bitmap {
            volume,
            block: 17,
            words,
        },
        Packet::BitmapEnd { volume, generation },
        Packet::ResyncRequest { id, volume, range },
        Packet::ResyncData { id, volume, range },
        Packet::ResyncZero { id, volume, range },
        Packet::ResyncCompare {
            id,
            volume,
            range,
            digests: vec![[0xD3; 16], [0xD4; 16]],
        },
        Packet::ResyncSame { id, volume, range },
        Packet::ResyncAck { id, volume, range },
        Packet::ResyncNegativeAck { id, volume, range },
        Packet::ResyncDone { volume, generation },
        Packet::ResyncState {
            volume,
            paused: true,
            limit: Some(ResyncLimit::DiskOfPeer),
            disk_us: 1_500,
        },
        Packet::RemoteRead { id, volume, range },
        Packet::RemoteWrite {
            id,
            volume,
            range,
            fua: true,
        },
        Packet::RemoteZero {
            id,
            volume,
            range,
            fua: false,
            discard: true,
        },
        Packet::RemoteZero {
            id,
            volume,
            range,
            fua: true,
            discard: false,
        },
        Packet::RemoteFlush { id, volume },
        Packet::RemoteDone {
            id,
            volume,
            generation,
        },
        Packet::RemoteData { id, volume, range },
        Packet::RemoteFailed {
            id,
            volume,
            code: FailureCode::Io,
        },
        Packet::VerifyRequest { id, volume, range },
        Packet::VerifyRelease { id, volume },
        Packet::VerifyReply {
            id,
            volume,
            digests: vec![[0xD1; 16], [0xD2; 16]],
        },
        Packet::Ping { id },
        Packet::PingAck { id },
    ]
}

fn split(bytes: &[u8]) -> (Header, &[u8]) {
    let (header, body) = bytes.split_first_chunk::<HEADER_BYTES>().unwrap();
    (Header::decode(header).unwrap(), body)
}

#[test]
fn every_packet_survives_the_way_to_bytes_and_back() {
    for packet in one_of_each() {
        let bulk = if packet.kind().is_bulk() {
            vec![0xA5; 8192]
        } else {
            Vec::new()
        };
        let mut bytes = Vec::new();
        packet.encode(&bulk, &mut bytes);
        let (header, body) = split(&bytes);
        assert_eq!(header.kind, packet.kind());
        let payload = if packet.kind().is_bulk() {
            &bulk[..]
        } else {
            body
        };
        header.check_payload(payload).unwrap();
        assert_eq!(Packet::decode(&header, body).unwrap(), packet);
    }
}
