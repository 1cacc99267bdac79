//! Breadth first through the pairs of metadata two nodes can come to have, from freshly created
//! ones on; each pair is made to shake hands, and what is decided is judged (see `watch`).
//!
//! Two states at rest are taken for one if they differ only in names (of generations, processes,
//! links), counts of metadata writes, and in which numbers writes have.

use std::collections::{HashSet, VecDeque};

use super::asking::Wish;
use super::geometry::SECTORS;
use super::hash::Hash;
use super::node::Node;
use super::watch::{Names, Watch};
use super::world::{Order, World};

/// One thing that may happen to two nodes at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// A node's daemon starts, attaches its disk and tries to connect.
    Start(usize),
    /// An administrator's command.
    Say(usize, Word),
    /// A client of a Primary writes a block.
    Write(usize, usize),
    /// A client of a Primary flushes.
    Flush(usize),
    /// The network fails.
    Cut,
    /// It works again.
    Repair,
    /// Time passes.
    Rest,
    /// A node's process dies.
    Kill(usize),
    /// A node loses power: all of its cache, or none.
    LosePower(usize, bool),
    /// Everybody returns; after so many steps of that, this.
    Interrupted(u64, Harm),
}

/// What an administrator may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Become Primary.
    Promote,
    /// Become Primary whatever the data is.
    ForcePromote,
    /// Become Secondary.
    Demote,
    /// Leave the peer.
    Disconnect,
    /// Connect to the peer.
    Connect,
    /// Connect, and give up this node's changes in a split brain.
    ConnectDiscarding,
}

/// What may interrupt a return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// The network fails.
    Cut,
    /// A node's process dies.
    Kill(usize),
    /// A node loses power and all of its cache.
    LosePower(usize),
}

/// What was gone through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PairTally {
    /// Different states of two nodes at rest.
    pub states: u64,
    /// Of those, the ones from which every move was made.
    pub expanded: u64,
    /// Moves made.
    pub moves: u64,
    /// Different pairs of greetings sent.
    pub greetings: u64,
    /// Verdicts judged.
    pub verdicts: u64,
    /// Longest sequence of moves.
    pub depth: usize,
}

/// Moves that ended in something wrong.
#[derive(Clone, Debug)]
pub struct WrongPair {
    /// The moves.
    pub moves: Vec<Move>,
    /// What was wrong.
    pub text: String,
    /// What happened in the last of them, and in the handshake after it.
    pub story: Vec<String>,
    /// What had been gone through.
    pub tally: PairTally,
}

#[derive(Clone, Debug)]
struct State {
    world: World,
    moves: Vec<Move>,
}

/// Goes on until so many different states have been seen, or all.
///
/// # Errors
/// The first wrong verdict.
pub fn explore_pairs(enough: u64) -> Result<PairTally, Box<WrongPair>> {
    let mut search = Search::default();
    let mut queue = VecDeque::new();
    search.take(State::first(), &mut queue)?;
    while let Some(state) = queue.pop_front() {
        if search.tally.states >= enough {
            break;
        }
        search.tally.expanded += 1;
        search.tally.depth = search.tally.depth.max(state.moves.len() + 1);
        for step in moves() {
            let mut next = state.clone();
            next.moves.push(step);
            if next.world.make(step, state.moves.len()) {
                search.tally.moves += 1;
                search.take(next, &mut queue)?;
            }
        }
    }
    Ok(search.tally)
}

/// Makes the moves again and tells what happens in the last of them and in the handshake after it.
#[must_use]
pub fn retell_pair(moves: &[Move]) -> Vec<String> {
    let mut world = State::first().world;
    for (number, step) in moves.iter().enumerate() {
        if number + 1 == moves.len() {
            world.log = Some(Vec::new());
        }
        world.make(*step, number);
    }
    world
        .log
        .get_or_insert_default()
        .push("== everybody returns".into());
    shake_hands(&mut world);
    world.log.unwrap_or_default()
}

#[derive(Debug, Default)]
struct Search {
    seen: HashSet<u64>,
    greetings: HashSet<u64>,
    tally: PairTally,
}

impl Search {
    /// Judges a state if it is new, and keeps it to go on from.
    fn take(&mut self, state: State, queue: &mut VecDeque<State>) -> Result<(), Box<WrongPair>> {
        let mut trial = state.world.clone();
        if trial.failure.is_none() {
            if !self.seen.insert(fingerprint(&trial)) {
                return Ok(());
            }
            self.tally.states += 1;
            shake_hands(&mut trial);
            let watch = trial.watch.as_ref().expect("it is watched");
            self.tally.verdicts += watch.seen;
            self.greetings.extend(watch.fingerprint_of_greetings());
            self.tally.greetings = self.greetings.len() as u64;
        }
        match trial.failure.take() {
            None => queue.push_back(state),
            Some(text) => {
                return Err(Box::new(WrongPair {
                    story: retell_pair(&state.moves),
                    moves: state.moves,
                    text,
                    tally: self.tally,
                }));
            }
        }
        Ok(())
    }
}

/// Everybody returns, and whatever is decided is carried out.
fn shake_hands(world: &mut World) {
    if let Some(watch) = &mut world.watch {
        watch.forget_greetings();
        watch.seen = 0;
    }
    world.join();
    world.run(Order::Oldest);
    world.check_that_both_refuse();
}

impl State {
    fn first() -> Self {
        let mut world = World::new();
        world.nodes[0].disk.preset([0; SECTORS]);
        world.nodes[1].disk.preset([1; SECTORS]);
        for sector in 0..SECTORS {
            world.sectors.issue(sector, 1);
        }
        world.set_up = true;
        world.watch = Some(Box::new(Watch::default()));
        Self {
            world,
            moves: Vec::new(),
        }
    }
}

fn moves() -> Vec<Move> {
    let mut moves = vec![Move::Cut, Move::Repair, Move::Rest];
    for node in 0..2 {
        moves.extend([Move::Start(node), Move::Flush(node), Move::Kill(node)]);
        moves.extend([true, false].map(|all| Move::LosePower(node, all)));
        moves.extend([0, 1, 2].map(|block| Move::Write(node, block)));
        let words = [
            Word::Promote,
            Word::ForcePromote,
            Word::Demote,
            Word::Disconnect,
            Word::Connect,
            Word::ConnectDiscarding,
        ];
        moves.extend(words.map(|word| Move::Say(node, word)));
    }
    for steps in INTERRUPTIONS {
        moves.push(Move::Interrupted(steps, Harm::Cut));
        for node in 0..2 {
            moves.push(Move::Interrupted(steps, Harm::Kill(node)));
            moves.push(Move::Interrupted(steps, Harm::LosePower(node)));
        }
    }
    moves
}

/// After how many steps a return is interrupted.
const INTERRUPTIONS: [u64; 10] = [6, 10, 14, 18, 22, 26, 32, 40, 60, 90];

impl World {
    /// Makes a move and lets everything come to rest; false if it makes no sense.
    fn make(&mut self, step: Move, number: usize) -> bool {
        self.note(|| format!("== {step:?}"));
        let runs = |node: usize| self.nodes[node].engine.is_some();
        match step {
            Move::Start(node) => {
                if runs(node) {
                    return false;
                }
                self.nodes[node].start();
                self.command(node, Wish::Attach);
                self.command(node, Wish::Connect);
            }
            Move::Say(node, word) => {
                if !runs(node) || !self.say(node, word) {
                    return false;
                }
            }
            Move::Write(node, block) => {
                if !self.nodes[node].is_primary() {
                    return false;
                }
                let value = u8::try_from(number + 2).unwrap_or(31).min(31);
                self.write(node, block, value, block == 2);
            }
            Move::Flush(node) => {
                if !self.nodes[node].is_primary() {
                    return false;
                }
                self.flush(node);
            }
            Move::Cut => {
                if !self.network {
                    return false;
                }
                self.network = false;
                self.cut();
            }
            Move::Repair => {
                if self.network {
                    return false;
                }
                self.network = true;
                self.try_meet();
            }
            Move::Rest => self.rest(),
            Move::Kill(node) => {
                if !runs(node) {
                    return false;
                }
                self.harm(Harm::Kill(node));
            }
            Move::LosePower(node, all) => {
                if !self.lose_power(node, all) {
                    return false;
                }
            }
            Move::Interrupted(steps, harm) => {
                if !self.join() {
                    return false;
                }
                for _ in 0..steps {
                    if !self.step(Order::Oldest) {
                        return false;
                    }
                }
                self.harm(harm);
            }
        }
        self.run(Order::Oldest);
        self.forgive_power_losses();
        self.settle_orders();
        true
    }

    fn say(&mut self, node: usize, word: Word) -> bool {
        let primary = self.nodes[node].is_primary();
        let wish = match word {
            Word::Promote | Word::ForcePromote if primary => return false,
            Word::Demote if !primary => return false,
            Word::Disconnect if self.is_alone(node) => return false,
            Word::Connect | Word::ConnectDiscarding if !self.is_alone(node) => return false,
            Word::Promote => Wish::Promote,
            Word::ForcePromote => Wish::ForcePromote,
            Word::Demote => Wish::Demote,
            Word::Disconnect => Wish::Disconnect,
            Word::Connect => Wish::Connect,
            Word::ConnectDiscarding => Wish::ConnectDiscarding,
        };
        let promotes = matches!(wish, Wish::Promote | Wish::ForcePromote);
        let rival = self.nodes[1 - node].is_primary();
        let harmless = self.may_promote(node) && !rival;
        let discards = wish == Wish::ConnectDiscarding;
        if ((promotes && !harmless) || discards)
            && let Some(watch) = &mut self.watch
        {
            watch.ordered = true;
        }
        self.command(node, wish);
        true
    }

    fn lose_power(&mut self, node: usize, all: bool) -> bool {
        let disk = self.nodes[node].disk.clone();
        let ends = disk.open_ends(true);
        let ways: u64 = ends.iter().map(super::disk::Open::ways).product();
        // Without a cache to keep or to lose, both are the same.
        if ways == 1 && (!all || self.nodes[node].engine.is_none()) {
            return false;
        }
        let way = if all { 0 } else { ways - 1 };
        self.lose(node, disk.after_crash(true, &ends, way), true);
        true
    }

    fn harm(&mut self, harm: Harm) {
        match harm {
            Harm::Cut => {
                self.network = false;
                self.cut();
            }
            Harm::Kill(node) | Harm::LosePower(node) => {
                let power = harm == Harm::LosePower(node);
                let disk = self.nodes[node].disk.clone();
                let ends = disk.open_ends(power);
                self.lose(node, disk.after_crash(power, &ends, 0), power);
            }
        }
    }
}

/// What tells a state at rest from others.
fn fingerprint(world: &World) -> u64 {
    let now = world.time();
    let mut hash = Hash::default();
    let mut names = Names::default();
    hash.mix(u64::from(world.network));
    hash.mix(u64::from(
        world.watch.as_ref().is_some_and(|watch| watch.ordered),
    ));
    for node in &world.nodes {
        hash.mix_debug(&(node.role(), node.disk_state(now), node.connection(now)));
        hash.mix_debug(&(node.replication(now), node.lost_power));
        hash_metadata(node, &mut names, &mut hash);
    }
    for sector in 0..SECTORS {
        let [one, other] = [0, 1].map(|node: usize| &world.nodes[node].disk);
        let (lo, floor) = world.sectors.bounds(sector);
        let values = [
            one.content(sector),
            other.content(sector),
            one.durable_contents()[sector],
            other.durable_contents()[sector],
            lo,
            floor,
        ];
        // Only their order counts.
        let ranks = values.map(|value| values.iter().filter(|other| **other < value).count());
        hash.mix_debug(&ranks);
    }
    hash.0
}

fn hash_metadata(node: &Node, names: &mut Names, hash: &mut Hash) {
    let durable = &node.durable;
    hash.mix(u64::from(durable.marks));
    let block = &durable.image.superblock;
    hash.mix_debug(&block.flags);
    hash.mix(names.of(block.generation) as u64);
    for id in block.history.iter().filter(|id| !id.is_none()) {
        hash.mix(names.of(*id) as u64);
    }
    let slot = &block.peers[0];
    hash.mix(names.of(slot.bitmap_generation) as u64);
    hash.mix_debug(&slot.flags);
    hash.mix(u64::from(block.boot_id == node.boot_id()));
}
