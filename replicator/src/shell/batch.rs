//! What one socket is to send: small owned bytes and shared payloads, in order.
//!
//! A batch collects while another one is with the kernel, and knows how much of itself has gone
//! out. It never touches the socket.

use std::collections::VecDeque;

use super::buffer::Buffer;

/// Bytes to send, in the order they were appended.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Headers and small bodies, one after the other.
    arena: Vec<u8>,
    pieces: VecDeque<Piece>,
    /// How much of the first piece has gone out.
    sent_of_first: usize,
    bytes: usize,
}

#[derive(Debug)]
enum Piece {
    /// A part of the arena.
    Small { start: usize, end: usize },
    /// A payload.
    Payload(Buffer),
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Bytes that have not gone out.
    pub(super) fn bytes_left(&self) -> usize {
        self.bytes
    }

    /// Lets `write` append small bytes.
    pub(super) fn append(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.arena.len();
        write(&mut self.arena);
        let end = self.arena.len();
        if start == end {
            return;
        }
        self.bytes += end - start;
        match self.pieces.back_mut() {
            Some(Piece::Small { end: last_end, .. }) => *last_end = end,
            Some(Piece::Payload(_)) | None => self.pieces.push_back(Piece::Small { start, end }),
        }
    }

    /// Appends a payload.
    pub(super) fn append_payload(&mut self, payload: Buffer) {
        if payload.len() > 0 {
            self.bytes += payload.len();
            self.pieces.push_back(Piece::Payload(payload));
        }
    }

    /// The pieces that have not gone out, as the kernel wants them, at most `limit`.
    pub(super) fn rest(&self, limit: usize) -> impl Iterator<Item = &[u8]> {
        let skip = std::iter::once(self.sent_of_first).chain(std::iter::repeat(0));
        self.pieces
            .iter()
            .zip(skip)
            .take(limit)
            .map(|(piece, skip)| &piece.bytes(&self.arena)[skip..])
    }

    /// Takes note that so many bytes have gone out.
    pub(super) fn advance(&mut self, mut sent: usize) {
        self.bytes -= sent;
        while let Some(first) = self.pieces.front() {
            let left = first.bytes(&self.arena).len() - self.sent_of_first;
            if sent < left {
                self.sent_of_first += sent;
                return;
            }
            sent -= left;
            self.sent_of_first = 0;
            self.pieces.pop_front();
        }
        self.arena.clear();
    }

    /// Forgets everything, keeping the memory.
    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        self.arena.clear();
        self.sent_of_first = 0;
        self.bytes = 0;
    }
}

impl Piece {
    fn bytes<'a>(&'a self, arena: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Small { start, end } => &arena[*start..*end],
            Self::Payload(buffer) => buffer.bytes(),
        }
    }
}
