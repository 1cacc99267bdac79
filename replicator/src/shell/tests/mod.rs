//! Tests of the parts with real files, sockets and a real ring; the engine's part is played by
//! the test.

mod batch;
mod client;
mod client_kernel;
mod disk;
mod link;
mod node;
mod replication;
mod resource;
mod ring;

use std::time::{Duration, Instant};

use super::Token;
use super::ring::{Completion, Ring, Wait};

/// Bytes that differ from place to place and from seed to seed.
fn pattern(length: usize, seed: usize) -> Vec<u8> {
    (0..length)
        .map(|index| u8::try_from((index * 31 + index / 251 + seed * 7) % 256).unwrap())
        .collect()
}

/// The completions of one turn, which waits a moment for some.
fn turn(ring: &mut Ring<Token>) -> Vec<Completion<Token>> {
    let mut over = Vec::new();
    let wait = Wait::Until {
        limit: Some(Duration::from_millis(20)),
        spin: Duration::ZERO,
    };
    ring.turn(wait, &mut over).unwrap();
    over
}

/// Gives up a test that would otherwise wait for ever.
struct Deadline(Instant);

impl Deadline {
    fn new() -> Self {
        Self(Instant::now() + Duration::from_secs(30))
    }

    fn check(&self) {
        assert!(Instant::now() < self.0, "nothing happens any more");
    }
}
