//! The recipes of `docs/operating/`, done as they are written: every line of a `console` block on
//! the machine it names, every `crm` block given to crmsh. A line below a command is part of what
//! the command has to print.

use std::fs;
use std::path::Path;

use rbd_tests::process::{Cluster, Options};

#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// What is typed where, and what has to be seen.
    Type {
        nodes: Vec<&'static str>,
        command: String,
        seen: Vec<String>,
    },
    /// What crmsh is given, and whether the cluster may act on it.
    Configure { lines: String, is_live: bool },
}

#[test]
fn one_service_on_either_node() {
    follow(
        "one_service_on_either_node",
        "active-passive.md",
        Options::default(),
    );
}

#[test]
fn a_file_system_mounted_on_both_nodes() {
    let options = Options {
        primaries: 2,
        ..Options::default()
    };
    follow("a_file_system_mounted_on_both_nodes", "gfs2.md", options);
}

#[test]
fn what_only_crmsh_is_given() {
    let test = "what_only_crmsh_is_given";
    for page in [
        "ocfs2-virtual-machines.md",
        "lvm.md",
        "lvm-shared.md",
        "iscsi-target.md",
    ] {
        follow(test, page, Options::default());
    }
}

#[test]
fn day_to_day() {
    let options = Options {
        policy: "dont-care",
        ..Options::default()
    };
    follow("day_to_day", "day-to-day.md", options);
}

/// Does everything a page says that can be done here.
fn follow(test: &str, page: &str, options: Options) {
    let steps = steps(&read(page));
    let Some(cluster) = Cluster::with_switches(test, options) else {
        return;
    };
    for step in steps {
        match step {
            Step::Type {
                nodes,
                command,
                seen,
            } => {
                for node in nodes {
                    println!("{node}# {command}");
                    let output = cluster.ok(node, &["sh", "-c", &command]);
                    print!("{output}");
                    let mut rest = output.as_str();
                    for line in &seen {
                        let found = rest.find(line.as_str());
                        let at = found.unwrap_or_else(|| panic!("no '{line}' in:\n{output}"));
                        rest = &rest[at + line.len()..];
                    }
                }
            }
            Step::Configure { lines, is_live } => {
                if !is_live {
                    cluster.configure("property maintenance-mode=true\n");
                }
                cluster.configure(&lines);
                let verdict = cluster.run("alpha", &["crm_verify", "--live-check", "--verbose"]);
                assert_eq!(verdict.code, Some(0), "{lines}\n{}", verdict.text());
            }
        }
    }
}

fn read(page: &str) -> String {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operating");
    fs::read_to_string(pages.join(page)).unwrap_or_else(|error| panic!("{page}: {error}"))
}

/// What a page says is to be done, without what is to be done in the lab or elsewhere.
fn steps(page: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for block in page.split("```").skip(1).step_by(2) {
        let (kind, lines) = block.split_once('\n').expect("a block has lines");
        match kind {
            "console" => type_in(&mut steps, lines),
            "crm" | "crm maintenance" => steps.push(Step::Configure {
                lines: lines.to_owned(),
                is_live: kind == "crm",
            }),
            "console lab" | "console pcs" | "console elsewhere" | "crm elsewhere"
            | "rbd elsewhere" | "text" => {}
            other => panic!("no such kind of block: {other}"),
        }
    }
    steps
}

fn type_in(steps: &mut Vec<Step>, lines: &str) {
    for line in lines.lines() {
        let typed = line.split_once("# ");
        let nodes = match typed.map(|(node, _)| node) {
            Some("alpha") => vec!["alpha"],
            Some("beta") => vec!["beta"],
            Some("both") => vec!["alpha", "beta"],
            _ => Vec::new(),
        };
        match (typed, steps.last_mut()) {
            (Some((_, command)), _) if !nodes.is_empty() => steps.push(Step::Type {
                nodes,
                command: command.to_owned(),
                seen: Vec::new(),
            }),
            (_, Some(Step::Type { seen, .. })) if line.trim() != "..." => {
                seen.push(line.trim().to_owned());
            }
            _ => {}
        }
    }
}

#[test]
fn a_page_is_taken_at_its_word() {
    let page = "Text.\n```console\nboth# one\nbeta# two\n  seen\n...\n```\n```crm\nx\n```\n\
                ```console elsewhere\nalpha# not this\n```\n```console lab\nbeta# nor this\n```\n";
    let typed = |nodes: &[&'static str], command: &str, seen: &[&str]| Step::Type {
        nodes: nodes.to_vec(),
        command: command.to_owned(),
        seen: seen.iter().map(|line| (*line).to_owned()).collect(),
    };
    let configured = Step::Configure {
        lines: "x\n".to_owned(),
        is_live: true,
    };
    let expected = [
        typed(&["alpha", "beta"], "one", &[]),
        typed(&["beta"], "two", &["seen"]),
        configured,
    ];
    assert_eq!(steps(page), expected);
}

#[test]
fn every_page_has_steps_and_says_what_is_run() {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operating");
    let entries = fs::read_dir(pages).expect("there are recipes");
    for entry in entries {
        let name = entry.expect("an entry").file_name();
        let name = name.to_string_lossy();
        if name != "README.md" {
            let text = read(&name);
            assert!(!steps(&text).is_empty(), "{name}");
            assert!(text.contains("*Run by "), "{name}");
        }
    }
}
