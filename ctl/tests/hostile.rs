//! Input nobody wrote by hand: garbage, huge files, loops of includes. Every one ends in a
//! result or in messages, quickly and without a panic.
#![expect(clippy::unwrap_used, reason = "helpers of tests may end a test")]

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use rbdadm::config::{self, Config, Diagnostics, MachineFiles, MemoryFiles};

fn bytes(bytes: impl Into<Vec<u8>>) -> Result<Config, Diagnostics> {
    config::load_text(&MemoryFiles::default(), "hostile.res", bytes.into())
}

fn headline(result: Result<Config, Diagnostics>) -> String {
    result.unwrap_err().list()[0].headline()
}

const HOSTS: &str = "device minor 0; disk /dev/sda1; \
                     on alpha { address 10.0.0.1:7789; } on beta { address 10.0.0.2:7789; }";

#[test]
fn a_file_beyond_the_size_limit_is_refused_by_its_size() {
    let wrong = bytes(vec![b'#'; 64 << 20]);
    assert_eq!(
        headline(wrong),
        "hostile.res:1:1: error: is larger than 4 MiB, the limit"
    );
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sparse.conf");
    fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    assert!(headline(config::load(&path)).ends_with("error: is larger than 4 MiB, the limit"));
}

#[test]
fn a_file_just_below_the_size_limit_is_read() {
    let mut text = format!("resource r0 {{ {HOSTS} }}\n").into_bytes();
    text.resize(4 << 20, b'#');
    assert!(bytes(text).is_ok());
}

#[test]
fn a_mebibyte_of_anything_ends_in_messages() {
    for piece in [
        "a;",
        "resource r{",
        "{",
        "}",
        "\"",
        "\\",
        "a b c;",
        "[:",
        "on a{}",
    ] {
        let wrong = bytes(piece.repeat((1 << 20) / piece.len())).unwrap_err();
        assert!(wrong.list().len() <= 20, "{piece}");
        assert!(wrong.render(true).len() < 64 << 10, "{piece}");
    }
}

#[test]
fn more_words_than_any_configuration_has_are_refused() {
    let skipped = format!("skip x {{ {} }}", "a b;".repeat(300_000));
    assert!(headline(bytes(skipped)).ends_with("the configuration has more than 500000 words"));
}

#[test]
fn deep_nesting_is_refused_and_sixty_four_levels_are_not() {
    let nested = |depth: usize| format!("skip {} {}", "a {".repeat(depth), "}".repeat(depth));
    assert!(bytes(nested(64)).is_ok());
    assert!(headline(bytes(nested(65))).ends_with("sections are nested deeper than 64"));
    assert!(headline(bytes(nested(500_000))).ends_with("sections are nested deeper than 64"));
}

#[test]
fn a_file_that_includes_itself_is_read_once() {
    let files = MemoryFiles::default()
        .with(
            "/etc/rbd.conf",
            "include \"rbd.conf\"; include \"/etc/../etc/*.conf\"; include b;",
        )
        .with(
            "/etc/b",
            format!("include \"./rbd.conf\"; resource r0 {{ {HOSTS} }}"),
        );
    let config = config::load_from(&files, Path::new("/etc/rbd.conf")).unwrap();
    assert_eq!(config.resource_names().collect::<Vec<_>>(), ["r0"]);
}

#[test]
fn a_chain_of_includes_that_is_too_deep_is_refused() {
    let mut files = MemoryFiles::default();
    for number in 0..40 {
        files = files.with(
            format!("/{number}"),
            format!("include \"/{}\";", number + 1),
        );
    }
    let wrong = config::load_from(&files, Path::new("/0"));
    assert_eq!(
        headline(wrong),
        "/16:1:1: error: files include each other deeper than 16"
    );
}

#[test]
fn a_template_that_names_itself_is_refused() {
    let text = "resource r0 { template-file \"/t\"; }";
    let files = MemoryFiles::default().with("/t", text);
    let wrong = config::load_from(&files, Path::new("/t")).unwrap_err();
    assert!(
        wrong
            .render(false)
            .contains("files include each other deeper than 16")
    );
}

#[test]
fn a_file_that_cannot_be_read_has_its_own_exit_code() {
    let missing = config::load(Path::new("/nonexistent/rbd.conf")).unwrap_err();
    let expected = "/nonexistent/rbd.conf: error: cannot be opened: there is no such file\n";
    assert_eq!(
        (missing.exit_code(), missing.render(false).as_str()),
        (20, expected)
    );
    let directory = config::load(Path::new("/")).unwrap_err();
    assert_eq!(directory.exit_code(), 20);
    let included = bytes("include \"/nonexistent\";").unwrap_err();
    assert_eq!(included.exit_code(), 20);
}

#[test]
fn include_patterns_match_like_a_shell_and_skip_hidden_files() {
    let resource = |name: &str, number: u8| {
        let hosts = HOSTS.replace("minor 0", &format!("minor {number}"));
        let hosts = hosts
            .replace("sda1", &format!("sda{number}"))
            .replace("7789", "7{}");
        format!(
            "resource {name} {{ {} }}",
            hosts.replace("7{}", &format!("77{number:02}"))
        )
    };
    let files = MemoryFiles::default()
        .with("/etc/rbd.d/b.res", resource("b", 1))
        .with("/etc/rbd.d/a.res", resource("a", 2))
        .with("/etc/rbd.d/.hidden.res", "}")
        .with("/etc/rbd.d/a.res.dpkg-old", "}")
        .with("/etc/more/1/x.conf", resource("x", 3))
        .with("/etc/more/2/y.conf", resource("y", 4))
        .with(
            "/etc/rbd.conf",
            "include \"rbd.d/*.res\"; include more/[!3-9]/?.conf;",
        );
    let config = config::load_from(&files, Path::new("/etc/rbd.conf")).unwrap();
    assert_eq!(
        config.resource_names().collect::<Vec<_>>(),
        ["a", "b", "x", "y"]
    );
}

#[test]
fn messages_cannot_write_escape_sequences_to_a_terminal() {
    let name = "evil\u{1b}[2J.res";
    let text = b"net \"\x1b]0;x\x07\"; # \x1b[31m\n".to_vec();
    let wrong = config::load_text(&MachineFiles, name, text).unwrap_err();
    let text = wrong.render(false);
    assert!(
        text.chars().all(|c| !c.is_control() || c == '\n'),
        "{text:?}"
    );
}

#[test]
fn a_very_long_line_is_shown_around_the_culprit_only() {
    let line = format!(
        "{}net {{ tiemout 1; }}{}",
        "skip a;".repeat(5000),
        " ä".repeat(5000)
    );
    let wrong = bytes(format!("resource r0 {{ {line} }}")).unwrap_err();
    let text = wrong.list()[0].render(false);
    assert!(text.contains("tiemout 1;") && text.len() < 1000, "{text}");
}

/// Words of the language, so that random sequences get far.
fn token() -> impl Strategy<Value = String> {
    let known = [
        "resource",
        "on",
        "net",
        "disk",
        "volume",
        "device",
        "minor",
        "meta-disk",
        "internal",
        "address",
        "ipv4",
        "ipv6",
        "[",
        "]",
        ":",
        ";",
        "{",
        "}",
        "\"",
        "\\",
        "#",
        "\n",
        "include",
        "skip",
        "common",
        "global",
        "connection",
        "connection-mesh",
        "hosts",
        "host",
        "path",
        "export",
        "nbd",
        "kernel",
        "unix",
        "auto",
        "protocol",
        "C",
        "timeout",
        "60",
        "1",
        "yes",
        "no",
        "no-use-rle",
        "floating",
        "10.0.0.1",
        "7789",
        "fe80::1",
        "/dev/sda",
        "alpha",
        "beta",
        "node-id",
        "stacked-on-top-of",
        "syncer",
        "handlers",
        "template-file",
        "size",
        "10G",
        "proxy",
        "plugin",
        "startup",
        "options",
        "quorum",
        "after-sb-0pri",
        "none",
    ];
    prop_oneof![
        8 => proptest::sample::select(known.to_vec()).prop_map(str::to_owned),
        1 => "[a-z0-9./_-]{1,12}",
        1 => "\"[^\"\n]{0,12}\"",
        1 => "\\PC{1,3}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn random_bytes_never_cause_a_panic(input in proptest::collection::vec(any::<u8>(), 0..512)) {
        if let Err(wrong) = bytes(input) {
            prop_assert!(!wrong.is_empty());
            prop_assert!(wrong.render(true).contains("error: "));
        }
    }

    #[test]
    fn random_words_of_the_language_never_cause_a_panic(
        input in proptest::collection::vec(token(), 0..120)
    ) {
        match bytes(input.join(" ")) {
            Ok(config) => {
                config.dump("alpha", &[]).unwrap();
                drop(config.resolve_with("alpha", &|_| false));
            }
            Err(wrong) => drop(wrong.render(false)),
        }
    }

    #[test]
    fn a_damaged_configuration_never_causes_a_panic_and_still_prints_the_same_if_it_is_read(
        at in 0usize..2000,
        with in prop_oneof![Just(None), token().prop_map(Some)],
        length in 0usize..8,
    ) {
        let path = "tests/corpus/good/connections-three-hosts.res";
        let mut text = fs::read_to_string(path).unwrap();
        let at = at % text.len();
        let end = (at + length).min(text.len());
        text.replace_range(at..end, with.as_deref().unwrap_or_default());
        if let Ok(config) = bytes(text) {
            let printed = config.dump("alpha", &[]).unwrap();
            let again = bytes(printed.clone());
            prop_assert!(again.is_ok(), "{}{}", printed, again.unwrap_err());
            for host in config.host_names() {
                let strip = |config: &Config| {
                    let mut resolved = config.resolve_with(host, &|_| false).unwrap();
                    for one in &mut resolved {
                        one.defined_at.file.clear();
                        one.defined_at.line = 0;
                        one.warnings.clear();
                    }
                    resolved
                };
                prop_assert_eq!(strip(&config), strip(again.as_ref().unwrap()));
            }
        }
    }
}
