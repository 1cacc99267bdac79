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

/// The limit of what is decoded is one of memory: it must not be met before that of the bytes.
#[test]
fn what_is_sent_can_be_read() {
    let mut quiet = status();
    quiet.devices.truncate(1);
    quiet.connections.truncate(1);
    let mut longest = 0;
    for count in (1..).map(|count| count * 500) {
        let reply = Reply::Status(vec![quiet.clone(); count]);
        let Ok(bytes) = encode(&reply) else { break };
        assert_eq!(decode(&bytes[HEADER_BYTES..]), Ok(reply), "{count}");
        longest = bytes.len();
    }
    let limit = usize::try_from(BODY_LIMIT).expect("it fits");
    assert!(longest > limit / 2, "{longest}");
}

#[test]
fn a_message_as_long_as_the_limit_is_sent_and_one_byte_more_is_not() {
    let limit = usize::try_from(BODY_LIMIT).expect("it fits");
    let sent = |length| {
        let resource = "x".repeat(length);
        encode(&Request::Down { resource })
    };
    let around = sent(limit / 2).expect("it is short").len() - HEADER_BYTES - limit / 2;
    let longest = sent(limit - around).expect("as long as the limit");
    let (header, body) = longest.split_first_chunk().expect("it has a header");
    assert_eq!(body.len(), limit);
    assert_eq!(body_length(header), Ok(limit));
    let length = BODY_LIMIT + 1;
    let refused = Err(FrameError::TooLong { length });
    assert_eq!(sent(limit - around + 1), refused);
}
