//! The bytes of an undo file, and every way in which they can be wrong.

use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::ids::ByteRange;

fn header() -> Header {
    Header {
        resource: ResourceName::new("r0").unwrap(),
        node: NodeName::new("beta").unwrap(),
        kept: NodeName::new("alpha").unwrap(),
        tenure: 0x0102_0304_0506_0708,
        written_at: 1_700_000_000,
        is_whole: false,
    }
}

fn saved() -> SavedVolume {
    SavedVolume {
        volume: VolumeNumber(3),
        size_bytes: 1 << 30,
        generation: GenerationId(0x1122_3344_5566_7788),
        since: GenerationId(0x99),
    }
}

fn small_file() -> Vec<u8> {
    let (mut writer, head) = Writer::new(&header());
    let mut file = head.to_vec();
    file.extend(writer.volume(&saved()));
    let data = [5; 512];
    file.extend(writer.data(4096, &data));
    file.extend(data);
    file.extend(writer.zero(ByteRange::new(8192, 4096)));
    file.extend(writer.end());
    file
}

/// Reads a whole file as a program would. `None` for the last: it ends too early.
fn read(file: &[u8]) -> Result<Option<Vec<Record>>, UndoError> {
    let Some((head, mut rest)) = file.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let (mut reader, _) = Reader::new(head)?;
    let mut records = Vec::new();
    while !rest.is_empty() {
        let Some((head, after)) = rest.split_first_chunk::<HEAD_BYTES>() else {
            return Ok(None);
        };
        let Some((payload, after)) = after.split_at_checked(Reader::payload_bytes(head)?) else {
            return Ok(None);
        };
        records.push(reader.record(head, payload)?);
        rest = after;
    }
    Ok(reader.has_ended().then_some(records))
}

#[test]
fn a_file_has_the_golden_bytes() {
    let text = include_str!("../../fixtures/undo-v1.hex");
    let mut golden = vec![0; 1168];
    for row in text.lines().filter(|row| !row.starts_with('#')) {
        let (offset, hex) = row.split_once(' ').unwrap();
        let offset = usize::from_str_radix(offset, 16).unwrap();
        for index in 0..hex.len() / 2 {
            let byte = u8::from_str_radix(&hex[index * 2..index * 2 + 2], 16).unwrap();
            golden[offset + index] = byte;
        }
    }
    assert_eq!(small_file(), golden);
    let head = golden.first_chunk().unwrap();
    assert_eq!(Reader::new(head).unwrap().1, header());
    let totals = Totals {
        records: 3,
        data_bytes: 512,
        zero_bytes: 4096,
    };
    let expected = [
        Record::Volume(saved()),
        Record::Data(VolumeNumber(3), ByteRange::new(4096, 512)),
        Record::Zero(VolumeNumber(3), ByteRange::new(8192, 4096)),
        Record::End(totals),
    ];
    assert_eq!(read(&golden), Ok(Some(expected.to_vec())));
}

#[test]
fn no_bit_can_change_unnoticed() {
    let file = small_file();
    for at in 0..file.len() * 8 {
        let mut damaged = file.clone();
        damaged[at / 8] ^= 1 << (at % 8);
        let outcome = read(&damaged);
        assert!(
            matches!(outcome, Err(_) | Ok(None)),
            "bit {at}: {outcome:?}"
        );
    }
}

#[test]
fn a_file_that_ends_early_is_never_complete() {
    let file = small_file();
    for length in 0..file.len() {
        assert_eq!(read(&file[..length]), Ok(None), "{length}");
    }
}

#[test]
fn nothing_follows_the_end() {
    let mut file = small_file();
    let last = file[file.len() - 48..].to_vec();
    file.extend(last);
    assert_eq!(read(&file), Err(UndoError::OutOfPlace));
}

#[test]
fn a_record_that_is_missing_doubled_or_moved_is_noticed() {
    let (mut writer, head) = Writer::new(&header());
    let mut records = vec![writer.volume(&saved())];
    for at in 0..3 {
        let data = [u8::try_from(at).unwrap(); 512];
        let mut record = writer.data(at * 4096, &data).to_vec();
        record.extend(data);
        records.push(record);
    }
    records.push(writer.end());
    let join = |records: &[Vec<u8>]| [head.to_vec(), records.concat()].concat();
    assert!(matches!(read(&join(&records)), Ok(Some(_))));
    for at in 0..records.len() {
        let mut fewer = records.clone();
        let one = fewer.remove(at);
        assert!(!matches!(read(&join(&fewer)), Ok(Some(_))), "without {at}");
        for to in 0..records.len() {
            let mut moved = fewer.clone();
            moved.insert(to, one.clone());
            let is_same = moved == records;
            assert_eq!(matches!(read(&join(&moved)), Ok(Some(_))), is_same);
        }
        let mut more = records.clone();
        more.insert(at, one);
        assert!(!matches!(read(&join(&more)), Ok(Some(_))), "{at} twice");
    }
}

#[test]
fn data_has_its_place_in_its_volume_and_in_order() {
    let place = |first: ByteRange, second: ByteRange| {
        let (mut writer, head) = Writer::new(&header());
        let mut file = head.to_vec();
        file.extend(writer.volume(&saved()));
        file.extend(writer.zero(first));
        file.extend(writer.zero(second));
        file.extend(writer.end());
        read(&file)
    };
    let at = ByteRange::new;
    assert!(place(at(0, 4096), at(4096, 1)).is_ok());
    assert!(place(at(0, 4096), at((1 << 30) - 1, 1)).is_ok());
    let wrong = [
        (at(0, 4096), at(4095, 1)),
        (at(4096, 1), at(0, 1)),
        (at(0, 1), at(1, 0)),
        (at(0, 1), at(1 << 30, 1)),
        (at(0, 1), at(u64::MAX, 2)),
    ];
    for (first, second) in wrong {
        assert_eq!(
            place(first, second),
            Err(UndoError::OutOfPlace),
            "{second:?}"
        );
    }
}

#[test]
fn a_volume_comes_before_its_data_and_after_lower_numbers() {
    let (mut writer, head) = Writer::new(&header());
    let mut file = head.to_vec();
    file.extend(writer.zero(ByteRange::new(0, 1)));
    assert_eq!(read(&file), Err(UndoError::OutOfPlace));
    let (mut writer, head) = Writer::new(&header());
    let mut file = head.to_vec();
    file.extend(writer.volume(&saved()));
    file.extend(writer.volume(&saved()));
    assert_eq!(read(&file), Err(UndoError::OutOfPlace));
}

#[test]
fn what_is_not_ours_or_newer_is_told_apart_from_damage() {
    let mut bytes = header().encode();
    bytes[8] = 2;
    assert_eq!(
        Reader::new(&bytes).unwrap_err(),
        UndoError::FutureVersion { found: 2 }
    );
    bytes[0] = 0;
    assert_eq!(Reader::new(&bytes).unwrap_err(), UndoError::NotAnUndoFile);
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        pieces in prop::collection::vec((1_u64..100, 1_u32..9000, any::<bool>()), 0..20),
        is_whole: bool,
    ) {
        let header = Header { is_whole, ..header() };
        let (mut writer, head) = Writer::new(&header);
        let mut file = head.to_vec();
        let mut expected = vec![Record::Volume(saved())];
        file.extend(writer.volume(&saved()));
        let mut at = 0;
        for (gap, length, is_zero) in pieces {
            let range = ByteRange::new(at + gap, length);
            at = range.end();
            if is_zero {
                file.extend(writer.zero(range));
                expected.push(Record::Zero(VolumeNumber(3), range));
            } else {
                let data = vec![7; usize::try_from(length).unwrap()];
                file.extend(writer.data(range.offset, &data));
                file.extend(data);
                expected.push(Record::Data(VolumeNumber(3), range));
            }
        }
        expected.push(Record::End(writer.totals()));
        file.extend(writer.end());
        prop_assert_eq!(Reader::new(file.first_chunk().unwrap()).unwrap().1, header);
        prop_assert_eq!(read(&file), Ok(Some(expected)));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        drop(read(&bytes));
    }
}
