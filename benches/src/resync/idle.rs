//! The speed of a resync that has both nodes to itself, beside that of the disk and of the link.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{Ground, log, remove, yardstick};
use crate::cpu::{self, CpuTime};
use crate::files;
use crate::finding::{Finding, Target};
use crate::pair::{Pair, RESOURCE};

/// Measures it over the limited link and over one without a limit.
pub(super) fn measure(ground: &Ground<'_>, findings: &mut Vec<Finding>) -> Result<(), String> {
    let mut pair = Pair::start(&ground.setup("idle"))?;
    let scratch = ground.place.disks().join("scratch");
    files::fill(&scratch, ground.plan.bytes)?;
    let mut foreign = Finding::told("cores other programs kept busy before each round", 2);
    let mut links = [Some(ground.plan.rate), None].map(Link::new);
    let mut outcome = Ok(());
    for round in 0..ground.plan.rounds {
        foreign.add(ground.foreign_cores());
        for link in &mut links {
            if outcome.is_ok() {
                outcome = link.round(ground, &mut pair, &scratch, round);
            }
        }
    }
    findings.push(foreign);
    findings.extend(links.into_iter().flat_map(Link::findings));
    remove(&[scratch]);
    ground.end(pair, outcome)
}

/// What was measured over one kind of link.
struct Link {
    rate: Option<u64>,
    ratio: Finding,
    without_ends: Finding,
    speeds: [Finding; 3],
    /// Cores that both daemons had, and that they would have had but for others.
    cores: [Finding; 2],
}

impl Link {
    fn new(rate: Option<u64>) -> Self {
        let words = match rate {
            Some(rate) => format!("idle, {rate} Mbit/s"),
            None => "idle, link without limit".to_owned(),
        };
        let told = |what: &str| Finding::told(format!("{words}: {what}, MB/s"), 0);
        Self {
            rate,
            ratio: Finding::judged(
                format!("{words}: resync / slower of disk and link"),
                Target::AtLeast(0.9),
            ),
            without_ends: Finding::told(
                format!("{words}: the same without the command, handshake and the last flush"),
                2,
            ),
            speeds: [told("resync"), told("disk"), told("link")],
            cores: ["used", "waited for"]
                .map(|what| Finding::told(format!("{words}: cores both daemons {what}"), 2)),
        }
    }

    fn findings(self) -> Vec<Finding> {
        let mut all = vec![self.ratio, self.without_ends];
        all.extend(self.speeds);
        all.extend(self.cores);
        all
    }

    fn round(
        &mut self,
        ground: &Ground<'_>,
        pair: &mut Pair,
        scratch: &Path,
        round: u64,
    ) -> Result<(), String> {
        let bytes = ground.plan.bytes;
        ground.network.shape(self.rate)?;
        let (mut speeds, mut without_ends) = ([0.0; 3], 0.0);
        let mut order = [0, 1, 2];
        order.rotate_left(usize::try_from(round).unwrap_or_default() % 3);
        for what in order {
            speeds[what] = match what {
                0 => {
                    let resync = resync(pair, bytes)?;
                    without_ends = resync.without_ends;
                    for (finding, cores) in self.cores.iter_mut().zip(resync.cores) {
                        finding.add(cores);
                    }
                    resync.whole
                }
                1 => yardstick::disk(source(pair), scratch, bytes)?,
                _ => yardstick::link(ground, bytes)?,
            };
        }
        let [resync, disk, link] = speeds;
        let slower = disk.min(link);
        eprintln!(
            "  round {}: resync {:.0} MB/s, disk {:.0}, link {:.0}, ratio {:.2}",
            round + 1,
            resync / 1e6,
            disk / 1e6,
            link / 1e6,
            resync / slower
        );
        self.ratio.add(resync / slower);
        self.without_ends.add(without_ends / slower);
        for (finding, speed) in self.speeds.iter_mut().zip(speeds) {
            finding.add(speed / 1e6);
        }
        Ok(())
    }
}

fn source(pair: &Pair) -> &PathBuf {
    &pair.files[0]
}

/// One resync.
struct Resync {
    /// Bytes a second, from the command to the end as an administrator sees it.
    whole: f64,
    /// The same of the resync alone.
    without_ends: f64,
    cores: [f64; 2],
}

/// Copies the whole device anew.
fn resync(pair: &mut Pair, bytes: u64) -> Result<Resync, String> {
    let pids = pair.pids();
    let (used, waited) = (CpuTime::of(&pids), cpu::waited(&pids));
    let start = Instant::now();
    let [alpha, beta] = &pair.nodes;
    beta.rbdadm(&["invalidate", RESOURCE])?;
    beta.rbdadm(&["wait-sync", RESOURCE])?;
    let whole = start.elapsed().as_secs_f64();
    let used = CpuTime::of(&pids).since(used).total();
    let waited = cpu::waited(&pids) - waited;
    let told = log::last_resync(&alpha.said()).ok_or("the source tells of no resync")?;
    pair.check()?;
    if told.bytes < bytes {
        let copied = told.bytes;
        return Err(format!("only {copied} bytes were out of sync"));
    }
    let alone = told.took_s.ok_or("the source tells of no end")?;
    let bytes = told.bytes as f64;
    Ok(Resync {
        whole: bytes / whole,
        without_ends: bytes / alone.max(1e-6),
        cores: [used, waited].map(|us| us / 1e6 / whole),
    })
}
