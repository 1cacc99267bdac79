//! A peer that is dead, and one that is only slow, on virtual time.

use rbd_protocol::peer::Packet;
use rbd_protocol::state::ConnectionState;

use super::{Bench, LINK, PEER};
use crate::{Action, DiskRequest, Event, LinkLoss};

/// The finest step time is looked at in.
const STEP_MS: u64 = 10;

impl Bench {
    /// Whether the link has been given up.
    fn gave_up(&self) -> bool {
        self.asked.iter().any(|action| {
            matches!(action, Action::DropLink { peer, link, loss }
                if (*peer, *link, *loss) == (PEER, LINK, LinkLoss::Timeout))
        })
    }

    /// Lets time pass until the link is given up, or this limit; returns how much has passed.
    fn silence(&mut self, limit_ms: u64, mut meanwhile: impl FnMut(&mut Self, u64)) -> u64 {
        let mut passed = 0;
        while passed < limit_ms && !self.gave_up() {
            passed += STEP_MS;
            self.wait_ms(STEP_MS);
            meanwhile(self, passed);
        }
        passed
    }
}

#[test]
fn a_dead_peer_is_noticed_within_three_seconds_idle_or_not() {
    for busy in [false, true] {
        let mut bench = Bench::primary();
        let passed = bench.silence(60_000, |bench, passed| {
            if busy && passed % 100 == 0 {
                bench.write(passed * 4096);
                bench.write_metadata();
            }
        });
        assert!(bench.gave_up());
        assert!(passed <= 3_000 + 2 * STEP_MS, "{passed} ms, busy: {busy}");
        let state = bench.engine.status(bench.now).connections[0].connection_state;
        assert_eq!(state, ConnectionState::Timeout);
    }
}

#[test]
fn a_link_on_which_anything_arrives_lives_however_late_pings_are() {
    let mut bench = Bench::primary();
    let passed = bench.silence(60_000, |bench, passed| {
        if passed % 2_500 == 0 {
            bench.packet(Packet::Ping { id: passed }); // never an answer to ours
        }
    });
    assert_eq!(passed, 60_000);
    assert!(!bench.gave_up());
}

#[test]
fn an_answer_that_takes_almost_the_ping_timeout_is_in_time() {
    let mut bench = Bench::primary();
    let mut due = None;
    bench.silence(60_000, |bench, passed| {
        for packet in bench.sent() {
            if let Packet::Ping { id } = packet {
                due = Some((passed + 1_900, id));
            }
        }
        if let Some((at, id)) = due
            && at <= passed
        {
            due = None;
            bench.packet(Packet::PingAck { id });
        }
    });
    assert!(!bench.gave_up());
}

#[test]
fn a_peer_that_lives_and_finishes_nothing_is_given_up_after_ko_count_timeouts() {
    for flush in [false, true] {
        let mut bench = Bench::primary();
        if flush {
            bench.flush();
        } else {
            bench.write(0);
            bench.write_metadata();
            bench.disk(DiskRequest::Write { fua: false }, Ok(()));
        }
        let passed = bench.silence(120_000, |bench, passed| {
            if passed % 500 == 0 {
                bench.packet(Packet::Ping { id: passed });
            }
        });
        assert!(bench.gave_up());
        // 6 s times 7, and the next time anything is looked at.
        assert!(
            (42_000..=43_100).contains(&passed),
            "{passed} ms, flush: {flush}"
        );
    }
}

#[test]
fn a_newer_link_ends_the_older_one_that_is_not_known_to_be_lost() {
    let mut bench = Bench::primary();
    let older = bench.link;
    let write = bench.write(0);
    bench.write_metadata();
    bench.disk(DiskRequest::Write { fua: false }, Ok(()));
    bench.link_up();
    let dropped =
        |action: &Action<u32>| matches!(action, Action::DropLink { link, .. } if *link == older);
    assert!(bench.asked.iter().any(dropped));
    assert_eq!(bench.out_of_sync_bytes(), 4096, "it may not have arrived");
    bench.write_metadata();
    assert_eq!(bench.answer(write), Some(Ok(())));
    // What the older one still brings, and word of its end, are nobody's.
    bench.tell(Event::LinkDown {
        peer: PEER,
        link: older,
        loss: LinkLoss::Closed,
    });
    assert_eq!(
        bench.connection().connection_state,
        ConnectionState::Connecting
    );
    assert_eq!(bench.out_of_sync_bytes(), 4096);
}
