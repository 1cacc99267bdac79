//! What a disk has finished: each completion goes to whom the operation was for. That of a disk
//! which has been let go is for nobody (H6), unless it shows what that disk has lost (B4).

use super::Resource;
use crate::context::Operation;
use crate::contract::{DiskError, OperationId};

impl<B: Clone> Resource<B> {
    pub(super) fn disk_done(&mut self, id: OperationId, result: Result<Option<B>, DiskError>) {
        let Some(operation) = self.finished(id, result.is_err()) else {
            return;
        };
        let cx = &mut self.cx;
        let Some(volume) = self.volumes.get_mut(&operation.volume()) else {
            return;
        };
        match operation {
            Operation::Write { write, .. } => {
                volume.local_write_done(write, result.map(drop), cx);
                volume.bound_unstable(cx);
            }
            Operation::Read { read, .. } => volume.read_done(read, result, cx),
            Operation::Mend { read, .. } => volume.mend_done(read, result.map(drop), cx),
            Operation::PeerWrite { write, .. } => {
                volume.peer_write_done(write, result.map(drop), cx);
            }
            Operation::Barrier { barrier, .. } => {
                volume.local_flush_done(barrier, result.map(drop), cx);
            }
            Operation::PeerFlush { peer, link, id, .. } => {
                volume.peer_flush_done(peer, link, id, result.map(drop), cx);
            }
            Operation::ResyncRead {
                peer,
                link,
                id,
                range,
                ..
            } => {
                volume.resync_read_done(peer, link, id, range, result, cx);
            }
            Operation::Superblock { .. }
            | Operation::Digest { .. }
            | Operation::ResyncDigest { .. }
            | Operation::Measure { .. }
            | Operation::NoteSize { .. }
            | Operation::Relocation { .. }
            | Operation::Intent { .. }
            | Operation::BitmapPage { .. } => {}
        }
    }

    /// What this operation was for. What a disk that has been let go had still in flight counts no
    /// more. But if it could not make durable then what it had acknowledged, that holds for it when
    /// it comes back (B4).
    fn finished(&mut self, id: OperationId, has_failed: bool) -> Option<Operation> {
        let flushed = self.cx.orphan_finished(id).filter(|_| has_failed);
        if let Some(volume) = flushed.and_then(|number| self.volumes.get_mut(&number)) {
            volume.lose_cache(&mut self.cx);
        }
        self.cx.finished(id)
    }

    pub(super) fn meta_done(&mut self, id: OperationId, result: Result<(), DiskError>) {
        let Some(operation) = self.finished(id, result.is_err()) else {
            return;
        };
        let cx = &mut self.cx;
        let Some(volume) = self.volumes.get_mut(&operation.volume()) else {
            return;
        };
        let Some(local) = &mut volume.local else {
            return;
        };
        let (attachment, what) = match operation {
            Operation::Superblock { attachment, .. } => (attachment, "superblock"),
            Operation::Intent { attachment, .. } => (attachment, "write-intent log"),
            Operation::BitmapPage { attachment, .. } => (attachment, "dirty bitmap"),
            Operation::Relocation { attachment, .. } => (attachment, "metadata on the move"),
            Operation::Write { .. }
            | Operation::Read { .. }
            | Operation::Mend { .. }
            | Operation::PeerWrite { .. }
            | Operation::Barrier { .. }
            | Operation::PeerFlush { .. }
            | Operation::Digest { .. }
            | Operation::ResyncDigest { .. }
            | Operation::Measure { .. }
            | Operation::NoteSize { .. }
            | Operation::ResyncRead { .. } => return,
        };
        if attachment != local.attachment {
            return;
        }
        volume.unsettled = true;
        match (operation, result) {
            (Operation::BitmapPage { peer, page, .. }, result) => {
                volume.page_saved(peer, page, result, cx);
            }
            (_, Err(error)) => {
                let why = alloc::format!("{what}: {}", crate::volume::describe(error));
                volume.fail_flush(&why, cx);
            }
            (Operation::Superblock { version, .. }, Ok(())) => local.superblock_written(version),
            (Operation::Intent { block, .. }, Ok(())) => local.intent_written(block),
            (Operation::Relocation { .. }, Ok(())) => local.relocated_block(),
            (_, Ok(())) => {}
        }
    }
}
