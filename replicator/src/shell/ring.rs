//! One io_uring: operations in, completions out, at most one system call a turn.
//!
//! The ring keeps every started operation until its completion, so the kernel never touches memory
//! that is gone. It does not know what operations are for: each carries a token of its starter's.

#![expect(
    unsafe_code,
    reason = "only the caller can promise the kernel valid memory"
)]

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use io_uring::{IoUring, Probe, opcode, squeue, types};
use rustix::io::Errno;

use super::operation::Operation;
use super::slab::Slab;

/// An io_uring and what it has in flight.
pub(super) struct Ring<T> {
    ring: IoUring,
    flying: Slab<Flying<T>>,
    /// Entries that go behind the others of their turn, and those the submission queue had no place
    /// for.
    backlog: VecDeque<squeue::Entry>,
}

#[derive(Debug)]
struct Flying<T> {
    token: T,
    operation: Operation,
}

/// An operation that is over, given back with what it owned.
#[derive(Debug)]
pub(super) struct Completion<T> {
    pub(super) token: T,
    pub(super) operation: Operation,
    /// What the system call would have returned.
    pub(super) result: Result<usize, Errno>,
}

/// How to wait for completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Not at all.
    No,
    /// At most so long, or without end; first looking for so long without going to sleep.
    Until {
        limit: Option<Duration>,
        spin: Duration,
    },
}

/// Why there is no ring.
#[derive(Debug, thiserror::Error)]
pub(super) enum RingError {
    /// The kernel refused to make one.
    #[error("io_uring_setup: {0}")]
    Setup(#[source] io::Error),
    /// The kernel does not know an operation.
    #[error("the kernel's io_uring lacks {0}")]
    Lacks(&'static str),
}

impl<T> Ring<T> {
    /// A ring with the best set of options the kernel takes.
    pub(super) fn new() -> Result<Self, RingError> {
        let ring = build()?;
        if !ring.params().is_feature_ext_arg() {
            return Err(RingError::Lacks("waiting with a timeout (Linux 5.11)"));
        }
        if !ring.params().is_feature_nodrop() {
            return Err(RingError::Lacks("lossless completions (Linux 5.5)"));
        }
        Ok(Self {
            ring,
            flying: Slab::default(),
            backlog: VecDeque::new(),
        })
    }

    /// Whether the kernel knows every operation used here.
    pub(super) fn check_operations(&self) -> Result<(), RingError> {
        let mut probe = Probe::new();
        let submitter = self.ring.submitter();
        submitter
            .register_probe(&mut probe)
            .map_err(RingError::Setup)?;
        for (code, name) in OPERATIONS {
            if !probe.is_supported(code) {
                return Err(RingError::Lacks(name));
            }
        }
        Ok(())
    }

    /// Starts an operation somebody waits for; it goes to the kernel with the next turn.
    pub(super) fn start(&mut self, token: T, operation: Operation) {
        let entry = self.keep(token, operation);
        if !self.push(&entry) {
            self.backlog.push_back(entry);
        }
    }

    /// The same behind all of this turn: the kernel carries out one after the other, and the other
    /// end of a link should be at work while this one's disk is given its own.
    pub(super) fn start_last(&mut self, token: T, operation: Operation) {
        let entry = self.keep(token, operation);
        self.backlog.push_back(entry);
    }

    /// The same for one that must not be tried here first: the attempt could block.
    pub(super) fn start_elsewhere(&mut self, token: T, operation: Operation) {
        let entry = self.keep(token, operation);
        self.backlog.push_back(entry.flags(squeue::Flags::ASYNC));
    }

    /// Keeps the operation until its completion.
    fn keep(&mut self, token: T, mut operation: Operation) -> squeue::Entry {
        let entry = operation.entry();
        let key = self.flying.insert(Flying { token, operation });
        entry.user_data(u64::try_from(key).expect("keys are small"))
    }

    /// Hands everything started to the kernel, waits as told and collects what is over. Whether
    /// another thread took the processor while looking.
    pub(super) fn turn(&mut self, wait: Wait, over: &mut Vec<Completion<T>>) -> io::Result<bool> {
        while let Some(entry) = self.backlog.front().cloned() {
            if !self.push(&entry) {
                break;
            }
            self.backlog.pop_front();
        }
        let mut was_interrupted = false;
        match wait {
            Wait::No => self.enter(0, None)?,
            Wait::Until { limit, spin } => {
                if !spin.is_zero() {
                    was_interrupted = self.spin(spin)?;
                }
                let has_some =
                    !self.ring.completion().is_empty() || self.ring.submission().taskrun();
                self.enter(usize::from(!has_some), limit)?;
            }
        }
        self.collect(over);
        Ok(was_interrupted)
    }

    fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: the operation the entry points into is kept in `flying` until its completion
        // has been collected, or for ever if the ring goes first.
        if unsafe { self.ring.submission().push(entry) }.is_ok() {
            return true;
        }
        // The queue is full: make place. If the kernel takes nothing now, the next turn tries
        // again.
        if self.enter(0, None).is_err() {
            return false;
        }
        // SAFETY: as above.
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }

    /// Looks for completions without sleeping, until there are some or the time is up. Whether
    /// that took so long that another thread must have had the processor.
    fn spin(&mut self, limit: Duration) -> io::Result<bool> {
        if !self.ring.submission().is_empty() {
            self.enter(0, None)?;
        }
        let start = Instant::now();
        loop {
            for _ in 0..SPINS_PER_LOOK {
                std::hint::spin_loop();
            }
            let spent = start.elapsed();
            let is_over = !self.ring.completion().is_empty() || self.ring.submission().taskrun();
            if is_over || spent >= limit {
                return Ok(spent >= limit * 2);
            }
        }
    }

    /// One system call. Being interrupted or having waited long enough is no error.
    fn enter(&self, want: usize, limit: Option<Duration>) -> io::Result<()> {
        let submitter = self.ring.submitter();
        let result = match limit {
            None => submitter.submit_and_wait(want),
            Some(limit) => {
                let limit = types::Timespec::from(limit);
                let arguments = types::SubmitArgs::new().timespec(&limit);
                submitter.submit_with_args(want, &arguments)
            }
        };
        let Err(error) = result else { return Ok(()) };
        match Errno::from_io_error(&error) {
            // AGAIN and BUSY: the kernel wants completions collected first, which comes next.
            Some(Errno::INTR | Errno::TIME | Errno::AGAIN | Errno::BUSY) => Ok(()),
            Some(_) | None => Err(error),
        }
    }

    fn collect(&mut self, over: &mut Vec<Completion<T>>) {
        for entry in self.ring.completion() {
            let key = usize::try_from(entry.user_data()).unwrap_or(usize::MAX);
            let Some(Flying { token, operation }) = self.flying.remove(key) else {
                continue; // of the cancellation in `drop`
            };
            let result = match usize::try_from(entry.result()) {
                Ok(value) => Ok(value),
                Err(_) => Err(Errno::from_raw_os_error(-entry.result())),
            };
            over.push(Completion {
                token,
                operation,
                result,
            });
        }
    }

    /// Cancels everything and waits a moment for it to end. What the kernel has not been given it
    /// never gets.
    fn cancel_all(&mut self) {
        for entry in self.backlog.drain(..) {
            let key = usize::try_from(entry.get_user_data()).unwrap_or(usize::MAX);
            self.flying.remove(key);
        }
        let limit = types::Timespec::from(CANCEL_LIMIT);
        let cancel = types::CancelBuilder::any();
        let submitted = self.enter(0, None);
        let cancelled = self
            .ring
            .submitter()
            .register_sync_cancel(Some(limit), cancel);
        if submitted.is_err() || cancelled.is_err() {
            // Nothing to cancel, an old kernel, or an operation that will not be cancelled: what
            // remains is waited for below, and kept if that is in vain.
        }
        let start = Instant::now();
        let mut over = Vec::new();
        while !self.flying.is_empty() && start.elapsed() < CANCEL_LIMIT {
            if self.enter(1, Some(CANCEL_LIMIT)).is_err() {
                break;
            }
            self.collect(&mut over);
            over.clear();
        }
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        if self.flying.is_empty() {
            return;
        }
        self.cancel_all();
        if !self.flying.is_empty() {
            // The kernel may still write into this memory: losing it is better than reusing it.
            std::mem::forget(std::mem::take(&mut self.flying));
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Ring<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("in_flight", &self.flying.len())
            .finish_non_exhaustive()
    }
}

/// Tries the sets of options from best to plainest: a kernel refuses those it does not know.
fn build() -> Result<IoUring, RingError> {
    let mut best = IoUring::builder();
    best.setup_cqsize(COMPLETIONS).setup_submit_all();
    let mut middle = best.clone();
    best.setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag();
    middle.setup_coop_taskrun().setup_taskrun_flag();
    let mut plain = IoUring::builder();
    plain.setup_cqsize(COMPLETIONS);
    for builder in [&best, &middle] {
        match builder.build(SUBMISSIONS) {
            Ok(ring) => return Ok(ring),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => {}
            Err(error) => return Err(RingError::Setup(error)),
        }
    }
    plain.build(SUBMISSIONS).map_err(RingError::Setup)
}

/// Every operation that is used, with a name for people.
const OPERATIONS: [(u8, &str); 8] = [
    (opcode::Read::CODE, "read (Linux 5.6)"),
    (opcode::Write::CODE, "write (Linux 5.6)"),
    (opcode::Fsync::CODE, "fsync (Linux 5.1)"),
    (opcode::Fallocate::CODE, "fallocate (Linux 5.6)"),
    (opcode::Recv::CODE, "recv (Linux 5.6)"),
    (opcode::Send::CODE, "send (Linux 5.6)"),
    (opcode::SendMsg::CODE, "sendmsg (Linux 5.3)"),
    (opcode::AsyncCancel::CODE, "cancel (Linux 5.5)"),
];

/// Entries that fit into one turn without a second system call: the engine takes 256 requests.
const SUBMISSIONS: u32 = 512;

/// Completions that fit without the kernel having to set some aside.
const COMPLETIONS: u32 = 4096;

/// How often to pause between two looks at the clock.
const SPINS_PER_LOOK: u32 = 16;

/// How long a ring that goes away waits for the kernel.
const CANCEL_LIMIT: Duration = Duration::from_secs(1);
