//! Transmission, message by message, against bytes written out by hand.

mod checking;
mod decoding;
mod encoding;

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::{Errno, Extent, Reason, Request, RequestKind, Session, SessionError};
use crate::ids::ByteRange;
use crate::nbd::{BlockSizes, ExportInfo, Features, MAXIMUM_PAYLOAD};

const SIZE: u64 = 1 << 33;
const COOKIE: u64 = 0x0102_0304_0506_0708;
const COOKIE_BYTES: &[u8] = &[1, 2, 3, 4, 5, 6, 7, 8];
const FUA: u16 = 1;
const NO_HOLE: u16 = 2;
const DF: u16 = 4;
const REQ_ONE: u16 = 8;
const FAST_ZERO: u16 = 16;

fn export() -> ExportInfo {
    ExportInfo {
        name: String::from("r0/0"),
        description: String::new(),
        size: SIZE,
        features: Features {
            trim: true,
            write_zeroes: true,
            ..Features::default()
        },
        block_sizes: BlockSizes::new(512, 4096, 1 << 20).unwrap(),
    }
}

fn structured() -> Session {
    Session::new(export(), true, Some(1))
}

fn simple() -> Session {
    Session::new(export(), false, None)
}

fn with(change: impl FnOnce(&mut Features)) -> Session {
    let mut export = export();
    change(&mut export.features);
    Session::new(export, true, Some(1))
}

fn header(flags: u16, kind: u16, offset: u64, length: u32) -> Vec<u8> {
    [
        &[0x25, 0x60, 0x95, 0x13][..],
        &flags.to_be_bytes(),
        &kind.to_be_bytes(),
        COOKIE_BYTES,
        &offset.to_be_bytes(),
        &length.to_be_bytes(),
    ]
    .concat()
}

fn request(flags: u16, kind: u16, offset: u64, length: u32) -> Request {
    simple()
        .decode(&header(flags, kind, offset, length))
        .unwrap()
}

fn chunk(kind: [u8; 2], payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [
        b"\x66\x8e\x33\xef\0\x01",
        &kind[..],
        COOKIE_BYTES,
        &length,
        payload,
    ]
    .concat()
}
