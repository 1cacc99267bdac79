//! Named steps, each timed and judged, and the summary of all of them.

use std::time::{Duration, Instant};

use crate::process;

/// How one step ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing to complain about.
    Passed,
    /// Could not be run here, and why.
    Skipped(String),
    /// What is wrong; details were printed by the step.
    Failed(String),
}

impl Verdict {
    /// The verdict of a step that is one program.
    pub(super) fn of(outcome: Result<(), String>) -> Self {
        match outcome {
            Ok(()) => Self::Passed,
            Err(message) => Self::Failed(message),
        }
    }

    /// The verdict of a step that collects complaints, after printing them.
    pub(super) fn of_complaints(complaints: &[String]) -> Self {
        for complaint in complaints {
            eprintln!("{complaint}");
        }
        match complaints.len() {
            0 => Self::Passed,
            1 => Self::Failed("1 complaint".to_owned()),
            many => Self::Failed(format!("{many} complaints")),
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Passed => "ok",
            Self::Skipped(_) => "skipped",
            Self::Failed(_) => "FAILED",
        }
    }
}

/// The steps so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    steps: Vec<(&'static str, Duration, Verdict)>,
}

impl Report {
    /// Runs one step, printing its name before and its result after.
    pub(super) fn step(&mut self, name: &'static str, work: impl FnOnce() -> Verdict) {
        println!("== {name}");
        let start = Instant::now();
        let verdict = work();
        let time = start.elapsed();
        match &verdict {
            Verdict::Passed => {}
            Verdict::Skipped(reason) => println!("skipped: {reason}"),
            Verdict::Failed(reason) => println!("failed: {reason}"),
        }
        println!(
            "-- {name}: {} ({})\n",
            verdict.word(),
            process::seconds(time)
        );
        self.steps.push((name, time, verdict));
    }

    /// Prints the summary; an error when a step failed.
    pub(super) fn finish(self) -> Result<(), String> {
        println!("== summary");
        for (name, time, verdict) in &self.steps {
            let reason = match verdict {
                Verdict::Passed => String::new(),
                Verdict::Skipped(reason) | Verdict::Failed(reason) => format!("  {reason}"),
            };
            println!(
                "{:<8} {:>8}  {name}{reason}",
                verdict.word(),
                process::seconds(*time)
            );
        }
        let failed: Vec<&str> = self
            .steps
            .iter()
            .filter(|(_, _, verdict)| matches!(verdict, Verdict::Failed(_)))
            .map(|(name, _, _)| *name)
            .collect();
        if failed.is_empty() {
            Ok(())
        } else {
            Err(format!("failed: {}", failed.join(", ")))
        }
    }
}
