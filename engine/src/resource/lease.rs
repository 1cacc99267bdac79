//! How long a Primary beside another one answers clients without having heard of it.
//!
//! When two Primaries lose each other, a fence handler may let one of them go on although the other
//! still runs (DRBD's exit code 4): that one freezes as soon as it notices the loss, and is not
//! promoted again. Until it notices it reads from its own disk, which is behind from the first
//! write that the other answers. So how long that can take is bounded, by a lease (Gray and
//! Cheriton, SOSP 1989): a Primary that shares the volume counts a link as lost when the newest
//! question of it that has been answered was *sent* too long ago, whatever else has arrived
//! meanwhile. Whoever goes on waits as long from the moment on at which it answered nothing more
//! over that link.
//!
//! What a node sends and the other has received proves the same as an answered question: a link's
//! first greeting, the request to be let in, the consent.

use rbd_protocol::control::NetOptions;
use rbd_protocol::ids::NodeId;
use rbd_protocol::peer::Packet;
use rbd_protocol::state::Role;

use super::Resource;
use crate::connection::{Connection, Link, Phase};
use crate::contract::{Level, LinkLoss, Time};
use crate::handler::HandlerResult;

/// How long the newest answered question counts, if the link is not set up to be a slow one.
const LEASE_MS: u64 = 3_000;

/// From one answered question to the next.
const PACE_MS: u64 = 1_000;

impl<B: Clone> Resource<B> {
    /// Before anything is done with an event: a Primary whose lease has run out, for whatever
    /// reason it has not been able to notice, answers nobody.
    pub(super) fn expire_leases(&mut self) {
        let now = self.cx.now;
        while let Some(node) = self.connections.values().find_map(|peer| {
            let until = self.lease_until(peer)?;
            (until <= now).then_some(peer.node())
        }) {
            let text = "the other Primary has not answered for too long";
            self.cx.report(Level::Warn, Some(node), None, text);
            self.drop_link(node, LinkLoss::Timeout);
        }
    }

    /// Until when this Primary may answer without another word of the peer, if it shares with it.
    fn lease_until(&self, peer: &Connection) -> Option<Time> {
        let link = peer.link.as_ref()?;
        let is_shared = self.role == Role::Primary
            && matches!(link.phase, Phase::Connected)
            && (peer.peer_role == Role::Primary || link.let_in);
        is_shared.then(|| link.proven.plus_ms(lease_ms(&peer.config.net)))
    }

    /// Whether this node is to know all the time that the peer is there.
    fn asks(&self, peer: &Connection) -> bool {
        let may_be_primary = self.role == Role::Primary || self.promotion.is_some();
        let is_primary = peer.peer_role == Role::Primary;
        may_be_primary && (is_primary || peer.config.net.two_primaries || peer.two_primaries)
    }

    /// Asks the peer whether it is there, if that is due.
    pub(super) fn renew_lease(&mut self, node: NodeId) {
        let now = self.cx.now;
        let Some(peer) = self.connections.get(&node).filter(|peer| self.asks(peer)) else {
            return;
        };
        if question_due(peer).is_none_or(|due| now < due) {
            return;
        }
        let question = self.cx.name();
        let peer = self.connections.get_mut(&node);
        if let Some(link) = peer.and_then(|peer| peer.link.as_mut()) {
            link.question = Some((question, now));
            let packet = Packet::Ping { id: question };
            self.cx.send(node, link.id, packet, None);
        }
    }

    /// When something of this is due.
    pub(super) fn lease_due(&self, peer: &Connection) -> Option<Time> {
        let question = question_due(peer).filter(|_| self.asks(peer));
        [question, self.lease_until(peer)]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether a node that is being promoted would be a Primary with a lease.
    pub(super) fn has_leases(&self) -> bool {
        let now = self.cx.now;
        self.connections.values().all(|peer| {
            let link = peer
                .link
                .as_ref()
                .filter(|_| peer.peer_role == Role::Primary);
            link.is_none_or(|link| now < link.proven.plus_ms(lease_ms(&peer.config.net)))
        })
    }

    /// The link to a peer is over. One that has read this node's greeting may have taken that for
    /// the end of an older loss.
    pub(super) fn note_end_of_sharing(&mut self, node: NodeId) {
        let now = self.cx.now;
        let is_concerned = self.role == Role::Primary || self.promotion.is_some();
        if let Some(peer) = self.connections.get_mut(&node)
            && is_concerned
            && peer.was_primary
        {
            // Clocks may differ by a tenth either way.
            let wait = lease_ms(&peer.config.net) * 5 / 4;
            peer.may_answer_until = Some(now.plus_ms(wait));
        }
    }

    /// Until when a verdict does not count, because the peer may not have noticed the loss: only
    /// that it is off says more.
    pub(super) fn verdict_waits(&self, node: NodeId, result: HandlerResult) -> Option<Time> {
        let peer = self.connections.get(&node)?;
        let until = peer.may_answer_until.filter(|until| self.cx.now < *until)?;
        let has_noticed = peer.connected_link().is_some();
        (!has_noticed && result != HandlerResult::Exited(7)).then_some(until)
    }
}

impl Link {
    /// An answer to a question.
    pub(super) fn hear_answer(&mut self, id: u64) {
        if let Some((_, asked)) = self.question.take_if(|question| question.0 == id) {
            self.prove(asked);
        }
    }

    /// The peer has read something that was sent at that time.
    pub(super) fn prove(&mut self, sent: Time) {
        self.proven = self.proven.max(sent);
    }
}

fn question_due(peer: &Connection) -> Option<Time> {
    let link = peer.link.as_ref()?;
    let is_open = !matches!(link.phase, Phase::Closing) && link.question.is_none();
    is_open.then(|| link.proven.plus_ms(PACE_MS))
}

fn lease_ms(net: &NetOptions) -> u64 {
    LEASE_MS.max(2 * u64::from(net.ping_timeout_ms))
}
