//! Names of the local users, from `/etc/passwd`: `name:password:uid:gid:comment:home:shell`, one a line.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use super::clock::Clock;
use super::host::Host;
use crate::model::time::Mono;

const PATH: &str = "/etc/passwd";
/// Larger files are cut; a board has a few dozen users.
const BYTES: usize = 1 << 20;
const USERS: usize = 16_384;

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
    for line in text.lines().take(USERS) {
        let mut fields = line.split(':');
        if let (Some(name), Some(uid)) = (fields.next(), fields.nth(1).and_then(|f| f.parse().ok()))
            && !name.is_empty()
        {
            names.entry(uid).or_insert_with(|| name.into());
            ids.entry(name.into()).or_insert(uid);
        }
    }
    (names, ids)
}

#[cfg(test)]
mod tests {
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
}
