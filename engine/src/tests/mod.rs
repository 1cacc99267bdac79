//! One resource under a test's hands: it is told events, one by one, and what it asks for is looked
//! at and answered by hand. The peer is whatever the test says it is.

mod attach;
mod changes;
mod checkpoints;
mod commands;
mod comparing;
mod detach;
mod disk_trouble;
mod diskless;
mod facts;
mod fenced_return;
mod fencing;
mod fixtures;
mod foundations;
mod foundations_disk_memory;
mod foundations_local_disk;
mod foundations_settling;
mod full_sync;
mod invalidation;
mod late_word;
mod lease;
mod left_behind;
mod left_out;
mod lies;
mod losing;
mod mending;
mod migration;
mod orders;
mod parting;
mod path_books;
mod path_checkpoints;
mod path_counts;
mod path_edges;
mod path_edges_more;
mod path_resync;
mod path_served;
mod path_writes;
mod pausing;
mod power;
mod preparing;
mod promotion;
mod relocation;
mod relocation_hold;
mod resync;
mod roles_changes;
mod roles_edges;
mod roles_ending;
mod roles_fencing;
mod roles_growth;
mod roles_handshake;
mod roles_losses;
mod roles_parting;
mod roles_promotion;
mod roles_two;
mod roles_waits;
mod scrub;
mod scrubbing;
mod scrubbing_mending;
mod silence;
mod sizes;
mod split_brain;
mod stability;
mod suspension;
mod tentative;
mod two_primaries;
mod two_primaries_disks;
mod verify;

use alloc::boxed::Box;
use alloc::vec::Vec;

use rbd_protocol::control::{ConnectionStatus, Refusal, ResourceConfig, WriteCache};
use rbd_protocol::ids::{ByteRange, NodeId, VolumeNumber};
use rbd_protocol::metadata::{Image, Superblock};
use rbd_protocol::peer::{Hello, Packet};
use rbd_protocol::state::{DiskState, Role};

use crate::{
    Action, AttachedDisk, CallId, Command, DiskError, DiskRequest, Event, Handler, LinkId,
    LinkLoss, OperationId, RequestError, RequestId, RequestKind, Resource, Seed, Time,
};

pub(crate) use fixtures::{GENERATION, config, image};

pub(crate) const VOLUME: VolumeNumber = VolumeNumber(0);
/// The other volume, where there are two.
const SECOND: VolumeNumber = VolumeNumber(1);
const OWN: NodeId = NodeId(0);
pub(crate) const PEER: NodeId = NodeId(1);
pub(crate) const LINK: LinkId = LinkId(1);
const SIZE: u64 = 64 << 20;

/// The same configuration with a second volume.
fn with_second(mut config: ResourceConfig) -> ResourceConfig {
    let mut second = config.volumes[0].clone();
    second.number = SECOND;
    config.volumes.push(second);
    config
}

/// A resource, and what it has asked for that has not been answered.
pub(crate) struct Bench {
    pub(crate) engine: Resource<u32>,
    pub(crate) now: Time,
    pub(crate) asked: Vec<Action<u32>>,
    /// When it wants to be woken.
    wake: Option<Time>,
    names: u64,
    /// The link packets come over: the last that came up.
    link: LinkId,
    /// What the disk says of itself, as it was last written.
    pub(crate) superblock: Option<Superblock>,
}

impl Bench {
    /// A resource without disk and link.
    pub(crate) fn bare(config: ResourceConfig) -> Self {
        let seed = Seed {
            random: 1,
            boot: 7,
            unix_start: 0,
        };
        Self {
            engine: Resource::new(config, seed),
            now: Time(1_000_000_000),
            asked: Vec::new(),
            wake: None,
            names: 0,
            link: LinkId(0),
            superblock: None,
        }
    }

    /// A Secondary with this disk that looks for its peer.
    pub(crate) fn alone(config: ResourceConfig, image: Image) -> Self {
        let mut bench = Self::bare(config);
        bench.attach(image);
        bench.connect();
        bench
    }

    /// A Secondary with two volumes and both disks that looks for its peer.
    pub(crate) fn of_two_volumes(config: ResourceConfig) -> Self {
        Self::of_two_disks(config, image(), image())
    }

    /// The same with these disks.
    pub(crate) fn of_two_disks(config: ResourceConfig, first: Image, mut second: Image) -> Self {
        let mut bench = Self::bare(with_second(config));
        bench.attach(first);
        second.superblock.volume = SECOND;
        bench.attach_to(SECOND, second);
        bench.connect();
        bench
    }

    /// One that has just met its peer and is in sync: that is not durable yet.
    pub(crate) fn just_in_sync() -> Self {
        let mut bench = Self::alone(config(), image());
        bench.write_metadata();
        bench.asked.clear();
        bench.greeted(|_| {});
        bench
    }

    /// A Secondary with a disk, in sync with its peer.
    pub(crate) fn in_sync() -> Self {
        Self::in_sync_as(config())
    }

    pub(crate) fn in_sync_as(config: ResourceConfig) -> Self {
        let mut bench = Self::alone(config, image());
        bench.meet(|_| {});
        assert_eq!(bench.disk_state(), DiskState::UpToDate);
        bench.asked.clear();
        bench
    }

    pub(crate) fn attach(&mut self, image: Image) -> CallId {
        self.attach_to(VOLUME, image)
    }

    pub(crate) fn attach_to(&mut self, volume: VolumeNumber, image: Image) -> CallId {
        let disk = AttachedDisk::new(Box::new(image), 512, WriteCache::Volatile);
        self.command(Command::Attach { volume, disk })
    }

    pub(crate) fn connect(&mut self) -> CallId {
        self.command(Command::Connect {
            peer: None,
            discard_my_data: false,
            tentative: false,
        })
    }

    /// A new link comes up.
    pub(crate) fn link_up(&mut self) {
        self.link = LinkId(self.link.0 + 1);
        let (peer, link) = (PEER, self.link);
        self.tell(Event::LinkUp { peer, link });
    }

    /// The link goes down.
    pub(crate) fn link_down(&mut self, loss: LinkLoss) {
        let (peer, link) = (PEER, self.link);
        self.tell(Event::LinkDown { peer, link, loss });
    }

    /// The same for a link that this node has dropped itself; returns why.
    pub(crate) fn close_dropped(&mut self) -> Option<LinkLoss> {
        let mut dropped = self.asked.iter().filter_map(|action| match action {
            Action::DropLink { link, loss, .. } if *link == self.link => Some(*loss),
            _ => None,
        });
        let loss = dropped.next()?;
        self.link_down(loss);
        Some(loss)
    }

    /// Meets a peer that greets as this node does, but for this.
    pub(crate) fn meet(&mut self, change: impl FnOnce(&mut Hello)) {
        self.write_metadata();
        // What happened before is of no interest; what the disk is doing goes on.
        self.asked
            .retain(|action| matches!(action, Action::Disk { .. }));
        self.greeted(change);
        self.write_metadata();
    }

    /// A new link comes up, and a peer greets over it as this node does, but for this: what is
    /// recorded of it is not durable yet.
    pub(crate) fn greeted(&mut self, change: impl FnOnce(&mut Hello)) {
        self.link_up();
        self.write_metadata();
        let mut hello = self.greeting();
        hello.incarnation = 99;
        change(&mut hello);
        self.packet(Packet::Hello(Box::new(hello)));
    }

    /// The same, promoted.
    pub(crate) fn primary() -> Self {
        Self::primary_as(config())
    }

    pub(crate) fn primary_as(config: ResourceConfig) -> Self {
        let mut bench = Self::in_sync_as(config);
        bench.command(Command::Promote { force: false });
        bench.consent();
        bench.write_metadata();
        assert_eq!(bench.engine.role(), Role::Primary);
        bench.asked.clear();
        bench
    }

    pub(crate) fn greeting(&self) -> Hello {
        let sent = self.asked.iter().find_map(|action| match action {
            Action::Send {
                packet: Packet::Hello(hello),
                ..
            } => Some((**hello).clone()),
            _ => None,
        });
        sent.expect("a greeting was sent")
    }

    /// The peer consents to a promotion.
    pub(crate) fn consent(&mut self) {
        let id = self.asked.iter().find_map(|action| match action {
            Action::Send {
                packet: Packet::PromoteRequest { id, .. },
                ..
            } => Some(*id),
            _ => None,
        });
        let id = id.expect("the peer was asked");
        self.packet(Packet::PromoteReply { id, granted: true });
    }

    pub(crate) fn tell(&mut self, event: Event<u32>) {
        if matches!(event, Event::Timer) {
            self.wake = None;
        }
        let known = self.asked.len();
        self.engine.handle(self.now, event, &mut self.asked);
        for action in &self.asked[known..] {
            if let Action::WakeAt(time) = action {
                self.wake = Some(*time);
            }
        }
    }

    pub(crate) fn packet(&mut self, packet: Packet) {
        let (peer, link) = (PEER, self.link);
        let bulk = packet.kind().is_bulk();
        let data = bulk.then_some(5);
        self.tell(Event::Packet {
            peer,
            link,
            packet,
            data,
        });
    }

    pub(crate) fn command(&mut self, command: Command) -> CallId {
        self.names += 1;
        let call = CallId(self.names);
        self.tell(Event::Command { call, command });
        call
    }

    pub(crate) fn request(&mut self, kind: RequestKind, range: ByteRange) -> RequestId {
        self.names += 1;
        let id = RequestId(self.names);
        self.tell(Event::Request {
            id,
            volume: VOLUME,
            kind,
            range,
            data: matches!(kind, RequestKind::Write { .. }).then_some(9),
        });
        id
    }

    pub(crate) fn write(&mut self, offset: u64) -> RequestId {
        self.request(
            RequestKind::Write { fua: false },
            ByteRange::new(offset, 4096),
        )
    }

    pub(crate) fn flush(&mut self) -> RequestId {
        self.request(RequestKind::Flush, ByteRange::new(0, 0))
    }

    /// Ends one disk operation of this kind, the oldest.
    pub(crate) fn disk(&mut self, kind: DiskRequest, result: Result<(), DiskError>) -> bool {
        let found = self
            .asked
            .iter()
            .position(|action| matches!(action, Action::Disk { request, .. } if *request == kind));
        let Some(at) = found else { return false };
        let Action::Disk { id, .. } = self.asked.remove(at) else {
            return false;
        };
        let is_read = matches!(kind, DiskRequest::Read | DiskRequest::ReadUnlessZero);
        let result = result.map(|()| is_read.then_some(3));
        self.tell(Event::DiskDone { id, result });
        true
    }

    /// Ends the oldest read of a resync: all of it is zero.
    pub(crate) fn disk_zero(&mut self) {
        let kind = DiskRequest::ReadUnlessZero;
        let found = self
            .asked
            .iter()
            .position(|action| matches!(action, Action::Disk { request, .. } if *request == kind));
        let Action::Disk { id, .. } = self.asked.remove(found.expect("it reads")) else {
            return;
        };
        self.tell(Event::DiskDone {
            id,
            result: Ok(None),
        });
    }

    /// Ends every metadata write, and those that follow from it. Returns where they went.
    pub(crate) fn write_metadata(&mut self) -> Vec<u64> {
        let mut offsets = Vec::new();
        while let Some((id, offset)) = self.next_metadata() {
            offsets.push(offset);
            self.tell(Event::MetaDone { id, result: Ok(()) });
        }
        offsets
    }

    /// Ends the metadata writes under way, and none of those that follow from them.
    pub(crate) fn end_metadata(&mut self) {
        let is_write = |action: &&Action<u32>| matches!(action, Action::Meta { .. });
        for _ in 0..self.asked.iter().filter(is_write).count() {
            if let Some((id, _)) = self.next_metadata() {
                self.tell(Event::MetaDone { id, result: Ok(()) });
            }
        }
    }

    /// Lets the oldest metadata write fail.
    pub(crate) fn fail_metadata(&mut self) {
        let (id, _) = self.next_metadata().expect("metadata is being written");
        let result = Err(DiskError::Io);
        self.tell(Event::MetaDone { id, result });
    }

    fn next_metadata(&mut self) -> Option<(OperationId, u64)> {
        let found = |action: &Action<u32>| matches!(action, Action::Meta { .. });
        let at = self.asked.iter().position(found)?;
        match self.asked.remove(at) {
            Action::Meta {
                id, offset, block, ..
            } => {
                if let Ok(superblock) = Superblock::decode(&block[..]) {
                    self.superblock = Some(superblock);
                }
                Some((id, offset))
            }
            _ => None,
        }
    }

    /// Whether a metadata write is under way.
    pub(crate) fn is_writing_metadata(&self) -> bool {
        self.asked
            .iter()
            .any(|action| matches!(action, Action::Meta { .. }))
    }

    /// How many disk operations of this kind are under way.
    pub(crate) fn on_disk(&self, kind: DiskRequest) -> usize {
        let same = |action: &&Action<u32>| match action {
            Action::Disk { request, .. } => *request == kind,
            _ => false,
        };
        self.asked.iter().filter(same).count()
    }

    /// The peer acknowledges every write and every flush it has been sent. Returns how many.
    pub(crate) fn peer_acks(&mut self) -> usize {
        let volume = VOLUME;
        let mut count = 0;
        for packet in self.sent() {
            let ack = match packet {
                Packet::Write { id, .. } | Packet::Zero { id, .. } => {
                    Packet::WriteAck { id, volume }
                }
                Packet::Flush { id, .. } => Packet::FlushAck { id, volume },
                _ => continue,
            };
            self.packet(ack);
            count += 1;
        }
        count
    }

    /// Ends every flush and every metadata write, and those that follow from them.
    pub(crate) fn flush_all(&mut self) {
        loop {
            let local = self.disk(DiskRequest::Flush, Ok(()));
            if self.peer_acks() == 0 && !local && self.write_metadata().is_empty() {
                return;
            }
        }
    }

    /// The packets sent since this was last asked.
    pub(crate) fn sent(&mut self) -> Vec<Packet> {
        let mut packets = Vec::new();
        self.asked.retain(|action| match action {
            Action::Send { packet, .. } => {
                packets.push(packet.clone());
                false
            }
            _ => true,
        });
        packets
    }

    /// The same, without taking note of it.
    pub(crate) fn sent_so_far(&self) -> impl Iterator<Item = &Packet> {
        self.asked.iter().filter_map(|action| match action {
            Action::Send { packet, .. } => Some(packet),
            _ => None,
        })
    }

    /// How the request ended, if it has.
    pub(crate) fn answer(&self, request: RequestId) -> Option<Result<(), RequestError>> {
        self.asked.iter().find_map(|action| match action {
            Action::Complete { id, result } if *id == request => Some(result.map(|_| ())),
            _ => None,
        })
    }

    /// Why the command was refused.
    pub(crate) fn refusal(&self, command: CallId) -> Refusal {
        let found = self.asked.iter().find_map(|action| match action {
            Action::Reply { call, result } if *call == command => result.clone().err(),
            _ => None,
        });
        found.expect("it is refused")
    }

    /// Everything that was reported.
    pub(crate) fn reports(&self) -> Vec<&str> {
        let texts = self.asked.iter().filter_map(|action| match action {
            Action::Report(change) => Some(change.text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    /// The handlers that were started.
    pub(crate) fn handlers(&self) -> Vec<Handler> {
        let started = self.asked.iter().filter_map(|action| match action {
            Action::RunHandler { handler, .. } => Some(*handler),
            _ => None,
        });
        started.collect()
    }

    pub(crate) fn connection(&self) -> ConnectionStatus {
        self.engine.status(self.now).connections.remove(0)
    }

    /// Whether the command was done, if it was answered.
    pub(crate) fn reply(&self, command: CallId) -> Option<bool> {
        self.asked.iter().find_map(|action| match action {
            Action::Reply { call, result } if *call == command => Some(result.is_ok()),
            _ => None,
        })
    }

    pub(crate) fn disk_state(&self) -> DiskState {
        let status = self.engine.status(self.now);
        status
            .devices
            .first()
            .map_or(DiskState::Diskless, |device| device.disk_state)
    }

    pub(crate) fn out_of_sync_bytes(&self) -> u64 {
        let status = self.engine.status(self.now);
        status.connections[0].peer_devices[0].out_of_sync_bytes
    }

    /// The old link is gone and a new one stands. Returns this node's greeting over it, if it has
    /// sent one.
    pub(crate) fn relink(&mut self) -> Option<Hello> {
        self.link_down(LinkLoss::Renegotiate);
        self.sent();
        self.link_up();
        self.write_metadata();
        self.sent().into_iter().find_map(|packet| match packet {
            Packet::Hello(hello) => Some(*hello),
            _ => None,
        })
    }

    /// Lets time pass; the timer fires at the end, late maybe, if it was asked for by then.
    pub(crate) fn wait_ms(&mut self, milliseconds: u64) {
        self.now = self.now.plus_ms(milliseconds);
        if self.wake.is_some_and(|time| time <= self.now) {
            self.tell(Event::Timer);
        }
    }
}
