//! From the configuration language to what the commands use: the only place that knows both.
//!
//! Every default is filled in by [`crate::config`]; here values only change their units and
//! form. What the control protocol cannot express is turned into a warning.

use std::path::Path;

use rbd_protocol::control::{
    Fencing, MetaDisk, NbdExport, NetOptions, PeerConfig, ResourceConfig, ResourceOptions,
    ResyncOptions, VolumeConfig,
};

use crate::config::{
    self, Config, Diagnostics, NbdListen, ResolvedPeer, ResolvedResource, ResolvedVolume,
};
use crate::failure::Failure;
use crate::site::{LocalResource, Site, Startup};

/// The configuration of this node, read and resolved.
#[derive(Debug)]
pub(crate) struct Configuration {
    /// What the commands use.
    pub(crate) site: Site,
    config: Config,
    node: String,
    warnings: Vec<String>,
}

impl Configuration {
    /// Reads the file and resolves it for the node.
    pub(crate) fn read(path: &Path, node: &str) -> Result<Self, Failure> {
        let config = config::load(path).map_err(|wrong| unusable(&wrong))?;
        let resolved = config.resolve(node).map_err(|wrong| unusable(&wrong))?;
        let whole = config.warnings().list().iter();
        let mut warnings: Vec<String> = whole.map(|one| one.headline()).collect();
        let mut resources = Vec::new();
        for resource in resolved {
            let own = resource.warnings.iter().cloned();
            let own = own.chain(several_addresses(&resource));
            for line in own.chain(nobody_fences(&resource)) {
                if !warnings.contains(&line) {
                    warnings.push(line);
                }
            }
            resources.push(local(resource, path));
        }
        Ok(Self {
            site: Site { resources },
            config,
            node: node.to_owned(),
            warnings,
        })
    }

    /// What a person should know although the configuration can be used, one line each.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// All of it, printed again.
    pub(crate) fn dump_all(&self) -> String {
        self.config.dump(&self.node, &[]).unwrap_or_default()
    }

    /// One resource, printed again.
    pub(crate) fn dump(&self, resource: &str) -> String {
        self.config
            .dump(&self.node, &[resource])
            .unwrap_or_default()
    }
}

fn unusable(wrong: &Diagnostics) -> Failure {
    Failure::Configuration {
        text: wrong.render(false).trim_end().to_owned(),
        code: wrong.exit_code(),
    }
}

fn local(resource: ResolvedResource, path: &Path) -> LocalResource {
    let startup = Startup {
        wfc_timeout: limited(resource.startup.wait_seconds),
        degr_wfc_timeout: limited(resource.startup.degraded_wait_seconds),
        outdated_wfc_timeout: limited(resource.startup.outdated_wait_seconds),
        wait_after_sb: false,
    };
    let hottest = resource
        .volumes
        .iter()
        .map(|volume| volume.al_extents)
        .max();
    let no_data = resource.options.get("on-no-data-accessible");
    let options = ResourceOptions {
        suspend_without_data: no_data.is_some_and(|value| value == "suspend-io"),
        hot_region_limit: hottest
            .map_or_else(|| ResourceOptions::default().hot_region_limit, limited),
    };
    let config = ResourceConfig {
        name: resource.name.clone(),
        defined_at: format!("{}:{}", resource.defined_at.file, resource.defined_at.line),
        config_path: path.display().to_string(),
        node_name: resource.own.name.clone(),
        node_id: resource.own.node_id,
        listen: listen(&resource).map(|address| address.to_string()),
        peers: resource.peers.iter().map(peer).collect(),
        volumes: resource
            .volumes
            .iter()
            .map(|one| volume(one, &resource.peers))
            .collect(),
        options,
        handlers: resource.handlers.into_iter().collect(),
    };
    LocalResource { config, startup }
}

fn listen(resource: &ResolvedResource) -> Option<std::net::SocketAddr> {
    if resource.peers.is_empty() {
        return None;
    }
    let of_connection = || resource.peers.first().map(|peer| peer.own_address);
    resource.own.address.or_else(of_connection)
}

/// The control protocol knows one listening address per resource.
fn several_addresses(resource: &ResolvedResource) -> Option<String> {
    let listen = listen(resource)?;
    let mut peers = resource.peers.iter();
    let other = peers.find(|peer| peer.own_address != listen)?;
    Some(format!(
        "{}:{}: warning: resource {} listens on {listen} only; the address {} given for the \
         connection to {} has no effect in this version",
        resource.defined_at.file,
        resource.defined_at.line,
        resource.name,
        other.own_address,
        other.name
    ))
}

/// Fencing without a handler freezes and never thaws by itself.
fn nobody_fences(resource: &ResolvedResource) -> Option<String> {
    let wanted = |peer: &ResolvedPeer| peer.net.fencing != Fencing::DontCare;
    let is_missing = !resource.handlers.contains_key("fence-peer");
    (is_missing && resource.peers.iter().any(wanted)).then(|| {
        format!(
            "{}:{}: warning: resource {} has 'fencing' but no 'fence-peer' handler: a lost peer \
             can never be fenced, so this node will not go on without it by itself",
            resource.defined_at.file, resource.defined_at.line, resource.name
        )
    })
}

fn peer(peer: &ResolvedPeer) -> PeerConfig {
    let net = &peer.net;
    PeerConfig {
        name: peer.name.clone(),
        node_id: peer.node_id,
        address: peer.address.to_string(),
        net: NetOptions {
            shared_secret: net.shared_secret.as_ref().map(|secret| secret.0.clone()),
            timeout_ms: tenths(net.timeout_tenths),
            ko_count: limited(net.ko_count),
            connect_interval_ms: limited(net.connect_interval_seconds.saturating_mul(1000)),
            ping_interval_ms: limited(net.ping_interval_seconds.saturating_mul(1000)),
            ping_timeout_ms: tenths(net.ping_timeout_tenths),
            fencing: net.fencing,
            send_buffer_bytes: limited(net.send_buffer_bytes),
            receive_buffer_bytes: limited(net.receive_buffer_bytes),
            split: net.split,
            resync_conflict: net.resync_conflict,
            verify: net.verify,
            compare_first: net.compare_first,
            two_primaries: net.allow_two_primaries,
            two_without_fencing: net.two_without_fencing,
        },
    }
}

fn volume(volume: &ResolvedVolume, peers: &[ResolvedPeer]) -> VolumeConfig {
    let resync = peers.iter().filter_map(|peer| {
        let found = peer
            .resync
            .iter()
            .find(|(number, _)| *number == volume.number);
        let options = found.map(|(_, options)| *options)?;
        (options != ResyncOptions::default()).then_some((peer.node_id, options))
    });
    VolumeConfig {
        number: volume.number,
        device: volume.device.display().to_string(),
        minor: Some(volume.minor),
        disk: volume.disk.as_ref().map(|path| path.display().to_string()),
        meta_disk: match &volume.meta_disk {
            config::MetaDisk::Internal => MetaDisk::Internal,
            config::MetaDisk::External(path) => MetaDisk::External {
                path: path.display().to_string(),
                index: None,
            },
            config::MetaDisk::Indexed(path, index) => MetaDisk::External {
                path: path.display().to_string(),
                index: Some(*index),
            },
        },
        size_limit_bytes: volume.size_limit_bytes,
        exports: volume.nbd.iter().map(export).collect(),
        kernel: volume.kernel,
        resync: resync.collect(),
        on_disk_trouble: volume.on_disk_trouble,
        resync_after: volume.resync_after.clone(),
    }
}

fn export(listen: &NbdListen) -> NbdExport {
    match listen {
        NbdListen::Unix => NbdExport::Unix,
        NbdListen::Tcp(address) => NbdExport::Tcp(address.to_string()),
    }
}

fn tenths(value: u64) -> u32 {
    limited(value.saturating_mul(100))
}

/// The option table's ranges all fit; a value beyond them would mean "as long as possible".
fn limited(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
