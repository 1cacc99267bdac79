//! Reply headers, error chunks and block status.

use alloc::format;

use super::*;

#[test]
fn simple_replies_have_16_bytes() {
    let read = request(0, 0, 512, 1024);
    let fine = [b"\x67\x44\x66\x98\0\0\0\0", COOKIE_BYTES].concat();
    assert_eq!(simple().encode_read(&read).as_bytes(), fine);
    assert_eq!(simple().encode_done(&request(0, 3, 0, 0)).as_bytes(), fine);
    let mut out = vec![0xee];
    simple().encode_error(COOKIE, Errno::NoSpace, &"no room for words", &mut out);
    assert_eq!(
        out,
        [b"\xee\x67\x44\x66\x98\0\0\0\x1c", COOKIE_BYTES].concat()
    );
}

#[test]
fn structured_read_is_one_last_chunk_with_its_offset() {
    let reply = structured().encode_read(&request(0, 0, 0x1_0000_0200, 1024));
    let expected = [
        b"\x66\x8e\x33\xef\0\x01\0\x01",
        COOKIE_BYTES,
        b"\0\0\x04\x08\0\0\0\x01\0\0\x02\0",
    ];
    assert_eq!(reply.as_bytes(), expected.concat());
}

#[test]
fn structured_success_without_data_is_a_chunk_of_nothing() {
    let reply = structured().encode_done(&request(0, 1, 0, 512));
    assert_eq!(reply.as_bytes(), chunk([0, 0], b""));
}

#[test]
fn structured_error_carries_number_and_text() {
    let mut out = vec![0xee];
    structured().encode_error(COOKIE, Errno::InputOutput, &"bad disk", &mut out);
    let expected = chunk([0x80, 0x01], b"\0\0\0\x05\0\x08bad disk");
    assert_eq!(out, [&[0xee], &expected[..]].concat());
}

#[test]
fn structured_error_text_is_cut_between_characters() {
    let mut out = Vec::new();
    let message = format!("a{}", "ü".repeat(4096));
    structured().encode_error(COOKIE, Errno::Shutdown, &message, &mut out);
    let text = format!("a{}", "ü".repeat(2047));
    let payload = [b"\0\0\0\x6c\x0f\xff", text.as_bytes()].concat();
    assert_eq!(out, chunk([0x80, 0x01], &payload));
}

#[test]
fn structured_error_text_is_cut_wherever_its_parts_meet() {
    let mut out = Vec::new();
    let part = "x".repeat(3000);
    structured().encode_error(
        COOKIE,
        Errno::Invalid,
        &format_args!("{part}{part}"),
        &mut out,
    );
    let payload = [&b"\0\0\0\x16\x10\0"[..], &[b'x'; 4096]].concat();
    assert_eq!(out, chunk([0x80, 0x01], &payload));
}

#[test]
fn errors_have_the_numbers_of_the_protocol() {
    let numbers = [
        (Errno::NotPermitted, 1),
        (Errno::InputOutput, 5),
        (Errno::OutOfMemory, 12),
        (Errno::Invalid, 22),
        (Errno::NoSpace, 28),
        (Errno::Overflow, 75),
        (Errno::NotSupported, 95),
        (Errno::Shutdown, 108),
    ];
    for (errno, number) in numbers {
        assert_eq!(errno.number(), number);
    }
}

fn extent(length: u64, is_hole: bool, is_zero: bool) -> Extent {
    Extent {
        length,
        is_hole,
        is_zero,
    }
}

/// The lengths and flags in the reply to a BLOCK_STATUS of `length` bytes.
fn status(flags: u16, length: u32, extents: &[Extent]) -> Vec<(u32, u32)> {
    let mut out = vec![0xee; 3];
    structured().encode_block_status(&request(flags, 7, 0, length), extents, &mut out);
    let payload = &out[23..];
    assert_eq!(out[3..], chunk([0, 5], payload));
    assert_eq!(payload[..4], [0, 0, 0, 1]);
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
    payload[4..]
        .chunks(8)
        .map(|pair| (number(&pair[..4]), number(&pair[4..])))
        .collect()
}

#[test]
fn block_status_is_one_last_chunk_of_lengths_and_flags() {
    let extents = [extent(4096, false, false), extent(8192, true, true)];
    let mut out = Vec::new();
    structured().encode_block_status(&request(0, 7, 0, 12288), &extents, &mut out);
    let payload = b"\0\0\0\x01\0\0\x10\0\0\0\0\0\0\0\x20\0\0\0\0\x03";
    assert_eq!(out, chunk([0, 5], payload));
}

#[test]
fn block_status_joins_neighbours_and_ends_with_the_range() {
    let data = extent(512, false, false);
    let hole = extent(512, true, false);
    let zero = extent(512, false, true);
    let empty = extent(0, true, true);
    assert_eq!(
        status(0, 4096, &[data, hole, zero]),
        [(512, 0), (512, 1), (512, 2)]
    );
    assert_eq!(
        status(0, 4096, &[data, empty, data, hole, hole]),
        [(1024, 0), (1024, 1)]
    );
    assert_eq!(status(0, 1024, &[data, hole, zero]), [(512, 0), (512, 1)]);
    assert_eq!(
        status(0, 1024, &[data, extent(u64::MAX, true, true)]),
        [(512, 0), (512, 3)]
    );
    assert_eq!(
        status(0, 0xffff_fe00, &[extent(1 << 40, true, true)]),
        [(0xffff_fe00, 3)]
    );
    assert_eq!(status(0, 4096, &[]), [(4096, 0)]);
    assert_eq!(status(0, 4096, &[empty]), [(4096, 0)]);
}

#[test]
fn block_status_of_one_extent_never_exceeds_the_range() {
    let data = extent(512, false, false);
    let hole = extent(4096, true, true);
    assert_eq!(
        status(REQ_ONE, 4096, &[data, data, hole, data]),
        [(1024, 0)]
    );
    assert_eq!(status(REQ_ONE, 1024, &[hole]), [(1024, 3)]);
}

#[test]
fn block_status_has_no_more_extents_than_a_payload_holds() {
    let extents: Vec<Extent> = (0..400_000)
        .map(|at| extent(512, at % 2 == 0, at % 2 == 0))
        .collect();
    assert_eq!(status(0, 400_000 * 512, &extents).len(), (1 << 20) / 8);
}

#[test]
fn block_status_without_a_context_is_an_error() {
    let mut out = Vec::new();
    let session = Session::new(export(), true, None);
    session.encode_block_status(&request(0, 7, 0, 512), &[], &mut out);
    assert_eq!(out[6..8], [0x80, 0x01]);
}
