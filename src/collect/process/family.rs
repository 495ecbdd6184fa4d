//! The processes that live, as the process connector tells of them: whose child each is, and which program it runs.
//! When a process has ended the kernel shows neither.

use std::collections::HashMap;
use std::sync::Arc;

use crate::sys::host::Host;
use crate::sys::procfs;

/// Processes are remembered up to this many; those beyond it lose parent and program if they end at once.
const MOST: usize = 8192;

/// What is known of one process.
#[derive(Clone, Debug, Default)]
struct Member {
    parent: Option<u32>,
    program: Option<Arc<str>>,
}

/// See the top of this file.
#[derive(Debug, Default)]
pub(super) struct Family(HashMap<u32, Member>);

impl Family {
    /// The processes of now, each with its program if we may see it.
    pub(super) fn read(host: &Host) -> Self {
        let pids = procfs::processes(host).map(|(pids, _)| pids).unwrap_or_default();
        // A thread of the kernel has none, and need not be remembered.
        let programs = pids.into_iter().filter_map(|pid| Some((pid, procfs::executable(host, pid).ok()?.path)));
        let member = |path: String| Member { parent: None, program: Some(path.into()) };
        Self(programs.take(MOST).map(|(pid, path)| (pid, member(path))).collect())
    }

    /// A child runs the program of its parent.
    pub(super) fn forked(&mut self, parent: u32, child: u32) {
        let program = self.0.get(&parent).and_then(|member| member.program.clone());
        self.put(child, Member { parent: Some(parent), program });
    }

    /// A process runs another program now; `None` if it could not be read.
    pub(super) fn execed(&mut self, pid: u32, program: Option<&str>) {
        let parent = self.parent(pid);
        self.put(pid, Member { parent, program: program.map(Into::into) });
    }

    /// A process ended; gives its program, if it is known.
    pub(super) fn ended(&mut self, pid: u32) -> Option<Arc<str>> {
        self.0.remove(&pid)?.program
    }

    /// The parent of a process that was forked before our eyes.
    pub(super) fn parent(&self, pid: u32) -> Option<u32> {
        self.0.get(&pid)?.parent
    }

    fn put(&mut self, pid: u32, member: Member) {
        if self.0.len() < MOST || self.0.contains_key(&pid) {
            self.0.insert(pid, member);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fixture;

    #[test]
    fn parent_and_program_are_known_while_the_process_lives() {
        let mut family = Family::default();
        family.forked(1, 50);
        assert_eq!(family.parent(50), Some(1));
        family.execed(50, Some("/bin/sh"));
        family.forked(50, 51);
        assert_eq!((family.parent(50), family.parent(51)), (Some(1), Some(50)));
        assert_eq!(family.ended(51).as_deref(), Some("/bin/sh"));
        family.execed(50, None);
        assert_eq!(family.ended(50), None);
        assert_eq!(family.parent(50), None);
    }

    #[test]
    fn it_is_bounded() {
        let mut family = Family::default();
        for child in 0..20_000 {
            family.forked(1, child);
        }
        assert_eq!(family.0.len(), MOST);
        family.execed(5, Some("/bin/x"));
        assert_eq!(family.ended(5).as_deref(), Some("/bin/x"));
        assert_eq!(family.ended(19_999), None);
    }

    #[test]
    fn what_runs_already_is_read() {
        let mut family = Family::read(&fixture::machine("board").host);
        assert_eq!(family.ended(300).as_deref(), Some("/opt/sensor/sensord"));
        assert_eq!(family.ended(2), None);
    }
}
