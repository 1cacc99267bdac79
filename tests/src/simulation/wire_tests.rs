//! Packets survive the simulated network in whatever pieces they come, and damage is noticed.

use rbd_protocol::ids::{ByteRange, VolumeNumber};
use rbd_protocol::peer::Packet;

use super::disk::Payload;
use super::random::Random;
use super::wire::{Parcel, Receiver};

fn packets() -> Vec<(Packet, Option<Payload>)> {
    let volume = VolumeNumber(0);
    let write = Packet::Write {
        id: 7,
        volume,
        range: ByteRange::new(512, 1_024),
        fua: true,
        place: Default::default(),
    };
    let data: Payload = [5, 6].as_slice().into();
    vec![
        (Packet::Ping { id: 3 }, None),
        (write, Some(data)),
        (Packet::FlushAck { id: 9, volume }, None),
    ]
}

#[test]
fn a_parcel_holds_what_was_packed() {
    for (packet, data) in packets() {
        let parcel = Parcel::pack(&packet, data.as_ref());
        assert_eq!(parcel.unpack().unwrap(), (packet, data));
    }
}

#[test]
fn a_stream_may_come_in_any_pieces() {
    let stream: Vec<u8> = packets()
        .iter()
        .flat_map(|(packet, data)| Parcel::bytes(packet, data.as_ref()))
        .collect();
    let mut random = Random::new(1);
    for most in [1, 7, 100, 5_000] {
        let mut receiver = Receiver::default();
        let mut found = Vec::new();
        let mut rest = stream.as_slice();
        while !rest.is_empty() {
            let length = usize::try_from(random.between(1, most)).unwrap();
            let (piece, after) = rest.split_at(length.min(rest.len()));
            receiver.take(piece);
            while let Some(packet) = receiver.packet().unwrap() {
                found.push(packet);
            }
            rest = after;
        }
        assert_eq!(found, packets());
    }
}

#[test]
fn no_packet_with_a_flipped_bit_is_accepted() {
    for (packet, data) in packets() {
        let bytes = Parcel::bytes(&packet, data.as_ref());
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let mut receiver = Receiver::default();
            receiver.take(&damaged);
            let accepted = matches!(receiver.packet(), Ok(Some(_)));
            assert!(!accepted, "{packet:?}, bit {bit}");
        }
    }
}

#[test]
fn each_thing_has_its_own_chance() {
    let one = Random::of(1, 2, 3).next();
    assert_eq!(one, Random::of(1, 2, 3).next());
    for other in [(2, 2, 3), (1, 3, 3), (1, 2, 4)] {
        assert_ne!(one, Random::of(other.0, other.1, other.2).next());
    }
}

#[test]
fn numbers_of_every_order_of_magnitude_are_drawn_and_none_beyond_the_limits() {
    let mut random = Random::new(1);
    let drawn: Vec<u64> = (0..1_000).map(|_| random.magnitude(10, 5_000)).collect();
    assert!(drawn.iter().all(|number| (10..=5_000).contains(number)));
    for (low, high) in [(10, 20), (100, 200), (2_048, 5_000)] {
        assert!(drawn.iter().any(|number| (low..high).contains(number)));
    }
}
