//! What a run was, and what was wrong with it.

use std::collections::BTreeMap;

use super::marks::Marks;
use super::visited::Visited;

/// What happened in a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The seed that decided everything.
    pub seed: u64,
    /// Things that happened, one by one.
    pub events: u64,
    /// Virtual time that passed, in milliseconds.
    pub virtual_ms: u64,
    /// Client operations that were answered.
    pub operations: u64,
    /// Of those, the ones that failed.
    pub failed_operations: u64,
    /// Commands given.
    pub commands: u64,
    /// Links that stood.
    pub links: u64,
    /// Packets sent.
    pub packets: u64,
    /// Faults by kind.
    pub faults: BTreeMap<String, u64>,
    /// Disk operations that failed.
    pub disk_errors: u64,
    /// Packets a bit of which flipped on the way.
    pub damaged_packets: u64,
    /// Requests their clients gave up.
    pub given_up: u64,
    /// Processes killed.
    pub kills: u64,
    /// Machines that lost power.
    pub power_losses: u64,
    /// Disks that were set back to what they held earlier.
    pub set_back: u64,
    /// Fence handlers that did their work.
    pub fences: u64,
    /// Resyncs that came to their end.
    pub resyncs: u64,
    /// Times a node with several volumes was to be filled with some of them only.
    pub partly_filled: u64,
    /// The same with all of them at once.
    pub wholly_filled: u64,
    /// Verifies that came to their end.
    pub verifies: u64,
    /// Blocks they found to differ.
    pub found_rotten: u64,
    /// Promotions of the node that was not the last Primary.
    pub failovers: u64,
    /// Promotions that succeeded.
    pub promotions: u64,
    /// Times both replicas were compared and found identical.
    pub comparisons: u64,
    /// Handshakes that were judged by what was on both disks.
    pub handshakes: u64,
    /// Most blocks that might have differed at one time.
    pub most_differing: u64,
    /// How often clients were shown a larger volume than before.
    pub growths: u64,
    /// Longest time a client waited for which nothing that was wrong is an excuse, in milliseconds.
    pub longest_wait_ms: u64,
    /// Rare situations, by name.
    pub marks: Marks,
    /// Which events met a node in which situation, if that was looked at.
    pub visited: Option<Visited>,
    /// Tells one course of events from another.
    pub hash: u64,
}

/// A run in which something was wrong.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The run up to there.
    pub report: Report,
    /// What was wrong.
    pub text: String,
    /// The last things that happened, if they were recorded.
    pub trace: Vec<String>,
    /// How many faults there had been.
    pub faults: u64,
    /// How many requests each client had made.
    pub requests: BTreeMap<u64, u64>,
    /// How long clients and faults had been at work, in virtual milliseconds.
    pub at_ms: u64,
}

impl Report {
    pub(super) fn mix(&mut self, value: u64) {
        self.hash = (self.hash ^ value).wrapping_mul(0x0100_0000_01B3);
    }

    /// Everything in it, for programs.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "events": self.events,
            "virtual_ms": self.virtual_ms,
            "operations": self.operations,
            "failed_operations": self.failed_operations,
            "given_up": self.given_up,
            "commands": self.commands,
            "promotions": self.promotions,
            "failovers": self.failovers,
            "resyncs": self.resyncs,
            "partly_filled": self.partly_filled,
            "wholly_filled": self.wholly_filled,
            "verifies": self.verifies,
            "found_rotten": self.found_rotten,
            "links": self.links,
            "packets": self.packets,
            "damaged_packets": self.damaged_packets,
            "faults": self.faults,
            "disk_errors": self.disk_errors,
            "kills": self.kills,
            "power_losses": self.power_losses,
            "set_back": self.set_back,
            "comparisons": self.comparisons,
            "handshakes_judged": self.handshakes,
            "most_differing": self.most_differing,
            "growths": self.growths,
            "longest_wait_ms": self.longest_wait_ms,
            "hash": format!("{:016x}", self.hash),
        })
    }

    /// Adds up another run's figures.
    pub fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.virtual_ms += other.virtual_ms;
        self.operations += other.operations;
        self.failed_operations += other.failed_operations;
        self.commands += other.commands;
        self.links += other.links;
        self.packets += other.packets;
        for (kind, count) in &other.faults {
            *self.faults.entry(kind.clone()).or_default() += count;
        }
        self.disk_errors += other.disk_errors;
        self.damaged_packets += other.damaged_packets;
        self.given_up += other.given_up;
        self.kills += other.kills;
        self.power_losses += other.power_losses;
        self.set_back += other.set_back;
        self.fences += other.fences;
        self.promotions += other.promotions;
        self.resyncs += other.resyncs;
        self.partly_filled += other.partly_filled;
        self.wholly_filled += other.wholly_filled;
        self.verifies += other.verifies;
        self.found_rotten += other.found_rotten;
        self.failovers += other.failovers;
        self.comparisons += other.comparisons;
        self.handshakes += other.handshakes;
        self.most_differing = self.most_differing.max(other.most_differing);
        self.growths += other.growths;
        self.longest_wait_ms = self.longest_wait_ms.max(other.longest_wait_ms);
        self.marks.add(&other.marks);
        if let Some(visited) = &other.visited {
            self.visited.get_or_insert_default().add(visited);
        }
        self.hash ^= other.hash;
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} events in {}.{:03} virtual seconds; {} operations ({} failed), {} commands, {} \
             promotions, {} fences, {} links, {} packets, {} disk errors, {} kills, \
             {} power losses, {} disks set back, {} comparisons, {} resyncs, {} verifies, \
             {} blocks found, {} growths, {} fail-overs, {} handshakes judged, \
             at most {} blocks differing, longest unexcused wait {} ms; hash {:016x}",
            self.events,
            self.virtual_ms / 1_000,
            self.virtual_ms % 1_000,
            self.operations,
            self.failed_operations,
            self.commands,
            self.promotions,
            self.fences,
            self.links,
            self.packets,
            self.disk_errors,
            self.kills,
            self.power_losses,
            self.set_back,
            self.comparisons,
            self.resyncs,
            self.verifies,
            self.found_rotten,
            self.growths,
            self.failovers,
            self.handshakes,
            self.most_differing,
            self.longest_wait_ms,
            self.hash
        )
    }
}
