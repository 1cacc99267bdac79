//! Reads the values of options.

use std::time::Duration;

/// A place on a volume: sectors of 512 bytes unless a unit is given, as with DRBD.
pub(super) fn position(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|character: char| !character.is_ascii_digit());
    let unit = match text.get(digits.len()..) {
        Some("" | "s" | "S") => Some(512),
        Some("k" | "K") => Some(1 << 10),
        Some("m" | "M") => Some(1 << 20),
        Some("g" | "G") => Some(1 << 30),
        Some(_) | None => None,
    };
    let number: Option<u64> = digits.parse().ok();
    number
        .and_then(|number| number.checked_mul(unit?))
        .ok_or_else(|| format!("'{text}' is not a number of sectors, or one that ends in K, M, G"))
}

pub(super) fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err(String::from("it is yes or no")),
    }
}

pub(super) fn interval(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| format!("'{text}' is not a number of seconds"))?;
    if (0.1..=3600.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(format!("{text} is not between 0.1 and 3600 seconds"))
    }
}
