//! The known keys of the local configuration: one table for the checks, the nearest-key hints and the sample
//! file.

use config::ValueKind;

use super::defaults;
use super::error::{Fault, clipped};
use super::form::Form;
use crate::model::units::ByteSize;

/// One key.
#[derive(Debug)]
pub struct Key {
    /// Its section, without brackets.
    pub section: &'static str,
    /// Dotted from the root, for example `hub.port`.
    pub name: &'static str,
    /// What its value looks like.
    pub form: Form,
    /// Its default as TOML text; `None` if it is simply absent.
    pub default: Option<&'static str>,
    /// A value as TOML text, for the sample of a key without a default.
    pub example: &'static str,
    /// What it does, in whole sentences; one line each.
    pub help: &'static [&'static str],
    /// Whether a wrong value could be, or hold, a secret: it is never shown.
    pub hidden: bool,
}

/// All keys, in the order of the sample file.
pub const KEYS: &[Key] = &[
    Key {
        section: "identity",
        name: "identity.connection_string_file",
        form: Form::Path,
        default: None,
        example: "\"/etc/twinward/connection-string\"",
        help: &[
            "File with the connection string of the module azureiotsecurity; mode 0600.",
            "Without it: $CREDENTIALS_DIRECTORY/connection-string if systemd provides it, else the path below.",
        ],
        hidden: true,
    },
    Key {
        section: "identity",
        name: "identity.connection_string",
        form: Form::Text,
        default: None,
        example: "\"HostName=...;DeviceId=...;ModuleId=azureiotsecurity;SharedAccessKey=...\"",
        help: &[
            "The connection string itself, instead of the file above (exactly one of the two).",
            "The file that holds this line must then have mode 0600.",
        ],
        hidden: true,
    },
    Key {
        section: "hub",
        name: "hub.messages",
        form: Form::Choice { now: &["open", "defender"], later: &[] },
        default: Some(defaults::HUB_MESSAGES),
        example: "",
        help: &[
            "open: ordinary telemetry, seen by your routes and endpoints.",
            "defender: handed to Microsoft's security pipeline, and hidden from you.",
        ],
        hidden: false,
    },
    Key {
        section: "hub",
        name: "hub.transport",
        form: Form::Choice { now: &["mqtt"], later: &["websocket"] },
        default: Some(defaults::HUB_TRANSPORT),
        example: "",
        help: &["How MQTT travels. mqtt: directly over TLS."],
        hidden: false,
    },
    Key {
        section: "hub",
        name: "hub.port",
        form: Form::Port,
        default: Some(defaults::HUB_PORT),
        example: "",
        help: &["TCP port of the hub or gateway."],
        hidden: false,
    },
    Key {
        section: "hub",
        name: "hub.host",
        form: Form::Host,
        default: None,
        example: "\"127.0.0.1\"",
        help: &["Dial this address instead. Certificates are still checked against the hub's or gateway's name."],
        hidden: false,
    },
    Key {
        section: "hub",
        name: "hub.ca_file",
        form: Form::Path,
        default: None,
        example: "\"/etc/twinward/extra-ca.pem\"",
        help: &["PEM certificates that are trusted besides those of the system."],
        hidden: false,
    },
    Key {
        section: "hub",
        name: "hub.direct_methods",
        form: Form::Switch,
        default: Some(defaults::HUB_DIRECT_METHODS),
        example: "",
        help: &[
            "Whether the hub may call ping, getStatus, collectNow and flush. They read or hurry; they change nothing.",
        ],
        hidden: false,
    },
    Key {
        section: "twin",
        name: "twin.object",
        form: Form::MemberName,
        default: Some(defaults::TWIN_OBJECT),
        example: "",
        help: &["Name of the configuration object in the module twin, in desired and in reported."],
        hidden: false,
    },
    Key {
        section: "storage",
        name: "storage.directory",
        form: Form::Path,
        default: Some(defaults::STORAGE_DIRECTORY),
        example: "",
        help: &["State that survives a power cut: the queue, the last good twin, the agent's id."],
        hidden: false,
    },
    Key {
        section: "storage",
        name: "storage.runtime_directory",
        form: Form::Path,
        default: None,
        example: "\"/run/twinward\"",
        help: &[
            "The newest events, before they are committed; on a tmpfs they cost no flash.",
            "Without it: $RUNTIME_DIRECTORY if systemd provides it, else inside storage.directory.",
        ],
        hidden: false,
    },
    Key {
        section: "storage",
        name: "storage.commit_interval",
        form: Form::Duration { least: defaults::COMMIT_INTERVAL_LEAST, most: defaults::COMMIT_INTERVAL_MOST },
        default: Some(defaults::STORAGE_COMMIT_INTERVAL),
        example: "",
        help: &["How long low-priority events may wait for the commit; a power cut loses at most these."],
        hidden: false,
    },
    Key {
        section: "storage",
        name: "storage.min_free_bytes",
        form: Form::Size { least: ByteSize::bytes(0), most: defaults::MIN_FREE_MOST },
        default: Some(defaults::STORAGE_MIN_FREE),
        example: "",
        help: &["This much of the file system is left free for others."],
        hidden: false,
    },
    Key {
        section: "collect",
        name: "collect.process_source",
        form: Form::Choice { now: &["auto", "ebpf", "audit", "connector", "fanotify", "poll"], later: &[] },
        default: Some(defaults::COLLECT_PROCESS_SOURCE),
        example: "",
        help: &[
            "Where process starts are read from.",
            "auto: the best that works, in this order. ebpf: programs of ours in the kernel.",
            "audit: the kernel's audit records.",
            "connector: the kernel's process connector. fanotify: the files that are opened to be run.",
            "poll: a look at /proc each second.",
        ],
        hidden: false,
    },
    Key {
        section: "collect",
        name: "collect.command_line_bytes",
        form: Form::Size { least: defaults::COMMAND_LINE_LEAST, most: defaults::COMMAND_LINE_MOST },
        default: Some(defaults::COLLECT_COMMAND_LINE),
        example: "",
        help: &["Longer command lines are cut, and say so."],
        hidden: false,
    },
    Key {
        section: "collect",
        name: "collect.loopback_connections",
        form: Form::Switch,
        default: Some(defaults::COLLECT_LOOPBACK_CONNECTIONS),
        example: "",
        help: &["Whether connections of the device with itself (127.0.0.1, ::1) are events too."],
        hidden: false,
    },
    Key {
        section: "collect",
        name: "collect.redact_secrets",
        form: Form::Switch,
        default: Some(defaults::COLLECT_REDACT_SECRETS),
        example: "",
        help: &["Whether passwords, tokens and the like in command lines are masked before anything is stored."],
        hidden: false,
    },
    Key {
        section: "collect",
        name: "collect.secret_names",
        form: Form::Text,
        default: None,
        example: "\"room-code, vault-word\"",
        help: &[
            "Names of options and variables whose values are masked too, besides the built-in ones (password, ...).",
        ],
        hidden: false,
    },
    Key {
        section: "collect",
        name: "collect.name_service",
        form: Form::Switch,
        default: Some(defaults::COLLECT_NAME_SERVICE),
        example: "",
        help: &[
            "Whether LocalUsers also asks the name service (getent), which may know the accounts of a directory.",
            "It has 5 s; many directories list nobody unless they are told to.",
        ],
        hidden: false,
    },
    Key {
        section: "log",
        name: "log.level",
        form: Form::Choice { now: &["error", "warn", "info", "debug", "trace"], later: &[] },
        default: Some(defaults::LOG_LEVEL),
        example: "",
        help: &["Least severity that is written: error, warn, info, debug or trace."],
        hidden: false,
    },
    Key {
        section: "log",
        name: "log.diagnostic_level",
        form: Form::Choice { now: &["off", "error", "warn", "info"], later: &[] },
        default: Some(defaults::LOG_DIAGNOSTIC_LEVEL),
        example: "",
        help: &[
            "Least severity that also goes to the hub, as Diagnostic events: off, error, warn or info.",
            "What log.level does not write does not go there either. The twin sets their priority, and Off ends them.",
        ],
        hidden: false,
    },
];

/// The key of this dotted name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The environment variable that overrides a key: `hub.port` is `TWINWARD_HUB__PORT`.
#[must_use]
pub fn variable(key: &Key) -> String {
    format!("TWINWARD_{}", key.name.replace('.', "__").to_uppercase())
}

/// A value as it was read, before it means anything.
#[derive(Clone, Copy, Debug)]
pub(super) enum Given<'a> {
    /// Text in a file.
    Text(&'a str),
    /// Text in the environment, where numbers are text too.
    Variable(&'a str),
    /// A whole number; `None` if it does not fit.
    Integer(Option<i64>),
    /// `true` or `false`.
    Boolean(bool),
    /// Anything else, in words.
    Other(&'static str),
}

impl Key {
    /// Reads a value into its one canonical form: text, or a whole number (port, seconds, bytes).
    pub(super) fn read(&self, given: Given<'_>) -> Result<ValueKind, Fault> {
        let value = match given {
            Given::Variable(text) if matches!(self.form, Form::Port) => {
                text.parse().ok().and_then(|n| self.form.read_integer(n))
            }
            Given::Variable(text) if matches!(self.form, Form::Switch) => {
                text.parse().ok().and_then(|on| self.form.read_boolean(on))
            }
            Given::Text(text) | Given::Variable(text) => self.form.read_text(text),
            Given::Integer(number) => number.and_then(|n| self.form.read_integer(n)),
            Given::Boolean(on) => self.form.read_boolean(on),
            Given::Other(_) => None,
        };
        value.ok_or_else(|| self.fault(given))
    }

    fn fault(&self, given: Given<'_>) -> Fault {
        let expected = self.form.expected();
        let takes_integers = matches!(self.form, Form::Port | Form::Size { .. });
        let shown = |text: &str| {
            if self.hidden { "the value (not shown)".to_owned() } else { format!("\"{}\"", clipped(text, 200)) }
        };
        match given {
            Given::Other(found) => Fault::WrongType { found, expected },
            Given::Boolean(_) => Fault::WrongType { found: "a boolean", expected },
            Given::Integer(_) if !takes_integers => Fault::WrongType { found: "a number", expected },
            Given::Integer(Some(number)) => Fault::BadValue { given: number.to_string(), expected },
            Given::Integer(None) => Fault::BadValue { given: "a number of this size".to_owned(), expected },
            Given::Text(_) if matches!(self.form, Form::Port | Form::Switch) => {
                Fault::WrongType { found: "text", expected }
            }
            Given::Text(text) | Given::Variable(text) => match self.form {
                Form::Choice { later, .. } if later.contains(&text) => {
                    Fault::NotInThisVersion { given: shown(text), expected }
                }
                _ => Fault::BadValue { given: shown(text), expected },
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_object_has_its_published_name_by_default() {
        assert_eq!(defaults::TWIN_OBJECT.trim_matches('"'), super::super::twin_keys::OBJECT);
    }

    #[test]
    fn each_key_belongs_to_its_section_and_has_a_value_to_show() {
        for key in KEYS {
            assert!(key.name.starts_with(&format!("{}.", key.section)), "{}", key.name);
            assert!(key.default.is_some() || !key.example.is_empty(), "{}", key.name);
            assert!(!key.help.is_empty(), "{}", key.name);
        }
    }
}
