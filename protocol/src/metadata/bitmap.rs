//! One block of one peer's dirty bitmap: 32256 bits, one per 4 KiB of data, written in place.
//!
//! Never decides what a block that fails to verify means; `open` counts it as all dirty (C4).

use super::header::{HEADER_BYTES, Header, Kind, Stamp, field, seal};
use super::{BitPage, Block, BlockError, Identity, empty_block};
use alloc::boxed::Box;

/// The bytes of a bitmap block. The sequence is for readers of dumps; it should only grow.
#[must_use]
pub fn encode_bitmap_block(
    identity: Identity,
    peer_slot: u8,
    block: u32,
    words: &BitPage,
    sequence: u64,
) -> Box<Block> {
    let mut bytes = empty_block();
    put_words(&mut bytes, words);
    let stamp = Stamp {
        kind: Kind::Bitmap,
        peer_slot,
        identity,
        index: block,
        attach_epoch: 0,
        sequence,
    };
    seal(&mut bytes, &stamp);
    bytes
}

/// Sequence and bits of the bitmap block that should be at this place.
pub fn decode_bitmap_block(
    bytes: &[u8],
    identity: Identity,
    peer_slot: u8,
    block: u32,
) -> Result<(u64, Box<BitPage>), BlockError> {
    let header = Header::verify(bytes)?;
    header.expect(Kind::Bitmap, identity, peer_slot, block)?;
    if header.attach_epoch.get() != 0 {
        return Err(field(
            "attach epoch of a bitmap block",
            header.attach_epoch.get(),
        ));
    }
    Ok((header.sequence.get(), words_of(bytes)))
}

pub(super) fn put_words(block: &mut Block, words: &BitPage) {
    let (_, payload) = block.split_at_mut(HEADER_BYTES);
    for (to, word) in payload.as_chunks_mut().0.iter_mut().zip(words) {
        *to = word.to_le_bytes();
    }
}

/// The payload of a block whose length was verified.
pub(super) fn words_of(bytes: &[u8]) -> Box<BitPage> {
    let mut words = empty_page();
    let payload = bytes.get(HEADER_BYTES..).unwrap_or_default();
    for (word, from) in words.iter_mut().zip(payload.as_chunks().0) {
        *word = u64::from_le_bytes(*from);
    }
    words
}

pub(super) fn empty_page() -> Box<BitPage> {
    Box::new([0; super::WORDS_PER_PAGE])
}

/// Clears the bits from `valid` on: nothing beyond the end of the volume is ever dirty.
pub(super) fn clear_from(words: &mut BitPage, valid: u64) {
    for (index, word) in (0_u64..).zip(words.iter_mut()) {
        let before = valid.saturating_sub(index * 64);
        if before < 64 {
            *word &= (1 << before) - 1;
        }
    }
}
