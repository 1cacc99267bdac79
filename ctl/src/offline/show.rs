//! `dump-md`: a metadata area as text.

use rbd_protocol::control::{ResourceConfig, VolumeConfig};
use rbd_protocol::metadata::{self, Image, OpenInputs, PeerBitmap, Superblock};

use super::OfflineError;
use super::area::Area;

/// Reads and prints the metadata of a volume; what does not belong to it is an error.
pub(crate) fn dump(
    area: &Area,
    resource: &ResourceConfig,
    volume: &VolumeConfig,
) -> Result<String, OfflineError> {
    let inputs = OpenInputs {
        device_bytes: area.data().size(),
        placement: area.placement(),
        resource: &resource.name,
        node: &resource.node_name,
        node_id: resource.node_id,
        volume: volume.number,
        accept_older_superblock: false,
    };
    let opened = metadata::open(&mut |offset, buffer| area.read(offset, buffer), &inputs);
    let image = opened.map_err(|source| OfflineError::Unusable {
        path: area.metadata().path().to_owned(),
        source,
    })?;
    Ok(words(&image))
}

fn words(image: &Image) -> String {
    let superblock = &image.superblock;
    let mut lines = vec![
        "# rbd meta data dump".to_owned(),
        format!("version {};", metadata::VERSION),
        format!("resource \"{}\";", superblock.resource),
        format!("node \"{}\";", superblock.node),
        format!("node-id {};", superblock.node_id),
        format!("volume {};", superblock.volume),
        format!("max-peers {};", superblock.max_peers),
        format!("# metadata takes {} bytes", image.layout.metadata_bytes()),
        format!("la-size-bytes {};", superblock.data_bytes),
        format!("device-bytes {};", superblock.device_bytes),
        format!("device-uuid 0x{:016X};", superblock.device_id),
        format!("current-uuid 0x{};", superblock.generation),
        format!("flags {};", flags(superblock)),
    ];
    for (slot, peer) in superblock.peers.iter().enumerate() {
        let Some(node_id) = peer.node_id else {
            continue;
        };
        let flags = peer.flags;
        lines.push(format!("peer[{slot}] {{"));
        lines.push(format!("    node-id {node_id};"));
        lines.push(format!("    node \"{}\";", peer.name));
        lines.push(format!("    bitmap-uuid 0x{};", peer.bitmap_generation));
        let set = named(&[
            ("may-have-current", flags.may_have_current),
            ("outdated", flags.peer_outdated),
            ("full-sync", flags.full_sync),
            ("seen", flags.seen),
            ("was-primary", flags.was_primary),
        ]);
        lines.push(format!("    flags {set};"));
        if peer.counted_since != 0 {
            lines.push(format!("    counted-since {};", peer.counted_since));
        }
        lines.push(format!("    # bits-set {}", bits_set(image, slot)));
        lines.push("}".to_owned());
    }
    let history = superblock.history.iter().filter(|one| !one.is_none());
    let history: Vec<String> = history.map(|one| format!(" 0x{one};")).collect();
    lines.push(format!("history-uuids {{{} }}", history.concat()));
    let hot: u64 = image
        .hot_regions
        .iter()
        .map(|run| run.end - run.start)
        .sum();
    lines.push(format!("# hot regions {hot}"));
    for damage in &image.damage {
        lines.push(format!(
            "# damaged: {:?}, {} block(s): {}",
            damage.at, damage.blocks, damage.cause
        ));
    }
    lines.join("\n") + "\n"
}

fn flags(superblock: &Superblock) -> String {
    let flags = superblock.flags;
    named(&[
        ("consistent", flags.consistent),
        ("was-up-to-date", flags.was_up_to_date),
        ("primary", flags.primary),
        ("clean-shutdown", flags.clean_shutdown),
        ("outdated", flags.outdated),
    ])
}

fn named(flags: &[(&str, bool)]) -> String {
    let set = flags.iter().filter(|(_, set)| *set).map(|(name, _)| *name);
    let words: Vec<&str> = set.collect();
    if words.is_empty() {
        "none".to_owned()
    } else {
        words.join(" ")
    }
}

fn bits_set(image: &Image, slot: usize) -> u64 {
    match image.peers.get(slot) {
        None | Some(PeerBitmap::Everything) => image.layout.bits(),
        Some(PeerBitmap::Pages(pages)) => {
            let words = pages.values().flat_map(|page| page.iter());
            words.map(|word| u64::from(word.count_ones())).sum()
        }
    }
}
