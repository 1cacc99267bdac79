//! A node that is cut off at the mirror because its power switch cannot be reached, under a real
//! Pacemaker: what it has written is answered or lost to it, and never goes on beside the other.

use rbd_tests::nbd_client::{CMD_WRITE, Client, Request};
use rbd_tests::process::{Cluster, Link, Options, Status};

/// Beta has one vote of three, and no power switch that works.
const CUT: Options = Options {
    policy: "resource-and-stonith",
    handler: "crm-fence-peer.sh",
    primaries: 1,
    cuts_mirror: true,
};

const BLOCK: usize = 4096;
const OFF: &str = "fence_rbd --action=off --plug=beta --timeout=15";

#[test]
fn a_machine_without_power_whose_switch_is_out_of_reach_is_cut_off() {
    let test = "a_machine_without_power_whose_switch_is_out_of_reach_is_cut_off";
    let Some(cluster) = Cluster::start(test, CUT) else {
        return;
    };
    cluster.wait_until_whole();
    move_to_beta(&cluster);
    cluster.wait_for_client_on("beta");
    cluster.cut_power("beta");
    cluster.wait_for_client_on("alpha");
    assert_eq!(cluster.constraint().as_deref(), Some("alpha"));
    assert!(cluster.asked().is_empty(), "{:?}", cluster.asked());
    cluster.switch_on("beta");
    cluster.wait_until_whole();
    cluster.finish();
}

#[test]
fn what_a_primary_writes_that_was_cut_off_is_never_answered() {
    let test = "what_a_primary_writes_that_was_cut_off_is_never_answered";
    let Some(cluster) = Cluster::promoted(test, CUT) else {
        return;
    };
    cluster.wait_for_status("alpha", "in sync", Status::is_in_sync);
    move_to_beta(&cluster);
    cluster.wait_for_status("beta", "Primary", |it| it.role() == "Primary");
    let mut client = cluster.open("beta").expect("a Primary can be opened");
    client
        .write_durably(0, &[1; BLOCK])
        .expect("it can be written to");

    // Only the cluster's link is lost: the mirror is whole until it is cut.
    cluster.plug(Link::Cluster, false);
    cluster.wait_for_status("beta", "frozen", Status::awaits_fencing);
    begin_to_write(&mut client, 2);
    cluster.wait_for_status("alpha", "Primary", |it| it.role() == "Primary");
    let mut second = cluster.open("alpha").expect("a Primary can be opened");
    second
        .write_durably(0, &[3; BLOCK])
        .expect("it can be written to");
    let status = cluster.status("alpha").expect("it answers");
    assert_eq!(status.peer_disk(), "Outdated", "{}", status.text());

    // Both see each other again; only a restart ends it.
    cluster.plug(Link::Cluster, true);
    cluster.wait_for_status("beta", "a request that waits", |it| it.waiting() > 0);
    let status = cluster.status("beta").expect("it answers");
    assert!(status.awaits_fencing(), "{}", status.text());
    drop(second.disconnect());
    cluster.cut_power("beta");
    cluster.switch_on("beta");
    cluster.wait_for_status("beta", "in sync", Status::is_in_sync);
    drop(client);
    let mut second = cluster.open("alpha").expect("a Primary can be opened");
    let data = second.read(0, 4096).expect("it can be read");
    assert_eq!(data, [3; BLOCK]);
    cluster.wait("no constraint", |cluster| {
        let owner = cluster.constraint();
        owner.is_none().then_some(()).ok_or(format!("{owner:?}"))
    });
}

#[test]
fn of_two_primaries_the_one_with_the_votes_cuts_off_the_other() {
    let test = "of_two_primaries_the_one_with_the_votes_cuts_off_the_other";
    let two = Options {
        primaries: 2,
        ..CUT
    };
    let Some(cluster) = Cluster::start(test, two) else {
        return;
    };
    cluster.wait_until_whole();
    let starts = cluster.starts_on("alpha");
    cluster.plug(Link::Cluster, false);
    cluster.wait_for_status("alpha", "goes on alone", |it| {
        it.peer_disk() == "Outdated" && !it.is_suspended()
    });
    cluster.wait_for_clients_of("alpha");
    cluster.wait_for_status("beta", "frozen", Status::awaits_fencing);
    assert_eq!(cluster.starts_on("alpha"), starts, "alpha was disturbed");
    cluster.plug(Link::Cluster, true);
    cluster.cut_power("beta");
    cluster.switch_on("beta");
    cluster.wait_until_whole();
    cluster.finish();
}

#[test]
fn a_node_that_could_be_cut_off_itself_cuts_off_nobody() {
    let test = "a_node_that_could_be_cut_off_itself_cuts_off_nobody";
    // The one asks for no quorum when it has alpha switched off, with the other there are two.
    let power = Options {
        handler: "stonith-peer.sh",
        ..CUT
    };
    for (options, words) in [
        (Options::default(), "two_node"),
        (power, "another fence-peer"),
    ] {
        let Some(cluster) = Cluster::start(test, options) else {
            return;
        };
        cluster.wait_until_whole();
        refused(&cluster, "alpha", OFF, words);
        refused(&cluster, "alpha", "fence_rbd -o off -n alpha", "itself");
        cluster.wait_until_whole();
        cluster.finish();
    }
}

#[test]
fn only_the_majority_with_the_newest_data_cuts_off_the_other() {
    let test = "only_the_majority_with_the_newest_data_cuts_off_the_other";
    let Some(cluster) = Cluster::start(test, CUT) else {
        return;
    };
    cluster.wait_until_whole();
    let few = "fence_rbd -o off -n alpha -t 15";
    refused(&cluster, "beta", few, "no majority");

    // Beta goes on without its peer: its constraint is in the way of alpha.
    move_to_beta(&cluster);
    cluster.wait_for_client_on("beta");
    cluster.plug(Link::Mirror, false);
    cluster.wait("a constraint", |cluster| {
        let owner = cluster.constraint();
        let is_so = owner.as_deref() == Some("beta");
        is_so.then_some(()).ok_or(format!("{owner:?}"))
    });
    refused(&cluster, "alpha", OFF, "kept from being promoted");
    cluster.wait_for_client_on("beta");
    cluster.plug(Link::Mirror, true);
    cluster.wait_until_whole();

    // By hand, and back, without anybody's having been promoted.
    cluster.ok(
        "alpha",
        &["crm", "resource", "move", "c_rbd", "alpha", "Promoted"],
    );
    cluster.wait_for_client_on("alpha");
    cluster.ok("alpha", &["crm", "resource", "clear", "c_rbd"]);
    cluster.wait_until_whole();
    let status = "fence_rbd -o status -n beta";
    assert_eq!(cluster.run("alpha", &["sh", "-c", status]).code, Some(0));
    cluster.ok("alpha", &["sh", "-c", OFF]);
    assert_eq!(cluster.run("alpha", &["sh", "-c", status]).code, Some(2));
    cluster.wait_for_client_on("alpha");
    cluster.ok("alpha", &["fence_rbd", "-o", "on", "-n", "beta"]);
    assert_eq!(cluster.run("alpha", &["sh", "-c", status]).code, Some(0));
    cluster.wait_until_whole();
    cluster.finish();
}

fn move_to_beta(cluster: &Cluster) {
    let status = cluster.status("beta").expect("it answers");
    if status.role() != "Primary" {
        let words = ["crm", "resource", "move", "c_rbd", "beta", "Promoted"];
        cluster.ok("alpha", &words);
        cluster.wait_for_status("beta", "Primary", |it| it.role() == "Primary");
        cluster.ok("alpha", &["crm", "resource", "clear", "c_rbd"]);
    }
}

#[track_caller]
fn refused(cluster: &Cluster, node: &str, command: &str, words: &str) {
    let output = cluster.run(node, &["sh", "-c", command]);
    assert_eq!(output.code, Some(1), "{command}: {}", output.text());
    assert!(output.stderr.contains(words), "{}", output.text());
}

fn begin_to_write(client: &mut Client, byte: u8) {
    let data = [byte; BLOCK];
    let write = Request {
        command: CMD_WRITE,
        flags: 0,
        offset: 0,
        length: 4096,
        payload: &data,
    };
    client.send(write).expect("a frozen Primary takes requests");
}
