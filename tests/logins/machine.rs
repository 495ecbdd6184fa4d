//! A machine of its own for the test: see `machine.sh`. What it writes about sign-ins stands below a directory that the
//! source reads as the root of the machine.

use std::cell::RefCell;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use twinward::sys::files::{private_directory, write_atomic};

/// The user of the test, with the password `right horse`.
pub const USER: &str = "twinward-test";
pub const UID: u32 = 64_999;
pub const PASSWORD: &str = "right horse";
const HASH: &str =
    "$6$twinwardtest$Fr2nAe73md/KuHL6ld7R1enssWhQCTaOs8gacSNs4AdEtoNB2JOcAzn.KAoTNKAFGyfQlY4XzX.EYNiXy37xZ0";

pub struct Machine {
    shell: Child,
    /// Open for as long as the machine is to last.
    keep: Option<ChildStdin>,
    _syslog: Syslog,
    /// The ports of the SSH clients so far.
    pub ports: RefCell<Vec<u16>>,
    /// Removed last.
    pub root: tempfile::TempDir,
}

/// Runs a program that the test is about.
#[expect(clippy::disallowed_methods, reason = "the test is about real programs")]
pub fn program(name: &str) -> Command {
    Command::new(name)
}

fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Writes auth.log from what it is sent, as a syslog daemon does.
struct Syslog {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Syslog {
    fn start(path: PathBuf, log: PathBuf) -> Self {
        let socket = UnixDatagram::bind(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut file = fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 16_384];
            while let Ok(length) = socket.recv(&mut buffer) {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                // `<86>Jul  1 09:30:00 sshd[812]: …`
                let text = String::from_utf8_lossy(&buffer[..length]).replace(['\n', '\0'], " ");
                let (_, rest) = text.split_once('>').unwrap();
                let (stamp, rest) = rest.split_at(15);
                file.write_all(format!("{stamp} board{rest}\n").as_bytes()).unwrap();
            }
        });
        Self { path, stop, thread: Some(thread) }
    }
}

impl Drop for Syslog {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        UnixDatagram::unbound().unwrap().send_to(b"end", &self.path).unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Machine {
    /// With the journal, or without.
    pub fn start(journal: bool) -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for directory in ["run/systemd/journal", "var/log", "etc", "dev", "home/.ssh"] {
            private_directory(&root.path().join(directory)).unwrap();
        }
        for directory in
            ["run", "run/systemd", "run/systemd/journal", "var", "var/log", "etc", "dev", "home", "home/.ssh"]
        {
            fs::set_permissions(root.path().join(directory), fs::Permissions::from_mode(0o755)).unwrap();
        }
        symlink("/proc", root.path().join("proc")).unwrap();
        users(root.path());
        for (log, mode) in [("wtmp", 0o664), ("btmp", 0o660)] {
            write_atomic(&root.path().join("var/log").join(log), b"", mode).unwrap();
        }
        let socket = if journal { "run/systemd/journal/syslog" } else { "run/systemd/journal/dev-log" };
        let syslog = Syslog::start(root.path().join(socket), root.path().join("var/log/auth.log"));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/logins/machine.sh");
        let mut shell = program("unshare")
            .args(["--mount", "--fork", "--kill-child", "sh"])
            .arg(script)
            .arg(root.path())
            .arg(if journal { "journal" } else { "files" })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let keep = shell.stdin.take().unwrap();
        let mut said = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n");
        let machine = Self { root, shell, keep: Some(keep), _syslog: syslog, ports: RefCell::default() };
        machine.keys();
        machine
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// A program on that machine.
    pub fn inside(&self, name: &str) -> Command {
        // The shell is the child of unshare.
        let children = format!("/proc/{0}/task/{0}/children", self.shell.id());
        let child = fs::read_to_string(children).unwrap();
        let mut command = program("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", child.trim())).arg("--").arg(name);
        command
    }

    fn keys(&self) {
        for name in ["host", "right", "wrong"] {
            let path = self.path("home").join(name);
            succeed(program("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path));
        }
        fs::copy(self.path("home/right.pub"), self.path("home/.ssh/authorized_keys")).unwrap();
        fs::set_permissions(self.path("home/.ssh/authorized_keys"), fs::Permissions::from_mode(0o644)).unwrap();
        let config = format!(
            "HostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM yes\nPasswordAuthentication yes\n\
             KbdInteractiveAuthentication no\nPidFile none\nUseDNS no\nSyslogFacility AUTHPRIV\n",
            self.path("home/host").display(),
            self.path("home/.ssh/authorized_keys").display()
        );
        write_atomic(&self.path("etc/sshd_config"), config.as_bytes(), 0o644).unwrap();
        for (name, password) in [("right", PASSWORD), ("not-right", "wrong horse")] {
            let script = format!("#!/bin/sh\necho '{password}'\n");
            write_atomic(&self.path("home").join(format!("{name}.sh")), script.as_bytes(), 0o755).unwrap();
        }
    }

    /// One connection of a client to a server of its own; gives how the client ended.
    pub fn ssh(&self, user: &str, options: &[&str], command: &str) -> Output {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut client = program("ssh");
        client
            .args(["-F", "none", "-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no"])
            .args(["-o", "LogLevel=ERROR", "-o", "NumberOfPasswordPrompts=1", "-o", "IdentitiesOnly=yes"])
            .args(options)
            .args(["-p", &port.to_string(), "-l", user, "127.0.0.1", command])
            .env("SSH_ASKPASS_REQUIRE", "force")
            .env_remove("SSH_AUTH_SOCK");
        client.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        client.env("SSH_ASKPASS", self.path("home/not-right.sh"));
        if options.contains(&RIGHT) {
            client.env("SSH_ASKPASS", self.path("home/right.sh"));
        }
        let mut client = client.spawn().unwrap();
        listener.set_nonblocking(true).unwrap();
        let (stream, peer) = loop {
            match listener.accept() {
                Ok(accepted) => break accepted,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            assert_eq!(client.try_wait().unwrap(), None, "the client ended before it connected");
            let mut wanted = [PollFd::new(&listener, PollFlags::IN)];
            poll(&mut wanted, Some(&Timespec { tv_sec: 1, tv_nsec: 0 })).unwrap();
        };
        stream.set_nonblocking(false).unwrap();
        self.ports.borrow_mut().push(peer.port());
        let stream = std::os::fd::OwnedFd::from(stream);
        let mut server = self
            .inside("/usr/sbin/sshd")
            .args(["-i", "-f"])
            .arg(self.path("etc/sshd_config"))
            .stdin(Stdio::from(stream.try_clone().unwrap()))
            .stdout(Stdio::from(stream))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = client.wait_with_output().unwrap();
        server.wait().unwrap();
        output
    }

    /// A program on a terminal, whose questions are answered: each text is waited for, and then its answer is typed.
    pub fn on_terminal(&self, command: &str, answers: &[(&str, &str)]) -> String {
        let mut child = self
            .inside("script")
            .args(["--quiet", "--return", "--command", command, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut shown = Vec::new();
        for (wanted, answer) in answers {
            wait_for(&mut screen, wanted, &mut shown);
            keys.write_all(format!("{answer}\n").as_bytes()).unwrap();
            keys.flush().unwrap();
        }
        screen.read_to_end(&mut shown).unwrap();
        drop(keys);
        child.wait().unwrap();
        String::from_utf8_lossy(&shown).into_owned()
    }
}

/// An option of the client that means nothing to it and the right password here.
pub const RIGHT: &str = "-oPasswordAuthentication=yes";

fn wait_for(screen: &mut ChildStdout, wanted: &str, shown: &mut Vec<u8>) {
    let from = shown.len();
    let mut byte = [0];
    while !String::from_utf8_lossy(&shown[from..]).contains(wanted) {
        assert_eq!(screen.read(&mut byte).unwrap(), 1, "it ended: {}", String::from_utf8_lossy(shown));
        shown.push(byte[0]);
    }
}

/// The users of this machine and the one of the test.
fn users(root: &Path) {
    let add = |name: &str, line: String, mode| {
        let mut text = fs::read_to_string(Path::new("/etc").join(name)).unwrap_or_default();
        text.push_str(&line);
        write_atomic(&root.join("etc").join(name), text.as_bytes(), mode).unwrap();
    };
    let home = root.join("home");
    add("passwd", format!("{USER}:x:{UID}:{UID}::{}:/bin/sh\n", home.display()), 0o644);
    add("group", format!("{USER}:x:{UID}:\n"), 0o644);
    add("shadow", format!("{USER}:{HASH}:20000:0:99999:7:::\n"), 0o640);
    let rules = format!("Defaults !lecture\nroot ALL=(ALL) ALL\n{USER} ALL=(root) /usr/bin/id\n");
    write_atomic(&root.join("etc/sudoers"), rules.as_bytes(), 0o440).unwrap();
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The shell ends what it started.
        drop(self.keep.take());
        self.shell.wait().unwrap();
    }
}
