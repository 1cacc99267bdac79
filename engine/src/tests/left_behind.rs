//! What is noted of a disk that clients have gone on without, and what the next process makes of
//! it.

use alloc::boxed::Box;

use rbd_protocol::control::WriteCache;
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{DiskState, Role};

use super::diskless::{failed, served, whole};
use super::{Bench, VOLUME, config, image};
use crate::{Action, AttachedDisk, Command, DiskNote};

/// What has last been noted, and not been looked at.
fn noted(bench: &mut Bench) -> Option<bool> {
    let mut last = None;
    bench.asked.retain(|action| match action {
        Action::NoteOfDisk {
            note: DiskNote::LeftBehind,
            holds,
            ..
        } => {
            last = Some(*holds);
            false
        }
        _ => true,
    });
    last
}

fn attach(bench: &mut Bench, left_behind: bool) {
    let mut image = image();
    image.superblock.flags.was_up_to_date = true;
    let disk = AttachedDisk {
        left_behind,
        ..AttachedDisk::new(image.into(), 512, WriteCache::Volatile)
    };
    let volume = VOLUME;
    bench.command(Command::Attach { volume, disk });
}

#[test]
fn it_is_noted_before_the_peer_does_anything_for_clients() {
    let (mut bench, _) = failed();
    assert_eq!(noted(&mut bench), None, "nobody goes on yet");
    let own = bench.relink().expect("a greeting");
    bench.packet(Packet::Hello(Box::new(whole(&own))));
    let is_note = |action: &Action<_>| {
        matches!(
            action,
            Action::NoteOfDisk {
                note: DiskNote::LeftBehind,
                holds: true,
                ..
            }
        )
    };
    let is_write = |action: &Action<_>| {
        matches!(
            action,
            Action::Send {
                packet: Packet::RemoteWrite { .. },
                ..
            }
        )
    };
    let note = bench.asked.iter().position(is_note).expect("noted");
    let write = bench.asked.iter().position(is_write).expect("asked");
    assert!(note < write);
}

#[test]
fn it_is_noted_when_the_peer_has_clients_of_its_own() {
    for role in [Role::Secondary, Role::Primary] {
        let mut bench = Bench::in_sync();
        let volume = VOLUME;
        bench.command(Command::Detach {
            volume,
            force: true,
        });
        let own = bench.relink().expect("a greeting");
        let mut theirs = whole(&own);
        theirs.role = role;
        bench.packet(Packet::Hello(Box::new(theirs)));
        let expected = (role == Role::Primary).then_some(true);
        assert_eq!(noted(&mut bench), expected, "{role}");
    }
}

#[test]
fn such_a_disk_is_outdated_and_the_note_stays_until_it_says_so_itself() {
    for left_behind in [false, true] {
        let mut bench = Bench::bare(config());
        attach(&mut bench, left_behind);
        let expected = if left_behind {
            DiskState::Outdated
        } else {
            DiskState::Consistent
        };
        assert_eq!(bench.disk_state(), expected);
        assert_eq!(noted(&mut bench), None, "the disk does not say so yet");
        bench.write_metadata();
        bench.command(Command::ResumeIo); // whatever comes next
        assert_eq!(noted(&mut bench), left_behind.then_some(false));
    }
}

#[test]
fn a_primary_that_gets_its_disk_back_has_that_say_first_that_it_is_behind() {
    let mut bench = served();
    let call = bench.attach(image());
    assert_eq!(bench.reply(call), Some(true));
    assert_eq!(noted(&mut bench), None);
    bench.write_metadata();
    let superblock = bench.superblock.as_ref().expect("written");
    assert!(superblock.flags.outdated);
    bench.command(Command::ResumeIo);
    assert_eq!(noted(&mut bench), Some(false));
}
