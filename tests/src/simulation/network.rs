//! The network between the two nodes: links of two byte streams, each in order, that may be cut.
//!
//! Of a stream that is cut, what arrives is a prefix. Whether it ends inside a packet makes no
//! difference to the engine, which is only told of whole ones. The two sides learn of a cut at
//! different times, or never; then a side must notice the silence by itself.

use rbd_engine::{Event, LinkId, LinkLoss};
use rbd_protocol::peer::{Channel, Packet};

use super::disk::Payload;
use super::wire::Parcel;
use super::world::{Happening, World};

/// A pair of connections.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) ends: [End; 2],
    /// Nothing sent from now on arrives.
    pub(super) cut: bool,
}

/// One side of a link.
#[derive(Debug, Default)]
pub(super) struct End {
    /// The node has been told that it stands and not that it is gone.
    pub(super) open: bool,
    closing: bool,
    /// Per channel towards this side: packets sent, the last that arrives, and when it does.
    sent: [u64; 2],
    last: [u64; 2],
    arrival: [u64; 2],
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
            end.last = [u64::MAX; 2];
            self.nodes[node].seeking = false;
            let delay = self.random.magnitude(1, 5_000);
            end.arrival = [self.now + delay * 1_000; 2];
            let life = self.nodes[node].life;
            self.after_us(delay, Happening::LinkUp { node, life, link });
        }
        self.links.insert(link, Link { ends, cut: false });
    }

    pub(super) fn link_up(&mut self, node: usize, link: u64) {
        let Some(found) = self.links.get_mut(&link) else {
            return;
        };
        found.ends[node].open = true;
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
                let life = self.nodes[node].life;
                self.after_us(
                    5_000,
                    Happening::LinkDown {
                        node,
                        life,
                        link,
                        loss,
                    },
                );
            }
            return;
        }
        found.ends[node].open = false;
        found.ends[node].closing = true;
        found.cut = true;
        self.tell(
            node,
            Event::LinkDown {
                peer: Self::peer_id(node),
                link: LinkId(link),
                loss,
            },
        );
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
        let (low, high) = self.options.net_us;
        let delay = self.random.magnitude(low, high) * 1_000;
        let now = self.now;
        let to = 1 - node;
        let Some(found) = self.links.get_mut(&link.0) else {
            return;
        };
        if found.cut || found.ends[node].closing {
            return;
        }
        let end = &mut found.ends[to];
        end.sent[lane] += 1;
        let number = end.sent[lane];
        end.arrival[lane] = (now + delay).max(end.arrival[lane] + 1);
        let at = end.arrival[lane];
        self.packets_under_way += 1;
        let parcel = Parcel::pack(packet, data);
        self.report.packets += 1;
        self.at(
            at,
            Happening::Arrive {
                link: link.0,
                to,
                lane,
                number,
                parcel,
            },
        );
    }

    pub(super) fn arrive(
        &mut self,
        link: u64,
        to: usize,
        lane: usize,
        number: u64,
        parcel: Parcel,
    ) {
        self.packets_under_way -= 1;
        let Some(found) = self.links.get(&link) else {
            return;
        };
        let end = &found.ends[to];
        if !end.open || number > end.last[lane] {
            return;
        }
        match parcel.unpack() {
            Ok((packet, data)) => self.tell(
                to,
                Event::Packet {
                    peer: Self::peer_id(to),
                    link: LinkId(link),
                    packet,
                    data,
                },
            ),
            Err(text) => self.violation(format!("a packet that was sent is not one: {text}")),
        }
    }

    /// A node closes its end: what it has sent arrives, then the peer notices.
    pub(super) fn drop_link(&mut self, node: usize, link: LinkId, loss: LinkLoss) {
        let delay = self.random.magnitude(1, 10_000);
        let life = self.nodes[node].life;
        let Some(found) = self.links.get_mut(&link.0) else {
            return;
        };
        found.ends[node].closing = true;
        let peer = 1 - node;
        let arrived = found.ends[peer].arrival.into_iter().max().unwrap_or(0);
        let silent = found.cut;
        self.after_us(
            delay,
            Happening::LinkDown {
                node,
                life,
                link: link.0,
                loss,
            },
        );
        if !silent {
            let life = self.nodes[peer].life;
            let at = arrived.max(self.now) + self.random.magnitude(1_000, 10_000_000);
            let loss = LinkLoss::Closed;
            let link = link.0;
            self.at(
                at,
                Happening::LinkDown {
                    node: peer,
                    life,
                    link,
                    loss,
                },
            );
        }
    }

    /// Cuts every link at any byte of each stream. Each side notices after a while, or, `silently`,
    /// perhaps never.
    pub(super) fn cut_links(&mut self, silently: bool) {
        let standing: Vec<u64> = self
            .links
            .iter()
            .filter(|(_, link)| !link.cut)
            .map(|(id, _)| *id)
            .collect();
        for id in standing {
            self.cut_link(id, silently);
        }
        self.links
            .retain(|_, link| !link.cut || link.ends.iter().any(|end| end.open || !end.closing));
    }

    fn cut_link(&mut self, id: u64, silently: bool) {
        self.note(|| format!("link {id} is cut"));
        for node in 0..2 {
            let all = self.random.percent(30);
            for lane in 0..2 {
                let most = self.random.below(20);
                let Some(link) = self.links.get_mut(&id) else {
                    return;
                };
                link.cut = true;
                let end = &mut link.ends[node];
                let sent = end.sent[lane];
                end.last[lane] = if all { sent } else { sent.saturating_sub(most) };
            }
            if silently && self.random.percent(60) {
                continue;
            }
            let life = self.nodes[node].life;
            let delay = self.random.magnitude(1, 2_000_000);
            let loss = LinkLoss::Closed;
            self.after_us(
                delay,
                Happening::LinkDown {
                    node,
                    life,
                    link: id,
                    loss,
                },
            );
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
