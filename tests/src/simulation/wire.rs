//! Packets as they cross the simulated network: the protocol's own bytes.
//!
//! In most runs bulk payload travels beside them as the handle it is, with a checksum over its
//! sectors' values where the protocol has one over the bytes: making, checksumming and reading the
//! bytes of a megabyte tells no more than that, and would take most of the time. In some runs
//! everything is bytes, in pieces of any length, and bits may flip.

use rbd_protocol::ids::VolumeNumber;
use rbd_protocol::peer::{HEADER_BYTES, Header, Packet};

use super::disk::{Payload, SECTOR};

/// A packet on its way.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    head: Vec<u8>,
    bulk: Option<Payload>,
}

impl Parcel {
    pub(super) fn pack(packet: &Packet, bulk: Option<&Payload>) -> Self {
        let mut head = Vec::with_capacity(HEADER_BYTES);
        let (length, sum) = bulk.map_or((0, 0), |bulk| (length_of(bulk), sum_of(bulk)));
        packet.encode_head(length, sum, &mut head);
        Self {
            head,
            bulk: bulk.cloned(),
        }
    }

    /// The packet as a stream has it, byte by byte.
    pub(super) fn bytes(packet: &Packet, bulk: Option<&Payload>) -> Vec<u8> {
        let mut data = Vec::new();
        for value in bulk.into_iter().flat_map(|bulk| bulk.iter()) {
            data.extend_from_slice(&value.to_le_bytes());
            data.resize(data.len() + 496, 0);
            data.extend_from_slice(&value.to_le_bytes());
        }
        let mut bytes = Vec::new();
        packet.encode(&data, &mut bytes);
        bytes.append(&mut data);
        bytes
    }

    pub(super) fn unpack(self) -> Result<(Packet, Option<Payload>), String> {
        let (head, body) = self
            .head
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or("a packet shorter than its header")?;
        let header = Header::decode(head).map_err(|error| error.to_string())?;
        let length = match &self.bulk {
            Some(bulk) => length_of(bulk),
            None => u32::try_from(body.len()).unwrap_or(u32::MAX),
        };
        if header.payload_length != length || header.kind.is_bulk() != self.bulk.is_some() {
            return Err(format!("{:?} announces another payload", header.kind));
        }
        match &self.bulk {
            Some(bulk) if sum_of(bulk) != header.payload_crc => {
                return Err(format!("{:?} with other data", header.kind));
            }
            Some(_) => {}
            None => header
                .check_payload(body)
                .map_err(|error| error.to_string())?,
        }
        let packet = Packet::decode(&header, body).map_err(|error| error.to_string())?;
        Ok((packet, self.bulk))
    }
}

/// Cuts a stream into packets, as the daemon's receiver does.
#[derive(Debug, Default)]
pub(super) struct Receiver {
    bytes: Vec<u8>,
}

impl Receiver {
    /// More of the stream has come.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next packet that is complete.
    ///
    /// # Errors
    /// When what has come is no packet; nothing after it can be trusted.
    pub(super) fn packet(&mut self) -> Result<Option<(Packet, Option<Payload>)>, String> {
        let Some((head, rest)) = self.bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let header = Header::decode(head).map_err(|error| error.to_string())?;
        let length = usize::try_from(header.payload_length).unwrap_or(usize::MAX);
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        header
            .check_payload(payload)
            .map_err(|error| error.to_string())?;
        let is_bulk = header.kind.is_bulk();
        let body = if is_bulk { &[] } else { payload };
        let packet = Packet::decode(&header, body).map_err(|error| error.to_string())?;
        let bulk = if is_bulk { Some(read(payload)?) } else { None };
        self.bytes.drain(..HEADER_BYTES + length);
        Ok(Some((packet, bulk)))
    }
}

/// The values in the bytes of a bulk payload: a sector begins and ends with its own.
fn read(payload: &[u8]) -> Result<Payload, String> {
    payload
        .chunks(512)
        .map(|sector| {
            let first = sector.first_chunk::<8>().ok_or("a piece of a sector")?;
            if sector.last_chunk::<8>() != Some(first) {
                return Err("a sector made of two".into());
            }
            Ok(u64::from_le_bytes(*first))
        })
        .collect()
}

fn length_of(bulk: &Payload) -> u32 {
    let sectors = u64::try_from(bulk.len()).unwrap_or(u64::MAX);
    u32::try_from(sectors.saturating_mul(SECTOR)).unwrap_or(u32::MAX)
}

fn sum_of(bulk: &Payload) -> u32 {
    let mixed = bulk.iter().fold(0_u64, |sum, value| {
        (sum ^ value)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(29)
    });
    u32::try_from(mixed >> 32).unwrap_or(0)
}

/// Which volume the packet is about, if it is about one.
pub(super) fn volume_of(packet: &Packet) -> Option<VolumeNumber> {
    match packet {
        Packet::Write { volume, .. }
        | Packet::Zero { volume, .. }
        | Packet::Flush { volume, .. }
        | Packet::WriteAck { volume, .. }
        | Packet::NegativeAck { volume, .. }
        | Packet::FlushAck { volume, .. }
        | Packet::Settle { volume, .. }
        | Packet::Settled { volume, .. }
        | Packet::Bitmap { volume, .. }
        | Packet::BitmapEnd { volume, .. }
        | Packet::ResyncRequest { volume, .. }
        | Packet::ResyncData { volume, .. }
        | Packet::ResyncCompare { volume, .. }
        | Packet::ResyncSame { volume, .. }
        | Packet::ResyncZero { volume, .. }
        | Packet::ResyncAck { volume, .. }
        | Packet::ResyncNegativeAck { volume, .. }
        | Packet::ResyncDone { volume, .. }
        | Packet::ResyncState { volume, .. }
        | Packet::RemoteRead { volume, .. }
        | Packet::RemoteWrite { volume, .. }
        | Packet::RemoteZero { volume, .. }
        | Packet::RemoteFlush { volume, .. }
        | Packet::RemoteDone { volume, .. }
        | Packet::RemoteData { volume, .. }
        | Packet::RemoteFailed { volume, .. }
        | Packet::VerifyRequest { volume, .. }
        | Packet::VerifyRelease { volume, .. }
        | Packet::VerifyReply { volume, .. }
        | Packet::NewGeneration { volume, .. }
        | Packet::NewGenerationAck { volume, .. }
        | Packet::InvalidateRequest { volume, .. }
        | Packet::InvalidateReply { volume, .. }
        | Packet::ResizeRequest { volume, .. }
        | Packet::ResizeReply { volume, .. } => Some(*volume),
        _ => None,
    }
}
