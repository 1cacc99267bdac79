//! `sh-status`: what a shell makes of it.

use std::process::Command;

use rbd_protocol::control::{Reply, ResourceStatus, ResyncProgress};
use rbd_protocol::state::{ConnectionState, DiskState, ReplicationState, Role};

use crate::stage::{Stage, healthy, outcome, status_of};

const HEALTHY: &str = "\
_minor=1
_res_name=r0
_volume=0
_known=Configured
_cstate=Connected
_role=Secondary
_peer=Primary
_disk=UpToDate
_pdsk=UpToDate
_flags_susp=
_flags_aftr_isp=
_flags_peer_isp=
_flags_user_isp=
_resynced_percent=
_peer_name=beta
_client=
_open=0
_sh_status_process

";

fn answers(status: ResourceStatus) -> impl FnMut(&rbd_protocol::control::Request) -> Reply {
    move |request| status_of(std::slice::from_ref(&status), request)
}

#[test]
fn each_volume_and_peer_is_a_block_of_drbds_names() {
    let stage = Stage::new();
    stage.configure("resource {");
    let _daemon = stage.daemon(answers(healthy("r0")));
    for words in ["sh-status r0", "sh-status", "sh-status all"] {
        let outcome = stage.run(words).expect_code(0);
        assert_eq!((outcome.out.as_str(), outcome.err.as_str()), (HEALTHY, ""));
    }
}

#[test]
fn what_is_not_normal_has_its_words() {
    let stage = Stage::new();
    let mut status = healthy("r0");
    status.role = Role::Primary;
    status.suspended.user = true;
    status.suspended.fencing = true;
    status.devices[0].minor = None;
    status.devices[0].disk_state = DiskState::Diskless;
    status.devices[0].backing_disk = None;
    status.devices[0].open_count = 3;
    let mut gamma = status.connections[0].clone();
    gamma.name = "gamma".to_owned();
    gamma.connection_state = ConnectionState::Connecting;
    gamma.peer_role = Role::Unknown;
    gamma.peer_devices.clear();
    let on_beta = &mut status.connections[0].peer_devices[0];
    on_beta.replication_state = ReplicationState::PausedSyncT;
    on_beta.resync_suspended.peer = true;
    on_beta.resync = Some(ResyncProgress {
        total_bytes: 4000,
        remaining_bytes: 2500,
        elapsed_ms: 1,
        rate: None,
        limit: None,
        same_bytes: 0,
        zero_bytes: 0,
    });
    status.connections.push(gamma);
    let _daemon = stage.daemon(answers(status));
    let out = stage.run("sh-status r0").expect_code(0).out;
    let blocks: Vec<&str> = out.split("_sh_status_process\n\n").collect();
    assert_eq!(blocks.len(), 3, "{out}");
    for line in [
        "_minor=",
        "_cstate=PausedSyncT",
        "_role=Primary",
        "_disk=Diskless",
        "_flags_susp=user,fencing",
        "_flags_peer_isp=1",
        "_resynced_percent=37.50",
        "_client=1",
        "_open=3",
    ] {
        assert!(blocks[0].lines().any(|one| one == line), "{line}: {out}");
    }
    for line in [
        "_peer_name=gamma",
        "_cstate=Connecting",
        "_peer=Unknown",
        "_pdsk=DUnknown",
    ] {
        assert!(blocks[1].lines().any(|one| one == line), "{line}: {out}");
    }
}

#[test]
fn what_is_not_up_is_unconfigured_and_that_is_an_answer() {
    let stage = Stage::new();
    let _daemon = stage.daemon(answers(healthy("r0")));
    let out = stage.run("sh-status r7 r0").expect_code(0).out;
    assert!(out.starts_with(HEALTHY), "{out}");
    let rest = &out[HEALTHY.len()..];
    assert!(rest.contains("_res_name=r7\n"), "{out}");
    assert!(rest.contains("_known=Unconfigured\n"), "{out}");
    assert!(rest.contains("\n_role=\n"), "nothing is left over: {out}");
    assert!(rest.ends_with("_sh_status_process\n\n"), "{out}");
}

#[test]
fn a_daemon_that_is_not_there_is_told_from_one_that_does_not_answer() {
    let stage = Stage::new();
    let nobody = stage.run("sh-status r0").expect_code(20);
    assert!(nobody.out.contains("_known=Unreachable\n"), "{nobody:?}");
    assert_eq!(nobody.err.lines().count(), 1, "{nobody:?}");
    let _frozen = stage.peer(|stream, _| {
        let mut byte = [0; 1];
        while matches!(std::io::Read::read(stream, &mut byte), Ok(1)) {}
    });
    let silent = stage.run("--timeout 1 sh-status r0").expect_code(20);
    assert_eq!(silent.out, "", "nothing is known: {silent:?}");
}

#[test]
fn a_name_is_one_word_to_a_shell_and_never_a_command() {
    let stage = Stage::new();
    let evil = "r0'; touch $HOME/gone `true` \"";
    let mut status = healthy("r0");
    status.connections[0].name = evil.to_owned();
    let _daemon = stage.daemon(answers(status));
    let out = stage.run("sh-status r0").expect_code(0).out;
    let script = format!("_sh_status_process() {{ printf %s \"$_peer_name\"; }}\n{out}");
    let shell = Command::new("sh").arg("-c").arg(script).output().unwrap();
    assert_eq!(outcome(shell).expect_code(0).out, evil);
}
