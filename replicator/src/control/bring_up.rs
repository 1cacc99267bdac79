//! Bringing a resource up and down. Either all of it comes up or nothing stays.

#[cfg(test)]
mod tests;

use std::io;
use std::rc::Rc;
use std::time::Duration;

use rbd_engine::Command;
use rbd_protocol::control::{Refusal, RefusalCode, Reply, ResourceConfig, VolumeConfig};
use rbd_protocol::ids::{NodeId, VolumeNumber};
use rbd_protocol::state::{ConnectionState, DiskState};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::daemon::Daemon;
use super::disk::{self, FormerSizes, OpenVolume};
use super::handlers::Handlers;
use super::kernel::{self, KernelDevices};
use super::links::{self, Links, TakeLink};
use super::remembered::Found;
use super::service::Service;
use super::{adjust, conflicts, nbd, system, upgrade};
use crate::messages::ToResource;
use crate::shell::{self, ResourceHandle};

/// Notes for the user about what was done.
pub(super) type Notes = Vec<String>;

/// Brings a resource up, or finishes what is missing, or takes over a changed configuration.
pub(super) async fn up(daemon: &Rc<Daemon>, config: ResourceConfig) -> Result<Reply, Refusal> {
    conflicts::check_alone(&config, &daemon.node)?;
    let gate = daemon.gate(&config.name);
    let _changing = gate.lock().await;
    let notes = match daemon.find(&config.name) {
        Some(service) => adjust::bring_to(daemon, &service, config).await?,
        None => create(daemon, config).await?,
    };
    daemon.has_changed();
    Ok(if notes.is_empty() {
        Reply::Done
    } else {
        Reply::DoneWithNotes(notes)
    })
}

/// Takes a resource down. One that is not up is down.
pub(super) async fn down(daemon: &Rc<Daemon>, name: &str) -> Result<Reply, Refusal> {
    let gate = daemon.gate(name);
    let _changing = gate.lock().await;
    if let Some(service) = daemon.find(name) {
        kernel::stop(&service).await?;
        service.links.close();
        if tokio::time::timeout(STOP_DEADLINE, service.ended())
            .await
            .is_err()
        {
            return Err(Refusal::new(
                RefusalCode::StateTimeout,
                format!("{name} is stopping, but its disks are still busy"),
                "run it again in a moment",
            ));
        }
        service.join().await;
    }
    daemon.remembered.forget(name);
    Ok(Reply::Done)
}

/// Brings up again what was up when the daemon ended. One does not wait for the other: a disk that
/// does not answer costs its own resource only.
pub(super) async fn resume(daemon: &Rc<Daemon>, remembered: Vec<Found>) {
    resume_within(RESUME_DEADLINE, daemon, remembered).await;
}

async fn resume_within(deadline: Duration, daemon: &Rc<Daemon>, remembered: Vec<Found>) {
    let mut resuming = JoinSet::new();
    for found in remembered {
        let daemon = Rc::clone(daemon);
        resuming.spawn_local(async move {
            match found {
                Found::Config(config) => resume_one(deadline, &daemon, *config).await,
                Found::Other { name, config } => {
                    upgrade::bring_up(&daemon.surroundings, &name, config).await;
                }
            }
        });
    }
    while resuming.join_next().await.is_some() {}
}

/// What takes longer goes on by itself: half an `up` would have no link, and nobody to make one.
async fn resume_one(deadline: Duration, daemon: &Rc<Daemon>, config: ResourceConfig) {
    let name = config.name.clone();
    let bringing = {
        let (daemon, resource) = (Rc::clone(daemon), name.clone());
        tokio::task::spawn_local(async move {
            match up(&daemon, config).await {
                Ok(_) => tracing::info!(resource, "up again after a restart"),
                Err(refusal) => tracing::error!(
                    resource,
                    "not brought up again: {refusal}: {}",
                    refusal.reason
                ),
            }
        })
    };
    if tokio::time::timeout(deadline, bringing).await.is_err() {
        let seconds = deadline.as_secs();
        tracing::error!(
            resource = name,
            "not up again after {seconds} s; the daemon goes on with it"
        );
    }
    daemon.has_resumed(&name);
}

async fn create(daemon: &Rc<Daemon>, config: ResourceConfig) -> Result<Notes, Refusal> {
    daemon.claim(&config)?;
    let name = config.name.clone();
    let created = create_claimed(daemon, config).await;
    if created.is_err() && daemon.find(&name).is_none() {
        daemon.release_claim(&name);
    }
    created
}

/// Everything that can fail because of the outside comes before the thread is started.
async fn create_claimed(daemon: &Rc<Daemon>, config: ResourceConfig) -> Result<Notes, Refusal> {
    daemon.check_aliases(&config).await?;
    let sizes = FormerSizes::below(&daemon.surroundings.state_dir);
    let disks = open_disks(&config, config.volumes.clone(), &sizes).await?;
    daemon.refuse_when_stopping()?;
    let listener = listen(daemon, &config)?;
    listen_for_clients(daemon, &config)?;
    let handle = shell::spawn(
        config.name.clone(),
        config.clone(),
        system::seed(),
        (&daemon.surroundings.run_dir, &daemon.surroundings.state_dir),
        daemon.notices.clone(),
    )
    .map_err(|error| environment(error.to_string()))?;
    let links = Links::new(&config, listener, take_link(handle.clone()));
    let handlers = Handlers::new(Rc::clone(&daemon.surroundings));
    let kernel = KernelDevices::new(Rc::clone(&daemon.surroundings));
    let service = Rc::new(Service::new(
        config,
        handle,
        (links, handlers, kernel),
        sizes,
    ));
    daemon.add(Rc::clone(&service));
    match start(&service, disks).await {
        Ok(notes) => {
            daemon.remembered.keep(&service.config.borrow());
            tracing::info!(resource = service.name, "up");
            // It may take long, and commands should not wait for it.
            tokio::task::spawn_local(async move { kernel::resume(&service).await });
            Ok(notes)
        }
        Err(refusal) => {
            undo(&service).await;
            Err(refusal)
        }
    }
}

async fn start(
    service: &Service,
    disks: Vec<(VolumeNumber, OpenVolume)>,
) -> Result<Notes, Refusal> {
    let mut notes = attach(service, disks).await?;
    notes.extend(connect(service, None, false, false).await?);
    Ok(notes)
}

/// Takes back a resource that came up half.
async fn undo(service: &Service) {
    service.links.close();
    if service.command(Command::Stop).await.is_err() {
        service.shut_down();
    }
    if tokio::time::timeout(STOP_DEADLINE, service.ended())
        .await
        .is_err()
    {
        tracing::error!(resource = service.name, "half up, and does not stop");
    } else {
        service.join().await;
    }
}

/// Attaches disks that are missing and starts connecting, as far as that has not been done.
pub(super) async fn finish(service: &Service) -> Result<Notes, Refusal> {
    let mut notes = attach_missing(service, None).await?;
    let status = service.status().await?;
    for connection in &status.connections {
        if connection.connection_state == ConnectionState::StandAlone {
            notes.extend(connect(service, Some(connection.peer_node_id), false, false).await?);
        }
    }
    kernel::provide(service).await?;
    Ok(notes)
}

/// Attaches the disks that are missing, of one volume or of all, and nothing else.
pub(super) async fn attach_disks(
    daemon: &Rc<Daemon>,
    wanted: &ResourceConfig,
    volume: Option<VolumeNumber>,
) -> Result<Reply, Refusal> {
    let gate = daemon.gate(&wanted.name);
    let _changing = gate.lock().await;
    let service = daemon.running(&wanted.name)?;
    adjust::refuse_fixed(&service.config.borrow(), wanted)?;
    let notes = attach_missing(&service, volume).await?;
    kernel::provide(&service).await?;
    Ok(if notes.is_empty() {
        Reply::Done
    } else {
        Reply::DoneWithNotes(notes)
    })
}

async fn attach_missing(service: &Service, only: Option<VolumeNumber>) -> Result<Notes, Refusal> {
    let status = service.status().await?;
    let config = service.config.borrow().clone();
    let is_missing = |volume: &&VolumeConfig| {
        let device = status
            .devices
            .iter()
            .find(|device| device.volume == volume.number);
        let is_wanted = only.is_none_or(|only| only == volume.number);
        is_wanted && device.is_none_or(|device| device.disk_state == DiskState::Diskless)
    };
    let missing: Vec<_> = config.volumes.iter().filter(is_missing).cloned().collect();
    let disks = open_disks(&config, missing, &service.sizes).await?;
    attach(service, disks).await
}

/// Starts connecting; a peer that is being connected to already is fine, unless the user wants
/// something else of it now.
pub(super) async fn connect(
    service: &Service,
    peer: Option<NodeId>,
    discard_my_data: bool,
    tentative: bool,
) -> Result<Option<String>, Refusal> {
    let command = Command::Connect {
        peer,
        discard_my_data,
        tentative,
    };
    match service.command(command).await {
        Err(refusal)
            if refusal.code == RefusalCode::AlreadyConnected && !discard_my_data && !tentative =>
        {
            Ok(None)
        }
        answer => answer,
    }
}

async fn attach(
    service: &Service,
    disks: Vec<(VolumeNumber, OpenVolume)>,
) -> Result<Notes, Refusal> {
    let mut notes = Notes::new();
    for (volume, OpenVolume { files, disk }) in disks {
        notes.extend(service.attach(volume, files, disk).await?);
    }
    Ok(notes)
}

async fn open_disks(
    config: &ResourceConfig,
    volumes: Vec<VolumeConfig>,
    sizes: &FormerSizes,
) -> Result<Vec<(VolumeNumber, OpenVolume)>, Refusal> {
    let (config, sizes) = (config.clone(), sizes.clone());
    let opening = tokio::task::spawn_blocking(move || {
        let mut disks = Vec::new();
        for volume in &volumes {
            if let Some(disk) = disk::open(&config, volume, &sizes)? {
                disks.push((volume.number, disk));
            }
        }
        Ok(disks)
    });
    opening
        .await
        .unwrap_or_else(|error| Err(environment(format!("opening the disks failed: {error}"))))
}

/// Listens for peers, if there are any.
pub(super) fn listen(
    daemon: &Daemon,
    config: &ResourceConfig,
) -> Result<Option<TcpListener>, Refusal> {
    let (Some(listen), Some(peer)) = (&config.listen, config.peers.first()) else {
        return Ok(None);
    };
    let address = conflicts::socket_address(&config.name, listen)?;
    links::listen(address, &peer.net)
        .map(Some)
        .map_err(|error| cannot_listen(daemon, listen, &error))
}

/// Listens for clients on the TCP addresses that are not listened on yet.
pub(super) fn listen_for_clients(
    daemon: &Rc<Daemon>,
    config: &ResourceConfig,
) -> Result<(), Refusal> {
    daemon
        .nbd
        .listen(daemon, &nbd::tcp_addresses(config))
        .map_err(|(address, error)| cannot_listen(daemon, &address, &error))
}

fn cannot_listen(daemon: &Daemon, address: &str, error: &io::Error) -> Refusal {
    if error.kind() != io::ErrorKind::AddrInUse {
        return Refusal::new(
            RefusalCode::Environment,
            format!("cannot listen on {address}: {error}"),
            "check that the address belongs to this host: ip address",
        );
    }
    let reason = match daemon.listens_on(address) {
        Some(resource) => format!("{address} is listened on by {resource}"),
        None => format!("{address} is used by another program"),
    };
    let port = address.rsplit(':').next().unwrap_or_default();
    Refusal::new(
        RefusalCode::LocalAddressInUse,
        reason,
        format!("ss -ltnp sport = :{port}"),
    )
}

fn take_link(handle: ResourceHandle) -> TakeLink {
    Box::new(move |peer, data, control| {
        let message = ToResource::Link {
            peer,
            data,
            control,
        };
        if handle.send(message).is_err() {
            tracing::debug!("link closed: the resource has just been stopped");
        }
    })
}

fn environment(reason: String) -> Refusal {
    Refusal::new(RefusalCode::Environment, reason, "")
}

/// How long in-flight operations may take to finish after a resource has agreed to stop: a little
/// more than its thread gives them.
const STOP_DEADLINE: Duration = Duration::from_secs(15);

/// How long a resource may take to come up again before it is not waited for any more. All of them
/// together take no longer: systemd waits for the daemon no more than 90 s.
const RESUME_DEADLINE: Duration = Duration::from_secs(30);
