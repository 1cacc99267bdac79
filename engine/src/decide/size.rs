//! How large the volume is, given how large both disks say it is and could be: a pure function of
//! the two greetings, the same for both nodes.
//!
//! What has held data is never cut. Just-created disks hold none, so they take whatever size fits
//! both; else the larger of two sizes in use counts, and the other disk follows if it can.

use alloc::string::String;

use rbd_protocol::peer::HelloVolume;

use super::is_fresh;

/// The size both must have before they may be connected; `None` if they have it, or if there are
/// not two disks. An error says, in one line, whose disk is too small.
pub(crate) fn agree(own: &HelloVolume, peer: &HelloVolume) -> Result<Option<u64>, String> {
    if own.size_bytes == 0 || peer.size_bytes == 0 {
        return Ok(None);
    }
    let room = own.capacity_bytes.min(peer.capacity_bytes);
    let used = in_use(own).max(in_use(peer));
    let size = if used == 0 { room } else { used };
    if size > room || size == 0 {
        return Err(too_small(own, peer, used));
    }
    let is_agreed = own.size_bytes == size && peer.size_bytes == size;
    Ok((!is_agreed).then_some(size))
}

/// What must not be cut off: clients may have seen it.
fn in_use(volume: &HelloVolume) -> u64 {
    if is_fresh(volume) {
        0
    } else {
        volume.size_bytes
    }
}

fn too_small(own: &HelloVolume, peer: &HelloVolume, used: u64) -> String {
    let number = own.number;
    if peer.capacity_bytes < used || peer.capacity_bytes == 0 {
        alloc::format!(
            "The peer's disk size is too small! volume {number} has {used} bytes, the peer's disk \
             has room for {}: replace or enlarge it there, then `rbdadm down` and `rbdadm up`",
            peer.capacity_bytes
        )
    } else {
        alloc::format!(
            "this node's disk is too small: volume {number} has {used} bytes on the peer, the disk \
             here has room for {}: replace or enlarge it, then `rbdadm down` and `rbdadm up`",
            own.capacity_bytes
        )
    }
}
