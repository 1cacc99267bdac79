//! A device of 1 TiB, all of it out of sync: how long a crashed node takes to attach it, and how
//! long the nodes take to exchange what is out of sync. The files are holes.

use std::thread;
use std::time::{Duration, Instant};

use super::{Ground, log, remove};
use crate::finding::{Finding, Target};
use crate::pair::{Node, Pair, RESOURCE, Setup};
use crate::process;

/// Measures both nodes in turn.
pub(super) fn measure(ground: &Ground<'_>, findings: &mut Vec<Finding>) -> Result<(), String> {
    ground.network.shape(Some(ground.plan.rate))?;
    let setup = Setup {
        bytes: 1 << 40,
        is_sparse: true,
        ..ground.setup("huge")
    };
    let mut pair = Pair::start(&setup)?;
    let mut attach = Finding::judged("1 TiB: attach after a crash, s", Target::AtMost(2.0));
    let words = format!("1 TiB: exchange of bitmaps, {} Mbit/s, s", ground.plan.rate);
    let mut exchange = Finding::judged(words, Target::AtMost(2.0));
    let mut outcome = Ok(());
    for round in 0..ground.plan.rounds {
        let at = usize::from(round % 2 == 1);
        if outcome.is_ok() {
            outcome = crash(&setup, &mut pair, at, &mut attach, &mut exchange);
        }
    }
    findings.extend([attach, exchange]);
    for node in &mut pair.nodes {
        node.crash(); // its resync would take a while to stop, and nobody needs the data
    }
    remove(&pair.files);
    outcome
}

/// Kills one node while the resync runs, and measures how it returns.
fn crash(
    setup: &Setup<'_>,
    pair: &mut Pair,
    at: usize,
    attach: &mut Finding,
    exchange: &mut Finding,
) -> Result<(), String> {
    let before = resyncs(&pair.nodes[0]);
    let node = &mut pair.nodes[at];
    node.crash();
    let start = Instant::now();
    node.start_again(setup)?;
    node.rbdadm(&["up", RESOURCE])?;
    let took = start.elapsed().as_secs_f64();
    attach.add(took);
    // The first node's log begins anew with the first node.
    let before = if at == 0 { 0 } else { before };
    let alpha = &pair.nodes[0];
    let start = Instant::now();
    while resyncs(alpha) == before {
        if start.elapsed() > DEADLINE {
            return Err("the resync has not begun again in time".to_owned());
        }
        thread::sleep(process::POLL);
    }
    let told = log::last_resync(&alpha.said()).ok_or("the source tells of no resync")?;
    eprintln!(
        "  attached after {took:.2} s, bitmaps exchanged in {:.2} s, {} GiB out of sync",
        told.exchange_s,
        told.bytes >> 30
    );
    exchange.add(told.exchange_s);
    Ok(())
}

fn resyncs(node: &Node) -> usize {
    node.said().matches("bytes to send").count()
}

const DEADLINE: Duration = Duration::from_secs(60);
