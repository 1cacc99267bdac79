//! Marks looked at while daemons live: at every moment, each block that may differ is marked on one
//! of the disks, so it is at the moment in which both daemons stand still.

use std::fs;

use super::Torture;
use crate::process::{Node, wait_until};

impl Torture {
    /// Freezes what runs, checks the marks, and lets it go on. Too short to be noticed.
    pub(super) fn check_marks_at_a_standstill(&mut self) {
        let mut frozen = Vec::new();
        for node in self.pair.nodes() {
            if node.is_started() && !node.is_paused() {
                node.pause();
                frozen.push(node.name());
            }
        }
        for node in self.pair.nodes() {
            if node.is_started() {
                wait_until_it_stands_still(node);
            }
        }
        self.tally.mark_checks += 1;
        self.tally.standstills += u64::from(!frozen.is_empty());
        self.tally.differing += self.pair.check_marks().differing;
        for name in frozen {
            self.pair.node(name).resume();
        }
    }
}

/// A signal takes a moment to reach every thread. The kernel's own workers may go on: what they
/// write was asked for before, and marked.
fn wait_until_it_stands_still(node: &Node) {
    let tasks = format!("/proc/{}/task", node.pid());
    wait_until("all threads of a frozen daemon stand still", || {
        let list = fs::read_dir(&tasks).map_err(|error| error.to_string())?;
        for task in list.filter_map(Result::ok) {
            // "PID (NAME) STATE …"; a thread that has just ended has none.
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            let Some((name, rest)) = stat.rsplit_once(") ") else {
                continue;
            };
            if !name.contains("(iou-") && !rest.starts_with(['T', 't', 'Z', 'X']) {
                return Err(stat);
            }
        }
        Ok(())
    });
}
