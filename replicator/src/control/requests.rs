//! What the daemon does about each request.

#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::time::Duration;

use rbd_engine::{Command, PauseOrder, PausedBy};
use rbd_protocol::control::{Refusal, RefusalCode, Reply, Request, ResourceStatus};
use rbd_protocol::ids::{NodeId, VolumeNumber};
use rbd_protocol::state::ConnectionState;
use tokio::time::timeout;

use super::bring_up;
use super::daemon::Daemon;
use super::kernel;
use super::migration;
use super::service::{Answer, Service};

/// Answers one request.
pub(super) async fn answer(daemon: &Rc<Daemon>, request: Request) -> Reply {
    match perform(daemon, request).await {
        Ok(reply) => reply,
        Err(refusal) => {
            tracing::debug!(%refusal, reason = refusal.reason, "refused");
            Reply::Refused(refusal)
        }
    }
}

/// Waits until the resource that a request is about is up again, if the daemon has just started.
pub(super) async fn let_resume(daemon: &Daemon, request: &Request) {
    if let Some(name) = resource_of(request) {
        daemon.resumed(name).await;
    }
}

#[expect(clippy::too_many_lines, reason = "one arm for each kind of request")]
async fn perform(daemon: &Rc<Daemon>, request: Request) -> Result<Reply, Refusal> {
    let_resume(daemon, &request).await;
    match request {
        Request::Daemon => Ok(Reply::Daemon {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            node: daemon.node.clone(),
        }),
        Request::Up(config) | Request::Adjust(config) => bring_up::up(daemon, config).await,
        Request::Down { resource } => bring_up::down(daemon, &resource).await,
        Request::Connect {
            resource,
            peer,
            discard_my_data,
            tentative,
        } => {
            let service = daemon.running(&resource)?;
            let peer = peer.map(|peer| service.peer_named(&peer)).transpose()?;
            noted(bring_up::connect(&service, peer, discard_my_data, tentative).await)
        }
        Request::Resolve {
            resource,
            peer,
            keep_own,
            shown,
            saved,
        } => {
            let command = |peer| Command::Resolve {
                peer,
                keep_own,
                shown,
                saved,
            };
            resolve(daemon, &resource, &peer, command).await
        }
        Request::Changes {
            resource,
            peer,
            volume,
            from,
        } => changes(daemon, &resource, &peer, (volume, from)).await,
        Request::Disconnect {
            resource,
            peer,
            force,
        } => {
            let service = daemon.running(&resource)?;
            let peer = peer.map(|peer| service.peer_named(&peer)).transpose()?;
            noted(service.command(Command::Disconnect { peer, force }).await)
        }
        Request::Promote { resource, force } => {
            let service = daemon.running(&resource)?;
            let command = Command::Promote { force };
            Ok(with_notes(kernel::promote(&service, command).await?))
        }
        Request::Migrate { resource, seconds } => {
            let service = daemon.running(&resource)?;
            let command = migration::order(seconds)?;
            Ok(with_notes(kernel::promote(&service, command).await?))
        }
        Request::Demote { resource, force } => {
            let service = daemon.running(&resource)?;
            noted(kernel::demote(&service, force).await)
        }
        Request::Attach { config, volume } => {
            bring_up::attach_disks(daemon, &config, volume.map(VolumeNumber)).await
        }
        Request::Detach {
            resource,
            volume,
            force,
        } => {
            let command = |volume, _| Command::Detach { volume, force };
            each_volume(daemon, &resource, (volume, None), command).await
        }
        Request::Invalidate {
            resource,
            volume,
            peer,
            remote,
            marked_only,
            force,
        } => {
            let command = |volume, peer| Command::Invalidate {
                volume,
                peer,
                remote,
                marked_only,
                force,
            };
            each_volume(daemon, &resource, (volume, peer), command).await
        }
        Request::Verify {
            resource,
            volume,
            peer,
            order,
        } => {
            let command = |volume, peer| Command::Verify {
                volume,
                peer,
                order,
            };
            each_volume(daemon, &resource, (volume, peer), command).await
        }
        Request::PauseSync {
            resource,
            volume,
            peer,
            paused,
        } => {
            let command = |volume, peer| {
                Command::PauseSync(PauseOrder {
                    volume,
                    peer,
                    by: PausedBy::User,
                    paused,
                })
            };
            each_volume(daemon, &resource, (volume, peer), command).await
        }
        Request::Resize {
            resource,
            volume,
            assume_clean,
        } => {
            let command = |volume, _| Command::Resize {
                volume,
                assume_clean,
            };
            let reply = each_volume(daemon, &resource, (volume, None), command).await?;
            Ok(with_growth(reply, daemon, &resource).await)
        }
        Request::Outdate { resource } => order(daemon, &resource, Command::Outdate).await,
        Request::SuspendIo { resource } => order(daemon, &resource, Command::SuspendIo).await,
        Request::ResumeIo { resource } => order(daemon, &resource, Command::ResumeIo).await,
        Request::Status { resource } => status(daemon, resource).await,
        Request::NewGeneration {
            resource,
            volume,
            clear_bitmap,
        } => {
            let command = Command::NewGeneration {
                volume: VolumeNumber(volume),
                clear_bitmap,
            };
            order(daemon, &resource, command).await
        }
    }
}

/// The one resource a request is about.
fn resource_of(request: &Request) -> Option<&str> {
    match request {
        Request::Daemon => None,
        Request::Up(config) | Request::Adjust(config) | Request::Attach { config, .. } => {
            Some(&config.name)
        }
        Request::Down { resource }
        | Request::Connect { resource, .. }
        | Request::Resolve { resource, .. }
        | Request::Changes { resource, .. }
        | Request::Disconnect { resource, .. }
        | Request::Promote { resource, .. }
        | Request::Migrate { resource, .. }
        | Request::Demote { resource, .. }
        | Request::Outdate { resource }
        | Request::SuspendIo { resource }
        | Request::ResumeIo { resource }
        | Request::Detach { resource, .. }
        | Request::Invalidate { resource, .. }
        | Request::Verify { resource, .. }
        | Request::PauseSync { resource, .. }
        | Request::Resize { resource, .. }
        | Request::NewGeneration { resource, .. } => Some(resource),
        Request::Status { resource } => resource.as_deref(),
    }
}

async fn order(daemon: &Daemon, resource: &str, command: Command) -> Result<Reply, Refusal> {
    noted(daemon.running(resource)?.command(command).await)
}

async fn resolve(
    daemon: &Daemon,
    resource: &str,
    peer: &str,
    command: impl FnOnce(NodeId) -> Command,
) -> Result<Reply, Refusal> {
    let service = daemon.running(resource)?;
    let peer = service.peer_named(peer)?;
    noted(service.command(command(peer)).await)
}

async fn changes(
    daemon: &Daemon,
    resource: &str,
    peer: &str,
    (volume, from): (VolumeNumber, u64),
) -> Result<Reply, Refusal> {
    let service = daemon.running(resource)?;
    let peer = service.peer_named(peer)?;
    Ok(Reply::Changes(service.changes(peer, volume, from).await?))
}

async fn status(daemon: &Daemon, resource: Option<String>) -> Result<Reply, Refusal> {
    match resource {
        Some(name) => match daemon.find(&name) {
            Some(service) => Ok(Reply::Status(vec![status_of(&service).await?])),
            None => Ok(Reply::Status(Vec::new())),
        },
        None => Ok(status_of_all(daemon.all()).await),
    }
}

async fn status_of(service: &Service) -> Result<ResourceStatus, Refusal> {
    let mut state = service.status().await?;
    kernel::count_openers(service, &mut state).await;
    Ok(state)
}

/// All are asked at once: one that does not answer keeps nobody from seeing the others.
async fn status_of_all(services: Vec<Rc<Service>>) -> Reply {
    let mut asked = Vec::with_capacity(services.len());
    for service in services {
        let name = service.name.clone();
        let asking = async move { status_of(&service).await };
        asked.push((name, tokio::task::spawn_local(asking)));
    }
    let (mut answered, mut silent) = (Vec::with_capacity(asked.len()), Vec::new());
    for (name, asking) in asked {
        match asking.await {
            Ok(Ok(state)) => answered.push(state),
            // It has just gone.
            Ok(Err(refusal)) if refusal.code == RefusalCode::UnknownResource => {}
            Ok(Err(refusal)) => silent.push((name, refusal)),
            Err(died) => {
                let reason = format!("asking {name} for its state failed: {died}");
                silent.push((name, Refusal::new(RefusalCode::Environment, reason, "")));
            }
        }
    }
    if silent.is_empty() {
        Reply::Status(answered)
    } else {
        Reply::StatusOfSome { answered, silent }
    }
}

/// Volumes are dealt with one after the other; the first that is refused ends it.
async fn each_volume(
    daemon: &Daemon,
    resource: &str,
    (volume, peer): (Option<u16>, Option<String>),
    command: impl Fn(VolumeNumber, Option<NodeId>) -> Command,
) -> Result<Reply, Refusal> {
    let service = daemon.running(resource)?;
    let peer = peer.map(|peer| service.peer_named(&peer)).transpose()?;
    let numbers: Vec<VolumeNumber> = service
        .config
        .borrow()
        .volumes
        .iter()
        .map(|volume| volume.number)
        .filter(|number| volume.is_none_or(|wanted| wanted == number.0))
        .collect();
    let linked = links(&service).await;
    let mut notes = Vec::new();
    for volume in numbers {
        // What was ordered for the volume before may have the link made anew.
        let again = wait_for_links(daemon, &service, linked);
        drop(timeout(LINK_WAIT, again).await);
        notes.extend(service.command(command(volume, peer)).await?);
    }
    Ok(with_notes(notes))
}

/// The same reply, with what is to be said of kernel devices that do not grow.
async fn with_growth(reply: Reply, daemon: &Daemon, resource: &str) -> Reply {
    let mut notes = match reply {
        Reply::Done => Vec::new(),
        Reply::DoneWithNotes(notes) => notes,
        other @ (Reply::Refused(_)
        | Reply::Status(_)
        | Reply::StatusOfSome { .. }
        | Reply::Changes(_)
        | Reply::Daemon { .. }) => return other,
    };
    if let Some(service) = daemon.find(resource) {
        notes.extend(kernel::fixed_sizes(&service).await);
    }
    with_notes(notes)
}

/// How many peers are connected.
async fn links(service: &Service) -> usize {
    let status = service.status().await.ok();
    let connections = status.iter().flat_map(|status| &status.connections);
    let is_up = |state| state == ConnectionState::Connected;
    let connected = connections.filter(|one| is_up(one.connection_state));
    connected.count()
}

async fn wait_for_links(daemon: &Daemon, service: &Service, wanted: usize) {
    while links(service).await < wanted {
        drop(timeout(LOOK_AGAIN, daemon.changed()).await);
    }
}

fn with_notes(notes: Vec<String>) -> Reply {
    if notes.is_empty() {
        Reply::Done
    } else {
        Reply::DoneWithNotes(notes)
    }
}

fn noted(answer: Answer) -> Result<Reply, Refusal> {
    Ok(match answer? {
        None => Reply::Done,
        Some(note) => Reply::DoneWithNotes(vec![note]),
    })
}

/// How long a link that is made anew may take before an order goes on without it.
const LINK_WAIT: Duration = Duration::from_secs(10);

/// How often that is looked at without a reason.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
