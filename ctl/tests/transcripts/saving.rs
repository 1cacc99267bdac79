//! `resolve --save` and `undo-file`: what is asked of the daemon, and what becomes of the file.

use std::os::unix::fs::MetadataExt;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use rbd_protocol::control::{
    Backing, Changes, Divergence, Refusal, RefusalCode, Reply, Request, ResourceStatus, Standing,
};
use rbd_protocol::ids::{ByteRange, GenerationId, VolumeNumber};
use rbd_protocol::state::Role;

use crate::resolving::split;
use crate::stage::{Stage, StandIn, healthy, status_of};

/// How the daemon behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Obliging,
    /// Something is written while the file is.
    Writing,
    /// Something is written after the file is complete.
    Refusing,
    /// It dies when it is given the order.
    Dying,
    /// The administrator loses patience while it thinks.
    Pensive,
}

fn beta_s_split() -> ResourceStatus {
    let mut status = split(Divergence::Both);
    status.role = Role::Primary;
    status
}

fn daemon(stage: &Stage, mood: Mood) -> StandIn {
    let disk = stage.path("r0");
    let facts = std::fs::metadata(&disk).unwrap();
    let backing = Backing {
        path: disk.display().to_string(),
        is_block_device: false,
        device: facts.dev(),
        inode: facts.ino(),
    };
    let state = Arc::new(Mutex::new(beta_s_split()));
    let mut written = 100;
    stage.daemon(move |request| {
        let mut state = state.lock().unwrap();
        match request {
            Request::Connect { .. } => {
                state.connections[0].refused.as_mut().unwrap().told_ms_ago = 0;
            }
            Request::Demote { .. } => state.role = Role::Secondary,
            Request::Changes { from, .. } => {
                written += u64::from(mood == Mood::Writing);
                if mood == Mood::Pensive {
                    std::thread::sleep(std::time::Duration::from_millis(200));
                }
                return Reply::Changes(changes(&backing, *from, written));
            }
            Request::Resolve { .. } if mood == Mood::Refusing => {
                let why =
                    Refusal::new(RefusalCode::StateConcurrent, "it has changed", "begin anew");
                return Reply::Refused(why);
            }
            Request::Resolve { .. } if mood == Mood::Obliging => *state = healthy("r0"),
            _ => {}
        }
        status_of(&[state.clone()], request)
    })
}

/// Two runs, told one at a time.
fn changes(backing: &Backing, from: u64, written_bytes: u64) -> Changes {
    let (run, next) = match from {
        0 => (Some(ByteRange::new(0, 8192)), Some(8192)),
        8192 => (Some(ByteRange::new(1 << 20, 4096)), None),
        _ => (None, None),
    };
    Changes {
        standing: Standing {
            volume: VolumeNumber(0),
            attachment: 1,
            generation: GenerationId(0xF00D),
            marked_blocks: 3,
            written_bytes,
        },
        backing: backing.clone(),
        size_bytes: 1 << 20 << 1,
        since: GenerationId(0xABC),
        is_everything: false,
        runs: run.into_iter().collect(),
        next,
    }
}

fn command(stage: &Stage) -> String {
    let file = stage.path("undo");
    format!("resolve r0 --keep beta --save {}", file.display())
}

fn orders(daemon: &StandIn) -> Vec<Request> {
    let mut asked = daemon.asked();
    asked.retain(|request| matches!(request, Request::Resolve { .. } | Request::Demote { .. }));
    asked
}

#[test]
fn what_is_given_up_is_in_the_file_before_the_order() {
    let stage = Stage::new();
    let mut data = vec![0; 16 << 20];
    data[..4096].fill(7);
    data[1 << 20..][..4096].fill(8);
    std::fs::write(stage.path("r0"), &data).unwrap();
    let daemon = daemon(&stage, Mood::Obliging);
    let outcome = stage.run(&command(&stage)).expect_code(0);
    let expected = format!("r0: 12 KiB saved in {}\n", stage.path("undo").display());
    assert!(outcome.out.contains(&expected), "{outcome:?}");
    let asked = orders(&daemon);
    let [Request::Demote { .. }, Request::Resolve { saved, .. }] = &asked[..] else {
        panic!("{asked:?}");
    };
    assert_eq!(saved[0].written_bytes, 100);
    drop(daemon);
    let file = stage.path("undo");
    let show = format!("undo-file {}", file.display());
    let outcome = stage.run(&show).expect_code(0);
    let expected = "volume 0: 12 KiB of 2 MiB in 2 run(s), changed since generation \
                    0000000000000ABC; generation 000000000000F00D\n";
    assert!(outcome.out.ends_with(expected), "{outcome:?}");
    assert!(
        outcome.out.contains("r0 as it was on alpha at 2"),
        "{outcome:?}"
    );
    std::fs::write(stage.path("image"), vec![1; 2 << 20]).unwrap();
    let image = stage.path("image");
    let put = format!("{show} --to {}", image.display());
    stage.run(&format!("{put} --dry-run")).expect_code(0);
    assert!(std::fs::read(&image).unwrap() == vec![1; 2 << 20]);
    stage.run(&put).expect_code(0);
    let image = std::fs::read(&image).unwrap();
    assert_eq!(image[..8192], data[..8192]);
    assert!(image[8192..1 << 20].iter().all(|byte| *byte == 1));
    assert_eq!(image[1 << 20..][..4096], [8; 4096]);
    stage.run(&format!("{put} --volume 1")).expect_code(1);
}

#[test]
fn what_changes_while_it_is_saved_is_not_given_up() {
    let stage = Stage::new();
    let daemon = daemon(&stage, Mood::Writing);
    let outcome = stage.run(&command(&stage)).expect_code(11);
    assert!(outcome.err.contains("while it was saved"), "{outcome:?}");
    assert!(!stage.path("undo").exists());
    assert!(matches!(&orders(&daemon)[..], [Request::Demote { .. }]));
}

#[test]
fn a_file_nothing_was_given_up_for_is_removed() {
    let stage = Stage::new();
    let _daemon = daemon(&stage, Mood::Refusing);
    let outcome = stage.run(&command(&stage)).expect_code(11);
    assert!(outcome.err.contains("it has changed"), "{outcome:?}");
    assert!(!stage.path("undo").exists());
}

#[test]
fn a_file_that_may_be_needed_is_kept() {
    let stage = Stage::new();
    let daemon = daemon(&stage, Mood::Dying);
    // The order is answered, and then nothing more comes of it.
    let outcome = stage.run(&format!("--timeout 1 {}", command(&stage)));
    assert_eq!(outcome.code, 5, "{outcome:?}");
    assert!(stage.path("undo").exists());
    drop(daemon);
    let show = format!("undo-file {}", stage.path("undo").display());
    stage.run(&show).expect_code(0);
}

#[test]
fn nothing_is_ordered_when_the_file_cannot_be_created() {
    let stage = Stage::new();
    let daemon = daemon(&stage, Mood::Obliging);
    for file in ["/dev/full", "/nowhere/undo", "/proc/undo"] {
        let outcome = stage.run(&format!("resolve r0 --keep beta --save {file}"));
        assert!(outcome.err.contains("nothing is given up"), "{outcome:?}");
        let is_there = file == "/dev/full";
        assert_eq!(outcome.code, if is_there { 10 } else { 20 });
    }
    assert_eq!(orders(&daemon), []);
    let outcome = stage.run("resolve r0 --keep alpha --save u").expect_code(1);
    assert!(
        outcome
            .err
            .contains("on beta: rbdadm resolve r0 --keep alpha --save u")
    );
    stage.run("resolve r0 --keep beta --whole").expect_code(1);
    assert_eq!(orders(&daemon), []);
}

#[test]
fn killed_while_it_saves_it_has_ordered_nothing_and_left_an_incomplete_file() {
    let stage = Stage::new();
    let daemon = daemon(&stage, Mood::Pensive);
    let mut program = stage
        .command(&command(&stage))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let file = stage.path("undo");
    while std::fs::metadata(&file).map_or(0, |facts| facts.len()) < 512 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    program.kill().unwrap();
    program.wait().unwrap();
    let asked = orders(&daemon);
    assert!(matches!(&asked[..], [Request::Demote { .. }]), "{asked:?}");
    drop(daemon);
    let show = format!("undo-file {}", file.display());
    for command in [show.clone(), format!("{show} --to {}", file.display())] {
        let outcome = stage.run(&command).expect_code(20);
        assert!(outcome.err.contains("incomplete"), "{outcome:?}");
    }
}
