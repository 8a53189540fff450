//! The name that somebody meant who typed another: for "did you mean".

/// Longer names are not compared: a guest may have made them as long as it likes.
const COMPARED_MAX: usize = 100;
/// Names further away than this are not alike.
const DISTANCE_MAX: usize = 3;

/// The first of the `known` names that are nearest to `name`, if it is near.
pub fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    if name.len() > COMPARED_MAX {
        return None;
    }
    let near = known.into_iter().filter(|known| known.len() <= COMPARED_MAX);
    let near = near.map(|known| (distance(known, name), known)).min_by_key(|(distance, _)| *distance);
    near.filter(|(distance, _)| *distance <= DISTANCE_MAX.min(name.len())).map(|(_, known)| known)
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut before = i;
        let mut next = vec![i + 1];
        for (y, above) in b.chars().zip(row.iter().skip(1)) {
            let left = next.last().copied().unwrap_or_default();
            next.push((before + usize::from(x != y)).min(left + 1).min(above + 1));
            before = *above;
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (a, b, d) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("abc", "abd", 1),
            ("monthly", "montly", 1),
            ("", "xy", 2),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), d, "{a} {b}");
        }
    }

    #[test]
    fn only_what_is_alike_is_proposed() {
        assert_eq!(nearest("montly", ["weekly", "monthly"]), Some("monthly"));
        assert_eq!(nearest("x", ["monthly"]), None);
        assert_eq!(nearest(&"x".repeat(200), ["x"]), None);
    }
}
