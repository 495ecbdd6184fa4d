//! Starts and ends of processes from programs of ours in the kernel: each one, with its command line, or counted as
//! lost.

mod observe;
mod pace;

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use super::lane::{self, SourceContext};
use super::{BATCH, Coverage, Drained, Loss, Source, SourceChoice, SourceError};
use crate::model::event::{EventName, Observation};
use crate::model::event_set::EventSet;
use crate::model::time::{Now, Timestamp};
use crate::sys::bpf::{self, BpfError, Layout, Options, Program, Programs, record};
use crate::sys::capabilities::{Capability, Privileges};
use crate::sys::clock::Clock;
use crate::sys::wake::{WakeFlag, Waker, Woken};
use observe::Observer;
use pace::{Look, Pace};

/// The name in `SourceChoice`.
const NAME: &str = "eBPF";
/// What it gives.
pub(super) const EVENTS: EventSet = EventSet::of(&[EventName::ProcessCreate, EventName::ProcessTerminate]);
/// Room for about 2,000 starts of usual length: between two looks, 20,000 a second.
const RING: u32 = 512 << 10;
/// Records that may be read in one drain without an observation among them; then the caller gets a turn.
const PATIENCE: usize = 16_384;

/// Which program tells of an event.
const TELLS: [(Program, EventName); 2] =
    [(Program::Exec, EventName::ProcessCreate), (Program::Exit, EventName::ProcessTerminate)];

/// Opens the source, if this kernel takes the programs from us.
pub(super) fn open(context: &SourceContext, events: EventSet, _: &str) -> Result<Box<dyn Source>, String> {
    if !bpf::IS_BUILT {
        return Err(BpfError::NotBuilt.to_string());
    }
    let privileges = Privileges::read(&context.host).map_err(|error| error.to_string())?;
    if privileges.initial_pid_namespace == Some(false) {
        return Err("eBPF: this is not the initial PID namespace, whose process ids it tells".to_owned());
    }
    let layout = Layout::read(&context.host).map_err(|error| error.to_string())?;
    // One byte more tells that there was more.
    let arguments = u32::try_from(context.command_line).unwrap_or(u32::MAX).saturating_add(1);
    let programs = Programs::load(&layout, Options { arguments, ring: RING }).map_err(|error| {
        let lacking = privileges.lacking(&[Capability::Bpf, Capability::Perfmon]);
        match lacking.as_slice() {
            [] => error.to_string(),
            _ if privileges.has(Capability::SysAdmin) => error.to_string(),
            lacking => {
                let names: Vec<_> = lacking.iter().map(|capability| capability.as_str()).collect();
                format!("{error} (it needs {}, from Linux 5.8 on)", names.join(" and "))
            }
        }
    })?;
    let mut source = EbpfSource::new(programs, context).map_err(|error| error.to_string())?;
    source.watch(events).map_err(|error| error.to_string())?;
    Ok(Box::new(source))
}

/// What the loaded programs see.
fn covers(programs: &Programs) -> Vec<Coverage> {
    let cannot_see = |event| match event {
        EventName::ProcessTerminate => "which program it was, if the process started none itself",
        _ => "",
    };
    let loaded = TELLS.iter().filter(|(program, _)| programs.is_loaded(*program));
    loaded
        .map(|(_, event)| Coverage { event: *event, cannot_see: cannot_see(*event).to_owned(), complete: true })
        .collect()
}

/// See [`NAME`].
struct EbpfSource {
    programs: Programs,
    observer: Observer,
    clock: Arc<dyn Clock>,
    choice: SourceChoice,
    flag: WakeFlag,
    pace: Pace,
    wanted: EventSet,
    /// Lost records that were told, by program.
    told: [u64; TELLS.len()],
    /// Everything up to here was read.
    whole_until: Timestamp,
}

impl EbpfSource {
    fn new(programs: Programs, context: &SourceContext) -> io::Result<Self> {
        Ok(Self {
            choice: lane::choice(NAME, "the kernel took the programs", covers(&programs)),
            programs,
            observer: Observer::new(context),
            clock: Arc::clone(&context.clock),
            flag: WakeFlag::new()?,
            pace: Pace::Quiet,
            wanted: EventSet::NONE,
            told: [0; TELLS.len()],
            whole_until: context.clock.now().wall,
        })
    }

    /// Runs the programs that these events need. An end is told with the program that was started, so ends need both.
    fn watch(&mut self, events: EventSet) -> Result<(), BpfError> {
        let ends = events.contains(EventName::ProcessTerminate);
        let newly = ends && !self.wanted.contains(EventName::ProcessTerminate);
        self.wanted = events;
        for (program, event) in TELLS {
            if self.programs.is_loaded(program) && (events.contains(event) || (ends && program == Program::Exec)) {
                self.programs.attach(program)?;
            } else {
                self.programs.detach(program)?;
            }
        }
        if newly {
            self.observer.learn();
        }
        Ok(())
    }

    /// Reads what is in the ring, up to a whole batch.
    fn look(&mut self, now: Now, from: usize, out: &mut Vec<Observation>) -> Look {
        let mut look = Look::Empty;
        for _ in 0..PATIENCE {
            let Self { programs, observer, wanted, .. } = self;
            let taken = programs.take(|bytes| {
                let record = record::decode(bytes);
                out.extend(record.and_then(|record| observer.observe(record, *wanted, now)));
            });
            if !taken {
                return look;
            }
            look = Look::Emptied;
            if out.len() - from >= BATCH {
                break;
            }
        }
        Look::Part
    }

    /// What found no room in the ring since this was asked last.
    fn losses(&mut self, now: Timestamp) -> io::Result<Vec<Loss>> {
        let mut losses = Vec::new();
        for ((program, event), told) in TELLS.into_iter().zip(&mut self.told) {
            let lost = self.programs.lost(program)?;
            let fresh = lost.saturating_sub(*told);
            *told = lost;
            if fresh > 0 {
                let reason = "the ring between the kernel and the agent was full".to_owned();
                let events = EventSet::of(&[event]);
                losses.push(Loss { events, start: self.whole_until, end: now, at_most: Some(fresh), reason });
            }
        }
        Ok(losses)
    }

    fn gather(&mut self, wait: Duration, out: &mut Vec<Observation>) -> io::Result<Vec<Loss>> {
        let from = out.len();
        let until = self.clock.now().mono.after(wait);
        loop {
            let left = self.pace.patience(self.clock.now().mono, until);
            let woken =
                if left.is_zero() { Woken::Elapsed } else { self.flag.wait(Some(self.programs.as_fd()), left)? };
            let now = self.clock.now();
            if woken == Woken::Ready {
                self.programs.heard()?;
                if self.pace.is_awaiting() {
                    self.pace = Pace::busy(now.mono);
                    continue;
                }
            }
            let mut look = self.look(now, from, out);
            let mut pace = self.pace.after(look, now.mono);
            if matches!((self.pace, pace), (Pace::Busy(_), Pace::Settling(_))) {
                // From here on the next record wakes us. One that came just before is seen now.
                self.programs.set_awake(false)?;
                look = self.look(now, from, out);
                pace = pace.after(look, now.mono);
            }
            if look != Look::Empty {
                self.programs.set_awake(true)?;
            }
            let losses =
                if self.pace == Pace::Quiet && look == Look::Empty { Vec::new() } else { self.losses(now.wall)? };
            self.pace = pace;
            if look != Look::Part {
                self.whole_until = now.wall;
            }
            if out.len() > from
                || !losses.is_empty()
                || look == Look::Part
                || woken == Woken::Called
                || now.mono >= until
            {
                return Ok(losses);
            }
        }
    }
}

impl Source for EbpfSource {
    fn choice(&self) -> &SourceChoice {
        &self.choice
    }

    fn waker(&self) -> Waker {
        self.flag.waker()
    }

    fn want(&mut self, events: EventSet) -> Result<(), SourceError> {
        let broken = |error| SourceError::Broken { name: NAME, source: io::Error::other(error) };
        self.watch(events).map_err(broken)
    }

    fn drain(&mut self, wait: Duration, out: &mut Vec<Observation>) -> Result<Drained, SourceError> {
        let losses = self.gather(wait, out).map_err(|source| SourceError::Broken { name: NAME, source })?;
        Ok(Drained { losses })
    }
}
