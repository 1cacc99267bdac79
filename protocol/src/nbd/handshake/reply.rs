//! Bytes the server sends during negotiation.
//!
//! Appends to the caller's buffer and decides nothing.

use alloc::vec::Vec;

use crate::nbd::export::{BlockSizes, ExportInfo};
use crate::nbd::numbers::{
    GREETING_MAGIC, OPTION_MAGIC, OPTION_REPLY_MAGIC, handshake_flag, info, meta_context,
    option_reply,
};
use crate::nbd::text::clip;

/// Bytes of zero that end an EXPORT_NAME reply unless the client declined them.
const EXPORT_NAME_PADDING: usize = 124;

/// The first bytes of a connection.
pub(super) fn greeting(out: &mut Vec<u8>) {
    out.extend_from_slice(&GREETING_MAGIC.to_be_bytes());
    out.extend_from_slice(&OPTION_MAGIC.to_be_bytes());
    let flags = handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES;
    out.extend_from_slice(&flags.to_be_bytes());
}

/// The whole answer to EXPORT_NAME: it has no header.
pub(super) fn export_name(size: u64, flags: u16, no_zeroes: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(&size.to_be_bytes());
    out.extend_from_slice(&flags.to_be_bytes());
    if !no_zeroes {
        out.extend_from_slice(&[0; EXPORT_NAME_PADDING]);
    }
}

/// The option, numbered `option`, is done.
pub(super) fn acknowledge(option: u32, out: &mut Vec<u8>) {
    reply(option, option_reply::ACK, &[], out);
}

/// The option failed; `text` is for a person.
pub(super) fn refuse(option: u32, error: u32, text: &str, out: &mut Vec<u8>) {
    reply(option, error, &[clip(text).as_bytes()], out);
}

/// One line of the answer to LIST.
pub(super) fn server(option: u32, name: &str, description: &str, out: &mut Vec<u8>) {
    let parts = [
        &length_of(name).to_be_bytes(),
        name.as_bytes(),
        clip(description).as_bytes(),
    ];
    reply(option, option_reply::SERVER, &parts, out);
}

/// Size and transmission flags of an export.
pub(super) fn info_export(option: u32, size: u64, flags: u16, out: &mut Vec<u8>) {
    let parts = [
        &info::EXPORT.to_be_bytes()[..],
        &size.to_be_bytes(),
        &flags.to_be_bytes(),
    ];
    reply(option, option_reply::INFO, &parts, out);
}

/// The name an export is listed under.
pub(super) fn info_name(option: u32, export: &ExportInfo, out: &mut Vec<u8>) {
    let parts = [&info::NAME.to_be_bytes(), clip(&export.name).as_bytes()];
    reply(option, option_reply::INFO, &parts, out);
}

/// What an export is, for people.
pub(super) fn info_description(option: u32, export: &ExportInfo, out: &mut Vec<u8>) {
    let parts = [
        &info::DESCRIPTION.to_be_bytes(),
        clip(&export.description).as_bytes(),
    ];
    reply(option, option_reply::INFO, &parts, out);
}

/// The sizes a client has to keep to.
pub(super) fn info_block_size(option: u32, sizes: BlockSizes, out: &mut Vec<u8>) {
    let parts = [
        &info::BLOCK_SIZE.to_be_bytes()[..],
        &sizes.minimum().to_be_bytes(),
        &sizes.preferred().to_be_bytes(),
        &sizes.maximum_payload().to_be_bytes(),
    ];
    reply(option, option_reply::INFO, &parts, out);
}

/// `base:allocation` exists, or is selected under the number `id`.
pub(super) fn allocation_context(option: u32, id: u32, out: &mut Vec<u8>) {
    let parts = [&id.to_be_bytes(), meta_context::ALLOCATION.as_bytes()];
    reply(option, option_reply::META_CONTEXT, &parts, out);
}

fn reply(option: u32, kind: u32, parts: &[&[u8]], out: &mut Vec<u8>) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let length = u32::try_from(length).expect("two strings of 4 KiB and a few numbers");
    out.extend_from_slice(&OPTION_REPLY_MAGIC.to_be_bytes());
    out.extend_from_slice(&option.to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// Length of a name that is known to fit.
fn length_of(name: &str) -> u32 {
    u32::try_from(name.len()).expect("listed names are at most 4 KiB")
}
