//! What clients of both nodes were told who write, zero and read the same places side by side.
//!
//! Each sector is a register (see [`Registers`]), and the stamp in it tells which write it is from,
//! so every read is judged at once, whoever made it: it must show a write that some order of all
//! writes explains, none older than what was answered, or read, before it was asked for.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ledger::Kind;
use super::registers::{Registers, garbage, stamp};
use super::stamp::{Found, SECTOR, fill, look_at};

/// The record, shared by all clients.
#[derive(Clone, Debug)]
pub struct Shared {
    run: u64,
    sectors: u64,
    registers: Arc<Mutex<Registers>>,
}

/// A request that has not been answered yet.
#[derive(Debug)]
pub struct Asked {
    first: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Write { indices: Vec<u32>, kind: Kind },
    Read { oldest: Vec<u32> },
    Flush { covered: Vec<(u64, u32)> },
}

impl Shared {
    /// A volume whose sectors hold version 0 of this run.
    #[must_use]
    pub fn new(run: u64, sectors: u64) -> Self {
        Self {
            run,
            sectors,
            registers: Arc::default(),
        }
    }

    /// A write, zeroing or discard is about to be sent. Returns its payload, empty unless data.
    #[must_use]
    pub fn write(&self, first: u64, count: u64, kind: Kind) -> (Asked, Vec<u8>) {
        let mut payload = Vec::new();
        let mut indices = Vec::new();
        let mut registers = self.registers();
        for sector in first..first + count {
            let index = registers.write_invoked(sector, kind != Kind::Data);
            indices.push(index);
            if kind == Kind::Data {
                let start = payload.len();
                payload.resize(start + SECTOR, 0);
                fill(self.run, sector, index, &mut payload[start..]);
            }
        }
        let what = What::Write { indices, kind };
        (Asked { first, what }, payload)
    }

    /// A read is about to be sent.
    #[must_use]
    pub fn read(&self, first: u64, count: u64) -> Asked {
        let registers = self.registers();
        let sectors = first..first + count;
        let oldest = sectors.map(|at| registers.read_invoked(at)).collect();
        let what = What::Read { oldest };
        Asked { first, what }
    }

    /// A flush is about to be sent.
    #[must_use]
    pub fn flush(&self) -> Asked {
        let covered = self.registers().flush_invoked();
        let what = What::Flush { covered };
        Asked { first: 0, what }
    }

    /// The request was answered without an error, a read with this.
    ///
    /// # Errors
    /// The first sector that no order of the writes explains.
    pub fn answered(&self, asked: Asked, fua: bool, data: &[u8]) -> Result<(), String> {
        let mut registers = self.registers();
        let sectors = asked.first..;
        match asked.what {
            What::Write { indices, kind } => {
                for (sector, index) in sectors.zip(indices) {
                    // A discard may leave what there was.
                    if kind == Kind::Trim {
                        registers.write_abandoned(sector, index);
                    } else {
                        registers.write_acknowledged(sector, index, fua);
                    }
                }
            }
            What::Read { oldest } => {
                for ((sector, oldest), bytes) in sectors.zip(oldest).zip(data.chunks(SECTOR)) {
                    let value = self.value(sector, bytes)?;
                    registers.read_returned(sector, oldest, value)?;
                }
            }
            What::Flush { covered } => registers.flush_acknowledged(&covered),
        }
        Ok(())
    }

    /// The request failed, or will never be answered: it may still happen, until [`Self::settle`].
    pub fn lost(&self, asked: Asked) {
        let mut registers = self.registers();
        if let What::Write { indices, .. } = asked.what {
            for (sector, index) in (asked.first..).zip(indices) {
                registers.write_lingers(sector, index);
            }
        }
    }

    /// What was lost until now has happened, or never will.
    pub fn settle(&self) {
        self.registers().forget_lingering();
    }

    /// Checks the beginning of a disk's file: nobody writes any more, and what it holds counts.
    ///
    /// # Errors
    /// The first sector that is wrong, or why it could not be read.
    pub fn verify_file(&self, path: &Path) -> Result<(), String> {
        let named = |what: String| format!("{}: {what}", path.display());
        let mut file = File::open(path).map_err(|error| named(error.to_string()))?;
        let mut bytes = [0; SECTOR];
        let mut registers = self.registers();
        for sector in 0..self.sectors {
            file.read_exact(&mut bytes)
                .map_err(|error| named(error.to_string()))?;
            let oldest = registers.read_invoked(sector);
            self.value(sector, &bytes)
                .and_then(|value| registers.read_returned(sector, oldest, value))
                .map_err(named)?;
        }
        Ok(())
    }

    /// The content as the registers know it.
    fn value(&self, sector: u64, bytes: &[u8]) -> Result<u64, String> {
        match look_at(self.run, sector, bytes) {
            Found::Zero => Ok(0),
            Found::Version(0) => Ok(garbage(sector, 0)),
            Found::Version(index) => Ok(stamp(sector, index)),
            Found::Wrong(what) => Err(format!("sector {sector}: {what}")),
        }
    }

    fn registers(&self) -> MutexGuard<'_, Registers> {
        self.registers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, SECTOR, Shared, fill};

    /// What a disk holds after write number `index` of sector 3.
    fn content(index: u32) -> Vec<u8> {
        let mut bytes = vec![0; SECTOR];
        fill(9, 3, index, &mut bytes);
        bytes
    }

    fn shared() -> Shared {
        Shared::new(9, 8)
    }

    #[test]
    fn a_read_of_what_was_overwritten_before_it_was_asked_for_is_wrong() {
        let record = shared();
        for _ in 0..2 {
            let (asked, _) = record.write(3, 1, Kind::Data);
            record.answered(asked, false, &[]).expect("it is a write");
        }
        let read = record.read(3, 1);
        assert!(record.answered(read, false, &content(1)).is_err());
        let read = record.read(3, 1);
        assert!(record.answered(read, false, &content(2)).is_ok());
    }

    #[test]
    fn of_two_writes_at_the_same_time_either_may_be_the_last_but_only_one() {
        let record = shared();
        let (one, _) = record.write(3, 1, Kind::Data);
        let (other, _) = record.write(3, 1, Kind::Data);
        record.answered(other, false, &[]).expect("it is a write");
        record.answered(one, false, &[]).expect("it is a write");
        let read = record.read(3, 1);
        assert!(record.answered(read, false, &content(0)).is_err());
        let read = record.read(3, 1);
        assert!(record.answered(read, false, &content(1)).is_ok());
    }

    #[test]
    fn a_lost_write_may_happen_until_it_cannot_any_more() {
        for is_settled in [false, true] {
            let record = shared();
            let (lost, _) = record.write(3, 1, Kind::Data);
            record.lost(lost);
            if is_settled {
                record.settle();
            }
            let (asked, _) = record.write(3, 1, Kind::Data);
            record.answered(asked, false, &[]).expect("it is a write");
            let read = record.read(3, 1);
            let outcome = record.answered(read, false, &content(1));
            assert_eq!(outcome.is_err(), is_settled);
        }
    }

    #[test]
    fn a_sector_of_another_place_is_wrong() {
        let record = shared();
        let read = record.read(4, 1);
        assert!(record.answered(read, false, &content(0)).is_err());
    }
}
