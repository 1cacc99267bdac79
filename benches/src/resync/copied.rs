//! How much is copied after a node has crashed, and after it was away, beside what had to be.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use super::load::Load;
use super::{Ground, log};
use crate::files;
use crate::finding::{Finding, Target};
use crate::pair::{Node, Pair, RESOURCE, Setup};

/// Crashes of either node while clients write to a small part of the device.
pub(super) fn measure_crashes(
    ground: &Ground<'_>,
    findings: &mut Vec<Finding>,
) -> Result<(), String> {
    let setup = ground.setup("crash");
    let mut pair = Pair::start(&setup)?;
    let mut found = ["Primary", "Secondary"].map(|role| {
        let ratio = format!("crash of the {role}: copied / the regions being written to");
        let bytes = format!("crash of the {role}: copied, MiB");
        (
            Finding::judged(ratio, Target::AtMost(1.0)),
            Finding::told(bytes, 1),
        )
    });
    let mut outcome = Ok(());
    for round in 0..ground.plan.rounds {
        for (at, found) in found.iter_mut().enumerate() {
            if outcome.is_ok() {
                outcome = crash(ground, &setup, &mut pair, (at, round), found);
            }
        }
    }
    findings.extend(found.into_iter().flat_map(|(ratio, bytes)| [ratio, bytes]));
    ground.end(pair, outcome)
}

fn crash(
    ground: &Ground<'_>,
    setup: &Setup<'_>,
    pair: &mut Pair,
    (at, round): (usize, u64),
    (ratio, mebibytes): &mut (Finding, Finding),
) -> Result<(), String> {
    let span = ground.plan.bytes / 16;
    let load = Load::new(ground, pair, round).until_ended(span, HUNG_SECONDS);
    let client = load.start(ground)?;
    thread::sleep(Duration::from_secs(ground.plan.seconds));
    pair.check()?;
    pair.nodes[at].crash();
    drop(client);
    let copied = bring_back(setup, pair, at)?;
    eprintln!(
        "  round {}: node {at} crashed, {} KiB copied, {} KiB of regions written to",
        round + 1,
        copied >> 10,
        span >> 10
    );
    ratio.add(copied as f64 / span as f64);
    mebibytes.add(copied as f64 / f64::from(1 << 20));
    Ok(())
}

/// A node is away while clients write.
pub(super) fn measure_absence(
    ground: &Ground<'_>,
    findings: &mut Vec<Finding>,
) -> Result<(), String> {
    let setup = ground.setup("absence");
    let mut pair = Pair::start(&setup)?;
    let seconds = ground.plan.absence;
    let mut ratio = Finding::judged(
        format!("{seconds} s of absence: copied / blocks that had changed"),
        Target::AtMost(1.2),
    );
    let mut bytes = Finding::told(format!("{seconds} s of absence: copied, MiB"), 1);
    let mut outcome = Ok(());
    for round in 0..ground.plan.rounds {
        if outcome.is_ok() {
            outcome = absence(ground, &setup, &mut pair, round).map(|(copied, changed)| {
                ratio.add(copied as f64 / changed.max(1) as f64);
                bytes.add(copied as f64 / f64::from(1 << 20));
            });
        }
    }
    findings.extend([ratio, bytes]);
    ground.end(pair, outcome)
}

/// How much was copied when the Secondary returned, and how much its disk lacked.
fn absence(
    ground: &Ground<'_>,
    setup: &Setup<'_>,
    pair: &mut Pair,
    round: u64,
) -> Result<(u64, u64), String> {
    let seconds = HUNG_SECONDS + ground.plan.seconds + ground.plan.absence;
    let load = Load::new(ground, pair, round).until_ended(ground.plan.bytes, seconds);
    let client = load.start(ground)?;
    // Away in the midst of writes.
    thread::sleep(Duration::from_secs(ground.plan.seconds));
    pair.check()?;
    pair.nodes[1].crash();
    thread::sleep(Duration::from_secs(ground.plan.absence));
    drop(client);
    thread::sleep(Duration::from_secs(1)); // what it has sent is written
    let files: &[PathBuf; 2] = &pair.files;
    let changed = files::different_bytes(files, ground.plan.bytes)?;
    let copied = bring_back(setup, pair, 1)?;
    eprintln!(
        "  round {}: {} KiB copied, {} KiB had changed",
        round + 1,
        copied >> 10,
        changed >> 10
    );
    Ok((copied, changed))
}

/// Starts a crashed node again and waits until both are in sync; how much was copied.
fn bring_back(setup: &Setup<'_>, pair: &mut Pair, at: usize) -> Result<u64, String> {
    let mut before = pair.nodes.each_ref().map(resyncs);
    before[at] = 0; // its log begins anew
    let node = &mut pair.nodes[at];
    node.start_again(setup)?;
    node.rbdadm(&["up", RESOURCE])?;
    let alpha = &pair.nodes[0];
    alpha.rbdadm(&["wait-sync", RESOURCE])?;
    alpha.rbdadm(&["primary", RESOURCE])?;
    pair.check()?;
    // Either may have been the source.
    let mut copied = 0;
    for (node, before) in pair.nodes.iter().zip(before) {
        if resyncs(node) > before {
            copied += log::last_resync(&node.said()).map_or(0, |told| told.bytes);
        }
    }
    Ok(copied)
}

fn resyncs(node: &Node) -> usize {
    node.said().matches("bytes to send").count()
}

/// A client that is never stopped ends after so long.
const HUNG_SECONDS: u64 = 120;
