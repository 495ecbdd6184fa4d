//! What was started while the kernel had no room for its records, found again in `/proc`.
//!
//! After a loss among process starts, the processes are looked at: one that was started within the loss, runs a program
//! and was not told is told now. Its `ExtraDetails` have `FoundAfterLoss` = `true`, and its time is that of the process.
//! What has ended by then stays lost, and so does a program that an older process started in its own place. The gap is
//! told in any case, with what the kernel counted: it is an upper bound.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::lane::SourceContext;
use super::process::program_paths::ProgramPaths;
use super::process::{Reader, Started};
use super::{Drained, Loss, Source, SourceChoice, SourceError};
use crate::model::event::{EventName, Observation};
use crate::model::event_set::EventSet;
use crate::model::payload::Payload;
use crate::model::time::{Mono, Now, Timestamp};
use crate::sys::clock::Clock;
use crate::sys::procfs::{self, Stat};
use crate::sys::wake::Waker;

/// From the end of a loss to the look, and from the look to the telling: what the kernel holds is read meanwhile.
const AFTER: Duration = Duration::from_secs(1);
/// A loss is not taken back further than this.
const REMEMBERED: Duration = Duration::from_secs(5);
/// So many starts of that time are remembered; of more only the newest.
const MOST: usize = 8192;
/// A clock tick, in which `/proc` counts.
const TICK: Duration = Duration::from_millis(10);

/// Wraps a source of process starts so that what it loses is looked for.
pub(super) fn after_loss(source: Box<dyn Source>, context: &SourceContext, wanted: EventSet) -> Box<dyn Source> {
    let clock = Arc::clone(&context.clock);
    let search = Search::new(clock.now().mono);
    let paths = context.program_paths.clone();
    Box::new(Resync { source, reader: Reader::new(context), paths, clock, wanted, search, serial: 0 })
}

/// See the top of this file.
struct Resync {
    source: Box<dyn Source>,
    reader: Reader,
    paths: ProgramPaths,
    clock: Arc<dyn Clock>,
    wanted: EventSet,
    search: Search,
    serial: u64,
}

impl Resync {
    fn take_note(&mut self, fresh: &[Observation], losses: &[Loss], now: Now) {
        for seen in fresh {
            if let Payload::ProcessCreate(start) = &seen.what {
                self.search.told(start.process_id, now.mono);
                self.paths.started(self.reader.host(), &start.executable);
            }
        }
        for loss in losses.iter().filter(|loss| loss.events.contains(EventName::ProcessCreate)) {
            self.search.lost(mono(loss.start, now), mono(loss.end, now));
        }
    }

    fn look(&mut self, now: Now, out: &mut Vec<Observation>) {
        let host = self.reader.host();
        let found = self.search.turn(now.mono, || {
            let (pids, _) = procfs::processes(host).unwrap_or_default();
            pids.iter().filter_map(|pid| procfs::stat(host, *pid)).collect()
        });
        for stat in found {
            let at = wall(started(&stat), now);
            let mut seen = self.reader.observe(Started { pid: stat.pid, parent: None, stat: Some(stat) });
            seen.at = at;
            if let Payload::ProcessCreate(start) = &mut seen.what {
                start.extra_details.insert("FoundAfterLoss".to_owned(), "true".to_owned());
            }
            out.push(seen);
        }
    }
}

impl Source for Resync {
    fn choice(&self) -> &SourceChoice {
        self.source.choice()
    }

    fn waker(&self) -> Waker {
        self.source.waker()
    }

    fn resumed(&self) -> EventSet {
        self.source.resumed()
    }

    fn want(&mut self, events: EventSet) -> Result<(), SourceError> {
        self.wanted = events;
        if !events.contains(EventName::ProcessCreate) {
            self.search = Search::new(self.clock.now().mono);
        }
        self.source.want(events)
    }

    fn drain(&mut self, wait: Duration, out: &mut Vec<Observation>) -> Result<Drained, SourceError> {
        let from = out.len();
        let before = self.clock.now().mono;
        let wait = self.search.due().map_or(wait, |due| wait.min(due.since(before)));
        let drained = self.source.drain(wait, out)?;
        if self.wanted.contains(EventName::ProcessCreate) {
            let now = self.clock.now();
            self.take_note(out.get(from..).unwrap_or_default(), &drained.losses, now);
            self.look(now, out);
        }
        for seen in out.iter_mut().skip(from) {
            seen.serial = self.serial;
            self.serial += 1;
        }
        Ok(drained)
    }
}

fn mono(at: Timestamp, now: Now) -> Mono {
    let ago = Duration::try_from(now.wall.utc.duration_since(at.utc)).unwrap_or_default();
    Mono::from_boot(now.mono.since_boot().saturating_sub(ago))
}

fn wall(at: Mono, now: Now) -> Timestamp {
    let utc = now.wall.utc.checked_sub(now.mono.since(at)).unwrap_or(now.wall.utc);
    Timestamp { utc, ..now.wall }
}

fn started(stat: &Stat) -> Mono {
    Mono::from_boot(Duration::from_millis(stat.start.saturating_mul(10)))
}

/// Losses that follow each other within [`AFTER`] are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hole {
    start: Mono,
    end: Mono,
}

/// Which processes were told, and which are to be looked for: pure.
#[derive(Debug)]
struct Search {
    told: VecDeque<(u32, Mono)>,
    /// Every start that was told from here on is in `told`.
    remembered_from: Mono,
    hole: Option<Hole>,
    /// Found, and told at this time if the source does not do it before.
    found: Option<(Mono, Vec<Stat>)>,
}

impl Search {
    fn new(now: Mono) -> Self {
        Self { told: VecDeque::new(), remembered_from: now, hole: None, found: None }
    }

    /// The source has told a start, read at this time.
    fn told(&mut self, pid: u32, now: Mono) {
        let old = |at: Mono| now.since(at) > REMEMBERED;
        // A hole that is still to be looked at needs what was told since its start, and in the tick before: `/proc` rounds
        // down, so a process of the hole may seem to be as old as that.
        while let Some((_, at)) = self.told.front().copied()
            && (self.told.len() >= MOST || (old(at) && self.hole.is_none_or(|hole| at.after(TICK) <= hole.start)))
        {
            self.told.pop_front();
            self.remembered_from = self.remembered_from.max(at.after(TICK));
        }
        self.told.push_back((pid, now));
        if let Some((_, found)) = &mut self.found {
            found.retain(|stat| stat.pid != pid);
        }
    }

    /// The source has lost something in this time.
    fn lost(&mut self, start: Mono, end: Mono) {
        let start = self.hole.map_or(start, |hole| hole.start.min(start));
        self.hole = Some(Hole { start, end: self.hole.map_or(end, |hole| hole.end.max(end)) });
    }

    /// When [`Search::turn`] has something to do.
    fn due(&self) -> Option<Mono> {
        match (&self.found, self.hole) {
            (Some((due, _)), _) => Some(*due),
            (None, hole) => hole.map(|hole| hole.end.after(AFTER)),
        }
    }

    /// Does what is due: looks, or gives what it found.
    fn turn(&mut self, now: Mono, look: impl FnOnce() -> Vec<Stat>) -> Vec<Stat> {
        if self.due().is_none_or(|due| now < due) {
            return Vec::new();
        }
        if let Some((_, found)) = self.found.take() {
            for stat in &found {
                self.told(stat.pid, now);
            }
            return found;
        }
        let Some(hole) = self.hole.take() else { return Vec::new() };
        // `/proc` counts in ticks and rounds down.
        let from = hole.start.max(self.remembered_from);
        let within = |stat: &Stat| started(stat).after(TICK) > from && started(stat) <= hole.end;
        let told: HashSet<u32> = self.told.iter().map(|(pid, _)| *pid).collect();
        let mut found = look();
        found.retain(|stat| !stat.is_kernel_thread() && stat.has_execed() && within(stat) && !told.contains(&stat.pid));
        if !found.is_empty() {
            self.found = Some((now.after(AFTER), found));
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn at(milliseconds: u64) -> Mono {
        Mono::from_boot(Duration::from_millis(milliseconds))
    }

    fn stat(pid: u32, milliseconds: u64) -> Stat {
        Stat {
            pid,
            name: "x".into(),
            state: 'S',
            parent: 1,
            flags: 0,
            start: milliseconds / 10,
            arguments: None,
            arguments_at: None,
        }
    }

    fn pids(found: &[Stat]) -> Vec<u32> {
        found.iter().map(|stat| stat.pid).collect()
    }

    #[test]
    fn what_lives_and_was_not_told_is_found_after_a_loss() {
        let mut search = Search::new(at(10_000));
        search.told(1, at(20_000));
        assert_eq!(search.due(), None);
        search.lost(at(20_100), at(20_200));
        search.told(3, at(20_300));
        assert_eq!(search.due(), Some(at(21_200)));
        let forked = Stat { flags: 0x40, ..stat(6, 20_160) };
        let thread = Stat { flags: 0x0020_0000, ..stat(7, 20_160) };
        let all =
            vec![stat(1, 19_990), stat(2, 20_150), stat(3, 20_150), stat(4, 20_400), stat(5, 20_160), forked, thread];
        assert_eq!(search.turn(at(21_200), || all), []);
        // The record of one of them was merely late.
        search.told(5, at(21_300));
        assert_eq!(search.turn(at(22_000), || panic!("too early")), []);
        assert_eq!(pids(&search.turn(at(22_200), || panic!("it was looked"))), [2]);
        assert_eq!(search.due(), None);
    }

    #[test]
    fn a_loss_is_not_taken_back_further_than_what_is_remembered() {
        let mut search = Search::new(at(0));
        for n in 0..=u32::try_from(MOST).unwrap() {
            search.told(n + 10, at(20_000 + u64::from(n)));
        }
        search.lost(at(20_000), at(40_000));
        let found = vec![stat(1, 20_000), stat(2, 39_000)];
        assert_eq!(search.turn(at(41_000), || found), []);
        assert_eq!(pids(&search.turn(at(42_000), Vec::new)), [2], "the first one may have been told and forgotten");
    }

    proptest! {
        /// Starts, some of them lost, all of them living: each is told by the source or found, and none twice.
        #[test]
        fn each_living_process_is_told_once(
            gaps in prop::collection::vec((0_u64..300, any::<bool>(), 0_u64..400), 1..120),
        ) {
            let mut search = Search::new(at(0));
            let (mut clock, mut whole_until) = (10_000, 10_000);
            let mut alive: Vec<Stat> = Vec::new();
            let mut unread: Vec<(u32, u64)> = Vec::new();
            let mut told: Vec<u32> = Vec::new();
            for (number, (wait, lose, lag)) in gaps.iter().enumerate() {
                clock += wait;
                let pid = u32::try_from(number).unwrap() + 2;
                alive.push(stat(pid, clock));
                if *lose {
                    search.lost(at(whole_until), at(clock));
                } else {
                    unread.push((pid, clock + lag));
                }
                whole_until = clock;
                let (ready, rest) = unread.iter().partition::<Vec<(u32, u64)>, _>(|(_, due)| *due <= clock);
                unread = rest;
                for (pid, _) in ready {
                    search.told(pid, at(clock));
                    told.push(pid);
                }
                told.extend(pids(&search.turn(at(clock), || alive.clone())));
            }
            for (pid, due) in unread {
                search.told(pid, at(clock.max(due)));
                told.push(pid);
            }
            while let Some(due) = search.due() {
                told.extend(pids(&search.turn(due, || alive.clone())));
            }
            let distinct: BTreeSet<u32> = told.iter().copied().collect();
            prop_assert_eq!(distinct.len(), told.len(), "one was told twice: {:?}", told);
            prop_assert_eq!(distinct.len(), alive.len());
        }
    }
}
