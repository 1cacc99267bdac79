//! The report for people.

use std::env;
use std::thread;

use super::Plan;
use crate::finding::{self, Finding};

/// The whole report.
pub(super) fn markdown(plan: &Plan, file_system: &str, findings: &[Finding]) -> String {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let head = format!(
        "- {} with {cores} core(s) for both nodes and their client; \
         disks of both on one {file_system}\n\
         - {} round(s), interleaved; devices of {} MiB; limited link: {} Mbit/s, veth and tbf\n\
         - both disks of each part but `huge` are compared at its end\n\n",
        env::consts::ARCH,
        plan.rounds,
        plan.bytes >> 20,
        plan.rate,
    );
    head + &finding::table(findings)
}
