//! Each probe on a small machine of files, by way of the text of a check.

use std::fs::create_dir_all;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

use super::super::{Outcome, run_file};
use crate::sys::files::write_atomic;
use crate::sys::fixture::attributes;
use crate::sys::host::Host;

/// A machine with these files, and with owners and modes as in a file `attributes`.
struct Small(TempDir, Host);

impl Small {
    fn new(files: &[(&str, &str)], owners: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            create_dir_all(path.parent().unwrap()).unwrap();
            write_atomic(&path, text.as_bytes(), 0o644).unwrap();
        }
        let host = Host::captured(root.path(), attributes(owners));
        Self(root, host)
    }

    fn root(&self) -> &Path {
        self.0.path()
    }

    fn judge(&self, condition: &str) -> (Outcome, String) {
        let text = format!(
            "[[check]]\nid = \"one\"\ntitle = \"t\"\nwhy = \"w\"\nremediation = \"r\"\nseverity = \"warning\"\n\
             expect = [{{ {condition} }}]\n"
        );
        let report = run_file(&self.1, "x.toml", text.as_bytes(), |_| true);
        assert_eq!(report.problems, [""; 0], "{condition}");
        let judged = report.results.into_iter().next().unwrap();
        (judged.outcome, judged.found)
    }

    #[track_caller]
    fn holds(&self, conditions: &[&str]) {
        for condition in conditions {
            assert_eq!(self.judge(condition), (Outcome::Passed, String::new()), "{condition}");
        }
    }

    #[track_caller]
    fn fails(&self, conditions: &[(&str, &str)]) {
        for (condition, found) in conditions {
            assert_eq!(self.judge(condition), (Outcome::Failed, (*found).to_owned()), "{condition}");
        }
    }

    #[track_caller]
    fn other(&self, outcome: Outcome, conditions: &[(&str, &str)]) {
        for (condition, found) in conditions {
            assert_eq!(self.judge(condition), (outcome, (*found).to_owned()), "{condition}");
        }
    }
}

#[test]
fn files_are_judged_by_mode_owner_and_kind() {
    let machine = Small::new(
        &[
            ("etc/passwd", "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n"),
            ("etc/group", "root:x:0:\nshadow:x:42:\n"),
            ("etc/shadow", ""),
            ("etc/ssh/a_key", "-----BEGIN OPENSSH PRIVATE KEY-----\nx"),
            ("etc/ssh/a_key.pub", "ssh-ed25519 x"),
        ],
        "0640 0 42 /etc/shadow\n0644 1000 0 /etc/ssh/a_key\n",
    );
    symlink("/nowhere", machine.root().join("etc/dangling")).unwrap();
    symlink("/etc/shadow", machine.root().join("etc/link")).unwrap();
    machine.holds(&[
        "file = '/etc/shadow', mode = '0640', owner = ['root'], group = ['root', 'shadow'], kind = 'file'",
        "file = '/etc/link', mode = '0644', exists = true, kind = 'file'",
        "file = '/etc', kind = 'directory', owner = 'root'",
        "file = '/etc/none', mode = '0600'",
        "file = '/etc/dangling', exists = false",
        "file = '/etc/*/a_key*', mode = '0644', content = 'private-key', owner = ['0', 'nobody', 'ann'], exists = true",
    ]);
    machine.fails(&[
        ("file = '/etc/none', exists = true", "/etc/none does not exist, expected to"),
        ("file = '/etc/link', exists = false", "/etc/link exists; expected no such file"),
        (
            "file = '/etc/ssh/*', mode = '0600', content = 'private-key', owner = 'root'",
            "/etc/ssh/a_key has mode 0644, belongs to uid 1000; expected mode 0600 or stricter, owner root",
        ),
        ("file = '/etc/shadow', group = 'root'", "/etc/shadow has gid 42; expected group root"),
        ("file = '/etc', kind = 'file'", "/etc is another kind of file; expected a regular file"),
        ("not = { file = '/etc/shadow', exists = true }", "/etc/shadow is as it must not be"),
        (
            "any = [{ file = '/a', exists = true }, { file = '/b', exists = true }]",
            "/a does not exist, expected to; or /b does not exist, expected to",
        ),
    ]);
}

#[test]
fn settings_are_found_in_text_files() {
    let machine = Small::new(
        &[
            ("etc/login.defs", "# UMASK 022\nUMASK\t\t027\nPASS_MAX_DAYS 365\nUMASK 077\n"),
            ("etc/a.d/1.conf", "[one]\nmode = \"On\" \n[two]\nmode=off # why\nwpa_passphrase=raspberry\n"),
            ("etc/a.d/2.conf", "mode = last\n; module x\n  module(load=\"imtcp\")\n"),
            ("sys/class/a", "locked\n"),
        ],
        "",
    );
    machine.holds(&[
        "key = 'UMASK', in = '/etc/login.defs', is = '027'",
        "key = 'UMASK', in = '/etc/login.defs', is = '077', last = true",
        "key = 'PASS_MAX_DAYS', in = ['/etc/none', '/etc/login.defs'], at_most = 365, separator = ' '",
        "key = 'mode', in = '/etc/a.d/*.conf', section = 'two', one_of = ['OFF']",
        "key = 'mode', in = '/etc/a.d/*.conf', last = true, is = 'last'",
        "key = 'none', in = '/etc/a.d/*.conf', is = 'x', absent = 'pass'",
        "text = '/etc/a.d/*.conf', contains = 'IMTCP'",
        "text = '/etc/a.d/*.conf', lacks = 'module x'",
        "text = '/etc/none', lacks = 'x', absent = 'pass'",
        "value = '/sys/class/a', is = 'Locked'",
    ]);
    machine.fails(&[
        (
            "key = 'mode', in = '/etc/a.d/1.conf', is = 'on', exact = true",
            "mode in /etc/a.d/1.conf is \"On\", expected \"on\"",
        ),
        (
            "key = 'none', in = '/etc/login.defs', at_least = 1",
            "none in /etc/login.defs is not set, expected at least 1",
        ),
        (
            "key = 'wpa_passphrase', in = '/etc/a.d/1.conf', is_not = 'raspberry'",
            "wpa_passphrase in /etc/a.d/1.conf is not as it must be (a secret is not shown)",
        ),
        ("text = '/etc/a.d/2.conf', lacks = 'imtcp'", "a line of /etc/a.d/2.conf has \"imtcp\" in it, expected none"),
        ("text = '/etc/a.d/2.conf', contains = 'xx'", "no line of /etc/a.d/2.conf has \"xx\" in it, expected one"),
        ("text = '/etc/none', lacks = 'x'", "there is no /etc/none"),
        ("value = '/sys/class/b', is = 'x'", "/sys/class/b is not set, expected \"x\""),
    ]);
    machine.other(
        Outcome::Unknown,
        &[("value = '/sys/class', is = 'x'", "/sys/class cannot be read: not a regular file")],
    );
}

#[test]
fn a_pipe_holds_up_nothing() {
    let machine = Small::new(&[("etc/a", "")], "");
    let pipe = machine.root().join("etc/pipe");
    rustix::fs::mknodat(rustix::fs::CWD, pipe, rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap();
    // A glob passes over it.
    machine.holds(&["key = 'a', in = '/etc/p*', is = 'x', absent = 'pass'"]);
    machine
        .other(Outcome::Unknown, &[("value = '/etc/pipe', is = 'x'", "/etc/pipe cannot be read: not a regular file")]);
}

#[test]
fn the_kernel_is_asked_by_its_files() {
    let machine = Small::new(
        &[
            ("proc/sys/kernel/kptr_restrict", "1\n"),
            ("proc/sys/kernel/osrelease", "6.1\n"),
            ("proc/modules", "usb_storage 1 0 - Live 0\n"),
            ("proc/cmdline", "console=ttyS0,115200 console=tty1 quiet init=\"/bin/x y\"\n"),
            ("proc/self/mountinfo", "1 0 8:1 / / rw - ext4 a rw\n2 1 0:2 / /tmp rw,nodev,nosuid - tmpfs t rw,size=1\n"),
        ],
        "",
    );
    machine.holds(&[
        "sysctl = 'kernel.kptr_restrict', at_least = 1",
        "sysctl = 'kernel.none', is = '1', absent = 'pass'",
        "mount = '/tmp', separate = true, options = ['nodev', 'nosuid'], without = ['suid'], kind = ['tmpfs', 'ext4']",
        "mount = '/var', absent = 'pass', options = ['nodev']",
        "mount = '/var', separate = false",
        "module = 'usb-storage', loaded = true",
        "module = 'dccp', loaded = false, loadable = false",
        "boot = 'quiet', present = true",
        "boot = 'init', is = '/bin/x y'",
        "boot = 'debug', present = false",
        "boot = 'none', is = '1', absent = 'pass'",
    ]);
    machine.fails(&[
        ("sysctl = 'kernel.kptr_restrict', at_least = 2", "kernel.kptr_restrict is \"1\", expected at least 2"),
        ("mount = '/tmp', options = ['noexec']", "/tmp is mounted without noexec, expected with it"),
        (
            "mount = '/tmp', without = ['nodev'], kind = 'ext4'",
            "/tmp is mounted with nodev, expected without it; is tmpfs, expected ext4",
        ),
        ("mount = '/var', options = ['nodev']", "/var is no file system of its own"),
        ("mount = '/var', separate = true, absent = 'pass'", "/var is no file system of its own"),
        ("module = 'usb-storage', loaded = false", "the kernel module usb-storage is loaded, expected not to be"),
        (
            "boot = 'console', lacks = 'ttyS'",
            "console on the kernel's command line is \"ttyS0,115200\", expected one without \"ttyS\" in it",
        ),
        ("boot = 'console', present = false", "console on the kernel's command line is there, expected not to be"),
    ]);
    let image = Small::new(&[("etc/fstab", "tmpfs /tmp tmpfs nodev 0 0\n"), ("boot/cmdline.txt", "quiet")], "");
    image.holds(&["mount = '/tmp', options = ['nodev']", "boot = 'quiet', present = true"]);
    image.other(
        Outcome::NotApplicable,
        &[("mount = '/dev/shm', options = ['nodev']", "an image does not tell how /dev/shm will be mounted")],
    );
}

#[test]
fn services_packages_and_ports_are_judged() {
    let machine = Small::new(
        &[
            ("lib/systemd/system/telnet.socket", "[Unit]\n"),
            ("etc/systemd/system/sockets.target.wants/telnet.socket", ""),
            ("var/lib/dpkg/status", "Package: telnetd\nStatus: install ok installed\n"),
            (
                "proc/net/tcp",
                "head\n 0: 0100007F:0019 00000000:0000 0A 0:0 00:0 0 0 0 11 1\n 1: 00000000:0017 00000000:0000 0A 0:0 00:0 0 0 0 12 1\n",
            ),
        ],
        "",
    );
    machine.holds(&[
        "service = ['telnet.socket', 'x.service'], enabled = true",
        "service = 'x.service', enabled = false",
        "package = ['telnetd', 'x'], installed = true",
        "package = 'x', installed = false",
        "port = 22",
        "port = 23, protocol = 'udp'",
    ]);
    machine.fails(&[
        ("service = 'telnet.socket', enabled = false", "telnet.socket is started at boot; expected not to be"),
        ("package = ['telnetd', 'x'], installed = false", "telnetd is installed; expected not to be"),
        ("port = [22, 443], listening = true", "nobody waits on TCP port 22 or 443, expected somebody"),
    ]);
    // The captured tables are those of a little-endian machine.
    if cfg!(target_endian = "little") {
        machine.holds(&["port = 25, loopback = true", "port = [23], listening = true"]);
        machine.fails(&[
            ("port = 25", "somebody waits on TCP port 25 of 127.0.0.1; expected nobody"),
            (
                "port = [23, 25], loopback = true",
                "somebody waits on TCP port 23 of 0.0.0.0; expected nobody, or on loopback only",
            ),
        ]);
    }
    let image = Small::new(&[("var/lib/rpm/rpmdb.sqlite", "")], "");
    image.other(Outcome::NotApplicable, &[("port = 23", "an image has no sockets")]);
    image.other(
        Outcome::Unknown,
        &[(
            "package = 'x', installed = false",
            "rpm's database is not read: whether a package is installed is not known",
        )],
    );
}

#[test]
fn the_ways_to_sign_in_are_judged() {
    let machine = Small::new(
        &[
            ("usr/sbin/sshd", ""),
            (
                "etc/ssh/sshd_config",
                "PermitRootLogin without-password\nLoginGraceTime 2m\nCiphers -x-cbc\nMatch User a\nX11Forwarding yes\n",
            ),
            ("etc/pam.d/common-auth", "auth required pam_faillock.so deny=5 silent\nauth required pam_unix.so\n"),
            ("etc/pam.d/open", "auth sufficient pam_permit.so\n"),
        ],
        "",
    );
    machine.holds(&[
        "sshd = 'permitrootlogin', one_of = ['no', 'prohibit-password']",
        "sshd = 'LoginGraceTime', at_most = 120",
        "sshd = 'MaxAuthTries', at_most = 6, default = '6'",
        "sshd = 'Ciphers', lacks = 'cbc', default = 'aes256-ctr'",
        "sshd = 'Banner', is = 'x', absent = 'pass'",
        "pam = ['none', 'common-auth'], closed = true",
        "pam = 'common-auth', requires = 'pam_faillock.so', argument = 'deny', at_most = 5",
        "pam = 'common-auth', requires = 'pam_faillock.so', argument = 'silent'",
        "pam = 'common-auth', forbids = 'pam_permit.so'",
    ]);
    machine.fails(&[
        ("sshd = 'PermitRootLogin', is = 'no'", "sshd's PermitRootLogin is \"prohibit-password\", expected \"no\""),
        (
            "sshd = 'X11Forwarding', is = 'no', default = 'no'",
            "sshd's X11Forwarding in the block Match User a is \"yes\", expected \"no\"",
        ),
        (
            "sshd = 'MaxAuthTries', at_most = 4, default = '6'",
            "sshd's MaxAuthTries (not set: its default) is \"6\", expected at most 4",
        ),
        (
            "pam = 'open', closed = true",
            "PAM's open (auth) can end in success with a wrong password, expected a refusal",
        ),
        ("pam = 'open', forbids = 'pam_permit.so'", "PAM's open (auth) has pam_permit.so, expected without it"),
        ("pam = 'open', requires = 'pam_unix.so'", "PAM's open (auth) has no pam_unix.so, expected it"),
        (
            "pam = 'common-auth', requires = 'pam_faillock.so', argument = 'unlock_time', at_least = 1",
            "the argument unlock_time of pam_faillock.so in PAM's common-auth (auth) is not set, expected at least 1",
        ),
    ]);
    machine.other(Outcome::NotApplicable, &[("pam = 'none', closed = true", "PAM has no none")]);
    let without = Small::new(&[], "");
    without.other(Outcome::NotApplicable, &[("sshd = 'PermitRootLogin', is = 'no'", "no SSH server is installed")]);
}

#[test]
fn accounts_that_are_good_pass_each_rule() {
    let machine = Small::new(
        &[
            (
                "etc/passwd",
                "root:x:0:0::/root:/bin/bash\nsync:x:4:4::/bin:/bin/sync\ndaemon:x:1:1::/:/usr/sbin/nologin\n\
                 pi:x:1000:1000::/home/pi:/bin/bash\n",
            ),
            ("etc/shadow", "root:*:1:0:99999:7:::\npi:$y$j9T$salt$hash:1:0:90:7:::\nold:!$1$a$b:1::::::\n"),
            ("etc/group", "root:x:0:\nd:x:1:\ns:x:4:\npi:x:1000:\nsudo:x:27:pi\n"),
            ("home/pi/.ssh/authorized_keys", "k"),
            ("home/pi/.ssh/id_x", "-----BEGIN RSA PRIVATE KEY-----"),
        ],
        "0700 1000 1000 /home/pi\n0700 1000 1000 /home/pi/.ssh\n0600 1000 1000 /home/pi/.ssh/authorized_keys\n\
         0600 1000 1000 /home/pi/.ssh/id_x\n",
    );
    for rule in [
        "empty-password",
        "only-root-is-zero",
        "unique-uids",
        "unique-names",
        "system-shells",
        "groups-exist",
        "home-closed",
        "home-owned",
        "weak-hash",
        "plain-password",
        "keys-closed",
    ] {
        machine.holds(&[&format!("account = '{rule}'")]);
    }
    machine.other(
        Outcome::Unknown,
        &[(
            "account = 'default-password'",
            "the password of pi cannot be tried: another kind of hash, or enough were tried",
        )],
    );
    machine.holds(&[
        "account = 'max-days', at_most = 90",
        "account = 'locked', name = 'root'",
        "account = 'locked', name = 'nobody'",
        "group = 'sudo', members = ['pi']",
        "group = 'docker', members = []",
    ]);
    machine.fails(&[
        (
            "account = 'locked', name = 'pi'",
            "pi can sign in with a password; expected no such account, or one without password",
        ),
        ("account = 'max-days', at_most = 60", "pi may keep a password for 90 days; expected at most 60 days"),
        ("group = 'sudo', members = []", "pi is in the group sudo; expected nobody"),
        ("group = 'pi', members = ['root']", "pi is in the group pi; expected nobody but root"),
    ]);
}

#[test]
fn accounts_that_are_not_good_are_named_without_their_hashes() {
    // The password is `raspberry`.
    const PI: &str = "$5$rounds=1000$saltstring$@";
    let pi = PI.replace('@', &super::crypt::tests::digest("raspberry"));
    let shadow = format!("root::1:0::7:::\npi:{pi}:1:0:99999:7:::\nann:abJnggxhB/yWI:1:0:90:7:::\nann:x:1::::::\n");
    let machine = Small::new(
        &[
            (
                "etc/passwd",
                "root:x:0:0::/root:/bin/bash\ntoor:$6$a$b:0:0::/:/bin/sh\nweb:x:33:33::/var/www:\n\
                 pi:x:1000:1000::/home/pi:/bin/bash\nann:x:1000:7::/home/ann:/bin/sh\nann:x:1001:1000::/:/bin/sh\n",
            ),
            ("etc/shadow", &shadow),
            ("etc/group", "root:x:0:\nw:x:33:\npi:x:1000:\n"),
            ("home/pi/.ssh/authorized_keys", "k"),
            ("home/ann/.ssh/id_x", "-----BEGIN RSA PRIVATE KEY-----"),
        ],
        "0775 1000 1000 /home/pi\n0755 1000 1000 /home/pi/.ssh\n0620 1000 1000 /home/pi/.ssh/authorized_keys\n\
         0750 0 0 /home/ann\n0640 1000 7 /home/ann/.ssh/id_x\n",
    );
    machine.fails(&[
        ("account = 'empty-password'", "root has an empty password; expected no empty password"),
        ("account = 'only-root-is-zero'", "toor has user id 0; expected no other user with id 0"),
        ("account = 'unique-uids'", "the user id 0 is that of root, toor; the user id 1000 is that of pi, ann; expected each user id once"),
        ("account = 'unique-names'", "the name ann is that of ann, ann; expected each name once"),
        ("account = 'system-shells'", "web has the shell /bin/sh; expected nologin or false"),
        ("account = 'groups-exist'", "ann is in the unknown group 7; expected a group in /etc/group"),
        ("account = 'home-closed'", "/home/pi has mode 0775; expected mode 0750 or stricter"),
        ("account = 'home-owned'", "/home/ann belongs to uid 0; expected the owner that it is the home of"),
        ("account = 'weak-hash', name = 'ann'", "ann has a hash that is easily broken; ann has a hash that is easily broken; expected yescrypt or SHA-512"),
        ("account = 'default-password'", "pi has the password that everybody knows; expected a password of one's own"),
        ("account = 'plain-password'", "toor has its hash in /etc/passwd; expected x in its second field"),
        (
            "account = 'keys-closed'",
            "/home/pi/.ssh/authorized_keys has mode 0620; /home/ann/.ssh/id_x has mode 0640; expected the user or root as \
             owner, keys readable by the user only, nothing writable by others",
        ),
        ("account = 'max-days', at_most = 90", "pi may keep a password for 99999 days; ann may keep a password for ever; expected at most 90 days"),
    ]);
    let without = Small::new(&[("etc/passwd", "root:x:0:0::/root:/bin/sh\n")], "");
    without.other(
        Outcome::Unknown,
        &[("account = 'empty-password'", "there is no /etc/shadow, and /etc/passwd refers to it")],
    );
}
