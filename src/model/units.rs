//! Units that carry their meaning: priorities, byte sizes, ISO-8601 durations.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};
use thiserror::Error;

use super::loss::Queue;

/// The priority that the twin gives to an event type. Canonical text: `High`, `Low`, `Off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Priority {
    /// Leaves with the high-priority frequency.
    High,
    /// Leaves with the low-priority frequency.
    Low,
    /// Not collected: its source is not even opened.
    Off,
}

impl Priority {
    /// Reads the three words in any letter case, as both old agents did.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::High, Self::Low, Self::Off].into_iter().find(|p| p.as_str().eq_ignore_ascii_case(text))
    }

    /// The canonical text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::High => "High",
            Self::Low => "Low",
            Self::Off => "Off",
        }
    }

    /// The queue that events of this priority enter; `None` for `Off`.
    #[must_use]
    pub const fn queue(self) -> Option<Queue> {
        match self {
            Self::High => Some(Queue::High),
            Self::Low => Some(Queue::Low),
            Self::Off => None,
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct ByteSize(u64);

impl ByteSize {
    /// This many bytes.
    #[must_use]
    pub const fn bytes(count: u64) -> Self {
        Self(count)
    }

    /// This many times 1,048,576 bytes.
    #[must_use]
    pub const fn mebibytes(count: u64) -> Self {
        Self(count * 1024 * 1024)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// Reads `4096`, `64 KiB`, `64 MiB` or `1 GiB` (whole numbers; powers of 1024; the blank is optional).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let factor: u64 = match unit.trim() {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        number.parse::<u64>().ok()?.checked_mul(factor).map(Self)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, name) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
            if self.0 >= unit && self.0.is_multiple_of(unit) {
                return write!(f, "{} {name}", self.0 / unit);
            }
        }
        write!(f, "{} B", self.0)
    }
}

/// Why a text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DurationError {
    /// Not of the published form.
    #[error("an ISO-8601 duration such as PT7M, PT1.5H, P1D or P1W")]
    Form,
    /// Years and months have no fixed length.
    #[error("a duration of weeks, days, hours, minutes and seconds: years and months have no fixed length")]
    Calendar,
    /// More than 100 years.
    #[error("a duration of at most 100 years")]
    TooLong,
}

/// An exact ISO-8601 duration, as the published twin schema writes it: upper case, no sign, a fraction on the last
/// component only. A day is 24 h and a week 7 days; years and months are refused. It keeps the text it was read from,
/// so that what is reported equals what was desired, character for character.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IsoDuration {
    length: Duration,
    text: Box<str>,
}

const LONGEST: Duration = Duration::from_secs(100 * 366 * 86_400);

impl IsoDuration {
    /// Reads the published form.
    ///
    /// # Errors
    /// Says what form was expected.
    pub fn parse(text: &str) -> Result<Self, DurationError> {
        let body = text.strip_prefix('P').ok_or(DurationError::Form)?;
        if text.len() > 64 || body.is_empty() || body.ends_with('T') {
            return Err(DurationError::Form);
        }
        let (days, clock) = body.split_once('T').map_or((body, ""), |(d, c)| (d, c));
        let mut total = Duration::ZERO;
        let mut ended_by_fraction = false;
        for (part, units) in [
            (days, &[('Y', None), ('M', None), ('W', Some(604_800)), ('D', Some(86_400))][..]),
            (clock, &[('H', Some(3600)), ('M', Some(60)), ('S', Some(1))][..]),
        ] {
            let mut rest = part;
            let mut units = units.iter();
            while !rest.is_empty() {
                let end = rest.find(|c: char| c.is_ascii_uppercase()).ok_or(DurationError::Form)?;
                let (number, tail) = (&rest[..end], &rest[end..]);
                let letter = tail.chars().next().ok_or(DurationError::Form)?;
                let (_, seconds) = units.find(|(l, _)| *l == letter).ok_or(DurationError::Form)?;
                if ended_by_fraction {
                    return Err(DurationError::Form);
                }
                let (component, fraction) = component(number, seconds.unwrap_or(1))?;
                if seconds.is_none() {
                    return Err(DurationError::Calendar);
                }
                ended_by_fraction = fraction;
                total = total.checked_add(component).ok_or(DurationError::TooLong)?;
                rest = &tail[1..];
            }
        }
        if total > LONGEST {
            return Err(DurationError::TooLong);
        }
        Ok(Self { length: total, text: text.into() })
    }

    /// A duration of whole seconds in its shortest usual form.
    #[must_use]
    pub fn from_secs(seconds: u64) -> Self {
        let (days, hours, minutes, rest) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        let mut text = String::from("P");
        if days > 0 {
            text.push_str(&format!("{days}D"));
        }
        if !seconds.is_multiple_of(86_400) || days == 0 {
            text.push('T');
            for (count, letter) in [(hours, 'H'), (minutes, 'M'), (rest, 'S')] {
                if count > 0 || (letter == 'S' && seconds == 0) {
                    text.push_str(&format!("{count}{letter}"));
                }
            }
        }
        Self { length: Duration::from_secs(seconds), text: text.into() }
    }

    /// The length.
    #[must_use]
    pub const fn length(&self) -> Duration {
        self.length
    }

    /// The text it was read from.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Reads `12` or `1.5` times `seconds`; also says whether there was a fraction.
fn component(number: &str, seconds: u64) -> Result<(Duration, bool), DurationError> {
    let (whole, fraction) = number.split_once('.').map_or((number, None), |(w, f)| (w, Some(f)));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !fraction.is_none_or(digits) {
        return Err(DurationError::Form);
    }
    let whole: u64 = whole.parse().map_err(|_| DurationError::TooLong)?;
    let mut length = Duration::from_secs(whole.checked_mul(seconds).ok_or(DurationError::TooLong)?);
    if let Some(fraction) = fraction {
        let nanos = fraction
            .bytes()
            .take(9)
            .chain(std::iter::repeat(b'0'))
            .take(9)
            .fold(0_u64, |n, d| n * 10 + u64::from(d - b'0'));
        length = length.saturating_add(Duration::from_nanos(nanos.saturating_mul(seconds)));
    }
    Ok((length, fraction.is_some()))
}

impl fmt::Display for IsoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for IsoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_mean_something_exact() {
        for (text, seconds) in [
            ("PT7M", 420.0),
            ("PT1.5H", 5400.0),
            ("P1W", 604_800.0),
            ("P1W2D", 777_600.0),
            ("P1DT1H", 90_000.0),
            ("PT0S", 0.0),
            ("PT0.25S", 0.25),
            ("PT1H30M", 5400.0),
        ] {
            let read = IsoDuration::parse(text).unwrap();
            assert!((read.length().as_secs_f64() - seconds).abs() < 1e-9, "{text}");
            assert_eq!(read.as_str(), text);
        }
    }

    #[test]
    fn what_the_schema_refuses_is_refused() {
        for text in [
            "", "P", "PT", "00:07:00", "-PT5M", "pt7m", "PT1H30", "PT1M1H", "PT1.5H3M", "P1H", "PT1D", "P1DT", "PT.5S",
            "PT5.S", "PT1S ", "PT١S", "PT1,5H", "PT1.5.5H",
        ] {
            assert_eq!(IsoDuration::parse(text), Err(DurationError::Form), "{text}");
        }
        for text in ["P1Y", "P1M", "P1Y2M", "P1M1D"] {
            assert_eq!(IsoDuration::parse(text), Err(DurationError::Calendar), "{text}");
        }
        for text in ["P99999999999999999999D", "P99999999D", "PT9999999999999999999H"] {
            assert_eq!(IsoDuration::parse(text), Err(DurationError::TooLong), "{text}");
        }
    }

    #[test]
    fn seconds_are_written_in_their_usual_form() {
        for (seconds, text) in [(0, "PT0S"), (420, "PT7M"), (5400, "PT1H30M"), (86_400, "P1D"), (90_001, "P1DT1H1S")] {
            let written = IsoDuration::from_secs(seconds);
            assert_eq!(written.as_str(), text);
            assert_eq!(IsoDuration::parse(text).unwrap(), written);
        }
    }

    #[test]
    fn sizes_and_priorities() {
        assert_eq!(ByteSize::parse("64 MiB"), Some(ByteSize::mebibytes(64)));
        assert_eq!(ByteSize::parse("4096"), Some(ByteSize::bytes(4096)));
        assert_eq!(ByteSize::parse("64MB"), None);
        assert_eq!(ByteSize::parse("99999999999 GiB"), None);
        assert_eq!(ByteSize::mebibytes(64).to_string(), "64 MiB");
        assert_eq!(Priority::parse("hIGH"), Some(Priority::High));
        assert_eq!(Priority::parse("Operational"), None);
    }
}
