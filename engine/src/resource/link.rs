//! A link comes, goes, or falls silent.

use alloc::vec::Vec;

use rbd_protocol::ids::NodeId;
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{ConnectionState, DiskState, Role};

use super::Resource;
use super::fencing::remembered;
use crate::connection::{Connection, Link, Phase, Preparation, describe};
use crate::contract::{Action, Level, LinkId, LinkLoss, Seek, Time};
use crate::handler::Handler;
use crate::volume::{is_due, is_full_due};

/// How long a handshake may take.
const HANDSHAKE_MS: u64 = 10_000;

impl<B: Clone> Resource<B> {
    pub(super) fn link_up(&mut self, node: NodeId, id: LinkId) {
        let now = self.cx.now;
        let Some(connection) = self.connections.get_mut(&node) else {
            return;
        };
        let again = connection.is_refused();
        if !connection.is_wanted() || connection.is_preparing() {
            let loss = LinkLoss::Commanded;
            self.cx.out.push(Action::DropLink {
                peer: node,
                link: id,
                loss,
            });
            return;
        }
        self.lose_older_link(node);
        self.choose_comparing(node);
        let Some(connection) = self.connections.get_mut(&node) else {
            return;
        };
        connection.link = Some(Link {
            id,
            phase: Phase::Preparing { theirs: None },
            up_since: now,
            peer_incarnation: 0,
            last_heard: now,
            ping_sent: None,
            proven: now,
            question: None,
            let_in: false,
        });
        // Nothing has changed yet for people: what was refused stays visibly so until it is not.
        if !again {
            let note = "the handshake is under way";
            connection.enter(ConnectionState::Connecting, note, now);
        }
    }

    /// A newer link stands: the older one is over, whether or not that has been told yet, and what
    /// was on its way has not arrived (A7).
    fn lose_older_link(&mut self, node: NodeId) {
        self.drop_link(node, LinkLoss::Closed);
        let Some(connection) = self.connections.get_mut(&node) else {
            return;
        };
        connection.link = None;
        for call in core::mem::take(&mut connection.disconnecting) {
            self.cx.reply(call, Ok(None));
        }
    }

    pub(super) fn link_down(&mut self, node: NodeId, id: LinkId, loss: LinkLoss) {
        let Some(connection) = self.connections.get(&node) else {
            return;
        };
        if connection.link.as_ref().is_none_or(|link| link.id != id) {
            return;
        }
        self.lose_link(node, loss);
        let Some(connection) = self.connections.get_mut(&node) else {
            return;
        };
        connection.link = None;
        for call in core::mem::take(&mut connection.disconnecting) {
            self.cx.reply(call, Ok(None));
        }
        if connection.is_ending {
            self.disconnect_peer(node);
        }
        let Some(connection) = self.connections.get_mut(&node) else {
            return;
        };
        let reconsider = core::mem::take(&mut connection.reconsider);
        let seek = if loss == LinkLoss::Renegotiate || reconsider {
            Seek::AtOnce
        } else if connection.is_refused() {
            Seek::Patiently
        } else {
            Seek::Soon
        };
        if connection.is_preparing() {
            return; // the link is sought when that is over
        }
        if connection.is_wanted() {
            self.cx.out.push(Action::SeekLink { peer: node, seek });
        }
        if connection.state != ConnectionState::StandAlone && !connection.is_refused() {
            let (_, why) = describe(loss);
            connection.enter(ConnectionState::Connecting, why, self.cx.now);
        }
    }

    /// Closes the link. What that means for the volumes is settled at once, not when the sockets
    /// are closed.
    pub(super) fn drop_link(&mut self, node: NodeId, loss: LinkLoss) {
        let Some(connection) = self.connections.get_mut(&node) else {
            return;
        };
        let Some(link) = &connection.link else { return };
        if matches!(link.phase, Phase::Closing) {
            return;
        }
        let id = link.id;
        self.cx.out.push(Action::DropLink {
            peer: node,
            link: id,
            loss,
        });
        self.lose_link(node, loss);
        if let Some(link) = self
            .connections
            .get_mut(&node)
            .and_then(|peer| peer.link.as_mut())
        {
            link.phase = Phase::Closing;
        }
    }

    fn lose_link(&mut self, node: NodeId, loss: LinkLoss) {
        let now = self.cx.now;
        let Some(connection) = self.connections.get_mut(&node) else {
            return;
        };
        let Some(link) = &connection.link else { return };
        if matches!(link.phase, Phase::Closing) {
            return;
        }
        let was_connected = matches!(link.phase, Phase::Connected);
        let has_greeted = !matches!(link.phase, Phase::Preparing { .. });
        let was_let_in = link.let_in;
        let (state, why) = describe(loss);
        let level = if loss == LinkLoss::Closed || loss == LinkLoss::Timeout {
            Level::Warn
        } else {
            Level::Info
        };
        let text = alloc::format!("disconnected: {why}");
        if connection.is_refused() {
            self.cx.report(Level::Debug, Some(node), None, text);
        } else {
            self.cx.report(level, Some(node), None, text);
            connection.enter(state, why, now);
        }
        if was_connected {
            connection.was_primary =
                connection.peer_role == Role::Primary || connection.consented_until.is_some();
            connection.was_primary |= was_let_in;
        }
        connection.peer_role = Role::Unknown;
        connection.consented_until = None;
        connection.asked_for_consent = None;
        connection.may_join = false;
        connection.told = None;
        if was_connected {
            connection.preparation = Preparation::Unknown;
        }
        self.forget_parting(node);
        if has_greeted && loss != LinkLoss::Refused {
            self.note_end_of_sharing(node);
        }
        if was_connected {
            self.freeze_for_loss(node, loss);
        }
        for volume in self.volumes.values_mut() {
            let Some(peer) = volume.peers.get(&node) else {
                continue;
            };
            let remembered = remembered(volume, peer);
            if let Some(peer) = volume.peers.get_mut(&node) {
                peer.link = None;
                peer.is_fenced_diskless = false;
            }
            volume.lose_peer(node, remembered, &mut self.cx);
        }
        if was_connected {
            self.cx
                .call_handler(Handler::Disconnected, Some(node), None);
        }
        self.promotion_lost_peer(node);
        self.clearing_lost_peer(node);
        self.invalidation_lost_peer(node);
        self.resize_lost_peer(node);
    }

    /// Makes the links anew where a volume's situation has changed so that both must decide again.
    pub(super) fn renegotiate_where_needed(&mut self) {
        let mut needed = false;
        for volume in self.volumes.values_mut() {
            needed |= core::mem::take(&mut volume.renegotiate);
        }
        if needed {
            self.renegotiate();
        }
    }

    pub(super) fn renegotiate(&mut self) {
        self.tell_state();
        let nodes: Vec<NodeId> = self.connections.keys().copied().collect();
        for node in nodes {
            self.drop_link(node, LinkLoss::Renegotiate);
        }
    }

    /// Has a refused connection tried anew at once, because this node's part has changed.
    pub(super) fn reconsider(&mut self, node: NodeId) {
        let Some(connection) = self.connections.get_mut(&node) else {
            return;
        };
        if connection.link.is_some() {
            connection.reconsider = connection.connected_link().is_none();
        } else if connection.is_refused() {
            let seek = Seek::AtOnce;
            self.cx.out.push(Action::SeekLink { peer: node, seek });
        }
    }

    /// Tells connected peers of changes of the own role and disks.
    pub(super) fn tell_state(&mut self) {
        // That a disk is behind is told when it is durable, and not before (G3).
        let behind = |volume: &crate::volume::Volume<B>| {
            let unsettled = volume
                .local
                .as_ref()
                .is_some_and(|local| !local.is_settled());
            volume.disk == DiskState::Outdated && unsettled
        };
        if self.volumes.values().any(behind) {
            return;
        }
        for connection in self.connections.values_mut() {
            let Some(link) = connection.connected_link() else {
                continue;
            };
            let same = connection.told.as_ref().is_some_and(|(role, disks)| {
                *role == self.role
                    && disks.len() == self.volumes.len()
                    && disks
                        .iter()
                        .zip(self.volumes.values())
                        .all(|((number, disk), volume)| {
                            *number == volume.number && *disk == volume.disk
                        })
            });
            if same {
                continue;
            }
            let disks: Vec<_> = self
                .volumes
                .values()
                .map(|volume| (volume.number, volume.disk))
                .collect();
            connection.told = Some((self.role, disks.clone()));
            let packet = Packet::State {
                role: self.role,
                tenure: self.tenure,
                disks,
            };
            self.cx.send(connection.config.node_id, link, packet, None);
        }
    }

    pub(super) fn timer(&mut self) {
        self.cx.timer_fired();
        let now = self.cx.now;
        let nodes: Vec<NodeId> = self.connections.keys().copied().collect();
        for node in nodes {
            self.check_silence(node);
            self.renew_lease(node);
        }
        self.check_promotion_deadline();
        self.check_invalidation_deadline();
        for volume in self.volumes.values_mut() {
            volume.check_patience(now);
            volume.check_disk(&mut self.cx);
            volume.wake_resync();
        }
        if is_due(now, self.last_tick) {
            self.last_tick = now;
            let full = is_full_due(now, self.last_full_checkpoint);
            if full {
                self.last_full_checkpoint = now;
            }
            let limit = self.config.options.hot_region_limit;
            for volume in self.volumes.values_mut() {
                volume.tick_checkpoint(full, limit, &mut self.cx);
            }
        }
    }

    fn check_silence(&mut self, node: NodeId) {
        let now = self.cx.now;
        let stuck = self.is_stuck(node);
        let Some(connection) = self.connections.get_mut(&node) else {
            return;
        };
        let net = connection.config.net.clone();
        let Some(link) = &mut connection.link else {
            return;
        };
        let id = link.id;
        let loss = match (&link.phase, link.ping_sent) {
            (Phase::Closing, _) => return,
            (Phase::Preparing { .. } | Phase::AwaitHello { .. }, _)
                if now.ms_since(link.up_since) >= HANDSHAKE_MS =>
            {
                true
            }
            (_, Some(sent)) => now.ms_since(sent) >= u64::from(net.ping_timeout_ms),
            (_, None) => {
                if now.ms_since(link.last_heard) >= u64::from(net.ping_interval_ms) {
                    link.ping_sent = Some(now);
                    let id_of_ping = self.cx.name();
                    self.cx
                        .send(node, id, Packet::Ping { id: id_of_ping }, None);
                }
                false
            }
        };
        if loss || stuck {
            if stuck {
                self.cx.report(
                    Level::Warn,
                    Some(node),
                    None,
                    "the peer failed to finish a request within ko-count times timeout",
                );
            }
            self.drop_link(node, LinkLoss::Timeout);
        }
    }

    /// Whether the peer has left a request unanswered for too long although it is alive.
    fn is_stuck(&self, node: NodeId) -> bool {
        let Some(connection) = self.connections.get(&node) else {
            return false;
        };
        let net = &connection.config.net;
        let limit = u64::from(net.timeout_ms) * u64::from(net.ko_count);
        limit > 0
            && self.volumes.values().any(|volume| {
                let oldest = volume.oldest_unanswered(node);
                oldest.is_some_and(|since| self.cx.now.ms_since(since) >= limit)
            })
    }

    /// Asks to be woken when the next thing is due.
    pub(super) fn schedule(&mut self) {
        self.note_seen();
        self.tell_state();
        let deadlines = [
            self.promotion_deadline(),
            self.migration_deadline(),
            self.next_fencing(),
            self.next_parting(),
            self.invalidations.deadline(),
            self.resize_deadline(),
        ];
        let mut next = deadlines.into_iter().flatten().min();
        let mut earlier = |time: Time| {
            if next.is_none_or(|next| time < next) {
                next = Some(time);
            }
        };
        for connection in self.connections.values() {
            let dues = [due(connection), self.lease_due(connection)];
            dues.into_iter().flatten().for_each(&mut earlier);
        }
        for volume in self.volumes.values() {
            let due = volume.next_checkpoint(self.last_tick, self.last_full_checkpoint);
            if let Some(due) = due {
                earlier(due);
            }
            if let Some(due) = volume.frozen.awaiting {
                earlier(due);
            }
            if let Some(due) = volume.disk_due(&self.cx) {
                earlier(due);
            }
            if let Some(due) = volume.next_resync(self.cx.now) {
                earlier(due);
            }
        }
        if let Some(next) = next {
            let soonest = self.cx.now.plus_ms(1);
            self.cx.wake_by(next.max(soonest));
        }
    }
}

fn due(connection: &Connection) -> Option<Time> {
    let link = connection.link.as_ref()?;
    let net = &connection.config.net;
    let alive = match link.ping_sent {
        Some(sent) => sent.plus_ms(u64::from(net.ping_timeout_ms)),
        None => link.last_heard.plus_ms(u64::from(net.ping_interval_ms)),
    };
    match link.phase {
        Phase::Closing => None,
        Phase::Preparing { .. } | Phase::AwaitHello { .. } => {
            Some(alive.min(link.up_since.plus_ms(HANDSHAKE_MS)))
        }
        Phase::Connected => Some(alive),
    }
}
