//! Processes that are older than audit. The kernel gives a process what audit needs when it is forked, and only if audit
//! was ever on by then: of an older one no system call is recorded. Its children are watched; but a program that it
//! starts in its own place is not recorded, so it is looked at now and then.

use std::collections::HashMap;
use std::time::Duration;

use crate::model::time::Mono;
use crate::sys::host::Host;
use crate::sys::procfs::{self, Stat};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(10);

/// When audit was on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnSince {
    /// Before the first process.
    Boot,
    /// Surely since this process was started.
    Process(u32),
    /// Now.
    Now,
}

/// What tells one program of a process from the next: the start of the process, and where the kernel put the
/// arguments, which differs by chance with each exec.
type Mark = (u64, Option<u64>);

/// The processes that are older than audit and still live.
#[derive(Debug, Default)]
pub(super) struct Elders {
    known: HashMap<u32, Mark>,
    next: Mono,
}

fn mark(stat: &Stat) -> Mark {
    (stat.start, stat.arguments_at)
}

impl Elders {
    /// Takes the first look.
    pub(super) fn find(host: &Host, since: OnSince, now: Mono) -> Self {
        let before = match since {
            OnSince::Boot => return Self::default(),
            OnSince::Process(pid) => procfs::stat(host, pid).map(|stat| stat.start),
            OnSince::Now => None,
        };
        let (pids, _) = procfs::processes(host).unwrap_or_default();
        let stats = pids.iter().filter_map(|pid| procfs::stat(host, *pid));
        let older = stats.filter(|s| !s.is_kernel_thread() && before.is_none_or(|start| s.start < start));
        let known = older.map(|stat| (stat.pid, mark(&stat))).collect();
        Self { known, next: now.after(EVERY) }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.known.len()
    }

    /// Whether this process is one of them, and not another one with its number.
    pub(super) fn has(&self, host: &Host, pid: u32) -> bool {
        self.known.get(&pid).is_some_and(|known| procfs::stat(host, pid).is_some_and(|stat| stat.start == known.0))
    }

    /// Audit has recorded this process, so it is none of them.
    pub(super) fn remove(&mut self, pid: u32) {
        self.known.remove(&pid);
    }

    /// If it is time, looks again; gives those that started another program in their place.
    pub(super) fn look(&mut self, host: &Host, now: Mono) -> Vec<Stat> {
        if now < self.next || self.known.is_empty() {
            return Vec::new();
        }
        self.next = now.after(EVERY);
        let mut changed = Vec::new();
        self.known.retain(|pid, known| {
            let Some(stat) = procfs::stat(host, *pid).filter(|stat| stat.start == known.0) else { return false };
            // What has ended shows no arguments.
            if stat.arguments_at.is_some() && known.1.is_some() && mark(&stat) != *known && stat.has_execed() {
                *known = mark(&stat);
                changed.push(stat);
            }
            true
        });
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::files::{private_directory, write_atomic};

    fn process(root: &std::path::Path, pid: u32, start: u64, at: u64) {
        let directory = root.join(format!("proc/{pid}"));
        private_directory(&directory).unwrap();
        let line =
            format!("{pid} (x) S 1 1 1 0 -1 0{} {start}{} {at} {} 0\n", " 0".repeat(12), " 0".repeat(25), at + 10);
        write_atomic(&directory.join("stat"), line.as_bytes(), 0o644).unwrap();
    }

    #[test]
    fn an_old_process_that_starts_another_program_is_found_at_the_next_look() {
        let root = tempfile::tempdir().unwrap();
        private_directory(&root.path().join("proc")).unwrap();
        let host = Host::rooted(root.path());
        for pid in [10, 11, 12, 13] {
            process(root.path(), pid, u64::from(pid) * 100, 5000);
        }
        let now = Mono::from_boot(Duration::from_secs(100));
        assert_eq!(Elders::find(&host, OnSince::Boot, now).count(), 0);
        assert_eq!(Elders::find(&host, OnSince::Process(12), now).count(), 2);
        let mut elders = Elders::find(&host, OnSince::Now, now);
        assert_eq!(elders.count(), 4);
        elders.remove(13);
        assert!(elders.has(&host, 10) && elders.has(&host, 11) && !elders.has(&host, 13));

        // One starts a program, the id of another is used again, one stays, one is watched by audit.
        process(root.path(), 10, 1000, 6000);
        process(root.path(), 11, 9999, 6000);
        process(root.path(), 13, 1300, 6000);
        assert_eq!(elders.look(&host, now), []);
        assert!(elders.has(&host, 10) && !elders.has(&host, 11));
        let later = now.after(EVERY);
        let pids: Vec<_> = elders.look(&host, later).iter().map(|stat| stat.pid).collect();
        assert_eq!(pids, [10]);
        assert_eq!(elders.count(), 2);
        assert_eq!(elders.look(&host, later.after(EVERY)), []);
    }
}
