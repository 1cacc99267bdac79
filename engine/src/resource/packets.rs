//! Which packet is whose. A packet that breaks the protocol costs the link, never more.

use alloc::vec::Vec;

use rbd_protocol::ids::{ByteRange, NodeId, VolumeNumber};
use rbd_protocol::peer::{Packet, Place};
use rbd_protocol::state::{DiskState, Role};

use super::Resource;
use crate::connection::Phase;
use crate::context::Context;
use crate::contract::{Level, LinkId, LinkLoss};
use crate::peer_device::{PeerDevice, is_disk};
use crate::volume::{Errand, PeerWriteKind, Requester, Volume};

impl<B: Clone> Resource<B> {
    pub(super) fn packet(&mut self, node: NodeId, id: LinkId, packet: Packet, data: Option<B>) {
        let now = self.cx.now;
        let Some(link) = self
            .connections
            .get_mut(&node)
            .and_then(|peer| peer.current(id))
        else {
            return; // of an older link (A7)
        };
        link.last_heard = now;
        link.ping_sent = None;
        let connected = matches!(link.phase, Phase::Connected);
        let result = match packet {
            Packet::Ping { id: ping } => {
                self.cx.send(node, id, Packet::PingAck { id: ping }, None);
                Ok(())
            }
            Packet::PingAck { id: ping } => {
                link.hear_answer(ping);
                self.ping_answered(node, ping);
                Ok(())
            }
            Packet::Hello(hello) => {
                self.hello(node, hello);
                Ok(())
            }
            Packet::Goodbye => {
                self.drop_link(node, LinkLoss::Goodbye);
                Ok(())
            }
            _ if !connected => Err("a packet before the greeting"),
            Packet::State {
                role,
                tenure,
                disks,
            } => self.state(node, (role, tenure), &disks),
            Packet::PromoteRequest { id, migration_ms } => {
                self.promote_request(node, id, migration_ms);
                Ok(())
            }
            Packet::PromoteReply {
                id: request,
                granted,
            } => {
                self.promote_reply(node, request, granted);
                Ok(())
            }
            Packet::NewGeneration {
                id: request,
                volume,
                generation,
            } => {
                self.new_generation_request(node, id, request, volume, generation);
                Ok(())
            }
            Packet::NewGenerationAck {
                volume,
                adopted,
                id: request,
            } => {
                self.new_generation_reply(node, volume, request, adopted);
                Ok(())
            }
            Packet::Leave => {
                self.peer_leaves(node);
                Ok(())
            }
            Packet::LeaveReply { outdate } => self.may_leave(node, outdate),
            Packet::Outdated => self.peer_outdated_itself(node),
            Packet::InvalidateRequest { .. } | Packet::InvalidateReply { .. } => {
                self.invalidation_packet(node, &packet)
            }
            Packet::ResizeRequest { .. } | Packet::ResizeReply { .. } => {
                self.resize_packet((node, id), &packet)
            }
            other => self.volume_packet(node, id, other, data),
        };
        if let Err(rule) = result {
            self.violation(node, rule);
        }
    }

    fn ping_answered(&mut self, node: NodeId, id: u64) {
        for volume in self.volumes.values_mut() {
            volume.has_taken_note(node, id);
        }
    }

    fn volume_packet(
        &mut self,
        node: NodeId,
        link: LinkId,
        packet: Packet,
        data: Option<B>,
    ) -> Result<(), &'static str> {
        let number = volume_of(&packet).ok_or("a packet out of place")?;
        let primary = self.role == Role::Primary || self.is_recording_promotion();
        if is_of_client(&packet) {
            self.clients_at_work();
        }
        if matches!(packet, Packet::NegativeAck { .. }) && self.has_disk_of(node, number) {
            self.freeze_for_loss(node, LinkLoss::Closed);
        }
        let cx = &mut self.cx;
        let volume = self.volumes.get_mut(&number).ok_or("an unknown volume")?;
        // What a peer had sent before it noticed that its disk has failed: it makes the link anew.
        if is_about_data(&packet) && volume.local.is_some() && !volume.is_replicating(node) {
            return Ok(());
        }
        match packet {
            Packet::Write { .. } | Packet::Zero { .. }
                if primary && volume.has_own_data() && !volume.is_shared_with(node) =>
            {
                Err("a write to a Primary, which only one of two nodes may be")
            }
            Packet::Write {
                id,
                range,
                fua,
                place,
                ..
            } => {
                let data = data.ok_or("a write without data")?;
                let work = PeerWriteKind::Write { data, fua };
                volume.accept_peer_write(node, link, id, range, (work, place), cx)
            }
            Packet::Zero {
                id,
                range,
                fua,
                discard,
                place,
                ..
            } => {
                let work = PeerWriteKind::Zero { fua, discard };
                volume.accept_peer_write(node, link, id, range, (work, place), cx)
            }
            Packet::Flush { id, .. } => {
                volume.accept_peer_flush(node, link, id, cx);
                Ok(())
            }
            Packet::Settle { id, .. } => volume.accept_settle(node, id),
            Packet::Settled { id, .. } => volume.settled(node, id, cx),
            // After its disk has failed, a peer may still acknowledge what it had done before.
            Packet::WriteAck { id, .. } => {
                if !volume.peer_write_acked(id, node, cx) && volume.is_replicating(node) {
                    return Err("an acknowledgement of a write that is not under way");
                }
                volume.bound_unstable(cx);
                Ok(())
            }
            Packet::FlushAck { id, .. } => {
                if !volume.peer_flush_acked(id, node, cx) && volume.is_replicating(node) {
                    return Err("an acknowledgement of a flush that is not under way");
                }
                Ok(())
            }
            Packet::NegativeAck { .. } => {
                volume.lose_peer(node, DiskState::Failed, cx);
                cx.report(
                    Level::Warn,
                    Some(node),
                    Some(number),
                    "the peer's disk has failed",
                );
                Ok(())
            }
            Packet::VerifyRequest { id, range, .. } => {
                volume.accept_verify_request(node, id, range, cx)
            }
            Packet::VerifyReply { id, digests, .. } => volume.verify_replied(node, id, digests, cx),
            Packet::VerifyRelease { id, .. } => {
                volume.verify_released(node, id);
                Ok(())
            }
            other => of_resync(volume, (node, link), other, data, cx),
        }
    }

    fn state(
        &mut self,
        node: NodeId,
        (role, tenure): (Role, u64),
        disks: &[(VolumeNumber, DiskState)],
    ) -> Result<(), &'static str> {
        if role == Role::Primary && self.role == Role::Primary && !self.peer_has_arrived(node) {
            return Err("both nodes are Primary");
        }
        if let Some(connection) = self.connections.get_mut(&node) {
            let is_no_more = connection.peer_role == Role::Primary && role == Role::Secondary;
            if let Some(link) = connection.link.as_mut().filter(|_| is_no_more) {
                link.let_in = false;
            }
            connection.peer_role = role;
            connection.greeted.1 = tenure;
            connection.consented_until = None;
        }
        if role == Role::Primary {
            self.note_overtaken();
        }
        let loses_disk = |(number, disk): &(VolumeNumber, DiskState)| {
            self.has_disk_of(node, *number) && !is_disk(*disk)
        };
        if disks.iter().any(loses_disk) {
            self.freeze_for_loss(node, LinkLoss::Closed);
        }
        for (number, disk) in disks {
            let Some(volume) = self.volumes.get_mut(number) else {
                continue;
            };
            let Some(peer) = volume.peers.get_mut(&node) else {
                continue;
            };
            let had_disk = peer.has_disk();
            // Its clients were served from here all the time, and have seen just this generation.
            // One that is whole says so before it fails, whether or not the end has been heard of.
            let was_filled = peer.source.fills_primary && peer.peer_disk == DiskState::Inconsistent;
            peer.peer_disk = *disk;
            let is_lost = had_disk && !peer.has_disk();
            // It may be what clients wait for.
            volume.unsettled = true;
            if is_lost {
                volume.lose_peer(node, *disk, &mut self.cx);
                if role == Role::Primary && !was_filled {
                    volume.outlive_primary(&mut self.cx);
                }
            }
        }
        Ok(())
    }

    /// Whether the peer has its disk, as far as this node has heard.
    fn has_disk_of(&self, node: NodeId, number: VolumeNumber) -> bool {
        let volume = self.volumes.get(&number);
        let peer = volume.and_then(|volume| volume.peers.get(&node));
        peer.is_some_and(PeerDevice::has_disk)
    }

    /// The peer broke the protocol: the link is dropped, and made anew later.
    pub(super) fn violation(&mut self, node: NodeId, rule: &str) {
        let text = alloc::format!("{} sent {rule}: dropping the link", self.peer_name(node));
        self.cx.report(Level::Warn, Some(node), None, text);
        self.drop_link(node, LinkLoss::Protocol);
    }
}

/// What belongs to a resync.
fn of_resync<B: Clone>(
    volume: &mut Volume<B>,
    (node, link): (NodeId, LinkId),
    packet: Packet,
    data: Option<B>,
    cx: &mut Context<B>,
) -> Result<(), &'static str> {
    match packet {
        Packet::ResyncData { id, range, .. } => {
            let data = data.ok_or("resync data without data")?;
            let work = PeerWriteKind::Resync { data };
            volume.accept_peer_write(node, link, id, range, (work, Place::default()), cx)
        }
        Packet::Bitmap { block, words, .. } => volume.join_bitmap_page(node, block, &words),
        Packet::BitmapEnd { generation, .. } => volume.join_bitmap_end(node, generation),
        Packet::ResyncRequest { id, range, .. } => {
            volume.accept_resync_request(node, id, (range, Vec::new()), cx.now)
        }
        Packet::ResyncCompare {
            id, range, digests, ..
        } => volume.accept_resync_compare(node, id, (range, digests), cx.now),
        Packet::ResyncSame { id, range, .. } => {
            let work = PeerWriteKind::Same;
            volume.accept_peer_write(node, link, id, range, (work, Place::default()), cx)
        }
        Packet::ResyncZero { id, range, .. } => {
            let work = PeerWriteKind::ResyncZero;
            volume.accept_peer_write(node, link, id, range, (work, Place::default()), cx)
        }
        Packet::ResyncAck { range, .. } => volume.resync_acked(node, range, cx.now),
        Packet::ResyncNegativeAck { id, range, .. } => volume.resync_refused(node, id, range, cx),
        Packet::ResyncState {
            paused,
            limit,
            disk_us,
            ..
        } => {
            volume.accept_resync_state(node, paused, limit, disk_us, cx);
            Ok(())
        }
        Packet::ResyncDone { generation, .. } => volume.resync_done(node, generation, cx),
        other => errand(volume, (node, link), &other, data, cx),
    }
}

/// Requests of a peer without usable data of its own, and answers to such requests.
fn errand<B: Clone>(
    volume: &mut Volume<B>,
    (node, link): (NodeId, LinkId),
    packet: &Packet,
    data: Option<B>,
    cx: &mut Context<B>,
) -> Result<(), &'static str> {
    let of = |id| Requester::Peer { node, link, id };
    match *packet {
        Packet::RemoteRead { id, range, .. } => {
            volume.accept_errand(of(id), range, Errand::Read, cx)
        }
        Packet::RemoteWrite { id, range, fua, .. } => {
            let data = Some(data.ok_or("a write without data")?);
            let discard = false;
            let errand = Errand::Write { data, fua, discard };
            volume.accept_errand(of(id), range, errand, cx)
        }
        Packet::RemoteZero {
            id,
            range,
            fua,
            discard,
            ..
        } => {
            let data = None;
            let errand = Errand::Write { data, fua, discard };
            volume.accept_errand(of(id), range, errand, cx)
        }
        Packet::RemoteFlush { id, .. } => {
            volume.accept_errand(of(id), ByteRange::new(0, 0), Errand::Flush, cx)
        }
        Packet::RemoteDone { id, generation, .. } => {
            volume.remote_done(id, node, generation, cx);
            Ok(())
        }
        Packet::RemoteData { id, range, .. } => volume.remote_data(id, node, range, data, cx),
        Packet::RemoteFailed { id, code, .. } => {
            volume.remote_failed(id, node, code, cx);
            Ok(())
        }
        _ => Err("a packet out of place"),
    }
}

fn is_about_data(packet: &Packet) -> bool {
    matches!(
        packet,
        Packet::Write { .. }
            | Packet::Zero { .. }
            | Packet::Bitmap { .. }
            | Packet::BitmapEnd { .. }
            | Packet::ResyncRequest { .. }
            | Packet::ResyncData { .. }
            | Packet::ResyncCompare { .. }
            | Packet::ResyncSame { .. }
            | Packet::ResyncZero { .. }
            | Packet::ResyncAck { .. }
            | Packet::ResyncNegativeAck { .. }
            | Packet::ResyncDone { .. }
            | Packet::VerifyRequest { .. }
            | Packet::Settle { .. }
            | Packet::Settled { .. }
    )
}

/// Whether a client of the peer stands behind it.
fn is_of_client(packet: &Packet) -> bool {
    matches!(
        packet,
        Packet::Write { .. }
            | Packet::Zero { .. }
            | Packet::RemoteRead { .. }
            | Packet::RemoteWrite { .. }
            | Packet::RemoteZero { .. }
    )
}

fn volume_of(packet: &Packet) -> Option<VolumeNumber> {
    match packet {
        Packet::Write { volume, .. }
        | Packet::Zero { volume, .. }
        | Packet::Flush { volume, .. }
        | Packet::WriteAck { volume, .. }
        | Packet::NegativeAck { volume, .. }
        | Packet::FlushAck { volume, .. }
        | Packet::Settle { volume, .. }
        | Packet::Settled { volume, .. }
        | Packet::Bitmap { volume, .. }
        | Packet::BitmapEnd { volume, .. }
        | Packet::ResyncRequest { volume, .. }
        | Packet::ResyncData { volume, .. }
        | Packet::ResyncCompare { volume, .. }
        | Packet::ResyncSame { volume, .. }
        | Packet::ResyncZero { volume, .. }
        | Packet::ResyncAck { volume, .. }
        | Packet::ResyncNegativeAck { volume, .. }
        | Packet::ResyncDone { volume, .. }
        | Packet::ResyncState { volume, .. }
        | Packet::RemoteRead { volume, .. }
        | Packet::RemoteWrite { volume, .. }
        | Packet::RemoteZero { volume, .. }
        | Packet::RemoteFlush { volume, .. }
        | Packet::RemoteDone { volume, .. }
        | Packet::RemoteData { volume, .. }
        | Packet::RemoteFailed { volume, .. }
        | Packet::VerifyRequest { volume, .. }
        | Packet::VerifyRelease { volume, .. }
        | Packet::VerifyReply { volume, .. } => Some(*volume),
        Packet::Hello(_)
        | Packet::State { .. }
        | Packet::PromoteRequest { .. }
        | Packet::PromoteReply { .. }
        | Packet::NewGeneration { .. }
        | Packet::NewGenerationAck { .. }
        | Packet::Goodbye
        | Packet::Leave
        | Packet::LeaveReply { .. }
        | Packet::Outdated
        | Packet::InvalidateRequest { .. }
        | Packet::InvalidateReply { .. }
        | Packet::ResizeRequest { .. }
        | Packet::ResizeReply { .. }
        | Packet::Ping { .. }
        | Packet::PingAck { .. } => None,
    }
}
