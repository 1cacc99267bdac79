//! A few rounds of what `rbd-torture` does for hours.

use rbd_tests::process::{Chance, Torture};

#[test]
fn ten_rounds_of_random_harm_lose_nothing() {
    let seed = Chance::seed();
    println!("rbd-torture --rounds 10 --seed {seed}");
    let mut torture = Torture::new(seed);
    for _ in 0..10 {
        println!("{}", torture.round());
    }
    println!("{}", torture.finish());
}
