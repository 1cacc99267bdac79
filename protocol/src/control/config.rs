//! A resource's configuration as `rbdadm` resolved it for one node: no inheritance, no defaults
//! left to fill in, no names left to look up.

use alloc::string::String;
use alloc::vec::Vec;

use crate::ids::{NodeId, VolumeNumber};
use crate::policy::{ResyncConflict, SplitPolicies};

/// The texts that say how a configuration is laid out in bytes. What was written where they were
/// others is not read as a configuration: the bytes do not say which field is which.
pub const LAYOUT: [&str; 3] = [
    include_str!("config.rs"),
    include_str!("../ids.rs"),
    include_str!("../policy.rs"),
];

/// Everything the daemon needs to know of one resource.
#[derive(Clone, Debug, PartialEq, bincode::Encode, bincode::Decode)]
pub struct ResourceConfig {
    /// Name of the resource.
    pub name: String,
    /// Where it is defined, `FILE:LINE`, for messages.
    pub defined_at: String,
    /// Path of the configuration file, for handlers.
    pub config_path: String,
    /// Name of this node.
    pub node_name: String,
    /// Number of this node.
    pub node_id: NodeId,
    /// Address to listen on for peers, `ADDRESS:PORT` (IPv6 in brackets); `None` without peers.
    pub listen: Option<String>,
    /// The other nodes.
    pub peers: Vec<PeerConfig>,
    /// The volumes.
    pub volumes: Vec<VolumeConfig>,
    /// Options of the resource as a whole.
    pub options: ResourceOptions,
    /// Handlers by name, each a shell command.
    pub handlers: Vec<(String, String)>,
}

/// Another node of the resource.
#[derive(Clone, Debug, PartialEq, bincode::Encode, bincode::Decode)]
pub struct PeerConfig {
    /// Name of the node: what identifies it in the handshake.
    pub name: String,
    /// Number of the node.
    pub node_id: NodeId,
    /// Where it listens, `ADDRESS:PORT`.
    pub address: String,
    /// Options of the connection to it.
    pub net: NetOptions,
}

/// Options of one connection.
#[derive(Clone, Debug, PartialEq, bincode::Encode, bincode::Decode)]
pub struct NetOptions {
    /// Both ends must know it; `None` turns authentication off.
    pub shared_secret: Option<String>,
    /// How long an unanswered request may stay unanswered, times `ko_count`.
    pub timeout_ms: u32,
    /// How many times `timeout_ms` passes before the peer is given up; 0 means never.
    pub ko_count: u32,
    /// Pause between two attempts to connect.
    pub connect_interval_ms: u32,
    /// Idle time after which the peer is asked for a sign of life.
    pub ping_interval_ms: u32,
    /// How long it may take to give one.
    pub ping_timeout_ms: u32,
    /// What happens before this node goes on alone.
    pub fencing: Fencing,
    /// Size of the socket's send buffer; 0 leaves it to the kernel.
    pub send_buffer_bytes: u32,
    /// Size of the socket's receive buffer; 0 leaves it to the kernel.
    pub receive_buffer_bytes: u32,
    /// What may end a split brain without a person.
    pub split: SplitPolicies,
    /// What happens when a Primary would have to be overwritten.
    pub resync_conflict: ResyncConflict,
    /// Copies may be compared online (`verify-alg`).
    pub verify: bool,
    /// As the target of a resync, this node asks only for blocks that differ (`csums-alg`).
    pub compare_first: bool,
    /// Both nodes may be Primary at once (`allow-two-primaries`).
    pub two_primaries: bool,
    /// Also where neither waits until the other has been fenced
    /// (`allow-two-primaries-without-fencing`).
    pub two_without_fencing: bool,
}

impl NetOptions {
    /// Whether both nodes may be Primary at once although a lost peer is not fenced before the
    /// other goes on, which only an explicit override in the configuration makes possible.
    #[must_use]
    pub fn is_two_without_fencing(&self) -> bool {
        self.two_primaries && self.fencing != Fencing::ResourceAndStonith
    }
}

/// What a verify is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum VerifyOrder {
    /// Begin.
    Start {
        /// Where, in bytes; where the last one was ended when not given.
        from: Option<u64>,
        /// Before which byte to end; to the end of the volume when not given.
        until: Option<u64>,
        /// Copy what differs at the end.
        repair: bool,
    },
    /// End where it is.
    Stop,
}

/// What a node does about a peer out of reach before it uses the data without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum Fencing {
    /// Nothing.
    DontCare,
    /// The `fence-peer` handler is called; clients go on meanwhile.
    ResourceOnly,
    /// The `fence-peer` handler is called; I/O is frozen until its verdict.
    ResourceAndStonith,
}

/// One volume on this node.
#[derive(Clone, Debug, PartialEq, bincode::Encode, bincode::Decode)]
pub struct VolumeConfig {
    /// Its number.
    pub number: VolumeNumber,
    /// Path of the device as configured, such as `/dev/drbd1`.
    pub device: String,
    /// Minor number, from `minor N` or from the device's name.
    pub minor: Option<u32>,
    /// Backing disk: a block device or a regular file; `None` for a node without storage.
    pub disk: Option<String>,
    /// Where the metadata lies.
    pub meta_disk: MetaDisk,
    /// Use at most this many bytes of the disk.
    pub size_limit_bytes: Option<u64>,
    /// How it is offered over NBD.
    pub exports: Vec<NbdExport>,
    /// Which kernel block device it is while this node is Primary.
    pub kernel: KernelExport,
    /// What was set for resyncs from a peer; of a peer not named here, nothing.
    pub resync: Vec<(NodeId, ResyncOptions)>,
    /// What a disk's errors and silence lead to.
    pub on_disk_trouble: DiskTrouble,
    /// A volume of this node whose resyncs go first: its resource and number (`resync-after`).
    pub resync_after: Option<(String, VolumeNumber)>,
}

/// What a disk's errors and silence lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct DiskTrouble {
    /// After an I/O error (`on-io-error`).
    pub on_error: OnIoError,
    /// A disk that leaves a request unanswered for so many milliseconds has failed, if somebody
    /// else has the data; 0 if it is waited for (`disk-timeout`).
    pub timeout_ms: u32,
}

impl Default for DiskTrouble {
    fn default() -> Self {
        Self {
            on_error: OnIoError::Detach,
            timeout_ms: 30_000,
        }
    }
}

/// What an I/O error of a disk leads to (`on-io-error`). An error of a flush or of the metadata
/// always ends the use of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum OnIoError {
    /// The disk is let go.
    Detach,
    /// The same where somebody else has the data; the only copy is kept, and the client is told.
    PassOn,
    /// The disk is let go, and the handler `local-io-error` is called.
    CallHandler,
}

/// Limits of a resync. With nothing set it takes what link and disks have to spare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct ResyncOptions {
    /// A fixed speed in bytes a second (`resync-rate`).
    pub fixed_rate: Option<u64>,
    /// Never faster than this, in bytes a second (`c-max-rate`).
    pub max_rate: Option<u64>,
    /// Clients do not push it below this, in bytes a second; 0 if they never slow it down
    /// (`c-min-rate`).
    pub min_rate: Option<u64>,
    /// So many bytes under way (`c-fill-target`).
    pub fill_bytes: Option<u64>,
    /// So long a queue on the way, in milliseconds (`c-delay-target`).
    pub delay_ms: Option<u32>,
}

/// Where a volume's metadata lies.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum MetaDisk {
    /// At the end of the backing disk.
    Internal,
    /// On a device or file of its own.
    External {
        /// Its path.
        path: String,
        /// With `PATH[INDEX]`, which fixed-size slot of it.
        index: Option<u32>,
    },
}

/// One way a volume is offered over NBD.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum NbdExport {
    /// On the node's own Unix socket.
    Unix,
    /// On a TCP address, `ADDRESS:PORT`.
    Tcp(String),
}

/// Which kernel block device a volume is while its node is Primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum KernelExport {
    /// The best this kernel offers, or none.
    Auto,
    /// A ublk device, or no promotion.
    Ublk,
    /// A device of the kernel's NBD client.
    Nbd,
    /// None.
    None,
}

impl KernelExport {
    /// The word in the configuration.
    #[must_use]
    pub fn keyword(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Ublk => "ublk",
            Self::Nbd => "nbd",
            Self::None => "none",
        }
    }
}

/// Options of the resource as a whole.
#[derive(Clone, Debug, PartialEq, bincode::Encode, bincode::Decode)]
pub struct ResourceOptions {
    /// How many regions the write-intent log may keep marked before it clears the coldest
    /// (`al-extents`). A soft limit: it never makes a write wait.
    pub hot_region_limit: u32,
    /// Without usable data requests wait instead of failing (`on-no-data-accessible suspend-io`).
    pub suspend_without_data: bool,
}

impl Default for NetOptions {
    fn default() -> Self {
        Self {
            shared_secret: None,
            timeout_ms: 6_000,
            ko_count: 7,
            connect_interval_ms: 10_000,
            ping_interval_ms: 1_000,
            ping_timeout_ms: 2_000,
            fencing: Fencing::DontCare,
            send_buffer_bytes: 0,
            receive_buffer_bytes: 0,
            split: SplitPolicies::default(),
            resync_conflict: ResyncConflict::default(),
            verify: false,
            compare_first: false,
            two_primaries: false,
            two_without_fencing: false,
        }
    }
}

impl Default for ResourceOptions {
    fn default() -> Self {
        Self {
            hot_region_limit: 6_433,
            suspend_without_data: false,
        }
    }
}
