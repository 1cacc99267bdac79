//! How often a volume is open, for those who ask: its kernel device's users count beside the
//! clients the engine knows.
//!
//! Looking for them goes through all processes, so it is done at most for a tenth of the time;
//! between two looks, and while one hangs, what was seen last is told.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use rbd_protocol::control::ResourceStatus;
use rbd_protocol::ids::VolumeNumber;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::holders;
use crate::control::service::Service;

/// What was seen last of one resource's devices.
#[derive(Debug, Default)]
pub(super) struct Openers(RefCell<State>);

#[derive(Debug, Default)]
struct State {
    seen: BTreeMap<VolumeNumber, u32>,
    /// When looking is worth its while again.
    again: Option<Instant>,
    looking: Option<JoinHandle<BTreeMap<VolumeNumber, u32>>>,
}

/// Adds the users of kernel devices to a snapshot.
pub(in crate::control) async fn count_openers(service: &Service, status: &mut ResourceStatus) {
    if service.kernel.provided.borrow().is_empty() {
        return;
    }
    look(service).await;
    let state = service.kernel.openers.0.borrow();
    for device in &mut status.devices {
        let users = state.seen.get(&device.volume).copied().unwrap_or(0);
        device.open_count = device.open_count.saturating_add(users);
    }
}

async fn look(service: &Service) {
    let Some(mut looking) = service.kernel.openers.begin(service) else {
        return;
    };
    let start = Instant::now();
    let seen = timeout(LOOK_LIMIT, &mut looking).await;
    let mut state = service.kernel.openers.0.borrow_mut();
    match seen {
        Ok(seen) => {
            state.seen = seen.unwrap_or_default();
            state.again = Some(Instant::now() + start.elapsed() * REST);
        }
        Err(_) => state.looking = Some(looking),
    }
}

impl Openers {
    /// A look that is to be waited for: one that was begun before, or a new one, if it is time.
    fn begin(&self, service: &Service) -> Option<JoinHandle<BTreeMap<VolumeNumber, u32>>> {
        let mut state = self.0.borrow_mut();
        if let Some(looking) = state.looking.take() {
            return Some(looking);
        }
        if state.again.is_some_and(|again| Instant::now() < again) {
            return None;
        }
        let devices = service.kernel.provided.borrow().clone();
        Some(tokio::task::spawn_blocking(move || {
            let count = |(volume, device)| (volume, holders::of(device).count());
            devices.into_iter().map(count).collect()
        }))
    }
}

/// How long a look may take before one who asks is told what was seen before.
const LOOK_LIMIT: Duration = Duration::from_millis(500);

/// So many times as long as a look has taken there is no other.
const REST: u32 = 9;
