//! Every snapshot of every captured machine, whole, as the hub would get its items. After a change:
//! `INSTA_UPDATE=always cargo test --lib machines`, then read what changed.

use std::path::Path;
use std::sync::Arc;

use super::SNAPSHOTS;
use super::snapshot::{self, SnapshotContext};
use crate::model::event::EventName;
use crate::sys::clock::ManualClock;
use crate::sys::fixture;

fn text(machine: &str, name: EventName) -> String {
    let machine = fixture::machine(machine);
    let clock = Arc::new(ManualClock::new("2026-11-01T12:00:00Z".parse().unwrap()));
    let taken = snapshot::take(name, &SnapshotContext::plain(machine.host.clone(), clock)).unwrap();
    let health = &taken.health;
    let mut text = format!("{:?}, from {:?}: {}\n", health.state, health.source, health.detail);
    for item in &taken.snapshot.items {
        text.push_str(&format!("{}\n", item.to_value().unwrap()));
    }
    text
}

fn golden(machine: &str) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/machines").join(machine);
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(directory);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        for name in SNAPSHOTS {
            insta::assert_snapshot!(name.as_str(), text(machine, *name));
        }
    });
}

#[test]
fn debian_12() {
    golden("debian-12");
}

#[test]
fn debian_13() {
    golden("debian-13");
}

#[test]
fn ubuntu() {
    golden("ubuntu-24.04");
}

#[test]
fn raspberry_pi_os_of_32_bits() {
    golden("raspios-32");
}

#[test]
fn yocto_with_busybox() {
    golden("yocto-busybox");
}

#[test]
fn boards_of_before() {
    golden("board");
    golden("pc");
}
