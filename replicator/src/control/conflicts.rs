//! Whether a configuration can be served at all, and whether two can be served side by side.
//!
//! Looks at the configurations only; locks on the disks catch what other processes do. Where a path
//! leads is asked apart ([`check_aliases`]), for a file system may never answer.

use std::net::SocketAddr;

use rbd_protocol::control::{
    MetaDisk, NbdExport, Refusal, RefusalCode, ResourceConfig, VolumeConfig,
};

/// Checks one configuration by itself.
pub(super) fn check_alone(config: &ResourceConfig, node: &str) -> Result<(), Refusal> {
    let invalid =
        |reason: String, help: &str| Err(Refusal::new(RefusalCode::InvalidRequest, reason, help));
    let name = &config.name;
    if !is_file_name(name) {
        return invalid(format!("{name:?} cannot be the name of a resource"), "");
    }
    if config.node_name != node {
        return invalid(
            format!(
                "{name} is configured for node {}, this daemon serves node {node}",
                config.node_name
            ),
            "give rbdadm and rbdd the same --node",
        );
    }
    if config.peers.len() > 1 {
        return invalid(
            format!(
                "{name} has {} peers; this version replicates between two nodes",
                config.peers.len()
            ),
            "keep two nodes in the resource",
        );
    }
    for peer in &config.peers {
        if peer.node_id == config.node_id || peer.name == config.node_name {
            return invalid(
                format!("{name}: peer {} has this node's name or node-id", peer.name),
                "",
            );
        }
        socket_address(name, &peer.address)?;
        if config.listen.is_none() {
            return invalid(format!("{name} has a peer and no address of its own"), "");
        }
    }
    if let Some(listen) = &config.listen {
        socket_address(name, listen)?;
    }
    for (index, volume) in config.volumes.iter().enumerate() {
        let earlier = config.volumes.get(..index).unwrap_or_default();
        if earlier.iter().any(|other| other.number == volume.number) {
            return invalid(format!("{name} has volume {} twice", volume.number), "");
        }
        for other in earlier {
            check_volumes(volume, (name, other), is_same_path)?;
        }
        for export in &volume.exports {
            if let NbdExport::Tcp(address) = export {
                socket_address(name, address)?;
            }
        }
    }
    Ok(())
}

/// Checks that two resources of this node do not use the same thing.
pub(super) fn check(config: &ResourceConfig, other: &ResourceConfig) -> Result<(), Refusal> {
    if let (Some(ours), Some(theirs)) = (&config.listen, &other.listen)
        && is_same_address(ours, theirs)
    {
        return Err(Refusal::new(
            RefusalCode::LocalAddressInUse,
            format!("{} already listens on {theirs}", other.name),
            "give every resource a port of its own",
        ));
    }
    for volume in &config.volumes {
        for theirs in &other.volumes {
            check_volumes(volume, (&other.name, theirs), is_same_path)?;
        }
    }
    Ok(())
}

/// Checks that no volume uses what another one uses under another name. Blocks as long as a file
/// system takes to answer.
pub(super) fn check_aliases(
    config: &ResourceConfig,
    others: &[ResourceConfig],
) -> Result<(), Refusal> {
    for (index, volume) in config.volumes.iter().enumerate() {
        let earlier = config.volumes.get(..index).unwrap_or_default();
        let earlier = earlier.iter().map(|other| (&*config.name, other));
        let of_others = others
            .iter()
            .flat_map(|other| other.volumes.iter().map(|volume| (&*other.name, volume)));
        for other in earlier.chain(of_others) {
            check_volumes(volume, other, is_same_file)?;
        }
    }
    Ok(())
}

fn check_volumes(
    volume: &VolumeConfig,
    (other_name, other): (&str, &VolumeConfig),
    is_same: impl Fn(&str, &str) -> bool,
) -> Result<(), Refusal> {
    let holder = format!("{other_name}/{}", other.number);
    let in_use = |path: &str| {
        Err(Refusal::new(
            RefusalCode::DiskInUse,
            format!("{path} is used by {holder}"),
            "",
        ))
    };
    if let Some(minor) = volume.minor
        && other.minor == Some(minor)
    {
        return Err(Refusal::new(
            RefusalCode::InvalidRequest,
            format!("minor {minor} is used by {holder}"),
            "",
        ));
    }
    let theirs: Vec<_> = storage_of(other).collect();
    for (path, index) in storage_of(volume) {
        let collides = |(their_path, their_index): &(&str, Option<u32>)| {
            is_same(path, their_path)
                && (index.is_none() || their_index.is_none() || index == *their_index)
        };
        if theirs.iter().any(collides) {
            return in_use(path);
        }
    }
    Ok(())
}

/// The files of a volume; several may share one that is divided into slots.
fn storage_of(volume: &VolumeConfig) -> impl Iterator<Item = (&str, Option<u32>)> {
    let disk = volume.disk.as_deref().map(|path| (path, None));
    let metadata = match &volume.meta_disk {
        MetaDisk::Internal => None,
        MetaDisk::External { path, index } => Some((&**path, *index)),
    };
    disk.into_iter().chain(metadata)
}

fn is_same_path(path: &str, other: &str) -> bool {
    path == other
}

fn is_same_file(path: &str, other: &str) -> bool {
    match (std::fs::canonicalize(path), std::fs::canonicalize(other)) {
        (Ok(path), Ok(other)) => path == other,
        _ => false,
    }
}

fn is_same_address(address: &str, other: &str) -> bool {
    match (address.parse::<SocketAddr>(), other.parse::<SocketAddr>()) {
        (Ok(address), Ok(other)) => address == other,
        _ => address == other,
    }
}

/// Reads an address that `rbdadm` has resolved.
pub(super) fn socket_address(resource: &str, text: &str) -> Result<SocketAddr, Refusal> {
    text.parse().map_err(|_| {
        Refusal::new(
            RefusalCode::InvalidRequest,
            format!("{resource}: {text:?} is not an IP address with a port"),
            "",
        )
    })
}

/// Resources are remembered in files of their name.
fn is_file_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_LIMIT
        && !name.starts_with('.')
        && !name.contains(|c: char| c == '/' || c.is_control())
}

/// As long as metadata has room for.
const NAME_LIMIT: usize = 127;
