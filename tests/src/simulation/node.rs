//! One simulated machine: its volumes, its power, and the engine while its process runs.

use std::ops::{Index, IndexMut};

use rbd_engine::{Resource, Seed};
use rbd_protocol::control::{
    DeviceStatus, DiskTrouble, Fencing, MetaDisk, NetOptions, OnIoError, PeerConfig,
    PeerDeviceStatus, ResourceConfig, ResourceOptions, ResourceStatus, VolumeConfig,
};
use rbd_protocol::ids::{NodeId, VolumeNumber};
use rbd_protocol::state::{DiskState, ReplicationState, Role};

use super::clock::Clock;
use super::disk::Payload;
use super::profile::Options;
use super::said::Spoken;
use super::volume::Volume;

pub(super) const RESOURCE: &str = "r0";

/// One simulated machine.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) index: usize,
    pub(super) config: ResourceConfig,
    pub(super) engine: Option<Resource<Payload>>,
    pub(super) volumes: Vec<Volume>,
    /// Changes when power is lost.
    pub(super) boot: u128,
    /// Counts processes: what was for an earlier one reaches nobody.
    pub(super) life: u64,
    /// The newest wish to be woken; 0 when there is none.
    pub(super) wake: u64,
    /// When, on its own clock.
    pub(super) wakes_at: u64,
    /// Wants a link.
    pub(super) seeking: bool,
    pub(super) clock: Clock,
    /// How much longer than usual it stays down after the next crash, in microseconds.
    pub(super) away_us: u64,
    /// How often it is to crash again while it comes up.
    pub(super) crashes_left: u64,
    /// The process is to die in the middle of what it does next.
    pub(super) dies_next: bool,
    /// The link it was last told of.
    pub(super) newest_link: u64,
    /// It was Primary when it was told to be one no more.
    pub(super) being_demoted: bool,
    /// The peer was Primary too when it was last to be demoted.
    pub(super) was_beside: bool,
    /// It was Primary when it was last told to become it.
    pub(super) was_primary: bool,
    /// What it has said to its peer.
    pub(super) spoken: Spoken,
    /// Its clients had to wait when it was last looked at.
    pub(super) was_frozen: bool,
    /// All of them had to.
    pub(super) was_suspended: bool,
    /// All had to wait before what it is being told now, or that is why they have to.
    pub(super) waits: bool,
}

impl Index<usize> for Node {
    type Output = Volume;

    fn index(&self, volume: usize) -> &Volume {
        &self.volumes[volume]
    }
}

impl IndexMut<usize> for Node {
    fn index_mut(&mut self, volume: usize) -> &mut Volume {
        &mut self.volumes[volume]
    }
}

impl Node {
    pub(super) fn new(index: usize, options: &Options) -> Self {
        let volumes = 0..options.volumes;
        Self {
            index,
            config: config(index, options),
            engine: None,
            volumes: volumes
                .map(|volume| Volume::new(index, volume, options))
                .collect(),
            boot: 1,
            life: 0,
            wake: 0,
            wakes_at: 0,
            seeking: false,
            clock: Clock::new(
                options.clock_permille.get(index).copied().unwrap_or(1_000),
                u64::try_from(index).expect("there are two nodes") * 1_000_000_007,
            ),
            away_us: 0,
            crashes_left: 0,
            dies_next: false,
            newest_link: 0,
            being_demoted: false,
            was_beside: false,
            was_primary: false,
            spoken: Spoken::new(options.volumes),
            was_frozen: false,
            was_suspended: false,
            waits: false,
        }
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

    /// Everything the process held is gone; the disks are another matter.
    pub(super) fn forget_process(&mut self) {
        self.engine = None;
        self.life += 1;
        self.seeking = false;
        self.dies_next = false;
        self.being_demoted = false;
        self.spoken = Spoken::new(self.volumes.len());
        self.was_frozen = false;
        self.was_suspended = false;
        for volume in &mut self.volumes {
            volume.forget_process();
        }
    }

    /// The node knows of a link, and with it that any older one is gone.
    pub(super) fn gain_link(&mut self, link: u64) {
        self.newest_link = link;
        for volume in &mut self.volumes {
            volume.from_peer.lose_link();
            volume.is_unserved = false;
        }
    }

    /// The node knows that the link is gone.
    pub(super) fn lose_link(&mut self, link: u64) {
        if link == self.newest_link {
            for volume in &mut self.volumes {
                volume.from_peer.lose_link();
            }
        }
        self.spoken.loses_link(link);
    }

    /// Whether the disk counts as a copy: a resync target's does not, whatever it holds.
    pub(super) fn is_a_copy(&self, volume: usize, now: rbd_engine::Time) -> bool {
        let live = self.device(volume, now);
        let live = live.map(|device| device.disk_state != DiskState::Inconsistent);
        self[volume].consistent && live.unwrap_or(true)
    }

    pub(super) fn is_primary(&self) -> bool {
        self.engine
            .as_ref()
            .is_some_and(|engine| engine.role() == Role::Primary)
    }

    /// Whether what is written here goes to the other node too, as far as is known.
    pub(super) fn is_replicating(&self, volume: usize) -> bool {
        self.status(rbd_engine::Time(0)).is_some_and(|status| {
            let device = peer_device_of(&status, volume);
            device.is_none_or(|device| device.replication_state != ReplicationState::Off)
        })
    }

    pub(super) fn is_up_to_date(&self, volume: usize, now: rbd_engine::Time) -> bool {
        let device = self.device(volume, now);
        device.is_some_and(|device| device.disk_state == DiskState::UpToDate)
    }

    /// What the engine says of the volume's disk.
    pub(super) fn device(&self, volume: usize, now: rbd_engine::Time) -> Option<DeviceStatus> {
        let status = self.status(now)?;
        let mut devices = status.devices.into_iter();
        devices.find(|device| device.volume == number(volume))
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

/// What a node says of its own disk.
pub(super) fn device_of(status: &ResourceStatus, volume: usize) -> Option<&DeviceStatus> {
    let mut devices = status.devices.iter();
    devices.find(|device| device.volume == number(volume))
}

/// What a node says of the volume over its connection.
pub(super) fn peer_device_of(status: &ResourceStatus, volume: usize) -> Option<&PeerDeviceStatus> {
    let mut devices = status.connections.first()?.peer_devices.iter();
    devices.find(|device| device.volume == number(volume))
}

/// What the volume is called.
pub(super) fn number(volume: usize) -> VolumeNumber {
    VolumeNumber(u16::try_from(volume).expect("there are few volumes"))
}

/// Which volume is called so.
pub(super) fn place(number: VolumeNumber) -> usize {
    usize::from(number.0)
}

pub(super) fn node_id(index: usize) -> NodeId {
    NodeId(u8::try_from(index).expect("there are two nodes"))
}

pub(super) fn name(index: usize) -> String {
    format!("node-{index}")
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
        volumes: (0..options.volumes)
            .map(|volume| volume_config(volume, options))
            .collect(),
        options: ResourceOptions {
            hot_region_limit: options.hot_region_limit,
            suspend_without_data: false,
        },
        handlers: handlers(options),
    }
}

fn volume_config(volume: usize, options: &Options) -> VolumeConfig {
    VolumeConfig {
        number: number(volume),
        device: format!("/dev/drbd{volume}"),
        minor: u32::try_from(volume).ok(),
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
