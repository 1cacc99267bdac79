//! The report for programs: every measurement, the medians and the ratios.

use serde_json::{Value, json};

use super::job::Job;
use super::report::{COMPARED, PAIRS, Setting, ratio, spread};
use super::sample::Sample;
use crate::statistics::Spread;

/// The whole document.
pub(super) fn document(
    setting: &Setting,
    jobs: &[&Job],
    targets: &[&'static str],
    samples: &[Sample],
) -> String {
    let mut medians = Vec::new();
    let mut ratios = Vec::new();
    for job in jobs {
        for target in targets {
            let mut row = json!({ "job": job.name, "target": target });
            for figure in COMPARED {
                row[figure.name] = of_spread(spread(samples, job, target, figure.of));
            }
            medians.push(row);
        }
        for (one, other) in PAIRS {
            if targets.contains(one) && targets.contains(other) {
                let mut row = json!({ "job": job.name, "of": [one, other] });
                for figure in COMPARED {
                    row[figure.name] = of_spread(ratio(samples, job, one, other, figure.of));
                }
                ratios.push(row);
            }
        }
    }
    let document = json!({
        "schema_version": 1,
        "setting": {
            "rounds": setting.rounds,
            "seconds": setting.seconds,
            "bytes": setting.bytes,
            "versions": setting.versions,
            "warnings": setting.warnings,
            "network": setting.network,
            "file_system": setting.file_system,
            "replicas": setting.replicas,
        },
        "medians": medians,
        "ratios": ratios,
        "samples": samples.iter().map(of_sample).collect::<Vec<Value>>(),
    });
    format!("{document:#}\n")
}

fn of_spread(spread: Option<Spread>) -> Value {
    spread.map_or(
        Value::Null,
        |spread| json!({ "median": spread.median, "min": spread.least, "max": spread.most }),
    )
}

fn of_sample(sample: &Sample) -> Value {
    let figures = &sample.figures;
    json!({
        "target": sample.target,
        "job": sample.job,
        "round": sample.round,
        "iops": figures.measured.per_second(),
        "bytes_per_second": figures.measured.bytes / figures.measured.taken_us * 1e6,
        "latency_us": figures.measured.latency_us,
        "p99_us": figures.measured.slow_us,
        "daemon_us": figures.daemon_us,
        "client_us": figures.client_us(),
        "foreign_cores": figures.foreign_cores,
    })
}
