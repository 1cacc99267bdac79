//! "Did you mean": the known word nearest to one that is not known.
//!
//! Only compares words; what the known words are is the caller's business.

/// The candidate nearest to `word`, when it is near enough to be a slip of the fingers.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if word.len() > LONGEST_WORD {
        return None;
    }
    let allowed = 1 + word.chars().count() / 4;
    candidates
        .into_iter()
        .map(|candidate| (distance(&folded(word), &folded(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The help line for [`nearest`], or none.
pub(crate) fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    nearest(word, candidates).map(|candidate| format!("did you mean '{candidate}'?"))
}

/// Case and the choice between `_` and `-` are never the reason two words differ.
fn folded(word: &str) -> Vec<char> {
    word.chars()
        .map(|c| {
            if c == '_' {
                '-'
            } else {
                c.to_ascii_lowercase()
            }
        })
        .collect()
}

/// Insertions, deletions, replacements and swaps of neighbours that turn `one` into `other`.
fn distance(one: &[char], other: &[char]) -> usize {
    let mut before_previous: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=other.len()).collect();
    for (i, &left) in one.iter().enumerate() {
        let mut current = vec![i + 1];
        for (j, &right) in other.iter().enumerate() {
            let replaced = previous[j] + usize::from(left != right);
            let mut best = replaced.min(previous[j + 1] + 1).min(current[j] + 1);
            let swapped = i > 0 && j > 0 && left == other[j - 1] && one[i - 1] == right;
            if swapped {
                best = best.min(before_previous[j - 1] + 1);
            }
            current.push(best);
        }
        before_previous = std::mem::replace(&mut previous, current);
    }
    previous.last().copied().unwrap_or(one.len())
}

/// Longer words are not slips of a known one, and comparing them would only cost time.
const LONGEST_WORD: usize = 64;
