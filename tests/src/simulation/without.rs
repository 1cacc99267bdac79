//! What is left out of a run, so that a failure can be shown with less around it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Faults, clients and requests that do not happen, by number, and an earlier end.
///
/// Written as a list: `3` or `20..40` for faults, counted from 1; `c2` for a client, counted from
/// 0; `r2:5..9` for requests of client 2, counted from 1; `ms1500` for an end of the faults after
/// so many virtual milliseconds. A range does not contain its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Without {
    pub(super) faults: BTreeSet<u64>,
    pub(super) clients: BTreeSet<u64>,
    pub(super) requests: BTreeSet<(u64, u64)>,
    pub(super) after_ms: Option<u64>,
}

impl Without {
    pub(super) fn fault(&self, number: u64) -> bool {
        self.faults.contains(&number)
    }

    pub(super) fn client(&self, client: u64) -> bool {
        self.clients.contains(&client)
    }

    pub(super) fn request(&self, client: u64, step: u64) -> bool {
        self.requests.contains(&(client, step))
    }
}

impl FromStr for Without {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut without = Self::default();
        for item in text.split(',').filter(|item| !item.is_empty()) {
            let wrong = || format!("{item:?} is nothing that can be left out");
            if let Some(rest) = item.strip_prefix("ms") {
                without.after_ms = Some(rest.parse().map_err(|_| wrong())?);
            } else if let Some(rest) = item.strip_prefix('c') {
                without.clients.extend(numbers(rest).ok_or_else(wrong)?);
            } else if let Some(rest) = item.strip_prefix('r') {
                let (client, steps) = rest.split_once(':').ok_or_else(wrong)?;
                let client = client.parse().map_err(|_| wrong())?;
                let steps = numbers(steps).ok_or_else(wrong)?;
                without.requests.extend(steps.map(|step| (client, step)));
            } else {
                without.faults.extend(numbers(item).ok_or_else(wrong)?);
            }
        }
        Ok(without)
    }
}

fn numbers(text: &str) -> Option<std::ops::Range<u64>> {
    let Some((from, to)) = text.split_once("..") else {
        let one: u64 = text.parse().ok()?;
        return Some(one..one.checked_add(1)?);
    };
    let range: std::ops::Range<u64> = from.parse().ok()?..to.parse().ok()?;
    (range.end - range.start.min(range.end) < 1_000_000).then_some(range)
}

impl fmt::Display for Without {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut items: Vec<String> = self.after_ms.iter().map(|ms| format!("ms{ms}")).collect();
        items.extend(runs(self.faults.iter().copied()));
        items.extend(runs(self.clients.iter().copied()).map(|run| format!("c{run}")));
        let of: BTreeSet<u64> = self.requests.iter().map(|(client, _)| *client).collect();
        for client in of {
            let steps = self.requests.range((client, 0)..(client + 1, 0));
            let steps = runs(steps.map(|(_, step)| *step));
            items.extend(steps.map(|run| format!("r{client}:{run}")));
        }
        f.write_str(&items.join(","))
    }
}

/// Ascending numbers as runs.
fn runs(numbers: impl Iterator<Item = u64>) -> impl Iterator<Item = String> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, end)) if *end == number => *end += 1,
            _ => runs.push((number, number + 1)),
        }
    }
    runs.into_iter().map(|(from, to)| {
        if to == from + 1 {
            from.to_string()
        } else {
            format!("{from}..{to}")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_read_as_it_is_written() {
        for text in ["", "3", "ms70,1,3..6,c0,c2..4,r1:5..9,r1:12,r7:1"] {
            let without: Without = text.parse().unwrap();
            assert_eq!(without.to_string(), text);
        }
        assert!("x".parse::<Without>().is_err());
        assert!("r5".parse::<Without>().is_err());
    }

    #[test]
    fn a_range_does_not_contain_its_end() {
        let without: Without = "3..5,r1:2..3".parse().unwrap();
        assert!(without.fault(3) && without.fault(4) && !without.fault(5));
        assert!(without.request(1, 2) && !without.request(1, 3) && !without.request(2, 2));
    }
}
