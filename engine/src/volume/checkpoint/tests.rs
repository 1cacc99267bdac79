//! What is saved of a bitmap while the peer may still lose something.

use rbd_protocol::ids::{ByteRange, NodeId};

use super::words_to_save;
use crate::bitmap::Bitmap;
use crate::peer_device::{Origin, PeerDevice};

/// What one page of the bitmap lists.
const PAGE_BYTES: u64 = 504 * 64 * 4096;

/// A peer that lacks nothing, and has not made this durable.
fn peer(range: ByteRange) -> PeerDevice {
    let mut peer = PeerDevice::new(NodeId(1));
    peer.bitmap = Bitmap::new(4 * PAGE_BYTES);
    peer.note_unstable(range, Origin::Write);
    peer
}

fn saved(peer: &mut PeerDevice, page: u32) -> u32 {
    words_to_save(peer, page)
        .iter()
        .map(|word| word.count_ones())
        .sum()
}

#[test]
fn what_a_peer_may_lose_is_saved_as_lacking() {
    let mut peer = peer(ByteRange::new(8192, 8192));
    assert_eq!(words_to_save(&mut peer, 0)[0], 0b1100);
    assert_eq!(saved(&mut peer, 1), 0);
    assert!(
        peer.bitmap.is_clean(),
        "in memory it is known as what it is"
    );
}

#[test]
fn so_is_what_begins_in_one_page_and_ends_in_the_next() {
    let mut peer = peer(ByteRange::new(PAGE_BYTES - 4096, 3 * 4096));
    let pages = [0, 1, 2].map(|page| saved(&mut peer, page));
    assert_eq!(pages, [1, 2, 0]);
}
