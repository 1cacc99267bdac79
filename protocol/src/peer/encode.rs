//! From a packet to its bytes.

use alloc::vec::Vec;

use super::body::Writer;
use super::header::{HEADER_BYTES, Header, checksum};
use super::packet::{FLAG_FUA, Packet};
use crate::ids::{ByteRange, VolumeNumber};

impl Packet {
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
            seen: 0,
            behind: 0,
        };
        if let Self::Write { place, .. } | Self::Zero { place, .. } = self {
            header.seen = place.seen;
            header.behind = place.behind;
        }
        match self {
            Self::Hello(_) | Self::Goodbye | Self::Leave | Self::Outdated => {}
            Self::LeaveReply { outdate } => header.flags = u16::from(*outdate),
            Self::State { tenure, .. } => header.id = *tenure,
            Self::PromoteRequest { id, migration_ms } => {
                header.id = *id;
                header.range_length = *migration_ms;
            }
            Self::Ping { id } | Self::PingAck { id } => header.id = *id,
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
                adopted: yes,
            }
            | Self::InvalidateReply {
                id,
                volume,
                granted: yes,
            } => {
                header.id = *id;
                header.volume = volume.0;
                header.flags = u16::from(*yes);
            }
            Self::ResizeRequest {
                id,
                volume,
                capacity: bytes,
                assume_clean: yes,
            }
            | Self::ResizeReply {
                id,
                volume,
                bytes,
                granted: yes,
            } => {
                header.id = *id;
                header.volume = volume.0;
                header.offset = *bytes;
                header.flags = u16::from(*yes);
            }
            Self::InvalidateRequest {
                id,
                volume,
                sender_loses,
                marked_only,
            } => {
                header.id = *id;
                header.volume = volume.0;
                header.flags = u16::from(*sender_loses) | u16::from(*marked_only) << 1;
            }
            Self::Write {
                id,
                volume,
                range,
                fua,
                ..
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
            | Self::Settle { id, volume }
            | Self::Settled { id, volume }
            | Self::WriteAck { id, volume }
            | Self::FlushAck { id, volume }
            | Self::RemoteFlush { id, volume }
            | Self::VerifyRelease { id, volume }
            | Self::VerifyReply { id, volume, .. } => {
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
            | Self::ResyncZero { id, volume, range }
            | Self::ResyncSame { id, volume, range }
            | Self::ResyncCompare {
                id, volume, range, ..
            }
            | Self::ResyncAck { id, volume, range }
            | Self::ResyncNegativeAck { id, volume, range }
            | Self::RemoteRead { id, volume, range }
            | Self::VerifyRequest { id, volume, range }
            | Self::RemoteData { id, volume, range } => {
                header.set_range(*id, *volume, *range);
            }
            Self::ResyncState {
                volume,
                paused,
                limit,
                disk_us,
            } => {
                header.volume = volume.0;
                header.flags = u16::from(*paused);
                header.id = limit.map_or(0, |limit| u64::from(limit.number()));
                header.range_length = *disk_us;
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
        } else if let Self::VerifyReply { digests, .. } | Self::ResyncCompare { digests, .. } = self
        {
            for digest in digests {
                out.u128(u128::from_be_bytes(*digest));
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
