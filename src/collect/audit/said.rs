//! What one record of a program about a sign-in says: `pid=… uid=… auid=… ses=… msg='op=… acct=… exe=… hostname=… addr=…
//! terminal=… res=…'`. sudo's `USER_CMD` has the command in place of operation and name.

use std::net::IpAddr;

use crate::collect::logins::sighting::terminal;
use crate::sys::audit::record::{self, Stamp, Value};

/// What programs write in place of a name that is not known, or hidden because it may be a password.
const NO_NAME: [&str; 6] = ["", "?", "UNKNOWN", "(unknown)", "(unknown user)", "(invalid user)"];

/// Whether programs write records of this type about sign-ins.
pub(super) const fn is_about(kind: u16) -> bool {
    matches!(kind, 1100..=1113 | 1123)
}

/// What one record says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) stamp: Stamp,
    pub(super) pid: u32,
    /// Whom the process belongs to: for su and sudo the one who asks.
    pub(super) uid: Option<u32>,
    /// The user who signed in before, for su and sudo.
    pub(super) login_uid: Option<u32>,
    pub(super) session: Option<u32>,
    pub(super) operation: String,
    /// The name that was given; `None` if it is not known.
    pub(super) account: Option<String>,
    /// The user id, where it stands in place of the name.
    pub(super) id: Option<u32>,
    pub(super) executable: String,
    pub(super) address: Option<IpAddr>,
    pub(super) terminal: Option<String>,
    pub(super) success: bool,
}

impl Said {
    /// Reads a record; `None` if it has not the form of one about a sign-in.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let (stamp, pairs) = record::parse(body)?;
        let mut said = Self { stamp, ..Self::default() };
        let mut message = None;
        for (key, value) in pairs {
            match (key, value) {
                (b"pid", _) => said.pid = value.id()?,
                (b"uid", _) => said.uid = value.id(),
                (b"auid", _) => said.login_uid = value.id(),
                (b"ses", _) => said.session = value.id(),
                (b"msg", Value::Inner(text)) => message = Some(text),
                _ => {}
            }
        }
        let mut result = None;
        for (key, value) in record::inner(message?) {
            let text = || value.text().map(|text| String::from_utf8_lossy(&text).into_owned());
            match key {
                b"op" => said.operation = text().unwrap_or_default(),
                b"acct" => said.account = text().filter(|name| !NO_NAME.contains(&name.as_str())),
                b"id" => said.id = value.id(),
                b"exe" => said.executable = text().unwrap_or_default(),
                b"addr" => said.address = text().and_then(|text| text.parse().ok()),
                b"terminal" => said.terminal = text().as_deref().and_then(terminal),
                b"res" => result = Some(matches!(value.raw(), b"success" | b"1")),
                _ => {}
            }
        }
        said.success = result?;
        (said.pid != 0).then_some(said)
    }

    /// Name of the program that says it.
    pub(super) fn program(&self) -> &str {
        self.executable.rsplit('/').next().unwrap_or_default()
    }

    /// With what another record of the same attempt knows more.
    pub(super) fn and(self, other: Option<Self>) -> Self {
        let Some(other) = other else { return self };
        let (account, id) = (self.account.or(other.account), self.id.or(other.id));
        Self {
            account,
            id,
            address: self.address.or(other.address),
            terminal: self.terminal.or(other.terminal),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(message: &str) -> Said {
        let body = format!("audit(1795573476.071:3824): pid=7 uid=0 auid=4294967295 ses=2 msg='{message}'");
        Said::read(body.as_bytes()).unwrap()
    }

    #[test]
    fn a_record_is_read() {
        let read = said(
            "op=PAM:authentication grantors=? acct=\"pi\" exe=\"/usr/sbin/sshd\" hostname=? addr=192.0.2.7 terminal=ssh \
             res=failed",
        );
        assert_eq!((read.pid, read.login_uid, read.session), (7, None, Some(2)));
        assert_eq!((read.account.as_deref(), read.executable.as_str()), (Some("pi"), "/usr/sbin/sshd"));
        assert_eq!(read.address, Some("192.0.2.7".parse().unwrap()));
        assert_eq!((read.uid, read.terminal.as_deref(), read.success), (Some(0), None, false));
        let hex = said("op=login acct=6E6F626F6479 exe=\"/bin/login\" addr=? terminal=? res=1");
        assert_eq!((hex.account.as_deref(), hex.terminal, hex.success), (Some("nobody"), None, true));
        assert_eq!(said("op=login acct=\"(unknown)\" res=failed").account, None);
        assert_eq!(said("op=login id=1000 res=success").id, Some(1000));
        for bad in ["audit(1.2:3): pid=7 msg='op=login'", "audit(1.2:3): pid=7 res=success", "x", ""] {
            assert_eq!(Said::read(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "[ -~]{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Said::read(format!("audit(1.2:3): pid=7 msg='{text}'").as_bytes());
            let _ = Said::read(&bytes);
        }
    }
}
