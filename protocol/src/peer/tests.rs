//! Packets survive the way to bytes and back, and damaged bytes are refused.

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

#[test]
fn a_flipped_payload_bit_is_refused() {
    for packet in one_of_each() {
        let mut bulk = vec![0xA5; if packet.kind().is_bulk() { 8192 } else { 0 }];
        let mut bytes = Vec::new();
        packet.encode(&bulk, &mut bytes);
        let (header, body) = split(&bytes);
        let mut body = body.to_vec();
        let payload = if bulk.is_empty() {
            &mut body
        } else {
            &mut bulk
        };
        let Some(last) = payload.last_mut() else {
            continue;
        };
        *last ^= 1;
        let kind = packet.kind();
        assert_eq!(
            header.check_payload(payload),
            Err(WireError::PayloadChecksum { kind })
        );
    }
}

#[test]
fn any_flipped_header_byte_is_refused() {
    let mut bytes = Vec::new();
    Packet::Flush {
        id: 77,
        volume: VolumeNumber(1),
    }
    .encode(&[], &mut bytes);
    for index in 0..HEADER_BYTES {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[index] ^= 1 << bit;
            let header: &[u8; HEADER_BYTES] = damaged[..HEADER_BYTES].try_into().unwrap();
            assert!(Header::decode(header).is_err(), "byte {index} bit {bit}");
        }
    }
}

#[test]
fn an_announced_length_beyond_the_limit_is_refused() {
    let mut header = Header {
        kind: Kind::Write,
        flags: 0,
        volume: 0,
        payload_length: BULK_LIMIT + 1,
        id: 0,
        offset: 0,
        range_length: BULK_LIMIT + 1,
        payload_crc: 0,
        seen: 0,
        behind: 0,
    };
    assert!(matches!(
        Header::decode(&header.encode()),
        Err(WireError::TooLong { .. })
    ));
    header.kind = Kind::Hello;
    header.payload_length = BODY_LIMIT + 1;
    assert!(matches!(
        Header::decode(&header.encode()),
        Err(WireError::TooLong { .. })
    ));
}

#[test]
fn a_write_says_in_these_bytes_where_it_stands_among_the_writes_of_both() {
    let mut bytes = Vec::new();
    Packet::Write {
        id: 1,
        volume: VolumeNumber(0),
        range: ByteRange::new(4096, 512),
        fua: false,
        place: Place {
            seen: 0x0102_0304,
            behind: 0x0506,
        },
    }
    .encode(&[0; 512], &mut bytes);
    assert_eq!(bytes[10..12], [5, 6]);
    assert_eq!(bytes[40..44], [1, 2, 3, 4]);
}

#[test]
fn a_flush_has_these_bytes() {
    let mut bytes = Vec::new();
    Packet::Flush {
        id: 0x0102,
        volume: VolumeNumber(3),
    }
    .encode(&[], &mut bytes);
    assert_eq!(bytes.len(), HEADER_BYTES);
    assert_eq!(
        bytes[..44],
        [
            b'r', b'b', b'd', b'p', 0, 19, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
        ]
    );
    assert_eq!(bytes[44..], crc32fast::hash(&bytes[..44]).to_be_bytes());
}

#[test]
fn a_greeting_has_these_bytes() {
    let mut bytes = Vec::new();
    Packet::Hello(Box::new(hello())).encode(&[], &mut bytes);
    let fields: [&[u8]; 27] = [
        &[1],                       // Primary
        &[1],                       // gives up its changes
        &[0, 0, 0, 0, 0, 0, 0, 7],  // incarnation
        &9_u128.to_be_bytes(),      // boot
        &[0, 0, 0, 0, 0, 0, 0, 11], // incarnation seen
        &[0, 0, 0, 0, 0, 0, 0, 12], // tenure
        &[0, 0, 0, 0, 0, 0, 0, 13], // the receiver's tenure that orders are for
        &[4, 3, 1, 1],              // policies
        &[1],                       // tentative
        &[1],                       // both may be Primary
        &[0, 1],                    // volumes
        &[0, 3],                    // number
        &[0, 0, 1, 0, 0, 0, 0, 0],  // size
        &[0, 0, 2, 0, 0, 0, 0, 0],  // what it could be
        &[0, 0, 2, 0],              // block
        &[8],                       // Consistent
        &[1],                       // crashed Primary
        &[0],                       // no resync target
        &[1],                       // kept power
        &[0, 0, 0, 0, 0, 0, 0, 5],  // dirty blocks
        &[1],                       // was Primary when they began to be counted
        &[0, 0, 0, 0, 0, 0, 0, 14], // when that was
        &[0, 0, 0, 0, 0, 0, 0, 1],  // current generation
        &[0, 0, 0, 0, 0, 0, 0, 2],  // bitmap generation
        &[0, 0, 0, 0, 0, 0, 0, 6],  // the receiver's generation to be given up
        &[2],                       // older generations
        &[0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4],
    ];
    assert_eq!(bytes[HEADER_BYTES..], fields.concat());
    assert_eq!(bytes.len(), HEADER_BYTES + 58 + 68 + 2 * 8);
}

#[test]
fn a_state_has_these_bytes() {
    let mut bytes = Vec::new();
    let disks = vec![(VolumeNumber(3), DiskState::UpToDate)];
    let role = Role::Secondary;
    let tenure = 0x0102;
    let state = Packet::State {
        role,
        tenure,
        disks,
    };
    state.encode(&[], &mut bytes);
    assert_eq!(bytes[16..24], [0, 0, 0, 0, 0, 0, 1, 2]);
    assert_eq!(bytes[HEADER_BYTES..], [2, 0, 3, 9]);
}

#[test]
fn a_bitmap_block_has_its_words_in_order() {
    let mut words = Box::new([0; 504]);
    words[1] = 0x0102_0304_0506_0708;
    let packet = Packet::Bitmap {
        volume: VolumeNumber(3),
        block: 17,
        words,
    };
    let mut bytes = Vec::new();
    packet.encode(&[], &mut bytes);
    let body = &bytes[HEADER_BYTES..];
    assert_eq!(body.len(), 4032);
    assert_eq!(body[8..16], [1, 2, 3, 4, 5, 6, 7, 8]);
    assert!(body[16..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_truncated_body_is_refused() {
    for packet in one_of_each() {
        let mut bytes = Vec::new();
        packet.encode(&[], &mut bytes);
        if packet.kind().is_bulk() || bytes.len() == HEADER_BYTES {
            continue;
        }
        let (header, body) = split(&bytes);
        for length in 0..body.len() {
            if matches!(packet, Packet::State { .. }) && length % 3 == 1 {
                continue; // a shorter list of disks is a list of disks
            }
            if matches!(
                packet,
                Packet::VerifyReply { .. } | Packet::ResyncCompare { .. }
            ) && length % 16 == 0
            {
                continue; // so it is with digests; the engine knows how many there must be
            }
            assert!(Packet::decode(&header, &body[..length]).is_err());
        }
    }
}

/// The body of this packet with one byte changed, decoded.
fn with_byte(packet: &Packet, at: usize, byte: u8) -> Result<Packet, WireError> {
    let mut bytes = Vec::new();
    packet.encode(&[], &mut bytes);
    let (header, body) = split(&bytes);
    let mut body = body.to_vec();
    body[at] = byte;
    Packet::decode(&header, &body)
}

fn is_malformed(result: &Result<Packet, WireError>, why: &str) -> bool {
    matches!(result, Err(WireError::Malformed { what, .. }) if *what == why)
}

#[test]
fn numbers_nobody_has_assigned_are_refused_wherever_they_stand() {
    let hello = Packet::Hello(Box::new(hello()));
    // The greeting's role, flag, policies, number of volumes; of its volume the disk and history.
    let wrong = [
        (0, 9, "unknown role"),
        (1, 2, "a flag is neither 0 nor 1"),
        (50, 7, "unknown policy"),
        (51, 4, "unknown policy"),
        (52, 2, "unknown policy"),
        (56, 1, "too many volumes"),
        (80, 99, "unknown disk state"),
        (125, 33, "history too long"),
    ];
    for (at, byte, why) in wrong {
        let result = with_byte(&hello, at, byte);
        assert!(is_malformed(&result, why), "{why}: {result:?}");
    }
    let state = Packet::State {
        role: Role::Secondary,
        tenure: 7,
        disks: vec![(VolumeNumber(3), DiskState::UpToDate)],
    };
    assert!(with_byte(&state, 0, 9).is_err());
    assert!(with_byte(&state, 3, 99).is_err());
}

#[test]
fn a_volume_is_greeted_once() {
    let mut twice = hello();
    twice.volumes.push(twice.volumes[0].clone());
    let mut bytes = Vec::new();
    Packet::Hello(Box::new(twice)).encode(&[], &mut bytes);
    let (header, body) = split(&bytes);
    let result = Packet::decode(&header, body);
    assert!(
        is_malformed(&result, "a volume is listed twice"),
        "{result:?}"
    );
}

#[test]
fn bytes_to_spare_are_refused() {
    for packet in one_of_each() {
        if packet.kind().is_bulk() {
            continue;
        }
        let mut bytes = Vec::new();
        packet.encode(&[], &mut bytes);
        bytes.push(0);
        let (header, body) = split(&bytes);
        let result = Packet::decode(&header, body);
        assert!(result.is_err(), "{packet:?}");
    }
}

#[test]
fn bulk_is_as_long_as_its_range() {
    let header = Header {
        kind: Kind::Write,
        flags: 0,
        volume: 0,
        payload_length: 4096,
        id: 0,
        offset: 0,
        range_length: 8192,
        payload_crc: 0,
        seen: 0,
        behind: 0,
    };
    let result = Header::decode(&header.encode());
    assert!(
        matches!(result, Err(WireError::Malformed { .. })),
        "{result:?}"
    );
}

#[test]
fn kinds_and_failures_nobody_knows_are_refused() {
    for number in 0..=u16::MAX {
        if let Some(kind) = Kind::from_number(number) {
            assert_eq!(kind.number(), number);
        }
        if let Some(code) = FailureCode::from_number(number) {
            assert_eq!(code.number(), number);
        }
    }
    assert_eq!(FailureCode::from_number(0), None);
    assert_eq!(FailureCode::from_number(4), None);
    assert_eq!(Kind::from_number(52), None);
    let mut bytes = Vec::new();
    let (id, volume, code) = (1, VolumeNumber(0), FailureCode::NoDisk);
    Packet::NegativeAck { id, volume, code }.encode(&[], &mut bytes);
    let (mut header, body) = split(&bytes);
    assert!(Packet::decode(&header, body).is_ok());
    header.flags = 4;
    let result = Packet::decode(&header, body);
    assert!(is_malformed(&result, "unknown failure code"), "{result:?}");
}
