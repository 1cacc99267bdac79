//! What is done to a cluster, and beside it.

use super::{COMMAND_LIMIT, Cluster, Link, Switch, node_number, unless};
use crate::faultfs::{Fault, FaultId};
use crate::nbd_client::{Client, Error};

impl Cluster {
    /// Kills a program of a machine, wherever it is in its life.
    ///
    /// # Panics
    /// When there is none.
    pub fn kill(&self, node: &str, program: &str) {
        self.signal(node, "KILL", program);
    }

    /// Sends a program of a machine this signal.
    ///
    /// # Panics
    /// When there is none.
    pub fn signal(&self, node: &str, signal: &str, program: &str) {
        self.ok(node, &["pkill", &format!("-{signal}"), "-x", program]);
    }

    /// Cuts the power of a machine.
    pub fn cut_power(&self, node: &str) {
        self.board.room().cut_power(node_number(node));
    }

    /// A machine resets itself and stays off, and its power switch does not know.
    pub fn reset(&self, node: &str) {
        self.board.room().reset(node_number(node));
    }

    /// Cuts the power of all machines that have the newest data: what was answered and not flushed
    /// may be lost.
    pub fn cut_power_of_all(&self, nodes: &[&str]) {
        for node in nodes {
            self.cut_power(node);
        }
        let mut follower = self.board.follower();
        follower.end();
        follower.ledger.power_lost();
    }

    /// Switches a machine on.
    pub fn switch_on(&self, node: &str) {
        self.board.room().switch_on(node_number(node));
    }

    /// Pulls a cable, or puts it in again.
    pub fn plug(&self, link: Link, is_in: bool) {
        self.board.room().plug(link, is_in);
    }

    /// How the power switch of a machine works from now on.
    pub fn set_switch(&self, node: &str, switch: Switch) {
        self.board.set_switch(node_number(node), switch);
    }

    /// Makes the disk of a machine fail.
    pub fn break_disk(&self, node: &str, fault: Fault) -> FaultId {
        self.board.room().disks(node_number(node)).set(fault)
    }

    /// The disk of a machine is a new one, as far as its faults go.
    pub fn mend_disk(&self, node: &str) {
        let room = self.board.room();
        room.disks(node_number(node)).clear();
        room.disks(node_number(node)).release();
    }

    /// Opens the device on a machine, beside the cluster.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub fn open(&self, node: &str) -> Result<Client, Error> {
        let socket = self
            .board
            .room()
            .file(node_number(node), "/run/rbd/nbd.sock");
        Client::unix(&socket, "r0/0", COMMAND_LIMIT)
    }

    /// Shuts a machine down in order: the cluster's manager, the cluster, the daemon, the power.
    ///
    /// # Panics
    /// When one of them does not end.
    pub fn shut_down(&self, node: &str) {
        for program in ["pacemakerd", "corosync", "rbdd"] {
            self.ok(node, &["pkill", "-TERM", "-x", program]);
            self.wait(&format!("{node}: {program} has ended"), |cluster| {
                let output = cluster.run(node, &["pgrep", "-x", program]);
                unless(output.code == Some(1), || "it runs".to_owned())
            });
        }
        self.cut_power(node);
    }
}
