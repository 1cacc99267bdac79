//! Sizes that change while a volume is served: the control plane is told, once a turn at most, and
//! looks which kernel devices have to change with them.

use rbd_engine::{Resource, Time};
use rbd_protocol::ids::VolumeNumber;

use super::Interpreter;
use crate::messages::FromResource;
use crate::shell::buffer::Buffer;

/// What clients were last seen to be shown of each volume.
pub(super) type Shown = Vec<(VolumeNumber, Option<u64>)>;

/// Every volume there will ever be, and nothing known of it.
pub(super) fn nothing_shown(engine: &Resource<Buffer>) -> Shown {
    let status = engine.status(Time(0));
    let devices = status.devices.iter();
    devices.map(|device| (device.volume, None)).collect()
}

impl Interpreter {
    /// Tells of sizes that are not what they were. One that cannot be told for a while is
    /// remembered as it was.
    pub(super) fn watch_sizes(&mut self) {
        for (volume, shown) in &mut self.shown {
            let Some(facts) = self.engine.volume_facts(*volume) else {
                continue;
            };
            let before = shown.replace(facts.size_bytes);
            if before.is_some_and(|before| before != facts.size_bytes) {
                let volume = *volume;
                self.notices.tell(FromResource::SizeChanged { volume });
            }
        }
    }
}
