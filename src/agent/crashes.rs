//! What crashed is held back for a while, so that a file, a kernel or a hub that makes one part panic does not take
//! the agent down after each start: pure. `crash_book.rs` keeps it.
//!
//! What crashed n times in a row waits until its last crash + pause(n); everything else runs at once. A success ends
//! the row: a snapshot that was taken, a source, a link or the ear for devices that has lived for a minute. What nothing can do without
//! (the core) is never held back; its row ends when the process has lived for a minute.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::collect::lane::Lane;
use crate::model::event::EventName;
use crate::model::time::{Mono, Now};
use crate::sys::crash;
use crate::sys::crash_file::Crash;

/// What lived so long works.
pub(super) const STABLE: Duration = Duration::from_secs(60);
/// The name of the thread of [`Part::HotPlug`].
pub(super) const HOTPLUG: &str = "hotplug";
/// More parts than the agent has; beyond it the oldest crashes are forgotten.
const PARTS: usize = 32;

/// What may crash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// The collector of a snapshot.
    Snapshot(EventName),
    /// The source of a lane.
    Source(Lane),
    /// Who listens for devices that come and go; the snapshot of devices is taken without it, too.
    HotPlug,
    /// Everything that a hub can bring about.
    Link,
    /// Anything else.
    Other(String),
}

impl Part {
    /// By the name of its thread or task.
    fn of(name: &str) -> Self {
        match name {
            crash::LINK => return Self::Link,
            HOTPLUG => return Self::HotPlug,
            // A thread that works for another.
            "ebpf-load" => return Self::Source(Lane::Kernel),
            _ => {}
        }
        let lane = Lane::ALL.into_iter().find(|lane| lane.as_str() == name).map(Self::Source);
        let snapshot = EventName::parse(name).map(Self::Snapshot);
        lane.or(snapshot).unwrap_or_else(|| Self::Other(name.to_owned()))
    }

    /// How long it is held back after so many crashes in a row.
    fn pause(&self, times: u32) -> Option<Duration> {
        let (first, longest) = match self {
            Self::Snapshot(_) => (60, 24 * 3600),
            Self::Source(_) | Self::HotPlug => (2, 300),
            Self::Link => (1, 300),
            Self::Other(_) => return None,
        };
        let seconds = 2_u64.saturating_pow(times.saturating_sub(1)).saturating_mul(first);
        Some(Duration::from_secs(seconds.min(longest)))
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Snapshot(name) => name.as_str(),
            Self::Source(lane) => lane.as_str(),
            Self::HotPlug => HOTPLUG,
            Self::Link => crash::LINK,
            Self::Other(name) => name,
        })
    }
}

/// Why something does not run, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) until: Mono,
    pub(super) why: String,
}

/// What crashed since it last worked. Within a process it only gets less: a crash ends the process.
#[derive(Debug, Default)]
pub(super) struct Ledger(BTreeMap<Part, Row>);

#[derive(Debug)]
struct Row {
    crash: Crash,
    held: Option<Held>,
    /// Since when it lives.
    up: Option<Mono>,
}

impl Ledger {
    /// Of what the last runs wrote down. A time in the future, from a clock that was wrong, counts as now.
    pub(super) fn new(crashes: Vec<Crash>, now: Now) -> Self {
        let mut rows: BTreeMap<Part, Crash> = BTreeMap::new();
        for crash in crashes {
            let part = Part::of(&crash.part);
            let last = crash.last.min(now.wall.utc);
            let (times, before) = rows.get(&part).map_or((0, last), |row| (row.times, row.last));
            // Lines are in the order in which it happened, whatever the clock said.
            let crash = Crash {
                part: part.to_string(),
                times: crash.times.saturating_add(times),
                last: last.max(before),
                ..crash
            };
            rows.insert(part, crash);
        }
        while rows.len() > PARTS {
            let oldest = rows.iter().min_by_key(|(_, crash)| crash.last).map(|(part, _)| part.clone());
            oldest.map(|part| rows.remove(&part));
        }
        let row = |(part, crash): (Part, Crash)| {
            let held = hold(&part, &crash, now);
            let up = matches!(part, Part::Other(_)).then_some(now.mono);
            (part, Row { crash, held, up })
        };
        Self(rows.into_iter().map(row).collect())
    }

    /// Why it must not run yet, if so.
    pub(super) fn held(&self, part: &Part, now: Mono) -> Option<&Held> {
        self.0.get(part)?.held.as_ref().filter(|held| now < held.until)
    }

    /// It lives from now on.
    pub(super) fn up(&mut self, part: &Part, now: Mono) {
        if let Some(row) = self.0.get_mut(part) {
            row.up.get_or_insert(now);
        }
    }

    /// It ended, without a crash.
    pub(super) fn down(&mut self, part: &Part) {
        if let Some(row) = self.0.get_mut(part) {
            row.up = None;
        }
    }

    /// It did what it is there for: whether that was news.
    pub(super) fn worked(&mut self, part: &Part) -> bool {
        self.0.remove(part).is_some()
    }

    /// Forgets what has lived for long enough: whether there was anything.
    pub(super) fn review(&mut self, now: Mono) -> bool {
        let before = self.0.len();
        self.0.retain(|_, row| row.up.is_none_or(|up| now.since(up) < STABLE));
        self.0.len() < before
    }

    /// Whether nothing is to be remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each part with its crashes, and how it is held back.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&Crash, Option<&Held>)> {
        self.0.values().map(|row| (&row.crash, row.held.as_ref()))
    }
}

fn hold(part: &Part, crash: &Crash, now: Now) -> Option<Held> {
    let gone = Duration::try_from(now.wall.utc.duration_since(crash.last)).unwrap_or_default();
    let wait = part.pause(crash.times)?.checked_sub(gone).filter(|wait| !wait.is_zero())?;
    let again = now.wall.utc.checked_add(wait).unwrap_or(now.wall.utc);
    let how_often =
        if crash.times == 1 { "it crashed".to_owned() } else { format!("it crashed {} times", crash.times) };
    let why = format!("{how_often}, last at {:.0}; tried again at {again:.0}", crash.last);
    Some(Held { until: now.mono.after(wait), why })
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;
    use proptest::prelude::*;

    use super::*;
    use crate::model::time::Timestamp;

    const BASELINE: Part = Part::Snapshot(EventName::OSBaseline);

    fn moment(second: i64) -> jiff::Timestamp {
        "2026-11-22T09:30:00Z".parse::<jiff::Timestamp>().unwrap() + second.seconds()
    }

    /// So many seconds later by the wall clock, an hour after boot.
    fn now(second: i64) -> Now {
        Now { wall: Timestamp::trusted(moment(second)), mono: Mono::from_boot(Duration::from_secs(3600)) }
    }

    fn crashed(part: &str, times: u32, second: i64) -> Crash {
        Crash { times, ..Crash::new(part, moment(second), "m", "p") }
    }

    fn wait(ledger: &Ledger, part: &Part) -> u64 {
        let at = now(0).mono;
        ledger.held(part, at).map_or(0, |held| held.until.since(at).as_secs())
    }

    #[test]
    fn pauses_double_from_the_first_crash_to_their_end() {
        let pauses = |part: Part| (1..=12).map(|n| part.pause(n).unwrap().as_secs()).collect::<Vec<_>>();
        let minute = [60, 120, 240, 480, 960, 1920, 3840, 7680, 15360, 30720, 61440, 86400];
        assert_eq!(pauses(BASELINE), minute);
        assert_eq!(pauses(Part::Source(Lane::Logins)), [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300]);
        assert_eq!(pauses(Part::Link), [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(BASELINE.pause(u32::MAX).unwrap().as_secs(), 86400);
        assert_eq!(Part::Other("core".into()).pause(100), None);
    }

    #[test]
    fn only_what_crashed_is_held_back_and_says_why() {
        let lines = vec![crashed("OSBaseline", 2, -30), crashed("core", 1, -1), crashed("OSBaseline", 1, -10)];
        let ledger = Ledger::new(lines, now(0));
        assert_eq!(wait(&ledger, &BASELINE), 230);
        let why = "it crashed 3 times, last at 2026-11-22T09:29:50Z; tried again at 2026-11-22T09:33:50Z";
        assert_eq!(ledger.held(&BASELINE, now(0).mono).unwrap().why, why);
        assert_eq!(ledger.held(&BASELINE, now(0).mono.after(Duration::from_secs(230))), None);
        for part in [Part::Snapshot(EventName::LocalUsers), Part::Link, Part::Other("core".into())] {
            assert_eq!(wait(&ledger, &part), 0, "{part}");
        }
        assert_eq!(wait(&Ledger::new(vec![crashed("OSBaseline", 3, -240)], now(0)), &BASELINE), 0);
    }

    #[test]
    fn a_thread_that_works_for_another_part_is_that_part() {
        let ledger = Ledger::new(["ebpf-load", "capture", "hotplug"].map(|name| crashed(name, 1, 0)).into(), now(0));
        let rows: Vec<_> = ledger.rows().map(|(crash, _)| (crash.part.as_str(), crash.times)).collect();
        assert_eq!(rows, [("capture", 2), ("hotplug", 1)]);
    }

    #[test]
    fn a_snapshot_that_was_taken_says_nothing_of_who_listens_for_devices() {
        let mut ledger = Ledger::new(vec![crashed("hotplug", 3, 0)], now(0));
        let snapshot = Part::Snapshot(EventName::ConnectedHardware);
        assert_eq!((wait(&ledger, &Part::HotPlug), wait(&ledger, &snapshot)), (8, 0));
        assert!(!ledger.worked(&snapshot) && !ledger.is_empty());
        ledger.up(&Part::HotPlug, now(0).mono);
        assert!(ledger.review(now(0).mono.after(STABLE)) && ledger.is_empty());
    }

    #[test]
    fn a_success_ends_the_row() {
        let names = ["OSBaseline", "logins", "link", "core"];
        let mut ledger = Ledger::new(names.map(|name| crashed(name, 5, 0)).into(), now(0));
        let left = |ledger: &Ledger| ledger.rows().map(|(crash, _)| crash.part.clone()).collect::<Vec<_>>();
        let later = |seconds| now(0).mono.after(Duration::from_secs(seconds));
        assert!(ledger.worked(&BASELINE) && !ledger.worked(&BASELINE));
        let logins = Part::Source(Lane::Logins);
        ledger.up(&logins, later(0));
        ledger.up(&Part::Link, later(0));
        ledger.down(&Part::Link);
        ledger.up(&Part::Link, later(30));
        ledger.up(&Part::Link, later(50));
        assert!(!ledger.review(later(59)));
        assert!(ledger.review(later(60)));
        assert_eq!(left(&ledger), ["link"]);
        assert!(ledger.review(later(90)) && ledger.is_empty());
    }

    fn lines() -> impl Strategy<Value = Vec<Crash>> {
        let name = prop_oneof!["(OSBaseline|hotplug|ebpf-load|logins|capture|link|core)", "\\PC{0,20}"];
        let line = (name, any::<u32>(), -400_000..400_000_i64).prop_map(|(part, times, at)| crashed(&part, times, at));
        prop::collection::vec(line, 0..60)
    }

    proptest! {
        /// Whatever was written down and whatever the clock said: nothing waits longer than its pause, what cannot be
        /// done without does not wait, and what is written anew is bounded and says the same.
        #[test]
        fn nothing_is_held_for_long(lines in lines()) {
            let ledger = Ledger::new(lines, now(0));
            prop_assert!(ledger.0.len() <= PARTS);
            for (part, row) in &ledger.0 {
                prop_assert!(row.crash.last <= moment(0));
                let longest = part.pause(row.crash.times).map_or(0, |pause| pause.as_secs());
                prop_assert!(wait(&ledger, part) <= longest, "{part}");
                prop_assert!(longest <= 24 * 3600);
                prop_assert_eq!(row.held.is_some(), wait(&ledger, part) > 0);
            }
            let again = Ledger::new(ledger.rows().map(|(crash, _)| crash.clone()).collect(), now(0));
            prop_assert_eq!(ledger.rows().collect::<Vec<_>>(), again.rows().collect::<Vec<_>>());
        }

        /// One crash more never shortens the wait.
        #[test]
        fn one_more_crash_never_shortens_the_wait(lines in lines(), name in "(OSBaseline|capture|link)") {
            let before = wait(&Ledger::new(lines.clone(), now(0)), &Part::of(&name));
            let with = lines.into_iter().chain([crashed(&name, 1, 0)]).collect();
            prop_assert!(wait(&Ledger::new(with, now(0)), &Part::of(&name)) >= before);
        }
    }
}
