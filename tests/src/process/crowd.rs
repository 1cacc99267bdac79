//! Clients at work in the background, each in a thread of its own, and how far they have come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

/// Threads that work until they are told to stop.
#[derive(Debug)]
pub(super) struct Crowd<T> {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<JoinHandle<T>>,
}

impl<T: Send + 'static> Crowd<T> {
    /// Starts each of these: it is given what tells it to stop, and counts what has been answered.
    pub(super) fn start<W>(workers: impl IntoIterator<Item = W>) -> Self
    where
        W: FnOnce(&AtomicBool, &AtomicU64) -> T + Send + 'static,
    {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let threads = workers.into_iter().map(|work| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            thread::spawn(move || work(&stop, &answered))
        });
        let threads = threads.collect();
        Self {
            stop,
            answered,
            threads,
        }
    }

    /// How many requests have been answered.
    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits until so many more requests have been answered.
    pub(super) fn let_work(&self, count: u64) {
        let goal = self.answered() + count;
        super::wait_until("the clients' requests are answered", || {
            assert!(!self.has_ended(), "a client has ended");
            let answered = self.answered();
            super::unless(answered >= goal, || format!("{answered} of {goal}"))
        });
    }

    /// Whether one has ended by itself.
    pub(super) fn has_ended(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Tells all to finish what is in flight.
    pub(super) fn tell_to_stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits until all have ended: what they leave.
    pub(super) fn join(self) -> Vec<T> {
        let ended = self.threads.into_iter().map(|thread| {
            let Ok(left) = thread.join() else {
                panic!("a client panicked");
            };
            left
        });
        ended.collect()
    }
}
