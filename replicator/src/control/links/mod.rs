//! Opening links between this node and its peers, for one resource.
//!
//! Both nodes listen and both dial, so an attempt from either side is enough. What each side does
//! about the other's attempt is decided in [`seat`], in one place and without waiting; exactly one
//! link is handed to the resource for each time it asks for one. After that a link is the
//! resource's business: nothing here reads or writes a packet.

mod accept;
mod dial;
mod greet;
mod seat;
mod socket;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rbd_engine::Seek;
use rbd_protocol::control::{NetOptions, PeerConfig, ResourceConfig};
use rbd_protocol::ids::NodeId;
use rbd_protocol::peer::greeting::{Host, HostPeer};
use tokio::net::TcpListener;

use self::seat::{Failure, Seat};
use super::task::Task;
pub(super) use greet::SharedSecret;
pub(super) use socket::listen;

/// Takes over a link: the peer, the data connection, the control connection.
pub(super) type TakeLink = Box<dyn Fn(NodeId, OwnedFd, OwnedFd)>;

/// The opening of links of one resource.
pub(super) struct Links {
    shared: Rc<Shared>,
    listener: RefCell<Option<Task>>,
}

struct Shared {
    resource: String,
    take: TakeLink,
    local: RefCell<Rc<Local>>,
    seats: RefCell<BTreeMap<NodeId, Seat>>,
    closed: Cell<bool>,
}

/// This node in this resource, as configured now.
struct Local {
    node_name: String,
    node_id: NodeId,
    listen: Option<SocketAddr>,
    peers: Vec<PeerConfig>,
    host: Host<SharedSecret>,
}

impl Links {
    /// Nothing is sought yet; a listener, if there is one, answers from now on.
    pub(super) fn new(
        config: &ResourceConfig,
        listener: Option<TcpListener>,
        take: TakeLink,
    ) -> Self {
        let links = Self {
            shared: Rc::new(Shared {
                resource: config.name.clone(),
                take,
                local: RefCell::new(Rc::new(Local::new(config))),
                seats: RefCell::default(),
                closed: Cell::new(false),
            }),
            listener: RefCell::default(),
        };
        links.listen_on(listener);
        links
    }

    /// Starts or stops trying to reach a peer and accepting links from it.
    pub(super) fn seek(&self, peer: NodeId, seek: Seek) {
        if seek == Seek::Stop || self.shared.closed.get() {
            seat::stop_seeking(&self.shared, peer);
        } else {
            seat::start_seeking(&self.shared, peer, seek);
        }
    }

    /// Why there is no link to a peer that is sought; `None` while no attempt has failed.
    pub(super) fn failure(&self, peer: NodeId) -> Option<Failure> {
        seat::last_failure(&self.shared, peer)
    }

    /// Takes over another configuration. Attempts under way go on with the old one until they end.
    pub(super) fn configure(&self, config: &ResourceConfig) {
        *self.shared.local.borrow_mut() = Rc::new(Local::new(config));
    }

    /// Listens here instead of where it listened before, if anywhere.
    pub(super) fn listen_on(&self, listener: Option<TcpListener>) {
        let shared = &self.shared;
        *self.listener.borrow_mut() =
            listener.map(|listener| Task::spawn(accept::accept_calls(Rc::clone(shared), listener)));
    }

    /// Stops listening and everything that is under way.
    pub(super) fn close(&self) {
        self.shared.closed.set(true);
        self.listener.borrow_mut().take();
        self.shared.seats.borrow_mut().clear();
    }
}

impl Shared {
    fn local(&self) -> Rc<Local> {
        Rc::clone(&self.local.borrow())
    }
}

impl Local {
    fn new(config: &ResourceConfig) -> Self {
        Self {
            node_name: config.node_name.clone(),
            node_id: config.node_id,
            listen: config
                .listen
                .as_ref()
                .and_then(|address| address.parse().ok()),
            peers: config.peers.clone(),
            host: Host {
                resource: config.name.clone(),
                node_name: config.node_name.clone(),
                node_id: config.node_id,
                peers: config.peers.iter().map(host_peer).collect(),
            },
        }
    }

    fn peer(&self, node: NodeId) -> Option<&PeerConfig> {
        self.peers.iter().find(|peer| peer.node_id == node)
    }

    /// The options sockets get before it is known who is there.
    fn listener_options(&self) -> NetOptions {
        self.peers
            .first()
            .map(|peer| peer.net.clone())
            .unwrap_or_default()
    }
}

fn host_peer(peer: &PeerConfig) -> HostPeer<SharedSecret> {
    HostPeer {
        name: peer.name.clone(),
        node_id: peer.node_id,
        secret: peer.net.shared_secret.as_deref().map(SharedSecret::new),
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links")
            .field("resource", &self.shared.resource)
            .finish_non_exhaustive()
    }
}
