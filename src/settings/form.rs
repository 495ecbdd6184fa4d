//! The forms that a value of the local configuration can have, and how each is read.

use std::time::Duration;

use config::ValueKind;

use crate::model::units::ByteSize;

use super::defaults;

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
        /// Smallest value.
        least: ByteSize,
        /// Largest value.
        most: ByteSize,
    },
    /// `true` or `false`.
    Switch,
    /// The name of a member of the twin.
    MemberName,
    /// One of some words.
    Choice {
        /// The words of this version.
        now: &'static [&'static str],
        /// Words that a later version will know.
        later: &'static [&'static str],
    },
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
            Self::Size { least, most } if least.as_u64() == 0 => {
                format!("a number of bytes, or text such as \"64 MiB\", at most {most}")
            }
            Self::Size { least, most } => {
                format!("a number of bytes, or text such as \"64 MiB\", from {least} to {most}")
            }
            Self::Switch => "true or false, without quotes".to_owned(),
            Self::MemberName => {
                let most = defaults::MEMBER_NAME_LENGTH;
                format!("a name in quotes of at most {most} bytes, without blank, dot, $ or control character")
            }
            Self::Choice { now, .. } => now.iter().map(|w| format!("\"{w}\"")).collect::<Vec<_>>().join(" or "),
        }
    }

    pub(super) fn read_text(self, text: &str) -> Option<ValueKind> {
        // U+FFFD stands for bytes that are not UTF-8: a value that holds one is not what was meant.
        let clean = !text.is_empty() && !text.chars().any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER);
        match self {
            _ if !clean => None,
            Self::Text => Some(text.into()),
            Self::Path => (text.starts_with('/') && text.len() <= defaults::PATH_LENGTH).then(|| text.into()),
            Self::Host => is_host(text).then(|| text.into()),
            Self::Port | Self::Switch => None,
            Self::MemberName => is_member_name(text).then(|| text.into()),
            Self::Duration { least, most } => {
                parse_duration(text).filter(|d| (least..=most).contains(d)).map(|d| d.as_secs().into())
            }
            Self::Size { least, most } => {
                ByteSize::parse(text).filter(|s| (least..=most).contains(s)).map(|s| s.as_u64().into())
            }
            Self::Choice { now, .. } => now.contains(&text).then(|| text.into()),
        }
    }

    pub(super) fn read_boolean(self, on: bool) -> Option<ValueKind> {
        matches!(self, Self::Switch).then(|| on.into())
    }

    pub(super) fn read_integer(self, number: i64) -> Option<ValueKind> {
        match self {
            Self::Port => u16::try_from(number).ok().filter(|p| *p > 0).map(|p| u64::from(p).into()),
            Self::Size { least, most } => {
                u64::try_from(number).ok().filter(|n| (least.as_u64()..=most.as_u64()).contains(n)).map(Into::into)
            }
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

/// What IoT Hub takes as the name of a twin member, and what is not the agent's own second object.
fn is_member_name(text: &str) -> bool {
    text.len() <= defaults::MEMBER_NAME_LENGTH && !text.contains([' ', '.', '$']) && text != defaults::OWN_OBJECT
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
}
