//! Text, JSON and advice, of made-up states.

mod two_primaries;
mod without_disk;

use rbd_protocol::control::Divergence;
use rbd_protocol::ids::NodeId;
use rbd_protocol::policy::WithoutPrimary;
use rbd_protocol::state::{ConnectionState, DiskState, ReplicationState, Role};

use super::advice::advice;
use super::explain::{explain, wrapped};
use super::measure::{duration, moment, percent, size};
use super::sample::{device, healthy, lost_link, peer, resource, resyncing, split_brain};
use super::{Layout, document, losses, render};

const BARE: Layout = Layout {
    verbose: false,
    statistics: false,
    color: false,
    width: 80,
    advice: false,
};

const EVERYTHING: Layout = Layout {
    verbose: true,
    statistics: true,
    ..BARE
};

const WITH_ADVICE: Layout = Layout {
    advice: true,
    ..BARE
};

#[test]
fn healthy_resource_with_one_volume_takes_four_lines() {
    let expected = "\
r0 role:Secondary
  disk:UpToDate open:no
  beta role:Primary
    peer-disk:UpToDate

";
    assert_eq!(render(&[healthy()], BARE), expected);
    assert_eq!(render(&[healthy()], WITH_ADVICE), expected);
}

#[test]
fn several_volumes_are_numbered_and_a_resync_shows_how_far_it_is() {
    let status = resource(
        "some-resource",
        Role::Primary,
        vec![
            device(0, DiskState::UpToDate),
            device(1, DiskState::Inconsistent),
        ],
        vec![peer(
            "some-peer",
            Role::Secondary,
            vec![
                resyncing(0, ReplicationState::SyncSource, DiskState::Inconsistent),
                resyncing(1, ReplicationState::SyncSource, DiskState::Inconsistent),
            ],
        )],
    );
    let expected = "\
some-resource role:Primary
  volume:0 disk:UpToDate open:no
  volume:1 disk:Inconsistent open:no
  some-peer role:Secondary
    volume:0 replication:SyncSource peer-disk:Inconsistent done:37.50
    volume:1 replication:SyncSource peer-disk:Inconsistent done:37.50

";
    assert_eq!(render(&[status], BARE), expected);
}

#[test]
fn a_peer_out_of_reach_is_one_line() {
    let expected = "\
r0 role:Secondary
  disk:UpToDate open:no
  beta connection:Connecting

";
    assert_eq!(render(&[lost_link()], BARE), expected);
}

#[test]
fn a_remembered_peer_disk_is_shown_without_a_connection() {
    let mut status = lost_link();
    status.connections[0].peer_devices[0].peer_disk_state = DiskState::Outdated;
    let expected = "\
r0 role:Secondary
  disk:UpToDate open:no
  beta connection:Connecting
    peer-disk:Outdated

";
    assert_eq!(render(&[status], BARE), expected);
}

#[test]
fn verbose_statistics_break_lines_where_drbd_does() {
    let on_peer = resyncing(0, ReplicationState::Established, DiskState::UpToDate);
    let status = resource(
        "some-resource",
        Role::Secondary,
        vec![device(0, DiskState::UpToDate)],
        vec![peer("some-peer", Role::Primary, vec![on_peer])],
    );
    let expected = "\
some-resource node-id:4 role:Secondary suspended:no force-io-failures:no
    write-ordering:flush
  volume:0 minor:1000 disk:UpToDate backing_dev:/dev/sda quorum:yes open:no
      size:10000 read:10 written:15 al-writes:40 bm-writes:50 upper-pending:60
      lower-pending:70 al-suspended:no blocked:no
  some-peer node-id:1 connection:Connected role:Primary tls:no congested:no
      ap-in-flight:10 rs-in-flight:20
    volume:0 replication:Established peer-disk:UpToDate done:37.50
        resync-suspended:no
        received:5 sent:10 out-of-sync:2500 pending:30 unacked:40 dbdt1:0.24 eta:10

";
    assert_eq!(render(&[status], EVERYTHING), expected);
}

#[test]
fn words_are_never_split_however_narrow_the_terminal() {
    let narrow = Layout {
        width: 5,
        ..EVERYTHING
    };
    let text = render(&[healthy()], narrow);
    let words: Vec<&str> = text.split_whitespace().collect();
    let wide = render(
        &[healthy()],
        Layout {
            width: 500,
            ..EVERYTHING
        },
    );
    assert_eq!(words, wide.split_whitespace().collect::<Vec<_>>());
    assert!(wide.lines().count() < text.lines().count());
}

#[test]
fn a_node_without_storage_is_a_client_and_healthy() {
    let mut status = healthy();
    status.devices[0].disk_state = DiskState::Diskless;
    status.devices[0].backing_disk = None;
    let text = render(&[status.clone()], WITH_ADVICE);
    assert!(
        text.contains("  disk:Diskless client:yes open:no\n"),
        "{text}"
    );
    assert_eq!(advice(&status), Vec::<String>::new());
}

#[test]
fn colours_surround_only_the_state_words() {
    let colored = Layout {
        color: true,
        ..BARE
    };
    let text = render(&[healthy()], colored);
    assert!(
        text.contains("disk:\u{1b}[32mUpToDate\u{1b}[0m open:no"),
        "{text}"
    );
    let plain = text
        .split('\u{1b}')
        .map(|part| part.split_once('m').filter(|_| part.starts_with('[')))
        .map(|cut| cut.map_or("", |(_, rest)| rest))
        .collect::<String>();
    assert!(plain.contains("role:Secondary\n  disk:UpToDate"), "{plain}");
}

#[test]
fn a_name_from_the_daemon_cannot_steer_the_terminal() {
    let mut status = healthy();
    status.connections[0].name = "be\u{1b}[2Jta\n".to_owned();
    let text = render(&[status], WITH_ADVICE);
    assert!(!text.contains('\u{1b}'), "{text}");
    assert_eq!(text.lines().count(), 5);
}

#[test]
fn advice_follows_the_resource_and_names_reason_age_and_next_step() {
    let text = render(&[lost_link()], WITH_ADVICE);
    let expected = "\
r0 role:Secondary
  disk:UpToDate open:no
  beta connection:Connecting
  # beta Connecting for 2 min: connection refused; next: see that rbdd runs on beta, that rbdadm \
up r0 was done there and that [fd00::2]:7790 can be reached

";
    assert_eq!(text, expected);
}

#[test]
fn a_refused_link_is_not_called_unreachable() {
    let mut status = lost_link();
    status.connections[0].is_refused = true;
    status.connections[0].note = "wrong shared-secret".to_owned();
    let text = render(&[status], WITH_ADVICE);
    let expected = "  # beta Connecting for 2 min: wrong shared-secret; next: \
rbdadm status r0 on beta; compare rbdadm dump r0 here and there\n";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn every_unhealthy_disk_state_has_a_line() {
    let unhealthy = [
        DiskState::Diskless,
        DiskState::Attaching,
        DiskState::Detaching,
        DiskState::Failed,
        DiskState::Negotiating,
        DiskState::Inconsistent,
        DiskState::Outdated,
        DiskState::Consistent,
    ];
    for state in unhealthy {
        let mut status = healthy();
        status.devices[0].disk_state = state;
        let lines = advice(&status);
        assert_eq!(lines.len(), 1, "{state}: {lines:?}");
        assert!(
            lines[0].starts_with(&format!("volume 0 {state}: ")),
            "{lines:?}"
        );
    }
}

#[test]
fn every_unhealthy_connection_state_has_a_line() {
    for number in 0..ConnectionState::Connected.number() {
        let state = ConnectionState::from_number(number).unwrap();
        let mut status = lost_link();
        status.connections[0].connection_state = state;
        status.connections[0].note = String::new();
        let lines = advice(&status);
        assert_eq!(lines.len(), 1, "{state}: {lines:?}");
        assert!(
            lines[0].starts_with(&format!("beta {state} for ")),
            "{lines:?}"
        );
    }
}

#[test]
fn a_running_resync_tells_rate_and_time_left() {
    let mut status = healthy();
    status.devices[0].disk_state = DiskState::Inconsistent;
    status.connections[0].peer_devices = vec![resyncing(
        0,
        ReplicationState::SyncTarget,
        DiskState::UpToDate,
    )];
    let expected = [
        "volume 0 Inconsistent: being resynchronised from beta; next: wait: rbdadm wait-sync r0",
        "beta volume 0 SyncTarget: 37.50 % done, 2.44 MiB left, 0.24 MiB/s, about 10 s to go, \
         limited by the link",
    ];
    assert_eq!(advice(&status), expected);
}

#[test]
fn who_is_to_receive_data_is_not_told_to_declare_its_own_good() {
    let mut status = healthy();
    status.devices[0].disk_state = DiskState::Inconsistent;
    let states = [
        (
            ReplicationState::WFBitMapT,
            false,
            "wait: rbdadm wait-sync r0",
        ),
        (
            ReplicationState::PausedSyncT,
            false,
            "wait: rbdadm wait-sync r0",
        ),
        (ReplicationState::PausedSyncT, true, "rbdadm resume-sync r0"),
    ];
    for (state, user, next) in states {
        let mut device = resyncing(0, state, DiskState::UpToDate);
        device.resync_suspended.user = user;
        status.connections[0].peer_devices = vec![device];
        let expected =
            format!("volume 0 Inconsistent: being resynchronised from beta; next: {next}");
        assert_eq!(advice(&status)[0], expected);
    }
}

#[test]
fn two_fresh_disks_are_told_about_both_ways_to_begin() {
    let mut status = healthy();
    status.devices[0].disk_state = DiskState::Inconsistent;
    status.connections[0].peer_devices[0].peer_disk_state = DiskState::Inconsistent;
    let lines = advice(&status);
    assert!(lines[0].contains("rbdadm primary --force r0"), "{lines:?}");
    assert!(
        lines[0].contains("rbdadm new-current-uuid --clear-bitmap r0/0"),
        "{lines:?}"
    );
}

#[test]
fn the_reason_the_daemon_gives_wins_over_the_general_one() {
    let mut status = healthy();
    status.devices[0].disk_state = DiskState::Diskless;
    status.devices[0].disk_note = "read error at 4096 since 12:00".to_owned();
    let lines = advice(&status);
    assert!(
        lines[0].starts_with("volume 0 Diskless: read error at 4096 since 12:00; next: "),
        "{lines:?}"
    );
}

#[test]
fn a_healthy_resource_is_explained_in_one_paragraph() {
    let expected = "r0: this node is Secondary: it receives what the Primary writes and serves no \
                    clients. Its data is the newest there is and every peer has the same. Nothing \
                    needs to be done.";
    assert_eq!(explain(&healthy()), [expected]);
}

#[test]
fn each_trouble_is_explained_with_its_meaning_reason_age_and_remedy() {
    let mut status = lost_link();
    status.devices[0].disk_state = DiskState::Consistent;
    let paragraphs = explain(&status);
    assert_eq!(paragraphs.len(), 3, "{paragraphs:?}");
    assert!(paragraphs[0].ends_with("2 things are not as they should be."));
    let disk = "This node's disk of volume 0 is Consistent: its content is whole, but ";
    assert!(paragraphs[1].starts_with(disk), "{paragraphs:?}");
    let expected = "The connection to beta is Connecting and has been for 2 min: nothing is \
                    replicated until the two nodes have found each other. The reason: connection \
                    refused. What to do: see that rbdd runs on beta, that rbdadm up r0 was done \
                    there and that [fd00::2]:7790 can be reached.";
    assert_eq!(paragraphs[2], expected);
}

#[test]
fn a_split_brain_is_explained_with_what_each_side_has_changed() {
    let expected = "The connection to beta is StandAlone and has been for 2 min: nothing is \
                    replicated. The reason: Split-Brain detected but unresolved, dropping \
                    connection. Both nodes have changes that the other lacks, so one of them must \
                    give up its own. When beta was last heard, 30 s ago, it was Secondary. Since \
                    their last common generation, this node has changed 8 KiB in 2 block(s) of \
                    volume 0 (since 2023-11-14 22:13:20 UTC) and beta 64 KiB in 16 block(s) (since \
                    2023-11-14 23:13:21 UTC). What to do: rbdadm resolve r0 --keep NODE --dry-run \
                    shows what would be lost, without --dry-run it ends the split brain, with \
                    --save FILE it keeps what is given up.";
    assert_eq!(explain(&split_brain())[1], expected);
}

#[test]
fn what_resolving_destroys_is_what_the_loser_changed() {
    let status = split_brain();
    let connection = &status.connections[0];
    let mut refused = connection.refused.clone().unwrap();
    let lost = |refused: &_, keep_own| losses(&status, connection, refused, keep_own);
    let expected =
        "volume 0: what beta changed is lost, 64 KiB in 16 block(s); at most 72 KiB are copied";
    assert_eq!(lost(&refused, true), [expected]);
    let expected =
        "volume 0: what this node changed is lost, 8 KiB in 2 block(s); at most 72 KiB are copied";
    assert_eq!(lost(&refused, false), [expected]);
    refused.volumes[0].divergence = Divergence::Peer;
    let expected = "volume 0: only beta has changed it, so beta's data is kept in any case";
    assert_eq!(lost(&refused, false), [expected]);
    refused.volumes[0].divergence = Divergence::Both;
    refused.volumes[0].is_exact = false;
    assert!(lost(&refused, true)[0].contains("everything (9.77 MiB) is copied"));
}

#[test]
fn a_primary_that_loses_by_policy_is_told_what_lets_the_policy_go_on() {
    let mut status = split_brain();
    let mut next = |node| {
        let refused = status.connections[0].refused.as_mut().unwrap();
        refused.loses_by_policy = Some(NodeId(node));
        explain(&status)[1].clone()
    };
    let own = "What to do: rbdadm secondary r0, after which the policies give up this node's";
    assert!(next(0).contains(own), "{}", next(0));
    let peer = "What to do: on beta: rbdadm secondary r0, after which the policies give up its";
    assert!(next(1).contains(peer), "{}", next(1));
}

#[test]
fn json_tells_what_is_known_of_a_refused_peer() {
    let value = serde_json::to_value(document(&[split_brain()])).unwrap();
    let refused = &value["resources"][0]["connections"][0]["refused"];
    assert_eq!(refused["changes"], "both");
    assert_eq!(refused["peer-role"], "Secondary");
    assert_eq!(refused["volumes"][0]["peer-changed-bytes"], 64 << 10);
}

#[test]
fn a_wrapped_paragraph_has_the_same_words() {
    let paragraph = explain(&healthy()).remove(0);
    for width in [1, 20, 80] {
        let text = wrapped(&paragraph, width);
        assert_eq!(text.replace('\n', " "), paragraph);
        assert!(width == 1 || text.lines().all(|line| line.len() <= width));
    }
}

#[test]
fn json_has_every_key_of_the_first_schema() {
    let mut status = healthy();
    status.connections[0].peer_devices = vec![resyncing(
        0,
        ReplicationState::SyncSource,
        DiskState::Inconsistent,
    )];
    let text = serde_json::to_string_pretty(&document(&[status])).unwrap();
    assert_eq!(text, include_str!("tests/schema_1.json").trim_end());
}

#[test]
fn json_of_nothing_is_an_empty_list() {
    let text = serde_json::to_string(&document(&[])).unwrap();
    assert_eq!(text, r#"{"schema_version":1,"resources":[]}"#);
}

#[test]
fn json_leaves_sync_details_out_when_nothing_syncs() {
    let value = serde_json::to_value(document(&[healthy()])).unwrap();
    let peer_device = &value["resources"][0]["connections"][0]["peer_devices"][0];
    assert_eq!(peer_device["has-sync-details"], false);
    assert_eq!(peer_device["percent-in-sync"], 100.0);
    assert!(peer_device.get("rs-total").is_none());
}

#[test]
fn every_state_is_documented() {
    let document = include_str!("../../../docs/states.md");
    let roles = (0..=u8::MAX).filter_map(Role::from_number).map(Role::word);
    let disks = (0..=u8::MAX).filter_map(DiskState::from_number);
    let connections = (0..=u8::MAX).filter_map(ConnectionState::from_number);
    let replication = (0..=u8::MAX).filter_map(ReplicationState::from_number);
    let words = roles
        .chain(disks.map(DiskState::word))
        .chain(connections.map(ConnectionState::word))
        .chain(replication.map(ReplicationState::word));
    for word in words {
        assert!(document.contains(&format!("`{word}`")), "{word}");
    }
}

#[test]
fn almost_done_is_not_shown_as_done() {
    assert_eq!(percent(99.999), "99.99");
    assert_eq!(percent(100.0), "100.00");
    assert_eq!(percent(37.5), "37.50");
}

#[test]
fn durations_and_sizes_use_the_unit_that_suits() {
    assert_eq!(duration(119), "119 s");
    assert_eq!(duration(120), "2 min");
    assert_eq!(duration(7_200), "2 h");
    assert_eq!(duration(172_800), "2 d");
    assert_eq!(size(0), "0 B");
    assert_eq!(size(4096), "4 KiB");
    assert_eq!(size(1 << 40), "1 TiB");
    assert_eq!(size((1 << 20) + (1 << 19)), "1.50 MiB");
}

#[test]
fn a_split_brain_is_one_line_with_both_sides_changes() {
    let expected = "beta StandAlone for 2 min: Split-Brain detected but unresolved, dropping \
                    connection!; changed: volume 0: this node 8 KiB (since 2023-11-14 22:13:20 \
                    UTC), beta 64 KiB (since 2023-11-14 23:13:21 UTC); next: rbdadm resolve r0 \
                    --keep NODE --dry-run shows what would be lost, without --dry-run it ends the \
                    split brain, with --save FILE it keeps what is given up";
    assert_eq!(advice(&split_brain())[0], expected);
}

#[test]
fn policies_that_give_data_up_are_explained() {
    let mut status = healthy();
    assert_eq!(explain(&status).len(), 1);
    status.connections[0].split.without_primary = WithoutPrimary::DiscardZeroChanges;
    let paragraphs = explain(&status);
    assert!(
        paragraphs[1].contains("after-sb-0pri discard-zero-changes"),
        "{paragraphs:?}"
    );
}

#[test]
fn a_moment_is_written_as_a_date() {
    for (seconds, text) in [
        (0, "1970-01-01 00:00:00 UTC"),
        (951_782_399, "2000-02-28 23:59:59 UTC"),
        (951_782_400, "2000-02-29 00:00:00 UTC"),
        (951_868_800, "2000-03-01 00:00:00 UTC"),
        (4_107_542_400, "2100-03-01 00:00:00 UTC"),
    ] {
        assert_eq!(moment(seconds), text);
    }
}

#[test]
fn verbose_status_tells_what_a_disk_says_of_its_cache() {
    let mut status = healthy();
    status.devices[0].write_cache = Some(rbd_protocol::control::WriteCache::Through);
    let verbose = Layout {
        verbose: true,
        width: 200,
        ..BARE
    };
    let text = render(std::slice::from_ref(&status), verbose);
    assert!(text.contains(" open:no write-cache:through\n"), "{text}");
    assert!(!render(&[status], BARE).contains("write-cache"));
}
