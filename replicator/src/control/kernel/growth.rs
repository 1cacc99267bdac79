//! Kernel devices that grow with their volumes, where the kernel lets them. One that cannot keeps
//! its size until the next promotion, which is said once.

use rbd_protocol::ids::VolumeNumber;

use super::{KernelDevices, blocking, driver};
use crate::control::bring_up::Notes;
use crate::control::service::Service;

/// Lets a volume's kernel device have what clients are shown as its size.
pub(in crate::control) async fn follow_size(service: &Service, volume: VolumeNumber) {
    let _changing = service.kernel.changing.lock().await;
    follow(service, volume).await;
}

/// The same for who is changing devices already.
pub(super) async fn follow(service: &Service, volume: VolumeNumber) {
    let Some(device) = service.kernel.device(volume) else {
        return;
    };
    let shown = service.export(volume).await.ok().and_then(|one| one.facts);
    let (Some(facts), Some(found)) = (shown, device.size_bytes()) else {
        return;
    };
    let wanted = facts.size_bytes;
    if wanted <= found {
        return;
    }
    let name = &service.name;
    let owner = service.kernel.owner(name, volume);
    match blocking(move || driver::resize(owner, device, wanted)).await {
        Ok(()) => tracing::info!(
            resource = name,
            volume = volume.0,
            "{device} grows from {found} to {wanted} bytes"
        ),
        Err(error) if service.kernel.has_not_said(volume, wanted) => tracing::warn!(
            resource = name,
            volume = volume.0,
            "{device} stays at {found} of {wanted} bytes: {error}; {}",
            what_helps(name)
        ),
        Err(_) => {}
    }
}

/// What is to be known of kernel devices before their volumes grow.
pub(in crate::control) async fn fixed_sizes(service: &Service) -> Notes {
    let provided = service.kernel.provided.borrow().clone();
    let mut notes = Notes::new();
    for (volume, device) in provided {
        if let Err(error) = blocking(move || driver::check_resize(device)).await {
            let name = &service.name;
            let help = what_helps(name);
            notes.push(format!(
                "{name}/{volume}: {device} stays as it is: {error}; {help}"
            ));
        }
    }
    notes
}

fn what_helps(name: &str) -> String {
    format!(
        "it grows with the next promotion, when nobody has it open: \
         rbdadm secondary {name} && rbdadm primary {name}"
    )
}

impl KernelDevices {
    /// Whether nothing has been said of a device that stays smaller than this.
    fn has_not_said(&self, volume: VolumeNumber, wanted: u64) -> bool {
        self.too_small.borrow_mut().insert(volume, wanted) != Some(wanted)
    }
}
