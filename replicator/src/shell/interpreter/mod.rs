//! The loop of one resource: what has happened goes into the engine, what it asks for is done.
//!
//! A turn is one system call: it hands over everything that was started in the turn before and
//! brings back everything that has finished. Only this room calls the engine, and no other room
//! calls another. Nothing here waits anywhere else, and nothing here decides.

mod control;
mod ending;
mod sizes;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::{Duration, Instant};

use rbd_engine::{
    Action, CallId, DiskError, Event, OperationId, RequestError, RequestId, Resource, Time,
};
use rbd_protocol::ids::{ByteRange, VolumeNumber};
use rbd_protocol::metadata::FormerEnd;
use rbd_protocol::nbd::Extent;
use rbd_protocol::state::DiskState;
use tokio::sync::mpsc::UnboundedSender;
use tracing::trace;

use control::Call;
use ending::Ending;
use sizes::{Shown, nothing_shown};

use super::buffer::{Buffer, Pool};
use super::client::Clients;
use super::disk::Disks;
use super::disk_notes::DiskNotes;
use super::inbox::Inbox;
use super::kernel::KernelDevices;
use super::link::{Found, Links};
use super::pace::Pace;
use super::recorder::Recorder;
use super::ring::{Completion, Ring, Wait};
use super::{Socket, Token};
use crate::messages::{FromResource, HandlerRun};

/// A resource with everything that belongs to it.
#[derive(Debug)]
pub(super) struct Interpreter {
    // First, so that on the way out it takes the operations in flight back before anything else
    // goes.
    ring: Ring<Token>,
    engine: Resource<Buffer>,
    disks: Disks,
    links: Links,
    clients: Clients,
    kernel: KernelDevices,
    inbox: Inbox,
    notices: Notices,
    disk_notes: DiskNotes,
    /// Events that came about while doing something else.
    events: VecDeque<Event<Buffer>>,
    /// Sockets that may have something the engine had no room for.
    stalled: Vec<Socket>,
    calls: BTreeMap<CallId, Call>,
    next_call: u64,
    wake_at: Option<Time>,
    ending: Ending,
    origin: Instant,
    /// As of the beginning of this turn.
    now: Time,
    pace: Pace,
    shown: Shown,
    recorder: Recorder,
    // Kept for their memory.
    actions: Vec<Action<Buffer>>,
    over: Vec<Completion<Token>>,
}

/// Where to tell the control plane what has happened.
#[derive(Clone, Debug)]
pub(super) struct Notices {
    name: String,
    sender: UnboundedSender<(String, FromResource)>,
}

impl Notices {
    pub(super) fn new(name: String, sender: UnboundedSender<(String, FromResource)>) -> Self {
        Self { name, sender }
    }

    fn tell(&self, notice: FromResource) {
        // Without a control plane nobody needs to know.
        let _nobody = self.sender.send((self.name.clone(), notice));
    }
}

impl Interpreter {
    pub(super) fn new(
        ring: Ring<Token>,
        inbox: Inbox,
        engine: Resource<Buffer>,
        (notices, disk_notes): (Notices, DiskNotes),
    ) -> Self {
        let pool = Pool::default();
        Self {
            ring,
            shown: nothing_shown(&engine),
            engine,
            disks: Disks::new(pool.clone()),
            links: Links::new(pool.clone()),
            clients: Clients::new(pool.clone()),
            kernel: KernelDevices::new(pool),
            inbox,
            notices,
            disk_notes,
            events: VecDeque::new(),
            stalled: Vec::new(),
            calls: BTreeMap::new(),
            next_call: 1,
            wake_at: None,
            ending: Ending::No,
            origin: Instant::now(),
            now: Time(0),
            pace: Pace::new(),
            recorder: Recorder::default(),
            actions: Vec::new(),
            over: Vec::new(),
        }
    }

    /// Runs until the resource has come to its end.
    pub(super) fn run(&mut self) -> io::Result<()> {
        self.await_inbox();
        while self.ending != Ending::Over {
            self.turn()?;
        }
        Ok(())
    }

    /// Lets go of everything, then tells that the resource has ended as it should.
    pub(super) fn finish(self) {
        let notices = self.notices.clone();
        let in_order = self.ended_in_order();
        drop(self);
        notices.tell(FromResource::Stopped { in_order });
    }

    /// Lets go of everything, then tells that the resource is out of service.
    pub(super) fn fail(self, why: String) {
        let notices = self.notices.clone();
        drop(self);
        notices.tell(FromResource::Failed { why });
    }

    /// Writes the last events to the log.
    pub(super) fn dump_record(&self) {
        self.recorder.dump();
    }

    fn turn(&mut self) -> io::Result<()> {
        let mut over = std::mem::take(&mut self.over);
        let start = Instant::now();
        let wait = self.wait(start);
        let was_interrupted = self.ring.turn(wait, &mut over)?;
        let end = Instant::now();
        self.now = self.time(end);
        if wait != Wait::No {
            self.pace.waited(end - start, was_interrupted, end);
        }
        for completion in over.drain(..) {
            self.completed(completion);
            self.handle_waiting();
        }
        self.over = over;
        self.expire();
        self.settle();
        self.watch_sizes();
        self.advance_ending();
        Ok(())
    }

    /// Brings everything to rest: nothing is left that could go on without a completion.
    fn settle(&mut self) {
        loop {
            let has_progressed = self.retry_stalled() | self.serve_kernel();
            let events = &mut self.events;
            self.links
                .settle(&mut self.ring, self.now, |event| events.push_back(event));
            self.clients
                .settle(&mut self.ring, self.now, |event| events.push_back(event));
            while let Some((volume, number)) = self.clients.lost_device() {
                self.notices
                    .tell(FromResource::DeviceLost { volume, number });
            }
            if self.events.is_empty() && !has_progressed {
                return;
            }
            self.handle_waiting();
        }
    }

    fn wait(&self, start: Instant) -> Wait {
        let deadlines = [
            self.wake_at,
            self.links.deadline(),
            self.clients.deadline(),
            self.ending.deadline(),
        ];
        let deadline = deadlines.into_iter().flatten().min();
        let now = self.time(start);
        let limit = deadline.map(|time| Duration::from_nanos(time.0.saturating_sub(now.0)));
        if limit == Some(Duration::ZERO) {
            return Wait::No;
        }
        let served = self.clients.in_flight() + self.kernel.in_flight();
        let in_flight = self.disks.in_flight() + served;
        let spin = self.pace.spin(in_flight, start);
        Wait::Until {
            limit,
            spin: limit.map_or(spin, |limit| limit.min(spin)),
        }
    }

    fn time(&self, instant: Instant) -> Time {
        let nanoseconds = instant.duration_since(self.origin).as_nanos();
        Time(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    fn completed(&mut self, completion: Completion<Token>) {
        match completion.token {
            Token::Inbox => self.read_inbox(),
            Token::Disk(key) => {
                let event = self.disks.completed(&mut self.ring, key, completion);
                self.events.extend(event);
            }
            Token::Receive(socket) => {
                match socket {
                    Socket::Client(key) => self.clients.received(key, completion),
                    Socket::Link(key, channel) => self.links.received(key, channel, completion),
                }
                self.read(socket);
            }
            Token::Kernel(key, tag) => {
                self.kernel
                    .completed(&mut self.ring, (key, tag), &completion);
            }
            Token::Send(Socket::Client(key)) => self.clients.sent(key, completion),
            Token::Send(Socket::Link(key, channel)) => self.links.sent(key, channel, completion),
        }
    }

    /// Gives the engine what has arrived, as far as it has room. Whether there was anything.
    fn read(&mut self, socket: Socket) -> bool {
        let mut has_progressed = false;
        loop {
            match self.look(socket) {
                Found::Event(event) => {
                    self.handle(event);
                    self.handle_waiting();
                    has_progressed = true;
                }
                Found::Nothing => {
                    match socket {
                        Socket::Client(key) => self.clients.receive(&mut self.ring, key),
                        Socket::Link(key, channel) => {
                            self.links.receive(&mut self.ring, key, channel);
                        }
                    }
                    return has_progressed;
                }
                Found::Stalled => {
                    self.stalled.push(socket);
                    return has_progressed;
                }
            }
        }
    }

    fn look(&mut self, socket: Socket) -> Found {
        match socket {
            Socket::Client(key) => {
                let (engine, disks, now) = (&self.engine, &self.disks, self.now);
                let holes = |volume, range| holes(engine, disks, now, volume, range);
                self.clients.next(key, engine.room(), &holes)
            }
            Socket::Link(key, channel) => match self.links.peer(key) {
                Some(peer) => self.links.next(key, channel, self.engine.link_room(peer)),
                None => Found::Nothing,
            },
        }
    }

    fn retry_stalled(&mut self) -> bool {
        let mut has_progressed = false;
        for _ in 0..self.stalled.len() {
            let socket = self.stalled.swap_remove(0);
            has_progressed |= self.read(socket);
        }
        has_progressed
    }

    /// Gives the engine what the kernel asks, as far as it has room. Whether there was anything.
    fn serve_kernel(&mut self) -> bool {
        let mut has_progressed = false;
        while let Some(event) = self.kernel.next(self.engine.room()) {
            self.handle(event);
            self.handle_waiting();
            has_progressed = true;
        }
        has_progressed
    }

    fn handle_waiting(&mut self) {
        while let Some(event) = self.events.pop_front() {
            self.handle(event);
        }
    }

    fn handle(&mut self, event: Event<Buffer>) {
        trace!(?event, "event");
        self.recorder.record(self.now, &event);
        let mut actions = std::mem::take(&mut self.actions);
        self.engine.handle(self.now, event, &mut actions);
        for action in actions.drain(..) {
            trace!(?action, "action");
            self.perform(action);
        }
        self.actions = actions;
    }

    fn perform(&mut self, action: Action<Buffer>) {
        match action {
            Action::Disk {
                id,
                volume,
                request,
                range,
                data,
            } => {
                let event = self
                    .disks
                    .start(&mut self.ring, (id, volume), request, range, data);
                self.events.extend(event);
            }
            Action::Meta {
                id,
                volume,
                offset,
                block,
            } => {
                let event = self
                    .disks
                    .start_meta(&mut self.ring, (id, volume), offset, &block);
                self.events.extend(event);
            }
            Action::Send {
                link,
                channel,
                packet,
                data,
                peer: _,
            } => {
                self.links.send(link, channel, &packet, data);
            }
            Action::DropLink { link, loss, .. } => self.links.drop_link(link, loss, self.now),
            Action::SeekLink { peer, seek } => {
                self.notices.tell(FromResource::SeekLink { peer, seek });
            }
            Action::Complete { id, result } => self.complete(id, result),
            Action::Reply { call, result } => self.reply(call, result),
            Action::WakeAt(time) => self.wake_at = Some(time),
            Action::ReleaseDisk { volume } => self.disks.release(volume),
            Action::CloseClients { volume } => {
                self.clients
                    .dismiss(Some(volume), self.now.plus_ms(DISMISS_MS));
            }
            Action::RunHandler {
                id,
                handler,
                peer,
                volume,
                facts,
            } => self.notices.tell(FromResource::RunHandler {
                id,
                run: HandlerRun {
                    handler,
                    peer,
                    volume,
                    facts,
                },
            }),
            Action::Measure { id, volume } => self.measure(id, volume),
            Action::NoteSize { id, volume, end } => self.note_size(id, volume, end),
            Action::NoteOfDisk {
                volume,
                note,
                holds,
            } => self.disk_notes.note(volume, note, holds),
            Action::Migration(news) => self.notices.tell(FromResource::Migration(news)),
            Action::Report(change) => self.notices.tell(FromResource::Report(change)),
        }
    }

    fn complete(&mut self, id: RequestId, result: Result<Option<Buffer>, RequestError>) {
        if KernelDevices::owns(id) {
            self.kernel.complete(&mut self.ring, id, result);
        } else {
            self.clients.complete(id, result);
        }
    }

    /// Somebody else writes it down, and may take long.
    fn note_size(&self, id: OperationId, volume: VolumeNumber, end: FormerEnd) {
        self.notices
            .tell(FromResource::NoteSize { id, volume, end });
    }

    /// A disk may take long to tell its size, so somebody else asks it.
    fn measure(&mut self, id: OperationId, volume: VolumeNumber) {
        match self.disks.copies_of_files(volume) {
            Some((data, metadata)) => self.notices.tell(FromResource::Measure {
                id,
                volume,
                data,
                metadata,
            }),
            None => self.events.push_back(Event::Measured {
                id,
                result: Err(DiskError::Gone),
            }),
        }
    }

    /// Events that are due by now.
    fn expire(&mut self) {
        if self.wake_at.is_some_and(|time| time <= self.now) {
            self.wake_at = None;
            self.handle(Event::Timer);
            self.handle_waiting();
        }
        self.clients.expire(self.now);
    }
}

/// Which parts of a range are holes: known only where reads are served by the local disk.
fn holes(
    engine: &Resource<Buffer>,
    disks: &Disks,
    now: Time,
    volume: VolumeNumber,
    range: ByteRange,
) -> Option<Vec<Extent>> {
    let status = engine.status(now);
    let device = status
        .devices
        .iter()
        .find(|device| device.volume == volume)?;
    if device.disk_state != DiskState::UpToDate {
        return None;
    }
    disks.extents(volume, range)
}

/// How long clients of a volume that is no longer served have to take their last replies.
const DISMISS_MS: u64 = 1_000;
