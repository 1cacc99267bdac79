//! What is done to a pair in a round, and what that means for its clients.

use crate::faultfs::{Effect, Fault, On};
use crate::process::Chance;
use rustix::io::Errno;

/// What is done.
#[derive(Clone, Copy, Debug)]
pub(super) enum Harm {
    KillSecondary,
    KillPrimary,
    KillBoth,
    StopSecondary,
    StopPrimary,
    FreezeSecondary,
    FreezePrimary,
    Cut,
    Reset,
    Stall,
    FlipBit,
    CutOff,
    Disconnect,
    UnplugSecondary,
    UnplugPrimary,
    UnplugPrimaryKillSecondary,
    UnplugBoth,
    BreakSecondaryDisk,
    BreakPrimaryDisk,
    HangSecondaryDisk,
    HangPrimaryDisk,
    ShortenReads,
}

impl Harm {
    /// One of those that need no special disks, or of all.
    pub(super) fn choose(chance: &mut Chance, with_faults: bool) -> Self {
        let ordinary = [
            Self::KillSecondary,
            Self::KillSecondary,
            Self::KillPrimary,
            Self::KillPrimary,
            Self::KillBoth,
            Self::KillBoth,
            Self::StopSecondary,
            Self::StopPrimary,
            Self::FreezeSecondary,
            Self::FreezePrimary,
            Self::Cut,
            Self::Reset,
            Self::Stall,
            Self::FlipBit,
            Self::CutOff,
            Self::Disconnect,
        ];
        let faults = [
            Self::UnplugSecondary,
            Self::UnplugSecondary,
            Self::UnplugPrimary,
            Self::UnplugPrimary,
            Self::UnplugPrimaryKillSecondary,
            Self::UnplugBoth,
            Self::UnplugBoth,
            Self::BreakSecondaryDisk,
            Self::BreakSecondaryDisk,
            Self::BreakPrimaryDisk,
            Self::BreakPrimaryDisk,
            Self::HangSecondaryDisk,
            Self::HangPrimaryDisk,
            Self::ShortenReads,
        ];
        let count = ordinary.len() + if with_faults { faults.len() } else { 0 };
        let choice = usize::try_from(chance.below(count as u64)).unwrap_or(0);
        match choice.checked_sub(ordinary.len()) {
            Some(choice) => faults[choice],
            None => ordinary[choice],
        }
    }

    /// Clients of the Primary lose their server, or their disk.
    pub(super) fn ends_the_primary(self) -> bool {
        self.kills() || matches!(self, Self::StopPrimary | Self::BreakPrimaryDisk)
    }

    /// The Primary's daemon is killed.
    pub(super) fn kills(self) -> bool {
        matches!(self, Self::KillPrimary | Self::KillBoth) || self.unplugs_the_primary()
    }

    /// A disk fails, hangs, or loses its cache: it may not be readable from outside.
    pub(super) fn touches_a_disk(self) -> bool {
        self.unplugs_the_primary()
            || matches!(
                self,
                Self::UnplugSecondary
                    | Self::BreakSecondaryDisk
                    | Self::BreakPrimaryDisk
                    | Self::HangSecondaryDisk
                    | Self::HangPrimaryDisk
                    | Self::ShortenReads
            )
    }

    /// The Primary's disks lose their cache.
    pub(super) fn unplugs_the_primary(self) -> bool {
        matches!(
            self,
            Self::UnplugPrimary | Self::UnplugPrimaryKillSecondary | Self::UnplugBoth
        )
    }
}

/// Something that makes a disk fail sooner or later, and a word for it. `data` is how much of the
/// disk is not metadata.
pub(super) fn breakage(chance: &mut Chance, data: u64) -> (Fault, &'static str) {
    let error = |on| Fault::new(on, Effect::Error(Errno::IO));
    let (fault, word) = match chance.below(5) {
        0 => (error(On::Write).within(0..data), "write"),
        1 => (error(On::Flush), "flush"),
        2 => (error(On::Write).within(data..u64::MAX), "metadata"),
        3 => {
            let full = Fault::new(On::Write, Effect::Error(Errno::NOSPC));
            (full.within(0..data), "full")
        }
        _ => (error(On::Any), "everything"),
    };
    let fault = fault.after(chance.below(50));
    match chance.one_in(2) {
        true => (fault.once(), word),
        false => (fault, word),
    }
}
