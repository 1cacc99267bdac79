//! The state of resources as text and as JSON. Works on the daemon's snapshot alone: asks
//! nobody, prints nothing.

mod advice;
mod explain;
mod json;
mod measure;
#[cfg(test)]
pub(crate) mod sample;
mod shell;
mod split;
#[cfg(test)]
mod tests;
mod text;
mod wrap;

pub(crate) use explain::{explain, wrapped};
pub(crate) use json::document;
pub(crate) use measure::{moment, percent, size};
pub(crate) use shell::{shell_block_without_state, shell_blocks};
pub(crate) use split::{losses, to_be_saved};
pub(crate) use text::{Layout, render};
