//! What stands for the content of blocks when two copies are compared.

use rbd_protocol::ids::BLOCK_SIZE;
use rbd_protocol::peer::Digest;
use sha2::{Digest as _, Sha256};

/// One digest for each block; the last may be shorter.
pub(super) fn digests(data: &[u8]) -> Vec<Digest> {
    let block = usize::try_from(BLOCK_SIZE).expect("usize has at least 32 bits");
    data.chunks(block).map(digest).collect()
}

fn digest(block: &[u8]) -> Digest {
    let whole = Sha256::digest(block);
    let mut half = Digest::default();
    for (byte, of_whole) in half.iter_mut().zip(whole) {
        *byte = of_whole;
    }
    half
}

#[cfg(test)]
mod tests {
    use super::digests;

    #[test]
    fn every_block_counts_for_itself_and_each_of_its_bits() {
        let mut data = vec![7; 3 * 4096 - 512];
        let before = digests(&data);
        assert_eq!(before.len(), 3);
        assert_eq!(before[0], before[1]);
        assert_ne!(before[1], before[2], "the last one is shorter");
        data[2 * 4096 - 1] ^= 1;
        let after = digests(&data);
        assert_eq!((after[0], after[2]), (before[0], before[2]));
        assert_ne!(after[1], before[1]);
    }
}
