//! Stand-in for the per-resource thread until it is merged: answers everything with yes.

use std::sync::mpsc;

use rbd_engine::{Command, Resource, Seed, Time};
use rbd_protocol::control::ResourceConfig;
use tokio::sync::mpsc::UnboundedSender;

use crate::messages::{ExportAnswer, FromResource, ToResource};

/// Why no thread could be started.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ShellError(String);

/// The thread has ended.
#[derive(Debug)]
pub struct Gone;

/// Speaks to a resource's thread.
#[derive(Clone, Debug)]
pub struct ResourceHandle(mpsc::Sender<ToResource>);

impl ResourceHandle {
    /// Sends a message.
    pub fn send(&self, message: ToResource) -> Result<(), Gone> {
        self.0.send(message).map_err(|_| Gone)
    }
}

/// Whether io_uring can be used.
pub fn probe() -> Result<(), ShellError> {
    Ok(())
}

/// Starts a resource's thread.
pub fn spawn(
    name: String,
    config: ResourceConfig,
    seed: Seed,
    notices: UnboundedSender<(String, FromResource)>,
) -> Result<ResourceHandle, ShellError> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let resource: Resource<()> = Resource::new(config.clone(), seed);
        let tell = |what| drop(notices.send((name.clone(), what)));
        let seek = |seek| {
            for peer in &config.peers {
                tell(FromResource::SeekLink {
                    peer: peer.node_id,
                    seek,
                    at_once: true,
                });
            }
        };
        while let Ok(message) = receiver.recv() {
            match message {
                ToResource::Command { command, reply } => {
                    let stop = matches!(command, Command::Stop);
                    match command {
                        Command::Connect { .. } => seek(true),
                        Command::Disconnect { .. } => seek(false),
                        _ => {}
                    }
                    drop(reply.send(Ok(None)));
                    if stop {
                        break;
                    }
                }
                ToResource::Attach { reply, .. } => drop(reply.send(Ok(None))),
                ToResource::Status { reply } => drop(reply.send(resource.status(Time(0)))),
                ToResource::Export { reply, .. } => {
                    drop(reply.send(ExportAnswer {
                        role: resource.role(),
                        primary_peer: None,
                        facts: None,
                    }));
                }
                ToResource::Client { .. } => {}
                ToResource::Link { .. } => {}
                ToResource::Shutdown => break,
            }
        }
        tell(FromResource::Stopped);
    });
    Ok(ResourceHandle(sender))
}
