//! What the control plane says to a resource's thread, and the engine's answers to it.
//!
//! A command is kept until the engine has answered it; everything else is answered at once from
//! what the engine tells of itself. Nothing is refused here but what comes too late.

use std::io;
use std::os::fd::OwnedFd;

use rbd_engine::{CallId, Command, DiskNote, Event};
use rbd_protocol::control::Refusal;
use rbd_protocol::ids::VolumeNumber;
use rbd_protocol::nbd::Session;
use rbd_protocol::state::Role;
use tokio::sync::oneshot;
use tracing::debug;

use super::Interpreter;
use super::ending::Ending;
use crate::messages::{ExportAnswer, KernelDevice, ToResource};
use crate::shell::operation::Operation;
use crate::shell::{Socket, Token};

/// A command the engine has not answered.
#[derive(Debug)]
pub(super) struct Call {
    reply: Option<oneshot::Sender<Result<Option<String>, Refusal>>>,
    purpose: Purpose,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Plain,
    Attach(VolumeNumber),
    Stop,
}

impl Interpreter {
    pub(super) fn await_inbox(&mut self) {
        let counter = self.inbox.counter();
        let word = Box::new([0; 8]);
        self.ring
            .start(Token::Inbox, Operation::Await { counter, word });
    }

    pub(super) fn read_inbox(&mut self) {
        loop {
            match self.inbox.next() {
                Ok(Some(message)) => {
                    self.receive_message(message);
                    self.handle_waiting();
                }
                Ok(None) => return self.await_inbox(),
                // The control plane is gone: there is nobody left to serve.
                Err(_) => return self.shut_down(),
            }
        }
    }

    fn receive_message(&mut self, message: ToResource) {
        match message {
            ToResource::Command { command, reply } => {
                let purpose = if matches!(command, Command::Stop) {
                    Purpose::Stop
                } else {
                    Purpose::Plain
                };
                self.call(command, Some(reply), purpose);
            }
            ToResource::Attach {
                volume,
                files,
                mut disk,
                reply,
            } => {
                disk.lost_cache |= self.disk_notes.holds(volume, DiskNote::LostCache);
                disk.left_behind = self.disk_notes.holds(volume, DiskNote::LeftBehind);
                let purpose = Purpose::Attach(volume);
                self.disks.attach(volume, files, CallId(self.next_call));
                self.call(Command::Attach { volume, disk }, Some(reply), purpose);
            }
            ToResource::Status { reply } => {
                let _not_wanted = reply.send(self.engine.status(self.now));
            }
            ToResource::Changes {
                peer,
                volume,
                from,
                reply,
            } => {
                let mut answer = self.engine.changes(peer, volume, from);
                if let Ok(changes) = &mut answer {
                    changes.backing = self.disks.backing(volume).unwrap_or_default();
                }
                let _not_wanted = reply.send(answer);
            }
            ToResource::Export { volume, reply } => {
                let answer = ExportAnswer {
                    role: self.engine.role(),
                    primary_peer: self.engine.primary_peer(),
                    facts: self.engine.volume_facts(volume),
                };
                let _not_wanted = reply.send(answer);
            }
            ToResource::Client {
                volume,
                socket,
                session,
                leftover,
            } => {
                self.take_client(volume, socket, session, &leftover);
            }
            ToResource::Serve {
                volume,
                device,
                number,
                reply,
            } => {
                let _not_wanted = reply.send(self.take_device(volume, number, device));
            }
            ToResource::Link {
                peer,
                data,
                control,
            } => {
                if self.ending == Ending::No {
                    self.links.arrive(peer, data, control);
                }
            }
            ToResource::HandlerDone { id, result } => {
                self.handle(Event::HandlerDone { id, result });
            }
            ToResource::Measured { id, result } => {
                self.handle(Event::Measured { id, result });
            }
            ToResource::SizeNoted { id, result } => {
                self.handle(Event::SizeNoted { id, result });
            }
            ToResource::Shutdown => self.shut_down(),
        }
    }

    fn take_client(
        &mut self,
        volume: VolumeNumber,
        socket: OwnedFd,
        session: Session,
        leftover: &[u8],
    ) {
        let is_served =
            self.engine.role() == Role::Primary && self.engine.volume_facts(volume).is_some();
        if !is_served || self.ending != Ending::No {
            debug!(%volume, "client came too late");
            return;
        }
        let (key, event) = self.clients.arrive(volume, socket, session, leftover);
        self.handle(event);
        self.read(Socket::Client(key));
    }

    fn take_device(
        &mut self,
        volume: VolumeNumber,
        number: u64,
        device: KernelDevice,
    ) -> io::Result<()> {
        if self.ending != Ending::No {
            return Err(io::Error::other("the resource is being stopped"));
        }
        match device {
            KernelDevice::Queue(queue) => self.kernel.arrive(&mut self.ring, volume, queue),
            KernelDevice::Socket { socket, session } => {
                let key = self.clients.arrive_kernel(volume, number, socket, session);
                self.read(Socket::Client(key));
                Ok(())
            }
        }
    }

    pub(super) fn call(
        &mut self,
        command: Command,
        reply: Option<oneshot::Sender<Result<Option<String>, Refusal>>>,
        purpose: Purpose,
    ) {
        let call = CallId(self.next_call);
        self.next_call += 1;
        self.calls.insert(call, Call { reply, purpose });
        self.handle(Event::Command { call, command });
    }

    pub(super) fn reply(&mut self, id: CallId, result: Result<Option<String>, Refusal>) {
        let Some(call) = self.calls.remove(&id) else {
            return;
        };
        match (call.purpose, &result) {
            (Purpose::Plain, _) => {}
            (Purpose::Attach(volume), _) => self.disks.attach_answered(volume, id, result.is_ok()),
            (Purpose::Stop, Ok(_)) => {
                self.ending = Ending::agreed(self.now);
            }
            (Purpose::Stop, Err(refusal)) => {
                if let Ending::Stopping { .. } = self.ending {
                    debug!(%refusal, "ending without the engine's consent");
                    self.leave();
                }
            }
        }
        if let Some(reply) = call.reply {
            // Who asked may have lost patience.
            let _not_wanted = reply.send(result);
        }
    }
}
