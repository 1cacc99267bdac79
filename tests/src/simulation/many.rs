//! Many seeds, on all processors. A seed is one thread's; what it does depends on nothing else.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::profile::Profile;
use super::report::{Failure, Report};
use super::verdict::{run, run_visiting};

/// Which seeds to run, and how.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The profile.
    pub profile: Profile,
    /// The seeds.
    pub seeds: Range<u64>,
    /// How many at once; 0 for one per processor.
    pub jobs: usize,
    /// Go on after a failure.
    pub go_on: bool,
    /// Run every hundredth seed twice, and compare.
    pub repeat: bool,
    /// Look at which events meet which situations.
    pub visits: bool,
}

/// What came of them.
#[derive(Debug, Default)]
pub struct Outcome {
    /// All figures added up.
    pub total: Report,
    /// How many seeds were run.
    pub seeds: u64,
    /// Those that failed, lowest seed first; without `go_on` at least the lowest one.
    pub failures: Vec<Box<Failure>>,
    /// Wall clock time.
    pub seconds: f64,
    /// Processor time of this process in the meantime.
    pub processor_seconds: f64,
    /// How many ran at once.
    pub jobs: usize,
}

impl Batch {
    /// A batch on all processors that stops at the first failure.
    #[must_use]
    pub fn new(profile: Profile, seeds: Range<u64>) -> Self {
        Self {
            profile,
            seeds,
            jobs: 0,
            go_on: false,
            repeat: true,
            visits: false,
        }
    }

    /// Runs them.
    #[must_use]
    pub fn run(&self) -> Outcome {
        let began = (Instant::now(), processor_seconds());
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let jobs = if self.jobs == 0 {
            processors
        } else {
            self.jobs
        };
        let next = AtomicU64::new(self.seeds.start);
        // Seeds from here on need not be run any more.
        let end = AtomicU64::new(self.seeds.end);
        let outcome = Mutex::new(Outcome::default());
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= end.load(Ordering::Relaxed) {
                            return;
                        }
                        let result = self.run_seed(seed);
                        if result.is_err() && !self.go_on {
                            end.fetch_min(seed, Ordering::Relaxed);
                        }
                        let mut outcome = outcome.lock().expect("nobody panics while adding up");
                        outcome.note(result);
                    }
                });
            }
        });
        let mut outcome = outcome.into_inner().expect("the threads are gone");
        outcome.failures.sort_by_key(|failure| failure.report.seed);
        outcome.seconds = began.0.elapsed().as_secs_f64();
        outcome.processor_seconds = processor_seconds() - began.1;
        outcome.jobs = jobs;
        outcome
    }

    fn run_seed(&self, seed: u64) -> Result<Report, Box<Failure>> {
        let report = if self.visits {
            run_visiting(seed, self.profile)?
        } else {
            run(seed, self.profile)?
        };
        if self.repeat && seed.is_multiple_of(100) {
            let again = run(seed, self.profile)?;
            if (again.hash, again.events) != (report.hash, report.events) {
                return Err(Box::new(Failure {
                    report,
                    text: "the same seed was another run the second time".into(),
                    trace: Vec::new(),
                    faults: 0,
                    requests: std::collections::BTreeMap::new(),
                    at_ms: 0,
                }));
            }
        }
        Ok(report)
    }
}

impl Outcome {
    /// Everything in it, for programs.
    #[must_use]
    pub fn to_json(&self, profile: Profile) -> serde_json::Value {
        let failure = |failure: &Failure| {
            let (seed, text) = (failure.report.seed, &failure.text);
            serde_json::json!({ "seed": seed, "text": text })
        };
        serde_json::json!({
            "profile": profile.name(),
            "seeds": self.seeds,
            "failures": self.failures.iter().map(|one| failure(one)).collect::<Vec<_>>(),
            "seconds": self.seconds,
            "processor_seconds": self.processor_seconds,
            "total": self.total.to_json(),
        })
    }

    fn note(&mut self, result: Result<Report, Box<Failure>>) {
        self.seeds += 1;
        match result {
            Ok(report) => self.total.add(&report),
            Err(failure) => {
                self.total.add(&failure.report);
                self.failures.push(failure);
            }
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rate = f64::from(u32::try_from(self.total.events / 1_000).unwrap_or(u32::MAX))
            / self.processor_seconds.max(0.001);
        write!(
            f,
            "{}\n{} seeds, {} failed, {:.1} s, {} at once, {:.1} s of processor time, {rate:.0} \
             thousand events per second of it",
            self.total,
            self.seeds,
            self.failures.len(),
            self.seconds,
            self.jobs,
            self.processor_seconds,
        )
    }
}

/// What this process has used so far.
fn processor_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let time = std::time::Duration::try_from(time).unwrap_or_default();
    time.as_secs_f64()
}
