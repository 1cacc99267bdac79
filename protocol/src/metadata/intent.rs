//! One block of the write-intent log: 32256 marks, one per 4 MiB region, in two alternating slots.
//!
//! A slot counts if it was written under the superblock's attach epoch or its successor. The newest
//! state is known only when nothing else can have been acknowledged after it: `newest` returns the
//! marks when that is proven and otherwise says why not, and the whole block counts as marked.

use super::bitmap::{put_words, words_of};
use super::header::{Header, Kind, NO_PEER_SLOT, Stamp, seal};
use super::{BitPage, Block, BlockError, Identity, empty_block};
use alloc::boxed::Box;

/// The bytes of an intent block and the slot they belong in: the lowest bit of `sequence`, which
/// grows by exactly one with each write of the same block.
#[must_use]
pub fn encode_intent_block(
    identity: Identity,
    epoch: u64,
    block: u32,
    words: &BitPage,
    sequence: u64,
) -> (u8, Box<Block>) {
    let mut bytes = empty_block();
    put_words(&mut bytes, words);
    let stamp = Stamp {
        kind: Kind::Intent,
        peer_slot: NO_PEER_SLOT,
        identity,
        index: block,
        attach_epoch: epoch,
        sequence,
    };
    seal(&mut bytes, &stamp);
    (u8::from(sequence & 1 == 1), bytes)
}

/// Epoch, sequence and marks of the intent block that should be at this place.
pub fn decode_intent_block(
    bytes: &[u8],
    identity: Identity,
    block: u32,
    slot: u8,
) -> Result<(u64, u64, Box<BitPage>), BlockError> {
    let header = Header::verify(bytes)?;
    header.expect(Kind::Intent, identity, NO_PEER_SLOT, block)?;
    expect_slot(&header, slot)?;
    Ok((
        header.attach_epoch.get(),
        header.sequence.get(),
        words_of(bytes),
    ))
}

/// What one slot of an intent block turned out to be.
#[derive(Debug)]
pub(super) enum SlotState {
    /// Written completely under an epoch that counts.
    Current { sequence: u64, words: Box<BitPage> },
    /// From an earlier attach: of no consequence.
    Earlier { sequence: u64 },
    /// Damaged, but its first sector is whole and tells when it was written.
    Torn { sequence: u64, cause: BlockError },
    /// Nothing is known about it.
    Unknown(BlockError),
}

impl SlotState {
    pub(super) fn read(bytes: &[u8], identity: Identity, block: u32, slot: u8, epoch: u64) -> Self {
        match decode_intent_block(bytes, identity, block, slot) {
            Ok((found, sequence, _)) if found < epoch => Self::Earlier { sequence },
            Ok((found, sequence, words)) if found <= epoch + 1 => Self::Current { sequence, words },
            Ok((found, ..)) => Self::Unknown(BlockError::Misplaced {
                what: "attach epoch",
                expected: epoch,
                found,
            }),
            Err(cause) => Self::of_head(bytes, identity, block, slot, epoch, cause),
        }
    }

    fn of_head(
        bytes: &[u8],
        identity: Identity,
        block: u32,
        slot: u8,
        epoch: u64,
        cause: BlockError,
    ) -> Self {
        let belongs = |header: &Header| {
            header
                .expect(Kind::Intent, identity, NO_PEER_SLOT, block)
                .is_ok()
                && expect_slot(header, slot).is_ok()
                && header.attach_epoch.get() <= epoch + 1
        };
        match Header::of_whole_head(bytes).filter(belongs) {
            Some(header) => Self::Torn {
                sequence: header.sequence.get(),
                cause,
            },
            None => Self::Unknown(cause),
        }
    }

    /// The highest sequence this slot is known to have been written under.
    pub(super) fn sequence(&self) -> u64 {
        match self {
            Self::Current { sequence, .. }
            | Self::Earlier { sequence }
            | Self::Torn { sequence, .. } => *sequence,
            Self::Unknown(_) => 0,
        }
    }
}

/// The marks of the newest completed write, if it is certain which that is.
pub(super) fn newest(first: SlotState, second: SlotState) -> Result<Box<BitPage>, BlockError> {
    use SlotState::{Current, Earlier, Torn, Unknown};
    match (first, second) {
        (
            Current {
                sequence: a,
                words: first,
            },
            Current {
                sequence: b,
                words: second,
            },
        ) => match (a.abs_diff(b), a > b) {
            (1, true) => Ok(first),
            (1, false) => Ok(second),
            _ => Err(BlockError::RolledBack {
                newest: a.max(b),
                found: a.min(b),
            }),
        },
        (Current { sequence, words }, Earlier { sequence: other })
        | (Earlier { sequence: other }, Current { sequence, words }) => {
            if other < sequence {
                return Ok(words);
            }
            Err(BlockError::RolledBack {
                newest: other,
                found: sequence,
            })
        }
        (
            Current { sequence, words },
            Torn {
                sequence: other,
                cause,
            },
        )
        | (
            Torn {
                sequence: other,
                cause,
            },
            Current { sequence, words },
        ) => {
            // A header older than the other slot: the write that tore it never completed.
            if other < sequence {
                Ok(words)
            } else {
                Err(cause)
            }
        }
        (Unknown(cause) | Torn { cause, .. }, _) | (_, Unknown(cause) | Torn { cause, .. }) => {
            Err(cause)
        }
        (Earlier { sequence: a }, Earlier { sequence: b }) => Err(BlockError::RolledBack {
            newest: a.max(b),
            found: a.min(b),
        }),
    }
}

fn expect_slot(header: &Header, slot: u8) -> Result<(), BlockError> {
    let found = header.sequence.get() & 1;
    if found == u64::from(slot) {
        return Ok(());
    }
    Err(BlockError::Misplaced {
        what: "slot",
        expected: slot.into(),
        found,
    })
}
