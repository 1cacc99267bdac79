//! What a window makes of a link, a disk and clients.

use rbd_protocol::control::ResyncOptions;

use super::LARGEST_WINDOW;
use super::model::{GIGABIT, Run, Way};

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
