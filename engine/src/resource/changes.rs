//! What this node would lose by giving up its changes: where it is, and whether it is still what
//! somebody has saved.
//!
//! Nothing is changed here. It is told only while it cannot grow: of a Secondary with nothing in
//! flight. What a promotion, a link or another disk does to it afterwards shows in the
//! [`Standing`] that an order is given with.

use alloc::string::String;
use alloc::vec::Vec;

use rbd_protocol::control::{Backing, Changes, Divergence, Refusal, RefusalCode, Standing};
use rbd_protocol::ids::{BLOCK_SIZE, ByteRange, GenerationId, NodeId, VolumeNumber};
use rbd_protocol::state::Role;

use super::Resource;
use super::demotion::Stop;
use crate::volume::Volume;

impl<B: Clone> Resource<B> {
    /// A part of where this volume holds what the peer does not have and would overwrite. Whoever
    /// knows the disk fills in which one it is.
    ///
    /// # Errors
    /// When there is no split brain with this peer, or what would be lost may still grow.
    pub fn changes(
        &self,
        node: NodeId,
        number: VolumeNumber,
        from: u64,
    ) -> Result<Changes, Refusal> {
        self.refuse_while_growing()?;
        let name = &self.config.name;
        let refused = self
            .connections
            .get(&node)
            .and_then(|peer| peer.refused.as_ref());
        let Some(met) = refused.and_then(|refused| refused.met(number)) else {
            let reason = alloc::format!("no split brain of {name}/{number} is known here");
            let help = alloc::format!("rbdadm explain {name}");
            return Err(Refusal::new(RefusalCode::InvalidRequest, reason, help));
        };
        let (Some(volume), Some(standing)) =
            (self.volumes.get(&number), self.standing(node, number))
        else {
            let reason = alloc::format!("{name}/{number} has no disk here to save anything from");
            return Err(Refusal::new(RefusalCode::StateDiskless, reason, ""));
        };
        let is_everything = met.divergence == Divergence::Both && !met.is_exact;
        let runs = match met.divergence {
            Divergence::Both if is_everything => pieces(from, volume.size_bytes()),
            Divergence::Both | Divergence::Own => marked(volume, node, from),
            // What this node holds of it, the peer holds too, or holds something newer.
            Divergence::Peer | Divergence::Neither | Divergence::Unknown => Vec::new(),
        };
        let since = volume.local.as_ref().filter(|_| !is_everything);
        let full = runs.len() >= RUNS_PER_ANSWER;
        Ok(Changes {
            standing,
            backing: Backing::default(),
            size_bytes: volume.size_bytes(),
            since: since.map_or(GenerationId::NONE, |local| local.bitmap_generation(node)),
            is_everything,
            next: runs.last().map(|last| last.end()).filter(|_| full),
            runs,
        })
    }

    /// Whether what was saved is all that would be given up, and still the same.
    pub(super) fn check_saved(
        &self,
        node: NodeId,
        keep_own: bool,
        saved: &[Standing],
    ) -> Result<(), Refusal> {
        if saved.is_empty() {
            return Ok(());
        }
        let refuse = |code, reason: String, help| Err(Refusal::new(code, reason, help));
        if keep_own {
            let reason = String::from("what is given up is on the other node, and so is its copy");
            return refuse(RefusalCode::InvalidRequest, reason, "");
        }
        self.refuse_while_growing()?;
        let refused = self
            .connections
            .get(&node)
            .and_then(|peer| peer.refused.as_ref());
        for met in refused.iter().flat_map(|refused| &refused.volumes) {
            let number = met.number;
            let mut copies = saved.iter().filter(|copy| copy.volume == number);
            match (copies.next(), self.standing(node, number)) {
                (Some(copy), Some(now)) if *copy == now => {}
                (None, _) if met.divergence != Divergence::Both => {}
                (Some(_) | None, _) => {
                    let name = &self.config.name;
                    let reason =
                        alloc::format!("the data of {name}/{number} is not what was saved");
                    let help = "begin anew, with another file";
                    return refuse(RefusalCode::StateConcurrent, reason, help);
                }
            }
        }
        Ok(())
    }

    fn standing(&self, node: NodeId, number: VolumeNumber) -> Option<Standing> {
        let volume = self.volumes.get(&number)?;
        let local = volume.local.as_ref()?;
        let peer = volume.peers.get(&node)?;
        Some(Standing {
            volume: number,
            attachment: local.attachment,
            generation: local.current(),
            marked_blocks: peer.bitmap.count(),
            written_bytes: volume.counters.written_bytes,
        })
    }

    /// A Primary's clients go on changing things, and so does a peer whose writes arrive.
    fn refuse_while_growing(&self) -> Result<(), Refusal> {
        let name = &self.config.name;
        if self.role == Role::Primary {
            let reason = "a Primary's data is in use";
            let help = alloc::format!("rbdadm secondary {name}");
            return Err(Refusal::new(RefusalCode::DiscardWhilePrimary, reason, help));
        }
        let is_changing =
            self.stop != Stop::No || self.demotion.is_some() || self.promotion.is_some();
        let is_busy = |volume: &Volume<B>| !volume.is_quiet() || !volume.peer_writes.is_empty();
        if is_changing || self.volumes.values().any(is_busy) {
            let reason = "its role is changing, or something is being written";
            return Err(Refusal::new(RefusalCode::StateTransient, reason, ""));
        }
        Ok(())
    }
}

/// The blocks marked for the peer, from a place on.
fn marked<B: Clone>(volume: &Volume<B>, node: NodeId, from: u64) -> Vec<ByteRange> {
    let mut runs = Vec::new();
    let mut at = from;
    let size = volume.size_bytes();
    while runs.len() < RUNS_PER_ANSWER
        && let Some(peer) = volume.peers.get(&node)
        && let Some(run) = peer.bitmap.next_run(at, LONGEST_RUN, size)
    {
        at = run.end();
        runs.push(run);
    }
    runs
}

/// Everything from a place on.
fn pieces(from: u64, size: u64) -> Vec<ByteRange> {
    let mut runs = Vec::new();
    let mut at = from;
    while runs.len() < RUNS_PER_ANSWER && at < size {
        let length = u32::try_from(size - at)
            .unwrap_or(u32::MAX)
            .min(LONGEST_RUN);
        runs.push(ByteRange::new(at, length));
        at += u64::from(length);
    }
    runs
}

/// Places named in one answer, which has to fit into a control frame.
const RUNS_PER_ANSWER: usize = 4096;

/// The longest of them: many blocks, and far from the end of 32 bits.
const LONGEST_RUN: u32 = 1 << 30;

const _: () = assert!(LONGEST_RUN.is_multiple_of(BLOCK_SIZE));
