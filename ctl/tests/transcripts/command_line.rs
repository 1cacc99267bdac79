//! What needs no daemon: usage, targets, queries, dry runs, exit codes.

use crate::stage::{Stage, is_blank, outcome};

#[test]
fn usage_errors_exit_with_1_and_go_to_standard_error() {
    let stage = Stage::new();
    for words in [
        "",
        "bogus",
        "up",
        "up --bogus r0",
        "status --watch=soon",
        "--timeout 0 up r0",
    ] {
        let outcome = stage.run(words).expect_code(1);
        assert_eq!(outcome.out, "", "{words}");
        assert!(!outcome.err.is_empty(), "{words}");
    }
}

#[test]
fn commands_still_to_come_say_so() {
    let stage = Stage::new();
    for verb in [
        "apply-al",
        "disk-options",
        "net-options",
        "peer-device-options",
        "resource-options",
        "events2",
        "get-gi",
        "show-gi",
        "top",
    ] {
        let outcome = stage.run(&format!("{verb} r0")).expect_code(1);
        let expected = format!("rbdadm: '{verb}' is not in this version yet\n");
        assert_eq!(outcome.err, expected);
    }
}

#[test]
fn completions_know_the_commands_and_only_known_shells() {
    let stage = Stage::new();
    for shell in ["bash", "zsh", "fish"] {
        let outcome = stage.run(&format!("completions {shell}")).expect_code(0);
        for word in ["create-md", "new-current-uuid", "--run-dir"] {
            let word = word.trim_start_matches("--");
            assert!(outcome.out.contains(word), "{shell}: {word}");
        }
    }
    stage.run("completions tcsh").expect_code(1);
}

#[test]
fn the_version_is_a_list_of_shell_assignments() {
    let stage = Stage::new();
    for words in ["-V", "--version"] {
        let outcome = stage.run(words).expect_code(0);
        assert!(outcome.out.starts_with("RBDADM_VERSION=0."), "{outcome:?}");
        for line in outcome.out.lines() {
            let (name, value) = line.split_once('=').unwrap();
            assert!(name.starts_with("RBDADM_"), "{line}");
            assert!(
                value.chars().all(|one| one.is_alphanumeric() || one == '.'),
                "{line}"
            );
        }
    }
}

#[test]
fn help_goes_to_standard_output_and_exits_with_0() {
    let outcome = Stage::new().run("--help").expect_code(0);
    assert!(outcome.out.contains("create-md"), "{outcome:?}");
    assert_eq!(outcome.err, "");
}

#[test]
fn every_command_is_documented() {
    let help = Stage::new().run("--help").expect_code(0).out;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    let commands: Vec<&str> = listed
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.len() > 20, "{commands:?}");
    let document = include_str!("../../../docs/rbdadm.md");
    for command in commands {
        let written = [' ', '`'].map(|end| format!("`{command}{end}"));
        assert!(
            written.iter().any(|one| document.contains(one)),
            "{command}"
        );
    }
}

#[test]
fn options_may_stand_before_or_after_the_command_and_the_targets() {
    let stage = Stage::new();
    let expected = "rbdd primary r0 force:yes\n";
    for words in [
        "-d primary --force r0",
        "primary -d --force r0",
        "primary r0 --force -d",
        "--node alpha primary r0 --dry-run --force --timeout 3",
        "promote r0 -d --force",
    ] {
        assert_eq!(stage.run(words).expect_code(0).out, expected, "{words}");
    }
}

#[test]
fn an_option_given_twice_has_its_last_value() {
    let stage = Stage::new();
    let outcome = stage
        .run("--node gamma sh-resources --node nobody --node beta")
        .expect_code(0);
    assert_eq!(outcome.out, "r0\nr1\nelsewhere\n");
}

#[test]
fn an_option_without_effect_is_one_line_on_commands_that_use_it() {
    let stage = Stage::new();
    let text = std::fs::read_to_string(stage.path("rbd.conf")).unwrap();
    stage.configure(&format!("common {{ net {{ max-buffers 8000; }} }}\n{text}"));
    for words in [
        "sh-nop",
        "-d up r0",
        "-d adjust all",
        "-d create-md r0",
        "dump r0",
    ] {
        let outcome = stage.run(words).expect_code(0);
        assert_eq!(outcome.err.lines().count(), 1, "{outcome:?}");
        assert!(
            outcome.err.contains("rbd.conf:1:16: warning: "),
            "{outcome:?}"
        );
        assert!(outcome.err.contains("'max-buffers'"), "{outcome:?}");
    }
    assert_eq!(stage.run("sh-dev r0").expect_code(0).err, "");
}

#[test]
fn an_unknown_target_exits_with_1_and_the_others_are_done() {
    let stage = Stage::new();
    let outcome = stage.run("-d down r7 r0 elsewhere r1").expect_code(1);
    assert_eq!(outcome.out, "rbdd down r0\nrbdd down r1\n");
    let expected = "\
'r7' not defined in your config (for this host).
'elsewhere' not defined in your config (for this host).
";
    assert_eq!(outcome.err, expected);
}

#[test]
fn parts_of_a_resource_are_refused_where_they_make_no_sense() {
    let stage = Stage::new();
    let refusals = [
        (
            "up r0/0",
            "up operates on whole resources, but you specified a specific volume!\n",
        ),
        (
            "primary r0:beta",
            "primary operates on whole resources, but you specified a specific connection!\n",
        ),
        (
            "connect r0/0",
            "connect operates on connections, but you specified a specific volume!\n",
        ),
        ("sh-dev r0/7", "Resource 'r0' has no volume 7\n"),
        (
            "connect r0:gamma",
            "Not a valid connection (r0:gamma) for this host\n",
        ),
        (
            "new-current-uuid r0 --clear-bitmap",
            "new-current-uuid works on one volume: name it, as in r0/0\n",
        ),
        (
            "up r0/zero",
            "'r0/zero' not defined in your config (for this host).\n",
        ),
    ];
    for (words, expected) in refusals {
        assert_eq!(
            stage.run(&format!("-d {words}")).expect_code(1).err,
            expected
        );
    }
}

#[test]
fn a_dry_run_prints_each_step_and_contacts_nobody() {
    let stage = Stage::new();
    let steps = [
        ("down r0", "rbdd down r0\n"),
        ("connect r0", "rbdd connect r0 discard-my-data:no\n"),
        (
            "connect r0:beta --discard-my-data",
            "rbdd connect r0:beta discard-my-data:yes\n",
        ),
        ("disconnect r0:beta", "rbdd disconnect r0:beta\n"),
        ("secondary r0", "rbdd secondary r0 force:no\n"),
        (
            "new-current-uuid --clear-bitmap r0/0",
            "rbdd new-current-uuid r0/0 clear-bitmap:yes\n",
        ),
        ("status", "rbdd status all\n"),
        ("role r0", "rbdd status r0\n"),
        ("wait-sync r0", "rbdd status r0\n"),
        ("check", "local check\n"),
    ];
    for (words, expected) in steps {
        assert_eq!(
            stage.run(&format!("-d {words}")).expect_code(0).out,
            expected
        );
    }
    let disk = stage.path("r0");
    let disk = disk.display();
    let create = format!("local create-md r0/0 disk:{disk} meta-disk:internal max-peers:3\n");
    let outcome = stage.run("-d create-md r0 --max-peers 3").expect_code(0);
    assert_eq!(outcome.out, create);
    assert!(is_blank(&stage.path("r0")));
}

#[test]
fn a_step_never_shows_the_shared_secret() {
    let stage = Stage::new();
    let outcome = stage.run("-d up r1").expect_code(0);
    assert!(
        outcome
            .out
            .starts_with("rbdd up r1 node:alpha node-id:0 listen:127.0.0.1:7003 volume:0,")
    );
    assert!(
        outcome.out.ends_with(" peer:beta,1,127.0.0.1:7004\n"),
        "{outcome:?}"
    );
    assert!(!outcome.out.contains("very-secret"));
}

#[test]
fn queries_print_one_plain_word_a_line() {
    let stage = Stage::new();
    let at = |name: &str| stage.path(name).display().to_string();
    let answers = [
        ("sh-resources", "r0\nr1\n".to_owned()),
        ("sh-resource minor-3", "r1\n".to_owned()),
        (
            "sh-dev all",
            "/dev/drbd1\n/dev/drbd2\n/dev/drbd3\n".to_owned(),
        ),
        ("sh-dev r1/1", "/dev/drbd3\n".to_owned()),
        ("sh-dev minor-2", "/dev/drbd2\n".to_owned()),
        ("sh-minor r1", "2\n3\n".to_owned()),
        ("sh-ll-dev r0", at("r0") + "\n"),
        ("sh-md-dev r0", at("r0") + "\n"),
        ("sh-md-dev r1/0", at("meta") + "\n"),
        ("sh-md-idx all", "internal\nflexible\n1\n".to_owned()),
        ("sh-ip r0", "127.0.0.1\n".to_owned()),
        ("sh-nop", String::new()),
    ];
    for (words, expected) in answers {
        let outcome = stage.run(words).expect_code(0);
        assert_eq!(outcome.out, expected, "{words}");
    }
}

#[test]
fn what_dump_prints_is_a_configuration_with_the_same_meaning() {
    let stage = Stage::new();
    let dumped = stage.run("dump").expect_code(0).out;
    let before = stage.run("-d up all").expect_code(0).out;
    stage.configure(&dumped);
    assert_eq!(stage.run("-d up all").expect_code(0).out, before);
    let one = stage.run("dump r0").expect_code(0).out;
    assert!(
        one.starts_with("# resource r0 on alpha: not ignored, not stacked\n"),
        "{one}"
    );
    assert!(!one.contains("resource r1"), "{one}");
}

#[test]
fn a_broken_configuration_exits_with_10_and_a_missing_one_with_20() {
    let stage = Stage::new();
    stage.configure("resource r0 { bogus; }\n");
    for words in ["sh-nop", "dump", "up r0", "create-md r0", "sh-resources"] {
        let outcome = stage.run(words).expect_code(10);
        assert!(
            outcome.err.contains("rbd.conf:1:15: error: "),
            "{outcome:?}"
        );
    }
    stage.run("-c /nonexistent/rbd.conf sh-nop").expect_code(20);
}

#[test]
fn the_configuration_can_come_from_standard_input() {
    let stage = Stage::new();
    let file = std::fs::File::open(stage.path("rbd.conf")).unwrap();
    let mut command = stage.command("-c - sh-resources");
    let outcome = outcome(command.stdin(file).output().unwrap()).expect_code(0);
    assert_eq!(outcome.out, "r0\nr1\n");
}

#[test]
fn without_a_daemon_one_line_names_the_socket_and_how_to_start_it() {
    let stage = Stage::new();
    let socket = stage.path("run/rbdd.sock");
    for words in ["up r0", "status", "role r0", "wait-sync r0", "down all"] {
        let outcome = stage.run(words).expect_code(20);
        assert_eq!(outcome.err.lines().count(), 1, "{outcome:?}");
        assert!(
            outcome.err.contains(&socket.display().to_string()),
            "{outcome:?}"
        );
        assert!(
            outcome.err.contains("rbdd --node alpha --run-dir "),
            "{outcome:?}"
        );
    }
}

#[test]
fn a_run_directory_too_long_for_a_socket_is_explained() {
    let stage = Stage::new();
    let long = format!("--run-dir /tmp/{} status", "x".repeat(120));
    let outcome = stage.run(&long).expect_code(20);
    assert!(outcome.err.contains("shorter run directory"), "{outcome:?}");
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let stage = Stage::new();
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else {
        eprintln!("skipped: no /dev/full");
        return;
    };
    let mut command = stage.command("sh-resources");
    let outcome = outcome(command.stdout(full).output().unwrap());
    outcome.expect_code(20);
}
