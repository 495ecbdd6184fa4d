use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::sys::clock::ManualClock;
use crate::sys::files::{private_directory, write_atomic};

/// A machine with these files.
struct Machine {
    root: tempfile::TempDir,
}

impl Machine {
    fn new(files: &[(&str, &str)]) -> Self {
        let machine = Self { root: tempfile::tempdir().unwrap() };
        for (path, text) in files {
            let path = machine.root.path().join(path);
            private_directory(path.parent().unwrap()).unwrap();
            write_atomic(&path, text.as_bytes(), 0o600).unwrap();
        }
        machine
    }

    fn collect(&self) -> (Vec<LocalUser>, Found) {
        self.ask(false)
    }

    fn ask(&self, name_service: bool) -> (Vec<LocalUser>, Found) {
        let clock = Arc::new(ManualClock::new("2026-07-01T09:30:00Z".parse().unwrap()));
        let mut found = collect(&Host::rooted(self.root.path()), clock.as_ref(), name_service);
        let user = |item| match item {
            Payload::LocalUser(user) => user,
            other => panic!("{other:?}"),
        };
        (found.items.drain(..).map(user).collect(), found)
    }
}

fn shown(user: &LocalUser) -> String {
    let details: Vec<String> = user.extra_details.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{} {} {} {} {}", user.user_id, user.user_name, user.group_ids, user.group_names, details.join(" "))
}

#[test]
fn each_account_is_told_with_its_groups_and_the_state_of_its_password() {
    let machine = Machine::new(&[
        (
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/usr/sbin:/usr/sbin/nologin\n\
             pi:x:1000:1000:,,,:/home/pi:\ntoor:x:0:7::/:/bin/sh\neve::1001:100::/home/eve:/bin/sh\n\
             far:x:4294967294:65534::/home/far:/bin/sh\n+::::::\n",
        ),
        ("etc/group", "root:x:0:\nadm:x:4:pi\nsudo:x:27:pi,eve\npi:x:1000:\nusers:x:100:\n"),
        (
            "etc/shadow",
            "root:*:20100:0:99999:7:::\ndaemon:!*:20100:::::\npi:$y$j9T$abc$secret:0:0:90:7::20500:\n\
             toor:!$6$a$secret:20000:0:90:7:::\n",
        ),
        ("home/pi/.ssh/authorized_keys", "# mine\nssh-ed25519 AAAAC3 pi\nssh-rsa AAAAB3 old\n"),
        ("root/.profile", ""),
    ]);
    let (users, found) = machine.collect();
    let lines: Vec<String> = users.iter().map(shown).collect();
    insta::assert_snapshot!(lines.join("\n"), @"
    0 root 0 root Home=/root LastChange=2025-01-12 Password=none SharesUidWith=toor Shell=/bin/bash SshKeys=0
    1 daemon 1 1 Home=/usr/sbin LastChange=2025-01-12 Password=none Shell=/usr/sbin/nologin
    1000 pi 1000;4;27 pi;adm;sudo AccountExpires=2026-02-16 Home=/home/pi MustChange=true Password=set Privileged=adm;sudo Shell=/bin/sh SshKeys=2
    0 toor 7 7 Home=/ LastChange=2024-10-04 Password=locked PasswordExpires=2025-01-02 Root=true SharesUidWith=root Shell=/bin/sh SshKeys=0
    1001 eve 100;27 users;sudo Home=/home/eve Password=empty Privileged=sudo Shell=/bin/sh
    4294967294 far 65534 65534 Home=/home/far Password=none Shell=/bin/sh
    ");
    assert_eq!((found.source.as_str(), found.missing, found.unavailable), ("/etc/passwd", vec![], None));
    assert!(!format!("{users:?}").contains("secret"));
}

#[test]
fn a_hash_in_passwd_is_read_and_not_told() {
    let machine = Machine::new(&[("etc/passwd", "root:$1$ab$secret:0:0:root:/root:/bin/sh\nftp:*:14:50::/:\n")]);
    let (users, found) = machine.collect();
    let states: Vec<&str> = users.iter().map(|user| user.extra_details["Password"].as_str()).collect();
    assert_eq!(states, ["set", "none"]);
    assert!(!format!("{users:?}").contains("secret"));
    // No password is left to a file that is not there; only the groups have no names.
    assert_eq!(found.missing.len(), 1, "{:?}", found.missing);
    assert_eq!((users[1].group_ids.as_str(), users[1].group_names.as_str()), ("50", "50"));
}

#[test]
fn what_is_not_shown_is_said() {
    let machine = Machine::new(&[("etc/passwd", "root:x:0:0::/root:/bin/sh\nbroken\n"), ("etc/group", "root:x:0:\n")]);
    let (users, found) = machine.ask(true);
    assert_eq!(users[0].extra_details["Password"], "unknown");
    insta::assert_snapshot!(found.missing.join("\n"), @"
    the name service did not tell all it knows: getent is not installed
    1 line(s) of /etc/passwd are no account
    the state of 1 password(s) is unknown: /etc/shadow: No such file or directory (os error 2)
    ");
    let (users, found) = Machine::new(&[]).collect();
    assert_eq!((users, found.unavailable.is_some()), (vec![], true));
}

#[test]
fn homes_behind_a_sandbox_are_closed() {
    use std::collections::BTreeMap;

    use crate::sys::host::Attributes;

    let machine = Machine::new(&[("etc/passwd", "a:*:1:1::/home/a:\nb:*:2:2::/srv/b:\n"), ("home/x", "")]);
    let hidden = BTreeMap::from([("/home".into(), Attributes { mode: 0, uid: 0, gid: 0 })]);
    let clock = ManualClock::new("2026-07-01T09:30:00Z".parse().unwrap());
    let found = collect(&Host::captured(machine.root.path(), hidden), &clock, false);
    let keys = found.missing.iter().find(|text| text.contains("SSH keys")).unwrap();
    assert!(keys.starts_with("the SSH keys of 1 account(s) are not counted"), "{keys}");
}

#[test]
fn more_accounts_than_anybody_has_are_counted() {
    let lines: Vec<String> = (0..ACCOUNTS + 3).map(|uid| format!("u{uid}:*:{}:1::/:", uid % 7)).collect();
    let (users, found) = Machine::new(&[("etc/passwd", &lines.join("\n")), ("etc/group", "")]).collect();
    assert_eq!(users.len(), ACCOUNTS);
    assert_eq!(users[0].extra_details["SharesUidWith"].split(';').count(), NAMESAKES);
    assert_eq!(found.missing, ["3 more accounts are left out"]);
}

#[test]
fn what_only_the_name_service_knows_comes_last() {
    let (users, counts) =
        users("root:x:0:0::/root:\nodd\n", "root:x:0:0::/root:\nodd\nann:*:70000:70000::/home/ann:\n");
    let names: Vec<_> = users.iter().map(|user| (user.account.name, user.elsewhere)).collect();
    assert_eq!((names, counts.broken), (vec![("root", false), ("ann", true)], 1));
}

#[test]
fn days_are_dates() {
    assert_eq!(date(0).as_deref(), Some("1970-01-01"));
    assert_eq!(date(20_000).as_deref(), Some("2024-10-04"));
    assert_eq!(date(u32::MAX), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_files_make_whole_items(
        passwd in prop::collection::vec("[a-c;+]{0,2}:[x$!*]{0,2}:[0-2]{0,2}:[0-2]{0,1}::/[a-c/.]{0,4}:", 0..8),
        group in prop::collection::vec("[a-c;]{0,2}:x:[0-2]{0,1}:[a-c,]{0,5}", 0..8),
        shadow in "([a-c]{1,2}:[!*$]{0,2}:[0-9-]{0,12}:[0-9]{0,3}:[0-9]{0,12}:::[0-9]{0,12}:\n){0,4}\\PC{0,40}",
    ) {
        let (passwd, group) = (passwd.join("\n"), group.join("\n"));
        let (users, _) =
            Machine::new(&[("etc/passwd", &passwd), ("etc/group", &group), ("etc/shadow", &shadow)]).collect();
        for user in users {
            prop_assert!(!user.group_ids.is_empty() && !user.group_names.is_empty(), "{user:?}");
            prop_assert_eq!(user.group_ids.split(';').count(), user.group_names.split(';').count());
            prop_assert!(!user.extra_details.values().any(String::is_empty), "{user:?}");
            prop_assert!(!user.extra_details["Password"].contains(['$', '!', '*']));
        }
    }
}
