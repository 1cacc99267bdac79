//! The order in which operations go to the kernel.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use rustix::event::{EventfdFlags, eventfd};

use super::turn;
use crate::shell::Token;
use crate::shell::operation::Operation;
use crate::shell::ring::Ring;

/// Waits for a counter: at 1 it is over as soon as the kernel looks at it, at 0 never.
fn wait_for(counter: u32) -> (Operation, Weak<OwnedFd>) {
    let counter = Arc::new(eventfd(counter, EventfdFlags::CLOEXEC).unwrap());
    let held = Arc::downgrade(&counter);
    let word = Box::new([0; 8]);
    (Operation::Await { counter, word }, held)
}

#[test]
fn what_is_started_last_goes_behind_all_of_its_turn() {
    let mut ring = Ring::new().unwrap();
    for turn_number in 0..2 {
        ring.start_last(Token::Disk(turn_number), wait_for(1).0);
        ring.start(Token::Inbox, wait_for(1).0);
        let tokens: Vec<Token> = turn(&mut ring).iter().map(|one| one.token).collect();
        assert_eq!(tokens, [Token::Inbox, Token::Disk(turn_number)]);
    }
}

#[test]
fn a_ring_that_goes_away_lets_go_of_what_it_has_not_handed_over() {
    let mut ring = Ring::new().unwrap();
    let (operation, held) = wait_for(0);
    ring.start_last(Token::Inbox, operation);
    drop(ring);
    assert!(held.upgrade().is_none(), "it is kept for ever");
}
