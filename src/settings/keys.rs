//! The known keys of the local configuration: one table for the checks, the nearest-key hints and the sample
//! file.

use std::time::Duration;

use config::ValueKind;

use crate::model::units::ByteSize;

use super::defaults;
use super::error::{Fault, clipped};

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

/// The form of a value.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// Any text that is not empty.
    Text,
    /// An absolute path.
    Path,
    /// A host name or an IP address.
    Host,
    /// A TCP port.
    Port,
    /// A whole number with `s`, `m` or `h`.
    Duration {
        /// Smallest value.
        least: Duration,
        /// Largest value.
        most: Duration,
    },
    /// A number of bytes, with or without `KiB`, `MiB`, `GiB`.
    Size {
        /// Largest value.
        most: ByteSize,
    },
    /// One of some words.
    Choice {
        /// The words of this version.
        now: &'static [&'static str],
        /// Words that a later version will know.
        later: &'static [&'static str],
    },
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
        form: Form::Size { most: defaults::MIN_FREE_MOST },
        default: Some(defaults::STORAGE_MIN_FREE),
        example: "",
        help: &["This much of the file system is left free for others."],
        hidden: false,
    },
    Key {
        section: "collect",
        name: "collect.process_source",
        form: Form::Choice { now: &["auto", "connector", "poll"], later: &["ebpf", "audit", "fanotify"] },
        default: Some(defaults::COLLECT_PROCESS_SOURCE),
        example: "",
        help: &[
            "Where process starts are read from.",
            "auto: the best that works. connector: the kernel's process connector. poll: a look at /proc each second.",
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
            Given::Text(text) | Given::Variable(text) => self.form.read_text(text),
            Given::Integer(number) => number.and_then(|n| self.form.read_integer(n)),
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
            Given::Integer(_) if !takes_integers => Fault::WrongType { found: "a number", expected },
            Given::Integer(Some(number)) => Fault::BadValue { given: number.to_string(), expected },
            Given::Integer(None) => Fault::BadValue { given: "a number of this size".to_owned(), expected },
            Given::Text(_) if matches!(self.form, Form::Port) => Fault::WrongType { found: "text", expected },
            Given::Text(text) | Given::Variable(text) => match self.form {
                Form::Choice { later, .. } if later.contains(&text) => {
                    Fault::NotInThisVersion { given: shown(text), expected }
                }
                _ => Fault::BadValue { given: shown(text), expected },
            },
        }
    }
}

impl Form {
    /// The expected form, in words.
    #[must_use]
    pub fn expected(self) -> String {
        match self {
            Self::Text => "text in quotes, not empty".to_owned(),
            Self::Path => "an absolute path such as \"/etc/twinward/file\"".to_owned(),
            Self::Host => "a host name or an IP address in quotes".to_owned(),
            Self::Port => "a port from 1 to 65535".to_owned(),
            Self::Duration { least, most } => {
                let (least, most) = (duration_text(least), duration_text(most));
                format!("a duration such as \"60s\" or \"5m\", from {least} to {most}")
            }
            Self::Size { most } => format!("a number of bytes, or text such as \"64 MiB\", at most {most}"),
            Self::Choice { now, .. } => now.iter().map(|w| format!("\"{w}\"")).collect::<Vec<_>>().join(" or "),
        }
    }

    fn read_text(self, text: &str) -> Option<ValueKind> {
        // U+FFFD stands for bytes that are not UTF-8: a value that holds one is not what was meant.
        let clean = !text.is_empty() && !text.chars().any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER);
        match self {
            _ if !clean => None,
            Self::Text => Some(text.into()),
            Self::Path => (text.starts_with('/') && text.len() <= defaults::PATH_LENGTH).then(|| text.into()),
            Self::Host => is_host(text).then(|| text.into()),
            Self::Port => None,
            Self::Duration { least, most } => {
                parse_duration(text).filter(|d| (least..=most).contains(d)).map(|d| d.as_secs().into())
            }
            Self::Size { most } => ByteSize::parse(text).filter(|s| *s <= most).map(|s| s.as_u64().into()),
            Self::Choice { now, .. } => now.contains(&text).then(|| text.into()),
        }
    }

    fn read_integer(self, number: i64) -> Option<ValueKind> {
        match self {
            Self::Port => u16::try_from(number).ok().filter(|p| *p > 0).map(|p| u64::from(p).into()),
            Self::Size { most } => u64::try_from(number).ok().filter(|n| *n <= most.as_u64()).map(Into::into),
            _ => None,
        }
    }
}

fn is_host(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok()
        || (text.len() <= defaults::HOST_LENGTH
            && text.split('.').all(|label| {
                !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            }))
}

/// Reads `90s`, `5m` or `1h`: a whole number and a unit.
fn parse_duration(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let number = text.strip_suffix(unit)?.trim_end();
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return None,
    };
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    number.parse::<u64>().ok()?.checked_mul(factor).map(Duration::from_secs)
}

/// The shortest exact form of whole seconds that the file takes: `90s`, `5m`, `1h`.
#[must_use]
pub fn duration_text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => "0s".to_owned(),
        s if s.is_multiple_of(3600) => format!("{}h", s / 3600),
        s if s.is_multiple_of(60) => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_number_and_one_unit() {
        for (text, seconds) in [("60s", 60), ("5m", 300), ("1h", 3600), ("90 s", 90)] {
            assert_eq!(parse_duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "s", "60", "1.5m", "-1s", "1d", "1m30s", "99999999999999999999s", "9999999999999999999h", "1é"]
        {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        assert_eq!(duration_text(Duration::from_secs(90)), "90s");
        assert_eq!(duration_text(Duration::from_secs(120)), "2m");
        assert_eq!(duration_text(Duration::from_secs(7200)), "2h");
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        for host in ["hub.azure-devices.net", "127.0.0.1", "::1", "gateway_1"] {
            assert!(is_host(host), "{host}");
        }
        for host in ["", "a b", "a..b", "https://hub", "hub:8883", "[::1]", "hub/"] {
            assert!(!is_host(host), "{host}");
        }
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
