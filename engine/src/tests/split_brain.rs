//! Two nodes that both have changes: what is said, who is called, and what ends it.

use alloc::string::String;

use rbd_protocol::control::{Divergence, RefusalCode, ResourceConfig, Shown};
use rbd_protocol::ids::{GenerationId, VolumeNumber};
use rbd_protocol::peer::{Hello, HelloVolume};
use rbd_protocol::policy::{
    ResyncConflict, SplitPolicies, WithOnePrimary, WithTwoPrimaries, WithoutPrimary,
};
use rbd_protocol::state::{ConnectionState, DiskState, Role};

use super::resync::end;
use super::{Bench, GENERATION, PEER, SECOND, config, image, with_second};
use crate::{Action, CallId, Command, Handler, LinkLoss, Seek};

/// What this node has become since both were in sync.
pub(crate) const OWN: GenerationId = GenerationId(0x2000);

/// What the peer has become.
pub(crate) const THEIRS: GenerationId = GenerationId(0x3000);

pub(crate) const TENURE: u64 = 77;

/// The configuration of a node that tells of everything.
pub(crate) fn told(split: SplitPolicies, resync_conflict: ResyncConflict) -> ResourceConfig {
    let mut config = config();
    config.peers[0].net.split = split;
    config.peers[0].net.resync_conflict = resync_conflict;
    // All but the one that has a node greet twice.
    config.handlers = Handler::ALL
        .into_iter()
        .filter(|handler| *handler != Handler::BeforeResyncTarget)
        .map(|handler| (String::from(handler.name()), String::from("true")))
        .collect();
    config
}

/// A Secondary that has written without its peer.
pub(crate) fn changed(config: ResourceConfig) -> Bench {
    let mut image = image();
    image.superblock.generation = OWN;
    image.superblock.history[0] = GENERATION;
    image.superblock.peers[0].bitmap_generation = GENERATION;
    Bench::alone(config, image)
}

/// Greets as a peer that has written without this node.
pub(crate) fn changed_too(hello: &mut Hello) {
    let policies = hello.policies;
    hello.policies = policies.seen_from_peer();
    hello.role = Role::Secondary;
    hello.tenure = TENURE;
    hello.discard_my_data = false;
    hello.volumes[0].condemned = GenerationId::NONE;
    hello.volumes[0].current = THEIRS;
    hello.volumes[0].disk = DiskState::UpToDate;
    hello.volumes[0].dirty_blocks = 3;
}

/// Greets as a peer that only this node is ahead of.
pub(crate) fn unchanged(hello: &mut Hello) {
    changed_too(hello);
    hello.volumes[0].current = GENERATION;
    hello.volumes[0].bitmap = GenerationId::NONE;
    hello.volumes[0].history.clear();
    hello.volumes[0].dirty_blocks = 0;
}

/// Two nodes that have found their split brain.
pub(crate) fn split() -> Bench {
    let mut bench = changed(config());
    bench.meet(changed_too);
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Refused));
    assert_eq!(divergence(&bench), Some(Divergence::Both));
    bench
}

pub(crate) fn divergence(bench: &Bench) -> Option<Divergence> {
    let refused = bench.connection().refused?;
    Some(refused.divergence)
}

/// What somebody is shown of the peer now.
pub(crate) fn shown(bench: &Bench) -> Shown {
    let status = bench.engine.status(bench.now);
    let refused = status.connections[0].refused.as_ref();
    refused.expect("it was refused").shown(status.tenure)
}

pub(crate) fn resolve(bench: &mut Bench, keep_own: bool, shown: Shown) -> CallId {
    bench.command(Command::Resolve {
        peer: PEER,
        keep_own,
        shown,
        saved: alloc::vec![],
    })
}

#[test]
fn a_split_brain_is_refused_shown_and_tried_again_patiently() {
    let bench = split();
    let connection = bench.connection();
    assert_eq!(connection.connection_state, ConnectionState::StandAlone);
    assert!(
        connection
            .note
            .contains("Split-Brain detected but unresolved")
    );
    let refused = connection.refused.expect("it was refused");
    assert_eq!(refused.volumes[0].changed_bytes, 3 * 4096);
    assert!(refused.volumes[0].is_exact);
    let patiently = |action: &Action<u32>| {
        matches!(
            action,
            Action::SeekLink {
                seek: Seek::Patiently,
                ..
            }
        )
    };
    assert!(bench.asked.iter().any(patiently));
    assert_eq!(bench.generation(), OWN, "no data is touched (D2)");
}

#[test]
fn handlers_are_called_when_it_is_found_and_not_each_time_it_is_found_again() {
    let mut bench = changed(told(SplitPolicies::default(), ResyncConflict::Disconnect));
    bench.meet(changed_too);
    assert_eq!(
        bench.handlers(),
        [Handler::InitialSplitBrain, Handler::SplitBrain]
    );
    bench.close_dropped();
    bench.meet(changed_too);
    assert_eq!(bench.handlers(), []);
}

#[test]
fn a_connection_that_is_refused_is_given_up_by_command() {
    let mut bench = split();
    let call = bench.command(Command::Disconnect {
        peer: None,
        force: false,
    });
    assert_eq!(bench.reply(call), Some(true));
    assert_eq!(divergence(&bench), None);
    bench.link_up();
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Commanded));
}

/// A Primary whose data loses, by these policies.
fn primary_loses(split: SplitPolicies, peer_role: Role) -> Bench {
    let mut bench = changed(told(split, ResyncConflict::Disconnect));
    bench.command(Command::Promote { force: true });
    bench.write_metadata();
    bench.meet(|hello| {
        changed_too(hello);
        hello.role = peer_role;
    });
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Refused));
    bench
}

#[test]
fn a_primary_that_loses_by_policy_is_told_so() {
    let split = SplitPolicies {
        without_primary: WithoutPrimary::DiscardLocal,
        with_one_primary: WithOnePrimary::CallPrimaryLost,
        with_two_primaries: WithTwoPrimaries::CallPrimaryLost,
        always: true,
    };
    for role in [Role::Secondary, Role::Primary] {
        let bench = primary_loses(split, role);
        assert!(
            bench
                .handlers()
                .contains(&Handler::PrimaryLostAfterSplitBrain)
        );
        assert!(bench.connection().note.contains("and it is Primary"));
    }
    let other = SplitPolicies {
        without_primary: WithoutPrimary::DiscardRemote,
        ..split
    };
    let bench = primary_loses(other, Role::Primary);
    assert!(
        !bench
            .handlers()
            .contains(&Handler::PrimaryLostAfterSplitBrain)
    );
    assert!(
        bench
            .connection()
            .note
            .contains("the peer's changes are to be given up")
    );
}

#[test]
fn policies_that_differ_decide_nothing() {
    let mut bench = changed(config());
    bench.meet(|hello| {
        changed_too(hello);
        hello.policies.without_primary = WithoutPrimary::DiscardLeastChanges;
    });
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Refused));
    assert!(
        bench
            .connection()
            .note
            .contains("policies of the two nodes differ")
    );
}

/// A Primary on older data than the peer's.
fn primary_is_behind(conflict: ResyncConflict) -> Bench {
    let mut bench = Bench::alone(told(SplitPolicies::default(), conflict), image());
    bench.command(Command::Promote { force: true });
    bench.write_metadata();
    let own = bench.generation();
    bench.meet(|hello| {
        hello.role = Role::Secondary;
        hello.volumes[0].current = THEIRS;
        hello.volumes[0].bitmap = own;
        hello.volumes[0].disk = DiskState::UpToDate;
    });
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Refused));
    assert!(bench.connection().note.contains("Primary on older data"));
    bench
}

#[test]
fn a_primary_on_older_data_is_refused_told_or_tried_again_as_configured() {
    let bench = primary_is_behind(ResyncConflict::Disconnect);
    assert_eq!(
        bench.connection().connection_state,
        ConnectionState::StandAlone
    );
    assert!(!bench.handlers().contains(&Handler::PrimaryLost));
    let bench = primary_is_behind(ResyncConflict::CallPrimaryLost);
    assert!(bench.handlers().contains(&Handler::PrimaryLost));
    let bench = primary_is_behind(ResyncConflict::RetryConnect);
    assert_eq!(
        bench.connection().connection_state,
        ConnectionState::Connecting
    );
}

#[test]
fn two_primaries_are_never_joined() {
    let mut bench = Bench::alone(config(), image());
    bench.command(Command::Promote { force: true });
    bench.write_metadata();
    bench.meet(|_| {});
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Refused));
    assert!(bench.connection().note.contains("both nodes are Primary"));
}

#[test]
fn unrelated_and_incomplete_data_are_never_joined() {
    let mut bench = changed(config());
    bench.meet(|hello| {
        changed_too(hello);
        hello.volumes[0].bitmap = GenerationId::NONE;
        hello.volumes[0].history = alloc::vec![GenerationId(0x9999)];
    });
    bench.close_dropped();
    assert_eq!(bench.connection().note, "Unrelated data, aborting!");
    assert_eq!(divergence(&bench), Some(Divergence::Unknown));
    let seen = shown(&bench);
    let call = resolve(&mut bench, true, seen);
    assert!(bench.refusal(call).reason.contains("Unrelated data"));
    let mut torn = image();
    torn.superblock.flags.consistent = false;
    let mut bench = Bench::alone(config(), torn);
    bench.meet(|_| {});
    bench.close_dropped();
    assert!(
        bench
            .connection()
            .note
            .contains("neither node has complete data")
    );
}

#[test]
fn nodes_with_different_volumes_are_not_connected() {
    let refused = |change: fn(&mut Hello), why: &str| {
        let mut bench = Bench::alone(config(), image());
        bench.meet(change);
        assert_eq!(bench.close_dropped(), Some(LinkLoss::Refused), "{why}");
        let note = bench.connection().note;
        assert!(note.contains(why), "{note}");
        let call = resolve(
            &mut bench,
            true,
            Shown {
                own_tenure: 0,
                tenure: 0,
                generations: alloc::vec![],
            },
        );
        assert_eq!(bench.refusal(call).code, RefusalCode::InvalidRequest);
    };
    refused(
        |hello| hello.volumes.clear(),
        "the peer has 0 volumes, this node 1",
    );
    refused(
        |hello| hello.volumes[0].number = VolumeNumber(5),
        "the peer has no",
    );
    refused(
        |hello| {
            hello.volumes[0].size_bytes = 4096;
            hello.volumes[0].capacity_bytes = 4096;
        },
        "The peer's disk size is too small!",
    );
}

#[test]
fn what_the_loser_has_is_given_up_only_when_it_is_durably_a_target() {
    let split = SplitPolicies {
        without_primary: WithoutPrimary::DiscardRemote,
        ..SplitPolicies::default()
    };
    let mut bench = changed(told(split, ResyncConflict::Disconnect));
    bench.meet(changed_too);
    bench.command(Command::Promote { force: false });
    bench.consent();
    bench.write_metadata();
    assert_eq!(bench.engine.role(), Role::Primary);
    let counts_from = |bench: &Bench| {
        let superblock = bench.superblock.as_ref().expect("written");
        superblock.peers[0].bitmap_generation
    };
    // Has the peer never read the greeting, it goes on with what it has.
    assert_eq!(counts_from(&bench), GENERATION);
    bench.packet(end(THEIRS));
    bench.write_metadata();
    assert_eq!(counts_from(&bench), THEIRS);
}

#[test]
fn a_policy_that_would_keep_volumes_of_both_nodes_keeps_none() {
    let split = SplitPolicies {
        without_primary: WithoutPrimary::DiscardLeastChanges,
        ..SplitPolicies::default()
    };
    let mut bench = changed(with_second(told(split, ResyncConflict::Disconnect)));
    // The other volume has no disk here yet; it is as if it had, in the greetings below.
    let mut other = image();
    other.superblock.generation = OWN;
    other.superblock.history[0] = GENERATION;
    other.superblock.peers[0].bitmap_generation = GENERATION;
    other.superblock.volume = SECOND;
    bench.attach_to(SECOND, other);
    bench.meet(|hello| {
        changed_too(hello);
        let first = hello.volumes[0].clone();
        hello.volumes[1] = HelloVolume {
            number: SECOND,
            dirty_blocks: 0,
            ..first
        };
    });
    // Volume 0 loses here with no changes against three; volume 1 has as few on both nodes, and
    // the higher node number loses.
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Refused));
    assert!(
        bench
            .connection()
            .note
            .contains("some volumes from one node")
    );
}
