//! Goes through every short sequence of operations with every crash in it.
//!
//! `rbd-exhaust [--length N] [--threads N] [--enough STATES]`

use std::process::ExitCode;
use std::time::Instant;

use rbd_tests::exhaustive::{Manner, Plan, explore_pairs, retell, search};

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("--pairs") {
        return pairs();
    }
    let plan = match read(std::env::args().skip(1)) {
        Ok(plan) => plan,
        Err(text) => {
            eprintln!("rbd-exhaust: {text}");
            eprintln!("usage: rbd-exhaust [--length N] [--threads N] [--enough STATES]");
            return ExitCode::from(1);
        }
    };
    std::panic::set_hook(Box::new(|_| {})); // a panic of the engine is a finding like any other
    let began = Instant::now();
    let result = search(&plan);
    let seconds = began.elapsed().as_secs_f64();
    match result {
        Ok(tally) => {
            println!("{tally}, {seconds:.1} s");
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            for line in retell(&wrong.case) {
                println!("{line}");
            }
            println!("{:?}\n{}", wrong.case, wrong.text);
            println!("found after {}, {seconds:.1} s", wrong.tally);
            ExitCode::from(2)
        }
    }
}

fn pairs() -> ExitCode {
    std::panic::set_hook(Box::new(|_| {}));
    let count = std::env::args().nth(2).and_then(|text| text.parse().ok());
    let began = Instant::now();
    match explore_pairs(count.unwrap_or(u64::MAX)) {
        Ok(tally) => {
            println!("{tally:?}, {:.1} s", began.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            for line in &wrong.story {
                println!("{line}");
            }
            println!(
                "{:?}\n{}\nfound after {:?}",
                wrong.moves, wrong.text, wrong.tally
            );
            ExitCode::from(2)
        }
    }
}

fn read(mut arguments: impl Iterator<Item = String>) -> Result<Plan, String> {
    let mut plan = Plan {
        length: 4,
        manners: Manner::all(),
        threads: 2,
        enough: usize::MAX,
    };
    while let Some(option) = arguments.next() {
        let value = arguments.next().ok_or(format!("{option} needs a number"))?;
        let number: usize = value
            .parse()
            .map_err(|_| format!("{value:?} is not a number"))?;
        match &*option {
            "--length" => plan.length = number,
            "--threads" => plan.threads = number,
            "--enough" => plan.enough = number,
            "--manner" => plan.manners = vec![Manner::all()[number % Manner::all().len()]],
            other => return Err(format!("unknown option {other:?}")),
        }
    }
    Ok(plan)
}
