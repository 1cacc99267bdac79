//! Memory for payloads: page-aligned, counted, and used again.
//!
//! A [`Buffer`] is filled while it has one owner and only read once it is shared. Whoever still
//! needs the bytes, the engine, a queue or an operation of the kernel, holds a clone; the last
//! one to go gives the memory back. Nothing here knows what the bytes mean.

#![expect(
    unsafe_code,
    reason = "memory the kernel reads and writes must be aligned to a page and not move"
)]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::ptr::NonNull;
use std::rc::Rc;

use rbd_protocol::peer::header::checksum;

/// A payload. Cloning shares it.
#[derive(Clone)]
pub(super) struct Buffer {
    slot: Rc<Slot>,
}

/// Where buffers come from and go back to; one for each thread. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool {
    shelves: Rc<RefCell<[Vec<Memory>; CLASSES.len()]>>,
}

struct Slot {
    /// `None` only while the slot is being dropped.
    memory: Option<Memory>,
    length: usize,
    checksum: Cell<Option<u32>>,
    home: Pool,
}

/// A page-aligned piece of memory, all of it initialised.
#[derive(Debug)]
struct Memory {
    start: NonNull<u8>,
    capacity: usize,
}

impl Pool {
    /// A buffer of this length. What it contains is left over from earlier use: it must be
    /// overwritten before anyone else sees it.
    pub(super) fn take(&self, length: usize) -> Buffer {
        let memory = match class_of(length) {
            Some(class) => self.shelves.borrow_mut()[class]
                .pop()
                .unwrap_or_else(|| Memory::new(CLASSES[class])),
            None => Memory::new(length.next_multiple_of(PAGE)),
        };
        Buffer {
            slot: Rc::new(Slot {
                memory: Some(memory),
                length,
                checksum: Cell::new(None),
                home: self.clone(),
            }),
        }
    }

    /// A buffer with a copy of these bytes.
    pub(super) fn copy_of(&self, bytes: &[u8]) -> Buffer {
        let mut buffer = self.take(bytes.len());
        buffer.bytes_mut().copy_from_slice(bytes);
        buffer
    }

    /// A buffer of zeroes.
    pub(super) fn zeroes(&self, length: usize) -> Buffer {
        let mut buffer = self.take(length);
        buffer.bytes_mut().fill(0);
        buffer
    }

    fn give_back(&self, memory: Memory) {
        let Some(class) = CLASSES.iter().position(|size| *size == memory.capacity) else {
            return;
        };
        let shelf = &mut self.shelves.borrow_mut()[class];
        if shelf.len() * memory.capacity < SHELF_BYTES {
            shelf.push(memory);
        }
    }
}

impl Buffer {
    /// How long the payload is.
    pub(super) fn len(&self) -> usize {
        self.slot.length
    }

    /// The payload.
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the memory is initialised, at least `length` long, and lives as long as the
        // slot. Nobody writes to it while a reference exists: `bytes_mut` needs the only handle,
        // and the ring takes the only handle away for as long as the kernel writes.
        unsafe { std::slice::from_raw_parts(self.address(), self.slot.length) }
    }

    /// The payload, to be filled. Only for a buffer that has not been shared.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        let slot = Rc::get_mut(&mut self.slot).expect("a buffer is filled before it is shared");
        slot.checksum.set(None);
        let memory = slot.memory.as_mut().expect("memory leaves only on drop");
        // SAFETY: as in `bytes`; this is the only handle, and it is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(memory.start.as_ptr(), slot.length) }
    }

    /// Whether nobody else holds this payload, so that the kernel may write to it.
    pub(super) fn is_unshared(&self) -> bool {
        Rc::strong_count(&self.slot) == 1
    }

    /// Where the payload lies, for the kernel.
    pub(super) fn address(&self) -> *mut u8 {
        let memory = &self.slot.memory;
        memory
            .as_ref()
            .expect("memory leaves only on drop")
            .start
            .as_ptr()
    }

    /// CRC-32 of the payload, worked out at most once.
    pub(super) fn checksum(&self) -> u32 {
        self.slot.checksum.get().unwrap_or_else(|| {
            let value = checksum(self.bytes());
            self.slot.checksum.set(Some(value));
            value
        })
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.len())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            self.home.give_back(memory);
        }
    }
}

impl Memory {
    fn new(capacity: usize) -> Self {
        let layout = Self::layout(capacity);
        // SAFETY: the layout is not empty, `class_of` and `take` ask for a page at least.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout)
        };
        Self { start, capacity }
    }

    fn layout(capacity: usize) -> Layout {
        Layout::from_size_align(capacity, PAGE).expect("payloads are far smaller than memory")
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout, and dropped once.
        unsafe { dealloc(self.start.as_ptr(), Self::layout(self.capacity)) }
    }
}

fn class_of(length: usize) -> Option<usize> {
    CLASSES.iter().position(|capacity| length <= *capacity)
}

/// What `O_DIRECT` can ask for at most on the machines we know.
pub(super) const PAGE: usize = 4096;

/// Sizes that are kept for later use. Larger payloads are rare and get memory of their own.
const CLASSES: [usize; 5] = [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20];

/// How much unused memory of each class is kept: what a resync may have under way at most. Memory
/// that is given up and taken anew is made of page faults, which took a sixth of a fast resync's
/// processor time.
const SHELF_BYTES: usize = 32 << 20;
