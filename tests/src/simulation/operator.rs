//! Faults, and the commands of an operator who knows everything: he promotes a node only while the
//! other one is no Primary and has nothing this one lacks, as fencing would make sure of.

use rbd_engine::Command;
use rbd_protocol::control::Refusal;
use rbd_protocol::state::{ConnectionState, DiskState, ReplicationState, Role};

use super::node::VOLUME;
use super::world::{Happening, World};

/// What a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Attach,
    Connect,
    Disconnect,
    Promote,
    ForcePromote,
    Demote,
    Stop,
    /// The process ends as soon as nothing is in flight.
    Exit,
    SkipSync,
    Openers(u32),
}

impl World {
    pub(super) fn start_node(&mut self, node: usize) {
        if self.nodes[node].engine.is_some() {
            return;
        }
        self.note(|| format!("node {node} starts"));
        let seed = self.random.next();
        self.nodes[node].start(seed);
        let life = self.nodes[node].life;
        let wishes = if self.random.percent(80) {
            [Wish::Attach, Wish::Connect]
        } else {
            [Wish::Connect, Wish::Attach]
        };
        let mut delay = self.random.magnitude(10, 20_000);
        for wish in wishes {
            self.after_us(delay, Happening::Order { node, life, wish });
            delay += self.random.magnitude(10, 50_000);
        }
    }

    pub(super) fn order(&mut self, node: usize, wish: Wish) {
        self.note(|| format!("order to {node}: {wish:?}"));
        let command = match wish {
            Wish::Attach => {
                if self.nodes[node].attached {
                    return;
                }
                match self.nodes[node].attachable() {
                    Ok(disk) => {
                        self.watch_attach(node, &disk.image);
                        self.nodes[node].attached = true;
                        Command::Attach {
                            volume: VOLUME,
                            disk,
                        }
                    }
                    Err(error) => {
                        self.violation(format!("node {node}: cannot attach: {error}"));
                        return;
                    }
                }
            }
            Wish::Connect => Command::Connect {
                peer: None,
                discard_my_data: false,
            },
            Wish::Disconnect => Command::Disconnect { peer: None },
            Wish::Promote => {
                self.watch_order(node, Some(Role::Primary));
                Command::Promote { force: false }
            }
            Wish::ForcePromote => Command::Promote { force: true },
            Wish::Demote => {
                self.watch_order(node, Some(Role::Secondary));
                self.openers(node, 0);
                Command::Demote { force: false }
            }
            Wish::Stop => {
                self.watch_order(node, None);
                self.openers(node, 0);
                Command::Stop
            }
            Wish::SkipSync => Command::NewGeneration {
                volume: VOLUME,
                clear_bitmap: true,
            },
            Wish::Exit => {
                self.exit(node);
                return;
            }
            Wish::Openers(count) => {
                self.openers(node, count);
                return;
            }
        };
        self.command(node, wish, command);
    }

    fn exit(&mut self, node: usize) {
        let stopped = self.nodes[node]
            .engine
            .as_ref()
            .is_some_and(rbd_engine::Resource::is_stopped);
        if stopped {
            if !self.nodes[node].disk.is_idle() {
                self.violation(format!("node {node}: stopped with work in flight"));
            }
            self.kill(node);
            return;
        }
        let (life, wish) = (self.nodes[node].life, Wish::Exit);
        self.after_us(1_000, Happening::Order { node, life, wish });
    }

    pub(super) fn wish_ended(
        &mut self,
        node: usize,
        wish: Wish,
        result: Result<Option<String>, Refusal>,
    ) {
        self.note(|| format!("answer of {node} to {wish:?}: {result:?}"));
        let life = self.nodes[node].life;
        match (wish, result) {
            (Wish::Promote | Wish::ForcePromote, Ok(_)) => {
                self.report.promotions += 1;
                self.watch_promoted(node);
                let wish = Wish::Openers(1);
                self.after_us(1, Happening::Order { node, life, wish });
            }
            (Wish::Stop, Ok(_)) => {
                self.watch_stopped(node);
                let wish = Wish::Exit;
                self.after_us(1, Happening::Order { node, life, wish });
            }
            (Wish::Attach, Err(refusal))
                if refusal.code != rbd_protocol::control::RefusalCode::StateTransient =>
            {
                self.violation(format!("node {node}: attach refused: {refusal:?}"));
            }
            (Wish::Attach, Err(_)) => self.nodes[node].attached = false,
            _ => {}
        }
    }

    /// The operator's round: bring up what is down, have one Primary.
    pub(super) fn watch(&mut self) {
        self.after_us(100_000, Happening::Watch);
        self.check_at_leisure();
        let waiting = |node: usize, world: &Self| {
            world.calls.values().any(|(of, wish)| {
                *of == node && matches!(wish, Wish::Promote | Wish::ForcePromote | Wish::Demote)
            })
        };
        if !self.set_up || waiting(0, self) || waiting(1, self) {
            return;
        }
        for node in 0..2 {
            if !self.faults_allowed {
                self.reconnect(node);
            }
        }
        if self.nodes.iter().any(super::node::Node::is_primary) {
            return;
        }
        let first = usize::from(self.random.percent(50));
        for node in [first, 1 - first] {
            if self.may_promote(node) {
                self.order(node, Wish::Promote);
                return;
            }
        }
    }

    fn reconnect(&mut self, node: usize) {
        let now = self.time();
        let Some(status) = self.nodes[node].status(now) else {
            return;
        };
        let alone = status
            .connections
            .iter()
            .any(|peer| peer.connection_state == ConnectionState::StandAlone);
        let diskless = !self.nodes[node].attached;
        let busy = self.calls.values().any(|(of, _)| *of == node);
        if alone && !busy {
            self.order(node, Wish::Connect);
        }
        if diskless && !busy {
            self.order(node, Wish::Attach);
        }
    }

    /// Whether promoting the node cannot take anything back: the other has nothing it lacks.
    fn may_promote(&self, node: usize) -> bool {
        let now = self.time();
        let Some(status) = self.nodes[node].status(now) else {
            return false;
        };
        if status.role == Role::Primary {
            return false;
        }
        let up_to_date = status
            .devices
            .iter()
            .all(|device| device.disk_state == DiskState::UpToDate);
        !up_to_date || (self.holds_everything(node) && !self.is_newer(1 - node, node))
    }

    /// Whether the generation durable on `one` is one that `other` has never heard of.
    pub(super) fn is_newer(&self, one: usize, other: usize) -> bool {
        let current = self.nodes[one].generations.first();
        current.is_some_and(|current| !self.nodes[other].generations.contains(current))
    }

    fn holds_everything(&self, node: usize) -> bool {
        self.missing(node).is_ok()
    }

    /// Something acknowledged that the node's disk does not hold.
    pub(super) fn missing(&self, node: usize) -> Result<(), String> {
        let disk = &self.nodes[node].disk;
        self.registers.is_current(|sector| disk.content(sector))
    }

    pub(super) fn fault(&mut self) {
        if !self.faults_allowed {
            return;
        }
        let pause = self.random.below(self.options.fault_every_ms * 2_000) + 1_000;
        self.after_us(pause, Happening::Fault);
        let options = self.options.clone();
        let weights = [
            options.cut,
            options.partition,
            options.kill,
            options.power,
            options.power_both,
            options.disconnect,
            options.switch_over,
            options.stop,
        ];
        let mut lot = self.random.below(weights.iter().sum());
        let mut chosen = None;
        for (fault, weight) in weights.into_iter().enumerate() {
            if lot < weight {
                chosen = Some(fault);
                break;
            }
            lot -= weight;
        }
        let node = usize::from(self.random.percent(50));
        match chosen {
            Some(0) => {
                self.report.cuts += 1;
                let silently = self.random.percent(20);
                self.cut_links(silently);
            }
            Some(1) => {
                self.report.cuts += 1;
                self.network_works = false;
                self.note(|| "network fails".into());
                self.cut_links(true);
                let delay = self.random.magnitude(1_000, 5_000_000);
                self.after_us(delay, Happening::Repair);
            }
            Some(2) => {
                if self.random.percent(70) && self.nodes[node].engine.is_some() {
                    self.nodes[node].dies_next = true;
                } else {
                    self.kill(node);
                }
            }
            Some(3) => self.lose_power(node),
            Some(4) => {
                self.lose_power(node);
                self.lose_power(1 - node);
            }
            Some(5) if self.nodes[node].engine.is_some() => {
                self.order(node, Wish::Disconnect);
                let life = self.nodes[node].life;
                let delay = self.random.magnitude(1_000, 1_000_000);
                let wish = Wish::Connect;
                self.after_us(delay, Happening::Order { node, life, wish });
            }
            Some(6) => {
                if let Some(primary) = self.nodes.iter().position(super::node::Node::is_primary) {
                    self.order(primary, Wish::Demote);
                }
            }
            Some(7) if self.nodes[node].engine.is_some() => self.order(node, Wish::Stop),
            _ => {}
        }
    }

    /// The process dies; the machine goes on.
    pub(super) fn kill(&mut self, node: usize) {
        if self.nodes[node].engine.is_none() {
            return;
        }
        self.note(|| format!("node {node}: process dies"));
        self.watch_death(node, false);
        self.report.kills += 1;
        self.abandon_links(node, false);
        self.end_process(node);
        self.nodes[node].disk.process_crash(&mut self.random);
        self.come_back(node, 1_000_000);
    }

    fn lose_power(&mut self, node: usize) {
        self.note(|| format!("node {node}: power fails"));
        self.watch_death(node, true);
        self.report.power_losses += 1;
        let ran = self.nodes[node].engine.is_some();
        let held = self.holds_everything(node);
        if ran {
            self.abandon_links(node, true);
            self.end_process(node);
        }
        self.nodes[node].disk.power_loss(&mut self.random);
        self.nodes[node].boot += 1;
        let other = 1 - node;
        self.nodes[node].lost_power = true;
        let survivor = !self.nodes[other].lost_power
            && self.nodes[other].is_a_copy(self.time())
            && !self.is_newer(node, other)
            && self.holds_everything(other);
        if self.is_traced() {
            let lost = self.missing(node);
            self.note(|| {
                format!(
                    "held everything: {held}, afterwards: {lost:?}, \
                     the peer survives with everything: {survivor}"
                )
            });
        }
        if held && !survivor {
            self.note(|| "nobody holds everything any more".into());
            self.registers.caches_lost();
        }
        if ran {
            self.come_back(node, 3_000_000);
        }
    }

    fn end_process(&mut self, node: usize) {
        let clients = self.clients_at(node);
        self.forget_work_of(node);
        self.nodes[node].forget_process();
        self.revive_clients(clients);
    }

    fn come_back(&mut self, node: usize, most_us: u64) {
        let delay = self.random.magnitude(1_000, most_us);
        self.after_us(delay, Happening::Start { node });
    }

    /// Whether both nodes say that both replicas are identical.
    pub(super) fn is_in_sync(&self) -> bool {
        let now = self.time();
        self.nodes.iter().all(|node| {
            node.status(now).is_some_and(|status| {
                status
                    .devices
                    .iter()
                    .all(|device| device.disk_state == DiskState::UpToDate)
                    && status.connections.iter().all(|peer| {
                        peer.connection_state == ConnectionState::Connected
                            && peer.peer_devices.iter().all(|device| {
                                device.replication_state == ReplicationState::Established
                                    && device.peer_disk_state == DiskState::UpToDate
                                    && device.out_of_sync_bytes == 0
                            })
                    })
            })
        })
    }
}
