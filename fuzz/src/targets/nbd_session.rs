//! Transmission: any request header after any negotiation. What is let through is possible on the
//! export, and every reply has the length its own header announces.

use rbd_protocol::nbd::{
    Errno, Extent, Handshake, Policy, REQUEST_HEADER_LENGTH, Request, RequestKind, Session,
    SessionError, Step,
};

use super::nbd_handshake::Shop;
use crate::input::Input;

/// First byte: what was negotiated; then request after request.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let Some(session) = session(&mut input) else {
        return;
    };
    while !input.is_over() {
        let sealed = input.u8() & 1 == 0;
        let mut header = [0; REQUEST_HEADER_LENGTH];
        let bytes = input.bytes(REQUEST_HEADER_LENGTH);
        header[..bytes.len()].copy_from_slice(bytes);
        if sealed {
            header[..4].copy_from_slice(&0x2560_9513_u32.to_be_bytes());
        }
        match session.decode(&header) {
            Ok(request) => answer(&session, &request, &mut input),
            Err(SessionError::PayloadTooLong { length, .. }) => {
                assert!(length > session.block_sizes().maximum_payload());
            }
            Err(_) => {}
        }
    }
}

fn answer(session: &Session, request: &Request, input: &mut Input<'_>) {
    let mut out = Vec::new();
    match session.check(request) {
        Err(refusal) => {
            let errno = refusal.errno;
            session.encode_error(request.cookie, errno, &refusal.reason, &mut out);
        }
        Ok(()) => {
            check_range(session, request);
            match request.kind {
                RequestKind::Read => {
                    out.extend_from_slice(session.encode_read(request).as_bytes());
                    return; // the data follows
                }
                RequestKind::BlockStatus => {
                    let extents: Vec<Extent> = (0..input.u8() % 8)
                        .map(|_| Extent {
                            length: input.u64() >> (input.u8() % 64),
                            is_hole: input.flag(),
                            is_zero: input.flag(),
                        })
                        .collect();
                    session.encode_block_status(request, &extents, &mut out);
                }
                _ if input.flag() => {
                    let text = String::from_utf8_lossy(input.bytes(8)).repeat(700);
                    session.encode_error(request.cookie, Errno::InputOutput, &text, &mut out);
                }
                _ => out.extend_from_slice(session.encode_done(request).as_bytes()),
            }
        }
    }
    check_reply(session, &out);
}

fn check_range(session: &Session, request: &Request) {
    let range = request.range;
    match request.kind {
        RequestKind::Disconnect | RequestKind::Cache | RequestKind::Unknown(_) => {}
        RequestKind::Flush => assert_eq!((range.offset, range.length), (0, 0)),
        RequestKind::Read
        | RequestKind::Write
        | RequestKind::Trim
        | RequestKind::WriteZeroes
        | RequestKind::BlockStatus => {
            let minimum = session.block_sizes().minimum();
            let end = range.offset.checked_add(range.length.into());
            assert!(end.is_some_and(|end| end <= session.size()), "{request:?}");
            assert!(range.length > 0, "{request:?}");
            let aligned = range.offset.is_multiple_of(minimum.into());
            assert!(
                aligned || request.kind == RequestKind::BlockStatus,
                "{request:?}"
            );
        }
    }
    if matches!(request.kind, RequestKind::Read | RequestKind::Write) {
        assert!(range.length <= session.block_sizes().maximum_payload());
    }
}

/// A simple reply is 16 bytes; a chunk of a structured one says how long it is.
fn check_reply(session: &Session, out: &[u8]) {
    if session.has_structured_replies() {
        let length = out
            .get(16..20)
            .and_then(|bytes| bytes.first_chunk())
            .map(|bytes| u32::from_be_bytes(*bytes));
        let rest = u32::try_from(out.len() - 20).ok();
        assert_eq!(length, rest, "a chunk of another length than announced");
    } else {
        assert_eq!(out.len(), 16);
    }
}

fn session(input: &mut Input<'_>) -> Option<Session> {
    let mode = input.u8();
    let name = ["r0", "r0/1", "r0/2"][usize::from(mode >> 2 & 3).min(2)];
    let mut bytes = vec![0, 0, 0, 3];
    let mut option = |number: u32, data: &[u8]| {
        bytes.extend_from_slice(b"IHAVEOPT");
        bytes.extend_from_slice(&number.to_be_bytes());
        let length = u32::try_from(data.len()).unwrap_or(0);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(data);
    };
    let length = u32::try_from(name.len()).unwrap_or(0).to_be_bytes();
    let named = [&length[..], name.as_bytes()].concat();
    if mode & 1 == 1 {
        option(STRUCTURED_REPLY, &[]);
    }
    if mode & 2 == 2 {
        let context = b"base:allocation";
        let count = [0, 0, 0, 1, 0, 0, 0, 15];
        option(SET_META_CONTEXT, &[&named, &count[..], context].concat());
    }
    option(GO, &[&named[..], &[0, 1, 0, 3]].concat());
    let mut handshake = Handshake::new(Policy::default());
    match handshake.feed(&bytes, &Shop, &mut Vec::new()) {
        Ok((_, Step::Serve(session))) => Some(session),
        Ok(_) => None,
        Err(error) => panic!("a negotiation by the book failed: {error}"),
    }
}

const GO: u32 = 7;
const STRUCTURED_REPLY: u32 = 8;
const SET_META_CONTEXT: u32 = 10;
