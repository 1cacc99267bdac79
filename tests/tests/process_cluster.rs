//! The whole thing under a real Pacemaker: two machines made of namespaces, Debian's cluster, our
//! agent and handlers, a power switch, and a client that goes where the cluster says and first
//! reads back everything that was ever answered.

use rbd_tests::faultfs::{Effect, Fault, On};
use rbd_tests::process::{Cluster, Link, Options};
use rustix::io::Errno;

#[test]
fn the_client_goes_with_the_cluster_and_nobody_is_fenced() {
    let test = "the_client_goes_with_the_cluster_and_nobody_is_fenced";
    let Some(cluster) = Cluster::start(test, Options::default()) else {
        return;
    };
    cluster.wait_until_whole();
    let first = cluster.wait_for_client();
    let second = other(first);

    cluster.ok(
        first,
        &["crm", "resource", "move", "c_rbd", second, "Promoted"],
    );
    cluster.wait_for_client_on(second);
    cluster.ok(first, &["crm", "resource", "clear", "c_rbd"]);
    cluster.wait_until_whole();

    cluster.ok(first, &["crm", "node", "standby", second]);
    cluster.wait_for_client_on(first);
    cluster.ok(first, &["crm", "node", "online", second]);
    cluster.wait_until_whole();
    assert!(cluster.asked().is_empty(), "{:?}", cluster.asked());
    cluster.finish();
}

#[test]
fn a_primary_without_power_is_fenced_and_the_other_has_everything() {
    let test = "a_primary_without_power_is_fenced_and_the_other_has_everything";
    let Some(cluster) = Cluster::start(test, Options::default()) else {
        return;
    };
    for _ in 0..2 {
        cluster.wait_until_whole();
        let lost = cluster.wait_for_client();
        cluster.cut_power(lost);
        cluster.wait_for_client_on(other(lost));
        assert!(cluster.has_been_fenced(lost), "{:?}", cluster.asked());
    }
    cluster.wait_until_whole();
    cluster.finish();
}

#[test]
fn a_machine_that_resets_itself_is_fenced_and_comes_back() {
    let test = "a_machine_that_resets_itself_is_fenced_and_comes_back";
    let Some(cluster) = Cluster::start(test, Options::default()) else {
        return;
    };
    cluster.wait_until_whole();
    let lost = cluster.wait_for_client();
    cluster.reset(lost);
    cluster.wait_for_client_on(other(lost));
    // Its switch answers at the first time of asking.
    assert_eq!(cluster.asked(), [format!("reboot {lost}")]);
    cluster.wait_until_whole();
    cluster.finish();
}

#[test]
fn killed_daemons_of_a_primary_cost_no_answered_write() {
    let test = "killed_daemons_of_a_primary_cost_no_answered_write";
    let Some(cluster) = Cluster::start(test, Options::default()) else {
        return;
    };
    for daemon in ["rbdd", "pacemakerd", "corosync"] {
        cluster.wait_until_whole();
        let starts = cluster.client_starts();
        let node = cluster.wait_for_client();
        cluster.kill(node, daemon);
        if daemon != "pacemakerd" {
            cluster.wait_for_next_start(starts);
        }
    }
    cluster.wait_until_whole();
    cluster.finish();
}

#[test]
fn of_two_that_do_not_see_each_other_one_is_left() {
    let test = "of_two_that_do_not_see_each_other_one_is_left";
    let Some(cluster) = Cluster::start(test, Options::default()) else {
        return;
    };
    for links in [&[Link::Cluster][..], &[Link::Cluster, Link::Mirror]] {
        cluster.wait_until_whole();
        // The one that loses is the one that has clients.
        if cluster.wait_for_client() != "alpha" {
            let words = ["crm", "resource", "move", "c_rbd", "alpha", "Promoted"];
            cluster.ok("alpha", &words);
            cluster.wait_for_client_on("alpha");
            cluster.ok("alpha", &["crm", "resource", "clear", "c_rbd"]);
            cluster.wait_until_whole();
        }
        let before = cluster.asked().len();
        for link in links {
            cluster.plug(*link, false);
        }
        cluster.wait("somebody is fenced", |cluster| {
            let asked = cluster.asked();
            (asked.len() > before)
                .then_some(())
                .ok_or("nobody".to_owned())
        });
        // Alpha, whose switch is asked without delay.
        cluster.wait_for_client_on("beta");
        for link in links {
            cluster.plug(*link, true);
        }
    }
    cluster.wait_until_whole();
    cluster.finish();
}

#[test]
fn a_cluster_that_was_shut_down_comes_back_with_what_was_written_last() {
    let test = "a_cluster_that_was_shut_down_comes_back_with_what_was_written_last";
    let Some(cluster) = Cluster::start(test, Options::default()) else {
        return;
    };
    cluster.wait_until_whole();
    let last = cluster.wait_for_client();
    cluster.shut_down(other(last));
    cluster.wait_for_client_on(last);
    cluster.shut_down(last);
    cluster.switch_on("alpha");
    cluster.switch_on("beta");
    cluster.wait_for_client();
    cluster.wait_until_whole();

    // All at once, and without a word.
    cluster.cut_power_of_all(&["alpha", "beta"]);
    cluster.switch_on("alpha");
    cluster.switch_on("beta");
    cluster.wait_until_whole();
    cluster.finish();
}

#[test]
fn a_failed_disk_of_the_primary_costs_a_move() {
    let test = "a_failed_disk_of_the_primary_costs_a_move";
    let Some(cluster) = Cluster::start(test, Options::default()) else {
        return;
    };
    cluster.wait_until_whole();
    let node = cluster.wait_for_client();
    cluster.break_disk(node, Fault::new(On::Any, Effect::Error(Errno::IO)));
    cluster.wait_for_client_on(other(node));
    cluster.mend_disk(node);
    cluster.ok(node, &["rbdadm", "attach", "r0"]);
    cluster.wait_until_whole();
    assert!(cluster.asked().is_empty(), "{:?}", cluster.asked());
    cluster.finish();
}

fn other(node: &str) -> &'static str {
    if node == "alpha" { "beta" } else { "alpha" }
}
