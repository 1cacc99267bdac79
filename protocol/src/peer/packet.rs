//! A packet as a value.
//!
//! Bulk data is not part of the value: [`Packet::Write`] and [`Packet::ResyncData`] travel with a
//! payload of exactly the range's length, which the caller keeps beside the packet.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::body::{Reader, Writer};
use super::failure::FailureCode;
use super::header::{HEADER_BYTES, Header, Kind, WireError, checksum};
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

const FLAG_FUA: u16 = 1;

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
            Self::Hello(_) | Self::State { .. } | Self::Goodbye => {}
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
            } => {
                header.set_range(*id, *volume, *range);
                header.flags = if *fua { FLAG_FUA } else { 0 };
            }
            Self::Flush { id, volume }
            | Self::WriteAck { id, volume }
            | Self::FlushAck { id, volume } => {
                header.id = *id;
                header.volume = volume.0;
            }
            Self::NegativeAck { id, volume, code } => {
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
            | Self::ResyncNegativeAck { id, volume, range } => {
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
        } else if let Self::State { role, disks } = self {
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

    /// Builds the packet from its header and, for the kinds without bulk, its payload, which has
    /// been checked against the header's checksum. For bulk kinds `body` is not looked at.
    ///
    /// # Errors
    /// When the fields break a rule of this kind.
    pub fn decode(header: &Header, body: &[u8]) -> Result<Self, WireError> {
        let Header {
            kind, flags, id, ..
        } = *header;
        let volume = VolumeNumber(header.volume);
        let range = ByteRange::new(header.offset, header.range_length);
        let fua = flags & FLAG_FUA != 0;
        let malformed = |what| WireError::Malformed { kind, what };
        if !body.is_empty() && !matches!(kind, Kind::Hello | Kind::State | Kind::Bitmap) {
            return Err(malformed("unexpected payload"));
        }
        Ok(match kind {
            Kind::Hello => Self::Hello(Box::new(Hello::read(body)?)),
            Kind::State => read_state(body)?,
            Kind::PromoteRequest => Self::PromoteRequest { id },
            Kind::PromoteReply => Self::PromoteReply {
                id,
                granted: flags == 1,
            },
            Kind::NewGeneration => Self::NewGeneration {
                id,
                volume,
                generation: GenerationId(header.offset),
            },
            Kind::NewGenerationAck => Self::NewGenerationAck {
                id,
                volume,
                adopted: flags == 1,
            },
            Kind::Goodbye => Self::Goodbye,
            Kind::Write => Self::Write {
                id,
                volume,
                range,
                fua,
            },
            Kind::Discard => Self::Zero {
                id,
                volume,
                range,
                fua,
                discard: true,
            },
            Kind::WriteZeroes => Self::Zero {
                id,
                volume,
                range,
                fua,
                discard: false,
            },
            Kind::Flush => Self::Flush { id, volume },
            Kind::WriteAck => Self::WriteAck { id, volume },
            Kind::NegativeAck => {
                let code = FailureCode::from_number(flags)
                    .ok_or_else(|| malformed("unknown failure code"))?;
                Self::NegativeAck { id, volume, code }
            }
            Kind::FlushAck => Self::FlushAck { id, volume },
            Kind::Bitmap => read_bitmap(id, volume, body)?,
            Kind::BitmapEnd => Self::BitmapEnd {
                volume,
                generation: GenerationId(header.offset),
            },
            Kind::ResyncRequest => Self::ResyncRequest { id, volume, range },
            Kind::ResyncData => Self::ResyncData { id, volume, range },
            Kind::ResyncAck => Self::ResyncAck { id, volume, range },
            Kind::ResyncNegativeAck => Self::ResyncNegativeAck { id, volume, range },
            Kind::ResyncDone => Self::ResyncDone {
                volume,
                generation: GenerationId(header.offset),
            },
            Kind::Ping => Self::Ping { id },
            Kind::PingAck => Self::PingAck { id },
        })
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

fn read_state(body: &[u8]) -> Result<Packet, WireError> {
    let mut reader = Reader::new(Kind::State, body);
    let role = Role::from_number(reader.u8()?).ok_or_else(|| reader.malformed("unknown role"))?;
    let mut disks = Vec::new();
    let entries = body.len().saturating_sub(1);
    if !entries.is_multiple_of(3) {
        return Err(reader.malformed("body of a strange length"));
    }
    for _ in 0..entries / 3 {
        let volume = VolumeNumber(reader.u16()?);
        let disk = DiskState::from_number(reader.u8()?)
            .ok_or_else(|| reader.malformed("unknown disk state"))?;
        disks.push((volume, disk));
    }
    reader.end()?;
    Ok(Packet::State { role, disks })
}

fn read_bitmap(id: u64, volume: VolumeNumber, body: &[u8]) -> Result<Packet, WireError> {
    let mut reader = Reader::new(Kind::Bitmap, body);
    let block = u32::try_from(id).map_err(|_| reader.malformed("block number too large"))?;
    let mut words = Box::new([0_u64; 504]);
    for word in words.iter_mut() {
        *word = reader.u64()?;
    }
    reader.end()?;
    Ok(Packet::Bitmap {
        volume,
        block,
        words,
    })
}
