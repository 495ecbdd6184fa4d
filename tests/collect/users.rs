//! LocalUsers, compared with what the system's own programs say.

use std::collections::BTreeSet;
use std::process::Command;

use twinward::collect::snapshot::{self, SnapshotContext};
use twinward::model::event::{Event, EventName};
use twinward::model::ids::EventId;
use twinward::model::payload::{LocalUser, Payload};
use twinward::sys::host::Host;

use crate::{assert_valid, clock};

/// The users of this machine; their event is valid.
fn users(name_service: bool) -> Vec<LocalUser> {
    let plain = SnapshotContext::plain(Host::system(), clock());
    let taken = snapshot::take(EventName::LocalUsers, &SnapshotContext { name_service, ..plain }).unwrap();
    let (name, at) = (EventName::LocalUsers, taken.snapshot.at);
    assert_valid(&[Event { id: EventId::random(), name, at, payload: taken.snapshot.items.clone(), hits: 1 }]);
    let user = |item| match item {
        Payload::LocalUser(user) => user,
        other => panic!("{other:?}"),
    };
    taken.snapshot.items.into_iter().map(user).collect()
}

#[expect(clippy::disallowed_methods, reason = "the test compares with the system's own programs")]
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn accounts_and_groups_are_those_that_the_c_library_sees() {
    let users = users(true);
    let expected: BTreeSet<(String, String)> = said("getent", &["passwd"])
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            (fields[2].to_owned(), fields[0].to_owned())
        })
        .collect();
    let found: BTreeSet<(String, String)> =
        users.iter().map(|user| (user.user_id.clone(), user.user_name.clone())).collect();
    assert_eq!(found, expected);
    for user in &users {
        let told: Vec<&str> = user.group_ids.split(';').collect();
        let names: Vec<&str> = user.group_names.split(';').collect();
        assert_eq!(told.len(), names.len(), "{user:?}");
        let ids = said("id", &["-G", &user.user_name]);
        let primary = said("id", &["-g", &user.user_name]);
        assert_eq!(told[0], primary.trim(), "{user:?}");
        assert_eq!(told.iter().copied().collect::<BTreeSet<_>>(), ids.split_ascii_whitespace().collect(), "{user:?}");
    }
}

#[test]
fn the_local_file_alone_has_every_root() {
    let users = users(false);
    let root = users.iter().find(|user| user.user_id == "0").unwrap();
    assert_eq!((root.user_name.as_str(), root.group_ids.split(';').next()), ("root", Some("0")));
    for user in users {
        assert_eq!(user.extra_details.contains_key("Root"), user.user_id == "0" && user.user_name != "root");
        assert!(!user.extra_details.values().any(|value| value.starts_with(['$', '!'])), "{user:?}");
        assert!(!user.extra_details.contains_key("Source"));
    }
}

#[test]
#[ignore = "needs root: reads /etc/shadow"]
fn passwords_are_in_the_state_that_passwd_tells() {
    for user in users(false) {
        let line = said("passwd", &["--status", &user.user_name]);
        let told = match line.split(' ').nth(1).unwrap() {
            "P" | "PS" => &["set"][..],
            "NP" => &["empty"],
            _ => &["locked", "none"],
        };
        assert!(told.contains(&user.extra_details["Password"].as_str()), "{line} {user:?}");
    }
}
