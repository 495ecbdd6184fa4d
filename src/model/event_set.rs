//! A set of event names that is as cheap to hand around as a number.

use super::event::EventName;

/// Which of the fourteen events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventSet(u16);

impl EventSet {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// These events.
    #[must_use]
    pub const fn of(names: &[EventName]) -> Self {
        let mut bits = 0;
        let mut rest = names;
        while let [name, tail @ ..] = rest {
            bits |= Self::bit(*name);
            rest = tail;
        }
        Self(bits)
    }

    const fn bit(name: EventName) -> u16 {
        1 << name as u16
    }

    /// Whether `name` is in it.
    #[must_use]
    pub const fn contains(self, name: EventName) -> bool {
        self.0 & Self::bit(name) != 0
    }

    /// Whether nothing is in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What is in either.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in this one and not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The names, in the order of [`EventName::ALL`].
    pub fn iter(self) -> impl Iterator<Item = EventName> {
        EventName::ALL.into_iter().filter(move |name| self.contains(*name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_a_place_of_its_own() {
        for name in EventName::ALL {
            let one = EventSet::of(&[name]);
            assert_eq!(one.iter().collect::<Vec<_>>(), [name]);
            assert!(!one.is_empty() && one.without(one).is_empty());
        }
        let all = EventSet::of(&EventName::ALL);
        assert_eq!(all.iter().collect::<Vec<_>>(), EventName::ALL);
        let two = EventSet::of(&[EventName::Login, EventName::ProcessCreate]);
        assert_eq!(all.and(two), two);
        assert_eq!(EventSet::NONE.with(two), two);
        assert!(!all.without(two).contains(EventName::Login));
    }
}
