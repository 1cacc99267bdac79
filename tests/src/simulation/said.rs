//! What a node says to its peer, at the moment it says it: it must be so already, and durably.
//!
//! A promise that is broken between two nodes shows in the data only when the right one of them
//! crashes before the truth catches up. Here the speaker's own disk is looked at when the packet is
//! sent, so no such luck is needed.
//!
//! | Packet | What must be durable at its sender |
//! |---|---|
//! | greeting | the generations it names (D5); that it is no Primary, if it says so (D7) |
//! | end of a bitmap | the generation it names (D5) |
//! | request for resync data | that the disk is Inconsistent (E1) |
//! | end of a resync | the source's generation, and that the disk is UpToDate (E1, E4) |
//! | consent to a promotion | nothing, but it must not be Primary itself (G1) |

use rbd_protocol::ids::GenerationId;
use rbd_protocol::metadata::Superblock;
use rbd_protocol::peer::{Hello, Packet};
use rbd_protocol::state::Role;

use super::world::World;

impl World {
    /// The node sends this.
    pub(super) fn look_at_word(&mut self, node: usize, packet: &Packet) {
        let result = match packet {
            Packet::PromoteReply { granted: true, .. } if self.nodes[node].is_primary() => {
                Err("G1: consents to the promotion of its peer and is Primary itself".to_owned())
            }
            Packet::Hello(hello) => self.durable(node, |block| greets_truly(hello, block)),
            Packet::BitmapEnd { generation, .. } => {
                self.durable(node, |block| names_its_own(*generation, block))
            }
            Packet::ResyncRequest { .. } => self.durable(node, |block| {
                if block.flags.consistent {
                    return Err("E1: asks for resync data and is not durably Inconsistent".into());
                }
                Ok(())
            }),
            Packet::ResyncDone { generation, .. } => {
                self.durable(node, |block| has_ended(*generation, block))
            }
            _ => return,
        };
        if let Err(text) = result {
            self.violation(format!("node {node} {text}"));
        }
    }

    fn durable(
        &self,
        node: usize,
        check: impl FnOnce(&Superblock) -> Result<(), String>,
    ) -> Result<(), String> {
        if !self.nodes[node].attached {
            return Ok(());
        }
        match self.nodes[node].open() {
            Ok(image) => check(&image.superblock),
            Err(_) => Ok(()), // somebody else says that (C2)
        }
    }
}

fn greets_truly(hello: &Hello, block: &Superblock) -> Result<(), String> {
    let primary = hello.role == Role::Primary;
    for volume in hello.volumes.iter().filter(|volume| volume.size_bytes > 0) {
        let slot = block.peers.iter().find(|slot| slot.node_id.is_some());
        let counts_from = slot.map_or(GenerationId::NONE, |slot| slot.bitmap_generation);
        if volume.current != block.generation || volume.bitmap != counts_from {
            return Err(format!(
                "D5: greets with generations {:?} and {:?}, durable are {:?} and {counts_from:?}",
                volume.current, volume.bitmap, block.generation
            ));
        }
        if !primary && block.flags.primary && !volume.crashed_primary {
            return Err("D7: greets as Secondary and is durably Primary".into());
        }
    }
    Ok(())
}

fn names_its_own(generation: GenerationId, block: &Superblock) -> Result<(), String> {
    if generation == block.generation {
        return Ok(());
    }
    Err(format!(
        "D5: sends a bitmap of generation {generation:?}, durable is {:?}",
        block.generation
    ))
}

fn has_ended(generation: GenerationId, block: &Superblock) -> Result<(), String> {
    let flags = block.flags;
    if generation == block.generation && flags.consistent && flags.was_up_to_date {
        return Ok(());
    }
    Err(format!(
        "E1: says that a resync to {generation:?} has ended; durable are {:?} and {flags:?}",
        block.generation
    ))
}
