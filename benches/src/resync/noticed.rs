//! What clients notice of a resync, and of a verify: the slowest writes at half load, with and
//! without.

use std::thread;
use std::time::{Duration, Instant};

use super::load::Load;
use super::{Ground, yardstick};
use crate::finding::{Finding, Target};
use crate::pair::{Node, Pair, RESOURCE};
use crate::path::fio::Measured;

/// During a resync over the limited link.
pub(super) fn measure_resync(
    ground: &Ground<'_>,
    findings: &mut Vec<Finding>,
) -> Result<(), String> {
    ground.network.shape(Some(ground.plan.rate))?;
    let mut pair = Pair::start(&ground.setup("noticed"))?;
    let mut latency = Latency::new("a resync", Some(1.5));
    let mut speed = Finding::judged(
        "resync under half load / link".to_owned(),
        Target::AtLeast(0.3),
    );
    let outcome = resync_rounds(ground, &mut pair, &mut latency, &mut speed);
    findings.extend(latency.findings());
    findings.push(speed);
    ground.end(pair, outcome)
}

fn resync_rounds(
    ground: &Ground<'_>,
    pair: &mut Pair,
    latency: &mut Latency,
    speed: &mut Finding,
) -> Result<(), String> {
    let half = Load::half(ground, pair)?;
    for round in 0..ground.plan.rounds {
        let load = half.in_round(round);
        let mut pairs = [None, None];
        let mut copied = 0.0;
        for with in in_turn(round) {
            pair.check()?;
            pairs[usize::from(with)] = Some(if with {
                let (measured, rate) = during_resync(pair, &load)?;
                copied = rate;
                measured
            } else {
                load.run()?
            });
        }
        let link = yardstick::link(ground, ground.plan.bytes / 2)?;
        speed.add(copied / link);
        eprintln!(
            "  round {}: {:.0} MB/s of {:.0}",
            round + 1,
            copied / 1e6,
            link / 1e6
        );
        latency.add(pairs);
    }
    Ok(())
}

/// The load during a resync, and the bytes a second that the resync copied meanwhile.
fn during_resync(pair: &Pair, load: &Load) -> Result<(Measured, f64), String> {
    let [alpha, beta] = &pair.nodes;
    beta.rbdadm(&["invalidate", RESOURCE])?;
    let start = Instant::now();
    while replication(alpha)?.0 != "SyncSource" {
        if start.elapsed() > BEGIN_DEADLINE {
            return Err("the resync has not begun in time".to_owned());
        }
        thread::sleep(LOOK);
    }
    let (_, before) = replication(alpha)?;
    let start = Instant::now();
    let measured = load.run()?;
    let (state, after) = replication(alpha)?;
    let elapsed = start.elapsed().as_secs_f64();
    if state != "SyncSource" {
        return Err("the resync ended before the load: a larger --size is needed".to_owned());
    }
    beta.rbdadm(&["wait-sync", RESOURCE])?;
    let copied = before.saturating_sub(after) as f64;
    Ok((measured, copied / elapsed))
}

/// During a verify, begun anew when it ends.
pub(super) fn measure_verify(
    ground: &Ground<'_>,
    findings: &mut Vec<Finding>,
) -> Result<(), String> {
    ground.network.shape(Some(ground.plan.rate))?;
    let mut pair = Pair::start(&ground.setup("verify"))?;
    let mut latency = Latency::new("a verify", None);
    let outcome = verify_rounds(ground, &mut pair, &mut latency);
    findings.extend(latency.findings());
    ground.end(pair, outcome)
}

fn verify_rounds(
    ground: &Ground<'_>,
    pair: &mut Pair,
    latency: &mut Latency,
) -> Result<(), String> {
    let half = Load::half(ground, pair)?;
    for round in 0..ground.plan.rounds {
        let load = half.in_round(round);
        let mut pairs = [None, None];
        for with in in_turn(round) {
            pair.check()?;
            let measured = if with {
                during_verify(pair, &load)?
            } else {
                load.run()?
            };
            pairs[usize::from(with)] = Some(measured);
        }
        latency.add(pairs);
    }
    Ok(())
}

fn during_verify(pair: &Pair, load: &Load) -> Result<Measured, String> {
    let alpha = &pair.nodes[0];
    alpha.rbdadm(&["verify", RESOURCE])?;
    let load = load.clone();
    let client = thread::spawn(move || load.run());
    while !client.is_finished() {
        if replication(alpha)?.0 == "Established" {
            alpha.rbdadm(&["verify", RESOURCE])?;
        }
        thread::sleep(LOOK);
    }
    if replication(alpha)?.0 != "Established" {
        alpha.rbdadm(&["verify", "--abort", RESOURCE])?;
    }
    client.join().map_err(|_| "the client failed".to_owned())?
}

/// The replication state and how much is out of sync.
fn replication(node: &Node) -> Result<(String, u64), String> {
    let status = node.status()?;
    let peer = &status["connections"][0]["peer_devices"][0];
    let state = peer["replication-state"].as_str().unwrap_or_default();
    let bytes = peer["out-of-sync-bytes"].as_u64().unwrap_or_default();
    Ok((state.to_owned(), bytes))
}

/// Whether the first and the second measurement of a round are with what is to be noticed.
fn in_turn(round: u64) -> [bool; 2] {
    let first = round % 2 == 1;
    [first, !first]
}

/// The slowest writes with and without.
struct Latency {
    ratio: Finding,
    usual: Finding,
    slow: [Finding; 2],
}

impl Latency {
    fn new(what: &str, most: Option<f64>) -> Self {
        let words = format!("p99 of writes at half load, during {what} / without");
        let told = |when: &str| Finding::told(format!("p99 {when}, ms"), 2);
        Self {
            ratio: match most {
                Some(most) => Finding::judged(words, Target::AtMost(most)),
                None => Finding::told(words, 2),
            },
            usual: Finding::told(format!("p50 during {what} / without"), 2),
            slow: [
                told(&format!("without {what}")),
                told(&format!("during {what}")),
            ],
        }
    }

    fn add(&mut self, measured: [Option<Measured>; 2]) {
        let [Some(without), Some(with)] = measured else {
            return;
        };
        eprintln!(
            "  p99 {:.2} ms, without {:.2} ms",
            with.slow_us / 1e3,
            without.slow_us / 1e3
        );
        self.ratio.add(with.slow_us / without.slow_us.max(1.0));
        self.usual
            .add(with.latency_us / without.latency_us.max(1.0));
        for (finding, measured) in self.slow.iter_mut().zip([without, with]) {
            finding.add(measured.slow_us / 1e3);
        }
    }

    fn findings(self) -> Vec<Finding> {
        let mut all = vec![self.ratio, self.usual];
        all.extend(self.slow);
        all
    }
}

/// How often the state is asked for: each time costs what a client could have had.
const LOOK: Duration = Duration::from_millis(100);
const BEGIN_DEADLINE: Duration = Duration::from_secs(20);
