//! A snapshot of one resource, from which `status` in all its forms is printed.

use alloc::string::String;
use alloc::vec::Vec;

use crate::ids::{GenerationId, NodeId, VolumeNumber};
use crate::policy::{ResyncConflict, SplitPolicies};
use crate::state::{ConnectionState, DiskState, ReplicationState, ResyncLimit, Role};

/// One resource on this node.
#[derive(Clone, Debug, PartialEq, bincode::Encode, bincode::Decode)]
pub struct ResourceStatus {
    /// Name of the resource.
    pub name: String,
    /// This node's number.
    pub node_id: NodeId,
    /// This node's role.
    pub role: Role,
    /// Why its I/O is frozen, if it is.
    pub suspended: Suspended,
    /// Drawn anew whenever its role changes.
    pub tenure: u64,
    /// Its volumes.
    pub devices: Vec<DeviceStatus>,
    /// Its connections, one per peer.
    pub connections: Vec<ConnectionStatus>,
}

/// Why a resource's I/O is frozen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Suspended {
    /// By `suspend-io`.
    pub user: bool,
    /// There is no usable data, and requests are to wait for it.
    pub no_data: bool,
    /// Until it is clear that the peer cannot use its data.
    pub fencing: bool,
}

/// One volume on this node. Byte counts are since the resource came up.
#[derive(Clone, Debug, PartialEq, bincode::Encode, bincode::Decode)]
pub struct DeviceStatus {
    /// Its number.
    pub volume: VolumeNumber,
    /// Minor number, if it has one.
    pub minor: Option<u32>,
    /// State of the local disk.
    pub disk_state: DiskState,
    /// Why the disk is in this state and since when, in words; empty when UpToDate.
    pub disk_note: String,
    /// Path of the backing disk.
    pub backing_disk: Option<String>,
    /// Number of clients connected.
    pub open_count: u32,
    /// Usable size in bytes.
    pub size_bytes: u64,
    /// Bytes read from the local disk for clients.
    pub read_bytes: u64,
    /// Bytes written to the local disk.
    pub written_bytes: u64,
    /// Writes of the write-intent log.
    pub intent_writes: u64,
    /// Writes of bitmap blocks.
    pub bitmap_writes: u64,
    /// Client requests not yet completed.
    pub upper_pending: u64,
    /// Disk operations not yet completed.
    pub lower_pending: u64,
    /// Regions marked in the write-intent log.
    pub hot_regions: u64,
    /// Current data generation.
    pub current_generation: GenerationId,
    /// What the disk's completed writes are worth before a flush; `None` without a disk.
    pub write_cache: Option<WriteCache>,
}

/// Whether what a disk has completed may be lost with its power.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum WriteCache {
    /// It may, until a flush. Also what is assumed of a disk that does not say.
    Volatile,
    /// It says that it has no such cache, or that its cache outlives a power loss.
    Through,
}

impl WriteCache {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Volatile => "volatile",
            Self::Through => "through",
        }
    }
}

/// The connection to one peer.
#[derive(Clone, Debug, PartialEq, bincode::Encode, bincode::Decode)]
pub struct ConnectionStatus {
    /// The peer's number.
    pub peer_node_id: NodeId,
    /// The peer's name.
    pub name: String,
    /// State of the connection.
    pub connection_state: ConnectionState,
    /// Why it is in this state, in words; empty when Connected.
    pub note: String,
    /// Whether the peer was reached and the link refused by one of the two; `note` says why. It
    /// does not pass by itself.
    pub is_refused: bool,
    /// Milliseconds since this state was entered.
    pub since_ms: u64,
    /// The peer's role.
    pub peer_role: Role,
    /// Bytes of client writes sent and not acknowledged.
    pub application_in_flight_bytes: u64,
    /// Bytes of resync requested or sent and not acknowledged.
    pub resync_in_flight_bytes: u64,
    /// Own address.
    pub local_address: String,
    /// The peer's address.
    pub peer_address: String,
    /// The volumes as seen on this peer.
    pub peer_devices: Vec<PeerDeviceStatus>,
    /// What the peer said of itself when the two nodes found that their data must not be joined;
    /// `None` unless the connection is StandAlone for that reason.
    pub refused: Option<RefusedPeer>,
    /// What a tentative connection would have done, since one was last asked for.
    pub tentative: Option<String>,
    /// The tenure of the peer's role, as it has told last; 0 if it has not.
    pub peer_tenure: u64,
    /// What may end a split brain without a person.
    pub split: SplitPolicies,
    /// What happens when a Primary would have to be overwritten.
    pub resync_conflict: ResyncConflict,
    /// Whether both nodes may be Primary at once.
    pub two_primaries: TwoPrimaries,
}

/// Whether this node and a peer may be Primary at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct TwoPrimaries {
    /// This node has been told so.
    pub is_configured: bool,
    /// So has the connected peer.
    pub is_agreed: bool,
    /// This node does not wait until a lost peer has been fenced, by an explicit override.
    pub is_unfenced: bool,
    /// Both may be Primary for a migration, for so many milliseconds more.
    pub migration_ms: Option<u64>,
}

/// A peer as it was in the greeting after which it was refused.
#[derive(Clone, Debug, PartialEq, bincode::Encode, bincode::Decode)]
pub struct RefusedPeer {
    /// Milliseconds since that greeting.
    pub told_ms_ago: u64,
    /// Its role then.
    pub role: Role,
    /// Its tenure then.
    pub tenure: u64,
    /// Who has changes the other lacks.
    pub divergence: Divergence,
    /// An order to give up one side's changes was known to this node, and was not enough.
    pub was_ordered: bool,
    /// The node whose changes a policy is to give up, which it does not while that is Primary.
    pub loses_by_policy: Option<NodeId>,
    /// Its volumes.
    pub volumes: Vec<RefusedVolume>,
}

/// Which state of a refused peer somebody was shown, so that an order holds for that and for
/// nothing that came after it.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Shown {
    /// This node's tenure: its own changes are those it had then.
    pub own_tenure: u64,
    /// The peer's tenure.
    pub tenure: u64,
    /// The peer's current generations.
    pub generations: Vec<(VolumeNumber, GenerationId)>,
}

impl Shown {
    /// The peer's generation of this volume, none if it has no such volume.
    #[must_use]
    pub fn generation_of(&self, number: VolumeNumber) -> GenerationId {
        let mut generations = self.generations.iter();
        generations
            .find(|(volume, _)| *volume == number)
            .map_or(GenerationId::NONE, |(_, generation)| *generation)
    }
}

impl RefusedPeer {
    /// Names the state in which the peer, and with it a node of this tenure, is shown here.
    #[must_use]
    pub fn shown(&self, own_tenure: u64) -> Shown {
        let volumes = self.volumes.iter();
        Shown {
            own_tenure,
            tenure: self.tenure,
            generations: volumes
                .map(|volume| (volume.volume, volume.generation))
                .collect(),
        }
    }
}

/// One volume of a refused peer.
#[derive(Clone, Debug, PartialEq, bincode::Encode, bincode::Decode)]
pub struct RefusedVolume {
    /// Its number.
    pub volume: VolumeNumber,
    /// Who has changes of this volume that the other lacks.
    pub divergence: Divergence,
    /// State of the peer's disk.
    pub disk_state: DiskState,
    /// The peer's current generation.
    pub generation: GenerationId,
    /// Bytes the peer has changed, or may have, since its bitmap generation.
    pub changed_bytes: u64,
    /// When this node began to count its changes, in seconds since 1970 by its own clock; 0 if not
    /// known.
    pub own_since: u64,
    /// The same of the peer, by the peer's clock.
    pub peer_since: u64,
    /// Both nodes count their changes from the same generation. Otherwise neither knows what the
    /// other had before, and everything has to be copied.
    pub is_exact: bool,
}

/// Who has changes the other lacks, of two nodes whose data must not be joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum Divergence {
    /// The two cannot be compared: no generation in common, or no complete data.
    Unknown,
    /// Neither.
    Neither,
    /// This node only.
    Own,
    /// The peer only.
    Peer,
    /// Both: a split brain.
    Both,
}

/// One volume as seen on one peer.
#[derive(Clone, Debug, PartialEq, bincode::Encode, bincode::Decode)]
pub struct PeerDeviceStatus {
    /// Its number.
    pub volume: VolumeNumber,
    /// What happens between the two copies.
    pub replication_state: ReplicationState,
    /// State of the peer's disk.
    pub peer_disk_state: DiskState,
    /// Bytes received from the peer.
    pub received_bytes: u64,
    /// Bytes sent to the peer.
    pub sent_bytes: u64,
    /// Bytes known to differ or not known to be equal.
    pub out_of_sync_bytes: u64,
    /// Requests sent and not acknowledged.
    pub pending: u64,
    /// Requests received and not acknowledged.
    pub unacknowledged: u64,
    /// Bitmap generation towards this peer.
    pub bitmap_generation: GenerationId,
    /// Why a resync does not go on, whether or not there is one now.
    pub resync_suspended: Pauses,
    /// The resync that is running.
    pub resync: Option<ResyncProgress>,
    /// How far a verify led by this node is.
    pub verify: Option<VerifyProgress>,
}

/// How far a resync is.
#[derive(Clone, Copy, Debug, PartialEq, bincode::Encode, bincode::Decode)]
pub struct ResyncProgress {
    /// Bytes out of sync when it started.
    pub total_bytes: u64,
    /// Bytes still out of sync.
    pub remaining_bytes: u64,
    /// Milliseconds since it started.
    pub elapsed_ms: u64,
    /// Bytes a second in the last seconds; `None` when it is too young to tell, or paused.
    pub rate: Option<u64>,
    /// What keeps it from being faster, if that is known.
    pub limit: Option<ResyncLimit>,
    /// Bytes that did not have to be sent because both copies had the same.
    pub same_bytes: u64,
    /// Bytes that did not have to be sent because they are zeroes.
    pub zero_bytes: u64,
}

/// Who or what holds a resync back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Pauses {
    /// Somebody on this node.
    pub user: bool,
    /// The peer's node.
    pub peer: bool,
    /// Another resync on this node, which goes first.
    pub dependency: bool,
}

impl Pauses {
    /// Whether there is anything that does.
    #[must_use]
    pub fn is_any(self) -> bool {
        self.user || self.peer || self.dependency
    }

    /// As DRBD shows it.
    #[must_use]
    pub fn words(self) -> &'static str {
        match (self.user, self.peer, self.dependency) {
            (false, false, false) => "no",
            (true, false, false) => "user",
            (false, true, false) => "peer",
            (false, false, true) => "dependency",
            (true, true, false) => "user,peer",
            (true, false, true) => "user,dependency",
            (false, true, true) => "peer,dependency",
            (true, true, true) => "user,peer,dependency",
        }
    }
}

impl ResyncProgress {
    /// How long it will still take at the rate of the last seconds.
    #[must_use]
    pub fn seconds_left(&self) -> Option<u64> {
        let rate = self.rate.filter(|rate| *rate > 0)?;
        Some(self.remaining_bytes.div_ceil(rate))
    }

    /// How much is done, 0.0 to 100.0.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a percentage for people")]
    pub fn percent_done(&self) -> f64 {
        if self.total_bytes == 0 {
            return 100.0;
        }
        let done = self.total_bytes.saturating_sub(self.remaining_bytes);
        100.0 * done as f64 / self.total_bytes as f64
    }
}

/// How far a verify is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct VerifyProgress {
    /// Where it began, in bytes.
    pub start_bytes: u64,
    /// Where it ends.
    pub stop_bytes: u64,
    /// Everything before this has been compared.
    pub position_bytes: u64,
    /// Blocks found to differ so far.
    pub differing_blocks: u64,
    /// Since when.
    pub elapsed_ms: u64,
}

impl VerifyProgress {
    /// How much of the range has been compared.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::as_conversions,
        reason = "a percentage for people"
    )]
    pub fn percent_done(&self) -> f64 {
        let whole = self.stop_bytes.saturating_sub(self.start_bytes);
        let done = self.position_bytes.saturating_sub(self.start_bytes);
        if whole == 0 {
            100.0
        } else {
            100.0 * done as f64 / whole as f64
        }
    }
}
