//! Whether a request may be carried out, and which error it gets if not.
//!
//! A request that passes lies inside the export, is aligned, not empty, not longer than the export
//! serves and asks for nothing that was not offered. Roles, suspension and faults are others'
//! business.

use super::{Errno, Request, RequestKind, Session};
use crate::ids::ByteRange;
use crate::nbd::numbers::{command, command_flag as flag};

/// A request that is not carried out: the error for the client's program and the reason for the
/// person who reads its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// What the reply carries.
    pub errno: Errno,
    /// What the text says, where replies have room for one.
    pub reason: Reason,
}

/// What is wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The command does not exist, or was not offered in negotiation.
    #[error("command {0} is not offered")]
    CommandNotOffered(u16),
    /// These flag bits do not exist, do not belong to the command, or were not offered.
    #[error("command flags {0:#06x} do not apply")]
    Flags(u16),
    /// A command that writes, on an export that is read-only.
    #[error("the export is read-only")]
    ReadOnly,
    /// BLOCK_STATUS by a client that selected no metadata context for this export.
    #[error("no metadata context was selected for this export")]
    NoMetaContext,
    /// FLUSH covers everything and takes no range.
    #[error("flush of range {0:?}")]
    FlushRange(ByteRange),
    /// A length of zero means nothing.
    #[error("length is 0")]
    ZeroLength,
    /// Offset or length is no multiple of the minimum block.
    #[error("range {range:?} is not aligned to {minimum}")]
    Unaligned {
        /// What was asked for.
        range: ByteRange,
        /// The minimum block of the export.
        minimum: u32,
    },
    /// The range ends after the export, or after the last number there is.
    #[error("range {range:?} ends beyond {size}")]
    BeyondEnd {
        /// What was asked for.
        range: ByteRange,
        /// The size of the export.
        size: u64,
    },
    /// READ or WRITE of more than was advertised.
    #[error("length {length} is more than {maximum}")]
    TooLong {
        /// What was asked for.
        length: u32,
        /// The maximum payload of the export.
        maximum: u32,
    },
}

impl Session {
    /// Whether `request` may be carried out. [`Request::payload_len`] bytes follow on the wire in
    /// either case and have to be received before the next header.
    pub fn check(&self, request: &Request) -> Result<(), Refusal> {
        self.check_offered(request)?;
        self.check_flags(request)?;
        match request.kind {
            RequestKind::Disconnect | RequestKind::Cache | RequestKind::Unknown(_) => Ok(()),
            RequestKind::Flush if request.range == ByteRange::new(0, 0) => Ok(()),
            RequestKind::Flush => Err(invalid(Reason::FlushRange(request.range))),
            RequestKind::Read
            | RequestKind::Write
            | RequestKind::Trim
            | RequestKind::WriteZeroes
            | RequestKind::BlockStatus => self.check_range(request),
        }
    }

    /// Whether negotiation left the client the command at all.
    fn check_offered(&self, request: &Request) -> Result<(), Refusal> {
        let features = self.features();
        let (is_write, not_offered) = match request.kind {
            RequestKind::Read | RequestKind::Flush | RequestKind::Disconnect => (false, None),
            RequestKind::Write => (true, None),
            RequestKind::Trim => (true, (!features.trim).then_some(command::TRIM)),
            RequestKind::WriteZeroes => (
                true,
                (!features.write_zeroes).then_some(command::WRITE_ZEROES),
            ),
            RequestKind::BlockStatus if self.allocation_context().is_none() => {
                return Err(invalid(Reason::NoMetaContext));
            }
            RequestKind::BlockStatus => (false, None),
            RequestKind::Cache => (false, Some(command::CACHE)),
            RequestKind::Unknown(number) => (false, Some(number)),
        };
        if is_write && features.read_only {
            return Err(Refusal {
                errno: Errno::NotPermitted,
                reason: Reason::ReadOnly,
            });
        }
        not_offered.map_or(Ok(()), |number| {
            Err(invalid(Reason::CommandNotOffered(number)))
        })
    }

    /// Forced unit access may come with any command; every other flag belongs to one.
    fn check_flags(&self, request: &Request) -> Result<(), Refusal> {
        let fast_zero = if self.features().fast_zero {
            flag::FAST_ZERO
        } else {
            0
        };
        let dont_fragment = if self.has_structured_replies() {
            flag::DF
        } else {
            0
        };
        let allowed = match request.kind {
            RequestKind::Read => flag::FUA | dont_fragment,
            RequestKind::WriteZeroes => flag::FUA | flag::NO_HOLE | fast_zero,
            RequestKind::BlockStatus => flag::FUA | flag::REQ_ONE,
            RequestKind::Write | RequestKind::Trim | RequestKind::Flush => flag::FUA,
            // There is no reply that could carry an error, and the client leaves anyway.
            RequestKind::Disconnect => u16::MAX,
            RequestKind::Cache | RequestKind::Unknown(_) => 0,
        };
        match request.flags.0 & !allowed {
            0 => Ok(()),
            excess => Err(invalid(Reason::Flags(excess))),
        }
    }

    fn check_range(&self, request: &Request) -> Result<(), Refusal> {
        let ByteRange { offset, length } = request.range;
        if length == 0 {
            return Err(invalid(Reason::ZeroLength));
        }
        let minimum = self.block_sizes().minimum();
        if !offset.is_multiple_of(u64::from(minimum)) || !length.is_multiple_of(minimum) {
            return Err(invalid(Reason::Unaligned {
                range: request.range,
                minimum,
            }));
        }
        let end = offset.checked_add(u64::from(length));
        if end.is_none_or(|end| end > self.size()) {
            let reason = Reason::BeyondEnd {
                range: request.range,
                size: self.size(),
            };
            return Err(Refusal {
                errno: beyond_end_errno(request.kind),
                reason,
            });
        }
        self.check_payload(request)
    }

    /// Only data that travels is limited; a TRIM may span the whole export.
    fn check_payload(&self, request: &Request) -> Result<(), Refusal> {
        let length = request.range.length;
        let maximum = self.block_sizes().maximum_payload();
        let travels = matches!(request.kind, RequestKind::Read | RequestKind::Write);
        if !travels || length <= maximum {
            return Ok(());
        }
        // The protocol knows "ask for less" only for a read that could have been cut in pieces.
        let could_be_cut = request.kind == RequestKind::Read && self.has_structured_replies();
        let errno = if could_be_cut {
            Errno::Overflow
        } else {
            Errno::Invalid
        };
        Err(Refusal {
            errno,
            reason: Reason::TooLong { length, maximum },
        })
    }
}

fn beyond_end_errno(kind: RequestKind) -> Errno {
    match kind {
        RequestKind::Write | RequestKind::WriteZeroes => Errno::NoSpace,
        RequestKind::Read
        | RequestKind::Trim
        | RequestKind::BlockStatus
        | RequestKind::Disconnect
        | RequestKind::Flush
        | RequestKind::Cache
        | RequestKind::Unknown(_) => Errno::Invalid,
    }
}

fn invalid(reason: Reason) -> Refusal {
    Refusal {
        errno: Errno::Invalid,
        reason,
    }
}
