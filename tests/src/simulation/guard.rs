//! The administrator's handler that must end well before a resync overwrites anything
//! (`before-resync-target`): it is slow, fails, or is killed at its deadline, and no disk becomes a
//! target without it.

use rbd_engine::{Handler, HandlerResult};
use rbd_protocol::state::ReplicationState;

use super::random::Random;
use super::submission::is_target;
use super::world::World;

/// How the handler behaves in a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guard {
    /// How often it fails.
    fails_percent: u64,
    /// How long it takes at most, in microseconds.
    pub(super) most_us: u64,
}

impl Guard {
    pub(super) fn draw(random: &mut Random) -> Self {
        Self {
            fails_percent: random.pick(&[0, 10, 50]).unwrap_or(0),
            most_us: random.magnitude(1_000, 10_000_000),
        }
    }
}

impl World {
    /// How the handler ends.
    pub(super) fn guard(&mut self) -> HandlerResult {
        let fails = self.options.guard.map_or(0, |guard| guard.fails_percent);
        if !self.faults_allowed || !self.random.percent(fails) {
            return HandlerResult::Exited(0);
        }
        if self.random.percent(50) {
            return HandlerResult::Failed;
        }
        HandlerResult::Exited(1)
    }

    /// The process that called the handler is told how it ended.
    pub(super) fn guard_told(
        &mut self,
        node: usize,
        volume: Option<usize>,
        handler: Handler,
        result: HandlerResult,
    ) {
        let Some(volume) = volume else { return };
        self.nodes[node][volume].prepared |=
            handler == Handler::BeforeResyncTarget && result == HandlerResult::Exited(0);
    }

    /// Only a node whose handler has ended well becomes a target; when the resync has ended, the
    /// next one needs another run.
    pub(super) fn check_prepared(
        &mut self,
        node: usize,
        volume: usize,
        before: ReplicationState,
        state: ReplicationState,
    ) {
        if self.options.guard.is_none() {
            return;
        }
        if is_target(state) && !self.nodes[node][volume].prepared {
            self.violation(format!(
                "node {node} becomes a target without its handler's permission"
            ));
        }
        if is_target(before) && state == ReplicationState::Established {
            self.nodes[node][volume].prepared = false;
        }
    }
}
