//! Options of the commands that change a node's role.

use clap::Args;

use super::Targets;

/// Options of `primary`.
#[derive(Debug, Args)]
pub(crate) struct Primary {
    #[command(flatten)]
    pub(crate) targets: Targets,
    /// Take the local data as UpToDate
    #[arg(
        long,
        alias = "overwrite-data-of-peer",
        conflicts_with = "for_migration"
    )]
    pub(crate) force: bool,
    /// Beside the Primary that there is, for a live migration to this node
    #[arg(long)]
    pub(crate) for_migration: bool,
    /// After so many seconds the node that is not in use is demoted
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 600,
        value_parser = clap::value_parser!(u32).range(10..=86_400),
        requires = "for_migration"
    )]
    pub(crate) expires: u32,
}

/// Options of `secondary`.
#[derive(Debug, Args)]
pub(crate) struct Secondary {
    #[command(flatten)]
    pub(crate) targets: Targets,
    /// Fail the clients' I/O
    #[arg(long)]
    pub(crate) force: bool,
}
