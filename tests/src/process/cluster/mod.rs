//! A real cluster: Debian's corosync and pacemaker on two machines made of namespaces, whose device
//! is used by a client that follows the cluster.
//!
//! | File | Job |
//! |---|---|
//! | `room` | the machines, their power and their cables |
//! | `first` | their first processes |
//! | `board` | what the machines can ask for: power, and the client |
//! | `client` | the client |
//! | `everywhere` | the clients of two Primaries |
//! | `view`, `harm` | what is to be seen of a cluster, and what is done to it |
//! | `files` | what is installed and configured on each machine |
//!
//! What runs in the machines is in `tests/cluster`.

mod board;
mod client;
mod everywhere;
mod files;
mod first;
mod harm;
mod room;
#[cfg(test)]
mod tests;
mod view;

use std::fs;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub use board::Switch;
pub use room::Cable as Link;

use super::program::{Output, binary, capture};
use super::{Chance, Status, is_root, lacks, skip, unless};
use crate::check::{Ledger, first_difference};
use crate::faultfs::mount_privately;
use board::Board;
use client::Follower;
use room::{NODES, Room};

/// What differs between clusters.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The policy of fencing.
    pub policy: &'static str,
    /// The program that fences.
    pub handler: &'static str,
    /// How many nodes may be Primary: 1 or 2.
    pub primaries: usize,
    /// Whether beta has no power switch that can be reached, and is cut off at the mirror instead.
    /// Alpha has two votes then, so that beta alone has no quorum.
    pub cuts_mirror: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            policy: "resource-and-stonith",
            handler: "crm-fence-peer.sh",
            primaries: 1,
            cuts_mirror: false,
        }
    }
}

/// Two machines with a cluster on them.
#[derive(Debug)]
pub struct Cluster {
    board: Arc<Board>,
    server: Option<JoinHandle<()>>,
    options: Options,
    directory: tempfile::TempDir,
}

impl Cluster {
    /// Both machines are on, the resource `r0` has been in sync and is down, and nothing is
    /// configured in the cluster. The test must stay in this thread. `None`, and noted as skipped,
    /// where that is not possible.
    ///
    /// # Panics
    /// When it does not come to that.
    #[must_use]
    pub fn boot(test: &str, options: Options) -> Option<Self> {
        if lacks(test, PROGRAMS) {
            return None;
        }
        if !is_root() {
            skip(test, "only root may make namespaces");
            return None;
        }
        if let Err(reason) = mount_privately() {
            skip(test, &reason);
            return None;
        }
        let directory = tempfile::Builder::new()
            .prefix("rbd-cluster-")
            .tempdir()
            .expect("a temporary directory can be made");
        let run = Chance::seed() | 1;
        for (node, run) in NODES.iter().zip([run, !run]) {
            let media = directory.path().join("media").join(node);
            fs::create_dir_all(&media)
                .and_then(|()| {
                    fs::write(media.join("disk"), Ledger::initial_image(run, DISK_BYTES))
                })
                .expect("a fresh directory can be written to");
        }
        let mut room = Room::open(directory.path());
        for node in 0..2 {
            files::install(&room, node, &options);
            room.switch_on(node);
        }
        let board = Board::new(room, Follower::new(Ledger::new(run, 0, 1)), options);
        let board = Arc::new(board);
        let mut cluster = Self {
            server: Some(board.serve()),
            board,
            options,
            directory,
        };
        cluster.sync_for_the_first_time(run);
        Some(cluster)
    }

    /// As [`Cluster::boot`], with the power switches configured.
    ///
    /// # Panics
    /// When it does not come to that.
    #[must_use]
    pub fn with_switches(test: &str, options: Options) -> Option<Self> {
        let cluster = Self::boot(test, options)?;
        cluster.configure(&files::switches());
        Some(cluster)
    }

    /// As [`Cluster::boot`], with the power switches and the resource configured, and one node
    /// Primary.
    ///
    /// # Panics
    /// When it does not come to that.
    #[must_use]
    pub fn promoted(test: &str, options: Options) -> Option<Self> {
        let cluster = Self::boot(test, options)?;
        cluster.configure(&files::resource(&options));
        cluster.wait("a Primary", |cluster| {
            let roles = NODES.map(|node| cluster.status(node).map(|it| it.role().to_owned()));
            let is_one = roles.iter().flatten().any(|role| role == "Primary");
            unless(is_one, || format!("{roles:?}"))
        });
        Some(cluster)
    }

    /// As [`Cluster::promoted`], with the client at work.
    ///
    /// # Panics
    /// When it does not come to that.
    #[must_use]
    pub fn start(test: &str, options: Options) -> Option<Self> {
        let cluster = Self::boot(test, options)?;
        cluster.configure(&(files::resource(&options) + files::client(&options)));
        if options.primaries == 1 {
            cluster.wait_for_client();
        }
        Some(cluster)
    }

    /// Gives crmsh these lines.
    ///
    /// # Panics
    /// When it does not take them.
    pub fn configure(&self, lines: &str) {
        self.wait("a coordinator", |cluster| {
            let node = cluster.some_node();
            let said = cluster.run(node, &["crm_mon", "--one-shot", "--output-as=xml"]);
            let is_there = said.stdout.contains("<current_dc present=\"true\"");
            unless(
                is_there && said.stdout.contains("with_quorum=\"true\""),
                || said.text(),
            )
        });
        let node = self.some_node();
        let file = self
            .board
            .room()
            .file(node_number(node), "/run/configuration");
        fs::write(file, lines).expect("a machine can be written to");
        let load = [
            "crm",
            "-F",
            "configure",
            "load",
            "update",
            "/run/configuration",
        ];
        // Forced, it commits what it complains of.
        let said = self.run(node, &load);
        let is_taken = said.code == Some(0) && !said.text().contains("ERROR");
        assert!(is_taken, "{}", said.text());
    }

    /// Runs a program on a machine.
    ///
    /// # Panics
    /// When it takes for ever.
    #[must_use]
    pub fn run(&self, node: &str, words: &[&str]) -> Output {
        let mut command = self.board.room().enter(node_number(node), words);
        capture(&mut command, COMMAND_LIMIT)
    }

    /// Runs a program on a machine; it must succeed.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn ok(&self, node: &str, words: &[&str]) -> String {
        let output = self.run(node, words);
        assert_eq!(output.code, Some(0), "{node}: {words:?}: {}", output.text());
        output.stdout
    }

    /// Stops everything in order, then compares both copies with each other and with what the
    /// client was told.
    ///
    /// # Panics
    /// When anything is not as it should be.
    pub fn finish(self) {
        self.ok(
            "alpha",
            &["crm", "configure", "property", "stop-all-resources=true"],
        );
        self.wait("everything has stopped", |cluster| {
            let output = cluster.run("alpha", &["crm_mon", "--one-shot", "--inactive"]);
            let is_running =
                output.stdout.contains("Promoted") || output.stdout.contains("Started");
            unless(!is_running, || output.stdout)
        });
        self.board.follower().end();
        self.board.everywhere().end();
        for node in NODES {
            self.ok(node, &["pkill", "-TERM", "-x", "rbdd"]);
            self.wait("the daemon has ended", |cluster| {
                let output = cluster.run(node, &["pgrep", "-x", "rbdd"]);
                unless(output.code == Some(1), || "it runs".to_owned())
            });
        }
        self.assert_nothing_wrong();
        let [alpha, beta] =
            NODES.map(|node| self.directory.path().join("disks").join(node).join("disk"));
        let mut follower = self.board.follower();
        match first_difference(&alpha, &beta, follower.ledger.sectors() * 512) {
            Ok(None) => {}
            Ok(Some(at)) => panic!("the copies differ at byte {at}"),
            Err(error) => panic!("the copies cannot be compared: {error}"),
        }
        for path in [alpha, beta] {
            let verified = if self.options.primaries == 1 {
                follower.ledger.verify_file(&path)
            } else {
                self.board.everywhere().verify_file(&path)
            };
            if let Err(error) = verified {
                panic!("{error}");
            }
        }
    }

    /// Before there is a cluster, a person makes the metadata and says whose data is good.
    fn sync_for_the_first_time(&mut self, run: u64) {
        for node in NODES {
            self.ok(node, &["rbdadm", "create-md", "r0"]);
            self.ok(node, &["systemctl", "start", "rbdd.service"]);
        }
        for node in NODES {
            self.wait("a daemon", |cluster| {
                let output = cluster.run(node, &["rbdadm", "up", "r0"]);
                unless(output.code == Some(0), || output.text())
            });
        }
        self.wait_for_status("alpha", "connected", Status::is_connected);
        self.ok("alpha", &["rbdadm", "primary", "--force", "r0"]);
        self.wait_for_status("alpha", "in sync", Status::is_in_sync);
        let size = self.status("alpha").map_or(0, |status| status.size());
        self.board.follower().ledger = Ledger::new(run, size / 512, WRITERS);
        self.board.everywhere().begin(run, size / 512);
        self.ok("alpha", &["rbdadm", "secondary", "r0"]);
        for node in NODES {
            self.ok(node, &["rbdadm", "down", "r0"]);
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            files::print_logs(&self.board.room());
        }
        self.board.close();
        // The test may have failed: whatever could fail now would end all tests of this program.
        self.board.room().end();
        if let Some(server) = self.server.take() {
            drop(server.join());
        }
    }
}

fn node_number(name: &str) -> usize {
    let number = NODES.iter().position(|node| *node == name);
    number.unwrap_or_else(|| panic!("no machine {name}"))
}

/// Programs that are not part of every machine.
const PROGRAMS: &[&str] = &[
    "corosync",
    "pacemakerd",
    "crm",
    "ip",
    "nsenter",
    "setpriv",
    "unshare",
    "pkill",
    "ping",
];

const DISK_BYTES: u64 = 16 << 20;
const WRITERS: u64 = 2;

/// A cluster takes its time; a fence handler alone may have 90 seconds.
const LIMIT: Duration = Duration::from_secs(150);
const COMMAND_LIMIT: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(100);
