//! Undo files: what an administrator may hand to `rbdadm undo-file`.
//!
//! First byte: whether checksums are put right as the file is read, without which no mutation would
//! come past the first record.

use rbd_protocol::undo::{HEAD_BYTES, HEADER_BYTES, PIECE_BYTES, Reader, Record};

use crate::input::Input;

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let is_repaired = input.u8() & 1 == 1;
    let mut file = input.rest().to_vec();
    if is_repaired {
        repair(&mut file);
    }
    read(&file);
}

/// Reads a file as a program would, and holds what it says against the rules.
fn read(file: &[u8]) {
    let Some((head, mut rest)) = file.split_first_chunk::<HEADER_BYTES>() else {
        return;
    };
    let Ok((mut reader, _)) = Reader::new(head) else {
        return;
    };
    let mut current = None;
    let mut data_bytes = 0;
    while let Some((head, after)) = rest.split_first_chunk::<HEAD_BYTES>() {
        let Ok(length) = Reader::payload_bytes(head) else {
            return;
        };
        assert!(length <= PIECE_BYTES as usize, "{length} bytes to be read");
        let Some((payload, after)) = after.split_at_checked(length) else {
            return;
        };
        let had_ended = reader.has_ended();
        let Ok(record) = reader.record(head, payload) else {
            return;
        };
        assert!(!had_ended, "something follows the end");
        match record {
            Record::Volume(volume) => current = Some((volume, 0)),
            Record::Data(number, range) | Record::Zero(number, range) => {
                let (volume, from) = current.as_mut().expect("a volume before its data");
                assert_eq!(volume.volume, number);
                assert!(*from <= range.offset && range.end() <= volume.size_bytes);
                assert!(range.length > 0);
                *from = range.end();
                if matches!(record, Record::Data(..)) {
                    assert_eq!(payload.len(), range.length as usize);
                    data_bytes += u64::from(range.length);
                }
            }
            Record::End(totals) => assert_eq!(totals.data_bytes, data_bytes),
        }
        rest = after;
    }
}

/// Puts the checksums right, as far as the file has the form of one.
fn repair(file: &mut [u8]) {
    let Some((header, mut rest)) = file.split_first_chunk_mut::<HEADER_BYTES>() else {
        return;
    };
    let (content, seal) = header.split_at_mut(HEADER_BYTES - 4);
    let mut before = crc32fast::hash(content);
    seal.copy_from_slice(&before.to_le_bytes());
    while let Some((head, after)) = rest.split_first_chunk_mut::<HEAD_BYTES>() {
        let length = Reader::payload_bytes(head).unwrap_or(0).min(after.len());
        let (payload, after) = after.split_at_mut(length);
        let (content, seal) = head.split_at_mut(HEAD_BYTES - 4);
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&before.to_le_bytes());
        hasher.update(content);
        hasher.update(payload);
        before = hasher.finalize();
        seal.copy_from_slice(&before.to_le_bytes());
        rest = after;
    }
}
