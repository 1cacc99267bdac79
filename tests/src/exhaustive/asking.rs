//! What clients and administrators ask of the nodes, and what they are answered.

use rbd_engine::{CallId, Command, Event, RequestError, RequestId, RequestKind};
use rbd_protocol::control::Refusal;
use rbd_protocol::ids::ByteRange;

use super::disk::{Data, touched};
use super::geometry::write_range;
use super::node::VOLUME;
use super::world::World;

/// A client's request.
#[derive(Clone, Debug)]
pub(super) struct Request {
    id: u64,
    pub(super) node: usize,
    what: Asked,
}

#[derive(Clone, Debug)]
enum Asked {
    Write {
        range: ByteRange,
        value: u8,
        fua: bool,
    },
    Flush {
        covered: Data,
    },
}

/// What a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Attach,
    Connect,
    Promote,
    ForcePromote,
    Demote,
    Disconnect,
    /// Give up this node's changes in a split brain.
    ConnectDiscarding,
    /// Demote this node, then promote the other.
    HandOver,
    SkipSync,
}

impl World {
    pub(super) fn command(&mut self, node: usize, wish: Wish) {
        let command = match wish {
            Wish::Attach => match self.nodes[node].attachable() {
                Ok(disk) => Command::Attach {
                    volume: VOLUME,
                    disk,
                },
                Err(text) => return self.violation(text),
            },
            Wish::Connect => Command::Connect {
                peer: None,
                discard_my_data: false,
                tentative: false,
            },
            Wish::Promote => Command::Promote { force: false },
            Wish::Demote | Wish::HandOver => Command::Demote { force: false },
            Wish::ForcePromote => Command::Promote { force: true },
            Wish::Disconnect => Command::Disconnect {
                peer: None,
                force: true,
            },
            Wish::ConnectDiscarding => Command::Connect {
                peer: None,
                discard_my_data: true,
                tentative: false,
            },
            Wish::SkipSync => Command::NewGeneration {
                volume: VOLUME,
                clear_bitmap: true,
            },
        };
        let call = self.name();
        self.calls.push((call, node, wish));
        self.tell(
            node,
            Event::Command {
                call: CallId(call),
                command,
            },
        );
        self.check();
    }

    pub(super) fn replied(
        &mut self,
        node: usize,
        call: CallId,
        result: &Result<Option<String>, Refusal>,
    ) {
        let Some(at) = self.calls.iter().position(|(id, ..)| *id == call.0) else {
            return self.violation(format!("node {node}: {call:?} is answered twice"));
        };
        let (_, _, wish) = self.calls.remove(at);
        match (wish, result) {
            // The link may have been cut in the meantime.
            (Wish::HandOver, Ok(_)) if self.may_promote(1 - node) => {
                self.command(1 - node, Wish::Promote);
            }
            (Wish::Attach, Err(refusal)) => {
                self.violation(format!("node {node}: attach refused: {refusal:?}"));
            }
            _ => {}
        }
    }

    /// A client of a node writes a block.
    pub(super) fn write(&mut self, node: usize, block: usize, value: u8, fua: bool) {
        let range = write_range(block);
        let mut data = Data::default();
        for sector in touched(range) {
            data[sector] = value;
            self.sectors.issue(sector, value);
        }
        let kind = RequestKind::Write { fua };
        self.request(node, Asked::Write { range, value, fua }, kind, Some(data));
    }

    /// A client of a node flushes.
    pub(super) fn flush(&mut self, node: usize) {
        let covered = self.sectors.lo;
        self.request(node, Asked::Flush { covered }, RequestKind::Flush, None);
    }

    fn request(&mut self, node: usize, what: Asked, kind: RequestKind, data: Option<Data>) {
        let range = match what {
            Asked::Write { range, .. } => range,
            Asked::Flush { .. } => ByteRange::new(0, 0),
        };
        let id = self.name();
        self.requests.push(Request { id, node, what });
        let (id, volume) = (RequestId(id), VOLUME);
        self.tell(
            node,
            Event::Request {
                id,
                volume,
                kind,
                range,
                data,
            },
        );
        self.check();
    }

    pub(super) fn completed(
        &mut self,
        node: usize,
        id: RequestId,
        result: &Result<Option<Data>, RequestError>,
    ) {
        let Some(at) = self.requests.iter().position(|request| request.id == id.0) else {
            return self.violation(format!("node {node}: {id:?} is completed twice"));
        };
        let request = self.requests.remove(at);
        match (result, request.what) {
            (Ok(_), Asked::Write { range, value, fua }) => {
                for sector in touched(range) {
                    self.sectors.acknowledge(sector, value, fua);
                }
            }
            (Ok(_), Asked::Flush { covered }) => self.sectors.flushed(covered),
            (Err(RequestError::NotPrimary), _) => {}
            (Err(error), what) => {
                self.violation(format!("node {node}: {what:?} failed: {error:?}"));
            }
        }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.requests.is_empty() && self.calls.is_empty()
    }

    pub(super) fn has_calls(&self) -> bool {
        !self.calls.is_empty()
    }

    /// Names everything clients and operators still wait for.
    pub(super) fn waiting(&self) -> String {
        format!("{:?} {:?}", self.requests, self.calls)
    }
}
