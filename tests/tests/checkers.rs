//! The checkers that are programs, each seen to accept what is right and to find what is broken.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rbd_protocol::ids::{GenerationId, NodeId, VolumeNumber};
use rbd_protocol::metadata::{
    BlockAddress, Creation, Layout, NodeName, Placement, ResourceName, Superblock, WORDS_PER_PAGE,
    create, encode_bitmap_block, encode_intent_block,
};
use rbd_tests::check::{Kind, Ledger, MetaPlace, Recorder, Replica, Why, check_history, suspects};
use tempfile::TempDir;

/// A disk made by hand: three regions of data, metadata with nothing marked.
struct Disk {
    path: PathBuf,
    metadata: Option<PathBuf>,
    layout: Layout,
    superblock: Superblock,
}

const DATA: u64 = 12 << 20;
const EXTERNAL: u64 = 1 << 20;

impl Disk {
    fn new(directory: &TempDir, node: u8, external: bool) -> Self {
        let path = directory.path().join(format!("disk-{node}"));
        let metadata = external.then(|| directory.path().join(format!("meta-{node}")));
        let bytes = if external { DATA } else { DATA + EXTERNAL };
        for (path, bytes) in [(Some(&path), bytes), (metadata.as_ref(), EXTERNAL)] {
            let Some(path) = path else { continue };
            fs::write(path, vec![0; usize::try_from(bytes).unwrap_or(0)]).expect("written");
        }
        let placement = if external {
            Placement::External {
                offset: 0,
                available: EXTERNAL,
            }
        } else {
            Placement::Internal
        };
        let layout = Layout::with_data(bytes, placement, 1, DATA).expect("a layout");
        let creation = Creation {
            resource: ResourceName::new("r0").expect("short"),
            node: NodeName::new(&format!("node-{node}")).expect("short"),
            node_id: NodeId(node),
            volume: VolumeNumber(0),
            device_id: 7 + u64::from(node),
            created_at: 0,
        };
        let mut superblock = Superblock::new(creation, &layout);
        superblock.generation = GenerationId(0x1234);
        superblock.peers[0].node_id = Some(NodeId(1 - node));
        superblock.peers[0].name = NodeName::new("peer").expect("short");
        superblock.peers[0].flags.full_sync = false;
        let disk = Self {
            path,
            metadata,
            layout,
            superblock,
        };
        for write in create(&disk.superblock, &disk.layout) {
            disk.put(write.offset, &write.block[..]);
        }
        disk.mark(&[]);
        disk
    }

    fn put(&self, offset: u64, bytes: &[u8]) {
        let path = self.metadata.as_ref().unwrap_or(&self.path);
        put(path, offset, bytes);
    }

    /// Makes these blocks dirty in the bitmap, and no others.
    fn mark(&self, blocks: &[usize]) {
        let mut words = [0; WORDS_PER_PAGE];
        for block in blocks {
            words[block / 64] |= 1 << (block % 64);
        }
        let bytes = encode_bitmap_block(self.superblock.identity(), 0, 0, &words, 1);
        self.put(self.bitmap_offset(), &bytes[..]);
    }

    fn bitmap_offset(&self) -> u64 {
        self.layout.offset(BlockAddress::Bitmap {
            peer_slot: 0,
            block: 0,
        })
    }

    /// Marks one region in the write-intent log.
    fn heat(&self, region: usize) {
        let mut words = [0; WORDS_PER_PAGE];
        words[0] = 1 << region;
        let identity = self.superblock.identity();
        let epoch = self.superblock.attach_epoch;
        let (slot, bytes) = encode_intent_block(identity, epoch, 0, &words, 2);
        let address = BlockAddress::Intent { block: 0, slot };
        self.put(self.layout.offset(address), &bytes[..]);
    }

    /// Changes a byte of a block of data.
    fn change(&self, block: u64) {
        put(&self.path, block * 4096 + 17, &[1]);
    }

    fn replica(&self) -> Replica {
        Replica {
            disk: self.path.clone(),
            metadata: self.metadata.as_ref().map(|path| MetaPlace {
                path: path.clone(),
                index: None,
            }),
        }
    }

    fn why(&self) -> Vec<(u64, u64, Why)> {
        let image = self.replica().open().expect("it opens");
        let peer = NodeId(1 - self.superblock.node_id.0);
        let found = suspects(&image, peer).into_iter();
        found
            .map(|entry| (entry.blocks.start, entry.blocks.end, entry.why))
            .collect()
    }
}

fn put(path: &Path, offset: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(path).expect("opened");
    file.write_all_at(bytes, offset).expect("written");
}

fn run(program: &str, arguments: &[&Path]) -> (Option<i32>, String) {
    let Output { status, stdout, .. } = Command::new(program)
        .args(arguments)
        .output()
        .expect("it runs");
    (status.code(), String::from_utf8_lossy(&stdout).into_owned())
}

fn pair_check(disks: &[Disk; 2]) -> (Option<i32>, String) {
    let mut arguments: Vec<&Path> = disks.iter().map(|disk| disk.path.as_path()).collect();
    for (option, disk) in ["--meta-a", "--meta-b"].into_iter().zip(disks) {
        if let Some(path) = &disk.metadata {
            arguments.extend([Path::new(option), path]);
        }
    }
    run(env!("CARGO_BIN_EXE_rbd-pair-check"), &arguments)
}

#[test]
fn a_block_that_differs_without_a_mark_is_found_wherever_the_metadata_is() {
    for external in [false, true] {
        let directory = TempDir::new().expect("a directory");
        let disks = [0, 1].map(|node| Disk::new(&directory, node, external));
        assert_eq!(pair_check(&disks).0, Some(0));
        disks[0].change(5);
        let (code, text) = pair_check(&disks);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("blocks 5..6"), "{text}");
        disks[1].mark(&[5]);
        assert_eq!(pair_check(&disks).0, Some(0));
        // A flipped bit, as a mark cleared too early would leave it.
        disks[1].mark(&[4, 6]);
        assert_eq!(pair_check(&disks).0, Some(2));
        disks[0].heat(0);
        assert_eq!(pair_check(&disks).0, Some(0));
        disks[1].change(1024);
        let (code, text) = pair_check(&disks);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains("blocks 1024..1025"), "{text}");
    }
}

#[test]
fn disks_that_do_not_belong_together_are_not_compared() {
    let directory = TempDir::new().expect("a directory");
    let one = Disk::new(&directory, 0, false);
    let arguments: [&Path; 2] = [&one.path, &one.path];
    let (code, _) = run(env!("CARGO_BIN_EXE_rbd-pair-check"), &arguments);
    assert_eq!(code, Some(1));
    let missing = directory.path().join("missing");
    let (code, _) = run(env!("CARGO_BIN_EXE_rbd-pair-check"), &[&one.path, &missing]);
    assert_eq!(code, Some(1));
}

#[test]
fn every_kind_of_mark_is_told_with_its_reason() {
    let directory = TempDir::new().expect("a directory");
    let disk = Disk::new(&directory, 0, false);
    assert_eq!(disk.why(), []);
    disk.mark(&[0, 1, 63, 64, 65, 200]);
    let bitmap = Why::Bitmap;
    assert_eq!(
        disk.why(),
        [(0, 2, bitmap), (63, 66, bitmap), (200, 201, bitmap)]
    );
    disk.mark(&[]);
    disk.heat(1);
    assert_eq!(disk.why(), [(1024, 2048, Why::IntentLog)]);
    // A damaged block is never read as clean (C4).
    disk.put(disk.bitmap_offset() + 100, &[0xFF]);
    let damaged = (0, 3072, Why::DamagedBitmap);
    assert_eq!(disk.why(), [damaged, (1024, 2048, Why::IntentLog)]);
    for slot in [0, 1] {
        let address = BlockAddress::Intent { block: 0, slot };
        disk.put(disk.layout.offset(address) + 100, &[0xFF]);
    }
    assert_eq!(disk.why(), [damaged, (0, 3072, Why::DamagedIntentLog)]);
}

#[test]
fn what_a_node_would_resynchronise_is_printed() {
    let directory = TempDir::new().expect("a directory");
    let disk = Disk::new(&directory, 0, false);
    let program = env!("CARGO_BIN_EXE_rbd-marks");
    let (code, text) = run(program, &[&disk.path]);
    assert_eq!(
        (code, text.contains("node 1): nothing")),
        (Some(0), true),
        "{text}"
    );
    disk.mark(&[7]);
    let (_, text) = run(program, &[&disk.path]);
    assert!(
        text.contains("blocks 7..8 (bytes 28672..32768): dirty bitmap"),
        "{text}"
    );
    for slot in [0, 1] {
        let address = BlockAddress::Superblock { slot };
        disk.put(disk.layout.offset(address), &[0; 4096]);
    }
    assert_eq!(run(program, &[&disk.path]).0, Some(1));
}

#[test]
fn a_ledger_writes_a_history_that_the_checker_accepts_and_a_stale_disk_does_not() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("history");
    let mut ledger = Ledger::new(9, 64, 2);
    ledger.record(&Recorder::create(&path).expect("a file"));
    let mut image = Ledger::initial_image(9, 64 * 512);
    let stale = image.clone();
    let shard = &mut ledger.shards_mut()[0];
    let payload = shard.issue(3, 2, Kind::Data);
    image[3 * 512..5 * 512].copy_from_slice(&payload);
    shard.acknowledge(3, 2, Kind::Data);
    shard.issue(4, 1, Kind::Trim);
    shard.issue(4, 1, Kind::Zero); // the answer to the one before was lost
    image[4 * 512..5 * 512].fill(0);
    shard.acknowledge(4, 1, Kind::Zero);
    let read = |image: &[u8], offset: u64, length: u32| {
        let start = usize::try_from(offset).unwrap_or(0);
        Ok(image[start..start + length as usize].to_vec())
    };
    ledger
        .verify(|offset, length| read(&image, offset, length))
        .expect("nothing is wrong");
    let program = env!("CARGO_BIN_EXE_rbd-check-history");
    assert!(
        ledger
            .verify(|offset, length| read(&stale, offset, length))
            .is_err()
    );
    drop(ledger);
    let text = fs::read_to_string(&path).expect("it was written");
    let lines: Vec<&str> = text.lines().collect();
    let good = lines[..lines.len() - 2].join("\n");
    assert!(check_history(good.as_bytes()).is_ok(), "{text}");
    assert!(text.contains("lost 2"), "{text}");
    assert_eq!(run(program, &[&path]).0, Some(2), "{text}");
    fs::write(&path, good).expect("written");
    assert_eq!(run(program, &[&path]).0, Some(0));
}
