//! Process starts from fanotify: which file each process was about to run. What `/proc` then still shows of the process
//! is read at once; its command line may be gone by then.

mod exec;
mod marks;
mod sight;
mod tell;

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use crate::collect::lane::{self, SourceContext};
use crate::collect::{BATCH, Drained, GATHER, Loss, Source, SourceChoice, SourceError};
use crate::model::event::{EventName, Observation};
use crate::model::event_set::EventSet;
use crate::model::time::{Mono, Timestamp};
use crate::sys::capabilities::{Capability, Privileges};
use crate::sys::fanotify::{Opened, Told, Watch};
use crate::sys::file_id::FileId;
use crate::sys::mounts::Table;
use crate::sys::program_file::{HEAD, Kind};
use crate::sys::wake::{WakeFlag, Waker};

use marks::Unwatched;
use tell::Teller;

/// The name in `SourceChoice`.
const NAME: &str = "fanotify";
/// What it gives.
pub(super) const EVENTS: EventSet = EventSet::of(&[EventName::ProcessCreate]);
/// Reads of up to 170 notices each that may be made in one drain; then the caller gets a turn.
const PATIENCE: usize = 256;
/// The mounts are looked at again no sooner than this.
const MOUNT_PAUSE: Duration = Duration::from_millis(50);

/// Opens the source, if we may watch whole file systems.
pub(super) fn open(context: &SourceContext, _: EventSet, why: &str) -> Result<Box<dyn Source>, String> {
    let host = &context.host;
    let privileges = Privileges::read(host).ok();
    if privileges.is_some_and(|privileges| !privileges.has(Capability::SysAdmin)) {
        return Err("fanotify needs CAP_SYS_ADMIN, which the packaged unit does not give".to_owned());
    }
    let watch = Watch::new().map_err(|error| error.to_string())?;
    let mut mounts = Table::open(host).map_err(|error| format!("/proc/self/mountinfo: {error}"))?;
    let all = mounts.read().map_err(|error| format!("/proc/self/mountinfo: {error}"))?;
    let unwatched = marks::mark(&watch, &all).map_err(|error| error.to_string())?;
    let mut reason = "file systems are watched for programs that are started".to_owned();
    if !why.is_empty() {
        reason = format!("{reason}; {why}");
    }
    let outside = privileges.is_some_and(|privileges| privileges.initial_pid_namespace == Some(false));
    let starts = lane::starts(host, &cannot_see(&unwatched, outside), false);
    let choice = lane::choice(NAME, &reason, vec![starts]);
    let source = FanotifySource::new(watch, mounts, unwatched, context, choice);
    Ok(Box::new(source.map_err(|error| error.to_string())?))
}

fn cannot_see(unwatched: &[Unwatched], outside: bool) -> String {
    let mut parts = vec![
        "command lines of programs that end before they are read".to_owned(),
        "that a process starts the same program again before the first start was read".to_owned(),
        "programs in memory only, and on file systems that are mounted in other mount namespaces only".to_owned(),
        "what is started from a new file system in the moment when it is mounted".to_owned(),
    ];
    if outside {
        parts.push("processes outside of this PID namespace".to_owned());
    }
    parts.extend(Some(marks::told(unwatched)).filter(|told| !told.is_empty()));
    parts.join(", ")
}

/// See [`NAME`].
struct FanotifySource {
    watch: Watch,
    mounts: Table,
    /// They are to be looked at again then.
    mounts_due: Option<Mono>,
    mounts_seen: Mono,
    unwatched: Vec<Unwatched>,
    teller: Teller,
    choice: SourceChoice,
    flag: WakeFlag,
    losses: Vec<Loss>,
    /// Everything up to here was read.
    whole_until: Timestamp,
}

impl FanotifySource {
    fn new(
        watch: Watch,
        mounts: Table,
        unwatched: Vec<Unwatched>,
        context: &SourceContext,
        choice: SourceChoice,
    ) -> io::Result<Self> {
        let now = context.clock.now();
        Ok(Self {
            watch,
            mounts,
            // What was mounted between the look and the first wait is told by none.
            mounts_due: Some(now.mono),
            mounts_seen: now.mono,
            unwatched,
            teller: Teller::new(context),
            choice,
            flag: WakeFlag::new()?,
            losses: Vec::new(),
            whole_until: now.wall,
        })
    }

    fn now(&self) -> Mono {
        self.teller.clock().now().mono
    }

    /// Watches what was mounted since.
    fn mark_new(&mut self) -> io::Result<()> {
        self.mounts_due = None;
        let mounts = self.mounts.read()?;
        self.mounts_seen = self.now();
        match marks::mark(&self.watch, &mounts) {
            Ok(unwatched) => {
                for new in unwatched.iter().filter(|one| !self.unwatched.contains(one)) {
                    tracing::warn!(file_system = new.what, why = new.why, "programs started from it are not seen");
                }
                self.unwatched = unwatched;
                Ok(())
            }
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// Reads what waits, up to a whole batch; `true` if the queue was emptied.
    fn read(&mut self, from: usize, out: &mut Vec<Observation>) -> io::Result<bool> {
        for _ in 0..PATIENCE {
            let (opened, lost) = match self.watch.read()? {
                Told::Empty => {
                    self.teller.emptied();
                    self.whole_until = self.teller.clock().now().wall;
                    return Ok(true);
                }
                Told::Opened(opened) => (opened, None),
                Told::Overflow(opened) => (opened, Some((None, "the kernel's queue of notices was full".to_owned()))),
                Told::Lost(error) => {
                    (Vec::new(), Some((Some(1), format!("the file of a notice could not be opened: {error}"))))
                }
            };
            for one in opened {
                self.take(&one, out);
            }
            if let Some((at_most, reason)) = lost {
                let end = self.teller.clock().now().wall;
                let start = self.whole_until.min(end);
                self.losses.push(Loss { events: EVENTS, start, end, at_most, reason });
            }
            // A process that lives must be looked at while it does.
            self.teller.look(self.now(), out);
            if out.len() - from >= BATCH || self.losses.len() >= BATCH {
                return Ok(false);
            }
        }
        Ok(false)
    }

    fn take(&mut self, one: &Opened, out: &mut Vec<Observation>) {
        let (Some(pid), Some(file)) = (one.pid(), one.file()) else { return };
        let Ok(id) = FileId::of(file) else { return };
        let mut head = [0; HEAD];
        let length = rustix::io::pread(file, &mut head, 0).unwrap_or(0);
        let kind = Kind::of(head.get(..length).unwrap_or_default());
        let path = one.path().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        let now = self.now();
        self.teller.opened(pid, exec::Opened { id, path, kind }, now, out);
    }

    /// Gathers a batch.
    fn gather(&mut self, wait: Duration, out: &mut Vec<Observation>) -> io::Result<()> {
        let from = out.len();
        let mut until = self.now().after(wait);
        let mut gathering = false;
        loop {
            if self.mounts_due.is_some_and(|due| due <= self.now()) {
                self.mark_new()?;
            }
            let emptied = self.read(from, out)?;
            let now = self.now();
            self.teller.look(now, out);
            if !gathering && (out.len() > from || !self.losses.is_empty()) {
                gathering = true;
                until = now.after(GATHER).min(until);
            }
            let left = until.since(now);
            if !emptied || left.is_zero() {
                return Ok(());
            }
            let due = self.teller.due().into_iter().chain(self.mounts_due).min();
            let pause = due.map_or(left, |due| due.since(now).min(left));
            let stirred = self.flag.wait_both(self.watch.as_fd(), self.mounts.as_fd(), pause)?;
            if stirred.urgent {
                self.mounts_due.get_or_insert(self.mounts_seen.after(MOUNT_PAUSE));
            }
            if stirred.called {
                return Ok(());
            }
        }
    }
}

impl Source for FanotifySource {
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
        let gathered = self.gather(wait, out);
        gathered.map_err(|source| SourceError::Broken { name: NAME, source })?;
        Ok(Drained { losses: std::mem::take(&mut self.losses) })
    }
}
