//! Floor 2: text to meaning. The local configuration becomes [`Settings`], the desired twin becomes
//! [`agent_config::AgentConfig`]; every problem is reported together with its key.

pub mod agent_config;
pub mod defaults;
pub mod desired;
pub mod effective;
pub mod error;
pub mod form;
pub mod keys;
pub mod last_good;
mod layers;
pub mod load;
pub mod reported;
pub mod sample;
pub mod twin_keys;
pub mod twin_text;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::model::secret::Secret;
use crate::model::units::ByteSize;
use crate::sys::files::{self, SecretError};

/// The validated local configuration; immutable.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who we are at the hub.
    pub identity: Identity,
    /// How the hub is reached.
    pub hub: Hub,
    /// How the twin is read.
    pub twin: Twin,
    /// Where and how things are stored.
    pub storage: Storage,
    /// How things are collected.
    pub collect: Collect,
    /// How the agent logs.
    pub log: Log,
    /// Where each value came from, by dotted key; keys that are absent hold their built-in default.
    pub origins: BTreeMap<String, Origin>,
    /// Accepted, but worth a word; each a whole sentence.
    pub warnings: Vec<String>,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A configuration file.
    File(PathBuf),
    /// An environment variable, by its name.
    Environment(String),
}

/// `[identity]`: exactly one way.
#[derive(Clone, Debug)]
pub enum Identity {
    /// `connection_string`: the text itself.
    ConnectionString(Secret),
    /// `connection_string_file`: a file with mode 0600. If the key is absent and systemd's credentials directory has
    /// `connection-string`, that one; else `/etc/twinward/connection-string`.
    ConnectionStringFile(PathBuf),
    /// systemd's `$CREDENTIALS_DIRECTORY/connection-string`, taken if the key is absent and the file exists.
    Credential(PathBuf),
}

impl Identity {
    /// The connection string; a closing line break of its file is still there.
    ///
    /// # Errors
    /// A file that cannot be read, or that others could read, with the command that mends it.
    pub fn secret(&self) -> Result<Secret, SecretError> {
        self.secret_of(rustix::process::geteuid().as_raw())
    }

    /// As [`Identity::secret`], for another user than us, whose the file may be instead of ours.
    ///
    /// # Errors
    /// As [`Identity::secret`].
    pub fn secret_of(&self, user: u32) -> Result<Secret, SecretError> {
        match self {
            Self::ConnectionString(secret) => Ok(secret.clone()),
            Self::ConnectionStringFile(path) => files::read_secret(path, user),
            Self::Credential(path) => files::read_credential(path, user),
        }
    }
}

/// `[hub]`.
#[derive(Clone, Debug)]
pub struct Hub {
    /// Who sees the messages.
    pub messages: MessageMode,
    /// How MQTT travels.
    pub transport: Transport,
    /// The MQTT port, 8883 by default.
    pub port: u16,
    /// Dial this address; names are still checked against the hub's or gateway's name.
    pub host: Option<String>,
    /// Trusted besides the system store.
    pub ca_file: Option<PathBuf>,
    /// Whether the hub may call direct methods.
    pub direct_methods: bool,
}

/// `[twin]`.
#[derive(Clone, Debug)]
pub struct Twin {
    /// Name of the configuration object, in desired and in reported.
    pub object: String,
}

/// How messages are marked (protocol reference 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MessageMode {
    /// Ordinary telemetry, visible to the customer's routes and endpoints.
    Open,
    /// Marked with `$.ifid`: handed to Microsoft's pipeline and hidden from the customer.
    Defender,
}

/// How MQTT travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Directly over TLS.
    Mqtt,
}

/// `[storage]`.
#[derive(Clone, Debug)]
pub struct Storage {
    /// State that survives a power cut.
    pub directory: PathBuf,
    /// State that survives a crash of the process; costs no flash if it is a tmpfs. `None`: inside `directory`.
    pub runtime_directory: Option<PathBuf>,
    /// How long low-priority events may wait before they are written to `directory`.
    pub commit_interval: Duration,
    /// This much of the file system is left free.
    pub min_free: ByteSize,
}

impl Storage {
    /// Where files are that need to survive a crash of the process only.
    #[must_use]
    pub fn runtime(&self) -> &Path {
        self.runtime_directory.as_ref().unwrap_or(&self.directory)
    }
}

/// `[collect]`.
#[derive(Clone, Debug)]
pub struct Collect {
    /// Where process starts are read from.
    pub process_source: ProcessSource,
    /// Longest command line that is kept.
    pub command_line: ByteSize,
    /// Whether connections of the machine with itself are told.
    pub loopback_connections: bool,
    /// Whether secrets in command lines are masked.
    pub redact_secrets: bool,
    /// Names that tell a secret, besides the built-in ones.
    pub secret_names: Vec<String>,
    /// Whether the accounts of the name service are local users too.
    pub name_service: bool,
}

/// The sources of process starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProcessSource {
    /// The best one that works.
    Auto,
    /// Programs of ours in the kernel.
    Ebpf,
    /// The kernel's audit records.
    Audit,
    /// The kernel's process connector.
    Connector,
    /// The files that are opened to be run.
    Fanotify,
    /// Looking at `/proc` once a second.
    Poll,
}

/// `[log]`.
#[derive(Clone, Debug)]
pub struct Log {
    /// Least severity that is written.
    pub level: LogLevel,
    /// Least severity that becomes a Diagnostic event; `None`: none does.
    pub diagnostic_level: Option<LogLevel>,
}

/// Severities of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something is lost, or hands are needed.
    Error,
    /// Degraded, but recovering.
    Warn,
    /// A state changed.
    Info,
    /// Details for finding a fault.
    Debug,
    /// Everything.
    Trace,
}
