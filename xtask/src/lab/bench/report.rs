//! What the measurements say: medians, and ratios of figures of the same round.
//!
//! It judges nothing, and knows nothing of how was measured.

use std::fmt::Write;

/// One measurement.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) round: u32,
    pub(super) job: String,
    pub(super) target: String,
    /// Operations, and the seconds they took.
    operations: f64,
    seconds: f64,
    /// Median and 99th percentile of the latency, µs.
    median: f64,
    slow: f64,
    /// Processor time an operation, µs: of both machines as they count it, and of their emulators.
    guests: f64,
    emulators: f64,
    /// How many cores of the host others kept busy.
    others: f64,
}

impl Sample {
    fn rate(&self) -> f64 {
        self.operations / self.seconds
    }
}

/// The measurements that count: the first round is there to have been everywhere once.
pub(super) fn read(text: &str) -> Result<Vec<Sample>, String> {
    let samples: Option<Vec<Sample>> = text.lines().map(sample).collect();
    let samples = samples.ok_or("a measurement cannot be read")?;
    Ok(samples.into_iter().filter(|one| one.round > 0).collect())
}

fn sample(line: &str) -> Option<Sample> {
    let words: Vec<&str> = line.split(' ').collect();
    let [round, job, target, numbers @ ..] = words.as_slice() else {
        return None;
    };
    let numbers: Result<Vec<f64>, _> = numbers.iter().map(|number| number.parse()).collect();
    let [
        operations,
        seconds,
        median,
        slow,
        alice,
        bob,
        emulator,
        second,
        others,
    ] = *numbers.ok()?.as_slice()
    else {
        return None;
    };
    Some(Sample {
        round: round.parse().ok()?,
        job: (*job).to_owned(),
        target: (*target).to_owned(),
        operations,
        seconds,
        median,
        slow,
        guests: alice + bob,
        emulators: emulator + second,
        others,
    })
}

/// Both tables.
pub(super) fn markdown(samples: &[Sample]) -> String {
    let mut text = String::from(
        "| job | target | writes a second (min–max) | p50 µs | p99 µs | guests' CPU µs/op | \
         emulators' CPU µs/op |\n|---|---|---:|---:|---:|---:|---:|\n",
    );
    for job in JOBS {
        for target in TARGETS {
            row(&mut text, samples, job, target);
        }
    }
    text.push_str(
        "\nrbd against the others within a round, median (min–max):\n\n\
         | job | beside | writes a second | p50 latency | guests' CPU | emulators' CPU |\n\
         |---|---|---:|---:|---:|---:|\n",
    );
    for job in JOBS {
        for other in TARGETS.iter().filter(|target| **target != "rbd") {
            comparison(&mut text, samples, job, other);
        }
    }
    if let Some((least, median, most)) = spread(samples.iter().map(|one| one.others).collect()) {
        add(
            &mut text,
            format_args!(
                "\nOther programs kept {median:.1} ({least:.1}–{most:.1}) of the host's cores \
                 busy.\n"
            ),
        );
    }
    text
}

fn row(text: &mut String, samples: &[Sample], job: &str, target: &str) {
    let spread = |of: fn(&Sample) -> f64| {
        let wanted = |one: &&Sample| one.job == job && one.target == target;
        spread(samples.iter().filter(wanted).map(of).collect())
    };
    let Some((least, rate, most)) = spread(Sample::rate) else {
        return;
    };
    add(
        text,
        format_args!("| {job} | {target} | {rate:.0} ({least:.0}–{most:.0}) "),
    );
    let columns: [fn(&Sample) -> f64; 4] = [
        |one| one.median,
        |one| one.slow,
        |one| one.guests,
        |one| one.emulators,
    ];
    for of in columns {
        let median = spread(of).map_or(f64::NAN, |(_, median, _)| median);
        add(text, format_args!("| {median:.0} "));
    }
    text.push_str("|\n");
}

fn comparison(text: &mut String, samples: &[Sample], job: &str, other: &str) {
    let columns: [fn(&Sample) -> f64; 4] = [
        Sample::rate,
        |one| one.median,
        |one| one.guests,
        |one| one.emulators,
    ];
    let figures: Vec<_> = columns
        .into_iter()
        .filter_map(|of| ratio(samples, job, other, of))
        .collect();
    if figures.is_empty() {
        return;
    }
    add(text, format_args!("| {job} | {other} |"));
    for (least, median, most) in figures {
        add(text, format_args!(" {median:.2} ({least:.2}–{most:.2}) |"));
    }
    text.push('\n');
}

/// Our figure divided by the other's of the same round: least, median, most.
pub(super) fn ratio(
    samples: &[Sample],
    job: &str,
    other: &str,
    of: fn(&Sample) -> f64,
) -> Option<(f64, f64, f64)> {
    let ours = samples
        .iter()
        .filter(|one| one.job == job && one.target == "rbd");
    let ratios = ours.filter_map(|own| {
        let same = |one: &&Sample| one.round == own.round && one.job == job && one.target == other;
        samples.iter().find(same).map(|theirs| of(own) / of(theirs))
    });
    spread(ratios.collect())
}

/// Least, median (half-way between the two middle ones of an even number) and most.
fn spread(mut values: Vec<f64>) -> Option<(f64, f64, f64)> {
    values.sort_by(f64::total_cmp);
    let (least, most) = (*values.first()?, *values.last()?);
    let upper = values.get(values.len() / 2)?;
    let lower = values.get((values.len() - 1) / 2)?;
    Some((least, f64::midpoint(*lower, *upper), most))
}

fn add(text: &mut String, words: std::fmt::Arguments<'_>) {
    text.write_fmt(words)
        .expect("a string takes whatever is written to it");
}

/// One and 32 random writes at a time.
pub(super) const JOBS: [&str; 2] = ["w1", "w32"];

/// What can be measured; the second is another build of ours.
pub(super) const TARGETS: [&str; 8] = [
    "raw",
    "rbd-other",
    "rbd",
    "drbd",
    "drbd-tuned",
    "md",
    "md-bitmap",
    "md-sync",
];
