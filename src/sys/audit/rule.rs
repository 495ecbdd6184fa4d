//! Rules of the audit system, as the kernel takes and lists them.
//!
//! `struct audit_rule_data` (`linux/audit.h`), all numbers `u32` in the machine's byte order:
//!
//! ```text
//!    0  filter: 0 user, 1 task, 4 system call exit, 5 exclude; | 0x10 in front of the others
//!    4  action: 0 never, 2 always
//!    8  number of fields, at most 64
//!   12  64 words: bit N is set if system call N is meant
//!  268  64 words: the fields
//!  524  64 words: their values; of text its length
//!  780  64 words: their operators
//! 1036  length of the texts
//! 1040  the texts, one after the other, without ends
//! ```

use crate::sys::netlink::u32_at;

/// Filter for the end of system calls.
pub const EXIT: u32 = 4;
/// Filter for records that are not written at all.
pub const EXCLUDE: u32 = 5;
/// Filter for new processes.
pub const TASK: u32 = 1;
/// Action: leave it out. In [`TASK`]: the process is not watched at all.
pub const NEVER: u32 = 0;
/// Action: write a record.
pub const ALWAYS: u32 = 2;

const WORDS: usize = 64;
const FIELDS_AT: usize = 12 + 4 * WORDS;
const VALUES_AT: usize = FIELDS_AT + 4 * WORDS;
const OPERATORS_AT: usize = VALUES_AT + 4 * WORDS;
const TEXT_LENGTH_AT: usize = OPERATORS_AT + 4 * WORDS;
const TEXTS_AT: usize = TEXT_LENGTH_AT + 4;

/// Operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Operator {
    /// `=`
    Equal = 0x4000_0000,
    /// `!=`
    NotEqual = 0x3000_0000,
    /// `>=`
    AtLeast = 0x6000_0000,
    /// `<=`
    AtMost = 0x5000_0000,
}

/// Fields that our rules use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Field {
    /// Process id.
    Pid = 0,
    /// ABI.
    Arch = 11,
    /// Type of a record; in [`EXCLUDE`] only.
    MessageType = 12,
    /// What the call returned.
    Exit = 103,
    /// 1 if the call succeeded.
    Success = 104,
    /// Family of the socket address; since Linux 5.2.
    AddressFamily = 113,
    /// First argument of the call.
    Argument0 = 200,
    /// Second argument of the call.
    Argument1 = 201,
}

/// The key of a rule, a text.
const KEY: u32 = 210;
/// Fields whose value is the length of a text: watches, directories, programs, labels, keys.
const TEXT_FIELDS: [u32; 14] = [13, 14, 15, 16, 17, 19, 20, 21, 22, 23, 105, 107, 112, KEY];
/// `AUDIT_LOGINUID_SET`, which is no text although it stands among the labels.
const NO_TEXT: u32 = 24;

/// One of our rules, to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// [`EXIT`] or [`EXCLUDE`].
    pub filter: u32,
    /// System calls that are meant.
    pub calls: Vec<u32>,
    /// All of these must hold.
    pub fields: Vec<(u32, u32, u32)>,
    /// Its key, at most 256 bytes; empty for none.
    pub key: String,
}

impl Rule {
    /// A rule of this filter without conditions.
    #[must_use]
    pub fn new(filter: u32) -> Self {
        Self { filter, ..Self::default() }
    }

    /// Adds system calls.
    #[must_use]
    pub fn calls(mut self, calls: &[u32]) -> Self {
        self.calls.extend_from_slice(calls);
        self
    }

    /// Adds a condition. A negative number is given in two's complement.
    #[must_use]
    pub fn when(mut self, field: Field, operator: Operator, value: u32) -> Self {
        self.fields.push((field as u32, operator as u32, value));
        self
    }

    /// Gives it a key.
    #[must_use]
    pub fn key(self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self }
    }

    /// As the kernel takes it. It always writes a record, or, in [`EXCLUDE`], never.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut mask = [0_u32; WORDS];
        for call in &self.calls {
            let word = usize::try_from(call / 32).ok().and_then(|word| mask.get_mut(word));
            if let Some(word) = word {
                *word |= 1 << (call % 32);
            }
        }
        let key = (!self.key.is_empty()).then(|| (KEY, Operator::Equal as u32, small(self.key.len())));
        let mut columns = [[0_u32; WORDS]; 3];
        let mut count = 0_u32;
        let [fields, values, operators] = &mut columns;
        let places = fields.iter_mut().zip(values.iter_mut()).zip(operators.iter_mut());
        for (((field, value), operator), given) in places.zip(self.fields.iter().copied().chain(key)) {
            (*field, *operator, *value) = given;
            count += 1;
        }
        let mut bytes = Vec::with_capacity(TEXTS_AT + self.key.len());
        let head = [self.filter, ALWAYS, count];
        for number in head.iter().chain(&mask).chain(columns.iter().flatten()).chain(&[small(self.key.len())]) {
            bytes.extend_from_slice(&number.to_ne_bytes());
        }
        bytes.extend_from_slice(self.key.as_bytes());
        bytes
    }
}

fn small(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// A rule that the kernel listed; it can be handed back to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// As it came.
    pub bytes: Vec<u8>,
}

impl Listed {
    /// The filter, without the flag for its place.
    #[must_use]
    pub fn filter(&self) -> u32 {
        self.number(0) & 0xf
    }

    /// [`NEVER`] or [`ALWAYS`].
    #[must_use]
    pub fn action(&self) -> u32 {
        self.number(4)
    }

    /// Its conditions: field, operator, value.
    pub fn fields(&self) -> impl Iterator<Item = (u32, u32, u32)> {
        let count = usize::try_from(self.number(8)).unwrap_or(0).min(WORDS);
        (0..count)
            .map(|n| 4 * n)
            .map(|at| (self.number(FIELDS_AT + at), self.number(OPERATORS_AT + at), self.number(VALUES_AT + at)))
    }

    /// Its key; `None` if it has none.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        let mut at = TEXTS_AT;
        for (field, _, value) in self.fields() {
            if field != NO_TEXT && TEXT_FIELDS.contains(&field) {
                let end = at.checked_add(usize::try_from(value).ok()?)?;
                if field == KEY {
                    return self.bytes.get(at..end);
                }
                at = end;
            }
        }
        None
    }

    fn number(&self, at: usize) -> u32 {
        u32_at(&self.bytes, at).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rule() -> Rule {
        Rule::new(EXIT)
            .calls(&[59, 322])
            .when(Field::Arch, Operator::Equal, 0xC000_003E)
            .when(Field::Success, Operator::Equal, 1)
            .key("ours")
    }

    #[test]
    fn a_rule_has_the_layout_of_the_kernel() {
        let bytes = rule().encode();
        assert_eq!(bytes.len(), 1040 + 4);
        let number = |at| u32_at(&bytes, at).unwrap();
        assert_eq!((number(0), number(4), number(8)), (EXIT, ALWAYS, 3));
        assert_eq!((number(12 + 4), number(12 + 40)), (1 << (59 - 32), 1 << (322 - 320)));
        assert_eq!((number(268), number(524), number(780)), (11, 0xC000_003E, 0x4000_0000));
        assert_eq!((number(276), number(532), number(1036)), (KEY, 4, 4));
        assert_eq!(&bytes[1040..], b"ours");
    }

    #[test]
    fn a_listed_rule_is_known_by_its_key() {
        let listed = Listed { bytes: rule().encode() };
        assert_eq!((listed.filter(), listed.action(), listed.key()), (EXIT, ALWAYS, Some(&b"ours"[..])));
        assert_eq!(listed.fields().next(), Some((11, 0x4000_0000, 0xC000_003E)));
        // A text before the key.
        let mut bytes = Rule { fields: vec![(112, 0x4000_0000, 7)], ..rule() }.encode();
        bytes.splice(1040..1040, *b"/bin/ls");
        assert_eq!(Listed { bytes }.key(), Some(&b"ours"[..]));
        assert_eq!(Listed { bytes: Rule::new(EXCLUDE).encode() }.key(), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..1100)) {
            let listed = Listed { bytes };
            let _ = (listed.filter(), listed.action(), listed.key(), listed.fields().count());
        }

        #[test]
        fn what_is_written_is_read(
            calls in prop::collection::vec(0_u32..3000, 0..5),
            fields in prop::collection::vec((0_u32..13, any::<u32>(), any::<u32>()), 0..70),
            key in "[a-z]{1,20}",
        ) {
            let whole = fields.len() < WORDS;
            let listed = Listed { bytes: Rule { filter: EXIT, calls, fields: fields.clone(), key: key.clone() }.encode() };
            if whole {
                prop_assert_eq!(listed.key(), Some(key.as_bytes()));
                prop_assert_eq!(listed.fields().take(fields.len()).collect::<Vec<_>>(), fields);
            }
        }
    }
}
