//! A log made by hand, and what applying it does.

use std::fs::File;
use std::io::{Read, Seek, Write};

use super::{Position, Stop, WriteLog};

fn log(entries: &[(u64, u64, u64, &[u8])]) -> File {
    let mut file = tempfile::tempfile().expect("a file");
    let mut sector = vec![];
    for word in [0x006a_7366_7773_6872_u64, 1, entries.len() as u64] {
        sector.extend(word.to_le_bytes());
    }
    sector.extend(512_u32.to_le_bytes());
    sector.resize(512, 0);
    file.write_all(&sector).expect("written");
    for &(at, sectors, flags, data) in entries {
        let is_mark = flags & 8 != 0;
        let length = data.len() as u64;
        let mut entry = vec![];
        for word in [at, sectors, flags, length] {
            entry.extend(word.to_le_bytes());
        }
        if is_mark {
            entry.extend(data);
        }
        entry.resize(512, 0);
        file.write_all(&entry).expect("written");
        if !is_mark {
            file.write_all(data).expect("written");
        }
    }
    file
}

#[test]
fn a_log_is_applied_from_flush_to_flush_and_to_marks() {
    let log = WriteLog::open(log(&[
        (1, 2, 0, &[7; 1024]),
        (0, 0, 1, &[]),
        (0, 0, 8, b"here"),
        (1, 1, 4, &[]),
        (0, 1, 2, &[9; 512]),
        (3, 1, 0, &[5; 512]),
    ]))
    .expect("a log");
    let mut disk = tempfile::tempfile().expect("a disk");
    let content = |disk: &mut File| {
        let mut content = vec![];
        disk.rewind().expect("rewound");
        disk.read_to_end(&mut content).expect("read");
        content.chunks(512).map(|one| one[0]).collect::<Vec<u8>>()
    };

    let (at, stop) = log.apply(&disk, Position::START).expect("applied");
    assert_eq!((at.entry, stop), (2, Stop::Flush));
    assert_eq!(content(&mut disk), [0, 7, 7]);
    let (at, stop) = log.apply(&disk, at).expect("applied");
    assert_eq!(stop, Stop::Mark("here".to_owned()));
    let (at, stop) = log.apply(&disk, at).expect("applied");
    assert_eq!(stop, Stop::Flush);
    assert_eq!(content(&mut disk), [9, 0, 7]);
    let (at, stop) = log.apply(&disk, at).expect("applied");
    assert_eq!((at.entry, stop), (6, Stop::End));
    assert_eq!(content(&mut disk), [9, 0, 7, 5]);
}

#[test]
fn what_is_no_log_is_refused() {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&[1; 4096]).expect("written");
    assert!(WriteLog::open(file).is_err());
}
