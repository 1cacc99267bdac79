//! What can be made to go wrong on a disk, and when it does.

use std::ops::Range;
use std::time::Duration;

use rustix::io::Errno;

/// Something that goes wrong.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The file it concerns; all when it is not given.
    pub file: Option<String>,
    /// The kind of request.
    pub on: On,
    /// Only requests that touch these bytes; flushes touch all.
    pub range: Range<u64>,
    /// Lets so many requests pass first.
    pub after: u64,
    /// Happens so often; for ever when it is not given.
    pub times: Option<u64>,
    /// What happens.
    pub effect: Effect,
}

/// The kind of request a fault waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Reads.
    Read,
    /// Writes, and whatever else makes the content of sectors another.
    Write,
    /// Flushes; a write that must be durable has one inside and counts as a write.
    Flush,
    /// Everything.
    Any,
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is answered with this error. Of a write nobody knows which sectors it has changed; a
    /// flush loses for ever what it should have made durable.
    Error(Errno),
    /// It does only the first half, and says so. Of a write through an io_uring the kernel makes an
    /// error of it.
    Short,
    /// It takes so long.
    Delay(Duration),
    /// It takes until the disk is released, and is done then.
    Hang,
    /// One bit of what is read is wrong.
    FlipBit,
}

/// Names a fault that was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FaultId(pub(super) u64);

/// A request as far as faults look at it.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) file: &'a str,
    pub(super) on: On,
    pub(super) range: Range<u64>,
    pub(super) can_be_short: bool,
}

/// The faults that are set, and what became of them.
#[derive(Debug, Default)]
pub(super) struct Faults {
    active: Vec<(FaultId, Fault)>,
    /// How often each fault has happened.
    hits: Vec<u64>,
}

impl Fault {
    /// Every request of this kind, on every file, for ever.
    #[must_use]
    pub fn new(on: On, effect: Effect) -> Self {
        Self {
            file: None,
            on,
            range: 0..u64::MAX,
            after: 0,
            times: None,
            effect,
        }
    }

    /// It happens once.
    #[must_use]
    pub fn once(mut self) -> Self {
        self.times = Some(1);
        self
    }

    /// It lets so many requests pass first.
    #[must_use]
    pub fn after(mut self, count: u64) -> Self {
        self.after = count;
        self
    }

    /// It concerns requests that touch these bytes.
    #[must_use]
    pub fn within(mut self, range: Range<u64>) -> Self {
        self.range = range;
        self
    }

    /// It concerns one file.
    #[must_use]
    pub fn in_file(mut self, name: &str) -> Self {
        self.file = Some(name.to_owned());
        self
    }

    fn concerns(&self, request: &Target<'_>) -> bool {
        let range = &request.range;
        let touches = range.start < self.range.end && self.range.start < range.end;
        let can_happen = match self.effect {
            Effect::Short => request.can_be_short,
            Effect::FlipBit => request.on == On::Read,
            Effect::Error(_) | Effect::Delay(_) | Effect::Hang => true,
        };
        can_happen
            && (self.on == On::Any || self.on == request.on)
            && self.file.as_deref().is_none_or(|name| name == request.file)
            && (touches || request.on == On::Flush)
    }
}

impl Faults {
    pub(super) fn set(&mut self, fault: Fault) -> FaultId {
        let id = FaultId(self.hits.len() as u64);
        self.hits.push(0);
        self.active.push((id, fault));
        id
    }

    pub(super) fn clear(&mut self) {
        self.active.clear();
    }

    pub(super) fn clear_hangs(&mut self) {
        self.active
            .retain(|(_, fault)| fault.effect != Effect::Hang);
    }

    pub(super) fn hits(&self, id: FaultId) -> u64 {
        let index = usize::try_from(id.0).unwrap_or(usize::MAX);
        self.hits.get(index).copied().unwrap_or(0)
    }

    /// All that happened.
    pub(super) fn total(&self) -> u64 {
        self.hits.iter().sum()
    }

    /// What happens to a request: the first fault that concerns it.
    pub(super) fn meet(&mut self, request: &Target<'_>) -> Option<Effect> {
        let index = self.active.iter_mut().position(|(_, fault)| {
            if !fault.concerns(request) {
                return false;
            }
            let passes = fault.after > 0;
            fault.after = fault.after.saturating_sub(1);
            !passes
        })?;
        let (id, fault) = &mut self.active[index];
        let effect = fault.effect;
        if let Some(hits) = usize::try_from(id.0)
            .ok()
            .and_then(|at| self.hits.get_mut(at))
        {
            *hits += 1;
        }
        if let Some(times) = &mut fault.times {
            *times -= 1;
            if *times == 0 {
                self.active.remove(index);
            }
        }
        Some(effect)
    }
}
