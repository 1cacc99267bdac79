//! Which events have met a node in which situation: the places a run has been to.
//!
//! A *situation* is role, disk and what there is between the nodes, coarsely; an *event* is what
//! the engine is told. Pairs that cannot be are named in `verdict` with the reason, and so are
//! those that can but hardly ever are; all others must be met when many seeds of all profiles are
//! run.

mod verdict;

use std::collections::BTreeMap;

use rbd_engine::{Command, Event, RequestKind};
use rbd_protocol::control::ResourceStatus;
use rbd_protocol::peer::{Kind, Packet};
use rbd_protocol::state::{ConnectionState, DiskState, ReplicationState, Role};
use verdict::{Verdict, verdict};

/// What a node is told about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Situation {
    /// It is Primary.
    pub primary: bool,
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

/// How often what was met.
#[derive(Clone, Debug, Default)]
pub struct Visited {
    pairs: BTreeMap<(Situation, &'static str), u64>,
    /// The newest link each node has been told of.
    links: [u64; 2],
}

impl Visited {
    pub(super) fn note<B>(&mut self, node: usize, situation: Situation, event: &Event<B>) {
        if let Event::LinkUp { link, .. } = event {
            self.links[node] = link.0;
        }
        let name = match event {
            Event::Packet { link, .. } if link.0 != self.links[node] => OLDER,
            other => name(situation, other),
        };
        *self.pairs.entry((situation, name)).or_default() += 1;
    }

    /// Adds what was met elsewhere.
    pub fn add(&mut self, other: &Self) {
        for (pair, count) in &other.pairs {
            *self.pairs.entry(*pair).or_default() += count;
        }
    }

    /// Possible pairs that were met, and those that were not. Rare ones are left out.
    #[must_use]
    pub fn missing(&self) -> (usize, Vec<(Situation, &'static str)>) {
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
                Verdict::Impossible(why) => Some((*situation, *event, why)),
                Verdict::Possible | Verdict::Rare(_) => None,
            })
            .collect()
    }
}

impl Visited {
    /// How many of the rare pairs were met, and how many there are.
    fn rare(&self) -> (usize, usize) {
        let is_rare = |(situation, event): &(Situation, &'static str)| {
            matches!(verdict(*situation, event), Verdict::Rare(_))
        };
        let rare: Vec<_> = every_pair().filter(is_rare).collect();
        let met = rare.iter().filter(|pair| self.pairs.contains_key(pair));
        (met.count(), rare.len())
    }
}

impl std::fmt::Display for Visited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (met, missing) = self.missing();
        for (situation, event) in &missing {
            writeln!(f, "not met: {situation} <- {event}")?;
        }
        for (situation, event, why) in self.impossible() {
            writeln!(f, "met although {why}: {situation} <- {event}")?;
        }
        let (rare_met, rare) = self.rare();
        let all = every_pair().count();
        let possible = met + missing.len();
        write!(
            f,
            "{met} of {possible} possible pairs met, and {rare_met} of {rare} rare ones; {} of \
             {all} are impossible",
            all - possible - rare
        )
    }
}

impl std::fmt::Display for Situation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let role = if self.primary { "Primary" } else { "Secondary" };
        write!(f, "{role}/{:?}/{:?}", self.disk, self.between)
    }
}

/// The situation a node is in, by what it says of itself.
pub(super) fn situation(status: &ResourceStatus) -> Situation {
    let disk = match status.devices.first().map(|device| device.disk_state) {
        Some(DiskState::UpToDate) => Disk::Good,
        Some(DiskState::Inconsistent | DiskState::Outdated | DiskState::Consistent) => {
            Disk::Partial
        }
        _ => Disk::None,
    };
    let peer = status.connections.first();
    let replication = peer
        .and_then(|peer| peer.peer_devices.first())
        .map_or(ReplicationState::Off, |device| device.replication_state);
    let between = match peer.map(|peer| peer.connection_state) {
        Some(ConnectionState::StandAlone) | None => Between::Alone,
        Some(ConnectionState::Connected) => match replication {
            ReplicationState::Established
            | ReplicationState::VerifyS
            | ReplicationState::VerifyT => Between::Established,
            ReplicationState::WFBitMapS => Between::BitmapSource,
            ReplicationState::WFBitMapT => Between::BitmapTarget,
            ReplicationState::SyncSource => Between::Source,
            ReplicationState::SyncTarget => Between::Target,
            _ => Between::Idle,
        },
        Some(_) => Between::Connecting,
    };
    Situation {
        primary: status.role == Role::Primary,
        disk,
        between,
    }
}

/// The event's name.
fn name<B>(situation: Situation, event: &Event<B>) -> &'static str {
    match event {
        Event::Packet { packet, .. } if is_late(situation, packet.kind()) => LATE,
        Event::Request { kind, .. } => match kind {
            RequestKind::Read => "request Read",
            RequestKind::Write { .. } => "request Write",
            RequestKind::Zero { .. } => "request Zero",
            RequestKind::Flush => "request Flush",
        },
        Event::DiskDone { result: Ok(_), .. } => "DiskDone",
        Event::DiskDone { result: Err(_), .. } => "DiskDone with an error",
        Event::Digests { .. } => "Digests",
        Event::MetaDone { result: Ok(()), .. } => "MetaDone",
        Event::MetaDone { result: Err(_), .. } => "MetaDone with an error",
        Event::LinkUp { .. } => "LinkUp",
        Event::LinkDown { .. } => "LinkDown",
        Event::Packet { packet, .. } => packet_name(packet),
        Event::Timer => "Timer",
        Event::HandlerDone { .. } => "HandlerDone",
        Event::Openers { .. } => "Openers",
        Event::Command { command, .. } => command_name(command),
    }
}

fn is_late(situation: Situation, kind: Kind) -> bool {
    match situation.between {
        Between::Alone => true,
        Between::Connecting => kind != Kind::Hello,
        _ => false,
    }
}

fn command_name(command: &Command) -> &'static str {
    match command {
        Command::Attach { .. } => "command Attach",
        Command::Configure(_) => "command Configure",
        Command::Connect { .. } => "command Connect",
        Command::Detach { .. } => "command Detach",
        Command::Disconnect { .. } => "command Disconnect",
        Command::Promote { .. } => "command Promote",
        Command::Demote { .. } => "command Demote",
        Command::NewGeneration { .. } => "command NewGeneration",
        Command::Resolve { .. } => "command Resolve",
        Command::Outdate => "command Outdate",
        Command::Verify { .. } => "command Verify",
        Command::Invalidate { .. } => "command Invalidate",
        Command::SuspendIo => "command SuspendIo",
        Command::ResumeIo => "command ResumeIo",
        Command::Stop => "command Stop",
    }
}

fn packet_name(packet: &Packet) -> &'static str {
    match packet.kind() {
        Kind::Hello => "packet Hello",
        Kind::State => "packet State",
        Kind::PromoteRequest => "packet PromoteRequest",
        Kind::PromoteReply => "packet PromoteReply",
        Kind::NewGeneration => "packet NewGeneration",
        Kind::NewGenerationAck => "packet NewGenerationAck",
        Kind::Goodbye => "packet Goodbye",
        Kind::VerifyRequest => "packet VerifyRequest",
        Kind::VerifyRelease => "packet VerifyRelease",
        Kind::VerifyReply => "packet VerifyReply",
        Kind::InvalidateRequest => "packet InvalidateRequest",
        Kind::InvalidateReply => "packet InvalidateReply",
        Kind::Write => "packet Write",
        Kind::Discard | Kind::WriteZeroes => "packet Zero",
        Kind::Flush => "packet Flush",
        Kind::WriteAck => "packet WriteAck",
        Kind::NegativeAck => "packet NegativeAck",
        Kind::FlushAck => "packet FlushAck",
        Kind::Bitmap => "packet Bitmap",
        Kind::BitmapEnd => "packet BitmapEnd",
        Kind::ResyncRequest => "packet ResyncRequest",
        Kind::ResyncData => "packet ResyncData",
        Kind::ResyncAck => "packet ResyncAck",
        Kind::ResyncNegativeAck => "packet ResyncNegativeAck",
        Kind::ResyncDone => "packet ResyncDone",
        Kind::RemoteRead => "packet RemoteRead",
        Kind::RemoteWrite => "packet RemoteWrite",
        Kind::RemoteDiscard | Kind::RemoteWriteZeroes => "packet RemoteZero",
        Kind::RemoteFlush => "packet RemoteFlush",
        Kind::RemoteDone => "packet RemoteDone",
        Kind::RemoteData => "packet RemoteData",
        Kind::RemoteFailed => "packet RemoteFailed",
        Kind::Ping => "packet Ping",
        Kind::PingAck => "packet PingAck",
    }
}

fn every_pair() -> impl Iterator<Item = (Situation, &'static str)> {
    let situations = [false, true].into_iter().flat_map(|primary| {
        [Disk::None, Disk::Partial, Disk::Good]
            .into_iter()
            .flat_map(move |disk| {
                BETWEEN.into_iter().map(move |between| Situation {
                    primary,
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

const EVENTS: &[&str] = &[
    "request Read",
    "request Write",
    "request Zero",
    "request Flush",
    "DiskDone",
    "DiskDone with an error",
    "Digests",
    "MetaDone",
    "MetaDone with an error",
    "LinkUp",
    "LinkDown",
    "Timer",
    "HandlerDone",
    "Openers",
    "command Attach",
    "command Configure",
    "command Connect",
    "command Disconnect",
    "command Promote",
    "command Demote",
    "command NewGeneration",
    "command Resolve",
    "command Outdate",
    "command Verify",
    "command Invalidate",
    "command SuspendIo",
    "command ResumeIo",
    "command Stop",
    "packet Hello",
    "packet State",
    "packet PromoteRequest",
    "packet PromoteReply",
    "packet NewGeneration",
    "packet NewGenerationAck",
    "packet Goodbye",
    "packet VerifyRequest",
    "packet VerifyRelease",
    "packet VerifyReply",
    "packet InvalidateRequest",
    "packet InvalidateReply",
    "packet Write",
    "packet Zero",
    "packet Flush",
    "packet WriteAck",
    "packet NegativeAck",
    "packet FlushAck",
    "packet Bitmap",
    "packet BitmapEnd",
    "packet ResyncRequest",
    "packet ResyncData",
    "packet ResyncAck",
    "packet ResyncNegativeAck",
    "packet ResyncDone",
    "packet Ping",
    "packet PingAck",
    LATE,
    OLDER,
];

/// Whatever but a greeting arrives over a link that is being made or closed.
const LATE: &str = "packet of a link being made or closed";

/// Whatever arrives over a link that another one has taken the place of (A7).
const OLDER: &str = "packet of an older link";

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Situation = Situation {
        primary: false,
        disk: Disk::Partial,
        between: Between::Target,
    };

    fn flush() -> Event<()> {
        Event::Request {
            id: rbd_engine::RequestId(1),
            volume: rbd_protocol::ids::VolumeNumber(0),
            range: rbd_protocol::ids::ByteRange::new(0, 0),
            kind: RequestKind::Flush,
            data: None,
        }
    }

    #[test]
    fn what_cannot_be_is_told_when_it_is_met() {
        let mut visited = Visited::default();
        visited.note::<()>(0, TARGET, &Event::Timer);
        assert_eq!(visited.impossible(), []);
        visited.note(0, TARGET, &flush());
        let why = "only a Primary has clients (X3)";
        assert_eq!(visited.impossible(), [(TARGET, "request Flush", why)]);
    }

    #[test]
    fn what_was_met_is_no_longer_missing() {
        let mut visited = Visited::default();
        let (met, missing) = visited.missing();
        assert_eq!(met, 0);
        assert!(missing.contains(&(TARGET, "Timer")));
        visited.note::<()>(0, TARGET, &Event::Timer);
        let (met, rest) = visited.missing();
        assert_eq!((met, rest.len()), (1, missing.len() - 1));
    }

    #[test]
    fn a_packet_of_an_older_link_is_not_taken_for_one_of_the_newest() {
        let peer = rbd_protocol::ids::NodeId(1);
        let link = rbd_engine::LinkId;
        let packet = |number| Event::<()>::Packet {
            peer,
            link: link(number),
            packet: Packet::Goodbye,
            data: None,
        };
        let mut visited = Visited::default();
        let up = Event::<()>::LinkUp {
            peer,
            link: link(2),
        };
        visited.note(0, TARGET, &up);
        visited.note(0, TARGET, &packet(1));
        visited.note(0, TARGET, &packet(2));
        let met: Vec<&str> = visited.pairs.keys().map(|(_, event)| *event).collect();
        assert_eq!(met, ["LinkUp", "packet Goodbye", OLDER]);
    }
}
