//! What a window makes of a link, a disk and clients.

use alloc::vec::Vec;

use rbd_protocol::control::ResyncOptions;
use rbd_protocol::state::ResyncLimit;

use super::base::Base;
use super::model::{GIGABIT, Run, Way};
use super::trial::Trial;
use super::{LARGEST_WINDOW, LEAST_RATE, Mood, ResyncWindow};
use crate::contract::Time;
use crate::volume::resync_pace::Pace;

/// Thousandths.
const MOST: u64 = 900;

fn half_busy(way: Way) -> Way {
    Way {
        writes: way.link_rate / 2 / 4096,
        ..way
    }
}

#[test]
fn an_idle_link_is_filled_however_fast_and_long_it_is() {
    for (link_rate, delay) in [
        (1_250_000, 100_000),
        (12_500_000, 50_000),
        (12_500_000, 20_000_000),
        (125_000_000, 20_000),
        (125_000_000, 5_000_000),
        (1_250_000_000, 20_000),
        (1_250_000_000, 2_000_000),
    ] {
        let disk_rate = 10 * link_rate;
        let way = Way {
            link_rate,
            delay,
            disk_rate,
            ..GIGABIT
        };
        let mut run = Run::new(way);
        let share = run.pass_ms(500).pass_ms(2_000).share(2_000);
        assert!(share >= MOST, "{share} of {way:?}");
    }
}

#[test]
fn a_short_idle_way_has_no_more_before_it_than_it_needs() {
    let mut run = Run::new(GIGABIT);
    run.pass_ms(1_000);
    let mut under_way: Vec<u64> = (0..100)
        .map(|_| run.pass_ms(10).bytes_under_way())
        .collect();
    under_way.sort_unstable();
    let milliseconds = under_way[50] * 1_000 / GIGABIT.link_rate;
    assert!(milliseconds < 16, "{milliseconds}");
}

#[test]
fn a_slow_disk_is_kept_busy() {
    for disk_time in [0, 3_000_000] {
        let way = Way {
            disk_rate: 30_000_000,
            disk_time,
            ..GIGABIT
        };
        let mut run = Run::new(way);
        run.pass_ms(500).pass_ms(2_000);
        let share = run.bytes * 500 / way.disk_rate;
        assert!(share >= MOST, "{share} of {way:?}");
    }
}

#[test]
fn what_comes_late_by_chance_costs_little() {
    let way = Way {
        jitter: 5_000_000,
        ..GIGABIT
    };
    let mut run = Run::new(way);
    let share = run.pass_ms(500).pass_ms(2_000).share(2_000);
    assert!(share >= 800, "{share}");
}

#[test]
fn clients_at_half_load_hardly_notice_and_the_resync_goes_on() {
    for (link_rate, delay) in [
        (12_500_000, 50_000),
        (125_000_000, 50_000),
        (125_000_000, 1_000_000),
    ] {
        let way = half_busy(Way {
            link_rate,
            delay,
            disk_rate: 4 * link_rate,
            ..GIGABIT
        });
        let mut alone = Run::new(way);
        alone.is_resyncing = false;
        let usual = alone.pass_ms(2_000).slow_write();
        let mut run = Run::new(way);
        run.pass_ms(500).pass_ms(2_000);
        let (slow, share) = (run.slow_write(), run.share(2_000));
        // Even the smallest window has something under way.
        let blocks = 4 * 4096 * 1_000_000_000 / link_rate;
        let most = usual * 3 / 2 + blocks;
        assert!(slow <= most, "{slow} after {usual} on {way:?}");
        assert!(share >= 300, "{share} of {way:?}");
    }
}

#[test]
fn clients_hardly_notice_it_where_a_lone_request_takes_longer_than_one_of_many() {
    for (waking, writes) in [(100_000, 6_000), (300_000, 6_000), (300_000, 15_000)] {
        let way = Way {
            waking,
            writes,
            ..GIGABIT
        };
        let mut alone = Run::new(way);
        alone.is_resyncing = false;
        let usual = alone.pass_ms(2_000).slow_write();
        for quiet_ms in [0, 500] {
            let mut run = Run::new(way);
            run.way.writes = 0;
            run.pass_ms(quiet_ms);
            run.way.writes = writes;
            run.pass_ms(1_500).pass_ms(2_000);
            let (slow, share) = (run.slow_write(), run.share(2_000));
            let most = usual * 3 / 2 + 4 * 4096 * 8;
            assert!(slow <= most, "{slow} after {usual} on {way:?}");
            assert!(share >= 250, "{share} of {way:?}");
        }
    }
}

#[test]
fn a_resync_yields_within_milliseconds_and_comes_back() {
    let mut run = Run::new(GIGABIT);
    run.pass_ms(2_000);
    let before = run.bytes_under_way();
    run.way = half_busy(run.way);
    run.pass_ms(30);
    let after = run.bytes_under_way();
    assert!(after <= before / 5, "{after} instead of {before}");
    run.way.writes = 0;
    let share = run.pass_ms(1_500).pass_ms(1_000).share(1_000);
    assert!(share >= MOST, "{share}");
}

#[test]
fn a_link_full_of_writes_still_lets_a_resync_go_on() {
    let mut run = Run::new(Way {
        writes: GIGABIT.link_rate / 4096,
        ..GIGABIT
    });
    run.pass_ms(500).pass_ms(1_000);
    assert!(run.requests >= 10, "{} requests", run.requests);
}

#[test]
fn a_link_that_becomes_slow_is_not_flooded() {
    let mut run = Run::new(GIGABIT);
    run.pass_ms(3_000);
    run.way.link_rate /= 100;
    // What was under way has to pass first.
    run.pass_ms(6_000);
    // Twice what is meant to queue, and room for two requests.
    let most = 2 * run.way.link_rate / 50 + (32 << 10);
    assert!(run.bytes_under_way() <= most, "{}", run.bytes_under_way());
    run.way.link_rate *= 100;
    let share = run.pass_ms(3_000).pass_ms(3_000).share(3_000);
    assert!(share >= MOST, "{share}");
}

#[test]
fn an_uneven_link_that_becomes_slow_is_not_flooded_for_long() {
    for uneven in UNEVEN {
        let mut run = Run::new(Way { uneven, ..GIGABIT });
        let before = run.pass_ms(10_000).bytes_under_way();
        run.way.link_rate /= 100;
        let after = run.pass_ms(20_000).bytes_under_way();
        assert!(
            after <= before / 4,
            "{after} instead of {before} with {uneven:?}"
        );
    }
}

#[test]
fn what_both_nodes_hold_in_memory_is_limited() {
    // A link on which nothing ever queues: only the limit ends the growth.
    let way = Way {
        link_rate: 1 << 50,
        disk_rate: 1 << 50,
        delay: 100_000_000,
        ..GIGABIT
    };
    let mut run = Run::new(way);
    run.pass_ms(5_000);
    let most = LARGEST_WINDOW + (256 << 10);
    assert!(run.bytes_under_way() <= most);
}

#[test]
fn a_configured_rate_is_kept() {
    for rate in [100_000, 1_000_000, 20_000_000] {
        for options in [
            ResyncOptions {
                fixed_rate: Some(rate),
                ..ResyncOptions::default()
            },
            ResyncOptions {
                max_rate: Some(rate),
                ..ResyncOptions::default()
            },
        ] {
            let mut run = Run::new(GIGABIT);
            run.options = options;
            run.pass_ms(1_000).pass_ms(4_000);
            let reached = run.bytes / 4;
            let bounds = rate * 9 / 10..=rate * 11 / 10;
            assert!(bounds.contains(&reached), "{reached} for {options:?}");
        }
    }
}

#[test]
fn clients_do_not_push_it_below_the_configured_minimum() {
    let modest = Run::new(half_busy(GIGABIT)).pass_ms(500).bytes_under_way();
    for min_rate in [Some(200_000_000), Some(0)] {
        let mut run = Run::new(half_busy(GIGABIT));
        run.options.min_rate = min_rate;
        let greedy = run.pass_ms(500).bytes_under_way();
        assert!(greedy > 4 * modest, "{min_rate:?}: {greedy}, {modest}");
    }
}

#[test]
fn a_configured_fill_is_what_is_under_way() {
    let mut run = Run::new(GIGABIT);
    run.options.fill_bytes = Some(1 << 20);
    run.pass_ms(1_000);
    let under_way = run.bytes_under_way();
    assert!(under_way <= (1 << 20) + (256 << 10), "{under_way}");
    assert!(under_way >= 1 << 19, "{under_way}");
}

/// Nanoseconds by which link and disk are late by chance.
const UNEVEN: [(u64, u64); 5] = [
    (0, 0),
    (1_000_000, 0),
    (20_000_000, 20_000_000),
    (50_000_000, 50_000_000),
    (50_000_000, 400_000_000),
];

/// What a resync reaches if it may have the least rate, with what trying out costs.
const LEAST: u64 = LEAST_RATE / 4 * 3;

#[test]
fn an_idle_way_on_which_things_are_late_by_chance_is_filled() {
    let most = (100_000_000, 100_000_000);
    for uneven in UNEVEN.into_iter().chain([most]) {
        let mut run = Run::new(Way { uneven, ..GIGABIT });
        let share = run.pass_ms(5_000).pass_ms(10_000).share(10_000);
        assert!(share >= 500, "{share} with {uneven:?}");
    }
}

#[test]
fn the_least_rate_is_reached_however_long_requests_take() {
    for uneven in UNEVEN {
        for delay in [50_000, 2_000_000, 50_000_000] {
            for writes in [1, 10, 100] {
                let way = Way {
                    delay,
                    uneven,
                    writes,
                    ..GIGABIT
                };
                let mut run = Run::new(way);
                let rate = run.pass_ms(20_000).pass_ms(20_000).bytes / 20;
                assert!(rate >= LEAST, "{rate} over {way:?}");
            }
        }
    }
}

#[test]
fn clients_that_come_and_go_leave_it_the_least_rate() {
    for uneven in UNEVEN {
        for pause in [1_100, 1_500, 2_500, 6_000] {
            let mut run = Run::new(Way {
                delay: 2_000_000,
                uneven,
                ..GIGABIT
            });
            let mut bytes = 0;
            for _ in 0..20 {
                run.way.writes = 1_000;
                bytes += run.pass_ms(10).bytes;
                run.way.writes = 0;
                bytes += run.pass_ms(pause).bytes;
            }
            let rate = bytes * 50 / pause;
            assert!(rate >= LEAST, "{rate} with {uneven:?}, {pause} ms");
        }
    }
}

#[test]
fn clients_of_a_slow_link_do_not_wait_for_the_least_rate() {
    for link_rate in [300_000, 1_250_000, 3_000_000] {
        for percent in [10, 40] {
            let way = Way {
                link_rate,
                writes: link_rate * percent / 100 / 4096,
                ..GIGABIT
            };
            let mut alone = Run::new(way);
            alone.is_resyncing = false;
            let usual = alone.pass_ms(20_000).slow_write();
            let mut run = Run::new(way);
            let slow = run.pass_ms(3_000).pass_ms(20_000).slow_write();
            let blocks = 10 * 4096 * 1_000_000_000 / link_rate;
            let most = 2 * usual + blocks;
            assert!(slow <= most, "{slow} after {usual} on {way:?}");
        }
    }
}

/// Both get what they had before: a resync its speed, and clients of whatever number their time.
fn all_is_as_before(mut happen: impl FnMut(&mut Run)) {
    for writes in [0, 10, 1_000] {
        let mut run = Run::new(Way { writes, ..GIGABIT });
        let usual = run.pass_ms(3_000).pass_ms(5_000).bytes;
        let slow = run.slow_write();
        happen(&mut run);
        let rate = run.pass_ms(5_000).pass_ms(5_000).bytes;
        assert!(rate >= usual / 2, "{rate} instead of {usual}");
        let found = run.slow_write();
        assert!(found <= 2 * slow, "{found} instead of {slow}");
    }
}

#[test]
fn a_link_that_stalls_leaves_nothing_behind() {
    all_is_as_before(|run| {
        run.stall_ms(60_000).pass_ms(60_000);
    });
}

#[test]
fn a_disk_that_was_slow_leaves_nothing_behind() {
    all_is_as_before(|run| {
        run.way.disk_time *= 20_000;
        run.pass_ms(60_000);
        run.way.disk_time /= 20_000;
    });
}

#[test]
fn a_clock_that_jumps_leaves_nothing_behind() {
    all_is_as_before(|run| {
        for pause in 0..1_000 {
            run.ahead += 60_000_000_000;
            run.pass_ms(pause % 40);
        }
    });
}

#[test]
fn a_way_that_becomes_long_is_filled_before_that_is_known() {
    for writes in [0, 10, 1_000] {
        let mut run = Run::new(Way { writes, ..GIGABIT });
        run.pass_ms(5_000);
        run.way.delay *= 1_000;
        let rate = run.pass_ms(5_000).pass_ms(5_000).bytes / 5;
        assert!(rate >= LEAST, "{rate} with {writes} writes a second");
    }
}

const US: u64 = 1_000;

/// What is known when lone blocks have taken so long.
fn learned(took: impl IntoIterator<Item = u64>) -> Base {
    let mut base = Base::default();
    for took in took {
        base.learn(took);
    }
    base
}

#[test]
fn of_the_first_lone_blocks_the_quickest_shows_what_the_way_costs() {
    let mut base = learned([400, 300, 500, 350].map(|took| took * US));
    assert_eq!(base.nanoseconds, 300 * US);
    base.learn(200 * US);
    let known = 250 * US..300 * US;
    assert!(known.contains(&base.nanoseconds), "{base:?}: one of many");
}

#[test]
fn what_the_way_costs_is_followed_wherever_it_goes() {
    for (before, after) in [
        (300, 600),
        (600, 250),
        (300, 100),
        (8_000, 16_000),
        (16_000, 4_000),
        (300, 5_000),
        (5_000, 300),
    ] {
        let first = core::iter::repeat_n(before * US, 4);
        let base = learned(first.chain(core::iter::repeat_n(after * US, 200)));
        let known = after * US * 9 / 10..=after * US * 11 / 10;
        assert!(known.contains(&base.nanoseconds), "{base:?}, {after}");
    }
}

#[test]
fn one_block_that_meets_a_stall_makes_no_way_long() {
    let stall = 10_000_000 * US;
    let base = learned([300 * US, 300 * US, 300 * US, 300 * US, stall]);
    let known = 300 * US..400 * US;
    assert!(known.contains(&base.nanoseconds), "{base:?}");
}

#[test]
fn a_lone_block_takes_no_longer_than_many_that_are_not_alone() {
    let mut base = learned([300 * US]);
    base.limit(400 * US);
    assert_eq!(base.nanoseconds, 300 * US);
    base.limit(200 * US);
    assert_eq!(base.nanoseconds, 200 * US);
}

#[test]
fn what_holds_a_resync_back_is_said() {
    let (mut window, mut pace) = (ResyncWindow::new(), Pace::default());
    pace.disk_took(Time(0), Time(9 * US));
    let unlimited = ResyncOptions::default();
    let limited = ResyncOptions {
        max_rate: Some(4096),
        ..unlimited
    };
    let now = Time(1_000_000 * US);
    assert!(window.room((0, 0), &limited, now).is_some());
    window.ask(8192, true, &limited, now);
    assert_eq!(window.room((0, 0), &limited, now), None);
    assert_eq!(window.bottleneck(&pace), Some(ResyncLimit::Configured));
    let due = window.due(now).expect("it is to be asked again");
    assert!(window.room((0, 0), &limited, due).is_some());
    let later = Time(10_000_000 * US);
    assert!(window.room((0, 0), &limited, later).is_some());
    assert_ne!(window.bottleneck(&pace), Some(ResyncLimit::Configured));
    window.clients_at_work(&unlimited, later);
    assert_eq!(window.bottleneck(&pace), Some(ResyncLimit::Clients));
}

#[test]
fn a_rate_of_nothing_is_no_limit() {
    let mut window = ResyncWindow::new();
    let options = ResyncOptions {
        max_rate: Some(0),
        ..ResyncOptions::default()
    };
    let now = Time(1_000_000 * US);
    window.ask(1 << 20, true, &options, now);
    assert!(window.room((0, 0), &options, now).is_some());
    assert_eq!(window.due(now), None);
}

/// Beside clients, with this window and this for a lone block.
fn busy(bytes: u64, lone: u64) -> ResyncWindow {
    let mut window = ResyncWindow::new();
    window.mood = Mood::Busy;
    window.bytes = bytes;
    window.busy_base.nanoseconds = lone;
    window
}

#[test]
fn when_clients_come_the_window_is_what_it_was_beside_them_or_a_guess() {
    let options = ResyncOptions::default();
    let come = |known| {
        let mut window = ResyncWindow::new();
        window.bytes = 1 << 20;
        window.idle_base.nanoseconds = 400 * US;
        window.usual = 200 * US;
        window.busy_bytes = known;
        window.clients_at_work(&options, Time(US));
        window.bytes
    };
    assert_eq!(come(0), 1 << 19, "a quarter longer than a lone block");
    assert_eq!(come(64 << 10), 64 << 10);
    assert_eq!(come(2 << 20), 1 << 20, "no more than without them");
}

#[test]
fn beside_clients_no_more_than_the_least_rate_is_sought() {
    let window = busy(64 << 10, 400 * US);
    for (min_rate, enough) in [(None, LEAST_RATE), (Some(0), LEAST_RATE), (Some(9), 9)] {
        let options = ResyncOptions {
            min_rate,
            ..ResyncOptions::default()
        };
        assert_eq!(window.enough(&options), enough);
        assert_eq!(ResyncWindow::new().enough(&options), u64::MAX);
    }
}

#[test]
fn beside_clients_of_a_near_peer_many_requests_are_looked_at_and_half_of_it_counts() {
    let options = ResyncOptions::default();
    let mut window = busy(64 << 10, 400 * US);
    window.round.was_full = true;
    for answered in 1..=16 {
        assert_eq!(window.bytes, 64 << 10, "before the {answered}th");
        let asked = window.ask(16 << 10, false, &options, Time(0));
        window.answered(asked, 16 << 10, &options, Time(300 * US));
    }
    // They take 300 and may take 300 * 21 / 16.
    assert_eq!(window.bytes, (32 << 10) + (64 << 10) * 21 / 16 / 2);
}

#[test]
fn each_lone_block_counts_as_much_as_its_way_is_even() {
    for (known, took, then) in [
        (320, 480, 330),
        (320, 100, 265),
        (8_000, 16_000, 9_000),
        (8_000, 4_000, 7_000),
    ] {
        let mut base = learned([known * US; 4]);
        base.learn(took * US);
        assert_eq!(base.nanoseconds, then * US, "{known}, {took}");
    }
}

/// So many requests of a block are answered, the last a tenth of a second after the first.
fn tried(requests: u64, enough: u64) -> u64 {
    let mut trial = Trial::from(64 << 10);
    trial.note_full();
    for number in 0..requests {
        assert_eq!(trial.bytes(), 64 << 10, "it is too early");
        let last = number + 1 == requests;
        let now = Time(if last { 100_000 } else { number } * US);
        trial.answered((4096, 1_000 * US), enough, 0, now);
    }
    trial.bytes()
}

#[test]
fn a_step_takes_a_tenth_of_a_second_and_eight_requests() {
    assert_eq!(tried(7, u64::MAX), 64 << 10);
    assert_eq!(tried(8, u64::MAX), 128 << 10);
    assert_eq!(tried(80, u64::MAX), 128 << 10);
}

#[test]
fn what_is_more_than_enough_is_halved_at_most_and_what_is_nearly_enough_stays() {
    assert_eq!(tried(8, 30_000), 32 << 10);
    assert_eq!(tried(8, 400_000), 64 << 10);
}

#[test]
fn an_attempt_that_does_not_go_on_is_taken_back() {
    let mut trial = Trial::from(64 << 10);
    trial.note_full();
    for number in 0..8 {
        trial.answered((4096, 1_000 * US), u64::MAX, 0, Time(number * 20_000 * US));
    }
    assert_eq!(trial.bytes(), 128 << 10);
    trial.pause();
    assert_eq!(trial.bytes(), 64 << 10);
}

#[test]
fn beside_clients_a_window_whose_requests_take_too_long_shrinks_though_it_was_never_full() {
    let options = ResyncOptions::default();
    // They may take 400 * 21 / 16; however long they take, a quarter of it is left to fit.
    for (took, fitting) in [(1_200, (64 << 10) * 525 / 1_200), (40_000, 16 << 10)] {
        let mut window = busy(64 << 10, 400 * US);
        for _ in 0..16 {
            let asked = window.ask(16 << 10, false, &options, Time(0));
            window.answered(asked, 16 << 10, &options, Time(took * US));
        }
        assert_eq!(window.bytes, (32 << 10) + fitting / 2);
    }
}
