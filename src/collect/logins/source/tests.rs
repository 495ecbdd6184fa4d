use std::fs;
use std::io::Write;

use super::*;
use crate::model::payload::{Login, LoginResult};
use crate::sys::clock::ManualClock;
use crate::sys::files::private_directory;
use crate::sys::utmp::{Kind, Layout, Record, made};

const JOURNAL: &[u8] = include_bytes!("../../../../tests/fixtures/journal/compact.journal");

/// A machine whose logs the test writes.
struct Machine {
    root: tempfile::TempDir,
    clock: Arc<ManualClock>,
}

impl Machine {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for directory in ["var/log", "etc", "state", "var/log/journal/m"] {
            private_directory(&root.path().join(directory)).unwrap();
        }
        let clock = Arc::new(ManualClock::new("2026-07-01T09:30:00Z".parse().unwrap()));
        Self { root, clock }
    }

    /// With these logs, empty.
    fn with(names: &[&str]) -> Self {
        let machine = Self::new();
        for name in names {
            machine.append(name, b"");
        }
        machine
    }

    fn log(&self, name: &str) -> PathBuf {
        self.root.path().join("var/log").join(name)
    }

    fn append(&self, name: &str, bytes: &[u8]) {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(self.log(name)).unwrap();
        file.write_all(bytes).unwrap();
    }

    fn line(&self, text: &str) {
        let stamp = self.clock.now().wall.utc.to_string();
        self.append("auth.log", format!("{stamp} board {text}\n").as_bytes());
    }

    fn record(&self, name: &str, kind: Kind, pid: u32, terminal: &str, user: &str) {
        let record = Record {
            kind,
            pid,
            terminal: terminal.into(),
            user: user.into(),
            host: String::new(),
            address: "192.0.2.7".parse().ok().filter(|_| kind != Kind::End),
            at: self.clock.now().wall.utc,
        };
        self.append(name, &made::bytes(Layout::Wide, &record));
    }

    fn context(&self) -> SourceContext {
        let plain = SourceContext::plain(Host::rooted(self.root.path()), self.clock.clone());
        SourceContext { state: Some(self.root.path().join("state")), ..plain }
    }

    fn open(&self) -> LoginSource {
        LoginSource::open(&self.context()).unwrap()
    }

    /// Everything that comes within the next seconds.
    fn drain(&self, source: &mut LoginSource) -> (Vec<Login>, Vec<Loss>) {
        let (mut out, mut losses) = (Vec::new(), Vec::new());
        for _ in 0..6 {
            losses.extend(source.drain(Duration::ZERO, &mut out).unwrap().losses);
            self.clock.advance(Duration::from_secs(4));
        }
        let logins = out.into_iter().map(|observation| match observation.what {
            Payload::Login(login) => login,
            other => panic!("{other:?}"),
        });
        (logins.collect(), losses)
    }
}

fn brief(logins: &[Login]) -> Vec<(&str, &str, LoginResult, &str)> {
    logins
        .iter()
        .map(|l| (l.user_name.as_str(), l.operation.as_str(), l.result, l.extra_details["Source"].as_str()))
        .collect()
}

const ACCEPTED: &str = "sshd[812]: Accepted password for pi from 192.0.2.7 port 50022 ssh2";
const FAILED: &str = "sshd[813]: Failed password for pi from 192.0.2.7 port 50023 ssh2";
const CLOSED: &str = "sshd[812]: pam_unix(sshd:session): session closed for user pi";

#[test]
fn what_several_logs_tell_is_one_event() {
    let machine = Machine::with(&["auth.log", "wtmp", "btmp"]);
    machine.line("sshd[1]: Accepted password for old from 192.0.2.7 port 1 ssh2");
    let mut source = machine.open();
    assert_eq!(machine.drain(&mut source), (Vec::new(), Vec::new()));

    machine.line(ACCEPTED);
    machine.record("wtmp", Kind::Session, 830, "pts/0", "pi");
    machine.line(FAILED);
    machine.record("btmp", Kind::Prompt, 813, "ssh:notty", "pi");
    let (logins, losses) = machine.drain(&mut source);
    assert_eq!(losses, []);
    assert_eq!(
        brief(&logins),
        [
            ("pi", "ssh:password", LoginResult::Success, "auth.log,wtmp"),
            ("pi", "ssh:password", LoginResult::Fail, "auth.log,btmp"),
        ]
    );
    assert_eq!((logins[0].process_id, logins[0].extra_details["Terminal"].as_str()), (812, "pts/0"));

    machine.line(CLOSED);
    machine.record("wtmp", Kind::End, 830, "pts/0", "");
    let (logins, _) = machine.drain(&mut source);
    assert_eq!(brief(&logins), [("pi", "logout", LoginResult::Success, "auth.log,wtmp")]);
}

#[test]
fn a_user_whom_pam_names_by_the_id_alone_is_the_one_that_sudo_names() {
    let machine = Machine::with(&["auth.log"]);
    crate::sys::files::write_atomic(&machine.root.path().join("etc/passwd"), b"pi:x:1000:1000::/:/bin/sh\n", 0o644)
        .unwrap();
    let mut source = machine.open();
    machine.line("sudo: pi : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/ls");
    machine.line("sudo: pam_unix(sudo:session): session opened for user root(uid=0) by (uid=1000)");
    let (logins, _) = machine.drain(&mut source);
    assert_eq!(brief(&logins), [("pi", "sudo", LoginResult::Success, "auth.log")]);
    assert_eq!(logins[0].user_id.as_deref(), Some("1000"));
}

#[test]
fn a_restart_loses_nothing_and_doubles_nothing() {
    let machine = Machine::with(&["auth.log", "wtmp", "btmp"]);
    let mut source = machine.open();
    machine.line(ACCEPTED);
    let mut out = Vec::new();
    source.drain(Duration::ZERO, &mut out).unwrap();
    assert_eq!(out.len(), 0, "it waits for what others say");
    drop(source);

    // Said while nobody reads: more of what was read, something new, and a rotation in between.
    machine.record("wtmp", Kind::Session, 830, "pts/0", "pi");
    machine.line(FAILED);
    fs::rename(machine.log("auth.log"), machine.log("auth.log.1")).unwrap();
    machine.line("sudo: pi : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/ls");
    let mut source = machine.open();
    assert_eq!(source.resumed(), EVENTS);
    let (logins, losses) = machine.drain(&mut source);
    assert_eq!(losses, []);
    assert_eq!(
        brief(&logins),
        [
            ("pi", "ssh:password", LoginResult::Success, "auth.log,wtmp"),
            ("pi", "ssh:password", LoginResult::Fail, "auth.log"),
            ("pi", "sudo", LoginResult::Success, "auth.log"),
        ]
    );
    drop(source);
    assert_eq!(machine.drain(&mut machine.open()), (Vec::new(), Vec::new()));

    // A session of before is known by its terminal.
    machine.record("wtmp", Kind::End, 830, "pts/0", "");
    assert_eq!(brief(&machine.drain(&mut machine.open()).0), [("pi", "logout", LoginResult::Success, "wtmp")]);
}

#[test]
fn a_crash_after_an_event_was_handed_on_tells_it_no_second_time() {
    let machine = Machine::with(&["auth.log"]);
    let mut source = machine.open();
    machine.line(ACCEPTED);
    assert_eq!(machine.drain(&mut source).0.len(), 1);
    std::mem::forget(source);
    assert_eq!(machine.drain(&mut machine.open()), (Vec::new(), Vec::new()));
}

#[test]
fn what_is_gone_is_told_as_a_loss() {
    let machine = Machine::with(&["auth.log"]);
    machine.line("sshd[1]: old");
    drop(machine.open());
    machine.clock.advance(Duration::from_secs(60));
    fs::remove_file(machine.log("auth.log")).unwrap();
    machine.line(ACCEPTED);
    let (logins, losses) = machine.drain(&mut machine.open());
    assert_eq!((logins.len(), losses.len()), (1, 1), "{losses:?}");
    assert!(losses[0].reason.contains("/var/log/auth.log: the file that was read before is gone"), "{losses:?}");
    assert!(losses[0].start < losses[0].end);
}

#[test]
fn what_was_written_while_it_was_off_is_not_read() {
    let machine = Machine::with(&["auth.log"]);
    let mut source = machine.open();
    source.want(EventSet::NONE).unwrap();
    drop(source);
    assert_eq!(fs::read_dir(machine.root.path().join("state")).unwrap().count(), 0);
    machine.line(ACCEPTED);
    let mut source = machine.open();
    assert_eq!((source.resumed(), machine.drain(&mut source).0), (EventSet::NONE, Vec::new()));
    drop(source);
    forget(&machine.root.path().join("state"));
    machine.line(FAILED);
    assert_eq!(machine.drain(&mut machine.open()).0, []);
}

#[test]
fn a_log_that_appears_later_is_read_from_its_start() {
    let machine = Machine::with(&["wtmp"]);
    let mut source = machine.open();
    machine.line(ACCEPTED);
    machine.append("journal/m/system.journal", JOURNAL);
    // The entries of that journal are of the future: the clock of this machine is not.
    machine.clock.set_wall("2026-12-01T00:00:00Z".parse().unwrap());
    machine.clock.advance(RESCAN);
    let (logins, losses) = machine.drain(&mut source);
    let told: Vec<_> = brief(&logins).into_iter().map(|(user, operation, ..)| (user, operation)).collect();
    assert_eq!(
        told,
        [("pi", "ssh:password"), ("pi", "ssh:password"), ("admin", "ssh:password"), ("pi", "sudo"), ("pi", "logout")]
    );
    assert!(losses.iter().any(|loss| loss.reason.contains("compressed")), "{losses:?}");
    // The daemon moves the journal: the copy tells nothing new.
    private_directory(&machine.root.path().join("run/log/journal/m")).unwrap();
    fs::copy(machine.log("journal/m/system.journal"), machine.root.path().join("run/log/journal/m/system.journal"))
        .unwrap();
    machine.clock.advance(RESCAN);
    assert_eq!(machine.drain(&mut source).0, []);
}

/// Writes the journal as it is after so many entries.
fn journal(machine: &Machine, name: &str, entries: u64) {
    let mut bytes = JOURNAL.to_vec();
    bytes[152..160].copy_from_slice(&entries.to_le_bytes());
    fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(machine.log("journal/m").join(name))
        .unwrap()
        .write_all(&bytes)
        .unwrap();
}

#[test]
fn the_journal_is_followed_over_a_restart_and_its_archives() {
    let machine = Machine::with(&["wtmp"]);
    machine.clock.set_wall("2026-12-01T00:00:00Z".parse().unwrap());
    journal(&machine, "system.journal", 1);
    let count = u64::from_le_bytes(JOURNAL[152..160].try_into().unwrap());
    let mut source = machine.open();
    assert!(source.choice().covers[0].complete);
    // All but the last two of the daemon's entries: up to and with sudo.
    journal(&machine, "system.journal", count - 2);
    assert_eq!(machine.drain(&mut source).0.len(), 3);
    drop(source);
    journal(&machine, "system.journal", count);
    fs::rename(machine.log("journal/m/system.journal"), machine.log("journal/m/system@a-b.journal")).unwrap();
    let mut source = machine.open();
    let (logins, losses) = machine.drain(&mut source);
    assert_eq!(brief(&logins), [("pi", "logout", LoginResult::Success, "journal")]);
    assert_eq!(losses, []);
}

#[test]
fn many_attempts_that_were_missed_are_told_once_each() {
    let machine = Machine::with(&["auth.log", "btmp"]);
    drop(machine.open());
    for pid in 1000..1600 {
        machine.clock.advance(Duration::from_millis(20));
        machine.line(&format!("sshd[{pid}]: Failed password for root from 192.0.2.7 port {pid} ssh2"));
        machine.record("btmp", Kind::Prompt, pid, "ssh:notty", "root");
    }
    let mut source = machine.open();
    let mut pids = Vec::new();
    while pids.len() < 600 {
        let (logins, losses) = machine.drain(&mut source);
        assert!(!logins.is_empty() && losses.is_empty());
        pids.extend(logins.iter().map(|login| login.process_id));
    }
    assert_eq!(pids, (1000..1600).collect::<Vec<_>>());
}

impl Machine {
    /// How the source sees after its next look around.
    fn health(&self, source: &mut LoginSource) -> (bool, String) {
        self.clock.advance(RESCAN);
        source.drain(Duration::ZERO, &mut Vec::new()).unwrap();
        let covers = &source.choice().covers[0];
        (covers.complete, format!("{}; cannot see {}", source.choice().reason, covers.cannot_see))
    }
}

#[test]
fn how_it_sees_follows_the_logs_that_come_and_go() {
    let machine = Machine::with(&["auth.log", "wtmp", "btmp"]);
    let mut source = machine.open();
    let all = machine.health(&mut source);
    assert!(all.0 && all.1.contains("auth.log"), "{all:?}");

    // A rotation is no change: what took the place of the file is read.
    fs::rename(machine.log("auth.log"), machine.log("auth.log.1")).unwrap();
    machine.append("auth.log", b"");
    assert_eq!(machine.health(&mut source), all);

    fs::remove_file(machine.log("auth.log")).unwrap();
    let records = machine.health(&mut source);
    assert!(!records.0 && !records.1.contains("auth.log") && records.1.contains("cannot see su, sudo"), "{records:?}");
    for name in ["wtmp", "btmp"] {
        fs::remove_file(machine.log(name)).unwrap();
    }
    let nothing = machine.health(&mut source);
    assert!(!nothing.0 && nothing.1.starts_with("there is no systemd journal"), "{nothing:?}");
    journal(&machine, "system.journal", 1);
    let words = machine.health(&mut source);
    assert!(words.0 && words.1.contains("/var/log/journal/m"), "{words:?}");
}

#[test]
fn a_log_that_cannot_be_read_is_told_once_and_read_once_it_can_be() {
    let machine = Machine::with(&["wtmp"]);
    // Also root can read no directory as a file.
    private_directory(&machine.log("auth.log")).unwrap();
    let mut source = machine.open();
    let before = machine.health(&mut source);
    assert!(!before.0 && before.1.contains("auth.log: not a regular file"), "{before:?}");
    fs::remove_dir(machine.log("auth.log")).unwrap();
    machine.line(ACCEPTED);
    machine.clock.advance(RESCAN);
    let (logins, losses) = machine.drain(&mut source);
    assert_eq!((brief(&logins), losses), (vec![("pi", "ssh:password", LoginResult::Success, "auth.log")], Vec::new()));
    assert!(machine.health(&mut source).0);

    // What takes the place of a log that was read.
    fs::remove_file(machine.log("auth.log")).unwrap();
    private_directory(&machine.log("auth.log")).unwrap();
    let (_, losses) = machine.drain(&mut source);
    assert_eq!(losses.len(), 1, "{losses:?}");
    assert!(losses[0].reason.contains("auth.log cannot be read: not a regular file"), "{losses:?}");
    let after = machine.health(&mut source);
    assert!(!after.0 && after.1.contains("auth.log: not a regular file"), "{after:?}");
}

#[test]
fn no_log_at_all_is_said() {
    let root = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new("2026-07-01T09:30:00Z".parse().unwrap()));
    let error = LoginSource::open(&SourceContext::plain(Host::rooted(root.path()), clock)).err().unwrap();
    assert!(error.starts_with("there is no systemd journal"), "{error}");
}

#[test]
fn a_written_line_ends_the_wait_and_so_does_a_call() {
    let machine = Machine::with(&["auth.log"]);
    let mut source = machine.open();
    machine.line(ACCEPTED);
    machine.clock.advance(Duration::from_secs(1));
    // The clock stands still: only inotify can end this wait.
    assert!(source.wait(Duration::from_secs(3600)).unwrap());
    source.waker().wake();
    assert!(!source.wait(Duration::from_secs(3600)).unwrap());
}
