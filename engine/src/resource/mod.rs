//! One resource on this node: its public face, and which part of the engine handles which event.
//!
//! | Part | Decides |
//! |---|---|
//! | [`link`] | what a link's coming, going and silence mean |
//! | [`attach`] | taking a disk, also under a Primary that has lost its own
//! | [`fencing`] | what must be known of a lost peer before this node goes on alone |
//! | [`detach`] | letting go of a disk while everything else goes on |
//! | [`generation`] | generations begun by command |
//! | [`recording`] | commands that are answered when what they have changed is durable |
//! | [`handlers`] | which handler runs, and what its end means |
//! | [`handshake`] | what the two greetings mean for each volume |
//! | [`served`] | what they mean where one node serves the other's clients
//! | [`suspension`] | commands that stop and start I/O, or declare data behind |
//! | [`objection`] | what follows when they must not be connected |
//! | [`packets`] | which packet is whose, and which breaks the protocol |
//! | [`completion`] | whose operation a disk has finished, also one that has been let go |
//! | [`command`] | commands that are answered at once |
//! | [`invalidation`] | declaring the data of one node bad, never that of both |
//! | [`sizes`] | disks of different sizes |
//! | [`resize`] | a volume that grows by command |
//! | [`resolve`] | the order to end a split brain |
//! | [`changes`] | what that order would destroy on this node |
//! | [`preparation`] | what must be done before a resync may overwrite this node's disk |
//! | [`pausing`] | commands that hold resyncs back |
//! | [`verification`] | commands that begin and end a verify |
//! | [`migration`] | both are Primary for a while |
//! | [`two_primaries`] | whether both nodes may be Primary at once |
//! | [`lease`] | how long one of two answers clients without the other, and waits for it |
//! | [`fitness`] | why a node is not promoted |
//! | [`promotion`] | promotion, which takes several steps |
//! | [`demotion`] | demotion and the end, which take several steps |

mod attach;
mod changes;
mod command;
mod completion;
mod demotion;
mod detach;
mod fencing;
mod fitness;
mod generation;
mod handlers;
mod handshake;
mod invalidation;
mod lease;
mod link;
mod migration;
mod objection;
mod packets;
mod parting;
mod pausing;
mod preparation;
mod promotion;
mod recording;
mod resize;
mod resolve;
mod served;
mod sizes;
mod status;
mod suspension;
mod two_primaries;
mod verification;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use rbd_protocol::control::{ResourceConfig, Suspended};
use rbd_protocol::ids::{GenerationId, NodeId, VolumeNumber};
use rbd_protocol::peer::Packet;
use rbd_protocol::state::Role;

use crate::connection::Connection;
use crate::context::Context;
use crate::contract::{
    Action, CallId, Event, OperationId, RequestError, RequestKind, Room, Time, VolumeFacts,
};
use crate::handler::Wanted;
use crate::random::Random;
use crate::volume::{Checkpoint, Volume};
use demotion::{Demotion, Stop};
use detach::Detaching;
use invalidation::Invalidations;
use migration::Migration;
use promotion::Promotion;
use resize::Resizing;

/// What a resource takes from outside at its birth because it cannot make it itself.
#[derive(Clone, Copy, Debug)]
pub struct Seed {
    /// Feeds the generator of generation identifiers and incarnations; from the system's
    /// randomness.
    pub random: u64,
    /// Identifies the boot of this host.
    pub boot: u128,
    /// What the clock on the wall said at time 0, in seconds since 1970; 0 if that is not known.
    /// Only people are ever told of it.
    pub unix_start: u64,
}

/// Most client requests in flight at once, all volumes together.
const REQUEST_LIMIT: u32 = 256;

/// Most bytes of client payload in flight at once.
const BYTE_LIMIT: u64 = 64 << 20;

/// Most bytes of a peer's bulk data held at once: what its own limits allow it to send, twice.
const PEER_BYTE_LIMIT: u64 = 128 << 20;

/// One resource on this node: its state and every decision about it. A clone is for asking what
/// would happen if; only one of the two may act.
#[derive(Clone, Debug)]
pub struct Resource<B> {
    config: ResourceConfig,
    boot: u128,
    incarnation: u64,
    /// Drawn anew with every change of role, and shown to the peers.
    tenure: u64,
    role: Role,
    volumes: BTreeMap<VolumeNumber, Volume<B>>,
    connections: BTreeMap<NodeId, Connection>,
    cx: Context<B>,
    attachments: u64,
    promotion: Option<Promotion>,
    /// A time in which both nodes may be Primary.
    migration: Option<Migration>,
    demotion: Option<Demotion>,
    stop: Stop,
    /// A `new-current-uuid --clear-bitmap` that waits for the peer.
    clearing: Option<(CallId, VolumeNumber, GenerationId)>,
    /// A disk that is being let go.
    detaching: Option<Detaching>,
    /// Data that is being declared bad.
    invalidations: Invalidations,
    /// A volume that grows.
    resizing: Option<Resizing>,
    /// Commands whose changes are made and not durable yet, of one volume or of all.
    recording: Vec<(CallId, Option<VolumeNumber>)>,
    /// What was last told of frozen I/O.
    reported_suspension: Suspended,
    /// Handlers that have not ended.
    handlers: BTreeMap<OperationId, Wanted>,
    last_tick: Time,
    last_full_checkpoint: Time,
}

impl<B: Clone> Resource<B> {
    /// A resource without disks and without links: Secondary, Diskless, StandAlone.
    #[must_use]
    pub fn new(config: ResourceConfig, seed: Seed) -> Self {
        let mut random = Random::new(seed.random);
        let incarnation = random.generation().0;
        let tenure = random.generation().0;
        let nodes: Vec<NodeId> = config.peers.iter().map(|peer| peer.node_id).collect();
        let without_data = config.options.suspend_without_data;
        let volumes = config
            .volumes
            .iter()
            .map(|config| {
                let mut volume = Volume::new(config.clone(), nodes.iter().copied());
                volume.frozen.without_data = without_data;
                (config.number, volume)
            })
            .collect();
        let connections = config
            .peers
            .iter()
            .map(|peer| (peer.node_id, Connection::new(peer.clone())))
            .collect();
        Self {
            config,
            boot: seed.boot,
            incarnation,
            tenure,
            role: Role::Secondary,
            volumes,
            connections,
            cx: Context::new(random, seed.unix_start),
            attachments: 0,
            promotion: None,
            migration: None,
            demotion: None,
            stop: Stop::No,
            clearing: None,
            detaching: None,
            invalidations: Invalidations::default(),
            resizing: None,
            recording: Vec::new(),
            reported_suspension: Suspended::default(),
            handlers: BTreeMap::new(),
            last_tick: Time(0),
            last_full_checkpoint: Time(0),
        }
    }

    /// Takes one event and appends what is to be done about it.
    pub fn handle(&mut self, now: Time, event: Event<B>, actions: &mut Vec<Action<B>>) {
        self.cx.now = self.cx.now.max(now);
        let routine = is_routine(&event);
        self.expire_leases();
        match event {
            Event::Request {
                id,
                volume,
                kind,
                range,
                data,
            } => {
                self.cx.client_requests += 1;
                if self.role == Role::Primary {
                    self.clients_at_work();
                }
                let Some(volume) = self.volumes.get_mut(&volume) else {
                    self.cx.complete(id, Err(RequestError::Invalid));
                    actions.append(&mut self.cx.out);
                    return;
                };
                let cx = &mut self.cx;
                match (kind, data) {
                    (RequestKind::Read, _) => volume.accept_read(id, range, cx),
                    (RequestKind::Write { fua }, Some(data)) => {
                        volume.accept_write(id, range, Some(data), fua, false, cx);
                    }
                    (RequestKind::Write { .. }, None) => {
                        cx.complete(id, Err(RequestError::Invalid));
                    }
                    (RequestKind::Zero { fua, discard }, _) => {
                        volume.accept_write(id, range, None, fua, discard, cx);
                    }
                    (RequestKind::Flush, _) => volume.accept_flush(id, cx),
                }
            }
            Event::DiskDone { id, result } => self.disk_done(id, result),
            Event::Digests { id, result } => self.digests_made(id, result),
            Event::Measured { id, result } => self.measured(id, result),
            Event::SizeNoted { id, result } => self.size_noted(id, result),
            Event::MetaDone { id, result } => self.meta_done(id, result),
            Event::LinkUp { peer, link } => self.link_up(peer, link),
            Event::LinkDown { peer, link, loss } => self.link_down(peer, link, loss),
            Event::Packet {
                peer,
                link,
                packet,
                data,
            } => self.packet(peer, link, packet, data),
            Event::Timer => self.timer(),
            Event::Command { call, command } => self.command(call, command),
            Event::HandlerDone { id, result } => self.handler_done(id, result),
            Event::Openers { volume, count } => {
                if let Some(volume) = self.volumes.get_mut(&volume) {
                    volume.openers = count;
                }
            }
        }
        if !routine || self.has_loose_ends() {
            self.settle();
        }
        actions.append(&mut self.cx.out);
    }

    /// A client of either node asks for something: resyncs make room, of whichever volume, for they
    /// share the link and perhaps the disks.
    fn clients_at_work(&mut self) {
        for volume in self.volumes.values_mut() {
            volume.clients_at_work(&self.cx);
        }
    }

    /// Whether the event just handled may let something else go on, or a deadline is not watched.
    /// In steady state there is nothing, and looking for it would cost more than the event.
    fn has_loose_ends(&self) -> bool {
        self.volumes
            .values()
            .any(|volume| volume.unsettled || volume.renegotiate)
            || !self.cx.handlers.is_empty()
            || self.promotion.is_some()
            || self.demotion.is_some()
            || self.detaching.is_some()
            || self.is_any_leaving()
            || self.invalidations.is_busy()
            || self.resizing.is_some()
            || self.stop != Stop::No
            || self.is_asked_to_migrate()
            || !self.cx.is_wake_pending()
    }

    /// Lets everything that waits go on as far as it can.
    fn settle(&mut self) {
        loop {
            self.note_disks_left_behind();
            for volume in self.volumes.values_mut() {
                volume.settle(&mut self.cx);
            }
            self.answer_recorded();
            self.advance_detach();
            self.renegotiate_where_needed();
            self.advance_invalidations();
            self.advance_resize();
            self.forget_preparations();
            self.advance_handshakes();
            self.answer_requests();
            self.advance_partings();
            self.advance_fencing();
            self.advance_promotion();
            self.advance_migration();
            self.advance_demotion();
            self.advance_stop();
            if !self.volumes.values().any(|volume| volume.unsettled) {
                break;
            }
        }
        self.start_handlers();
        self.schedule();
    }

    /// This node's role.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Which peer is Primary, if one is known to be.
    #[must_use]
    pub fn primary_peer(&self) -> Option<NodeId> {
        let primary = |peer: &&Connection| peer.peer_role == Role::Primary;
        self.connections
            .values()
            .find(primary)
            .map(Connection::node)
    }

    /// How much more client work it takes now.
    #[must_use]
    pub fn room(&self) -> Room {
        Room {
            requests: REQUEST_LIMIT.saturating_sub(self.cx.client_requests),
            bytes: BYTE_LIMIT.saturating_sub(self.cx.client_bytes),
        }
    }

    /// How much more the links may deliver of bulk data from this peer.
    #[must_use]
    pub fn link_room(&self, peer: NodeId) -> Room {
        let (mut requests, mut bytes) = (0_u32, 0_u64);
        for volume in self.volumes.values() {
            for write in volume
                .peer_writes
                .values()
                .filter(|write| write.peer == peer)
            {
                requests = requests.saturating_add(1);
                bytes += u64::from(write.range.length);
            }
            for range in volume.errands_of(peer) {
                requests = requests.saturating_add(1);
                bytes += u64::from(range.length);
            }
        }
        Room {
            requests: (REQUEST_LIMIT * 4).saturating_sub(requests),
            bytes: PEER_BYTE_LIMIT.saturating_sub(bytes),
        }
    }

    /// What an export must know of the volume; `None` while it cannot be served.
    #[must_use]
    pub fn volume_facts(&self, volume: VolumeNumber) -> Option<VolumeFacts> {
        let volume = self.volumes.get(&volume)?;
        (volume.has_data() || volume.awaits_server()).then(|| VolumeFacts {
            size_bytes: volume.shown_bytes(),
            block_bytes: volume.block_bytes(),
            generation: volume.shown_generation(),
            is_overtaken: volume.is_overtaken || !volume.has_own_data(),
        })
    }

    /// Whether [`Command::Stop`](crate::Command::Stop) was accepted and nothing is in flight any
    /// more: the resource may be dropped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stop == Stop::Done && self.cx.operation_count() == 0
    }

    fn peer_name(&self, node: NodeId) -> &str {
        self.connections
            .get(&node)
            .map_or("an unknown peer", |peer| peer.config.name.as_str())
    }

    fn all_checkpoints_done(&self) -> bool {
        self.volumes
            .values()
            .all(|volume| volume.local.is_none() || volume.checkpoint == Checkpoint::Done)
    }
}

/// Whether the event is one of those that make up a request in steady state. What such an event
/// unsettles, it says.
fn is_routine<B>(event: &Event<B>) -> bool {
    match event {
        Event::Request { .. } | Event::DiskDone { .. } => true,
        Event::Packet { packet, .. } => matches!(
            packet,
            Packet::Write { .. }
                | Packet::Zero { .. }
                | Packet::Flush { .. }
                | Packet::WriteAck { .. }
                | Packet::FlushAck { .. }
        ),
        Event::MetaDone { .. }
        | Event::Digests { .. }
        | Event::Measured { .. }
        | Event::SizeNoted { .. }
        | Event::LinkUp { .. }
        | Event::LinkDown { .. }
        | Event::Timer
        | Event::Command { .. }
        | Event::HandlerDone { .. }
        | Event::Openers { .. } => false,
    }
}
