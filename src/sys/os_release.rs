//! Which system this is: `os-release(5)`, one assignment a line, quoted as a shell does.

use super::host::Host;

/// Longest file that is read; real ones have less than 1 KiB.
const BYTES: usize = 16 * 1024;

/// What the file says; nothing if there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OsRelease(String);

impl OsRelease {
    /// Reads `/etc/os-release`, else `/usr/lib/os-release`.
    #[must_use]
    pub fn read(host: &Host) -> Self {
        let read = |path| host.read_text(path, BYTES);
        Self(read("/etc/os-release").or_else(|_| read("/usr/lib/os-release")).unwrap_or_default())
    }

    /// The value of a key such as `ID`, unquoted; `None` if it is absent or empty.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<String> {
        let raw = self.0.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))?.trim();
        let inner = |quote| raw.strip_prefix(quote)?.strip_suffix(quote);
        let value = if let Some(single) = inner('\'') {
            single.to_owned()
        } else {
            let mut value = String::with_capacity(raw.len());
            let mut letters = inner('"').unwrap_or(raw).chars();
            while let Some(letter) = letters.next() {
                value.extend(if letter == '\\' { letters.next() } else { Some(letter) });
            }
            value
        };
        (!value.is_empty()).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_unquoted() {
        let release =
            OsRelease("# x\nNAME='Fedora Linux'\nVERSION=\"43 (IoT \\\"Edge\\\")\"\nID=fedora\nEMPTY=\n".to_owned());
        assert_eq!(release.value("NAME").as_deref(), Some("Fedora Linux"));
        assert_eq!(release.value("VERSION").as_deref(), Some("43 (IoT \"Edge\")"));
        assert_eq!((release.value("EMPTY"), release.value("VERSION_ID")), (None, None));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in any::<String>()) {
            let _ = OsRelease(text.clone()).value("NAME");
            let _ = OsRelease(format!("NAME={text}")).value("NAME");
        }
    }
}
