//! The options of a client and the layout of their data.
//!
//! Parsing borrows from the message and checks every length against what is there; it answers
//! nothing itself.

use crate::nbd::cursor::Cursor;
use crate::nbd::numbers::{MAXIMUM_STRING, info, meta_context, option as number};
use crate::nbd::text;

/// An option by its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientOption {
    ExportName,
    Abort,
    List,
    Info,
    Go,
    StructuredReply,
    ListMetaContext,
    SetMetaContext,
    /// A number we do not know or do not serve.
    Unsupported(u32),
}

impl ClientOption {
    pub(super) fn from_number(option: u32) -> Self {
        match option {
            number::EXPORT_NAME => Self::ExportName,
            number::ABORT => Self::Abort,
            number::LIST => Self::List,
            number::INFO => Self::Info,
            number::GO => Self::Go,
            number::STRUCTURED_REPLY => Self::StructuredReply,
            number::LIST_META_CONTEXT => Self::ListMetaContext,
            number::SET_META_CONTEXT => Self::SetMetaContext,
            other => Self::Unsupported(other),
        }
    }

    pub(super) fn number(self) -> u32 {
        match self {
            Self::ExportName => number::EXPORT_NAME,
            Self::Abort => number::ABORT,
            Self::List => number::LIST,
            Self::Info => number::INFO,
            Self::Go => number::GO,
            Self::StructuredReply => number::STRUCTURED_REPLY,
            Self::ListMetaContext => number::LIST_META_CONTEXT,
            Self::SetMetaContext => number::SET_META_CONTEXT,
            Self::Unsupported(option) => option,
        }
    }

    /// Whether the answer is the same whatever data comes with it, so that none need be kept.
    pub(super) fn ignores_data(self) -> bool {
        matches!(self, Self::Abort | Self::Unsupported(_))
    }
}

/// What is wrong with an option's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("option data ends early or has bytes to spare")]
    Length,
    #[error("export name is not utf-8 text without nul")]
    NameNotText,
    #[error("export name of {0} bytes is longer than {MAXIMUM_STRING}")]
    NameLength(usize),
}

/// The data of INFO and GO.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InfoRequest<'a> {
    pub(super) name: &'a str,
    pub(super) wants_name: bool,
    pub(super) wants_description: bool,
    pub(super) wants_block_size: bool,
}

impl<'a> InfoRequest<'a> {
    pub(super) fn parse(data: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(data);
        let mut request = Self {
            name: prefixed_name(&mut cursor)?,
            wants_name: false,
            wants_description: false,
            wants_block_size: false,
        };
        for _ in 0..cursor.u16().ok_or(Malformed::Length)? {
            match cursor.u16().ok_or(Malformed::Length)? {
                info::NAME => request.wants_name = true,
                info::DESCRIPTION => request.wants_description = true,
                info::BLOCK_SIZE => request.wants_block_size = true,
                // The export itself is always described; what we do not know is to be ignored.
                _ => {}
            }
        }
        if cursor.is_empty() {
            Ok(request)
        } else {
            Err(Malformed::Length)
        }
    }
}

/// The data of LIST_META_CONTEXT and SET_META_CONTEXT.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ContextRequest<'a> {
    pub(super) name: &'a str,
    /// There was not a single query.
    pub(super) is_without_query: bool,
    /// A query was `base:allocation`.
    pub(super) names_allocation: bool,
    /// A query was `base:`.
    pub(super) names_base: bool,
}

impl<'a> ContextRequest<'a> {
    /// Queries of other namespaces and other leaves are ignored, as the protocol demands.
    pub(super) fn parse(data: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(data);
        let name = prefixed_name(&mut cursor)?;
        let queries = cursor.u32().ok_or(Malformed::Length)?;
        let mut request = Self {
            name,
            is_without_query: queries == 0,
            names_allocation: false,
            names_base: false,
        };
        // Each query takes at least four bytes of the data, so a lie about their number ends soon.
        for _ in 0..queries {
            let length = cursor.u32().ok_or(Malformed::Length)?;
            let query = cursor.bytes(length).ok_or(Malformed::Length)?;
            request.names_allocation |= query == meta_context::ALLOCATION.as_bytes();
            request.names_base |= query == meta_context::BASE_WILDCARD.as_bytes();
        }
        if cursor.is_empty() {
            Ok(request)
        } else {
            Err(Malformed::Length)
        }
    }
}

fn prefixed_name<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str, Malformed> {
    let length = cursor.u32().ok_or(Malformed::Length)?;
    let name = cursor.bytes(length).ok_or(Malformed::Length)?;
    if name.len() > MAXIMUM_STRING {
        return Err(Malformed::NameLength(name.len()));
    }
    text::name(name).ok_or(Malformed::NameNotText)
}
