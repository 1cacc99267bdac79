//! What may be asked of the two nodes, one after another.

use rbd_engine::{Event, Seek};
use rbd_protocol::state::{ConnectionState, DiskState};

use super::asking::Wish;
use super::node::Node;
use super::world::{Order, World};

/// One of the operations a sequence is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A client writes block *a*: two sectors.
    WriteA,
    /// A client writes a sector of block *b*, in the same region.
    WriteB,
    /// A client writes a sector of block *c*, in another region, with FUA.
    WriteC,
    /// A client flushes.
    Flush,
    /// The link breaks and does not come back by itself.
    Cut,
    /// The network works again, and whoever is down or disconnected returns.
    Join,
    /// The other node becomes Primary; if it cannot be reached, the Primary is killed first.
    Promote,
    /// Time passes, so that checkpoints are made.
    Rest,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::WriteA,
        Self::WriteB,
        Self::WriteC,
        Self::Flush,
        Self::Cut,
        Self::Join,
        Self::Promote,
        Self::Rest,
    ];
}

impl World {
    /// Begins an operation, the `number`-th of its sequence; false if it makes no sense now.
    pub(super) fn begin(&mut self, operation: Operation, number: u8) -> bool {
        self.note(|| format!("== {operation:?}"));
        let primary = self.nodes.iter().position(Node::is_primary);
        match operation {
            Operation::WriteA | Operation::WriteB | Operation::WriteC | Operation::Flush => {
                let Some(primary) = primary else { return false };
                match operation {
                    Operation::WriteA => self.write(primary, 0, number, false),
                    Operation::WriteB => self.write(primary, 1, number, false),
                    Operation::WriteC => self.write(primary, 2, number, true),
                    _ => self.flush(primary),
                }
            }
            Operation::Cut => {
                if !self.network {
                    return false;
                }
                self.network = false;
                self.cut();
            }
            Operation::Join => return self.join(),
            Operation::Promote => return self.promote_the_other(primary),
            Operation::Rest => {
                self.rest();
            }
        }
        true
    }

    /// Lets everybody return; false if everybody is there.
    pub(super) fn join(&mut self) -> bool {
        let mut joined = !self.network;
        self.network = true;
        for node in 0..2 {
            if self.nodes[node].engine.is_none() {
                self.nodes[node].start();
                self.command(node, Wish::Attach);
                self.command(node, Wish::Connect);
                joined = true;
            } else if self.is_alone(node) {
                self.command(node, Wish::Connect);
                joined = true;
            }
        }
        for node in &mut self.nodes {
            if node.seeking == Seek::Patiently {
                node.seeking = Seek::Soon;
            }
        }
        self.try_meet();
        joined
    }

    pub(super) fn is_alone(&self, node: usize) -> bool {
        let connection = self.nodes[node].connection(self.time());
        connection.is_some_and(|(state, _)| state == ConnectionState::StandAlone)
    }

    fn promote_the_other(&mut self, primary: Option<usize>) -> bool {
        if self.has_calls() {
            return false;
        }
        let Some(primary) = primary else {
            let able = (0..2).find(|node| self.may_promote(*node));
            return able
                .inspect(|node| self.command(*node, Wish::Promote))
                .is_some();
        };
        let other = 1 - primary;
        if self.wire.is_some() && self.nodes[other].engine.is_some() {
            self.command(primary, Wish::HandOver);
            return true;
        }
        if !self.may_promote(other) {
            return false;
        }
        let disk = self.nodes[primary].disk.clone();
        let ends = disk.open_ends(false);
        self.stop(primary, disk.after_crash(false, &ends, 0), false);
        self.command(other, Wish::Promote);
        true
    }

    /// Whether promoting the node cannot take anything back: the other has nothing it lacks. A
    /// cluster manager with fencing makes sure of that.
    pub(super) fn may_promote(&self, node: usize) -> bool {
        self.nodes[node].disk_state(self.time()) == Some(DiskState::UpToDate)
            && self.holds_everything(node)
            && !self.is_newer(1 - node, node)
    }

    /// Tells each node whose timer is due.
    pub(super) fn fire_timers(&mut self) {
        for node in 0..2 {
            if self.nodes[node].wake.is_some_and(|wake| wake.0 <= self.now) {
                self.nodes[node].wake = None;
                self.tell(node, Event::Timer);
                self.check();
                self.look_at_verdicts();
            }
        }
    }

    /// Lets so much time pass that a full checkpoint is due.
    pub(super) fn rest(&mut self) {
        self.now += REST;
        self.fire_timers();
    }

    /// Lets time pass until the next timer of any node; false if there is none.
    pub(super) fn wait(&mut self) -> bool {
        let next = self.nodes.iter().filter_map(|node| node.wake).min();
        let Some(next) = next else { return false };
        self.now = self.now.max(next.0);
        self.fire_timers();
        true
    }

    /// Two nodes in sync, the first of them Primary, and everything at rest.
    ///
    /// # Errors
    /// When it does not come to that.
    pub(super) fn prepared() -> Result<Self, String> {
        let mut world = Self::new();
        world.join();
        world.run(Order::Oldest);
        world.command(0, Wish::SkipSync);
        world.run(Order::Oldest);
        world.command(0, Wish::Promote);
        world.run(Order::Oldest);
        if !world.is_in_sync() || !world.nodes[0].is_primary() || !world.is_quiet() {
            return Err(format!("the nodes do not get ready: {}", world.waiting()));
        }
        world.set_up = true;
        match world.failure.take() {
            Some(text) => Err(text),
            None => Ok(world),
        }
    }

    /// Everything that was broken works again: then everything must be answered, both nodes be in
    /// sync, and both disks hold the same and what clients were told.
    ///
    /// # Errors
    /// What is not as it must be.
    pub(super) fn heal(&mut self) -> Result<(), String> {
        self.note(|| "== healing".into());
        for _ in 0..MOST_WAITS {
            self.join();
            self.run(Order::Oldest);
            if let Some(text) = self.failure.take() {
                return Err(text);
            }
            if self.is_in_sync() && self.is_quiet() {
                return self.judge();
            }
            self.wait();
        }
        let states = [0, 1].map(|node| {
            let node = &self.nodes[node];
            (node.disk_state(self.time()), node.connection(self.time()))
        });
        Err(format!(
            "L1: not healed: {states:?}, waiting: {}",
            self.waiting()
        ))
    }

    fn judge(&self) -> Result<(), String> {
        let [one, other] = [0, 1].map(|node| self.nodes[node].disk.contents());
        if one != other {
            return Err(format!(
                "in sync, but one disk holds {one:?} and the other {other:?}"
            ));
        }
        self.sectors.allow(one)
    }
}

/// Long enough for a full checkpoint to be due.
const REST: u64 = 6_000_000_000;

/// Timers that healing may take.
const MOST_WAITS: usize = 40;
