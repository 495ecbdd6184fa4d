//! A set of record numbers.

/// Ranges in order, without overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(Vec<(u64, u64)>);

impl FromIterator<(u64, u64)> for Ranges {
    /// From ranges in the order of their start; they may overlap.
    fn from_iter<I: IntoIterator<Item = (u64, u64)>>(ranges: I) -> Self {
        let mut merged: Vec<(u64, u64)> = Vec::new();
        for (lo, hi) in ranges {
            match merged.last_mut() {
                Some((_, last)) if lo <= last.saturating_add(1) => *last = hi.max(*last),
                _ => merged.push((lo, hi)),
            }
        }
        Self(merged)
    }
}

impl Ranges {
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().copied()
    }

    /// The highest number, 0 if there is none.
    pub(super) fn last(&self) -> u64 {
        self.0.last().map_or(0, |(_, hi)| *hi)
    }

    pub(super) fn contain(&self, number: u64) -> bool {
        let after = self.0.partition_point(|(lo, _)| *lo <= number);
        after.checked_sub(1).and_then(|at| self.0.get(at)).is_some_and(|(_, hi)| number <= *hi)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_ranges_are_one() {
        let ranges: Ranges = [(1, 4), (2, 2), (5, 6), (9, 9)].into_iter().collect();
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [(1, 6), (9, 9)]);
        let inside: Vec<u64> = (0..12).filter(|n| ranges.contain(*n)).collect();
        assert_eq!(inside, [1, 2, 3, 4, 5, 6, 9]);
        assert_eq!((ranges.last(), Ranges::default().last()), (9, 0));
    }
}
