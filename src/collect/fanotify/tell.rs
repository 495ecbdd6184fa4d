//! From a start that the kernel told of to an observation: waits until the process shows what it runs, or has ended.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use crate::collect::lane::SourceContext;
use crate::collect::process::{Reader, Started};
use crate::model::event::Observation;
use crate::model::payload::{ExtraDetails, Payload, ProcessCreate};
use crate::model::time::Mono;
use crate::sys::clock::Clock;
use crate::sys::file_id::FileId;
use crate::sys::procfs;

use super::exec::{Exec, Opened};
use super::sight::{Image, Known, Sight, Verdict, judge};

/// Starts that wait. One more, and the oldest is told as it is.
const MOST: usize = 1024;
/// Starts that were told before all of their files were. One read of notices gives fewer.
const TOLD: usize = 256;
/// From the first look to the second; each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// How long a start may wait.
const PATIENCE: Duration = Duration::from_secs(1);

/// A start that was not told yet.
struct Waiting {
    exec: Exec,
    /// The process at the first look, before it ran the program: its run then, parent and user.
    first: Option<First>,
    until: Mono,
    next_look: Mono,
    pause: Duration,
}

struct First {
    image: Image,
    parent: u32,
    user: Option<u32>,
}

/// Starts in the order in which they came, and what tells of them.
pub(super) struct Teller {
    reader: Reader,
    known: Known,
    waiting: Vec<Waiting>,
    /// Told already, although the notice of their loader had not been read: that is no start of its own.
    told: VecDeque<Exec>,
}

impl Teller {
    /// Remembers what runs already.
    pub(super) fn new(context: &SourceContext) -> Self {
        let reader = Reader::new(context);
        let mut known = Known::default();
        let (pids, _) = procfs::processes(reader.host()).unwrap_or_default();
        for stat in pids.iter().filter_map(|pid| procfs::stat(reader.host(), *pid)) {
            known.put(stat.pid, Image::of(&stat), Vec::new);
        }
        Self { reader, known, waiting: Vec::new(), told: VecDeque::new() }
    }

    /// The clock of the observations.
    pub(super) fn clock(&self) -> &dyn Clock {
        self.reader.clock()
    }

    /// A process has opened a file to run it.
    pub(super) fn opened(&mut self, pid: u32, file: Opened, now: Mono, out: &mut Vec<Observation>) {
        let host = self.reader.host();
        let find = |path: &str| FileId::at(&host.path(path)).ok();
        // What is not part of the newest start of this process ends the wait for that.
        let index = self.waiting.iter().rposition(|waiting| waiting.exec.pid == pid);
        let file = match index.and_then(|index| Some((index, self.waiting.get_mut(index)?))) {
            Some((index, waiting)) => match waiting.exec.take(file, find) {
                Ok(()) => {
                    waiting.next_look = now;
                    return;
                }
                Err(file) => {
                    let mut waiting = self.waiting.remove(index);
                    out.push(self.end(&mut waiting));
                    file
                }
            },
            None => match self.told.iter_mut().find(|exec| exec.pid == pid) {
                Some(exec) => match exec.take(file, find) {
                    Ok(()) => return,
                    Err(file) => file,
                },
                None => file,
            },
        };
        self.told.retain(|exec| exec.pid != pid);
        if self.waiting.len() >= MOST {
            let mut oldest = self.waiting.remove(0);
            out.push(self.end(&mut oldest));
            self.settle(oldest.exec);
        }
        self.waiting.push(Waiting {
            exec: Exec::new(pid, file),
            first: None,
            until: now.after(PATIENCE),
            next_look: now,
            pause: FIRST_PAUSE,
        });
    }

    /// Looks at the processes that are due, and tells what can be told.
    pub(super) fn look(&mut self, now: Mono, out: &mut Vec<Observation>) {
        for mut waiting in std::mem::take(&mut self.waiting) {
            if waiting.next_look > now {
                self.waiting.push(waiting);
                continue;
            }
            let told = if now >= waiting.until { Some(self.end(&mut waiting)) } else { self.try_tell(&mut waiting) };
            if let Some(told) = told {
                out.push(told);
                self.settle(waiting.exec);
                continue;
            }
            waiting.next_look = now.after(waiting.pause);
            waiting.pause *= 2;
            self.waiting.push(waiting);
        }
    }

    fn settle(&mut self, exec: Exec) {
        if exec.is_whole() {
            return;
        }
        if self.told.len() >= TOLD {
            self.told.pop_front();
        }
        self.told.push_back(exec);
    }

    /// The kernel's queue was emptied. It opens all files of a start before the program runs, so what a process opens
    /// from now on is no part of a start that was told.
    pub(super) fn emptied(&mut self) {
        self.told.clear();
    }

    /// When [`Teller::look`] has something to do.
    pub(super) fn due(&self) -> Option<Mono> {
        self.waiting.iter().map(|waiting| waiting.next_look.min(waiting.until)).min()
    }

    fn sight(&self, pid: u32) -> Option<Sight> {
        let host = self.reader.host();
        let program = FileId::at(&host.path(format!("/proc/{pid}/exe")));
        let hidden = program.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
        Some(Sight { program: program.ok(), hidden, stat: procfs::stat(host, pid)? })
    }

    /// Tells a start if there is nothing to wait for.
    fn try_tell(&mut self, waiting: &mut Waiting) -> Option<Observation> {
        let pid = waiting.exec.pid;
        let Some(sight) = self.sight(pid) else { return Some(self.without_line(waiting, false)) };
        let image = Image::of(&sight.stat);
        let verdict = judge(&waiting.exec, waiting.first.as_ref().map(|first| first.image), &self.known, &sight);
        if verdict != Verdict::Running && waiting.first.is_none() {
            let user = procfs::user(self.reader.host(), pid);
            waiting.first = Some(First { image, parent: sight.stat.parent, user });
        }
        match verdict {
            Verdict::Running => Some(self.running(&waiting.exec, sight)),
            Verdict::Gone | Verdict::Hidden => Some(self.without_line(waiting, false)),
            Verdict::NotYet => None,
        }
    }

    /// Tells a start that waits no longer, as far as it is known.
    fn end(&mut self, waiting: &mut Waiting) -> Observation {
        if let Some(told) = self.try_tell(waiting) {
            return told;
        }
        // A program may have no arguments at all.
        let sight = self.sight(waiting.exec.pid).filter(|sight| sight.stat.has_execed());
        match sight.filter(|s| s.stat.arguments_at.is_some() && s.program.is_some_and(|p| waiting.exec.has(p))) {
            Some(sight) if waiting.first.as_ref().is_some_and(|first| first.image != Image::of(&sight.stat)) => {
                self.running(&waiting.exec, sight)
            }
            _ => self.without_line(waiting, true),
        }
    }

    /// What [`Reader::observe`] tells, and `Script`: the file that was started, if the program is its interpreter.
    fn running(&mut self, exec: &Exec, sight: Sight) -> Observation {
        let (pid, before) = (exec.pid, sight.program);
        let image = Image::of(&sight.stat);
        let host = self.reader.host().clone();
        self.known.put(pid, image, || procfs::processes(&host).unwrap_or_default().0);
        let mut seen = self.reader.observe(Started { pid, parent: Some(sight.stat.parent), stat: Some(sight.stat) });
        if let Payload::ProcessCreate(start) = &mut seen.what {
            // It may have started another program while it was read.
            let other = FileId::at(&host.path(format!("/proc/{pid}/exe"))).is_ok_and(|now| Some(now) != before);
            if other || start.executable.is_empty() {
                exec.program().clone_into(&mut start.executable);
                start.extra_details.remove("ExecutableDeleted");
            }
            if other {
                start.command_line.clear();
                start.extra_details = [("CommandLineSource".to_owned(), "gone".to_owned())].into();
            }
            describe_script(exec, &mut start.extra_details);
        }
        seen
    }

    /// What is known without the process. `ExecUnconfirmed` if it lives, and was not seen to run the program: the kernel
    /// may have refused it.
    fn without_line(&mut self, waiting: &Waiting, unconfirmed: bool) -> Observation {
        let Waiting { exec, first, .. } = waiting;
        let mut details = ExtraDetails::from([("CommandLineSource".to_owned(), "gone".to_owned())]);
        describe_script(exec, &mut details);
        if unconfirmed {
            details.insert("ExecUnconfirmed".to_owned(), "true".to_owned());
        }
        let program = procfs::named(self.reader.host(), exec.program().to_owned());
        if program.deleted {
            details.insert("ExecutableDeleted".to_owned(), "true".to_owned());
        }
        let user = first.as_ref().and_then(|first| first.user);
        let what = ProcessCreate {
            executable: program.path,
            process_id: exec.pid,
            parent_process_id: first.as_ref().map_or(0, |first| first.parent),
            user_id: user.map(|uid| uid.to_string()).unwrap_or_default(),
            user_name: user.and_then(|uid| self.reader.user_name(uid)),
            command_line: String::new(),
            extra_details: details,
        };
        let at = self.reader.clock().now().wall;
        self.reader.number_at(at, Payload::ProcessCreate(what))
    }
}

fn describe_script(exec: &Exec, details: &mut ExtraDetails) {
    if let Some(script) = exec.script() {
        details.insert("Script".to_owned(), script.to_owned());
    }
}
