//! The disks of a resource's volumes: the engine's disk and metadata actions as operations.
//!
//! Every action finishes with exactly one event. An action needs several operations when the
//! kernel did only a part, or when zeroes have to be made in a way the disk can. A disk's files are
//! closed, and their locks go, when it has been released and its last action has finished. Nothing
//! here decides what is written, and nothing here waits.

mod backing;
mod holes;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Instant;

use rbd_engine::{CallId, DiskError, DiskRequest, Event, OperationId};
use rbd_protocol::ids::{ByteRange, VolumeNumber};
use rustix::io::Errno;
use tracing::warn;

use super::buffer::{Buffer, Pool};
use super::digest::digests;
use super::operation::{Operation, as_u64, is_fuse};
use super::ring::{Completion, Ring};
use super::slab::Slab;
use super::{Token, zero};
use crate::messages::DiskFiles;

/// All disks of one resource, and what is being done on them.
#[derive(Debug)]
pub(super) struct Disks {
    pool: Pool,
    volumes: BTreeMap<VolumeNumber, Places>,
    jobs: Slab<Job>,
}

/// A volume's disk, and the one that would like to become it.
#[derive(Debug, Default)]
struct Places {
    current: Option<Rc<Disk>>,
    candidate: Option<(CallId, Rc<Disk>)>,
}

/// The open files of a disk and what is known of them.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) data: Rc<OwnedFd>,
    pub(super) metadata: Option<Rc<OwnedFd>>,
    direct: bool,
    alignment: u32,
    block_device: bool,
    /// An operation may make the kernel wait where it is started, for another that hangs.
    blocks: bool,
    path: String,
    /// It has refused to give space back, or to zero without writing: not asked again.
    pub(super) cannot_punch: Cell<bool>,
    pub(super) cannot_zero: Cell<bool>,
    /// Errors already in the log.
    reported: RefCell<Vec<(&'static str, Errno)>>,
}

/// One action of the engine.
#[derive(Debug)]
struct Job {
    id: OperationId,
    disk: Rc<Disk>,
    work: Work,
    begun: Instant,
}

#[derive(Debug)]
enum Work {
    /// With `unless_zero`, nothing is given back of a range that is all zero.
    Read {
        unless_zero: bool,
    },
    Digest,
    Write,
    Meta,
    Flush,
    Zero(zero::Progress),
}

impl Disks {
    pub(super) fn new(pool: Pool) -> Self {
        Self {
            pool,
            volumes: BTreeMap::new(),
            jobs: Slab::default(),
        }
    }

    /// Keeps the files until the engine has answered the call: see
    /// [`attach_answered`](Self::attach_answered). Until then actions may already go to them.
    pub(super) fn attach(&mut self, volume: VolumeNumber, files: DiskFiles, call: CallId) {
        let places = self.volumes.entry(volume).or_default();
        places.candidate = Some((call, Rc::new(Disk::new(files))));
    }

    /// The engine has taken the disk, or not.
    pub(super) fn attach_answered(&mut self, volume: VolumeNumber, call: CallId, taken: bool) {
        let Some(places) = self.volumes.get_mut(&volume) else {
            return;
        };
        if let Some((_, disk)) = places.candidate.take_if(|(asked, _)| *asked == call)
            && taken
        {
            places.current = Some(disk);
        }
        self.forget_if_empty(volume);
    }

    /// Lets go of the volume's disk as soon as its jobs have finished.
    pub(super) fn release(&mut self, volume: VolumeNumber) {
        if let Some(places) = self.volumes.get_mut(&volume)
            && places.current.take().is_none()
        {
            places.candidate = None;
        }
        self.forget_if_empty(volume);
    }

    /// How many actions have not finished.
    pub(super) fn in_flight(&self) -> usize {
        self.jobs.len()
    }

    /// Starts a disk action. An event is returned if it is over at once.
    pub(super) fn start(
        &mut self,
        ring: &mut Ring<Token>,
        (id, volume): (OperationId, VolumeNumber),
        request: DiskRequest,
        range: ByteRange,
        data: Option<Buffer>,
    ) -> Option<Event<Buffer>> {
        let Some(disk) = self.disk(volume) else {
            return Some(failed(id, request, DiskError::Gone));
        };
        if request != DiskRequest::Flush && !disk.takes(range) {
            warn!(path = disk.path, ?request, ?range, "request is not aligned");
            return Some(failed(id, request, DiskError::Io));
        }
        let file = Rc::clone(&disk.data);
        let offset = range.offset;
        let length = usize::try_from(range.length).expect("usize has at least 32 bits");
        let (work, operation) = match request {
            DiskRequest::Read | DiskRequest::ReadUnlessZero | DiskRequest::Digest => {
                let buffer = self.pool.take(length);
                let operation = Operation::Read {
                    file,
                    offset,
                    buffer,
                    done: 0,
                };
                let unless_zero = request == DiskRequest::ReadUnlessZero;
                let is_read = request != DiskRequest::Digest;
                let read = Work::Read { unless_zero };
                (if is_read { read } else { Work::Digest }, operation)
            }
            DiskRequest::Write { fua: durable } => {
                let Some(buffer) = data.filter(|data| data.len() == length) else {
                    warn!(path = disk.path, ?range, "write without data of its length");
                    return Some(failed(id, request, DiskError::Io));
                };
                let operation = Operation::Write {
                    file,
                    offset,
                    buffer,
                    done: 0,
                    end: length,
                    durable,
                };
                (Work::Write, operation)
            }
            DiskRequest::Zero { fua, discard } => {
                let mut progress = zero::Progress::new(range, fua, discard);
                let Some(operation) = progress.next(&disk, &self.pool) else {
                    return Some(Event::DiskDone {
                        id,
                        result: Ok(None),
                    });
                };
                (Work::Zero(progress), operation)
            }
            DiskRequest::Flush => (Work::Flush, Operation::Sync { file }),
        };
        let blocks = disk.blocks;
        let key = self.jobs.insert(Job::new(id, disk, work));
        start(ring, key, operation, blocks);
        None
    }

    /// Starts writing a metadata block. An event is returned if it is over at once.
    pub(super) fn start_meta(
        &mut self,
        ring: &mut Ring<Token>,
        (id, volume): (OperationId, VolumeNumber),
        offset: u64,
        block: &[u8; 4096],
    ) -> Option<Event<Buffer>> {
        let Some(disk) = self.disk(volume) else {
            let result = Err(DiskError::Gone);
            return Some(Event::MetaDone { id, result });
        };
        let operation = Operation::Write {
            file: Rc::clone(disk.metadata.as_ref().unwrap_or(&disk.data)),
            offset,
            buffer: self.pool.copy_of(block),
            done: 0,
            end: block.len(),
            durable: true,
        };
        let blocks = disk.blocks;
        let key = self.jobs.insert(Job::new(id, disk, Work::Meta));
        start(ring, key, operation, blocks);
        None
    }

    /// An operation is over: either the action goes on with another one, or it has finished.
    pub(super) fn completed(
        &mut self,
        ring: &mut Ring<Token>,
        key: usize,
        completion: Completion<Token>,
    ) -> Option<Event<Buffer>> {
        let job = self.jobs.get_mut(key)?;
        match job.advance(completion, &self.pool) {
            Step::Next(operation) => {
                start(ring, key, operation, job.disk.blocks);
                None
            }
            Step::Over(result) => {
                let job = self.jobs.remove(key)?;
                Some(job.event(result))
            }
        }
    }

    pub(super) fn disk(&self, volume: VolumeNumber) -> Option<Rc<Disk>> {
        let places = self.volumes.get(&volume)?;
        let candidate = places.candidate.as_ref().map(|(_, disk)| disk);
        places.current.as_ref().or(candidate).cloned()
    }

    fn forget_if_empty(&mut self, volume: VolumeNumber) {
        let is_empty = |places: &Places| places.current.is_none() && places.candidate.is_none();
        if self.volumes.get(&volume).is_some_and(is_empty) {
            self.volumes.remove(&volume);
        }
    }
}

/// How an action goes on after an operation.
enum Step {
    Next(Operation),
    Over(Result<Option<Buffer>, DiskError>),
}

impl Job {
    fn new(id: OperationId, disk: Rc<Disk>, work: Work) -> Self {
        let begun = Instant::now();
        Self {
            id,
            disk,
            work,
            begun,
        }
    }

    fn advance(&mut self, completion: Completion<Token>, pool: &Pool) -> Step {
        let Completion {
            operation, result, ..
        } = completion;
        match result {
            Err(Errno::INTR | Errno::AGAIN) => Step::Next(operation),
            Err(error) => {
                if let Work::Zero(progress) = &mut self.work
                    && let Some(operation) = progress.refused(error, &operation, &self.disk, pool)
                {
                    return Step::Next(operation);
                }
                self.disk.report(error, &operation);
                Step::Over(Err(disk_error(error)))
            }
            Ok(count) => self.advance_by(count, operation, pool),
        }
    }

    fn advance_by(&mut self, count: usize, mut operation: Operation, pool: &Pool) -> Step {
        if let Some(left) = operation.went_on(count) {
            if count == 0 {
                self.disk.report_end(&operation);
                return Step::Over(Err(DiskError::Io));
            }
            if left > 0 {
                return Step::Next(operation);
            }
        }
        match (&mut self.work, operation) {
            (Work::Zero(progress), operation) => {
                match progress.succeeded(&operation, &self.disk, pool) {
                    Some(operation) => Step::Next(operation),
                    None => Step::Over(Ok(None)),
                }
            }
            (Work::Read { unless_zero: true }, Operation::Read { buffer, .. })
                if zero::is_zero(buffer.bytes()) =>
            {
                Step::Over(Ok(None))
            }
            (Work::Read { .. } | Work::Digest, Operation::Read { buffer, .. }) => {
                Step::Over(Ok(Some(buffer)))
            }
            (Work::Read { .. } | Work::Digest | Work::Write | Work::Meta | Work::Flush, _) => {
                Step::Over(Ok(None))
            }
        }
    }

    fn event(self, result: Result<Option<Buffer>, DiskError>) -> Event<Buffer> {
        let id = self.id;
        match self.work {
            Work::Meta => Event::MetaDone {
                id,
                result: result.map(drop),
            },
            Work::Digest => {
                let result = result.map(|data| data.map_or(vec![], |data| digests(data.bytes())));
                Event::Digests { id, result }
            }
            Work::Read { .. } | Work::Write | Work::Flush | Work::Zero(_) => {
                Event::DiskDone { id, result }
            }
        }
    }
}

impl Operation {
    /// For an operation that moves data: takes note of `count` more bytes and says how many are
    /// left.
    fn went_on(&mut self, count: usize) -> Option<usize> {
        match self {
            Self::Read { done, buffer, .. } => {
                *done += count;
                Some(buffer.len() - *done)
            }
            Self::Write { done, end, .. } => {
                *done += count;
                Some(*end - *done)
            }
            Self::Sync { .. }
            | Self::Allocate { .. }
            | Self::Receive { .. }
            | Self::ReceivePayload { .. }
            | Self::Send { .. }
            | Self::Serve { .. }
            | Self::Await { .. } => None,
        }
    }

    fn name(&self) -> (&'static str, u64) {
        match self {
            Self::Read { offset, done, .. } => ("read", offset + as_u64(*done)),
            Self::Write { offset, done, .. } => ("write", offset + as_u64(*done)),
            Self::Sync { .. } => ("flush", 0),
            Self::Allocate { offset, .. } => ("zero", *offset),
            Self::Receive { .. } | Self::ReceivePayload { .. } => ("receive", 0),
            Self::Send { .. } => ("send", 0),
            Self::Serve { .. } => ("serve", 0),
            Self::Await { .. } => ("await", 0),
        }
    }
}

impl Disk {
    pub(super) fn new(files: DiskFiles) -> Self {
        let metadata_blocks = files.metadata.as_ref().is_some_and(is_fuse);
        let blocks = is_fuse(&files.data) || metadata_blocks;
        Self {
            blocks,
            data: Rc::new(files.data),
            metadata: files.metadata.map(Rc::new),
            direct: files.direct,
            alignment: files.alignment.max(1),
            block_device: files.block_device,
            path: files.path,
            cannot_punch: Cell::new(false),
            cannot_zero: Cell::new(false),
            reported: RefCell::new(Vec::new()),
        }
    }

    fn takes(&self, range: ByteRange) -> bool {
        let alignment = u64::from(self.alignment);
        let is_aligned = range.offset.is_multiple_of(alignment)
            && u64::from(range.length).is_multiple_of(alignment);
        range.length > 0 && (is_aligned || !self.direct)
    }

    /// Writes an error to the log, once for each kind.
    fn report(&self, error: Errno, operation: &Operation) {
        let mut reported = self.reported.borrow_mut();
        let of = self.part(operation);
        if !reported.contains(&(of, error)) {
            reported.push((of, error));
            let (what, offset) = operation.name();
            warn!(path = self.path, of, what, offset, %error, "disk operation failed");
        }
    }

    /// Which of its files an operation is on: the metadata may be on another disk.
    pub(super) fn part(&self, operation: &Operation) -> &'static str {
        let external = self.metadata.as_ref().zip(operation.file());
        if external.is_some_and(|(own, used)| Rc::ptr_eq(own, used)) {
            "metadata"
        } else {
            "data"
        }
    }

    fn report_end(&self, operation: &Operation) {
        let (what, offset) = operation.name();
        warn!(
            path = self.path,
            what, offset, "the disk is shorter than its volume"
        );
    }
}

/// Starts an operation of a job; where it could block this thread, in a thread of the kernel's.
fn start(ring: &mut Ring<Token>, key: usize, operation: Operation, blocks: bool) {
    if blocks {
        ring.start_elsewhere(Token::Disk(key), operation);
    } else {
        ring.start_last(Token::Disk(key), operation);
    }
}

fn failed(id: OperationId, request: DiskRequest, error: DiskError) -> Event<Buffer> {
    if request == DiskRequest::Digest {
        let result = Err(error);
        return Event::Digests { id, result };
    }
    Event::DiskDone {
        id,
        result: Err(error),
    }
}

fn disk_error(error: Errno) -> DiskError {
    match error {
        Errno::NOSPC | Errno::DQUOT => DiskError::NoSpace,
        _ => DiskError::Io,
    }
}
