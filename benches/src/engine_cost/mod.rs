//! What the engine alone costs: nanoseconds, and instructions where valgrind can count them, per
//! replicated write of 4 KiB.
//!
//! A write is the events from the client's request to its completion: for the Primary request,
//! disk completion and acknowledgement, for the Secondary packet and disk completion; timers and
//! flushes as they fall due. No bytes are moved, and the whole volume is already marked in the
//! write-intent log. The baseline drives the same workload with nothing in the engine's place.

mod instructions;
mod pair;
#[cfg(test)]
mod tests;
mod workload;

use std::time::Instant;

use crate::options::Options;
use crate::statistics::Spread;
use pair::Pair;
use workload::{Handler, Nothing, Side, Workload};

/// Measures and prints a table.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    if arguments.iter().any(|word| word == "--help") {
        print!("{USAGE}");
        return Ok(());
    }
    let mut options = Options::new(arguments);
    let rounds = options.number("--rounds", 9, 1)?;
    let writes = options.number("--writes", 200_000, 1)?;
    let count_instructions = options.flag("--instructions");
    let names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
    let chosen = options.choice("--only", &names)?;
    options.end()?;

    let mut runs = Vec::new();
    for case in CASES.iter().filter(|case| chosen.contains(&case.name)) {
        runs.push(Run::new(case)?);
    }
    for round in 0..rounds {
        // Interleaved and turned round, so that a disturbance hits every case alike.
        let order: &mut dyn Iterator<Item = &mut Run> = if round % 2 == 0 {
            &mut runs.iter_mut()
        } else {
            &mut runs.iter_mut().rev()
        };
        for run in order {
            run.measure(writes);
        }
    }
    println!(
        "Engine alone, one replicated write of 4 KiB: {rounds} rounds of {writes} writes, \
         interleaved.\n"
    );
    println!("| case | outstanding | ns/write: median | min | max | instructions/write |");
    println!("|---|---:|---:|---:|---:|---:|");
    for run in &runs {
        let Some(spread) = Spread::of(run.ns_per_write.iter().copied()) else {
            continue;
        };
        let instructions = if count_instructions {
            instructions::per_write(run.case.name)?.to_string()
        } else {
            "–".to_owned()
        };
        println!(
            "| {} | {} | {:.0} | {:.0} | {:.0} | {instructions} |",
            run.case.words, run.case.depth, spread.median, spread.least, spread.most
        );
    }
    Ok(())
}

/// One line of the table.
#[derive(Debug)]
struct Case {
    name: &'static str,
    words: &'static str,
    side: Side,
    depth: usize,
    is_baseline: bool,
    /// The other node is Primary too, and idle.
    are_two: bool,
}

/// A case with its engine, set up and warm.
struct Run {
    case: &'static Case,
    handler: Box<dyn Drive>,
    ns_per_write: Vec<f64>,
}

/// A workload together with what it drives, of whatever type.
trait Drive {
    fn drive(&mut self, writes: u64);
}

struct Driven<H> {
    handler: H,
    workload: Workload,
}

impl<H: Handler> Drive for Driven<H> {
    fn drive(&mut self, writes: u64) {
        self.workload.run(&mut self.handler, writes);
    }
}

impl Run {
    fn new(case: &'static Case) -> Result<Self, String> {
        let ([primary, secondary], link) = Pair::at_work(case.are_two)?;
        let mut workload = Workload::new(case.side, case.depth, link);
        let handler: Box<dyn Drive> = if case.is_baseline {
            let handler = Nothing;
            Box::new(Driven { handler, workload })
        } else {
            let mut handler = match case.side {
                Side::Primary => primary,
                Side::Secondary => secondary,
            };
            workload.warm(&mut handler)?;
            Box::new(Driven { handler, workload })
        };
        Ok(Self {
            case,
            handler,
            ns_per_write: Vec::new(),
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "a quotient for people")]
    fn measure(&mut self, writes: u64) {
        let start = Instant::now();
        self.handler.drive(writes);
        let taken = start.elapsed().as_nanos();
        self.ns_per_write.push(taken as f64 / writes as f64);
    }
}

const CASES: &[Case] = &[
    Case {
        name: "baseline-1",
        words: "baseline: no engine",
        side: Side::Primary,
        depth: 1,
        is_baseline: true,
        are_two: false,
    },
    Case {
        name: "baseline-32",
        words: "baseline: no engine",
        side: Side::Primary,
        depth: 32,
        is_baseline: true,
        are_two: false,
    },
    Case {
        name: "primary-1",
        words: "Primary",
        side: Side::Primary,
        depth: 1,
        is_baseline: false,
        are_two: false,
    },
    Case {
        name: "primary-32",
        words: "Primary",
        side: Side::Primary,
        depth: 32,
        is_baseline: false,
        are_two: false,
    },
    Case {
        name: "primary-two-1",
        words: "one of two Primaries",
        side: Side::Primary,
        depth: 1,
        is_baseline: false,
        are_two: true,
    },
    Case {
        name: "primary-two-32",
        words: "one of two Primaries",
        side: Side::Primary,
        depth: 32,
        is_baseline: false,
        are_two: true,
    },
    Case {
        name: "secondary-1",
        words: "Secondary",
        side: Side::Secondary,
        depth: 1,
        is_baseline: false,
        are_two: false,
    },
    Case {
        name: "secondary-32",
        words: "Secondary",
        side: Side::Secondary,
        depth: 32,
        is_baseline: false,
        are_two: false,
    },
    Case {
        name: "secondary-two-1",
        words: "the other of two Primaries",
        side: Side::Secondary,
        depth: 1,
        is_baseline: false,
        are_two: true,
    },
    Case {
        name: "secondary-two-32",
        words: "the other of two Primaries",
        side: Side::Secondary,
        depth: 32,
        is_baseline: false,
        are_two: true,
    },
];

const USAGE: &str = "\
usage: rbd-bench engine [OPTIONS]

  --rounds N       how often each case is measured (9)
  --writes N       writes per measurement (200000)
  --only A,B       only these cases: baseline-1, baseline-32, primary-1, primary-32,
                   secondary-1, secondary-32, and with two Primaries primary-two-1,
                   primary-two-32, secondary-two-1, secondary-two-32
  --instructions   count instructions too; needs valgrind and takes about a minute
";
