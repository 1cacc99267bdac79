//! Which volumes of a resource are kernel block devices now: while it is Primary, and not else.
//!
//! | File | Job |
//! |---|---|
//! | `company` | whether what waits in a device may be done beside another Primary |
//! | `device` | which block device of the kernel |
//! | `driver`, `ublk`, `nbd` | sequences of orders to the drivers; they block, and run elsewhere |
//! | `growth` | devices that grow with their volumes |
//! | `holders` | who has a block device open |
//! | `names` | the links by which people find it |
//! | `openers` | how many have it open, for who asks |
//! | `resume` | devices that go on after the daemon or a connection was lost |
//!
//! A device outlives the daemon when somebody has it open: the kernel keeps its requests, and the
//! next daemon takes it over (`resume`). The requests themselves never pass here.

mod company;
mod device;
mod driver;
mod growth;
mod holders;
mod names;
mod nbd;
mod openers;
mod resume;
#[cfg(test)]
mod tests;
mod ublk;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use rbd_engine::Command;
use rbd_protocol::control::{KernelExport, Refusal, RefusalCode, VolumeConfig};
use rbd_protocol::ids::VolumeNumber;
use rbd_protocol::state::Role;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::bring_up::Notes;
use super::handlers::Surroundings;
use super::service::{Answer, Service};
use company::Company;
pub(super) use company::note_company;
use device::BlockDevice;
use driver::{DriverError, Origin};
use openers::Openers;

pub(super) use growth::{fixed_sizes, follow_size};
pub(super) use openers::count_openers;
pub(super) use resume::{rejoin, resume};

/// The kernel devices of one resource.
#[derive(Debug)]
pub(super) struct KernelDevices {
    surroundings: Rc<Surroundings>,
    provided: RefCell<BTreeMap<VolumeNumber, BlockDevice>>,
    /// How many of each volume have been handed over: the number of the last one.
    handed_over: RefCell<BTreeMap<VolumeNumber, u64>>,
    /// The sizes of volumes whose devices were said to be too small.
    too_small: RefCell<BTreeMap<VolumeNumber, u64>>,
    openers: Openers,
    company: Company,
    /// One change at a time.
    changing: Mutex<()>,
}

impl KernelDevices {
    /// None yet.
    pub(super) fn new(surroundings: Rc<Surroundings>) -> Self {
        Self {
            surroundings,
            provided: RefCell::default(),
            handed_over: RefCell::default(),
            too_small: RefCell::default(),
            openers: Openers::default(),
            company: Company::default(),
            changing: Mutex::default(),
        }
    }

    /// The daemon's run directory.
    pub(super) fn run_directory(&self) -> &Path {
        &self.surroundings.run_dir
    }

    fn owner(&self, resource: &str, volume: VolumeNumber) -> u64 {
        let Surroundings { node, run_dir, .. } = &*self.surroundings;
        driver::owner(node, run_dir, resource, volume)
    }

    fn device(&self, volume: VolumeNumber) -> Option<BlockDevice> {
        self.provided.borrow().get(&volume).copied()
    }

    /// The number of the next device of the volume, or connection of its device.
    fn next_number(&self, volume: VolumeNumber) -> u64 {
        let mut handed_over = self.handed_over.borrow_mut();
        let number = handed_over.entry(volume).or_default();
        *number += 1;
        *number
    }
}

/// Makes this node Primary, with the kernel devices its configuration insists on or not at all.
pub(super) async fn promote(service: &Service, command: Command) -> Result<Notes, Refusal> {
    let insisted = volumes(service, is_insisted_on);
    let was_primary = service.status().await?.role == Role::Primary;
    if let Some(volume) = insisted.first()
        && !was_primary
    {
        let kernel = volume.kernel;
        let checked = blocking(move || driver::check(kernel)).await;
        checked.map_err(|error| refusal(service, volume.number, &error))?;
    }
    let mut notes: Notes = Vec::new();
    notes.extend(service.command(command).await?);
    match provide(service).await {
        Ok(()) => {
            company::forget(service);
            Ok(notes)
        }
        Err(refusal) => {
            if !was_primary {
                let back = Command::Demote { force: false };
                if let Err(error) = service.command(back).await {
                    tracing::warn!(resource = service.name, %error, "still Primary");
                }
            }
            Err(refusal)
        }
    }
}

/// Makes this node Secondary, unless somebody has a device open. With `force` requests are failed.
pub(super) async fn demote(service: &Service, force: bool) -> Answer {
    let command = Command::Demote { force };
    if force {
        let answer = service.command(command).await?;
        let _changing = service.kernel.changing.lock().await;
        take_away(service, true).await?;
        return Ok(answer);
    }
    withdraw_before(service, command).await
}

/// Ends the resource's service, unless somebody has a device open.
pub(super) async fn stop(service: &Service) -> Answer {
    withdraw_before(service, Command::Stop).await
}

/// Takes the devices away and carries the command out; if it is refused they come back. Nobody
/// makes one in between.
async fn withdraw_before(service: &Service, command: Command) -> Answer {
    let status = service.status().await?;
    if status.devices.iter().any(|device| device.open_count > 0) {
        return service.command(command).await; // refuses, and says of whom
    }
    let changing = service.kernel.changing.lock().await;
    take_away(service, false).await?;
    let answer = service.command(command).await;
    drop(changing);
    if answer.is_err()
        && let Err(error) = provide(service).await
    {
        tracing::warn!(resource = service.name, %error, "the kernel device did not come back");
    }
    answer
}

/// Makes the devices that are missing, if this node is Primary. Only one that is insisted on may
/// fail this.
pub(super) async fn provide(service: &Service) -> Result<(), Refusal> {
    let _changing = service.kernel.changing.lock().await;
    for volume in volumes(service, |kernel| kernel != KernelExport::None) {
        let Err(error) = provide_one(service, &volume).await else {
            continue;
        };
        if is_insisted_on(volume.kernel) {
            return Err(refusal(service, volume.number, &error));
        }
        tracing::info!(
            resource = service.name,
            volume = volume.number.0,
            "no kernel device: {error}"
        );
    }
    Ok(())
}

async fn provide_one(service: &Service, volume: &VolumeConfig) -> Result<(), ProvideError> {
    if service.kernel.device(volume.number).is_some() {
        return Ok(());
    }
    let answer = service.export(volume.number).await;
    let answer = answer.map_err(|_| ProvideError::Gone)?;
    let Some(facts) = answer.facts.filter(|_| answer.role == Role::Primary) else {
        return Ok(());
    };
    let in_company = company::is_still_there(service).await;
    let owner = service.kernel.owner(&service.name, volume.number);
    let kernel = volume.kernel;
    let prepared = blocking(move || driver::prepare(owner, &facts, kernel, in_company)).await?;
    let pending = prepared.pending;
    let number = service.kernel.next_number(volume.number);
    let served = service.serve_kernel(volume.number, number, prepared.served);
    let served = served.await;
    let refused = match served {
        Some(Ok(())) => None,
        Some(Err(error)) => Some(ProvideError::Serve(error)),
        None => Some(ProvideError::Gone),
    };
    if let Some(error) = refused {
        let abandoned = move || {
            driver::abandon(&pending);
            Ok(())
        };
        blocking(abandoned).await?;
        return Err(error);
    }
    let (device, origin) = blocking(move || driver::start(pending)).await?;
    service
        .kernel
        .provided
        .borrow_mut()
        .insert(volume.number, device);
    for name in names_of(service, volume) {
        if let Err(error) = names::make(&name, &device.path()) {
            let name = name.display();
            tracing::warn!(resource = service.name, "{name} is not made: {error}");
        }
    }
    tracing::info!(
        resource = service.name,
        volume = volume.number.0,
        "{device} is {}",
        match origin {
            Origin::New => "its device",
            Origin::TakenOver => "its device again",
        }
    );
    growth::follow(service, volume.number).await;
    Ok(())
}

/// Takes every device away, those of an earlier daemon too. Without `force`, none that is open. The
/// caller holds the lock.
async fn take_away(service: &Service, force: bool) -> Result<(), Refusal> {
    let found = all_of(service).await;
    if !force {
        for (volume, device) in &found {
            refuse_if_held(service, volume.number, *device).await?;
        }
    }
    for (volume, device) in found {
        let removed = blocking(move || driver::remove(device)).await;
        removed.map_err(|error| refusal(service, volume.number, &error))?;
        forget(service, &volume, device);
    }
    Ok(())
}

fn forget(service: &Service, volume: &VolumeConfig, device: BlockDevice) {
    for name in names_of(service, volume) {
        names::remove(&name, &device.path());
    }
    let mut provided = service.kernel.provided.borrow_mut();
    provided.remove(&volume.number);
    tracing::info!(
        resource = service.name,
        volume = volume.number.0,
        "{device} is gone"
    );
}

/// Before the daemon ends: devices nobody has open go, the others wait for the next daemon.
pub(super) async fn leave(service: &Service) {
    match timeout(CHANGE_LIMIT, service.kernel.changing.lock()).await {
        Ok(_changing) => leave_devices(service).await,
        Err(_) => tracing::warn!(
            resource = service.name,
            "a change of role hangs: devices stay"
        ),
    }
    company::remember(service).await;
}

async fn leave_devices(service: &Service) {
    for (volume, device) in all_of(service).await {
        let held = blocking(move || Ok(holders::of(device))).await;
        if held.is_ok_and(|held| held.is_empty()) {
            match blocking(move || driver::remove(device)).await {
                Ok(()) => forget(service, &volume, device),
                Err(error) => tracing::warn!(resource = service.name, %error, "a device stays"),
            }
        } else {
            tracing::info!(
                resource = service.name,
                volume = volume.number.0,
                "{device} is open: it waits for the next daemon"
            );
        }
    }
}

/// Every device of this resource, whoever made it.
async fn all_of(service: &Service) -> Vec<(VolumeConfig, BlockDevice)> {
    let mut found = Vec::new();
    for volume in volumes(service, |_| true) {
        if let Some(device) = service.kernel.device(volume.number) {
            found.push((volume, device));
            continue;
        }
        let owner = service.kernel.owner(&service.name, volume.number);
        match blocking(move || driver::left_behind(owner)).await {
            Ok(devices) => found.extend(devices.into_iter().map(|one| (volume.clone(), one))),
            Err(error) => tracing::debug!(resource = service.name, %error, "not looked for"),
        }
    }
    found
}

/// Programs that only look at new devices are given time to end.
async fn refuse_if_held(
    service: &Service,
    volume: VolumeNumber,
    device: BlockDevice,
) -> Result<(), Refusal> {
    let start = Instant::now();
    loop {
        let held = blocking(move || Ok(holders::of(device))).await;
        let held = held.map_err(|error| refusal(service, volume, &error))?;
        if held.is_empty() {
            return Ok(());
        }
        if start.elapsed() >= GLANCE_LIMIT {
            let name = &service.name;
            let reason = format!("{name}/{volume} ({device}): {held}");
            let help = format!("end that first, or fail its I/O: rbdadm secondary --force {name}");
            return Err(Refusal::new(RefusalCode::StateHeldOpen, reason, help));
        }
        sleep(PAUSE).await;
    }
}

/// Why a volume has no kernel device.
#[derive(Debug, thiserror::Error)]
enum ProvideError {
    #[error(transparent)]
    Driver(#[from] DriverError),
    #[error("its queue cannot be served: {0}")]
    Serve(#[source] std::io::Error),
    #[error("the resource is being stopped")]
    Gone,
}

fn refusal(service: &Service, volume: VolumeNumber, error: &ProvideError) -> Refusal {
    Refusal::new(
        RefusalCode::Environment,
        format!("{}/{volume}: no kernel device: {error}", service.name),
        "or let it go without: 'kernel auto' or 'kernel none' in its export section",
    )
}

fn volumes(service: &Service, wanted: impl Fn(KernelExport) -> bool) -> Vec<VolumeConfig> {
    let config = service.config.borrow();
    let volumes = config.volumes.iter();
    volumes.filter(|one| wanted(one.kernel)).cloned().collect()
}

/// Whether there is no promotion without a device.
fn is_insisted_on(kernel: KernelExport) -> bool {
    match kernel {
        KernelExport::Ublk | KernelExport::Nbd => true,
        KernelExport::Auto | KernelExport::None => false,
    }
}

fn names_of(service: &Service, volume: &VolumeConfig) -> [PathBuf; 2] {
    names::of(&service.name, volume.number, &volume.device)
}

/// Runs something that blocks. It is not waited for longer than makes sense.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DriverError> + Send + 'static,
) -> Result<T, ProvideError> {
    match timeout(DRIVER_LIMIT, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(result)) => Ok(result?),
        Ok(Err(_)) => Err(ProvideError::Gone),
        Err(_) => Err(DriverError::TooLong.into()),
    }
}

/// How long udev and its programs may look at a device without being taken for its users.
const GLANCE_LIMIT: Duration = Duration::from_secs(2);

/// How long a driver may take with a sequence of orders: longer than the limits some of them have.
const DRIVER_LIMIT: Duration = Duration::from_secs(60);

/// How long the end of the daemon waits for a change of role under way.
const CHANGE_LIMIT: Duration = Duration::from_secs(5);

const PAUSE: Duration = Duration::from_millis(100);
