//! The command line of an event: the arguments joined with blanks, bounded, without secrets.

use crate::collect::redact::Redactor;
use crate::model::payload::ExtraDetails;

/// Longest command line that is kept, in bytes, unless the configuration says otherwise.
pub(in crate::collect) const LIMIT: usize = 4096;

/// The arguments of a process, as an event shows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::collect) struct CommandLine {
    /// The arguments joined with blanks, bounded.
    pub(in crate::collect) text: String,
    /// Whether there was more.
    pub(in crate::collect) cut: bool,
    /// How many secrets were masked.
    pub(in crate::collect) masked: usize,
}

impl CommandLine {
    /// Reads arguments that end with NUL, and keeps `limit` bytes. One byte more says that there was more. Bytes that
    /// are not UTF-8 become U+FFFD; a letter is never cut in two.
    pub(in crate::collect) fn read(bytes: &[u8], limit: usize, redactor: &Redactor) -> Self {
        Self::read_part(bytes, limit, false, redactor)
    }

    /// As [`CommandLine::read`], of arguments that may have been `cut` before: then what is at the end is not whole.
    pub(in crate::collect) fn read_part(bytes: &[u8], limit: usize, cut: bool, redactor: &Redactor) -> Self {
        let mut cut = cut || bytes.len() > limit;
        let mut bytes = bytes.get(..limit).unwrap_or(bytes);
        if cut
            && let Err(error) = std::str::from_utf8(bytes)
            && error.error_len().is_none()
        {
            bytes = bytes.get(..error.valid_up_to()).unwrap_or_default();
        }
        // A program that wrote its own title leaves many NULs behind it.
        let end = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        let text = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default());
        let line = redactor.join(text.split('\0').filter(|_| end > 0), cut);
        let mut text = line.text;
        if text.len() > limit {
            text.truncate(text.floor_char_boundary(limit));
            cut = true;
        }
        Self { text, cut, masked: line.masked }
    }

    /// What the event says about it besides: `CommandLineCut` and, if known, `CommandLineLength` in bytes;
    /// `SecretsMasked`, how many.
    pub(in crate::collect) fn describe(&self, length: Option<u64>, details: &mut ExtraDetails) {
        if self.cut {
            details.insert("CommandLineCut".to_owned(), "true".to_owned());
            if let Some(length) = length {
                details.insert("CommandLineLength".to_owned(), length.to_string());
            }
        }
        if self.masked > 0 {
            details.insert("SecretsMasked".to_owned(), self.masked.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> CommandLine {
        CommandLine::read(bytes, LIMIT, &Redactor::new([]))
    }

    #[test]
    fn arguments_are_joined_and_cut_at_a_letter() {
        let line = read(b"/bin/echo\0a b\0\0c\0");
        assert_eq!(line, CommandLine { text: "/bin/echo a b  c".to_owned(), cut: false, masked: 0 });
        assert_eq!(read(b""), CommandLine::default());
        assert_eq!(read(b"sshd: pi\0\0\0\0\0").text, "sshd: pi");

        let mut long = vec![b'x'; LIMIT - 1];
        long.extend("ö".bytes());
        let line = read(&long);
        assert!(line.cut && line.text.len() == LIMIT - 1, "{}", line.text.len());
        long.truncate(LIMIT - 1);
        long.push(b'y');
        let line = read(&long);
        assert!(!line.cut && line.text.ends_with('y'));
        // Each byte that is no letter becomes three.
        let line = read(&[0xff; LIMIT]);
        assert!(line.cut && line.text.len() <= LIMIT);
    }

    #[test]
    fn what_was_done_to_it_is_told() {
        let mut details = ExtraDetails::new();
        read(b"app\0--token\0x\0").describe(Some(13), &mut details);
        assert_eq!(details, [("SecretsMasked".to_owned(), "1".to_owned())].into());
        read(&[b'x'; LIMIT + 1]).describe(Some(9000), &mut details);
        assert_eq!((details["CommandLineCut"].as_str(), details["CommandLineLength"].as_str()), ("true", "9000"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
            prop_assert!(read(&bytes).text.len() <= LIMIT);
        }
    }
}
