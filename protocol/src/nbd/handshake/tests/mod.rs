//! Negotiation, message by message, against bytes written out by hand.

mod contexts;
mod limits;
mod options;

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::{Handshake, HandshakeError, Policy, Step};
use crate::nbd::{
    BlockSizeError, BlockSizes, ExportInfo, Exports, Features, Lookup, MAXIMUM_PAYLOAD, Session,
};

const FLAGS: &[u8] = b"\0\0\0\x03";
const GREETING: &[u8] = b"NBDMAGICIHAVEOPT\0\x03";
/// HAS_FLAGS, FLUSH, FUA, TRIM, WRITE_ZEROES, CAN_MULTI_CONN.
const OFFERED: &[u8] = &[0x01, 0x6d];
const SIZE: &[u8] = &[0, 0, 0, 0, 0x40, 0, 0, 0];

#[derive(Clone, Copy)]
struct OneExport {
    features: Features,
    block_sizes: BlockSizes,
}

impl OneExport {
    fn usual() -> Self {
        let features = Features {
            trim: true,
            write_zeroes: true,
            multi_conn: true,
            ..Features::default()
        };
        let block_sizes = BlockSizes::new(512, 4096, 1 << 20).unwrap();
        Self {
            features,
            block_sizes,
        }
    }
}

impl Exports for OneExport {
    fn lookup(&self, name: &str) -> Lookup {
        match name {
            "" | "r0" => Lookup::Serve(ExportInfo {
                name: "r0/0".into(),
                description: "disk".into(),
                size: 1 << 30,
                features: self.features,
                block_sizes: self.block_sizes,
            }),
            "r1" => Lookup::Refuse("not here".into()),
            _ => Lookup::Unknown,
        }
    }

    fn list(&self) -> Vec<(String, String)> {
        vec![
            ("r0/0".into(), "disk".into()),
            ("x".repeat(4097), "unreachable".into()),
            ("r1".into(), String::new()),
        ]
    }
}

fn option(number: u8, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap().to_be_bytes();
    [b"IHAVEOPT\0\0\0", &[number][..], &length, data].concat()
}

/// A reply: its option, the four bytes of its kind, its data.
fn reply(number: u8, kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let magic = b"\x00\x03\xe8\x89\x04\x55\x65\xa9";
    let length = u32::try_from(data.len()).unwrap().to_be_bytes();
    [magic, &[0, 0, 0, number][..], kind, &length, data].concat()
}

fn acknowledged(number: u8) -> Vec<u8> {
    reply(number, b"\0\0\0\x01", b"")
}

/// Negotiates at once; what was put out after the greeting, and how it ended.
fn negotiate(
    policy: Policy,
    export: OneExport,
    messages: &[&[u8]],
) -> (Vec<u8>, Result<Step, HandshakeError>) {
    let mut out = Vec::new();
    let end = Handshake::new(policy).feed(&messages.concat(), &export, &mut out);
    assert_eq!(&out[..18], GREETING);
    (out.split_off(18), end.map(|(_, step)| step))
}

fn usual(messages: &[&[u8]]) -> (Vec<u8>, Result<Step, HandshakeError>) {
    negotiate(
        Policy::default(),
        OneExport::usual(),
        &[&[FLAGS], messages].concat(),
    )
}

fn served(end: Result<Step, HandshakeError>) -> Session {
    match end {
        Ok(Step::Serve(session)) => session,
        other => panic!("{other:?}"),
    }
}
