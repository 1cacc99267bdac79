//! A few rounds of what `rbd-torture` does for hours.

use rbd_tests::process::{Chance, Torture};

#[test]
fn fifteen_rounds_of_random_harm_lose_nothing() {
    let seed = Chance::seed();
    println!("rbd-torture --rounds 15 --seed {seed}");
    let mut torture = Torture::new(seed);
    for _ in 0..15 {
        println!("{}", torture.round());
    }
    println!("{}", torture.finish());
}

#[test]
fn ten_rounds_of_power_cuts_and_failing_disks_lose_nothing() {
    let name = "ten_rounds_of_power_cuts_and_failing_disks_lose_nothing";
    let seed = Chance::seed();
    let Some(mut torture) = Torture::with_faults(name, seed) else {
        return;
    };
    println!("rbd-torture --rounds 10 --seed {seed} --faults");
    for _ in 0..10 {
        println!("{}", torture.round());
    }
    println!("{}", torture.finish());
}
