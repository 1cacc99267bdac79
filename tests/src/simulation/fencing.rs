//! The administrator's handlers, and the cluster behind them.
//!
//! A fence handler bars the peer in the cluster: a barred node is not promoted until the handler
//! of the node that barred it takes that back; whoever is barred cannot bar the other. If the peer
//! is Primary it is powered off. A handler may be slow, fail, or do what it should and lose its
//! answer; one that claims to have done what it has not is only there to see the checks fail.
//! There is no operator who knows everything: the cluster promotes any node that is not barred,
//! also while the other is Primary.

use rbd_engine::{Event, Handler, HandlerResult, OperationId};
use rbd_protocol::control::{Fencing, ResourceStatus};
use rbd_protocol::state::{ConnectionState, DiskState, ReplicationState};

use super::node::Node;
use super::patience::is_suspended;
use super::world::{Happening, World};

/// How handlers behave in a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Model {
    /// The configured policy.
    pub(super) policy: Fencing,
    /// How often a handler fails before it has done anything.
    pub(super) fails_percent: u64,
    /// How often its answer is lost.
    pub(super) mute_percent: u64,
    /// How often it claims what it has not done.
    pub(super) lies_percent: u64,
    /// How often the peer is powered off even if it is no Primary.
    pub(super) stonith_percent: u64,
    /// How often the cluster promotes a node although the other is Primary.
    pub(super) rivals_percent: u64,
    /// How long a handler takes at most, in microseconds.
    pub(super) most_us: u64,
}

/// What the cluster knows.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    /// The node that must not be promoted.
    barred: Option<usize>,
}

/// The end of a handler.
#[derive(Clone, Copy, Debug)]
pub(super) struct HandlerEnd {
    node: usize,
    life: u64,
    /// The volume it is run for, if it is for one.
    volume: Option<usize>,
    id: OperationId,
    handler: Handler,
    /// What it will answer, once it has done its work.
    result: Option<HandlerResult>,
}

impl World {
    /// A handler is to be run: it takes its time before its work is done, and after.
    pub(super) fn run_handler(
        &mut self,
        node: usize,
        volume: Option<usize>,
        id: OperationId,
        handler: Handler,
    ) {
        self.note(|| format!("node {node}: handler {} starts", handler.name()));
        let end = HandlerEnd {
            node,
            life: self.nodes[node].life,
            volume,
            id,
            handler,
            result: None,
        };
        self.handler_goes_on(end);
    }

    fn handler_goes_on(&mut self, end: HandlerEnd) {
        let (fencing, guard) = (self.options.fencing, self.options.guard);
        let most = match end.handler {
            Handler::BeforeResyncTarget => guard.map(|guard| guard.most_us),
            _ => fencing.map(|model| model.most_us),
        };
        let most = most.unwrap_or(1_000_000);
        let delay = self.random.magnitude(100, most);
        self.after_us(delay, Happening::HandlerDone(end));
    }

    /// A handler does its work, and later ends. It dies with the process that called it, be it
    /// before its work or before its answer.
    pub(super) fn handler_ended(&mut self, end: &HandlerEnd) {
        let HandlerEnd {
            node,
            life,
            volume,
            id,
            handler,
            ..
        } = *end;
        if !self.lives(node, life) {
            return;
        }
        let name = handler.name();
        if let Some(result) = end.result {
            self.note(|| format!("node {node}: handler {name} ends: {result:?}"));
            self.guard_told(node, volume, handler, result);
            self.tell(node, Event::HandlerDone { id, result });
            return;
        }
        let result = match handler {
            Handler::FencePeer => self.fence(node),
            Handler::UnfencePeer => self.unfence(node),
            Handler::BeforeResyncTarget => self.guard(),
            _ => HandlerResult::Exited(0),
        };
        self.note(|| format!("node {node}: handler {name} has worked, will end: {result:?}"));
        self.handler_goes_on(HandlerEnd {
            result: Some(result),
            ..*end
        });
    }

    fn fence(&mut self, node: usize) -> HandlerResult {
        self.report.fences += 1;
        let Some(model) = self.options.fencing else {
            return HandlerResult::Failed;
        };
        let calm = !self.faults_allowed;
        if !calm && self.random.percent(model.lies_percent) {
            return HandlerResult::Exited(4);
        }
        if !calm && self.random.percent(model.fails_percent) {
            return self.no_answer();
        }
        let peer = 1 - node;
        if self.cluster.barred == Some(node) {
            return HandlerResult::Exited(1);
        }
        self.cluster.barred = Some(peer);
        let mut code = 4;
        // Of two Primaries one may be left running: it freezes when it notices.
        let are_two = self.nodes.iter().all(Node::is_primary);
        let is_spared = are_two && !calm && self.random.percent(50);
        let is_primary = self.nodes[peer].is_primary() && !is_spared;
        if is_primary || !is_spared && self.random.percent(model.stonith_percent) {
            self.note(|| format!("node {peer} is powered off"));
            self.lose_power(peer);
            code = 7;
        }
        if !calm && self.random.percent(model.mute_percent) {
            return self.no_answer();
        }
        HandlerResult::Exited(code)
    }

    fn unfence(&mut self, node: usize) -> HandlerResult {
        let model = self.options.fencing;
        let fails = model.map_or(0, |model| model.fails_percent);
        let calm = !self.faults_allowed;
        if !calm && self.random.percent(fails) {
            return HandlerResult::Exited(1);
        }
        if self.cluster.barred == Some(1 - node) {
            self.cluster.barred = None;
        }
        if !calm && self.random.percent(fails) {
            return HandlerResult::Exited(1);
        }
        HandlerResult::Exited(0)
    }

    fn no_answer(&mut self) -> HandlerResult {
        if self.random.percent(50) {
            return HandlerResult::Failed;
        }
        let codes = [0, 1, 2, 8, 20, 127, 255];
        HandlerResult::Exited(self.random.pick(&codes).unwrap_or(1))
    }

    /// Whether the cluster may promote the node; it does not look at its data.
    pub(super) fn is_barred(&self, node: usize) -> bool {
        self.cluster.barred == Some(node)
    }

    /// Whether the cluster tries to have a second Primary now, as a partitioned one would.
    pub(super) fn rivals(&mut self) -> bool {
        let percent = self.options.fencing.map_or(0, |model| model.rivals_percent);
        percent > 0 && self.faults_allowed && self.random.percent(percent)
    }

    /// Whether the node is a Primary that answers its clients with data. One that is connected to
    /// nobody and has no disk has none to answer with: whatever it says is an error, and each
    /// success is looked at when it is given.
    pub(super) fn is_answering(&self, node: usize) -> bool {
        let now = self.time(node);
        let answers = |status: ResourceStatus| !is_suspended(&status) && has_data(&status);
        self.nodes[node].is_primary() && self.nodes[node].status(now).is_some_and(answers)
    }

    /// Whether both nodes may be Primary that answer, as far as this one knows: over a link over
    /// which each gets what the other writes, or if one has no data of its own and all is done by
    /// the other, as long as that hears of it.
    pub(super) fn may_both_answer(&self, node: usize) -> bool {
        let may = |volume: usize| {
            let have_own = self.nodes.iter().all(|node| node[volume].serves_itself());
            let is_replicating = self.nodes[node][volume].replication != ReplicationState::Off;
            !have_own || self.is_connected(node) && is_replicating
        };
        self.options.dual && self.volumes().all(may)
    }

    /// A client's request has been answered with success: nobody else may be doing that (G1), and
    /// if the peer is not there it must be out of use (A2, iii).
    pub(super) fn check_alone(&mut self, node: usize, volume: usize) {
        let Some(model) = self.options.fencing else {
            return;
        };
        if model.policy != Fencing::ResourceAndStonith || !self.set_up {
            return;
        }
        let peer = 1 - node;
        if self.is_answering(peer) && !self.may_both_answer(node) {
            self.violation(format!(
                "G1: node {node} answers a client, and node {peer} is a Primary that does too"
            ));
        }
        let now = self.time(node);
        let connected = self.nodes[node].status(now).is_some_and(|status| {
            status
                .connections
                .iter()
                .all(|link| link.connection_state == ConnectionState::Connected)
        });
        let is_out_of_use = || {
            self.is_barred(peer)
                || !self.nodes[peer][volume].consistent
                || self.is_outdated(peer, volume)
        };
        if !connected && !is_out_of_use() {
            self.violation(format!(
                "A2 (iii): node {node} answers a client without its peer, which nothing keeps from \
                 using its data"
            ));
        }
    }

    /// Where it was noted that the other node was fenced, is a new disk: whoever has put it in
    /// takes that fence back. The other one has everything then.
    pub(super) fn take_back_fence_of(&mut self, node: usize) {
        if self.cluster.barred == Some(1 - node) {
            self.cluster.barred = None;
        }
    }

    /// Whether something keeps the node from using what it has, if the policy asks for that.
    pub(super) fn is_kept_from_its_data(&self, node: usize, volume: usize) -> bool {
        let policy = self.options.fencing.map(|model| model.policy);
        policy != Some(Fencing::ResourceAndStonith)
            || !self.set_up
            || self.is_barred(node)
            || !self.nodes[node][volume].consistent
            || self.is_outdated(node, volume)
    }

    pub(super) fn is_outdated(&self, node: usize, volume: usize) -> bool {
        let durable = self.nodes[node][volume].open();
        durable.is_ok_and(|image| image.superblock.flags.outdated)
    }

    /// After everything has healed nothing is left behind in the cluster (L1, G6).
    pub(super) fn is_unbarred(&self) -> bool {
        self.cluster.barred.is_none()
    }
}

/// Whether clients of the node would be given data: there is an `UpToDate` disk in it, or in a peer
/// that is connected.
pub(super) fn has_data(status: &ResourceStatus) -> bool {
    let mut own = status.devices.iter().map(|device| device.disk_state);
    let connected = |state| state == ConnectionState::Connected;
    let links = status.connections.iter();
    let links = links.filter(|link| connected(link.connection_state));
    let mut peers = links.flat_map(|link| &link.peer_devices);
    own.all(|disk| disk == DiskState::UpToDate)
        || peers.any(|device| device.peer_disk_state == DiskState::UpToDate)
}
