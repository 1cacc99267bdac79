//! Medians of few, even and odd numbers of measurements.

use super::Spread;

#[test]
fn the_median_of_an_odd_number_is_the_middle_one() {
    let spread = Spread::of([9.0, 1.0, 4.0]);
    assert_eq!(
        spread,
        Some(Spread {
            least: 1.0,
            median: 4.0,
            most: 9.0
        })
    );
}

#[test]
fn the_median_of_an_even_number_lies_between_the_two_middle_ones() {
    assert_eq!(
        Spread::of([8.0, 1.0, 2.0, 4.0]).map(|spread| spread.median),
        Some(3.0)
    );
}

#[test]
fn without_measurements_there_is_no_median() {
    assert_eq!(Spread::of([]), None);
    assert_eq!(Spread::of([f64::NAN]), None);
}
