//! The last few thousand events of a resource, for the log after a crash.
//!
//! Only kinds and numbers are kept: never payload, nothing that has to be allocated.

use rbd_engine::{Command, Event, HandlerResult, RequestKind, Time};
use rbd_protocol::peer::Kind;
use tracing::error;

use super::buffer::Buffer;

/// A ring of records.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    records: Vec<Record>,
    next: usize,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    time: Time,
    what: What,
}

/// An event without its contents.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "read by its Debug form only")]
enum What {
    Request {
        id: u64,
        kind: RequestKind,
        offset: u64,
        length: u32,
    },
    DiskDone {
        id: u64,
        done: bool,
    },
    MetaDone {
        id: u64,
        done: bool,
    },
    LinkUp {
        peer: u8,
        link: u64,
    },
    LinkDown {
        peer: u8,
        link: u64,
    },
    Packet {
        peer: u8,
        link: u64,
        kind: Kind,
    },
    Timer,
    Command {
        call: u64,
        name: &'static str,
    },
    HandlerDone {
        id: u64,
        result: HandlerResult,
    },
    Openers {
        volume: u16,
        count: u32,
    },
}

impl Recorder {
    pub(super) fn record(&mut self, time: Time, event: &Event<Buffer>) {
        let record = Record {
            time,
            what: What::of(event),
        };
        if self.records.len() < CAPACITY {
            self.records.push(record);
        } else {
            self.records[self.next] = record;
            self.next = (self.next + 1) % CAPACITY;
        }
    }

    /// Writes all records to the log, oldest first.
    pub(super) fn dump(&self) {
        let (newer, older) = self.records.split_at(self.next);
        for Record { time, what } in older.iter().chain(newer) {
            error!(time = time.0, ?what, "before the failure");
        }
    }
}

impl What {
    fn of(event: &Event<Buffer>) -> Self {
        match event {
            Event::Request {
                id, kind, range, ..
            } => Self::Request {
                id: id.0,
                kind: *kind,
                offset: range.offset,
                length: range.length,
            },
            Event::DiskDone { id, result } => Self::DiskDone {
                id: id.0,
                done: result.is_ok(),
            },
            Event::Digests { id, result } => Self::DiskDone {
                id: id.0,
                done: result.is_ok(),
            },
            Event::Measured { id, result } => Self::DiskDone {
                id: id.0,
                done: result.is_ok(),
            },
            Event::SizeNoted { id, result } => Self::DiskDone {
                id: id.0,
                done: result.is_ok(),
            },
            Event::MetaDone { id, result } => Self::MetaDone {
                id: id.0,
                done: result.is_ok(),
            },
            Event::LinkUp { peer, link } => Self::LinkUp {
                peer: peer.0,
                link: link.0,
            },
            Event::LinkDown { peer, link, .. } => Self::LinkDown {
                peer: peer.0,
                link: link.0,
            },
            Event::Packet {
                peer, link, packet, ..
            } => Self::Packet {
                peer: peer.0,
                link: link.0,
                kind: packet.kind(),
            },
            Event::Timer => Self::Timer,
            Event::Command { call, command } => Self::Command {
                call: call.0,
                name: name(command),
            },
            Event::HandlerDone { id, result } => Self::HandlerDone {
                id: id.0,
                result: *result,
            },
            Event::Openers { volume, count } => Self::Openers {
                volume: volume.0,
                count: *count,
            },
        }
    }
}

fn name(command: &Command) -> &'static str {
    match command {
        Command::Attach { .. } => "attach",
        Command::Detach { .. } => "detach",
        Command::Configure(_) => "configure",
        Command::Connect { .. } => "connect",
        Command::Resolve { .. } => "resolve",
        Command::Disconnect { .. } => "disconnect",
        Command::Promote { .. } => "promote",
        Command::Migrate { .. } => "migrate",
        Command::Demote { .. } => "demote",
        Command::NewGeneration { .. } => "new generation",
        Command::Outdate => "outdate",
        Command::Verify { .. } => "verify",
        Command::PauseSync(_) => "pause sync",
        Command::Invalidate { .. } => "invalidate",
        Command::Resize { .. } => "resize",
        Command::SuspendIo => "suspend I/O",
        Command::ResumeIo => "resume I/O",
        Command::Stop => "stop",
    }
}

/// Enough for the last tens of milliseconds of a busy resource and the last minutes of a quiet one.
const CAPACITY: usize = 4096;
