//! The size two disks agree on.

use alloc::vec::Vec;

use rbd_protocol::ids::{GenerationId, VolumeNumber};
use rbd_protocol::peer::HelloVolume;
use rbd_protocol::state::DiskState;

use super::agree;

fn disk(current: GenerationId, size_bytes: u64, capacity_bytes: u64) -> HelloVolume {
    HelloVolume {
        number: VolumeNumber(0),
        size_bytes,
        capacity_bytes,
        block_bytes: 512,
        disk: DiskState::UpToDate,
        current,
        bitmap: GenerationId::NONE,
        history: Vec::new(),
        dirty_blocks: 0,
        was_primary: false,
        counted_since: 0,
        crashed_primary: false,
        was_resync_target: false,
        condemned: GenerationId::NONE,
        kept_power: false,
    }
}

const FRESH: GenerationId = GenerationId::JUST_CREATED;
const DATA: GenerationId = GenerationId(0x1000);

#[test]
fn two_just_created_disks_take_what_fits_both() {
    let (large, small) = (disk(FRESH, 100, 100), disk(FRESH, 64, 64));
    assert_eq!(agree(&large, &small), Ok(Some(64)));
    assert_eq!(agree(&small, &small), Ok(None));
    let grown_since = disk(FRESH, 64, 100);
    assert_eq!(agree(&large, &grown_since), Ok(Some(100)));
}

#[test]
fn a_just_created_disk_follows_the_one_with_data() {
    let (data, larger) = (disk(DATA, 64, 64), disk(FRESH, 100, 100));
    assert_eq!(agree(&data, &larger), Ok(Some(64)));
    let smaller = disk(FRESH, 32, 32);
    assert!(agree(&data, &smaller).is_err());
    let could_be_larger = disk(FRESH, 32, 64);
    assert_eq!(agree(&data, &could_be_larger), Ok(Some(64)));
}

#[test]
fn what_has_held_data_is_never_cut() {
    let (large, small) = (disk(DATA, 100, 100), disk(DATA, 64, 64));
    let refused = agree(&large, &small).expect_err("the peer is too small");
    assert!(refused.starts_with("The peer's disk size is too small!"));
    let refused = agree(&small, &large).expect_err("this node is too small");
    assert!(refused.starts_with("this node's disk is too small"));
}

#[test]
fn a_disk_that_missed_a_growth_grows_to_the_other_and_no_further() {
    let (grown, returns) = (disk(DATA, 100, 200), disk(DATA, 64, 200));
    assert_eq!(agree(&grown, &returns), Ok(Some(100)));
    assert_eq!(
        agree(&grown, &grown),
        Ok(None),
        "more room alone is no order to grow"
    );
}

#[test]
fn both_nodes_agree_on_every_pair() {
    let sizes = [0, 32, 64, 100];
    let mut disks = Vec::new();
    for current in [FRESH, DATA] {
        for size in sizes {
            for capacity in sizes.into_iter().filter(|capacity| *capacity >= size) {
                disks.push(disk(current, size, capacity));
            }
        }
    }
    for own in &disks {
        for peer in &disks {
            let (here, there) = (agree(own, peer), agree(peer, own));
            assert_eq!(here.clone().ok(), there.ok(), "{own:?} {peer:?}");
            if let Ok(Some(size)) = here {
                assert!(size <= own.capacity_bytes && size <= peer.capacity_bytes);
                for disk in [own, peer] {
                    assert!(disk.current == FRESH || size >= disk.size_bytes);
                }
            }
        }
    }
}
