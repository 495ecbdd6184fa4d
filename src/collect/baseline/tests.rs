use std::fs::create_dir_all;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::collect::snapshot::{SnapshotContext, take};
use crate::model::event::EventName;
use crate::model::health::HealthState;
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
id = "file-shadow"
reason = "not here"
"#;

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    create_dir_all(path.parent().unwrap()).unwrap();
    write_atomic(&path, text.as_bytes(), 0o644).unwrap();
}

fn context(root: &Path) -> SnapshotContext {
    let clock = Arc::new(ManualClock::new("2026-07-01T09:30:00Z".parse().unwrap()));
    SnapshotContext::plain(Host::captured(root, BTreeMap::new()), clock)
}

/// A machine that no check finds fault with: a container, which does not answer for its kernel, with nothing in it.
fn machine() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), ".dockerenv", "");
    root
}

#[test]
fn a_machine_where_all_is_well_gives_an_empty_event() {
    let root = machine();
    let taken = take(EventName::OSBaseline, &context(root.path())).unwrap();
    assert_eq!(taken.snapshot.items, []);
    assert_eq!((taken.health.state, taken.health.detail.as_str()), (HealthState::Ok, ""));
}

#[test]
fn what_failed_or_could_not_be_made_is_told_the_gravest_first() {
    let root = machine();
    put(root.path(), "etc/twinward/baseline.d/own.toml", CHECKS);
    let mut context = context(root.path());
    let silent = take(EventName::OSBaseline, &context).unwrap();
    assert_eq!(silent.snapshot.items, [], "not wanted by the twin");
    assert!(silent.health.source.ends_with(", 1 skipped"), "{}", silent.health.source);

    context.custom_checks.enabled = true;
    let taken = take(EventName::OSBaseline, &context).unwrap();
    let items = serde_json::to_string_pretty(&taken.snapshot.items).unwrap();
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
    assert_eq!(taken.health.state, HealthState::Degraded);
    insta::assert_snapshot!(taken.health.detail, @"1 check(s) could not be made (one of them: own-first: /etc cannot be read: not a regular file); custom checks: own.toml: account-empty-password: id: is the id of a check of twinward; expected another");
}

#[test]
fn each_outcome_is_counted_and_kept_on_demand() {
    let root = machine();
    put(root.path(), "etc/twinward/baseline.d/own.toml", CHECKS);
    let host = Host::captured(root.path(), BTreeMap::new());
    let all = BaselineCustomChecks { enabled: true, ..BaselineCustomChecks::default() };
    let report = run(&host, &all, |_| true);
    assert_eq!(report.results.len(), report.counts.values().sum::<usize>());
    let of = |id: &str| report.results.iter().find(|judged| *judged.check.id == *id).unwrap();
    assert_eq!((of("own-passes").outcome, of("own-passes").found.as_str()), (Outcome::Passed, ""));
    assert_eq!(of("own-elsewhere").found, "it is for other distributions");
    assert_eq!((of("file-shadow").outcome, of("file-shadow").found.as_str()), (Outcome::Skipped, "not here"));
    assert_eq!((&*of("own-late").source, &*of("account-empty-password").source), ("own.toml", SOURCE_BUILT_IN));
    assert_eq!(report.count(Outcome::Failed), 1);
}

#[test]
fn the_real_machine_is_checked_without_trouble() {
    let report = run(&Host::system(), &BaselineCustomChecks::default(), |_| true);
    assert!(report.results.iter().all(|judged| !judged.found.contains('$')));
    assert!(report.count(Outcome::Passed) > 0);
}
