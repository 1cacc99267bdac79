//! Two nodes and some volumes, no option set.

use rbd_protocol::control::{
    MetaDisk, NetOptions, PeerConfig, ResourceConfig, ResourceOptions, VolumeConfig,
};
use rbd_protocol::ids::{NodeId, VolumeNumber};

use super::area::{NAMES, RESOURCE};

/// What this node is told of itself and its peer.
pub(super) fn config(node: u8, volumes: u16) -> ResourceConfig {
    let name = |node: u8| NAMES[usize::from(node & 1)].to_owned();
    ResourceConfig {
        name: RESOURCE.into(),
        defined_at: "r0.res:1".into(),
        config_path: "r0.res".into(),
        node_name: name(node),
        node_id: NodeId(node),
        listen: Some("127.0.0.1:7788".into()),
        peers: vec![PeerConfig {
            name: name(1 - node),
            node_id: NodeId(1 - node),
            address: "127.0.0.2:7788".into(),
            net: NetOptions::default(),
        }],
        volumes: (0..volumes)
            .map(|number| VolumeConfig {
                number: VolumeNumber(number),
                device: "/dev/drbd0".into(),
                minor: Some(0),
                disk: Some("disk".into()),
                meta_disk: MetaDisk::Internal,
                size_limit_bytes: None,
                exports: Vec::new(),
                kernel: rbd_protocol::control::KernelExport::None,
                resync: Vec::new(),
                on_disk_trouble: rbd_protocol::control::DiskTrouble::default(),
                resync_after: None,
            })
            .collect(),
        options: ResourceOptions::default(),
        handlers: Vec::new(),
    }
}
