//! The local configuration as a list: which value each key has, and where it came from.

use super::form;
use super::keys::KEYS;
use super::{Identity, LogLevel, MessageMode, Origin, ProcessSource, Settings, Transport};

/// One key of the local configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// Dotted key.
    pub key: &'static str,
    /// Its value as text; secrets are masked, an absent value is empty.
    pub value: String,
    /// Where it came from; `None` for a built-in default.
    pub origin: Option<Origin>,
}

impl Settings {
    /// All keys, in the order of the sample file.
    #[must_use]
    pub fn effective(&self) -> Vec<Effective> {
        let row = |key: &'static str| Effective {
            key,
            value: self.value(key).unwrap_or_default(),
            origin: self.origins.get(key).cloned(),
        };
        KEYS.iter().map(|key| row(key.name)).collect()
    }

    fn value(&self, key: &str) -> Option<String> {
        let path = |path: &std::path::Path| path.display().to_string();
        match key {
            "identity.connection_string" => match &self.identity {
                Identity::ConnectionString(_) => Some("(not shown)".to_owned()),
                Identity::ConnectionStringFile(_) | Identity::Credential(_) => None,
            },
            "identity.connection_string_file" => match &self.identity {
                Identity::ConnectionString(_) => None,
                Identity::ConnectionStringFile(file) | Identity::Credential(file) => Some(path(file)),
            },
            "hub.messages" => Some(self.hub.messages.as_str().to_owned()),
            "hub.transport" => Some(self.hub.transport.as_str().to_owned()),
            "hub.port" => Some(self.hub.port.to_string()),
            "hub.host" => self.hub.host.clone(),
            "hub.ca_file" => self.hub.ca_file.as_deref().map(path),
            "hub.direct_methods" => Some(self.hub.direct_methods.to_string()),
            "twin.object" => Some(self.twin.object.clone()),
            "storage.directory" => Some(path(&self.storage.directory)),
            "storage.runtime_directory" => self.storage.runtime_directory.as_deref().map(path),
            "storage.commit_interval" => Some(form::duration_text(self.storage.commit_interval)),
            "storage.min_free_bytes" => Some(self.storage.min_free.to_string()),
            "collect.process_source" => Some(self.collect.process_source.as_str().to_owned()),
            "collect.command_line_bytes" => Some(self.collect.command_line.to_string()),
            "collect.loopback_connections" => Some(self.collect.loopback_connections.to_string()),
            "collect.redact_secrets" => Some(self.collect.redact_secrets.to_string()),
            "collect.secret_names" => {
                (!self.collect.secret_names.is_empty()).then(|| self.collect.secret_names.join(", "))
            }
            "collect.name_service" => Some(self.collect.name_service.to_string()),
            "log.level" => Some(self.log.level.as_str().to_owned()),
            "log.diagnostic_level" => Some(self.log.diagnostic_level.map_or("off", LogLevel::as_str).to_owned()),
            _ => None,
        }
    }
}

impl MessageMode {
    /// As the file writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Defender => "defender",
        }
    }
}

impl Transport {
    /// As the file writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt",
        }
    }
}

impl ProcessSource {
    /// As the file writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Ebpf => "ebpf",
            Self::Audit => "audit",
            Self::Connector => "connector",
            Self::Fanotify => "fanotify",
            Self::Poll => "poll",
        }
    }
}

impl LogLevel {
    /// As the file writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}
