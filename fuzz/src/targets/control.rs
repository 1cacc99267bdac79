//! Frames on the control socket, in both directions: what `rbdd` hears and what `rbdadm` hears.

use rbd_protocol::control::frame::{HEADER_BYTES, body_length, decode, encode};
use rbd_protocol::control::{Reply, Request};

use crate::input::Input;

/// First byte: which direction, and whether a fitting header is put in front. The rest is the
/// frame or its body.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.u8();
    let rest = input.rest();
    let body = if mode & 2 == 0 {
        rest
    } else {
        let Some((header, body)) = rest.split_first_chunk::<HEADER_BYTES>() else {
            return;
        };
        let Ok(length) = body_length(header) else {
            return;
        };
        let Some(body) = body.get(..length) else {
            return;
        };
        body
    };
    if mode & 1 == 0 {
        check::<Request>(body);
    } else {
        check::<Reply>(body);
    }
}

fn check<M>(body: &[u8])
where
    M: bincode::Encode + bincode::Decode<()> + PartialEq + std::fmt::Debug,
{
    let Ok(message) = decode::<M>(body) else {
        return;
    };
    let Ok(frame) = encode(&message) else {
        panic!("a message that was short enough is too long: {message:?}");
    };
    let (header, again) = frame
        .split_first_chunk::<HEADER_BYTES>()
        .expect("a frame has a header");
    assert_eq!(body_length(header), Ok(again.len()));
    assert_eq!(decode::<M>(again).as_ref(), Ok(&message), "after a round");
}
