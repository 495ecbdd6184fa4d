//! Process starts from the kernel's process connector: each one, at once, or counted as lost.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use super::{Reader, Started};
use crate::collect::{BATCH, Drained, GATHER, Loss, ProcessSource, SourceChoice, SourceError};
use crate::model::event::Observation;
use crate::model::time::Timestamp;
use crate::sys::clock::Clock;
use crate::sys::host::Host;
use crate::sys::proc_connector::{Next, ProcConnector, ProcEvent};
use crate::sys::wake::{WakeFlag, Waker, Woken};

/// The name in `SourceChoice`.
pub const NAME: &str = "process connector";
/// Parents are remembered for this many processes; those beyond it lose the parent if they end at once.
const PARENTS: usize = 8192;
/// Events that may be read in one drain without an observation among them; then the caller gets a turn.
const PATIENCE: usize = 16_384;

/// The parents of the processes that were forked since the start and still live.
#[derive(Debug, Default)]
struct Parents(HashMap<u32, u32>);

impl Parents {
    /// Keeps up with an event; gives the program start, if it is one.
    fn take(&mut self, event: ProcEvent) -> Option<Started> {
        match event {
            ProcEvent::Fork { parent, child } => {
                if self.0.len() < PARENTS || self.0.contains_key(&child) {
                    self.0.insert(child, parent);
                }
                None
            }
            ProcEvent::Exit { pid } => {
                self.0.remove(&pid);
                None
            }
            ProcEvent::Exec { pid } => Some(Started { pid, parent: self.0.get(&pid).copied(), stat: None }),
        }
    }

    /// Exits may be among what was lost: what is remembered cannot be believed any more.
    fn forget(&mut self) {
        self.0.clear();
    }
}

/// Gathers the losses of one drain into one.
#[derive(Debug, Default)]
struct Losing {
    counted: u64,
    overflow: bool,
}

impl Losing {
    /// The loss between two moments, if there was one.
    fn finish(self, start: Timestamp, end: Timestamp) -> Option<Loss> {
        let (at_most, reason) = match (self.counted, self.overflow) {
            (0, false) => return None,
            (0, true) => (None, "the kernel's buffer for the process connector overflowed; the count follows"),
            (n, _) => (Some(n), "the kernel dropped process events of all kinds: its buffer was full"),
        };
        Some(Loss { start, end, at_most, reason: reason.to_owned() })
    }
}

/// See [`NAME`].
pub struct ConnectorSource {
    connector: ProcConnector,
    reader: Reader,
    choice: SourceChoice,
    flag: WakeFlag,
    parents: Parents,
    /// Everything up to here was read.
    whole_until: Timestamp,
}

impl ConnectorSource {
    /// Reads from an acknowledged subscription.
    ///
    /// # Errors
    /// No descriptor left.
    pub fn new(connector: ProcConnector, host: Host, clock: Arc<dyn Clock>, choice: SourceChoice) -> io::Result<Self> {
        let whole_until = clock.now().wall;
        let reader = Reader::new(host, clock);
        Ok(Self { connector, reader, choice, flag: WakeFlag::new()?, parents: Parents::default(), whole_until })
    }

    /// Reads what waits, up to a whole batch; `true` if the queue was emptied.
    fn read(&mut self, from: usize, out: &mut Vec<Observation>, losing: &mut Losing) -> io::Result<bool> {
        for _ in 0..PATIENCE {
            match self.connector.read()? {
                Next::Empty => return Ok(true),
                Next::Event(event) => {
                    if let Some(started) = self.parents.take(event) {
                        out.push(self.reader.observe(started));
                        if out.len() - from >= BATCH {
                            return Ok(false);
                        }
                    }
                }
                Next::Lost(count) => {
                    losing.counted += u64::from(count);
                    self.parents.forget();
                }
                Next::Overflow => losing.overflow = true,
            }
        }
        Ok(false)
    }

    fn gather(&mut self, wait: Duration, out: &mut Vec<Observation>, losing: &mut Losing) -> io::Result<()> {
        let from = out.len();
        let begin = self.reader.clock().now().mono;
        let mut until = begin.after(wait);
        let mut gathering = false;
        loop {
            let emptied = self.read(from, out, losing)?;
            let full = out.len() - from >= BATCH || !emptied;
            let now = self.reader.clock().now().mono;
            if !gathering && (out.len() > from || losing.overflow || losing.counted > 0) {
                gathering = true;
                until = now.after(GATHER);
            }
            let left = until.since(now);
            if full || left.is_zero() || self.flag.wait(Some(self.connector.as_fd()), left)? != Woken::Ready {
                return Ok(());
            }
        }
    }
}

impl ProcessSource for ConnectorSource {
    fn choice(&self) -> &SourceChoice {
        &self.choice
    }

    fn waker(&self) -> Waker {
        self.flag.waker()
    }

    fn drain(&mut self, wait: Duration, out: &mut Vec<Observation>) -> Result<Drained, SourceError> {
        let mut losing = Losing::default();
        let result = self.gather(wait, out, &mut losing);
        let now = self.reader.clock().now().wall;
        let start = std::mem::replace(&mut self.whole_until, now);
        result.map_err(|source| SourceError::Broken { name: NAME, source })?;
        Ok(Drained { losses: losing.finish(start, now).into_iter().collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_known_while_the_process_lives() {
        let mut parents = Parents::default();
        assert!(parents.take(ProcEvent::Fork { parent: 1, child: 50 }).is_none());
        assert_eq!(parents.take(ProcEvent::Exec { pid: 50 }).unwrap().parent, Some(1));
        assert!(parents.take(ProcEvent::Exit { pid: 50 }).is_none());
        assert_eq!(parents.take(ProcEvent::Exec { pid: 50 }).unwrap().parent, None);
        for child in 0..20_000 {
            parents.take(ProcEvent::Fork { parent: 1, child });
        }
        assert_eq!(parents.0.len(), PARENTS);
        parents.forget();
        assert_eq!(parents.take(ProcEvent::Exec { pid: 1 }).unwrap().parent, None);
    }

    #[test]
    fn losses_of_one_drain_are_one_loss() {
        let start = Timestamp::trusted("2026-07-01T09:30:00Z".parse().unwrap());
        let end = Timestamp::trusted("2026-07-01T09:30:01Z".parse().unwrap());
        assert_eq!(Losing::default().finish(start, end), None);
        let counted = Losing { counted: 7, overflow: true }.finish(start, end).unwrap();
        assert_eq!((counted.start, counted.end, counted.at_most), (start, end, Some(7)));
        assert_eq!(Losing { counted: 0, overflow: true }.finish(start, end).unwrap().at_most, None);
    }
}
