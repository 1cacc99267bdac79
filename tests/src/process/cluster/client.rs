//! What uses the device: verified writing that follows the cluster.
//!
//! The cluster starts it where its agent says the device is. It begins by reading back everything
//! that was ever answered, wherever that was, and may never run in two places.

use std::mem;
use std::path::Path;
use std::time::Duration;

use super::super::{Load, LoadOptions};
use crate::check::Ledger;
use crate::nbd_client::Client;

#[derive(Debug)]
pub(super) struct Follower {
    pub(super) ledger: Ledger,
    running: Option<(usize, Load)>,
    /// What must never be seen.
    pub(super) wrongs: Vec<String>,
    /// How often it has begun to write.
    pub(super) starts: u64,
}

impl Follower {
    pub(super) fn new(ledger: Ledger) -> Self {
        Self {
            ledger,
            running: None,
            wrongs: Vec::new(),
            starts: 0,
        }
    }

    /// Where it writes, unless it has come to an end, and how much has been answered there.
    pub(super) fn place(&self) -> Option<(usize, u64)> {
        let (node, load) = self.running.as_ref()?;
        (!load.has_ended()).then(|| (*node, load.answered()))
    }

    /// Reads everything back on this machine, then writes.
    pub(super) fn start(&mut self, node: usize, socket: &Path, others_on: bool) -> i32 {
        if let Some((place, _)) = self.place() {
            if place == node {
                return 0;
            }
            if others_on {
                self.wrongs
                    .push("the cluster uses the device in two places".to_owned());
            }
        }
        self.end();
        let mut client = match Client::unix(socket, EXPORT, LIMIT) {
            Ok(client) => client,
            Err(error) => return self.fails(&format!("cannot be opened: {error}")),
        };
        let mut trouble = None;
        let verified = self.ledger.verify(|offset, length| {
            client.read(offset, length).map_err(|error| {
                trouble = Some(error.to_string());
                format!("reading at {offset}: {error}")
            })
        });
        if let Some(error) = trouble {
            return self.fails(&error);
        }
        if let Err(wrong) = verified {
            self.wrongs.push(wrong);
            return 1;
        }
        drop(client.disconnect());
        self.starts += 1;
        let options = LoadOptions {
            seed: self.starts,
            pause: Duration::from_millis(2),
            ..LoadOptions::default()
        };
        let load = Load::start(self.ledger.take_shards(), socket, EXPORT, options);
        self.running = Some((node, load));
        0
    }

    /// It is not running on this machine afterwards.
    pub(super) fn stop(&mut self, node: usize) -> i32 {
        if self
            .running
            .as_ref()
            .is_some_and(|(place, _)| *place == node)
        {
            self.end();
        }
        0
    }

    /// As a monitor answers it.
    pub(super) fn look(&self, node: usize) -> i32 {
        match &self.running {
            Some((place, load)) if *place == node => i32::from(load.has_ended()),
            _ => 7,
        }
    }

    /// The writers end with what is in flight.
    pub(super) fn end(&mut self) {
        if let Some((_, load)) = self.running.take() {
            drop(load.stop(&mut self.ledger));
        }
    }

    pub(super) fn take_wrongs(&mut self) -> Vec<String> {
        mem::take(&mut self.wrongs)
    }

    fn fails(&self, why: &str) -> i32 {
        eprintln!("the load does not start: {why}");
        1
    }
}

const EXPORT: &str = "r0/0";

/// I/O may be frozen until somebody has been fenced.
const LIMIT: Duration = Duration::from_secs(60);
