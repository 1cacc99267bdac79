//! One simulated machine: its disk, its power, and the engine while its process runs.

use std::collections::BTreeMap;

use rbd_engine::{AttachedDisk, DiskNote, Resource, Seed};
use rbd_protocol::control::{
    DiskTrouble, Fencing, MetaDisk, NetOptions, OnIoError, PeerConfig, ResourceConfig,
    ResourceOptions, ResourceStatus, VolumeConfig,
};
use rbd_protocol::ids::{ByteRange, GenerationId, NodeId, VolumeNumber};
use rbd_protocol::metadata::{
    Creation, FormerEnd, Image, Layout, Located, NodeName, OpenError, OpenInputs, Placement,
    ResourceName, Superblock, create, open, open_internal, required_external_bytes,
};
use rbd_protocol::state::{DiskState, ReplicationState, Role};

use super::clock::Clock;
use super::disk::{Disk, Payload, SECTOR};
use super::profile::Options;
use super::said::Spoken;
use super::submission::{Begun, FromPeer};
use crate::check::garbage;

/// The only volume.
pub(super) const VOLUME: VolumeNumber = VolumeNumber(0);

const RESOURCE: &str = "r0";

/// Whose garbage is the same on both disks.
const NOBODY: u8 = 7;

/// One simulated machine.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) index: usize,
    pub(super) config: ResourceConfig,
    pub(super) engine: Option<Resource<Payload>>,
    pub(super) disk: Disk,
    /// How large its metadata says that the volume is, durably.
    pub(super) volume_bytes: u64,
    most_bytes: u64,
    /// Where metadata inside of the disk is, as noted outside of it.
    pub(super) noted: Option<FormerEnd>,
    /// That metadata is being moved.
    pub(super) moving: bool,
    /// Changes when power is lost.
    pub(super) boot: u128,
    /// What its processes have noted of a failed flush; gone when it boots.
    pub(super) lost_cache: bool,
    /// What is noted in the state directory: clients went on without the disk.
    pub(super) left_behind: bool,
    /// Counts processes: what was for an earlier one reaches nobody.
    pub(super) life: u64,
    /// The newest wish to be woken; 0 when there is none.
    pub(super) wake: u64,
    /// When, on its own clock.
    pub(super) wakes_at: u64,
    pub(super) attached: bool,
    /// Wants a link.
    pub(super) seeking: bool,
    pub(super) openers: u32,
    /// It has lost its power, or its disk has failed, since it was last in sync or Primary: what it
    /// holds, it holds by luck.
    pub(super) suspect: bool,
    /// The disk has returned an error since it was attached.
    pub(super) disk_failed: bool,
    pub(super) clock: Clock,
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
    /// How much longer than usual it stays down after the next crash, in microseconds.
    pub(super) away_us: u64,
    /// How often it is to crash again while it comes up.
    pub(super) crashes_left: u64,
    /// The process is to die in the middle of what it does next.
    pub(super) dies_next: bool,
    /// The generation durable on the disk and those before it, newest first.
    pub(super) generations: Vec<u64>,
    /// Whether the disk says durably that it is one generation's.
    pub(super) consistent: bool,
    /// What the peer has sent to be written.
    pub(super) from_peer: FromPeer,
    /// The link it was last told of.
    pub(super) newest_link: u64,
    /// Until then something other than a defect may have kept its clients waiting.
    pub(super) excused_until: u64,
    /// Until then its disk may be slow or stuck.
    pub(super) hindered_until: u64,
    /// It was Primary when it was told to be one no more.
    pub(super) being_demoted: bool,
    /// The peer was Primary too when it was last to be demoted.
    pub(super) was_beside: bool,
    /// It has had its disk since it came up.
    pub(super) held_disk: bool,
    /// The generation it last said its disk has.
    pub(super) last_generation: u64,
    /// Nothing is missing on its disk, as it says.
    pub(super) is_whole: bool,
    /// What it has said to its peer.
    pub(super) spoken: Spoken,
    /// Its clients had to wait when it was last looked at.
    pub(super) was_frozen: bool,
    /// When it became a target it had no data of its own to be overwritten, or both nodes were
    /// Primary and of one generation.
    pub(super) may_be_filled: bool,
    /// What of its clients has been sent to its peer.
    pub(super) begun: Begun,
    /// What its clients have been told is written, by sector, since it was promoted.
    pub(super) told: BTreeMap<u64, u32>,
    /// Its clients have seen other data than the peer it is connected to has.
    pub(super) is_unserved: bool,
    /// They had to wait before what it is being told now, or that is why they have to.
    pub(super) waits: bool,
    /// What it last showed its clients of the volume's size.
    pub(super) has_shown: u64,
    /// `before-resync-target` has ended well.
    pub(super) prepared: bool,
    /// It has been the target of a resync since it took its disk.
    pub(super) was_target: bool,
    /// It has been set back to this generation, which its peer knows for an old one: that, and no
    /// mark, tells that anything may differ.
    pub(super) set_back_to: Option<u64>,
}

impl Node {
    pub(super) fn new(index: usize, options: &Options) -> Self {
        let (size, most) = (options.size_bytes, options.most_bytes);
        let mut disk = Disk::new(size, most, options.internal_metadata);
        if options.inside.moves {
            disk.size_bytes += bytes_inside(size);
            disk.keep_metadata_inside(node_id(index).0);
        }
        let is_alike = |sector| options.skip_initial_sync && sector < size / SECTOR;
        for sector in (0..disk.sectors()).filter(|sector| !is_alike(*sector)) {
            let is_clean = options.inside.clean && sector >= size / SECTOR;
            let whose = if is_clean { NOBODY } else { node_id(index).0 };
            disk.preset(sector, garbage(sector, whose));
        }
        create_metadata(&mut disk, index, most);
        Self {
            index,
            config: config(index, options),
            engine: None,
            disk,
            volume_bytes: size,
            most_bytes: most,
            noted: None,
            moving: false,
            boot: 1,
            lost_cache: false,
            left_behind: false,
            life: 0,
            wake: 0,
            wakes_at: 0,
            attached: false,
            seeking: false,
            openers: 0,
            suspect: false,
            disk_failed: false,
            clock: Clock::new(
                options.clock_permille.get(index).copied().unwrap_or(1_000),
                u64::try_from(index).expect("there are two nodes") * 1_000_000_007,
            ),
            away_us: 0,
            crashes_left: 0,
            wrote_alone: false,
            unread: Vec::new(),
            untaken: Vec::new(),
            gives_up: false,
            replication: ReplicationState::Off,
            dies_next: false,
            generations: Vec::new(),
            consistent: false,
            from_peer: FromPeer::default(),
            newest_link: 0,
            excused_until: 0,
            hindered_until: 0,
            held_disk: false,
            is_whole: false,
            last_generation: 0,
            being_demoted: false,
            was_beside: false,
            spoken: Spoken::default(),
            was_frozen: false,
            may_be_filled: false,
            begun: Begun::default(),
            told: BTreeMap::new(),
            is_unserved: false,
            waits: false,
            has_shown: 0,
            prepared: false,
            was_target: false,
            set_back_to: None,
        }
    }

    /// The disk is another one, with what may be on a disk nobody has written yet, and new
    /// metadata.
    pub(super) fn replace_disk(&mut self, options: &Options) {
        self.disk.replace(|sector| {
            let node = u8::try_from(self.index).expect("there are two nodes");
            garbage(sector, node)
        });
        create_metadata(&mut self.disk, self.index, options.most_bytes);
    }

    pub(super) fn start(&mut self, random: u64) {
        self.life += 1;
        let seed = Seed {
            random,
            boot: self.boot,
            unix_start: 0,
        };
        self.engine = Some(Resource::new(self.config.clone(), seed));
    }

    /// Everything the process held is gone; the disk is another matter.
    pub(super) fn forget_process(&mut self) {
        self.engine = None;
        self.life += 1;
        self.attached = false;
        self.seeking = false;
        self.openers = 0;
        self.dies_next = false;
        self.disk_failed = false;
        self.held_disk = false;
        self.is_whole = false;
        self.last_generation = 0;
        self.being_demoted = false;
        self.from_peer = FromPeer::default();
        self.spoken = Spoken::default();
        self.was_frozen = false;
        self.may_be_filled = false;
        self.has_shown = 0;
        self.begun = Begun::default();
        self.told.clear();
        self.prepared = false;
        self.moving = false;
        self.replication = ReplicationState::Off;
    }

    /// The node knows of a link, and with it that any older one is gone.
    pub(super) fn gain_link(&mut self, link: u64) {
        self.from_peer.lose_link();
        self.newest_link = link;
        self.is_unserved = false;
    }

    /// The node knows that the link is gone.
    pub(super) fn lose_link(&mut self, link: u64) {
        if link == self.newest_link {
            self.from_peer.lose_link();
        }
        self.spoken.loses_link(link);
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
            node: &self.config.node_name,
            node_id: self.config.node_id,
            volume: VOLUME,
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

    /// Whether the disk counts as a copy: a resync target's does not, whatever it holds.
    pub(super) fn is_a_copy(&self, now: rbd_engine::Time) -> bool {
        let live = self.status(now).map(|status| {
            status
                .devices
                .iter()
                .all(|device| device.disk_state != DiskState::Inconsistent)
        });
        self.consistent && live.unwrap_or(true)
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

    pub(super) fn is_primary(&self) -> bool {
        self.engine
            .as_ref()
            .is_some_and(|engine| engine.role() == Role::Primary)
    }

    /// Whether what is written here goes to the other node too, as far as is known.
    pub(super) fn is_replicating(&self) -> bool {
        self.status(rbd_engine::Time(0)).is_some_and(|status| {
            let mut peers = status
                .connections
                .iter()
                .flat_map(|peer| &peer.peer_devices);
            peers.all(|device| device.replication_state != ReplicationState::Off)
        })
    }

    pub(super) fn is_up_to_date(&self, now: rbd_engine::Time) -> bool {
        self.status(now).is_some_and(|status| {
            status
                .devices
                .iter()
                .all(|device| device.disk_state == DiskState::UpToDate)
        })
    }

    /// What the engine says of itself. Two copies that are being compared are in sync.
    pub(super) fn status(&self, now: rbd_engine::Time) -> Option<ResourceStatus> {
        let mut status = self.engine.as_ref()?.status(now);
        let peers = status.connections.iter_mut();
        for device in peers.flat_map(|peer| &mut peer.peer_devices) {
            let state = &mut device.replication_state;
            if matches!(state, ReplicationState::VerifyS | ReplicationState::VerifyT) {
                *state = ReplicationState::Established;
            }
        }
        Some(status)
    }
}

fn create_metadata(disk: &mut Disk, index: usize, most_bytes: u64) {
    let placement = placement(disk, most_bytes);
    let layout =
        Layout::new(disk.size_bytes, placement, 1, None).expect("a simulated disk has room");
    let creation = Creation {
        resource: ResourceName::new(RESOURCE).expect("short"),
        node: NodeName::new(&name(index)).expect("short"),
        node_id: node_id(index),
        volume: VOLUME,
        device_id: 77 + u64::from(node_id(index).0),
        created_at: 0,
    };
    for write in create(&Superblock::new(creation, &layout), &layout) {
        disk.preset_metadata(write.offset, write.block);
    }
}

pub(super) fn node_id(index: usize) -> NodeId {
    NodeId(u8::try_from(index).expect("there are two nodes"))
}

fn name(index: usize) -> String {
    format!("node-{index}")
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

fn config(index: usize, options: &Options) -> ResourceConfig {
    let peer = 1 - index;
    ResourceConfig {
        name: RESOURCE.into(),
        defined_at: "r0.res:1".into(),
        config_path: "r0.res".into(),
        node_name: name(index),
        node_id: node_id(index),
        listen: Some(format!("{}:7788", name(index))),
        peers: vec![PeerConfig {
            name: name(peer),
            node_id: node_id(peer),
            address: format!("{}:7788", name(peer)),
            net: NetOptions {
                connect_interval_ms: options.connect_ms,
                ping_interval_ms: options.ping_ms.0,
                ping_timeout_ms: options.ping_ms.1,
                split: if index == 0 {
                    options.split
                } else {
                    options.split.seen_from_peer()
                },
                resync_conflict: options.resync_conflict,
                verify: true,
                compare_first: options.compares,
                two_primaries: options.dual && options.migration_ms == 0,
                fencing: options
                    .fencing
                    .map_or(Fencing::DontCare, |model| model.policy),
                ..NetOptions::default()
            },
        }],
        volumes: vec![VolumeConfig {
            number: VOLUME,
            device: "/dev/drbd0".into(),
            minor: Some(0),
            disk: Some("disk".into()),
            meta_disk: if options.inside.moves {
                MetaDisk::Internal
            } else {
                MetaDisk::External {
                    path: "meta".into(),
                    index: None,
                }
            },
            size_limit_bytes: None,
            exports: Vec::new(),
            kernel: rbd_protocol::control::KernelExport::None,
            resync: Vec::new(),
            resync_after: None,
            on_disk_trouble: DiskTrouble {
                on_error: if options.pass_on {
                    OnIoError::PassOn
                } else {
                    OnIoError::Detach
                },
                ..DiskTrouble::default()
            },
        }],
        options: ResourceOptions {
            hot_region_limit: options.hot_region_limit,
            suspend_without_data: false,
        },
        handlers: handlers(options),
    }
}

fn handlers(options: &Options) -> Vec<(String, String)> {
    let fencing = options.fencing.is_some();
    let fencing = ["fence-peer", "unfence-peer"].map(|name| (name, fencing));
    let guard = ("before-resync-target", options.guard.is_some());
    let each = fencing.into_iter().chain([guard]);
    each.filter(|(_, wanted)| *wanted)
        .map(|(name, _)| (name.to_owned(), "simulated".to_owned()))
        .collect()
}
