//! What each option is answered with.
//!
//! An option changes what later ones mean only through the three facts it may set: structured
//! replies, the selected metadata context, and the end of negotiation.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::option::{ClientOption, ContextRequest, InfoRequest, Malformed};
use super::{Handshake, HandshakeError, Step, reply};
use crate::nbd::export::{ExportInfo, Exports, Lookup};
use crate::nbd::numbers::{MAXIMUM_OPTION_DATA, MAXIMUM_STRING, meta_context, option_reply};
use crate::nbd::session::Session;
use crate::nbd::text;

impl Handshake {
    /// Answers an option whose data has arrived.
    pub(super) fn answer(
        &mut self,
        option: ClientOption,
        data: &[u8],
        exports: &dyn Exports,
        out: &mut Vec<u8>,
    ) -> Result<Step, HandshakeError> {
        match option {
            ClientOption::ExportName => return self.answer_export_name(data, exports, out),
            ClientOption::Info | ClientOption::Go => {
                return Ok(self.answer_info(option, data, exports, out));
            }
            ClientOption::List => answer_list(data, exports, out),
            ClientOption::StructuredReply => self.answer_structured_reply(data, out),
            ClientOption::ListMetaContext | ClientOption::SetMetaContext => {
                self.answer_meta_context(option, data, exports, out);
            }
            ClientOption::Abort | ClientOption::Unsupported(_) => {
                return Ok(answer_unread(option, false, out));
            }
        }
        Ok(Step::More)
    }

    /// The old way to choose an export, which has no room for an error.
    fn answer_export_name(
        &self,
        data: &[u8],
        exports: &dyn Exports,
        out: &mut Vec<u8>,
    ) -> Result<Step, HandshakeError> {
        let Some(name) = text::name(data) else {
            return Err(HandshakeError::NameNotText(data.len()));
        };
        let Lookup::Serve(export) = exports.lookup(name) else {
            return Ok(Step::Close);
        };
        if self.must_be_told(&export) {
            return Ok(Step::Close);
        }
        let flags = export.transmission_flags(self.structured_replies);
        reply::export_name(export.size, flags, self.no_zeroes, out);
        Ok(self.serve(name, export))
    }

    fn answer_info(
        &self,
        option: ClientOption,
        data: &[u8],
        exports: &dyn Exports,
        out: &mut Vec<u8>,
    ) -> Step {
        let number = option.number();
        let request = match InfoRequest::parse(data) {
            Ok(request) => request,
            Err(malformed) => return refuse_malformed(option, malformed, out),
        };
        let Some(export) = find(option, request.name, exports, out) else {
            return Step::More;
        };
        // Sent unasked as well: a client that did not ask but knows it keeps to it all the same.
        reply::info_block_size(number, export.block_sizes, out);
        if !request.wants_block_size && self.must_be_told(&export) {
            let message = "this export has block sizes that a client must ask for";
            reply::refuse(number, option_reply::ERR_BLOCK_SIZE_REQD, message, out);
            return Step::More;
        }
        let flags = export.transmission_flags(self.structured_replies);
        reply::info_export(number, export.size, flags, out);
        if request.wants_name {
            reply::info_name(number, &export, out);
        }
        if request.wants_description {
            reply::info_description(number, &export, out);
        }
        reply::acknowledge(number, out);
        if option == ClientOption::Go {
            self.serve(request.name, export)
        } else {
            Step::More
        }
    }

    fn answer_structured_reply(&mut self, data: &[u8], out: &mut Vec<u8>) {
        let option = ClientOption::StructuredReply.number();
        if !data.is_empty() {
            return refuse_data(option, data, out);
        }
        self.structured_replies = true;
        reply::acknowledge(option, out);
    }

    fn answer_meta_context(
        &mut self,
        option: ClientOption,
        data: &[u8],
        exports: &dyn Exports,
        out: &mut Vec<u8>,
    ) {
        let selects = option == ClientOption::SetMetaContext;
        if selects {
            // A selection replaces the one before it even when it fails.
            self.allocation_for = None;
        }
        let number = option.number();
        if !self.structured_replies {
            let message = "metadata contexts need structured replies";
            return reply::refuse(number, option_reply::ERR_INVALID, message, out);
        }
        let request = match ContextRequest::parse(data) {
            Ok(request) => request,
            Err(malformed) => {
                refuse_malformed(option, malformed, out);
                return;
            }
        };
        if find(option, request.name, exports, out).is_none() {
            return;
        }
        let lists_all = request.is_without_query || request.names_base;
        if selects && request.names_allocation {
            self.allocation_for = Some(String::from(request.name));
            reply::allocation_context(number, meta_context::ALLOCATION_ID, out);
        } else if !selects && (request.names_allocation || lists_all) {
            reply::allocation_context(number, meta_context::UNSELECTED_ID, out);
        }
        reply::acknowledge(number, out);
    }

    /// Whether the client may not go on without having asked for the block sizes.
    fn must_be_told(&self, export: &ExportInfo) -> bool {
        self.policy.require_block_size && !export.block_sizes.need_no_telling()
    }

    /// Negotiation ends in a session. The metadata context counts only for the name it was
    /// selected for, letter by letter: a context of another export says nothing about this one.
    fn serve(&self, name: &str, export: ExportInfo) -> Step {
        let selected = self.allocation_for.as_deref() == Some(name);
        let context = selected.then_some(meta_context::ALLOCATION_ID);
        Step::Serve(Session::new(export, self.structured_replies, context))
    }
}

/// Answers an option whose data was thrown away.
pub(super) fn answer_unread(option: ClientOption, too_big: bool, out: &mut Vec<u8>) -> Step {
    let number = option.number();
    if too_big {
        let message = format!("option {number} has more than {MAXIMUM_OPTION_DATA} bytes of data");
        reply::refuse(number, option_reply::ERR_TOO_BIG, &message, out);
        return Step::More;
    }
    if option == ClientOption::Abort {
        reply::acknowledge(number, out);
        return Step::Close;
    }
    let message = format!("option {number} is not supported");
    reply::refuse(number, option_reply::ERR_UNSUP, &message, out);
    Step::More
}

fn answer_list(data: &[u8], exports: &dyn Exports, out: &mut Vec<u8>) {
    let option = ClientOption::List.number();
    if !data.is_empty() {
        return refuse_data(option, data, out);
    }
    for (name, description) in exports.list() {
        // A name the protocol cannot carry cannot be asked for either.
        if name.len() <= MAXIMUM_STRING {
            reply::server(option, &name, &description, out);
        }
    }
    reply::acknowledge(option, out);
}

/// Looks an export up for an option that can be answered with an error, and answers so if need be.
fn find(
    option: ClientOption,
    name: &str,
    exports: &dyn Exports,
    out: &mut Vec<u8>,
) -> Option<ExportInfo> {
    let (error, message) = match exports.lookup(name) {
        Lookup::Serve(export) => return Some(export),
        Lookup::Refuse(message) => (option_reply::ERR_POLICY, message),
        Lookup::Unknown => (
            option_reply::ERR_UNKNOWN,
            format!("no export is named \"{name}\""),
        ),
    };
    reply::refuse(option.number(), error, &message, out);
    None
}

fn refuse_malformed(option: ClientOption, malformed: Malformed, out: &mut Vec<u8>) -> Step {
    let error = match malformed {
        Malformed::NameLength(_) => option_reply::ERR_TOO_BIG,
        Malformed::Length | Malformed::NameNotText => option_reply::ERR_INVALID,
    };
    reply::refuse(option.number(), error, &malformed.to_string(), out);
    Step::More
}

/// For the options that come without data.
fn refuse_data(option: u32, data: &[u8], out: &mut Vec<u8>) {
    let message = format!("option {option} takes no data, {} bytes came", data.len());
    reply::refuse(option, option_reply::ERR_INVALID, &message, out);
}
