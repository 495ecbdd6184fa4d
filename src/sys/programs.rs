//! The few programs of the system that the agent runs, because nothing else tells what they tell. No shell, no search
//! path, no argument from outside: each program has fixed places, and each call fixed words. It gets an empty
//! environment and nothing to read, and ends at a limit of time, output or memory.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, pidfd_open, prlimit};
use rustix::thread::{CapabilitySet, clear_ambient_capability_set, configure_capability_in_ambient_set};
use thiserror::Error;

use super::clock::Clock;
use super::host::{FileKind, Host};
use crate::model::time::Mono;

/// A program that may be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// nftables' own tool.
    Nft,
    /// The rules of the older tables of IPv4.
    IptablesLegacySave,
    /// The rules of the older tables of IPv6.
    Ip6tablesLegacySave,
    /// The rules that were written with iptables and stand in nftables, IPv4.
    IptablesNftSave,
    /// The same for IPv6.
    Ip6tablesNftSave,
    /// The name service: users and groups of directories too.
    Getent,
}

impl Program {
    /// Where it may stand, the first one first.
    #[must_use]
    pub const fn places(self) -> &'static [&'static str] {
        match self {
            Self::Nft => &["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"],
            Self::IptablesLegacySave => &["/usr/sbin/iptables-legacy-save", "/sbin/iptables-legacy-save"],
            Self::Ip6tablesLegacySave => &["/usr/sbin/ip6tables-legacy-save", "/sbin/ip6tables-legacy-save"],
            Self::IptablesNftSave => &["/usr/sbin/iptables-nft-save", "/sbin/iptables-nft-save"],
            Self::Ip6tablesNftSave => &["/usr/sbin/ip6tables-nft-save", "/sbin/ip6tables-nft-save"],
            Self::Getent => &["/usr/bin/getent", "/bin/getent"],
        }
    }

    /// Its name, as a person knows it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::IptablesLegacySave => "iptables-legacy-save",
            Self::Ip6tablesLegacySave => "ip6tables-legacy-save",
            Self::IptablesNftSave => "iptables-nft-save",
            Self::Ip6tablesNftSave => "ip6tables-nft-save",
            Self::Getent => "getent",
        }
    }
}

/// Why a program gave nothing.
#[derive(Debug, Error)]
pub enum ProgramError {
    /// It is in none of its places.
    #[error("{0} is not installed")]
    Absent(&'static str),
    /// Somebody else than root could have put it there.
    #[error(
        "{path} is not run: it belongs to uid {uid} with mode {mode:04o}; it must be root's, and writable by root only"
    )]
    NotTrusted {
        /// Where it stands.
        path: &'static str,
        /// Its owner.
        uid: u32,
        /// Its permission bits.
        mode: u32,
    },
    /// It could not be started or read.
    #[error("{name}: {source}")]
    Io {
        /// The program.
        name: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It took too long and was ended.
    #[error("{name} gave no answer within {} s and was ended", limit.as_secs())]
    TooSlow {
        /// The program.
        name: &'static str,
        /// How long it had.
        limit: Duration,
    },
    /// It said more than we take and was ended.
    #[error("{name} gave more than {limit} bytes and was ended")]
    TooMuch {
        /// The program.
        name: &'static str,
        /// How much it had.
        limit: usize,
    },
    /// It ended with a failure.
    #[error("{name} failed ({status}): {said}")]
    Failed {
        /// The program.
        name: &'static str,
        /// Its exit status in words.
        status: String,
        /// The beginning of what it said on standard error, one line.
        said: String,
    },
}

/// What a call may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From start to end.
    pub time: Duration,
    /// Standard output in bytes.
    pub output: usize,
}

/// So many bytes of memory of its own a program may have: it shares the agent's limit (`MemoryMax=` of the unit), and
/// beyond that the kernel would end one of the two. nft takes 9 MB to write 300 rules as JSON.
const MEMORY: u64 = 16 * 1024 * 1024;

/// So much of standard error is told.
const SAID: u64 = 512;

/// Runs the program and gives its standard output. `host` must be the real machine: a program tells of nothing else.
///
/// # Errors
/// See [`ProgramError`].
pub fn run(
    host: &Host,
    clock: &dyn Clock,
    program: Program,
    words: &'static [&'static str],
    limits: Limits,
) -> Result<Vec<u8>, ProgramError> {
    Call { name: program.as_str(), clock, end: clock.now().mono.after(limits.time), limits }
        .run(find(host, program)?, words)
}

/// Where the program stands, if it may be run.
fn find(host: &Host, program: Program) -> Result<&'static str, ProgramError> {
    let absent = ProgramError::Absent(program.as_str());
    if !host.is_live() {
        return Err(absent);
    }
    let here = program.places().iter().find_map(|path| Some((*path, host.facts(path).ok()?)));
    let (path, facts) = here.filter(|(_, facts)| facts.kind == FileKind::File).ok_or(absent)?;
    if facts.uid != 0 || facts.mode & 0o022 != 0 {
        return Err(ProgramError::NotTrusted { path, uid: facts.uid, mode: facts.mode });
    }
    Ok(path)
}

/// Starts a program from a thread of its own, whose ambient capabilities are cut down to those that the tools of the
/// firewall need: a program inherits them from the thread that starts it (`capabilities(7)`).
fn with_few_rights<T: Send>(start: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let work = move || {
        // A kernel without ambient capabilities hands none on.
        if clear_ambient_capability_set().is_ok() {
            for needed in [CapabilitySet::NET_ADMIN, CapabilitySet::NET_RAW] {
                // It is not held, and then the program does without.
                let _ = configure_capability_in_ambient_set(needed, true);
            }
        }
        start()
    };
    std::thread::scope(|scope| scope.spawn(work).join()).unwrap_or_else(|_| Err(io::Error::other("the thread ended")))
}

/// One run of a program.
struct Call<'a> {
    name: &'static str,
    clock: &'a dyn Clock,
    end: Mono,
    limits: Limits,
}

impl Call<'_> {
    fn run(&self, path: &str, words: &[&str]) -> Result<Vec<u8>, ProgramError> {
        #[expect(clippy::disallowed_methods, reason = "this is the one runner")]
        let mut command = Command::new(path);
        command
            .args(words)
            .env_clear()
            .env("LC_ALL", "C")
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = with_few_rights(|| command.spawn()).map_err(|e| self.failed(e))?;
        // Set from outside, a moment after its start: before, it would be ours. Without it the program runs too.
        let limit = Rlimit { current: Some(MEMORY), maximum: Some(MEMORY) };
        let _ = prlimit(Some(Pid::from_child(&child)), Resource::Data, limit);
        let told = self.gather(&mut child);
        if told.is_err() {
            // It may have ended by itself.
            let _ = child.kill();
        }
        let status = child.wait().map_err(|e| self.failed(e))?;
        let (output, said) = told?;
        if status.success() {
            return Ok(output);
        }
        let said = String::from_utf8_lossy(&said).split('\n').next().unwrap_or_default().trim().to_owned();
        Err(ProgramError::Failed { name: self.name, status: status.to_string(), said })
    }

    /// Standard output and the beginning of standard error of a child that ended or is about to.
    fn gather(&self, child: &mut Child) -> Result<(Vec<u8>, Vec<u8>), ProgramError> {
        let (Some(mut out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(self.failed(io::ErrorKind::BrokenPipe.into()));
        };
        let (mut output, mut chunk) = (Vec::new(), [0; 16 * 1024]);
        loop {
            self.wait(out.as_fd())?;
            match out.read(&mut chunk).map_err(|e| self.failed(e))? {
                0 => break,
                read if output.len() + read > self.limits.output => {
                    return Err(ProgramError::TooMuch { name: self.name, limit: self.limits.output });
                }
                read => output.extend_from_slice(chunk.get(..read).unwrap_or_default()),
            }
        }
        // Before Linux 5.3 there is no such descriptor; then its end is waited for, however long that takes.
        let process = Pid::from_raw(i32::try_from(child.id()).unwrap_or_default());
        if let Some(ended) = process.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) {
            self.wait(ended.as_fd())?;
        }
        // Somebody whom the program started may hold the pipe open: what is not there by now is not waited for.
        let mut said = Vec::new();
        if rustix::io::ioctl_fionbio(&err, true).is_ok() {
            let _ = err.take(SAID).read_to_end(&mut said);
        }
        Ok((output, said))
    }

    /// Waits until there is something to read, or an end.
    fn wait(&self, fd: BorrowedFd<'_>) -> Result<(), ProgramError> {
        loop {
            let left = self.end.since(self.clock.now().mono);
            let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 });
            match poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&timeout)) {
                Ok(0) => return Err(ProgramError::TooSlow { name: self.name, limit: self.limits.time }),
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(e) => return Err(self.failed(e.into())),
            }
        }
    }

    const fn failed(&self, source: io::Error) -> ProgramError {
        ProgramError::Io { name: self.name, source }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::sys::clock::SystemClock;

    fn shell(script: &str, time: Duration, output: usize) -> Result<Vec<u8>, ProgramError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new(jiff::Timestamp::UNIX_EPOCH));
        let limits = Limits { time, output };
        let call = Call { name: "sh", clock: clock.as_ref(), end: clock.now().mono.after(time), limits };
        call.run("/bin/sh", &["-c", script])
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn output_is_taken_and_the_environment_is_bare() {
        assert_eq!(shell("echo one; echo two", LONG, 100).unwrap(), b"one\ntwo\n");
        let environment = String::from_utf8(shell("env; pwd", LONG, 1000).unwrap()).unwrap();
        assert!(environment.contains("LC_ALL=C") && !environment.contains("CARGO"), "{environment}");
        assert!(environment.ends_with("/\n"));
        assert_eq!(shell("cat", LONG, 10).unwrap(), b"", "there is nothing to read");
    }

    #[test]
    fn a_failure_tells_what_the_program_said() {
        let error = shell("echo no such table >&2; echo more >&2; exit 3", LONG, 100).unwrap_err();
        assert_eq!(error.to_string(), "sh failed (exit status: 3): no such table");
    }

    #[test]
    fn time_and_output_have_limits() {
        let moment = Duration::from_millis(20);
        assert!(matches!(shell("exec sleep 600", moment, 100), Err(ProgramError::TooSlow { .. })));
        assert!(matches!(shell("exec >&-; exec sleep 600", moment, 100), Err(ProgramError::TooSlow { .. })));
        assert!(matches!(shell("exec 2>&1; while :; do echo y; done", LONG, 1000), Err(ProgramError::TooMuch { .. })));
        assert_eq!(shell("exec >&-; while :; do echo y; done | exec sleep 600 & exit 0", LONG, 9).unwrap(), b"");
    }

    #[test]
    fn memory_has_a_limit() {
        let little = shell("text=$(head -c 1000000 /dev/zero | tr '\\0' x); echo ${#text}", LONG, 100);
        assert_eq!(little.unwrap(), b"1000000\n");
        let much = shell("text=$(head -c 100000000 /dev/zero | tr '\\0' x); echo ${#text}", LONG, 100);
        assert!(matches!(much, Err(ProgramError::Failed { .. })), "{much:?}");
    }

    #[test]
    fn a_captured_machine_has_no_programs() {
        let clock = SystemClock::new(jiff::Timestamp::UNIX_EPOCH);
        let limits = Limits { time: LONG, output: 100 };
        let error = run(&Host::rooted("/tmp"), &clock, Program::Getent, &["passwd"], limits).unwrap_err();
        assert_eq!(error.to_string(), "getent is not installed");
    }
}
