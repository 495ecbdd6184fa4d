//! The house keeps its floors: a room uses rooms below it, never above or beside.
//!
//! This test reads the sources as text, so it sees every feature and every target at once. It checks:
//!
//! - paths from the crate root (`crate::x`, `super::…`, groups) stay below the floor of the file that holds them;
//! - the crates that belong to one file or one floor (MQTT, SQLite, tokio) are named nowhere else;
//! - no file grows past [`LINE_LIMIT`] lines.
//!
//! `layering/scan.rs` turns source text into paths; `layering/rules.rs` says which paths are allowed.

#[path = "layering/rules.rs"]
mod rules;
#[path = "layering/scan.rs"]
mod scan;

use std::fs;
use std::path::{Path, PathBuf};

/// Longer than this, a file holds more than one idea.
const LINE_LIMIT: usize = 500;

/// All Rust files below `directory`, sorted.
fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(next) = waiting.pop() {
        let entries = fs::read_dir(&next).unwrap_or_else(|e| panic!("cannot read {}: {e}", next.display()));
        for entry in entries {
            let path = entry.unwrap_or_else(|e| panic!("cannot read {}: {e}", next.display())).path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Fails with all findings at once, one a line.
fn must_be_empty(findings: &[String]) {
    assert!(findings.is_empty(), "{} finding(s):\n{}", findings.len(), findings.join("\n"));
}

#[test]
fn no_room_climbs_or_goes_sideways() {
    let source = root().join("src");
    let files = rust_files(&source);
    assert!(files.len() > 10, "the sources were not found below {}", source.display());
    let findings: Vec<String> =
        files.iter().flat_map(|file| rules::check(file.strip_prefix(&source).unwrap_or(file), &read(file))).collect();
    must_be_empty(&findings);
}

#[test]
fn every_file_holds_one_idea() {
    let findings: Vec<String> = ["src", "tests"]
        .iter()
        .flat_map(|part| rust_files(&root().join(part)))
        .filter_map(|file| {
            let lines = read(&file).lines().count();
            let name = file.strip_prefix(root()).unwrap_or(&file).display().to_string();
            (lines > LINE_LIMIT).then(|| {
                format!("{name} has {lines} lines, more than {LINE_LIMIT}: move one of its ideas to a file of its own")
            })
        })
        .collect();
    must_be_empty(&findings);
}
