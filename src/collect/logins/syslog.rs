//! A line of `/var/log/auth.log` or `/var/log/secure`, as rsyslog, syslog-ng and BusyBox write them:
//!
//! ```text
//! Jul  1 09:30:00 board sshd[812]: Accepted password for pi from 192.0.2.7 port 50022 ssh2
//! 2026-07-01T11:30:00.250000+02:00 board sshd[812]: Accepted …
//! Jul  1 09:30:00 board auth.info sshd[812]: Accepted …        (BusyBox, with facility and level)
//! ```
//!
//! A classic stamp has no year and no zone: it is the local time nearest to now that is not more than a day ahead. The
//! process id may be missing. A line longer than [`LONGEST`] bytes is no sign-in.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// Longest line that is looked at, in bytes: what rsyslog writes at most.
pub const LONGEST: usize = 8192;

/// What a line consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// When it was written.
    pub at: Timestamp,
    /// Whether that is known to the second only.
    pub coarse: bool,
    /// Name of the program.
    pub program: &'a str,
    /// Its process id.
    pub pid: Option<u32>,
    /// What it says.
    pub text: &'a str,
}

/// Takes a line apart; `None` if it is none.
#[must_use]
pub fn parse<'a>(line: &'a str, now: Timestamp, zone: &TimeZone) -> Option<Line<'a>> {
    if line.len() > LONGEST {
        return None;
    }
    let (at, coarse, rest) = stamp(line, now, zone)?;
    let (_host, rest) = rest.split_once(' ')?;
    let mut rest = rest.trim_start_matches(' ');
    if let Some((level, tail)) = rest.split_once(' ')
        && is_level(level)
    {
        rest = tail;
    }
    let (tag, text) = rest.split_once(": ")?;
    let (program, pid) = match tag.split_once('[') {
        Some((program, pid)) => (program, Some(pid.strip_suffix(']')?.parse().ok()?)),
        None => (tag, None),
    };
    // A tag is one word: anything else is the text of a program without one.
    let word = !program.is_empty() && program.len() <= 64 && !program.contains(' ');
    word.then_some(Line { at, coarse, program, pid, text })
}

/// `auth.info`, `authpriv.notice`.
fn is_level(word: &str) -> bool {
    word.split_once('.').is_some_and(|(facility, level)| {
        matches!(facility, "auth" | "authpriv" | "security" | "user" | "daemon")
            && !level.is_empty()
            && level.bytes().all(|b| b.is_ascii_lowercase())
    })
}

fn stamp<'a>(line: &'a str, now: Timestamp, zone: &TimeZone) -> Option<(Timestamp, bool, &'a str)> {
    if line.starts_with(|c: char| c.is_ascii_digit()) {
        let (stamp, rest) = line.split_once(' ')?;
        return Some((stamp.parse().ok()?, !stamp.contains('.'), rest));
    }
    let (stamp, rest) = (line.get(..15)?, line.get(15..)?.strip_prefix(' ')?);
    Some((classic(stamp, now, zone)?, true, rest))
}

/// `Jul  1 09:30:00`.
fn classic(stamp: &str, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = MONTHS.iter().zip(1..).find(|(name, _)| stamp.starts_with(**name))?.1;
    let number = |from: usize| stamp.get(from..from + 2)?.trim_start().parse::<i8>().ok();
    let separated = stamp.get(3..4) == Some(" ")
        && stamp.get(6..7) == Some(" ")
        && stamp.get(9..10) == Some(":")
        && stamp.get(12..13) == Some(":");
    let (day, hour, minute, second) = (number(4)?, number(7)?, number(10)?, number(13)?);
    if !separated {
        return None;
    }
    let latest = now.checked_add(Span::new().hours(24)).ok()?;
    let this_year = now.to_zoned(zone.clone()).year();
    // The 29th of February may be eight years back.
    (0..9).find_map(|back| {
        let civil = DateTime::new(this_year + 1 - back, month, day, hour, minute, second.min(59), 0).ok()?;
        let at = zone.to_ambiguous_zoned(civil).compatible().ok()?.timestamp();
        (at <= latest).then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn each_form_of_a_line_is_taken_apart() {
        let wanted =
            |stamp: &str, coarse, pid| Line { at: at(stamp), coarse, program: "sshd", pid, text: "Hello: you" };
        let now = at("2026-07-01T12:00:00Z");
        for (line, line_wanted) in [
            ("Jul  1 09:30:00 board sshd[812]: Hello: you", wanted("2026-07-01T07:30:00Z", true, Some(812))),
            ("Jul 11 09:30:00 board sshd: Hello: you", wanted("2025-07-11T07:30:00Z", true, None)),
            ("Dec 31 23:30:00 board sshd: Hello: you", wanted("2025-12-31T22:30:00Z", true, None)),
            ("Jul  1 09:30:00 board auth.info sshd[812]: Hello: you", wanted("2026-07-01T07:30:00Z", true, Some(812))),
            (
                "2026-07-01T11:30:00.250000+02:00 board sshd[812]: Hello: you",
                wanted("2026-07-01T09:30:00.25Z", false, Some(812)),
            ),
            ("2026-07-01T11:30:00+02:00 board sshd[812]: Hello: you", wanted("2026-07-01T09:30:00Z", true, Some(812))),
        ] {
            assert_eq!(parse(line, now, &berlin()), Some(line_wanted), "{line}");
        }
    }

    #[test]
    fn the_turn_of_the_year_and_a_slow_clock_are_no_year_off() {
        let new_year = at("2027-01-01T00:00:10Z");
        let zone = TimeZone::UTC;
        assert_eq!(classic("Dec 31 23:59:59", new_year, &zone), Some(at("2026-12-31T23:59:59Z")));
        // A reader whose clock is behind the writer's.
        let old_year = at("2026-12-31T23:59:50Z");
        assert_eq!(classic("Jan  1 00:00:01", old_year, &zone), Some(at("2027-01-01T00:00:01Z")));
        assert_eq!(classic("Feb 29 00:00:01", old_year, &zone), Some(at("2024-02-29T00:00:01Z")));
    }

    #[test]
    fn what_is_no_line_is_none() {
        let now = at("2026-07-01T12:00:00Z");
        for line in [
            "",
            "Jul",
            "Jul  1 09:30:00",
            "Jul  1 09:30:00 board",
            "Jul  1 09-30:00 board sshd[1]: x",
            "Jul 32 09:30:00 board sshd[1]: x",
            "Jul  1 09:30:00 board two words: x",
            "Jul  1 09:30:00 board sshd[x]: x",
            "2026-07-01T11:30:00 board sshd[1]: no zone",
            "-- MARK --",
        ] {
            assert_eq!(parse(line, now, &berlin()), None, "{line}");
        }
        let long = format!("Jul  1 09:30:00 board sshd[1]: {}", "x".repeat(LONGEST));
        assert_eq!(parse(&long, now, &berlin()), None);
    }

    proptest! {
        #[test]
        fn no_line_panics(line in "(Jul  1 09:30:00 |2026-07-01T09:30:00Z )?.{0,80}") {
            let _ = parse(&line, at("2026-07-01T12:00:00Z"), &berlin());
        }
    }
}
