//! Commands that are answered when what they have changed is durable: a power cut must not take
//! back what an administrator, or a cluster, has been told.

use rbd_protocol::control::{Refusal, RefusalCode};

use super::Resource;
use super::promotion::is_settled;

impl<B: Clone> Resource<B> {
    /// Answers those whose volumes have everything in their superblocks, or have no disk any more.
    pub(super) fn answer_recorded(&mut self) {
        for (call, number) in core::mem::take(&mut self.recording) {
            let volumes = self.volumes.values();
            let mut meant = volumes.filter(|volume| number.is_none_or(|one| one == volume.number));
            if meant.clone().any(|volume| volume.local.is_none()) {
                let reason = "the disk failed, or was let go, on the way";
                let refusal = Refusal::new(RefusalCode::StateDiskless, reason, "");
                self.cx.reply(call, Err(refusal));
            } else if meant.all(|volume| is_settled(volume.local.as_ref())) {
                self.cx.reply(call, Ok(None));
            } else {
                self.recording.push((call, number));
            }
        }
    }
}
