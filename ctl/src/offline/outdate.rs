//! Declaring a disk behind while nobody serves it.

use rbd_protocol::control::{ResourceConfig, VolumeConfig};
use rbd_protocol::metadata::{BlockAddress, Superblock};

use super::OfflineError;
use super::area::Area;
use super::show::image;

/// Records durably that a peer has newer data. A disk that is not whole is not declared behind.
pub(crate) fn outdate(
    area: &Area,
    resource: &ResourceConfig,
    volume: &VolumeConfig,
) -> Result<(), OfflineError> {
    let image = image(area, resource, volume)?;
    let superblock = image.superblock;
    if superblock.generation == rbd_protocol::ids::GenerationId::JUST_CREATED
        || !superblock.flags.consistent
    {
        return Err(OfflineError::LowerThanOutdated);
    }
    let torn = |damage: &rbd_protocol::metadata::Damage| {
        matches!(damage.at, BlockAddress::Superblock { .. })
    };
    if image.damage.iter().any(torn) {
        // As an attach does: a copy torn twice in a row would prove nothing about either write.
        let found = Superblock {
            sequence: superblock.sequence.saturating_sub(1),
            ..superblock.clone()
        };
        write(area, &image.layout, &found)?;
    }
    let mut outdated = superblock;
    outdated.flags.outdated = true;
    outdated.sequence += 1;
    write(area, &image.layout, &outdated)
}

fn write(
    area: &Area,
    layout: &rbd_protocol::metadata::Layout,
    superblock: &Superblock,
) -> Result<(), OfflineError> {
    let disk = area.metadata();
    disk.write(
        layout.offset(superblock.address()),
        &superblock.encode()[..],
    )?;
    disk.flush()
}
