//! A disk with metadata at its end that has grown: the metadata moves, then the volume grows.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use rbd_protocol::control::{RefusalCode, WriteCache};
use rbd_protocol::metadata::{
    Block, FormerEnd, Image, Layout, Located, OpenError, OpenInputs, PeerBitmap, Placement, create,
    encode_bitmap_block, open_internal,
};
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{DiskState, Role};

use super::fixtures::image_of;
use super::{Bench, OWN, SIZE, VOLUME, config};
use crate::{
    Action, AttachedDisk, CallId, Command, DiskError, DiskMeasure, DiskRequest, Event, LinkLoss,
    OperationId, RequestKind,
};

/// How large the disk was when its metadata was made, and is now.
pub(super) const FORMER: u64 = SIZE + 5 * 4096;
pub(super) const LARGE: u64 = 256 << 20;

/// A disk as it would be found: blocks of metadata, zeroes where none was written.
#[derive(Clone)]
pub(super) struct Medium {
    device_bytes: u64,
    pub(super) blocks: BTreeMap<u64, Box<Block>>,
}

impl Medium {
    /// The disk of a node in sync with its peer, of the former size.
    fn in_sync() -> Self {
        Self::made_for(&internal(SIZE))
    }

    fn made_for(image: &Image) -> Self {
        let layout = image.layout;
        let mut medium = Self {
            device_bytes: layout.device_bytes(),
            blocks: BTreeMap::new(),
        };
        let identity = image.superblock.identity();
        for write in create(&image.superblock, &layout) {
            medium.blocks.insert(write.offset, write.block);
        }
        for block in 0..layout.bitmap_blocks() {
            let address = rbd_protocol::metadata::BlockAddress::Bitmap {
                peer_slot: 0,
                block,
            };
            let bytes = encode_bitmap_block(identity, 0, block, &[0; 504], 1);
            medium.blocks.insert(layout.offset(address), bytes);
        }
        medium
    }

    /// What an attach would find with this size remembered.
    pub(super) fn find(&self, remembered: u64) -> Result<Located, OpenError> {
        self.find_moving(remembered, None)
    }

    /// The same if it is remembered, too, that metadata goes to the end of another.
    fn find_moving(&self, remembered: u64, goes_to: Option<u64>) -> Result<Located, OpenError> {
        let inputs = OpenInputs {
            device_bytes: self.device_bytes,
            placement: Placement::Internal,
            resource: "r0",
            node: "alpha",
            node_id: OWN,
            volume: VOLUME,
            accept_older_superblock: false,
        };
        let former = FormerEnd {
            device_bytes: remembered,
            device_id: Some(7),
            moves_to: goes_to,
        };
        open_internal(&mut |at, into| self.read(at, into), &inputs, Some(former))
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<(), rbd_protocol::metadata::ReadError> {
        into.fill(0);
        let end = at + into.len() as u64;
        for (offset, block) in self.blocks.range(at..end) {
            let from = usize::try_from(offset - at).expect("small");
            into[from..from + 4096].copy_from_slice(&block[..]);
        }
        Ok(())
    }
}

fn internal(size: u64) -> Image {
    let mut image = image_of(size);
    let former = size + image.layout.metadata_bytes();
    image.layout = Layout::with_data(former, Placement::Internal, 1, size).expect("there is room");
    image.superblock.device_bytes = former;
    image.superblock.metadata_offset = None;
    image
}

pub(super) const GROWN: DiskMeasure = DiskMeasure {
    device_bytes: LARGE,
    placement: Placement::Internal,
};

/// A node in sync with its peer, and its disk.
fn before_growth() -> (Bench, Medium) {
    before_growth_to(SIZE, LARGE)
}

/// The same with a volume and, then, a disk of these sizes.
pub(super) fn before_growth_to(size: u64, device_bytes: u64) -> (Bench, Medium) {
    let (bench, mut medium) = in_sync_on(&internal(size));
    medium.device_bytes = device_bytes;
    (bench, medium)
}

/// A node in sync with its peer, on a disk with this metadata.
fn in_sync_on(image: &Image) -> (Bench, Medium) {
    let mut medium = Medium::made_for(image);
    let found = medium.find(medium.device_bytes).expect("metadata");
    let mut bench = Bench::bare(config());
    let disk = AttachedDisk::new(Box::new(found.image), 512, WriteCache::Volatile);
    bench.command(Command::Attach {
        volume: VOLUME,
        disk,
    });
    bench.connect();
    write_all(&mut bench, &mut medium);
    bench.meet_on(&mut medium);
    bench.asked.clear();
    (bench, medium)
}

impl Bench {
    /// As `meet`, keeping what is written.
    fn meet_on(&mut self, medium: &mut Medium) {
        self.link_up();
        write_all(self, medium);
        let mut hello = self.greeting();
        hello.incarnation = 99;
        self.packet(Packet::Hello(Box::new(hello)));
        write_all(self, medium);
    }
}

/// The metadata writes under way.
pub(super) fn under_way(bench: &Bench) -> Vec<(OperationId, u64, Box<Block>)> {
    let writes = bench.asked.iter().filter_map(|action| match action {
        Action::Meta {
            id, offset, block, ..
        } => Some((*id, *offset, block.clone())),
        _ => None,
    });
    writes.collect()
}

/// Ends the oldest metadata write.
pub(super) fn write_one(bench: &mut Bench, medium: &mut Medium) -> Option<u64> {
    let (id, offset, block) = under_way(bench).into_iter().next()?;
    bench
        .asked
        .retain(|action| !matches!(action, Action::Meta { id: other, .. } if *other == id));
    medium.blocks.insert(offset, block);
    bench.tell(Event::MetaDone { id, result: Ok(()) });
    Some(offset)
}

pub(super) fn write_all(bench: &mut Bench, medium: &mut Medium) -> Vec<u64> {
    let mut offsets = Vec::new();
    while let Some(offset) = write_one(bench, medium) {
        offsets.push(offset);
    }
    offsets
}

/// Everything but the note of the new size: flushes here and there, metadata, where it goes.
pub(super) fn go_on(bench: &mut Bench, medium: &mut Medium) -> Vec<u64> {
    let mut offsets = Vec::new();
    loop {
        let flushed = bench.disk(DiskRequest::Flush, Ok(()));
        let acked = bench.peer_acks();
        let named = name_end(bench, Ok(())).is_some();
        let wrote = write_all(bench, medium);
        if !flushed && acked == 0 && !named && wrote.is_empty() {
            return offsets;
        }
        offsets.extend(wrote);
    }
}

/// The note that is asked for of where it is: the size.
pub(super) fn note(bench: &mut Bench, result: Result<(), DiskError>) -> Option<u64> {
    note_end(bench, result, false).map(|(is_at, _)| is_at)
}

/// The note that is asked for of where it goes.
pub(super) fn name_end(bench: &mut Bench, result: Result<(), DiskError>) -> Option<u64> {
    note_end(bench, result, true).and_then(|(_, goes_to)| goes_to)
}

fn note_end(
    bench: &mut Bench,
    result: Result<(), DiskError>,
    goes: bool,
) -> Option<(u64, Option<u64>)> {
    let at = bench.asked.iter().position(
        |action| matches!(action, Action::NoteSize { end, .. } if end.moves_to.is_some() == goes),
    )?;
    let Action::NoteSize { id, end, .. } = bench.asked.remove(at) else {
        return None;
    };
    bench.tell(Event::SizeNoted { id, result });
    Some((end.device_bytes, end.moves_to))
}

/// The peer has grown to this size; here it begins. The command, with the move not yet begun.
fn resize(bench: &mut Bench, assume_clean: bool) -> CallId {
    resize_on(bench, GROWN, assume_clean)
}

/// The same on a disk that is found to be so large.
pub(super) fn resize_on(bench: &mut Bench, found: DiskMeasure, assume_clean: bool) -> CallId {
    let call = bench.command(Command::Resize {
        volume: VOLUME,
        assume_clean,
    });
    measured(bench, found);
    let sent = bench.sent();
    let asked = sent.iter().find_map(|packet| match packet {
        Packet::ResizeRequest { id, capacity, .. } => Some((*id, *capacity)),
        _ => None,
    });
    let (id, capacity) = asked.expect("the peer is asked");
    bench.packet(Packet::ResizeReply {
        id,
        volume: VOLUME,
        bytes: capacity,
        granted: true,
    });
    call
}

fn measured(bench: &mut Bench, found: DiskMeasure) {
    let at = bench
        .asked
        .iter()
        .position(|action| matches!(action, Action::Measure { .. }))
        .expect("the disk is asked");
    if let Action::Measure { id, .. } = bench.asked.remove(at) {
        let result = Ok(found);
        bench.tell(Event::Measured { id, result });
    }
}

fn most() -> u64 {
    Layout::most_data(LARGE, Placement::Internal, 1, None)
}

#[test]
fn metadata_moves_to_the_end_of_a_disk_that_has_grown_and_then_the_volume_grows() {
    let (mut bench, mut medium) = before_growth();
    let call = resize(&mut bench, false);
    let moved = go_on(&mut bench, &mut medium);
    let new = Layout::with_data(LARGE, Placement::Internal, 1, SIZE).expect("there is room");
    let superblock = |slot, of| Layout::superblock_offset(of, Placement::Internal, slot).unwrap();
    let [first, last] = [moved[..2].to_vec(), moved[moved.len() - 4..].to_vec()];
    assert_eq!(
        first,
        [superblock(0, LARGE), superblock(1, LARGE)],
        "cleared"
    );
    assert!(
        last[..2].iter().all(|at| *at >= superblock(1, LARGE)),
        "the commit"
    );
    assert_eq!(
        last[2..],
        [superblock(0, FORMER), superblock(1, FORMER)],
        "wiped"
    );
    let between = &moved[2..moved.len() - 4];
    assert!(between.iter().all(|at| *at >= LARGE - new.metadata_bytes()));
    let blocks = usize::try_from(new.metadata_bytes() / 4096).expect("small");
    assert_eq!(between.len(), blocks - 2, "every block of the area");
    assert_eq!(bench.reply(call), None, "it is not noted where it is");
    assert_eq!(note(&mut bench, Ok(())), Some(LARGE));
    go_on(&mut bench, &mut medium);
    assert_eq!(bench.reply(call), Some(true));
    let found = medium.find(LARGE).expect("metadata at the end");
    assert_eq!(found.image.superblock.data_bytes, most());
    assert_eq!(found.image.layout.device_bytes(), LARGE);
}

/// At every moment of it a crash finds metadata that is whole, with every mark that any write under
/// way needs, whatever of what is being written has reached the medium.
#[test]
fn a_crash_at_any_moment_of_it_finds_what_counts() {
    let (mut bench, mut medium) = before_growth();
    bench.command(Command::Promote { force: false });
    bench.consent();
    write_all(&mut bench, &mut medium);
    bench.write(0);
    write_all(&mut bench, &mut medium);
    resize(&mut bench, false);
    let mut ends = [0_u32; 2];
    let mut noted = false;
    // Before it is noted where it goes, that may be so already.
    let mut notes = Vec::from([None, Some(LARGE)]);
    for step in 0..10_000 {
        // Another region is written to now and then: some wait, some are marked already.
        if step % 3 == 0 {
            bench.request(
                RequestKind::Write { fua: false },
                rbd_protocol::ids::ByteRange::new((step / 3 % 12) << 22, 4096),
            );
        }
        ends[usize::from(crash(&bench, &medium, &notes) == LARGE)] += 1;
        if name_end(&mut bench, Ok(())).is_some() {
            notes = Vec::from([Some(LARGE)]);
            continue;
        }
        let flushed = bench.disk(DiskRequest::Flush, Ok(()));
        let wrote = write_one(&mut bench, &mut medium).is_some();
        if bench.peer_acks() == 0 && !flushed && !wrote {
            if noted {
                break;
            }
            noted = note(&mut bench, Ok(())).is_some();
            assert!(noted, "nothing is under way after {step} steps");
        }
    }
    assert!(noted && ends.iter().all(|count| *count > 2), "{ends:?}");
    assert_eq!(
        medium
            .find(FORMER)
            .expect("found")
            .image
            .superblock
            .data_bytes,
        most()
    );
}

/// Where the metadata is that a crash finds now, whatever the disk has grown to by then.
fn crash(bench: &Bench, medium: &Medium, notes: &[Option<u64>]) -> u64 {
    let pending = under_way(bench);
    let choices = pending.len().min(6);
    let mut place = 0;
    for choice in 0..1_u32 << choices {
        let mut after = medium.clone();
        for (index, (_, offset, block)) in pending.iter().enumerate() {
            if choice & 1 << index.min(5) != 0 {
                after.blocks.insert(*offset, block.clone());
            }
        }
        let found = after.find(FORMER).expect("metadata that counts");
        let layout = found.image.layout;
        for (note, more) in notes
            .iter()
            .flat_map(|note| [(*note, 4096), (*note, 1 << 20)])
        {
            after.device_bytes = LARGE + more;
            let other = after.find_moving(FORMER, note).expect("the disk has grown");
            assert_eq!(
                (other.image.layout, other.image.superblock),
                (layout, found.image.superblock.clone())
            );
        }
        if found.image.superblock.data_bytes == SIZE {
            assert_eq!(found.image.damage.len(), 0, "{:?}", found.image.damage);
        }
        let marked = |offset: u64| {
            let region = offset >> 22;
            let mut hot = found.image.hot_regions.iter();
            let is_dirty = match &found.image.peers[0] {
                PeerBitmap::Pages(pages) => pages
                    .get(&0)
                    .is_some_and(|words| words[usize::try_from(offset >> 18).unwrap()] != 0),
                PeerBitmap::Everything => true,
            };
            hot.any(|range| range.contains(&region)) || is_dirty
        };
        for action in &bench.asked {
            if let Action::Disk {
                request: DiskRequest::Write { .. },
                range,
                ..
            } = action
            {
                assert!(
                    marked(range.offset),
                    "a write under way at {}",
                    range.offset
                );
            }
        }
        place = found.image.layout.device_bytes();
    }
    place
}

/// Nothing has happened yet that anybody would have to know of.
#[test]
fn metadata_does_not_move_if_it_cannot_be_noted_where_it_goes() {
    let (mut bench, mut medium) = before_growth();
    let call = resize(&mut bench, false);
    write_all(&mut bench, &mut medium);
    assert_eq!(bench.reply(call), None);
    assert_eq!(name_end(&mut bench, Err(DiskError::Io)), Some(LARGE));
    go_on(&mut bench, &mut medium);
    assert_eq!(note(&mut bench, Ok(())), None);
    let found = medium.find(FORMER).expect("where it was").image;
    assert_eq!(found.layout.device_bytes(), FORMER);
    assert_eq!(found.superblock.data_bytes, SIZE);
    assert_eq!(bench.reply(call), Some(false), "the wish has ended");
}

#[test]
fn where_metadata_has_lain_is_copied_even_if_the_rest_is_clean() {
    let (mut bench, mut medium) = before_growth();
    resize(&mut bench, true);
    go_on(&mut bench, &mut medium);
    note(&mut bench, Ok(()));
    go_on(&mut bench, &mut medium);
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Renegotiate));
    bench.sent();
    bench.link_up();
    let former = Layout::with_data(FORMER, Placement::Internal, 1, SIZE).expect("there is room");
    let dirty = bench.greeting().volumes[0].dirty_blocks;
    assert_eq!(dirty, former.metadata_bytes() / 4096);
}

/// It has moved before the daemon was started, and nobody knows from where.
#[test]
fn what_an_earlier_move_may_have_left_is_copied_even_if_the_rest_is_clean() {
    let mut image = internal(SIZE);
    image.layout = Layout::with_data(LARGE, Placement::Internal, 1, SIZE).expect("there is room");
    image.superblock.device_bytes = LARGE;
    let (mut bench, mut medium) = in_sync_on(&image);
    resize(&mut bench, true);
    go_on(&mut bench, &mut medium);
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Renegotiate));
    bench.sent();
    bench.link_up();
    let dirty = bench.greeting().volumes[0].dirty_blocks;
    assert_eq!(dirty, (most() - SIZE) / 4096);
}

#[test]
fn a_disk_that_has_not_grown_enough_says_how_much_is_missing() {
    let (mut bench, _) = before_growth();
    let call = bench.command(Command::Resize {
        volume: VOLUME,
        assume_clean: false,
    });
    let needed = internal(SIZE).layout.metadata_bytes();
    let found = DiskMeasure {
        device_bytes: FORMER + needed - 4096,
        ..GROWN
    };
    measured(&mut bench, found);
    let refusal = bench.refusal(call);
    assert_eq!(refusal.code, RefusalCode::DiskTooSmall);
    assert!(
        refusal.reason.contains("4096 bytes more"),
        "{}",
        refusal.reason
    );
}

#[test]
fn a_write_that_fails_on_the_way_costs_the_disk_and_leaves_what_counts() {
    for good in 0..200 {
        let (mut bench, mut medium) = before_growth();
        resize(&mut bench, false);
        bench.flush_only();
        for _ in 0..good {
            if write_one(&mut bench, &mut medium).is_none() && !bench.flush_only() {
                assert!(good > 4, "it ends after some writes");
                return;
            }
        }
        if !bench.is_writing_metadata() {
            if !bench.flush_only() {
                return;
            }
            continue;
        }
        bench.fail_metadata();
        assert_eq!(bench.disk_state(), DiskState::Diskless);
        let found = medium.find(FORMER).expect("one counts");
        assert_eq!(found.image.superblock.data_bytes, SIZE);
        assert_eq!(note(&mut bench, Ok(())), None);
    }
}

impl Bench {
    /// Ends the flushes under way, here and on the peer, and the note of where metadata goes.
    pub(super) fn flush_only(&mut self) -> bool {
        let here = self.disk(DiskRequest::Flush, Ok(()));
        let is_named = name_end(self, Ok(())).is_some();
        self.peer_acks() > 0 || here || is_named
    }
}

#[test]
fn a_volume_does_not_grow_over_metadata_that_is_not_noted_as_moved() {
    let (mut bench, mut medium) = before_growth();
    let call = resize(&mut bench, false);
    go_on(&mut bench, &mut medium);
    assert_eq!(note(&mut bench, Err(DiskError::Io)), Some(LARGE));
    go_on(&mut bench, &mut medium);
    assert_eq!(bench.refusal(call).code, RefusalCode::Environment);
    assert_eq!(bench.disk_state(), DiskState::UpToDate);
    let found = medium.find(FORMER).expect("metadata at the end");
    assert_eq!(found.image.superblock.data_bytes, SIZE);
    // The next handshake begins where this one ended.
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Renegotiate));
    bench.sent();
    greet_larger(&mut bench, &mut medium);
    assert_eq!(note(&mut bench, Ok(())), Some(LARGE));
    go_on(&mut bench, &mut medium);
    let found = medium.find(LARGE).expect("metadata at the end");
    assert_eq!(found.image.superblock.data_bytes, most());
}

/// A peer greets that has grown.
fn greet_larger(bench: &mut Bench, medium: &mut Medium) {
    bench.link_up();
    write_all(bench, medium);
    let mut hello = bench.greeting();
    assert_eq!(hello.volumes[0].capacity_bytes, most());
    hello.incarnation = 99;
    hello.role = Role::Primary;
    hello.volumes[0].size_bytes = most();
    bench.packet(Packet::Hello(Box::new(hello)));
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Renegotiate));
    bench.sent();
}

/// It died after its peer had grown, and its disk has grown, too.
#[test]
fn a_node_that_missed_a_growth_moves_its_metadata_at_the_handshake() {
    let mut medium = Medium::in_sync();
    medium.device_bytes = LARGE;
    let found = medium.find(FORMER).expect("where it was");
    let mut bench = Bench::bare(config());
    let disk = AttachedDisk {
        device_bytes: LARGE,
        ..AttachedDisk::new(Box::new(found.image), 512, WriteCache::Volatile)
    };
    bench.command(Command::Attach {
        volume: VOLUME,
        disk,
    });
    bench.connect();
    write_all(&mut bench, &mut medium);
    bench.asked.clear();
    greet_larger(&mut bench, &mut medium);
    bench.link_up();
    go_on(&mut bench, &mut medium);
    assert_eq!(bench.sent_so_far().count(), 0, "it has not grown");
    note(&mut bench, Ok(()));
    write_all(&mut bench, &mut medium);
    assert_eq!(bench.greeting().volumes[0].size_bytes, most());
}
