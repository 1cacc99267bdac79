//! Disks of different sizes.
//!
//! A link is used only between disks that give the volume the same size. A node whose size is not
//! the one agreed on changes it, durably, and the link is made anew: so a crash on the way costs
//! nothing but another attempt.

use rbd_protocol::ids::NodeId;
use rbd_protocol::peer::Hello;

use super::Resource;
use crate::contract::Level;
use crate::decide;

impl<B: Clone> Resource<B> {
    /// Whether the link has been given up because the sizes of some volume are to change first.
    pub(super) fn agree_on_sizes(&mut self, node: NodeId, sent: &Hello, theirs: &Hello) -> bool {
        let mut differ = false;
        for own in &sent.volumes {
            let peer = theirs.volumes.iter().find(|peer| peer.number == own.number);
            let Some(Ok(Some(size))) = peer.map(|peer| decide::agree(own, peer)) else {
                continue;
            };
            differ = true;
            let Some(volume) = self.volumes.get_mut(&own.number) else {
                continue;
            };
            if own.size_bytes == size {
                let text = "the peer's disk is to take this node's size first";
                self.cx
                    .report(Level::Info, Some(node), Some(own.number), text);
            } else if let Err(error) = volume.resize(size, true, &mut self.cx) {
                let text = alloc::format!("cannot take the peer's size: {error}");
                self.cx
                    .report(Level::Error, Some(node), Some(own.number), text);
            }
        }
        if differ {
            self.renegotiate();
        }
        differ
    }

    /// This node becomes Primary. Where no other disk can be taken for the newest any more, there
    /// is none whose smaller size must be waited for; and clients may have seen the larger one.
    pub(super) fn show_all_alone(&mut self) {
        let mut nodes = self.connections.keys();
        if nodes.all(|node| !self.is_there(*node) && self.is_harmless(*node)) {
            for volume in self.volumes.values_mut() {
                volume.show_all();
            }
        }
    }
}
