use std::fs::create_dir_all;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::collect::snapshot::{SnapshotContext, take};
use crate::model::event::EventName;
use crate::sys::clock::ManualClock;
use crate::sys::files::write_atomic;

const CHECKS: &str = r#"
[[check]]
id = "own-late"
title = "There is a marker"
why = "Because."
remediation = "Make it."
severity = "warning"
cis = "1.2"
cce = "CCE-1-2"
expect = [{ file = "/marker", exists = true }]

[[check]]
id = "own-first"
title = "The bus is readable"
why = "So."
remediation = "Do."
severity = "critical"
expect = [{ value = "/etc", is = "x" }]

[[check]]
id = "own-passes"
title = "p"
why = "w"
remediation = "r"
severity = "warning"
expect = [{ file = "/marker", exists = false }]

[[check]]
id = "own-elsewhere"
title = "p"
why = "w"
remediation = "r"
severity = "warning"
applies = { distribution = ["other"] }
expect = [{ file = "/marker", exists = true }]

[[check]]
id = "account-empty-password"
title = "p"
why = "w"
remediation = "r"
severity = "warning"
expect = [{ file = "/marker", exists = true }]

[[skip]]
id = "file-shadow-mode"
reason = "not here"
"#;

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    create_dir_all(path.parent().unwrap()).unwrap();
    write_atomic(&path, text.as_bytes(), 0o644).unwrap();
}

/// Stands for those that come with the program.
const BUILT_IN: &str = r#"
[[check]]
id = "account-empty-password"
title = "No account has an empty password"
why = "w"
remediation = "r"
severity = "critical"
expect = [{ account = "empty-password" }]

[[check]]
id = "file-shadow-mode"
title = "t"
why = "w"
remediation = "r"
severity = "important"
expect = [{ file = "/etc/shadow", mode = "0640" }]
"#;

fn report(root: &Path, enabled: bool, keep: impl Fn(Outcome) -> bool) -> Report {
    let host = Host::captured(root, BTreeMap::new());
    let custom = BaselineCustomChecks { enabled, ..BaselineCustomChecks::default() };
    run_all(&host, [("built-in.toml", BUILT_IN.to_owned())].into_iter(), &custom, keep)
}

#[test]
fn a_machine_where_all_is_well_gives_an_empty_event() {
    let root = tempfile::tempdir().unwrap();
    let found = found(report(root.path(), true, told));
    assert_eq!((found.items, found.missing, found.unavailable), (vec![], vec![], None));
    assert_eq!(found.source, "2 checks");
}

#[test]
fn the_configuration_decides_whether_checks_of_ones_own_are_made() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "etc/twinward/baseline.d/own.toml", CHECKS);
    let clock = Arc::new(ManualClock::new("2026-07-01T09:30:00Z".parse().unwrap()));
    let mut context = SnapshotContext::plain(Host::captured(root.path(), BTreeMap::new()), clock);
    let mut own = |enabled| {
        context.custom_checks.enabled = enabled;
        let items = take(EventName::OSBaseline, &context).unwrap().snapshot.items;
        let source = |item: &Payload| match item {
            Payload::BaselineResult(result) => result.extra_details["Source"].clone(),
            _ => String::new(),
        };
        items.iter().filter(|item| source(item) == "own.toml").count()
    };
    assert_eq!((own(false), own(true)), (0, 2));
}

#[test]
fn what_failed_or_could_not_be_made_is_told_the_gravest_first() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "etc/twinward/baseline.d/own.toml", CHECKS);
    let silent = found(report(root.path(), false, told));
    assert_eq!((silent.items, silent.source.as_str()), (vec![], "1 checks, 1 skipped"), "not wanted by the twin");
    let taken = found(report(root.path(), true, told));
    let items = serde_json::to_string_pretty(&taken.items).unwrap();
    insta::assert_snapshot!(items, @r#"
    [
      {
        "BaselineResult": {
          "Description": "The bus is readable",
          "CceId": "own-first",
          "Result": "Err",
          "Error": "/etc cannot be read: not a regular file",
          "Severity": "Critical",
          "ExtraDetails": {
            "CheckId": "own-first",
            "Remediation": "Do.",
            "Source": "own.toml",
            "Why": "So."
          }
        }
      },
      {
        "BaselineResult": {
          "Description": "There is a marker",
          "CceId": "CCE-1-2",
          "Result": "Fail",
          "Error": "/marker does not exist, expected to",
          "Severity": "Warning",
          "ExtraDetails": {
            "CheckId": "own-late",
            "Cis": "1.2",
            "Remediation": "Make it.",
            "Source": "own.toml",
            "Why": "Because."
          }
        }
      }
    ]
    "#);
    insta::assert_snapshot!(taken.missing.join("; "), @"1 check(s) could not be made (one of them: own-first: /etc cannot be read: not a regular file); custom checks: own.toml: account-empty-password: id: is the id of a check of twinward; expected another");
}

#[test]
fn each_outcome_is_counted_and_kept_on_demand() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "etc/twinward/baseline.d/own.toml", CHECKS);
    let report = report(root.path(), true, |_| true);
    assert_eq!(report.results.len(), report.counts.values().sum::<usize>());
    let of = |id: &str| report.results.iter().find(|judged| *judged.check.id == *id).unwrap();
    assert_eq!((of("own-passes").outcome, of("own-passes").found.as_str()), (Outcome::Passed, ""));
    assert_eq!(of("own-elsewhere").found, "it is for other distributions");
    assert_eq!((of("file-shadow-mode").outcome, of("file-shadow-mode").found.as_str()), (Outcome::Skipped, "not here"));
    assert_eq!((&*of("own-late").source, &*of("account-empty-password").source), ("own.toml", SOURCE_BUILT_IN));
    assert_eq!(report.count(Outcome::Failed), 1);
}

#[test]
fn the_real_machine_is_checked_without_trouble() {
    let report = run(&Host::system(), &BaselineCustomChecks::default(), |_| true);
    assert!(report.results.iter().all(|judged| !judged.found.contains('$')));
    assert!(report.count(Outcome::Passed) > 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever stands in the files, all checks come to an end.
    #[test]
    fn any_files_are_survived(texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 12)) {
        const FILES: [&str; 12] = [
            "etc/passwd",
            "etc/shadow",
            "etc/group",
            "etc/ssh/sshd_config",
            "etc/pam.d/common-auth",
            "etc/login.defs",
            "etc/fstab",
            "etc/inetd.conf",
            "var/lib/dpkg/status",
            "lib/modules/1/modules.dep",
            "etc/sysctl.d/a.conf",
            "etc/os-release",
        ];
        const HEADS: [&str; 12] = [
            "a:", "a:$6$", "a:x:", "Include ", "auth [", "UMASK ", "a ", "a a a a a a ", "Package: ", "a/", "a=", "ID=",
        ];
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "usr/sbin/sshd", "");
        for ((path, head), text) in FILES.iter().zip(HEADS).zip(&texts) {
            let path = root.path().join(path);
            create_dir_all(path.parent().unwrap()).unwrap();
            write_atomic(&path, &[head.as_bytes(), text].concat(), 0o644).unwrap();
        }
        let host = Host::captured(root.path(), BTreeMap::new());
        let report = run(&host, &BaselineCustomChecks::default(), |_| true);
        prop_assert!(report.results.iter().all(|judged| judged.found.chars().count() <= FOUND + 1));
    }
}
