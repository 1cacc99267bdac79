//! In which order the metadata of a disk becomes durable after an attach: the local disk alone, and
//! the blocks it writes.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use rbd_protocol::control::WriteCache;
use rbd_protocol::ids::{ByteRange, NodeId, REGION_SIZE};
use rbd_protocol::metadata::{
    BlockAddress, BlockError, Damage, Effect, Image, Layout, PeerBitmap, Superblock,
    decode_intent_block,
};

use super::fixtures::image_of;
use super::{PEER, SIZE, VOLUME, image};
use crate::bitmap::Bitmap;
use crate::context::Context;
use crate::contract::Time;
use crate::local_disk::{AttachError, LocalDisk};
use crate::random::Random;
use crate::{Action, AttachedDisk};

/// The boot of the machine the disks are attached in.
pub(super) const BOOT: u128 = 7;

pub(super) type Attached = Result<(LocalDisk, BTreeMap<NodeId, Bitmap>), AttachError>;

pub(super) fn try_attach(image: Image, peers: &[(NodeId, &str)], boot: u128) -> Attached {
    let disk = AttachedDisk::new(Box::new(image), 512, WriteCache::Volatile);
    LocalDisk::attach(disk, peers, boot, 1, Time(0))
}

pub(super) fn attach_in(image: Image, boot: u128) -> LocalDisk {
    try_attach(image, &[(PEER, "beta")], boot).unwrap().0
}

pub(super) fn attach(image: Image) -> LocalDisk {
    attach_in(image, BOOT)
}

/// A block of metadata that is being written, and where.
pub(super) enum Written {
    Superblock(Box<Superblock>),
    Intent {
        block: u32,
        epoch: u64,
        marks: Vec<u64>,
    },
}

/// Starts what is to be written now. Each is where the layout has it.
pub(super) fn start(local: &mut LocalDisk, layout: &Layout) -> Vec<Written> {
    let mut cx: Context<u32> = Context::new(Random::new(1), 0);
    let intents = local.start_metadata(VOLUME, &mut cx);
    let identity = image().superblock.identity();
    let mut written = Vec::new();
    for action in cx.out {
        let Action::Meta { offset, block, .. } = action else {
            panic!("only metadata is written");
        };
        if let Ok(superblock) = Superblock::decode(&block[..]) {
            assert_eq!(offset, layout.offset(superblock.address()));
            written.push(Written::Superblock(Box::new(superblock)));
            continue;
        }
        let places = (0..layout.intent_blocks()).flat_map(|block| [(block, 0), (block, 1)]);
        let (number, slot) = places
            .into_iter()
            .find(|(block, slot)| {
                let (block, slot) = (*block, *slot);
                layout.offset(BlockAddress::Intent { block, slot }) == offset
            })
            .expect("a place of the log");
        let found = decode_intent_block(&block[..], identity, number, slot);
        let (epoch, _, words) = found.expect("a block of the log");
        let is_set = |bit: &u64| words[usize::try_from(bit / 64).unwrap()] >> (bit % 64) & 1 == 1;
        written.push(Written::Intent {
            block: number,
            epoch,
            marks: (0..32_256).filter(is_set).collect(),
        });
    }
    let is_intent = |one: &&Written| matches!(one, Written::Intent { .. });
    assert_eq!(
        intents,
        u64::try_from(written.iter().filter(is_intent).count()).unwrap()
    );
    written
}

/// The blocks of the log that are started now, with the epoch of the first, and nothing else is.
pub(super) fn log_only(local: &mut LocalDisk, layout: &Layout) -> (Vec<u32>, Option<u64>) {
    let mut first = None;
    let blocks = start(local, layout).into_iter().map(|one| match one {
        Written::Intent { block, epoch, .. } => {
            first.get_or_insert(epoch);
            block
        }
        Written::Superblock(_) => panic!("a superblock is written"),
    });
    (blocks.collect(), first)
}

/// The superblock that is started now, and nothing else is.
pub(super) fn superblock_only(local: &mut LocalDisk, layout: &Layout) -> Superblock {
    let mut written = start(local, layout);
    assert_eq!(written.len(), 1);
    match written.remove(0) {
        Written::Superblock(superblock) => *superblock,
        Written::Intent { .. } => panic!("the log is written"),
    }
}

/// Everything an attach writes first is durable. Returns the superblock.
pub(super) fn take_up(local: &mut LocalDisk, layout: &Layout) -> Superblock {
    for block in log_only(local, layout).0 {
        local.intent_written(block);
    }
    let superblock = superblock_only(local, layout);
    local.superblock_written(local.version());
    assert!(local.is_settled());
    superblock
}

/// A torn or damaged place of so many blocks.
fn damage(at: BlockAddress, blocks: u32) -> Damage {
    Damage {
        at,
        blocks,
        cause: BlockError::NoSignature { found: 0 },
        effect: Effect::RegionsHot,
    }
}

fn region(number: u64) -> ByteRange {
    ByteRange::new(number * REGION_SIZE, 4096)
}

#[test]
fn the_first_superblock_announces_the_epoch_under_which_the_whole_log_has_been_written() {
    let (found, mut local) = (image(), attach(image()));
    let epoch = found.superblock.attach_epoch + 1;
    let layout = &found.layout;
    assert_eq!(log_only(&mut local, layout), (vec![0], Some(epoch)));
    assert_eq!(log_only(&mut local, layout), (vec![], None));
    assert!(!local.is_settled() && !local.is_taken_up());
    local.intent_written(0);
    assert!(!local.is_taken_up());
    let superblock = superblock_only(&mut local, layout);
    assert_eq!(superblock.attach_epoch, epoch);
    assert_eq!(superblock.sequence, found.superblock.sequence + 1);
    assert!(!local.is_durable(1) && !local.is_settled() && local.is_writing());
    // A mark that is wanted in the meantime belongs to the same epoch.
    assert!(!local.intent.admit(region(3), Time(1)));
    assert_eq!(log_only(&mut local, layout), (vec![0], Some(epoch)));
    local.superblock_written(1);
    assert!(local.is_durable(1) && local.is_taken_up() && local.is_writing());
    local.intent_written(0);
    assert!(!local.is_writing());
    assert!(!local.intent.admit(region(5), Time(1)));
    assert_eq!(log_only(&mut local, layout), (vec![0], Some(epoch)));
}

#[test]
fn each_write_of_a_block_of_the_log_goes_to_the_slot_of_the_one_before_the_last() {
    let (found, mut local) = (image(), attach(image()));
    take_up(&mut local, &found.layout);
    let mut cx: Context<u32> = Context::new(Random::new(1), 0);
    let mut sequences = Vec::new();
    for number in [3, 5, 7] {
        local.intent.admit(region(number), Time(1));
        local.start_metadata(VOLUME, &mut cx);
        let Some(Action::Meta { block, .. }) = cx.out.pop() else {
            panic!("the log is written");
        };
        let identity = found.superblock.identity();
        let read = |slot| decode_intent_block(&block[..], identity, 0, slot);
        let found = read(0).or_else(|_| read(1)).expect("a block of the log");
        sequences.push(found.1);
        local.intent_written(0);
    }
    let first = found.intent_sequences[0] + 2;
    assert_eq!(sequences, [first, first + 1, first + 2]);
}

#[test]
fn changes_of_the_superblock_while_it_is_written_go_to_disk_with_the_next_write() {
    let (found, mut local) = (image(), attach(image()));
    let first = take_up(&mut local, &found.layout);
    local.record_primary(true);
    let version = local.version();
    assert!(!local.is_durable(version) && !local.is_settled());
    let second = superblock_only(&mut local, &found.layout);
    assert!(second.flags.primary && !second.flags.clean_shutdown);
    assert_eq!(second.sequence, first.sequence + 1);
    assert_eq!(second.attach_epoch, first.attach_epoch);
    local.record_clean();
    assert_eq!(local.version(), version + 1);
    assert!(start(&mut local, &found.layout).is_empty(), "one at a time");
    local.superblock_written(version);
    assert!(local.is_durable(version) && !local.is_durable(version + 1));
    let third = superblock_only(&mut local, &found.layout);
    assert!(third.flags.primary && third.flags.clean_shutdown);
    assert_eq!(third.sequence, second.sequence + 1);
    local.superblock_written(version + 1);
    assert!(local.is_settled());
    local.record_clean();
    assert!(local.is_settled(), "it is recorded already");
    assert!(start(&mut local, &found.layout).is_empty());
}

#[test]
fn a_superblock_torn_by_a_crash_is_mended_before_the_next_one_is_written() {
    let mut found = image();
    found.superblock.sequence = 6;
    found.damage = vec![damage(BlockAddress::Superblock { slot: 1 }, 1)];
    let (layout, epoch) = (found.layout, found.superblock.attach_epoch);
    let mut local = attach(found.clone());
    let mut written = start(&mut local, &layout);
    assert_eq!(written.len(), 2);
    let Some(Written::Superblock(mended)) = written.pop() else {
        panic!("the torn one is written");
    };
    assert_eq!((mended.sequence, mended.attach_epoch), (5, epoch));
    assert_eq!(mended.generation, found.superblock.generation);
    // A mark that is wanted meanwhile belongs to the attachment that is not yet announced.
    local.intent_written(0);
    local.intent.admit(region(3), Time(1));
    assert_eq!(log_only(&mut local, &layout), (vec![0], Some(epoch + 1)));
    local.intent_written(0);
    assert!(start(&mut local, &layout).is_empty(), "one at a time");
    local.superblock_written(0);
    assert!(!local.is_durable(1));
    let next = superblock_only(&mut local, &layout);
    assert_eq!((next.sequence, next.attach_epoch), (7, epoch + 1));
}

#[test]
fn a_damaged_block_of_the_log_is_written_to_both_slots_before_the_disk_is_used() {
    let mut found = image_of(300 << 30);
    found.intent_sequences = vec![1; 3];
    let of_bitmap = BlockAddress::Bitmap {
        peer_slot: 0,
        block: 0,
    };
    let of_log = BlockAddress::Intent { block: 1, slot: 0 };
    found.damage = vec![damage(of_bitmap, 3), damage(of_log, 2)];
    let layout = found.layout;
    let mut local = attach(found);
    assert_eq!(log_only(&mut local, &layout).0, [0, 1, 2]);
    for block in 0..3 {
        local.intent_written(block);
    }
    assert_eq!(log_only(&mut local, &layout).0, [1, 2]);
    local.intent_written(1);
    assert!(start(&mut local, &layout).is_empty());
    local.intent_written(2);
    superblock_only(&mut local, &layout);
}

#[test]
fn regions_with_writes_in_flight_are_out_of_sync_and_stay_marked() {
    let mut found = image_of(SIZE + 3 * 4096);
    // The last region is cut short by the end of the data.
    found.hot_regions = vec![2..4, 16..17];
    let layout = found.layout;
    let (mut local, bitmaps) = try_attach(found, &[(PEER, "beta")], BOOT).unwrap();
    let bitmap = &bitmaps[&PEER];
    assert_eq!(bitmap.count(), 2 * 1024 + 3);
    let first = bitmap.next_run(0, u32::MAX, SIZE).unwrap();
    assert_eq!((first.offset, first.length), (2 << 22, 2 << 22));
    let marked = start(&mut local, &layout);
    let [Written::Intent { marks, .. }] = &marked[..] else {
        panic!("the log is written");
    };
    assert_eq!(marks[..], [2, 3, 16]);
}

#[test]
fn a_bitmap_that_does_not_count_is_all_dirty() {
    for full_sync in [false, true] {
        let mut found = image();
        let page = Box::new([0b111; 504]);
        found.peers = vec![PeerBitmap::Pages(BTreeMap::from([(0, page)]))];
        found.superblock.peers[0].flags.full_sync = full_sync;
        let (local, bitmaps) = try_attach(found, &[(PEER, "beta")], BOOT).unwrap();
        let dirty = if full_sync { SIZE / 4096 } else { 3 * 256 };
        assert_eq!(bitmaps[&PEER].count(), dirty);
        assert_eq!(local.is_full_sync(PEER), full_sync);
        assert_eq!(bitmaps[&PEER].has_unsaved(), full_sync);
    }
}
