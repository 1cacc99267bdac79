//! The hands of both nodes: tells an engine what has happened, and does what it asks for.

use std::collections::BTreeMap;

use rbd_engine::{
    Action, CallId, Command, DiskError, DiskNote, DiskRequest, Event, LinkId, MigrationNews,
    OperationId, RequestError, RequestId, Seek,
};
use rbd_protocol::control::Refusal;
use rbd_protocol::ids::ByteRange;
use rbd_protocol::metadata::Block;

use rbd_protocol::peer::Packet;
use rbd_protocol::state::Role;

use super::client::Operation;
use super::disk::Payload;
use super::marks::Mark;
use super::network::Link;
use super::node::{node_id, number, place};
use super::operator::Wish;
use super::scrub::digests;
use super::visited::situation;
use super::world::{Happening, World};

impl World {
    /// Tells an engine something and does what it asks for.
    pub(super) fn tell(&mut self, node: usize, event: Event<Payload>) {
        let volume = volume_of(&event);
        self.tell_of(node, volume, event);
    }

    /// The same, of an event that does not say itself which volume it is about.
    fn tell_of(&mut self, node: usize, volume: Option<usize>, event: Event<Payload>) {
        let now = self.time(node);
        if self.is_traced() {
            let status = self.nodes[node].status(now);
            let shown = |status| situation(status, volume.unwrap_or(0));
            let situation = status.as_ref().map(shown);
            let text = situation.map_or_else(String::new, |situation| format!(" {situation}"));
            self.note(|| format!("  {node}{text} <- {}", shorten(&event)));
        }
        self.watch_event(node, &event);
        let mut actions = std::mem::take(&mut self.actions);
        let Some(engine) = &mut self.nodes[node].engine else {
            return;
        };
        // What is asked of a node that is no Primary is asked on purpose: no export would (X3).
        let is_astray = matches!(event, Event::Request { .. }) && engine.role() != Role::Primary;
        let mut is_one_too_many = false;
        if let Some(visited) = self.report.visited.as_mut().filter(|_| !is_astray) {
            let status = engine.status(now);
            // What is about no volume in particular meets each.
            let volumes = volume.map_or(0..self.options.volumes, |one| one..one + 1);
            for volume in volumes {
                let situation = situation(&status, volume);
                visited.note(node, situation, &event);
                is_one_too_many |= situation.beside && !self.options.dual;
            }
        }
        let freezes = may_freeze(&event);
        engine.handle(now, event, &mut actions);
        if is_one_too_many {
            self.violation(format!("G1: node {node} is Primary beside another one"));
        }
        let machine = &mut self.nodes[node];
        machine.waits = freezes.unwrap_or(machine.was_suspended);
        for action in &actions {
            if let Action::Send { packet, .. } = action
                && let Packet::Hello(hello) = packet
            {
                self.nodes[node].spoken.is_to_greet(hello);
            }
        }
        // Whatever changes a state is reported.
        let is_report = |action: &Action<Payload>| matches!(action, Action::Report(_));
        let has_changed = actions.iter().any(is_report);
        if has_changed {
            self.look_at_decision(node);
        }
        let dies = std::mem::take(&mut self.nodes[node].dies_next) && !actions.is_empty();
        let keep = if dies {
            self.random
                .below(u64::try_from(actions.len()).unwrap_or(1) + 1)
        } else {
            u64::MAX
        };
        for (index, action) in (0_u64..).zip(actions.drain(..)) {
            // Between a failed flush and the note of it there is nothing to die of.
            let is_last = matches!(
                &action,
                Action::NoteOfDisk {
                    note: DiskNote::LostCache,
                    ..
                }
            );
            if index >= keep && !is_last {
                continue;
            }
            if self.is_traced() {
                self.note(|| format!("    {node} -> {}", shorten(&action)));
            }
            self.watch_action(node, &action);
            self.perform(node, action);
        }
        self.actions = actions;
        self.has_spoken(node);
        if dies {
            self.kill(node);
        }
    }

    fn perform(&mut self, node: usize, action: Action<Payload>) {
        let life = self.nodes[node].life;
        match action {
            Action::Disk {
                id,
                volume,
                request,
                range,
                data,
            } => self.submit((node, place(volume)), id, (request, range), data.as_ref()),
            Action::Meta {
                id,
                volume,
                offset,
                block,
            } => self.write_metadata(node, place(volume), id, (offset, block)),
            Action::Send {
                link,
                channel,
                packet,
                data,
                ..
            } => self.send(node, link, channel, &packet, data.as_ref()),
            Action::DropLink { link, loss, .. } => self.drop_link(node, link, loss),
            Action::SeekLink { seek, .. } => self.seek(node, seek),
            Action::Complete { id, result } => self.completed(node, id, result),
            Action::Reply { call, result } => self.replied(node, call, result),
            Action::WakeAt(time) => {
                let wake = self.name();
                self.nodes[node].wake = wake;
                self.nodes[node].wakes_at = time.0;
                let at = self.nodes[node].clock.when(time.0, self.now);
                self.at(at, Happening::Timer { node, life, wake });
            }
            Action::ReleaseDisk { volume } => {
                let volume = place(volume);
                self.nodes[node][volume].attached = false;
                self.nodes[node][volume].disk_failed = true;
            }
            Action::CloseClients { volume } => {
                let volume = place(volume);
                self.nodes[node][volume].openers = 0;
                let wish = Wish::Openers(volume, 0);
                self.after_us(1, Happening::Order { node, life, wish });
            }
            Action::RunHandler {
                id,
                handler,
                volume,
                ..
            } => self.run_handler(node, volume.map(place), id, handler),
            Action::Measure { id, volume } => self.measure(node, place(volume), id),
            Action::NoteOfDisk {
                volume,
                note,
                holds,
            } => self.nodes[node][place(volume)].keep_note(note, holds),
            Action::NoteSize { id, volume, end } => self.note_end(node, place(volume), id, end),
            Action::Migration(MigrationNews::Expired) => {
                let wish = Wish::EndMigration;
                self.after_us(1, Happening::Order { node, life, wish });
            }
            Action::Migration(_) => {}
            Action::Report(change) => {
                self.look_at_report(node, change.volume.map_or(0, place), &change.text);
            }
        }
    }

    fn submit(
        &mut self,
        (node, volume): (usize, usize),
        id: OperationId,
        (request, range): (DiskRequest, ByteRange),
        data: Option<&Payload>,
    ) {
        self.look_at_submission(node, volume, id, request, data);
        let copy = &mut self.nodes[node][volume];
        let is_there = copy.attached;
        let result = copy.disk.submit(id, request, range, data, &mut self.random);
        if !is_there {
            self.violation(format!(
                "B4: node {node} asks something of a disk that it has let go of"
            ));
        }
        if let Err(text) = result {
            self.violation(format!("node {node}: {text}"));
        }
        let (low, high) = self.options.disk_us;
        let slow = if request == DiskRequest::Flush { 4 } else { 1 };
        let delay = self.random.magnitude(low, high) * slow;
        let delay = self.slowed_down(node, volume, delay);
        let what = Happening::DiskDone {
            node,
            volume,
            life: self.nodes[node].life,
            id,
        };
        self.after_us(delay, what);
    }

    fn write_metadata(
        &mut self,
        node: usize,
        volume: usize,
        id: OperationId,
        at: (u64, Box<Block>),
    ) {
        let (offset, block) = at;
        self.aim_at_commit(node, volume, offset, &block);
        if let Err(text) = self.nodes[node][volume]
            .disk
            .submit_metadata(id, offset, block)
        {
            self.violation(format!("node {node}: {text}"));
        }
        let (low, high) = self.options.disk_us;
        let delay = self.random.magnitude(low, high) * 4;
        let delay = self.slowed_down(node, volume, delay);
        let life = self.nodes[node].life;
        let what = Happening::MetaDone {
            node,
            volume,
            life,
            id,
        };
        self.after_us(delay, what);
    }

    fn look_at_report(&mut self, node: usize, volume: usize, text: &str) {
        let is_unserved = text.starts_with("the peer's data is not what clients");
        self.nodes[node][volume].is_unserved |= is_unserved;
        self.look_at_verify(node, volume, text);
        self.look_at_move(node, volume, text);
    }

    fn seek(&mut self, node: usize, seek: Seek) {
        self.nodes[node].seeking = seek != Seek::Stop;
        let pause = u64::from(self.options.connect_ms) * 1_000;
        self.try_meet(match seek {
            Seek::Stop | Seek::AtOnce => 0,
            Seek::Soon => pause,
            Seek::Patiently => pause * 6,
        });
    }

    fn slowed_down(&self, node: usize, volume: usize, delay_us: u64) -> u64 {
        let disk = &self.nodes[node][volume].disk;
        if self.now < disk.slow_until {
            (delay_us * disk.slow_factor).min(SLOWEST_US)
        } else {
            delay_us
        }
    }

    pub(super) fn disk_done(
        &mut self,
        (node, volume): (usize, usize),
        life: u64,
        id: OperationId,
        meta: bool,
    ) {
        if !self.lives(node, life) {
            return;
        }
        let disk = &mut self.nodes[node][volume].disk;
        if self.now < disk.stuck_until {
            // In steps, since it may be repaired in the meantime.
            let at = disk.stuck_until.min(self.now + 1_000_000_000);
            let what = if meta {
                Happening::MetaDone {
                    node,
                    volume,
                    life,
                    id,
                }
            } else {
                Happening::DiskDone {
                    node,
                    volume,
                    life,
                    id,
                }
            };
            self.at(at, what);
            return;
        }
        let (read, written) = (disk.range_of_read(id), disk.range_of_write(id));
        let digested = disk.ends_in_digests(id);
        let result = disk.complete(id, self.now, &mut self.random);
        if std::mem::take(&mut disk.forged) > 0 {
            self.report.marks.hit(Mark::SuperblockForged);
        }
        self.nodes[node][volume].from_peer.ended(id);
        let error = result.as_ref().err().copied();
        // The disk goes on if the peer has what could not be read.
        let unread = read.filter(|_| error == Some(DiskError::Io));
        // Or if nobody else has all of the data, and clients are told.
        let untaken = written.filter(|_| match error {
            Some(DiskError::NoSpace) => true,
            Some(DiskError::Io) => self.options.pass_on,
            Some(DiskError::Gone) | None => false,
        });
        match (error, unread, untaken) {
            (Some(_), Some(range), _) => self.nodes[node][volume].unread.push(range),
            (Some(_), None, Some(range)) => self.nodes[node][volume].untaken.push(range),
            (Some(error), None, None) => self.disk_failed(node, volume, error),
            (None, ..) => {}
        }
        let event = if meta {
            let result = result.map(drop);
            Event::MetaDone { id, result }
        } else if digested {
            let result = result.map(|data| data.map_or_else(Vec::new, |data| digests(&data)));
            Event::Digests { id, result }
        } else {
            Event::DiskDone { id, result }
        };
        self.tell_of(node, Some(volume), event);
        if let Some(error) = error
            && (unread.is_some() || untaken.is_some())
            && !self.nodes[node][volume].attached
        {
            self.disk_failed(node, volume, error);
        }
    }

    /// The timer of the node fires when its own clock says so.
    pub(super) fn timer(&mut self, node: usize) {
        let (clock, wakes_at) = (&self.nodes[node].clock, self.nodes[node].wakes_at);
        if clock.read(self.now) < wakes_at {
            let at = clock.when(wakes_at, self.now).max(self.now + 1_000);
            let (life, wake) = (self.nodes[node].life, self.nodes[node].wake);
            self.at(at, Happening::Timer { node, life, wake });
            return;
        }
        self.nodes[node].wake = 0;
        self.tell(node, Event::Timer);
    }

    fn completed(
        &mut self,
        node: usize,
        id: RequestId,
        result: Result<Option<Payload>, RequestError>,
    ) {
        let operation = self.operations.remove(&id.0);
        if let Some(operation) = operation.as_ref().filter(|_| result.is_ok()) {
            self.check_alone(node, operation.volume);
        }
        match operation {
            Some(operation) => self.operation_ended(node, operation, result),
            None => self.violation(format!("node {node}: {id:?} is completed twice")),
        }
    }

    fn replied(&mut self, node: usize, call: CallId, result: Result<Option<String>, Refusal>) {
        match self.calls.remove(&call.0) {
            Some((_, wish)) => self.wish_ended(node, wish, result),
            None => self.violation(format!("node {node}: {call:?} is answered twice")),
        }
    }

    /// Gives a command.
    pub(super) fn command(&mut self, node: usize, wish: Wish, command: Command) {
        // It may have died of what came before the order, as of its clients' closing.
        if self.nodes[node].engine.is_none() {
            return;
        }
        let call = self.name();
        self.calls.insert(call, (node, wish));
        self.report.commands += 1;
        self.tell(
            node,
            Event::Command {
                call: CallId(call),
                command,
            },
        );
        // One that has been begun may be on the disk, whether anybody hears of it or not.
        let is_begun = self.calls.contains_key(&call);
        self.is_forked |= is_begun && matches!(wish, Wish::NewGeneration(_));
    }

    /// The process is gone: nobody waits for its answers any more.
    pub(super) fn forget_work_of(&mut self, node: usize) {
        self.calls.retain(|_, (of, _)| *of != node);
        let (gone, rest) = std::mem::take(&mut self.operations)
            .into_iter()
            .partition(|(_, operation)| operation.node == node);
        self.operations = rest;
        let gone: BTreeMap<u64, Operation> = gone;
        for operation in gone.into_values() {
            self.operation_abandoned(&operation);
        }
    }

    pub(super) fn peer_link(&self, node: usize, id: LinkId) -> Option<&Link> {
        self.links.get(&id.0).filter(|link| link.ends[node].open)
    }

    /// Nobody uses any of the node's volumes any more.
    pub(super) fn close_all(&mut self, node: usize) {
        for volume in self.volumes() {
            self.openers(node, volume, 0);
        }
    }

    pub(super) fn openers(&mut self, node: usize, volume: usize, count: u32) {
        self.nodes[node][volume].openers = count;
        self.tell(
            node,
            Event::Openers {
                volume: number(volume),
                count,
            },
        );
    }

    pub(super) fn peer_id(node: usize) -> rbd_protocol::ids::NodeId {
        node_id(1 - node)
    }
}

/// However slow a disk is, an operation that is not stuck takes no longer than this.
pub(super) const SLOWEST_US: u64 = 20_000_000;

/// Which volume the event is about, as far as it says so itself.
fn volume_of(event: &Event<Payload>) -> Option<usize> {
    let volume = match event {
        Event::Request { volume, .. } | Event::Openers { volume, .. } => Some(*volume),
        Event::Packet { packet, .. } => super::wire::volume_of(packet),
        Event::Command {
            command:
                Command::Attach { volume, .. }
                | Command::Detach { volume, .. }
                | Command::NewGeneration { volume, .. }
                | Command::Invalidate { volume, .. }
                | Command::Resize { volume, .. }
                | Command::Verify { volume, .. },
            ..
        } => Some(*volume),
        _ => None,
    };
    volume.map(place)
}

fn shorten(what: &impl std::fmt::Debug) -> String {
    let mut text = format!("{what:?}");
    if let Some((at, _)) = text.char_indices().nth(1_600) {
        text.truncate(at);
        text.push('…');
    }
    text
}

/// Whether clients have to wait from this event on, if they have to when it has been dealt with; or
/// nothing if that depends on what was before. What a node hears of its peer may be the reason; but
/// a greeting may be decided on when much else has been done. Told to go on, it begins what had
/// waited, and what fails of that may be a reason to wait again; so may what fails of a write that
/// an acknowledgement ends, when the next one has begun.
fn may_freeze(event: &Event<Payload>) -> Option<bool> {
    match event {
        Event::Packet {
            packet: Packet::Hello(_) | Packet::WriteAck { .. },
            ..
        } => None,
        Event::Packet { .. } | Event::LinkDown { .. } => Some(true),
        Event::Command {
            command: Command::ResumeIo,
            ..
        } => Some(false),
        _ => None,
    }
}
