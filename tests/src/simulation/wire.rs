//! Packets as they cross the simulated network: the protocol's own bytes.
//!
//! Bulk payload travels beside them as the handle it is, with a checksum over its sectors' values
//! where the protocol has one over the bytes: making, checksumming and reading the bytes of a
//! megabyte tells no more than that, and would take most of the time.

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
