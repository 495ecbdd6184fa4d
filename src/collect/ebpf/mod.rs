//! Starts and ends of processes and connections from programs of ours in the kernel: each one, with its command line, or
//! counted as lost.

mod connections;
mod hold;
mod listeners;
mod losses;
mod observe;
mod pace;
mod programs;

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
use crate::sys::host::Host;
use crate::sys::wake::{WakeFlag, Waker, Woken};
use losses::Losses;
use observe::Observer;
use pace::{Look, Pace};

/// The name in `SourceChoice`.
const NAME: &str = "eBPF";
/// What it gives.
pub(super) const EVENTS: EventSet =
    EventSet::of(&[EventName::ProcessCreate, EventName::ProcessTerminate, EventName::ConnectionCreate]);
/// Room for about 1,000 starts of usual length: between two looks, 10,000 a second. All of it counts as our memory.
const RING: u32 = 256 << 10;
/// Records that may be read in one drain without an observation among them; then the caller gets a turn.
const PATIENCE: usize = 16_384;

/// The ports that the kernel gives by itself, unless it is configured otherwise.
const EPHEMERAL: (u16, u16) = (32_768, 60_999);

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
    let options = Options {
        arguments,
        ring: RING,
        loopback: context.loopback_connections,
        ephemeral: ephemeral(&context.host).unwrap_or(EPHEMERAL),
    };
    let programs = Programs::load(&layout, options).map_err(|error| {
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

/// The ports that the kernel gives to sockets that ask for none.
fn ephemeral(host: &Host) -> Option<(u16, u16)> {
    let text = host.read_text("/proc/sys/net/ipv4/ip_local_port_range", 64).ok()?;
    let mut numbers = text.split_ascii_whitespace().map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Whether a program is there for one of these events. A connection, and an end, is told with the program that was
/// started, so both need all starts, and connections the ends too.
fn serves(program: Program, events: EventSet) -> bool {
    let any = |names: &[EventName]| names.iter().any(|name| events.contains(*name));
    match program {
        Program::Exec => any(&[EventName::ProcessCreate, EventName::ProcessTerminate, EventName::ConnectionCreate]),
        Program::Exit => any(&[EventName::ProcessTerminate, EventName::ConnectionCreate]),
        Program::Call | Program::Tcp | Program::Udp => any(&[EventName::ConnectionCreate]),
    }
}

/// What the loaded programs see.
fn covers(programs: &Programs) -> Vec<Coverage> {
    let mut covers = Vec::new();
    let mut cover = |event, cannot_see: String, complete| covers.push(Coverage { event, cannot_see, complete });
    if programs.is_loaded(Program::Exec) {
        cover(EventName::ProcessCreate, String::new(), true);
    }
    if programs.is_loaded(Program::Exit) {
        let cannot_see = "which program it was, if the process started none itself";
        cover(EventName::ProcessTerminate, cannot_see.to_owned(), true);
    }
    // Without those of TCP another source does better.
    if programs.is_loaded(Program::Call) && programs.is_loaded(Program::Tcp) {
        let unanswered = "UDP that is received and never answered";
        match programs.refusal(Program::Udp) {
            None => cover(EventName::ConnectionCreate, unanswered.to_owned(), true),
            Some(why) => cover(EventName::ConnectionCreate, format!("UDP ({why})"), false),
        }
    }
    covers
}

/// Why the programs do not see all that they could.
fn reason(programs: &Programs) -> String {
    let refusals: Vec<_> = Program::ALL.iter().filter_map(|program| programs.refusal(*program)).collect();
    match refusals.first() {
        None => "the kernel took the programs".to_owned(),
        Some(first) => format!("the kernel took some of the programs: {first}"),
    }
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
    losses: Losses,
    /// Of what records were lost since the last time that the ring was read empty.
    lost: EventSet,
    /// Everything up to here was read.
    whole_until: Timestamp,
}

impl EbpfSource {
    fn new(programs: Programs, context: &SourceContext) -> io::Result<Self> {
        Ok(Self {
            choice: lane::choice(NAME, &reason(&programs), covers(&programs)),
            programs,
            observer: Observer::new(context),
            clock: Arc::clone(&context.clock),
            flag: WakeFlag::new()?,
            pace: Pace::Quiet,
            wanted: EventSet::NONE,
            losses: Losses::default(),
            lost: EventSet::NONE,
            whole_until: context.clock.now().wall,
        })
    }

    /// Runs the programs that these events need.
    fn watch(&mut self, events: EventSet) -> Result<(), BpfError> {
        self.wanted = events;
        let events = events.and(self.choice.events());
        for program in Program::ALL {
            if self.programs.is_loaded(program) && serves(program, events) {
                self.programs.attach(program)?;
            } else {
                self.programs.detach(program)?;
            }
        }
        self.observer.remember(serves(Program::Exit, events));
        Ok(())
    }

    /// Reads what is in the ring, up to a whole batch.
    fn look(&mut self, now: Now, from: usize, out: &mut Vec<Observation>) -> Look {
        let mut look = Look::Empty;
        for _ in 0..PATIENCE {
            let Self { programs, observer, wanted, .. } = self;
            let taken = programs.take(|bytes| {
                if let Some(record) = record::decode(bytes) {
                    observer.observe(record, *wanted, now, out);
                }
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

    /// What was lost since this was asked last.
    fn losses(&mut self, now: Timestamp) -> io::Result<Vec<Loss>> {
        let wanted = self.wanted.and(self.choice.events());
        let runs = |program| serves(program, wanted);
        let losses = self.losses.since(&self.programs, runs, self.whole_until, now)?;
        self.lost = losses.iter().fold(self.lost, |all, loss| all.with(loss.events));
        Ok(losses)
    }

    fn gather(&mut self, wait: Duration, out: &mut Vec<Observation>) -> io::Result<Vec<Loss>> {
        let from = out.len();
        let until = self.clock.now().mono.after(wait);
        loop {
            let start = self.clock.now().mono;
            let left = self.pace.patience(start, until);
            let left = self.observer.due().map_or(left, |due| left.min(due.since(start)));
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
                if !self.lost.is_empty() {
                    self.observer.lost(std::mem::replace(&mut self.lost, EventSet::NONE));
                }
            }
            // Who does not wait takes what there is: a stop, most often.
            self.observer.release(if wait.is_zero() { None } else { Some(now.mono) }, out);
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
        let gathered = self.gather(wait, out);
        if gathered.is_err() {
            self.observer.release(None, out);
        }
        gathered.map(|losses| Drained { losses }).map_err(|source| SourceError::Broken { name: NAME, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_needed_runs() {
        let of = |names: &[EventName]| -> Vec<Program> {
            Program::ALL.into_iter().filter(|program| serves(*program, EventSet::of(names))).collect()
        };
        assert_eq!(of(&[]), []);
        assert_eq!(of(&[EventName::ProcessCreate]), [Program::Exec]);
        assert_eq!(of(&[EventName::ProcessTerminate]), [Program::Exec, Program::Exit]);
        assert_eq!(of(&[EventName::ConnectionCreate]), Program::ALL);
    }

    #[test]
    fn the_ports_that_the_kernel_gives_are_read() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::rooted(root.path());
        assert_eq!(ephemeral(&host), None);
        crate::sys::files::private_directory(&root.path().join("proc/sys/net/ipv4")).unwrap();
        let file = root.path().join("proc/sys/net/ipv4/ip_local_port_range");
        crate::sys::files::write_atomic(&file, b"10000\t20000\n", 0o600).unwrap();
        assert_eq!(ephemeral(&host), Some((10_000, 20_000)));
    }
}
