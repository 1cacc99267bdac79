//! Two real disks at rest against the marks on them: every block that differs must be listed as
//! out of sync by what one of the two disks holds (A2, B9, B10, C1).
//!
//! To be asked after a crash of both nodes, before either comes up again.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rbd_protocol::ids::{NodeId, VolumeNumber};
use rbd_protocol::metadata::{self, Image, OpenInputs, Placement, ReadError};

use super::pair::dirty_after_crash;

/// A disk with internal metadata, and whose it is.
#[derive(Clone, Copy, Debug)]
pub struct Replica<'a> {
    /// The backing file.
    pub disk: &'a Path,
    /// The node's name.
    pub node: &'a str,
    /// The node's number.
    pub node_id: u8,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Blocks that differ.
    pub differing: usize,
    /// Blocks that count as out of sync.
    pub marked: usize,
}

/// Checks volume 0 of a resource.
///
/// # Errors
/// The first block that differs without a mark, or what cannot be read.
pub fn check_marks(resource: &str, replicas: [Replica<'_>; 2]) -> Result<Marks, String> {
    let [left, right] = replicas;
    let images = [read(resource, left)?, read(resource, right)?];
    let dirty = [
        dirty_after_crash(&images[0], NodeId(right.node_id)),
        dirty_after_crash(&images[1], NodeId(left.node_id)),
    ];
    let open = |replica: Replica<'_>| {
        File::open(replica.disk).map_err(|error| format!("{}: {error}", replica.disk.display()))
    };
    let (left, right) = (open(left)?, open(right)?);
    let mut marks = Marks {
        differing: 0,
        marked: 0,
    };
    let mut blocks = [vec![0; BLOCK], vec![0; BLOCK]];
    for (block, (here, there)) in dirty[0].iter().zip(&dirty[1]).enumerate() {
        let is_marked = *here || *there;
        marks.marked += usize::from(is_marked);
        let offset = (block * BLOCK) as u64;
        let [a, b] = &mut blocks;
        let both = left.read_exact_at(a, offset);
        both.and_then(|()| right.read_exact_at(b, offset))
            .map_err(|error| format!("block {block}: {error}"))?;
        if a != b {
            marks.differing += 1;
            if !is_marked {
                return Err(format!(
                    "block {block} differs and neither disk says so; there are {} marks",
                    marks.marked
                ));
            }
        }
    }
    Ok(marks)
}

fn read(resource: &str, replica: Replica<'_>) -> Result<Image, String> {
    let failed = |error: io::Error| format!("{}: {error}", replica.disk.display());
    let file = File::open(replica.disk).map_err(failed)?;
    let inputs = OpenInputs {
        device_bytes: file.metadata().map_err(failed)?.len(),
        placement: Placement::Internal,
        resource,
        node: replica.node,
        node_id: NodeId(replica.node_id),
        volume: VolumeNumber(0),
        accept_older_superblock: false,
    };
    let mut read = |offset, buffer: &mut [u8]| {
        file.read_exact_at(buffer, offset)
            .map_err(|error| ReadError {
                code: error.raw_os_error().unwrap_or(0),
            })
    };
    metadata::open(&mut read, &inputs)
        .map_err(|error| format!("{}: {error}", replica.disk.display()))
}

const BLOCK: usize = 4096;
