//! Puts the right checksums into a fuzzer's bytes, so that it gets past them to what they protect.

use rbd_protocol::metadata::{BLOCK_BYTES, Block};
use rbd_protocol::peer::HEADER_BYTES;

/// Length and both checksums of each packet in a stream: magic first, sizes that are too long cut
/// to what is there.
pub fn seal_packets(stream: &mut [u8]) {
    let mut rest = stream;
    while let Some((head, after)) = rest.split_first_chunk_mut::<HEADER_BYTES>() {
        head[..4].copy_from_slice(b"rbdp");
        let announced = u32::from_be_bytes([head[12], head[13], head[14], head[15]]);
        let mut length = usize::try_from(announced).unwrap_or(usize::MAX);
        if length > after.len() {
            length = after.len() % 512;
            let bytes = u32::try_from(length).unwrap_or(0).to_be_bytes();
            head[12..16].copy_from_slice(&bytes);
        }
        let is_bulk = matches!((head[4], head[5]), (0, 16 | 51));
        if is_bulk {
            head.copy_within(12..16, 32);
        }
        let (payload, after) = after.split_at_mut(length.min(after.len()));
        head[36..40].copy_from_slice(&crc32fast::hash(payload).to_be_bytes());
        let checksum = crc32fast::hash(&head[..44]);
        head[44..48].copy_from_slice(&checksum.to_be_bytes());
        rest = after;
    }
}

/// Magic, length and checksum of each message of an opening.
pub fn seal_greetings(stream: &mut [u8]) {
    let mut rest = stream;
    while rest.len() >= 12 {
        rest[..4].copy_from_slice(b"rbdg");
        let announced = usize::from(u16::from_be_bytes([rest[6], rest[7]]));
        let length = announced.min(rest.len() - 12);
        rest[6..8].copy_from_slice(&u16::try_from(length).unwrap_or(0).to_be_bytes());
        let checksum = crc32fast::hash(&rest[..8 + length]);
        rest[8 + length..12 + length].copy_from_slice(&checksum.to_be_bytes());
        rest = &mut rest[12 + length..];
    }
}

/// Magic, version and both checksums of a metadata block.
pub fn seal_block(block: &mut Block) {
    block[..8].copy_from_slice(b"rbdmeta\0");
    block[56..64].fill(0);
    let head = crc32fast::hash(&block[..512]);
    block[56..60].copy_from_slice(&head.to_le_bytes());
    let whole = crc32fast::hash(&block[..BLOCK_BYTES]);
    block[60..64].copy_from_slice(&whole.to_le_bytes());
}
