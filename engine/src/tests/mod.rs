//! One resource under a test's hands: it is told events, one by one, and what it asks for is looked
//! at and answered by hand. The peer is whatever the test says it is.

mod fencing;
mod promotion;
mod silence;
mod stability;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use rbd_protocol::control::{
    MetaDisk, NetOptions, PeerConfig, ResourceConfig, ResourceOptions, VolumeConfig, WriteCache,
};
use rbd_protocol::ids::{ByteRange, GenerationId, NodeId, VolumeNumber};
use rbd_protocol::metadata::{
    Creation, Image, Layout, NodeName, PeerBitmap, Placement, ResourceName, Superblock,
    required_external_bytes,
};
use rbd_protocol::peer::{Hello, Packet};
use rbd_protocol::state::{DiskState, Role};

use crate::{
    Action, AttachedDisk, CallId, Command, DiskError, DiskRequest, Event, LinkId, OperationId,
    RequestError, RequestId, RequestKind, Resource, Seed, Time,
};

pub(crate) const VOLUME: VolumeNumber = VolumeNumber(0);
const OWN: NodeId = NodeId(0);
pub(crate) const PEER: NodeId = NodeId(1);
pub(crate) const LINK: LinkId = LinkId(1);
const SIZE: u64 = 64 << 20;

/// A resource, and what it has asked for that has not been answered.
pub(crate) struct Bench {
    pub(crate) engine: Resource<u32>,
    pub(crate) now: Time,
    pub(crate) asked: Vec<Action<u32>>,
    names: u64,
    /// What the disk says of itself, as it was last written.
    pub(crate) superblock: Option<Superblock>,
}

impl Bench {
    /// A Secondary with a disk, in sync with its peer.
    pub(crate) fn in_sync() -> Self {
        Self::in_sync_as(config())
    }

    pub(crate) fn in_sync_as(config: ResourceConfig) -> Self {
        let seed = Seed {
            random: 1,
            boot: 7,
            unix_start: 0,
        };
        let mut bench = Self {
            engine: Resource::new(config, seed),
            now: Time(1_000_000_000),
            asked: Vec::new(),
            names: 0,
            superblock: None,
        };
        let disk = AttachedDisk {
            image: Box::new(image()),
            block_bytes: 512,
            write_cache: WriteCache::Volatile,
        };
        bench.command(Command::Attach {
            volume: VOLUME,
            disk,
        });
        bench.command(Command::Connect {
            peer: None,
            discard_my_data: false,
            tentative: false,
        });
        bench.tell(Event::LinkUp {
            peer: PEER,
            link: LINK,
        });
        bench.write_metadata();
        let hello = bench.greeting();
        bench.packet(Packet::Hello(Box::new(Hello {
            incarnation: 99,
            ..hello
        })));
        bench.write_metadata();
        assert_eq!(bench.disk_state(), DiskState::UpToDate);
        bench.asked.clear();
        bench
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

    pub(crate) fn greeting(&mut self) -> Hello {
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
                packet: Packet::PromoteRequest { id },
                ..
            } => Some(*id),
            _ => None,
        });
        let id = id.expect("the peer was asked");
        self.packet(Packet::PromoteReply { id, granted: true });
    }

    pub(crate) fn tell(&mut self, event: Event<u32>) {
        self.engine.handle(self.now, event, &mut self.asked);
    }

    pub(crate) fn packet(&mut self, packet: Packet) {
        let (peer, link) = (PEER, LINK);
        let bulk = matches!(packet, Packet::Write { .. } | Packet::ResyncData { .. });
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
        let result = result.map(|()| (kind == DiskRequest::Read).then_some(3));
        self.tell(Event::DiskDone { id, result });
        true
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

    /// How the request ended, if it has.
    pub(crate) fn answer(&self, request: RequestId) -> Option<Result<(), RequestError>> {
        self.asked.iter().find_map(|action| match action {
            Action::Complete { id, result } if *id == request => Some(result.map(|_| ())),
            _ => None,
        })
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

    /// Lets time pass and the timer fire.
    pub(crate) fn wait_ms(&mut self, milliseconds: u64) {
        self.now = self.now.plus_ms(milliseconds);
        self.tell(Event::Timer);
    }
}

fn image() -> Image {
    let placement = Placement::External {
        offset: 0,
        available: required_external_bytes(SIZE, 1),
    };
    let layout = Layout::new(SIZE, placement, 1, None).expect("there is room");
    let creation = Creation {
        resource: ResourceName::new("r0").expect("short"),
        node: NodeName::new("alpha").expect("short"),
        node_id: OWN,
        volume: VOLUME,
        device_id: 7,
        created_at: 0,
    };
    let mut superblock = Superblock::new(creation, &layout);
    superblock.generation = GenerationId(0x1000);
    superblock.flags.consistent = true;
    superblock.flags.was_up_to_date = true;
    superblock.peers[0].node_id = Some(PEER);
    superblock.peers[0].name = NodeName::new("beta").expect("short");
    superblock.peers[0].flags.full_sync = false;
    superblock.peers[0].flags.seen = true;
    Image {
        superblock,
        layout,
        hot_regions: Vec::new(),
        intent_sequences: vec![1],
        peers: vec![PeerBitmap::Pages(BTreeMap::new())],
        bitmap_sequence: 1,
        damage: Vec::new(),
    }
}

pub(crate) fn config() -> ResourceConfig {
    ResourceConfig {
        name: String::from("r0"),
        defined_at: String::new(),
        config_path: String::new(),
        node_name: String::from("alpha"),
        node_id: OWN,
        listen: None,
        peers: vec![PeerConfig {
            name: String::from("beta"),
            node_id: PEER,
            address: String::new(),
            net: NetOptions::default(),
        }],
        volumes: vec![VolumeConfig {
            number: VOLUME,
            device: String::new(),
            minor: None,
            disk: None,
            meta_disk: MetaDisk::Internal,
            size_limit_bytes: None,
            exports: Vec::new(),
        }],
        options: ResourceOptions::default(),
        handlers: Vec::new(),
    }
}
