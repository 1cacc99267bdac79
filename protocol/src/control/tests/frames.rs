//! Frames, and bytes that are none.

use super::super::frame::{BODY_LIMIT, FrameError, VERSION};
use super::*;

#[test]
fn a_frame_has_these_bytes() {
    let bytes = encode(&Request::Daemon).expect("it is short");
    let expected = [b'r', b'b', b'd', b'c', VERSION, 0, 0, 0, 1, 0, 0, 0, 0];
    assert_eq!(bytes, expected);
}

#[test]
fn bytes_that_are_no_frame_are_refused_before_anything_is_allocated() {
    let good = {
        let bytes = encode(&Request::Daemon).expect("it is short");
        *bytes.first_chunk::<HEADER_BYTES>().expect("a header")
    };
    let changed = |at: usize, byte: u8| {
        let mut header = good;
        header[at] = byte;
        body_length(&header)
    };
    assert_eq!(changed(0, b'R'), Err(FrameError::NotAFrame));
    let found = VERSION + 1;
    assert_eq!(changed(4, found), Err(FrameError::Version { found }));
    let length = (0xff << 24) + 1;
    assert_eq!(changed(11, 0xff), Err(FrameError::TooLong { length }));
}

#[test]
fn a_body_is_one_message_and_nothing_else() {
    let bytes = encode(&Request::Up(config())).expect("it is short");
    let body = &bytes[HEADER_BYTES..];
    for length in 0..body.len() {
        let cut = decode::<Request>(&body[..length]);
        assert_eq!(cut, Err(FrameError::Malformed), "{length} bytes");
    }
    let more = [body, &[0]].concat();
    assert_eq!(decode::<Request>(&more), Err(FrameError::Malformed));
}

#[test]
fn a_message_that_is_too_long_is_not_sent() {
    let limit = usize::try_from(BODY_LIMIT).expect("it fits");
    let name = |length| Request::Down {
        resource: "x".repeat(length),
    };
    assert!(matches!(
        encode(&name(limit)),
        Err(FrameError::TooLong { .. })
    ));
    assert!(encode(&name(limit / 2)).is_ok());
}
