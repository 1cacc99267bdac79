//! A packet as a value.
//!
//! Bulk data is not part of the value: [`Packet::Write`] and [`Packet::ResyncData`] travel with a
//! payload of exactly the range's length, which the caller keeps beside the packet.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::body::Writer;
use super::failure::FailureCode;
use super::header::{HEADER_BYTES, Header, Kind, checksum};
use super::hello::Hello;
use crate::ids::{ByteRange, GenerationId, VolumeNumber};
use crate::state::{DiskState, Role};

/// Which of the link's two connections a packet takes. Order is kept within one, not across them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Bulk: what must be applied in the order it was sent.
    Data,
    /// Acknowledgements and signs of life, which must not queue behind bulk.
    Control,
}

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// First packet on the data connection.
    Hello(Box<Hello>),
    /// Role and disk states, after any change.
    State {
        /// The sender's role.
        role: Role,
        /// Its tenure, as in its greeting.
        tenure: u64,
        /// Its disks, by volume.
        disks: Vec<(VolumeNumber, DiskState)>,
    },
    /// Asks the peer's consent to become Primary.
    PromoteRequest {
        /// Names the request.
        id: u64,
    },
    /// The peer's consent or refusal.
    PromoteReply {
        /// The request answered.
        id: u64,
        /// Whether it consents.
        granted: bool,
    },
    /// Asks a just-created peer to adopt this generation as UpToDate without a resync.
    NewGeneration {
        /// Names the request.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// The generation to adopt.
        generation: GenerationId,
    },
    /// Whether that was done, durably.
    NewGenerationAck {
        /// The request answered.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// Whether it was adopted.
        adopted: bool,
    },
    /// The sender closes the link on purpose.
    Goodbye,
    /// A Secondary is about to leave a Primary that minds what becomes of its data.
    Leave,
    /// The Primary's answer, or its own wish to go on without the receiver.
    LeaveReply {
        /// All that was acknowledged is durable at the Primary, and nothing new is: the receiver
        /// declares its data behind and says so. Otherwise it leaves as it is.
        outdate: bool,
    },
    /// The sender's data is durably behind, or incomplete, and stays so without the receiver.
    Outdated,
    /// Write the payload.
    Write {
        /// Names the request.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// Where; exactly as long as the payload.
        range: ByteRange,
        /// Durable before it is acknowledged.
        fua: bool,
    },
    /// Zero the range.
    Zero {
        /// Names the request.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// Where.
        range: ByteRange,
        /// Durable before it is acknowledged.
        fua: bool,
        /// Give the space back if possible (a discard).
        discard: bool,
    },
    /// Make durable every write acknowledged before this was sent.
    Flush {
        /// Names the request.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
    },
    /// A write or zeroing is on the disk.
    WriteAck {
        /// The request answered.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
    },
    /// A write, zeroing or flush failed.
    NegativeAck {
        /// The request answered.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// Why.
        code: FailureCode,
    },
    /// A flush is done.
    FlushAck {
        /// The request answered.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
    },
    /// One block of the sender's dirty bitmap; blocks that are not sent are all zero.
    Bitmap {
        /// The volume.
        volume: VolumeNumber,
        /// Which block.
        block: u32,
        /// Its words, lowest bits first.
        words: Box<[u64; 504]>,
    },
    /// The sender's bitmap is complete.
    BitmapEnd {
        /// The volume.
        volume: VolumeNumber,
        /// The sender's current generation: from the source, the one the target will adopt.
        generation: GenerationId,
    },
    /// The target asks for a range.
    ResyncRequest {
        /// Names the request.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// Where.
        range: ByteRange,
    },
    /// The source's data for that range, as payload.
    ResyncData {
        /// The request answered.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// Where; exactly as long as the payload.
        range: ByteRange,
    },
    /// The target has the range on its disk.
    ResyncAck {
        /// The request.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// Where.
        range: ByteRange,
    },
    /// The source could not read the range.
    ResyncNegativeAck {
        /// The request answered.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// Where.
        range: ByteRange,
    },
    /// The target has everything, durably, under this generation.
    ResyncDone {
        /// The volume.
        volume: VolumeNumber,
        /// The generation it has adopted.
        generation: GenerationId,
    },
    /// A node without usable data of its own asks for a range, for its clients.
    RemoteRead {
        /// Names the request.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// Where.
        range: ByteRange,
    },
    /// Such a node writes the payload.
    RemoteWrite {
        /// Names the request.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// Where; exactly as long as the payload.
        range: ByteRange,
        /// Durable before it is answered.
        fua: bool,
    },
    /// Such a node zeroes the range.
    RemoteZero {
        /// Names the request.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// Where.
        range: ByteRange,
        /// Durable before it is answered.
        fua: bool,
        /// Give the space back if possible (a discard).
        discard: bool,
    },
    /// Such a node wants everything it was told to be done to be durable.
    RemoteFlush {
        /// Names the request.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
    },
    /// Done, as it would be for a client of the sender.
    RemoteDone {
        /// The request answered.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// The sender's current generation.
        generation: GenerationId,
    },
    /// The range read, as payload.
    RemoteData {
        /// The request answered.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// Where; exactly as long as the payload.
        range: ByteRange,
    },
    /// It could not be done.
    RemoteFailed {
        /// The request answered.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// Why.
        code: FailureCode,
    },
    /// Are you alive?
    Ping {
        /// Names the question.
        id: u64,
    },
    /// Yes.
    PingAck {
        /// The question answered.
        id: u64,
    },
}

pub(super) const FLAG_FUA: u16 = 1;

impl Packet {
    /// What kind of packet it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Hello(_) => Kind::Hello,
            Self::State { .. } => Kind::State,
            Self::PromoteRequest { .. } => Kind::PromoteRequest,
            Self::PromoteReply { .. } => Kind::PromoteReply,
            Self::NewGeneration { .. } => Kind::NewGeneration,
            Self::NewGenerationAck { .. } => Kind::NewGenerationAck,
            Self::Goodbye => Kind::Goodbye,
            Self::Leave => Kind::Leave,
            Self::LeaveReply { .. } => Kind::LeaveReply,
            Self::Outdated => Kind::Outdated,
            Self::Write { .. } => Kind::Write,
            Self::Zero { discard: true, .. } => Kind::Discard,
            Self::Zero { discard: false, .. } => Kind::WriteZeroes,
            Self::Flush { .. } => Kind::Flush,
            Self::WriteAck { .. } => Kind::WriteAck,
            Self::NegativeAck { .. } => Kind::NegativeAck,
            Self::FlushAck { .. } => Kind::FlushAck,
            Self::Bitmap { .. } => Kind::Bitmap,
            Self::BitmapEnd { .. } => Kind::BitmapEnd,
            Self::ResyncRequest { .. } => Kind::ResyncRequest,
            Self::ResyncData { .. } => Kind::ResyncData,
            Self::ResyncAck { .. } => Kind::ResyncAck,
            Self::ResyncNegativeAck { .. } => Kind::ResyncNegativeAck,
            Self::ResyncDone { .. } => Kind::ResyncDone,
            Self::RemoteRead { .. } => Kind::RemoteRead,
            Self::RemoteWrite { .. } => Kind::RemoteWrite,
            Self::RemoteZero { discard: true, .. } => Kind::RemoteDiscard,
            Self::RemoteZero { discard: false, .. } => Kind::RemoteWriteZeroes,
            Self::RemoteFlush { .. } => Kind::RemoteFlush,
            Self::RemoteDone { .. } => Kind::RemoteDone,
            Self::RemoteData { .. } => Kind::RemoteData,
            Self::RemoteFailed { .. } => Kind::RemoteFailed,
            Self::Ping { .. } => Kind::Ping,
            Self::PingAck { .. } => Kind::PingAck,
        }
    }

    /// Appends the packet's bytes up to its bulk payload, which the caller sends right after.
    ///
    /// `bulk` is that payload for the kinds that have one, and empty for all others.
    pub fn encode(&self, bulk: &[u8], out: &mut Vec<u8>) {
        let length = u32::try_from(bulk.len()).unwrap_or(u32::MAX);
        self.encode_head(length, checksum(bulk), out);
    }

    /// The same for a caller who has the bulk payload's length and checksum, and perhaps not the
    /// payload in one piece. Both are ignored for the kinds that have none.
    pub fn encode_head(&self, bulk_length: u32, bulk_checksum: u32, out: &mut Vec<u8>) {
        let mut header = self.header();
        let start = out.len();
        out.resize(start + HEADER_BYTES, 0);
        if header.kind.is_bulk() {
            header.payload_length = bulk_length;
            header.payload_crc = bulk_checksum;
        } else {
            self.write_body(&mut Writer(out));
            let body = out.get(start + HEADER_BYTES..).unwrap_or_default();
            header.payload_length = u32::try_from(body.len()).unwrap_or(u32::MAX);
            header.payload_crc = checksum(body);
        }
        if let Some(head) = out.get_mut(start..start + HEADER_BYTES) {
            head.copy_from_slice(&header.encode());
        }
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each kind of packet")]
    fn header(&self) -> Header {
        let mut header = Header {
            kind: self.kind(),
            flags: 0,
            volume: 0,
            payload_length: 0,
            id: 0,
            offset: 0,
            range_length: 0,
            payload_crc: 0,
        };
        match self {
            Self::Hello(_) | Self::Goodbye | Self::Leave | Self::Outdated => {}
            Self::LeaveReply { outdate } => header.flags = u16::from(*outdate),
            Self::State { tenure, .. } => header.id = *tenure,
            Self::PromoteRequest { id } | Self::Ping { id } | Self::PingAck { id } => {
                header.id = *id;
            }
            Self::PromoteReply { id, granted } => {
                header.id = *id;
                header.flags = u16::from(*granted);
            }
            Self::NewGeneration {
                id,
                volume,
                generation,
            } => {
                header.id = *id;
                header.volume = volume.0;
                header.offset = generation.0;
            }
            Self::NewGenerationAck {
                id,
                volume,
                adopted,
            } => {
                header.id = *id;
                header.volume = volume.0;
                header.flags = u16::from(*adopted);
            }
            Self::Write {
                id,
                volume,
                range,
                fua,
            }
            | Self::Zero {
                id,
                volume,
                range,
                fua,
                ..
            }
            | Self::RemoteWrite {
                id,
                volume,
                range,
                fua,
            }
            | Self::RemoteZero {
                id,
                volume,
                range,
                fua,
                ..
            } => {
                header.set_range(*id, *volume, *range);
                header.flags = if *fua { FLAG_FUA } else { 0 };
            }
            Self::Flush { id, volume }
            | Self::WriteAck { id, volume }
            | Self::FlushAck { id, volume }
            | Self::RemoteFlush { id, volume } => {
                header.id = *id;
                header.volume = volume.0;
            }
            Self::RemoteDone {
                id,
                volume,
                generation,
            } => {
                header.id = *id;
                header.volume = volume.0;
                header.offset = generation.0;
            }
            Self::NegativeAck { id, volume, code } | Self::RemoteFailed { id, volume, code } => {
                header.id = *id;
                header.volume = volume.0;
                header.flags = code.number();
            }
            Self::Bitmap { volume, block, .. } => {
                header.volume = volume.0;
                header.id = u64::from(*block);
            }
            Self::ResyncRequest { id, volume, range }
            | Self::ResyncData { id, volume, range }
            | Self::ResyncAck { id, volume, range }
            | Self::ResyncNegativeAck { id, volume, range }
            | Self::RemoteRead { id, volume, range }
            | Self::RemoteData { id, volume, range } => {
                header.set_range(*id, *volume, *range);
            }
            Self::BitmapEnd { volume, generation } | Self::ResyncDone { volume, generation } => {
                header.volume = volume.0;
                header.offset = generation.0;
            }
        }
        header
    }

    fn write_body(&self, out: &mut Writer<'_>) {
        if let Self::Hello(hello) = self {
            hello.write(out);
        } else if let Self::State { role, disks, .. } = self {
            out.u8(role.number());
            for (volume, disk) in disks {
                out.u16(volume.0);
                out.u8(disk.number());
            }
        } else if let Self::Bitmap { words, .. } = self {
            for word in words.iter() {
                out.u64(*word);
            }
        }
    }
}

impl Header {
    fn set_range(&mut self, id: u64, volume: VolumeNumber, range: ByteRange) {
        self.id = id;
        self.volume = volume.0;
        self.offset = range.offset;
        self.range_length = range.length;
    }
}
