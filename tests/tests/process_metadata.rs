//! Damaged metadata under real daemons: refused with one clear line, or healed, but never taken for
//! clean. What is damaged how is decided exhaustively by the metadata's own tests; here it is seen
//! that nothing is lost on the way from the disk to both copies being equal.

use std::fs::{self, File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rbd_tests::process::{Chance, Load, LoadOptions, Pair, Setup};

#[test]
fn flipped_bytes_are_refused_or_healed() {
    damage_after_a_crash(|disk, metadata, chance| {
        for _ in 0..=chance.below(3) {
            let at = metadata.start + chance.below(metadata.end - metadata.start);
            let mut byte = [0];
            disk.read_exact_at(&mut byte, at).expect("a byte");
            byte[0] ^= 1 << chance.below(8);
            disk.write_all_at(&byte, at).expect("a byte");
        }
    });
}

#[test]
fn zeroed_blocks_are_refused_or_healed() {
    damage_after_a_crash(|disk, metadata, chance| {
        for _ in 0..=chance.below(3) {
            let block = block_of(&metadata, chance);
            disk.write_all_at(&[0; BLOCK], block).expect("a block");
        }
    });
}

#[test]
fn swapped_blocks_are_refused_or_healed() {
    damage_after_a_crash(|disk, metadata, chance| {
        let places = [block_of(&metadata, chance), block_of(&metadata, chance)];
        let blocks = places.map(|place| {
            let mut block = [0; BLOCK];
            disk.read_exact_at(&mut block, place).expect("a block");
            block
        });
        for (place, block) in places.into_iter().zip(blocks.iter().rev()) {
            disk.write_all_at(block, place).expect("a block");
        }
    });
}

#[test]
fn metadata_that_was_rolled_back_does_not_hide_what_differs() {
    let mut pair = Pair::primary(Setup::default());
    pair.beta.ok("down");
    let disk = open(&pair.beta.disk(0));
    let metadata = metadata_of(&pair);
    let mut old = vec![0; size(metadata.end - metadata.start)];
    disk.read_exact_at(&mut old, metadata.start)
        .expect("an area");
    let old_disk = fs::read(pair.beta.disk(0)).expect("a disk");
    let write_alone = |pair: &mut Pair| {
        let load = pair.load("alpha", LoadOptions::default());
        load.let_work(200);
        load.stop(&mut pair.ledger).assert_undisturbed();
    };
    write_alone(&mut pair);
    pair.beta.ok("up");
    pair.wait_in_sync();
    // In the middle of writing, only the metadata goes back; then, after an orderly end, all.
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(200);
    pair.beta.kill();
    disk.write_all_at(&old, metadata.start).expect("an area");
    pair.beta.start();
    pair.beta.ok("up");
    pair.wait_in_sync();
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.verify("alpha");
    pair.assert_equal();
    pair.beta.ok("down");
    write_alone(&mut pair);
    disk.write_all_at(&old_disk, 0).expect("a disk");
    pair.beta.ok("up");
    pair.wait_in_sync();
    pair.verify("alpha");
    pair.finish();
}

/// Both nodes are killed while alpha is written to, then beta's metadata is damaged. Whatever beta
/// makes of it, both hold the same in the end, and everything that was answered.
fn damage_after_a_crash(damage: impl Fn(&File, Range<u64>, &mut Chance)) {
    let mut pair = Pair::primary(Setup::default());
    let metadata = metadata_of(&pair);
    let (mut refused, mut healed) = (0, 0);
    for seed in 0..ROUNDS {
        let load: Load = pair.load("alpha", LoadOptions::default());
        load.let_work(200);
        pair.alpha.kill();
        pair.beta.kill();
        drop(load.join(&mut pair.ledger));
        pair.check_marks();
        let good = fs::read(pair.beta.disk(0)).expect("a disk");
        let disk = open(&pair.beta.disk(0));
        // Every other time it hits the superblocks, which are few among many.
        let place = match seed % 2 {
            0 => metadata.end - 2 * BLOCK as u64..metadata.end,
            _ => metadata.clone(),
        };
        damage(&disk, place, &mut Chance::new(seed));
        pair.beta.start();
        let output = pair.beta.verb("up");
        if output.code == Some(0) {
            healed += 1;
        } else {
            refused += 1;
            assert_eq!(output.code, Some(10), "{}", output.text());
            let text = pair.beta.refused("up", 10);
            assert!(
                text.contains("superblock") || text.contains("meta"),
                "{text}"
            );
            disk.write_all_at(&good, 0).expect("a disk");
            pair.beta.ok("up");
        }
        pair.alpha.start();
        pair.alpha.ok("up");
        pair.wait_in_sync();
        pair.alpha.ok("primary");
        pair.verify("alpha");
    }
    println!("{refused} times refused, {healed} times healed");
    pair.finish();
}

/// Everything behind the data.
fn metadata_of(pair: &Pair) -> Range<u64> {
    let end = fs::metadata(pair.beta.disk(0)).expect("a disk").len();
    pair.data_size()..end / BLOCK as u64 * BLOCK as u64
}

fn block_of(metadata: &Range<u64>, chance: &mut Chance) -> u64 {
    let blocks = (metadata.end - metadata.start) / BLOCK as u64;
    metadata.start + chance.below(blocks) * BLOCK as u64
}

fn open(path: &Path) -> File {
    let disk = OpenOptions::new().read(true).write(true).open(path);
    disk.expect("a disk can be opened")
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a small disk")
}

const BLOCK: usize = 4096;
const ROUNDS: u64 = 4;
