//! Commands that stop and start I/O or declare the own data behind, and what people are told.

use alloc::vec::Vec;

use rbd_protocol::control::{Refusal, RefusalCode, Suspended};
use rbd_protocol::ids::NodeId;
use rbd_protocol::state::{DiskState, Role};

use super::Resource;
use crate::connection::{Connection, Fence};
use crate::contract::{CallId, Level};
use crate::volume::Volume;

impl<B: Clone> Resource<B> {
    /// Lets requests wait from here on.
    pub(super) fn suspend_io(&mut self) {
        for volume in self.volumes.values_mut() {
            volume.frozen.user = true;
            volume.unsettled = true;
        }
    }

    /// Ends every wait: an administrator answers for it.
    pub(super) fn resume_io(&mut self) {
        for volume in self.volumes.values_mut() {
            volume.frozen.user = false;
            volume.frozen.awaiting = None;
            volume.frozen.data_given_up = volume.waits_for_data();
            volume.unsettled = true;
        }
        let mut overridden = false;
        let nodes: Vec<NodeId> = self.connections.keys().copied().collect();
        for node in nodes {
            if self.role == Role::Primary
                && (self.is_unfenced(node) || self.is_unread(node))
                && let Some(connection) = self.connections.get_mut(&node)
            {
                connection.fence = Fence::Overridden;
                overridden = true;
            }
        }
        if overridden {
            let text = "I/O goes on by command although the peer has not been fenced";
            self.cx.report(Level::Warn, None, None, text);
        }
    }

    /// Why I/O is frozen.
    pub(super) fn suspended(&self) -> Suspended {
        let any = |reason: &dyn Fn(&Volume<B>) -> bool| self.volumes.values().any(reason);
        Suspended {
            user: any(&|volume| volume.frozen.user),
            no_data: any(&|volume| volume.waits_for_data() || volume.awaits_server()),
            fencing: any(&|volume| volume.frozen.fencing),
        }
    }

    /// Tells of changes in whether I/O is frozen.
    pub(super) fn report_suspension(&mut self) {
        let now = self.suspended();
        if now == self.reported_suspension {
            return;
        }
        self.reported_suspension = now;
        let reasons = [
            (now.user, "user"),
            (now.no_data, "no-data"),
            (now.fencing, "fencing"),
        ];
        let reasons: Vec<&str> = reasons
            .into_iter()
            .filter_map(|(holds, name)| holds.then_some(name))
            .collect();
        let text = if reasons.is_empty() {
            "I/O goes on".into()
        } else {
            alloc::format!("I/O is suspended: {}", reasons.join(", "))
        };
        self.cx.report(Level::Warn, None, None, text);
    }

    /// Declares the own data behind. Answered when that is durable (G3).
    pub(super) fn start_outdate(&mut self, call: CallId) -> Result<(), Refusal> {
        self.refuse_another_change()?;
        if self.recording.iter().any(|(_, volume)| volume.is_none()) {
            return Err(super::promotion::one_change_at_a_time());
        }
        let name = self.config.name.clone();
        if self.role == Role::Primary {
            let help = alloc::format!("rbdadm secondary {name}");
            return Err(Refusal::new(
                RefusalCode::StateNoUpToDateData,
                "this node is Primary: its data is in use",
                help,
            ));
        }
        let connected = |peer: &Connection| peer.connected_link().is_some();
        if self.connections.values().any(connected) {
            let help = alloc::format!("rbdadm disconnect {name}");
            return Err(Refusal::new(
                RefusalCode::StateOutdatedWhileConnected,
                "a connected peer keeps this disk from falling behind",
                help,
            ));
        }
        if self.connections.values().any(Connection::is_handshaking) {
            return Err(Refusal::new(
                RefusalCode::StateTransient,
                "a handshake is under way",
                "try again",
            ));
        }
        for volume in self.volumes.values() {
            if volume.local.is_none() {
                let reason = alloc::format!("{name}/{} has no disk", volume.number);
                return Err(Refusal::new(RefusalCode::StateDiskless, reason, ""));
            }
            if volume.disk < DiskState::Outdated {
                let reason = alloc::format!("{name}/{} is {}", volume.number, volume.disk);
                return Err(Refusal::new(
                    RefusalCode::StateLowerThanOutdated,
                    reason,
                    "",
                ));
            }
        }
        self.outdate_disks("declared so by command");
        self.recording.push((call, None));
        Ok(())
    }

    /// Records the own disks as behind.
    pub(super) fn outdate_disks(&mut self, why: &str) {
        for volume in self.volumes.values_mut() {
            if volume.local.is_some() && volume.disk >= DiskState::Outdated {
                volume.set_disk_state(DiskState::Outdated, why, &mut self.cx);
            }
        }
    }
}
