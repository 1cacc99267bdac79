//! Creating and wiping a metadata area, and saying beforehand what that destroys.

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use rbd_protocol::control::ResourceConfig;
use rbd_protocol::ids::VolumeNumber;
use rbd_protocol::metadata::{
    self, BlockError, Creation, Found, Layout, NodeName, OpenError, ReadError, ResourceName,
    Superblock, Write, probe,
};
use rustix::rand::{GetRandomFlags, getrandom};

use super::OfflineError;
use super::area::Area;
use crate::status::size;

/// Whom the new metadata belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Creator<'a> {
    /// The resource, with this node's name and number.
    pub(crate) resource: &'a ResourceConfig,
    /// The volume.
    pub(crate) volume: VolumeNumber,
}

/// What creating this layout would destroy, one line each; empty when nothing was recognised.
pub(crate) fn losses(
    area: &Area,
    layout: &Layout,
    creator: Creator<'_>,
) -> Result<Vec<String>, OfflineError> {
    let found = recognised(area)?;
    Ok(found
        .iter()
        .map(|one| loss(area, layout, creator, one))
        .collect())
}

/// What wiping would destroy; an error when there is no metadata of ours.
pub(crate) fn losses_of_wipe(area: &Area) -> Result<Vec<String>, OfflineError> {
    let mut read = |offset: u64, buffer: &mut [u8]| area.read(offset, buffer);
    let slots = metadata::read_superblocks(&mut read, area.data().size(), area.placement());
    let unusable = |source| OfflineError::Unusable {
        path: area.metadata().path().to_owned(),
        source,
    };
    let [first, second] = slots.map_err(unusable)?;
    match (first.content, second.content) {
        (Err(BlockError::NoSignature { .. }), Err(BlockError::NoSignature { .. })) => {
            Err(unusable(OpenError::NoMetadata {
                offset: first.offset,
            }))
        }
        (Ok(superblock), _) | (_, Ok(superblock)) => Ok(vec![format!(
            "rbd metadata of {}/{} on node {}: {HISTORY_LOST}",
            superblock.resource, superblock.volume, superblock.node
        )]),
        (Err(error), Err(_)) => Ok(vec![format!("damaged rbd metadata ({error})")]),
    }
}

/// Writes new metadata, durably.
pub(crate) fn create(
    area: &Area,
    layout: &Layout,
    creator: Creator<'_>,
) -> Result<(), OfflineError> {
    let config = creator.resource;
    let creation = Creation {
        resource: ResourceName::new(&config.name).map_err(|source| OfflineError::Name {
            name: config.name.clone(),
            source,
        })?,
        node: NodeName::new(&config.node_name).map_err(|source| OfflineError::Name {
            name: config.node_name.clone(),
            source,
        })?,
        node_id: config.node_id,
        volume: creator.volume,
        device_id: random_number()?,
        created_at: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
    };
    let superblock = Superblock::new(creation, layout);
    perform(area, metadata::create(&superblock, layout))
}

/// Overwrites what makes metadata recognisable, durably.
pub(crate) fn wipe(area: &Area) -> Result<(), OfflineError> {
    let writes = metadata::wipe(area.data().size(), area.placement());
    perform(area, writes.map_err(|source| area.misfit(source))?)
}

fn perform(area: &Area, writes: impl IntoIterator<Item = Write>) -> Result<(), OfflineError> {
    let disk = area.metadata();
    for write in writes {
        disk.write(write.offset, &write.block[..])?;
    }
    disk.flush()
}

/// Everything recognised in the part of the disk that is this volume's.
fn recognised(area: &Area) -> Result<Vec<Found>, OfflineError> {
    let (start, length) = area.window();
    let mut read = |offset: u64, buffer: &mut [u8]| area.read(start + offset, buffer);
    probe(&mut read, length).map_err(|error: ReadError| OfflineError::Read {
        path: area.metadata().path().to_owned(),
        source: io::Error::from_raw_os_error(error.code),
    })
}

fn loss(area: &Area, layout: &Layout, creator: Creator<'_>, found: &Found) -> String {
    match found {
        Found::RbdMetadata {
            resource,
            node,
            volume,
            ..
        } => {
            let config = creator.resource;
            let own = *resource == config.name && *volume == creator.volume;
            let whose = if own && *node == config.node_name {
                "rbd metadata of this very volume".to_owned()
            } else {
                format!("rbd metadata of ANOTHER volume, {resource}/{volume} on node {node}")
            };
            format!("{whose}: {HISTORY_LOST}")
        }
        Found::UnreadableRbdMetadata(error) => format!(
            "rbd metadata that cannot be read ({error}): whatever of it could be rescued is lost"
        ),
        Found::Drbd { version } => format!(
            "metadata of DRBD {version}: DRBD's knowledge of this disk's data generations and of \
             what its peer lacks is lost"
        ),
        Found::FileSystem { name, bytes } => file_system_loss(area, layout, name, *bytes),
        Found::Member(name) => format!("a member of {name}: {}", overwritten(area, layout)),
        Found::PartitionTable(name) => {
            format!("a partition table ({name}): {}", overwritten(area, layout))
        }
    }
}

fn file_system_loss(area: &Area, layout: &Layout, name: &str, bytes: Option<u64>) -> String {
    let what = match bytes {
        Some(bytes) => format!("{name} of {} ({bytes} bytes)", size(bytes)),
        None => format!("{name} of unknown size"),
    };
    if !area.is_internal() {
        return format!("{what}: {}", overwritten(area, layout));
    }
    let room = layout.data_bytes();
    if bytes.is_some_and(|bytes| bytes <= room) {
        return format!(
            "{what}: it ends before the metadata begins and stays intact, as far as its own header \
             can be believed"
        );
    }
    format!(
        "{what}: {}, so the file system is damaged unless it was shrunk to at most {room} bytes \
         first",
        overwritten(area, layout)
    )
}

fn overwritten(area: &Area, layout: &Layout) -> String {
    let bytes = size(layout.metadata_bytes());
    if area.is_internal() {
        format!("the last {bytes} of the disk are overwritten")
    } else {
        let (offset, _) = area.window();
        format!("{bytes} from byte {offset} on are overwritten")
    }
}

fn random_number() -> Result<u64, OfflineError> {
    let mut bytes = [0; 8];
    // The kernel gives up to 256 bytes whole or not at all.
    getrandom(&mut bytes, GetRandomFlags::empty())
        .map_err(|errno| OfflineError::Random(errno.into()))?;
    Ok(u64::from_ne_bytes(bytes))
}

const HISTORY_LOST: &str = "its data generations and what its peers lack are forgotten, \
                            the data counts as Inconsistent and needs a full sync";
