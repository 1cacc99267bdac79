//! What is left out of a run, so that a failure can be shown with less around it.

/// Faults, clients and operations that do not happen, by number, and an earlier end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Without {
    /// Faults, counted from 1.
    pub faults: Vec<u64>,
    /// Clients, counted from 0.
    pub clients: Vec<u64>,
    /// The run heals after so many virtual milliseconds at the latest.
    pub after_ms: Option<u64>,
}

impl Without {
    pub(super) fn fault(&self, number: u64) -> bool {
        self.faults.contains(&number)
    }

    pub(super) fn client(&self, client: u64) -> bool {
        self.clients.contains(&client)
    }
}
