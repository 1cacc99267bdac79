//! What is told to the driver, byte by byte. The numbers are those of the kernel's headers.

use super::message::{Answer, CutOff, Details, Order, find_family, order};

/// A message of 16-bit and 32-bit numbers in this machine's order.
fn header(length: u32, kind: u16, flags: u16, sequence: u32) -> Vec<u8> {
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes
}

fn attribute(length: u16, kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes
}

#[test]
fn the_family_is_asked_for_by_its_name() {
    let mut expected = header(28, 16, 5, 7);
    expected.extend([3, 1, 0, 0]);
    expected.extend(attribute(8, 2, b"nbd\0"));
    assert_eq!(find_family(7), expected);
}

#[test]
fn a_new_device_is_told_everything() {
    let details = Details {
        device: None,
        size_bytes: Some(1 << 30),
        block_bytes: Some(4096),
        flags: Some(0x6d),
        socket: Some(9),
        backend: Some("rbdd-1"),
        answer_seconds: Some(0),
        dead_seconds: Some(60),
    };
    let mut body = vec![1, 1, 0, 0];
    body.extend(attribute(12, 2, &(1_u64 << 30).to_ne_bytes()));
    body.extend(attribute(12, 3, &4096_u64.to_ne_bytes()));
    body.extend(attribute(12, 4, &0_u64.to_ne_bytes()));
    body.extend(attribute(12, 8, &60_u64.to_ne_bytes()));
    body.extend(attribute(12, 5, &0x6d_u64.to_ne_bytes()));
    body.extend(attribute(11, 10, b"rbdd-1\0\0"));
    let descriptor = attribute(8, 1, &9_u32.to_ne_bytes());
    let item = attribute(12, 0x8001, &descriptor);
    body.extend(attribute(16, 0x8007, &item));
    let length = u32::try_from(16 + body.len()).unwrap();
    let expected = [header(length, 0x1c, 5, 2), body].concat();
    assert_eq!(order(0x1c, 2, Order::Connect, &details), expected);
}

#[test]
fn a_device_that_is_there_is_named_by_its_number() {
    let details = Details {
        device: Some(3),
        ..Details::default()
    };
    for (kind, number) in [(Order::Disconnect, 2), (Order::Reconfigure, 3)] {
        let mut expected = header(28, 0x1c, 5, 2);
        expected.extend([number, 1, 0, 0]);
        expected.extend(attribute(8, 1, &3_u32.to_ne_bytes()));
        assert_eq!(order(0x1c, 2, kind, &details), expected);
    }
}

#[test]
fn an_answer_is_what_belongs_to_the_message() {
    // Another's reply, ours with two attributes, one of them padded, and the end of it.
    let mut bytes = header(28, 0x1c, 0, 1);
    bytes.extend([1, 1, 0, 0]);
    bytes.extend(attribute(8, 1, &77_u32.to_ne_bytes()));
    let mut body = vec![1, 1, 0, 0];
    body.extend(attribute(6, 1, &[5, 0, 0, 0]));
    body.extend(attribute(8, 1, &5_u32.to_ne_bytes()));
    bytes.extend(header(36, 0x1c, 0, 2));
    bytes.extend(body);
    let mut answer = Answer::default();
    answer.absorb(&bytes, 2).unwrap();
    assert_eq!(answer.result, None);
    assert_eq!(answer.family(), Some(u16::from_ne_bytes([5, 0])));
    let mut last = header(36, 2, 0, 2);
    last.extend((-16_i32).to_ne_bytes());
    last.extend([0; 16]);
    answer.absorb(&last, 2).unwrap();
    assert_eq!(answer.result, Some(-16));

    let mut device = Answer::default();
    device.absorb(&bytes[..28], 1).unwrap();
    assert_eq!(device.device(), Some(77));
}

#[test]
fn what_is_cut_off_is_refused() {
    let mut whole = header(28, 0x1c, 0, 1);
    whole.extend([1, 1, 0, 0]);
    whole.extend(attribute(8, 1, &77_u32.to_ne_bytes()));
    for length in 1..whole.len() {
        let cut = Answer::default().absorb(&whole[..length], 1);
        assert_eq!(cut, Err(CutOff), "{length} bytes");
    }
    for wrong in [0_u32, 15, 29, u32::MAX] {
        let mut bytes = whole.clone();
        bytes[..4].copy_from_slice(&wrong.to_ne_bytes());
        assert_eq!(Answer::default().absorb(&bytes, 1), Err(CutOff), "{wrong}");
    }
    for wrong in [0_u16, 3, 9, u16::MAX] {
        let mut bytes = whole.clone();
        bytes[20..22].copy_from_slice(&wrong.to_ne_bytes());
        assert_eq!(Answer::default().absorb(&bytes, 1), Err(CutOff), "{wrong}");
    }
}
