//! Process ends from the kernel's exit records: each one with its status, or a gap. They hold all that is told, so
//! nothing is read from `/proc`, and they can wait for each other.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use super::exit_status;
use super::program_paths::Listening;
use crate::collect::lane::{self, SourceContext};
use crate::collect::process::Reader;
use crate::collect::{BATCH, Coverage, Drained, GATHER, Loss, Source, SourceChoice, SourceError};
use crate::model::event::{EventName, Observation};
use crate::model::event_set::EventSet;
use crate::model::payload::{ExtraDetails, Payload, ProcessTerminate};
use crate::model::time::Timestamp;
use crate::sys::exit_record::Ended;
use crate::sys::taskstats::{Next, Taskstats};
use crate::sys::wake::{WakeFlag, Waker, Woken};

/// The name in `SourceChoice`.
const NAME: &str = "task statistics";
/// What it gives.
pub(in crate::collect) const EVENTS: EventSet = EventSet::of(&[EventName::ProcessTerminate]);
/// Records that may be read in one drain without a process's end among them; then the caller gets a turn.
const PATIENCE: usize = 16_384;

/// Opens the source, if the kernel accepts a listener.
pub(in crate::collect) fn open(context: &SourceContext, _: EventSet, why: &str) -> Result<Box<dyn Source>, String> {
    let stats = Taskstats::open(&context.host).map_err(|error| error.to_string())?;
    let ends = Coverage {
        event: EventName::ProcessTerminate,
        cannot_see: "the path of a program whose first start was not read before it ended".to_owned(),
        complete: true,
    };
    let mut reason = "the kernel accepted the listener".to_owned();
    if !why.is_empty() {
        reason = format!("{reason}; {why}");
    }
    let source = TaskstatsSource {
        stats,
        paths: context.program_paths.listen(&context.host),
        choice: lane::choice(NAME, &reason, vec![ends]),
        flag: WakeFlag::new().map_err(|error| error.to_string())?,
        whole_until: context.clock.now().wall,
        overflow_from: None,
        reader: Reader::new(context),
    };
    Ok(Box::new(source))
}

/// See [`NAME`].
struct TaskstatsSource {
    stats: Taskstats,
    reader: Reader,
    paths: Listening,
    choice: SourceChoice,
    flag: WakeFlag,
    /// Everything up to here was read.
    whole_until: Timestamp,
    /// Records were lost since then.
    overflow_from: Option<Timestamp>,
}

impl TaskstatsSource {
    /// Reads what waits, up to a whole batch; `true` if the queue was emptied.
    fn read(&mut self, out: &mut Vec<Observation>) -> io::Result<bool> {
        let from = out.len();
        for _ in 0..PATIENCE {
            match self.stats.read()? {
                Next::Empty => return Ok(true),
                Next::Ended(ended) if ended.last => {
                    let what = self.end(ended);
                    let at = self.reader.clock().now().wall;
                    out.push(self.reader.number_at(at, Payload::ProcessTerminate(what)));
                    if out.len() - from >= BATCH {
                        return Ok(false);
                    }
                }
                Next::Ended(_) => {}
                Next::Overflow => {
                    self.overflow_from.get_or_insert(self.whole_until);
                }
            }
        }
        Ok(false)
    }

    /// `ExtraDetails`: `ProcessName`, the kernel's short name, if the program is unknown; `ParentProcessId`, `UserId`;
    /// `RunTimeMilliseconds` since the process was made; `Signal` if it ended by one, and `CoreDumped`.
    fn end(&self, ended: Ended) -> ProcessTerminate {
        let executable = ended.program.and_then(|id| self.paths.path(id));
        let mut details = ExtraDetails::from([
            ("ParentProcessId".to_owned(), ended.parent.to_string()),
            ("UserId".to_owned(), ended.user.to_string()),
            ("RunTimeMilliseconds".to_owned(), ended.run_time.as_millis().to_string()),
        ]);
        if executable.is_none() {
            details.insert("ProcessName".to_owned(), ended.name);
        }
        let signal = ended.status & 0x7f;
        if signal != 0 {
            details.insert("Signal".to_owned(), signal.to_string());
        }
        if ended.status & 0x80 != 0 {
            details.insert("CoreDumped".to_owned(), "true".to_owned());
        }
        ProcessTerminate {
            executable: executable.as_deref().unwrap_or_default().to_owned(),
            process_id: ended.pid,
            exit_status: exit_status(ended.status),
            extra_details: details,
        }
    }

    /// Waits for the first record, then lets others gather in the kernel; reads a batch.
    fn gather(&mut self, wait: Duration, out: &mut Vec<Observation>) -> io::Result<bool> {
        match self.flag.wait(Some(self.stats.as_fd()), wait)? {
            // The buffer holds what comes meanwhile. A call ends this wait too.
            Woken::Ready => _ = self.flag.wait(None, GATHER.min(wait))?,
            Woken::Called | Woken::Elapsed => {}
        }
        self.read(out)
    }
}

impl Source for TaskstatsSource {
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
        let emptied = self.gather(wait, out).map_err(|source| SourceError::Broken { name: NAME, source })?;
        let mut losses = Vec::new();
        if emptied {
            let end = self.reader.clock().now().wall;
            losses.extend(self.overflow_from.take().map(|start| Loss {
                events: EVENTS,
                start: start.min(end),
                end,
                at_most: None,
                reason: "the buffer for exit records overflowed".to_owned(),
            }));
            self.whole_until = end;
        }
        Ok(Drained { losses })
    }
}
