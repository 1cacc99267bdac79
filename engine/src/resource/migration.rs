//! A live migration: for a while both nodes are Primary, although the configuration does not have
//! it so, and then one again by itself.
//!
//! The order is given on the node that is moved to. Its request for consent carries the time; a
//! Primary that consents keeps the books of two from then on (`volume::crossing`), over the link
//! that is there. The new Primary keeps them from before its request, and is promoted when all that
//! came earlier is on both disks, so from its first request on everything is as it would be had the
//! link been made for two.
//!
//! When the time is over, whichever node nobody uses is demoted: first the one that was moved from,
//! a little later the one that was moved to. While both are used nothing is taken from anybody.

use rbd_protocol::control::{Fencing, Refusal, RefusalCode};
use rbd_protocol::ids::NodeId;
use rbd_protocol::state::Role;

use super::Resource;
use crate::connection::Connection;
use crate::contract::{Action, Level, MigrationNews, Time};

/// A time in which both nodes may be Primary.
#[derive(Clone, Copy, Debug)]
pub(super) struct Migration {
    peer: NodeId,
    until: Time,
    /// This node is the one that is moved to.
    arrives: bool,
    /// Both have been Primary since it began.
    has_met: bool,
    /// The hands have been told that it is over, and are so again at this time.
    next: Option<Time>,
}

impl<B: Clone> Resource<B> {
    /// Why this node is not moved to.
    pub(super) fn migration_refusal(&self) -> Option<Refusal> {
        let name = &self.config.name;
        let refuse = |code, reason, help| Some(Refusal::new(code, reason, help));
        let mut peers = self.connections.values();
        let (Some(peer), None) = (peers.next(), peers.next()) else {
            let reason = "a migration is between two nodes, and the resource has another number";
            return refuse(RefusalCode::StateTwoPrimaries, reason.into(), "".into());
        };
        let told = &peer.config.name;
        if !is_kept_apart(peer) {
            let reason = alloc::format!(
                "for a while {told} is Primary too, and without 'fencing resource-and-stonith' \
                 each would go on for itself if the link were lost"
            );
            let help = "set it and a fence-peer handler, or accept that with \
                        'allow-two-primaries-without-fencing yes', on both nodes; then adjust";
            return refuse(RefusalCode::StateTwoPrimaries, reason, help.into());
        }
        if peer.connected_link().is_none() {
            let reason = alloc::format!("{told} is not connected: there is nothing to move from");
            let help = alloc::format!("rbdadm connect {name}; if {told} is off: rbdadm primary");
            return refuse(RefusalCode::StateNeedsConnection, reason, help);
        }
        None
    }

    /// Notes the order; the books of two are opened when the peer is asked.
    pub(super) fn order_migration(&mut self, milliseconds: u32) {
        if let Some(node) = self.connections.keys().next().copied() {
            self.note_migration(node, milliseconds, true);
        }
    }

    fn note_migration(&mut self, peer: NodeId, milliseconds: u32, arrives: bool) {
        let until = self.cx.now.plus_ms(u64::from(milliseconds));
        if let Some(known) = &mut self.migration {
            known.until = known.until.max(until); // a restarted daemon asks again
            return;
        }
        self.migration = Some(Migration {
            peer,
            until,
            arrives,
            has_met: false,
            next: None,
        });
    }

    /// Whether this node and the peer are in a migration.
    pub(super) fn is_migrating_with(&self, node: NodeId) -> bool {
        self.migration.is_some_and(|known| known.peer == node)
    }

    /// Milliseconds until it is over.
    pub(super) fn migration_left(&self, node: NodeId, now: Time) -> Option<u64> {
        let known = self.migration.filter(|known| known.peer == node)?;
        Some(known.until.ms_since(now))
    }

    /// Keeps the books of two over the link that is there.
    pub(super) fn share_link_with(&mut self, node: NodeId) {
        let Some(connection) = self.connections.get_mut(&node) else {
            return;
        };
        connection.two_primaries = true;
        for volume in self.volumes.values_mut() {
            volume.share_from_here(node);
        }
    }

    /// A peer asks to be Primary beside this node for a while. Returns whether it may.
    pub(super) fn consent_to_migration(&mut self, node: NodeId, milliseconds: u32) -> bool {
        let may_be = self.connections.get(&node).is_some_and(is_kept_apart);
        if !may_be || self.connections.len() != 1 || !self.has_everything_with(node) {
            return false;
        }
        if self.refuse_another_change().is_err() {
            return false;
        }
        let is_news = !self.is_migrating_with(node);
        self.note_migration(node, milliseconds, false);
        self.share_link_with(node);
        if let Some(connection) = self.connections.get_mut(&node) {
            connection.may_join = true;
        }
        if !is_news {
            return true;
        }
        let seconds = milliseconds / 1000;
        let text = alloc::format!("a migration: for {seconds} s both nodes may be Primary");
        self.cx.report(Level::Info, Some(node), None, text);
        let ms = milliseconds;
        self.tell_hands(MigrationNews::Begun { ms });
        true
    }

    /// A peer is Primary beside this node. Returns whether it may be. One that has got consent may
    /// take its time.
    pub(super) fn peer_has_arrived(&mut self, node: NodeId) -> bool {
        if self.have_agreed_on_two(node) {
            return true;
        }
        let consented = |peer: &Connection| peer.may_join && peer.connected_link().is_some();
        let may_be = self.connections.get(&node).is_some_and(consented);
        if may_be {
            self.note_migration(node, 0, false);
            self.tell_hands(MigrationNews::Begun { ms: 0 });
        }
        may_be
    }

    /// Whether a peer waits for consent until what was begun before is complete.
    pub(super) fn is_asked_to_migrate(&self) -> bool {
        let mut peers = self.connections.values();
        self.migration.is_some() && peers.any(|peer| peer.asked_for_consent.is_some())
    }

    /// This node has become Primary.
    pub(super) fn has_arrived(&mut self) {
        let now = self.cx.now;
        let Some(known) = self.migration else { return };
        let left = known.until.ms_since(now);
        let ms = u32::try_from(left).unwrap_or(u32::MAX);
        self.tell_hands(MigrationNews::Begun { ms });
    }

    /// Ends what is over, and has the hands make one Primary of two when the time has come.
    pub(super) fn advance_migration(&mut self) {
        let Some(known) = self.migration else { return };
        let (node, now) = (known.peer, self.cx.now);
        let peer = self.connections.get(&node);
        let connected = peer.filter(|peer| peer.connected_link().is_some());
        let peer_role = connected.map(|peer| peer.peer_role);
        if self.role != Role::Primary {
            if self.promotion.is_none() {
                self.end_migration(node);
            }
            return;
        }
        let went_on = |volume: &crate::volume::Volume<B>| {
            let peer = volume.peers.get(&node);
            peer.is_some_and(|peer| volume.is_left_behind(peer))
        };
        let goes_alone = self.volumes.values().any(went_on);
        match peer_role {
            None if goes_alone => self.end_migration(node),
            None => {}
            Some(Role::Primary) => {
                if let Some(known) = &mut self.migration {
                    known.has_met = true;
                }
                self.demote_one_of_two(node);
            }
            Some(_) => {
                let over = known.has_met || known.arrives || late(&known) <= now;
                if over {
                    self.end_migration(node);
                }
            }
        }
    }

    fn demote_one_of_two(&mut self, node: NodeId) {
        let now = self.cx.now;
        let Some(known) = self.migration else { return };
        if self.due(&known) > now || self.demotion.is_some() {
            return;
        }
        let again = now.plus_ms(AGAIN_MS);
        if let Some(known) = &mut self.migration {
            known.next = Some(again);
        }
        if self.volumes.values().any(|volume| volume.openers > 0) {
            if known.next.is_none() {
                let name = &self.config.name;
                let text = alloc::format!(
                    "the time of the migration is over, and the volumes are still in use here: \
                     when nobody uses them any more, or on either node by: rbdadm secondary {name}"
                );
                self.cx.report(Level::Warn, Some(node), None, text);
            }
            return;
        }
        self.tell_hands(MigrationNews::Expired);
    }

    fn end_migration(&mut self, node: NodeId) {
        self.migration = None;
        let text = "the migration is over";
        self.cx.report(Level::Info, Some(node), None, text);
        self.tell_hands(MigrationNews::Over);
    }

    fn tell_hands(&mut self, news: MigrationNews) {
        self.cx.out.push(Action::Migration(news));
    }

    /// When something is to be done about it that no other event brings about.
    pub(super) fn migration_deadline(&self) -> Option<Time> {
        let known = self.migration?;
        let peer = self.connections.get(&known.peer)?;
        if self.role != Role::Primary || peer.connected_link().is_none() {
            return None;
        }
        Some(match peer.peer_role {
            Role::Primary => self.due(&known),
            _ => late(&known),
        })
    }

    /// When this node is to be demoted, if nobody uses it.
    fn due(&self, known: &Migration) -> Time {
        if let Some(next) = known.next {
            return next;
        }
        // After restarts both may be taken for the one that was moved to.
        let turn = u64::from(self.config.node_id > known.peer);
        let later = u64::from(known.arrives) * ARRIVED_MS * (1 + turn);
        known.until.plus_ms(later)
    }
}

/// Whether a lost peer is fenced before either goes on, or somebody has said that it need not be.
fn is_kept_apart(peer: &Connection) -> bool {
    let net = &peer.config.net;
    net.fencing == Fencing::ResourceAndStonith || net.two_without_fencing
}

/// When a consent that nothing has come of is void.
fn late(known: &Migration) -> Time {
    known.until.plus_ms(VOID_MS)
}

/// So much longer the node that was moved to stays Primary than the other.
const ARRIVED_MS: u64 = 5_000;

/// How often it is tried to make one Primary of two when the time is over.
const AGAIN_MS: u64 = 2_000;

/// More than a promotion takes that has been consented to.
const VOID_MS: u64 = 10_000;
