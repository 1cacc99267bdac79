//! What may happen in a run: drawn from the seed, within the limits of a named profile.

use super::fencing::Model;
use super::random::Random;
use rbd_protocol::control::Fencing;

/// Which faults and commands a run consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// No faults at all: clients, and commands at leisure.
    Calm,
    /// Everything below, each class in about half of the seeds.
    Swarm,
    /// Cut links and partitions only.
    Network,
    /// Crashes and power losses only.
    Power,
    /// Everything, with fencing instead of an operator who knows everything.
    Fencing,
    /// The same with a fence handler that lies now and then: something must be found.
    FencingLies,
}

impl Profile {
    /// The profile of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "calm" => Self::Calm,
            "swarm" => Self::Swarm,
            "network" => Self::Network,
            "power" => Self::Power,
            "fencing" => Self::Fencing,
            "fencing-lies" => Self::FencingLies,
            _ => return None,
        })
    }
}

/// How often what happens, and how large everything is. Weights count against each other.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) size_bytes: u64,
    pub(super) skip_initial_sync: bool,
    pub(super) clients: u64,
    pub(super) hot_blocks: u64,
    pub(super) reads_percent: u64,
    pub(super) flush_percent: u64,
    pub(super) fua_percent: u64,
    pub(super) zero_percent: u64,
    pub(super) overlap_percent: u64,
    pub(super) think_us: u64,
    pub(super) disk_us: (u64, u64),
    pub(super) net_us: (u64, u64),
    pub(super) connect_ms: u32,
    pub(super) ping_ms: (u32, u32),
    pub(super) hot_region_limit: u32,
    pub(super) fault_every_ms: u64,
    pub(super) duration_ms: u64,
    pub(super) cut: u64,
    pub(super) partition: u64,
    pub(super) kill: u64,
    pub(super) power: u64,
    pub(super) power_both: u64,
    pub(super) disconnect: u64,
    pub(super) switch_over: u64,
    pub(super) stop: u64,
    pub(super) fencing: Option<Model>,
}

impl Options {
    pub(super) fn draw(profile: Profile, random: &mut Random) -> Self {
        let sizes = [64 << 12, 512 << 12, 4096 << 12, 20 << 20];
        let mut weight = |allowed: bool| {
            if allowed && random.percent(60) {
                random.between(1, 10)
            } else {
                0
            }
        };
        let fencing = matches!(profile, Profile::Fencing | Profile::FencingLies);
        let swarm = profile == Profile::Swarm || fencing;
        let network = swarm || profile == Profile::Network;
        let power = swarm || profile == Profile::Power;
        let mut options = Self {
            cut: weight(network),
            partition: weight(network),
            kill: weight(power),
            power: weight(power),
            power_both: weight(power),
            disconnect: weight(swarm),
            switch_over: weight(true),
            stop: weight(swarm),
            size_bytes: random.pick(&sizes).unwrap_or(1 << 20),
            skip_initial_sync: random.percent(70),
            clients: random.between(1, 8),
            hot_blocks: random.magnitude(1, 64),
            reads_percent: random.pick(&[5, 20, 50]).unwrap_or(20),
            flush_percent: random.pick(&[0, 2, 10, 30]).unwrap_or(2),
            fua_percent: random.pick(&[0, 5, 30]).unwrap_or(5),
            zero_percent: random.pick(&[0, 5, 20]).unwrap_or(5),
            overlap_percent: random.pick(&[0, 20, 100]).unwrap_or(20),
            think_us: random.magnitude(100, 200_000),
            disk_us: (random.magnitude(5, 500), random.magnitude(500, 50_000)),
            net_us: (random.magnitude(5, 500), random.magnitude(500, 50_000)),
            connect_ms: 100,
            ping_ms: (500, 700),
            hot_region_limit: random.pick(&[0, 1, 2, 100]).unwrap_or(1),
            fault_every_ms: random.magnitude(5, 3_000),
            duration_ms: random.magnitude(2_000, 60_000),
            fencing: None,
        };
        if fencing {
            options.fencing = Some(draw_fencing(profile == Profile::FencingLies, random));
            options.duration_ms = options.duration_ms.max(10_000);
        }
        // About as many events whatever the pace.
        let busy =
            options.clients * options.duration_ms * 1_000 / (options.think_us + options.disk_us.1);
        if busy > 5_000 {
            options.duration_ms = (options.duration_ms * 5_000 / busy).max(1_000);
        }
        options
    }
}

fn draw_fencing(lies: bool, random: &mut Random) -> Model {
    Model {
        policy: Fencing::ResourceAndStonith,
        fails_percent: random.pick(&[0, 10, 50]).unwrap_or(0),
        mute_percent: random.pick(&[0, 10, 50]).unwrap_or(0),
        lies_percent: if lies { 50 } else { 0 },
        stonith_percent: random.pick(&[0, 50, 100]).unwrap_or(0),
        rivals_percent: random.pick(&[0, 5, 30]).unwrap_or(0),
        most_us: random.magnitude(1_000, 10_000_000),
    }
}
