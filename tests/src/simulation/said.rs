//! What a node says to its peer, at the moment it says it: it must be so already, and durably.
//!
//! A promise that is broken between two nodes shows in the data only when the right one of them
//! crashes before the truth catches up. Here the speaker's own disk is looked at when the packet is
//! sent, so no such luck is needed.
//!
//! | Packet | What must be durable at its sender |
//! |---|---|
//! | greeting | the generations it names (D5); that it is no Primary, if it says so (D7) |
//! | greeting | that its disk is whole, if it says so (E1) |
//! | end of a bitmap | the generation it names (D5); that it counts from what a target has (D4) |
//! | request for resync data | that the disk is Inconsistent (E1) |
//! | end of a resync | the source's generation, and that the disk is UpToDate (E1, E4) |
//! | consent to a promotion | nothing, but it must not be Primary itself (G1) |
//!
//! Where two Primaries are allowed, one consents to the other if both disks have everything (F4).
//! The generations stay as greeted until the peer's greeting has come (D1).
//! A greeting also tells what its sender has lived through, by which a resync's direction is
//! decided (B7): with whom it has been in sync, and whether it was interrupted as Primary. And when
//! it is sent, nothing that came over an earlier link may still be on its way to the disk (A7).

use rbd_protocol::control::ResourceStatus;
use rbd_protocol::ids::GenerationId;
use rbd_protocol::metadata::Superblock;
use rbd_protocol::peer::{Hello, Packet};
use rbd_protocol::state::{DiskState, ReplicationState, Role};

use super::node::{device_of, number, peer_device_of, place};
use super::world::World;

/// What a node has said of itself, and what it has lived through since it took its disks.
#[derive(Debug, Default)]
pub(super) struct Spoken {
    /// The name of its process, as its last greeting said.
    incarnation: u64,
    /// Which incarnation of its peer it has heard of last.
    heard_incarnation: u64,
    /// Its last greeting said that it is Primary.
    greeted_as_primary: bool,
    /// The link its last greeting went over, as long as the peer's has not come.
    unanswered: Option<u64>,
    /// The link the peer's last greeting came over.
    heard: Option<u64>,
    /// That said that the peer is Primary.
    heard_of_primary: bool,
    /// It has been connected with nothing to copy, and no target since.
    was_established: bool,
    /// The process of the peer it was in sync with last.
    in_sync_with: u64,
    /// What it has said of each volume.
    volumes: Vec<OfVolume>,
}

/// What a node has said of one volume.
#[derive(Clone, Debug, Default)]
struct OfVolume {
    /// The generation its last greeting named.
    greeted: u64,
    /// The same, of one that is about to be sent.
    names: u64,
    /// It also said that the peer serves its clients, and that its own disk is to be filled.
    greeted_to_be_filled: bool,
    /// The generation the peer's last greeting named.
    heard_of: u64,
    /// It has been in sync since it took its disk.
    was_in_sync: bool,
    /// What the event that is being handled has led to. It says what it has to say first.
    new: Option<Standing>,
}

/// What a node's connection has become.
#[derive(Clone, Copy, Debug)]
enum Standing {
    Target,
    Established { in_sync: bool },
}

impl Spoken {
    /// Nothing has been said yet of any of these volumes.
    pub(super) fn new(volumes: usize) -> Self {
        Self {
            volumes: vec![OfVolume::default(); volumes],
            ..Self::default()
        }
    }

    /// The node has taken a disk: what it goes through from now on counts.
    pub(super) fn takes_disk(&mut self, volume: usize) {
        self.was_established = false;
        self.in_sync_with = 0;
        self.volumes[volume].was_in_sync = false;
    }

    /// The peer's greeting has come over the link.
    pub(super) fn hears_greeting(&mut self, link: u64, hello: &Hello) {
        self.heard = Some(link);
        self.heard_incarnation = hello.incarnation;
        self.heard_of_primary = hello.role == Role::Primary;
        for of in &hello.volumes {
            self.volumes[place(of.number)].heard_of = of.current.0;
        }
        self.unanswered = None;
    }

    /// The node is about to send a greeting.
    pub(super) fn is_to_greet(&mut self, hello: &Hello) {
        self.greeted_as_primary = hello.role == Role::Primary;
        for of in &hello.volumes {
            let said = &mut self.volumes[place(of.number)];
            said.names = of.current.0;
            said.greeted_to_be_filled = of.disk <= DiskState::Outdated;
        }
    }

    /// By what it has said, which both nodes decide from: it may have been promoted or demoted
    /// since.
    pub(super) fn greeted_as_primary(&self) -> bool {
        self.greeted_as_primary
    }

    /// It and its peer have both greeted as Primary, and neither has begun a generation without the
    /// other: what each had under way may be joined (D2, D7).
    pub(super) fn has_met_its_like(&self, volume: usize) -> bool {
        let said = &self.volumes[volume];
        self.greeted_as_primary && self.heard_of_primary && said.heard_of == said.names
    }

    /// The same by what both have said last.
    pub(super) fn greets_like(&self, other: &Self, volume: usize) -> bool {
        let both_primary = self.greeted_as_primary && other.greeted_as_primary;
        both_primary && self.volumes[volume].names == other.volumes[volume].names
    }

    /// Its clients see nothing of its own disk: they are served by the peer.
    pub(super) fn greeted_to_be_filled(&self, volume: usize) -> bool {
        self.volumes[volume].greeted_to_be_filled
    }

    /// The node has given the link up.
    pub(super) fn loses_link(&mut self, link: u64) {
        self.unanswered = self.unanswered.filter(|known| *known != link);
    }
}

impl World {
    /// Something has changed: perhaps the node is in sync now, or a target.
    pub(super) fn note_standing(&mut self, node: usize, status: &ResourceStatus) {
        for volume in self.volumes() {
            let Some(peer) = peer_device_of(status, volume) else {
                continue;
            };
            let own = device_of(status, volume).map(|device| device.disk_state);
            let in_sync =
                own == Some(DiskState::UpToDate) && peer.peer_disk_state == DiskState::UpToDate;
            self.nodes[node].spoken.volumes[volume].new = match peer.replication_state {
                ReplicationState::Established => Some(Standing::Established { in_sync }),
                ReplicationState::WFBitMapT => Some(Standing::Target),
                _ => None,
            };
        }
    }

    /// The node has said and done what an event has led to.
    pub(super) fn has_spoken(&mut self, node: usize) {
        let spoken = &mut self.nodes[node].spoken;
        let (mut all_established, mut all_in_sync, mut is_target) = (true, true, false);
        for said in &mut spoken.volumes {
            let new = said.new.take();
            let in_sync = matches!(new, Some(Standing::Established { in_sync: true }));
            said.was_in_sync |= in_sync;
            all_in_sync &= in_sync;
            all_established &= matches!(new, Some(Standing::Established { .. }));
            is_target |= matches!(new, Some(Standing::Target));
        }
        spoken.was_established |= all_established;
        if all_in_sync {
            // The peer may be another by now, and have greeted on a link not yet known.
            spoken.in_sync_with = spoken.heard_incarnation;
        }
        if is_target {
            spoken.was_established = false;
            spoken.in_sync_with = 0;
        }
    }

    /// What is durable on the node's disk has changed.
    pub(super) fn look_at_greeted(&mut self, node: usize, volume: usize) {
        let spoken = &self.nodes[node].spoken;
        let machine = &self.nodes[node][volume];
        let same = machine.generations.first() == Some(&spoken.volumes[volume].greeted);
        if machine.attached && spoken.unanswered.is_some() && !same {
            self.violation(format!(
                "D1: node {node} begins a generation between its greeting and the peer's"
            ));
        }
    }

    /// The node sends its greeting over the link.
    fn greets(&mut self, node: usize, link: u64, hello: &Hello) -> Result<(), String> {
        let volumes = self.volumes();
        let machine = &mut self.nodes[node];
        let mut has_disk = volumes.clone().map(|volume| machine[volume].attached);
        let has_disk = has_disk.any(|attached| attached);
        let spoken = &mut machine.spoken;
        spoken.incarnation = hello.incarnation;
        spoken.unanswered = (spoken.heard != Some(link) && has_disk).then_some(link);
        for of in &hello.volumes {
            let said = &mut spoken.volumes[place(of.number)];
            said.greeted = of.current.0;
            if of.crashed_primary && said.was_in_sync {
                return Err("B7: says that it was interrupted, and has been in sync since".into());
            }
        }
        if hello.seen_incarnation != 0 && !spoken.was_established {
            return Err("B7: says that it has seen its peer in sync, and has not".into());
        }
        if hello.seen_incarnation != spoken.in_sync_with && spoken.in_sync_with != 0 {
            return Err("B7: does not say that it has seen its peer in sync".into());
        }
        for volume in volumes {
            let machine = &self.nodes[node][volume];
            if machine.attached && machine.from_peer.is_being_written() {
                return Err("A7: greets while data of an earlier link is being written".into());
            }
            self.durable(node, volume, |block| greets_truly(hello, volume, block))?;
        }
        Ok(())
    }

    /// The node sends this.
    pub(super) fn look_at_word(&mut self, node: usize, link: u64, packet: &Packet) {
        let result = match packet {
            Packet::PromoteReply { granted: true, .. }
                if self.nodes[node].is_primary() && !self.may_have_second(node) =>
            {
                Err("G1: consents to the promotion of its peer and is Primary itself".to_owned())
            }
            Packet::Hello(hello) => self.greets(node, link, hello),
            Packet::BitmapEnd {
                volume, generation, ..
            } => {
                let volume = place(*volume);
                let is_source = self.nodes[node][volume].replication == ReplicationState::WFBitMapS;
                let of_target = &self.nodes[1 - node].spoken.volumes[volume];
                let of_target = GenerationId(of_target.greeted);
                let of_target = Some(of_target).filter(|id| is_source && id.names_data());
                self.durable(node, volume, |block| names_its_own(*generation, block))
                    .and_then(|()| {
                        self.durable(node, volume, |block| counts_from(of_target, block))
                    })
            }
            Packet::ResyncRequest { volume, .. } | Packet::ResyncCompare { volume, .. } => {
                let volume = place(*volume);
                self.durable(node, volume, |block| {
                    if block.flags.consistent {
                        return Err(
                            "E1: asks for resync data and is not durably Inconsistent".into()
                        );
                    }
                    Ok(())
                })
            }
            Packet::ResyncDone {
                volume, generation, ..
            } => {
                let volume = place(*volume);
                self.durable(node, volume, |block| has_ended(*generation, block))
            }
            _ => return,
        };
        if let Err(text) = result {
            self.violation(format!("node {node} {text}"));
        }
    }

    /// Whether this Primary may let its peer be one too: both have been told so, and have
    /// everything, as far as it knows (F4).
    fn may_have_second(&self, node: usize) -> bool {
        let Some(status) = self.nodes[node].status(self.time(node)) else {
            return false;
        };
        let own = status.devices.iter().map(|device| device.disk_state);
        let peers = status
            .connections
            .iter()
            .flat_map(|peer| &peer.peer_devices);
        let gets_all = |state| {
            matches!(
                state,
                ReplicationState::Established | ReplicationState::SyncSource
            )
        };
        let mut peers = peers.map(|device| (device.peer_disk_state, device.replication_state));
        self.options.dual
            && own.into_iter().all(|disk| disk == DiskState::UpToDate)
            && peers.all(|(disk, state)| disk == DiskState::UpToDate && gets_all(state))
    }

    fn durable(
        &self,
        node: usize,
        volume: usize,
        check: impl FnOnce(&Superblock) -> Result<(), String>,
    ) -> Result<(), String> {
        if !self.nodes[node][volume].attached {
            return Ok(());
        }
        match self.nodes[node][volume].open() {
            Ok(image) => check(&image.superblock),
            Err(_) => Ok(()), // somebody else says that (C2)
        }
    }
}

fn greets_truly(hello: &Hello, volume: usize, block: &Superblock) -> Result<(), String> {
    let primary = hello.role == Role::Primary;
    let mut volumes = hello.volumes.iter();
    let own = volumes.find(|one| one.number == number(volume) && one.size_bytes > 0);
    if let Some(volume) = own {
        let slot = block.peers.iter().find(|slot| slot.node_id.is_some());
        let counts_from = slot.map_or(GenerationId::NONE, |slot| slot.bitmap_generation);
        if volume.current != block.generation || volume.bitmap != counts_from {
            return Err(format!(
                "D5: greets with generations {:?} and {:?}, durable are {:?} and {counts_from:?}",
                volume.current, volume.bitmap, block.generation
            ));
        }
        let is_whole = volume.disk > DiskState::Inconsistent && volume.disk != DiskState::DUnknown;
        if is_whole && !block.flags.consistent {
            return Err(format!(
                "E1: greets with a disk that is {} and is durably Inconsistent",
                volume.disk
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

fn counts_from(of_target: Option<GenerationId>, block: &Superblock) -> Result<(), String> {
    let slot = block.peers.iter().find(|slot| slot.node_id.is_some());
    let counts_from = slot.map_or(GenerationId::NONE, |slot| slot.bitmap_generation);
    if of_target.is_none_or(|generation| generation == counts_from) {
        return Ok(());
    }
    Err(format!(
        "D4: is the source of a resync to generation {of_target:?}, and its bitmap counts from \
         {counts_from:?}"
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
