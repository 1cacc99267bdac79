//! The protocol's rules for strings: UTF-8, no NUL, at most 4 KiB.
//!
//! Borrows and shortens; it never changes or allocates text.

use core::str;

use super::numbers::MAXIMUM_STRING;

/// An export name as text, if it is one. Its length is the caller's to check.
pub(super) fn name(bytes: &[u8]) -> Option<&str> {
    str::from_utf8(bytes)
        .ok()
        .filter(|name| !name.contains('\0'))
}

/// As much of `text` as one string on the wire may hold.
pub(super) fn clip(text: &str) -> &str {
    clip_to(text, MAXIMUM_STRING)
}

/// As much of `text` as fits into `room` bytes without cutting a character in two.
pub(super) fn clip_to(text: &str, room: usize) -> &str {
    let mut end = room.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
