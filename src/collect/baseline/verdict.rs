//! What became of a condition, and how several make one.

/// More is cut: it stands in an event for each failed check.
const TEXT: usize = 480;

/// What became of a condition. The texts are for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Holds,
    /// It does not; what was found, and what was expected.
    Fails(String),
    /// It cannot be known, and why.
    Unknown(String),
    /// The question makes no sense on this machine, and why.
    Beside(String),
}

impl Verdict {
    /// It does not hold.
    pub fn fails(text: impl Into<String>) -> Self {
        Self::Fails(text.into())
    }

    /// Whether the condition holds, and what to say if not.
    pub fn of(holds: bool, text: impl FnOnce() -> String) -> Self {
        if holds { Self::Holds } else { Self::Fails(text()) }
    }

    /// What was found of several things: `Holds` if nothing is amiss. Some are named, the rest is counted.
    #[must_use]
    pub fn of_list(amiss: &[String], expected: &str) -> Self {
        const NAMED: usize = 3;
        if amiss.is_empty() {
            return Self::Holds;
        }
        let mut text = amiss.iter().take(NAMED).map(|what| clipped(what, 150)).collect::<Vec<_>>().join("; ");
        if amiss.len() > NAMED {
            text.push_str(&format!("; and {} more", amiss.len() - NAMED));
        }
        Self::Fails(format!("{text}; expected {expected}"))
    }

    /// All must hold. One that fails decides, else one that cannot be known; those that make no sense do not count.
    pub fn all(verdicts: impl Iterator<Item = Self>) -> Self {
        let (mut held, mut unknown, mut beside) = (false, None, None);
        for verdict in verdicts {
            match verdict {
                Self::Holds => held = true,
                Self::Fails(_) => return verdict,
                Self::Unknown(_) => unknown = unknown.or(Some(verdict)),
                Self::Beside(_) => beside = beside.or(Some(verdict)),
            }
        }
        unknown.or(beside.filter(|_| !held)).unwrap_or(Self::Holds)
    }

    /// One must hold. One that holds decides, else one that cannot be known.
    pub fn any(verdicts: impl Iterator<Item = Self>) -> Self {
        let (mut failed, mut unknown, mut beside) = (Vec::new(), None, None);
        for verdict in verdicts {
            match verdict {
                Self::Holds => return verdict,
                Self::Fails(text) => failed.push(text),
                Self::Unknown(_) => unknown = unknown.or(Some(verdict)),
                Self::Beside(_) => beside = beside.or(Some(verdict)),
            }
        }
        match (unknown, failed.is_empty(), beside) {
            (Some(unknown), ..) => unknown,
            (None, true, Some(beside)) => beside,
            _ => Self::Fails(clipped(&failed.join("; or "), TEXT)),
        }
    }

    /// The opposite; `subject` names what must not be as it is.
    #[must_use]
    pub fn not(self, subject: impl FnOnce() -> String) -> Self {
        match self {
            Self::Holds => Self::Fails(format!("{} is as it must not be", subject())),
            Self::Fails(_) => Self::Holds,
            other => other,
        }
    }
}

/// At most so many characters; `…` stands for the rest.
#[must_use]
pub fn clipped(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(letter: char) -> Verdict {
        match letter {
            'h' => Verdict::Holds,
            'f' => Verdict::fails("f"),
            'u' => Verdict::Unknown("u".to_owned()),
            _ => Verdict::Beside("b".to_owned()),
        }
    }

    #[test]
    fn several_make_one() {
        for (several, all, any) in [
            ("hh", 'h', 'h'),
            ("hf", 'f', 'h'),
            ("uf", 'f', 'u'),
            ("hu", 'u', 'h'),
            ("hb", 'h', 'h'),
            ("bb", 'b', 'b'),
            ("bf", 'f', 'f'),
            ("bu", 'u', 'u'),
        ] {
            assert_eq!(Verdict::all(several.chars().map(verdict)), verdict(all), "all {several}");
            assert_eq!(Verdict::any(several.chars().map(verdict)), verdict(any), "any {several}");
        }
        assert_eq!(verdict('f').not(String::new), Verdict::Holds);
        assert_eq!(verdict('u').not(String::new), verdict('u'));
        assert_eq!(verdict('h').not(|| "x".to_owned()), Verdict::fails("x is as it must not be"));
    }

    #[test]
    fn long_lists_are_counted() {
        let amiss: Vec<String> = (1..6).map(|n| format!("{n}")).collect();
        assert_eq!(Verdict::of_list(&amiss, "none"), Verdict::fails("1; 2; 3; and 2 more; expected none"));
        assert_eq!(Verdict::of_list(&[], "none"), Verdict::Holds);
        assert_eq!(clipped("größe", 3), "grö…");
    }
}
