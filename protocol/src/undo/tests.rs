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

#[test]
fn a_fitting_checksum_does_not_excuse_an_impossible_field_of_the_header() {
    let cases = [
        (8, 0, "version"),
        (10, 2, "flags"),
        (11, 1, "reserved byte"),
        (15, 1, "reserved byte"),
        (32, 128, "resource"),
        (33, 0xFF, "resource"),
        (35, b'x', "resource"),
        (159, b'x', "resource"),
        (160, 64, "node"),
        (224, 255, "kept node"),
        (287, b'x', "kept node"),
        (288, 1, "reserved byte"),
        (507, 1, "reserved byte"),
    ];
    for (at, value, what) in cases {
        let mut bytes = header().encode();
        bytes[at] = value;
        let checksum = crc32fast::hash(&bytes[..508]);
        bytes[508..].copy_from_slice(&checksum.to_le_bytes());
        let error = Reader::new(&bytes).unwrap_err();
        assert!(
            matches!(error, UndoError::Field { what: found, .. } if found == what),
            "byte {at}: {error:?}"
        );
    }
}

/// The head of a record, field by field. Reserved fields and checksum are zero.
fn head(kind: u8, volume: u16, length: u32, offset: u64) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[0] = kind;
    head[2..4].copy_from_slice(&volume.to_le_bytes());
    head[4..8].copy_from_slice(&length.to_le_bytes());
    head[8..16].copy_from_slice(&offset.to_le_bytes());
    head
}

/// Reads these records under checksums that fit.
fn read_records(records: &[([u8; HEAD_BYTES], &[u8])]) -> Result<Vec<Record>, UndoError> {
    let begin = header().encode();
    let (mut reader, _) = Reader::new(&begin).unwrap();
    let mut before = begin[508..].to_vec();
    let mut read = Vec::new();
    for (head, payload) in records {
        let mut head = *head;
        let checksum = crc32fast::hash(&[&before, &head[..20], *payload].concat());
        head[20..].copy_from_slice(&checksum.to_le_bytes());
        before = head[20..].to_vec();
        read.push(reader.record(&head, payload)?);
    }
    Ok(read)
}

#[test]
fn a_fitting_checksum_does_not_excuse_an_impossible_field_of_a_record() {
    let facts = [0; 24];
    let good = [
        (head(1, 65534, 24, 0), &facts[..]),
        (
            head(4, 0, 24, 0),
            &[&[1, 0, 0, 0, 0, 0, 0, 0], &facts[8..]].concat(),
        ),
    ];
    assert_eq!(read_records(&good).map(|records| records.len()), Ok(2));
    let [volume, end] = good;
    let (volume_facts, end_facts) = (volume.1, end.1);
    for wrong in [
        [(head(1, 65535, 24, 0), volume_facts), end],
        [(head(1, 3, 24, 1), volume_facts), end],
        [volume, (head(4, 3, 24, 0), end_facts)],
        [volume, (head(4, 0, 24, 1), end_facts)],
        [volume, (head(4, 0, 24, 0), &facts)],
    ] {
        let result = read_records(&wrong);
        assert_eq!(result, Err(UndoError::OutOfPlace), "{wrong:?}");
    }
    for at in [1, 16, 19] {
        let mut reserved = volume.0;
        reserved[at] = 1;
        let result = read_records(&[(reserved, volume_facts)]);
        assert!(
            matches!(
                result,
                Err(UndoError::Field {
                    what: "reserved byte",
                    ..
                })
            ),
            "byte {at}: {result:?}"
        );
    }
}

#[test]
fn records_have_payloads_of_their_own_lengths() {
    let what = "length of a record";
    let payload = |kind, length| Reader::payload_bytes(&head(kind, 3, length, 0));
    for kind in [1, 4] {
        assert_eq!(payload(kind, 24), Ok(24));
        for length in [0, 23, 25] {
            let found = u64::from(length);
            assert_eq!(payload(kind, length), Err(UndoError::Field { what, found }));
        }
    }
    assert_eq!(payload(2, 1), Ok(1));
    assert_eq!(payload(2, 1 << 20), Ok(1 << 20));
    for length in [0, (1 << 20) + 1] {
        let found = u64::from(length);
        assert_eq!(payload(2, length), Err(UndoError::Field { what, found }));
    }
    assert_eq!(payload(3, u32::MAX), Ok(0), "zeroes are not in the file");
    for (kind, found) in [(0, 0), (5, 5), (255, 255)] {
        let what = "kind of record";
        assert_eq!(payload(kind, 24), Err(UndoError::Field { what, found }));
    }
}

#[test]
fn volumes_follow_each_other_by_their_numbers() {
    let file = |numbers: [u16; 2]| {
        let (mut writer, head) = Writer::new(&header());
        let mut file = head.to_vec();
        for number in numbers {
            let volume = VolumeNumber(number);
            file.extend(writer.volume(&SavedVolume { volume, ..saved() }));
            // Places of one volume say nothing of the next one's.
            file.extend(writer.zero(ByteRange::new(4096, 4096)));
        }
        file.extend(writer.end());
        read(&file)
    };
    let records = file([3, 4]).unwrap().expect("it is whole");
    let zero = |number| Record::Zero(VolumeNumber(number), ByteRange::new(4096, 4096));
    assert_eq!([records[1], records[3]], [zero(3), zero(4)]);
    assert_eq!(file([4, 3]), Err(UndoError::OutOfPlace));
    assert_eq!(file([4, 4]), Err(UndoError::OutOfPlace));
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
