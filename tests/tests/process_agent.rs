//! The agent of Pacemaker against real daemons. Only the cluster is a stand-in: a score is a file.
//! The functions of the package `resource-agents` are used where they are installed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rbd_tests::process::{Node, Output, PATIENCE, Pair, Setup, binary, capture, wait_until};
use rustix::process::{Pid, Signal, kill_process};

const SUCCESS: i32 = 0;
const ERROR: i32 = 1;
const UNIMPLEMENTED: i32 = 3;
const NOT_INSTALLED: i32 = 5;
const NOT_CONFIGURED: i32 = 6;
const NOT_RUNNING: i32 = 7;
const PROMOTED: i32 = 8;
const PROMOTED_AND_FAILED: i32 = 9;

/// The tools that tell the cluster a score.
const SCORE_TOOL: &str = r#"
basename "$0" >"$STAGE/tool"
previous=
for each; do
    [ "$previous" != -v ] || echo "$each" >"$STAGE/score"
    [ "$each" != -D ] || rm -f "$STAGE/score"
    previous=$each
done"#;

/// Writes down how it is called, and is the real one.
const RBDADM: &str = r#"
while [ $# -gt 0 ]; do
    case $1 in
    --config | --node | --run-dir | --state-dir) kept="$kept $1 $2"; shift ;;
    --timeout) kept="$kept $1 $2"; shift ;;
    *) break ;;
    esac
    shift
done
echo "$*" >>"$STAGE/calls"
exec "$REAL" $kept "$@""#;

/// A service manager that knows one unit.
const SYSTEMCTL: &str = r#"
case $1 in
start) echo "start $2" >>"$STAGE/calls"; [ ! -e "$STAGE/failing" ] || exit 1
    setsid rbdd --config "$OCF_RESKEY_rbdconf" --node "$OCF_RESKEY_node" \
        --run-dir "$OCF_RESKEY_run_dir" --state-dir "$OCF_RESKEY_state_dir" \
        </dev/null >/dev/null 2>&1 & ;;
show) cat "$STAGE/active" 2>/dev/null || echo failed
    rm -f "$STAGE/active" ;;
esac"#;

/// Of the functions of `resource-agents` what the agent uses, for machines without.
const FUNCTIONS: &str = r#"
OCF_SUCCESS=0 OCF_ERR_GENERIC=1 OCF_ERR_ARGS=2 OCF_ERR_UNIMPLEMENTED=3 OCF_ERR_INSTALLED=5
OCF_ERR_CONFIGURED=6 OCF_NOT_RUNNING=7 OCF_RUNNING_MASTER=8 OCF_FAILED_MASTER=9
: "${OCF_RESKEY_CRM_meta_interval=0}"
__OCF_ACTION=$1
ocf_log() { shift; echo "$*" >&2; }
ocf_exit_reason() { fmt=$1; shift; printf "ocf-exit-reason:$fmt\n" "$@" >&2; }
ocf_is_true() { case $1 in yes|true|1|YES|TRUE|True|ja|on|ON) true ;; *) false ;; esac; }
ocf_is_probe() { [ "$__OCF_ACTION" = monitor ] && [ "$OCF_RESKEY_CRM_meta_interval" = 0 ]; }"#;

/// The agent as the cluster of one node calls it.
struct Agent {
    stage: PathBuf,
    environment: BTreeMap<String, String>,
}

impl Agent {
    fn new(node: &Node) -> Self {
        let stage = node.home().join("stage");
        for (name, script) in [
            ("crm_master", SCORE_TOOL),
            ("crm_attribute", SCORE_TOOL),
            ("rbdadm", RBDADM),
            ("systemctl", SYSTEMCTL),
        ] {
            write_script(&stage.join("bin").join(name), script);
        }
        let installed = "/usr/lib/ocf/lib/heartbeat";
        let functions = if Path::new(installed).join("ocf-shellfuncs").exists() {
            installed.to_owned()
        } else {
            write_script(&stage.join("ocf-shellfuncs"), FUNCTIONS);
            stage.display().to_string()
        };
        let real = binary("rbdadm");
        let programs = real.parent().expect("it is in a directory");
        let at = |name: &str| node.home().join(name).display().to_string();
        let bin = at("stage/bin");
        let environment = [
            (
                "PATH",
                format!("{bin}:{}:/usr/sbin:/usr/bin:/sbin:/bin", programs.display()),
            ),
            ("HA_SBIN_DIR", bin),
            ("HA_RSCTMP", at("stage")),
            ("STAGE", at("stage")),
            ("REAL", real.display().to_string()),
            ("OCF_FUNCTIONS_DIR", functions),
            ("OCF_RESOURCE_INSTANCE", "p_rbd".to_owned()),
            ("OCF_RESKEY_resource", "r0".to_owned()),
            ("OCF_RESKEY_rbdconf", node.config().display().to_string()),
            ("OCF_RESKEY_node", node.name().to_owned()),
            ("OCF_RESKEY_run_dir", at("run")),
            ("OCF_RESKEY_state_dir", at("state")),
            ("OCF_RESKEY_daemon", "none".to_owned()),
            ("OCF_RESKEY_CRM_meta_timeout", "60000".to_owned()),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value));
        Self {
            stage,
            environment: environment.into_iter().collect(),
        }
    }

    /// From here on with this parameter.
    fn set(&mut self, name: &str, value: &str) {
        let name = format!("OCF_RESKEY_{name}");
        self.environment.insert(name, value.to_owned());
    }

    fn unset(&mut self, name: &str) {
        self.environment.remove(&format!("OCF_RESKEY_{name}"));
    }

    fn run(&self, action: &str) -> Output {
        let agent = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cluster/ocf/rbd");
        let mut command = Command::new(agent);
        command.arg(action).env_clear().envs(&self.environment);
        capture(&mut command, PATIENCE * 2)
    }

    #[track_caller]
    fn expect(&self, action: &str, code: i32) -> Output {
        let output = self.run(action);
        assert_eq!(output.code, Some(code), "{action}: {}", output.text());
        output
    }

    /// It fails with this code and says why, in words that include these.
    #[track_caller]
    fn fails(&self, action: &str, code: i32, words: &str) {
        let output = self.expect(action, code);
        let reason = output
            .stderr
            .lines()
            .find(|line| line.contains("ocf-exit-reason:"));
        assert!(
            reason.is_some_and(|line| line.contains(words)),
            "{}",
            output.text()
        );
    }

    /// A monitor that the cluster repeats, not a probe.
    #[track_caller]
    fn monitor(&mut self, code: i32) -> Output {
        self.set("CRM_meta_interval", "10000");
        let output = self.run("monitor");
        self.unset("CRM_meta_interval");
        assert_eq!(output.code, Some(code), "{}", output.text());
        output
    }

    fn score(&self) -> Option<u32> {
        let text = fs::read_to_string(self.stage.join("score")).ok()?;
        text.trim().parse().ok()
    }

    /// The commands it has given since it was last asked for.
    fn calls(&self) -> Vec<String> {
        let file = self.stage.join("calls");
        let text = fs::read_to_string(&file).unwrap_or_default();
        fs::write(file, "").expect("it can be written");
        text.lines().map(str::to_owned).collect()
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.stage.join(name), text).expect("it can be written");
    }
}

/// The daemons that agents have started: they end with the test.
struct Started(Vec<PathBuf>);

impl Started {
    fn at(nodes: &[&Node]) -> Self {
        Self(
            nodes
                .iter()
                .map(|node| node.run_directory().join("rbdd.lock"))
                .collect(),
        )
    }

    fn kill(&self) {
        for lock in &self.0 {
            let text = fs::read_to_string(lock).unwrap_or_default();
            if let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw) {
                // One that is gone already is what is wanted.
                kill_process(pid, Signal::KILL).ok();
            }
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.kill();
    }
}

fn write_script(path: &Path, script: &str) {
    fs::create_dir_all(path.parent().expect("it is in a directory")).expect("a directory");
    fs::write(path, format!("#!/bin/sh\n{script}\n")).expect("a script");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is its own");
}

fn agents(pair: &Pair) -> [Agent; 2] {
    [Agent::new(&pair.alpha), Agent::new(&pair.beta)]
}

#[test]
fn a_clone_lives_from_probe_to_stop() {
    let mut pair = Pair::new(Setup::default());
    let [mut alpha, beta] = agents(&pair);
    for node in pair.nodes() {
        node.start();
        node.ok("create-md");
    }
    for agent in [&alpha, &beta] {
        agent.expect("monitor", NOT_RUNNING);
        agent.expect("stop", SUCCESS);
        agent.expect("demote", NOT_RUNNING);
        agent.fails("promote", NOT_RUNNING, "not up");
    }
    alpha.expect("start", SUCCESS);
    assert_eq!(alpha.score(), None, "its data is not known to be good");
    beta.expect("start", SUCCESS);
    beta.expect("start", SUCCESS);
    pair.alpha.ok("primary --force");
    pair.wait_in_sync();
    pair.alpha.ok("secondary");
    for agent in [&alpha, &beta] {
        agent.expect("monitor", SUCCESS);
        assert_eq!(agent.score(), Some(10_000));
    }
    for _ in 0..2 {
        alpha.expect("promote", SUCCESS);
        alpha.expect("monitor", PROMOTED);
    }
    alpha.monitor(PROMOTED);
    assert_eq!(pair.alpha.status().role(), "Primary");
    for _ in 0..2 {
        alpha.expect("demote", SUCCESS);
        alpha.monitor(SUCCESS);
    }
    alpha.expect("promote", SUCCESS);
    for agent in [&alpha, &beta] {
        for _ in 0..2 {
            agent.expect("stop", SUCCESS);
            agent.expect("monitor", NOT_RUNNING);
            assert_eq!(agent.score(), None);
        }
    }
    alpha.monitor(NOT_RUNNING);
}

#[test]
fn a_monitor_asks_the_daemon_once_and_gives_no_command() {
    let pair = Pair::primary(Setup::default());
    let [mut alpha, _] = agents(&pair);
    alpha.monitor(PROMOTED);
    assert_eq!(alpha.calls(), ["sh-status r0"]);
    alpha.expect("monitor", PROMOTED);
    assert_eq!(alpha.calls(), ["sh-status r0"]);
}

/// Both nodes are notified of it at once, and tell their scores then.
#[test]
fn a_change_of_role_is_one_order_and_the_score_is_left_to_the_notification() {
    let pair = Pair::synced(Setup::default());
    let [mut alpha, _] = agents(&pair);
    alpha.set("CRM_meta_notify", "true");
    for (action, order) in [("promote", "primary r0"), ("demote", "secondary r0")] {
        alpha.expect(action, SUCCESS);
        assert_eq!(alpha.calls(), [order]);
        assert_eq!(alpha.score(), None);
    }
    alpha.unset("CRM_meta_notify");
    for (action, order) in [("promote", "primary r0"), ("demote", "secondary r0")] {
        alpha.put("score", "none");
        alpha.expect(action, SUCCESS);
        assert_eq!(alpha.calls(), [order, "sh-status r0"]);
        assert_eq!(alpha.score(), Some(10_000), "nobody notifies");
    }
}

#[test]
fn the_score_is_told_with_the_tool_that_the_cluster_has() {
    let pair = Pair::synced(Setup::default());
    let [mut alpha, _] = agents(&pair);
    for (feature_set, expected) in [
        ("", "crm_master"),
        ("3.9.11", "crm_master"),
        ("3", "crm_master"),
        (".10", "crm_master"),
        ("3.10.0", "crm_attribute"),
        ("3.19", "crm_attribute"),
        ("10.1.2", "crm_attribute"),
        ("3.10 or so", "crm_master"),
    ] {
        alpha.set("crm_feature_set", feature_set);
        alpha.put("score", "none");
        let output = alpha.monitor(SUCCESS);
        assert_eq!(output.stderr, "", "{feature_set:?}");
        assert_eq!(alpha.score(), Some(10_000), "{feature_set:?}");
        let tool = fs::read_to_string(alpha.stage.join("tool")).unwrap_or_default();
        assert_eq!(tool.trim(), expected, "{feature_set:?}");
    }
}

#[test]
fn the_score_is_that_of_drbds_agent_in_every_state() {
    let mut pair = Pair::primary(Setup::default().fencing("resource-only"));
    for node in [&pair.alpha, &pair.beta] {
        node.set_script("fence", "exit 1");
        node.set_script("unfence", "exit 0");
    }
    let [mut alpha, mut beta] = agents(&pair);
    for agent in [&mut alpha, &mut beta] {
        agent.set("adjust_master_score", "5 10 1000 10000");
    }
    alpha.monitor(PROMOTED);
    beta.monitor(SUCCESS);
    assert_eq!([alpha.score(), beta.score()], [Some(10_000); 2]);

    beta.set("remove_master_score_if_peer_primary", "true");
    beta.monitor(SUCCESS);
    assert_eq!(beta.score(), None);
    beta.unset("remove_master_score_if_peer_primary");

    pair.beta.ok("detach");
    beta.monitor(SUCCESS);
    assert_eq!(
        beta.score(),
        Some(10),
        "it reaches good data only on its peer"
    );
    pair.beta.ok("attach");
    pair.wait_in_sync();

    pair.alpha.kill();
    pair.beta
        .wait_for("a loss", |status| !status.is_connected());
    beta.monitor(SUCCESS);
    assert_eq!(beta.score(), Some(1000), "it does not see its peer");

    pair.beta.kill();
    pair.beta.start();
    pair.beta
        .wait_for("Consistent", |status| status.disk() == "Consistent");
    beta.monitor(SUCCESS);
    assert_eq!(
        beta.score(),
        Some(5),
        "nobody knows whether it is the newest"
    );
    beta.unset("adjust_master_score");
    beta.monitor(SUCCESS);
    assert_eq!(beta.score(), None);

    pair.alpha.start();
    pair.wait_in_sync();
    beta.monitor(SUCCESS);
    assert_eq!(beta.score(), Some(10_000));
    pair.beta.ok("down");
    pair.beta.ok("create-md --force");
    pair.alpha.ok("down");
    pair.beta.ok("up");
    beta.monitor(SUCCESS);
    assert_eq!(beta.score(), None, "its data is not good for anything");
}

#[test]
fn promotion_is_given_up_at_once_without_uptodate_data() {
    let mut pair = Pair::new(Setup::default());
    pair.bring_up();
    let [alpha, _] = agents(&pair);
    alpha.put("score", "77");
    alpha.fails("promote", ERROR, "Need access to UpToDate data");
    let calls = alpha.calls();
    let attempts = calls.iter().filter(|call| call.starts_with("primary"));
    assert_eq!(attempts.count(), 1, "{calls:?}");
    assert_eq!(alpha.score(), None);
}

#[test]
fn promotion_waits_for_a_primary_peer_to_go_unless_told_otherwise() {
    let pair = Pair::primary(Setup::default());
    let [alpha, mut beta] = agents(&pair);
    beta.set("fail_promote_early_if_peer_primary", "true");
    beta.fails("promote", ERROR, "the peer is Primary");
    assert_eq!(beta.calls(), ["sh-status r0"]);
    beta.unset("fail_promote_early_if_peer_primary");
    beta.set("CRM_meta_timeout", "2000");
    beta.fails("promote", ERROR, "no promotion within");
    beta.set("CRM_meta_timeout", "60000");
    std::thread::scope(|scope| {
        let promotion = scope.spawn(|| beta.run("promote"));
        wait_until("it tries", || {
            let calls = fs::read_to_string(beta.stage.join("calls")).unwrap_or_default();
            let tries = calls.lines().filter(|line| line.starts_with("primary"));
            if tries.count() < 2 {
                Err(calls)
            } else {
                Ok(())
            }
        });
        alpha.expect("demote", SUCCESS);
        let output = promotion.join().expect("it ends");
        assert_eq!(output.code, Some(SUCCESS), "{}", output.text());
    });
    assert_eq!(pair.beta.status().role(), "Primary");
}

#[test]
fn a_dead_daemon_is_stopped_to_a_probe_and_an_error_to_a_monitor() {
    let mut pair = Pair::primary(Setup::default());
    let [mut alpha, _] = agents(&pair);
    pair.alpha.kill();
    alpha.expect("monitor", NOT_RUNNING);
    alpha.monitor(ERROR);
    alpha.fails("demote", NOT_RUNNING, "Unreachable");
    alpha.fails("promote", NOT_RUNNING, "not up");
    alpha.expect("stop", SUCCESS);
    alpha.fails("start", ERROR, "daemon=none");
    pair.alpha.start();
    alpha.expect("start", SUCCESS);
    pair.wait_in_sync();
    alpha.expect("promote", SUCCESS);
}

#[test]
fn nothing_is_said_of_a_daemon_that_does_not_answer() {
    let mut pair = Pair::primary(Setup::default());
    let [mut alpha, _] = agents(&pair);
    alpha.set("CRM_meta_timeout", "1500");
    alpha.monitor(PROMOTED);
    let score = alpha.score();
    pair.alpha.pause();
    alpha.monitor(ERROR);
    alpha.fails("monitor", ERROR, "does not answer");
    for action in ["promote", "demote"] {
        alpha.fails(action, ERROR, "no answer within");
    }
    alpha.fails("stop", ERROR, "does not answer");
    // Recovery waits for notifications: they do not take all the time they have, which here is
    // more than the test has.
    alpha.set("CRM_meta_timeout", "600000");
    alpha.set("CRM_meta_notify_type", "post");
    for operation in ["demote", "start"] {
        alpha.set("CRM_meta_notify_operation", operation);
        alpha.expect("notify", SUCCESS);
    }
    alpha.set("CRM_meta_timeout", "1500");
    assert_eq!(alpha.score(), score);
    pair.alpha.resume();
    alpha.monitor(PROMOTED);
}

#[test]
fn clients_are_waited_for_and_never_cut_off() {
    let pair = Pair::primary(Setup::default());
    let [mut alpha, _] = agents(&pair);
    let client = pair.alpha.open();
    alpha.set("CRM_meta_timeout", "2000");
    alpha.fails("demote", ERROR, "not Secondary after");
    alpha.fails("stop", ERROR, "not stopped");
    alpha.monitor(PROMOTED);
    alpha.set("CRM_meta_timeout", "60000");
    std::thread::scope(|scope| {
        alpha.calls();
        let stop = scope.spawn(|| alpha.run("stop"));
        wait_until("it tries", || {
            let calls = fs::read_to_string(alpha.stage.join("calls")).unwrap_or_default();
            if calls.contains("secondary") {
                Ok(())
            } else {
                Err(calls)
            }
        });
        drop(client.disconnect());
        let output = stop.join().expect("it ends");
        assert_eq!(output.code, Some(SUCCESS), "{}", output.text());
    });
    alpha.monitor(NOT_RUNNING);
}

#[test]
fn a_primary_whose_clients_see_errors_has_failed() {
    let mut pair = Pair::primary(Setup::default());
    let [mut alpha, _] = agents(&pair);
    pair.alpha.ok("detach --force");
    alpha.monitor(PROMOTED);
    assert_eq!(alpha.score(), Some(10), "clients are served by the peer");
    pair.beta.kill();
    pair.alpha
        .wait_for("a loss", |status| !status.is_connected());
    wait_until("it has failed", || {
        alpha.set("CRM_meta_interval", "10000");
        let output = alpha.run("monitor");
        if output.code == Some(PROMOTED_AND_FAILED) {
            Ok(())
        } else {
            Err(output.text())
        }
    });
    assert_eq!(alpha.score(), None);
    alpha.expect("stop", SUCCESS);
}

#[test]
fn wrong_parameters_are_refused_and_stop_succeeds_all_the_same() {
    let pair = Pair::synced(Setup::default());
    let check = |parameters: &[(&str, &str)], code: i32, words: &str| {
        let [mut agent, _] = agents(&pair);
        for (name, value) in parameters {
            agent.set(name, value);
        }
        agent.fails("start", code, words);
        assert_eq!(
            agent
                .calls()
                .iter()
                .filter(|call| call.starts_with("up"))
                .count(),
            0
        );
        agent
    };
    let configured = NOT_CONFIGURED;
    let unnamed = check(
        &[("resource", "")],
        configured,
        "resource (or drbd_resource)",
    );
    unnamed.expect("monitor", NOT_CONFIGURED);
    unnamed.expect("stop", SUCCESS);
    check(&[("resource", "a b")], configured, "cannot be the name");
    check(&[("resource", "all")], configured, "cannot be the name");
    check(
        &[("drbd_resource", "r1")],
        configured,
        "drbd_resource is 'r1'",
    );
    check(&[("daemon", "cron")], configured, "systemd, direct or none");
    check(
        &[("connect_only_after_promote", "true")],
        configured,
        "not possible",
    );
    let unexpected = [("remove_master_score_if_peer_primary", "unexpected")];
    check(&unexpected, configured, "not possible yet");
    let clone = ("CRM_meta_clone_max", "2");
    check(&[clone], configured, "notify=true");
    let notified = ("CRM_meta_notify", "true");
    check(
        &[("CRM_meta_clone_max", "3"), notified],
        configured,
        "clone-max",
    );
    check(
        &[("CRM_meta_clone_node_max", "2")],
        configured,
        "clone-node-max",
    );
    check(
        &[("CRM_meta_promoted_max", "3")],
        configured,
        "promoted-max",
    );
    check(
        &[("CRM_meta_master_node_max", "2")],
        configured,
        "promoted-node-max",
    );
    check(
        &[("CRM_meta_promoted_max", "2")],
        configured,
        "allow-two-primaries",
    );

    let absent = check(&[("resource", "r7")], NOT_INSTALLED, "r7");
    absent.expect("monitor", NOT_RUNNING);
    absent.expect("stop", SUCCESS);
    let lost = check(
        &[("rbdconf", "/nonexistent/rbd.conf")],
        NOT_INSTALLED,
        "cannot be read",
    );
    lost.expect("monitor", SUCCESS);
    lost.expect("demote", SUCCESS);
    lost.expect("stop", SUCCESS);
    lost.expect("monitor", NOT_RUNNING);
}

#[test]
fn what_drbds_users_configure_is_understood() {
    let pair = Pair::synced(Setup::default());
    let [mut alpha, _] = agents(&pair);
    let config = alpha.environment["OCF_RESKEY_rbdconf"].clone();
    alpha.unset("resource");
    alpha.unset("rbdconf");
    alpha.set("drbd_resource", "r0");
    alpha.set("drbdconf", &config);
    for (name, value) in [
        ("clone_max", "2"),
        ("clone_node_max", "1"),
        ("master_max", "1"),
        ("master_node_max", "1"),
        ("notify", "true"),
        ("interleave", "true"),
        ("globally_unique", "false"),
    ] {
        alpha.set(&format!("CRM_meta_{name}"), value);
    }
    alpha.expect("validate-all", SUCCESS);
    alpha.expect("start", SUCCESS);
    alpha.expect("promote", SUCCESS);
    alpha.set("adjust_master_score", "40 30 20 10");
    let output = alpha.monitor(PROMOTED);
    assert!(
        output.stderr.contains("not four ascending numbers"),
        "{}",
        output.text()
    );
    assert_eq!(alpha.score(), Some(10_000), "the default counts");
    alpha.set("adjust_master_score", "1 2 3 4");
    alpha.expect("reload-agent", SUCCESS);
    assert_eq!(alpha.score(), Some(4));
    alpha.calls();
    alpha.expect("reload", SUCCESS);
    assert_eq!(alpha.calls(), ["adjust r0", "sh-status r0"]);
}

#[test]
fn a_daemon_is_started_only_by_whom_the_parameter_says() {
    let pair = Pair::new(Setup::default());
    pair.alpha.ok("create-md");
    let started = Started::at(&[&pair.alpha]);
    let [mut alpha, _] = agents(&pair);
    alpha.set("wfc_timeout", "0");
    alpha.expect("monitor", NOT_RUNNING);
    alpha.fails("start", ERROR, "daemon=none");

    alpha.set("daemon", "systemd");
    alpha.put("failing", "");
    alpha.fails("start", ERROR, "rbdd.service");
    fs::remove_file(alpha.stage.join("failing")).expect("it is there");
    alpha.calls();
    alpha.expect("start", SUCCESS);
    let calls = alpha.calls();
    assert!(
        calls.contains(&"start rbdd.service".to_owned()),
        "{calls:?}"
    );
    alpha.expect("start", SUCCESS);
    let calls = alpha.calls();
    assert!(
        !calls.contains(&"start rbdd.service".to_owned()),
        "{calls:?}"
    );
    alpha.monitor(SUCCESS);
    started.kill();
    wait_until("it is gone", || match alpha.run("monitor").code {
        Some(NOT_RUNNING) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    // What is on its way may come up with the resource: stop waits until it is clear.
    alpha.put("active", "activating");
    alpha.calls();
    alpha.expect("stop", SUCCESS);
    assert!(!alpha.stage.join("active").exists());
    assert_eq!(alpha.calls(), ["sh-status r0", "sh-status r0"]);

    alpha.set("daemon", "direct");
    alpha.expect("start", SUCCESS);
    alpha.monitor(SUCCESS);
    alpha.expect("stop", SUCCESS);
    alpha.monitor(NOT_RUNNING);
}

#[test]
fn notifications_bring_the_score_up_to_date_and_never_fail() {
    let mut pair = Pair::synced(Setup::default());
    let [mut alpha, mut beta] = agents(&pair);
    beta.monitor(SUCCESS);
    assert_eq!(beta.score(), Some(10_000));
    pair.alpha.kill();
    pair.beta
        .wait_for("a loss", |status| !status.is_connected());
    beta.set("CRM_meta_notify_type", "pre");
    beta.set("CRM_meta_notify_operation", "stop");
    beta.expect("notify", SUCCESS);
    assert_eq!(beta.score(), Some(10_000), "nothing has happened yet");
    beta.set("CRM_meta_notify_type", "post");
    beta.expect("notify", SUCCESS);
    assert_eq!(beta.score(), Some(1000));
    beta.calls();
    beta.set("CRM_meta_notify_operation", "start");
    beta.expect("notify", SUCCESS);
    assert_eq!(beta.calls(), ["adjust r0", "sh-status r0"]);
    alpha.set("CRM_meta_notify_type", "post");
    alpha.expect("notify", SUCCESS);
}

#[test]
fn a_secondary_that_leaves_its_primary_is_outdated_if_that_is_asked_for() {
    let mut pair = Pair::primary(Setup::default());
    let [_, mut beta] = agents(&pair);
    beta.set("wfc_timeout", "");
    beta.expect("stop", SUCCESS);
    beta.expect("start", SUCCESS);
    pair.wait_in_sync();
    beta.set("stop_outdates_secondary", "true");
    beta.expect("stop", SUCCESS);
    pair.alpha.kill();
    beta.expect("start", SUCCESS);
    assert_eq!(pair.beta.status().disk(), "Outdated");
    assert_eq!(beta.score(), None);
    beta.fails("promote", ERROR, "UpToDate");
    pair.alpha.start();
    pair.wait_in_sync();

    // While the peer is out of sight the cluster knows who is promoted.
    pair.alpha.kill();
    pair.beta
        .wait_for("a loss", |status| !status.is_connected());
    beta.set("CRM_meta_on_node", "beta");
    beta.set("CRM_meta_notify_type", "post");
    beta.set("CRM_meta_notify_operation", "demote");
    beta.set("CRM_meta_notify_master_uname", "alpha");
    beta.set("CRM_meta_notify_demote_uname", "alpha");
    beta.expect("notify", SUCCESS);
    assert_eq!(
        pair.beta.status().disk(),
        "UpToDate",
        "alpha has just been demoted"
    );
    beta.set("CRM_meta_notify_operation", "promote");
    beta.expect("notify", SUCCESS);
    assert_eq!(pair.beta.status().disk(), "Outdated");
}

#[test]
fn the_metadata_names_every_parameter_and_action_there_is() {
    let pair = Pair::new(Setup::default());
    let [mut alpha, _] = agents(&pair);
    alpha.unset("resource");
    let metadata = alpha.expect("meta-data", SUCCESS).stdout;
    let agent = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cluster/ocf/rbd");
    let script = fs::read_to_string(agent).expect("it is there");
    let refused = ["connect_only_after_promote"];
    // The cluster's own.
    let told = ["crm_feature_set"];
    for piece in script.split("OCF_RESKEY_").skip(1) {
        let end = piece.find(|one: char| !one.is_alphanumeric() && one != '_');
        let name = &piece[..end.unwrap_or(piece.len())];
        if !name.starts_with("CRM_meta") && !refused.contains(&name) && !told.contains(&name) {
            let line = format!("<parameter name=\"{name}\"");
            assert!(metadata.contains(&line), "{name}");
        }
    }
    for action in metadata.split("<action name=\"").skip(1) {
        let name = &action[..action.find('"').expect("it ends")];
        assert_ne!(alpha.run(name).code, Some(UNIMPLEMENTED), "{name}");
    }
    alpha.expect("migrate_to", UNIMPLEMENTED);
    alpha.expect("validate-all", NOT_CONFIGURED);
    alpha.set("resource", "r7");
    alpha.expect("validate-all", SUCCESS);
    alpha
        .environment
        .insert("OCF_CHECK_LEVEL".to_owned(), "10".to_owned());
    alpha.fails("validate-all", NOT_INSTALLED, "r7");
}
