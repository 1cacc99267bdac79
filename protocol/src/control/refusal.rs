//! Why the daemon says no, with DRBD's numbers and texts where DRBD has them: scripts grep them.

use alloc::string::String;
use core::fmt;

/// A refusal: nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Refusal {
    /// Which one.
    pub code: RefusalCode,
    /// The reason here and now, one line.
    pub reason: String,
    /// The command or step that helps, one line; may be empty.
    pub help: String,
}

/// The kinds of refusal. `State*` are DRBD's `SS_*` ("State change failed"), the others its
/// `ERR_*` ("Failure").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, bincode::Encode, bincode::Decode)]
pub enum RefusalCode {
    /// (-1) A second Primary, which the configuration does not allow.
    StateTwoPrimaries,
    /// (-2) No UpToDate data.
    StateNoUpToDateData,
    /// (-6) A connected disk is not declared behind.
    StateOutdatedWhileConnected,
    /// (-7) The peer may use its data.
    StatePeerNotOutdated,
    /// (-8) A resync or verify is running.
    StateSyncActive,
    /// (-10) The peer said no.
    StateRefusedByPeer,
    /// (-11) Needs a disk.
    StateDiskless,
    /// (-12) Clients are connected.
    StateHeldOpen,
    /// (-14) No algorithm is configured.
    StateNoVerifyAlgorithm,
    /// (-15) Needs a connection.
    StateNeedsConnection,
    /// (-16) The disk is not whole, which is less than behind.
    StateLowerThanOutdated,
    /// (-18) A handshake is under way.
    StateTransient,
    /// (-19) Two state changes at once.
    StateConcurrent,
    /// (-23) The peer did not answer in time.
    StateTimeout,
    /// (102) The listening address is taken.
    LocalAddressInUse,
    /// (104) The backing disk cannot be opened.
    CannotOpenDisk,
    /// (105) The metadata device cannot be opened.
    CannotOpenMetaDisk,
    /// (111) The disk is too small.
    DiskTooSmall,
    /// (112) The metadata device is too small.
    MetaDiskTooSmall,
    /// (114) Another process uses the disk.
    DiskInUse,
    /// (118) The metadata cannot be read.
    MetaDataRead,
    /// (119) No metadata.
    NoMetaData,
    /// (123) `--discard-my-data` on a Primary.
    DiscardWhilePrimary,
    /// (124) Already attached.
    AlreadyAttached,
    /// (125) Already connected or connecting.
    AlreadyConnected,
    /// (130) A resync is running.
    ResizeDuringResync,
    /// (133) Volumes wait for each other's resyncs in a circle.
    ResyncAfterCycle,
    /// (134) Resyncs are paused already.
    PauseIsSet,
    /// (135) Resyncs are not paused.
    PauseIsClear,
    /// (150) A Primary's clients have seen other data than the disk has.
    DataNotCurrent,
    /// (156) Not paused by a person, but for the sake of another resync.
    PausedByDependency,
    /// (157) Not paused here, but on the peer's node.
    PausedByPeer,
    /// (158) No such resource.
    UnknownResource,
    /// (162) The request contradicts itself or the running state.
    InvalidRequest,
    /// (165) Metadata of another resource, node, volume or version.
    ForeignMetaData,
    /// Anything the daemon met that is not a decision: an I/O error, a broken environment.
    Environment,
}

impl RefusalCode {
    /// DRBD's number for it.
    #[must_use]
    pub fn number(self) -> i32 {
        self.facts().0
    }

    /// DRBD's text for it.
    #[must_use]
    pub fn text(self) -> &'static str {
        self.facts().1
    }

    /// Whether it is a refused state change (an `SS_*`) and not a failed request (an `ERR_*`).
    #[must_use]
    pub fn is_state_change(self) -> bool {
        self.number() < 0
    }

    /// The exit code of `rbdadm`.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::StateNoUpToDateData => 17,
            Self::Environment => 20,
            Self::StateDiskless => 16,
            _ if self.is_state_change() => 11,
            _ => 10,
        }
    }

    fn facts(self) -> (i32, &'static str) {
        match self {
            Self::StateTwoPrimaries => (-1, "Multiple primaries not allowed by config"),
            Self::StateNoUpToDateData => (-2, "Need access to UpToDate data"),
            Self::StateOutdatedWhileConnected => (-6, "Refusing to be Outdated while Connected"),
            Self::StatePeerNotOutdated => (-7, "Refusing to be Primary while peer is not outdated"),
            Self::StateSyncActive => (-8, "Can not start OV/resync since it is already active"),
            Self::StateRefusedByPeer => (-10, "State change was refused by peer node"),
            Self::StateDiskless => (
                -11,
                "Device is diskless, the requested operation requires a disk",
            ),
            Self::StateHeldOpen => (-12, "Device is held open by someone"),
            Self::StateNoVerifyAlgorithm => (-14, "Need a verify algorithm to start online verify"),
            Self::StateNeedsConnection => (-15, "State change requires a connection"),
            Self::StateLowerThanOutdated => (-16, "Disk state is lower than outdated"),
            Self::StateTransient => (-18, "In transient state, retry after next state change"),
            Self::StateConcurrent => (-19, "Concurrent state changes detected and aborted"),
            Self::StateTimeout => (-23, "Timeout in operation"),
            Self::LocalAddressInUse => (102, "Local address(port) already in use."),
            Self::CannotOpenDisk => (104, "Can not open backing device."),
            Self::CannotOpenMetaDisk => (105, "Can not open meta device."),
            Self::DiskTooSmall => (111, "Lower device smaller than requested size."),
            Self::MetaDiskTooSmall => (112, "Meta device too small."),
            Self::DiskInUse => (114, "Lower device is already claimed."),
            Self::MetaDataRead => (
                118,
                "IO error(s) occurred during initial access to meta-data.",
            ),
            Self::NoMetaData => (119, "No valid meta-data signature found."),
            Self::DiscardWhilePrimary => (123, "--discard-my-data not allowed when primary."),
            Self::AlreadyAttached => (124, "Device is attached to a disk (use detach first)"),
            Self::AlreadyConnected => (125, "Device has a net-config (use disconnect first)"),
            Self::ResizeDuringResync => (130, "Resize not allowed during resync."),
            Self::ResyncAfterCycle => (133, "The resync-after configuration is a cycle."),
            Self::PauseIsSet => (134, "Sync-pause flag is already set"),
            Self::PauseIsClear => (135, "Sync-pause flag is already cleared"),
            Self::DataNotCurrent => (150, "Can only attach to the data we lost last."),
            Self::PausedByDependency => (
                156,
                "Sync-pause flag is already cleared; a resync it depends on goes first",
            ),
            Self::PausedByPeer => (
                157,
                "Sync-pause flag is already cleared; the peer holds the resync back",
            ),
            Self::UnknownResource => (158, "Unknown resource"),
            Self::InvalidRequest => (162, "Invalid configuration request"),
            Self::ForeignMetaData => (165, "Unclean meta-data found."),
            Self::Environment => (20, "The daemon could not do it"),
        }
    }
}

impl Refusal {
    /// A refusal with its reason and the step that helps.
    #[must_use]
    pub fn new(code: RefusalCode, reason: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
            help: help.into(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.code.is_state_change() {
            "State change failed"
        } else {
            "Failure"
        };
        write!(f, "{what}: ({}) {}", self.code.number(), self.code.text())
    }
}
