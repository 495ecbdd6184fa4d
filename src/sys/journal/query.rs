//! What is asked of a journal file, and what it answers.

/// An entry that has what was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its running number.
    pub sequence: u64,
    /// When the daemon received it, in microseconds since 1970.
    pub at: i64,
    /// Hash of the whole: a copy in another file has the same.
    pub hash: u64,
    /// The fields that were asked for, in the order in which they were; the first one of a name that occurs twice.
    pub fields: Vec<Option<Vec<u8>>>,
}

impl Entry {
    /// The text of the field that was asked for at this place; bytes that are not UTF-8 become U+FFFD.
    #[must_use]
    pub fn text(&self, place: usize) -> Option<String> {
        let bytes = self.fields.get(place)?.as_ref()?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    }
}

/// Which entries are wanted, and what of them.
#[derive(Clone, Copy)]
pub struct Query {
    /// The fields, at most 16. The first one decides whether the entry is wanted.
    pub fields: &'static [&'static str],
    /// Whether this value of the first field makes an entry wanted.
    pub wanted: fn(&[u8]) -> bool,
}

/// What a data object is to the query.
#[derive(Clone, Debug)]
pub(super) enum Known {
    /// Nothing.
    Nothing,
    /// The first field, with a value that is not wanted.
    Unwanted,
    /// A field that was asked for.
    Field(usize, Box<[u8]>),
}

impl Query {
    /// What a data object is, of which this is the text.
    pub(super) fn judge(&self, data: &[u8]) -> Known {
        let found = self
            .fields
            .iter()
            .enumerate()
            .find_map(|(place, name)| Some((place, data.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?)));
        match found {
            None => Known::Nothing,
            Some((0, value)) if !(self.wanted)(value) => Known::Unwanted,
            Some((place, value)) => Known::Field(place, value.into()),
        }
    }
}
