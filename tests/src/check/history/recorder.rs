//! Writes a history down while it happens, for several clients at once.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::Event;

/// A history being written; its clones write the same one.
#[derive(Clone, Debug)]
pub struct Recorder(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    file: BufWriter<File>,
    last_id: u64,
}

impl Recorder {
    /// A new file.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self(Arc::new(Mutex::new(Inner {
            file: BufWriter::new(File::create(path)?),
            last_id: 0,
        }))))
    }

    /// Writes down the beginning of a request, before it is made. Returns its name.
    ///
    /// # Panics
    /// When the file cannot be written: a history with a hole would accuse the innocent.
    pub fn begin(&self, event: impl FnOnce(u64) -> Event) -> u64 {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.last_id += 1;
        let id = inner.last_id;
        inner.put(&event(id));
        id
    }

    /// Writes down an event.
    ///
    /// # Panics
    /// As [`Recorder::begin`].
    pub fn note(&self, event: &Event) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.put(event);
    }
}

impl Inner {
    fn put(&mut self, event: &Event) {
        writeln!(self.file, "{event}").expect("the history can be written");
    }
}
