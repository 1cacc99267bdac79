//! The network between the two nodes: links of two byte streams, each in order.
//!
//! A stream that is cut ends anywhere; one that stalls delivers later what it holds, perhaps after
//! another link has come up. The two sides learn of a cut at different times, or never; then a side
//! must notice the silence by itself.

use std::collections::VecDeque;

use rbd_engine::{Event, LinkId, LinkLoss};
use rbd_protocol::peer::{Channel, Packet};

use super::disk::Payload;
use super::judge::Handshake;
use super::wire::{Parcel, Receiver};
use super::world::{Happening, World};

/// A pair of connections.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) ends: [End; 2],
    /// Nothing sent from now on arrives.
    pub(super) cut: bool,
    /// What is known of it, by volume.
    pub(super) handshakes: Vec<Handshake>,
}

impl Link {
    /// Whether neither node has given it up.
    pub(super) fn is_used(&self) -> bool {
        self.ends.iter().all(|end| end.open && !end.closing)
    }
}

/// One side of a link, and what is on its way there.
#[derive(Debug, Default)]
pub(super) struct End {
    /// The node has been told that it stands and not that it is gone.
    pub(super) open: bool,
    closing: bool,
    /// The process it was opened by.
    life: u64,
    lanes: [Lane; 2],
}

/// Connections of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lanes {
    Both,
    Data,
    Control,
}

impl End {
    /// Nothing arrives over these connections before that time.
    fn stall(&mut self, now: u64, until: u64, lanes: Lanes) {
        let [data, control] = &mut self.lanes;
        for (lane, other) in [(data, Lanes::Control), (control, Lanes::Data)] {
            // Moments do not add up.
            let is_over = lane.stalled_until <= now;
            if lanes == Lanes::Both || (lanes != other && is_over) {
                lane.stalled_until = lane.stalled_until.max(until);
            }
        }
    }
}

/// One direction of one connection.
#[derive(Debug, Default)]
struct Lane {
    under_way: VecDeque<Piece>,
    /// Nothing arrives before this time.
    stalled_until: u64,
    /// When the last of that arrives.
    arrival: u64,
    receiver: Receiver,
    /// The next piece is to be damaged.
    damage_next: bool,
    /// A damaged piece has arrived: the packet it belongs to must not be accepted.
    damaged: bool,
}

/// What arrives at once.
#[derive(Debug)]
enum Piece {
    Packet(Parcel),
    Bytes { bytes: Vec<u8>, damaged: bool },
}

impl Link {
    /// Nothing is on its way to anyone who would hear it.
    pub(super) fn is_quiet(&self) -> bool {
        self.ends
            .iter()
            .all(|end| end.closing || end.lanes.iter().all(|lane| lane.under_way.is_empty()))
    }

    /// Somebody still takes it for one that stands, and it is not.
    pub(super) fn is_ghost(&self) -> bool {
        self.cut && self.ends.iter().any(|end| end.open && !end.closing)
    }

    /// Nothing will ever come of it any more.
    fn is_over(&self) -> bool {
        let over = |end: &End| {
            !end.open && end.closing && end.lanes.iter().all(|lane| lane.under_way.is_empty())
        };
        self.cut && self.ends.iter().all(over)
    }
}

impl World {
    /// Both nodes meet after a while if both seek.
    pub(super) fn try_meet(&mut self, pause_us: u64) {
        if !self.meeting && self.nodes.iter().all(|node| node.seeking) && self.network_works {
            self.meeting = true;
            let delay = pause_us + self.random.magnitude(100, 20_000);
            self.after_us(delay, Happening::Meet);
        }
    }

    pub(super) fn meet(&mut self) {
        self.meeting = false;
        if !self.network_works || !self.nodes.iter().all(|node| node.seeking) {
            return;
        }
        let link = self.name();
        self.note(|| format!("link {link} stands"));
        self.report.links += 1;
        let mut ends = [End::default(), End::default()];
        for (node, end) in ends.iter_mut().enumerate() {
            self.nodes[node].seeking = false;
            let delay = self.random.magnitude(1, 5_000);
            for lane in &mut end.lanes {
                lane.arrival = self.now + delay * 1_000;
            }
            end.life = self.nodes[node].life;
            let life = end.life;
            self.after_us(delay, Happening::LinkUp { node, life, link });
        }
        self.links.retain(|_, link| !link.is_over());
        let link_made = Link {
            ends,
            cut: false,
            handshakes: vec![Handshake::default(); self.options.volumes],
        };
        self.links.insert(link, link_made);
    }

    pub(super) fn link_up(&mut self, node: usize, link: u64) {
        let Some(found) = self.links.get_mut(&link) else {
            return;
        };
        found.ends[node].open = true;
        self.nodes[node].gain_link(link);
        self.aim_at_handshake(node);
        self.tell(
            node,
            Event::LinkUp {
                peer: Self::peer_id(node),
                link: LinkId(link),
            },
        );
    }

    pub(super) fn link_down(&mut self, node: usize, link: u64, loss: LinkLoss) {
        let Some(found) = self.links.get_mut(&link) else {
            return;
        };
        // An end that has not opened yet opens first: its event is on the way.
        if !found.ends[node].open {
            if !found.ends[node].closing {
                self.hear_of_loss(node, link, loss, 5_000);
            }
            return;
        }
        found.ends[node].open = false;
        found.ends[node].closing = true;
        found.cut = true;
        self.nodes[node].lose_link(link);
        self.tell(
            node,
            Event::LinkDown {
                peer: Self::peer_id(node),
                link: LinkId(link),
                loss,
            },
        );
    }

    fn hear_of_loss(&mut self, node: usize, link: u64, loss: LinkLoss, delay_us: u64) {
        let life = self.nodes[node].life;
        let what = Happening::LinkDown {
            node,
            life,
            link,
            loss,
        };
        self.after_us(delay_us, what);
    }

    pub(super) fn send(
        &mut self,
        node: usize,
        link: LinkId,
        channel: Channel,
        packet: &Packet,
        data: Option<&Payload>,
    ) {
        if self.peer_link(node, link).is_none() {
            return;
        }
        let lane = match channel {
            Channel::Data => 0,
            Channel::Control => 1,
        };
        let to = 1 - node;
        if self.options.dual {
            // A node that has not heard of the cut has begun what it sends, too.
            self.note_begun(node, packet, data);
        }
        let Some(found) = self.links.get_mut(&link.0) else {
            return;
        };
        if found.cut || found.ends[node].closing {
            return;
        }
        self.report.packets += 1;
        self.look_at_marks(link.0, packet);
        self.look_at_word(node, link.0, packet);
        self.report.resyncs += u64::from(matches!(packet, Packet::ResyncDone { .. }));
        if !self.options.bytes {
            self.send_piece(link.0, to, lane, Piece::Packet(Parcel::pack(packet, data)));
            return;
        }
        let mut bytes = Parcel::bytes(packet, data);
        let pieces = self.random.between(1, 3);
        for left in (0..pieces).rev() {
            let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            let at = if left == 0 {
                length
            } else {
                self.random.below(length + 1)
            };
            let rest = bytes.split_off(usize::try_from(at).unwrap_or(usize::MAX));
            let mut piece = std::mem::replace(&mut bytes, rest);
            let damaged = self.damage(link.0, to, lane, &mut piece);
            let bytes = piece;
            self.send_piece(link.0, to, lane, Piece::Bytes { bytes, damaged });
        }
    }

    fn send_piece(&mut self, link: u64, to: usize, lane: usize, piece: Piece) {
        let (low, high) = self.options.net_us;
        let delay = self.random.magnitude(low, high) * 1_000;
        let Some(found) = self.links.get_mut(&link) else {
            return;
        };
        let stream = &mut found.ends[to].lanes[lane];
        stream.under_way.push_back(piece);
        stream.arrival = (self.now + delay).max(stream.arrival + 1);
        let at = stream.arrival;
        self.at(at, Happening::Arrive { link, to, lane });
    }

    /// Turns a bit around if this is the piece to be damaged.
    fn damage(&mut self, link: u64, to: usize, lane: usize, bytes: &mut [u8]) -> bool {
        let Some(found) = self.links.get_mut(&link) else {
            return false;
        };
        let stream = &mut found.ends[to].lanes[lane];
        if bytes.is_empty() || !std::mem::take(&mut stream.damage_next) {
            return false;
        }
        let at = self
            .random
            .below(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let bit = self.random.below(8);
        if let Some(byte) = usize::try_from(at).ok().and_then(|at| bytes.get_mut(at)) {
            *byte ^= 1 << bit;
        }
        self.report.damaged_packets += 1;
        true
    }

    pub(super) fn arrive(&mut self, link: u64, to: usize, lane: usize) {
        let life = self.nodes[to].life;
        let ghosts = self.options.ghosts;
        let Some(found) = self.links.get_mut(&link) else {
            return;
        };
        let end = &mut found.ends[to];
        let stream = &mut end.lanes[lane];
        if stream.stalled_until > self.now {
            let at = stream.stalled_until;
            self.at(at, Happening::Arrive { link, to, lane });
            return;
        }
        let Some(piece) = stream.under_way.pop_front() else {
            return;
        };
        // What a process still has in its buffers when it learns of a loss, it may yet hand over.
        let is_ghost = end.closing && ghosts && end.life == life;
        if !end.open && !is_ghost {
            return;
        }
        match piece {
            Piece::Packet(parcel) => match parcel.unpack() {
                Ok((packet, data)) => self.deliver(link, to, packet, data),
                Err(text) => self.violation(format!("a packet that was sent is not one: {text}")),
            },
            Piece::Bytes { bytes, damaged } => {
                stream.damaged |= damaged;
                stream.receiver.take(&bytes);
                self.receive(link, to, lane);
            }
        }
    }

    /// Hands over the packets that are complete.
    fn receive(&mut self, link: u64, to: usize, lane: usize) {
        loop {
            let Some(found) = self.links.get_mut(&link) else {
                return;
            };
            let stream = &mut found.ends[to].lanes[lane];
            let damaged = stream.damaged;
            match stream.receiver.packet() {
                Ok(None) => return,
                Ok(Some(_)) if damaged => {
                    self.violation("A4: a damaged packet was accepted");
                    return;
                }
                Ok(Some((packet, data))) => self.deliver(link, to, packet, data),
                Err(_) if damaged => {
                    stream.under_way.clear();
                    self.note(|| format!("link {link}: node {to} finds a damaged packet"));
                    self.hear_of_loss(to, link, LinkLoss::Protocol, 0);
                    self.hear_of_loss(1 - to, link, LinkLoss::Closed, 10_000);
                    return;
                }
                Err(text) => {
                    self.violation(format!("a packet that was sent is not one: {text}"));
                    return;
                }
            }
        }
    }

    fn deliver(&mut self, link: u64, to: usize, packet: Packet, data: Option<Payload>) {
        let found = self.links.get(&link);
        let is_stale =
            found.is_none_or(|link| link.ends[to].closing) || link != self.nodes[to].newest_link;
        if let Some(data) = &data {
            self.note_data_from_peer(to, &packet, data, is_stale);
        }
        if let Packet::Hello(hello) = &packet
            && !is_stale
        {
            self.nodes[to].spoken.hears_greeting(link, hello);
        }
        self.tell(
            to,
            Event::Packet {
                peer: Self::peer_id(to),
                link: LinkId(link),
                packet,
                data,
            },
        );
    }

    /// A node closes its end: what it has sent arrives, then the peer notices.
    pub(super) fn drop_link(&mut self, node: usize, link: LinkId, loss: LinkLoss) {
        if loss == LinkLoss::Protocol {
            self.violation(format!("node {node} says that its peer broke the protocol"));
        }
        let delay = self.random.magnitude(1, 10_000);
        let peer = 1 - node;
        let Some(found) = self.links.get_mut(&link.0) else {
            return;
        };
        found.ends[node].closing = true;
        self.nodes[node].lose_link(link.0);
        let end = &found.ends[peer];
        let times = |lane: &Lane| lane.arrival.max(lane.stalled_until);
        let arrived = end.lanes.iter().map(times).max().unwrap_or(0);
        let silent = found.cut;
        self.hear_of_loss(node, link.0, loss, delay);
        if !silent {
            let wait = arrived.saturating_sub(self.now) / 1_000;
            let delay = wait + self.random.magnitude(1, 10_000);
            self.hear_of_loss(peer, link.0, LinkLoss::Closed, delay);
        }
    }

    fn standing_links(&self) -> Vec<u64> {
        let standing = |(id, link): (&u64, &Link)| (!link.cut).then_some(*id);
        self.links.iter().filter_map(standing).collect()
    }

    /// Cuts every link at any byte of each stream. Each side notices after a while, or, `silently`,
    /// perhaps never.
    pub(super) fn cut_links(&mut self, silently: bool) {
        for id in self.standing_links() {
            self.cut_link(id, silently);
        }
        self.links.retain(|_, link| !link.is_over());
    }

    fn cut_link(&mut self, id: u64, silently: bool) {
        self.note(|| format!("link {id} is cut"));
        for node in 0..2 {
            let all = self.random.percent(30);
            for lane in 0..2 {
                let most = usize::try_from(self.random.below(20)).unwrap_or(0);
                let Some(link) = self.links.get_mut(&id) else {
                    return;
                };
                link.cut = true;
                let pieces = &mut link.ends[node].lanes[lane].under_way;
                let kept = pieces.len().saturating_sub(if all { 0 } else { most });
                pieces.truncate(kept);
            }
            if silently && self.random.percent(60) {
                continue;
            }
            let delay = self.random.magnitude(1, 2_000_000);
            self.hear_of_loss(node, id, LinkLoss::Closed, delay);
        }
        // A side that has not noticed yet may be told of a newer link before.
        let node = usize::from(self.random.percent(50));
        let is_up = self.links.get(&id).is_some_and(|link| link.ends[node].open);
        if is_up && self.random.percent(30) {
            self.nodes[node].seeking = true;
        }
    }

    /// Nothing arrives for a while, in one direction or both; then everything does. On one of the
    /// two connections it may go on: what was sent later over that is heard first. That is for
    /// moments only: a peer that answers pings is given up after ko-count times timeout (42 s), and
    /// nobody's patience lasts so long.
    pub(super) fn stall_links(&mut self, most_us: u64) {
        let lanes = [Lanes::Both, Lanes::Both, Lanes::Data, Lanes::Control];
        let lanes = self.random.pick(&lanes).unwrap_or(Lanes::Both);
        let most_us = match lanes {
            Lanes::Both => most_us,
            Lanes::Data | Lanes::Control => most_us.min(MOMENT_US),
        };
        let until = self.now + self.random.magnitude(1_000, most_us) * 1_000;
        let directions = self.random.between(1, 3);
        for id in self.standing_links() {
            self.note(|| format!("link {id} stalls, directions {directions:02b}, {lanes:?}"));
            let Some(link) = self.links.get_mut(&id) else {
                continue;
            };
            for (node, end) in link.ends.iter_mut().enumerate() {
                if directions >> node & 1 == 1 {
                    end.stall(self.now, until, lanes);
                }
            }
        }
    }

    /// A bit of something sent later flips on its way.
    pub(super) fn damage_links(&mut self) {
        let (to, lane) = (self.random.below(2), self.random.below(2));
        let (to, lane) = (usize::from(to == 1), usize::from(lane == 1));
        for id in self.standing_links() {
            if let Some(link) = self.links.get_mut(&id) {
                link.ends[to].lanes[lane].damage_next = true;
            }
        }
    }

    /// Nothing stalls any more.
    pub(super) fn cut_stalled_links(&mut self) {
        let now = self.now;
        let stalls = |link: &Link| {
            let mut lanes = link.ends.iter().flat_map(|end| &end.lanes);
            lanes.any(|lane| now < lane.stalled_until)
        };
        for id in self.standing_links() {
            if self.links.get(&id).is_some_and(stalls) {
                self.cut_link(id, false);
            }
        }
    }

    /// A process has died: the peer is told after what was sent has arrived, or, without power, may
    /// hear nothing at all.
    pub(super) fn abandon_links(&mut self, node: usize, power: bool) {
        let silently = power && self.random.percent(70);
        self.cut_links(silently);
        for link in self.links.values_mut() {
            link.ends[node].open = false;
            link.ends[node].closing = true;
        }
    }
}

/// How long one connection of a link stalls while the other one goes on, at most.
const MOMENT_US: u64 = 2_000_000;
