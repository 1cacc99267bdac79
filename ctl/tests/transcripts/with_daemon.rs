//! What is asked of the daemon, and what is made of its answers.

use std::io::Write;

use rbd_protocol::control::{Refusal, RefusalCode, Reply, Request};

use crate::stage::{Stage, StandIn, healthy, status_of};

#[test]
fn up_sends_the_resolved_resource() {
    let stage = Stage::new();
    let daemon = stage.daemon(|_| Reply::Done);
    let outcome = stage.run("up r1").expect_code(0);
    assert_eq!((outcome.out.as_str(), outcome.err.as_str()), ("", ""));
    let [Request::Up(config)] = &daemon.asked()[..] else {
        panic!("{:?}", daemon.asked());
    };
    assert_eq!(
        (config.name.as_str(), config.node_name.as_str()),
        ("r1", "alpha")
    );
    assert_eq!(config.volumes.len(), 2);
    assert_eq!(
        config.peers[0].net.shared_secret.as_deref(),
        Some("very-secret")
    );
}

#[test]
fn every_command_becomes_its_request() {
    let stage = Stage::new();
    let daemon = stage.daemon(|request| status_of(&[], request));
    let resource = || "r0".to_owned();
    let beta = || Some("beta".to_owned());
    let pairs = [
        (
            "down r0",
            Request::Down {
                resource: resource(),
            },
        ),
        (
            "connect r0:beta --discard-my-data",
            Request::Connect {
                resource: resource(),
                peer: beta(),
                discard_my_data: true,
                tentative: false,
            },
        ),
        (
            "connect r0",
            Request::Connect {
                resource: resource(),
                peer: None,
                discard_my_data: false,
                tentative: false,
            },
        ),
        (
            "disconnect r0",
            Request::Disconnect {
                resource: resource(),
                peer: None,
                force: false,
            },
        ),
        (
            "disconnect --force r0:beta",
            Request::Disconnect {
                resource: resource(),
                peer: beta(),
                force: true,
            },
        ),
        (
            "primary r0",
            Request::Promote {
                resource: resource(),
                force: false,
            },
        ),
        (
            "promote --force r0",
            Request::Promote {
                resource: resource(),
                force: true,
            },
        ),
        (
            "demote r0",
            Request::Demote {
                resource: resource(),
                force: false,
            },
        ),
        (
            "new-current-uuid --clear-bitmap r0/0",
            Request::NewGeneration {
                resource: resource(),
                volume: 0,
                clear_bitmap: true,
            },
        ),
    ];
    for (words, request) in pairs {
        stage.run(words).expect_code(0);
        assert_eq!(daemon.asked().last(), Some(&request), "{words}");
    }
}

#[test]
fn verbose_shows_the_step_and_takes_it() {
    let stage = Stage::new();
    let daemon = stage.daemon(|_| Reply::Done);
    let outcome = stage.run("-v primary r0").expect_code(0);
    assert_eq!(outcome.out, "rbdd primary r0 force:no\n");
    assert_eq!(daemon.asked().len(), 1);
}

#[test]
fn refusals_have_drbds_first_line_and_exit_codes() {
    let cases = [
        (
            RefusalCode::StateNoUpToDateData,
            17,
            "State change failed: (-2) Need access to UpToDate data",
        ),
        (
            RefusalCode::StateTwoPrimaries,
            11,
            "State change failed: (-1) Multiple primaries not allowed by config",
        ),
        (
            RefusalCode::StateHeldOpen,
            11,
            "State change failed: (-12) Device is held open by someone",
        ),
        (
            RefusalCode::NoMetaData,
            10,
            "Failure: (119) No valid meta-data signature found.",
        ),
        (
            RefusalCode::AlreadyConnected,
            10,
            "Failure: (125) Device has a net-config (use disconnect first)",
        ),
        (
            RefusalCode::UnknownResource,
            10,
            "Failure: (158) Unknown resource",
        ),
        (
            RefusalCode::Environment,
            20,
            "Failure: (20) The daemon could not do it",
        ),
    ];
    for (code, exit, line) in cases {
        let stage = Stage::new();
        let _daemon =
            stage.daemon(move |_| Reply::Refused(Refusal::new(code, "because", "do this")));
        let outcome = stage.run("primary r0").expect_code(exit);
        assert_eq!(outcome.err, format!("r0: {line}\n  because; do this\n"));
        assert_eq!(outcome.out, "");
    }
}

#[test]
fn the_worst_exit_code_wins_and_the_others_are_still_asked() {
    let stage = Stage::new();
    let daemon = stage.daemon(|request| match request {
        Request::Promote { resource, .. } if resource == "r0" => {
            Reply::Refused(Refusal::new(RefusalCode::StateNoUpToDateData, "", ""))
        }
        _ => Reply::DoneWithNotes(vec!["took a while".to_owned()]),
    });
    let outcome = stage.run("primary all r9").expect_code(17);
    assert_eq!(daemon.asked().len(), 2);
    let expected = "\
r0: State change failed: (-2) Need access to UpToDate data
r1: took a while
'r9' not defined in your config (for this host).
";
    assert_eq!(outcome.err, expected);
}

#[test]
fn what_runs_can_be_stopped_without_being_in_the_configuration() {
    let stage = Stage::new();
    let daemon = stage.daemon(|request| status_of(&[healthy("gone")], request));
    stage.run("down gone").expect_code(0);
    stage.run("down nonsense").expect_code(1);
    let stopped = |daemon: &StandIn| -> Vec<String> {
        let asked = daemon.asked().into_iter();
        asked
            .filter_map(|request| match request {
                Request::Down { resource } => Some(resource),
                _ => None,
            })
            .collect()
    };
    assert_eq!(stopped(&daemon), ["gone"]);
    stage.run("down all").expect_code(0);
    assert_eq!(stopped(&daemon), ["gone", "r0", "r1", "gone"]);
    stage.configure("resource {");
    stage.run("down all").expect_code(10);
    assert_eq!(stopped(&daemon).last().unwrap(), "gone");
}

#[test]
fn a_daemon_that_never_answers_is_given_up_after_the_timeout() {
    let stage = Stage::new();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let daemon = stage.peer(move |_, _| {
        // Until the test is over.
        held.recv().unwrap_or_default();
    });
    let outcome = stage.run("--timeout 1 primary r0").expect_code(20);
    assert!(outcome.err.contains("no answer within 1 s"), "{outcome:?}");
    drop(release);
    drop(daemon);
}

#[test]
fn a_peer_that_is_no_daemon_is_one_clear_line() {
    let cases: [(&'static [u8], &str); 5] = [
        (b"", "closed the conversation"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "not a control frame"),
        (
            b"rbdc\x07\0\0\0\0\0\0\0",
            "control protocol version 7, this program speaks 1",
        ),
        (
            b"rbdc\x01\0\0\0\xff\xff\xff\xff",
            "control frame of 4294967295 bytes",
        ),
        (
            b"rbdc\x01\0\0\0\x03\0\0\0\xff\xff\xff",
            "malformed control message",
        ),
    ];
    for (bytes, expected) in cases {
        let stage = Stage::new();
        let _peer = stage.peer(move |stream, _| {
            let mut request = [0; 4096];
            drop(std::io::Read::read(stream, &mut request));
            stream.write_all(bytes).unwrap();
        });
        let outcome = stage.run("status").expect_code(20);
        assert_eq!(outcome.err.lines().count(), 1, "{outcome:?}");
        assert!(outcome.err.contains(expected), "{outcome:?}");
    }
}

#[test]
fn an_answer_to_another_question_is_not_taken_for_success() {
    let stage = Stage::new();
    let _daemon = stage.daemon(|_| Reply::Status(Vec::new()));
    stage.run("primary r0").expect_code(20);
}

#[test]
fn check_prints_a_graded_line_per_finding() {
    let stage = Stage::new();
    let _daemon = stage.daemon(|request| match request {
        Request::Daemon => Reply::Daemon {
            version: "0.1.0".to_owned(),
            pid: 42,
            node: "alpha".to_owned(),
        },
        _ => Reply::Done,
    });
    let outcome = stage.run("check r0").expect_code(10);
    let grades = ["ok   ", "warn ", "FAIL "];
    for line in outcome.out.lines() {
        assert!(grades.iter().any(|grade| line.starts_with(grade)), "{line}");
    }
    assert!(
        outcome
            .out
            .contains("ok   rbdd: version 0.1.0 runs as process 42 for node alpha\n")
    );
    assert!(outcome.out.contains("FAIL r0/0 disk: "), "{outcome:?}");
    assert!(
        outcome.out.contains("rbdadm create-md r0/0\n"),
        "{outcome:?}"
    );
    assert!(
        outcome.out.contains("warn r0 connection to beta: "),
        "{outcome:?}"
    );
    stage.run("create-md r0").expect_code(0);
    let repaired = stage.run("check r0");
    assert!(
        repaired.out.contains("carries the metadata of r0/0\n"),
        "{repaired:?}"
    );
}

#[test]
fn check_notices_a_daemon_of_another_node() {
    let stage = Stage::new();
    let _daemon = stage.daemon(|_| Reply::Daemon {
        version: "0.1.0".to_owned(),
        pid: 42,
        node: "beta".to_owned(),
    });
    let outcome = stage.run("check").expect_code(10);
    assert!(
        outcome
            .out
            .contains("FAIL rbdd: the daemon there serves node beta, not alpha")
    );
}
