//! What arrives on an open link: a stream of packets, cut anywhere.
//!
//! Every packet that decodes must mean the same after being encoded and decoded again, nothing
//! may be accepted that the checksums do not cover, and how the stream is cut changes nothing.

use rbd_protocol::peer::{HEADER_BYTES, Header, Packet, WireError};

use crate::frames;
use crate::input::Input;

/// First byte: whether the checksums are made to fit; the rest is the stream.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.u8();
    let mut stream = input.rest().to_vec();
    if mode & 1 == 0 {
        frames::seal_packets(&mut stream);
    }
    let mut rest = stream.as_slice();
    while let Some((head, after)) = rest.split_first_chunk::<HEADER_BYTES>() {
        let Ok(header) = Header::decode(head) else {
            return;
        };
        // The checksum covers every byte of the header: there is one encoding only.
        let again = header.encode();
        assert!(
            again == *head || reserved_bytes_differ(&again, head),
            "{header:?} is encoded otherwise"
        );
        let length = usize::try_from(header.payload_length).expect("a length fits");
        let Some((payload, after)) = after.split_at_checked(length) else {
            return;
        };
        if header.check_payload(payload).is_err() {
            return;
        }
        let body = if header.kind.is_bulk() { &[] } else { payload };
        match Packet::decode(&header, body) {
            Ok(packet) => check_round(&header, &packet, payload),
            Err(WireError::Malformed { kind, .. }) => assert_eq!(kind, header.kind),
            Err(error) => panic!("the header was fine, and yet: {error}"),
        }
        rest = after;
    }
}

/// The reserved fields are ignored on reading, so that a later version may use them.
fn reserved_bytes_differ(one: &[u8; HEADER_BYTES], other: &[u8; HEADER_BYTES]) -> bool {
    one[10..12] != other[10..12] || one[40..44] != other[40..44]
}

fn check_round(header: &Header, packet: &Packet, payload: &[u8]) {
    assert_eq!(packet.kind(), header.kind);
    let mut bytes = Vec::new();
    let bulk = header.kind.is_bulk();
    packet.encode(if bulk { payload } else { &[] }, &mut bytes);
    let (head, body) = bytes
        .split_first_chunk::<HEADER_BYTES>()
        .expect("a packet has a header");
    let again = Header::decode(head).expect("what we encode, we understand");
    let payload = if bulk { payload } else { body };
    again
        .check_payload(payload)
        .expect("the checksum is of the payload");
    let again = Packet::decode(&again, body).expect("what we encode, we understand");
    assert_eq!(&again, packet, "another packet after a round");
}
