//! Packets as they cross the simulated network: the protocol's own bytes.

use rbd_protocol::peer::{HEADER_BYTES, Header, Packet};

use super::disk::Payload;

/// The bytes of a packet and its bulk payload. A sector's 512 bytes begin and end with its value.
pub(super) fn encode(packet: &Packet, data: Option<&Payload>) -> Vec<u8> {
    let mut bulk = Vec::new();
    for value in data.into_iter().flat_map(|data| data.iter()) {
        bulk.extend_from_slice(&value.to_le_bytes());
        bulk.resize(bulk.len() + 496, 0);
        bulk.extend_from_slice(&value.to_le_bytes());
    }
    let mut bytes = Vec::new();
    packet.encode(&bulk, &mut bytes);
    bytes.extend_from_slice(&bulk);
    bytes
}

/// The packet in these bytes, which hold exactly one.
pub(super) fn decode(bytes: &[u8]) -> Result<(Packet, Option<Payload>), String> {
    let (head, payload) = bytes
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or("a packet shorter than its header")?;
    let header = Header::decode(head).map_err(|error| error.to_string())?;
    if u64::from(header.payload_length) != u64::try_from(payload.len()).unwrap_or(u64::MAX) {
        return Err(format!("{:?} announces another length", header.kind));
    }
    header
        .check_payload(payload)
        .map_err(|error| error.to_string())?;
    let bulk = header.kind.is_bulk();
    let body = if bulk { &[] } else { payload };
    let packet = Packet::decode(&header, body).map_err(|error| error.to_string())?;
    if !bulk {
        return Ok((packet, None));
    }
    let mut values = Vec::new();
    for sector in payload.chunks(512) {
        let first = sector.first_chunk::<8>().ok_or("a piece of a sector")?;
        if sector.last_chunk::<8>() != Some(first) {
            return Err("a sector made of two".into());
        }
        values.push(u64::from_le_bytes(*first));
    }
    Ok((packet, Some(values.into())))
}
