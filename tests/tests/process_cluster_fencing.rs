//! Fencing under a real Pacemaker: who may go on when nodes do not see each other, and when nobody
//! can say whether one is off.

use rbd_tests::nbd_client::{CMD_WRITE, Request};
use rbd_tests::process::{Cluster, Link, Options, Status, Switch};

const BLOCK: usize = 4096;

const RESOURCE_ONLY: Options = Options {
    policy: "resource-only",
    handler: "crm-fence-peer.sh",
    primaries: 1,
    cuts_mirror: false,
};

/// Fencing by power alone.
const POWER: Options = Options {
    policy: "resource-and-stonith",
    handler: "stonith-peer.sh",
    primaries: 1,
    cuts_mirror: false,
};

#[test]
fn a_pulled_replication_cable_costs_a_constraint_until_the_resync() {
    let test = "a_pulled_replication_cable_costs_a_constraint_until_the_resync";
    for options in [Options::default(), RESOURCE_ONLY] {
        let Some(cluster) = Cluster::start(test, options) else {
            return;
        };
        cluster.wait_until_whole();
        let node = cluster.wait_for_client();
        cluster.plug(Link::Mirror, false);
        wait_for_constraint(&cluster, node);
        cluster.wait_for_client_on(node);
        assert!(cluster.asked().is_empty(), "{:?}", cluster.asked());
        cluster.plug(Link::Mirror, true);
        cluster.wait_until_whole();
        cluster.finish();
    }
}

#[test]
fn a_node_that_missed_writes_does_not_take_over() {
    let test = "a_node_that_missed_writes_does_not_take_over";
    for options in [Options::default(), RESOURCE_ONLY] {
        let Some(cluster) = Cluster::start(test, options) else {
            return;
        };
        cluster.wait_until_whole();
        let node = cluster.wait_for_client();
        cluster.plug(Link::Mirror, false);
        wait_for_constraint(&cluster, node);
        cluster.wait_for_client_on(node);
        let starts = cluster.client_starts();
        cluster.cut_power_of_all(&[node]);
        cluster.wait("the lost node is fenced", |cluster| {
            let is_back = cluster.has_been_fenced(node) && cluster.is_on(node);
            is_back
                .then_some(())
                .ok_or_else(|| format!("{:?}", cluster.asked()))
        });
        cluster.wait_for_next_start(starts);
        cluster.wait_for_client_on(node);
        cluster.plug(Link::Mirror, true);
        cluster.wait_until_whole();
        cluster.finish();
    }
}

#[test]
fn without_a_word_from_the_switch_nobody_goes_on() {
    let test = "without_a_word_from_the_switch_nobody_goes_on";
    let Some(cluster) = Cluster::start(test, Options::default()) else {
        return;
    };
    cluster.wait_until_whole();
    let node = cluster.wait_for_client();

    // The peer is lost: the client waits, and does not even notice.
    cluster.set_switch(other(node), Switch::Hangs);
    cluster.cut_power(other(node));
    cluster.wait_for_status(node, "waits for fencing", |status| status.awaits_fencing());
    let starts = cluster.client_starts();
    cluster.wait("the switch is asked", |cluster| {
        let is_asked = cluster.has_been_fenced(other(node));
        is_asked
            .then_some(())
            .ok_or_else(|| format!("{:?}", cluster.asked()))
    });
    assert_frozen(&cluster, node);
    cluster.set_switch(other(node), Switch::Works);
    cluster.wait_until_whole();
    assert_eq!(cluster.client_starts(), starts, "the client was disturbed");
    cluster.wait_for_client_on(node);

    // The Primary is lost: nobody takes over.
    cluster.set_switch(node, Switch::Fails);
    cluster.cut_power(node);
    cluster.wait("the switch is asked twice", |cluster| {
        let asked = cluster
            .asked()
            .iter()
            .filter(|it| it.ends_with(node))
            .count();
        (asked >= 2)
            .then_some(())
            .ok_or_else(|| format!("{:?}", cluster.asked()))
    });
    let status = cluster.status(other(node)).expect("the survivor answers");
    assert_eq!(status.role(), "Secondary");
    assert_eq!(cluster.client_starts(), starts);
    cluster.set_switch(node, Switch::Works);
    cluster.wait_for_client_on(other(node));
    cluster.wait_until_whole();
    cluster.finish();
}

#[test]
fn the_handler_that_cuts_the_power_does_so() {
    let test = "the_handler_that_cuts_the_power_does_so";
    let Some(cluster) = Cluster::start(test, POWER) else {
        return;
    };
    cluster.wait_until_whole();
    let node = cluster.wait_for_client();
    let starts = cluster.client_starts();
    cluster.plug(Link::Mirror, false);
    cluster.wait("the peer is off", |cluster| {
        let is_off = cluster.has_been_fenced(other(node)) && !cluster.is_on(other(node));
        is_off
            .then_some(())
            .ok_or_else(|| format!("{:?}", cluster.asked()))
    });
    cluster.wait_for_client_on(node);
    cluster.switch_on(other(node));
    cluster.plug(Link::Mirror, true);
    cluster.wait_until_whole();
    assert_eq!(cluster.client_starts(), starts, "the client was disturbed");
    assert!(!cluster.has_been_fenced(node), "{:?}", cluster.asked());
    cluster.finish();
}

#[test]
fn a_switch_that_lies_makes_no_second_primary_that_answers() {
    let test = "a_switch_that_lies_makes_no_second_primary_that_answers";
    let Some(cluster) = Cluster::promoted(test, Options::default()) else {
        return;
    };
    let is_primary = |node: &&str| cluster.status(node).is_ok_and(|it| it.role() == "Primary");
    let old = ["alpha", "beta"]
        .into_iter()
        .find(is_primary)
        .expect("one is Primary");
    let new = other(old);
    cluster.wait_for_status(new, "in sync", Status::is_in_sync);
    let mut client = cluster.open(old).expect("a Primary can be opened");
    client
        .write_durably(0, &[1; BLOCK])
        .expect("it can be written to");

    // The old one seems to be off, and is not; of the new one it gets no word.
    cluster.set_switch(old, Switch::Lies);
    cluster.set_switch(new, Switch::Hangs);
    for link in [Link::Cluster, Link::Mirror] {
        cluster.plug(link, false);
    }
    cluster.wait_for_status(old, "waits for fencing", Status::awaits_fencing);
    let data = [2; BLOCK];
    let write = Request {
        command: CMD_WRITE,
        flags: 0,
        offset: 0,
        length: u32::try_from(BLOCK).expect("it is small"),
        payload: &data,
    };
    client.send(write).expect("a frozen Primary takes requests");
    cluster.wait_for_status(new, "Primary", |status| status.role() == "Primary");
    let mut second = cluster.open(new).expect("a Primary can be opened");
    second
        .write_durably(0, &[3; BLOCK])
        .expect("it can be written to");
    cluster.wait_for_status(old, "a request that waits", |status| status.waiting() > 0);
    let status = cluster.status(old).expect("it answers");
    assert!(status.awaits_fencing(), "{}", status.text());
    drop(second.disconnect());

    // Both see each other again: the new one's constraint keeps the old one frozen.
    cluster.set_switch(new, Switch::Fails);
    for link in [Link::Cluster, Link::Mirror] {
        cluster.plug(link, true);
    }
    wait_for_constraint(&cluster, new);
    cluster.wait_for_status(old, "meets a Primary", |it| it.connection() == "StandAlone");
    cluster.wait_for_words(old, "this node is fenced itself");
    let status = cluster.status(old).expect("it answers");
    assert!(
        status.awaits_fencing() && status.waiting() > 0,
        "{}",
        status.text()
    );

    // Somebody really switches it off.
    cluster.cut_power(old);
    for node in [old, new] {
        cluster.set_switch(node, Switch::Works);
    }
    cluster.switch_on(old);
    cluster.wait("one Primary, in sync", |cluster| {
        let mine = cluster.status(old)?;
        let its = cluster.status(new)?;
        let primaries = [&mine, &its]
            .iter()
            .filter(|it| it.role() == "Primary")
            .count();
        let is_so = primaries == 1 && mine.is_in_sync() && its.is_in_sync();
        is_so
            .then_some(())
            .ok_or_else(|| format!("{}\n{}", mine.text(), its.text()))
    });
    drop(client);
    let primary = ["alpha", "beta"]
        .into_iter()
        .find(is_primary)
        .expect("one is Primary");
    let mut client = cluster.open(primary).expect("a Primary can be opened");
    assert_eq!(client.read(0, 4096).expect("it can be read"), [3; BLOCK]);
}

fn wait_for_constraint(cluster: &Cluster, node: &str) {
    cluster.wait("a constraint", |cluster| {
        let owner = cluster.constraint();
        let is_so = owner.as_deref() == Some(node);
        is_so.then_some(()).ok_or_else(|| format!("{owner:?}"))
    });
}

/// Looks several times, each of which asks the daemon.
fn assert_frozen(cluster: &Cluster, node: &str) {
    let answered = cluster.client_answered();
    for _ in 0..20 {
        let status = cluster.status(node).expect("the daemon answers");
        assert!(status.awaits_fencing(), "{}", status.text());
    }
    assert_eq!(
        cluster.client_answered(),
        answered,
        "something was answered"
    );
}

fn other(node: &str) -> &'static str {
    if node == "alpha" { "beta" } else { "alpha" }
}
