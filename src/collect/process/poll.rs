//! Process starts by looking at `/proc` once a second. Needs no rights and no kernel option, and misses what lives
//! shorter than that.
//!
//! A process is known by its id and its start time, so a used-again id is a new process. One that was forked and has
//! not yet started a program is no start; it becomes one when it does. A program that a known process starts in its
//! own place is not seen.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::time::Duration;

use super::{Reader, Started};
use crate::collect::lane::{self, SourceContext};
use crate::collect::{BATCH, Drained, Loss, Source, SourceChoice, SourceError};
use crate::model::event::{EventName, Observation};
use crate::model::event_set::EventSet;
use crate::model::time::{Mono, Now, Timestamp};
use crate::sys::procfs::{self, Stat};
use crate::sys::wake::{WakeFlag, Waker, Woken};

/// The name in `SourceChoice`.
const NAME: &str = "polling /proc";
/// What it gives.
pub(in crate::collect) const EVENTS: EventSet = EventSet::of(&[EventName::ProcessCreate]);
const EVERY: Duration = Duration::from_secs(1);
/// While not all processes can be looked at, this is said once in so long.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// The processes that were there at the last look, with their start times.
#[derive(Debug, Default)]
struct Known(HashMap<u32, u64>);

impl Known {
    /// Takes a look; gives what started since the last one.
    fn look(&mut self, stats: impl Iterator<Item = Stat>) -> Vec<Stat> {
        let mut now = HashMap::with_capacity(self.0.len());
        let mut fresh = Vec::new();
        for stat in stats.filter(|s| !s.is_kernel_thread() && s.has_execed()) {
            now.insert(stat.pid, stat.start);
            if self.0.get(&stat.pid) != Some(&stat.start) {
                fresh.push(stat);
            }
        }
        self.0 = now;
        fresh
    }
}

/// Opens the source; all it needs is `/proc`.
pub(in crate::collect) fn open(context: &SourceContext, _: EventSet, reason: &str) -> Result<Box<dyn Source>, String> {
    let starts = lane::starts(&context.host, "programs that end within a second", false);
    let source = PollSource::open(context, lane::choice(NAME, reason, vec![starts]));
    Ok(Box::new(source.map_err(|error| error.to_string())?))
}

/// See [`NAME`].
struct PollSource {
    reader: Reader,
    choice: SourceChoice,
    flag: WakeFlag,
    known: Known,
    /// Found, but not yet read.
    fresh: VecDeque<Stat>,
    next_look: Mono,
    /// Since when not all processes could be looked at, and said so.
    blind_since: Option<Timestamp>,
    say_again: Mono,
}

impl PollSource {
    /// Takes the first look; what is there already is no start.
    fn open(context: &SourceContext, choice: SourceChoice) -> io::Result<Self> {
        let now = context.clock.now().mono;
        let mut source = Self {
            reader: Reader::new(context),
            choice,
            flag: WakeFlag::new()?,
            known: Known::default(),
            fresh: VecDeque::new(),
            next_look: now.after(EVERY),
            blind_since: None,
            say_again: now,
        };
        let (pids, _) = procfs::processes(source.reader.host())?;
        source.known.look(pids.iter().filter_map(|pid| procfs::stat(source.reader.host(), *pid)));
        Ok(source)
    }

    fn look(&mut self, now: Now) -> io::Result<Option<Loss>> {
        self.next_look = now.mono.after(EVERY);
        let host = self.reader.host();
        let (pids, more) = procfs::processes(host)?;
        let stats = pids.iter().filter_map(|pid| procfs::stat(host, *pid));
        self.fresh.extend(self.known.look(stats));
        Ok(self.blindness(more, now))
    }

    /// Books that there were more processes than are looked at.
    fn blindness(&mut self, more: bool, now: Now) -> Option<Loss> {
        let since = *match (&mut self.blind_since, more) {
            (Some(since), _) => since,
            (none, true) => {
                self.say_again = now.mono.after(SAY_EVERY);
                none.insert(now.wall)
            }
            (None, false) => return None,
        };
        if more && now.mono < self.say_again {
            return None;
        }
        self.say_again = now.mono.after(SAY_EVERY);
        self.blind_since = more.then_some(now.wall);
        let reason = format!("more than {} processes: the rest was not looked at", procfs::PROCESS_LIMIT);
        Some(Loss { events: EVENTS, start: since, end: now.wall, at_most: None, reason })
    }

    fn gather(&mut self, wait: Duration, out: &mut Vec<Observation>, losses: &mut Vec<Loss>) -> io::Result<()> {
        let until = self.reader.clock().now().mono.after(wait);
        loop {
            let now = self.reader.clock().now();
            if now.mono >= self.next_look && self.fresh.is_empty() {
                losses.extend(self.look(now)?);
            }
            for stat in self.fresh.drain(..BATCH.min(self.fresh.len())) {
                out.push(self.reader.observe(Started { pid: stat.pid, parent: None, stat: Some(stat) }));
            }
            if !out.is_empty() || !losses.is_empty() || now.mono >= until {
                return Ok(());
            }
            // Up to the next look or the caller's end, whichever is first.
            let left = until.since(now.mono).min(self.next_look.since(now.mono));
            if self.flag.wait(None, left)? == Woken::Called {
                return Ok(());
            }
        }
    }
}

impl Source for PollSource {
    fn choice(&self) -> &SourceChoice {
        &self.choice
    }

    fn waker(&self) -> Waker {
        self.flag.waker()
    }

    fn want(&mut self, _: EventSet) -> Result<(), SourceError> {
        Ok(())
    }

    fn drain(&mut self, wait: Duration, out: &mut Vec<Observation>) -> Result<Drained, SourceError> {
        let mut found = Vec::new();
        let mut losses = Vec::new();
        let result = self.gather(wait, &mut found, &mut losses);
        out.append(&mut found);
        result.map_err(|source| SourceError::Broken { name: NAME, source })?;
        Ok(Drained { losses })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::model::payload::Payload;
    use crate::sys::clock::{Clock, ManualClock};
    use crate::sys::files::{private_directory, write_atomic};
    use crate::sys::host::Host;

    fn stat(pid: u32, start: u64, flags: u32) -> Stat {
        Stat { pid, name: "x".into(), state: 'S', parent: 1, flags, start, arguments: None, arguments_at: None }
    }

    fn choice() -> SourceChoice {
        SourceChoice { name: NAME, reason: String::new(), covers: Vec::new() }
    }

    fn clock() -> Arc<ManualClock> {
        Arc::new(ManualClock::new("2026-07-01T09:30:00Z".parse().unwrap()))
    }

    /// A `/proc` whose processes the test makes.
    struct Tree(tempfile::TempDir);

    impl Tree {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            private_directory(&root.path().join("proc")).unwrap();
            Self(root)
        }

        fn context(&self, clock: Arc<ManualClock>) -> SourceContext {
            SourceContext::plain(Host::rooted(self.0.path()), clock)
        }

        fn process(&self, pid: u32, start: u64, flags: u32) {
            let directory = self.0.path().join(format!("proc/{pid}"));
            private_directory(&directory).unwrap();
            let zeros = " 0".repeat(12);
            let line = format!("{pid} (x) S 1 1 1 0 -1 {flags}{zeros} {start} 0\n");
            write_atomic(&directory.join("stat"), line.as_bytes(), 0o644).unwrap();
            write_atomic(&directory.join("cmdline"), format!("/bin/x\0{pid}\0").as_bytes(), 0o644).unwrap();
        }
    }

    fn pids(out: &[Observation]) -> Vec<u32> {
        out.iter()
            .map(|o| match &o.what {
                Payload::ProcessCreate(p) => p.process_id,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn only_what_starts_after_the_first_look_is_a_start() {
        let tree = Tree::new();
        tree.process(10, 100, 0);
        tree.process(11, 100, 0x40);
        let clock = clock();
        let mut source = PollSource::open(&tree.context(clock.clone()), choice()).unwrap();

        tree.process(20, 200, 0);
        tree.process(21, 200, 0x0020_0000);
        tree.process(22, 200, 0x40);
        tree.process(11, 100, 0);
        let mut out = Vec::new();
        // Not yet time for a look.
        source.drain(Duration::ZERO, &mut out).unwrap();
        assert_eq!(pids(&out), Vec::<u32>::new());
        clock.advance(EVERY);
        source.drain(Duration::ZERO, &mut out).unwrap();
        assert_eq!(pids(&out), vec![11, 20]);
        assert_eq!(out.iter().map(|o| o.serial).collect::<Vec<_>>(), vec![0, 1]);

        // The id is used again.
        tree.process(20, 300, 0);
        clock.advance(EVERY);
        out.clear();
        source.drain(Duration::ZERO, &mut out).unwrap();
        assert_eq!(pids(&out), vec![20]);
        assert_eq!(out[0].at, clock.now().wall);
    }

    #[test]
    fn many_starts_come_in_batches_and_none_is_left_out() {
        let tree = Tree::new();
        let clock = clock();
        let mut source = PollSource::open(&tree.context(clock.clone()), choice()).unwrap();
        for pid in 1..=600 {
            tree.process(pid, 1, 0);
        }
        clock.advance(EVERY);
        let mut all = Vec::new();
        for size in [256, 256, 88, 0] {
            let mut out = Vec::new();
            source.drain(Duration::ZERO, &mut out).unwrap();
            assert_eq!(out.len(), size);
            all.extend(pids(&out));
        }
        assert_eq!(all, (1..=600).collect::<Vec<_>>());
    }

    #[test]
    fn blindness_is_told_once_a_minute_with_its_length() {
        let clock = clock();
        let tree = Tree::new();
        let mut source = PollSource::open(&tree.context(clock.clone()), choice()).unwrap();
        let begin = clock.now().wall;
        assert_eq!(source.blindness(false, clock.now()), None);
        assert_eq!(source.blindness(true, clock.now()), None);
        clock.advance(Duration::from_secs(30));
        assert_eq!(source.blindness(true, clock.now()), None);
        clock.advance(Duration::from_secs(30));
        let first = source.blindness(true, clock.now()).unwrap();
        assert_eq!((first.start, first.end), (begin, clock.now().wall));
        clock.advance(Duration::from_secs(5));
        let second = source.blindness(false, clock.now()).unwrap();
        assert_eq!((second.start, second.end), (first.end, clock.now().wall));
        assert_eq!(source.blindness(false, clock.now()), None);
    }

    #[test]
    fn a_call_ends_the_wait() {
        let tree = Tree::new();
        let mut source = PollSource::open(&tree.context(clock()), choice()).unwrap();
        source.waker().wake();
        assert_eq!(source.drain(Duration::from_secs(3600), &mut Vec::new()).unwrap(), Drained::default());
    }

    proptest! {
        /// Over any looks, each (id, start) that has started a program is told once for as long as it stays.
        #[test]
        fn each_process_is_told_once(looks in prop::collection::vec(prop::collection::btree_map(1_u32..6, 1_u64..4, 0..6), 1..12)) {
            let mut known = Known::default();
            let mut before: BTreeSet<(u32, u64)> = BTreeSet::new();
            for look in looks {
                let now: BTreeSet<(u32, u64)> = look.into_iter().collect();
                let told: BTreeSet<(u32, u64)> =
                    known.look(now.iter().map(|(p, s)| stat(*p, *s, 0))).iter().map(|s| (s.pid, s.start)).collect();
                prop_assert_eq!(&told, &now.difference(&before).copied().collect());
                before = now;
            }
        }
    }
}
