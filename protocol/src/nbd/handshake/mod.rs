//! Negotiation, from the greeting to a [`Session`], as a machine that is fed bytes.
//!
//! How the bytes are cut makes no difference: fed one at a time or all at once, the same replies
//! come out and the same step is reached. It decides nothing about exports (see
//! [`Exports`]) and never keeps more than one option in memory.

mod answer;
mod option;
mod reply;
#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;
use core::mem;

use super::cursor::Cursor;
use super::export::Exports;
use super::numbers::{
    CLIENT_FLAGS_LENGTH, MAXIMUM_DISCARDED_OPTION_DATA, MAXIMUM_OPTION_DATA, MAXIMUM_OPTIONS,
    MAXIMUM_STRING, OPTION_HEADER_LENGTH, OPTION_MAGIC, handshake_flag,
};
use super::session::Session;
use option::ClientOption;

/// What a server insists on, beyond the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// Turn away a client that has not asked for the block sizes of an export that has some.
    /// Otherwise such a client is served and its unaligned requests fail one by one, which is
    /// what the protocol recommends for getting along with most clients.
    pub require_block_size: bool,
}

/// Where negotiation stands after some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send what was put out, then feed what the client sends next.
    More,
    /// Send what was put out; the client's next byte is the first of a request.
    Serve(Session),
    /// Send what was put out, then close: the client wants it so, or named with EXPORT_NAME an
    /// export it cannot have.
    Close,
}

/// Why a connection is closed on a client that broke the protocol.
/// What was put out before may still be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The client set flags that were not offered.
    #[error("client flags {0:#010x} were not offered")]
    ClientFlags(u32),
    /// An option does not start with its magic, so nothing after it can be trusted.
    #[error("option magic is {0:#018x}")]
    OptionMagic(u64),
    /// More options than any client needs.
    #[error("more than {MAXIMUM_OPTIONS} options")]
    TooManyOptions,
    /// A client that did not agree to fixed newstyle sent another option than EXPORT_NAME.
    #[error("option {0} without fixed newstyle")]
    NotFixedNewstyle(u32),
    /// Option data longer than is worth reading and throwing away.
    #[error("option {option} with {length} bytes of data")]
    OptionLength {
        /// The option's number.
        option: u32,
        /// What its header claims to follow.
        length: u32,
    },
    /// A name too long, in the one option that cannot be answered with an error.
    #[error("export name of {0} bytes")]
    NameLength(u32),
    /// A name that is not text, in the one option that cannot be answered with an error.
    #[error("export name of {0} bytes is not utf-8 text without nul")]
    NameNotText(usize),
    /// Bytes fed after the last step.
    #[error("negotiation is over")]
    Over,
}

/// One client's negotiation.
#[derive(Debug)]
pub struct Handshake {
    policy: Policy,
    greeted: bool,
    state: State,
    /// What has arrived of the message that `state` waits for.
    partial: Vec<u8>,
    options: u32,
    fixed_newstyle: bool,
    no_zeroes: bool,
    structured_replies: bool,
    /// The export name, as the client spelt it, for which it selected `base:allocation`.
    allocation_for: Option<String>,
}

/// The message that is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    ClientFlags,
    OptionHeader,
    OptionData {
        option: ClientOption,
        length: u32,
    },
    /// Data nobody looks at; `too_big` if only for its length.
    Discard {
        option: ClientOption,
        remaining: u32,
        too_big: bool,
    },
    Over,
}

impl Handshake {
    /// A negotiation that has not begun. The first [`feed`](Self::feed), with no input yet, puts
    /// out the greeting: in this protocol the server speaks first.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            greeted: false,
            state: State::ClientFlags,
            partial: Vec::new(),
            options: 0,
            fixed_newstyle: false,
            no_zeroes: false,
            structured_replies: false,
            allocation_for: None,
        }
    }

    /// Takes bytes the client sent and appends to `out` what it is to be sent.
    ///
    /// Returns how many bytes of `input` were used: all of them for [`Step::More`], and for the
    /// other steps those up to the end of negotiation; the rest belongs to the session.
    pub fn feed(
        &mut self,
        input: &[u8],
        exports: &dyn Exports,
        out: &mut Vec<u8>,
    ) -> Result<(usize, Step), HandshakeError> {
        if !mem::replace(&mut self.greeted, true) {
            reply::greeting(out);
        }
        let mut used = 0;
        loop {
            used += self.take(&input[used..]);
            if !self.is_complete() {
                return Ok((used, Step::More));
            }
            match self.advance(exports, out) {
                Ok(Step::More) => {}
                end => {
                    self.state = State::Over;
                    return end.map(|step| (used, step));
                }
            }
        }
    }

    /// Moves bytes of the awaited message out of `input`; returns how many.
    fn take(&mut self, input: &[u8]) -> usize {
        if let State::Discard { remaining, .. } = &mut self.state {
            let arrived = u32::try_from(input.len()).unwrap_or(u32::MAX);
            let count = arrived.min(*remaining);
            *remaining -= count;
            return usize_from(count);
        }
        let count = input
            .len()
            .min(self.awaited().saturating_sub(self.partial.len()));
        self.partial.extend_from_slice(&input[..count]);
        count
    }

    fn is_complete(&self) -> bool {
        match self.state {
            State::Discard { remaining, .. } => remaining == 0,
            State::ClientFlags | State::OptionHeader | State::OptionData { .. } | State::Over => {
                self.partial.len() == self.awaited()
            }
        }
    }

    /// Length of the message that is kept in `partial`.
    fn awaited(&self) -> usize {
        match self.state {
            State::ClientFlags => CLIENT_FLAGS_LENGTH,
            State::OptionHeader => OPTION_HEADER_LENGTH,
            State::OptionData { length, .. } => usize_from(length),
            State::Discard { .. } | State::Over => 0,
        }
    }

    /// Acts on the message that is now complete.
    fn advance(
        &mut self,
        exports: &dyn Exports,
        out: &mut Vec<u8>,
    ) -> Result<Step, HandshakeError> {
        let message = mem::take(&mut self.partial);
        match mem::replace(&mut self.state, State::OptionHeader) {
            State::ClientFlags => self.accept_client_flags(&message),
            State::OptionHeader => self.begin_option(&message),
            State::OptionData { option, .. } => self.answer(option, &message, exports, out),
            State::Discard {
                option, too_big, ..
            } => Ok(answer::answer_unread(option, too_big, out)),
            State::Over => Err(HandshakeError::Over),
        }
    }

    fn accept_client_flags(&mut self, message: &[u8]) -> Result<Step, HandshakeError> {
        let flags = Cursor::new(message).u32().unwrap_or_default();
        let fixed_newstyle = u32::from(handshake_flag::FIXED_NEWSTYLE);
        let no_zeroes = u32::from(handshake_flag::NO_ZEROES);
        if flags & !(fixed_newstyle | no_zeroes) != 0 {
            return Err(HandshakeError::ClientFlags(flags));
        }
        self.fixed_newstyle = flags & fixed_newstyle != 0;
        self.no_zeroes = flags & no_zeroes != 0;
        Ok(Step::More)
    }

    /// Looks at an option's header and decides whether its data is kept, skipped, or too much.
    fn begin_option(&mut self, header: &[u8]) -> Result<Step, HandshakeError> {
        let mut cursor = Cursor::new(header);
        let magic = cursor.u64().unwrap_or_default();
        let number = cursor.u32().unwrap_or_default();
        let length = cursor.u32().unwrap_or_default();
        if magic != OPTION_MAGIC {
            return Err(HandshakeError::OptionMagic(magic));
        }
        if self.options == MAXIMUM_OPTIONS {
            return Err(HandshakeError::TooManyOptions);
        }
        self.options += 1;
        let option = ClientOption::from_number(number);
        if option == ClientOption::ExportName && usize_from(length) > MAXIMUM_STRING {
            return Err(HandshakeError::NameLength(length));
        }
        if option != ClientOption::ExportName && !self.fixed_newstyle {
            return Err(HandshakeError::NotFixedNewstyle(number));
        }
        if length > MAXIMUM_DISCARDED_OPTION_DATA {
            return Err(HandshakeError::OptionLength {
                option: number,
                length,
            });
        }
        let too_big = !option.ignores_data() && length > MAXIMUM_OPTION_DATA;
        self.state = if too_big || option.ignores_data() {
            State::Discard {
                option,
                remaining: length,
                too_big,
            }
        } else {
            State::OptionData { option, length }
        };
        Ok(Step::More)
    }
}

/// Lengths on the wire have 32 bits, which every machine this runs on can index.
fn usize_from(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}
