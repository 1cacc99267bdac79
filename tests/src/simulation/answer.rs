//! When a command has been answered: what its answer promises is so already.
//!
//! | Answer | Promises |
//! |---|---|
//! | promoted | it is durable that the node is Primary (D7); every volume has data (G2) |
//! | demoted | it is durable that it is not; what clients were told is stable (G8) |
//! | stopped | the same, and the disk says that it was left in order (C8) |

use rbd_protocol::metadata::DiskFlags;
use rbd_protocol::state::DiskState;

use super::node::{device_of, peer_device_of};
use super::operator::Wish;
use super::volume::Volume;
use super::world::World;
use crate::check::Possible;

impl World {
    /// The node says that it has done this.
    pub(super) fn look_at_answer(&mut self, node: usize, wish: Wish) {
        let is_spared = |volume| {
            let copy: &Volume = &self.nodes[node][volume];
            !self.set_up || !copy.held_disk || copy.disk_failed || copy.open().is_err()
        };
        let known: Vec<usize> = self.volumes().filter(|one| !is_spared(*one)).collect();
        if known.is_empty() {
            return;
        }
        let demoted = std::mem::take(&mut self.nodes[node].being_demoted);
        for volume in known {
            self.look_at_answer_on(node, volume, wish, demoted);
        }
    }

    fn look_at_answer_on(&mut self, node: usize, volume: usize, wish: Wish, demoted: bool) {
        let Ok(image) = self.nodes[node][volume].open() else {
            return;
        };
        // A Primary's disk that is still to be filled says so when it is whole.
        let is_filled = self.nodes[node].is_primary() && !self.nodes[node][volume].is_whole;
        if let Err(text) = recorded(wish, demoted, image.superblock.flags)
            && !is_filled
        {
            self.violation(format!("node {node} {text}"));
        }
        // A disk that has failed may keep what a flush could not reach, but has it marked (B4).
        let is_a_copy = image.superblock.flags.consistent && !self.nodes[node][volume].suspect;
        // What another Primary has written meanwhile is for that one to flush.
        let beside = self.nodes[node].was_beside || self.nodes[1 - node].is_primary();
        let is_only_one = !(self.options.dual && beside);
        let ends = matches!(wish, Wish::Demote | Wish::EndMigration | Wish::Stop);
        if ends && is_a_copy && !self.is_forked {
            let result = if is_only_one {
                self.is_at_rest(node, volume)
            } else {
                self.is_told_stable(node, volume)
            };
            if let Err(text) = result {
                self.violation(format!("G8: node {node} has ended {wish:?}: {text}"));
            }
        }
        if ends {
            self.nodes[node][volume].told.clear();
        }
    }

    /// The node has been promoted in order: there is data for the clients of every volume (G2).
    pub(super) fn check_usable(&mut self, node: usize) {
        let Some(status) = self.nodes[node].status(self.time(node)) else {
            return;
        };
        let served = |volume| {
            let peer = peer_device_of(&status, volume).map(|device| device.peer_disk_state);
            peer == Some(DiskState::UpToDate) && self.is_connected(node)
        };
        let usable = |volume: &usize| {
            let own = device_of(&status, *volume).map(|device| device.disk_state);
            // A node whose disk is gone, or is being filled, has its clients served by the peer.
            own == Some(DiskState::UpToDate) || served(*volume)
        };
        if let Some(volume) = self.volumes().find(|volume| !usable(volume)) {
            self.violation(format!(
                "G2: node {node} is promoted, and has no data for clients of volume {volume}"
            ));
        }
    }

    /// Whether no loss of power takes from the node's disk, or from the one that serves it, what
    /// its own clients have been told is written.
    fn is_told_stable(&self, node: usize, volume: usize) -> Result<(), String> {
        let disk = &self.nodes[node][volume].disk;
        for (sector, index) in &self.nodes[node][volume].told {
            let content = disk.content(*sector);
            if self.records[volume]
                .registers
                .reaches(*sector, content, *index)
                .is_err()
            {
                continue; // it was not there before either
            }
            let mut result = Ok(());
            disk.possible(*sector, &mut |value| {
                if result.is_ok() {
                    result = self.records[volume]
                        .registers
                        .reaches(*sector, value, *index);
                }
            });
            result.map_err(|text| format!("a loss of power would leave {text}"))?;
        }
        Ok(())
    }

    /// Whether no loss of power takes anything from the node's disk that it has now.
    fn is_at_rest(&self, node: usize, volume: usize) -> Result<(), String> {
        let disk = &self.nodes[node][volume].disk;
        for (sector, _) in self.records[volume].registers.flush_invoked() {
            let content = disk.content(sector);
            if self.records[volume]
                .registers
                .holds(sector, content)
                .is_err()
            {
                continue; // it was not there before either
            }
            let mut result = Ok(());
            disk.possible(sector, &mut |value| {
                if result.is_ok() {
                    result = self.records[volume].registers.holds(sector, value);
                }
            });
            result.map_err(|text| format!("a loss of power would leave {text}"))?;
        }
        Ok(())
    }
}

fn recorded(wish: Wish, demoted: bool, flags: DiskFlags) -> Result<(), String> {
    let text = match wish {
        Wish::Promote | Wish::ForcePromote | Wish::Migrate if !flags.primary => {
            "D7: is promoted, and that is not durable"
        }
        Wish::Demote | Wish::EndMigration | Wish::Stop if demoted && flags.primary => {
            "D7: is demoted, and that is not durable"
        }
        Wish::Stop if !flags.clean_shutdown => "C8: has stopped, and is not durably clean",
        _ => return Ok(()),
    };
    Err(text.to_owned())
}
