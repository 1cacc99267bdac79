//! Two real disks at rest against the marks on them: every block that differs must be listed as
//! out of sync by what one of the two disks holds (A2, B9, B10, C1).
//!
//! To be asked after a crash of both nodes, before either comes up again.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rbd_protocol::ids::NodeId;
use rbd_protocol::metadata::Image;

use super::area::Replica;
use super::suspect::suspects;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Blocks that differ.
    pub differing: u64,
    /// Blocks that count as out of sync.
    pub marked: u64,
    /// Blocks that differ and that neither disk lists: each run is a lost write in waiting.
    pub uncovered: Vec<Range<u64>>,
}

/// Compares the two disks of one volume.
///
/// # Errors
/// What cannot be read, or why the two do not belong together.
pub fn compare_with_marks(replicas: [&Replica; 2]) -> Result<Marks, String> {
    let images = [replicas[0].open()?, replicas[1].open()?];
    let peers = check_that_they_belong_together(&images)?;
    let marked = union([
        suspects(&images[0], peers[0]),
        suspects(&images[1], peers[1]),
    ]);
    let mut marks = Marks {
        marked: marked.iter().map(|run| run.end - run.start).sum(),
        ..Marks::default()
    };
    let open = |replica: &Replica| File::open(&replica.disk).map_err(|error| say(replica, &error));
    let files = [open(replicas[0])?, open(replicas[1])?];
    let mut buffers = [vec![0; PIECE], vec![0; PIECE]];
    let (mut position, end) = (0, images[0].layout.data_bytes());
    while position < end {
        let count = usize::try_from(end - position).unwrap_or(PIECE).min(PIECE);
        for (index, buffer) in buffers.iter_mut().enumerate() {
            files[index]
                .read_exact_at(&mut buffer[..count], position)
                .map_err(|error| say(replicas[index], &error))?;
        }
        let [one, other] = &buffers;
        if one[..count] != other[..count] {
            let pairs = one[..count].chunks(BLOCK).zip(other[..count].chunks(BLOCK));
            for (index, _) in (0..).zip(pairs).filter(|(_, (a, b))| a != b) {
                marks.note(position / BLOCK as u64 + index, &marked);
            }
        }
        position += count as u64;
    }
    Ok(marks)
}

/// As [`compare_with_marks`], and a block without a mark is an error.
///
/// # Errors
/// Names the first block that differs without a mark, or says what cannot be read.
pub fn check_marks(replicas: [&Replica; 2]) -> Result<Marks, String> {
    let marks = compare_with_marks(replicas)?;
    match marks.uncovered.first() {
        None => Ok(marks),
        Some(run) => Err(format!(
            "block {} differs and neither disk says so; there are {} marks",
            run.start, marks.marked
        )),
    }
}

impl Marks {
    fn note(&mut self, block: u64, marked: &[Range<u64>]) {
        self.differing += 1;
        let after = marked.partition_point(|run| run.end <= block);
        if marked.get(after).is_some_and(|run| run.start <= block) {
            return;
        }
        match self.uncovered.last_mut() {
            Some(run) if run.end == block => run.end += 1,
            _ => self.uncovered.push(block..block + 1),
        }
    }
}

/// The node each of them would ask its bitmap about.
fn check_that_they_belong_together(images: &[Image; 2]) -> Result<[NodeId; 2], String> {
    let [one, other] = [&images[0].superblock, &images[1].superblock];
    let differ = |what: &str, left: String, right: String| {
        Err(format!(
            "not two replicas of one volume: {what} {left} and {right}"
        ))
    };
    if one.resource != other.resource {
        let names = [one, other].map(|of| of.resource.as_str().to_owned());
        let [left, right] = names;
        return differ("resource", left, right);
    }
    if one.volume != other.volume {
        return differ("volume", one.volume.to_string(), other.volume.to_string());
    }
    if one.node_id == other.node_id {
        return differ("node", one.node_id.to_string(), other.node_id.to_string());
    }
    if one.data_bytes != other.data_bytes {
        return differ(
            "size",
            one.data_bytes.to_string(),
            other.data_bytes.to_string(),
        );
    }
    Ok([other.node_id, one.node_id])
}

/// What either lists, ascending and disjoint.
fn union(lists: [Vec<super::Suspect>; 2]) -> Vec<Range<u64>> {
    let mut all: Vec<Range<u64>> = lists
        .into_iter()
        .flatten()
        .map(|entry| entry.blocks)
        .collect();
    all.sort_by_key(|run| run.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for run in all {
        match joined.last_mut() {
            Some(last) if run.start <= last.end => last.end = last.end.max(run.end),
            _ => joined.push(run),
        }
    }
    joined
}

fn say(replica: &Replica, error: &io::Error) -> String {
    format!("{}: {error}", replica.disk.display())
}

/// Bytes compared at a time.
const PIECE: usize = 1 << 20;
const BLOCK: usize = 4096;
