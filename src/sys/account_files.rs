//! The local accounts with their password fields, for the checks that must look at a hash. What only needs to know whether
//! there is a password reads `passwd` and `shadow`, which keep none. The lines are those of `passwd(5)`, `group(5)` (see
//! [`super::passwd`], [`super::group`]) and `shadow(5)`:
//!
//! ```text
//! /etc/shadow  name:password:last change:least days:most days:warning:inactive:expiry:
//! ```

use std::io::{self, Read};
use std::path::Path;

use zeroize::Zeroizing;

use super::host::Host;
use super::text_file::{self, Unreadable, present};
use super::{group, passwd, shadow};
use crate::model::secret::Secret;

const LIMIT: usize = 1 << 20;
/// More accounts or groups than a board has; the rest is not looked at.
const ENTRIES: usize = 16_384;

/// One line of `/etc/passwd`.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// The second field: `x` if the password is in `/etc/shadow`.
    pub password: Secret,
    /// User id.
    pub uid: u32,
    /// Id of its primary group.
    pub gid: u32,
    /// Home directory.
    pub home: String,
    /// Program at the end of the login; empty for `/bin/sh`.
    pub shell: String,
}

/// One line of `/etc/shadow`.
#[derive(Clone, Debug)]
pub struct Shadow {
    /// Name of the account.
    pub name: String,
    /// The hash; empty if none is asked for, and with `!` or `*` at its beginning if none fits.
    pub password: Secret,
    /// After how many days the password must be changed.
    pub most_days: Option<i64>,
}

/// One line of `/etc/group`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Group id.
    pub gid: u32,
    /// Who is in it, beside those whose primary group it is.
    pub members: Vec<String>,
}

/// `/etc/passwd`; empty if there is none.
///
/// # Errors
/// It cannot be read.
pub fn accounts(host: &Host) -> Result<Vec<Account>, Unreadable> {
    let text = text_file::read(host, passwd::PATH, LIMIT)?.unwrap_or_default();
    Ok(parse_accounts(&text))
}

/// `/etc/group`; empty if there is none.
///
/// # Errors
/// It cannot be read.
pub fn groups(host: &Host) -> Result<Vec<Group>, Unreadable> {
    let text = text_file::read(host, group::PATH, LIMIT)?.unwrap_or_default();
    Ok(parse_groups(&text))
}

/// `/etc/shadow`; `None` if there is none.
///
/// # Errors
/// It cannot be read.
pub fn shadow(host: &Host) -> Result<Option<Vec<Shadow>>, Unreadable> {
    let read = || {
        let file = host.regular(shadow::PATH)?;
        let size = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX).min(LIMIT) + 1;
        // Room for all at once: what grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(size + 32));
        file.take(size as u64).read_to_end(&mut bytes)?;
        if bytes.len() > LIMIT { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
    };
    Ok(present(Path::new(shadow::PATH), read())?.map(|bytes| parse_shadow(&bytes)))
}

/// The accounts in the text of the file, those of a directory (`+`) too; lines that cannot be read are left out.
#[must_use]
pub fn parse_accounts(text: &str) -> Vec<Account> {
    let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(passwd::fields);
    let owned = |(account, password): (passwd::Account<'_>, &str)| Account {
        name: account.name.to_owned(),
        password: Secret::new(password.as_bytes().to_vec()),
        uid: account.uid,
        gid: account.gid,
        home: account.home.to_owned(),
        shell: account.shell.to_owned(),
    };
    lines.take(ENTRIES).map(owned).collect()
}

/// The groups in the text of the file; lines that cannot be read are left out.
#[must_use]
pub fn parse_groups(text: &str) -> Vec<Group> {
    let owned = |group: group::Group<'_>| Group {
        name: group.name.to_owned(),
        gid: group.gid,
        members: group.members().take(ENTRIES).map(str::to_owned).collect(),
    };
    group::groups(text).take(ENTRIES).map(owned).collect()
}

/// The entries in the bytes of the file; lines that cannot be read are left out.
#[must_use]
pub fn parse_shadow(bytes: &[u8]) -> Vec<Shadow> {
    let line = |line: &[u8]| -> Option<Shadow> {
        let mut fields = line.split(|byte| *byte == b':');
        let name = std::str::from_utf8(fields.next()?).ok()?.to_owned();
        let password = Secret::new(fields.next()?.to_vec());
        let most_days = fields.nth(2).and_then(|field| std::str::from_utf8(field).ok()?.trim().parse().ok());
        (!name.is_empty()).then_some(Shadow { name, password, most_days })
    };
    bytes.split(|byte| *byte == b'\n').filter_map(line).take(ENTRIES).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_read_and_broken_ones_left() {
        let accounts =
            parse_accounts("root:x:0:0:root:/root:/bin/bash\nbroken\n:x:1:1:::\n+::0:0:::\npi::1000:1000::/h:");
        let of: Vec<_> = accounts.iter().map(|a| (a.name.as_str(), a.uid, a.home.as_str(), a.shell.as_str())).collect();
        assert_eq!(of, [("root", 0, "/root", "/bin/bash"), ("+", 0, "", ""), ("pi", 1000, "/h", "")]);
        let groups = parse_groups("sudo:x:27:pi, ann\nnone\nempty:x:5:\n");
        assert_eq!(groups[0].members, ["pi", "ann"]);
        assert_eq!((groups.len(), groups[1].gid, groups[1].members.len()), (2, 5, 0));
        let shadow = parse_shadow(b"root:*:19000:0:99999:7:::\npi:$6$a$b:1:0::7\nx\nann::");
        assert_eq!(shadow.len(), 3);
        assert_eq!((shadow[0].most_days, shadow[1].most_days, shadow[2].most_days), (Some(99_999), None, None));
        assert_eq!(shadow[1].password.expose(), b"$6$a$b");
        assert!(!format!("{shadow:?}{accounts:?}").contains('$'));
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[ -~\n:]{0,200}") {
            let _ = parse_accounts(&text);
            let _ = parse_groups(&text);
            let _ = parse_shadow(text.as_bytes());
        }
    }
}
