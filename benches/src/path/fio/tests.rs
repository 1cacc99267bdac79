//! What is read out of fio's answer.

use super::parse;
use crate::path::job::Kind;

const ANSWER: &str = r#"note: both iodepth >= 1 and synchronous I/O engine are selected
{
  "fio version" : "fio-3.33",
  "jobs" : [ {
    "usr_cpu" : 10.0, "sys_cpu" : 15.0,
    "read" : { "total_ios" : 0, "runtime" : 0, "lat_ns" : {} },
    "write" : { "total_ios" : 4000, "io_bytes" : 16384000, "runtime" : 2000,
      "lat_ns" : { "percentile" : { "50.000000" : 300000, "99.000000" : 900000 } } }
  } ]
}"#;

#[test]
fn rate_latency_and_client_time_come_out_in_their_units() {
    let measured = parse(ANSWER, Kind::Write).expect("a good answer");
    assert!((measured.per_second() - 2000.0).abs() < 1e-6);
    assert!((measured.latency_us - 300.0).abs() < 1e-6);
    assert!((measured.slow_us - 900.0).abs() < 1e-6);
    assert!((measured.client_us - 500_000.0).abs() < 1e-3);
}

#[test]
fn a_commit_takes_what_a_write_and_its_flush_take_together() {
    let measured = parse(ANSWER, Kind::Commit).expect("a good answer");
    assert!((measured.latency_us - 500.0).abs() < 1e-6);
}

#[test]
fn an_answer_without_requests_is_an_error() {
    let refusal = parse(ANSWER, Kind::Read);
    assert_eq!(refusal, Err("fio finished no request at all".to_owned()));
    let refusal = parse("fio: broken", Kind::Read).expect_err("not JSON");
    assert!(refusal.starts_with("fio did not print JSON"), "{refusal}");
}
