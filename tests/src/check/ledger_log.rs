//! A ledger's shard, written down as a history.

use std::collections::BTreeMap;

use super::history::{Event, Recorder, Value};
use super::ledger::Kind;
use super::stamp::{Found, SECTOR, look_at};

/// What one writer asks and is answered.
#[derive(Debug)]
pub(super) struct Log {
    recorder: Recorder,
    /// Requests that have not been answered, by first sector: their names and lengths.
    open: BTreeMap<u64, (u64, u64)>,
}

impl Log {
    pub(super) fn new(recorder: Recorder) -> Self {
        Self {
            recorder,
            open: BTreeMap::new(),
        }
    }

    /// A request is about to be made; of those before it on the same sectors nothing will be heard
    /// any more.
    pub(super) fn issued(&mut self, first: u64, versions: &[u32], kind: Kind) {
        let count = versions.len() as u64;
        self.open.retain(|at, (id, length)| {
            let overlaps = *at < first + count && first < *at + *length;
            if overlaps {
                self.recorder.note(&Event::Lost { id: *id });
            }
            !overlaps
        });
        let id = self.recorder.begin(|id| match kind {
            Kind::Data => Event::Write {
                id,
                first,
                values: versions
                    .iter()
                    .map(|of| Value::Written((*of).into()))
                    .collect(),
                fua: false,
            },
            Kind::Zero => Event::Zero {
                id,
                first,
                count,
                fua: false,
            },
            Kind::Trim => Event::Trim { id, first, count },
        });
        self.open.insert(first, (id, count));
    }

    pub(super) fn acknowledged(&mut self, first: u64) {
        if let Some((id, _)) = self.open.remove(&first) {
            let values = Vec::new();
            self.recorder.note(&Event::Done { id, values });
        }
    }

    /// Content was read. It is judged when it has come, so that is when it was asked for.
    pub(super) fn seen(&self, run: u64, first: u64, bytes: &[u8]) {
        let contents = (first..).zip(bytes.chunks_exact(SECTOR));
        let values: Vec<Value> = contents
            .map(|(sector, content)| match look_at(run, sector, content) {
                Found::Version(0) => Value::Initial,
                Found::Version(version) => Value::Written(version.into()),
                Found::Zero => Value::Zeroes,
                Found::Wrong(_) => Value::Foreign,
            })
            .collect();
        let count = values.len() as u64;
        let id = self.recorder.begin(|id| Event::Read { id, first, count });
        self.recorder.note(&Event::Done { id, values });
    }
}
