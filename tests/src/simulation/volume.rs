//! One volume of a simulated machine: its disk, its metadata, and what has become of both.

use std::collections::BTreeMap;

use rbd_engine::{AttachedDisk, DiskNote};
use rbd_protocol::ids::{ByteRange, GenerationId};
use rbd_protocol::metadata::{
    Creation, FormerEnd, Image, Layout, Located, NodeName, OpenError, OpenInputs, Placement,
    ResourceName, Superblock, create, open, open_internal, required_external_bytes,
};
use rbd_protocol::state::ReplicationState;

use super::aimed::Backup;
use super::disk::{Disk, SECTOR};
use super::node::{RESOURCE, name, node_id, number};
use super::profile::Options;
use super::submission::{Begun, FromPeer};
use crate::check::Registers;

/// Whose garbage is the same on both disks.
const NOBODY: u8 = 7;

/// What one machine has of one volume.
#[derive(Debug)]
pub(super) struct Volume {
    node: usize,
    volume: usize,
    pub(super) disk: Disk,
    /// How large its metadata says that the volume is, durably.
    pub(super) volume_bytes: u64,
    most_bytes: u64,
    /// Where metadata inside of the disk is, as noted outside of it.
    pub(super) noted: Option<FormerEnd>,
    /// That metadata is being moved.
    pub(super) moving: bool,
    /// What its processes have noted of a failed flush; gone when it boots.
    pub(super) lost_cache: bool,
    /// What is noted in the state directory: clients went on without the disk.
    pub(super) left_behind: bool,
    pub(super) attached: bool,
    pub(super) openers: u32,
    /// It has lost its power, or its disk has failed, since it was last in sync or Primary: what it
    /// holds, it holds by luck.
    pub(super) suspect: bool,
    /// The disk has returned an error since it was attached.
    pub(super) disk_failed: bool,
    /// It has acknowledged a write that the other node has not, since both were last in sync.
    pub(super) wrote_alone: bool,
    /// Where its disk could not be read.
    pub(super) unread: Vec<ByteRange>,
    /// Where its disk did not take a write.
    pub(super) untaken: Vec<ByteRange>,
    /// Its operator has said that its data may be given up.
    pub(super) gives_up: bool,
    /// What it said of its replication when it was last looked at.
    pub(super) replication: ReplicationState,
    /// The generation durable on the disk and those before it, newest first.
    pub(super) generations: Vec<u64>,
    /// Whether the disk says durably that it is one generation's.
    pub(super) consistent: bool,
    /// What the peer has sent to be written.
    pub(super) from_peer: FromPeer,
    /// Until then something other than a defect may have kept its clients waiting.
    pub(super) excused_until: u64,
    /// Until then its disk may be slow or stuck.
    pub(super) hindered_until: u64,
    /// It has had its disk since it came up.
    pub(super) held_disk: bool,
    /// The generation it last said its disk has.
    pub(super) last_generation: u64,
    /// Nothing is missing on its disk, as it says.
    pub(super) is_whole: bool,
    /// When it became a target it had no data of its own to be overwritten, or both nodes were
    /// Primary and of one generation.
    pub(super) may_be_filled: bool,
    /// What of its clients has been sent to its peer.
    pub(super) begun: Begun,
    /// What its clients have been told is written, by sector, since it was promoted.
    pub(super) told: BTreeMap<u64, u32>,
    /// Its clients have seen other data than the peer it is connected to has.
    pub(super) is_unserved: bool,
    /// What it last showed its clients of the volume's size.
    pub(super) has_shown: u64,
    /// `before-resync-target` has ended well.
    pub(super) prepared: bool,
    /// It has been the target of a resync since it took its disk.
    pub(super) was_target: bool,
    /// It has been set back to this generation, which its peer knows for an old one: that, and no
    /// mark, tells that anything may differ.
    pub(super) set_back_to: Option<u64>,
    /// A copy of the disk, if one has been made.
    pub(super) backup: Option<Backup>,
}

impl Volume {
    pub(super) fn new(node: usize, volume: usize, options: &Options) -> Self {
        let (size, most) = (options.size_bytes, options.most_bytes);
        let mut disk = Disk::new(size, most, options.internal_metadata);
        if options.inside.moves {
            disk.size_bytes += bytes_inside(size);
            disk.keep_metadata_inside(node_id(node).0);
        }
        let is_alike = |sector| options.skip_initial_sync && sector < size / SECTOR;
        for sector in (0..disk.sectors()).filter(|sector| !is_alike(*sector)) {
            let is_clean = options.inside.clean && sector >= size / SECTOR;
            let whose = if is_clean { NOBODY } else { node_id(node).0 };
            disk.preset(sector, Registers::garbage(volume as u64, sector, whose));
        }
        create_metadata(&mut disk, (node, volume), most);
        Self {
            node,
            volume,
            disk,
            volume_bytes: size,
            most_bytes: most,
            noted: None,
            moving: false,
            lost_cache: false,
            left_behind: false,
            attached: false,
            openers: 0,
            suspect: false,
            disk_failed: false,
            wrote_alone: false,
            unread: Vec::new(),
            untaken: Vec::new(),
            gives_up: false,
            replication: ReplicationState::Off,
            generations: Vec::new(),
            consistent: false,
            from_peer: FromPeer::default(),
            excused_until: 0,
            hindered_until: 0,
            held_disk: false,
            last_generation: 0,
            is_whole: false,
            may_be_filled: false,
            begun: Begun::default(),
            told: BTreeMap::new(),
            is_unserved: false,
            has_shown: 0,
            prepared: false,
            was_target: false,
            set_back_to: None,
            backup: None,
        }
    }

    /// The disk is another one, with what may be on a disk nobody has written yet, and new
    /// metadata.
    pub(super) fn replace_disk(&mut self) {
        let node = node_id(self.node).0;
        let volume = self.volume as u64;
        self.disk
            .replace(|sector| Registers::garbage(volume, sector, node));
        create_metadata(&mut self.disk, (self.node, self.volume), self.most_bytes);
    }

    /// Everything the process held of it is gone.
    pub(super) fn forget_process(&mut self) {
        self.attached = false;
        self.openers = 0;
        self.disk_failed = false;
        self.held_disk = false;
        self.is_whole = false;
        self.last_generation = 0;
        self.from_peer = FromPeer::default();
        self.may_be_filled = false;
        self.has_shown = 0;
        self.begun = Begun::default();
        self.told.clear();
        self.prepared = false;
        self.moving = false;
        self.replication = ReplicationState::Off;
    }

    /// What the metadata on the disk says.
    pub(super) fn open(&self) -> Result<Image, OpenError> {
        self.locate().map(|located| located.image)
    }

    /// The same, and what else has to be written before anything is: where it looks for metadata
    /// inside of a disk is what the daemon looks at.
    pub(super) fn locate(&self) -> Result<Located, OpenError> {
        let inputs = OpenInputs {
            device_bytes: self.disk.size_bytes,
            placement: self.placement(),
            resource: RESOURCE,
            node: &name(self.node),
            node_id: node_id(self.node),
            volume: number(self.volume),
            accept_older_superblock: false,
        };
        let mut read = |offset, into: &mut [u8]| self.disk.read_metadata(offset, into);
        if inputs.placement != Placement::Internal {
            let image = open(&mut read, &inputs)?;
            return Ok(Located {
                image,
                again: Vec::new(),
                wipe: Vec::new(),
            });
        }
        open_internal(&mut read, &inputs, self.noted)
    }

    pub(super) fn keep_note(&mut self, note: DiskNote, holds: bool) {
        match note {
            DiskNote::LostCache => self.lost_cache = holds,
            DiskNote::LeftBehind => self.left_behind = holds,
        }
    }

    /// Where its metadata is, and how much room there is for it.
    pub(super) fn placement(&self) -> Placement {
        placement(&self.disk, self.most_bytes)
    }

    pub(super) fn attachable(&self) -> Result<AttachedDisk, OpenError> {
        let cache = rbd_protocol::control::WriteCache::Volatile;
        Ok(AttachedDisk {
            lost_cache: self.lost_cache,
            left_behind: self.left_behind,
            device_bytes: self.disk.size_bytes,
            ..AttachedDisk::new(Box::new(self.open()?), 512, cache)
        })
    }

    /// Whether a generation of data is durable on the disk.
    pub(super) fn holds_data(&self) -> bool {
        let current = self.generations.first();
        current.is_some_and(|current| GenerationId(*current).names_data())
    }

    /// Whether clients see the own disk: it is there, and nothing is missing on it.
    pub(super) fn serves_itself(&self) -> bool {
        self.attached && self.is_whole
    }
}

fn create_metadata(disk: &mut Disk, (node, volume): (usize, usize), most_bytes: u64) {
    let placement = placement(disk, most_bytes);
    let layout =
        Layout::new(disk.size_bytes, placement, 1, None).expect("a simulated disk has room");
    let creation = Creation {
        resource: ResourceName::new(RESOURCE).expect("short"),
        node: NodeName::new(&name(node)).expect("short"),
        node_id: node_id(node),
        volume: number(volume),
        device_id: 77 + u64::from(node_id(node).0) + 1_000 * u64::from(number(volume).0),
        created_at: 0,
    };
    for write in create(&Superblock::new(creation, &layout), &layout) {
        disk.preset_metadata(write.offset, write.block);
    }
}

/// How much room metadata takes at the end of a disk for this much data.
fn bytes_inside(size_bytes: u64) -> u64 {
    let room = 2 * size_bytes + (1 << 20);
    let layout = Layout::with_data(room, Placement::Internal, 1, size_bytes);
    layout.expect("there is room").metadata_bytes()
}

fn placement(disk: &Disk, most_bytes: u64) -> Placement {
    if disk.has_metadata_inside() {
        return Placement::Internal;
    }
    Placement::External {
        offset: 0,
        available: required_external_bytes(most_bytes, 1),
    }
}
