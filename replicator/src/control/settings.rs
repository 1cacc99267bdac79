//! The command line of `rbdd`.

use std::path::PathBuf;

use clap::Parser;

/// What the daemon is told at its start; everything else comes from `rbdadm`.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "rbdd",
    version,
    about = "Replicator daemon: keeps this node's resources identical with those of its peers",
    after_help = "The daemon runs in the foreground and reads no configuration itself: rbdadm \
                  does, and tells it what to bring up. It remembers that in the run directory, so \
                  that after a crash or a restart of the service the same resources come up \
                  again.\n\n\
                  Log: stderr, or the journal when started by systemd. RBD_LOG sets what is \
                  logged, such as RBD_LOG=debug.\n\n\
                  Signals: SIGTERM and SIGINT stop every resource in an orderly way and exit with \
                  0.\n\
                  Exit codes: 0 stopped as asked, 1 wrong command line, 20 could not start."
)]
pub struct Settings {
    /// Configuration file, for handlers: the daemon itself does not read it
    #[arg(
        short,
        long,
        env = "RBD_CONFIG",
        default_value = "/etc/rbd.conf",
        value_name = "FILE"
    )]
    pub config: PathBuf,

    /// Name of this node in the configuration [default: the host name, as in uname -n]
    #[arg(long, env = "RBD_NODE", value_name = "NAME")]
    pub node: Option<String>,

    /// Directory of the control socket, the NBD socket and the lock
    #[arg(
        long,
        env = "RBD_RUN_DIR",
        default_value = "/run/rbd",
        value_name = "DIR"
    )]
    pub run_dir: PathBuf,

    /// Directory of what must outlive a boot
    #[arg(
        long,
        env = "RBD_STATE_DIR",
        default_value = "/var/lib/rbd",
        value_name = "DIR"
    )]
    pub state_dir: PathBuf,

    /// How long a handler may take before it is killed
    #[arg(
        long,
        env = "RBD_HANDLER_TIMEOUT",
        default_value_t = 120,
        value_name = "SECONDS",
        value_parser = clap::value_parser!(u32).range(1..=86_400)
    )]
    pub handler_timeout: u32,
}
