//! What `rbdadm status --json` says of one resource.

use serde_json::Value;

/// One resource with one peer, as one node sees it; volume 0 unless said otherwise.
#[derive(Clone, Debug)]
pub struct Status(Value);

impl Status {
    /// Finds a resource in the JSON.
    ///
    /// # Errors
    /// When it is not there, or this is not the JSON of a status.
    pub fn parse(text: &str, resource: &str) -> Result<Self, String> {
        let json: Value =
            serde_json::from_str(text).map_err(|error| format!("not JSON: {error}: {text}"))?;
        if json["schema_version"] != 1 {
            return Err(format!("schema {}, not 1", json["schema_version"]));
        }
        json["resources"]
            .as_array()
            .and_then(|list| list.iter().find(|entry| entry["name"] == resource))
            .map(|entry| Self(entry.clone()))
            .ok_or_else(|| format!("no resource {resource}"))
    }

    /// This node's role.
    #[must_use]
    pub fn role(&self) -> &str {
        word(&self.0["role"])
    }

    /// The state of this node's disk.
    #[must_use]
    pub fn disk(&self) -> &str {
        word(&self.device()["disk-state"])
    }

    /// Why the disk is in that state.
    #[must_use]
    pub fn disk_note(&self) -> &str {
        word(&self.device()["note"])
    }

    /// The size of the data area in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.device()["size-bytes"].as_u64().unwrap_or(0)
    }

    /// How many clients are connected.
    #[must_use]
    pub fn open_count(&self) -> u64 {
        self.device()["open-count"].as_u64().unwrap_or(0)
    }

    /// The state of the connection.
    #[must_use]
    pub fn connection(&self) -> &str {
        word(&self.link()["connection-state"])
    }

    /// Why the connection is in that state.
    #[must_use]
    pub fn note(&self) -> &str {
        word(&self.link()["note"])
    }

    /// The peer's role.
    #[must_use]
    pub fn peer_role(&self) -> &str {
        word(&self.link()["peer-role"])
    }

    /// What the connection is doing for the volume.
    #[must_use]
    pub fn replication(&self) -> &str {
        word(&self.peer_device()["replication-state"])
    }

    /// The state of the peer's disk.
    #[must_use]
    pub fn peer_disk(&self) -> &str {
        word(&self.peer_device()["peer-disk-state"])
    }

    /// Bytes received from the peer for the volume.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.peer_device()["received-bytes"].as_u64().unwrap_or(0)
    }

    /// Bytes not known to be equal on both nodes.
    #[must_use]
    pub fn out_of_sync(&self) -> u64 {
        self.peer_device()["out-of-sync-bytes"]
            .as_u64()
            .unwrap_or(u64::MAX)
    }

    /// Whether I/O is frozen until a peer is fenced.
    #[must_use]
    pub fn awaits_fencing(&self) -> bool {
        self.0["suspended-fencing"] == true
    }

    /// Whether I/O is frozen, for whatever reason.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.0["suspended"] == true
    }

    /// Requests of clients that have not been answered.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.device()["upper-pending"].as_u64().unwrap_or(0)
    }

    /// Whether the peer is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connection() == "Connected"
    }

    /// Whether every volume is complete on both nodes and nothing is being resynced.
    #[must_use]
    pub fn is_in_sync(&self) -> bool {
        let all = |list: &Value, key: &str, wanted: &str| {
            list.as_array().is_some_and(|list| {
                !list.is_empty() && list.iter().all(|entry| entry[key] == wanted)
            })
        };
        let peers = &self.link()["peer_devices"];
        self.is_connected()
            && all(&self.0["devices"], "disk-state", "UpToDate")
            && all(peers, "peer-disk-state", "UpToDate")
            && all(peers, "replication-state", "Established")
    }

    /// Everything, for messages.
    #[must_use]
    pub fn text(&self) -> String {
        self.0.to_string()
    }

    fn device(&self) -> &Value {
        &self.0["devices"][0]
    }

    fn link(&self) -> &Value {
        &self.0["connections"][0]
    }

    fn peer_device(&self) -> &Value {
        &self.link()["peer_devices"][0]
    }
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}
