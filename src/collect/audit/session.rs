//! Our part in the audit system: what is changed there while the source is open, and that nothing of it is left.
//!
//! If nobody else reads the records, we become the reader, switch the system on, and keep records that are not used here
//! from being written at all. If there is another reader (auditd), we listen beside it, add our rules behind its rules,
//! and change nothing else.
//!
//! Each of our rules has a key that says whose it is and how the system was before, so that the next start can clean up
//! after one that was killed: `twinward-PID-START-ENABLED-BACKLOG-WAIT`, where START is the process's start in clock
//! ticks since boot and the rest is the state to go back to. The first one, which watches no call, stands there before
//! anything else is changed. Rules that exclude records cannot have a key; they have a condition that is always true and
//! names the process.

use rustix::io::Errno;

use crate::model::event::EventName;
use crate::model::event_set::EventSet;
use crate::sys::audit::arch::{self, Abi, SOCKETCALL_ACCEPT, SOCKETCALL_CONNECT};
use crate::sys::audit::assemble::{EOE, PROCTITLE};
use crate::sys::audit::rule::{self, Field, Listed, Operator, Rule};
use crate::sys::audit::{AuditError, Change, Control, Records, Status};
use crate::sys::host::{self, Host};
use crate::sys::procfs;

const KEY: &str = "twinward-";
/// Records that come with each exec and are not used here: `PATH`, `CWD`, `BPRM_FCAPS`.
const UNUSED: [u16; 3] = [1302, 1307, 1321];
/// Records that may wait in the kernel while we sleep.
const BACKLOG: u32 = 8192;
/// No process id has these bits: the largest is below 2 to the power of 22.
const MARK: u32 = 0x7440_0000;
const MARK_BITS: u32 = 0xFFC0_0000;
/// `-EINPROGRESS`, as a rule has it.
const IN_PROGRESS: u32 = (-115_i32).cast_unsigned();

/// How the system was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Before {
    enabled: u32,
    backlog_limit: u32,
    wait: u32,
}

/// Whose rules these are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    pid: u32,
    start: u64,
    before: Before,
}

impl Owner {
    fn key(self) -> String {
        let Before { enabled, backlog_limit, wait } = self.before;
        format!("{KEY}{}-{}-{enabled}-{backlog_limit}-{wait}", self.pid, self.start)
    }

    fn parse(key: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(key).ok()?.strip_prefix(KEY)?.split('-');
        let (pid, start) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let mut number = || parts.next()?.parse::<u32>().ok();
        let before = Before { enabled: number()?, backlog_limit: number()?, wait: number()? };
        Some(Self { pid, start, before })
    }

    fn is_alive(self, host: &Host) -> bool {
        is_alive(host, self.pid).is_some_and(|start| start == self.start)
    }
}

/// When a process was started, in clock ticks since boot; `None` if there is none, or only what is left of it because
/// its parent has not noticed the end.
fn is_alive(host: &Host, pid: u32) -> Option<u64> {
    procfs::stat(host, pid).filter(|stat| !stat.is_dead()).map(|stat| stat.start)
}

/// What was found when the session was opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// The process that reads the records besides us.
    pub(super) reader: Option<u32>,
    /// Whether it was switched on already.
    pub(super) was_on: bool,
    /// Whether rules of others leave something out.
    pub(super) exceptions: bool,
}

/// See the top of this file. What was changed is changed back when this is dropped.
pub(super) struct Session {
    control: Control,
    pub(super) records: Records,
    owner: Owner,
    abis: &'static [&'static Abi],
    /// Whether rules may look at the family of an address (Linux 5.2).
    families: bool,
    /// Whether records may be excluded under a condition (Linux 4.8).
    excludes: bool,
    /// Our rules, as the kernel has them.
    ours: Vec<Vec<u8>>,
}

impl Session {
    /// Takes our part; no rules yet.
    ///
    /// # Errors
    /// Why the audit system cannot be used, in words.
    pub(super) fn open(host: &Host) -> Result<(Self, Found), String> {
        let mut control = Control::open().map_err(|error| error.to_string())?;
        let status = control.status().map_err(|error| error.to_string())?;
        refuse(&status)?;
        let rules = control.rules().map_err(|error| error.to_string())?;
        let mut before =
            Before { enabled: status.enabled, backlog_limit: status.backlog_limit, wait: status.backlog_wait_time };
        let others = clean_up(&mut control, host, rules, &mut before).map_err(|error| error.to_string())?;
        if others.iter().any(|rule| rule.filter() == rule::TASK && rule.action() == rule::NEVER) {
            return Err("an audit rule keeps new processes from being watched (auditctl -l: -a never,task)".into());
        }
        let records = reader(host, &status)?;
        let pid = std::process::id();
        let start = procfs::stat(host, pid).map_or(0, |stat| stat.start);
        let found = Found {
            reader: (!records.is_owner()).then_some(status.pid),
            was_on: before.enabled != 0,
            exceptions: others.iter().any(|rule| rule.filter() == rule::EXIT && rule.action() == rule::NEVER),
        };
        let mut session = Self {
            control,
            excludes: records.is_owner() && status.rich_excludes,
            records,
            owner: Owner { pid, start, before },
            abis: arch::of_machine(&host::machine().unwrap_or_default()),
            families: true,
            ours: Vec::new(),
        };
        let note = session.rules(EventSet::NONE);
        session.replace(&note).map_err(|error| refused(&error))?;
        session.switch_on(&status).map_err(|error| error.to_string())?;
        Ok((session, found))
    }

    fn switch_on(&mut self, status: &Status) -> Result<(), AuditError> {
        if !self.records.is_owner() {
            return Ok(());
        }
        // The machine must never be stopped because we are slow; what is lost then is counted.
        self.control.set(Change::BacklogWaitTime(0))?;
        if status.backlog_limit != 0 && status.backlog_limit < BACKLOG {
            self.control.set(Change::BacklogLimit(BACKLOG))?;
        }
        if status.enabled == 0 {
            self.control.set(Change::Enabled(1))?;
        }
        Ok(())
    }

    /// Watches these events and nothing else.
    ///
    /// # Errors
    /// A rule was refused.
    pub(super) fn watch(&mut self, events: EventSet) -> Result<(), String> {
        let tried = self.rules(events);
        match self.replace(&tried) {
            // Before Linux 5.2 a rule cannot ask for the family.
            Err(error) if error.is(Errno::INVAL) && self.families => {
                self.families = false;
                let simpler = self.rules(events);
                self.replace(&simpler).map_err(|error| refused(&error))
            }
            result => result.map_err(|error| refused(&error)),
        }
    }

    /// Puts these rules in the place of ours.
    fn replace(&mut self, wanted: &[Vec<u8>]) -> Result<(), AuditError> {
        while let Some(place) = self.ours.iter().position(|rule| !wanted.contains(rule)) {
            self.control.delete(&self.ours.swap_remove(place))?;
        }
        for rule in wanted {
            if !self.ours.contains(rule) {
                self.control.add(rule)?;
                self.ours.push(rule.clone());
            }
        }
        Ok(())
    }

    /// The rules for these events.
    fn rules(&self, events: EventSet) -> Vec<Vec<u8>> {
        let starts = events.contains(EventName::ProcessCreate);
        let connections = events.contains(EventName::ConnectionCreate);
        let key = self.owner.key();
        let mut rules = Vec::new();
        if self.records.is_owner() {
            rules.push(Rule::new(rule::EXIT).key(&key));
        }
        if self.excludes && (starts || connections) {
            let unused = UNUSED.iter().chain([&EOE]).chain((!connections).then_some(&PROCTITLE));
            rules.extend(unused.map(|kind| {
                Rule::new(rule::EXCLUDE).when(Field::MessageType, Operator::Equal, (*kind).into()).when(
                    Field::Pid,
                    Operator::NotEqual,
                    MARK | self.owner.pid,
                )
            }));
        }
        for abi in self.abis {
            let rule = || Rule::new(rule::EXIT).when(Field::Arch, Operator::Equal, abi.arch);
            let succeeds = || rule().when(Field::Success, Operator::Equal, 1);
            if starts {
                rules.push(succeeds().calls(&abi.exec).key(&key));
            }
            if connections {
                rules.extend(self.connections(abi, &rule, &succeeds).into_iter().map(|rule| rule.key(&key)));
            }
        }
        rules.iter().map(Rule::encode).collect()
    }

    fn connections(&self, abi: &Abi, any: &dyn Fn() -> Rule, succeeds: &dyn Fn() -> Rule) -> Vec<Rule> {
        let pending = || any().when(Field::Exit, Operator::Equal, IN_PROGRESS);
        let internet = |rule: Rule| if self.families { with_internet(rule) } else { rule };
        let mut rules = vec![
            internet(succeeds().calls(&[abi.connect]).calls(abi.accept)),
            internet(pending().calls(&[abi.connect])),
            // Without a place for the address: of any family, for none is recorded.
            succeeds().calls(abi.accept).when(Field::Argument1, Operator::Equal, 0),
        ];
        if let Some(call) = abi.socketcall {
            let of_kind =
                |rule: Rule, kind| internet(rule.calls(&[call]).when(Field::Argument0, Operator::Equal, kind));
            rules.push(of_kind(succeeds(), SOCKETCALL_CONNECT));
            rules.push(of_kind(pending(), SOCKETCALL_CONNECT));
            rules.extend(SOCKETCALL_ACCEPT.iter().map(|kind| of_kind(succeeds(), *kind)));
        }
        rules
    }

    /// The state now.
    ///
    /// # Errors
    /// Any [`AuditError`].
    pub(super) fn status(&mut self) -> Result<Status, AuditError> {
        self.control.status()
    }
}

/// Families from IPv4 (2) to IPv6 (10); what lies between is not used any more.
fn with_internet(rule: Rule) -> Rule {
    rule.when(Field::AddressFamily, Operator::AtLeast, 2).when(Field::AddressFamily, Operator::AtMost, 10)
}

impl Drop for Session {
    fn drop(&mut self) {
        // All of it is tried, whatever fails: the next start cleans up what is left.
        for rule in std::mem::take(&mut self.ours) {
            let _ = self.control.delete(&rule);
        }
        if self.records.is_owner() {
            let Before { enabled, backlog_limit, wait } = self.owner.before;
            if enabled == 0 {
                let _ = self.control.set(Change::Enabled(0));
            }
            let _ = self.control.set(Change::BacklogLimit(backlog_limit));
            let _ = self.control.set(Change::BacklogWaitTime(wait));
        }
    }
}

/// States in which we keep our hands off.
fn refuse(status: &Status) -> Result<(), String> {
    if status.enabled > 1 {
        return Err("the audit rules are locked until the next boot (auditctl -e 2)".into());
    }
    if status.failure > 1 {
        return Err("the kernel would panic when an audit record is lost (auditctl -f 2)".into());
    }
    Ok(())
}

fn refused(error: &AuditError) -> String {
    if error.is(Errno::INVAL) {
        "this kernel cannot watch system calls for audit (CONFIG_AUDITSYSCALL)".to_owned()
    } else {
        error.to_string()
    }
}

/// The stream of records: ours alone, or beside a reader that lives.
fn reader(host: &Host, status: &Status) -> Result<Records, String> {
    let beside = || {
        if status.enabled == 0 {
            return Err(format!("audit belongs to process {}, which has switched it off", status.pid));
        }
        Records::listen().map_err(|error| error.to_string())
    };
    if status.pid != 0 && is_alive(host, status.pid).is_some() {
        return beside();
    }
    match Records::own() {
        Err(error) if error.is(Errno::EXIST) => beside(),
        result => result.map_err(|error| error.to_string()),
    }
}

/// Removes the rules of a run that was killed, and takes over what it was to change back. Gives the rules of others.
fn clean_up(
    control: &mut Control,
    host: &Host,
    rules: Vec<Listed>,
    before: &mut Before,
) -> Result<Vec<Listed>, AuditError> {
    let owner = |rule: &Listed| Owner::parse(rule.key()?);
    let mut alive: Vec<u32> = Vec::new();
    let mut others = Vec::new();
    let mut left = Vec::new();
    for listed in rules {
        match owner(&listed) {
            Some(owner) if owner.is_alive(host) => alive.push(owner.pid),
            Some(owner) => {
                *before = owner.before;
                left.push(listed);
            }
            None => others.push(listed),
        }
    }
    let (marked, others): (Vec<_>, Vec<_>) = others.into_iter().partition(|rule| marked_by(rule).is_some());
    left.extend(marked.into_iter().filter(|rule| marked_by(rule).is_none_or(|pid| !alive.contains(&pid))));
    for listed in &left {
        control.delete(&listed.bytes)?;
    }
    Ok(others)
}

/// The process that a rule without a key belongs to, if it is one of ours.
fn marked_by(listed: &Listed) -> Option<u32> {
    let pid = |(field, operator, value)| {
        let ours = field == Field::Pid as u32 && operator == Operator::NotEqual as u32 && value & MARK_BITS == MARK;
        ours.then_some(value & !MARK_BITS)
    };
    (listed.filter() == rule::EXCLUDE).then(|| listed.fields().find_map(pid)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_whose_rule_it_is_and_what_was_before() {
        let before = Before { enabled: 0, backlog_limit: 64, wait: 15_000 };
        let owner = Owner { pid: 4711, start: 98_765, before };
        assert_eq!(owner.key(), "twinward-4711-98765-0-64-15000");
        assert_eq!(Owner::parse(owner.key().as_bytes()), Some(owner));
        for foreign in ["", "twinward", "twinward-1-2-3", "exec", "twinward-x-1-0-64-0"] {
            assert_eq!(Owner::parse(foreign.as_bytes()), None, "{foreign}");
        }
    }

    #[test]
    fn a_killed_process_that_nobody_noticed_is_not_alive() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::rooted(root.path());
        for (pid, state) in [(7, 'S'), (8, 'Z')] {
            let directory = root.path().join(format!("proc/{pid}"));
            std::fs::create_dir_all(&directory).unwrap();
            let line = format!("{pid} (x) {state} 1 1 1 0 -1 0{} 500 0\n", " 0".repeat(12));
            crate::sys::files::write_atomic(&directory.join("stat"), line.as_bytes(), 0o644).unwrap();
        }
        let before = Before { enabled: 0, backlog_limit: 64, wait: 0 };
        let alive = |pid, start| Owner { pid, start, before }.is_alive(&host);
        assert!(alive(7, 500) && !alive(7, 400) && !alive(8, 500) && !alive(9, 500));
    }

    #[test]
    fn an_exclude_rule_names_its_process() {
        let rule = |pid| {
            let rule = Rule::new(rule::EXCLUDE).when(Field::MessageType, Operator::Equal, 1302);
            Listed { bytes: rule.when(Field::Pid, Operator::NotEqual, pid).encode() }
        };
        assert_eq!(marked_by(&rule(MARK + 4711)), Some(4711));
        assert_eq!(marked_by(&rule(4711)), None);
    }

    #[test]
    fn dangerous_states_are_left_alone() {
        let status = Status::default();
        assert!(refuse(&status).is_ok());
        assert!(refuse(&Status { enabled: 2, ..status }).unwrap_err().contains("locked"));
        assert!(refuse(&Status { failure: 2, ..status }).unwrap_err().contains("panic"));
    }
}
