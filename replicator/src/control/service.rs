//! One resource that is up: its thread, its links, and how questions reach it.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rbd_engine::{AttachedDisk, Command, DiskError, OperationId};
use rbd_protocol::control::{Changes, Refusal, RefusalCode, ResourceConfig, ResourceStatus};
use rbd_protocol::ids::{NodeId, VolumeNumber};
use rbd_protocol::metadata::FormerEnd;
use rbd_protocol::state::ConnectionState;
use tokio::sync::{oneshot, watch};

use super::disk::{self, FormerSizes};
use super::handlers::Handlers;
use super::kernel::KernelDevices;
use super::links::Links;
use crate::messages::{DiskFiles, ExportAnswer, HandlerRun, KernelDevice, ToResource};
use crate::shell::ResourceHandle;

/// A resource of this node.
#[derive(Debug)]
pub(super) struct Service {
    /// Its name.
    pub(super) name: String,
    /// What is in force.
    pub(super) config: RefCell<ResourceConfig>,
    /// The opening of links to its peers.
    pub(super) links: Links,
    /// The handlers that run.
    pub(super) handlers: Handlers,
    /// Where its disks ended when their metadata was written.
    pub(super) sizes: FormerSizes,
    /// Its kernel block devices.
    pub(super) kernel: KernelDevices,
    handle: ResourceHandle,
    /// The last question was not answered in time.
    is_silent: Cell<bool>,
    ended: watch::Sender<bool>,
}

/// An answer a resource gives to a wish.
pub(super) type Answer = Result<Option<String>, Refusal>;

impl Service {
    /// A resource whose thread has just been started.
    pub(super) fn new(
        config: ResourceConfig,
        handle: ResourceHandle,
        (links, handlers, kernel): (Links, Handlers, KernelDevices),
        sizes: FormerSizes,
    ) -> Self {
        Self {
            name: config.name.clone(),
            config: RefCell::new(config),
            sizes,
            links,
            handlers,
            kernel,
            handle,
            is_silent: Cell::new(false),
            ended: watch::Sender::new(false),
        }
    }

    /// Makes a wish and waits for its answer.
    pub(super) async fn command(&self, command: Command) -> Answer {
        let (reply, answer) = oneshot::channel();
        self.ask(ToResource::Command { command, reply }, answer)
            .await?
    }

    /// Hands over a disk.
    pub(super) async fn attach(
        &self,
        volume: VolumeNumber,
        files: DiskFiles,
        disk: AttachedDisk,
    ) -> Answer {
        let (reply, answer) = oneshot::channel();
        let message = ToResource::Attach {
            volume,
            files,
            disk,
            reply,
        };
        self.ask(message, answer).await?
    }

    /// A snapshot, with what only the configuration and the links know filled in.
    pub(super) async fn status(&self) -> Result<ResourceStatus, Refusal> {
        let (reply, answer) = oneshot::channel();
        let mut status = self
            .within_deadline(ToResource::Status { reply }, answer)
            .await?;
        fill_in(&mut status, &self.config.borrow());
        self.tell_failures(&mut status);
        Ok(status)
    }

    /// Says of each peer that is sought why there is no link, which the resource's thread does not
    /// know.
    fn tell_failures(&self, status: &mut ResourceStatus) {
        for connection in &mut status.connections {
            if connection.connection_state == ConnectionState::Connecting
                && let Some(failure) = self.links.failure(connection.peer_node_id)
            {
                connection.note = failure.cause;
                connection.is_refused = failure.is_refusal;
            }
        }
    }

    /// Where a volume holds what it would give up to this peer.
    pub(super) async fn changes(
        &self,
        peer: NodeId,
        volume: VolumeNumber,
        from: u64,
    ) -> Result<Changes, Refusal> {
        let (reply, answer) = oneshot::channel();
        let message = ToResource::Changes {
            peer,
            volume,
            from,
            reply,
        };
        self.within_deadline(message, answer).await?
    }

    /// Whether and how a volume can be served now.
    pub(super) async fn export(&self, volume: VolumeNumber) -> Result<ExportAnswer, Refusal> {
        let (reply, answer) = oneshot::channel();
        let message = ToResource::Export { volume, reply };
        self.within_deadline(message, answer).await
    }

    /// Hands a kernel device over. `None` when there is nobody to serve it.
    pub(super) async fn serve_kernel(
        &self,
        volume: VolumeNumber,
        number: u64,
        device: KernelDevice,
    ) -> Option<io::Result<()>> {
        let (reply, answer) = oneshot::channel();
        let message = ToResource::Serve {
            volume,
            device,
            number,
            reply,
        };
        self.within(QUESTION_DEADLINE, message, answer).await.ok()
    }

    /// Hands something over; tells whether there still is someone to take it.
    pub(super) fn hand_over(&self, message: ToResource) -> bool {
        self.handle.send(message).is_ok()
    }

    /// Runs a handler for the engine.
    pub(super) fn run_handler(&self, id: OperationId, run: HandlerRun) {
        let handle = self.handle.clone();
        let config = self.config.borrow();
        self.handlers.run(&config, run, move |result| {
            if handle.send(ToResource::HandlerDone { id, result }).is_err() {
                tracing::debug!("a handler outlived its resource");
            }
        });
    }

    /// Looks how large a disk is. One that does not tell is not waited for.
    pub(super) fn measure(
        &self,
        id: OperationId,
        volume: VolumeNumber,
        data: OwnedFd,
        metadata: Option<OwnedFd>,
    ) {
        let handle = self.handle.clone();
        let config = self.config.borrow();
        let volumes = config.volumes.iter();
        let meta_disk = volumes
            .filter(|one| one.number == volume)
            .map(|one| one.meta_disk.clone())
            .next();
        tokio::task::spawn_local(async move {
            let looking = tokio::task::spawn_blocking(move || {
                let meta_disk = meta_disk.ok_or(DiskError::Gone)?;
                disk::measure(&data, metadata.as_ref(), &meta_disk)
            });
            let result = match tokio::time::timeout(QUESTION_DEADLINE, looking).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) | Err(_) => Err(DiskError::Io),
            };
            if handle.send(ToResource::Measured { id, result }).is_err() {
                tracing::debug!("a disk told its size too late");
            }
        });
    }

    /// Remembers where a volume's metadata is now. A state directory that does not take it in time
    /// has not taken it.
    pub(super) fn note_size(&self, id: OperationId, volume: VolumeNumber, end: FormerEnd) {
        let (handle, sizes, name) = (self.handle.clone(), self.sizes.clone(), self.name.clone());
        tokio::task::spawn_local(async move {
            let keeping = tokio::task::spawn_blocking(move || sizes.keep(&name, volume, end));
            let result = match tokio::time::timeout(QUESTION_DEADLINE, keeping).await {
                Ok(Ok(Ok(()))) => Ok(()),
                Ok(Ok(Err(error))) => {
                    tracing::error!(%error, "the size of a disk cannot be remembered");
                    Err(DiskError::Io)
                }
                Ok(Err(_)) | Err(_) => Err(DiskError::Io),
            };
            if handle.send(ToResource::SizeNoted { id, result }).is_err() {
                tracing::debug!("the size of a disk was remembered too late");
            }
        });
    }

    /// Asks the thread to finish and end.
    pub(super) fn shut_down(&self) {
        if !self.hand_over(ToResource::Shutdown) {
            self.mark_ended();
        }
    }

    /// Waits until the thread is gone and with it every file it had open. To be called when it has
    /// said that it ends.
    pub(super) async fn join(&self) {
        let handle = self.handle.clone();
        // Only the runtime's own end can keep this from running.
        drop(tokio::task::spawn_blocking(move || handle.join()).await);
    }

    /// Notes that the thread has ended.
    pub(super) fn mark_ended(&self) {
        self.ended.send_replace(true);
    }

    /// Waits until the thread has ended.
    pub(super) async fn ended(&self) {
        let mut ended = self.ended.subscribe();
        // The sender is in `self`, so this cannot fail.
        drop(ended.wait_for(|ended| *ended).await);
    }

    /// The number of the peer of this name.
    pub(super) fn peer_named(&self, name: &str) -> Result<NodeId, Refusal> {
        let config = self.config.borrow();
        if let Some(peer) = config.peers.iter().find(|peer| peer.name == name) {
            return Ok(peer.node_id);
        }
        let names: Vec<_> = config.peers.iter().map(|peer| &*peer.name).collect();
        Err(Refusal::new(
            RefusalCode::InvalidRequest,
            format!(
                "{} has no peer {name}; its peers: {}",
                self.name,
                names.join(", ")
            ),
            "",
        ))
    }

    /// The name of the node with this number, for messages.
    pub(super) fn node_name(&self, node: NodeId) -> String {
        let config = self.config.borrow();
        if node == config.node_id {
            return config.node_name.clone();
        }
        let peer = config.peers.iter().find(|peer| peer.node_id == node);
        peer.map_or_else(|| format!("node {node}"), |peer| peer.name.clone())
    }

    /// For those who ask many, or again and again: one who was silent is not waited for as long.
    async fn within_deadline<T>(
        &self,
        message: ToResource,
        answer: oneshot::Receiver<T>,
    ) -> Result<T, Refusal> {
        let deadline = if self.is_silent.get() {
            SILENT_DEADLINE
        } else {
            QUESTION_DEADLINE
        };
        self.within(deadline, message, answer).await
    }

    async fn within<T>(
        &self,
        deadline: Duration,
        message: ToResource,
        answer: oneshot::Receiver<T>,
    ) -> Result<T, Refusal> {
        let answer = tokio::time::timeout(deadline, self.ask(message, answer)).await;
        self.is_silent.set(answer.is_err());
        match answer {
            Ok(answer) => answer,
            Err(_) => Err(Refusal::new(
                RefusalCode::StateTimeout,
                format!(
                    "{} did not answer within {} s",
                    self.name,
                    deadline.as_secs()
                ),
                "dmesg, for a disk or a file system that hangs",
            )),
        }
    }

    async fn ask<T>(
        &self,
        message: ToResource,
        answer: oneshot::Receiver<T>,
    ) -> Result<T, Refusal> {
        let gone = || {
            Refusal::new(
                RefusalCode::UnknownResource,
                format!("{} is being stopped", self.name),
                format!("rbdadm up {}", self.name),
            )
        };
        if !self.hand_over(message) {
            return Err(gone());
        }
        answer.await.map_err(|_| gone())
    }
}

fn fill_in(status: &mut ResourceStatus, config: &ResourceConfig) {
    for connection in &mut status.connections {
        let peer = config
            .peers
            .iter()
            .find(|peer| peer.node_id == connection.peer_node_id);
        let Some(peer) = peer else { continue };
        set_if_empty(&mut connection.name, &peer.name);
        set_if_empty(&mut connection.peer_address, &peer.address);
        set_if_empty(
            &mut connection.local_address,
            config.listen.as_deref().unwrap_or_default(),
        );
    }
    for device in &mut status.devices {
        let volume = config
            .volumes
            .iter()
            .find(|volume| volume.number == device.volume);
        let Some(volume) = volume else { continue };
        device.minor = device.minor.or(volume.minor);
        if device.backing_disk.is_none() {
            device.backing_disk.clone_from(&volume.disk);
        }
    }
}

fn set_if_empty(text: &mut String, value: &str) {
    if text.is_empty() {
        value.clone_into(text);
    }
}

/// How long a question that needs no I/O may stay unanswered.
const QUESTION_DEADLINE: Duration = Duration::from_secs(5);

/// The same of a resource that has not answered the last one: clients of other resources, which
/// have ten seconds to negotiate, wait for it meanwhile.
const SILENT_DEADLINE: Duration = Duration::from_secs(1);
