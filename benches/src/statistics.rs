//! Medians and spreads: all that is said about repeated measurements.
//!
//! No means: one disturbed round of a shared machine would move them.

/// The middle of some measurements, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// The smallest.
    pub(crate) least: f64,
    /// The middle one, or half-way between the two middle ones.
    pub(crate) median: f64,
    /// The largest.
    pub(crate) most: f64,
}

impl Spread {
    /// Of these measurements; `None` without any. What is not a number is left out.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| !value.is_nan()).collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        let lower = if values.len().is_multiple_of(2) {
            *values.get(middle - 1)?
        } else {
            upper
        };
        Some(Self {
            least,
            median: f64::midpoint(lower, upper),
            most,
        })
    }
}

#[cfg(test)]
mod tests;
