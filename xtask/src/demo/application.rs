//! The application of the demo: writes through NBD and remembers what it was promised.
//!
//! It keeps an image of what the device must hold. A write that was never answered may have
//! happened or not; every other byte is certain.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::pattern::{Chance, first_difference, stamped};
use crate::nbd_client::{Client, Error};
use crate::process;

/// What the device must hold, and how the next write is chosen.
#[derive(Debug)]
pub(super) struct Application {
    image: Vec<u8>,
    chance: Chance,
    stamp: u64,
    unanswered: Option<(usize, Vec<u8>)>,
}

impl Application {
    /// Begins with a device that holds `image`.
    pub(super) fn new(image: Vec<u8>) -> Self {
        Self {
            image,
            chance: Chance::new(1),
            stamp: 1000,
            unanswered: None,
        }
    }

    /// What the device must hold.
    pub(super) fn image(&self) -> &[u8] {
        &self.image
    }

    /// Takes notice of bytes that somebody else has written.
    pub(super) fn note(&mut self, offset: usize, data: &[u8]) {
        self.image[offset..offset + data.len()].copy_from_slice(data);
    }

    /// Writes one run of one to sixteen blocks somewhere; some of them durably, some zeroes.
    pub(super) fn write<S: Read + Write>(&mut self, client: &mut Client<S>) -> Result<(), Error> {
        let blocks = 1 + self.chance.below(16);
        let block = self
            .chance
            .below(self.image.len() as u64 / BLOCK - blocks + 1);
        let kind = self.chance.below(8);
        self.stamp += 1;
        let offset = block * BLOCK;
        let (Ok(at), Ok(length)) = (usize::try_from(offset), u32::try_from(blocks * BLOCK)) else {
            return Err(Error::Protocol(
                "the device is too large for this machine".to_owned(),
            ));
        };
        let mut data = stamped(self.stamp, offset, length as usize);
        let outcome = match kind {
            0 => client.write_durably(offset, &data),
            1 if client.can_write_zeroes() => {
                data.fill(0);
                client.write_zeroes(offset, length)
            }
            _ => client.write(offset, &data),
        };
        match outcome {
            Ok(()) => self.note(at, &data),
            Err(_) => self.unanswered = Some((at, data)),
        }
        outcome
    }

    /// Writes many times.
    pub(super) fn write_many<S: Read + Write>(
        &mut self,
        client: &mut Client<S>,
        count: u64,
    ) -> Result<(), String> {
        for _ in 0..count {
            self.write(client).map_err(|error| error.to_string())?;
        }
        client.flush().map_err(|error| error.to_string())
    }

    /// Reads the whole device and compares. Blocks of a write that was never answered may hold
    /// what was there before or what was written; which of both it is is certain from now on.
    pub(super) fn verify<S: Read + Write>(&mut self, client: &mut Client<S>) -> Result<(), String> {
        let size = usize::try_from(client.size()).map_err(|_| "the device is too large")?;
        if size != self.image.len() {
            return Err(format!(
                "the device has {size} bytes, not {}",
                self.image.len()
            ));
        }
        let mut held = vec![0; size];
        for (index, piece) in held.chunks_mut(PIECE).enumerate() {
            client
                .read((index * PIECE) as u64, piece)
                .map_err(|error| format!("reading back: {error}"))?;
        }
        self.settle(&held);
        match first_difference(&self.image, &held) {
            None => Ok(()),
            Some(at) => Err(format!(
                "the device differs from what was written, at byte {at}"
            )),
        }
    }

    /// Adopts what the device holds for the blocks whose write was never answered.
    pub(super) fn settle(&mut self, held: &[u8]) {
        let Some((at, data)) = self.unanswered.take() else {
            return;
        };
        let mut here = at;
        for block in data.chunks(BLOCK_LENGTH) {
            if held.get(here..here + block.len()) == Some(block) {
                self.note(here, block);
            }
            here += block.len();
        }
    }

    /// Goes on writing in the background until told to stop or until a write fails.
    pub(super) fn in_background<S>(mut self, mut client: Client<S>) -> Background
    where
        S: Read + Write + Send + 'static,
    {
        let stop = Arc::new(AtomicBool::new(false));
        let written = Arc::new(AtomicU64::new(0));
        let (told, counter) = (Arc::clone(&stop), Arc::clone(&written));
        let thread = thread::spawn(move || {
            let mut longest = Duration::ZERO;
            let mut failure = None;
            while !told.load(Ordering::Relaxed) {
                let start = Instant::now();
                if let Err(error) = self.write(&mut client) {
                    failure = Some(error.to_string());
                    break;
                }
                longest = longest.max(start.elapsed());
                counter.fetch_add(1, Ordering::Relaxed);
                thread::sleep(BACKGROUND_PAUSE);
            }
            Ended {
                application: self,
                failure,
                longest,
            }
        });
        Background {
            stop,
            written,
            thread,
        }
    }
}

/// An application that is writing in the background.
#[derive(Debug)]
pub(super) struct Background {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    thread: JoinHandle<Ended>,
}

/// An application whose background writing has ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// The application, with everything it wrote.
    pub(super) application: Application,
    /// Why it ended, unless it was told to.
    pub(super) failure: Option<String>,
    /// How long the slowest answered write took.
    pub(super) longest: Duration,
}

impl Background {
    /// How many writes have been answered.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Waits until `count` more writes have been answered.
    pub(super) fn let_write(&self, count: u64) -> Result<(), String> {
        let goal = self.written() + count;
        let start = Instant::now();
        while self.written() < goal {
            if self.thread.is_finished() {
                return Err("the application's writing ended".to_owned());
            }
            if start.elapsed() > PROGRESS_DEADLINE {
                return Err(format!("the application wrote nothing like {count} times"));
            }
            thread::sleep(process::POLL);
        }
        Ok(())
    }

    /// Tells it to stop.
    pub(super) fn stop(self) -> Result<Ended, String> {
        self.stop.store(true, Ordering::Relaxed);
        self.join()
    }

    /// Waits for it to end by itself.
    pub(super) fn join(self) -> Result<Ended, String> {
        self.thread
            .join()
            .map_err(|_| "the application panicked".to_owned())
    }
}

const BLOCK: u64 = 4096;
const BLOCK_LENGTH: usize = 4096;
const PIECE: usize = 1 << 20;

/// The application is steady, not greedy: the story is about what is written, not how fast.
const BACKGROUND_PAUSE: Duration = Duration::from_millis(1);
const PROGRESS_DEADLINE: Duration = Duration::from_secs(90);
