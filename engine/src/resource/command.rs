//! Commands. Each is refused with a reason before anything has changed, or done.

use alloc::vec::Vec;

use rbd_protocol::control::{Refusal, RefusalCode, ResourceConfig};
use rbd_protocol::ids::NodeId;
use rbd_protocol::peer::Packet;
use rbd_protocol::state::{ConnectionState, Role};

use super::Resource;
use super::demotion::Stop;
use super::invalidation::How;
use crate::connection::Tentative;
use crate::contract::{Action, CallId, Command, LinkLoss, Seek};

impl<B: Clone> Resource<B> {
    pub(super) fn command(&mut self, call: CallId, command: Command) {
        if begins_something(&command) && self.stop != Stop::No {
            let refusal = Refusal::new(RefusalCode::StateTransient, "it is being stopped", "");
            self.cx.reply(call, Err(refusal));
            return;
        }
        let result = match command {
            Command::Attach { volume, disk } => self.attach(volume, disk).map(Some),
            Command::Detach { volume, force } => {
                self.start_detach(call, volume, force).map(|()| None)
            }
            Command::Configure(config) => self.configure(*config).map(|()| Some(None)),
            Command::Connect {
                peer,
                discard_my_data,
                tentative,
            } => self
                .connect(peer, discard_my_data, tentative)
                .map(|()| Some(None)),
            Command::Resolve {
                peer,
                keep_own,
                shown,
                saved,
            } => self
                .resolve(peer, keep_own, shown, &saved)
                .map(|()| Some(None)),
            Command::Disconnect { peer, force } => {
                self.disconnect(call, peer, force).map(|()| None)
            }
            Command::Promote { force } => self.start_promotion(call, force, 0).map(|()| None),
            Command::Migrate { ms } => self.start_promotion(call, false, ms).map(|()| None),
            Command::Demote { force } => self.start_demotion(call, force).map(|()| None),
            Command::NewGeneration {
                volume,
                clear_bitmap,
            } => self.new_generation(call, volume, clear_bitmap),
            Command::Invalidate {
                volume,
                peer,
                remote,
                marked_only,
                force,
            } => {
                let how = How { marked_only, force };
                self.start_invalidation(call, volume, peer, remote, how)
                    .map(|()| None)
            }
            Command::Verify {
                volume,
                peer,
                order,
            } => self.verify(volume, peer, order).map(Some),
            Command::PauseSync(order) => self.pause_sync(order).map(Some),
            Command::Resize {
                volume,
                assume_clean,
            } => self.start_resize(call, volume, assume_clean).map(|()| None),
            Command::Outdate => self.start_outdate(call).map(|()| None),
            Command::SuspendIo => {
                self.suspend_io();
                Ok(Some(None))
            }
            Command::ResumeIo => {
                self.resume_io();
                Ok(Some(None))
            }
            Command::Stop => self.start_stop(call).map(|()| None),
        };
        match result {
            Ok(Some(note)) => self.cx.reply(call, Ok(note)),
            Ok(None) => {} // it takes several steps and answers itself
            Err(refusal) => self.cx.reply(call, Err(refusal)),
        }
    }

    fn configure(&mut self, config: ResourceConfig) -> Result<(), Refusal> {
        self.refuse_parting_two(&config)?;
        for peer in &config.peers {
            let Some(connection) = self.connections.get_mut(&peer.node_id) else {
                continue;
            };
            if connection.config != *peer {
                connection.config = peer.clone();
                self.drop_link(peer.node_id, LinkLoss::Renegotiate);
                self.reconsider(peer.node_id);
            }
        }
        for volume in self.volumes.values_mut() {
            volume.frozen.without_data = config.options.suspend_without_data;
            let number = volume.number;
            let changed = config.volumes.iter().find(|one| one.number == number);
            if let Some(changed) = changed {
                volume.configure_resync(changed, self.cx.now);
                volume.config.on_disk_trouble = changed.on_disk_trouble;
                volume.config.size_limit_bytes = changed.size_limit_bytes;
            }
            volume.unsettled = true;
        }
        let listen_changed = self.config.listen != config.listen;
        self.config = config;
        if listen_changed {
            self.renegotiate();
        }
        Ok(())
    }

    pub(super) fn selected(&self, peer: Option<NodeId>) -> Result<Vec<NodeId>, Refusal> {
        match peer {
            None => Ok(self.connections.keys().copied().collect()),
            Some(node) if self.connections.contains_key(&node) => Ok(alloc::vec![node]),
            Some(node) => {
                let reason = alloc::format!("{} has no peer with node-id {node}", self.config.name);
                Err(Refusal::new(RefusalCode::InvalidRequest, reason, ""))
            }
        }
    }

    fn connect(
        &mut self,
        peer: Option<NodeId>,
        discard_my_data: bool,
        tentative: bool,
    ) -> Result<(), Refusal> {
        if discard_my_data && self.role == Role::Primary {
            let help = alloc::format!("rbdadm secondary {}", self.config.name);
            let reason = "a Primary's data is in use";
            return Err(Refusal::new(RefusalCode::DiscardWhilePrimary, reason, help));
        }
        for node in self.selected(peer)? {
            let Some(connection) = self.connections.get_mut(&node) else {
                continue;
            };
            if connection.is_ending {
                let reason = "it is being disconnected";
                let code = RefusalCode::StateTransient;
                return Err(Refusal::new(code, reason, "try again"));
            }
            if connection.state == ConnectionState::Connected {
                continue;
            }
            connection.order = None;
            connection.discard_my_data = discard_my_data;
            if tentative {
                self.ask_tentatively(node)?;
            } else {
                self.start_connecting(node);
            }
        }
        Ok(())
    }

    /// The next handshake is only a question. A connection that is wanted for good is not turned
    /// into one; one that was refused stays so.
    fn ask_tentatively(&mut self, node: NodeId) -> Result<(), Refusal> {
        let Some(connection) = self.connections.get_mut(&node) else {
            return Ok(());
        };
        if connection.state != ConnectionState::StandAlone {
            let reason = alloc::format!("it is already {}", connection.state);
            let help = alloc::format!("rbdadm disconnect {}", self.config.name);
            connection.discard_my_data = false;
            return Err(Refusal::new(RefusalCode::InvalidRequest, reason, help));
        }
        if connection.is_refused() {
            self.reconsider(node);
        } else {
            self.start_connecting(node);
        }
        if let Some(connection) = self.connections.get_mut(&node) {
            connection.tentative = Tentative::Wanted;
        }
        Ok(())
    }

    pub(super) fn start_connecting(&mut self, node: NodeId) {
        let Some(connection) = self.connections.get_mut(&node) else {
            return;
        };
        connection.tentative = Tentative::No;
        // A handshake under way has said what it has said.
        connection.reconsider = connection.link.is_some();
        if connection.state == ConnectionState::StandAlone || connection.is_refused() {
            let note = "trying to reach the peer";
            connection.enter(ConnectionState::Connecting, note, self.cx.now);
            connection.refused = None;
            if connection.link.is_none() && !connection.is_preparing() {
                let seek = Seek::AtOnce;
                self.cx.out.push(Action::SeekLink { peer: node, seek });
            }
        }
    }

    fn disconnect(
        &mut self,
        call: CallId,
        peer: Option<NodeId>,
        force: bool,
    ) -> Result<(), Refusal> {
        let nodes = self.selected(peer)?;
        if !force {
            nodes
                .iter()
                .try_for_each(|node| self.refuse_leaving_primary(*node))?;
        }
        let mut waits = false;
        for node in nodes {
            // By force nobody is asked for a word, and nobody gives one: it is a loss.
            if force || !self.begin_to_leave(node) {
                self.disconnect_peer(node);
            }
            let Some(connection) = self.connections.get_mut(&node) else {
                continue;
            };
            // One link is enough to wait for: links close side by side, within a short deadline.
            if connection.link.is_some() && !waits {
                connection.disconnecting.push(call);
                waits = true;
            }
        }
        if !waits {
            self.cx.reply(call, Ok(None));
        }
        Ok(())
    }

    pub(super) fn disconnect_peer(&mut self, node: NodeId) {
        let Some(connection) = self.connections.get_mut(&node) else {
            return;
        };
        connection.is_ending = false;
        if connection.state == ConnectionState::StandAlone && !connection.is_refused() {
            return;
        }
        connection.forget_orders();
        connection.tentative = Tentative::No;
        connection.reconsider = false;
        if let Some(link) = connection.link.as_ref().map(|link| link.id) {
            if connection.connected_link().is_some() {
                self.cx.send(node, link, Packet::Goodbye, None);
            }
            self.drop_link(node, LinkLoss::Commanded);
        }
        let seek = Seek::Stop;
        self.cx.out.push(Action::SeekLink { peer: node, seek });
        if let Some(connection) = self.connections.get_mut(&node) {
            connection.refused = None;
            let note = "disconnected by command";
            connection.enter(ConnectionState::StandAlone, note, self.cx.now);
        }
    }
}

/// Whether it begins what a resource that is being stopped does not begin.
fn begins_something(command: &Command) -> bool {
    matches!(
        command,
        Command::Attach { .. }
            | Command::Connect { .. }
            | Command::Resolve { .. }
            | Command::NewGeneration { .. }
            | Command::Invalidate { .. }
            | Command::Resize { .. }
    )
}
