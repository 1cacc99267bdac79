//! How the control plane reaches a resource's thread: a channel, and a counter that wakes the ring.
//!
//! Nothing is shared but the channel; what is sent is owned by the thread from then on.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, eventfd};

use crate::messages::ToResource;

/// The control plane's end. Cloning is cheap; all clones reach the same thread.
#[derive(Clone, Debug)]
pub struct ResourceHandle {
    sender: Sender<ToResource>,
    counter: Arc<Waker>,
    /// Taken by the one who joins.
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// Wakes the thread, a last time when the last handle goes.
#[derive(Debug)]
struct Waker(Arc<OwnedFd>);

/// The resource's thread has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the resource's thread has ended")]
pub struct Gone;

/// The thread's end.
#[derive(Debug)]
pub(super) struct Inbox {
    receiver: Receiver<ToResource>,
    counter: Arc<OwnedFd>,
}

/// Both ends.
pub(super) fn new() -> io::Result<(ResourceHandle, Inbox)> {
    let (sender, receiver) = channel();
    let counter = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
    let handle = ResourceHandle {
        sender,
        counter: Arc::new(Waker(Arc::clone(&counter))),
        thread: Arc::default(),
    };
    Ok((handle, Inbox { receiver, counter }))
}

impl ResourceHandle {
    /// Gives the thread something to do.
    ///
    /// # Errors
    /// When it has ended.
    pub fn send(&self, message: ToResource) -> Result<(), Gone> {
        self.sender.send(message).map_err(|_| Gone)?;
        self.counter.wake();
        Ok(())
    }

    /// Waits for the thread to end. Returns at once if another clone waits or has waited. To be
    /// called when it has said that it ends, or from where waiting does no harm.
    pub fn join(&self) {
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // Its panics are caught and told where they happen.
            let _panicked = thread.join();
        }
    }

    pub(super) fn with_thread(self, thread: JoinHandle<()>) -> Self {
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        self
    }
}

impl Waker {
    fn wake(&self) {
        // It can fail only if the counter is full, and then the thread is being woken anyway.
        let _full = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        self.wake();
    }
}

impl Inbox {
    /// The next message, `None` when there is none now.
    ///
    /// # Errors
    /// When there will never be one again.
    pub(super) fn next(&self) -> Result<Option<ToResource>, Gone> {
        match self.receiver.try_recv() {
            Ok(message) => Ok(Some(message)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(Gone),
        }
    }

    /// What the ring waits on for messages.
    pub(super) fn counter(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.counter)
    }
}
