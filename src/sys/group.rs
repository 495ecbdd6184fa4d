//! The groups, from `/etc/group` (`group(5)`): `name:password:gid:member,member`, one a line.

use std::io;

use super::host::Host;

/// The file.
pub const PATH: &str = "/etc/group";
/// Larger files are cut; a board has a few dozen groups.
pub const BYTES: usize = 1 << 20;
/// The longest name that the C library takes for a user, and none has longer groups.
const NAME: usize = 256;

/// One group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group<'a> {
    /// Its name, not empty.
    pub name: &'a str,
    /// Its id.
    pub gid: u32,
    /// The names of those who are in it besides those who have it as their primary group, with commas between them.
    members: &'a str,
}

impl<'a> Group<'a> {
    /// Who is in it besides those who have it as their primary group.
    pub fn members(&self) -> impl Iterator<Item = &'a str> {
        self.members.split(',').map(str::trim).filter(|name| !name.is_empty())
    }
}

/// Reads the text of the file; what lies beyond a limit is cut.
///
/// # Errors
/// Those of reading.
pub fn read(host: &Host) -> io::Result<String> {
    host.read_text(PATH, BYTES)
}

/// The groups in the text of the file; lines that cannot be read, and those that only call a directory (`+`, `-`), are
/// left out.
pub fn groups(text: &str) -> impl Iterator<Item = Group<'_>> {
    text.lines().filter_map(|line| {
        let mut fields = line.trim_start().splitn(4, ':');
        let (name, gid) = (fields.next()?, fields.nth(1)?.trim().parse().ok()?);
        let named = !name.is_empty() && name.len() <= NAME && !name.starts_with(['+', '-', '#']);
        named.then(|| Group { name, gid, members: fields.next().unwrap_or_default() })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn members_are_apart_by_commas() {
        let text =
            "root:x:0:\nsudo:x:27:pi, eve,,\n+:::\n-bad::7:\n#old:x:8:\nwide:*:4294967294:a\nbroken:x:many:a\nx:y\n";
        let found: Vec<_> = groups(text).map(|g| (g.name, g.gid, g.members().collect::<Vec<_>>())).collect();
        assert_eq!(found, [("root", 0, vec![]), ("sudo", 27, vec!["pi", "eve"]), ("wide", 4_294_967_294, vec!["a"])]);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "\\PC{0,200}", line in "[a-z:,0-9+-]{0,60}") {
            let text = format!("{text}\n{line}");
            prop_assert!(groups(&text).all(|group| group.members().all(|name| text.contains(name))));
        }
    }
}
