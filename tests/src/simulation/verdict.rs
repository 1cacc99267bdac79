//! What is looked at while a run goes on, and in what order a run goes.

use super::faults::Fault;
use super::network::Link;
use super::node::Node;
use super::operator::Wish;
use super::profile::{Options, Profile};
use super::random::Random;
use super::report::{Failure, Report};
use super::submission::is_target;
use super::visited::Visited;
use super::without::Without;
use super::world::{Happening, World};
use crate::check::{Possible, dirty_after_crash};
use rbd_protocol::ids::NodeId;
use rbd_protocol::metadata::Image;
use rbd_protocol::state::{ConnectionState, ReplicationState, Role};

impl World {
    /// After every event: each block that may differ after a crash now is marked.
    pub(super) fn check_pair(&mut self) {
        for volume in self.volumes() {
            self.check_pair_of(volume);
        }
    }

    fn check_pair_of(&mut self, volume: usize) {
        let mut anything = false;
        let (mut gave_way, mut completed) = (None, None);
        for index in 0..2 {
            if std::mem::take(&mut self.nodes[index][volume].disk.marks_changed) {
                anything = true;
                match self.look_at_metadata(index, volume) {
                    Some(Turn::GaveWay) => gave_way = Some(index),
                    Some(Turn::Completed { in_order }) => completed = Some((index, in_order)),
                    None => {}
                }
            }
        }
        if let Some((target, in_order)) = completed {
            self.look_at_completed(target, volume, in_order);
        }
        for index in 0..2 {
            self.look_at_greeted(index, volume);
        }
        if let Some(node) = gave_way
            && !self.nodes[1 - node][volume].consistent
        {
            self.violation(format!(
                "D9: node {node} gives up its data, and the other has none that is whole"
            ));
        }
        if gave_way.is_some_and(|node| self.nodes[1 - node][volume].suspect) {
            self.records[volume].registers.caches_lost();
        }
        let mut changed = std::mem::take(&mut self.changed);
        for node in &mut self.nodes {
            node[volume].disk.take_changed(&mut changed);
        }
        if !changed.is_empty() {
            anything = true;
            let [one, other] = &self.nodes;
            let blocks = changed.iter().copied();
            let disks = [&one[volume].disk, &other[volume].disk];
            self.records[volume].pair.blocks_changed(blocks, disks);
            self.note_healed(volume, &changed);
            changed.clear();
        }
        self.changed = changed;
        if anything {
            let differing =
                u64::try_from(self.records[volume].pair.differing()).unwrap_or(u64::MAX);
            self.report.most_differing = self.report.most_differing.max(differing);
            if self.set_up
                && let Err(text) = self.records[volume].pair.verify()
            {
                let text = format!("{text}:{}", self.describe_difference(volume));
                self.violation(text);
            }
        }
    }

    /// What is durable of a disk's metadata has changed.
    fn look_at_metadata(&mut self, index: usize, volume: usize) -> Option<Turn> {
        let node = &mut self.nodes[index][volume];
        let image = match node.open() {
            Ok(image) => image,
            Err(error) => {
                let text = format!("C2: node {index}: its metadata cannot be read: {error}");
                self.violation(text);
                return None;
            }
        };
        let peer = Self::peer_id(index);
        let mut marks = marks_on(&image, peer, self.options.most_bytes);
        let block = &image.superblock;
        node.volume_bytes = block.data_bytes;
        // A disk that was set back is told apart by its generation.
        let set_back = node.set_back_to == Some(block.generation.0);
        node.set_back_to = node.set_back_to.filter(|_| set_back);
        if set_back {
            marks.fill(true);
        }
        self.records[volume].pair.marks_changed(index, marks);
        let turn = match (node.consistent, block.flags.consistent) {
            (true, false) => Some(Turn::GaveWay),
            (false, true) => Some(Turn::Completed {
                in_order: node.was_target || !node.holds_data(),
            }),
            _ => None,
        };
        node.consistent = block.flags.consistent;
        node.generations = std::iter::once(&block.generation)
            .chain(&block.history)
            .map(|generation| generation.0)
            .filter(|generation| *generation != 0)
            .collect();
        turn
    }

    /// What may be in the first sector that may differ and is not marked.
    fn describe_difference(&self, volume: usize) -> String {
        let Some(block) = self.records[volume].pair.first_unmarked() else {
            return String::new();
        };
        let [one, other] = &self.nodes;
        let mut text = String::new();
        for sector in block * 8..block * 8 + 8 {
            let values = [&one[volume].disk, &other[volume].disk].map(|disk| {
                let mut values = Vec::new();
                disk.possible(sector, &mut |value| values.push(value));
                values
            });
            if values[0] != values[1] || values[0].len() > 1 {
                text += &format!(" sector {sector}: {:x?} and {:x?}", values[0], values[1]);
            }
        }
        text
    }

    /// A migration is the only time in which both may be Primary, where nothing else is configured.
    fn check_migration(&mut self) {
        let both_are = (0..2).all(|node| self.nodes[node].is_primary());
        let connected = (0..2).any(|node| self.is_connected(node));
        if self.options.migration_ms == 0 || !both_are || !connected {
            return;
        }
        for node in 0..2 {
            let status = self.nodes[node].status(self.time(node));
            let knows_of_two = status.is_some_and(|status| {
                let mut links = status.connections.iter();
                links.any(|link| {
                    let none = link.two_primaries.migration_ms.is_none();
                    none && link.peer_role == Role::Primary
                })
            });
            if knows_of_two {
                self.violation(format!("F4: node {node} is one of two, in no migration"));
            }
        }
    }

    /// One Primary at most answers clients (G1): looked at now and then, and after a promotion.
    pub(super) fn check_roles(&mut self) {
        self.check_migration();
        let fencing = self.options.fencing.is_some();
        let answers =
            |node: usize| self.nodes[node].is_primary() && (!fencing || self.is_answering(node));
        // Of two that may be, the one that hears first of a lost link waits from then on.
        let may = || (0..2).any(|node| self.may_both_answer(node));
        let both = answers(0) && answers(1) && !may();
        if both && !(self.is_forked && self.is_anything_alone()) {
            self.violation("G1: both nodes are Primary");
        }
    }

    /// Whether one of the nodes does not replicate something.
    fn is_anything_alone(&self) -> bool {
        let mut nodes = self.nodes.iter();
        nodes.any(|node| self.volumes().any(|volume| !node.is_replicating(volume)))
    }

    /// Now and then: roles, and whether what claims to be identical is.
    pub(super) fn check_at_leisure(&mut self) {
        self.check_roles();
        self.check_waits();
        let mut in_sync = true;
        for volume in self.volumes() {
            let is_so = self.is_in_sync_of(volume);
            self.look_at_copies(volume, is_so);
            in_sync &= is_so;
        }
        if in_sync && self.is_idle() {
            for volume in self.volumes() {
                self.compare(volume);
            }
            self.join_fork();
        }
    }

    fn look_at_copies(&mut self, volume: usize, in_sync: bool) {
        for node in 0..2 {
            let is_filled = self.nodes[node][volume].may_be_filled;
            let is_target = is_target(self.nodes[node][volume].replication);
            if self.nodes[node].is_primary() && is_target && !is_filled {
                self.violation(format!(
                    "D7: node {node} is Primary and the target of a resync"
                ));
            }
            let machine = &self.nodes[node];
            let now = self.time(node);
            let is_known = in_sync || (machine.is_primary() && machine.is_up_to_date(volume, now));
            let copy = &mut self.nodes[node][volume];
            if in_sync {
                copy.wrote_alone = false;
                copy.gives_up = false;
            }
            copy.suspect &= !is_known;
        }
    }

    /// Compares both disks. Blocks that cannot differ after any crash do not differ now, so there
    /// is no need to look at those.
    fn compare(&mut self, volume: usize) {
        let sectors = self.records[volume]
            .pair
            .differing_blocks()
            .filter(|block| *block < self.common_sectors(volume) / 8)
            .filter(|block| !self.records[volume].pair.rotten().contains(block))
            .flat_map(|block| block * 8..block * 8 + 8)
            .collect();
        self.compare_sectors(volume, sectors);
    }

    fn compare_everything(&mut self, volume: usize) {
        self.compare_sectors(volume, (0..self.common_sectors(volume)).collect());
    }

    fn compare_sectors(&mut self, volume: usize, sectors: Vec<u64>) {
        self.report.comparisons += 1;
        let [one, two] = &self.nodes;
        let differing = sectors
            .into_iter()
            .find(|sector| one[volume].disk.content(*sector) != two[volume].disk.content(*sector));
        if let Some(sector) = differing {
            let (a, b) = (
                one[volume].disk.content(sector),
                two[volume].disk.content(sector),
            );
            self.violation(format!(
                "both nodes say they are in sync, but sector {sector} is {a:#x} on one and {b:#x} \
                 on the other"
            ));
        }
    }

    fn set_up(&mut self) -> Result<(), Box<Failure>> {
        for node in 0..2 {
            self.start_node(node);
        }
        let limit = self.now + SECOND * 20;
        let met = self.run_while(limit, |world| !world.are_connected())?;
        if !met && !self.are_connected() {
            return Err(self.fail("the nodes do not connect at first"));
        }
        let node = usize::from(self.random.percent(50));
        if self.options.skip_initial_sync {
            for volume in self.volumes() {
                // Each order is given when what the one before has done is known on both nodes.
                if volume > 0 {
                    let limit = self.now + SECOND * 20;
                    self.run_while(limit, |world| !world.is_in_sync_of(volume - 1))?;
                }
                self.order(node, Wish::SkipSync(volume));
            }
        } else {
            self.order(node, Wish::ForcePromote);
        }
        let limit = self.now + SECOND * 300;
        if self.options.early {
            self.run_while(limit, |world| !world.calls.is_empty())?;
            self.set_up = true;
            return Ok(());
        }
        self.run_while(limit, |world| !world.is_in_sync())?;
        if !self.is_in_sync() {
            return Err(self.fail("the first synchronisation does not end"));
        }
        // What is answered is durable on the node that was told, which is enough.
        self.run_while(limit, |world| !world.calls.is_empty())?;
        self.set_up = true;
        self.check_at_leisure();
        Ok(())
    }

    /// One node has just been told that its data counts, and the other has not heard of it: people
    /// come now.
    fn come_early(&mut self) {
        if self.has(Fault::Stall) && self.random.percent(50) {
            self.stall_links(3_000_000);
        }
        self.run_errands_soon(30_000);
        let volume = self.any_volume();
        let wishes = [Wish::Disconnect, Wish::Stop, Wish::Detach(volume)];
        if self.random.percent(30)
            && let Some(wish) = self.random.pick(&wishes)
        {
            let node = usize::from(self.random.percent(50));
            self.order_soon(node, wish, 30_000);
        }
    }

    pub(super) fn are_connected(&self) -> bool {
        self.nodes.iter().all(|node| {
            node.status(self.time(node.index)).is_some_and(|status| {
                status.connections.iter().all(|peer| {
                    peer.connection_state == ConnectionState::Connected
                        && peer
                            .peer_devices
                            .iter()
                            .all(|device| device.replication_state == ReplicationState::Established)
                })
            })
        })
    }

    /// Faults have stopped: everything must heal and everything be answered.
    fn heal(&mut self) -> Result<(), Box<Failure>> {
        self.faults_allowed = false;
        self.repair_everything();
        self.try_meet(0);
        for node in 0..2 {
            if self.nodes[node].engine.is_none() {
                self.after_us(1_000, Happening::Start { node });
            }
        }
        if self.options.scrubs {
            self.repair_rot()?;
        }
        self.run_until(self.now + SECOND * 5)?;
        self.wait_until_healed()?;
        if !self.is_healed() {
            let text = self.describe_illness();
            if self.is_traced() {
                let engines: Vec<String> = self
                    .nodes
                    .iter()
                    .map(|node| format!("{:?}", node.engine))
                    .collect();
                for engine in engines {
                    self.note(|| engine);
                }
            }
            return Err(self.fail(&text));
        }
        self.clients_allowed = false;
        let limit = self.now + SECOND * 30;
        self.run_while(limit, |world| !world.operations.is_empty())?;
        if !self.operations.is_empty() {
            let text = format!("L1: never answered: {:?}", self.operations.values());
            return Err(self.fail(&text));
        }
        self.read_everything()?;
        // Long enough for the last checkpoint to have come and gone.
        self.run_until(self.now + SECOND * 50)?;
        if !self.calls.is_empty() {
            let text = format!("L1: never answered: {:?}", self.calls.values());
            return Err(self.fail(&text));
        }
        if !self.is_in_sync() {
            let text = self.describe_illness();
            return Err(self.fail(&text));
        }
        let limit = self.now + SECOND * 10;
        self.run_while(limit, |world| !world.is_idle())?;
        if !self.is_idle() {
            return Err(self.fail("L1: never idle although nobody asks for anything"));
        }
        for volume in self.volumes() {
            self.compare_everything(volume);
        }
        if let Some(text) = self.failure.take() {
            return Err(self.fail(&text));
        }
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.operations.is_empty()
            && self.links.values().all(Link::is_quiet)
            && (0..2).all(|node| self.is_disk_idle(node))
    }

    /// Whether nothing is in flight to any of the node's disks.
    pub(super) fn is_disk_idle(&self, node: usize) -> bool {
        let mut volumes = self.nodes[node].volumes.iter();
        volumes.all(|volume| volume.disk.is_idle())
    }

    fn read_everything(&mut self) -> Result<(), Box<Failure>> {
        let Some(node) = self.nodes.iter().position(Node::is_primary) else {
            return Err(self.fail("L1: no node is Primary"));
        };
        for volume in self.volumes() {
            self.read_volume(node, volume)?;
        }
        Ok(())
    }

    fn read_volume(&mut self, node: usize, volume: usize) -> Result<(), Box<Failure>> {
        let sectors = self.shown_sectors(node, volume);
        let mut first = 0;
        while first < sectors {
            let count = (sectors - first).min(2_048);
            self.read(node, volume, 0, first, count);
            first += count;
            let limit = self.now + SECOND * 10;
            self.run_while(limit, |world| !world.operations.is_empty())?;
        }
        Ok(())
    }

    /// As long as every minute brings the nodes nearer to each other.
    fn wait_until_healed(&mut self) -> Result<(), Box<Failure>> {
        let mut missing_before = u64::MAX;
        loop {
            let missing = self.out_of_sync_bytes();
            if self.is_healed() || missing >= missing_before {
                return Ok(());
            }
            missing_before = missing;
            let limit = self.now + SECOND * 60;
            self.run_while(limit, |world| !world.is_healed())?;
        }
    }

    /// By the word of whichever node counts more.
    fn out_of_sync_bytes(&self) -> u64 {
        let count = |node: &Node| {
            let status = node.status(self.time(node.index))?;
            let links = status.connections.iter();
            let devices = links.flat_map(|link| &link.peer_devices);
            Some(devices.map(|device| device.out_of_sync_bytes).sum())
        };
        self.nodes.iter().filter_map(count).max().unwrap_or(0)
    }

    fn is_healed(&self) -> bool {
        self.is_in_sync()
            && self.is_unbarred()
            && !self.links.values().any(Link::is_ghost)
            && match self.nodes.iter().filter(|node| node.is_primary()).count() {
                0 => false,
                1 => true,
                _ => self.options.migration_ms == 0,
            }
    }

    fn describe_illness(&self) -> String {
        let mut text = String::from("L1: not healed after all faults have stopped:");
        for node in &self.nodes {
            for volume in self.volumes() {
                if let Err(missing) = self.missing(node.index, volume) {
                    text += &format!(" [node {} lacks {missing}]", node.index);
                }
            }
            match node.status(self.time(node.index)) {
                None => text += &format!(" [node {} is down]", node.index),
                Some(status) => {
                    for device in &status.devices {
                        text += &format!(
                            " [node {} {} {} ({})",
                            node.index, status.role, device.disk_state, device.disk_note
                        );
                    }
                    for peer in &status.connections {
                        text += &format!(", {:?} ({})", peer.connection_state, peer.note);
                        for device in &peer.peer_devices {
                            text += &format!(
                                ", {} {} out of sync {}]",
                                device.replication_state,
                                device.peer_disk_state,
                                device.out_of_sync_bytes
                            );
                        }
                    }
                }
            }
        }
        text
    }
}

/// What has become of a copy.
enum Turn {
    /// A copy that becomes a target by the word of a peer that has just lost its power is a copy no
    /// more; the manual says so.
    GaveWay,
    /// What was incomplete counts as whole.
    Completed { in_order: bool },
}

/// What is out of sync, should everything crash now. What is new to either node is when they meet.
fn marks_on(image: &Image, peer: NodeId, most_bytes: u64) -> Vec<bool> {
    let mut marks = dirty_after_crash(image, peer);
    let most = usize::try_from(most_bytes / 4096).expect("a simulated disk is small");
    marks.resize(most, true);
    marks
}

/// Runs one seed.
///
/// # Errors
/// When something was wrong; the same seed then fails again in the same way.
pub fn run(seed: u64, profile: Profile) -> Result<Report, Box<Failure>> {
    run_without(seed, profile, &Without::default(), false).0
}

/// Runs one seed and notes which events meet which situations.
pub(super) fn run_visiting(seed: u64, profile: Profile) -> Result<Report, Box<Failure>> {
    run_once(seed, profile, &Without::default(), (false, true)).0
}

/// Runs one seed and keeps what happened last.
pub fn run_traced(seed: u64, profile: Profile) -> (Result<Report, Box<Failure>>, Vec<String>) {
    run_without(seed, profile, &Without::default(), true)
}

/// Runs what is left of a seed, and, if `traced`, keeps what happened last.
pub fn run_without(
    seed: u64,
    profile: Profile,
    without: &Without,
    traced: bool,
) -> (Result<Report, Box<Failure>>, Vec<String>) {
    run_once(seed, profile, without, (traced, false))
}

fn run_once(
    seed: u64,
    profile: Profile,
    without: &Without,
    (traced, visits): (bool, bool),
) -> (Result<Report, Box<Failure>>, Vec<String>) {
    let mut random = Random::new(seed);
    random.next();
    let options = Options::draw(profile, &mut random);
    let mut world = World::new(seed, options, without.clone(), random, traced);
    world.report.visited = visits.then(|| Visited::new(profile.name(), seed));
    let text = format!("{:?}", world.options);
    world.note(|| text);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.whole_run()));
    let result = result.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default();
        Err(world.fail(&format!("panic: {text}")))
    });
    let report = world.report.clone();
    (result.map(|()| report), world.take_trace())
}

impl World {
    fn whole_run(&mut self) -> Result<(), Box<Failure>> {
        self.set_up()?;
        self.after_us(1, Happening::Watch);
        self.start_clients();
        self.faults_allowed = true;
        if self.options.early && self.options.errands {
            self.come_early();
        }
        let pause = if self.options.early {
            self.random.magnitude(100, 100_000)
        } else {
            self.random.below(self.options.fault_every_ms * 2_000)
        };
        self.after_us(pause, Happening::Fault);
        self.began = self.now;
        if let Some(after_ms) = self.without.after_ms {
            self.run_until(self.now + after_ms * 1_000_000)?;
        } else {
            self.run_until(self.now + self.options.duration_ms * 1_000_000)?;
            let limit = self.now + SECOND * 600;
            self.run_while(limit, |world| world.report.events < LEAST_EVENTS)?;
        }
        self.heal()?;
        self.report.virtual_ms = self.now / 1_000_000;
        Ok(())
    }
}

/// A run with fewer events than this before it heals would tell little: it goes on.
const LEAST_EVENTS: u64 = 10_000;

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;
