//! Targets as they stand on the command line: `all`, `RES`, `RES/VOLUME`, `RES:PEER`,
//! `RES:PEER/VOLUME`. Only their form; whether such a resource exists is looked up elsewhere.

use std::fmt;

use crate::failure::Failure;

/// A resource, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Name of the resource.
    pub(crate) resource: String,
    /// Name of a peer.
    pub(crate) peer: Option<String>,
    /// Number of a volume.
    pub(crate) volume: Option<u16>,
}

/// What one target of a command may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Only a whole resource.
    Resource,
    /// A resource or one of its volumes.
    Volume,
    /// A resource or one of its connections.
    Connection,
    /// Anything.
    PeerDevice,
}

impl Target {
    /// Reads one target; `all` is not one.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let not_a_target = || Failure::NotDefined(text.to_owned());
        let (front, volume) = match text.split_once('/') {
            Some((front, number)) => (front, Some(number.parse().map_err(|_| not_a_target())?)),
            None => (text, None),
        };
        let (resource, peer) = match front.split_once(':') {
            Some((resource, peer)) => (resource, Some(peer.to_owned())),
            None => (front, None),
        };
        if resource.is_empty() || peer.as_deref() == Some("") {
            return Err(not_a_target());
        }
        Ok(Self {
            resource: resource.to_owned(),
            peer,
            volume,
        })
    }

    /// A whole resource.
    pub(crate) fn whole(resource: &str) -> Self {
        Self {
            resource: resource.to_owned(),
            peer: None,
            volume: None,
        }
    }

    /// Refuses a part the command does not work on.
    pub(crate) fn check_scope(&self, verb: &'static str, scope: Scope) -> Result<(), Failure> {
        let (whole, volume_fits, peer_fits) = match scope {
            Scope::Resource => ("whole resources", false, false),
            Scope::Volume => ("volumes", true, false),
            Scope::Connection => ("connections", false, true),
            Scope::PeerDevice => ("peer devices", true, true),
        };
        let given = if self.volume.is_some() && !volume_fits {
            "volume"
        } else if self.peer.is_some() && !peer_fits {
            "connection"
        } else {
            return Ok(());
        };
        Err(Failure::WrongScope {
            verb,
            scope: whole,
            given,
        })
    }

    /// Whether the volume with this number is meant.
    pub(crate) fn has_volume(&self, number: u16) -> bool {
        self.volume.is_none_or(|wanted| wanted == number)
    }

    /// Whether the peer with this name is meant.
    pub(crate) fn has_peer(&self, name: &str) -> bool {
        self.peer.as_deref().is_none_or(|wanted| wanted == name)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.resource)?;
        if let Some(peer) = &self.peer {
            write!(f, ":{peer}")?;
        }
        if let Some(volume) = self.volume {
            write!(f, "/{volume}")?;
        }
        Ok(())
    }
}
