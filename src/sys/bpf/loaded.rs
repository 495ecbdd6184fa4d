//! The programs, loaded: the only file that names aya and landlock.
//!
//! aya reads the whole type information of the kernel before it loads anything, 14 MB that our programs have no use for.
//! It goes without if it cannot open the file. So the programs are loaded on a thread of its own that has given up
//! opening files for good (Landlock); on a kernel without Landlock it costs the memory for a moment.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::thread;

use aya::maps::{Array, MapData, MapError, RingBuf};
use aya::programs::ProgramError;
use aya::programs::raw_trace_point::{RawTracePoint, RawTracePointLinkId};
use aya::{Ebpf, EbpfError, EbpfLoader, VerifierLogLevel};
use landlock::{AccessFs, Ruleset, RulesetAttr, RulesetError};
use rustix::event::{Timespec, epoll};

use super::{BpfError, Layout, Options, Program};

/// What the build script made of `bpf/twinward.bpf.c`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/twinward.bpf.o"));

/// Longest text of the kernel's verifier that is told, in bytes; the end says why.
const VERDICT: usize = 300;

/// The place in the map `state` where the programs note that they have woken the reader.
const WOKEN: u32 = 0;
/// The place in the map `state` of the count of peers of UDP that were more than are told.
const FLOOD: u32 = 5;

impl Program {
    const fn name(self) -> &'static str {
        match self {
            Self::Exec => "started",
            Self::Exit => "ended",
            Self::Call => "called",
            Self::Tcp => "changed",
            Self::Udp => "sent",
        }
    }

    const fn tracepoint(self) -> &'static str {
        match self {
            Self::Exec => "sched_process_exec",
            Self::Exit => "sched_process_exit",
            Self::Call | Self::Tcp => "inet_sock_set_state",
            Self::Udp => "net_dev_queue",
        }
    }

    /// The place in the map `state` of its count of lost records.
    const fn lost(self) -> u32 {
        match self {
            Self::Exec => 1,
            Self::Exit => 2,
            Self::Call | Self::Tcp => 3,
            Self::Udp => 4,
        }
    }

    const fn index(self) -> usize {
        self as usize
    }
}

/// For each program: whether it is loaded, or why it is not.
type Loaded = [Result<(), String>; Program::ALL.len()];

/// The loaded programs and their ring. Everything in the kernel goes when this is dropped.
pub struct Programs {
    ebpf: Ebpf,
    ring: RingBuf<MapData>,
    state: Array<MapData, u64>,
    /// Readable when the programs have woken us, and not merely because there is something in the ring.
    calls: OwnedFd,
    loaded: Loaded,
    attached: [Option<RawTracePointLinkId>; Program::ALL.len()],
}

impl Programs {
    /// Loads those programs that this kernel has the members for. Nothing runs before [`Programs::attach`].
    ///
    /// # Errors
    /// The kernel refuses a map, or a program that is not optional, most often for want of CAP_BPF and CAP_PERFMON; or
    /// it lacks what these need.
    pub fn load(layout: &Layout, options: Options) -> Result<Self, BpfError> {
        if let (Some(member), Some(_)) = (layout.lacks(Program::Exec), layout.lacks(Program::Exit)) {
            return Err(BpfError::Lacks(member));
        }
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
        let cpus = u32::try_from(cpus).unwrap_or(1);
        let layout = layout.clone();
        let loading = thread::Builder::new().name("ebpf-load".to_owned()).spawn(move || {
            // Without Landlock it works too.
            let _ = open_no_files();
            load(&layout, options, cpus)
        })?;
        let (mut ebpf, loaded) =
            loading.join().map_err(|_| BpfError::Refused("the thread that loads has ended".to_owned()))??;
        let mut map = |name| ebpf.take_map(name).ok_or_else(|| BpfError::Refused(format!("no map {name}")));
        let ring = RingBuf::try_from(map("records")?).map_err(|error| map_refused(&error))?;
        let state = Array::try_from(map("state")?).map_err(|error| map_refused(&error))?;
        let calls = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(io::Error::from)?;
        let edge = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&calls, &ring, epoll::EventData::new_u64(0), edge).map_err(io::Error::from)?;
        Ok(Self { ebpf, ring, state, calls, loaded, attached: Program::ALL.map(|_| None) })
    }

    /// Whether a program can be attached.
    #[must_use]
    pub fn is_loaded(&self, program: Program) -> bool {
        self.loaded.get(program.index()).is_some_and(Result::is_ok)
    }

    /// Why a program cannot be attached; `None` if it can.
    #[must_use]
    pub fn refusal(&self, program: Program) -> Option<&str> {
        self.loaded.get(program.index())?.as_ref().err().map(String::as_str)
    }

    /// Lets a program run from now on.
    ///
    /// # Errors
    /// The kernel has no such tracepoint, or refuses.
    pub fn attach(&mut self, program: Program) -> Result<(), BpfError> {
        let Some(link @ None) = self.attached.get_mut(program.index()) else { return Ok(()) };
        let attached = raw_tracepoint(&mut self.ebpf, program)?.attach(program.tracepoint());
        *link = Some(attached.map_err(|error| refused(program, &error))?);
        Ok(())
    }

    /// Lets a program run no more.
    ///
    /// # Errors
    /// None in practice: the kernel only closes a descriptor.
    pub fn detach(&mut self, program: Program) -> Result<(), BpfError> {
        let Some(link) = self.attached.get_mut(program.index()).and_then(Option::take) else { return Ok(()) };
        raw_tracepoint(&mut self.ebpf, program)?.detach(link).map_err(|error| refused(program, &error))
    }

    /// Takes the next record out of the ring; `false` if there is none.
    pub fn take(&mut self, each: impl FnOnce(&[u8])) -> bool {
        let Some(record) = self.ring.next() else { return false };
        each(&record);
        true
    }

    /// Says whether we look at the ring by ourselves. While we do, the programs wake us only when half of it is full,
    /// once for each time that this is said; while we do not, with the next record.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn set_awake(&mut self, awake: bool) -> io::Result<()> {
        self.state.set(WOKEN, u64::from(awake), 0).map_err(io::Error::other)
    }

    /// How many records of a program found no room, since it was loaded. Those of TCP are counted as one.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn lost(&self, program: Program) -> io::Result<u64> {
        Ok(self.state.get(&program.lost(), 0).map_err(io::Error::other)? + self.missed(program))
    }

    /// How many peers of UDP were more than are told in a second, since the program was loaded.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn flooded(&self) -> io::Result<u64> {
        self.state.get(&FLOOD, 0).map_err(io::Error::other)
    }

    /// How often the kernel did not run a program because it ran already on that processor: an interrupt may bring a
    /// packet that changes another connection just then. 0 if this kernel does not say (before 5.12).
    fn missed(&self, program: Program) -> u64 {
        // Starts and ends of processes do not come with interrupts, and packets are queued with those of their kind off.
        if program != Program::Tcp || !self.is_loaded(program) {
            return 0;
        }
        let descriptor = self.ebpf.program(program.name()).and_then(|program| program.fd().ok());
        let text = descriptor.and_then(|descriptor| {
            std::fs::read_to_string(format!("/proc/self/fdinfo/{}", descriptor.as_fd().as_raw_fd())).ok()
        });
        let count = |text: String| text.lines().find_map(|l| l.strip_prefix("recursion_misses:")?.trim().parse().ok());
        text.and_then(count).unwrap_or(0)
    }

    /// Takes note that the programs have woken us, so that the next wait is for the next time.
    ///
    /// # Errors
    /// Those of the system call.
    pub fn heard(&self) -> io::Result<()> {
        let mut events = Vec::with_capacity(1);
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        epoll::wait(&self.calls, rustix::buffer::spare_capacity(&mut events), Some(&none))?;
        Ok(())
    }
}

impl AsFd for Programs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.calls.as_fd()
    }
}

/// The calling thread can open no file for reading from now on.
fn open_no_files() -> Result<(), RulesetError> {
    Ruleset::default().handle_access(AccessFs::ReadFile)?.create()?.restrict_self().map(drop)
}

fn load(layout: &Layout, options: Options, cpus: u32) -> Result<(Ebpf, Loaded), BpfError> {
    let half = options.ring / 2;
    let loopback = u32::from(options.loopback);
    let (first, last) = (u32::from(options.ephemeral.0), u32::from(options.ephemeral.1));
    let mut loader = EbpfLoader::new();
    loader.btf(None).verifier_log_level(VerifierLogLevel::DEBUG);
    for (name, offset) in layout.constants() {
        loader.override_global(name, offset, true);
    }
    loader.override_global("argument_limit", &options.arguments, true).override_global("ring_half", &half, true);
    loader.override_global("loopback_told", &loopback, true);
    loader.override_global("ephemeral_first", &first, true).override_global("ephemeral_last", &last, true);
    loader.map_max_entries("records", options.ring).map_max_entries("scratch", cpus);
    let mut ebpf = loader.load(OBJECT).map_err(|error| match error {
        EbpfError::MapError(error) => map_refused(&error),
        error => BpfError::Refused(error.to_string()),
    })?;
    let mut outcomes = Program::ALL.map(|_| Ok(()));
    for (program, place) in Program::ALL.into_iter().zip(&mut outcomes) {
        let outcome = match layout.lacks(program) {
            Some(member) => Err(BpfError::Lacks(member)),
            None => raw_tracepoint(&mut ebpf, program)?.load().map_err(|error| refused(program, &error)),
        };
        *place = match outcome {
            Err(error @ BpfError::Refused(_)) if !program.is_optional() => return Err(error),
            outcome => outcome.map_err(|error| error.to_string()),
        };
    }
    Ok((ebpf, outcomes))
}

fn raw_tracepoint(ebpf: &mut Ebpf, program: Program) -> Result<&mut RawTracePoint, BpfError> {
    let name = program.name();
    let found = ebpf.program_mut(name).ok_or_else(|| BpfError::Refused(format!("no program {name}")))?;
    found.try_into().map_err(|error| refused(program, &error))
}

fn map_refused(error: &MapError) -> BpfError {
    BpfError::Refused(match error {
        MapError::CreateError { name, io_error, .. } => format!("the kernel refuses the map {name}: {io_error}"),
        error => error.to_string(),
    })
}

/// The kernel's answer, and the end of what its verifier says.
fn refused(program: Program, error: &ProgramError) -> BpfError {
    let name = program.tracepoint();
    BpfError::Refused(match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let log = log.trim();
            let end = log.get(log.ceil_char_boundary(log.len().saturating_sub(VERDICT))..).unwrap_or_default();
            format!("the kernel refuses the program for {name}: {io_error} {}", end.replace('\n', "; "))
                .trim()
                .to_owned()
        }
        ProgramError::SyscallError(error) => format!("the kernel refuses {name}: {}", error.io_error),
        error => format!("{name}: {error}"),
    })
}
