//! What a check is, once its text is read.

use crate::model::payload::BaselineSeverity;

use super::compare::Comparison;

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Names it, once among all.
    pub id: Box<str>,
    /// The state that holds when all is well.
    pub title: Box<str>,
    /// Why it matters.
    pub why: Box<str>,
    /// What to do if it fails.
    pub remediation: Box<str>,
    /// How grave a failure is.
    pub severity: BaselineSeverity,
    /// Number in the CIS benchmark, if it has one.
    pub cis: Option<Box<str>>,
    /// Number in the Common Configuration Enumeration, if it has one.
    pub cce: Option<Box<str>>,
    /// Which machines it is for.
    pub applies: Applies,
    /// What must hold, all of it.
    pub expect: Vec<Condition>,
}

/// Which machines a check is for; what is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applies {
    /// One of these processors; any if empty.
    pub architecture: Vec<Box<str>>,
    /// One of these distributions, or one that is like it; any if empty.
    pub distribution: Vec<Box<str>>,
    /// Only in containers, or only elsewhere.
    pub container: Option<bool>,
    /// Only with systemd, or only without.
    pub systemd: Option<bool>,
    /// Further conditions.
    pub conditions: Vec<Condition>,
}

/// Something that holds or does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// One of these holds.
    Any(Vec<Condition>),
    /// All of these hold.
    All(Vec<Condition>),
    /// This does not hold.
    Not(Box<Condition>),
    /// A look at the machine.
    Probe(Probe),
}

/// What is looked at, and what is expected there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Files: that they exist, whose they are, who may use them.
    File(FileProbe),
    /// A setting in a text file.
    Key(KeyProbe),
    /// Lines of a text file.
    Text(TextProbe),
    /// The content of a small file.
    Value {
        /// The file.
        path: Box<str>,
        /// What it must be.
        compare: Comparison,
    },
    /// A kernel parameter.
    Sysctl {
        /// Its name.
        name: Box<str>,
        /// What it must be.
        compare: Comparison,
    },
    /// A mount point.
    Mount(MountProbe),
    /// A module of the kernel.
    Module {
        /// Its name.
        name: Box<str>,
        /// Whether it must be loaded.
        loaded: Option<bool>,
        /// Whether it must be possible to load it.
        loadable: Option<bool>,
    },
    /// Services.
    Service {
        /// Names of units.
        names: Vec<Box<str>>,
        /// Whether one of them must be started at boot, or none.
        enabled: bool,
    },
    /// Packages.
    Package {
        /// Their names.
        names: Vec<Box<str>>,
        /// Whether one of them must be installed, or none.
        installed: bool,
    },
    /// The accounts.
    Account(AccountProbe),
    /// Who is in a group.
    Group {
        /// Its name.
        name: Box<str>,
        /// Who may be.
        members: Vec<Box<str>>,
    },
    /// An option of the SSH server.
    Sshd {
        /// Its name.
        option: Box<str>,
        /// What it must be.
        compare: Comparison,
        /// What it is if it is not set.
        default: Option<Box<str>>,
    },
    /// A stack of PAM.
    Pam(PamProbe),
    /// A word of the kernel's command line.
    Boot {
        /// Its name.
        name: Box<str>,
        /// What its value must be.
        compare: Option<Comparison>,
        /// Whether it must be there.
        present: Option<bool>,
    },
    /// Ports on which somebody waits.
    Port {
        /// Which ones.
        ports: Vec<u16>,
        /// TCP, else UDP.
        tcp: bool,
        /// Whether somebody must wait there, or nobody.
        listening: bool,
        /// Whether waiting for this machine alone is allowed.
        loopback: bool,
    },
}

/// See [`Probe::File`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileProbe {
    /// A path; it may have `*`.
    pub path: Box<str>,
    /// Whether there must be one, or none.
    pub exists: Option<bool>,
    /// Permission bits that are allowed.
    pub mode: Option<u32>,
    /// Names of the owners that are allowed; any if empty.
    pub owner: Vec<Box<str>>,
    /// Names of the groups that are allowed; any if empty.
    pub group: Vec<Box<str>>,
    /// A directory, or a regular file.
    pub directory: Option<bool>,
    /// Only files that begin as a private key does are looked at.
    pub private_keys: bool,
}

/// See [`Probe::Key`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyProbe {
    /// Name of the setting.
    pub key: Box<str>,
    /// The files, as paths that may have `*`.
    pub files: Vec<Box<str>>,
    /// Only in this section.
    pub section: Option<Box<str>>,
    /// What parts name and value: a blank, or `=`; either if absent.
    pub blank: Option<bool>,
    /// The last one counts, not the first one.
    pub last: bool,
    /// What it must be.
    pub compare: Comparison,
}

/// See [`Probe::Text`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextProbe {
    /// The files, as paths that may have `*`.
    pub files: Vec<Box<str>>,
    /// What a line must contain, or no line.
    pub part: Box<str>,
    /// Whether a line must contain it.
    pub wanted: bool,
    /// Letter by letter.
    pub exact: bool,
    /// Whether it holds if there is no such file.
    pub absent_holds: bool,
}

/// See [`Probe::Mount`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountProbe {
    /// Where.
    pub point: Box<str>,
    /// Whether it must be a file system of its own.
    pub separate: Option<bool>,
    /// Options that it must have.
    pub options: Vec<Box<str>>,
    /// Options that it must not have.
    pub without: Vec<Box<str>>,
    /// Kinds of file systems that are allowed; any if empty.
    pub kind: Vec<Box<str>>,
    /// Whether it holds if nothing is mounted there.
    pub absent_holds: bool,
}

/// See [`Probe::Account`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountProbe {
    /// What must hold for all accounts.
    pub rule: AccountRule,
    /// Only this account.
    pub name: Option<Box<str>>,
    /// Permission bits that are allowed.
    pub mode: u32,
    /// The most days.
    pub at_most: i64,
}

/// What must hold for all accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountRule {
    /// None has an empty password.
    EmptyPassword,
    /// Only root has user id 0.
    OnlyRootIsZero,
    /// No user id twice.
    UniqueUids,
    /// No name twice.
    UniqueNames,
    /// System accounts have no shell.
    SystemShells,
    /// The primary groups exist.
    GroupsExist,
    /// Others cannot look into the homes.
    HomeClosed,
    /// The homes belong to their users.
    HomeOwned,
    /// No hash that is easily broken.
    WeakHash,
    /// No known account of a vendor with its known password.
    DefaultPassword,
    /// No hash in `/etc/passwd`.
    PlainPassword,
    /// The account is not there, or no password opens it.
    Locked,
    /// Keys of SSH in the homes are closed.
    KeysClosed,
    /// Passwords must be changed after some days.
    MaxDays,
}

/// See [`Probe::Pam`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PamProbe {
    /// Services; the first one that exists counts.
    pub services: Vec<Box<str>>,
    /// `auth`, `account`, `password` or `session`.
    pub kind: Box<str>,
    /// What must hold.
    pub rule: PamRule,
}

/// What must hold for a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PamRule {
    /// It has the module.
    Requires {
        /// The module.
        module: Box<str>,
        /// An argument that it must have, and what its value must be.
        argument: Option<(Box<str>, Option<Comparison>)>,
    },
    /// It has not.
    Forbids(Box<str>),
    /// A wrong password does not let in.
    Closed,
}

impl Condition {
    /// What it is about, in a few words.
    #[must_use]
    pub fn subject(&self) -> String {
        match self {
            Self::Any(list) | Self::All(list) => list.iter().take(4).map(Self::subject).collect::<Vec<_>>().join(", "),
            Self::Not(inner) => inner.subject(),
            Self::Probe(probe) => probe.subject(),
        }
    }
}

impl Probe {
    /// What it looks at, in a few words.
    #[must_use]
    pub fn subject(&self) -> String {
        let list = |names: &[Box<str>]| names.join(", ");
        match self {
            Self::File(probe) => probe.path.to_string(),
            Self::Key(probe) => format!("{} in {}", probe.key, list(&probe.files)),
            Self::Text(probe) => list(&probe.files),
            Self::Value { path, .. } => path.to_string(),
            Self::Sysctl { name, .. } => name.to_string(),
            Self::Mount(probe) => format!("the mount at {}", probe.point),
            Self::Module { name, .. } => format!("the kernel module {name}"),
            Self::Service { names, .. } => format!("the service {}", list(names)),
            Self::Package { names, .. } => format!("the package {}", list(names)),
            Self::Account(_) => "the accounts".to_owned(),
            Self::Group { name, .. } => format!("the group {name}"),
            Self::Sshd { option, .. } => format!("sshd's {option}"),
            Self::Pam(probe) => format!("PAM's {}", list(&probe.services)),
            Self::Boot { name, .. } => format!("{name} on the kernel's command line"),
            Self::Port { ports, tcp, .. } => {
                let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
                format!("{} port {}", if *tcp { "TCP" } else { "UDP" }, ports.join(", "))
            }
        }
    }
}
