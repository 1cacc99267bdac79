//! Kernel block devices: the block layer's requests in, its answers out.
//!
//! A request of the block layer has a tag, and a tag is with the kernel, here, or with the engine.
//! A tag that comes back carries a request; answering it gives the tag to the kernel again. What is
//! not answered when this thread ends the kernel asks of the next server, so nothing is ever failed
//! because of an end. Devices are made, started and removed elsewhere (`control/kernel`).

mod device;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

use rbd_engine::{Event, RequestError, RequestId, RequestKind, Room};
use rbd_protocol::ids::{ByteRange, VolumeNumber};
use rustix::io::Errno;
use tracing::{debug, warn};

pub(super) use device::Device;

use super::Token;
use super::buffer::{Buffer, Pool};
use super::operation::Operation;
use super::ring::{Completion, Ring};
use super::slab::Slab;
use crate::messages::KernelQueue;
use crate::ublk::abi::{Descriptor, Kind};

/// The kernel devices of one resource, and their requests in the engine.
#[derive(Debug)]
pub(super) struct KernelDevices {
    pool: Pool,
    devices: Slab<Served>,
    is_draining: bool,
    /// A request that the engine was given is left to the next server.
    has_kept: bool,
}

#[derive(Debug)]
struct Served {
    volume: VolumeNumber,
    device: Rc<Device>,
    tags: Box<[Tag]>,
    /// Tags with a request the engine has not been given.
    arrived: VecDeque<u16>,
    /// Tags that are with the kernel.
    with_kernel: u32,
    /// Tags that are with the engine.
    in_engine: u32,
}

/// Where a tag is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag {
    WithKernel,
    /// Its request waits for the engine to have room.
    Arrived(Descriptor),
    InEngine(Descriptor),
    /// Answered by nobody: the next server will be asked.
    Kept,
    /// The kernel has taken it back for good.
    Gone,
}

impl KernelDevices {
    pub(super) fn new(pool: Pool) -> Self {
        Self {
            pool,
            devices: Slab::default(),
            is_draining: false,
            has_kept: false,
        }
    }

    /// Takes a device's queue over and fetches every tag.
    pub(super) fn arrive(
        &mut self,
        ring: &mut Ring<Token>,
        volume: VolumeNumber,
        queue: KernelQueue,
    ) -> io::Result<()> {
        let device = Rc::new(Device::new(queue)?);
        let depth = device.depth();
        let key = self.devices.insert(Served {
            volume,
            device: Rc::clone(&device),
            tags: vec![Tag::WithKernel; usize::from(depth)].into(),
            arrived: VecDeque::new(),
            with_kernel: u32::from(depth),
            in_engine: 0,
        });
        for tag in 0..depth {
            let command = device.fetch(tag);
            start(ring, &device, (key, tag), command);
        }
        Ok(())
    }

    /// How many requests are in the engine.
    pub(super) fn in_flight(&self) -> usize {
        let counts = self.devices.iter().map(|(_, served)| served.in_engine);
        usize::try_from(counts.sum::<u32>()).unwrap_or(usize::MAX)
    }

    /// Takes no more requests, and answers only what the engine carries out: the rest is for the
    /// next server.
    pub(super) fn drain(&mut self) {
        self.is_draining = true;
    }

    /// Whether something that may have been done in part will be asked of the next server again.
    pub(super) fn has_kept(&self) -> bool {
        self.has_kept
    }

    /// A tag has come back from the kernel.
    pub(super) fn completed(
        &mut self,
        ring: &mut Ring<Token>,
        (key, tag): (usize, u16),
        completion: &Completion<Token>,
    ) {
        let Some(served) = self.devices.get_mut(key) else {
            return;
        };
        served.with_kernel -= 1;
        match completion.result {
            Ok(0) => served.take(ring, key, tag),
            Ok(other) => {
                warn!(volume = %served.volume, tag, other, "a tag came back in an unknown way");
                served.lose(tag);
            }
            Err(Errno::NODEV | Errno::CANCELED) => served.lose(tag),
            Err(error) => {
                warn!(volume = %served.volume, tag, %error, "a tag is lost");
                served.lose(tag);
            }
        }
        self.forget_if_over(key);
    }

    /// The next request for the engine, if it has room for one.
    pub(super) fn next(&mut self, room: Room) -> Option<Event<Buffer>> {
        if room.requests == 0 || room.bytes == 0 || self.is_draining {
            return None;
        }
        let key = self.devices.iter().find(|(_, one)| !one.arrived.is_empty());
        let key = key?.0;
        let served = self.devices.get_mut(key)?;
        let tag = served.arrived.pop_front()?;
        Some(served.submit(&self.pool, key, tag))
    }

    /// Whether a request is one of these devices.
    pub(super) fn owns(id: RequestId) -> bool {
        id.0 & KERNEL != 0
    }

    /// The engine has finished a request.
    pub(super) fn complete(
        &mut self,
        ring: &mut Ring<Token>,
        id: RequestId,
        result: Result<Option<Buffer>, RequestError>,
    ) {
        let (key, tag) = place_of(id);
        let Some(served) = self.devices.get_mut(key) else {
            return;
        };
        let Some(Tag::InEngine(request)) = served.tags.get(usize::from(tag)).copied() else {
            return;
        };
        served.in_engine -= 1;
        match result {
            Err(error) if self.is_draining => {
                debug!(volume = %served.volume, tag, ?error, "left to the next server");
                served.put(tag, Tag::Kept);
                self.has_kept = true;
            }
            result => served.answer(ring, key, (tag, request), result),
        }
        self.forget_if_over(key);
    }

    fn forget_if_over(&mut self, key: usize) {
        if let Some(served) = self.devices.get(key)
            && served.tags.iter().all(|tag| *tag == Tag::Gone)
        {
            debug!(volume = %served.volume, "the kernel device is gone");
            self.devices.remove(key);
        }
    }
}

impl Served {
    /// A request has come with a tag.
    fn take(&mut self, ring: &mut Ring<Token>, key: usize, tag: u16) {
        let request = self.device.request(tag);
        if let Some(error) = self.fault(&request) {
            debug!(volume = %self.volume, ?request, %error, "request refused");
            self.commit(ring, key, tag, -error.raw_os_error());
            return;
        }
        self.put(tag, Tag::Arrived(request));
        self.arrived.push_back(tag);
    }

    /// What is wrong with a request, which a kernel that keeps to the attributes never sends.
    fn fault(&self, request: &Descriptor) -> Option<Errno> {
        let has_payload = match request.kind {
            Kind::Read | Kind::Write { .. } => true,
            Kind::Flush | Kind::Discard { .. } | Kind::WriteZeroes { .. } => false,
            Kind::Unknown(_) => return Some(Errno::OPNOTSUPP),
        };
        let is_too_long = match usize::try_from(request.length) {
            Ok(length) => has_payload && length > self.device.payload_bytes(),
            Err(_) => true,
        };
        let is_empty = request.length == 0 && request.kind != Kind::Flush;
        let fits = u32::try_from(request.length).is_ok();
        (is_too_long || is_empty || !fits).then_some(Errno::INVAL)
    }

    fn submit(&mut self, pool: &Pool, key: usize, tag: u16) -> Event<Buffer> {
        let Tag::Arrived(request) = self.tags[usize::from(tag)] else {
            unreachable!("only tags that have arrived are queued");
        };
        self.put(tag, Tag::InEngine(request));
        self.in_engine += 1;
        let length = length_of(&request);
        let (kind, data) = match request.kind {
            Kind::Read => (RequestKind::Read, None),
            Kind::Write { fua } => {
                let data = pool.copy_of(self.device.payload(tag, length));
                (RequestKind::Write { fua }, Some(data))
            }
            Kind::Discard { fua } => (RequestKind::Zero { fua, discard: true }, None),
            Kind::WriteZeroes { fua, keep } => {
                let discard = !keep;
                (RequestKind::Zero { fua, discard }, None)
            }
            Kind::Flush | Kind::Unknown(_) => (RequestKind::Flush, None),
        };
        let range = match kind {
            RequestKind::Flush => ByteRange::new(0, 0),
            RequestKind::Read | RequestKind::Write { .. } | RequestKind::Zero { .. } => {
                let length = u32::try_from(request.length).expect("checked on arrival");
                ByteRange::new(request.offset, length)
            }
        };
        Event::Request {
            id: id_of(key, tag),
            volume: self.volume,
            kind,
            range,
            data,
        }
    }

    fn answer(
        &mut self,
        ring: &mut Ring<Token>,
        key: usize,
        (tag, request): (u16, Descriptor),
        result: Result<Option<Buffer>, RequestError>,
    ) {
        let length = length_of(&request);
        let done = i32::try_from(length).unwrap_or(i32::MAX);
        let answer = match (request.kind, result) {
            (Kind::Read, Ok(Some(data))) if data.len() == length => {
                self.device.fill_payload(tag, data.bytes());
                done
            }
            (Kind::Read, Ok(_)) => -Errno::IO.raw_os_error(),
            (Kind::Write { .. }, Ok(_)) => done,
            (
                Kind::Flush | Kind::Discard { .. } | Kind::WriteZeroes { .. } | Kind::Unknown(_),
                Ok(_),
            ) => 0,
            (_, Err(error)) => -explain(error).raw_os_error(),
        };
        self.commit(ring, key, tag, answer);
    }

    fn commit(&mut self, ring: &mut Ring<Token>, key: usize, tag: u16, answer: i32) {
        self.put(tag, Tag::WithKernel);
        self.with_kernel += 1;
        let command = self.device.commit(tag, answer);
        start(ring, &self.device, (key, tag), command);
    }

    fn lose(&mut self, tag: u16) {
        self.put(tag, Tag::Gone);
    }

    fn put(&mut self, tag: u16, state: Tag) {
        self.tags[usize::from(tag)] = state;
    }
}

fn start(
    ring: &mut Ring<Token>,
    device: &Rc<Device>,
    (key, tag): (usize, u16),
    (number, command): (u32, [u8; 16]),
) {
    let device = Rc::clone(device);
    let operation = Operation::Serve {
        device,
        number,
        command,
    };
    ring.start(Token::Kernel(key, tag), operation);
}

fn explain(error: RequestError) -> Errno {
    match error {
        RequestError::Io | RequestError::NotPrimary => Errno::IO,
        RequestError::NoSpace => Errno::NOSPC,
        RequestError::Invalid => Errno::INVAL,
    }
}

fn id_of(key: usize, tag: u16) -> RequestId {
    let key = u64::try_from(key).expect("places are small");
    RequestId(KERNEL | key << 16 | u64::from(tag))
}

fn place_of(id: RequestId) -> (usize, u16) {
    let key = usize::try_from((id.0 & !KERNEL) >> 16).unwrap_or(usize::MAX);
    let tag = u16::try_from(id.0 & u64::from(u16::MAX)).expect("16 bits");
    (key, tag)
}

fn length_of(request: &Descriptor) -> usize {
    usize::try_from(request.length).unwrap_or(usize::MAX)
}

/// Set in the ids of these requests, and in no client's.
const KERNEL: u64 = 1 << 63;
