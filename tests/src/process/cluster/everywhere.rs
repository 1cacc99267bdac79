//! What uses the device where two nodes are Primary: clients on each machine that the cluster
//! starts them on, on places of the machine's own and on a few that both machines write.
//!
//! Like a cluster file system it begins with a look at everything.

use std::array;
use std::mem;
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::{RivalOptions, Rivals};
use crate::check::{SECTOR, Shared};
use crate::nbd_client::{Client, Error};

/// The clients of both machines, each behind a lock of its own: who waits holds up nobody else.
#[derive(Debug, Default)]
pub(super) struct Everywhere {
    record: Mutex<Option<Record>>,
    machines: [Mutex<Machine>; 2],
    /// What must never be seen.
    wrongs: Mutex<Vec<String>>,
}

#[derive(Clone, Debug)]
struct Record {
    shared: Shared,
    sectors: u64,
}

#[derive(Debug, Default)]
struct Machine {
    /// Those on places of its own, and those on the places of both.
    running: Option<[Rivals; 2]>,
    starts: u64,
}

impl Everywhere {
    /// The volume is as it was made for this run.
    pub(super) fn begin(&self, run: u64, sectors: u64) {
        let shared = Shared::new(run, sectors);
        *guard(&self.record) = Some(Record { shared, sectors });
    }

    /// Reads everything on this machine, then writes.
    pub(super) fn start(&self, node: usize, socket: &Path) -> i32 {
        if self.look(node) == 0 {
            return 0;
        }
        self.stop(node);
        let Some(record) = guard(&self.record).clone() else {
            return 1;
        };
        let seed = guard(&self.machines[node]).starts * 2 + number(node);
        let started = self.read_all(&record, socket).and_then(|()| {
            let own = own_half(record.sectors, node);
            let start = |kind, sectors| {
                let options = options(seed * 2 + kind, sectors);
                Rivals::open(socket, EXPORT, &record.shared, &options)
            };
            Ok([start(0, own)?, start(1, 0..FEW)?])
        });
        match started {
            Ok(rivals) => {
                let mut machine = guard(&self.machines[node]);
                machine.running = Some(rivals);
                machine.starts += 1;
                0
            }
            Err(error) => {
                eprintln!("the clients do not start: {error}");
                1
            }
        }
    }

    /// None is running on this machine afterwards.
    pub(super) fn stop(&self, node: usize) -> i32 {
        let running = mem::take(&mut guard(&self.machines[node]).running);
        for rivals in running.into_iter().flatten() {
            let outcome = rivals.end();
            guard(&self.wrongs).extend(outcome.violations);
        }
        0
    }

    /// As a monitor answers it.
    pub(super) fn look(&self, node: usize) -> i32 {
        match &guard(&self.machines[node]).running {
            Some(rivals) => i32::from(rivals.iter().any(Rivals::has_ended)),
            None => 7,
        }
    }

    /// How many requests have been answered to those on places of their own, and to the others.
    pub(super) fn answered(&self, node: usize) -> Result<[u64; 2], String> {
        let machine = guard(&self.machines[node]);
        let running = machine.running.as_ref().ok_or("they do not run")?;
        Ok(array::from_fn(|index| running[index].answered()))
    }

    /// How often they have begun to write on this machine.
    pub(super) fn starts(&self, node: usize) -> u64 {
        guard(&self.machines[node]).starts
    }

    pub(super) fn end(&self) {
        for node in 0..self.machines.len() {
            self.stop(node);
        }
    }

    pub(super) fn take_wrongs(&self) -> Vec<String> {
        mem::take(&mut guard(&self.wrongs))
    }

    /// Checks a disk that nobody writes to any more.
    pub(super) fn verify_file(&self, path: &Path) -> Result<(), String> {
        let record = guard(&self.record).clone().ok_or("nothing is known")?;
        record.shared.settle();
        record.shared.verify_file(path)
    }

    fn read_all(&self, record: &Record, socket: &Path) -> Result<(), Error> {
        let mut client = Client::unix(socket, EXPORT, LIMIT)?;
        let mut first = 0;
        while first < record.sectors {
            let count = PIECE.min(record.sectors - first);
            let asked = record.shared.read(first, count);
            let bytes = u32::try_from(count * SECTOR as u64).unwrap_or(0);
            let data = client.read(first * SECTOR as u64, bytes)?;
            if let Err(wrong) = record.shared.answered(asked, false, &data) {
                guard(&self.wrongs).push(wrong);
            }
            first += count;
        }
        drop(client.disconnect());
        Ok(())
    }
}

/// What is left of the volume, in halves.
fn own_half(sectors: u64, node: usize) -> Range<u64> {
    let middle = FEW + (sectors - FEW) / 2;
    match node {
        0 => FEW..middle,
        _ => middle..sectors,
    }
}

fn options(seed: u64, sectors: Range<u64>) -> RivalOptions {
    RivalOptions {
        seed,
        clients: 2,
        depth: 4,
        longest: 64,
        unit: 1,
        sectors,
        pause: Duration::from_millis(2),
    }
}

fn number(node: usize) -> u64 {
    u64::try_from(node).unwrap_or(0)
}

/// Whoever panicked has said so; the others go on.
fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const EXPORT: &str = "r0/0";

/// Sectors that clients of both machines write: few enough for them to meet all the time.
const FEW: u64 = 1024;

/// Sectors that are read at once.
const PIECE: u64 = 256;

/// I/O may be frozen until somebody has been fenced.
const LIMIT: Duration = Duration::from_secs(60);
