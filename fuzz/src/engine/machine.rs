//! The hands: operations under way, links, time, and how each of them goes on.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use rbd_engine::{
    Action, AttachedDisk, CallId, Command, DiskError, DiskRequest, Event, LinkId, LinkLoss,
    OperationId, RequestId, RequestKind, Resource, Seed, Time,
};
use rbd_protocol::control::{ResourceConfig, WriteCache};
use rbd_protocol::ids::{ByteRange, NodeId, VolumeNumber};
use rbd_protocol::metadata::{Block, Image};
use rbd_protocol::peer::{BULK_LIMIT, Packet};

use super::Tag;
use super::area::{Area, Shape, gives_data, measures, notes};
use super::check::Checks;
use super::config::config;

/// A disk operation under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct DiskOperation {
    pub(super) id: OperationId,
    pub(super) volume: VolumeNumber,
    pub(super) request: DiskRequest,
    pub(super) range: ByteRange,
    pub(super) data: Option<Tag>,
    pub(super) started: u64,
}

/// A metadata write under way.
#[derive(Debug)]
pub(super) struct MetaOperation {
    pub(super) id: OperationId,
    pub(super) volume: VolumeNumber,
    pub(super) offset: u64,
    pub(super) block: Box<Block>,
}

/// A link as the hands see it.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Its name.
    pub id: LinkId,
    /// The engine wants it closed.
    pub dropped: Option<LinkLoss>,
}

/// One node: an engine and its hands.
#[derive(Debug)]
pub struct Machine {
    pub(super) shape: Shape,
    node: u8,
    seed: u64,
    config: ResourceConfig,
    /// The metadata of each volume.
    pub areas: Vec<Area>,
    /// The engine.
    pub engine: Resource<Tag>,
    pub(super) now: u64,
    pub(super) disk: Vec<DiskOperation>,
    pub(super) meta: Vec<MetaOperation>,
    /// The link to the peer, if there is one.
    pub link: Option<Link>,
    /// What has been sent and nobody has taken yet, oldest first.
    pub outbox: Vec<(Packet, Option<Tag>)>,
    pub(super) wake: Option<u64>,
    pub(super) lengths: BTreeMap<Tag, u32>,
    pub(super) checks: Checks,
    next_name: u64,
}

impl Machine {
    /// Node 0 with this many volumes, and fresh metadata on each.
    #[must_use]
    pub fn new(shape: Shape, volumes: u16) -> Self {
        Self::on(0, shape, volumes)
    }

    /// As [`new`](Self::new), for either node.
    #[must_use]
    pub fn on(node: u8, shape: Shape, volumes: u16) -> Self {
        let config = config(node, volumes);
        let seed = 7 + u64::from(node);
        let areas = (0..volumes)
            .map(|volume| Area::create_with(shape, node, volume, |_| {}))
            .collect();
        Self {
            shape,
            node,
            seed,
            engine: Resource::new(config.clone(), born(seed)),
            config,
            areas,
            now: 1_000_000_000,
            disk: Vec::new(),
            meta: Vec::new(),
            link: None,
            outbox: Vec::new(),
            wake: None,
            lengths: BTreeMap::new(),
            checks: Checks::default(),
            next_name: 0,
        }
    }

    /// The peer's number.
    #[must_use]
    pub fn peer(&self) -> NodeId {
        NodeId(1 - self.node)
    }

    /// How its volumes are shaped.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> ResourceConfig {
        self.config.clone()
    }

    /// A number nothing else of this machine has had.
    pub fn name(&mut self) -> u64 {
        self.next_name += 1;
        self.next_name
    }

    /// Data nobody has seen.
    pub fn data(&mut self, length: u32) -> Tag {
        let tag = self.name();
        self.lengths.insert(tag, length);
        tag
    }

    /// The clock.
    #[must_use]
    pub fn time(&self) -> Time {
        Time(self.now)
    }

    /// Lets time pass.
    pub fn wait(&mut self, milliseconds: u64) {
        self.now += milliseconds * 1_000_000;
    }

    /// Tells the engine, and does what it asks for.
    pub fn tell(&mut self, event: Event<Tag>) {
        self.checks.steps += 1;
        let mut actions = Vec::new();
        self.trace("<", &event);
        self.engine.handle(Time(self.now), event, &mut actions);
        let (measured, noted) = (measures(&actions), notes(&actions));
        for action in actions {
            self.trace(">", &action);
            self.perform(action);
        }
        for id in measured {
            let result = Ok(self.shape.measure());
            self.tell(Event::Measured { id, result });
        }
        for id in noted {
            self.tell(Event::SizeNoted { id, result: Ok(()) });
        }
    }

    /// Prints everything said between the two, for whoever looks into a finding.
    fn trace(&self, direction: &str, what: &dyn std::fmt::Debug) {
        static WANTED: OnceLock<bool> = OnceLock::new();
        if *WANTED.get_or_init(|| std::env::var_os("RBD_FUZZ_TRACE").is_some()) {
            let text = format!("{what:?}");
            let text: String = text.chars().take(LONGEST_LINE).collect();
            eprintln!("{} {direction} {text}", self.node);
        }
    }

    fn perform(&mut self, action: Action<Tag>) {
        match action {
            Action::Disk {
                id,
                volume,
                request,
                range,
                data,
            } => {
                let operation = DiskOperation {
                    id,
                    volume,
                    request,
                    range,
                    data,
                    started: self.checks.steps,
                };
                self.check_disk(&operation);
                self.disk.push(operation);
            }
            Action::Meta {
                id,
                volume,
                offset,
                block,
            } => {
                let operation = MetaOperation {
                    id,
                    volume,
                    offset,
                    block,
                };
                self.check_meta(&operation);
                self.meta.push(operation);
            }
            Action::Send {
                peer,
                link,
                packet,
                data,
                ..
            } => {
                assert_eq!(peer, self.peer(), "a packet to nobody");
                if self.link.is_some_and(|current| current.id == link) {
                    self.check_packet(&packet, data);
                    self.outbox.push((packet, data));
                }
            }
            Action::DropLink { link, loss, .. } => {
                if let Some(current) = self.link.as_mut().filter(|current| current.id == link) {
                    current.dropped = Some(loss);
                }
            }
            Action::Complete { id, result } => self.completed(id, result),
            Action::Reply { call, .. } => self.checks.replied(call),
            Action::WakeAt(time) => self.wake = Some(time.0),
            Action::ReleaseDisk { volume } => {
                self.checks.attached.remove(&volume);
            }
            other => drop(other),
        }
    }

    /// A client asks. Nothing happens when the engine has no room.
    pub fn request(&mut self, volume: VolumeNumber, kind: RequestKind, range: ByteRange) {
        let room = self.engine.room();
        let carries_data = matches!(kind, RequestKind::Read | RequestKind::Write { .. });
        if carries_data && range.length > BULK_LIMIT {
            return; // no export takes it
        }
        if room.requests == 0 || room.bytes < u64::from(range.length) {
            return;
        }
        let id = RequestId(self.name());
        let data = matches!(kind, RequestKind::Write { .. }).then(|| self.data(range.length));
        self.checks.asked(id, volume, kind, range, data);
        self.tell(Event::Request {
            id,
            volume,
            kind,
            range,
            data,
        });
    }

    /// Somebody wishes something.
    pub fn command(&mut self, command: Command) {
        let call = CallId(self.name());
        self.checks.calls.insert(call);
        self.tell(Event::Command { call, command });
    }

    /// Attaches a volume's disk, if its metadata opens and the earlier attachment is over.
    pub fn attach(&mut self, volume: VolumeNumber) {
        let under_way = self.disk.iter().any(|one| one.volume == volume)
            || self.meta.iter().any(|one| one.volume == volume);
        if under_way || self.checks.attached.contains(&volume) {
            return;
        }
        let Some(area) = self.areas.get(usize::from(volume.0)) else {
            return;
        };
        match area.open(false) {
            Ok(image) => self.attach_image(image),
            Err(error) => panic!("C2: metadata the engine has written does not open: {error}"),
        }
    }

    /// Attaches a disk with this metadata.
    pub fn attach_image(&mut self, image: Image) {
        let volume = image.superblock.volume;
        let disk = AttachedDisk::new(
            Box::new(image),
            self.shape.block_bytes,
            WriteCache::Volatile,
        );
        self.checks.attached.insert(volume);
        self.command(Command::Attach { volume, disk });
    }

    /// How many disk operations are under way.
    #[must_use]
    pub fn disk_operations(&self) -> usize {
        self.disk.len()
    }

    /// How many metadata writes are under way.
    #[must_use]
    pub fn meta_operations(&self) -> usize {
        self.meta.len()
    }

    /// Ends a disk operation.
    pub fn finish_disk(&mut self, index: usize, error: Option<DiskError>) {
        if index >= self.disk.len() {
            return;
        }
        let operation = self.disk.remove(index);
        let result = match error {
            Some(error) => Err(error),
            None if gives_data(operation.request, index) => {
                Ok(Some(self.data(operation.range.length)))
            }
            None => Ok(None),
        };
        if let Ok(data) = result {
            self.checks.done(&operation, data);
        }
        let id = operation.id;
        if operation.request == DiskRequest::Digest {
            let blocks = operation.range.length.div_ceil(4096);
            let digests = (0..blocks).map(|_| [0; 16]).collect();
            let result = result.map(|_| digests);
            return self.tell(Event::Digests { id, result });
        }
        self.tell(Event::DiskDone { id, result });
    }

    /// Ends a metadata write; a failed one may have reached the disk all the same.
    pub fn finish_meta(&mut self, index: usize, error: Option<DiskError>, reaches: bool) {
        if index >= self.meta.len() {
            return;
        }
        let operation = self.meta.remove(index);
        if reaches || error.is_none() {
            let area = &mut self.areas[usize::from(operation.volume.0)];
            area.put(operation.offset, operation.block);
        }
        let id = operation.id;
        let result = error.map_or(Ok(()), Err);
        self.tell(Event::MetaDone { id, result });
    }

    /// A link to the peer comes up, unless there is one.
    pub fn link_up(&mut self) {
        if self.link.is_some() {
            return;
        }
        let id = LinkId(self.name());
        self.link = Some(Link { id, dropped: None });
        self.outbox.clear();
        let peer = self.peer();
        self.tell(Event::LinkUp { peer, link: id });
    }

    /// The link goes down; for the engine's reason if it has one.
    pub fn link_down(&mut self, loss: LinkLoss) {
        let Some(link) = self.link.take() else {
            return;
        };
        let peer = self.peer();
        let loss = link.dropped.unwrap_or(loss);
        self.tell(Event::LinkDown {
            peer,
            link: link.id,
            loss,
        });
    }

    /// A packet arrives over the link.
    pub fn receive(&mut self, packet: Packet, data: Option<Tag>) {
        let Some(link) = self.link else { return };
        self.receive_over(link.id, packet, data);
    }

    /// A packet arrives, perhaps over a link that is no more.
    pub fn receive_over(&mut self, link: LinkId, packet: Packet, data: Option<Tag>) {
        let peer = self.peer();
        self.tell(Event::Packet {
            peer,
            link,
            packet,
            data,
        });
    }

    /// The timer fires, as late as it was asked for.
    pub fn timer(&mut self) {
        if let Some(wake) = self.wake.take() {
            self.now = self.now.max(wake);
            self.tell(Event::Timer);
        }
    }

    /// The process dies and comes back: of the metadata writes under way, some are on the disk.
    pub fn crash(&mut self, mut reaches: impl FnMut() -> bool) {
        for operation in std::mem::take(&mut self.meta) {
            if reaches() {
                let area = &mut self.areas[usize::from(operation.volume.0)];
                area.put(operation.offset, operation.block);
            }
        }
        self.disk.clear();
        self.outbox.clear();
        self.link = None;
        self.wake = None;
        self.checks.forget();
        self.seed += 2;
        self.engine = Resource::new(self.config.clone(), born(self.seed));
    }

    /// Everything under way ends well, and the link with it, until nothing is left to answer.
    ///
    /// # Panics
    /// When something is never answered.
    pub fn finish_everything(&mut self) {
        self.link_down(LinkLoss::Closed);
        for _ in 0..MOST_ROUNDS {
            self.finish_operations();
            if self.checks.is_all_answered() {
                return;
            }
            self.link_down(LinkLoss::Closed);
            self.timer();
        }
        panic!("L1: never answered: {}", self.checks.unanswered());
    }

    /// Ends what is under way, and what that brings about.
    pub fn finish_operations(&mut self) {
        for _ in 0..MOST_OPERATIONS {
            if !self.meta.is_empty() {
                self.finish_meta(0, None, true);
            } else if !self.disk.is_empty() {
                self.finish_disk(0, None);
            } else {
                return;
            }
        }
        panic!("L1: operations without end");
    }
}

fn born(random: u64) -> Seed {
    Seed {
        random,
        boot: BOOT,
        unix_start: 0,
    }
}

/// A block of metadata is not worth more of a line.
const LONGEST_LINE: usize = 600;

/// The boot the machine is in.
pub(super) const BOOT: u128 = 0xb007;

/// More steps than any end needs.
const MOST_ROUNDS: usize = 64;
const MOST_OPERATIONS: usize = 100_000;
