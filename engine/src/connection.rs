//! The connection to one peer: whether it is wanted, whether it stands, how far its handshake is,
//! and signs of life.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use rbd_protocol::control::{Divergence, PeerConfig, RefusedPeer, RefusedVolume, Shown};
use rbd_protocol::ids::{BLOCK_SIZE, NodeId, VolumeNumber};
use rbd_protocol::peer::{Hello, HelloVolume};
use rbd_protocol::state::{ConnectionState, DiskState, Role};

use crate::contract::{CallId, LinkId, LinkLoss, OperationId, Time};

/// The connection to one peer.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) config: PeerConfig,
    pub(crate) state: ConnectionState,
    pub(crate) note: String,
    pub(crate) since: Time,
    pub(crate) link: Option<Link>,
    pub(crate) peer_role: Role,
    /// The peer was Primary, or about to be, when it was seen last.
    pub(crate) was_primary: bool,
    /// It was Primary beside this one, and until then it may not have noticed that the link is
    /// lost.
    pub(crate) may_answer_until: Option<Time>,
    /// In a split brain this node gives up its changes.
    pub(crate) discard_my_data: bool,
    /// Whether somebody only wants to know what a connection would do.
    pub(crate) tentative: Tentative,
    /// In a split brain the peer gives up its changes, by an order given on this node.
    pub(crate) order: Option<Order>,
    /// The last handshake found data that must not be joined. The connection stays StandAlone and
    /// is tried again patiently, unless a command ends that.
    pub(crate) refused: Option<Refused>,
    /// Something has changed that the handshake under way does not know of: try again at once if it
    /// is refused.
    pub(crate) reconsider: bool,
    /// The peer's incarnation both were last in sync under, since this node came up (B7).
    pub(crate) seen_incarnation: u64,
    /// This node has consented to the peer's promotion and waits to hear of it.
    pub(crate) consented_until: Option<Time>,
    /// The peer asks to be promoted, beside this node for so long or alone; it may have to wait.
    pub(crate) asked_for_consent: Option<(u64, u32)>,
    /// The peer's boot and tenure as it has told last.
    pub(crate) greeted: (u128, u64),
    /// Both nodes may be Primary at once, as both greetings or a migration have it.
    pub(crate) two_primaries: bool,
    /// This node has consented over this link that the peer be Primary beside it.
    pub(crate) may_join: bool,
    /// The role and disk states the peer was last told.
    pub(crate) told: Option<(Role, Vec<(VolumeNumber, DiskState)>)>,
    /// Where the fencing of the peer stands.
    pub(crate) fence: Fence,
    /// Where `before-resync-target` stands.
    pub(crate) preparation: Preparation,
    /// An unfence handler runs, under this name.
    pub(crate) unfencing: Option<OperationId>,
    /// When an unfence handler that failed may run again.
    pub(crate) unfence_again: Time,
    /// Commands to answer when the link is gone.
    pub(crate) disconnecting: Vec<CallId>,
    /// The connection ends by command as soon as both know what that means for their data.
    pub(crate) is_ending: bool,
    /// How far this Secondary is with leaving a Primary.
    pub(crate) leaving: Option<Leaving>,
    /// How far this Primary is with letting the peer go.
    pub(crate) parting: Option<Parting>,
}

/// A Secondary that leaves a Primary, where fencing is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// It has said so, and waits for the Primary's answer until then.
    Asked(Time),
    /// It declares its data behind.
    Declaring,
}

/// A Primary that lets its peer go, where fencing is configured. No client is served meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parting {
    pub(crate) step: PartingStep,
    pub(crate) until: Time,
}

/// What a Primary that lets its peer go waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PartingStep {
    /// What is in flight ends.
    Draining,
    /// Everything becomes durable.
    Flushing,
    /// The peer declares its data behind.
    Told,
}

/// Where the handler stands that runs before a resync may overwrite this node's disks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Preparation {
    /// Whether it is to run is not known: the next greeting only asks what would become of the
    /// disks.
    Unknown,
    /// It is to run, as the last greeting in earnest has shown.
    Needed,
    /// Nothing would be overwritten for which it has not run, and that is taken for granted until
    /// then.
    Settled(Time),
    /// It runs, once for each volume. There is no link meanwhile.
    Running(Runs),
}

/// The runs of `before-resync-target` that began together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Runs {
    /// Those that have not ended.
    pub(crate) left: Vec<OperationId>,
    /// What they are for.
    pub(crate) volumes: Vec<VolumeNumber>,
    /// The tenure, and which disk was attached last, when they began.
    pub(crate) began: (u64, u64),
    pub(crate) has_failed: bool,
}

/// Where the fencing of a peer out of reach stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fence {
    /// There is no reason to fence it, or it has been done.
    Idle,
    /// The handler is to be called, not before this time: the peer may be back at once.
    Wanted(Time),
    /// The handler runs, under this name.
    Running(OperationId),
    /// What its verdict means is being made durable.
    Recording,
    /// It has given none; it is called again at this time.
    Unclear(Time),
    /// An administrator has decided to go on without a verdict, until the peer is back.
    Overridden,
}

/// An order to the peer to give up its changes. It names the generations it was given for, and
/// lapses with the first handshake that knows of it, or after a short time, or when the peer's role
/// changes: what the peer writes later is not meant.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) condemned: Shown,
    pub(crate) until: Time,
}

/// A handshake that is to decide and then to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tentative {
    /// Handshakes are meant.
    No,
    /// The next one is only a question.
    Wanted,
    /// This was the answer.
    Told(String),
}

/// A peer whose data must not be joined with this node's.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) at: Time,
    pub(crate) sent: Box<Hello>,
    pub(crate) theirs: Box<Hello>,
    /// Of all volumes together.
    pub(crate) divergence: Divergence,
    pub(crate) volumes: Vec<Met>,
    pub(crate) was_ordered: bool,
    /// The Primary whose changes a policy is to give up.
    pub(crate) loses_by_policy: Option<NodeId>,
}

/// One volume of two nodes that have greeted each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Met {
    pub(crate) number: VolumeNumber,
    pub(crate) divergence: Divergence,
    /// Both count their changes from the same generation.
    pub(crate) is_exact: bool,
}

/// A link that stands.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) id: LinkId,
    pub(crate) phase: Phase,
    pub(crate) up_since: Time,
    pub(crate) peer_incarnation: u64,
    pub(crate) last_heard: Time,
    pub(crate) ping_sent: Option<Time>,
    /// The newest time of which it is known that the peer has read what was sent then.
    pub(crate) proven: Time,
    /// What the peer has been asked to prove more with, and when.
    pub(crate) question: Option<(u64, Time)>,
    /// As Primary, this node has consented that the peer be Primary too.
    pub(crate) let_in: bool,
}

/// How far the handshake is.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// The own greeting waits until what it would say is durable and nothing of an older link is
    /// in flight. The peer's may have come already.
    Preparing { theirs: Option<Box<Hello>> },
    /// The own greeting has been sent.
    AwaitHello { sent: Box<Hello> },
    /// Both have decided the same.
    Connected,
    /// The link is being closed; what still arrives is ignored.
    Closing,
}

impl Connection {
    pub(crate) fn new(config: PeerConfig) -> Self {
        Self {
            config,
            state: ConnectionState::StandAlone,
            note: String::from("not told to connect yet"),
            since: Time(0),
            link: None,
            peer_role: Role::Unknown,
            discard_my_data: false,
            tentative: Tentative::No,
            order: None,
            refused: None,
            reconsider: false,
            seen_incarnation: 0,
            consented_until: None,
            asked_for_consent: None,
            greeted: (0, 0),
            two_primaries: false,
            may_join: false,
            was_primary: false,
            may_answer_until: None,
            told: None,
            fence: Fence::Idle,
            preparation: Preparation::Unknown,
            unfencing: None,
            unfence_again: Time(0),
            disconnecting: Vec::new(),
            is_ending: false,
            leaving: None,
            parting: None,
        }
    }

    pub(crate) fn node(&self) -> NodeId {
        self.config.node_id
    }

    pub(crate) fn enter(&mut self, state: ConnectionState, note: impl Into<String>, now: Time) {
        if self.state != state {
            self.since = now;
        }
        self.state = state;
        self.note = note.into();
    }

    /// Whether nothing is replicated only because the data must not be joined, and it is tried
    /// again.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// Takes note of who greets. Tells whether the peer's tenure, and its boot, are those known.
    pub(crate) fn meets_again(&mut self, theirs: &Hello) -> (bool, bool) {
        let (boot, tenure) = self.greeted;
        self.greeted = (theirs.boot, theirs.tenure);
        (tenure == theirs.tenure, boot == theirs.boot)
    }

    /// Whether `before-resync-target` runs.
    pub(crate) fn is_preparing(&self) -> bool {
        matches!(self.preparation, Preparation::Running(_))
    }

    /// Whether a link is wanted, be it that the last one was refused.
    pub(crate) fn is_wanted(&self) -> bool {
        self.state != ConnectionState::StandAlone || self.is_refused()
    }

    /// Forgets every order to give up data: it was carried out, has lapsed, or was taken back.
    pub(crate) fn forget_orders(&mut self) {
        self.discard_my_data = false;
        self.order = None;
    }

    /// The peer's state that is to be given up, if there is such an order that still holds.
    pub(crate) fn condemned(&self, now: Time) -> Option<&Shown> {
        let order = self.order.as_ref().filter(|order| now < order.until)?;
        Some(&order.condemned)
    }

    /// The link, if it is this one and not being closed.
    pub(crate) fn current(&mut self, id: LinkId) -> Option<&mut Link> {
        self.link
            .as_mut()
            .filter(|link| link.id == id && !matches!(link.phase, Phase::Closing))
    }

    /// The link's name, if the handshake over it is done.
    pub(crate) fn connected_link(&self) -> Option<LinkId> {
        let link = self.link.as_ref()?;
        matches!(link.phase, Phase::Connected).then_some(link.id)
    }

    /// Whether a link stands, whatever is being said over it.
    pub(crate) fn has_open_link(&self) -> bool {
        let phase = self.link.as_ref().map(|link| &link.phase);
        phase.is_some_and(|phase| !matches!(phase, Phase::Closing))
    }

    /// Whether a handshake is under way.
    pub(crate) fn is_handshaking(&self) -> bool {
        let phase = self.link.as_ref().map(|link| &link.phase);
        matches!(
            phase,
            Some(Phase::Preparing { .. } | Phase::AwaitHello { .. })
        )
    }
}

impl Refused {
    fn own(&self, number: VolumeNumber) -> Option<&HelloVolume> {
        let mut volumes = self.sent.volumes.iter();
        volumes.find(|volume| volume.number == number)
    }

    /// What was found out about this volume.
    pub(crate) fn met(&self, number: VolumeNumber) -> Option<&Met> {
        self.volumes.iter().find(|met| met.number == number)
    }

    /// For people.
    pub(crate) fn status(&self, now: Time) -> RefusedPeer {
        let volumes = self.theirs.volumes.iter().map(|volume| RefusedVolume {
            volume: volume.number,
            divergence: self
                .met(volume.number)
                .map_or(Divergence::Unknown, |met| met.divergence),
            disk_state: volume.disk,
            generation: volume.current,
            changed_bytes: volume.dirty_blocks.saturating_mul(u64::from(BLOCK_SIZE)),
            is_exact: self.met(volume.number).is_some_and(|met| met.is_exact),
            own_since: self.own(volume.number).map_or(0, |own| own.counted_since),
            peer_since: volume.counted_since,
        });
        RefusedPeer {
            told_ms_ago: now.ms_since(self.at),
            role: self.theirs.role,
            tenure: self.theirs.tenure,
            divergence: self.divergence,
            was_ordered: self.was_ordered,
            loses_by_policy: self.loses_by_policy,
            volumes: volumes.collect(),
        }
    }
}

/// What people are told of a lost link.
pub(crate) fn describe(loss: LinkLoss) -> (ConnectionState, &'static str) {
    match loss {
        LinkLoss::Closed => (ConnectionState::NetworkFailure, "the link was lost"),
        LinkLoss::Timeout => (ConnectionState::Timeout, "the peer did not answer in time"),
        LinkLoss::Protocol => (
            ConnectionState::ProtocolError,
            "the peer broke the protocol",
        ),
        LinkLoss::Goodbye => (ConnectionState::TearDown, "the peer disconnected"),
        LinkLoss::Commanded => (ConnectionState::StandAlone, "disconnected by command"),
        LinkLoss::Renegotiate => (ConnectionState::Unconnected, "connecting anew"),
        LinkLoss::Refused => (ConnectionState::StandAlone, "the data must not be joined"),
    }
}
