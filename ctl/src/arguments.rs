//! The command line: which words mean what. Nothing here acts on them.
//!
//! Options may stand before or after the command and between the targets, as `drbdadm` allows.
//! Mistakes exit with 1, not with clap's 2, and a command of the documented surface that this
//! version does not have says so.

mod role;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Args, Parser, Subcommand};

use crate::console::Color;
pub(crate) use role::{Primary, Secondary};
use values::{interval, position, yes_or_no};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "rbdadm",
    about = "Administer replicated block devices",
    disable_version_flag = true,
    args_override_self = true,
    after_help = "Targets: all, RES, RES/VOLUME, RES:PEER, RES:PEER/VOLUME.\n\
                  Exit codes: 0 done, 1 usage or unknown target, 5 a wait timed out, \
                  10 configuration or failed request, 11 state change refused, 16 no local disk, \
                  17 no UpToDate data, 20 daemon unreachable, file unreadable or I/O error."
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: GlobalOptions,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Options every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalOptions {
    /// Configuration file; - reads standard input
    #[arg(
        short = 'c',
        long = "config",
        alias = "config-file",
        value_name = "FILE",
        env = "RBD_CONFIG",
        default_value = "/etc/rbd.conf",
        hide_env_values = true,
        global = true
    )]
    pub(crate) config: PathBuf,
    /// Name of this node [default: uname -n]
    #[arg(
        long,
        value_name = "NAME",
        env = "RBD_NODE",
        hide_env_values = true,
        global = true
    )]
    pub(crate) node: Option<String>,
    /// Directory of the daemon's sockets
    #[arg(
        long,
        value_name = "DIR",
        env = "RBD_RUN_DIR",
        default_value = DEFAULT_RUN_DIR,
        hide_env_values = true,
        global = true
    )]
    pub(crate) run_dir: PathBuf,
    /// Directory of state that outlives a boot
    #[arg(
        long,
        value_name = "DIR",
        env = "RBD_STATE_DIR",
        default_value = "/var/lib/rbd",
        hide_env_values = true,
        global = true
    )]
    pub(crate) state_dir: PathBuf,
    /// Print what would be done, contact nobody
    #[arg(short = 'd', long, global = true)]
    pub(crate) dry_run: bool,
    /// Print what is done; with status, show everything
    #[arg(short = 'v', long, action = ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
    /// Give up after so many seconds [default: 10; wait-*: as configured]
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(1..=86_400),
        global = true
    )]
    pub(crate) timeout: Option<u32>,
    /// Print the version as shell variables
    #[arg(short = 'V', long)]
    pub(crate) version: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
#[command(disable_help_subcommand = true)]
pub(crate) enum Command {
    /// Write fresh metadata to the backing disk
    CreateMd(CreateMd),
    /// Erase the metadata of a volume
    WipeMd(WipeMd),
    /// Print the metadata of a volume that is not up
    DumpMd(Targets),
    /// Create the resource, attach its disks, start connecting
    Up(Targets),
    /// Stop the resource
    Down(Targets),
    /// Bring the running resource to its configuration
    Adjust(Targets),
    /// Use the volume's disk (again)
    Attach(Targets),
    /// Cease to use the volume's disk; clients go on through the peer
    Detach(Detach),
    /// Start trying to reach the peer
    Connect(Connect),
    /// Stop talking to the peer
    Disconnect(Disconnect),
    /// End a split brain: one node's changes are given up
    Resolve(Resolve),
    /// Show what a file of resolve --save holds, or write it onto a disk or image
    UndoFile(UndoFile),
    /// Become Primary
    #[command(alias = "promote")]
    Primary(Primary),
    /// Become Secondary
    #[command(alias = "demote")]
    Secondary(Secondary),
    /// Declare the local data behind a peer's
    Outdate(Targets),
    /// Declare the local data bad: it is copied anew from the peer
    Invalidate(Invalidate),
    /// Declare the peer's data bad: it is copied anew from here
    InvalidateRemote(InvalidateRemote),
    /// Compare both copies while clients go on
    Verify(Verify),
    /// Hold back resyncs
    PauseSync(Targets),
    /// Let resyncs go on
    ResumeSync(Targets),
    /// Let a volume grow as far as both disks have room for it
    Resize(Resize),
    /// Let clients' I/O wait
    SuspendIo(Targets),
    /// Let clients' I/O go on, whatever it waits for
    ResumeIo(Targets),
    /// Show the state of resources
    Status(Status),
    /// Say in sentences why resources are in their state and what helps
    Explain(Targets),
    /// Print the role, or with RES:PEER the peer's
    #[command(alias = "state")]
    Role(Targets),
    /// Print the connection states
    Cstate(Targets),
    /// Print the disk states, own/peer
    Dstate(Targets),
    /// Print the configuration as understood
    Dump(OptionalTargets),
    /// Start a new data generation
    NewCurrentUuid(NewCurrentUuid),
    /// Wait until the peers are connected
    WaitConnect(Wait),
    /// Wait until the peers are connected and in sync
    WaitSync(Wait),
    /// Look for mistakes in the configuration and on this machine
    Check(OptionalTargets),
    /// Print what a shell needs to complete commands
    Completions(Completions),
    /// State of resources, for a shell to evaluate
    ShStatus(OptionalTargets),
    /// Names of all resources of this node
    ShResources,
    /// Name of the resource with this minor (minor-N)
    ShResource(Targets),
    /// Device of each volume
    ShDev(Targets),
    /// Minor number of each volume
    ShMinor(Targets),
    /// Backing disk of each volume
    ShLlDev(Targets),
    /// Metadata device of each volume
    ShMdDev(Targets),
    /// Metadata index of each volume
    ShMdIdx(Targets),
    /// Own address
    ShIp(Targets),
    /// Only check the configuration
    ShNop,
}

/// One or more targets.
#[derive(Debug, Args)]
pub(crate) struct Targets {
    /// all, RES, RES/VOLUME, RES:PEER or RES:PEER/VOLUME
    #[arg(value_name = "TARGET", required = true)]
    pub(crate) targets: Vec<String>,
}

/// Targets, or everything when there are none.
#[derive(Debug, Args)]
pub(crate) struct OptionalTargets {
    /// Resources; all when none is named
    #[arg(value_name = "TARGET")]
    pub(crate) targets: Vec<String>,
}

/// Options of `completions`.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// Which shell
    pub(crate) shell: clap_complete::Shell,
}

/// Options of `create-md`.
#[derive(Debug, Args)]
pub(crate) struct CreateMd {
    #[command(flatten)]
    pub(crate) targets: Targets,
    /// Ask nothing, overwrite what is there
    #[arg(long)]
    pub(crate) force: bool,
    /// Room for so many peers [default: the peers configured]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=31))]
    pub(crate) max_peers: Option<u8>,
}

/// Options of `wipe-md`.
#[derive(Debug, Args)]
pub(crate) struct WipeMd {
    #[command(flatten)]
    pub(crate) targets: Targets,
    /// Ask nothing
    #[arg(long)]
    pub(crate) force: bool,
}

/// Options of `connect`.
#[derive(Debug, Args)]
pub(crate) struct Connect {
    #[command(flatten)]
    pub(crate) targets: Targets,
    /// In a split brain, give up this node's changes
    #[arg(long)]
    pub(crate) discard_my_data: bool,
    /// Only find out what a connection would do
    #[arg(long)]
    pub(crate) tentative: bool,
}

/// Options of `disconnect`.
#[derive(Debug, Args)]
pub(crate) struct Disconnect {
    #[command(flatten)]
    pub(crate) targets: Targets,
    /// Even if both nodes are Primary: one is fenced, or each goes on for itself
    #[arg(long)]
    pub(crate) force: bool,
}

/// Options of `resolve`.
#[derive(Debug, Args)]
pub(crate) struct Resolve {
    /// RES or RES:PEER
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,
    /// The node whose data is kept; the other one's changes are lost
    #[arg(long, value_name = "NODE")]
    pub(crate) keep: String,
    /// When this node is Primary and gives up its changes, fail its clients' I/O
    #[arg(long)]
    pub(crate) force: bool,
    /// Keep what this node gives up in a new file, for undo-file
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
    /// With --save: keep the whole volumes, so that they can be looked at as they are now
    #[arg(long, requires = "save")]
    pub(crate) whole: bool,
}

/// Options of `undo-file`.
#[derive(Debug, Args)]
pub(crate) struct UndoFile {
    /// The file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Write what is in it onto this disk or image
    #[arg(long, value_name = "PATH")]
    pub(crate) to: Option<PathBuf>,
    /// Which volume of it, if it has several
    #[arg(long, value_name = "N")]
    pub(crate) volume: Option<u16>,
}

/// Options of `detach`.
#[derive(Debug, Args)]
pub(crate) struct Detach {
    #[command(flatten)]
    pub(crate) targets: Targets,
    /// Do not wait for the disk, and let go of it even if nobody else has the data
    #[arg(long)]
    pub(crate) force: bool,
}

/// Options of `invalidate`.
#[derive(Debug, Args)]
pub(crate) struct Invalidate {
    #[command(flatten)]
    pub(crate) targets: Targets,
    #[command(flatten)]
    pub(crate) reset: ResetBitmap,
    /// Even if no peer is known to have the data, which is then lost
    #[arg(long)]
    pub(crate) force: bool,
}

/// Options of `invalidate-remote`.
#[derive(Debug, Args)]
pub(crate) struct InvalidateRemote {
    #[command(flatten)]
    pub(crate) targets: Targets,
    #[command(flatten)]
    pub(crate) reset: ResetBitmap,
}

/// Options of `verify`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    pub(crate) targets: Targets,
    /// Begin at this sector of 512 bytes, or so many K, M, G; else where the last one was ended
    #[arg(long, value_name = "OFFSET", value_parser = position)]
    pub(crate) start: Option<u64>,
    /// End before this sector
    #[arg(long, value_name = "OFFSET", value_parser = position)]
    pub(crate) stop: Option<u64>,
    /// Copy what differs at the end: from the Primary, or from this node if there is none
    #[arg(long)]
    pub(crate) repair: bool,
    /// End the verify that is running
    #[arg(long, conflicts_with_all = ["start", "stop", "repair"])]
    pub(crate) abort: bool,
}

/// Options of `resize`.
#[derive(Debug, Args)]
pub(crate) struct Resize {
    #[command(flatten)]
    pub(crate) targets: Targets,
    /// Do not copy what is new: nobody minds what it holds, on either node
    #[arg(long)]
    pub(crate) assume_clean: bool,
}

/// How much is copied.
#[derive(Debug, Args)]
pub(crate) struct ResetBitmap {
    /// no: copy only what is marked out of sync, not everything
    #[arg(long, value_name = "yes|no", default_value = "yes", value_parser = yes_or_no)]
    pub(crate) reset_bitmap: bool,
}

/// Options of `new-current-uuid`.
#[derive(Debug, Args)]
pub(crate) struct NewCurrentUuid {
    #[command(flatten)]
    pub(crate) targets: Targets,
    /// Declare both just-created replicas identical, which skips the initial sync
    #[arg(long)]
    pub(crate) clear_bitmap: bool,
}

/// Options of `status`.
#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) targets: OptionalTargets,
    /// Show counters too
    #[arg(long)]
    pub(crate) statistics: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Repeat every SECONDS (1 when not given) until interrupted
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "1",
        value_parser = interval
    )]
    pub(crate) watch: Option<Duration>,
    /// When to colour state words
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) color: Color,
}

/// Options of `wait-connect` and `wait-sync`.
#[derive(Debug, Args)]
pub(crate) struct Wait {
    #[command(flatten)]
    pub(crate) targets: Targets,
    /// Seconds to wait, 0 for ever [default: startup section]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) wfc_timeout: Option<u32>,
    /// Seconds to wait when the cluster was degraded already
    #[arg(long, value_name = "SECONDS")]
    pub(crate) degr_wfc_timeout: Option<u32>,
    /// Seconds to wait when the local disk is Outdated
    #[arg(long, value_name = "SECONDS")]
    pub(crate) outdated_wfc_timeout: Option<u32>,
    /// Wait for peers in StandAlone as well
    #[arg(long)]
    pub(crate) wait_after_sb: bool,
}

/// What the command line leads to when it is not a command to be carried out.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The text.
    pub(crate) text: String,
    /// Whether it goes to standard error.
    pub(crate) is_mistake: bool,
}

/// Reads the command line.
pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Arguments, Answer> {
    Arguments::try_parse_from(arguments).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Answer {
            text: error.to_string(),
            is_mistake: false,
        },
        ErrorKind::InvalidSubcommand => Answer {
            text: unknown_command(&error),
            is_mistake: true,
        },
        _ => Answer {
            text: error.to_string(),
            is_mistake: true,
        },
    })
}

fn unknown_command(error: &clap::Error) -> String {
    match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(word)) if NOT_YET.contains(&word.as_str()) => {
            format!("rbdadm: '{word}' is not in this version yet\n")
        }
        _ => error.to_string(),
    }
}

/// Where the daemon's sockets are unless told otherwise.
pub(crate) const DEFAULT_RUN_DIR: &str = "/run/rbd";

/// Commands of the documented surface that are still to come.
const NOT_YET: [&str; 20] = [
    "adjust-with-progress",
    "apply-al",
    "check-resize",
    "disk-options",
    "dump-xml",
    "events2",
    "forget-peer",
    "get-gi",
    "net-options",
    "peer-device-options",
    "resource-options",
    "set-gi",
    "sh-list-adjustable",
    "sh-list-config-file",
    "sh-lr-of",
    "sh-mod-parms",
    "sh-udev",
    "show-gi",
    "top",
    "wait-con-int",
];
