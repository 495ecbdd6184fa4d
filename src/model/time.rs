//! Wall-clock times with a trust flag, and monotonic instants.

use std::time::Duration;

use jiff::Unit;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// A wall-clock time and whether the clock could be believed when it was read.
///
/// Boards without a battery-backed clock start in the past; such times are kept, but marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timestamp {
    /// The moment, in UTC.
    pub utc: jiff::Timestamp,
    /// `false` if the clock was behind a time that is known to have passed.
    pub trusted: bool,
}

impl Timestamp {
    /// A time from a clock that is believed.
    #[must_use]
    pub fn trusted(utc: jiff::Timestamp) -> Self {
        Self { utc, trusted: true }
    }

    /// `2026-11-22T09:30:00.250Z`: RFC 3339 in UTC with milliseconds, as `TimestampUTC` wants it.
    #[must_use]
    pub fn utc_text(&self) -> String {
        format!("{:.3}", self.utc)
    }

    /// `2026-11-22T10:30:00.250+01:00`: RFC 3339 in `zone` with its numeric offset, as `TimestampLocal` wants it. In UTC
    /// the offset is `+00:00`.
    #[must_use]
    pub fn local_text(&self, zone: &TimeZone) -> String {
        let offset = zone.to_offset(self.utc);
        // RFC 3339 has no seconds in an offset; a few zones had them until 1972, where a clock that was never set stands.
        let offset = offset.round(Unit::Minute).unwrap_or(offset);
        format!("{:.3}", self.utc.display_with_offset(offset))
    }

    /// Whole seconds since 1970, as SAS expiry and boot arithmetic want it.
    #[must_use]
    pub fn unix_seconds(&self) -> i64 {
        self.utc.as_second()
    }
}

/// A monotonic instant: time since boot, suspended time included. Never compared across boots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(Duration);

impl Mono {
    /// The instant this long after boot.
    #[must_use]
    pub const fn from_boot(since: Duration) -> Self {
        Self(since)
    }

    /// How long after boot this is.
    #[must_use]
    pub const fn since_boot(self) -> Duration {
        self.0
    }

    /// The time from `earlier` to `self`, zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// `self + wait`, at most the largest instant.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait))
    }
}

/// One reading of both clocks; what pure logic takes as "now".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The wall clock.
    pub wall: Timestamp,
    /// The monotonic clock.
    pub mono: Mono,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_rfc_3339_with_milliseconds() {
        let at = Timestamp::trusted("2026-07-01T09:30:00.25Z".parse().unwrap());
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(at.utc_text(), "2026-07-01T09:30:00.250Z");
        assert_eq!(at.local_text(&zone), "2026-07-01T11:30:00.250+02:00");
        assert_eq!(at.local_text(&TimeZone::UTC), "2026-07-01T09:30:00.250+00:00");
    }

    /// The local text is the same moment as the UTC text, in every zone and at every turn of a clock.
    #[test]
    fn local_times_keep_their_moment() {
        let berlin = "CET-1CEST,M3.5.0,M10.5.0/3";
        let lord_howe = "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0";
        for (zone, utc, local) in [
            // Forward: the hour from 2 to 3 does not exist.
            (berlin, "2026-03-29T00:59:59.999Z", "2026-03-29T01:59:59.999+01:00"),
            (berlin, "2026-03-29T01:00:00.000Z", "2026-03-29T03:00:00.000+02:00"),
            // Back: the hour from 2 to 3 is there twice, and the offset tells which.
            (berlin, "2026-10-25T00:30:00.000Z", "2026-10-25T02:30:00.000+02:00"),
            (berlin, "2026-10-25T01:30:00.000Z", "2026-10-25T02:30:00.000+01:00"),
            // A change of half an hour.
            (lord_howe, "2026-04-04T14:59:59.000Z", "2026-04-05T01:59:59.000+11:00"),
            (lord_howe, "2026-04-04T15:00:00.000Z", "2026-04-05T01:30:00.000+10:30"),
            ("UTC0", "2026-07-01T09:30:00.000Z", "2026-07-01T09:30:00.000+00:00"),
            ("IST-5:30", "2026-07-01T09:30:00.000Z", "2026-07-01T15:00:00.000+05:30"),
            ("<+0545>-5:45", "2026-07-01T09:30:00.000Z", "2026-07-01T15:15:00.000+05:45"),
            ("NST3:30NDT,M3.2.0,M11.1.0", "2026-01-01T09:30:00.000Z", "2026-01-01T06:00:00.000-03:30"),
            // The year ends at another moment.
            ("<+14>-14", "2026-12-31T10:00:00.000Z", "2027-01-01T00:00:00.000+14:00"),
            ("<-12>12", "2027-01-01T11:59:59.999Z", "2026-12-31T23:59:59.999-12:00"),
            // The leap day, the last second that a kernel counts, and before 1970.
            (berlin, "2028-02-28T23:00:00.000Z", "2028-02-29T00:00:00.000+01:00"),
            (berlin, "2262-04-11T23:47:16.854Z", "2262-04-12T01:47:16.854+02:00"),
            ("EST5", "1969-12-31T23:59:59.500Z", "1969-12-31T18:59:59.500-05:00"),
            // An offset with seconds.
            ("<-0044>0:44:30", "1970-01-01T00:00:00.000Z", "1969-12-31T23:15:00.000-00:45"),
        ] {
            let at = Timestamp::trusted(utc.parse().unwrap());
            assert_eq!(at.utc_text(), utc);
            assert_eq!(at.local_text(&TimeZone::posix(zone).unwrap()), local);
            assert_eq!(local.parse::<jiff::Timestamp>().unwrap(), at.utc, "{zone}");
        }
    }

    #[test]
    fn instants_never_go_negative() {
        let (a, b) = (Mono::from_boot(Duration::from_secs(5)), Mono::from_boot(Duration::from_secs(7)));
        assert_eq!(b.since(a), Duration::from_secs(2));
        assert_eq!(a.since(b), Duration::ZERO);
    }
}
