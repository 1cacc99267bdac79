//! The exact bytes of packets, written out by hand.

use super::*;

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
fn whose_data_is_given_up_and_how_much_is_copied_are_two_flags() {
    for (flags, sender_loses, marked_only) in [
        (0, false, false),
        (1, true, false),
        (2, false, true),
        (3, true, true),
    ] {
        let packet = Packet::InvalidateRequest {
            id: 1,
            volume: VolumeNumber(3),
            sender_loses,
            marked_only,
        };
        let mut bytes = Vec::new();
        packet.encode(&[], &mut bytes);
        assert_eq!(bytes[6..8], [0, flags]);
        let (header, body) = split(&bytes);
        assert_eq!(Packet::decode(&header, body), Ok(packet));
    }
}
