//! A real cluster: Debian's corosync and pacemaker on two machines made of namespaces, whose device
//! is used by a client that follows the cluster.
//!
//! | File | Job |
//! |---|---|
//! | `room` | the machines, their power and their cables |
//! | `board` | what the machines can ask for: power, and the client |
//! | `client` | the client |
//! | `files` | what is installed and configured on each machine |
//!
//! What runs in the machines is in `tests/cluster`.

mod board;
mod client;
mod files;
mod room;

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub use board::Switch;
pub use room::Cable as Link;

use super::program::{Output, binary, capture};
use super::{Chance, Status, is_root, lacks, skip, unless};
use crate::check::{Ledger, first_difference};
use board::Board;
use client::Follower;
use room::{NODES, Room};

/// Two machines with a cluster on them.
#[derive(Debug)]
pub struct Cluster {
    board: Arc<Board>,
    server: Option<JoinHandle<()>>,
    directory: tempfile::TempDir,
}

impl Cluster {
    /// Both machines are on, the resource `r0` has been in sync and is down, and nothing is
    /// configured in the cluster. `policy` is that of fencing. `None`, and noted as skipped, where
    /// that is not possible.
    ///
    /// # Panics
    /// When it does not come to that.
    #[must_use]
    pub fn boot(test: &str, policy: &str) -> Option<Self> {
        if lacks(test, PROGRAMS) {
            return None;
        }
        if !is_root() {
            skip(test, "only root may make namespaces");
            return None;
        }
        let directory = tempfile::Builder::new()
            .prefix("rbd-cluster-")
            .tempdir()
            .expect("a temporary directory can be made");
        let disks = directory.path().join("disks");
        std::fs::create_dir_all(&disks).expect("a fresh directory can be written to");
        let run = Chance::seed() | 1;
        for (node, run) in NODES.iter().zip([run, !run]) {
            std::fs::write(disks.join(node), Ledger::initial_image(run, DISK_BYTES))
                .expect("a disk can be written");
        }
        let mut room = Room::open(directory.path());
        for node in 0..2 {
            files::install(&room, node, policy);
            room.switch_on(node);
        }
        let board = Arc::new(Board::new(room, Follower::new(Ledger::new(run, 0, 1))));
        let mut cluster = Self {
            server: Some(board.serve()),
            board,
            directory,
        };
        cluster.sync_for_the_first_time(run);
        Some(cluster)
    }

    /// As [`Cluster::boot`], with the resource, its client and the power switches configured, and
    /// the client at work.
    ///
    /// # Panics
    /// When it does not come to that.
    #[must_use]
    pub fn start(test: &str, policy: &str) -> Option<Self> {
        let cluster = Self::boot(test, policy)?;
        cluster.configure(files::RESOURCES);
        cluster.wait_for_client();
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
        std::fs::write(file, lines).expect("a machine can be written to");
        self.ok(
            node,
            &[
                "crm",
                "-F",
                "configure",
                "load",
                "update",
                "/run/configuration",
            ],
        );
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

    /// What the daemon of a machine says of the resource.
    ///
    /// # Errors
    /// What it says instead.
    pub fn status(&self, node: &str) -> Result<Status, String> {
        let output = self.run(node, &["rbdadm", "status", "--json", "r0"]);
        if output.code != Some(0) {
            return Err(format!("status: {:?}: {}", output.code, output.text()));
        }
        Status::parse(&output.stdout, "r0")
    }

    /// Waits until the client writes somewhere, and returns where.
    ///
    /// # Panics
    /// When it does not in time.
    pub fn wait_for_client(&self) -> &'static str {
        let mut place = 0;
        self.wait("a client that writes", |cluster| {
            (place, _) = cluster.client_at_work()?;
            Ok(())
        });
        NODES[place]
    }

    /// Waits until the client writes on this machine.
    ///
    /// # Panics
    /// When it does not in time.
    pub fn wait_for_client_on(&self, node: &str) {
        self.wait(&format!("a client that writes on {node}"), |cluster| {
            let (place, _) = cluster.client_at_work()?;
            unless(NODES[place] == node, || format!("on {}", NODES[place]))
        });
    }

    /// Waits until the daemon of a machine says what is waited for.
    ///
    /// # Panics
    /// When it does not in time.
    pub fn wait_for_status(&self, node: &str, what: &str, is_so: impl Fn(&Status) -> bool) {
        self.wait(&format!("{node}: {what}"), |cluster| {
            let status = cluster.status(node)?;
            unless(is_so(&status), || status.text())
        });
    }

    /// Waits until both machines are members, both copies are the same, both have their score and
    /// nothing is fenced any more.
    ///
    /// # Panics
    /// When it does not come to that in time.
    pub fn wait_until_whole(&self) {
        self.wait("both nodes in sync", |cluster| {
            for node in NODES {
                let status = cluster.status(node)?;
                unless(status.is_in_sync(), || format!("{node}: {}", status.text()))?;
            }
            Ok(())
        });
        self.wait("no constraint of a handler", |cluster| {
            let constraint = cluster.constraint();
            unless(constraint.is_none(), || format!("{constraint:?}"))
        });
        self.wait("scores", |cluster| {
            let scores = NODES.map(|node| cluster.score(node));
            unless(scores == [Some(10_000); 2], || format!("{scores:?}"))
        });
        self.wait_for_client();
    }

    /// The promotion score of a machine.
    #[must_use]
    pub fn score(&self, node: &str) -> Option<i64> {
        let words = [
            "crm_attribute",
            "--quiet",
            "--query",
            "--lifetime",
            "reboot",
        ];
        let name = ["--name", "master-p_rbd", "--node", node];
        let output = self.run(self.some_node(), &[&words[..], &name[..]].concat());
        output.stdout.trim().parse().ok()
    }

    /// Whom the constraint of a fence handler lets be promoted, if there is one.
    #[must_use]
    pub fn constraint(&self) -> Option<String> {
        let path = "//rsc_location[starts-with(@id,'rbd-fence')]";
        let output = self.run(self.some_node(), &["cibadmin", "--query", "--xpath", path]);
        if output.code != Some(0) {
            return None;
        }
        let value = output.stdout.split("<expression").nth(1)?;
        let value = value.split(" value=\"").nth(1)?;
        Some(value.split('"').next()?.to_owned())
    }

    /// Waits until something is so.
    ///
    /// # Panics
    /// When it is not so in time, or the client has seen what must not be.
    pub fn wait(&self, what: &str, mut attempt: impl FnMut(&Self) -> Result<(), String>) {
        let begin = Instant::now();
        while let Err(seen) = attempt(self) {
            self.assert_nothing_wrong();
            assert!(
                begin.elapsed() < LIMIT,
                "waited {} s in vain for: {what}; last seen: {seen}",
                LIMIT.as_secs()
            );
            thread::sleep(POLL);
        }
        println!("{:>6.1} s  {what}", begin.elapsed().as_secs_f32());
    }

    /// Kills a program of a machine, wherever it is in its life.
    ///
    /// # Panics
    /// When there is none.
    pub fn kill(&self, node: &str, program: &str) {
        self.ok(node, &["pkill", "-KILL", "-x", program]);
    }

    /// Cuts the power of a machine.
    pub fn cut_power(&self, node: &str) {
        self.board.room().cut_power(node_number(node));
    }

    /// Switches a machine on.
    pub fn switch_on(&self, node: &str) {
        self.board.room().switch_on(node_number(node));
    }

    /// Whether a machine is on.
    #[must_use]
    pub fn is_on(&self, node: &str) -> bool {
        self.board.room().is_on(node_number(node))
    }

    /// Pulls a cable, or puts it in again.
    pub fn plug(&self, link: Link, is_in: bool) {
        self.board.room().plug(link, is_in);
    }

    /// How the power switch works from now on.
    pub fn set_switch(&self, switch: Switch) {
        self.board.set_switch(switch);
    }

    /// What the power switch was asked so far.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.board.asked()
    }

    /// Whether the power switch was asked to cut a machine's power.
    #[must_use]
    pub fn has_been_fenced(&self, node: &str) -> bool {
        let asked = self.asked();
        let cut = ["off", "reboot"].map(|what| format!("{what} {node}"));
        asked.iter().any(|question| cut.contains(question))
    }

    /// How often the client has begun to write.
    #[must_use]
    pub fn client_starts(&self) -> u64 {
        self.board.follower().starts
    }

    /// Waits until the client has begun to write once more.
    ///
    /// # Panics
    /// When it has not in time.
    pub fn wait_for_next_start(&self, before: u64) {
        self.wait("the client begins again", |cluster| {
            let starts = cluster.client_starts();
            unless(starts > before, || format!("{starts} starts"))
        });
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
        for node in NODES {
            self.ok(node, &["pkill", "-TERM", "-x", "rbdd"]);
            self.wait("the daemon has ended", |cluster| {
                let output = cluster.run(node, &["pgrep", "-x", "rbdd"]);
                unless(output.code == Some(1), || "it runs".to_owned())
            });
        }
        self.assert_nothing_wrong();
        let [alpha, beta] = NODES.map(|node| self.directory.path().join("disks").join(node));
        let mut follower = self.board.follower();
        match first_difference(&alpha, &beta, follower.ledger.sectors() * 512) {
            Ok(None) => {}
            Ok(Some(at)) => panic!("the copies differ at byte {at}"),
            Err(error) => panic!("the copies cannot be compared: {error}"),
        }
        for path in [alpha, beta] {
            if let Err(error) = follower.ledger.verify_file(&path) {
                panic!("{error}");
            }
        }
    }

    fn assert_nothing_wrong(&self) {
        let wrongs = self.board.follower().take_wrongs();
        assert!(wrongs.is_empty(), "{wrongs:?}");
    }

    /// Where the client has just had an answer.
    fn client_at_work(&self) -> Result<(usize, u64), String> {
        let nowhere = || "the client does not run".to_owned();
        let (place, before) = self.board.follower().place().ok_or_else(nowhere)?;
        thread::sleep(POLL);
        let (_, after) = self.board.follower().place().ok_or_else(nowhere)?;
        unless(after > before, || {
            format!("nothing is answered on {}", NODES[place])
        })?;
        Ok((place, after))
    }

    /// A machine that is on.
    fn some_node(&self) -> &'static str {
        NODES
            .into_iter()
            .find(|node| self.is_on(node))
            .unwrap_or("alpha")
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
        for node in 0..2 {
            self.board.room().cut_power(node);
        }
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
