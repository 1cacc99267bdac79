//! Two engines that replicate to each other, in memory: brought by the same events as in life to
//! where the first is Primary and both are UpToDate and connected.
//!
//! Disks are not simulated: every operation succeeds at once, and only metadata has content.

use std::collections::{BTreeMap, VecDeque};

use rbd_engine::{
    Action, AttachedDisk, CallId, Command, Event, LinkId, LinkLoss, Resource, Seed, Seek, Time,
};
use rbd_protocol::control::{
    MetaDisk, NetOptions, PeerConfig, ResourceConfig, ResourceOptions, VolumeConfig,
};
use rbd_protocol::ids::{NodeId, VolumeNumber};
use rbd_protocol::metadata::{
    Block, Creation, Layout, NodeName, OpenInputs, Placement, ReadError, ResourceName, Superblock,
    create, open,
};
use rbd_protocol::state::{ConnectionState, DiskState, Role};

/// A payload's handle. The daemon's is a slot number too; what it stands for is never looked at.
pub(super) type Payload = u32;

/// Two engines and what is on its way between them.
#[derive(Debug)]
pub(super) struct Pair {
    nodes: [Resource<Payload>; 2],
    seeking: [bool; 2],
    link: Option<LinkId>,
    links: u64,
    calls: u64,
    waiting: VecDeque<(usize, Event<Payload>)>,
    refusals: Vec<String>,
}

impl Pair {
    /// A pair at work: the first node Primary, or both, UpToDate and connected.
    ///
    /// Also tells the link they ended up with.
    pub(super) fn at_work(are_two: bool) -> Result<([Resource<Payload>; 2], LinkId), String> {
        let mut pair = Self {
            nodes: [0, 1].map(|node| {
                let seed = Seed {
                    random: 1 + u64::from(node),
                    boot: 1 + u128::from(node),
                    unix_start: 0,
                };
                Resource::new(config(node, are_two), seed)
            }),
            seeking: [false; 2],
            link: None,
            links: 0,
            calls: 0,
            waiting: VecDeque::new(),
            refusals: Vec::new(),
        };
        for node in [0, 1] {
            let disk = disk(node)?;
            let volume = VOLUME;
            pair.command(usize::from(node), Command::Attach { volume, disk })?;
        }
        for node in [0, 1] {
            let connect = Command::Connect {
                peer: None,
                discard_my_data: false,
                tentative: false,
            };
            pair.command(node, connect)?;
        }
        let skip_initial_sync = Command::NewGeneration {
            volume: VOLUME,
            clear_bitmap: true,
        };
        pair.command(0, skip_initial_sync)?;
        for node in 0..=usize::from(are_two) {
            pair.command(node, Command::Promote { force: false })?;
        }
        pair.check(are_two)?;
        let link = pair.link.ok_or("the two engines have no link")?;
        Ok((pair.nodes, link))
    }

    fn command(&mut self, node: usize, command: Command) -> Result<(), String> {
        let wish = format!("{command:.40?}");
        self.calls += 1;
        let call = CallId(self.calls);
        self.waiting
            .push_back((node, Event::Command { call, command }));
        self.settle();
        match self.refusals.pop() {
            None => Ok(()),
            Some(refusal) => Err(format!("the engine refused {wish}: {refusal}")),
        }
    }

    /// Delivers events until there are none.
    fn settle(&mut self) {
        let mut actions = Vec::new();
        while let Some((at, event)) = self.waiting.pop_front() {
            let Some(node) = self.nodes.get_mut(at) else {
                return;
            };
            node.handle(NOW, event, &mut actions);
            for action in actions.drain(..) {
                self.perform(at, action);
            }
            if self.link.is_none() && self.seeking == [true; 2] {
                self.seeking = [false; 2];
                self.links += 1;
                let link = LinkId(self.links);
                self.link = Some(link);
                for at in [0, 1] {
                    let peer = node_id(1 - at);
                    self.waiting.push_back((at, Event::LinkUp { peer, link }));
                }
            }
        }
    }

    fn perform(&mut self, at: usize, action: Action<Payload>) {
        let event = match action {
            Action::Disk { id, data, .. } => (
                at,
                Event::DiskDone {
                    id,
                    result: Ok(data),
                },
            ),
            Action::Meta { id, .. } => (at, Event::MetaDone { id, result: Ok(()) }),
            Action::Send {
                link, packet, data, ..
            } if self.link == Some(link) => {
                let peer = node_id(at);
                let packet = Event::Packet {
                    peer,
                    link,
                    packet,
                    data,
                };
                (1 - at, packet)
            }
            Action::DropLink { link, loss, .. } if self.link == Some(link) => {
                self.link = None;
                let peer = node_id(at);
                let closed = LinkLoss::Closed;
                let down = Event::LinkDown {
                    peer,
                    link,
                    loss: closed,
                };
                self.waiting.push_back((1 - at, down));
                let peer = node_id(1 - at);
                (at, Event::LinkDown { peer, link, loss })
            }
            Action::SeekLink { seek, .. } => {
                if let Some(seeking) = self.seeking.get_mut(at) {
                    *seeking = seek != Seek::Stop;
                }
                return;
            }
            Action::Reply { result, .. } => {
                if let Err(refusal) = result {
                    self.refusals.push(format!("{refusal:?}"));
                }
                return;
            }
            Action::Send { .. }
            | Action::DropLink { .. }
            | Action::Complete { .. }
            | Action::WakeAt(_)
            | Action::ReleaseDisk { .. }
            | Action::CloseClients { .. }
            | Action::RunHandler { .. }
            | Action::Measure { .. }
            | Action::NoteSize { .. }
            | Action::NoteOfDisk { .. }
            | Action::Migration(_)
            | Action::Report(_) => return,
        };
        self.waiting.push_back(event);
    }

    fn check(&self, are_two: bool) -> Result<(), String> {
        let status = |at: usize| self.nodes.get(at).map(|node| node.status(NOW));
        let (Some(first), Some(second)) = (status(0), status(1)) else {
            return Err("a node of the pair is missing".to_owned());
        };
        let in_sync = [&first, &second].into_iter().all(|status| {
            let disks = status.devices.iter().map(|device| device.disk_state);
            let links = status.connections.iter().map(|peer| peer.connection_state);
            disks.eq([DiskState::UpToDate]) && links.eq([ConnectionState::Connected])
        });
        let is_second = second.role == Role::Primary;
        if in_sync && first.role == Role::Primary && is_second == are_two {
            Ok(())
        } else {
            Err(format!(
                "the two engines did not get to work: {first:?}; {second:?}"
            ))
        }
    }
}

/// The node-id of a place in the pair.
pub(super) fn node_id(at: usize) -> NodeId {
    if at == 0 { NodeId(0) } else { NodeId(1) }
}

fn config(node: u8, are_two: bool) -> ResourceConfig {
    let peer = PeerConfig {
        name: node_name(1 - node).to_owned(),
        node_id: NodeId(1 - node),
        address: String::new(),
        net: NetOptions {
            two_primaries: are_two,
            ..NetOptions::default()
        },
    };
    let volume = VolumeConfig {
        number: VOLUME,
        device: String::new(),
        minor: None,
        disk: Some(String::new()),
        meta_disk: MetaDisk::Internal,
        size_limit_bytes: None,
        exports: Vec::new(),
        kernel: rbd_protocol::control::KernelExport::None,
        resync: Vec::new(),
        on_disk_trouble: rbd_protocol::control::DiskTrouble::default(),
        resync_after: None,
    };
    ResourceConfig {
        name: RESOURCE.to_owned(),
        defined_at: String::new(),
        config_path: String::new(),
        node_name: node_name(node).to_owned(),
        node_id: NodeId(node),
        listen: None,
        peers: vec![peer],
        volumes: vec![volume],
        options: ResourceOptions::default(),
        handlers: Vec::new(),
    }
}

/// A disk with just-created metadata, read back from memory.
fn disk(node: u8) -> Result<AttachedDisk, String> {
    let device_bytes = VOLUME_BYTES + METADATA_BYTES;
    let placement = Placement::Internal;
    let layout = Layout::new(device_bytes, placement, 1, Some(VOLUME_BYTES))
        .map_err(|error| format!("no metadata layout: {error}"))?;
    let creation = Creation {
        resource: ResourceName::new(RESOURCE).map_err(|error| error.to_string())?,
        node: NodeName::new(node_name(node)).map_err(|error| error.to_string())?,
        node_id: NodeId(node),
        volume: VOLUME,
        device_id: 1 + u64::from(node),
        created_at: 0,
    };
    let superblock = Superblock::new(creation, &layout);
    let blocks: BTreeMap<u64, Box<Block>> = create(&superblock, &layout)
        .map(|write| (write.offset, write.block))
        .collect();
    let mut read = |offset: u64, buffer: &mut [u8]| -> Result<(), ReadError> {
        let mut at = offset;
        for part in buffer.chunks_mut(size_of::<Block>()) {
            match blocks.get(&at) {
                Some(block) if part.len() == block.len() => part.copy_from_slice(&**block),
                Some(_) | None => part.fill(0),
            }
            at += size_of::<Block>() as u64;
        }
        Ok(())
    };
    let inputs = OpenInputs {
        device_bytes,
        placement,
        resource: RESOURCE,
        node: node_name(node),
        node_id: NodeId(node),
        volume: VOLUME,
        accept_older_superblock: false,
    };
    let image = open(&mut read, &inputs).map_err(|error| format!("no metadata: {error}"))?;
    Ok(AttachedDisk::new(
        Box::new(image),
        4096,
        rbd_protocol::control::WriteCache::Volatile,
    ))
}

fn node_name(node: u8) -> &'static str {
    if node == 0 { "alpha" } else { "beta" }
}

/// The volume that is written to.
pub(super) const VOLUME: VolumeNumber = VolumeNumber(0);

/// Its size: 4096 regions, fewer than may stay marked, as in a well-kept workload.
pub(super) const VOLUME_BYTES: u64 = 16 << 30;

const METADATA_BYTES: u64 = 64 << 20;
const RESOURCE: &str = "r0";
const NOW: Time = Time(1);
