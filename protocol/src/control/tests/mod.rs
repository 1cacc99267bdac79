//! What is said over the control socket arrives as it was meant.

mod frames;
mod words;

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::frame::{HEADER_BYTES, body_length, decode, encode};
use super::*;
use crate::ids::{ByteRange, GenerationId, NodeId, VolumeNumber};
use crate::policy::{ResyncConflict, SplitPolicies};
use crate::state::{ConnectionState, DiskState, ReplicationState, ResyncLimit, Role};

fn config() -> ResourceConfig {
    ResourceConfig {
        name: "r0".into(),
        defined_at: "/etc/rbd.d/r0.res:1".into(),
        config_path: "/etc/rbd.conf".into(),
        node_name: "alpha".into(),
        node_id: NodeId(0),
        listen: Some("10.0.0.1:7789".into()),
        peers: vec![PeerConfig {
            name: "beta".into(),
            node_id: NodeId(1),
            address: "10.0.0.2:7789".into(),
            net: NetOptions {
                verify: true,
                fencing: Fencing::ResourceAndStonith,
                shared_secret: Some("secret".into()),
                ..NetOptions::default()
            },
        }],
        volumes: vec![VolumeConfig {
            number: VolumeNumber(0),
            device: "/dev/drbd0".into(),
            minor: Some(0),
            disk: Some("/dev/sda".into()),
            meta_disk: MetaDisk::External {
                path: "/dev/sdb".into(),
                index: Some(3),
            },
            size_limit_bytes: Some(1 << 30),
            exports: vec![NbdExport::Unix, NbdExport::Tcp("10.0.0.1:10809".into())],
            kernel: KernelExport::Ublk,
            resync: Vec::new(),
            on_disk_trouble: DiskTrouble::default(),
            resync_after: None,
        }],
        options: ResourceOptions::default(),
        handlers: vec![("fence-peer".into(), "/bin/true".into())],
    }
}

fn refused_peer() -> RefusedPeer {
    RefusedPeer {
        told_ms_ago: 5,
        role: Role::Secondary,
        tenure: 77,
        divergence: Divergence::Both,
        was_ordered: false,
        loses_by_policy: Some(NodeId(1)),
        volumes: vec![RefusedVolume {
            volume: VolumeNumber(2),
            divergence: Divergence::Both,
            disk_state: DiskState::UpToDate,
            generation: GenerationId(0x3000),
            changed_bytes: 4096,
            own_since: 1,
            peer_since: 2,
            is_exact: true,
        }],
    }
}

fn status() -> ResourceStatus {
    ResourceStatus {
        name: "r0".into(),
        node_id: NodeId(0),
        role: Role::Primary,
        suspended: Suspended {
            fencing: true,
            ..Suspended::default()
        },
        tenure: 12,
        devices: vec![DeviceStatus {
            volume: VolumeNumber(0),
            minor: None,
            disk_state: DiskState::UpToDate,
            disk_note: String::new(),
            backing_disk: Some("/dev/sda".into()),
            open_count: 1,
            size_bytes: 1 << 30,
            read_bytes: 2,
            written_bytes: 3,
            intent_writes: 4,
            bitmap_writes: 5,
            upper_pending: 6,
            lower_pending: 7,
            hot_regions: 8,
            current_generation: GenerationId(9),
            write_cache: Some(WriteCache::Volatile),
        }],
        connections: vec![ConnectionStatus {
            peer_node_id: NodeId(1),
            name: "beta".into(),
            connection_state: ConnectionState::StandAlone,
            note: "Split-Brain".into(),
            is_refused: true,
            since_ms: 10,
            peer_role: Role::Unknown,
            application_in_flight_bytes: 0,
            resync_in_flight_bytes: 0,
            local_address: String::new(),
            peer_address: String::new(),
            peer_devices: vec![PeerDeviceStatus {
                volume: VolumeNumber(0),
                replication_state: ReplicationState::SyncSource,
                peer_disk_state: DiskState::Inconsistent,
                received_bytes: 1,
                sent_bytes: 2,
                out_of_sync_bytes: 3,
                pending: 4,
                unacknowledged: 5,
                bitmap_generation: GenerationId(6),
                verify: Some(VerifyProgress {
                    start_bytes: 0,
                    stop_bytes: 1 << 30,
                    position_bytes: 1 << 20,
                    differing_blocks: 3,
                    elapsed_ms: 500,
                }),
                resync_suspended: Pauses {
                    user: true,
                    ..Pauses::default()
                },
                resync: Some(progress(200, 50)),
            }],
            refused: Some(refused_peer()),
            tentative: Some("volume 0: no resync".into()),
            peer_tenure: 8,
            split: SplitPolicies::default(),
            resync_conflict: ResyncConflict::RetryConnect,
            two_primaries: TwoPrimaries {
                is_configured: true,
                is_agreed: true,
                is_unfenced: false,
                migration_ms: None,
            },
        }],
    }
}

fn changes() -> Changes {
    Changes {
        standing: Standing {
            volume: VolumeNumber(2),
            attachment: 1,
            generation: GenerationId(2),
            marked_blocks: 3,
            written_bytes: 4,
        },
        backing: Backing {
            path: "/dev/sda".into(),
            is_block_device: true,
            device: 5,
            inode: 0,
        },
        size_bytes: 1 << 40,
        since: GenerationId(6),
        is_everything: false,
        runs: vec![ByteRange::new(1 << 39, 4096)],
        next: Some(1 << 39),
    }
}

fn progress(total_bytes: u64, remaining_bytes: u64) -> ResyncProgress {
    ResyncProgress {
        total_bytes,
        remaining_bytes,
        elapsed_ms: 1,
        rate: Some(100),
        limit: Some(ResyncLimit::Link),
        same_bytes: 2,
        zero_bytes: 3,
    }
}

/// What comes out at the other end.
fn sent<M: bincode::Encode + bincode::Decode<()>>(message: &M) -> M {
    let bytes = encode(message).expect("it is short");
    let (header, body) = bytes.split_first_chunk().expect("it has a header");
    assert_eq!(body_length(header), Ok(body.len()));
    decode(body).expect("it is whole")
}

#[test]
fn requests_and_replies_survive_the_way() {
    let resource = || String::from("r0");
    let requests = [
        Request::Daemon,
        Request::Up(config()),
        Request::Down {
            resource: resource(),
        },
        Request::Resolve {
            resource: resource(),
            peer: "beta".into(),
            keep_own: true,
            shown: refused_peer().shown(12),
            saved: vec![changes().standing],
        },
        Request::Changes {
            resource: resource(),
            peer: "beta".into(),
            volume: VolumeNumber(2),
            from: 1 << 40,
        },
        Request::Status { resource: None },
    ];
    for request in requests {
        assert_eq!(sent(&request), request);
    }
    let refusal = Refusal::new(RefusalCode::StateHeldOpen, "open", "close it");
    let replies = [
        Reply::Done,
        Reply::DoneWithNotes(vec!["a note".into()]),
        Reply::Refused(refusal),
        Reply::Status(vec![status()]),
        Reply::Changes(changes()),
    ];
    for reply in replies {
        assert_eq!(sent(&reply), reply);
    }
}
