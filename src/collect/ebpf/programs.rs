//! Which program a process runs, also when the process is gone: remembered from its start until its end, bounded.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::collect::lane::SourceContext;
use crate::collect::process::command_line::CommandLine;
use crate::collect::redact::Redactor;
use crate::model::payload::ExtraDetails;
use crate::sys::host::Host;
use crate::sys::procfs;

/// The programs of so many processes are remembered until they end; beyond it, which one ended stays unknown.
const PROGRAMS: usize = 4096;
/// So many command lines are remembered, the newest.
const LINES: usize = 1024;
/// So many bytes of command lines are remembered, the newest.
const LINE_BYTES: usize = 64 << 10;

/// How programs are looked up while they live.
#[derive(Clone)]
pub(super) struct Reading {
    pub(super) host: Host,
    pub(super) redactor: Arc<Redactor>,
    /// Longest command line that is kept, in bytes.
    pub(super) command_line: usize,
}

impl Reading {
    pub(super) fn new(context: &SourceContext) -> Self {
        let SourceContext { host, redactor, command_line, .. } = context.clone();
        Self { host, redactor, command_line }
    }

    /// The command line as the process has it now; `None` if it is gone.
    pub(super) fn line(&self, pid: u32) -> Option<CommandLine> {
        let arguments = procfs::arguments(&self.host, pid, self.command_line + 1).filter(|a| !a.is_empty())?;
        Some(CommandLine::read(&arguments, self.command_line, &self.redactor))
    }

    fn executable(&self, pid: u32) -> Option<String> {
        procfs::executable(&self.host, pid).ok().map(|program| program.path)
    }
}

/// A command line, without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) line: CommandLine,
    /// Its bytes before it was cut, if known.
    pub(super) length: Option<u64>,
}

impl Line {
    /// As [`CommandLine::describe`].
    pub(super) fn describe(&self, details: &mut ExtraDetails) {
        self.line.describe(self.length, details);
    }
}

/// What a process runs, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) executable: Box<str>,
    /// Shared with nobody, but seldom there.
    pub(super) line: Option<Box<Line>>,
    /// The id of the container that it was started in.
    pub(super) container: Option<Box<str>>,
}

#[derive(Debug)]
struct Entry {
    known: Known,
    /// Which of the remembered lines is its.
    line: u64,
}

/// The memory.
#[derive(Debug, Default)]
pub(super) struct Programs {
    by_process: HashMap<u32, Entry>,
    /// The processes with a line, the oldest line first, by the number of the line.
    lines: VecDeque<(u64, u32)>,
    next_line: u64,
    line_bytes: usize,
}

impl Programs {
    /// Takes the programs of the processes that run already.
    pub(super) fn learn(&mut self, reading: &Reading) {
        let (pids, _) = procfs::processes(&reading.host).unwrap_or_default();
        for pid in pids {
            if let Some(executable) = reading.executable(pid) {
                self.remember(pid, Known { executable: executable.into(), ..Known::default() });
            }
        }
    }

    /// A process runs this from now on.
    pub(super) fn remember(&mut self, pid: u32, mut known: Known) {
        self.forget(pid);
        if self.by_process.len() >= PROGRAMS {
            return;
        }
        let line = known.line.take();
        self.by_process.insert(pid, Entry { known, line: 0 });
        if let Some(line) = line {
            self.remember_line(pid, line);
        }
    }

    fn remember_line(&mut self, pid: u32, line: Box<Line>) {
        let Some(entry) = self.by_process.get_mut(&pid) else { return };
        self.next_line += 1;
        self.line_bytes += line.line.text.len();
        entry.line = self.next_line;
        entry.known.line = Some(line);
        self.lines.push_back((self.next_line, pid));
        while self.line_bytes > LINE_BYTES || self.lines.len() > LINES {
            let Some((number, pid)) = self.lines.pop_front() else { break };
            let entry = self.by_process.get_mut(&pid).filter(|entry| entry.line == number);
            if let Some(line) = entry.and_then(|entry| entry.known.line.take()) {
                self.line_bytes -= line.line.text.len();
            }
        }
    }

    /// A process has ended; gives its program.
    pub(super) fn forget(&mut self, pid: u32) -> Option<Box<str>> {
        let entry = self.by_process.remove(&pid)?;
        self.line_bytes -= entry.known.line.map_or(0, |line| line.line.text.len());
        Some(entry.known.executable)
    }

    /// Nothing is remembered any more.
    pub(super) fn forget_all(&mut self) {
        *self = Self::default();
    }

    /// Forgets the processes that are not among `living`, which are in order.
    pub(super) fn retain(&mut self, living: &[u32]) {
        let gone: Vec<u32> = self.by_process.keys().copied().filter(|pid| living.binary_search(pid).is_err()).collect();
        for pid in gone {
            self.forget(pid);
        }
    }

    /// What a process runs. If it is gone and was never seen to start a program, it ran that of the `parent` who forked
    /// it.
    pub(super) fn find(&mut self, reading: &Reading, pid: u32, parent: Option<u32>) -> Option<Known> {
        if let Some(known) = self.lookup(reading, pid) {
            return Some(known);
        }
        self.lookup(reading, parent?)
    }

    fn lookup(&mut self, reading: &Reading, pid: u32) -> Option<Known> {
        let read_line = || reading.line(pid).map(|line| Box::new(Line { line, length: None }));
        let Some(entry) = self.by_process.get(&pid) else {
            let executable = reading.executable(pid)?.into();
            let known = Known { executable, line: read_line(), container: None };
            self.remember(pid, known.clone());
            return Some(known);
        };
        let mut known = entry.known.clone();
        if known.line.is_none()
            && let Some(line) = read_line()
        {
            known.line = Some(line.clone());
            self.remember_line(pid, line);
        }
        Some(known)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sys::clock::ManualClock;
    use crate::sys::fixture::{self, Fixture};

    fn reading() -> (Reading, Fixture) {
        let machine = fixture::machine("board");
        let clock = Arc::new(ManualClock::new("2026-07-01T09:30:00Z".parse().unwrap()));
        (Reading::new(&SourceContext::plain(machine.host.clone(), clock)), machine)
    }

    fn known(executable: &str, line: &str) -> Known {
        let line = CommandLine { text: line.to_owned(), cut: false, masked: 0 };
        Known { executable: executable.into(), line: Some(Box::new(Line { line, length: None })), container: None }
    }

    #[test]
    fn what_is_gone_is_remembered_and_what_lives_is_looked_up() {
        let (reading, _machine) = reading();
        let mut programs = Programs::default();
        programs.remember(9999, known("/usr/bin/curl", "curl -v"));
        assert_eq!(programs.find(&reading, 9999, None), Some(known("/usr/bin/curl", "curl -v")));
        assert_eq!(
            programs.find(&reading, 300, None),
            Some(known("/opt/sensor/sensord", "/opt/sensor/sensord --bus 1"))
        );
        // Never seen to start a program, and gone: it was a copy of its parent.
        assert_eq!(programs.find(&reading, 9998, Some(9999)), Some(known("/usr/bin/curl", "curl -v")));
        assert_eq!(programs.find(&reading, 9998, None), None);
        assert_eq!(programs.forget(9999).as_deref(), Some("/usr/bin/curl"));
        assert_eq!(programs.find(&reading, 9999, None), None);
    }

    #[test]
    fn what_ended_unseen_is_forgotten() {
        let (reading, _machine) = reading();
        let mut programs = Programs::default();
        programs.learn(&reading);
        programs.remember(9999, known("/usr/bin/curl", "curl -v"));
        programs.retain(&[1, 300]);
        assert_eq!((programs.forget(9999), programs.line_bytes), (None, 0));
        assert_eq!(programs.forget(300).as_deref(), Some("/opt/sensor/sensord"));
    }

    #[test]
    fn memory_for_programs_has_an_end() {
        let mut programs = Programs::default();
        for pid in 0..10_000 {
            programs.remember(pid, known("/bin/x", ""));
        }
        assert_eq!((programs.by_process.len(), programs.lines.len()), (PROGRAMS, LINES));
    }

    proptest! {
        /// Whatever starts and ends: the bounds hold, the bytes are counted right, and the newest line is there.
        #[test]
        fn lines_are_bounded_and_counted(
            steps in prop::collection::vec((0_u32..40, prop::option::weighted(0.8, 0_usize..9000)), 1..200),
        ) {
            let mut programs = Programs::default();
            for (pid, length) in steps {
                match length {
                    Some(length) => {
                        programs.remember(pid, known("/bin/x", &"y".repeat(length)));
                        prop_assert!(programs.by_process[&pid].known.line.is_some());
                    }
                    None => drop(programs.forget(pid)),
                }
                let lines = programs.by_process.values().filter_map(|entry| entry.known.line.as_ref());
                prop_assert_eq!(lines.map(|line| line.line.text.len()).sum::<usize>(), programs.line_bytes);
                prop_assert!(programs.line_bytes <= LINE_BYTES && programs.lines.len() <= LINES);
            }
        }
    }
}
