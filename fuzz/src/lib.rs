//! Fuzz targets: every decoder, and the engine, fed with arbitrary bytes (S1).
//!
//! A target is an ordinary function from bytes to nothing that panics when a promise is broken.
//! Three callers: libFuzzer (`fuzz/libfuzzer`, a workspace of its own because it needs a C++
//! compiler), the replay of the committed corpora, and a few thousand mutations of them, the last
//! two in every `cargo test`. `docs/reliability/fuzzing.md` says what each target promises.

pub mod corpus;
pub mod engine;
pub mod frames;
pub mod input;
pub mod mutate;
mod targets;

/// Something to throw bytes at.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// The longest input worth trying.
    pub longest: usize,
    /// Panics when a promise is broken.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    target("configuration", 4096, targets::configuration::run),
    target("control", 2048, targets::control::run),
    target("engine_events", 2048, targets::engine_events::run),
    target("engine_greetings", 512, targets::engine_greetings::run),
    target("metadata", 1024, targets::metadata::run),
    target("nbd_handshake", 2048, targets::nbd_handshake::run),
    target("nbd_session", 1024, targets::nbd_session::run),
    target("peer_greeting", 2048, targets::peer_greeting::run),
    target("peer_packets", 8192, targets::peer_packets::run),
    target("undo", 2048, targets::undo::run),
];

const fn target(name: &'static str, longest: usize, run: fn(&[u8])) -> Target {
    Target { name, longest, run }
}

/// The target of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
