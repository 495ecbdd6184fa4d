//! Whether a process runs yet what it was about to run: pure.
//!
//! The kernel tells of a file before the process runs it. Until then `/proc` shows what the process ran before, maybe of
//! the same file. Each program gets a new place for its arguments in memory, which shows that there is another one.

use std::collections::{HashMap, HashSet};

use crate::sys::file_id::FileId;
use crate::sys::procfs::Stat;

use super::exec::Exec;

/// Processes are remembered up to this many.
const MOST: usize = 8192;

/// One run of a program: another start, or another place, is another run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Image {
    /// When the process was made.
    start: u64,
    /// Where its arguments are.
    place: Option<u64>,
}

impl Image {
    pub(super) const fn of(stat: &Stat) -> Self {
        Self { start: stat.start, place: stat.arguments_at }
    }
}

/// What a look at a process shows.
#[derive(Clone, Debug)]
pub(super) struct Sight {
    /// Its `stat`.
    pub(super) stat: Stat,
    /// The program that it runs; `None` if it has none, or shows it to others only.
    pub(super) program: Option<FileId>,
    /// Whether it is hidden from us.
    pub(super) hidden: bool,
}

/// What that means for a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It runs, and what `/proc` shows is of this program.
    Running,
    /// It may run soon.
    NotYet,
    /// The process has ended.
    Gone,
    /// We may not see it.
    Hidden,
}

/// Judges a start from the process as it is `now`, and as it was at the `first` look.
pub(super) fn judge(exec: &Exec, first: Option<Image>, known: &Known, now: &Sight) -> Verdict {
    let image = Image::of(&now.stat);
    let same_process = first.is_none_or(|first| first.start == image.start);
    if now.stat.is_dead() || !same_process {
        return Verdict::Gone;
    }
    if now.hidden {
        return Verdict::Hidden;
    }
    // The arguments are written last.
    if !now.stat.has_execed() || now.stat.arguments.is_none() || known.is(exec.pid, image) {
        return Verdict::NotYet;
    }
    let moved = first.is_some_and(|first| first != image);
    if moved || now.program.is_some_and(|program| exec.has(program)) { Verdict::Running } else { Verdict::NotYet }
}

/// The runs that were told already.
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<u32, Image>);

impl Known {
    /// Whether this run of a process is known.
    fn is(&self, pid: u32, image: Image) -> bool {
        self.0.get(&pid) == Some(&image)
    }

    /// Remembers a run. `living` gives the processes of now: when there are too many, the others are forgotten.
    pub(super) fn put(&mut self, pid: u32, image: Image, living: impl FnOnce() -> Vec<u32>) {
        if self.0.len() >= MOST && !self.0.contains_key(&pid) {
            let living: HashSet<u32> = living().into_iter().collect();
            self.0.retain(|pid, _| living.contains(pid));
            if self.0.len() >= MOST {
                self.0.clear();
            }
        }
        self.0.insert(pid, image);
    }
}

#[cfg(test)]
mod tests {
    use super::super::exec::Opened;
    use super::*;
    use crate::sys::program_file::Kind;

    fn id(inode: u64) -> FileId {
        FileId { device: (8, 1), inode }
    }

    fn exec() -> Exec {
        Exec::new(7, Opened { id: id(1), path: "/bin/x".to_owned(), kind: Kind::Static })
    }

    fn sight(program: u64, place: u64) -> Sight {
        let stat = Stat {
            pid: 7,
            name: "x".to_owned(),
            state: 'R',
            parent: 1,
            flags: 0,
            start: 100,
            arguments: Some(5),
            arguments_at: Some(place),
        };
        Sight { stat, program: Some(id(program)), hidden: false }
    }

    fn image(place: u64) -> Image {
        Image { start: 100, place: Some(place) }
    }

    #[test]
    fn a_process_is_believed_when_it_runs_the_file() {
        let known = Known::default();
        let judge = |sight: &Sight| judge(&exec(), Some(image(9)), &known, sight);
        assert_eq!(judge(&sight(1, 9)), Verdict::Running);
        assert_eq!(judge(&sight(2, 9)), Verdict::NotYet);
        // Forked only, and being written.
        let mut young = sight(1, 9);
        young.stat.flags = 0x40;
        assert_eq!(judge(&young), Verdict::NotYet);
        let mut unwritten = sight(1, 9);
        unwritten.stat.arguments = None;
        assert_eq!(judge(&unwritten), Verdict::NotYet);
        // It runs something else by now than it did: a loader of the system's for foreign programs.
        assert_eq!(judge(&sight(2, 10)), Verdict::Running);
        let mut hidden = sight(2, 9);
        hidden.hidden = true;
        assert_eq!(judge(&hidden), Verdict::Hidden);
        let mut dead = sight(2, 9);
        dead.stat.state = 'Z';
        assert_eq!(judge(&dead), Verdict::Gone);
        let mut other = sight(1, 9);
        other.stat.start = 200;
        assert_eq!(judge(&other), Verdict::Gone);
    }

    #[test]
    fn a_program_that_starts_itself_again_is_not_taken_for_its_former_run() {
        let mut known = Known::default();
        known.put(7, image(9), Vec::new);
        assert_eq!(judge(&exec(), None, &known, &sight(1, 9)), Verdict::NotYet);
        assert_eq!(judge(&exec(), Some(image(9)), &known, &sight(1, 10)), Verdict::Running);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut known = Known::default();
        for pid in 0..20_000 {
            known.put(pid, image(u64::from(pid)), || vec![5, 6]);
        }
        assert!(known.0.len() <= MOST);
        assert!(known.is(5, image(5)) && known.is(19_999, image(19_999)) && !known.is(7, image(7)));
    }
}
