//! `status`, `role`, `cstate`, `dstate`: once and again and again.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};

use rbd_protocol::control::{Refusal, RefusalCode, Reply, Request};
use rbd_protocol::state::{ConnectionState, DiskState, Role};

use crate::stage::{Running, Stage, healthy, outcome, status_of};

#[test]
fn status_shows_what_is_up_even_with_a_broken_configuration() {
    let stage = Stage::new();
    stage.configure("resource {");
    let _daemon = stage.daemon(|request| status_of(&[healthy("r0")], request));
    let expected = "\
r0 role:Secondary
  disk:UpToDate open:no
  beta role:Primary
    peer-disk:UpToDate

";
    for words in [
        "status",
        "status r0",
        "status all",
        "status --color=never r0",
    ] {
        let outcome = stage.run(words).expect_code(0);
        assert_eq!(
            (outcome.out.as_str(), outcome.err.as_str()),
            (expected, ""),
            "{words}"
        );
    }
}

#[test]
fn status_of_nothing_says_so_and_what_could_be_up() {
    let stage = Stage::new();
    let _daemon = stage.daemon(|request| status_of(&[], request));
    let outcome = stage.run("status").expect_code(0);
    assert_eq!(
        outcome.out,
        "# No currently configured rbd resources found.\n"
    );
    let expected = "\
# r0 is defined but not up; next: rbdadm up r0
# r1 is defined but not up; next: rbdadm up r1
";
    assert_eq!(outcome.err, expected);
}

#[test]
fn status_of_a_resource_that_is_not_up_exits_with_10() {
    let stage = Stage::new();
    let _daemon = stage.daemon(|request| status_of(&[healthy("r1")], request));
    let outcome = stage.run("status r7 r0 r1").expect_code(10);
    assert!(
        outcome.out.starts_with("r1 role:Secondary\n"),
        "{outcome:?}"
    );
    let expected = "\
r7: No such resource
r0: No such resource
# r0 is defined but not up; next: rbdadm up r0
";
    assert_eq!(outcome.err, expected);
}

#[test]
fn status_as_json_can_be_parsed() {
    let stage = Stage::new();
    let _daemon = stage.daemon(|request| status_of(&[healthy("r0"), healthy("r1")], request));
    let outcome = stage.run("status --json").expect_code(0);
    let value: serde_json::Value = serde_json::from_str(&outcome.out).unwrap();
    assert_eq!(value["schema_version"], 1);
    assert_eq!(value["resources"][1]["name"], "r1");
    let outcome = stage.run("status --json r7").expect_code(10);
    let value: serde_json::Value = serde_json::from_str(&outcome.out).unwrap();
    assert_eq!(value["resources"], serde_json::json!([]));
}

#[test]
fn explain_answers_in_paragraphs_and_exits_with_0_even_for_a_sick_resource() {
    let stage = Stage::new();
    let mut sick = healthy("r0");
    sick.connections[0].connection_state = ConnectionState::Timeout;
    let up = [sick, healthy("r1")];
    let _daemon = stage.daemon(move |request| status_of(&up, request));
    let outcome = stage.run("explain r0").expect_code(0);
    let paragraphs: Vec<&str> = outcome.out.split_terminator("\n\n").collect();
    assert_eq!(paragraphs.len(), 2, "{outcome:?}");
    assert!(paragraphs[1].starts_with("The connection to beta is Timeout"));
    assert!(outcome.out.lines().all(|line| line.len() <= 80));
    let outcome = stage.run("explain r1").expect_code(0);
    assert!(
        outcome
            .out
            .replace('\n', " ")
            .contains("Nothing needs to be done.")
    );
    let outcome = stage.run("explain r7").expect_code(10);
    assert_eq!(outcome.err, "r7: No such resource\n");
}

#[test]
fn role_cstate_and_dstate_print_drbd_9s_words() {
    let stage = Stage::new();
    let mut two = healthy("r0");
    let mut second = two.devices[0].clone();
    second.volume.0 = 1;
    second.disk_state = DiskState::Inconsistent;
    two.devices.push(second);
    let connection = &mut two.connections[0];
    let mut on_peer = connection.peer_devices[0].clone();
    on_peer.volume.0 = 1;
    connection.peer_devices.push(on_peer);
    let mut gamma = connection.clone();
    gamma.name = "gamma".to_owned();
    gamma.connection_state = ConnectionState::Connecting;
    gamma.peer_role = Role::Unknown;
    for device in &mut gamma.peer_devices {
        device.peer_disk_state = DiskState::DUnknown;
    }
    two.connections.push(gamma);
    let _daemon = stage.daemon(move |request| status_of(&[two.clone()], request));
    let answers = [
        ("role r0", "Secondary\n"),
        ("role r0:beta", "Primary\n"),
        ("cstate r0", "Connected\nConnecting\n"),
        ("cstate r0:gamma", "Connecting\n"),
        (
            "dstate r0",
            "UpToDate/UpToDate/DUnknown\nInconsistent/UpToDate/DUnknown\n",
        ),
        ("dstate r0/1", "Inconsistent/UpToDate/DUnknown\n"),
        ("dstate r0:beta/0", "UpToDate/UpToDate\n"),
        (
            "dstate all",
            "UpToDate/UpToDate/DUnknown\nInconsistent/UpToDate/DUnknown\n",
        ),
    ];
    for (words, expected) in answers {
        assert_eq!(stage.run(words).expect_code(0).out, expected, "{words}");
    }
    let unknown = stage.run("role r7").expect_code(10);
    assert_eq!(
        unknown.err,
        "r7: Unknown resource\n  it is not up on this node; rbdadm status lists what is\n"
    );
    stage.run("cstate r0:delta").expect_code(1);
    stage.run("dstate r0/9").expect_code(1);
}

#[test]
fn a_reader_that_goes_away_is_no_trouble() {
    let stage = Stage::new();
    let _daemon = stage.daemon(|request| status_of(&[healthy("r0")], request));
    for words in ["status", "status --json", "status --watch", "dump"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = stage.command(words);
        let outcome = outcome(
            command
                .stdout(writer)
                .stderr(Stdio::piped())
                .output()
                .unwrap(),
        );
        assert_eq!((outcome.code, outcome.err.as_str()), (0, ""), "{words}");
    }
}

#[test]
fn watching_prints_a_block_for_each_change_and_none_for_passing_time() {
    let stage = Stage::new();
    let looks = AtomicUsize::new(0);
    let _daemon = stage.daemon(move |_| {
        let look = looks.fetch_add(1, Ordering::SeqCst);
        let mut status = healthy("r0");
        status.connections[0].since_ms = 1000 * u64::try_from(look).unwrap();
        if look < 3 {
            status.connections[0].connection_state = ConnectionState::Connecting;
        }
        Reply::Status(vec![status])
    });
    let (_running, output) = Running::start(&mut stage.command("status --watch=0.1"));
    let mut lines = BufReader::new(output).lines();
    let mut block = || -> Vec<String> {
        let lines = lines.by_ref().map(Result::unwrap);
        lines.take_while(|line| !line.is_empty()).collect()
    };
    let first = block();
    assert_eq!(first[2], "  beta connection:Connecting");
    assert!(
        first
            .iter()
            .any(|line| line.starts_with("  # beta Connecting for ")),
        "{first:?}"
    );
    let second = block();
    assert_eq!(second[2], "  beta role:Primary");
}

#[test]
fn watching_goes_on_when_the_daemon_is_restarted() {
    let stage = Stage::new();
    let daemon = stage.daemon(|request| status_of(&[healthy("r0")], request));
    let (_running, output) = Running::start(&mut stage.command("status --json --watch=0.1"));
    let mut lines = BufReader::new(output).lines();
    let mut line = || -> serde_json::Value {
        let line = lines.next().unwrap().unwrap();
        serde_json::from_str(&line).unwrap()
    };
    assert_eq!(line()["resources"][0]["name"], "r0");
    drop(daemon);
    let lost = line();
    assert!(lost["error"].is_string(), "{lost}");
    let _daemon = stage.daemon(|request| status_of(&[healthy("r0")], request));
    let mut next = line();
    // The connection that stopped the stand-in may have cost one more error of another text.
    while next["error"].is_string() {
        next = line();
    }
    assert_eq!(next["resources"][0]["name"], "r0");
}

/// r0 is healthy, r1 does not answer.
fn one_is_silent(request: &Request) -> Reply {
    let reason = "r1 did not answer within 5 s";
    let refusal = Refusal::new(RefusalCode::StateTimeout, reason, "");
    match request {
        Request::Status { resource: None } => Reply::StatusOfSome {
            answered: vec![healthy("r0")],
            silent: vec![("r1".to_owned(), refusal)],
        },
        Request::Status {
            resource: Some(name),
        } if name == "r1" => Reply::Refused(refusal),
        Request::Status { .. } => Reply::Status(vec![healthy("r0")]),
        _ => Reply::Done,
    }
}

#[test]
fn a_resource_that_does_not_answer_hides_no_others_and_is_complained_of() {
    let stage = Stage::new();
    let well = {
        let _daemon = stage.daemon(|_| Reply::Status(vec![healthy("r0")]));
        ["status", "status --json", "role all", "sh-status"].map(|words| stage.run(words).out)
    };
    let _daemon = stage.daemon(one_is_silent);
    let spellings = [
        ["status", "status --json", "role all", "sh-status"],
        [
            "status r0 r1",
            "status r0 r1 --json",
            "role r0 r1",
            "sh-status r0 r1",
        ],
    ];
    for words in spellings {
        for (words, well) in words.iter().zip(&well) {
            let outcome = stage.run(words).expect_code(11);
            assert_eq!(outcome.out, *well, "{words}");
            assert_eq!(
                outcome.err.matches("r1 did not answer").count(),
                1,
                "{outcome:?}"
            );
        }
    }
    let outcome = stage.run("explain all").expect_code(11);
    assert!(outcome.out.contains("r0"), "{outcome:?}");
    for words in ["status r1", "status r1 --json", "role r1", "sh-status r1"] {
        let outcome = stage.run(words).expect_code(11);
        assert_eq!(outcome.out, "", "{words}");
        assert!(outcome.err.contains("r1 did not answer"), "{outcome:?}");
    }
}

#[test]
fn a_resource_that_does_not_answer_can_be_brought_down() {
    let stage = Stage::new();
    let daemon = stage.daemon(one_is_silent);
    stage.run("down r1").expect_code(0);
    let resource = "r1".to_owned();
    assert_eq!(daemon.asked().last(), Some(&Request::Down { resource }));
}
