//! Which events have met a node in which situation: the places a run has been to.
//!
//! A *situation* is role, disk and what there is between the nodes, coarsely; an *event* is what
//! the engine is told. Pairs that cannot be are named in `verdict` with the reason, and so are
//! those that can but hardly ever are; all others must be met when many seeds of all profiles are
//! run.

mod events;
#[cfg(test)]
mod tests;
mod two;
mod verdict;

use std::collections::BTreeMap;

use events::{EVENTS, OLDER, name};
use rbd_engine::Event;
use rbd_protocol::control::ResourceStatus;
use rbd_protocol::state::{ConnectionState, DiskState, ReplicationState, Role};
use verdict::{Verdict, verdict};

use super::node::{device_of, peer_device_of};

/// What a node is told about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Situation {
    /// It is Primary.
    pub primary: bool,
    /// It knows its peer to be Primary as well; never of a Secondary.
    pub beside: bool,
    /// What its disk is good for.
    pub disk: Disk,
    /// What there is between it and its peer.
    pub between: Between,
}

/// What a disk is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Disk {
    /// There is none.
    None,
    /// Inconsistent, Outdated or Consistent.
    Partial,
    /// `UpToDate`.
    Good,
}

/// What there is between two nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Between {
    /// Nothing, and nothing is wanted.
    Alone,
    /// Nothing yet, or a handshake.
    Connecting,
    /// A link; one of the nodes has no disk.
    Idle,
    /// Both are in sync, or just created.
    Established,
    /// Bitmaps are being exchanged; this node is the source.
    BitmapSource,
    /// Bitmaps are being exchanged; this node is the target.
    BitmapTarget,
    /// This node is the source of a resync.
    Source,
    /// This node is the target of a resync.
    Target,
}

/// How often what was met, in how many runs, and where first.
#[derive(Clone, Debug, Default)]
pub struct Visited {
    pairs: BTreeMap<Pair, Met>,
    /// The run that is looked at: profile and seed.
    run: Run,
    /// The newest link each node has been told of.
    links: [u64; 2],
}

type Pair = (Situation, &'static str);

type Run = (&'static str, u64);

#[derive(Clone, Copy, Debug)]
struct Met {
    times: u64,
    runs: u64,
    first: Run,
}

impl Visited {
    pub(super) fn new(profile: &'static str, seed: u64) -> Self {
        Self {
            run: (profile, seed),
            ..Self::default()
        }
    }

    pub(super) fn note<B>(&mut self, node: usize, situation: Situation, event: &Event<B>) {
        if let Event::LinkUp { link, .. } = event {
            self.links[node] = link.0;
        }
        let name = match event {
            Event::Packet { link, .. } if link.0 != self.links[node] => OLDER,
            other => name(situation, other),
        };
        let first = self.run;
        let entry = self.pairs.entry((situation, name));
        let (times, runs) = (0, 1);
        let met = entry.or_insert(Met { times, runs, first });
        met.times += 1;
    }

    /// Adds what was met elsewhere.
    pub fn add(&mut self, other: &Self) {
        for (pair, met) in &other.pairs {
            let entry = self.pairs.entry(*pair);
            entry
                .and_modify(|before| {
                    before.times += met.times;
                    before.runs += met.runs;
                    before.first = before.first.min(met.first);
                })
                .or_insert(*met);
        }
    }

    /// Possible pairs that were met, and those that were not. Rare ones are left out.
    #[must_use]
    pub fn missing(&self) -> (usize, Vec<Pair>) {
        let mut met = 0;
        let mut missing = Vec::new();
        let possible = |(situation, event): &(Situation, &'static str)| {
            verdict(*situation, event) == Verdict::Possible
        };
        for pair in every_pair().filter(possible) {
            if self.pairs.contains_key(&pair) {
                met += 1;
            } else {
                missing.push(pair);
            }
        }
        (met, missing)
    }

    /// Pairs that were met although they are declared impossible: then the declaration is wrong, or
    /// the engine is.
    #[must_use]
    pub fn impossible(&self) -> Vec<(Situation, &'static str, &'static str)> {
        self.pairs
            .keys()
            .filter_map(|(situation, event)| match verdict(*situation, event) {
                _ if !EVENTS.contains(event) => {
                    Some((*situation, *event, "no event has that name"))
                }
                Verdict::Impossible(why) => Some((*situation, *event, why)),
                Verdict::Possible | Verdict::Rare(_) => None,
            })
            .collect()
    }
}

impl Visited {
    /// Every rare pair: why it is rare, and where it was met, if it was.
    #[must_use]
    pub fn rare(&self) -> Vec<Rare> {
        let rare = every_pair().filter_map(|(situation, event)| {
            let Verdict::Rare(why) = verdict(situation, event) else {
                return None;
            };
            let met = self.pairs.get(&(situation, event));
            Some(Rare {
                situation,
                event,
                why,
                met: met.copied(),
            })
        });
        rare.collect()
    }
}

/// A pair that can be but hardly ever is.
#[derive(Clone, Copy, Debug)]
pub struct Rare {
    /// What the node is told about.
    pub situation: Situation,
    /// What it is told.
    pub event: &'static str,
    /// What has to coincide.
    pub why: &'static str,
    met: Option<Met>,
}

impl std::fmt::Display for Rare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} <- {}: {}; ", self.situation, self.event, self.why)?;
        match self.met {
            Some(met) => write!(f, "{met}"),
            None => write!(f, "not met"),
        }
    }
}

impl std::fmt::Display for Met {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { times, runs, first } = self;
        let (profile, seed) = first;
        write!(
            f,
            "{times} times in {runs} seeds, first in {profile} {seed}"
        )
    }
}

impl std::fmt::Display for Visited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (met, missing) = self.missing();
        for (situation, event) in &missing {
            writeln!(f, "not met: {situation} <- {event}")?;
        }
        for (situation, event, why) in self.impossible() {
            write!(f, "met although {why}: {situation} <- {event}")?;
            match self.pairs.get(&(situation, event)) {
                Some(met) => writeln!(f, "; {met}")?,
                None => writeln!(f)?,
            }
        }
        let rare = self.rare();
        for one in &rare {
            writeln!(f, "rare: {one}")?;
        }
        let rare_met = rare.iter().filter(|one| one.met.is_some()).count();
        let all = every_pair().count();
        let possible = met + missing.len();
        let impossible = all - possible - rare.len();
        write!(
            f,
            "{met} of {possible} possible pairs met, and {rare_met} of {} rare ones; {impossible} \
             of {all} are impossible",
            rare.len()
        )
    }
}

impl std::fmt::Display for Situation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let role = match (self.primary, self.beside) {
            (_, true) => "Both",
            (true, _) => "Primary",
            (false, _) => "Secondary",
        };
        write!(f, "{role}/{:?}/{:?}", self.disk, self.between)
    }
}

/// The situation a node is in, by what it says of itself.
pub(super) fn situation(status: &ResourceStatus, volume: usize) -> Situation {
    let disk = match device_of(status, volume).map(|device| device.disk_state) {
        Some(DiskState::UpToDate) => Disk::Good,
        Some(DiskState::Inconsistent | DiskState::Outdated | DiskState::Consistent) => {
            Disk::Partial
        }
        _ => Disk::None,
    };
    let peer = status.connections.first();
    let replication = peer_device_of(status, volume)
        .map_or(ReplicationState::Off, |device| device.replication_state);
    let between = match peer.map(|peer| peer.connection_state) {
        Some(ConnectionState::StandAlone) | None => Between::Alone,
        Some(ConnectionState::Connected) => match replication {
            ReplicationState::Established
            | ReplicationState::VerifyS
            | ReplicationState::VerifyT => Between::Established,
            ReplicationState::WFBitMapS => Between::BitmapSource,
            ReplicationState::WFBitMapT => Between::BitmapTarget,
            ReplicationState::SyncSource | ReplicationState::PausedSyncS => Between::Source,
            ReplicationState::SyncTarget | ReplicationState::PausedSyncT => Between::Target,
            _ => Between::Idle,
        },
        Some(_) => Between::Connecting,
    };
    let primary = status.role == Role::Primary;
    Situation {
        primary,
        beside: primary && peer.is_some_and(|peer| peer.peer_role == Role::Primary),
        disk,
        between,
    }
}

fn every_pair() -> impl Iterator<Item = Pair> {
    let roles = [(false, false), (true, false), (true, true)];
    let situations = roles.into_iter().flat_map(|(primary, beside)| {
        [Disk::None, Disk::Partial, Disk::Good]
            .into_iter()
            .flat_map(move |disk| {
                BETWEEN.into_iter().map(move |between| Situation {
                    primary,
                    beside,
                    disk,
                    between,
                })
            })
    });
    situations.flat_map(|situation| EVENTS.iter().map(move |event| (situation, *event)))
}

const BETWEEN: [Between; 8] = [
    Between::Alone,
    Between::Connecting,
    Between::Idle,
    Between::Established,
    Between::BitmapSource,
    Between::BitmapTarget,
    Between::Source,
    Between::Target,
];
