//! The local users, from `/etc/passwd` (`passwd(5)`): `name:password:uid:gid:comment:home:shell`, one a line. The C
//! library passes over blanks in front of a line or a number, and over lines that start with `#`; those that start with
//! `+` or `-` only call a directory.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::clock::Clock;
use super::host::Host;
use super::shadow::Password;
use crate::model::time::Mono;

/// The file.
pub const PATH: &str = "/etc/passwd";
/// Larger files are cut; a board has a few dozen users.
pub const BYTES: usize = 1 << 20;
const USERS: usize = 16_384;
/// The longest name that the C library takes.
const NAME: usize = 256;

/// What tells one state of the file from the next: modification time (seconds, nanoseconds), length, inode.
type Mark = (i64, i64, u64, u64);

/// So long a known user is believed without a look at the file.
const BELIEVED: Duration = Duration::from_secs(1);

/// Looks up names; reads the file again when it changed.
pub struct Passwd {
    host: Host,
    clock: Arc<dyn Clock>,
    looked: Option<Mono>,
    mark: Option<Mark>,
    names: HashMap<u32, Box<str>>,
    ids: HashMap<Box<str>, u32>,
}

impl Passwd {
    /// The users of `host`; nothing is read yet.
    #[must_use]
    pub fn new(host: Host, clock: Arc<dyn Clock>) -> Self {
        Self { host, clock, looked: None, mark: None, names: HashMap::new(), ids: HashMap::new() }
    }

    /// The name of a user id. If several names share it, the first one.
    pub fn name(&mut self, uid: u32) -> Option<&str> {
        self.refresh(|passwd| passwd.names.contains_key(&uid));
        self.names.get(&uid).map(AsRef::as_ref)
    }

    /// The id of the user with this name.
    pub fn id(&mut self, name: &str) -> Option<u32> {
        self.refresh(|passwd| passwd.ids.contains_key(name));
        self.ids.get(name).copied()
    }

    fn refresh(&mut self, is_known: impl Fn(&Self) -> bool) {
        let now = self.clock.now().mono;
        if self.looked.is_some_and(|looked| now.since(looked) < BELIEVED) && is_known(self) {
            return;
        }
        self.looked = Some(now);
        let meta = fs::metadata(self.host.path(PATH)).ok();
        let mark = meta.map(|m| (m.mtime(), m.mtime_nsec(), m.len(), m.ino()));
        if mark != self.mark {
            self.mark = mark;
            let text = self.host.read_text(PATH, BYTES).unwrap_or_default();
            (self.names, self.ids) = parse(&text);
        }
    }
}

/// The names by user id, of several the first one, and the user ids by name, in the text of the file.
#[must_use]
pub fn parse(text: &str) -> (HashMap<u32, Box<str>>, HashMap<Box<str>, u32>) {
    let (mut names, mut ids) = (HashMap::new(), HashMap::new());
    for account in accounts(text).flatten().take(USERS) {
        names.entry(account.uid).or_insert_with(|| account.name.into());
        ids.entry(account.name.into()).or_insert(account.uid);
    }
    (names, ids)
}

/// One account. Its password field stays in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account<'a> {
    /// Its name, not empty.
    pub name: &'a str,
    /// What the line says of its password.
    pub password: Password,
    /// Its user id.
    pub uid: u32,
    /// The id of its primary group.
    pub gid: u32,
    /// Its home directory; empty if the line has none.
    pub home: &'a str,
    /// Its shell; empty for the standard one.
    pub shell: &'a str,
}

/// The text of the file, for [`accounts`]; wiped when dropped, as it holds the hashes where there is no `/etc/shadow`.
/// What lies beyond a limit is cut.
///
/// # Errors
/// Those of reading.
pub fn read(host: &Host) -> io::Result<Zeroizing<String>> {
    host.read_text(PATH, BYTES).map(Zeroizing::new)
}

/// The accounts in the text of the file; `None` for a line that is none.
pub fn accounts(text: &str) -> impl Iterator<Item = Option<Account<'_>>> {
    let lines = text.lines().map(str::trim_start);
    lines.filter(|line| !line.is_empty() && !line.starts_with(['#', '+', '-'])).map(account)
}

fn account(line: &str) -> Option<Account<'_>> {
    let (account, password) = fields(line)?;
    (account.name.len() <= NAME).then(|| Account { password: Password::of_passwd(password.as_bytes()), ..account })
}

/// An account, and its password field; what the field says is not looked at yet. `None` for a line that is no account.
pub(super) fn fields(line: &str) -> Option<(Account<'_>, &str)> {
    let mut fields = line.split(':');
    let mut field = || fields.next();
    let (name, password) = (field()?, field()?);
    let (uid, gid) = (field()?.trim().parse().ok()?, field()?.trim().parse().ok()?);
    let (_comment, home, shell) = (field(), field().unwrap_or_default(), field().unwrap_or_default());
    (!name.is_empty()).then_some((Account { name, password: Password::Elsewhere, uid, gid, home, shell }, password))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sys::clock::ManualClock;
    use crate::sys::files::{private_directory, write_atomic};

    fn clock() -> Arc<ManualClock> {
        Arc::new(ManualClock::new("2026-07-01T09:30:00Z".parse().unwrap()))
    }

    #[test]
    fn a_changed_file_is_read_again() {
        let root = tempfile::tempdir().unwrap();
        private_directory(&root.path().join("etc")).unwrap();
        let path = root.path().join("etc/passwd");
        let mut passwd = Passwd::new(Host::rooted(root.path()), clock());
        assert_eq!(passwd.name(0), None);
        write_atomic(&path, b"root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\nbroken\n:x:5:\n", 0o644).unwrap();
        assert_eq!(passwd.name(0), Some("root"));
        assert_eq!(passwd.name(5), None);
        assert_eq!((passwd.id("root"), passwd.id("pi")), (Some(0), None));
        write_atomic(&path, b"root:x:0:0::/root:/bin/sh\npi:x:1000:1000::/home/pi:/bin/sh\n", 0o644).unwrap();
        assert_eq!(passwd.name(1000), Some("pi"));
        assert_eq!((passwd.id("pi"), passwd.id("toor")), (Some(1000), None));
    }

    #[test]
    fn a_known_user_is_looked_for_once_a_second() {
        let root = tempfile::tempdir().unwrap();
        private_directory(&root.path().join("etc")).unwrap();
        let path = root.path().join("etc/passwd");
        let clock = clock();
        let mut passwd = Passwd::new(Host::rooted(root.path()), clock.clone());
        write_atomic(&path, b"root:x:0:0::/root:/bin/sh\n", 0o644).unwrap();
        assert_eq!(passwd.name(0), Some("root"));
        write_atomic(&path, b"admin:x:0:0::/root:/bin/sh\n", 0o644).unwrap();
        for name in ["root", "admin"] {
            clock.advance(BELIEVED / 2);
            assert_eq!(passwd.name(0), Some(name));
        }
    }
    #[test]
    fn lines_are_read_as_the_c_library_reads_them() {
        let text = "root:x:0:0:root:/root:/bin/bash\n#old:x:1:1::/:/bin/sh\n  eve:: 0:0\n+::::::\n-@net:::::\n\n\
                    wide:*:4294967294:100::/:\nbroken:x:-1:0::/:\n:x:5:5::/:\nmore:x:5\n";
        let found: Vec<_> = accounts(text).collect();
        let [Some(root), Some(eve), Some(wide), None, None, None] = found[..] else { panic!("{found:?}") };
        assert_eq!((root.name, root.uid, root.home, root.shell), ("root", 0, "/root", "/bin/bash"));
        assert_eq!(
            (root.password, eve.password, wide.password),
            (Password::Elsewhere, Password::Empty, Password::None)
        );
        assert_eq!((eve.name, eve.uid, eve.home, eve.shell), ("eve", 0, "", ""));
        assert_eq!((wide.uid, wide.gid), (4_294_967_294, 100));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "\\PC{0,200}", line in "[a-z:,0-9+-]{0,60}") {
            let text = format!("{text}\n{line}");
            prop_assert!(accounts(&text).flatten().all(|account| !account.name.is_empty()));
            let _ = parse(&text);
        }
    }
}
