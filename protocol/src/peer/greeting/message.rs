//! Messages of the opening as bytes: magic, kind, length, body, checksum.
//!
//! ```text
//! 0  magic "rbdg"        4
//! 4  kind                2
//! 6  length of the body  2
//! 8  body                length
//!    CRC-32 of all before  4
//! ```
//!
//! Never reads past the end of the message it is in: what follows on the connection belongs to the
//! packets.

use alloc::vec::Vec;
use core::mem;

use super::refusal::GreetingError;

/// The longest message, header and checksum included.
pub const MESSAGE_LIMIT: usize = 1024;

/// What a message of the opening is. The number is what crosses the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// Who is speaking, to whom, about what.
    Preamble,
    /// The proof of knowing the secret; empty where none is configured.
    Proof,
    /// No, and why. The sender closes the connection.
    Refusal,
}

pub(super) struct Message {
    pub(super) kind: MessageKind,
    /// The whole message as received.
    pub(super) bytes: Vec<u8>,
}

/// Collects the bytes of one message after the other.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
}

const MAGIC: [u8; 4] = *b"rbdg";
const HEADER_BYTES: usize = 8;
const CHECKSUM_BYTES: usize = 4;
const FRAME_BYTES: usize = HEADER_BYTES + CHECKSUM_BYTES;

impl MessageKind {
    fn number(self) -> u16 {
        match self {
            Self::Preamble => 1,
            Self::Proof => 2,
            Self::Refusal => 3,
        }
    }

    fn from_number(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::Preamble),
            2 => Some(Self::Proof),
            3 => Some(Self::Refusal),
            _ => None,
        }
    }

    /// The longest body of this kind.
    fn body_limit(self) -> usize {
        match self {
            Self::Preamble => MESSAGE_LIMIT - FRAME_BYTES,
            Self::Proof => super::PROOF_BYTES,
            Self::Refusal => 2 + super::refusal::TEXT_LIMIT,
        }
    }
}

impl Message {
    pub(super) fn body(&self) -> &[u8] {
        let end = self.bytes.len().saturating_sub(CHECKSUM_BYTES);
        self.bytes.get(HEADER_BYTES..end).unwrap_or_default()
    }
}

impl Inbox {
    /// How many bytes are still missing before anything can be said; never past the message.
    pub(super) fn needed(&self) -> usize {
        let whole = match self.announced_length() {
            Some(length) => FRAME_BYTES + length,
            None => HEADER_BYTES,
        };
        whole.saturating_sub(self.bytes.len())
    }

    /// Takes as many bytes as belong to the message; gives it once it is whole and of one of the
    /// `expected` kinds.
    pub(super) fn feed(
        &mut self,
        input: &[u8],
        expected: &[MessageKind],
    ) -> Result<(usize, Option<Message>), GreetingError> {
        let mut used = self.take(input);
        let Some(length) = self.announced_length() else {
            self.check_magic()?;
            return Ok((used, None));
        };
        let kind = self.check_header(length, expected)?;
        used += self.take(input.get(used..).unwrap_or_default());
        if self.needed() > 0 {
            return Ok((used, None));
        }
        let bytes = mem::take(&mut self.bytes);
        check_checksum(&bytes)?;
        Ok((used, Some(Message { kind, bytes })))
    }

    fn take(&mut self, input: &[u8]) -> usize {
        let count = self.needed().min(input.len());
        self.bytes
            .extend_from_slice(input.get(..count).unwrap_or_default());
        count
    }

    fn announced_length(&self) -> Option<usize> {
        let [_, _, _, _, _, _, high, low] = *self.bytes.first_chunk::<HEADER_BYTES>()?;
        Some(usize::from(u16::from_be_bytes([high, low])))
    }

    /// Whoever speaks something else is recognised from its first bytes.
    fn check_magic(&self) -> Result<(), GreetingError> {
        let length = self.bytes.len().min(MAGIC.len());
        if self.bytes.get(..length) == MAGIC.get(..length) {
            Ok(())
        } else {
            Err(GreetingError::NotAGreeting)
        }
    }

    fn check_header(
        &self,
        length: usize,
        expected: &[MessageKind],
    ) -> Result<MessageKind, GreetingError> {
        self.check_magic()?;
        let number = match self.bytes.get(4..6) {
            Some(&[high, low]) => u16::from_be_bytes([high, low]),
            _ => 0,
        };
        let kind = MessageKind::from_number(number)
            .filter(|kind| expected.contains(kind))
            .ok_or(GreetingError::UnexpectedMessage { number })?;
        let limit = kind.body_limit();
        if length > limit {
            return Err(GreetingError::TooLong { length, limit });
        }
        Ok(kind)
    }
}

/// Appends a message; `body` is within the limit of its kind by construction.
pub(super) fn encode(kind: MessageKind, body: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&kind.number().to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(body);
    let checksum = crc32fast::hash(out.get(start..).unwrap_or_default());
    out.extend_from_slice(&checksum.to_be_bytes());
}

fn check_checksum(bytes: &[u8]) -> Result<(), GreetingError> {
    match bytes.split_last_chunk::<CHECKSUM_BYTES>() {
        Some((checked, checksum)) if crc32fast::hash(checked).to_be_bytes() == *checksum => Ok(()),
        _ => Err(GreetingError::Damaged),
    }
}
