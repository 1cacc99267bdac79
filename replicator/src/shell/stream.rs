//! One connected socket: bytes in with a small buffer, batches out, one operation each way.
//!
//! What arrives is parsed in place. A payload is copied out of the small buffer, or, when much of
//! it is still to come, received straight into its own aligned memory. A small buffer bounds the
//! work of one turn, which is what keeps both ends of a connection busy at the same time. What the
//! bytes mean is the business of the client and link rooms.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::Shutdown;

use super::Token;
use super::batch::Batch;
use super::buffer::Buffer;
use super::operation::{Operation, Parcel};
use super::ring::{Completion, Ring};

/// A socket that belongs to the ring.
#[derive(Debug)]
pub(super) struct Stream {
    socket: Rc<OwnedFd>,
    inbound: Inbound,
    outbound: Outbound,
}

#[derive(Debug)]
struct Inbound {
    /// Not here while the kernel fills it.
    memory: Option<Box<[u8]>>,
    /// The bytes that have arrived and not been consumed.
    start: usize,
    end: usize,
    /// A payload that is being gathered; with the kernel while `is_receiving_payload`.
    payload: Option<Payload>,
    /// Bytes to throw away before anything else.
    skip: usize,
    is_receiving: bool,
    is_over: bool,
}

#[derive(Debug)]
struct Payload {
    /// Not here while the kernel fills it.
    buffer: Option<Buffer>,
    filled: usize,
}

#[derive(Debug)]
struct Outbound {
    /// What is collected for the next send.
    collecting: Batch,
    /// Not here while the kernel reads it.
    parcel: Option<Box<Parcel>>,
    /// How much the kernel has been given and has not reported as sent.
    bytes_in_flight: usize,
    is_over: bool,
}

impl Stream {
    /// Takes a connected socket over, with bytes that were received before.
    pub(super) fn new(socket: OwnedFd, leftover: &[u8]) -> Self {
        // The ring waits by itself; a non-blocking socket would only make it give up early. That
        // small packets should go at once, and that a vanished host should be noticed, are wishes
        // that not every kind of socket understands.
        if let Ok(flags) = rustix::fs::fcntl_getfl(&socket)
            && flags.contains(OFlags::NONBLOCK)
        {
            let _unchanged = rustix::fs::fcntl_setfl(&socket, flags - OFlags::NONBLOCK);
        }
        let _unsupported = rustix::net::sockopt::set_tcp_nodelay(&socket, true);
        let _unsupported = rustix::net::sockopt::set_socket_keepalive(&socket, true);
        let mut memory = vec![0; RECEIVE_BYTES.max(leftover.len())].into_boxed_slice();
        memory[..leftover.len()].copy_from_slice(leftover);
        Self {
            socket: Rc::new(socket),
            inbound: Inbound {
                memory: Some(memory),
                start: 0,
                end: leftover.len(),
                payload: None,
                skip: 0,
                is_receiving: false,
                is_over: false,
            },
            outbound: Outbound {
                collecting: Batch::default(),
                parcel: Some(Box::new(Parcel::new())),
                bytes_in_flight: 0,
                is_over: false,
            },
        }
    }

    /// The next `length` bytes if they have arrived. They stay until consumed.
    pub(super) fn peek(&self, length: usize) -> Option<&[u8]> {
        let inbound = &self.inbound;
        if inbound.skip > 0 {
            return None;
        }
        let arrived = &inbound.memory.as_ref()?[inbound.start..inbound.end];
        arrived.get(..length)
    }

    /// Passes over bytes that were peeked at.
    pub(super) fn consume(&mut self, length: usize) {
        self.inbound.start += length;
        assert!(
            self.inbound.start <= self.inbound.end,
            "only bytes that have arrived are consumed"
        );
    }

    /// Throws the next `length` bytes away, arrived or not.
    pub(super) fn skip(&mut self, length: usize) {
        self.inbound.skip += length;
        self.inbound.pass_over();
    }

    /// Starts to gather a payload.
    pub(super) fn gather(&mut self, buffer: Buffer) {
        self.inbound.payload = Some(Payload {
            buffer: Some(buffer),
            filled: 0,
        });
    }

    /// The payload, when it is whole.
    pub(super) fn gathered(&mut self) -> Option<Buffer> {
        self.inbound.gathered()
    }

    /// Asks for more bytes, unless that has been done or none will come.
    pub(super) fn receive(&mut self, ring: &mut Ring<Token>, token: Token) {
        if self.inbound.is_receiving || self.inbound.is_over {
            return;
        }
        if let Some(operation) = self.inbound.operation(&self.socket) {
            self.inbound.is_receiving = true;
            ring.start_last(token, operation);
        }
    }

    /// The answer to [`receive`](Self::receive) has come.
    pub(super) fn received(&mut self, completion: Completion<Token>) {
        self.inbound.received(completion);
    }

    /// Where to put what is to be sent.
    pub(super) fn outgoing(&mut self) -> &mut Batch {
        &mut self.outbound.collecting
    }

    /// Starts to send what has been collected, unless a send is under way.
    pub(super) fn send(&mut self, ring: &mut Ring<Token>, token: Token) {
        let outbound = &mut self.outbound;
        if outbound.is_over {
            outbound.collecting.clear();
            return;
        }
        if let Some(mut parcel) = outbound.parcel.take() {
            if parcel.batch.is_empty() {
                std::mem::swap(&mut parcel.batch, &mut outbound.collecting);
            }
            if parcel.batch.is_empty() {
                outbound.parcel = Some(parcel);
            } else {
                outbound.bytes_in_flight = parcel.batch.bytes_left();
                let socket = Rc::clone(&self.socket);
                ring.start(token, Operation::Send { socket, parcel });
            }
        }
    }

    /// A send is over; what is left of it goes with the next [`send`](Self::send).
    pub(super) fn sent(&mut self, completion: Completion<Token>) {
        let Operation::Send { mut parcel, .. } = completion.operation else {
            return;
        };
        match completion.result {
            Ok(count) => parcel.batch.advance(count),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => self.outbound.is_over = true,
        }
        if self.outbound.is_over {
            parcel.batch.clear();
            self.outbound.collecting.clear();
        }
        self.outbound.bytes_in_flight = 0;
        self.outbound.parcel = Some(parcel);
    }

    /// Bytes that wait to be sent, or to be taken by the other end.
    pub(super) fn unsent_bytes(&self) -> usize {
        let outbound = &self.outbound;
        let parcel = outbound.parcel.as_ref();
        outbound.collecting.bytes_left()
            + outbound.bytes_in_flight
            + parcel.map_or(0, |parcel| parcel.batch.bytes_left())
    }

    /// Whether all that was collected has been taken by the kernel, or never will be.
    pub(super) fn has_sent_all(&self) -> bool {
        let parcel = self.outbound.parcel.as_ref();
        self.outbound.collecting.is_empty() && parcel.is_some_and(|parcel| parcel.batch.is_empty())
    }

    /// Whether nothing more will arrive.
    pub(super) fn is_inbound_over(&self) -> bool {
        self.inbound.is_over
    }

    /// Whether nothing more can be sent.
    pub(super) fn is_outbound_over(&self) -> bool {
        self.outbound.is_over
    }

    /// Whether the kernel has nothing of this socket in flight.
    pub(super) fn is_idle(&self) -> bool {
        !self.inbound.is_receiving && self.outbound.parcel.is_some()
    }

    /// Forgets what has arrived: from now on bytes are only received to be thrown away.
    pub(super) fn forget_inbound(&mut self) {
        self.inbound.start = 0;
        self.inbound.end = 0;
        self.inbound.skip = 0;
        if !self.inbound.is_receiving {
            self.inbound.payload = None;
        }
    }

    /// Tells the other end that nothing more will be sent.
    pub(super) fn close_outbound(&self) {
        // A socket that is no longer connected has nothing to be told.
        let _disconnected = rustix::net::shutdown(&self.socket, Shutdown::Write);
    }

    /// Ends the connection: operations in flight come back soon.
    pub(super) fn close(&mut self) {
        self.outbound.collecting.clear();
        let _disconnected = rustix::net::shutdown(&self.socket, Shutdown::Both);
        self.inbound.is_over = true;
        self.outbound.is_over = true;
    }
}

impl Inbound {
    /// Takes from the arrived bytes what is to be thrown away.
    fn pass_over(&mut self) {
        let passed = self.skip.min(self.end - self.start);
        if self.memory.is_some() {
            self.start += passed;
            self.skip -= passed;
        }
    }

    fn gathered(&mut self) -> Option<Buffer> {
        let payload = self.payload.as_mut()?;
        let buffer = payload.buffer.as_mut()?;
        let missing = buffer.len() - payload.filled;
        if missing > 0
            && let Some(memory) = &self.memory
        {
            let part = missing.min(self.end - self.start);
            let from = &memory[self.start..self.start + part];
            buffer.bytes_mut()[payload.filled..payload.filled + part].copy_from_slice(from);
            payload.filled += part;
            self.start += part;
        }
        if payload.filled < buffer.len() {
            return None;
        }
        self.payload.take()?.buffer
    }

    /// The operation that brings more: into the payload if that pays, else into the small buffer.
    fn operation(&mut self, socket: &Rc<OwnedFd>) -> Option<Operation> {
        let socket = Rc::clone(socket);
        if let Some(payload) = &mut self.payload
            && self.start == self.end
            && let Some(buffer) = payload
                .buffer
                .take_if(|buffer| buffer.len() - payload.filled >= STRAIGHT_BYTES)
        {
            return Some(Operation::ReceivePayload {
                socket,
                payload: buffer,
                from: payload.filled,
            });
        }
        let mut memory = self.memory.take()?;
        memory.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end == memory.len() {
            // What was asked for fits into the memory, so a full one has it.
            self.memory = Some(memory);
            return None;
        }
        Some(Operation::Receive {
            socket,
            memory,
            from: self.end,
        })
    }

    fn received(&mut self, completion: Completion<Token>) {
        self.is_receiving = false;
        let count = match completion.result {
            Ok(0) => {
                self.is_over = true;
                0
            }
            Ok(count) => count,
            Err(Errno::INTR | Errno::AGAIN) => 0,
            Err(_) => {
                self.is_over = true;
                0
            }
        };
        match completion.operation {
            Operation::Receive { memory, from, .. } => {
                self.memory = Some(memory);
                // Nothing from before is there any more if it was forgotten meanwhile.
                if self.end == from {
                    self.end += count;
                }
                self.pass_over();
            }
            Operation::ReceivePayload { payload, from, .. } => {
                if let Some(gathering) = &mut self.payload {
                    gathering.buffer = Some(payload);
                    gathering.filled = from + count;
                }
            }
            Operation::Read { .. }
            | Operation::Write { .. }
            | Operation::Sync { .. }
            | Operation::Allocate { .. }
            | Operation::Send { .. }
            | Operation::Serve { .. }
            | Operation::Await { .. } => {}
        }
    }
}

/// The small receive buffer. Measured: a larger one lets clients and servers fall into lockstep.
const RECEIVE_BYTES: usize = 32 << 10;

/// With so much of a payload still to come, it is received where it belongs. As much as the small
/// buffer, so that it never costs a second system call where one would do.
const STRAIGHT_BYTES: usize = RECEIVE_BYTES;
