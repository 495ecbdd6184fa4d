//! What one line, record or journal entry says about a sign-in.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Where it stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// The systemd journal.
    Journal,
    /// `/var/log/auth.log` or `/var/log/secure`.
    AuthLog,
    /// `/var/log/wtmp`.
    Wtmp,
    /// `/var/log/btmp`.
    Btmp,
}

impl Origin {
    /// All of them, the one that tells most first.
    pub const ALL: [Self; 4] = [Self::Journal, Self::AuthLog, Self::Wtmp, Self::Btmp];

    /// As `ExtraDetails.Source` has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::AuthLog => "auth.log",
            Self::Wtmp => "wtmp",
            Self::Btmp => "btmp",
        }
    }

    /// Whether it holds records rather than words of programs.
    #[must_use]
    pub const fn is_record(self) -> bool {
        matches!(self, Self::Wtmp | Self::Btmp)
    }
}

/// Through what somebody signed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Service {
    /// OpenSSH.
    Ssh,
    /// Dropbear.
    Dropbear,
    /// login(1): console, serial line, telnet.
    Login,
    /// A display manager.
    Desktop,
    /// su(1).
    Su,
    /// sudo(8).
    Sudo,
    /// A record does not say.
    Unknown,
}

impl Service {
    /// Whether both may be the same one.
    #[must_use]
    pub fn agrees(self, other: Self) -> bool {
        self == other || self == Self::Unknown || other == Self::Unknown
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Act {
    /// Let in.
    Success,
    /// Refused.
    Fail,
    /// The session ended.
    Logout,
}

/// In which of its ways a source says it. A source says the same thing once in each way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Form {
    /// Something was tried that is no credential yet: an unknown name, a key that does not fit. There may be several.
    Probe,
    /// The program's own word on one credential.
    Verdict,
    /// The end of a connection that was not let in.
    Closing,
    /// PAM's word on one credential.
    Module,
    /// PAM's word on a session.
    Session,
    /// A record.
    Record,
}

/// What is said. What is not said is `None`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Said {
    /// Through what.
    pub service: Service,
    /// What happened.
    pub act: Act,
    /// In which way it is said.
    pub form: Form,
    /// The process that says it, or is it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pid: Option<u32>,
    /// Who signs in: for su the user one becomes, for sudo the user who asks.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub user: Option<String>,
    /// That user's id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
    /// The other user of su and sudo: for su the one who asks, for sudo the one that is acted as.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub other_user: Option<String>,
    /// Where from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub address: Option<IpAddr>,
    /// Where from, if only a name is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub host: Option<String>,
    /// Port of the other side.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub port: Option<u16>,
    /// Terminal without `/dev/`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub terminal: Option<String>,
    /// How: `password`, `publickey`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub method: Option<String>,
    /// Absolute path of the program.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub executable: Option<String>,
    /// The journal could not tell whether the sender is the program that it says it is.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub unverified: bool,
}

impl Said {
    /// Nothing but what happened.
    #[must_use]
    pub const fn new(service: Service, act: Act, form: Form) -> Self {
        Self {
            service,
            act,
            form,
            pid: None,
            user: None,
            uid: None,
            other_user: None,
            address: None,
            host: None,
            port: None,
            terminal: None,
            method: None,
            executable: None,
            unverified: false,
        }
    }

    /// With a name; the empty one and what login(1) writes for a name that it hides are none.
    #[must_use]
    pub fn by(mut self, user: &str) -> Self {
        self.user = (!user.is_empty() && user != "UNKNOWN" && user != "(unknown)").then(|| bounded(user));
        self
    }

    /// With the other user of su and sudo.
    #[must_use]
    pub fn and(mut self, other: &str) -> Self {
        self.other_user = (!other.is_empty()).then(|| bounded(other));
        self
    }

    /// From an address or, if it is none, a name.
    #[must_use]
    pub fn from(mut self, place: &str) -> Self {
        match address(place) {
            Some(address) => self.address = Some(address),
            None if place.is_empty() || place == "UNKNOWN" || place.starts_with(':') => {}
            None => self.host = Some(bounded(place)),
        }
        self
    }

    /// On a terminal, with or without `/dev/`. What is no terminal is none.
    #[must_use]
    pub fn on(mut self, terminal: &str) -> Self {
        self.terminal = self::terminal(terminal);
        self
    }

    /// In this way.
    #[must_use]
    pub fn with(mut self, method: &str) -> Self {
        self.method = (!method.is_empty()).then(|| bounded(method));
        self
    }
}

/// The terminal without `/dev/`; `None` if it is none.
#[must_use]
pub fn terminal(text: &str) -> Option<String> {
    let name = text.trim_start_matches("/dev/");
    let none = matches!(name, "" | "?" | "ssh" | "sshd" | "unknown") || name.ends_with(":notty");
    (!none).then(|| bounded(name))
}

/// A text as long as names may be: 256 bytes.
fn bounded(text: &str) -> String {
    text.get(..text.floor_char_boundary(256)).unwrap_or_default().to_owned()
}

/// An address without scope: `fe80::1%eth0` is `fe80::1`.
#[must_use]
pub fn address(text: &str) -> Option<IpAddr> {
    let plain = text.split_once('%').map_or(text, |(address, _)| address);
    plain.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// One thing that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// When it happened.
    pub at: jiff::Timestamp,
    /// Whether that is known to the second only.
    pub coarse: bool,
    /// Where it stood.
    pub origin: Origin,
    /// What is said.
    pub said: Said,
}
