//! Bytes that are no packet are refused, each for its own reason.

use super::*;

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
    let longest = [
        (Kind::Write, BULK_LIMIT),
        (Kind::RemoteData, BULK_LIMIT),
        (Kind::Hello, BODY_LIMIT),
        (Kind::VerifyReply, BODY_LIMIT),
    ];
    for (kind, limit) in longest {
        let announced = |length| {
            let header = Header {
                kind,
                flags: 0,
                volume: 0,
                payload_length: length,
                id: 0,
                offset: 0,
                range_length: length,
                payload_crc: 0,
                seen: 0,
                behind: 0,
            };
            Header::decode(&header.encode()).map(|header| header.payload_length)
        };
        assert_eq!(announced(limit), Ok(limit));
        let length = limit + 1;
        let refused = WireError::TooLong {
            kind,
            length,
            limit,
        };
        assert_eq!(announced(length), Err(refused));
    }
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
fn the_longest_greeting_is_understood_and_one_with_a_volume_more_is_refused() {
    let mut longest = hello();
    longest.volumes[0].history = (0..32).map(GenerationId).collect();
    let volume = longest.volumes[0].clone();
    let numbered = |number| HelloVolume {
        number: VolumeNumber(number),
        ..volume.clone()
    };
    longest.volumes = (0..64).map(numbered).collect();
    let sent = |hello: &Hello| {
        let mut bytes = Vec::new();
        Packet::Hello(Box::new(hello.clone())).encode(&[], &mut bytes);
        let (header, body) = split(&bytes);
        Packet::decode(&header, body)
    };
    let received = sent(&longest);
    assert_eq!(received, Ok(Packet::Hello(Box::new(longest.clone()))));
    longest.volumes.push(numbered(64));
    let result = sent(&longest);
    assert!(is_malformed(&result, "too many volumes"), "{result:?}");
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
