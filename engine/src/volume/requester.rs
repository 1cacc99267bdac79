//! Whom a request is done for: a client of this node, or a peer that has no usable data of its own
//! and has its clients served from here. Both are done alike: what a peer asks for is ordered,
//! marked and made durable like a client's request, because this disk is the only one that gets
//! it.

use rbd_protocol::ids::{ByteRange, NodeId};
use rbd_protocol::peer::{FailureCode, Packet};

use super::{Volume, scrub};
use crate::context::Context;
use crate::contract::{LinkId, RequestError, RequestId};
use crate::local_disk::LocalDisk;

/// Whom a request is done for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Requester {
    /// A client of this node.
    Client(RequestId),
    /// A peer, under its own name for it.
    Peer { node: NodeId, link: LinkId, id: u64 },
    /// This node, which reads what a verify could not.
    Scrub(scrub::Piece),
}

impl Requester {
    /// The peer it is, if it is one.
    pub(crate) fn peer(self) -> Option<NodeId> {
        match self {
            Self::Peer { node, .. } => Some(node),
            Self::Client(_) | Self::Scrub(_) => None,
        }
    }

    /// Whether it is this peer.
    pub(crate) fn is_peer(self, peer: NodeId) -> bool {
        matches!(self, Self::Peer { node, .. } if node == peer)
    }
}

impl<B: Clone> Volume<B> {
    /// Whether it is a peer that asked over a link that is gone: it will ask again.
    pub(super) fn is_for_nobody(&self, requester: Requester) -> bool {
        let Requester::Peer { node, link, .. } = requester else {
            return false;
        };
        let peer = self.peers.get(&node);
        peer.is_none_or(|peer| peer.link != Some(link))
    }

    /// Answers a request that covered this range.
    pub(super) fn answer(
        &mut self,
        requester: Requester,
        range: ByteRange,
        result: Result<Option<B>, RequestError>,
        cx: &mut Context<B>,
    ) {
        let (node, link, id) = match requester {
            Requester::Client(request) => {
                cx.client_bytes = cx.client_bytes.saturating_sub(u64::from(range.length));
                cx.complete(request, result);
                return;
            }
            Requester::Peer { node, link, id } => (node, link, id),
            Requester::Scrub(piece) => {
                self.scrubbed(piece);
                return;
            }
        };
        self.unsettled = true; // a handshake may wait for the last of an older link's
        let volume = self.number;
        let local = self.local.as_ref();
        let (packet, data) = match result {
            Ok(Some(data)) => (Packet::RemoteData { id, volume, range }, Some(data)),
            Ok(None) => {
                let generation = local.map_or_else(Default::default, LocalDisk::current);
                let packet = Packet::RemoteDone {
                    id,
                    volume,
                    generation,
                };
                (packet, None)
            }
            Err(error) => {
                let code = match error {
                    _ if local.is_none() => FailureCode::NoDisk,
                    RequestError::NoSpace => FailureCode::NoSpace,
                    RequestError::Io | RequestError::Invalid | RequestError::NotPrimary => {
                        FailureCode::Io
                    }
                };
                (Packet::RemoteFailed { id, volume, code }, None)
            }
        };
        cx.send(node, link, packet, data);
    }
}
