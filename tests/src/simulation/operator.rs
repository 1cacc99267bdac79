//! The commands of an operator who knows everything: he promotes a node only while the other one
//! is no Primary and has nothing this one lacks, as fencing would make sure of.

use rbd_engine::Command;
use rbd_protocol::control::Refusal;
use rbd_protocol::ids::GenerationId;
use rbd_protocol::state::{ConnectionState, DiskState, ReplicationState, Role};

use super::errands::Errand;
use super::fencing::has_data;
use super::node::{Node, device_of, number, peer_device_of};
use super::scrub::{Part, end_command, verify_command};
use super::world::{Happening, World};

/// What a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Attach(usize),
    Detach(usize),
    ForceDetach(usize),
    Connect,
    Disconnect,
    Promote,
    /// To promote the node if that is still safe when the order comes to be given.
    PromoteWithCare,
    ForcePromote,
    Demote,
    /// To become Primary beside the other one, for a while.
    Migrate,
    /// The time of a migration is over: demotion, if nobody uses the node.
    EndMigration,
    Stop,
    /// The process ends as soon as nothing is in flight.
    Exit,
    SkipSync(usize),
    NewGeneration(usize),
    ConnectDiscarding,
    Openers(usize, u32),
    Errand(Errand),
    /// Both copies are compared, and made equal or not.
    Verify {
        volume: usize,
        part: Part,
        repair: bool,
    },
    /// The comparison that is running is ended.
    EndVerify(usize),
    /// The volume is to grow as far as there is room.
    Resize(usize),
}

impl World {
    pub(super) fn start_node(&mut self, node: usize) {
        if self.nodes[node].engine.is_some() {
            return;
        }
        self.back_up(node);
        self.note(|| format!("node {node} starts"));
        let seed = self.random.next();
        self.nodes[node].start(seed);
        let life = self.nodes[node].life;
        let mut wishes: Vec<Wish> = self.volumes().map(Wish::Attach).collect();
        let at = if self.random.percent(80) {
            wishes.len()
        } else {
            0
        };
        wishes.insert(at, Wish::Connect);
        let mut delay = self.random.magnitude(10, 20_000);
        for wish in wishes {
            self.after_us(delay, Happening::Order { node, life, wish });
            delay += self.random.magnitude(10, 50_000);
        }
    }

    pub(super) fn order(&mut self, node: usize, wish: Wish) {
        if self.nodes[node].engine.is_none() {
            return; // it may have died of the order before
        }
        self.note(|| format!("order to {node}: {wish:?}"));
        let command = match wish {
            Wish::Attach(volume) => match self.attach(node, volume) {
                Some(command) => command,
                None => return,
            },
            Wish::Detach(volume) | Wish::ForceDetach(volume) => Command::Detach {
                volume: number(volume),
                force: matches!(wish, Wish::ForceDetach(_)),
            },
            Wish::Connect => Command::Connect {
                peer: None,
                discard_my_data: false,
                tentative: false,
            },
            Wish::ConnectDiscarding => {
                if !self.nodes[node].is_primary() {
                    for volume in &mut self.nodes[node].volumes {
                        volume.gives_up = true;
                    }
                }
                Command::Connect {
                    peer: None,
                    discard_my_data: true,
                    tentative: false,
                }
            }
            Wish::NewGeneration(volume) | Wish::SkipSync(volume) => Command::NewGeneration {
                volume: number(volume),
                clear_bitmap: matches!(wish, Wish::SkipSync(_)),
            },
            // By force it is a loss; else the two part in order, if not both are Primary.
            Wish::Disconnect => Command::Disconnect {
                peer: None,
                force: self.random.percent(30),
            },
            Wish::Promote | Wish::Migrate => self.promote(node, wish),
            Wish::ForcePromote => Command::Promote { force: true },
            Wish::Demote | Wish::EndMigration => self.demote(node, wish),
            Wish::Stop => {
                self.watch_order(node, None);
                self.begin_demotion(node);
                self.close_all(node);
                Command::Stop
            }
            Wish::Verify {
                volume,
                part,
                repair,
            } => verify_command(volume, part, repair),
            Wish::EndVerify(volume) => end_command(volume),
            Wish::Resize(volume) => Command::Resize {
                volume: number(volume),
                assume_clean: self.is_clean(volume),
            },
            Wish::Errand(errand) => match self.errand_command(node, errand) {
                Some(command) => command,
                None => return,
            },
            Wish::PromoteWithCare => {
                if self.may_promote_alone(node) {
                    self.order(node, Wish::Promote);
                }
                return;
            }
            Wish::Exit => {
                self.exit(node);
                return;
            }
            Wish::Openers(volume, count) => {
                self.openers(node, volume, count);
                return;
            }
        };
        self.command(node, wish, command);
    }

    fn promote(&mut self, node: usize, wish: Wish) -> Command {
        self.watch_order(node, Some(Role::Primary));
        self.nodes[node].was_primary = self.nodes[node].is_primary();
        match wish {
            Wish::Migrate => Command::Migrate {
                ms: self.options.migration_ms,
            },
            _ => Command::Promote { force: false },
        }
    }

    /// When a migration is over, only a node that nobody uses is demoted.
    fn demote(&mut self, node: usize, wish: Wish) -> Command {
        self.watch_order(node, Some(Role::Secondary));
        self.begin_demotion(node);
        if wish == Wish::Demote {
            self.close_all(node);
        }
        Command::Demote { force: false }
    }

    fn begin_demotion(&mut self, node: usize) {
        self.nodes[node].being_demoted = self.nodes[node].is_primary();
        self.nodes[node].was_beside = self.nodes[1 - node].is_primary();
    }

    /// The command to take the disk, if it can be taken now.
    fn attach(&mut self, node: usize, volume: usize) -> Option<Command> {
        if self.nodes[node][volume].attached || self.now < self.nodes[node][volume].disk.gone_until
        {
            return None;
        }
        // A disk is let go of when its last operation has finished.
        if !self.nodes[node][volume].disk.is_idle() {
            return None;
        }
        if !self.take_end(node, volume) {
            return None;
        }
        match self.nodes[node][volume].attachable() {
            Ok(disk) => {
                self.watch_attach(node, &disk.image);
                // The last copy there is has to be taken as it is: whoever attaches it again has
                // seen to it that it works.
                if !self.survives_with_everything(1 - node, volume) {
                    self.nodes[node][volume].disk.forgive();
                }
                self.nodes[node][volume].attached = true;
                Some(Command::Attach {
                    volume: number(volume),
                    disk,
                })
            }
            Err(error) => {
                self.violation(format!("node {node}: cannot attach: {error}"));
                None
            }
        }
    }

    fn exit(&mut self, node: usize) {
        let stopped = self.nodes[node]
            .engine
            .as_ref()
            .is_some_and(rbd_engine::Resource::is_stopped);
        if stopped {
            if !self.is_disk_idle(node) {
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
        if result.is_ok() {
            self.look_at_answer(node, wish);
        }
        match (wish, result) {
            (Wish::Promote | Wish::ForcePromote | Wish::Migrate, Ok(_)) => {
                self.report.promotions += 1;
                self.note_fork(node, wish);
                // One that is Primary stays it, also while its clients wait for data.
                if wish != Wish::ForcePromote && !self.nodes[node].was_primary {
                    self.check_usable(node);
                }
                self.check_roles();
                self.watch_promoted(node);
                self.aim_at_promoted(node);
                let last = self.last_primary.replace(node);
                self.report.failovers += u64::from(last.is_some_and(|last| last != node));
                for volume in self.volumes() {
                    let wish = Wish::Openers(volume, 1);
                    self.after_us(1, Happening::Order { node, life, wish });
                }
            }
            (Wish::NewGeneration(_), Ok(_)) => self.is_forked = true,
            (Wish::Verify { volume, .. }, Ok(_)) => self.verify_began(node, volume),
            (Wish::EndVerify(volume), Ok(_)) => self.records[volume].scrub.forget(node),
            (Wish::Stop, Ok(_)) => {
                self.watch_stopped(node);
                let wish = Wish::Exit;
                self.after_us(1, Happening::Order { node, life, wish });
            }
            (Wish::Detach(volume) | Wish::ForceDetach(volume), Ok(_)) => {
                self.nodes[node][volume].disk_failed = true;
            }
            // The disk of a Primary that has failed must not be taken again.
            (Wish::Attach(volume), Err(_))
                if self.nodes[node][volume].disk_failed || self.nodes[node].is_primary() =>
            {
                self.nodes[node][volume].attached = false;
            }
            (Wish::Attach(_), Err(refusal))
                if refusal.code != rbd_protocol::control::RefusalCode::StateTransient =>
            {
                self.violation(format!("node {node}: attach refused: {refusal:?}"));
            }
            (Wish::Attach(volume), Err(_)) => self.nodes[node][volume].attached = false,
            (Wish::Attach(volume), Ok(_)) => {
                self.nodes[node][volume].disk_failed = false;
                self.nodes[node][volume].held_disk = true;
                self.nodes[node].spoken.takes_disk(volume);
                self.nodes[node][volume].was_target = false;
            }
            _ => {}
        }
    }

    /// The operator's round: bring up what is down, have one Primary.
    pub(super) fn watch(&mut self) {
        let pause = if self.faults_allowed {
            self.options.watch_ms
        } else {
            100
        };
        self.after_us(pause * 1_000, Happening::Watch);
        self.check_at_leisure();
        self.check_patience();
        if !self.set_up || self.changes_role(0) || self.changes_role(1) {
            return;
        }
        for node in 0..2 {
            if !self.faults_allowed {
                self.reconnect(node);
                continue;
            }
            for volume in self.volumes() {
                if self.nodes[node][volume].disk_failed && self.random.percent(10) {
                    self.order(node, Wish::Attach(volume));
                }
            }
        }
        if !self.faults_allowed && self.options.careless {
            self.mend_fork();
            return;
        }
        if self.options.heedless && self.are_connected() {
            let first = usize::from(self.random.percent(50));
            self.order(first, Wish::Promote);
            if self.random.percent(70) {
                self.order_soon(1 - first, Wish::Promote, 30_000);
            } else if self.random.percent(30) {
                self.outlive_consent(1 - first);
            }
            return;
        }
        if self.options.dual && (self.demote_without_data() || self.have_second()) {
            return;
        }
        let rivals = self.rivals();
        if let Some(primary) = self.nodes.iter().position(Node::is_primary)
            && !rivals
        {
            let now = self.time(primary);
            let mut volumes = self.volumes();
            let serves = volumes.all(|volume| self.nodes[primary].is_up_to_date(volume, now));
            // Mostly its peer goes on serving its clients.
            if !serves && (!self.faults_allowed || self.random.percent(5)) {
                self.order(primary, Wish::Demote);
            }
            return;
        }
        let first = usize::from(self.random.percent(50));
        for node in [first, 1 - first] {
            if self.may_promote(node) {
                self.order(node, Wish::Promote);
                // Two operators at once. Without fencing only the link keeps both nodes from being
                // promoted, so only where nothing can happen to that.
                if self.options.rivals && self.is_in_sync() {
                    self.order_soon(1 - node, Wish::Promote, 10_000);
                }
                return;
            }
        }
    }

    /// There is one Primary, and all is well: mostly there is to be another.
    fn have_second(&mut self) -> bool {
        let primaries = [0, 1].map(|node: usize| self.nodes[node].is_primary());
        let Some(second) = primaries.iter().position(|is_primary| !is_primary) else {
            self.move_on();
            return primaries[0];
        };
        let wanted = primaries[1 - second] && self.is_connected(0) && self.is_connected(1);
        let is_for_good = self.options.migration_ms == 0;
        let wanted = wanted && (is_for_good || self.faults_allowed);
        if !wanted || self.is_barred(second) || !self.random.percent(50) {
            return false;
        }
        let wish = if is_for_good {
            Wish::Promote
        } else {
            Wish::Migrate
        };
        self.order(second, wish);
        true
    }

    /// What was moved is used on one of the two nodes only from here on.
    fn move_on(&mut self) {
        let percent = if self.faults_allowed { 30 } else { 100 };
        if self.options.migration_ms > 0 && self.random.percent(percent) {
            let from = usize::from(self.random.percent(50));
            self.close_all(from);
        }
    }

    /// One of two Primaries has no data to give its clients, and mostly soon will have: when no
    /// more goes wrong, or somebody tires, it is to begin anew.
    fn demote_without_data(&mut self) -> bool {
        if !self.nodes.iter().all(Node::is_primary) {
            return false;
        }
        let lacks = |node: &usize| {
            let status = self.nodes[*node].status(self.time(*node));
            status.is_some_and(|status| !has_data(&status))
        };
        let Some(node) = (0..2).find(lacks) else {
            return false;
        };
        if self.faults_allowed && !self.random.percent(5) {
            return false;
        }
        self.order(node, Wish::Demote);
        true
    }

    /// The node's consent to the promotion of the other one has run out by its own clock when it is
    /// promoted itself, and the other one is about to be Primary.
    fn outlive_consent(&mut self, node: usize) {
        let delay = self.random.magnitude(100, 100_000);
        let ahead = (CONSENT_MS + 100) * 1_000_000;
        self.after_us(delay, Happening::ClockJump { node, ahead });
        let (life, wish) = (self.nodes[node].life, Wish::Promote);
        self.after_us(delay + 1, Happening::Order { node, life, wish });
    }

    /// Gives the order at some time within the next so many microseconds.
    pub(super) fn order_soon(&mut self, node: usize, wish: Wish, most_us: u64) {
        let life = self.nodes[node].life;
        let delay = self.random.magnitude(1, most_us);
        self.after_us(delay, Happening::Order { node, life, wish });
    }

    /// Whether a promotion nobody thought about has made two histories of one.
    fn note_fork(&mut self, node: usize, wish: Wish) {
        if !self.set_up || !self.options.careless {
            return;
        }
        let other = 1 - node;
        let is_best =
            |volume| self.holds_everything(node, volume) && !self.is_newer(other, node, volume);
        let harmless =
            wish == Wish::Promote && self.volumes().all(is_best) && !self.nodes[other].is_primary();
        self.is_forked |= !harmless;
    }

    /// Both copies are identical and nobody is writing: whatever was forked is one history again.
    pub(super) fn join_fork(&mut self) {
        if !self.is_forked || !self.set_up {
            return;
        }
        self.note(|| "one history again".into());
        self.is_forked = false;
        for (volume, record) in self.records.iter_mut().enumerate() {
            let disk = &self.nodes[0][volume].disk;
            record.registers.begin_anew(|sector| disk.content(sector));
        }
    }

    /// Ends a split brain, and whatever else careless commands have led to: the first node's data
    /// counts. While that is being copied there is nothing to mend: who connects anew then, again
    /// and again, lets no resync come to its end, for one of everything begins from the start.
    fn mend_fork(&mut self) {
        let primaries = [0, 1].map(|node: usize| self.nodes[node].is_primary());
        if primaries[1] {
            self.order(1, Wish::Demote);
        } else if !primaries[0] {
            self.order(0, Wish::ForcePromote);
        } else if !self.is_in_sync() && !self.is_being_copied() && self.random.percent(3) {
            self.is_forked = true;
            if self.are_unrelated() {
                for volume in self.volumes() {
                    self.replace_disk(1, volume);
                }
                return;
            }
            self.order(1, Wish::Disconnect);
            let life = self.nodes[1].life;
            let wish = Wish::ConnectDiscarding;
            self.after_us(
                50_000,
                Happening::Order {
                    node: 1,
                    life,
                    wish,
                },
            );
        }
    }

    /// Whether the second node is being given the data of the first.
    fn is_being_copied(&self) -> bool {
        let [one, other] = &self.nodes;
        self.volumes().any(|volume| {
            one[volume].replication == ReplicationState::SyncSource
                && other[volume].replication == ReplicationState::SyncTarget
        })
    }

    /// Whether the nodes have no generation in common: more have begun on both since they had one
    /// than a disk remembers (D8). Their data is not joined then, whatever is ordered (D3).
    fn are_unrelated(&self) -> bool {
        let fresh = GenerationId::JUST_CREATED.0;
        self.volumes().any(|volume| {
            let [one, other] = [0, 1].map(|node: usize| &self.nodes[node][volume]);
            let known = |generation: &u64| other.generations.contains(generation);
            let is_fresh = [one, other].map(|node| node.generations.first() == Some(&fresh));
            !one.generations.iter().any(known) && !is_fresh.contains(&true)
        })
    }

    fn reconnect(&mut self, node: usize) {
        let Some(status) = self.nodes[node].status(self.time(node)) else {
            return;
        };
        let alone = status
            .connections
            .iter()
            .any(|peer| peer.connection_state == ConnectionState::StandAlone);
        let busy = self.calls.values().any(|(of, _)| *of == node);
        if alone && !busy {
            // A node that was fenced while it had begun to be the source of a resync has a
            // generation of its own. Nothing was promised under it: the fenced node gives way.
            let gives_way = self.is_barred(node) && !self.nodes[node].is_primary();
            let wish = if gives_way {
                Wish::ConnectDiscarding
            } else {
                Wish::Connect
            };
            self.order(node, wish);
        }
        for volume in self.volumes() {
            if !self.nodes[node][volume].attached && !busy {
                self.order(node, Wish::Attach(volume));
            }
        }
    }

    /// Whether promoting the node cannot take anything back: the other has nothing it lacks.
    pub(super) fn may_promote(&self, node: usize) -> bool {
        let Some(status) = self.nodes[node].status(self.time(node)) else {
            return false;
        };
        if status.role == Role::Primary {
            return false;
        }
        if self.options.fencing.is_some() {
            return !self.is_barred(node);
        }
        // The engine refuses where it sees that anything is missing on one of its disks.
        let is_refused = |volume: usize| {
            let device = device_of(&status, volume);
            let is_whole = device.is_none_or(|one| one.disk_state == DiskState::UpToDate);
            self.nodes[node][volume].attached && !is_whole
        };
        let is_safe = |volume: usize| {
            // Without a disk it is the peer's data that clients would see.
            let (node, other) = if self.nodes[node][volume].attached {
                (node, 1 - node)
            } else {
                (1 - node, node)
            };
            self.holds_everything(node, volume)
                && !self.is_newer(other, node, volume)
                && !self.has_begun_another(other, node, volume)
        };
        self.volumes().any(is_refused) || self.volumes().all(is_safe)
    }

    /// Whether `one` goes on with a generation that `other` has never heard of. Its disk may not
    /// have it yet, and never get it; nobody could tell who has not seen that disk.
    fn has_begun_another(&self, one: usize, other: usize, volume: usize) -> bool {
        let Some(status) = self.nodes[one].status(self.time(one)) else {
            return false;
        };
        let known = &self.nodes[other][volume].generations;
        // A disk that has been let go of may still be taking what was last on its way to it.
        let last = GenerationId(self.nodes[one][volume].last_generation);
        let shown = device_of(&status, volume).map(|device| device.current_generation);
        shown
            .into_iter()
            .chain([last])
            .any(|current| current.names_data() && !known.contains(&current.0))
    }

    /// The same where neither a link nor fencing may be there to keep the other node from being
    /// promoted too: it is no Primary, and nobody has told it to become one.
    pub(super) fn may_promote_alone(&self, node: usize) -> bool {
        let other = 1 - node;
        self.may_promote(node) && !self.nodes[other].is_primary() && !self.changes_role(other)
    }

    /// Whether the node has been told to be no Primary any more and has not answered yet.
    pub(super) fn is_being_demoted(&self, node: usize) -> bool {
        let mut calls = self.calls.values();
        let ends = |wish: &Wish| matches!(wish, Wish::Demote | Wish::EndMigration | Wish::Stop);
        calls.any(|(of, wish)| *of == node && ends(wish))
    }

    /// Whether the node has been told to change its role and has not answered yet.
    fn changes_role(&self, node: usize) -> bool {
        let is_role = |wish: &Wish| {
            matches!(
                wish,
                Wish::Promote
                    | Wish::ForcePromote
                    | Wish::Migrate
                    | Wish::Demote
                    | Wish::EndMigration
            )
        };
        let mut calls = self.calls.values();
        calls.any(|(of, wish)| *of == node && is_role(wish))
    }

    /// Whether the generation durable on `one` is one that `other` has never heard of.
    pub(super) fn is_newer(&self, one: usize, other: usize, volume: usize) -> bool {
        let current = self.nodes[one][volume].generations.first();
        current.is_some_and(|current| !self.nodes[other][volume].generations.contains(current))
    }

    pub(super) fn holds_everything(&self, node: usize, volume: usize) -> bool {
        self.missing(node, volume).is_ok()
    }

    /// Something acknowledged that the node's disk does not hold.
    pub(super) fn missing(&self, node: usize, volume: usize) -> Result<(), String> {
        if self.is_forked {
            return Ok(()); // there is no one course of events that everything could be held against
        }
        let disk = &self.nodes[node][volume].disk;
        self.records[volume]
            .registers
            .is_current(|sector| disk.content(sector))
    }

    /// Whether both nodes say that both replicas of each volume are identical.
    pub(super) fn is_in_sync(&self) -> bool {
        self.volumes().all(|volume| self.is_in_sync_of(volume))
    }

    /// The same of one volume.
    pub(super) fn is_in_sync_of(&self, volume: usize) -> bool {
        self.nodes.iter().all(|node| {
            node.status(self.time(node.index)).is_some_and(|status| {
                let own = device_of(&status, volume);
                let mut peers = status.connections.iter();
                own.is_some_and(|device| device.disk_state == DiskState::UpToDate)
                    && peers.all(|peer| peer.connection_state == ConnectionState::Connected)
                    && peer_device_of(&status, volume).is_some_and(|device| {
                        device.replication_state == ReplicationState::Established
                            && device.peer_disk_state == DiskState::UpToDate
                            && device.out_of_sync_bytes == 0
                    })
            })
        })
    }
}

/// How long a consent to a promotion lasts.
const CONSENT_MS: u64 = 8_000;
