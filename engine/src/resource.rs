//! One resource on this node: its public face.

use alloc::vec::Vec;

use rbd_protocol::control::{ResourceConfig, ResourceStatus};
use rbd_protocol::ids::{NodeId, VolumeNumber};
use rbd_protocol::state::Role;

use crate::contract::{Action, Event, Room, Time, VolumeFacts};

/// What a resource takes from outside at its birth because it cannot make it itself.
#[derive(Clone, Copy, Debug)]
pub struct Seed {
    /// Feeds the generator of generation identifiers and incarnations; from the system's
    /// randomness.
    pub random: u64,
    /// Identifies the boot of this host.
    pub boot: u128,
}

/// One resource on this node: its state and every decision about it.
#[derive(Debug)]
pub struct Resource<B> {
    config: ResourceConfig,
    data: core::marker::PhantomData<B>,
}

impl<B: Clone> Resource<B> {
    /// A resource without disks and without links: Secondary, Diskless, StandAlone.
    #[must_use]
    pub fn new(config: ResourceConfig, _seed: Seed) -> Self {
        Self {
            config,
            data: core::marker::PhantomData,
        }
    }

    /// Takes one event and appends what is to be done about it.
    pub fn handle(&mut self, _now: Time, _event: Event<B>, _actions: &mut Vec<Action<B>>) {}

    /// A snapshot for people.
    #[must_use]
    pub fn status(&self, _now: Time) -> ResourceStatus {
        ResourceStatus {
            name: self.config.name.clone(),
            node_id: self.config.node_id,
            role: Role::Secondary,
            devices: Vec::new(),
            connections: Vec::new(),
        }
    }

    /// This node's role.
    #[must_use]
    pub fn role(&self) -> Role {
        Role::Secondary
    }

    /// Which peer is Primary, if one is known to be.
    #[must_use]
    pub fn primary_peer(&self) -> Option<NodeId> {
        None
    }

    /// How much more client work it takes now.
    #[must_use]
    pub fn room(&self) -> Room {
        Room {
            requests: 256,
            bytes: 64 << 20,
        }
    }

    /// How much more the links may deliver of bulk data from this peer.
    #[must_use]
    pub fn link_room(&self, _peer: NodeId) -> Room {
        Room {
            requests: 256,
            bytes: 64 << 20,
        }
    }

    /// What an export must know of the volume; `None` while it cannot be served.
    #[must_use]
    pub fn volume_facts(&self, _volume: VolumeNumber) -> Option<VolumeFacts> {
        None
    }

    /// Whether [`Command::Stop`](crate::Command::Stop) was accepted and nothing is in flight any
    /// more: the resource may be dropped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        true
    }
}
