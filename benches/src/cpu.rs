//! How much processor time the daemons have used, and how much everybody has.

use std::fs;

/// Processor time in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct CpuTime {
    /// In the program itself.
    pub(crate) user: f64,
    /// In the kernel on its behalf.
    pub(crate) system: f64,
}

impl CpuTime {
    /// What these processes have used so far, threads that have ended included.
    pub(crate) fn of(pids: &[u32]) -> Self {
        pids.iter()
            .filter_map(|pid| {
                let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
                of_process(&text)
            })
            .fold(Self::default(), |sum, one| Self {
                user: sum.user + one.user,
                system: sum.system + one.system,
            })
    }

    /// What all programs of this machine have used in user space so far.
    pub(crate) fn everybody_user() -> f64 {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        of_machine(&text).unwrap_or_default()
    }

    /// User and system time together.
    pub(crate) fn total(self) -> f64 {
        self.user + self.system
    }

    /// What was used since an earlier look.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            user: self.user - earlier.user,
            system: self.system - earlier.system,
        }
    }
}

/// How long the threads of these processes have stood ready to run while every core was taken, in
/// microseconds; those that have ended left out. Nothing where the kernel does not count it.
pub(crate) fn waited(pids: &[u32]) -> f64 {
    let threads = pids.iter().filter_map(|pid| {
        let entries = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        Some(entries.filter_map(|entry| {
            let text = fs::read_to_string(entry.ok()?.path().join("schedstat")).ok()?;
            text.split_whitespace().nth(1)?.parse::<f64>().ok()
        }))
    });
    threads.flatten().sum::<f64>() / 1e3
}

/// Fields 14 and 15 of a process's `stat`. The name before them may contain anything.
fn of_process(stat: &str) -> Option<CpuTime> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let user: f64 = fields.nth(11)?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(CpuTime {
        user: user * TICK_US,
        system: system * TICK_US,
    })
}

/// `user` and `nice` of the line for all processors.
fn of_machine(stat: &str) -> Option<f64> {
    let mut fields = stat.lines().next()?.split_whitespace().skip(1);
    let user: f64 = fields.next()?.parse().ok()?;
    let nice: f64 = fields.next()?.parse().ok()?;
    Some((user + nice) * TICK_US)
}

/// The unit of both files: 100 a second on every architecture rbd is built for, whatever the
/// kernel's own tick.
const TICK_US: f64 = 10_000.0;

#[cfg(test)]
mod tests {
    use super::{CpuTime, of_machine, of_process};

    #[test]
    fn a_name_with_spaces_and_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 9 0 0 0 25 17 0 0 20 0 3 0 99 1 2";
        let expected = CpuTime {
            user: 250_000.0,
            system: 170_000.0,
        };
        assert_eq!(of_process(stat), Some(expected));
        assert_eq!(of_process("7 (short) S"), None);
    }

    #[test]
    fn the_machine_counts_nice_programs_too() {
        assert_eq!(
            of_machine("cpu  30 2 5 1000 0 0 0 0 0 0\ncpu0 1 2 3\n"),
            Some(320_000.0)
        );
    }
}
