//! The greeting each node sends when a link comes up: all that decides who synchronises from whom.
//!
//! The decision is taken on the two greetings *as sent*, so both nodes reach the same one.

use alloc::vec::Vec;

use super::body::{Reader, Writer};
use super::header::{Kind, WireError};
use crate::ids::{GenerationId, VolumeNumber};
use crate::policy::{SplitPolicies, WithOnePrimary, WithTwoPrimaries, WithoutPrimary};
use crate::state::{DiskState, Role};

/// Longest list of volumes in a greeting.
const VOLUME_LIMIT: usize = 64;

/// Longest history of generations in a greeting.
pub(crate) const HISTORY_LIMIT: usize = 32;

/// What one node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Its role at this moment.
    pub role: Role,
    /// Made anew each time its daemon sets up the resource: tells a restart from a lost link.
    pub incarnation: u64,
    /// Identifies the boot of its host: tells a restarted daemon from a restarted machine.
    pub boot: u128,
    /// The incarnation of the *receiver* that the sender was last in sync with, since the sender
    /// itself came up; 0 if none. A sender that knows one has not been interrupted since.
    pub seen_incarnation: u64,
    /// Made anew whenever the sender comes up and whenever its role changes. As long as it is the
    /// same, a Secondary's clients have written nothing.
    pub tenure: u64,
    /// The receiver's tenure that the orders in [`HelloVolume::condemned`] were given for.
    pub condemned_tenure: u64,
    /// What may end a split brain without a person. Both nodes must have been told the same.
    pub policies: SplitPolicies,
    /// The sender only wants to know what would be decided: the link is dropped after that.
    pub tentative: bool,
    /// The sender gives up its own changes if both sides have some.
    pub discard_my_data: bool,
    /// The sender may be Primary while the receiver is.
    pub two_primaries: bool,
    /// Its volumes.
    pub volumes: Vec<HelloVolume>,
}

/// What one node says of one volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelloVolume {
    /// Its number.
    pub number: VolumeNumber,
    /// Usable size in bytes, 0 without a disk.
    pub size_bytes: u64,
    /// What the size could be at most with this disk, its metadata and the configured limit; 0
    /// without a disk.
    pub capacity_bytes: u64,
    /// Smallest unit the disk can write.
    pub block_bytes: u32,
    /// State of its disk.
    pub disk: DiskState,
    /// Its current generation.
    pub current: GenerationId,
    /// Its bitmap generation towards the receiver: since when its dirty bits count.
    pub bitmap: GenerationId,
    /// Its older generations, newest first.
    pub history: Vec<GenerationId>,
    /// How many blocks its dirty bitmap towards the receiver has set.
    pub dirty_blocks: u64,
    /// Its node was Primary when these began to be counted.
    pub was_primary: bool,
    /// When they began to be counted by its own clock, in seconds since 1970; 0 if not known. For
    /// people only.
    pub counted_since: u64,
    /// It was Primary when it was last interrupted without an orderly end.
    pub crashed_primary: bool,
    /// It was a resync target when it was last interrupted or still is.
    pub was_resync_target: bool,
    /// The generation of the *receiver's* data that an administrator of the sender's node has
    /// ordered to be given up if both sides have changes; none without such an order. It counts
    /// only together with [`Hello::condemned_tenure`].
    pub condemned: GenerationId,
    /// Its host has not been booted since its disk was last in sync: what it had acknowledged, it
    /// still has, even if its daemon was restarted.
    pub kept_power: bool,
}

impl Hello {
    pub(crate) fn write(&self, out: &mut Writer<'_>) {
        out.u8(self.role.number());
        out.u8(u8::from(self.discard_my_data));
        out.u64(self.incarnation);
        out.u128(self.boot);
        out.u64(self.seen_incarnation);
        out.u64(self.tenure);
        out.u64(self.condemned_tenure);
        write_policies(self.policies, out);
        out.u8(u8::from(self.tentative));
        out.u8(u8::from(self.two_primaries));
        out.u16(u16::try_from(self.volumes.len()).unwrap_or(u16::MAX));
        for volume in &self.volumes {
            volume.write(out);
        }
    }

    pub(crate) fn read(body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(Kind::Hello, body);
        let role =
            Role::from_number(reader.u8()?).ok_or_else(|| reader.malformed("unknown role"))?;
        let discard_my_data = reader.flag()?;
        let incarnation = reader.u64()?;
        let boot = reader.u128()?;
        let seen_incarnation = reader.u64()?;
        let tenure = reader.u64()?;
        let condemned_tenure = reader.u64()?;
        let policies = read_policies(&mut reader)?;
        let tentative = reader.flag()?;
        let two_primaries = reader.flag()?;
        let count = usize::from(reader.u16()?);
        if count > VOLUME_LIMIT {
            return Err(reader.malformed("too many volumes"));
        }
        let mut volumes = Vec::with_capacity(count);
        for _ in 0..count {
            let volume = HelloVolume::read(&mut reader)?;
            if volumes
                .iter()
                .any(|known: &HelloVolume| known.number == volume.number)
            {
                return Err(reader.malformed("a volume is listed twice"));
            }
            volumes.push(volume);
        }
        reader.end()?;
        Ok(Self {
            role,
            incarnation,
            boot,
            seen_incarnation,
            tenure,
            condemned_tenure,
            policies,
            tentative,
            discard_my_data,
            two_primaries,
            volumes,
        })
    }
}

impl HelloVolume {
    fn write(&self, out: &mut Writer<'_>) {
        out.u16(self.number.0);
        out.u64(self.size_bytes);
        out.u64(self.capacity_bytes);
        out.u32(self.block_bytes);
        out.u8(self.disk.number());
        out.u8(u8::from(self.crashed_primary));
        out.u8(u8::from(self.was_resync_target));
        out.u8(u8::from(self.kept_power));
        out.u64(self.dirty_blocks);
        out.u8(u8::from(self.was_primary));
        out.u64(self.counted_since);
        out.u64(self.current.0);
        out.u64(self.bitmap.0);
        out.u64(self.condemned.0);
        let history = self.history.get(..HISTORY_LIMIT).unwrap_or(&self.history);
        out.u8(u8::try_from(history.len()).unwrap_or(u8::MAX));
        for generation in history {
            out.u64(generation.0);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let number = VolumeNumber(reader.u16()?);
        let size_bytes = reader.u64()?;
        let capacity_bytes = reader.u64()?;
        let block_bytes = reader.u32()?;
        let disk = DiskState::from_number(reader.u8()?)
            .ok_or_else(|| reader.malformed("unknown disk state"))?;
        let crashed_primary = reader.flag()?;
        let was_resync_target = reader.flag()?;
        let kept_power = reader.flag()?;
        let dirty_blocks = reader.u64()?;
        let was_primary = reader.flag()?;
        let counted_since = reader.u64()?;
        let current = GenerationId(reader.u64()?);
        let bitmap = GenerationId(reader.u64()?);
        let condemned = GenerationId(reader.u64()?);
        let count = usize::from(reader.u8()?);
        if count > HISTORY_LIMIT {
            return Err(reader.malformed("history too long"));
        }
        let mut history = Vec::with_capacity(count);
        for _ in 0..count {
            history.push(GenerationId(reader.u64()?));
        }
        Ok(Self {
            number,
            size_bytes,
            capacity_bytes,
            block_bytes,
            disk,
            current,
            bitmap,
            condemned,
            history,
            dirty_blocks,
            was_primary,
            counted_since,
            crashed_primary,
            was_resync_target,
            kept_power,
        })
    }
}

fn write_policies(policies: SplitPolicies, out: &mut Writer<'_>) {
    out.u8(policies.without_primary.number());
    out.u8(policies.with_one_primary.number());
    out.u8(policies.with_two_primaries.number());
    out.u8(u8::from(policies.always));
}

fn read_policies(reader: &mut Reader<'_>) -> Result<SplitPolicies, WireError> {
    Ok(SplitPolicies {
        without_primary: WithoutPrimary::from_number(reader.u8()?)
            .ok_or_else(|| reader.malformed("unknown policy"))?,
        with_one_primary: WithOnePrimary::from_number(reader.u8()?)
            .ok_or_else(|| reader.malformed("unknown policy"))?,
        with_two_primaries: WithTwoPrimaries::from_number(reader.u8()?)
            .ok_or_else(|| reader.malformed("unknown policy"))?,
        always: reader.flag()?,
    })
}
