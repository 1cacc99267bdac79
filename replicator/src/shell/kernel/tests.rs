//! The tags of a queue, with a file in the place of the kernel's driver. It refuses every command,
//! but gives them back, so that what would have been told the kernel can be looked at.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::rc::Rc;

use rbd_engine::{Event, RequestError, RequestId, RequestKind, Room};
use rbd_protocol::ids::{ByteRange, VolumeNumber};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;

use super::{KernelDevices, Tag};
use crate::messages::KernelQueue;
use crate::shell::Token;
use crate::shell::buffer::{Buffer, Pool};
use crate::shell::operation::Operation;
use crate::shell::ring::{Completion, Ring, Wait};
use crate::ublk::abi::{Descriptor, Numbering};

const VOLUME: VolumeNumber = VolumeNumber(3);
const READ: u32 = 0;
const WRITE: u32 = 1;
const FLUSH: u32 = 2;
const DISCARD: u32 = 3;
const ZEROES: u32 = 5;
const FUA: u32 = 1 << 13;
const NO_UNMAP: u32 = 1 << 15;
const ROOM: Room = Room {
    requests: 1,
    bytes: 1,
};

/// A queue of four tags with payloads of two pages.
struct Queue {
    ring: Ring<Token>,
    pool: Pool,
    devices: KernelDevices,
    memory: File,
}

impl Queue {
    fn new() -> Self {
        let memory = File::from(rustix::fs::memfd_create("queue", MemfdFlags::CLOEXEC).unwrap());
        memory.set_len(4096).unwrap();
        let pool = Pool::default();
        let mut queue = Self {
            ring: Ring::new().unwrap(),
            devices: KernelDevices::new(pool.clone()),
            pool,
            memory,
        };
        let handed_over = KernelQueue {
            file: queue.memory.try_clone().unwrap(),
            depth: 4,
            payload_bytes: 8192,
            numbering: Numbering::Ioctl,
        };
        queue
            .devices
            .arrive(&mut queue.ring, VOLUME, handed_over)
            .unwrap();
        queue
    }

    /// The commands given since the last look: tag, number and result.
    fn told(&mut self) -> Vec<(u16, u32, i32)> {
        let mut over = Vec::new();
        self.ring.turn(Wait::No, &mut over).unwrap();
        let mut told: Vec<_> = over.iter().map(told).collect();
        told.sort_unstable();
        told
    }

    /// The kernel gives a tag back with a request.
    fn request(&mut self, tag: u16, word: u32, sector: u64, sectors: u32) {
        let mut bytes = [0; Descriptor::BYTES];
        bytes[..4].copy_from_slice(&word.to_ne_bytes());
        bytes[4..8].copy_from_slice(&sectors.to_ne_bytes());
        bytes[8..16].copy_from_slice(&sector.to_ne_bytes());
        let at = u64::from(tag) * 24;
        self.memory.write_all_at(&bytes, at).unwrap();
        self.give_back(tag, Ok(0));
    }

    fn give_back(&mut self, tag: u16, result: Result<usize, Errno>) {
        let completion = Completion {
            token: Token::Kernel(0, tag),
            operation: Operation::Sync {
                file: Rc::new(self.memory.try_clone().unwrap().into()),
            },
            result,
        };
        self.devices
            .completed(&mut self.ring, (0, tag), &completion);
    }

    /// The next request for the engine, taken apart.
    fn next(&mut self) -> Option<(RequestId, RequestKind, ByteRange, Option<Buffer>)> {
        match self.devices.next(ROOM)? {
            Event::Request {
                id,
                volume,
                kind,
                range,
                data,
            } => {
                assert_eq!(volume, VOLUME);
                Some((id, kind, range, data))
            }
            other => panic!("{other:?}"),
        }
    }

    fn complete(&mut self, id: RequestId, result: Result<Option<Buffer>, RequestError>) {
        self.devices.complete(&mut self.ring, id, result);
    }

    fn tag(&self, tag: usize) -> Tag {
        self.devices.devices.get(0).unwrap().tags[tag]
    }

    /// What the block layer wants written, or has read, under a tag.
    fn payload(&self, tag: u16, length: usize) -> Vec<u8> {
        let served = self.devices.devices.get(0).unwrap();
        served.device.payload(tag, length).to_vec()
    }

    fn put_payload(&self, tag: u16, bytes: &[u8]) {
        let served = self.devices.devices.get(0).unwrap();
        served.device.fill_payload(tag, bytes);
    }
}

fn told(completion: &Completion<Token>) -> (u16, u32, i32) {
    let Operation::Serve {
        number, command, ..
    } = &completion.operation
    else {
        panic!("{completion:?}");
    };
    let tag = u16::from_ne_bytes(command[2..4].try_into().unwrap());
    assert_eq!(completion.token, Token::Kernel(0, tag));
    assert_ne!(command[8..16], [0; 8], "there is a place for the payload");
    let result = i32::from_ne_bytes(command[4..8].try_into().unwrap());
    (tag, *number, result)
}

const FETCH: u32 = 0xc010_7520;
const COMMIT: u32 = 0xc010_7521;

#[test]
fn every_tag_is_fetched_when_a_queue_arrives() {
    let mut queue = Queue::new();
    let expected = [(0, FETCH, 0), (1, FETCH, 0), (2, FETCH, 0), (3, FETCH, 0)];
    assert_eq!(queue.told(), expected);
    assert!(queue.next().is_none());
}

#[test]
fn a_write_takes_its_payload_along_and_is_answered_with_its_length() {
    let mut queue = Queue::new();
    queue.told();
    queue.put_payload(2, &[7; 4096]);
    queue.request(2, WRITE | FUA, 8, 8);
    let (id, kind, range, data) = queue.next().unwrap();
    assert_eq!(kind, RequestKind::Write { fua: true });
    assert_eq!(range, ByteRange::new(4096, 4096));
    assert_eq!(data.unwrap().bytes(), [7; 4096]);
    assert_eq!(queue.devices.in_flight(), 1);
    assert_eq!(
        queue.told(),
        [],
        "nothing is answered before the engine has"
    );
    queue.complete(id, Ok(None));
    assert_eq!(queue.told(), [(2, COMMIT, 4096)]);
    assert_eq!(queue.devices.in_flight(), 0);
}

#[test]
fn a_read_is_answered_with_its_data() {
    let mut queue = Queue::new();
    queue.told();
    queue.request(1, READ, 1, 1);
    let (id, kind, range, data) = queue.next().unwrap();
    assert_eq!((kind, data.is_none()), (RequestKind::Read, true));
    assert_eq!(range, ByteRange::new(512, 512));
    let data = queue.pool.copy_of(&[9; 512]);
    queue.complete(id, Ok(Some(data)));
    assert_eq!(queue.payload(1, 512), [9; 512]);
    assert_eq!(queue.told(), [(1, COMMIT, 512)]);
}

#[test]
fn a_read_that_came_short_is_an_error() {
    let mut queue = Queue::new();
    queue.told();
    queue.request(1, READ, 1, 2);
    let (id, ..) = queue.next().unwrap();
    let data = queue.pool.copy_of(&[9; 512]);
    queue.complete(id, Ok(Some(data)));
    assert_eq!(queue.told(), [(1, COMMIT, -5)]);
}

#[test]
fn flushes_discards_and_zeroes_have_no_payload() {
    let expected = [
        (FLUSH, 0, RequestKind::Flush, ByteRange::new(0, 0)),
        (
            DISCARD,
            1 << 17,
            RequestKind::Zero {
                fua: false,
                discard: true,
            },
            ByteRange::new(4096, 64 << 20),
        ),
        (
            ZEROES,
            16,
            RequestKind::Zero {
                fua: false,
                discard: true,
            },
            ByteRange::new(4096, 8192),
        ),
        (
            ZEROES | NO_UNMAP | FUA,
            64,
            RequestKind::Zero {
                fua: true,
                discard: false,
            },
            ByteRange::new(4096, 32768),
        ),
    ];
    let mut queue = Queue::new();
    queue.told();
    for (word, sectors, kind, range) in expected {
        queue.request(0, word, 8, sectors);
        let (id, asked, at, data) = queue.next().unwrap();
        assert_eq!((asked, at, data.is_none()), (kind, range, true));
        queue.complete(id, Ok(None));
        assert_eq!(queue.told(), [(0, COMMIT, 0)]);
    }
}

#[test]
fn an_error_is_told_as_the_kernel_numbers_it() {
    let mut queue = Queue::new();
    queue.told();
    let errors = [
        (RequestError::Io, -5),
        (RequestError::NotPrimary, -5),
        (RequestError::NoSpace, -28),
        (RequestError::Invalid, -22),
    ];
    for (error, number) in errors {
        queue.request(3, WRITE, 0, 1);
        let (id, ..) = queue.next().unwrap();
        queue.complete(id, Err(error));
        assert_eq!(queue.told(), [(3, COMMIT, number)]);
    }
}

#[test]
fn what_cannot_be_served_is_refused_without_asking_the_engine() {
    let mut queue = Queue::new();
    queue.told();
    queue.request(0, 15, 0, 8); // a zone is to be reset
    assert_eq!(queue.told(), [(0, COMMIT, -95)]);
    queue.request(0, WRITE, 0, 17); // longer than its place
    assert_eq!(queue.told(), [(0, COMMIT, -22)]);
    queue.request(0, READ, 0, 0);
    assert_eq!(queue.told(), [(0, COMMIT, -22)]);
    assert!(queue.next().is_none());
}

#[test]
fn requests_wait_in_order_until_the_engine_has_room() {
    let mut queue = Queue::new();
    queue.request(3, FLUSH, 0, 0);
    queue.request(1, READ, 0, 1);
    let none = Room {
        requests: 0,
        bytes: 1,
    };
    assert!(queue.devices.next(none).is_none());
    assert_eq!(queue.next().unwrap().1, RequestKind::Flush);
    assert_eq!(queue.next().unwrap().1, RequestKind::Read);
    assert!(queue.next().is_none());
}

#[test]
fn an_end_answers_what_is_done_and_fails_nothing() {
    let mut queue = Queue::new();
    queue.told();
    for tag in 0..3 {
        queue.request(tag, WRITE, 0, 1);
    }
    let (done, ..) = queue.next().unwrap();
    let (failed, ..) = queue.next().unwrap();
    queue.devices.drain();
    assert!(queue.next().is_none(), "nothing new is begun");
    queue.complete(done, Ok(None));
    assert!(!queue.devices.has_kept(), "nothing was begun in vain");
    queue.complete(failed, Err(RequestError::NotPrimary));
    assert!(queue.devices.has_kept(), "it may have been done in part");
    assert_eq!(queue.told(), [(0, COMMIT, 512)]);
    assert_eq!(queue.tag(1), Tag::Kept);
    assert!(matches!(queue.tag(2), Tag::Arrived(_)));
    assert_eq!(queue.devices.in_flight(), 0);
}

#[test]
fn a_device_is_let_go_when_its_last_tag_is_gone() {
    let mut queue = Queue::new();
    queue.told();
    queue.request(0, WRITE, 0, 1);
    let (id, ..) = queue.next().unwrap();
    for tag in 1..4 {
        queue.give_back(tag, Err(Errno::NODEV));
    }
    assert!(!queue.devices.devices.is_empty(), "one is in the engine");
    queue.complete(id, Ok(None));
    queue.told();
    assert!(!queue.devices.devices.is_empty(), "one is with the kernel");
    queue.give_back(0, Err(Errno::NODEV));
    assert!(queue.devices.devices.is_empty());
}

#[test]
fn its_ids_are_never_those_of_a_client() {
    let mut queue = Queue::new();
    queue.request(2, FLUSH, 0, 0);
    let (id, ..) = queue.next().unwrap();
    assert!(KernelDevices::owns(id));
    let highest = RequestId(u64::from(u32::MAX >> 1) << 32 | u64::from(u32::MAX));
    assert!(!KernelDevices::owns(highest));
}
