//! How large the volume is: on the disk, and as clients see it.
//!
//! A size that has grown is not shown to clients before the peer has it, too, and can no longer be
//! taken for UpToDate without what the new part holds here: two nodes would otherwise show two
//! different contents of what was never written.

use rbd_protocol::metadata::LayoutError;
use rbd_protocol::state::Role;

use super::Volume;
use crate::context::Context;
use crate::contract::Level;
use crate::decide::Verdict;
use crate::local_disk::{Growth, LocalDisk};

impl<B: Clone> Volume<B> {
    /// Usable size in bytes, 0 as long as no disk has been seen.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.local
            .as_ref()
            .map_or(self.told_size.0, LocalDisk::size_bytes)
    }

    /// The size clients see.
    pub(crate) fn shown_bytes(&self) -> u64 {
        let size = self.size_bytes();
        self.held_size.map_or(size, |held| held.min(size))
    }

    /// Whether it has grown here, and nobody knows yet that it has on the peer.
    pub(crate) fn is_growing(&self) -> bool {
        self.held_size.is_some()
    }

    /// Clients see all of it from here on.
    pub(crate) fn show_all(&mut self) {
        self.held_size = None;
    }

    /// The most the size could be with the disk there is.
    pub(crate) fn capacity_bytes(&self) -> u64 {
        let limit = self.config.size_limit_bytes;
        let local = self.local.as_ref();
        local.map_or(0, |local| local.capacity_bytes(limit))
    }

    /// Changes the size, after metadata that is in the way has been moved. What it has more counts
    /// as out of sync, if `dirty`, and where metadata has lain in any case.
    pub(crate) fn resize(
        &mut self,
        bytes: u64,
        dirty: bool,
        cx: &mut Context<B>,
    ) -> Result<(), LayoutError> {
        let Some(local) = &mut self.local else {
            return Ok(());
        };
        if bytes > local.size_bytes() && local.must_relocate() {
            local.begin_relocation(Growth { bytes, dirty })?;
            self.unsettled = true;
            let text = "metadata moves to the end of the disk before the volume grows";
            cx.report(Level::Info, None, Some(self.number), text);
            return Ok(());
        }
        // Metadata may have been moved earlier, and nobody knows from where.
        let dirty = dirty || !local.knows_left_behind();
        let before = local.resize(bytes, cx.now)?;
        if !local.is_fresh() {
            self.held_size = self.held_size.or(Some(before));
        }
        for peer in self.peers.values_mut() {
            peer.bitmap.resize(bytes, dirty);
        }
        self.mark_left_behind(bytes);
        self.told_size.0 = bytes;
        self.unsettled = true;
        let text = alloc::format!("size changes from {before} to {bytes} bytes");
        cx.report(Level::Info, None, Some(self.number), text);
        Ok(())
    }

    /// A disk has just been attached. A just-created one takes no more than the configuration says;
    /// one with data does not shrink, and is not attached with a smaller limit.
    pub(crate) fn take_size(&mut self, cx: &mut Context<B>) {
        self.held_size = None;
        let most = self.capacity_bytes();
        let is_fresh = self.local.as_ref().is_some_and(LocalDisk::is_fresh);
        if is_fresh && most > 0 && most < self.size_bytes() {
            let resized = self.resize(most, true, cx);
            debug_assert!(resized.is_ok(), "a smaller size always fits");
        }
    }

    /// A link stands, so both disks have the same size.
    pub(crate) fn sizes_agree(&mut self, verdict: Verdict) {
        // A source shows it when the target is durably no longer UpToDate, and a target that has
        // clients, too, when its source does.
        let waits = match verdict {
            Verdict::Source { .. } => true,
            Verdict::Target { .. } => self.role == Role::Primary,
            _ => false,
        };
        if !waits {
            self.held_size = None;
        }
    }
}
