//! What a benchmark has found: medians of ratios, and whether targets are met. Nothing depends
//! on it.

use crate::statistics::Spread;

/// One question and the answers of all rounds.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    words: String,
    answers: Vec<f64>,
    digits: usize,
    target: Option<Target>,
    /// Why there is no answer.
    error: Option<String>,
}

/// What is wanted of the median.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    /// No less.
    AtLeast(f64),
    /// No more.
    AtMost(f64),
}

impl Finding {
    /// Something that has a target.
    pub(crate) fn judged(words: impl Into<String>, target: Target) -> Self {
        Self {
            target: Some(target),
            ..Self::told(words, 2)
        }
    }

    /// Something that is only told, with so many digits after the point.
    pub(crate) fn told(words: impl Into<String>, digits: usize) -> Self {
        Self {
            words: words.into(),
            answers: Vec::new(),
            digits,
            target: None,
            error: None,
        }
    }

    /// A part that could not be measured.
    pub(crate) fn failed(part: &str, error: String) -> Self {
        Self {
            error: Some(error),
            ..Self::told(format!("{part}: not measured"), 0)
        }
    }

    /// One round's answer.
    pub(crate) fn add(&mut self, answer: f64) {
        self.answers.push(answer);
    }

    /// Its line of a table.
    fn row(&self) -> String {
        let digits = self.digits;
        let Some(spread) = Spread::of(self.answers.iter().copied()) else {
            let why = self.error.as_deref().unwrap_or("no answer");
            return format!("| {} | – | | {why} |\n", self.words);
        };
        let (target, verdict) = match self.target {
            None => (String::new(), ""),
            Some(Target::AtLeast(least)) => (format!("≥ {least}"), met(spread.median >= least)),
            Some(Target::AtMost(most)) => (format!("≤ {most}"), met(spread.median <= most)),
        };
        format!(
            "| {} | {:.digits$} ({:.digits$}–{:.digits$}) | {target} | {verdict} |\n",
            self.words, spread.median, spread.least, spread.most
        )
    }
}

fn met(is_met: bool) -> &'static str {
    if is_met { "met" } else { "**not met**" }
}

/// A table of them, for people.
pub(crate) fn table(findings: &[Finding]) -> String {
    let mut text = String::from("| what | median (min–max) | target | |\n|---|---:|---:|---|\n");
    for finding in findings {
        text.push_str(&finding.row());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Finding, Target};

    #[test]
    fn the_median_decides_whether_a_target_is_met() {
        let mut finding = Finding::judged("speed", Target::AtLeast(0.9));
        for answer in [0.5, 0.95, 0.99] {
            finding.add(answer);
        }
        assert_eq!(
            finding.row(),
            "| speed | 0.95 (0.50–0.99) | ≥ 0.9 | met |\n"
        );
        let mut finding = Finding::judged("wait", Target::AtMost(1.5));
        finding.add(1.6);
        assert_eq!(
            finding.row(),
            "| wait | 1.60 (1.60–1.60) | ≤ 1.5 | **not met** |\n"
        );
    }

    #[test]
    fn what_could_not_be_measured_says_why() {
        let finding = Finding::failed("huge", "no room".to_owned());
        assert_eq!(finding.row(), "| huge: not measured | – | | no room |\n");
    }
}
