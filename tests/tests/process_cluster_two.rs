//! Two Primaries under a real Pacemaker, configured as a cluster file system wants it: clients of
//! both machines write to places of their own and to the same ones, while a machine loses its
//! power, the replication cable is pulled and a daemon stands still. Every read is judged, and both
//! disks are compared.

use rbd_tests::process::{Cluster, Link, Options, Status};

/// With a constraint.
const CONSTRAINT: Options = Options {
    policy: "resource-and-stonith",
    handler: "crm-fence-peer.sh",
    primaries: 2,
    cuts_mirror: false,
};

/// With power alone.
const POWER: Options = Options {
    handler: "stonith-peer.sh",
    ..CONSTRAINT
};

const NODES: [&str; 2] = ["alpha", "beta"];

#[test]
fn both_machines_write_while_one_is_in_standby_and_back() {
    let test = "both_machines_write_while_one_is_in_standby_and_back";
    let Some(cluster) = Cluster::start(test, CONSTRAINT) else {
        return;
    };
    cluster.wait_until_whole();
    assert_both_primary(&cluster);
    let starts = cluster.starts_on("beta");
    cluster.ok("beta", &["crm", "node", "standby", "alpha"]);
    cluster.wait_for_status("beta", "without its peer", |it| !it.is_connected());
    cluster.wait_for_clients_of("beta");
    cluster.ok("beta", &["crm", "node", "online", "alpha"]);
    cluster.wait_until_whole();
    assert_both_primary(&cluster);
    assert_eq!(cluster.starts_on("beta"), starts, "beta was disturbed");
    assert!(cluster.asked().is_empty(), "{:?}", cluster.asked());
    cluster.finish();
}

#[test]
fn a_machine_without_power_returns_and_is_promoted_again() {
    let test = "a_machine_without_power_returns_and_is_promoted_again";
    for (options, lost) in [(CONSTRAINT, "alpha"), (POWER, "beta")] {
        let Some(cluster) = Cluster::start(test, options) else {
            return;
        };
        cluster.wait_until_whole();
        let survivor = other(lost);
        let starts = cluster.starts_on(survivor);
        cluster.cut_power(lost);
        wait_until_fenced(&cluster, lost);
        cluster.wait_for_clients_of(survivor);
        if !cluster.is_on(lost) {
            cluster.switch_on(lost);
        }
        cluster.wait_until_whole();
        assert_both_primary(&cluster);
        assert_eq!(cluster.starts_on(survivor), starts, "it was disturbed");
        assert!(!cluster.has_been_fenced(survivor), "{:?}", cluster.asked());
        cluster.finish();
    }
}

#[test]
fn of_two_primaries_without_a_replication_cable_one_goes_on() {
    let test = "of_two_primaries_without_a_replication_cable_one_goes_on";
    for options in [CONSTRAINT, POWER] {
        let Some(cluster) = Cluster::start(test, options) else {
            return;
        };
        cluster.wait_until_whole();
        let starts = NODES.map(|node| cluster.starts_on(node));
        cluster.plug(Link::Mirror, false);
        cluster.wait("one of them is fenced", |cluster| {
            let asked = cluster.asked();
            let is_so = NODES.iter().any(|node| cluster.has_been_fenced(node));
            is_so.then_some(()).ok_or_else(|| format!("{asked:?}"))
        });
        let fenced = NODES.map(|node| cluster.has_been_fenced(node));
        assert!(fenced != [true; 2], "{:?}", cluster.asked());
        let survivor = if fenced[0] { 1 } else { 0 };
        let (lost, survivor) = (NODES[1 - survivor], NODES[survivor]);
        cluster.wait_for_clients_of(survivor);
        cluster.plug(Link::Mirror, true);
        cluster.wait("it is off, and switched on again", |cluster| {
            if !cluster.is_on(lost) && options.handler == POWER.handler {
                cluster.switch_on(lost);
            }
            let is_so = cluster.is_on(lost);
            is_so.then_some(()).ok_or_else(|| "it is off".to_owned())
        });
        cluster.wait_until_whole();
        assert_both_primary(&cluster);
        let number = usize::from(survivor == "beta");
        assert_eq!(cluster.starts_on(survivor), starts[number], "disturbed");
        assert!(!cluster.has_been_fenced(survivor), "{:?}", cluster.asked());
        cluster.finish();
    }
}

#[test]
fn a_daemon_that_stands_still_costs_its_machine() {
    let test = "a_daemon_that_stands_still_costs_its_machine";
    for options in [CONSTRAINT, POWER] {
        let Some(cluster) = Cluster::start(test, options) else {
            return;
        };
        cluster.wait_until_whole();
        let starts = cluster.starts_on("beta");
        cluster.signal("alpha", "STOP", "rbdd");
        cluster.wait_for_status("beta", "the peer is cut off", |status| {
            status.peer_disk() == "Outdated" && status.connection() != "Connected"
        });
        cluster.wait_for_clients_of("beta");
        wait_until_fenced(&cluster, "alpha");
        if !cluster.is_on("alpha") {
            cluster.switch_on("alpha");
        }
        cluster.wait_until_whole();
        assert_both_primary(&cluster);
        assert_eq!(cluster.starts_on("beta"), starts, "beta was disturbed");
        assert!(!cluster.has_been_fenced("beta"), "{:?}", cluster.asked());
        cluster.finish();
    }
}

#[test]
fn the_agent_says_that_a_daemon_stands_still_and_its_machine_is_fenced() {
    let test = "the_agent_says_that_a_daemon_stands_still_and_its_machine_is_fenced";
    let Some(cluster) = Cluster::promoted(test, CONSTRAINT) else {
        return;
    };
    wait_until_both_are_primary(&cluster);
    cluster.signal("alpha", "STOP", "rbdd");
    cluster.wait("the cluster says why", |cluster| {
        let said = cluster.run("beta", &["crm_mon", "--one-shot", "--inactive"]);
        let is_so = said.stdout.contains("rbdd does not answer");
        is_so.then_some(()).ok_or(said.stdout)
    });
    wait_until_fenced(&cluster, "alpha");
    wait_until_both_are_primary(&cluster);
    assert!(!cluster.has_been_fenced("beta"), "{:?}", cluster.asked());
    cluster.finish();
}

fn wait_until_fenced(cluster: &Cluster, node: &str) {
    cluster.wait(&format!("{node} is fenced"), |cluster| {
        let asked = cluster.asked();
        let is_so = cluster.has_been_fenced(node);
        is_so.then_some(()).ok_or_else(|| format!("{asked:?}"))
    });
}

fn wait_until_both_are_primary(cluster: &Cluster) {
    for node in NODES {
        cluster.wait_for_status(node, "Primary beside a Primary", |status| {
            status.role() == "Primary" && status.peer_role() == "Primary" && status.is_in_sync()
        });
    }
}

fn assert_both_primary(cluster: &Cluster) {
    let roles = NODES.map(|node| cluster.status(node).map(|it: Status| it.role().to_owned()));
    let is_so = roles.iter().flatten().filter(|it| *it == "Primary").count() == 2;
    assert!(is_so, "{roles:?}");
}

fn other(node: &str) -> &'static str {
    if node == "alpha" { "beta" } else { "alpha" }
}
