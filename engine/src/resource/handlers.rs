//! Handlers: which one runs for which reason, and what its end means.
//!
//! A handler that is not configured is not run: nobody wants to know. Whoever needs an answer, as
//! fencing does, must not ask then (G5).

use alloc::vec::Vec;

use rbd_protocol::ids::NodeId;
use rbd_protocol::state::DiskState;

use super::Resource;
use crate::contract::{Action, Level, OperationId};
use crate::handler::{Handler, HandlerFacts, HandlerResult, Wanted};

impl<B: Clone> Resource<B> {
    /// Whether an administrator has configured this handler.
    pub(super) fn has_handler(&self, handler: Handler) -> bool {
        let mut known = self.config.handlers.iter();
        known.any(|(name, command)| name == handler.name() && !command.is_empty())
    }

    /// Starts the handlers there is a reason to run.
    pub(super) fn start_handlers(&mut self) {
        for wanted in core::mem::take(&mut self.cx.handlers) {
            if self.has_handler(wanted.handler) {
                self.start_handler(wanted);
            }
        }
    }

    /// Starts a handler that is configured.
    pub(super) fn start_handler(&mut self, wanted: Wanted) -> OperationId {
        let id = self.cx.operation_id();
        let facts = self.handler_facts(&wanted);
        self.handlers.insert(id, wanted);
        self.cx.out.push(Action::RunHandler {
            id,
            handler: wanted.handler,
            peer: wanted.peer,
            volume: wanted.volume,
            facts,
        });
        id
    }

    fn handler_facts(&self, wanted: &Wanted) -> HandlerFacts {
        let is_up_to_date = |of: &dyn Fn(&crate::volume::Volume<B>) -> DiskState| {
            let mut volumes = self.volumes.values();
            volumes.all(|volume| of(volume) == DiskState::UpToDate)
        };
        let mut up_to_date = Vec::new();
        if is_up_to_date(&|volume| volume.disk) {
            up_to_date.push(self.config.node_id);
        }
        for node in self.connections.keys() {
            let of_peer = |volume: &crate::volume::Volume<B>| {
                let peer = volume.peers.get(node);
                peer.map_or(DiskState::DUnknown, |peer| peer.peer_disk)
            };
            if is_up_to_date(&of_peer) {
                up_to_date.push(*node);
            }
        }
        let bit = |node: NodeId| 1_u32.checked_shl(u32::from(node.0)).unwrap_or(0);
        HandlerFacts {
            connection: wanted
                .peer
                .and_then(|node| self.connections.get(&node))
                .map(|connection| connection.state),
            disk: wanted
                .volume
                .and_then(|number| self.volumes.get(&number))
                .map(|volume| volume.disk),
            up_to_date_nodes: up_to_date
                .into_iter()
                .map(bit)
                .fold(0, |all, one| all | one),
        }
    }

    /// A handler has ended.
    pub(super) fn handler_done(&mut self, id: OperationId, result: HandlerResult) {
        let Some(Wanted {
            handler,
            peer,
            volume,
        }) = self.handlers.remove(&id)
        else {
            return;
        };
        match (handler, peer) {
            (Handler::FencePeer, Some(node)) => return self.fence_done(node, id, result),
            (Handler::UnfencePeer, Some(node)) => return self.unfence_done(node, id, result),
            (Handler::BeforeResyncTarget, Some(node)) => {
                return self.preparation_done(node, id, volume, result);
            }
            _ => {}
        }
        let name = handler.name();
        match result {
            HandlerResult::Exited(0) => {}
            HandlerResult::Exited(code) => {
                let text = alloc::format!("handler {name} exited with {code}");
                self.cx.report(Level::Info, peer, volume, text);
            }
            HandlerResult::Failed => {
                let text = alloc::format!("handler {name} failed or did not end in time");
                self.cx.report(Level::Warn, peer, volume, text);
            }
        }
    }
}
