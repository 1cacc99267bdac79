//! What `rbdadm status --json` says, as far as the demo needs it.

use std::fmt;

use serde_json::Value;

/// One resource with one volume and one peer, as one node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// This node's role.
    pub(super) role: String,
    /// The state of this node's disk.
    pub(super) disk: String,
    /// The size of the data area in bytes.
    pub(super) size: u64,
    /// The state of the connection to the peer.
    pub(super) connection: String,
    /// What the connection is doing for the volume.
    pub(super) replication: String,
    /// The state of the peer's disk.
    pub(super) peer_disk: String,
    /// How much is in sync, in percent, as printed.
    pub(super) in_sync: String,
}

impl Seen {
    /// Finds one resource in the JSON.
    pub(super) fn parse(text: &str, resource: &str) -> Result<Self, String> {
        let json: Value =
            serde_json::from_str(text).map_err(|error| format!("status is not JSON: {error}"))?;
        if json["schema_version"] != 1 {
            return Err(format!(
                "status of schema {}, not 1",
                json["schema_version"]
            ));
        }
        let resource = json["resources"]
            .as_array()
            .and_then(|list| list.iter().find(|entry| entry["name"] == resource))
            .ok_or(format!("no resource {resource} in the status"))?;
        let device = &resource["devices"][0];
        let connection = &resource["connections"][0];
        let peer = &connection["peer_devices"][0];
        let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
        Ok(Self {
            role: word(&resource["role"]),
            disk: word(&device["disk-state"]),
            size: device["size"].as_u64().unwrap_or(0).saturating_mul(1024),
            connection: word(&connection["connection-state"]),
            replication: word(&peer["replication-state"]),
            peer_disk: word(&peer["peer-disk-state"]),
            in_sync: peer["percent-in-sync"].to_string(),
        })
    }

    /// Whether both sides have all data and nothing is being resynced.
    pub(super) fn is_in_sync(&self) -> bool {
        self.disk == "UpToDate" && self.peer_disk == "UpToDate" && self.is_established()
    }

    /// Whether the peer can be reached.
    pub(super) fn is_connected(&self) -> bool {
        self.connection == "Connected"
    }

    fn is_established(&self) -> bool {
        self.is_connected() && self.replication == "Established"
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}, {}", self.role, self.disk, self.connection)?;
        if self.is_connected() {
            write!(
                f,
                " {}, peer {}, {} % in sync",
                self.replication, self.peer_disk, self.in_sync
            )?;
        }
        Ok(())
    }
}
