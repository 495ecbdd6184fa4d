//! Who the agent is on this machine, for commands that root mostly runs, while the agent has a user of its own: the owner
//! of the state directory if that is not root, else the user `twinward`. What belongs to the agent is then right, too.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::model::secret::Secret;
use crate::settings::{Identity, Storage};
use crate::sys::files::SecretError;
use crate::sys::host::Host;
use crate::sys::{group, passwd};

/// As much of `/etc/passwd` as is read.
const PASSWD_LIMIT: usize = 1 << 20;

/// Who asks, and who the agent is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Users {
    /// We.
    pub(super) us: u32,
    /// The agent, if it can be told.
    pub(super) agent: Option<u32>,
}

impl Users {
    /// Finds them out.
    pub(super) fn find(host: &Host, storage: &Storage) -> Self {
        let owner = fs::metadata(&storage.directory).ok().map(|meta| meta.uid());
        let passwd = || {
            let text = host.read_text("/etc/passwd", PASSWD_LIMIT).ok()?;
            text.lines().find_map(|line| line.strip_prefix("twinward:")?.split(':').nth(1)?.parse().ok())
        };
        // systemd gives a directory of root to the agent's user when it starts the unit.
        let agent = owner.filter(|uid| *uid != 0).or_else(passwd).or(owner);
        Self { us: rustix::process::geteuid().as_raw(), agent }
    }

    pub(super) fn is_root(self) -> bool {
        self.us == 0
    }

    /// The connection string, which may belong to root, to us and, if we are root, to the agent's user.
    ///
    /// # Errors
    /// As [`Identity::secret`].
    pub(super) fn secret(self, identity: &Identity) -> Result<Secret, SecretError> {
        identity.secret_of(self.agent.filter(|_| self.is_root()).unwrap_or(self.us))
    }
}

/// The command by which root puts a secret there that this user can read.
pub(super) fn put_command(host: &Host, user: u32, file: &Path) -> String {
    format!("install -m 600 {}/dev/stdin {}", owner(host, user), file.display())
}

/// What `install` must be told so that the file is this user's; nothing if that is root.
fn owner(host: &Host, user: u32) -> String {
    if user == 0 {
        return String::new();
    }
    let (accounts, groups) = (passwd::read(host).unwrap_or_default(), group::read(host).unwrap_or_default());
    let Some(account) = passwd::accounts(&accounts).flatten().find(|account| account.uid == user) else {
        return format!("-o {user} ");
    };
    let group = group::groups(&groups).find(|group| group.gid == account.gid);
    let group = group.map_or_else(|| account.gid.to_string(), |group| group.name.to_owned());
    format!("-o {} -g {group} ", account.name)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::units::ByteSize;
    use crate::sys::fixture;

    fn find(passwd: &str, state: &Path) -> Option<u32> {
        let machine = fixture::made(&[("etc/passwd", passwd)]);
        let storage = Storage {
            directory: state.to_owned(),
            runtime_directory: None,
            commit_interval: Duration::from_secs(60),
            min_free: ByteSize::bytes(1),
        };
        Users::find(&machine.host, &storage).agent
    }

    #[test]
    fn the_agent_is_who_owns_the_state_and_else_the_user_of_its_name() {
        const PASSWD: &str = "root:x:0:0::/root:/bin/sh\ntwinward:x:997:997::/nonexistent:/usr/sbin/nologin\n";
        let absent = Path::new("/nowhere/twinward");
        assert_eq!((find(PASSWD, absent), find("root:x:0:0::/:/bin/sh\n", absent)), (Some(997), None));
        // As before the first start: `/` is root's.
        assert_eq!((find(PASSWD, Path::new("/")), find("", Path::new("/"))), (Some(997), Some(0)));
        let ours = tempfile::tempdir().unwrap();
        let us = rustix::process::geteuid().as_raw();
        assert_eq!(find("", ours.path()), Some(us));
    }

    #[test]
    fn a_secret_is_put_there_for_the_user_who_reads_it() {
        let passwd = "root:x:0:0::/:/bin/sh\ntwinward:x:997:996::/:/bin/false\npi:x:1000:7::/home/pi:/bin/sh\n";
        let machine = fixture::made(&[("etc/passwd", passwd), ("etc/group", "root:x:0:\ntwinward:x:996:\n")]);
        let options = |user| owner(&machine.host, user);
        assert_eq!([0, 997, 1000, 5].map(options), ["", "-o twinward -g twinward ", "-o pi -g 7 ", "-o 5 "]);
        let command = put_command(&machine.host, 997, Path::new("/x"));
        assert_eq!(command, "install -m 600 -o twinward -g twinward /dev/stdin /x");
    }
}
