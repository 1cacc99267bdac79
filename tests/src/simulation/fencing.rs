//! The administrator's handlers as the simulation has them.

use rbd_engine::{Event, Handler, HandlerResult, OperationId};

use super::world::{Happening, World};

/// The end of a handler.
#[derive(Clone, Copy, Debug)]
pub(super) struct HandlerEnd {
    node: usize,
    life: u64,
    id: OperationId,
    result: HandlerResult,
}

impl World {
    /// A handler is to be run: it takes its time, and is of no use.
    pub(super) fn run_handler(&mut self, node: usize, id: OperationId, handler: Handler) {
        self.note(|| format!("node {node}: handler {}", handler.name()));
        let end = HandlerEnd {
            node,
            life: self.nodes[node].life,
            id,
            result: HandlerResult::Failed,
        };
        let delay = self.random.magnitude(100, 1_000_000);
        self.after_us(delay, Happening::HandlerDone(end));
    }

    /// A handler has ended; if its process is not there any more, nobody is told.
    pub(super) fn handler_ended(&mut self, end: &HandlerEnd) {
        if self.lives(end.node, end.life) {
            let (id, result) = (end.id, end.result);
            self.tell(end.node, Event::HandlerDone { id, result });
        }
    }
}
