//! What answers the questions of the machines: their power switch, and what uses the device.
//!
//! A machine asks by a file and waits for another (`tests/cluster/outside`).

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Options;
use super::client::Follower;
use super::everywhere::Everywhere;
use super::room::{NODES, Room};

/// How well the power switch works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// It does what it is asked.
    Works,
    /// It does nothing and does not answer.
    Hangs,
    /// It does nothing and says that it cannot.
    Fails,
    /// It does nothing and says that it has.
    Lies,
}

/// What the test and those who answer share.
#[derive(Debug)]
pub(super) struct Board {
    room: Mutex<Room>,
    /// What uses the device where one node is Primary,
    follower: Mutex<Follower>,
    /// and where two are.
    everywhere: Everywhere,
    options: Options,
    /// For each machine whose power is asked for.
    switches: Mutex<[Switch; 2]>,
    /// What the power switch was asked, in order.
    asked: Mutex<Vec<String>>,
    /// Machines that are off and about to boot.
    is_booting: [AtomicBool; 2],
    is_closed: AtomicBool,
}

impl Board {
    pub(super) fn new(room: Room, follower: Follower, options: Options) -> Self {
        Self {
            room: Mutex::new(room),
            follower: Mutex::new(follower),
            everywhere: Everywhere::default(),
            options,
            switches: Mutex::new([Switch::Works; 2]),
            asked: Mutex::default(),
            is_booting: Default::default(),
            is_closed: AtomicBool::new(false),
        }
    }

    /// Answers from now on.
    pub(super) fn serve(self: &Arc<Self>) -> JoinHandle<()> {
        let board = Arc::clone(self);
        thread::spawn(move || {
            let questions = board.room().questions();
            while !board.is_closed() {
                board.look(&questions);
                thread::sleep(POLL);
            }
        })
    }

    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    pub(super) fn room(&self) -> MutexGuard<'_, Room> {
        guard(&self.room)
    }

    pub(super) fn follower(&self) -> MutexGuard<'_, Follower> {
        guard(&self.follower)
    }

    pub(super) fn everywhere(&self) -> &Everywhere {
        &self.everywhere
    }

    pub(super) fn set_switch(&self, node: usize, switch: Switch) {
        guard(&self.switches)[node] = switch;
    }

    pub(super) fn asked(&self) -> Vec<String> {
        guard(&self.asked).clone()
    }

    /// Whether a machine runs, or will without being switched on.
    pub(super) fn is_on(&self, node: usize) -> bool {
        self.is_booting[node].load(Ordering::SeqCst) || self.room().is_on(node)
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Each question has a thread of its own: an answer may take long.
    fn look(self: &Arc<Self>, questions: &Path) {
        for entry in fs::read_dir(questions).into_iter().flatten().flatten() {
            let path = entry.path();
            if path
                .extension()
                .is_none_or(|extension| extension != "question")
            {
                continue;
            }
            let Ok(question) = fs::read_to_string(&path) else {
                continue;
            };
            // Its machine may have taken it back.
            if fs::remove_file(&path).is_err() {
                continue;
            }
            let board = Arc::clone(self);
            thread::spawn(move || {
                let code = board.answer(question.trim());
                let draft = path.with_extension("draft");
                drop(fs::write(&draft, format!("{code}\n")));
                drop(fs::rename(&draft, path.with_extension("answer")));
            });
        }
    }

    fn answer(self: &Arc<Self>, question: &str) -> i32 {
        let mut words = question.split_whitespace();
        let (what, name) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let Some(node) = NODES.iter().position(|node| *node == name) else {
            return 1;
        };
        match what {
            "on" | "off" | "reboot" => {
                guard(&self.asked).push(question.to_owned());
                self.switch_power(what, node)
            }
            "status" => {
                if self.room().is_on(node) {
                    0
                } else {
                    2
                }
            }
            _ if self.options.primaries == 1 => self.follow(what, node),
            "load-start" => {
                let socket = self.room().file(node, "/run/rbd/nbd.sock");
                self.everywhere.start(node, &socket)
            }
            "load-stop" => self.everywhere.stop(node),
            "load-monitor" => self.everywhere.look(node),
            _ => 1,
        }
    }

    fn follow(&self, what: &str, node: usize) -> i32 {
        match what {
            "load-start" => {
                let (socket, is_other_on) = {
                    let mut room = self.room();
                    (room.file(node, "/run/rbd/nbd.sock"), room.is_on(1 - node))
                };
                self.follower().start(node, &socket, is_other_on)
            }
            "load-stop" => self.follower().stop(node),
            "load-monitor" => self.follower().look(node),
            _ => 1,
        }
    }

    fn switch_power(self: &Arc<Self>, what: &str, node: usize) -> i32 {
        loop {
            let switch = guard(&self.switches)[node];
            match switch {
                Switch::Works => break,
                Switch::Fails => return 1,
                Switch::Lies => return 0,
                Switch::Hangs if self.is_closed() => return 1,
                Switch::Hangs => thread::sleep(POLL),
            }
        }
        let told = self.deaths_told(node);
        let mut room = self.room();
        match what {
            "on" => room.switch_on(node),
            "off" => room.cut_power(node),
            _ => {
                self.is_booting[node].store(true, Ordering::SeqCst);
                room.cut_power(node);
                let board = Arc::clone(self);
                thread::spawn(move || board.boot_when_told(node, told));
            }
        }
        0
    }

    /// A machine takes longer to boot than its cluster needs to hear that it was off. One that is
    /// back first is told of its own death, and its Pacemaker ends for good.
    fn boot_when_told(&self, node: usize, told: usize) {
        let begun = Instant::now();
        while self.deaths_told(node) == told && begun.elapsed() < BOOT_DEADLINE {
            thread::sleep(POLL);
        }
        let mut room = self.room();
        if !self.is_closed() {
            room.switch_on(node);
        }
        self.is_booting[node].store(false, Ordering::SeqCst);
    }

    /// How often the other machine's Pacemaker has noted that this one was switched off and on.
    fn deaths_told(&self, node: usize) -> usize {
        let log = {
            let mut room = self.room();
            let is_there = room.is_on(1 - node);
            is_there.then(|| room.file(1 - node, "/var/log/pacemaker/pacemaker.log"))
        };
        let text = log.and_then(|log| fs::read(log).ok()).unwrap_or_default();
        let told = format!("Operation 'reboot' targeting {} ", NODES[node]);
        let text = String::from_utf8_lossy(&text);
        let is_told = |line: &&str| line.contains(&told) && line.contains(": OK");
        text.lines().filter(is_told).count()
    }
}

/// Whoever panicked has said so; the others go on.
fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const POLL: Duration = Duration::from_millis(20);

/// A machine whose cluster says nothing of its death boots all the same.
const BOOT_DEADLINE: Duration = Duration::from_secs(20);
