//! A recorded history of a volume: what was asked, what was answered, what lost its cache; and
//! whether some order of the writes explains every answer (see [`super::Registers`]).
//!
//! `docs/reliability/checkers.md` has the format. [`text`] reads and writes it, [`Recorder`] is for
//! whoever records one.

mod recorder;
#[cfg(test)]
mod tests;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::io::BufRead;

pub use recorder::Recorder;

use super::registers::{Registers, garbage, stamp};

/// The content of one sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// What it held before the history began.
    Initial,
    /// Nothing but zeroes.
    Zeroes,
    /// What a write of the history named so.
    Written(u64),
    /// What nobody can have written.
    Foreign,
}

/// The contents of consecutive sectors.
pub type Values = Vec<Value>;

/// One line of a history. `id` names a request from its invocation to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Untouched sectors read as zeroes.
    InitialZeroes,
    /// A write is about to be asked for.
    Write {
        /// Names it.
        id: u64,
        /// The first sector.
        first: u64,
        /// What each sector gets.
        values: Values,
        /// Durable when answered.
        fua: bool,
    },
    /// Zeroing is about to be asked for.
    Zero {
        /// Names it.
        id: u64,
        /// The first sector.
        first: u64,
        /// How many.
        count: u64,
        /// Durable when answered.
        fua: bool,
    },
    /// A discard is about to be asked for: each sector becomes zeroes or stays.
    Trim {
        /// Names it.
        id: u64,
        /// The first sector.
        first: u64,
        /// How many.
        count: u64,
    },
    /// A read is about to be asked for.
    Read {
        /// Names it.
        id: u64,
        /// The first sector.
        first: u64,
        /// How many.
        count: u64,
    },
    /// A flush is about to be asked for.
    Flush {
        /// Names it.
        id: u64,
    },
    /// The request was answered without an error; a read with these contents.
    Done {
        /// Which one.
        id: u64,
        /// A read's answer, else empty.
        values: Values,
    },
    /// The request failed or will never be answered: it has happened or not.
    Lost {
        /// Which one.
        id: u64,
    },
    /// Every copy that held everything has lost its cache.
    PowerLoss,
}

/// What a history that is as it should be was made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Requests.
    pub requests: u64,
    /// Of those, answered.
    pub answered: u64,
    /// Sectors read back.
    pub sectors_read: u64,
    /// Losses of every cache.
    pub power_losses: u64,
}

/// A history as far as it has been told.
#[derive(Debug, Default)]
pub struct History {
    registers: Registers,
    open: BTreeMap<u64, Open>,
    /// Which write of the sector left this value.
    written: BTreeMap<(u64, u64), u32>,
    zeroed: BTreeSet<u64>,
    initial_zeroes: bool,
    summary: Summary,
}

#[derive(Debug)]
enum Open {
    Write {
        first: u64,
        indices: Vec<u32>,
        fua: bool,
    },
    Trim {
        first: u64,
        indices: Vec<u32>,
    },
    Read {
        first: u64,
        oldest: Vec<u32>,
    },
    Flush {
        covered: Vec<(u64, u32)>,
    },
}

/// Judges a history as text.
///
/// # Errors
/// Names the first line that no order of the writes explains, or that cannot be read.
pub fn check_history(text: impl BufRead) -> Result<Summary, String> {
    let mut history = History::default();
    for (number, line) in (1_u64..).zip(text.lines()) {
        let at = |what: String| format!("line {number}: {what}");
        let line = line.map_err(|error| at(error.to_string()))?;
        if let Some(event) = text::parse(&line).map_err(at)? {
            history.take(event).map_err(at)?;
        }
    }
    Ok(history.summary)
}

impl History {
    /// Takes the next event.
    ///
    /// # Errors
    /// When it contradicts what came before.
    pub fn take(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::InitialZeroes => self.initial_zeroes = true,
            Event::Write {
                id,
                first,
                values,
                fua,
            } => {
                let mut indices = Vec::new();
                for (sector, value) in (first..).zip(values) {
                    let Value::Written(value) = value else {
                        return Err("a write's values are numbers".into());
                    };
                    let index = self.registers.write_invoked(sector, false);
                    if self.written.insert((sector, value), index).is_some() {
                        return Err(format!("sector {sector}: value {value} is written twice"));
                    }
                    indices.push(index);
                }
                self.open(
                    id,
                    Open::Write {
                        first,
                        indices,
                        fua,
                    },
                )?;
            }
            Event::Zero {
                id,
                first,
                count,
                fua,
            } => {
                let indices = self.zero(first, count)?;
                self.open(
                    id,
                    Open::Write {
                        first,
                        indices,
                        fua,
                    },
                )?;
            }
            Event::Trim { id, first, count } => {
                let indices = self.zero(first, count)?;
                self.open(id, Open::Trim { first, indices })?;
            }
            Event::Read { id, first, count } => {
                let sectors = sectors(first, count)?;
                let oldest = sectors.map(|at| self.registers.read_invoked(at)).collect();
                self.open(id, Open::Read { first, oldest })?;
            }
            Event::Flush { id } => {
                let covered = self.registers.flush_invoked();
                self.open(id, Open::Flush { covered })?;
            }
            Event::Done { id, values } => {
                let open = self.close(id)?;
                self.summary.answered += 1;
                self.done(open, &values)?;
            }
            Event::Lost { id } => match self.close(id)? {
                Open::Write { first, indices, .. } | Open::Trim { first, indices } => {
                    self.abandon(first, &indices);
                }
                Open::Read { .. } | Open::Flush { .. } => {}
            },
            Event::PowerLoss => {
                self.summary.power_losses += 1;
                self.registers.caches_lost();
            }
        }
        Ok(())
    }

    fn open(&mut self, id: u64, request: Open) -> Result<(), String> {
        self.summary.requests += 1;
        match self.open.insert(id, request) {
            None => Ok(()),
            Some(_) => Err(format!("request {id} is made while it is open")),
        }
    }

    fn close(&mut self, id: u64) -> Result<Open, String> {
        let missing = || format!("request {id} ends and is not open");
        self.open.remove(&id).ok_or_else(missing)
    }

    fn zero(&mut self, first: u64, count: u64) -> Result<Vec<u32>, String> {
        let mut indices = Vec::new();
        for sector in sectors(first, count)? {
            indices.push(self.registers.write_invoked(sector, true));
            self.zeroed.insert(sector);
        }
        Ok(indices)
    }

    fn abandon(&mut self, first: u64, indices: &[u32]) {
        for (sector, index) in (first..).zip(indices) {
            self.registers.write_abandoned(sector, *index);
        }
    }

    fn done(&mut self, request: Open, values: &[Value]) -> Result<(), String> {
        let expected = match &request {
            Open::Read { oldest, .. } => oldest.len(),
            Open::Write { .. } | Open::Trim { .. } | Open::Flush { .. } => 0,
        };
        if values.len() != expected {
            let found = values.len();
            return Err(format!("an answer with {found} sectors, not {expected}"));
        }
        match request {
            Open::Write {
                first,
                indices,
                fua,
            } => {
                for (sector, index) in (first..).zip(indices) {
                    self.registers.write_acknowledged(sector, index, fua);
                }
            }
            Open::Trim { first, indices } => self.abandon(first, &indices),
            Open::Flush { covered } => self.registers.flush_acknowledged(&covered),
            Open::Read { first, oldest } => {
                for ((sector, oldest), value) in (first..).zip(oldest).zip(values) {
                    self.summary.sectors_read += 1;
                    let content = self.content(sector, *value)?;
                    self.registers.read_returned(sector, oldest, content)?;
                }
            }
        }
        Ok(())
    }

    /// The value as the registers know it.
    fn content(&self, sector: u64, value: Value) -> Result<u64, String> {
        match value {
            Value::Initial => Ok(garbage(sector, 0)),
            Value::Zeroes if self.initial_zeroes || self.zeroed.contains(&sector) => Ok(0),
            Value::Zeroes => Err(format!("sector {sector}: zeroes, and nobody zeroed it")),
            Value::Foreign => Err(format!("sector {sector}: what nobody wrote")),
            Value::Written(value) => match self.written.get(&(sector, value)) {
                Some(index) => Ok(stamp(sector, *index)),
                None => Err(format!(
                    "sector {sector}: value {value}, which nobody wrote"
                )),
            },
        }
    }
}

/// The sectors of a request, if it is of a size somebody may have asked for.
fn sectors(first: u64, count: u64) -> Result<std::ops::Range<u64>, String> {
    let end = first.checked_add(count).filter(|_| count <= MOST_SECTORS);
    end.map(|end| first..end)
        .ok_or_else(|| format!("a request of {count} sectors at {first}"))
}

/// Longest request: 4 GiB.
const MOST_SECTORS: u64 = 1 << 23;
