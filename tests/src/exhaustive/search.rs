//! Every sequence of operations, every moment in it, every crash then; and what it takes to go
//! through them all.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::crash::{Crash, Crashes};
use super::hash::Hash;
use super::operation::Operation;
use super::world::{Order, World};

/// How a sequence is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// What ends next of what is under way.
    pub order: Order,
    /// After how many steps the next operation begins; `None` waits until nothing is under way.
    pub overlap: Option<u64>,
}

/// What to go through.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Longest sequence.
    pub length: usize,
    /// Each sequence is played in each of these ways.
    pub manners: Vec<Manner>,
    /// Threads.
    pub threads: usize,
    /// Stop beginning new sequences after so many states.
    pub enough: usize,
}

/// What was gone through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Sequences played, in any manner.
    pub sequences: u64,
    /// Moments at which nodes were made to crash.
    pub moments: u64,
    /// Crashes, in all their ways.
    pub crashes: u64,
    /// States after them that were not like any before; each was healed and judged.
    pub states: u64,
    /// Events the engines handled on the way.
    pub steps: u64,
}

/// One crash in one sequence: enough to see it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// How the sequence was played.
    pub manner: Manner,
    /// The sequence.
    pub operations: Vec<Operation>,
    /// The moment, counted from the beginning of the sequence.
    pub moment: u64,
    /// The crash; `None` if something was wrong without one.
    pub crash: Option<Crash>,
}

/// A case that went wrong, and how many states had been seen by then.
#[derive(Clone, Debug)]
pub struct Wrong {
    /// Which.
    pub case: Case,
    /// What was wrong.
    pub text: String,
    /// What had been gone through.
    pub tally: Tally,
}

impl Manner {
    /// All orders, one operation after another and overlapping.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut manners = Vec::new();
        for overlap in [None, Some(0), Some(2), Some(6), Some(16), Some(40)] {
            for order in [
                Order::Oldest,
                Order::Newest,
                Order::DisksLast,
                Order::WireLast,
            ] {
                manners.push(Self { order, overlap });
            }
        }
        manners
    }
}

/// Goes through everything.
///
/// # Errors
/// The first case found that goes wrong.
///
/// # Panics
/// When the two nodes cannot even be brought up.
pub fn search(plan: &Plan) -> Result<Tally, Box<Wrong>> {
    let start = World::prepared().expect("two nodes come up");
    let mut beginnings = Vec::new();
    for manner in &plan.manners {
        for first in Operation::ALL {
            beginnings.push((*manner, vec![first], false));
            if plan.length > 1 {
                let second = |second| (*manner, vec![first, second], true);
                beginnings.extend(Operation::ALL.map(second));
            }
        }
    }
    // Spread, so that a search that ends early has seen something of everything.
    beginnings.sort_by_cached_key(|(manner, path, _)| {
        let mut hash = Hash::default();
        hash.mix_debug(&(path.len() > 1, manner, path));
        (path.len(), hash.0)
    });
    let shared = Shared {
        plan,
        start,
        beginnings,
        next: AtomicUsize::new(0),
        seen: std::array::from_fn(|_| Mutex::default()),
        distinct: AtomicUsize::new(0),
        over: AtomicBool::new(false),
        found: Mutex::default(),
    };
    let mut total = Tally::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..plan.threads)
            .map(|_| scope.spawn(|| Worker::new(&shared).work()))
            .collect();
        for worker in workers {
            match worker.join() {
                Ok(tally) => total.add(&tally),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    let found = shared
        .found
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    match found {
        None => Ok(total),
        Some((case, text)) => Err(Box::new(Wrong {
            case,
            text,
            tally: total,
        })),
    }
}

/// Plays a case again and tells everything that happens in it.
///
/// # Panics
/// As [`search`].
#[must_use]
pub fn retell(case: &Case) -> Vec<String> {
    let mut world = World::prepared().expect("two nodes come up");
    world.log = Some(Vec::new());
    let mut player = Player {
        manner: case.manner,
        moment: 0,
    };
    let mut story = Vec::new();
    let mut tell = |world: &mut World, moment: u64, _: Option<usize>| {
        if moment == case.moment {
            if let Some(crash) = case.crash {
                world
                    .log
                    .get_or_insert_default()
                    .push(format!("== {crash:?}"));
                let mut after = Crashes::of(world).after(&crash);
                let end = after.heal();
                story = after.log.take().unwrap_or_default();
                story.push(format!("{end:?}"));
            } else {
                story = world.log.clone().unwrap_or_default();
            }
            return false;
        }
        true
    };
    let (last, before) = case
        .operations
        .split_last()
        .expect("at least one operation");
    for (number, operation) in (1..).zip(before) {
        if !player.play(&mut world, *operation, number, &mut tell) {
            return story;
        }
    }
    let number = u8::try_from(case.operations.len()).unwrap_or(u8::MAX);
    if player.play(&mut world, *last, number, &mut tell) && player.end(&mut world, &mut tell) {
        let end = world.heal();
        story = world.log.take().unwrap_or_default();
        story.push(format!("{end:?}"));
    }
    story
}

/// Plays operations, and stops at every moment.
struct Player {
    manner: Manner,
    moment: u64,
}

/// Looks at a moment; `Some` node is in the middle of what it does. False ends the game.
type Look<'a> = dyn FnMut(&mut World, u64, Option<usize>) -> bool + 'a;

impl Player {
    /// Plays one operation up to where the next may begin.
    fn play(
        &mut self,
        world: &mut World,
        operation: Operation,
        number: u8,
        look: &mut Look<'_>,
    ) -> bool {
        world.midway = Some(Vec::new());
        let began = world.begin(operation, number);
        if !self.look(world, look) || !began {
            return false;
        }
        let mut left = self.manner.overlap.unwrap_or(u64::MAX);
        while left > 0 && world.step(self.manner.order) {
            left -= 1;
            if !self.look(world, look) {
                return false;
            }
        }
        if self.manner.overlap.is_none() {
            world.forgive_power_losses();
        }
        true
    }

    /// Plays on until nothing is under way.
    fn end(&mut self, world: &mut World, look: &mut Look<'_>) -> bool {
        while world.step(self.manner.order) {
            if !self.look(world, look) {
                return false;
            }
        }
        true
    }

    fn look(&mut self, world: &mut World, look: &mut Look<'_>) -> bool {
        let midway = world.midway.take().unwrap_or_default();
        for (mut between, node) in midway {
            self.moment += 1;
            if !look(&mut between, self.moment, Some(node)) {
                return false;
            }
        }
        self.moment += 1;
        let go_on = look(world, self.moment, None);
        world.midway = Some(Vec::new());
        go_on
    }
}

struct Shared<'a> {
    plan: &'a Plan,
    start: World,
    beginnings: Vec<(Manner, Vec<Operation>, bool)>,
    next: AtomicUsize,
    seen: [Mutex<HashSet<u64>>; 64],
    distinct: AtomicUsize,
    over: AtomicBool,
    found: Mutex<Option<(Case, String)>>,
}

impl Shared<'_> {
    fn is_new(&self, fingerprint: u64) -> bool {
        let shard = usize::try_from(fingerprint >> 58).unwrap_or(0);
        let mut seen = self.seen[shard]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let new = seen.insert(fingerprint);
        if new {
            self.distinct.fetch_add(1, Ordering::Relaxed);
        }
        new
    }

    fn found(&self, case: Case, text: String) {
        self.over.store(true, Ordering::Relaxed);
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.get_or_insert((case, text));
    }
}

struct Worker<'a> {
    shared: &'a Shared<'a>,
    tally: Tally,
}

impl<'a> Worker<'a> {
    fn new(shared: &'a Shared<'a>) -> Self {
        Self {
            shared,
            tally: Tally::default(),
        }
    }

    fn work(mut self) -> Tally {
        let shared = self.shared;
        while !shared.over.load(Ordering::Relaxed) {
            let next = shared.next.fetch_add(1, Ordering::Relaxed);
            let Some((manner, operations, deeper)) = shared.beginnings.get(next) else {
                break;
            };
            if shared.distinct.load(Ordering::Relaxed) >= shared.plan.enough {
                break;
            }
            let mut world = shared.start.clone();
            let mut player = Player {
                manner: *manner,
                moment: 0,
            };
            let Some((last, before)) = operations.split_last() else {
                continue;
            };
            let began = (1..).zip(before).all(|(number, operation)| {
                player.play(&mut world, *operation, number, &mut |_, _, _| true)
            });
            if began {
                let mut path = before.to_vec();
                self.descend(&world, &player, &mut path, *last, *deeper);
            }
        }
        self.tally
    }

    /// Plays one more operation after those of `path`, then, if `deeper`, all that may follow.
    fn descend(
        &mut self,
        before: &World,
        player: &Player,
        path: &mut Vec<Operation>,
        operation: Operation,
        deeper: bool,
    ) {
        let mut world = before.clone();
        let mut player = Player { ..*player };
        path.push(operation);
        let number = u8::try_from(path.len()).unwrap_or(u8::MAX);
        let manner = player.manner;
        let mut look = |world: &mut World, moment: u64, dying: Option<usize>| {
            self.look(world, manner, path, moment, dying)
        };
        if player.play(&mut world, operation, number, &mut look) {
            let after = world.clone();
            let moment = player.moment;
            if player.end(&mut world, &mut look) {
                self.tally.sequences += 1;
                let steps = world.steps;
                let healed = world.heal();
                self.tally.steps += world.steps - steps;
                if let Err(text) = healed {
                    self.report(manner, path, player.moment + 1, None, text);
                }
            }
            player.moment = moment;
            if deeper && path.len() < self.shared.plan.length {
                for next in Operation::ALL {
                    if self.shared.over.load(Ordering::Relaxed) {
                        break;
                    }
                    self.descend(&after, &player, path, next, true);
                }
            }
        }
        path.pop();
    }

    /// Lets nodes crash at this moment in every way; false if something is wrong.
    fn look(
        &mut self,
        world: &mut World,
        manner: Manner,
        path: &[Operation],
        moment: u64,
        dying: Option<usize>,
    ) -> bool {
        if let Some(text) = world.failure.take() {
            self.report(manner, path, moment, None, text);
            return false;
        }
        self.tally.moments += 1;
        let mut crashes = Crashes::of(world);
        for crash in crashes.all(dying) {
            self.tally.crashes += 1;
            let fingerprint = crashes.fingerprint(&crash);
            if !self.shared.is_new(fingerprint) {
                continue;
            }
            self.tally.states += 1;
            let mut after = crashes.after(&crash);
            let steps = after.steps;
            let healed = after.heal();
            self.tally.steps += after.steps - steps;
            if let Err(text) = healed {
                self.report(manner, path, moment, Some(crash), text);
                return false;
            }
        }
        !self.shared.over.load(Ordering::Relaxed)
    }

    fn report(
        &self,
        manner: Manner,
        path: &[Operation],
        moment: u64,
        crash: Option<Crash>,
        text: String,
    ) {
        let operations = path.to_vec();
        let case = Case {
            manner,
            operations,
            moment,
            crash,
        };
        self.shared.found(case, text);
    }
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.sequences += other.sequences;
        self.moments += other.moments;
        self.crashes += other.crashes;
        self.states += other.states;
        self.steps += other.steps;
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} sequences, {} moments, {} crashes, {} distinct states after them, {} steps to \
             heal them",
            self.sequences, self.moments, self.crashes, self.states, self.steps
        )
    }
}
