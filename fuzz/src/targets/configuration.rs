//! The configuration language: any text ends in messages or in a configuration, which can then be
//! resolved for each of its hosts, printed, and read again to the same effect.

use rbdadm::config::{self, Config, Diagnostics, MemoryFiles};

/// The bytes are the file; what follows a byte 0 is a second one, named `other.res`.
pub(crate) fn run(data: &[u8]) {
    let (first, second) = match data.iter().position(|byte| *byte == 0) {
        Some(at) => (&data[..at], &data[at + 1..]),
        None => (data, &[][..]),
    };
    let files = MemoryFiles::default()
        .with("/etc/rbd.conf", first)
        .with("/etc/other.res", second);
    match config::load_from(&files, std::path::Path::new("/etc/rbd.conf")) {
        Ok(config) => check(&config),
        Err(diagnostics) => check_messages(&diagnostics),
    }
}

fn check_messages(diagnostics: &Diagnostics) {
    assert!(!diagnostics.is_empty(), "refused without a reason");
    assert!(diagnostics.list().len() <= MOST_MESSAGES);
    for diagnostic in diagnostics.list() {
        assert!(!diagnostic.headline().is_empty());
    }
    assert!(diagnostics.render(true).len() >= diagnostics.render(false).len() / 2);
}

fn check(config: &Config) {
    let _warnings = config.warnings().render(false);
    let hosts: Vec<String> = config
        .host_names()
        .iter()
        .map(ToString::to_string)
        .collect();
    for host in hosts.iter().map(String::as_str).take(4).chain(["nobody"]) {
        if let Err(diagnostics) = config.resolve_with(host, &|_| false) {
            check_messages(&diagnostics);
        }
        let dumped = config
            .dump(host, &[])
            .expect("everything has no unknown target");
        let again = config::load_text(&MemoryFiles::default(), "dump", dumped.clone().into_bytes());
        let again = match again {
            Ok(again) => again,
            Err(diagnostics) => panic!(
                "what was printed is not understood:\n{}\n{dumped}",
                diagnostics.render(false)
            ),
        };
        assert_eq!(
            resolved(config, host),
            resolved(&again, host),
            "what was printed means something else:\n{dumped}"
        );
    }
}

/// What a node has to do, apart from where it is said.
fn resolved(config: &Config, node: &str) -> Option<Vec<String>> {
    let resources = config.resolve_with(node, &|_| false).ok()?;
    let describe = |resource: &config::ResolvedResource| {
        let config::ResolvedResource {
            name,
            own,
            peers,
            volumes,
            options,
            handlers,
            startup,
            ..
        } = resource;
        format!("{name} {own:?} {peers:?} {volumes:?} {options:?} {handlers:?} {startup:?}")
    };
    Some(resources.iter().map(describe).collect())
}

/// No more messages than these are given for one configuration.
const MOST_MESSAGES: usize = 20;
