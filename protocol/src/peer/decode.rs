//! From a header and a body to a packet.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::body::Reader;
use super::failure::FailureCode;
use super::header::{Header, Kind, WireError};
use super::hello::Hello;
use super::packet::{Digest, FLAG_FUA, Packet, Place};
use crate::ids::{ByteRange, GenerationId, VolumeNumber};
use crate::state::{DiskState, ResyncLimit, Role};

impl Packet {
    /// Builds the packet from its header and, for the kinds without bulk, its payload, which has
    /// been checked against the header's checksum. For bulk kinds `body` is not looked at.
    ///
    /// # Errors
    /// When the fields break a rule of this kind.
    #[expect(clippy::too_many_lines, reason = "one arm for each kind of packet")]
    pub fn decode(header: &Header, body: &[u8]) -> Result<Self, WireError> {
        let Header {
            kind, flags, id, ..
        } = *header;
        let volume = VolumeNumber(header.volume);
        let range = ByteRange::new(header.offset, header.range_length);
        let fua = flags & FLAG_FUA != 0;
        let place = Place {
            seen: header.seen,
            behind: header.behind,
        };
        let malformed = |what| WireError::Malformed { kind, what };
        if !body.is_empty()
            && !matches!(
                kind,
                Kind::Hello | Kind::State | Kind::Bitmap | Kind::ResyncCompare | Kind::VerifyReply
            )
        {
            return Err(malformed("unexpected payload"));
        }
        Ok(match kind {
            Kind::Hello => Self::Hello(Box::new(Hello::read(body)?)),
            Kind::State => read_state(id, body)?,
            Kind::PromoteRequest => Self::PromoteRequest {
                id,
                migration_ms: header.range_length,
            },
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
            Kind::Leave => Self::Leave,
            Kind::LeaveReply => Self::LeaveReply {
                outdate: flags == 1,
            },
            Kind::Outdated => Self::Outdated,
            Kind::InvalidateRequest => Self::InvalidateRequest {
                id,
                volume,
                sender_loses: flags & 1 != 0,
                marked_only: flags & 2 != 0,
            },
            Kind::InvalidateReply => Self::InvalidateReply {
                id,
                volume,
                granted: flags == 1,
            },
            Kind::ResizeRequest => Self::ResizeRequest {
                id,
                volume,
                capacity: header.offset,
                assume_clean: flags == 1,
            },
            Kind::ResizeReply => Self::ResizeReply {
                id,
                volume,
                bytes: header.offset,
                granted: flags == 1,
            },
            Kind::Write => Self::Write {
                id,
                volume,
                range,
                fua,
                place,
            },
            Kind::Discard => Self::Zero {
                id,
                volume,
                range,
                fua,
                discard: true,
                place,
            },
            Kind::WriteZeroes => Self::Zero {
                id,
                volume,
                range,
                fua,
                discard: false,
                place,
            },
            Kind::Flush => Self::Flush { id, volume },
            Kind::Settle => Self::Settle { id, volume },
            Kind::Settled => Self::Settled { id, volume },
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
            Kind::ResyncZero => Self::ResyncZero { id, volume, range },
            Kind::ResyncCompare => Self::ResyncCompare {
                id,
                volume,
                range,
                digests: read_digests(body).ok_or_else(|| malformed("body of a strange length"))?,
            },
            Kind::ResyncSame => Self::ResyncSame { id, volume, range },
            Kind::ResyncAck => Self::ResyncAck { id, volume, range },
            Kind::ResyncNegativeAck => Self::ResyncNegativeAck { id, volume, range },
            Kind::ResyncDone => Self::ResyncDone {
                volume,
                generation: GenerationId(header.offset),
            },
            Kind::ResyncState => {
                let limit = match id {
                    0 => None,
                    number => Some(
                        u8::try_from(number)
                            .ok()
                            .and_then(ResyncLimit::from_number)
                            .ok_or_else(|| malformed("unknown limit"))?,
                    ),
                };
                Self::ResyncState {
                    volume,
                    paused: flags == 1,
                    limit,
                    disk_us: header.range_length,
                }
            }
            Kind::RemoteRead => Self::RemoteRead { id, volume, range },
            Kind::RemoteWrite => Self::RemoteWrite {
                id,
                volume,
                range,
                fua,
            },
            Kind::RemoteDiscard => Self::RemoteZero {
                id,
                volume,
                range,
                fua,
                discard: true,
            },
            Kind::RemoteWriteZeroes => Self::RemoteZero {
                id,
                volume,
                range,
                fua,
                discard: false,
            },
            Kind::RemoteFlush => Self::RemoteFlush { id, volume },
            Kind::RemoteDone => Self::RemoteDone {
                id,
                volume,
                generation: GenerationId(header.offset),
            },
            Kind::RemoteData => Self::RemoteData { id, volume, range },
            Kind::RemoteFailed => {
                let code = FailureCode::from_number(flags)
                    .ok_or_else(|| malformed("unknown failure code"))?;
                Self::RemoteFailed { id, volume, code }
            }
            Kind::VerifyRequest => Self::VerifyRequest { id, volume, range },
            Kind::VerifyRelease => Self::VerifyRelease { id, volume },
            Kind::VerifyReply => Self::VerifyReply {
                id,
                volume,
                digests: read_digests(body).ok_or_else(|| malformed("body of a strange length"))?,
            },
            Kind::Ping => Self::Ping { id },
            Kind::PingAck => Self::PingAck { id },
        })
    }
}

fn read_state(tenure: u64, body: &[u8]) -> Result<Packet, WireError> {
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
    Ok(Packet::State {
        role,
        tenure,
        disks,
    })
}

fn read_digests(body: &[u8]) -> Option<Vec<Digest>> {
    let (digests, []) = body.as_chunks() else {
        return None;
    };
    Some(digests.to_vec())
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
