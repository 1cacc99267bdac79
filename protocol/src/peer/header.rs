//! The fixed part of every packet.
//!
//! ```text
//!  0  magic "rbdp"      4
//!  4  kind              2
//!  6  flags             2
//!  8  volume            2
//! 10  zero              2
//! 12  payload length    4
//! 16  id                8
//! 24  offset            8
//! 32  range length      4
//! 36  payload CRC-32    4
//! 40  zero              4
//! 44  CRC-32 of 0..44   4
//! ```

use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{BODY_LIMIT, BULK_LIMIT};

/// Bytes in a header.
pub const HEADER_BYTES: usize = 48;

const MAGIC: u32 = u32::from_be_bytes(*b"rbdp");
const CHECKED_BYTES: usize = HEADER_BYTES - 4;

/// What a packet is. The number is what crosses the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Kind {
    /// Everything the peer needs to decide who synchronises from whom.
    Hello = 1,
    /// Role and disk states changed.
    State = 2,
    /// May I become Primary?
    PromoteRequest = 3,
    /// Yes or no to that.
    PromoteReply = 4,
    /// Adopt this generation.
    NewGeneration = 5,
    /// Adopted, durably.
    NewGenerationAck = 6,
    /// The sender is leaving in an orderly way.
    Goodbye = 7,
    /// [`Packet::Leave`](super::Packet::Leave).
    Leave = 8,
    /// [`Packet::LeaveReply`](super::Packet::LeaveReply).
    LeaveReply = 9,
    /// [`Packet::Outdated`](super::Packet::Outdated).
    Outdated = 10,
    /// One of the two nodes is to declare its data bad.
    InvalidateRequest = 11,
    /// Yes or no to that.
    InvalidateReply = 12,
    /// [`Packet::ResizeRequest`](super::Packet::ResizeRequest).
    ResizeRequest = 13,
    /// [`Packet::ResizeReply`](super::Packet::ResizeReply).
    ResizeReply = 14,
    /// Write this data.
    Write = 16,
    /// Zero this range, giving the space back if possible.
    Discard = 17,
    /// Zero this range.
    WriteZeroes = 18,
    /// Make durable everything acknowledged so far.
    Flush = 19,
    /// [`Packet::Settle`](super::Packet::Settle).
    Settle = 20,
    /// The write, discard or zeroing is on the disk.
    WriteAck = 32,
    /// It could not be done; the disk is out of service.
    NegativeAck = 33,
    /// The flush is done.
    FlushAck = 34,
    /// [`Packet::Settled`](super::Packet::Settled).
    Settled = 35,
    /// A block of the dirty bitmap.
    Bitmap = 48,
    /// All blocks of the bitmap that are not all zero have been sent.
    BitmapEnd = 49,
    /// Send this range.
    ResyncRequest = 50,
    /// The range asked for.
    ResyncData = 51,
    /// The resynchronised range is on the target's disk.
    ResyncAck = 53,
    /// The range asked for could not be read.
    ResyncNegativeAck = 54,
    /// The target has everything, durably, and has adopted the source's generation.
    ResyncDone = 55,
    /// [`Packet::ResyncState`](super::Packet::ResyncState).
    ResyncState = 56,
    /// The range asked for is all zeroes.
    ResyncZero = 57,
    /// Send what of this range is not like these digests.
    ResyncCompare = 58,
    /// That part of the range is alike.
    ResyncSame = 59,
    /// Are you alive?
    Ping = 64,
    /// Yes.
    PingAck = 65,
    /// Read this range for a node without usable data of its own.
    RemoteRead = 80,
    /// Write this data for such a node.
    RemoteWrite = 81,
    /// Zero this range for such a node, giving the space back if possible.
    RemoteDiscard = 82,
    /// Zero this range for such a node.
    RemoteWriteZeroes = 83,
    /// Make durable, for such a node, everything done for it so far.
    RemoteFlush = 84,
    /// The write, zeroing or flush is done, as it would be for a client.
    RemoteDone = 96,
    /// The range read.
    RemoteData = 97,
    /// It could not be done.
    RemoteFailed = 98,
    /// Make digests of this range, and let no client write it until it is let go.
    VerifyRequest = 112,
    /// The range is let go.
    VerifyRelease = 113,
    /// The digests asked for.
    VerifyReply = 120,
}

impl Kind {
    /// The kind with this number, or `None` for a number nobody has assigned.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Hello,
            2 => Self::State,
            3 => Self::PromoteRequest,
            4 => Self::PromoteReply,
            5 => Self::NewGeneration,
            6 => Self::NewGenerationAck,
            7 => Self::Goodbye,
            8 => Self::Leave,
            9 => Self::LeaveReply,
            10 => Self::Outdated,
            11 => Self::InvalidateRequest,
            12 => Self::InvalidateReply,
            13 => Self::ResizeRequest,
            14 => Self::ResizeReply,
            16 => Self::Write,
            17 => Self::Discard,
            18 => Self::WriteZeroes,
            19 => Self::Flush,
            20 => Self::Settle,
            32 => Self::WriteAck,
            33 => Self::NegativeAck,
            34 => Self::FlushAck,
            35 => Self::Settled,
            48 => Self::Bitmap,
            49 => Self::BitmapEnd,
            50 => Self::ResyncRequest,
            51 => Self::ResyncData,
            53 => Self::ResyncAck,
            54 => Self::ResyncNegativeAck,
            55 => Self::ResyncDone,
            56 => Self::ResyncState,
            57 => Self::ResyncZero,
            58 => Self::ResyncCompare,
            59 => Self::ResyncSame,
            64 => Self::Ping,
            65 => Self::PingAck,
            80 => Self::RemoteRead,
            81 => Self::RemoteWrite,
            82 => Self::RemoteDiscard,
            83 => Self::RemoteWriteZeroes,
            84 => Self::RemoteFlush,
            96 => Self::RemoteDone,
            97 => Self::RemoteData,
            98 => Self::RemoteFailed,
            112 => Self::VerifyRequest,
            113 => Self::VerifyRelease,
            120 => Self::VerifyReply,
            _ => return None,
        })
    }

    /// The number that crosses the wire.
    #[must_use]
    pub fn number(self) -> u16 {
        #[expect(clippy::as_conversions, reason = "the discriminant is the number")]
        let number = self as u16;
        number
    }

    /// Whether the payload is bulk data, which stays in the buffer it was received into.
    #[must_use]
    pub fn is_bulk(self) -> bool {
        matches!(
            self,
            Self::Write | Self::ResyncData | Self::RemoteWrite | Self::RemoteData
        )
    }

    fn payload_limit(self) -> u32 {
        if self.is_bulk() {
            BULK_LIMIT
        } else {
            BODY_LIMIT
        }
    }
}

/// The decoded fixed part of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the packet is.
    pub kind: Kind,
    /// Bits whose meaning depends on the kind.
    pub flags: u16,
    /// The volume it concerns, 0 where it concerns none.
    pub volume: u16,
    /// Bytes of payload that follow.
    pub payload_length: u32,
    /// Names the request this packet makes or answers.
    pub id: u64,
    /// First byte of the range it concerns.
    pub offset: u64,
    /// Length of that range.
    pub range_length: u32,
    /// CRC-32 of the payload; 0 without one.
    pub payload_crc: u32,
    /// Of a write, what the sender had seen of the receiver's; else 0.
    pub seen: u32,
    /// Of a write, how many of the sender's its disk may lack; else 0.
    pub behind: u16,
}

/// Why bytes from a peer were not understood. The link is dropped: after an error nothing that
/// follows can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The first bytes are not a packet's.
    #[error("not a packet: it begins with {found:#010x}")]
    Magic {
        /// What was there instead.
        found: u32,
    },
    /// The header's checksum does not fit.
    #[error("packet header damaged")]
    HeaderChecksum,
    /// The payload's checksum does not fit.
    #[error("payload of packet {kind:?} damaged")]
    PayloadChecksum {
        /// The packet.
        kind: Kind,
    },
    /// A number nobody has assigned.
    #[error("unknown packet kind {number}")]
    UnknownKind {
        /// The number.
        number: u16,
    },
    /// More payload than this kind may carry.
    #[error("packet {kind:?} announces {length} bytes, the limit is {limit}")]
    TooLong {
        /// The packet.
        kind: Kind,
        /// What it announces.
        length: u32,
        /// What it may carry.
        limit: u32,
    },
    /// The fields contradict each other or the rules of this kind.
    #[error("packet {kind:?} is malformed: {what}")]
    Malformed {
        /// The packet.
        kind: Kind,
        /// Which rule it breaks.
        what: &'static str,
    },
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: U32,
    kind: U16,
    flags: U16,
    volume: U16,
    behind: U16,
    payload_length: U32,
    id: U64,
    offset: U64,
    range_length: U32,
    payload_crc: U32,
    seen: U32,
    header_crc: U32,
}

impl Header {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut raw = RawHeader {
            magic: MAGIC.into(),
            kind: self.kind.number().into(),
            flags: self.flags.into(),
            volume: self.volume.into(),
            behind: self.behind.into(),
            payload_length: self.payload_length.into(),
            id: self.id.into(),
            offset: self.offset.into(),
            range_length: self.range_length.into(),
            payload_crc: self.payload_crc.into(),
            seen: self.seen.into(),
            header_crc: 0.into(),
        };
        raw.header_crc = checksum_of_header(raw.as_bytes()).into();
        zerocopy::transmute!(raw)
    }

    /// Decodes a header, checking its checksum and the announced length before anything is
    /// allocated for the payload.
    ///
    /// # Errors
    /// When the bytes are not a header this version understands.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, WireError> {
        let raw: RawHeader = zerocopy::transmute!(*bytes);
        if raw.magic.get() != MAGIC {
            return Err(WireError::Magic {
                found: raw.magic.get(),
            });
        }
        if raw.header_crc.get() != checksum_of_header(bytes) {
            return Err(WireError::HeaderChecksum);
        }
        let number = raw.kind.get();
        let kind = Kind::from_number(number).ok_or(WireError::UnknownKind { number })?;
        let length = raw.payload_length.get();
        let limit = kind.payload_limit();
        if length > limit {
            return Err(WireError::TooLong {
                kind,
                length,
                limit,
            });
        }
        if kind.is_bulk() && length != raw.range_length.get() {
            return Err(WireError::Malformed {
                kind,
                what: "payload and range differ in length",
            });
        }
        Ok(Self {
            kind,
            flags: raw.flags.get(),
            volume: raw.volume.get(),
            payload_length: length,
            id: raw.id.get(),
            offset: raw.offset.get(),
            range_length: raw.range_length.get(),
            payload_crc: raw.payload_crc.get(),
            seen: raw.seen.get(),
            behind: raw.behind.get(),
        })
    }

    /// Checks a received payload against the checksum in the header.
    ///
    /// # Errors
    /// When they do not fit: the bytes must not reach a disk.
    pub fn check_payload(&self, payload: &[u8]) -> Result<(), WireError> {
        if checksum(payload) == self.payload_crc {
            Ok(())
        } else {
            Err(WireError::PayloadChecksum { kind: self.kind })
        }
    }
}

/// The checksum of a payload; that of no payload is 0.
#[must_use]
pub fn checksum(payload: &[u8]) -> u32 {
    crc32fast::hash(payload)
}

fn checksum_of_header(header: &[u8]) -> u32 {
    checksum(header.get(..CHECKED_BYTES).unwrap_or(header))
}
