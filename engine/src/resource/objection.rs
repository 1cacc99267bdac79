//! What follows when the greetings do not lead to a connection: the refusal, and what people are
//! told of it.
//!
//! A refused connection is StandAlone and tried again patiently. Nothing of the data is touched.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use rbd_protocol::control::Divergence;
use rbd_protocol::ids::NodeId;
use rbd_protocol::peer::{Hello, HelloVolume};
use rbd_protocol::policy::ResyncConflict;
use rbd_protocol::state::{ConnectionState, Role};

use super::Resource;
use super::handshake::Decided;
use crate::connection::{Connection, Met, Refused, Tentative};
use crate::contract::{Action, Level, LinkLoss, Seek};
use crate::decide::{self, Conflict, Verdict};
use crate::handler::Handler;

/// Why two nodes that have greeted each other must not be connected.
#[derive(Debug)]
pub(super) struct Objection {
    text: String,
    /// What stands in the way, if it is the data and not the configuration.
    conflict: Option<Conflict>,
}

impl Objection {
    pub(super) fn of_configuration(text: String) -> Self {
        Self {
            text,
            conflict: None,
        }
    }

    pub(super) fn of_data(conflict: Conflict) -> Self {
        Self {
            text: explain(conflict).into(),
            conflict: Some(conflict),
        }
    }
}

/// Two greetings side by side, as far as people want to know.
#[derive(Debug)]
pub(super) struct Meeting {
    sent: Box<Hello>,
    theirs: Box<Hello>,
    divergence: Divergence,
    volumes: Vec<Met>,
}

impl Meeting {
    fn was_ordered(&self) -> bool {
        is_ordered(&self.sent) || is_ordered(&self.theirs)
    }
}

impl<B: Clone> Resource<B> {
    pub(super) fn meeting(&self, node: NodeId, sent: &Hello, theirs: &Hello) -> Meeting {
        let mut divergence = Divergence::Neither;
        let mut volumes = Vec::new();
        for own in &sent.volumes {
            let Some(peer) = theirs.volumes.iter().find(|one| one.number == own.number) else {
                divergence = Divergence::Unknown;
                break;
            };
            let (own_side, peer_side) = self.sides(node, (sent, own), (theirs, peer));
            let met = Met {
                number: own.number,
                divergence: decide::divergence(own_side, peer_side),
                is_exact: decide::count_from_the_same(own, peer),
            };
            divergence = join(divergence, met.divergence);
            volumes.push(met);
        }
        Meeting {
            sent: Box::new(sent.clone()),
            theirs: Box::new(theirs.clone()),
            divergence,
            volumes,
        }
    }

    /// The data of the two nodes must not be joined until a person or a change of roles decides.
    /// The connection is StandAlone, and tried again patiently to find out whether one has.
    pub(super) fn refuse_link(&mut self, node: NodeId, objection: Objection, meeting: Meeting) {
        let now = self.cx.now;
        let Objection { text, conflict } = objection;
        let Some(connection) = self.connections.get(&node) else {
            return;
        };
        let is_news = !connection.is_refused() || connection.note != text;
        let goes_on = conflict == Some(Conflict::PrimaryWouldBeTarget)
            && connection.config.net.resync_conflict == ResyncConflict::RetryConnect;
        let loses_by_policy = match conflict {
            Some(Conflict::OwnPrimaryLoses) => Some(self.config.node_id),
            Some(Conflict::PeerPrimaryLoses) => Some(node),
            Some(_) | None => None,
        };
        let level = if is_news { Level::Error } else { Level::Debug };
        self.cx.report(level, Some(node), None, text.clone());
        if is_news {
            self.call_handlers(node, conflict, &meeting);
        }
        self.drop_link(node, LinkLoss::Refused);
        if let Some(connection) = self.connections.get_mut(&node) {
            let state = if goes_on {
                ConnectionState::Connecting
            } else {
                ConnectionState::StandAlone
            };
            connection.enter(state, text, now);
            if is_ordered(&meeting.sent) {
                connection.forget_orders();
            }
            connection.refused = Some(Refused {
                at: now,
                was_ordered: meeting.was_ordered(),
                loses_by_policy,
                sent: meeting.sent,
                theirs: meeting.theirs,
                divergence: meeting.divergence,
                volumes: meeting.volumes,
            });
        }
    }

    /// A split brain has been found, whatever will become of it. While it lasts, the nodes find it
    /// again and again; that is no news.
    pub(super) fn tell_of_split_brain(&mut self, node: NodeId, meeting: &Meeting) {
        let is_known = self.connections.get(&node).is_some_and(|connection| {
            let refused = connection.refused.as_ref();
            refused.is_some_and(|refused| refused.divergence == Divergence::Both)
        });
        if meeting.divergence == Divergence::Both && !meeting.was_ordered() && !is_known {
            self.cx
                .call_handler(Handler::InitialSplitBrain, Some(node), None);
        }
    }

    /// Nothing is going to change by itself: whoever can do something about it is called.
    fn call_handlers(&mut self, node: NodeId, conflict: Option<Conflict>, meeting: &Meeting) {
        if meeting.divergence == Divergence::Both && conflict.is_some() {
            self.cx.call_handler(Handler::SplitBrain, Some(node), None);
        }
        let net = self.connections.get(&node).map(|peer| &peer.config.net);
        let calls = net.is_some_and(|net| net.resync_conflict == ResyncConflict::CallPrimaryLost);
        match conflict {
            Some(Conflict::OwnPrimaryLoses) => {
                let handler = Handler::PrimaryLostAfterSplitBrain;
                self.cx.call_handler(handler, Some(node), None);
            }
            Some(Conflict::PrimaryWouldBeTarget) if calls && self.role == Role::Primary => {
                self.cx.call_handler(Handler::PrimaryLost, Some(node), None);
            }
            Some(_) | None => {}
        }
    }

    /// One of the two nodes only wanted to know what a connection would do.
    pub(super) fn end_tentative(
        &mut self,
        node: NodeId,
        sent: &Hello,
        outcome: &Result<Vec<Decided>, Objection>,
    ) {
        let is_wanted = |known: &Connection| known.tentative == Tentative::Wanted;
        if sent.tentative && !self.connections.get(&node).is_some_and(is_wanted) {
            self.prepare(node, outcome.as_deref().unwrap_or_default());
            return;
        }
        let text = match outcome {
            Ok(decided) => {
                let each: Vec<String> = decided.iter().map(|one| forecast(one, sent)).collect();
                each.join("; ")
            }
            Err(objection) => objection.text.clone(),
        };
        if !sent.tentative {
            let text = alloc::format!("the peer asked what a connection would do: {text}");
            self.cx.report(Level::Info, Some(node), None, text);
            self.drop_link(node, LinkLoss::Goodbye);
            return;
        }
        let said = alloc::format!("tentative: {text}");
        self.cx.report(Level::Info, Some(node), None, said.clone());
        self.drop_link(node, LinkLoss::Commanded);
        let now = self.cx.now;
        let Some(connection) = self.connections.get_mut(&node) else {
            return;
        };
        connection.forget_orders();
        connection.tentative = Tentative::Told(text);
        if !connection.is_refused() {
            connection.enter(ConnectionState::StandAlone, said, now);
            let seek = Seek::Stop;
            self.cx.out.push(Action::SeekLink { peer: node, seek });
        }
    }
}

fn is_ordered(hello: &Hello) -> bool {
    let mut volumes = hello.volumes.iter();
    hello.discard_my_data || volumes.any(|volume| !volume.condemned.is_none())
}

/// Who has changes, all volumes together.
fn join(one: Divergence, other: Divergence) -> Divergence {
    match (one, other) {
        (Divergence::Unknown, _) | (_, Divergence::Unknown) => Divergence::Unknown,
        (Divergence::Neither, known) | (known, Divergence::Neither) => known,
        (one, other) if one == other => one,
        _ => Divergence::Both,
    }
}

/// What would become of one volume.
fn forecast(decided: &Decided, sent: &Hello) -> String {
    let is_this = |volume: &&HelloVolume| volume.number == decided.number;
    let marked = sent.volumes.iter().find(is_this);
    let bytes = marked.map_or(0, |volume| volume.dirty_blocks.saturating_mul(4096));
    let how = |full| {
        if full {
            String::from("everything would be copied")
        } else {
            alloc::format!("what is marked would be copied, on this node {bytes} bytes")
        }
    };
    let number = decided.number;
    match decided.verdict {
        Verdict::NoSync => alloc::format!("volume {number}: no resync"),
        Verdict::NoDisk => alloc::format!("volume {number}: a node has no disk, nothing is copied"),
        Verdict::Source { full } => {
            alloc::format!("volume {number}: would become SyncSource, {}", how(full))
        }
        Verdict::Target { full } => {
            alloc::format!("volume {number}: would become SyncTarget, {}", how(full))
        }
        Verdict::Refuse(conflict) => alloc::format!("volume {number}: {}", explain(conflict)),
    }
}

fn explain(conflict: Conflict) -> &'static str {
    match conflict {
        Conflict::SplitBrain => "Split-Brain detected but unresolved, dropping connection!",
        Conflict::PoliciesDiffer => {
            "Split-Brain detected but unresolved, dropping connection! (the after-sb policies of \
             the two nodes differ)"
        }
        Conflict::OwnPrimaryLoses => {
            "Split-Brain detected but unresolved, dropping connection! (by policy this node's \
             changes are to be given up, and it is Primary)"
        }
        Conflict::PeerPrimaryLoses => {
            "Split-Brain detected but unresolved, dropping connection! (by policy the peer's \
             changes are to be given up, and it is Primary)"
        }
        Conflict::VolumesDisagree => {
            "Split-Brain detected but unresolved, dropping connection! (the policies would keep \
             some volumes from one node and some from the other)"
        }
        Conflict::Unrelated => "Unrelated data, aborting!",
        Conflict::TwoPrimaries => {
            "Split-Brain detected but unresolved, dropping connection! (both nodes are Primary)"
        }
        Conflict::PrimaryWouldBeTarget => {
            "the peer has the newer data, and this or the peer's node is Primary on older data"
        }
        Conflict::AgainstOrder => {
            "an order says whose changes to give up, but that node has the newer data"
        }
        Conflict::SourceIsInconsistent => {
            "neither node has complete data: force one to Primary, or restore from a backup"
        }
    }
}
