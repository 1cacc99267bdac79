//! The handlers that fence through Pacemaker, with its tools replaced by scripts that keep one
//! constraint in a file and answer as the real ones do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// The cluster as the scripts see it. Files: `owner` (of the constraint), `state` (of the peer's
/// node, as attributes), `dc` and `quorum`, `stonith`, `role` (of the peer), `self` (data and role
/// of this node's resource), `its-words` (what beta does when asked for the constraint, else it
/// has the same). `then-NAME` replaces NAME after the next look at the cluster.
const STAND_INS: [(&str, &str); 6] = [
    (
        "cibadmin",
        r##"echo "$*" >> "$HOME/calls"
           [ ! -e "$HOME/mute" ] || exit 102
           [ ! -e "$HOME/hanging" ] || sleep 1000
           rule() {
               [ -e "$HOME/owner" ] || exit 105
               echo '<rsc_location rsc="ms_rbd" id="rbd-fence-by-handler-r0-ms_rbd">'
               echo '  <rule role="Promoted" score="-INFINITY" id="x-rule">'
               owner=$(cat "$HOME/owner")
               echo "<expression attribute=\"#uname\" operation=\"ne\" value=\"$owner\"/>"
               echo '  </rule>'
               echo '</rsc_location>'
           }
           case "$*" in
           *--node-path*)
               cat "$HOME/path" 2>/dev/null || exit 105 ;;
           *"--node beta"*)
               [ ! -e "$HOME/its-words" ] || { . "$HOME/its-words"; exit; }
               rule ;;
           --query*)
               rule ;;
           --create*)
               [ ! -e "$HOME/rival" ] || mv "$HOME/rival" "$HOME/owner"
               [ ! -e "$HOME/refusing" ] || exit 103
               [ ! -e "$HOME/owner" ] || exit 108
               echo "$*" | sed -n 's/.*value="\([^"]*\)".*/\1/p' > "$HOME/owner" ;;
           --delete*)
               [ ! -e "$HOME/refusing" ] || exit 103
               case "$*" in *"@value='$(cat "$HOME/owner")'"*) rm "$HOME/owner" ;; esac ;;
           esac"##,
    ),
    (
        "crm_mon",
        r#"echo look >> "$HOME/calls"
           [ ! -e "$HOME/mute" ] || exit 102
           if [ -e "$HOME/strange" ]; then cat "$HOME/strange"; exit; fi
           known() { if [ -e "$HOME/$1" ]; then cat "$HOME/$1"; else echo true; fi; }
           echo "<pacemaker-result><summary>"
           dc=$(known dc) quorum=$(known quorum) stonith=$(known stonith)
           echo "  <current_dc present=\"$dc\" name=\"alpha\" with_quorum=\"$quorum\"/>"
           policy=stop
           [ ! -e "$HOME/policy" ] || policy=$(cat "$HOME/policy")
           echo "  <cluster_options stonith-enabled=\"$stonith\" no-quorum-policy=\"$policy\"/>"
           echo "</summary><nodes>"
           echo "  <node name=\"alpha\" online=\"true\" pending=\"false\" unclean=\"false\"/>"
           echo "  <node name=\"beta\" id=\"2\" $(cat "$HOME/state")/>"
           echo "</nodes><resources>"
           echo "  <clone id=\"ms_rbd\" multi_state=\"true\">"
           echo "    <resource id=\"p_rbd\" role=\"$(cat "$HOME/role")\" active=\"true\">"
           echo "      <node name=\"beta\" id=\"2\" cached=\"true\"/>"
           echo "    </resource>"
           echo "  </clone>"
           echo "  <clone id=\"ms_other\">"
           echo "    <resource id=\"o\" role=\"Promoted\" active=\"true\">"
           echo "      <node name=\"beta\" id=\"2\" cached=\"true\"/>"
           echo "    </resource>"
           echo "  </clone>"
           echo "</resources></pacemaker-result>"
           for next in state dc quorum; do
               [ ! -e "$HOME/then-$next" ] || mv "$HOME/then-$next" "$HOME/$next"
           done"#,
    ),
    ("crm_node", "echo alpha"),
    (
        "stonith_admin",
        r#"echo "stonith_admin $*" >> "$HOME/calls"
           [ ! -e "$HOME/hanging" ] || sleep 1000
           [ ! -e "$HOME/refusing" ]"#,
    ),
    ("crm_attribute", "echo rack-7"),
    (
        "rbdadm",
        r#"[ ! -e "$HOME/frozen" ] || exit 20
           . "$HOME/self"
           echo _known=Configured; echo _volume=0; echo "_role=$role"
           echo "_disk=$disk"; echo "_pdsk=$peer"; echo _sh_status_process"#,
    ),
];

const ONLINE: &str = r#"online="true" standby="false" pending="false" unclean="false""#;
const OFFLINE: &str = r#"online="false" standby="false" pending="false" unclean="false""#;
const UNCLEAN: &str = r#"online="false" standby="false" pending="false" unclean="true""#;

struct Stage(TempDir);

impl Stage {
    /// A Primary with good data that has lost its peer.
    fn new(peer: &str) -> Self {
        let stage = TempDir::new().expect("a directory");
        for (name, script) in STAND_INS {
            let path = stage.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a script");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("is its own");
        }
        let stage = Self(stage);
        stage.set("state", peer);
        stage.set("role", "Unpromoted");
        stage.set(
            "path",
            "/cib/configuration/resources/clone[@id='ms_rbd']/primitive[@id='p']\n",
        );
        stage.is("Primary", "UpToDate", "DUnknown");
        stage
    }

    fn set(&self, name: &str, content: &str) {
        fs::write(self.0.path().join(name), content).expect("a file");
    }

    /// What rbdd says: own role and disk, and the peer's disk.
    fn is(&self, role: &str, disk: &str, peer: &str) {
        self.set("self", &format!("role={role} disk={disk} peer={peer}\n"));
    }

    fn run(&self, script: &str, options: &[&str]) -> Output {
        let handlers = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cluster/handlers");
        Command::new(handlers.join(script))
            .args(options)
            .env_clear()
            .env("HOME", self.0.path())
            .env("PATH", format!("{}:/usr/bin:/bin", self.0.path().display()))
            .env("DRBD_RESOURCE", "r0")
            .env("DRBD_PEER", "beta")
            .output()
            .expect("the script runs")
    }

    #[track_caller]
    fn fences(&self, options: &[&str], code: i32) -> String {
        let output = self.run("crm-fence-peer.sh", options);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    #[track_caller]
    fn unfences(&self, code: i32) -> String {
        let output = self.run("crm-unfence-peer.sh", &[]);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Whom the constraint lets be promoted.
    fn owner(&self) -> Option<String> {
        let text = fs::read_to_string(self.0.path().join("owner")).ok()?;
        Some(text.trim().to_owned())
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.0.path().join("calls")).unwrap_or_default()
    }
}

#[test]
fn a_peer_that_is_a_member_will_not_be_promoted() {
    let stage = Stage::new(ONLINE);
    stage.fences(&[], 4);
    assert_eq!(stage.owner().as_deref(), Some("alpha"));
    let calls = stage.calls();
    assert!(
        calls.contains("rsc=\"ms_rbd\" id=\"rbd-fence-by-handler-r0-ms_rbd\""),
        "{calls}"
    );
    assert!(
        calls.contains("role=\"Promoted\" score=\"-INFINITY\""),
        "{calls}"
    );
    assert!(
        calls.contains("attribute=\"#uname\" operation=\"ne\" value=\"alpha\""),
        "{calls}"
    );
    stage.fences(&[], 4);
}

#[test]
fn a_membership_older_than_the_constraint_is_no_verdict() {
    let stage = Stage::new(ONLINE);
    stage.set("then-state", UNCLEAN);
    stage.fences(&["--timeout", "2"], 5);
    let stage = Stage::new(ONLINE);
    stage.set("then-state", OFFLINE);
    stage.fences(&[], 7);
    let stage = Stage::new(ONLINE);
    stage.set("then-quorum", "false");
    stage.fences(&["--dc-timeout", "0"], 1);
}

#[test]
fn a_member_that_does_not_answer_is_none() {
    for its in ["exit 124", "sleep 1000"] {
        let stage = Stage::new(ONLINE);
        stage.set("its-words", its);
        let said = stage.fences(&["--timeout", "2"], 1);
        assert!(said.contains("does not answer"), "{said}");
        assert_eq!(stage.owner(), None);
    }
    // It has just been lost, and the cluster finds that out.
    let stage = Stage::new(ONLINE);
    let its = format!("echo '{OFFLINE}' > $HOME/state; exit 124");
    stage.set("its-words", &its);
    stage.fences(&[], 7);
}

#[test]
fn a_member_that_has_not_got_the_constraint_may_be_promoted() {
    for its in ["", "beta", "alpha2"] {
        let stage = Stage::new(ONLINE);
        let rule = format!(r##"<expression attribute="#uname" operation="ne" value="{its}"/>"##);
        let its = if its.is_empty() {
            "exit 105".to_owned()
        } else {
            format!("echo '{rule}'")
        };
        stage.set("its-words", &its);
        let said = stage.fences(&["--timeout", "2"], 1);
        assert!(said.contains("does not confirm the constraint"), "{said}");
    }
}

#[test]
fn a_peer_that_the_cluster_has_fenced_is_off() {
    let stage = Stage::new(UNCLEAN);
    stage.set("then-state", OFFLINE);
    stage.fences(&[], 7);
    assert_eq!(stage.owner().as_deref(), Some("alpha"));
}

#[test]
fn a_lost_peer_that_nobody_fences_is_only_lost() {
    let stage = Stage::new(UNCLEAN);
    stage.fences(&["--timeout=1"], 5);
    assert_eq!(stage.owner().as_deref(), Some("alpha"));
    let stage = Stage::new(OFFLINE);
    stage.set("stonith", "false");
    stage.fences(&[], 5);
    assert_eq!(stage.owner().as_deref(), Some("alpha"));
}

#[test]
fn data_that_may_be_old_gets_no_constraint_while_the_peer_is_lost() {
    for state in [OFFLINE, UNCLEAN] {
        let stage = Stage::new(state);
        stage.is("Secondary", "Consistent", "DUnknown");
        stage.fences(&["--timeout", "1"], 5);
        assert_eq!(stage.owner(), None);
    }
    let stage = Stage::new(ONLINE);
    stage.is("Secondary", "Consistent", "DUnknown");
    stage.fences(&[], 4);
    for disk in ["Outdated", "Inconsistent", "Diskless"] {
        let stage = Stage::new(ONLINE);
        stage.is("Secondary", disk, "DUnknown");
        stage.fences(&[], 1);
        assert_eq!(stage.owner(), None);
    }
}

#[test]
fn a_node_that_is_fenced_itself_fences_nobody() {
    for state in [ONLINE, OFFLINE] {
        let stage = Stage::new(state);
        stage.set("owner", "beta");
        let said = stage.fences(&[], 1);
        assert!(
            said.contains("this node is fenced itself, by beta"),
            "{said}"
        );
        assert_eq!(stage.owner().as_deref(), Some("beta"));
    }
}

#[test]
fn of_two_nodes_that_fence_each_other_one_gets_the_constraint() {
    let stage = Stage::new(ONLINE);
    stage.set("rival", "beta");
    stage.fences(&[], 1);
    assert_eq!(stage.owner().as_deref(), Some("beta"));
}

#[test]
fn a_promoted_peer_is_not_demoted_by_a_secondary() {
    for role in ["Promoted", "Master"] {
        let stage = Stage::new(ONLINE);
        stage.set("role", role);
        stage.is("Secondary", "UpToDate", "DUnknown");
        stage.fences(&[], 6);
        assert_eq!(stage.owner(), None);
        stage.is("Primary", "UpToDate", "DUnknown");
        stage.fences(&[], 4);
    }
}

#[test]
fn without_quorum_or_coordinator_nothing_is_known() {
    for (name, value) in [("quorum", "false"), ("dc", "false")] {
        let stage = Stage::new(OFFLINE);
        stage.set(name, value);
        stage.fences(&["--dc-timeout", "0"], 1);
        assert_eq!(stage.owner(), None);
        // One that is on its way is waited for.
        stage.set(&format!("then-{name}"), "true");
        stage.fences(&[], 7);
    }
}

#[test]
fn whatever_is_not_understood_leaves_io_frozen() {
    let cases: [(&str, &str); 6] = [
        ("mute", ""),
        ("frozen", ""),
        ("strange", "beta: online\n"),
        ("state", r#"online="perhaps" unclean="false""#),
        ("state", ""),
        ("path", "/cib/configuration/resources/primitive[@id='p']\n"),
    ];
    for (name, content) in cases {
        let stage = Stage::new(ONLINE);
        stage.set(name, content);
        stage.fences(&["--timeout", "2", "--dc-timeout", "0"], 1);
        assert_eq!(stage.owner(), None, "{name}");
    }
    let stage = Stage::new(ONLINE);
    stage.set("refusing", "");
    stage.fences(&[], 1);
    let stage = Stage::new(ONLINE);
    stage.set("hanging", "");
    stage.fences(&["--timeout", "4"], 1);
    let stage = Stage::new(ONLINE);
    fs::remove_file(stage.0.path().join("path")).expect("it is there");
    let said = stage.fences(&[], 1);
    assert!(said.contains("no clone of ocf:rbd:rbd"), "{said}");
    for options in [
        &["--unknown", "1"][..],
        &["--timeout"],
        &["--timeout", "soon"],
    ] {
        Stage::new(ONLINE).fences(options, 1);
    }
    Stage::new(ONLINE).fences(&["--id-prefix", "a' or '1"], 1);
}

#[test]
fn the_constraint_can_be_about_another_attribute_and_clone() {
    let stage = Stage::new(ONLINE);
    let options = [
        "--fencing-attribute",
        "rack",
        "--master-id",
        "ms_rbd",
        "--role",
        "Master",
    ];
    stage.fences(&options, 4);
    let calls = stage.calls();
    assert!(!calls.contains("--node-path"), "{calls}");
    assert!(calls.contains("role=\"Master\""), "{calls}");
    assert!(
        calls.contains("attribute=\"rack\" operation=\"ne\" value=\"rack-7\""),
        "{calls}"
    );
}

#[test]
fn unfencing_removes_only_what_this_node_has_set_and_only_in_sync() {
    let stage = Stage::new(ONLINE);
    stage.unfences(0);
    stage.set("owner", "alpha");
    for (disk, peer) in [("UpToDate", "Inconsistent"), ("Diskless", "UpToDate")] {
        stage.is("Primary", disk, peer);
        stage.unfences(1);
        assert_eq!(stage.owner().as_deref(), Some("alpha"));
    }
    stage.is("Primary", "UpToDate", "UpToDate");
    stage.unfences(0);
    assert_eq!(stage.owner(), None);

    stage.set("owner", "beta");
    let said = stage.unfences(0);
    assert!(said.contains("belongs to beta"), "{said}");
    assert_eq!(stage.owner().as_deref(), Some("beta"));
}

#[test]
fn unfencing_fails_until_it_is_certain() {
    for trouble in ["mute", "frozen", "refusing"] {
        let stage = Stage::new(ONLINE);
        stage.is("Primary", "UpToDate", "UpToDate");
        stage.set("owner", "alpha");
        stage.set(trouble, "");
        stage.unfences(1);
        assert_eq!(stage.owner().as_deref(), Some("alpha"), "{trouble}");
    }
}

#[test]
fn only_a_primary_with_good_data_has_its_peer_fenced() {
    let fence = |stage: &Stage, options: &[&str], code: i32| {
        let output = stage.run("stonith-peer.sh", options);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
    };
    let stage = Stage::new(ONLINE);
    fence(&stage, &["--timeout", "30"], 7);
    let calls = stage.calls();
    let limit = calls
        .strip_prefix("look\nstonith_admin --fence beta --timeout ")
        .unwrap_or_else(|| panic!("{calls}"));
    let limit: u32 = limit.trim().parse().expect("seconds");
    assert!(limit <= 30, "{calls}");
    for (role, disk) in [("Secondary", "UpToDate"), ("Primary", "Inconsistent")] {
        let stage = Stage::new(ONLINE);
        stage.is(role, disk, "DUnknown");
        fence(&stage, &[], 1);
        assert_eq!(stage.calls(), "");
    }
    for trouble in ["refusing", "hanging", "frozen"] {
        let stage = Stage::new(ONLINE);
        stage.set(trouble, "");
        fence(&stage, &["--timeout=1"], 1);
    }
    fence(&Stage::new(ONLINE), &["--timeout", "soon"], 1);
}

#[test]
fn a_side_without_quorum_has_nobody_fenced() {
    let run = |stage: &Stage| {
        let output = stage.run("stonith-peer.sh", &["--timeout", "6"]);
        (
            output.status.code(),
            stage.calls().contains("stonith_admin"),
        )
    };
    let stage = Stage::new(OFFLINE);
    stage.set("quorum", "false");
    assert_eq!(run(&stage), (Some(1), false));
    stage.set("policy", "ignore");
    assert_eq!(run(&stage), (Some(7), true));
    let stage = Stage::new(OFFLINE);
    stage.set("mute", "");
    assert_eq!(run(&stage), (Some(1), false));
}
