//! How long clients wait: no request of a Primary stays open for longer than what is wrong explains
//! (L1).
//!
//! Each node has a time since when nothing excuses a wait: it moves while the node is frozen, while
//! a clock stands still, and while a disk is slow or stuck: its own, or that of a peer it
//! replicates to. It moves for one without a disk while the peer that serves it is frozen, too. A
//! link that stalls is no excuse, nor is a peer that does not greet: that is what the deadlines are
//! for.

use rbd_protocol::control::ResourceStatus;

use super::world::World;

impl World {
    /// Something keeps this node's clients waiting, until then at least.
    pub(super) fn excuse(&mut self, node: usize, volume: usize, until: u64) {
        let excused = &mut self.nodes[node][volume].excused_until;
        *excused = (*excused).max(until);
    }

    /// Both nodes' clients are kept waiting.
    pub(super) fn excuse_both(&mut self, until: u64) {
        for volume in self.volumes() {
            self.excuse(0, volume, until);
            self.excuse(1, volume, until);
        }
    }

    /// Now and then: whether a request is open for too long.
    pub(super) fn check_patience(&mut self) {
        let now = self.now;
        for node in 0..2 {
            self.nodes[node].was_frozen = self.is_frozen(node);
            self.nodes[node].was_suspended = self.is_suspended(node);
        }
        for volume in self.volumes() {
            self.look_for_excuses(volume);
        }
        let limit = self.patience_ns();
        let mut longest = 0;
        let mut late = None;
        for (id, operation) in &self.operations {
            let place = &self.nodes[operation.node][operation.volume];
            let since = operation.since.max(place.excused_until);
            let open = now.saturating_sub(since);
            longest = longest.max(open);
            if open > limit {
                late.get_or_insert_with(|| format!("{id}: {operation:?}"));
            }
        }
        self.report.longest_wait_ms = self.report.longest_wait_ms.max(longest / 1_000_000);
        if let Some(text) = late {
            let seconds = limit / 1_000_000_000;
            self.violation(format!(
                "L1: a client of a Primary that is not frozen waits for over {seconds} s: {text}"
            ));
        }
    }

    /// What keeps the clients of a volume waiting now, and is no defect.
    fn look_for_excuses(&mut self, volume: usize) {
        let now = self.now;
        for node in 0..2 {
            let machine = &self.nodes[node];
            // One without a disk is served by its peer, once that has had it fenced.
            let serves_itself = machine[volume].serves_itself();
            let is_served = serves_itself || !self.nodes[1 - node].was_frozen;
            let serves = machine.is_primary() && !machine.was_frozen && is_served;
            // The peer's disk holds up what goes to it, and nothing else.
            let needs_peer = !serves_itself || machine.is_replicating(volume);
            let hindered_until = self.nodes[1 - node][volume].hindered_until;
            if !serves || (needs_peer && now < hindered_until) {
                self.excuse(node, volume, now);
            }
        }
    }

    fn is_frozen(&self, node: usize) -> bool {
        let status = self.nodes[node].status(self.time(node));
        status.is_some_and(|status| is_frozen(&status))
    }

    /// Whether all clients of the node would have to wait now.
    pub(super) fn is_suspended(&self, node: usize) -> bool {
        let status = self.nodes[node].status(self.time(node));
        status.is_some_and(|status| is_suspended(&status))
    }

    /// Time enough for a silent peer to be given up and a handshake to run into its deadline.
    /// Nothing is under way, and nothing fails in this run: whoever still waits is waiting for a
    /// timer, which in such a run nobody should.
    pub(super) fn check_waits(&mut self) {
        let nothing_fails = self.options.rivals;
        let is_busy = !self.calls.is_empty()
            || self.links.values().any(|link| !link.is_quiet())
            || (0..2).any(|node| !self.is_disk_idle(node));
        if !nothing_fails || self.operations.is_empty() || is_busy || !self.are_connected() {
            return;
        }
        if let Some((id, operation)) = self.operations.iter().next() {
            let text = format!("L1: nothing is under way that {id} waits for: {operation:?}");
            self.violation(text);
        }
    }

    fn patience_ns(&self) -> u64 {
        let silence = self.options.ping_ms.0 + self.options.ping_ms.1;
        u64::from(silence) * 1_000_000 + PATIENCE_NS
    }
}

/// Whether clients of the node would have to wait: all of them, or those of a volume without data.
pub(super) fn is_frozen(status: &ResourceStatus) -> bool {
    status.suspended.no_data || is_suspended(status)
}

/// Whether all clients of the node would have to wait, those of a volume with good data too.
pub(super) fn is_suspended(status: &ResourceStatus) -> bool {
    status.suspended.user || status.suspended.fencing
}

/// Several times what was ever seen without a defect.
const PATIENCE_NS: u64 = 30_000_000_000;
