//! An administrator's errands: commands that come at any time, whatever the node is doing. Most are
//! refused; those that are not must harm nothing, so an administrator who knows everything leaves
//! out the few that would.

use rbd_engine::Command;
use rbd_protocol::control::{ResourceConfig, Shown};
use rbd_protocol::state::{ConnectionState, DiskState};

use super::node::{node_id, number};
use super::operator::Wish;
use super::world::{Happening, World};

/// What someone wants of a node that is neither to start, to end nor to change its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    /// Clients are to wait; somebody lets them go on soon after.
    Suspend,
    Resume,
    /// The node's data is declared behind.
    Outdate,
    /// The data of one of the nodes is declared bad.
    Invalidate,
    InvalidateRemote,
    /// Options change, or not.
    Configure,
    /// A split brain is to end, if there is one.
    Resolve,
    /// What changes nothing: a disk for a node that has one, the role it has, a connection that is
    /// wanted already.
    AttachAgain,
    PromoteAgain,
    DemoteAgain,
    ConnectAgain,
    /// Refused: a peer is there, or the data is not up to date.
    NewGeneration,
}

const ERRANDS: [Errand; 12] = [
    Errand::AttachAgain,
    Errand::PromoteAgain,
    Errand::DemoteAgain,
    Errand::ConnectAgain,
    Errand::NewGeneration,
    Errand::Suspend,
    Errand::Resume,
    Errand::Outdate,
    Errand::Invalidate,
    Errand::InvalidateRemote,
    Errand::Configure,
    Errand::Resolve,
];

impl World {
    /// Someone has an errand at a node.
    pub(super) fn run_errand(&mut self, node: usize) {
        let errand = self.random.pick(&ERRANDS).unwrap_or(Errand::Resume);
        self.order(node, Wish::Errand(errand));
    }

    /// Something has just gone wrong: a good time to come with an errand, to either node.
    pub(super) fn run_errands_soon(&mut self, most_us: u64) {
        if !self.options.errands || !self.faults_allowed {
            return;
        }
        for node in 0..2 {
            for _ in 0..3 {
                let errand = self.random.pick(&ERRANDS).unwrap_or(Errand::Resume);
                let delay = self.random.magnitude(1, most_us);
                let (life, wish) = (self.nodes[node].life, Wish::Errand(errand));
                self.after_us(delay, Happening::Order { node, life, wish });
            }
        }
    }

    /// The command for an errand; none if it had better not be given now.
    pub(super) fn errand_command(&mut self, node: usize, errand: Errand) -> Option<Command> {
        let volume = self.any_volume();
        match errand {
            Errand::Suspend => {
                let delay = self.random.magnitude(1_000, 5_000_000);
                self.resume_later(node, delay);
                Some(Command::SuspendIo)
            }
            Errand::Resume if self.may_resume(node) => Some(Command::ResumeIo),
            Errand::Resume => {
                self.resume_later(node, 100_000);
                None
            }
            Errand::Outdate => self.may_outdate(node).then(|| {
                // Its copy counts for nothing from here on, whatever becomes of the other.
                if !self.refuses_to_be_outdated(node) {
                    for volume in self.volumes() {
                        self.note_suspect(node, volume);
                    }
                }
                Command::Outdate
            }),
            Errand::Invalidate | Errand::InvalidateRemote => {
                Some(self.invalidate(node, volume, errand))
            }
            Errand::Configure => {
                let config = self.other_options(node);
                self.nodes[node].config = config.clone();
                Some(Command::Configure(Box::new(config)))
            }
            Errand::Resolve => Some(self.resolve(node)),
            Errand::AttachAgain if self.disk_state(node, volume) > DiskState::Failed => {
                let disk = self.nodes[node][volume].attachable().ok()?;
                Some(Command::Attach {
                    volume: number(volume),
                    disk,
                })
            }
            Errand::PromoteAgain if self.nodes[node].is_primary() => {
                Some(Command::Promote { force: false })
            }
            Errand::DemoteAgain if !self.nodes[node].is_primary() => {
                Some(Command::Demote { force: false })
            }
            Errand::ConnectAgain if self.nodes[node].seeking || self.is_connected(node) => {
                Some(Command::Connect {
                    peer: None,
                    discard_my_data: false,
                    tentative: false,
                })
            }
            Errand::NewGeneration
                if self.is_connected(node)
                    || self.disk_state(node, volume) < DiskState::UpToDate =>
            {
                Some(Command::NewGeneration {
                    volume: number(volume),
                    clear_bitmap: false,
                })
            }
            Errand::AttachAgain
            | Errand::PromoteAgain
            | Errand::DemoteAgain
            | Errand::ConnectAgain
            | Errand::NewGeneration => None,
        }
    }

    /// Now and then somebody else does the same on the other node.
    fn invalidate(&mut self, node: usize, volume: usize, errand: Errand) -> Command {
        if self.random.percent(40) {
            let delay = self.random.magnitude(1, 20_000);
            let (node, wish) = (1 - node, Wish::Errand(errand));
            let life = self.nodes[node].life;
            self.after_us(delay, Happening::Order { node, life, wish });
        }
        Command::Invalidate {
            volume: number(volume),
            peer: None,
            remote: errand == Errand::InvalidateRemote,
            marked_only: self.random.percent(20),
            force: false,
        }
    }

    fn disk_state(&self, node: usize, volume: usize) -> DiskState {
        let device = self.nodes[node].device(volume, self.time(node));
        device.map_or(DiskState::Diskless, |device| device.disk_state)
    }

    fn resume_later(&mut self, node: usize, delay_us: u64) {
        let (life, wish) = (self.nodes[node].life, Wish::Errand(Errand::Resume));
        self.after_us(delay_us, Happening::Order { node, life, wish });
    }

    /// With fencing, whoever lets a Primary without its peer go on answers for what comes of it:
    /// also while the peer is back and may not have read yet that its data is behind.
    fn may_resume(&self, node: usize) -> bool {
        let status = self.nodes[node].status(self.time(node));
        let waits = status.is_some_and(|status| status.suspended.fencing);
        self.options.fencing.is_none()
            || !self.nodes[node].is_primary()
            || (self.is_connected(node) && !waits)
    }

    /// The command would be refused, or the other node has everything and is not outdated itself.
    fn may_outdate(&self, node: usize) -> bool {
        let other = 1 - node;
        let is_better = |volume: usize| {
            let is_behind = self.disk_state(other, volume) == DiskState::Outdated;
            self.survives_with_everything(other, volume)
                && !is_behind
                && !self.is_outdated(other, volume)
        };
        self.refuses_to_be_outdated(node) || self.volumes().all(is_better)
    }

    fn refuses_to_be_outdated(&self, node: usize) -> bool {
        self.nodes[node].is_primary() || self.is_connected(node)
    }

    pub(super) fn is_connected(&self, node: usize) -> bool {
        let status = self.nodes[node].status(self.time(node));
        status.is_some_and(|status| {
            let mut peers = status.connections.iter();
            peers.all(|peer| peer.connection_state == ConnectionState::Connected)
        })
    }

    /// Now and then options that the connection has to be made anew for.
    fn other_options(&mut self, node: usize) -> ResourceConfig {
        let mut config = self.nodes[node].config.clone();
        if self.random.percent(30) {
            for peer in &mut config.peers {
                peer.net.connect_interval_ms = self.options.connect_ms + 1;
                peer.net.ping_timeout_ms ^= 1;
            }
        }
        config
    }

    /// Nobody gives up data in a split brain unless operators look at nothing: else the order names
    /// a state that never was.
    fn resolve(&mut self, node: usize) -> Command {
        let refused = self.nodes[node]
            .status(self.time(node))
            .filter(|_| self.options.careless)
            .and_then(|status| {
                let peer = status.connections.into_iter().next()?;
                Some(peer.refused?.shown(status.tenure))
            });
        let keep_own = self.random.percent(50);
        let gives_up = if keep_own { 1 - node } else { node };
        if refused.is_some() && !self.nodes[gives_up].is_primary() {
            for volume in &mut self.nodes[gives_up].volumes {
                volume.gives_up = true;
            }
            self.is_forked = true;
        }
        Command::Resolve {
            peer: node_id(1 - node),
            keep_own,
            saved: Vec::new(),
            shown: refused.unwrap_or(Shown {
                own_tenure: u64::MAX,
                tenure: u64::MAX,
                generations: Vec::new(),
            }),
        }
    }
}
