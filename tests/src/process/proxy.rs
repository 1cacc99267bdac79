//! A wire that can be cut, held up and damaged: a relay for TCP connections in this process.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The wire to one node. It ends with the test.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    mode: AtomicU8,
    /// What is to be done to a byte that passes.
    damage: Mutex<Option<Damage>>,
    relayed: AtomicU64,
    damaged: AtomicU64,
    streams: Mutex<Vec<TcpStream>>,
}

#[derive(Clone, Copy, Debug)]
struct Damage {
    /// Bytes still to pass undamaged.
    after: u64,
    kind: DamageKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DamageKind {
    /// One bit is flipped.
    Flip,
    /// The connection ends in the middle of whatever is being sent.
    CutOff,
}

impl Proxy {
    /// Relays what comes to a free port of `listen` to `target`.
    ///
    /// # Panics
    /// When it cannot listen.
    #[must_use]
    pub fn start(listen: IpAddr, target: SocketAddr) -> Self {
        let listener = TcpListener::bind((listen, 0)).expect("every host has loopback addresses");
        let address = listener.local_addr().expect("a listener has an address");
        listener
            .set_nonblocking(true)
            .expect("a listener can be polled");
        let state = Arc::new(State {
            mode: AtomicU8::new(PASS),
            damage: Mutex::new(None),
            relayed: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
            streams: Mutex::new(Vec::new()),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || accept(&listener, target, &shared));
        Self { address, state }
    }

    /// Where to connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every connection and lets no new one through.
    pub fn cut(&self) {
        self.state.mode.store(CUT, Ordering::SeqCst);
        self.state.end_all();
    }

    /// Ends every connection; new ones are let through.
    pub fn reset(&self) {
        self.state.end_all();
    }

    /// Keeps every connection open and moves nothing.
    pub fn stall(&self) {
        self.state.mode.store(STALL, Ordering::SeqCst);
    }

    /// Ends a cut or a stall, and forgets damage that has not been done yet.
    pub fn mend(&self) {
        *self.state.lock_damage() = None;
        self.state.mode.store(PASS, Ordering::SeqCst);
    }

    /// Flips one bit of what passes, `after` bytes from now.
    pub fn flip_a_bit(&self, after: u64) {
        *self.state.lock_damage() = Some(Damage {
            after,
            kind: DamageKind::Flip,
        });
    }

    /// Ends the connection that carries the byte `after` bytes from now, just before it.
    pub fn cut_off(&self, after: u64) {
        *self.state.lock_damage() = Some(Damage {
            after,
            kind: DamageKind::CutOff,
        });
    }

    /// How many times damage has been done.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.state.damaged.load(Ordering::SeqCst)
    }

    /// How many bytes have passed.
    #[must_use]
    pub fn relayed(&self) -> u64 {
        self.state.relayed.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.mode.store(END, Ordering::SeqCst);
        self.state.end_all();
    }
}

impl State {
    fn mode(&self) -> u8 {
        self.mode.load(Ordering::SeqCst)
    }

    fn lock_damage(&self) -> MutexGuard<'_, Option<Damage>> {
        self.damage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_streams(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end_all(&self) {
        for stream in self.lock_streams().drain(..) {
            // It may have ended by itself.
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    /// Does what is due to these bytes; returns how many may pass, or `None` for all.
    fn damage(&self, bytes: &mut [u8]) -> Option<usize> {
        let mut slot = self.lock_damage();
        let damage = slot.as_mut()?;
        let length = bytes.len() as u64;
        if damage.after >= length {
            damage.after -= length;
            return None;
        }
        let at = usize::try_from(damage.after).unwrap_or(0);
        let kind = damage.kind;
        *slot = None;
        self.damaged.fetch_add(1, Ordering::SeqCst);
        match kind {
            DamageKind::Flip => {
                bytes[at] ^= 0x10;
                None
            }
            DamageKind::CutOff => Some(at),
        }
    }
}

fn accept(listener: &TcpListener, target: SocketAddr, state: &Arc<State>) {
    while state.mode() != END {
        let Ok((caller, _)) = listener.accept() else {
            thread::sleep(POLL);
            continue;
        };
        if state.mode() == CUT {
            continue;
        }
        let Ok(server) = TcpStream::connect_timeout(&target, Duration::from_secs(5)) else {
            continue;
        };
        for stream in [&caller, &server] {
            drop(stream.set_nonblocking(false));
            drop(stream.set_nodelay(true));
            drop(stream.set_read_timeout(Some(POLL)));
            if let Ok(handle) = stream.try_clone() {
                state.lock_streams().push(handle);
            }
        }
        if state.mode() == CUT {
            state.end_all();
            continue;
        }
        for (from, to) in [(&caller, &server), (&server, &caller)] {
            let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else {
                continue;
            };
            let state = Arc::clone(state);
            thread::spawn(move || relay(from, to, &state));
        }
    }
}

fn relay(mut from: TcpStream, mut to: TcpStream, state: &State) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        match state.mode() {
            STALL => {
                thread::sleep(POLL);
                continue;
            }
            PASS => {}
            _ => break,
        }
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                continue;
            }
            Err(_) => break,
        };
        // What was read just before a stall began is held up as well.
        while state.mode() == STALL {
            thread::sleep(POLL);
        }
        let bytes = &mut buffer[..count];
        let passes = state.damage(bytes);
        if to.write_all(&bytes[..passes.unwrap_or(count)]).is_err() || passes.is_some() {
            break;
        }
        state.relayed.fetch_add(count as u64, Ordering::SeqCst);
    }
    for stream in [&from, &to] {
        drop(stream.shutdown(Shutdown::Both));
    }
}

const PASS: u8 = 0;
const STALL: u8 = 1;
const CUT: u8 = 2;
const END: u8 = 3;

const POLL: Duration = Duration::from_millis(20);
