//! One node: its disk, what is durable on it, and the engine while its process runs.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use rbd_engine::{AttachedDisk, Resource, Seed, Seek, Time};
use rbd_protocol::control::{
    MetaDisk, NetOptions, PeerConfig, ResourceConfig, ResourceOptions, ResourceStatus, VolumeConfig,
};
use rbd_protocol::ids::{NodeId, VolumeNumber};
use rbd_protocol::metadata::{
    Creation, Image, Layout, NodeName, OpenInputs, Placement, ResourceName, Superblock, create,
    open, required_external_bytes,
};
use rbd_protocol::state::{ConnectionState, DiskState, ReplicationState, Role};

use super::disk::{Data, Disk};
use super::geometry::{BLOCKS, SIZE_BYTES};
use crate::check::suspects;

/// The only volume.
pub(super) const VOLUME: VolumeNumber = VolumeNumber(0);

const RESOURCE: &str = "r0";

/// What the metadata on a disk says.
#[derive(Debug)]
pub(super) struct Durable {
    /// Which of the kept blocks count as out of sync, as bits.
    pub(super) marks: u8,
    /// The generation and those before it, newest first.
    pub(super) generations: Vec<u64>,
    /// The data is one generation's.
    pub(super) consistent: bool,
    /// All of it.
    pub(super) image: Image,
}

/// One node.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) index: usize,
    pub(super) engine: Option<Box<Resource<Data>>>,
    pub(super) disk: Disk,
    pub(super) durable: Arc<Durable>,
    /// Changes when power is lost.
    pub(super) boot: u64,
    /// Counts processes.
    pub(super) life: u64,
    pub(super) wake: Option<Time>,
    /// Wants a link.
    pub(super) seeking: Seek,
    /// The link it was told of.
    pub(super) link: Option<u64>,
    /// It has lost its power since it was last in sync or Primary: what it holds, it holds by luck.
    pub(super) lost_power: bool,
}

impl Node {
    pub(super) fn new(index: usize) -> Self {
        let mut disk = Disk::new(required_external_bytes(SIZE_BYTES, 1));
        let layout =
            Layout::new(SIZE_BYTES, placement(), 1, None).expect("the area is large enough");
        let creation = Creation {
            resource: ResourceName::new(RESOURCE).expect("short"),
            node: NodeName::new(&name(index)).expect("short"),
            node_id: node_id(index),
            volume: VOLUME,
            device_id: 77 + index as u64,
            created_at: 0,
        };
        for write in create(&Superblock::new(creation, &layout), &layout) {
            disk.preset_metadata(write.offset, &write.block);
        }
        let durable = durable(index, &disk).expect("fresh metadata can be read");
        Self {
            index,
            engine: None,
            disk,
            durable,
            boot: 1,
            life: 0,
            wake: None,
            seeking: Seek::Stop,
            link: None,
            lost_power: false,
        }
    }

    pub(super) fn start(&mut self) {
        self.life += 1;
        let seed = Seed {
            random: 1_000 * self.life + self.index as u64,
            boot: self.boot_id(),
            unix_start: 0,
        };
        self.engine = Some(Box::new(Resource::new(config(self.index), seed)));
    }

    pub(super) fn boot_id(&self) -> u128 {
        u128::from(self.boot * 2 + self.index as u64)
    }

    /// The process is gone.
    pub(super) fn end_process(&mut self) {
        self.engine = None;
        self.wake = None;
        self.seeking = Seek::Stop;
        self.link = None;
    }

    pub(super) fn attachable(&self) -> Result<AttachedDisk, String> {
        Ok(AttachedDisk::new(
            Box::new(durable(self.index, &self.disk)?.image.clone()),
            512,
            rbd_protocol::control::WriteCache::Volatile,
        ))
    }

    pub(super) fn role(&self) -> Option<Role> {
        Some(self.engine.as_ref()?.role())
    }

    pub(super) fn is_primary(&self) -> bool {
        self.role() == Some(Role::Primary)
    }

    pub(super) fn status(&self, now: Time) -> Option<ResourceStatus> {
        Some(self.engine.as_ref()?.status(now))
    }

    pub(super) fn disk_state(&self, now: Time) -> Option<DiskState> {
        Some(self.status(now)?.devices.first()?.disk_state)
    }

    pub(super) fn replication(&self, now: Time) -> ReplicationState {
        let status = self.status(now);
        let peer = status
            .as_ref()
            .and_then(|status| status.connections.first());
        let device = peer.and_then(|peer| peer.peer_devices.first());
        device.map_or(ReplicationState::Off, |device| device.replication_state)
    }

    pub(super) fn connection(&self, now: Time) -> Option<(ConnectionState, String)> {
        let status = self.status(now)?;
        let connection = status.connections.into_iter().next()?;
        Some((connection.connection_state, connection.note))
    }

    /// Whether it says that both replicas are identical.
    pub(super) fn is_in_sync(&self, now: Time) -> bool {
        let Some(status) = self.status(now) else {
            return false;
        };
        let up_to_date = |state| state == DiskState::UpToDate;
        status
            .devices
            .iter()
            .all(|device| up_to_date(device.disk_state))
            && status.connections.iter().all(|peer| {
                peer.connection_state == ConnectionState::Connected
                    && peer.peer_devices.iter().all(|device| {
                        device.replication_state == ReplicationState::Established
                            && up_to_date(device.peer_disk_state)
                            && device.out_of_sync_bytes == 0
                    })
            })
    }

    /// Whether the disk counts as a copy: a resync target's does not, whatever it holds.
    pub(super) fn is_a_copy(&self, now: Time) -> bool {
        self.durable.consistent && self.disk_state(now) != Some(DiskState::Inconsistent)
    }
}

/// What the metadata of a disk says; the same metadata is read once.
pub(super) fn durable(index: usize, disk: &Disk) -> Result<Arc<Durable>, String> {
    thread_local! {
        static KNOWN: RefCell<HashMap<(usize, u64), Arc<Durable>>> = RefCell::default();
    }
    let key = (index, disk.metadata_hash());
    if let Some(found) = KNOWN.with_borrow(|known| known.get(&key).cloned()) {
        return Ok(found);
    }
    let image = image(index, disk)?;
    let mut marks = 0;
    for suspect in suspects(&image, node_id(1 - index)) {
        for (bit, block) in BLOCKS.into_iter().enumerate() {
            if suspect.blocks.contains(&block) {
                marks |= 1 << bit;
            }
        }
    }
    let superblock = &image.superblock;
    let durable = Arc::new(Durable {
        marks,
        generations: std::iter::once(&superblock.generation)
            .chain(&superblock.history)
            .map(|generation| generation.0)
            .filter(|generation| *generation != 0)
            .collect(),
        consistent: superblock.flags.consistent,
        image,
    });
    KNOWN.with_borrow_mut(|known| {
        if known.len() > MOST_KNOWN {
            known.clear();
        }
        known.insert(key, durable.clone());
    });
    Ok(durable)
}

fn image(index: usize, disk: &Disk) -> Result<Image, String> {
    let name = name(index);
    let inputs = OpenInputs {
        device_bytes: SIZE_BYTES,
        placement: placement(),
        resource: RESOURCE,
        node: &name,
        node_id: node_id(index),
        volume: VOLUME,
        accept_older_superblock: false,
    };
    open(
        &mut |offset, into| disk.read_metadata(offset, into),
        &inputs,
    )
    .map_err(|error| format!("C2: node {index}: its metadata cannot be read: {error}"))
}

pub(super) fn node_id(index: usize) -> NodeId {
    NodeId(u8::try_from(index).expect("there are two nodes"))
}

fn name(index: usize) -> String {
    format!("node-{index}")
}

fn placement() -> Placement {
    Placement::External {
        offset: 0,
        available: required_external_bytes(SIZE_BYTES, 1),
    }
}

fn config(index: usize) -> ResourceConfig {
    let peer = 1 - index;
    ResourceConfig {
        name: RESOURCE.into(),
        defined_at: String::new(),
        config_path: String::new(),
        node_name: name(index),
        node_id: node_id(index),
        listen: None,
        peers: vec![PeerConfig {
            name: name(peer),
            node_id: node_id(peer),
            address: String::new(),
            net: NetOptions {
                ping_interval_ms: FOREVER_MS,
                ping_timeout_ms: FOREVER_MS,
                ..NetOptions::default()
            },
        }],
        volumes: vec![VolumeConfig {
            number: VOLUME,
            device: String::new(),
            minor: None,
            disk: None,
            meta_disk: MetaDisk::Internal,
            size_limit_bytes: None,
            exports: Vec::new(),
            kernel: rbd_protocol::control::KernelExport::None,
            resync: Vec::new(),
            on_disk_trouble: rbd_protocol::control::DiskTrouble::default(),
            resync_after: None,
        }],
        options: ResourceOptions {
            // Every checkpoint cools what it may.
            hot_region_limit: 0,
            ..ResourceOptions::default()
        },
        handlers: Vec::new(),
    }
}

/// Links end only when they are cut.
const FOREVER_MS: u32 = 1 << 30;

/// Metadata remembered at a time, lest memory grow without end.
const MOST_KNOWN: usize = 200_000;
