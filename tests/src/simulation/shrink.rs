//! Makes a failing run smaller: leaves out clients, faults and requests as long as it still fails
//! in the same way.

use std::collections::BTreeSet;

use super::profile::Profile;
use super::report::Failure;
use super::verdict::run_without;
use super::without::Without;

/// A failing run with as little in it as was found.
#[derive(Debug)]
pub struct Shrunk {
    /// What is left out.
    pub without: Without,
    /// How it fails then.
    pub failure: Box<Failure>,
    /// How many runs it took to find.
    pub runs: u64,
}

/// Shrinks a seed; `None` if it does not fail.
#[must_use]
pub fn shrink(seed: u64, profile: Profile, without: &Without, most_runs: u64) -> Option<Shrunk> {
    let failure = run_without(seed, profile, without, false).0.err()?;
    let mut search = Search {
        seed,
        profile,
        kind: kind_of(&failure),
        best: without.clone(),
        failure,
        runs: 1,
        most_runs,
    };
    // What the first round could not leave out, it perhaps can when other things are gone.
    for _ in 0..2 {
        let before = search.best.clone();
        search.end_earlier();
        search.drop_some(clients, |without, gone| without.clients.extend(gone));
        search.drop_some(faults, |without, gone| without.faults.extend(gone));
        search.drop_some(requests, |without, gone| without.requests.extend(gone));
        if search.best == before {
            break;
        }
    }
    Some(Shrunk {
        without: search.best,
        failure: search.failure,
        runs: search.runs,
    })
}

struct Search {
    seed: u64,
    profile: Profile,
    kind: String,
    best: Without,
    failure: Box<Failure>,
    runs: u64,
    most_runs: u64,
}

impl Search {
    /// Whether it still fails in the same way; then that is the best so far.
    fn attempt(&mut self, without: Without) -> bool {
        if self.runs >= self.most_runs {
            return false;
        }
        self.runs += 1;
        match run_without(self.seed, self.profile, &without, false).0 {
            Err(failure) if kind_of(&failure) == self.kind => {
                self.best = without;
                self.failure = failure;
                true
            }
            Ok(_) | Err(_) => false,
        }
    }

    /// The faults end earlier, by half and half again.
    fn end_earlier(&mut self) {
        let mut low = 0;
        let mut high = self.best.after_ms.unwrap_or(self.failure.at_ms);
        while high > low + high / 16 + 1 {
            let middle = low.midpoint(high);
            let mut without = self.best.clone();
            without.after_ms = Some(middle);
            if self.attempt(without) {
                high = middle;
            } else {
                low = middle;
            }
        }
    }

    /// Leaves out as many of these as possible: large pieces first, then smaller ones.
    fn drop_some<T: Ord + Copy>(
        &mut self,
        all: impl Fn(&Failure, &Without) -> BTreeSet<T>,
        leave_out: impl Fn(&mut Without, &[T]),
    ) {
        let mut left: Vec<T> = all(&self.failure, &self.best).into_iter().collect();
        let mut piece = left.len();
        while piece > 0 && self.runs < self.most_runs {
            let mut at = 0;
            while at < left.len() {
                let end = (at + piece).min(left.len());
                let mut without = self.best.clone();
                leave_out(&mut without, &left[at..end]);
                if self.attempt(without) {
                    left.drain(at..end);
                } else {
                    at = end;
                }
            }
            piece /= 2;
        }
    }
}

/// What went wrong, without when and where.
fn kind_of(failure: &Failure) -> String {
    let text = failure.text.split_once(": ").map_or("", |(_, text)| text);
    let letters = text.chars().filter(|letter| !letter.is_ascii_digit());
    letters.take(24).collect()
}

fn clients(failure: &Failure, without: &Without) -> BTreeSet<u64> {
    let all = failure.requests.keys().copied();
    all.filter(|client| !without.client(*client)).collect()
}

fn faults(failure: &Failure, without: &Without) -> BTreeSet<u64> {
    (1..=failure.faults)
        .filter(|fault| !without.fault(*fault))
        .collect()
}

fn requests(failure: &Failure, without: &Without) -> BTreeSet<(u64, u64)> {
    failure
        .requests
        .iter()
        .filter(|(client, _)| !without.client(**client))
        .flat_map(|(client, steps)| (1..=*steps).map(|step| (*client, step)))
        .filter(|(client, step)| !without.request(*client, *step))
        .collect()
}
