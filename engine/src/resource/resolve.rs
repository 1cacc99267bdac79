//! The order to end a split brain: one of the two nodes gives up its changes.
//!
//! Here it is only taken down; the next handshake carries it out, or finds that it does not hold.

use alloc::string::String;

use rbd_protocol::control::{Divergence, Refusal, RefusalCode, Shown, Standing};
use rbd_protocol::ids::NodeId;
use rbd_protocol::state::Role;

use super::Resource;
use crate::connection::Order;

impl<B: Clone> Resource<B> {
    /// One node is to give up its changes. Only what this node has seen and somebody was shown can
    /// be ordered: the peer as it was when it was refused.
    pub(super) fn resolve(
        &mut self,
        node: NodeId,
        keep_own: bool,
        shown: Shown,
        saved: &[Standing],
    ) -> Result<(), Refusal> {
        self.selected(Some(node))?;
        let refuse = |code, reason: String, help: String| Err(Refusal::new(code, reason, help));
        let name = self.config.name.clone();
        let until = self.cx.now.plus_ms(ORDER_MS);
        let own_tenure = self.tenure;
        let primary = self.role == Role::Primary;
        let Some(connection) = self.connections.get(&node) else {
            return Ok(());
        };
        let peer = connection.config.name.clone();
        let Some(refused) = connection.refused.as_ref() else {
            let reason = alloc::format!("no split brain with {peer} is known here");
            let help =
                alloc::format!("rbdadm connect {name}:{peer}, which finds it if there is one");
            return refuse(RefusalCode::InvalidRequest, reason, help);
        };
        let fits = match refused.divergence {
            Divergence::Both => true,
            Divergence::Own => keep_own,
            Divergence::Peer => !keep_own,
            Divergence::Unknown | Divergence::Neither => false,
        };
        if !fits {
            let reason = alloc::format!("this is no split brain with {peer}: {}", connection.note);
            return refuse(RefusalCode::InvalidRequest, reason, String::new());
        }
        if primary && !keep_own {
            let reason = String::from("a Primary's data is in use");
            let help = alloc::format!("rbdadm secondary {name}");
            return refuse(RefusalCode::DiscardWhilePrimary, reason, help);
        }
        let known = refused.status(self.cx.now);
        if known.shown(own_tenure) != shown {
            let reason = alloc::format!("{peer} or this node has changed since that was shown");
            let help = alloc::format!("look again: rbdadm explain {name}");
            return refuse(RefusalCode::StateConcurrent, reason, help);
        }
        if keep_own && known.role == Role::Primary {
            let reason = alloc::format!("{peer} is Primary: its data is in use");
            let own = &self.config.node_name;
            let help = alloc::format!("on {peer}: rbdadm resolve {name} --keep {own}");
            return refuse(RefusalCode::StateRefusedByPeer, reason, help);
        }
        // Nothing has to be given up where only one node has changes: a volume the peer alone has
        // changed is copied from there, whoever is kept.
        let mut condemned = shown;
        condemned.generations.retain(|(number, _)| {
            let met = refused.met(*number);
            met.is_none_or(|met| met.divergence != Divergence::Peer)
        });
        self.check_saved(node, keep_own, saved)?;
        let Some(connection) = self.connections.get_mut(&node) else {
            return Ok(());
        };
        connection.order = keep_own.then_some(Order { condemned, until });
        connection.discard_my_data = !keep_own;
        self.start_connecting(node);
        Ok(())
    }
}

/// How long an order to the peer to give up its changes waits for a handshake. Long enough for a
/// lost packet or two; short enough that it is never carried out by surprise.
const ORDER_MS: u64 = 30_000;
