//! What a disk remembers of the power of its machine: what was acknowledged may be gone with it.

use rbd_protocol::metadata::{BlockAddress, Image};
use rbd_protocol::peer::Hello;

use super::fixtures::image_of;
use super::{Bench, config, image};
use crate::Command;

/// The boot the benches run in.
const BOOT: u128 = 7;

fn used_in(boot: u128, shut_down_in_order: bool) -> Image {
    let mut image = image();
    image.superblock.boot_id = boot;
    image.superblock.flags.clean_shutdown = shut_down_in_order;
    image
}

/// What is said in the next greeting of a node with this disk, and of its boot on the disk after it
/// has been stopped in order.
fn greets_and_stops(image: Image) -> (Hello, u128) {
    let mut bench = Bench::alone(config(), image);
    bench.link_up();
    bench.write_metadata();
    let greeting = bench.greeting();
    bench.command(Command::Stop);
    bench.flush_all();
    bench.write_metadata();
    let superblock = bench.superblock.expect("it has been written");
    assert!(superblock.flags.clean_shutdown);
    (greeting, superblock.boot_id)
}

#[test]
fn power_is_kept_within_one_boot() {
    for in_order in [false, true] {
        let (greeting, boot) = greets_and_stops(used_in(BOOT, in_order));
        assert!(greeting.volumes[0].kept_power);
        assert_eq!(boot, BOOT);
    }
}

#[test]
fn power_lost_once_stays_lost_however_orderly_the_machine_is_shut_down_afterwards() {
    let (greeting, boot) = greets_and_stops(used_in(99, false));
    assert!(!greeting.volumes[0].kept_power);
    assert_eq!(boot, 0, "nobody is in sync with it yet");
    let (greeting, boot) = greets_and_stops(used_in(0, true));
    assert!(!greeting.volumes[0].kept_power);
    assert_eq!(boot, 0);
}

#[test]
fn a_machine_that_was_shut_down_in_order_has_lost_nothing() {
    let (greeting, boot) = greets_and_stops(used_in(99, true));
    assert!(!greeting.volumes[0].kept_power, "it has been booted since");
    assert_eq!(boot, 99, "and the last one is still known");
}

/// Each carries the epoch: one of an older epoch counts for nothing after the next crash (C4).
#[test]
fn every_block_of_the_intent_log_is_written_anew_before_a_disk_is_used() {
    let mut image = image_of(300 << 30);
    image.intent_sequences = alloc::vec![1; 3];
    let layout = image.layout;
    let mut bench = Bench::alone(config(), image);
    let written = bench.write_metadata();
    for block in 0..3 {
        let slots = [0, 1].map(|slot| layout.offset(BlockAddress::Intent { block, slot }));
        let times = written.iter().filter(|at| slots.contains(at)).count();
        assert_eq!(times, 1, "block {block} of {written:?}");
    }
}
