//! The agent that cuts a node off at the mirror, with the daemon, corosync and the handler that
//! places the constraint replaced by scripts.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// Files: `role`, `disk`, `link`, `peer` (its disk), `dump`, `quorum`, and `calls` for what was
/// ordered. A file `unable` makes the handler fail.
const STAND_INS: [(&str, &str); 4] = [
    (
        "bin/rbdadm",
        r#"while [ $# -gt 0 ]; do case $1 in
           --config | --node | --run-dir | --state-dir | --timeout) shift 2 ;;
           *) break ;;
           esac; done
           [ ! -e "$HOME/dead" ] || exit 20
           known() { cat "$HOME/$1"; }
           case $1 in
           sh-status)
               echo "_known=Configured _res_name=r0 _volume=0 _peer_name=beta _cstate=$(known link)"
               echo "_role=$(known role) _disk=$(known disk) _pdsk=$(known peer) _flags_susp="
               echo _sh_status_process ;;
           dump) known dump ;;
           disconnect) echo "$*" >>"$HOME/calls"; echo StandAlone >"$HOME/link" ;;
           connect) echo "$*" >>"$HOME/calls"; echo Connected >"$HOME/link" ;;
           esac"#,
    ),
    ("bin/corosync-quorumtool", r#"cat "$HOME/quorum""#),
    (
        "handlers/crm-fence-peer.sh",
        r#"[ ! -e "$HOME/unable" ] || exit 1
           echo "place $DRBD_RESOURCE $DRBD_PEER" >>"$HOME/calls""#,
    ),
    (
        "handlers/crm-unfence-peer.sh",
        r#"echo "remove $DRBD_RESOURCE $DRBD_PEER" >>"$HOME/calls""#,
    ),
];

const POLICY: &str = "    fencing resource-and-stonith;\n";
const HANDLER: &str = "    fence-peer \"/usr/lib/rbd/crm-fence-peer.sh\";\n";

/// Three nodes with a vote each, beta lost.
const MAJORITY: &str = "\
Quorum:           2
Flags:            Quorate

Membership information
----------------------
    Nodeid      Votes Name
         1          1 alpha (local)
         3          1 gamma
";

struct Stage(TempDir);

impl Stage {
    /// A Secondary that is connected to a Primary.
    fn new() -> Self {
        let stage = Self(TempDir::new().expect("a directory"));
        for directory in ["bin", "handlers", "fence", "run"] {
            fs::create_dir(stage.0.path().join(directory)).expect("a directory");
        }
        let agent = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cluster/fence/fence_rbd");
        let agent = fs::read_to_string(agent).expect("the agent is there");
        stage.script("fence/fence_rbd", &agent);
        for (name, script) in STAND_INS {
            stage.script(name, &format!("#!/bin/sh\n{script}\n"));
        }
        for (name, value) in [
            ("role", "Secondary"),
            ("disk", "UpToDate"),
            ("link", "Connected"),
            ("peer", "UpToDate"),
            ("quorum", MAJORITY),
        ] {
            stage.set(name, value);
        }
        stage.set("dump", &format!("{POLICY}{HANDLER}"));
        stage
    }

    fn script(&self, name: &str, text: &str) {
        self.set(name, text);
        let path = self.0.path().join(name);
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("is its own");
    }

    fn set(&self, name: &str, value: &str) {
        fs::write(self.0.path().join(name), value).expect("it can be written to");
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.0.path().join("calls")).unwrap_or_default()
    }

    /// Runs the agent with these arguments, or these lines on its standard input.
    fn run(&self, arguments: &[&str], lines: &str) -> Output {
        let home = self.0.path();
        let path = format!("{}/bin:/usr/bin:/bin", home.display());
        let mut child = Command::new(home.join("fence/fence_rbd"))
            .args(arguments)
            .env_clear()
            .env("HOME", home)
            .env("PATH", path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the agent can be started");
        let input = child.stdin.take();
        // An agent with arguments does not read.
        drop(input.map(|mut input| input.write_all(lines.as_bytes())));
        child.wait_with_output().expect("it ends")
    }

    fn act(&self, action: &str) -> Output {
        let run_dir = format!("--run-dir={}/run", self.0.path().display());
        let words = [
            "-o",
            action,
            "-n",
            "beta",
            "--node=alpha",
            "-t",
            "2",
            &run_dir,
        ];
        self.run(&words, "")
    }

    #[track_caller]
    fn expect(&self, action: &str, code: i32) {
        let output = self.act(action);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{action}: {said}");
    }

    /// It does nothing, and says why.
    #[track_caller]
    fn refuses(&self, words: &str) {
        for action in ["off", "reboot"] {
            let output = self.act(action);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.contains(words), "{said}");
            assert!(!self.calls().contains("disconnect"), "{}", self.calls());
        }
    }
}

#[test]
fn a_node_is_kept_from_going_on_before_its_link_is_closed() {
    let stage = Stage::new();
    stage.expect("status", 0);
    stage.expect("off", 0);
    assert_eq!(stage.calls(), "place r0 beta\ndisconnect --force r0:beta\n");
    stage.expect("status", 2);
    // Once more changes nothing.
    stage.expect("off", 0);
    assert_eq!(stage.calls().matches("disconnect").count(), 1);
    stage.expect("on", 0);
    assert!(stage.calls().ends_with("connect r0:beta\nremove r0 beta\n"));
    stage.expect("status", 0);
}

#[test]
fn a_primary_has_to_have_recorded_that_the_other_is_behind() {
    let stage = Stage::new();
    stage.set("role", "Primary");
    stage.expect("off", 1);
    stage.set("peer", "Outdated");
    stage.expect("off", 0);
}

#[test]
fn nobody_is_cut_off_who_could_do_the_same() {
    let stage = Stage::new();
    let alone = MAJORITY.replace("         3          1 gamma\n", "");
    let both = alone.replace("(local)\n", "(local)\n         2          1 beta\n");
    let addresses = MAJORITY.replace("alpha", "10.0.0.1");
    for (quorum, words) in [
        (
            MAJORITY.replace("Quorate", "2Node Quorate WaitForAll"),
            "two_node",
        ),
        (
            MAJORITY.replace("Quorate", "Quorate Qdevice"),
            "quorum device",
        ),
        (MAJORITY.replace("Quorate", ""), "no quorum"),
        (String::new(), "no quorum"),
        (both, "no majority"),
        (alone, "no majority"),
        (addresses, "not understood"),
    ] {
        stage.set("quorum", &quorum);
        stage.refuses(words);
    }
    assert!(stage.calls().is_empty(), "{}", stage.calls());
}

#[test]
fn nobody_is_cut_off_by_one_that_cannot_go_on_or_whom_the_other_would_not_mind() {
    let stage = Stage::new();
    stage.set("disk", "Outdated");
    stage.refuses("not UpToDate");
    stage.set("disk", "UpToDate");
    stage.set("dump", HANDLER);
    stage.refuses("resource-and-stonith");
    stage.set("dump", POLICY);
    stage.refuses("another fence-peer handler");
    stage.set("dump", &format!("{POLICY}{HANDLER}"));
    stage.set("unable", "");
    stage.refuses("kept from being promoted");
    stage.set("dead", "");
    stage.refuses("does not answer");
    stage.expect("monitor", 1);
}

#[test]
fn options_come_as_arguments_or_as_lines() {
    let stage = Stage::new();
    for output in [
        stage.run(&["-o", "list"], ""),
        stage.run(&["--action=list"], ""),
        stage.run(&[], "# a remark\naction=list\npcmk_host_list=beta\n"),
    ] {
        assert_eq!(String::from_utf8_lossy(&output.stdout), "beta,beta\n");
    }
    // What the cluster calls the node, and the older name of the option.
    for name in ["plug", "port", "nodename"] {
        let lines = format!("action=status\n{name}=beta\nnode=alpha\n");
        assert_eq!(stage.run(&[], &lines).status.code(), Some(0), "{name}");
    }
    for wrong in [["--nonsense", "1"], ["-o", "nonsense"]] {
        assert_eq!(stage.run(&wrong, "").status.code(), Some(1));
    }
    stage.expect("monitor", 0);
    stage.expect("validate-all", 0);
}

#[test]
fn the_metadata_names_every_option_and_action() {
    let stage = Stage::new();
    let metadata = stage.run(&["-o", "metadata"], "").stdout;
    let metadata = String::from_utf8_lossy(&metadata).into_owned();
    for action in [
        "on",
        "off",
        "reboot",
        "status",
        "monitor",
        "list",
        "metadata",
        "validate-all",
    ] {
        assert!(
            metadata.contains(&format!("<action name=\"{action}\"")),
            "{action}"
        );
    }
    let help = stage.run(&["--help"], "").stdout;
    let help = String::from_utf8_lossy(&help).into_owned();
    let options = help.split("--").skip(1).map(|rest| {
        let end = rest.find(|letter: char| !(letter.is_ascii_lowercase() || letter == '-'));
        rest[..end.unwrap_or(rest.len())].replace('-', "_")
    });
    for option in options.filter(|option| option != "help" && option != "version") {
        let named = format!("<parameter name=\"{option}\"");
        assert!(metadata.contains(&named), "{option}");
    }
    assert!(metadata.contains("It does not switch the node off."));
}
