//! What most tests begin with: a disk in use, and a configuration of two nodes.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use rbd_protocol::control::{
    DiskTrouble, MetaDisk, NetOptions, PeerConfig, ResourceConfig, ResourceOptions, VolumeConfig,
};
use rbd_protocol::ids::GenerationId;
use rbd_protocol::metadata::{
    Creation, Image, Layout, NodeName, PeerBitmap, Placement, ResourceName, Superblock,
    required_external_bytes,
};

use super::{OWN, PEER, SIZE, VOLUME};

/// The disk of a node that was in sync with its peer and shut down in order.
pub(crate) fn image() -> Image {
    image_of(SIZE)
}

/// The same, of another size.
pub(crate) fn image_of(size: u64) -> Image {
    let placement = Placement::External {
        offset: 0,
        available: required_external_bytes(size, 1),
    };
    let layout = Layout::new(size, placement, 1, None).expect("there is room");
    let creation = Creation {
        resource: ResourceName::new("r0").expect("short"),
        node: NodeName::new("alpha").expect("short"),
        node_id: OWN,
        volume: VOLUME,
        device_id: 7,
        created_at: 0,
    };
    let mut superblock = Superblock::new(creation, &layout);
    superblock.generation = GENERATION;
    superblock.flags.consistent = true;
    superblock.flags.was_up_to_date = true;
    superblock.peers[0].node_id = Some(PEER);
    superblock.peers[0].name = NodeName::new("beta").expect("short");
    superblock.peers[0].flags.full_sync = false;
    superblock.peers[0].flags.seen = true;
    Image {
        superblock,
        layout,
        hot_regions: Vec::new(),
        intent_sequences: vec![1],
        peers: vec![PeerBitmap::Pages(BTreeMap::new())],
        bitmap_sequence: 1,
        damage: Vec::new(),
    }
}

/// Two nodes, one volume, no option set.
pub(crate) fn config() -> ResourceConfig {
    ResourceConfig {
        name: String::from("r0"),
        defined_at: String::new(),
        config_path: String::new(),
        node_name: String::from("alpha"),
        node_id: OWN,
        listen: None,
        peers: vec![PeerConfig {
            name: String::from("beta"),
            node_id: PEER,
            address: String::new(),
            net: NetOptions::default(),
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
            // Most tests let a disk be silent for as long as they like.
            resync_after: None,
            on_disk_trouble: DiskTrouble {
                timeout_ms: 0,
                ..DiskTrouble::default()
            },
        }],
        options: ResourceOptions::default(),
        handlers: Vec::new(),
    }
}

/// The generation of [`image`].
pub(crate) const GENERATION: GenerationId = GenerationId(0x1000);
