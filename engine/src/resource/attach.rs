//! Taking a volume's disk.
//!
//! A Secondary's disk counts as what its metadata says until the peer has been met. A Primary that
//! is given a disk has been served by its peer: its clients go on with the peer's data, and the
//! disk is not used before it has been filled from there, whatever it says of itself.

use alloc::string::String;
use alloc::vec::Vec;

use rbd_protocol::control::{Refusal, RefusalCode};
use rbd_protocol::ids::{NodeId, VolumeNumber};
use rbd_protocol::metadata::Superblock;
use rbd_protocol::state::{DiskState, Role};

use super::Resource;
use crate::contract::AttachedDisk;
use crate::local_disk::{AttachError, LocalDisk};

impl<B: Clone> Resource<B> {
    pub(super) fn attach(
        &mut self,
        number: VolumeNumber,
        disk: AttachedDisk,
    ) -> Result<Option<String>, Refusal> {
        let name = self.config.name.clone();
        if !self.volumes.contains_key(&number) {
            let reason = alloc::format!("{name} has no {number:?}");
            return Err(Refusal::new(RefusalCode::InvalidRequest, reason, ""));
        }
        if self.role == Role::Primary {
            self.refuse_to_attach(number, &disk)?;
        }
        let Some(volume) = self.volumes.get_mut(&number) else {
            return Ok(None);
        };
        if volume.local.is_some() {
            let reason = alloc::format!("{name}/{number} already has its disk");
            return Err(Refusal::new(RefusalCode::AlreadyAttached, reason, ""));
        }
        let damage = disk.image.damage.clone();
        let is_noted = disk.lost_cache;
        volume.left_behind |= disk.left_behind;
        let peers: Vec<(NodeId, &str)> = self
            .config
            .peers
            .iter()
            .map(|peer| (peer.node_id, peer.name.as_str()))
            .collect();
        self.attachments += 1;
        let now = self.cx.now;
        let (mut local, bitmaps) =
            LocalDisk::attach(disk, &peers, self.boot, self.attachments, now).map_err(refusal)?;
        volume.lost_cache |= is_noted;
        if volume.lost_cache {
            local.note_lost_cache();
        }
        volume.hold_back_if_left_behind(&mut local, &mut self.cx);
        let state = local.state_alone();
        let known = self.config.peers.iter().map(|peer| peer.node_id);
        let outdated: Vec<NodeId> = known.filter(|node| local.is_peer_outdated(*node)).collect();
        let in_use = volume.told_size.0;
        volume.told_size = (local.size_bytes(), local.block_bytes());
        volume.local = Some(local);
        for (node, bitmap) in bitmaps {
            if let Some(peer) = volume.peers.get_mut(&node) {
                peer.bitmap = bitmap;
                if outdated.contains(&node) && peer.peer_disk == DiskState::DUnknown {
                    peer.peer_disk = DiskState::Outdated;
                }
                peer.behind_since_version = 0;
                peer.forget_unstable();
            }
        }
        volume.take_size(&mut self.cx);
        if self.role == Role::Primary && volume.size_bytes() > in_use {
            let resized = volume.resize(in_use, true, &mut self.cx);
            debug_assert!(resized.is_ok(), "a smaller size always fits");
        }
        if self.role == Role::Primary {
            volume.await_filling(state, &mut self.cx);
        } else {
            volume.set_disk_state(state, note_for(state), &mut self.cx);
        }
        for connection in self.connections.values_mut() {
            connection.seen_incarnation = 0; // what this disk has seen, it has seen before
        }
        self.renegotiate();
        let damaged = alloc::format!(
            "{name}/{number}: {} damaged place(s) in the metadata count as out of sync",
            damage.len()
        );
        let lost = alloc::format!(
            "{name}/{number}: a flush of this disk has failed; until it is in sync again it \
             counts as one that has lost its power"
        );
        let notes = [(!damage.is_empty(), damaged), (is_noted, lost)];
        let notes: Vec<String> = notes
            .into_iter()
            .filter_map(|(is_so, note)| is_so.then_some(note))
            .collect();
        Ok((!notes.is_empty()).then(|| notes.join("; ")))
    }

    /// Whether this Primary, whose disk is gone, can take this one.
    fn refuse_to_attach(&self, number: VolumeNumber, disk: &AttachedDisk) -> Result<(), Refusal> {
        let Some(volume) = self.volumes.get(&number) else {
            return Ok(());
        };
        if volume.local.is_some() {
            return Ok(()); // that is what it is refused for
        }
        self.refuse_another_change()?;
        let name = &self.config.name;
        if volume.server().is_none() {
            // What it lacks, only a peer has; alone, it could be taken for what clients have seen.
            let reason =
                alloc::format!("{name} is Primary, its disk has failed, and no peer serves it");
            let help = alloc::format!("connect the peer, or: rbdadm secondary --force {name}");
            return Err(Refusal::new(RefusalCode::DataNotCurrent, reason, help));
        }
        let (size, block) = volume.told_size;
        let Superblock {
            data_bytes,
            generation,
            ..
        } = disk.image.superblock;
        // Only a disk without data takes less than there is room for.
        if data_bytes < size || (data_bytes > size && generation.names_data()) {
            let reason = alloc::format!(
                "{name}/{number} is in use with {size} bytes, and the disk has {data_bytes}"
            );
            let help = "take a disk that is as large, or larger and with new metadata";
            return Err(Refusal::new(RefusalCode::DiskTooSmall, reason, help));
        }
        if disk.block_bytes > block {
            let reason = alloc::format!(
                "{name}/{number} is in use in units of {block} bytes, and the disk writes {}",
                disk.block_bytes
            );
            let help = alloc::format!("rbdadm secondary {name}");
            return Err(Refusal::new(RefusalCode::InvalidRequest, reason, help));
        }
        Ok(())
    }
}

fn refusal(error: AttachError) -> Refusal {
    let (reason, help) = match error {
        AttachError::NoPeerSlot => (
            "the metadata has no room for another peer's bitmap",
            "make it anew with create-md --max-peers N",
        ),
        AttachError::PeerName => ("a peer's name is too long for the metadata", ""),
    };
    Refusal::new(RefusalCode::InvalidRequest, reason, help)
}

/// What people are told of a disk that has just been attached.
fn note_for(state: DiskState) -> &'static str {
    match state {
        DiskState::Inconsistent => "never synchronised, or interrupted while being so",
        DiskState::Outdated => "known to be behind a peer",
        DiskState::Consistent => {
            "no peer has been seen since it was attached, so whether it is the newest is not known"
        }
        DiskState::Diskless
        | DiskState::Attaching
        | DiskState::Detaching
        | DiskState::Failed
        | DiskState::Negotiating
        | DiskState::DUnknown
        | DiskState::UpToDate => "",
    }
}
