//! What the configuration says about this node, in the form the commands use.
//!
//! [`crate::configuration`] makes it from the configuration language; nothing here reads a file.

use rbd_protocol::control::{MetaDisk, PeerConfig, ResourceConfig, VolumeConfig};

use crate::failure::Failure;
use crate::target::{Scope, Target};

/// All resources that have this node in them.
#[derive(Debug, Default)]
pub(crate) struct Site {
    /// In the order of definition.
    pub(crate) resources: Vec<LocalResource>,
}

/// One resource as seen from this node.
#[derive(Debug)]
pub(crate) struct LocalResource {
    /// What the daemon is told.
    pub(crate) config: ResourceConfig,
    /// How long the wait commands wait.
    pub(crate) startup: Startup,
}

/// The `startup` section. Seconds; 0 waits for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Startup {
    /// Usually.
    pub(crate) wfc_timeout: u32,
    /// When the cluster was degraded before this node went down.
    pub(crate) degr_wfc_timeout: u32,
    /// When the local disk is Outdated.
    pub(crate) outdated_wfc_timeout: u32,
    /// Whether StandAlone peers are waited for.
    pub(crate) wait_after_sb: bool,
}

impl Site {
    /// The resource with this name.
    pub(crate) fn resource(&self, name: &str) -> Option<&LocalResource> {
        self.resources.iter().find(|one| one.config.name == name)
    }

    /// Looks up what the words on the command line name, `all` included. Each word has its own
    /// outcome, so that the others are still done.
    pub(crate) fn select(
        &self,
        words: &[String],
        verb: &'static str,
        scope: Scope,
    ) -> Vec<Result<(Target, &LocalResource), Failure>> {
        let mut selected = Vec::new();
        for word in words {
            if word == "all" {
                let every = self.resources.iter();
                selected.extend(every.map(|one| Ok((Target::whole(&one.config.name), one))));
            } else {
                selected.push(self.select_one(word, verb, scope));
            }
        }
        selected
    }

    fn select_one(
        &self,
        word: &str,
        verb: &'static str,
        scope: Scope,
    ) -> Result<(Target, &LocalResource), Failure> {
        let target = self.parse(word)?;
        let Some(resource) = self.resource(&target.resource) else {
            return Err(Failure::NotDefined(word.to_owned()));
        };
        target.check_scope(verb, scope)?;
        resource.check_parts(&target)?;
        Ok((target, resource))
    }

    /// Reads a target, `minor-N` included.
    fn parse(&self, word: &str) -> Result<Target, Failure> {
        let minor = word
            .strip_prefix("minor-")
            .and_then(|text| text.parse().ok());
        match minor {
            Some(minor) => self
                .by_minor(minor)
                .ok_or_else(|| Failure::NotDefined(word.to_owned())),
            None => Target::parse(word),
        }
    }

    fn by_minor(&self, minor: u32) -> Option<Target> {
        self.resources.iter().find_map(|resource| {
            let mut volumes = resource.config.volumes.iter();
            let volume = volumes.find(|one| one.minor == Some(minor))?;
            Some(Target {
                resource: resource.config.name.clone(),
                peer: None,
                volume: Some(volume.number.0),
            })
        })
    }
}

impl LocalResource {
    /// The volumes the target means.
    pub(crate) fn volumes(&self, target: &Target) -> impl Iterator<Item = &VolumeConfig> {
        let every = self.config.volumes.iter();
        every.filter(|volume| target.has_volume(volume.number.0))
    }

    fn check_parts(&self, target: &Target) -> Result<(), Failure> {
        let has_peer = |name: &str| self.config.peers.iter().any(|peer| peer.name == name);
        if let Some(peer) = target.peer.as_deref().filter(|name| !has_peer(name)) {
            return Err(Failure::NoConnection {
                resource: target.resource.clone(),
                peer: peer.to_owned(),
            });
        }
        match target.volume {
            Some(volume) if self.volumes(target).next().is_none() => Err(Failure::NoVolume {
                resource: target.resource.clone(),
                volume,
            }),
            _ => Ok(()),
        }
    }
}

/// Where the metadata lies, as the configuration writes it.
pub(crate) fn meta_disk_words(meta_disk: &MetaDisk) -> String {
    match meta_disk {
        MetaDisk::Internal => "internal".to_owned(),
        MetaDisk::External { path, index: None } => path.clone(),
        MetaDisk::External {
            path,
            index: Some(index),
        } => format!("{path}[{index}]"),
    }
}

/// A peer as one word of a step: name, number, address.
pub(crate) fn peer_words(peer: &PeerConfig) -> String {
    format!("peer:{},{},{}", peer.name, peer.node_id, peer.address)
}
