//! The resources that are up, and what their threads tell.
//!
//! Everything here lives on one thread; no borrow is held across an `await`.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use rbd_engine::{Change, Level};
use rbd_protocol::control::{Refusal, RefusalCode, ResourceConfig};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::sync::{Mutex, Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::conflicts;
use super::dependencies;
use super::handlers::Surroundings;
use super::kernel;
use super::migration;
use super::nbd::NbdFront;
use super::remembered::{Found, Remembered};
use super::service::Service;
use crate::messages::FromResource;

/// A resource's name and what its thread tells.
pub(super) type Notice = (String, FromResource);

/// This node's daemon.
#[derive(Debug)]
pub(super) struct Daemon {
    /// Name of the node.
    pub(super) node: String,
    /// What handlers are told of this daemon.
    pub(super) surroundings: Rc<Surroundings>,
    /// Where threads send their notices.
    pub(super) notices: UnboundedSender<Notice>,
    /// What is to come up again after a restart.
    pub(super) remembered: Remembered,
    /// The NBD listeners.
    pub(super) nbd: NbdFront,
    services: RefCell<BTreeMap<String, Rc<Service>>>,
    /// Configurations of the resources that are up or on their way, which must not collide.
    claims: RefCell<BTreeMap<String, ResourceConfig>>,
    /// One change at a time per resource.
    gates: RefCell<BTreeMap<String, Rc<Mutex<()>>>>,
    emptied: Notify,
    changed: Notify,
    /// Resources that were up when the daemon ended, and are on their way up again.
    resuming: RefCell<BTreeSet<String>>,
    resumed: Notify,
    is_stopping: Cell<bool>,
    /// A look at where the paths of disks lead, which may take for ever.
    asked_for_aliases: RefCell<Option<JoinHandle<()>>>,
}

impl Daemon {
    /// A daemon without resources.
    pub(super) fn new(
        surroundings: Surroundings,
        notices: UnboundedSender<Notice>,
        remembered: Remembered,
    ) -> Self {
        Self {
            node: surroundings.node.clone(),
            surroundings: Rc::new(surroundings),
            notices,
            remembered,
            nbd: NbdFront::default(),
            services: RefCell::default(),
            claims: RefCell::default(),
            gates: RefCell::default(),
            emptied: Notify::new(),
            changed: Notify::new(),
            resuming: RefCell::default(),
            resumed: Notify::new(),
            is_stopping: Cell::new(false),
            asked_for_aliases: RefCell::default(),
        }
    }

    /// The resource of this name, if it is up.
    pub(super) fn find(&self, name: &str) -> Option<Rc<Service>> {
        self.services.borrow().get(name).cloned()
    }

    /// The resource of this name, or the refusal that says it is not up.
    pub(super) fn running(&self, name: &str) -> Result<Rc<Service>, Refusal> {
        self.find(name).ok_or_else(|| {
            Refusal::new(
                RefusalCode::UnknownResource,
                format!("{name} is not up on {}", self.node),
                format!("rbdadm up {name}"),
            )
        })
    }

    /// All resources that are up, by name.
    pub(super) fn all(&self) -> Vec<Rc<Service>> {
        self.services.borrow().values().cloned().collect()
    }

    /// Adds a resource that has just come up.
    pub(super) fn add(&self, service: Rc<Service>) {
        self.services
            .borrow_mut()
            .insert(service.name.clone(), service);
    }

    /// Takes a resource out of service: from here on it is as if it had never been up.
    pub(super) fn remove(&self, name: &str) {
        let service = self.services.borrow_mut().remove(name);
        self.claims.borrow_mut().remove(name);
        if let Some(service) = service {
            service.links.close();
            service.handlers.close();
            service.mark_ended();
        }
        self.leave_unused_addresses();
        if self.services.borrow().is_empty() {
            self.emptied.notify_waiters();
        }
    }

    /// Stops listening for clients where no resource wants it any more.
    pub(super) fn leave_unused_addresses(&self) {
        self.nbd.keep_only(&self.tcp_exports());
    }

    /// Notes that no resource is to come up any more.
    pub(super) fn will_stop(&self) {
        self.is_stopping.set(true);
    }

    /// Refuses to bring anything up while the daemon stops: nobody would take it down in order.
    pub(super) fn refuse_when_stopping(&self) -> Result<(), Refusal> {
        if self.is_stopping.get() {
            let reason = "the daemon is being stopped";
            return Err(Refusal::new(RefusalCode::Environment, reason, ""));
        }
        Ok(())
    }

    /// Notes that a resource, or its configuration, may not be what it was.
    pub(super) fn has_changed(&self) {
        self.changed.notify_one();
    }

    /// Waits until something may have changed; for one who asks.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Waits until no resource is up.
    pub(super) async fn emptied(&self) {
        let emptied = self.emptied.notified();
        if !self.services.borrow().is_empty() {
            emptied.await;
        }
    }

    /// Notes that these resources are on their way up again.
    pub(super) fn will_resume(&self, remembered: &[Found]) {
        let names = remembered.iter().filter_map(|found| match found {
            Found::Config(config) => Some(config.name.clone()),
            // It is brought up by a command, which must not wait for itself.
            Found::Other { .. } => None,
        });
        self.resuming.borrow_mut().extend(names);
    }

    /// The resource is up again, or will not be.
    pub(super) fn has_resumed(&self, name: &str) {
        self.resuming.borrow_mut().remove(name);
        self.resumed.notify_waiters();
    }

    /// Waits while the resource is on its way up again: until then nothing true can be said of it.
    pub(super) async fn resumed(&self, name: &str) {
        loop {
            let resumed = self.resumed.notified();
            if !self.resuming.borrow().contains(name) {
                return;
            }
            resumed.await;
        }
    }

    /// The lock under which the resource of this name is changed.
    pub(super) fn gate(&self, name: &str) -> Rc<Mutex<()>> {
        let mut gates = self.gates.borrow_mut();
        // Names nobody uses any more go when there are many.
        if gates.len() > GATES_KEPT {
            gates.retain(|_, gate| Rc::strong_count(gate) > 1);
        }
        Rc::clone(gates.entry(name.to_owned()).or_default())
    }

    /// Reserves what a configuration uses, unless another resource does.
    pub(super) fn claim(&self, config: &ResourceConfig) -> Result<(), Refusal> {
        let mut claims = self.claims.borrow_mut();
        for other in claims.values().filter(|other| other.name != config.name) {
            conflicts::check(config, other)?;
        }
        let others = claims.values().filter(|other| other.name != config.name);
        dependencies::check(&dependencies::order(others.chain([config])))?;
        claims.insert(config.name.clone(), config.clone());
        Ok(())
    }

    fn is_asked_for_aliases(&self) -> bool {
        let asked = self.asked_for_aliases.borrow();
        asked.as_ref().is_some_and(|asked| !asked.is_finished())
    }

    /// Refuses disks that another resource uses under another name. This only says it better than
    /// their locks would: a file system that does not answer is not waited for long, nor asked
    /// again.
    pub(super) async fn check_aliases(&self, config: &ResourceConfig) -> Result<(), Refusal> {
        // One look at a time: else each resource would leave a thread behind that waits for ever.
        let until = Instant::now() + ALIAS_DEADLINE;
        while self.is_asked_for_aliases() {
            if Instant::now() >= until {
                return Ok(());
            }
            sleep(ALIAS_TURN).await;
        }
        let claims = self.claims.borrow().clone();
        let others = claims.into_values().filter(|one| one.name != config.name);
        let (config, others) = (config.clone(), others.collect::<Vec<_>>());
        let (told, answer) = oneshot::channel();
        let asked = tokio::task::spawn_blocking(move || {
            let _too_late = told.send(conflicts::check_aliases(&config, &others));
        });
        *self.asked_for_aliases.borrow_mut() = Some(asked);
        let answer = timeout(ALIAS_DEADLINE, answer).await;
        answer.map_or(Ok(()), |answer| answer.unwrap_or(Ok(())))
    }

    /// Gives up a reservation of a resource that did not come up.
    pub(super) fn release_claim(&self, name: &str) {
        self.claims.borrow_mut().remove(name);
        self.leave_unused_addresses();
    }

    /// Who of us listens on this address, for messages.
    pub(super) fn listens_on(&self, address: &str) -> Option<String> {
        let claims = self.claims.borrow();
        let holder = claims
            .values()
            .find(|config| config.listen.as_deref() == Some(address))?;
        Some(holder.name.clone())
    }

    /// The TCP addresses some resource wants to be exported on.
    fn tcp_exports(&self) -> Vec<String> {
        let claims = self.claims.borrow();
        claims
            .values()
            .flat_map(super::nbd::tcp_addresses)
            .collect()
    }

    /// Acts on what the threads tell, for as long as the daemon lives.
    pub(super) async fn heed_notices(self: Rc<Self>, mut notices: UnboundedReceiver<Notice>) {
        while let Some((name, notice)) = notices.recv().await {
            let Some(service) = self.find(&name) else {
                continue;
            };
            match notice {
                FromResource::SeekLink { peer, seek } => service.links.seek(peer, seek),
                FromResource::RunHandler { id, run } => service.run_handler(id, run),
                FromResource::Measure {
                    id,
                    volume,
                    data,
                    metadata,
                } => service.measure(id, volume, data, metadata),
                FromResource::NoteSize { id, volume, end } => service.note_size(id, volume, end),
                FromResource::SizeChanged { volume } => {
                    let service = Rc::clone(&service);
                    tokio::task::spawn_local(async move {
                        kernel::follow_size(&service, volume).await;
                    });
                }
                FromResource::DeviceLost { volume, number } => {
                    let service = Rc::clone(&service);
                    tokio::task::spawn_local(async move {
                        kernel::rejoin(&service, volume, number).await;
                    });
                }
                FromResource::Migration(news) => {
                    let service = Rc::clone(&service);
                    tokio::task::spawn_local(async move {
                        migration::heed(&service, news).await;
                    });
                }
                FromResource::Report(change) => {
                    log_change(&service, &change);
                    if change.level != Level::Debug {
                        self.has_changed();
                    }
                }
                FromResource::Stopped { in_order } => {
                    tracing::info!(resource = name, "stopped");
                    if in_order {
                        kernel::note_company(&service);
                    }
                    self.remove(&name);
                }
                FromResource::Failed { why } => {
                    tracing::error!(resource = name, "out of service: {why}");
                    self.remove(&name);
                }
            }
        }
    }
}

fn log_change(service: &Service, change: &Change) {
    let resource = &*service.name;
    let volume = change.volume.map(|volume| volume.0);
    let peer = change.peer.map(|peer| service.node_name(peer));
    let text = &*change.text;
    match change.level {
        Level::Error => tracing::error!(resource, volume, peer, "{text}"),
        Level::Warn => tracing::warn!(resource, volume, peer, "{text}"),
        Level::Info => tracing::info!(resource, volume, peer, "{text}"),
        Level::Debug => tracing::debug!(resource, volume, peer, "{text}"),
    }
}

const GATES_KEPT: usize = 1024;

/// How long file systems may take to tell where paths lead.
const ALIAS_DEADLINE: Duration = Duration::from_secs(2);

/// How often it is looked whether another one's look has ended.
const ALIAS_TURN: Duration = Duration::from_millis(5);
