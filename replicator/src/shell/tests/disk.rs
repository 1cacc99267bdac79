//! Disk and metadata actions against real files.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::rc::Rc;

use rbd_engine::{CallId, DiskError, DiskRequest, Event, OperationId};
use rbd_protocol::ids::{ByteRange, VolumeNumber};

use super::super::Token;
use super::super::buffer::{Buffer, Pool};
use super::super::disk::{Disk, Disks};
use super::super::operation::Operation;
use super::super::ring::Ring;
use super::{Deadline, pattern, turn};
use crate::messages::DiskFiles;

const VOLUME: VolumeNumber = VolumeNumber(3);

struct Bench {
    ring: Ring<Token>,
    disks: Disks,
    pool: Pool,
    next_id: u64,
}

impl Bench {
    fn new(files: DiskFiles) -> Self {
        let pool = Pool::default();
        let mut disks = Disks::new(pool.clone());
        disks.attach(VOLUME, files, CallId(1));
        disks.attach_answered(VOLUME, CallId(1), true);
        Self {
            ring: Ring::new().unwrap(),
            disks,
            pool,
            next_id: 1,
        }
    }

    fn start(
        &mut self,
        request: DiskRequest,
        range: ByteRange,
        data: Option<Buffer>,
    ) -> Option<Event<Buffer>> {
        let id = OperationId(self.next_id);
        self.next_id += 1;
        self.disks
            .start(&mut self.ring, (id, VOLUME), request, range, data)
    }

    fn finish(&mut self) -> Event<Buffer> {
        let deadline = Deadline::new();
        loop {
            deadline.check();
            for completion in turn(&mut self.ring) {
                let Token::Disk(key) = completion.token else {
                    unreachable!()
                };
                if let Some(event) = self.disks.completed(&mut self.ring, key, completion) {
                    return event;
                }
            }
        }
    }

    fn run(
        &mut self,
        request: DiskRequest,
        range: ByteRange,
        data: Option<Buffer>,
    ) -> Result<Option<Buffer>, DiskError> {
        let event = self.start(request, range, data);
        match event.unwrap_or_else(|| self.finish()) {
            Event::DiskDone { result, .. } => result,
            other => panic!("{other:?}"),
        }
    }

    fn write(&mut self, offset: u64, bytes: &[u8], fua: bool) -> Result<Option<Buffer>, DiskError> {
        let data = self.pool.copy_of(bytes);
        let range = ByteRange::new(offset, u32::try_from(bytes.len()).unwrap());
        self.run(DiskRequest::Write { fua }, range, Some(data))
    }

    fn read(&mut self, offset: u64, length: u32) -> Result<Vec<u8>, DiskError> {
        let result = self.run(DiskRequest::Read, ByteRange::new(offset, length), None)?;
        Ok(result
            .expect("a read gives its buffer back")
            .bytes()
            .to_vec())
    }
}

/// A file of this size, past the page cache where the file system can.
fn files(path: &Path, size: u64) -> DiskFiles {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let plain = options.open(path).unwrap();
    plain.set_len(size).unwrap();
    let direct = options.custom_flags(libc::O_DIRECT).open(path).ok();
    DiskFiles {
        direct: direct.is_some(),
        data: direct.unwrap_or(plain).into(),
        alignment: 4096,
        block_device: false,
        metadata: None,
        path: path.display().to_string(),
    }
}

fn device(file: File) -> DiskFiles {
    DiskFiles {
        data: OwnedFd::from(file),
        direct: false,
        alignment: 512,
        block_device: false,
        metadata: None,
        path: "test".into(),
    }
}

#[test]
fn what_was_written_is_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(files(&directory.path().join("disk"), 8 << 20));
    let mut offset = 0;
    for (seed, length) in [4096, 16384, 65536, 1 << 20, 3 << 20]
        .into_iter()
        .enumerate()
    {
        let bytes = pattern(length, seed);
        bench.write(offset, &bytes, seed % 2 == 0).unwrap();
        assert_eq!(
            bench.read(offset, u32::try_from(length).unwrap()),
            Ok(bytes)
        );
        offset += 1 << 20;
    }
    assert_eq!(
        bench
            .run(DiskRequest::Flush, ByteRange::new(0, 0), None)
            .map(drop),
        Ok(())
    );
    assert_eq!(bench.disks.in_flight(), 0);
}

#[test]
fn many_operations_at_once_each_finish_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(files(&directory.path().join("disk"), 8 << 20));
    for index in 0..2000_u64 {
        let data = Some(
            bench
                .pool
                .copy_of(&pattern(4096, usize::try_from(index).unwrap())),
        );
        let range = ByteRange::new(index * 4096, 4096);
        assert!(
            bench
                .start(DiskRequest::Write { fua: false }, range, data)
                .is_none()
        );
    }
    let deadline = Deadline::new();
    let mut finished = std::collections::BTreeSet::new();
    while finished.len() < 2000 {
        deadline.check();
        for completion in turn(&mut bench.ring) {
            let Token::Disk(key) = completion.token else {
                unreachable!()
            };
            let event = bench.disks.completed(&mut bench.ring, key, completion);
            let Some(Event::DiskDone {
                id,
                result: Ok(None),
            }) = event
            else {
                panic!("{event:?}");
            };
            assert!(finished.insert(id));
        }
    }
    assert_eq!(bench.disks.in_flight(), 0);
    assert_eq!(bench.read(1999 * 4096, 4096), Ok(pattern(4096, 1999)));
}

#[test]
fn every_way_of_zeroing_leaves_zeroes_and_nothing_else() {
    for (cannot_punch, cannot_zero) in [(false, false), (true, false), (false, true), (true, true)]
    {
        for (discard, fua) in [(true, false), (false, true), (true, true), (false, false)] {
            let directory = tempfile::tempdir().unwrap();
            let mut bench = Bench::new(files(&directory.path().join("disk"), 8 << 20));
            let disk = bench.disks.disk(VOLUME).unwrap();
            disk.cannot_punch.set(cannot_punch);
            disk.cannot_zero.set(cannot_zero);
            let bytes = pattern(4 << 20, 5);
            bench.write(0, &bytes, false).unwrap();
            let range = ByteRange::new(4096, (3 << 20) - 4096);
            let zero = DiskRequest::Zero { fua, discard };
            assert_eq!(bench.run(zero, range, None).map(drop), Ok(()));
            let mut expected = bytes;
            expected[4096..3 << 20].fill(0);
            assert_eq!(bench.read(0, 4 << 20), Ok(expected));
            let path = directory.path().join("disk");
            assert_eq!(std::fs::metadata(path).unwrap().len(), 8 << 20);
        }
    }
}

#[test]
fn a_disk_that_cannot_punch_is_zeroed_by_writing() {
    // A pipe or device without holes is not at hand everywhere; /dev/null refuses fallocate too
    // and takes every write.
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap();
    let mut bench = Bench::new(device(null));
    let zero = DiskRequest::Zero {
        fua: false,
        discard: true,
    };
    assert_eq!(
        bench.run(zero, ByteRange::new(0, 3 << 20), None).map(drop),
        Ok(())
    );
    let disk = bench.disks.disk(VOLUME).unwrap();
    assert!(disk.cannot_punch.get() && disk.cannot_zero.get());
}

#[test]
fn an_unaligned_request_is_an_error_and_touches_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut files = files(&directory.path().join("disk"), 1 << 20);
    files.direct = true;
    let mut bench = Bench::new(files);
    assert_eq!(
        bench.write(512, &[1; 4096], false).map(drop),
        Err(DiskError::Io)
    );
    assert_eq!(
        bench.write(0, &[1; 512], false).map(drop),
        Err(DiskError::Io)
    );
    assert_eq!(bench.read(100, 4096), Err(DiskError::Io));
    assert_eq!(bench.read(0, 0), Err(DiskError::Io));
    assert_eq!(bench.read(0, 8192), Ok(vec![0; 8192]));
}

#[test]
fn a_write_without_its_data_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(files(&directory.path().join("disk"), 1 << 20));
    let write = DiskRequest::Write { fua: false };
    let range = ByteRange::new(0, 4096);
    assert_eq!(bench.run(write, range, None).map(drop), Err(DiskError::Io));
    let short = bench.pool.zeroes(512);
    assert_eq!(
        bench.run(write, range, Some(short)).map(drop),
        Err(DiskError::Io)
    );
}

#[test]
fn a_disk_shorter_than_its_volume_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(files(&directory.path().join("disk"), 1 << 20));
    assert_eq!(bench.read(1 << 20, 4096), Err(DiskError::Io));
    assert_eq!(bench.read((1 << 20) - 4096, 8192), Err(DiskError::Io));
    assert_eq!(bench.read((1 << 20) - 4096, 4096), Ok(vec![0; 4096]));
}

#[test]
fn a_full_disk_says_so() {
    let full = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut bench = Bench::new(device(full));
    assert_eq!(
        bench.write(0, &[1; 4096], false).map(drop),
        Err(DiskError::NoSpace)
    );
}

#[test]
fn a_disk_that_cannot_be_written_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    File::create(&path).unwrap().write_all(&[7; 8192]).unwrap();
    let mut bench = Bench::new(device(File::open(&path).unwrap()));
    assert_eq!(
        bench.write(0, &[1; 4096], true).map(drop),
        Err(DiskError::Io)
    );
    assert_eq!(bench.read(0, 4096), Ok(vec![7; 4096]));
}

#[test]
fn metadata_goes_to_its_own_file_or_to_the_data() {
    let directory = tempfile::tempdir().unwrap();
    let (data, metadata) = (
        directory.path().join("data"),
        directory.path().join("metadata"),
    );
    let own = files(&metadata, 1 << 20);
    for external in [true, false] {
        let mut files = files(&data, 1 << 20);
        files.metadata = external.then(|| own.data.try_clone().unwrap());
        let mut bench = Bench::new(files);
        let block: [u8; 4096] = pattern(4096, 9).try_into().unwrap();
        let id = OperationId(77);
        let over = bench
            .disks
            .start_meta(&mut bench.ring, (id, VOLUME), 8192, &block);
        assert!(over.is_none());
        let event = bench.finish();
        assert!(matches!(
            event,
            Event::MetaDone {
                id: OperationId(77),
                result: Ok(())
            }
        ));
        let mut found = [0; 4096];
        let path = if external { &metadata } else { &data };
        File::open(path)
            .unwrap()
            .read_exact_at(&mut found, 8192)
            .unwrap();
        assert_eq!(found, block);
    }
}

#[test]
fn a_read_may_give_nothing_back_of_what_is_all_zero() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(files(&directory.path().join("disk"), 1 << 20));
    bench.write(8192, &[1; 4096], false).unwrap();
    bench.write(16384, &[0; 4096], false).unwrap();
    let mut is_zero = |offset, length| {
        let range = ByteRange::new(offset, length);
        let read = bench.run(DiskRequest::ReadUnlessZero, range, None);
        read.map(|data| data.is_none())
    };
    assert_eq!(is_zero(0, 8192), Ok(true), "a hole");
    assert_eq!(is_zero(16384, 4096), Ok(true), "zeroes that were written");
    assert_eq!(is_zero(4096, 8192), Ok(false));
    assert_eq!(is_zero(8192, 4096), Ok(false));
}

#[test]
fn a_released_disk_is_closed_when_its_last_operation_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let files = files(&directory.path().join("disk"), 1 << 20);
    let mut bench = Bench::new(files);
    let disk = Rc::downgrade(&bench.disks.disk(VOLUME).unwrap());
    let read = DiskRequest::Read;
    assert!(bench.start(read, ByteRange::new(0, 4096), None).is_none());
    bench.disks.release(VOLUME);
    assert!(disk.upgrade().is_some(), "an operation is in flight");
    let gone = bench.run(read, ByteRange::new(0, 4096), None);
    assert_eq!(gone.map(drop), Err(DiskError::Gone));
    let event = bench.finish();
    assert!(matches!(
        event,
        Event::DiskDone {
            result: Ok(Some(_)),
            ..
        }
    ));
    drop(event);
    assert!(disk.upgrade().is_none());
}

#[test]
fn a_refused_disk_is_closed_and_the_attached_one_stays() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(files(&directory.path().join("one"), 1 << 20));
    bench.write(0, &[1; 4096], false).unwrap();
    bench.disks.attach(
        VOLUME,
        files(&directory.path().join("two"), 1 << 20),
        CallId(2),
    );
    bench.disks.attach_answered(VOLUME, CallId(2), false);
    assert_eq!(bench.read(0, 4096), Ok(vec![1; 4096]));
    bench.disks.release(VOLUME);
    assert!(bench.disks.disk(VOLUME).is_none());
}

#[test]
fn holes_of_a_file_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let mut bench = Bench::new(files(&directory.path().join("disk"), 8 << 20));
    bench.write(2 << 20, &pattern(1 << 20, 1), true).unwrap();
    let extents = bench
        .disks
        .extents(VOLUME, ByteRange::new(0, 8 << 20))
        .unwrap();
    let told: u64 = extents.iter().map(|extent| extent.length).sum();
    assert_eq!(told, 8 << 20);
    let mut at = 0;
    for extent in extents {
        let is_data = at < 3 << 20 && at + extent.length > 2 << 20;
        assert!(
            !is_data || !extent.is_hole,
            "data at {at} is told as a hole"
        );
        at += extent.length;
    }
}

#[test]
fn a_disk_that_is_slow_to_answer_is_not_asked_for_its_holes() {
    let directory = tempfile::tempdir().unwrap();
    // A pipe that is full stands for a disk that hangs.
    let (mut outlet, mut inlet) = std::io::pipe().unwrap();
    let flags = rustix::fs::fcntl_getfl(&inlet).unwrap();
    rustix::fs::fcntl_setfl(&inlet, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    while inlet.write(&[0; 4096]).is_ok() {}
    rustix::fs::fcntl_setfl(&inlet, flags).unwrap();
    let mut bench = Bench::new(DiskFiles {
        metadata: Some(inlet.into()),
        ..files(&directory.path().join("disk"), 1 << 20)
    });
    let range = ByteRange::new(0, 1 << 20);
    assert!(bench.disks.extents(VOLUME, range).is_some());
    let id = (OperationId(1), VOLUME);
    let done = bench.disks.start_meta(&mut bench.ring, id, 0, &[0; 4096]);
    assert!(done.is_none());
    assert!(turn(&mut bench.ring).is_empty());
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(bench.disks.extents(VOLUME, range).is_none());
    // It goes on, and is asked again.
    outlet.read_exact(&mut [0; 4096]).unwrap();
    assert!(matches!(bench.finish(), Event::MetaDone { .. }));
    assert!(bench.disks.extents(VOLUME, range).is_some());
}

#[test]
fn a_ring_that_goes_away_takes_its_operations_back() {
    let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut stream = super::super::stream::Stream::new(one.into(), &[]);
    let mut ring = Ring::new().unwrap();
    let token = Token::Receive(super::super::Socket::Client(0));
    stream.receive(&mut ring, token);
    assert!(turn(&mut ring).is_empty());
    drop(ring);
    assert!(!stream.is_idle(), "its memory went with the operation");
}

#[test]
fn a_failed_operation_is_said_to_be_of_the_metadata_where_that_is_elsewhere() {
    let file = || OwnedFd::from(tempfile::tempfile().unwrap());
    let disk = Disk::new(DiskFiles {
        metadata: Some(file()),
        ..device(tempfile::tempfile().unwrap())
    });
    let part = |file: &Rc<OwnedFd>| disk.part(&Operation::Sync { file: file.clone() });
    assert_eq!(part(&disk.data), "data");
    let metadata = disk.metadata.as_ref().expect("another file");
    assert_eq!(part(metadata), "metadata");
    let internal = Disk::new(device(tempfile::tempfile().unwrap()));
    let sync = Operation::Sync {
        file: internal.data.clone(),
    };
    assert_eq!(internal.part(&sync), "data");
}
