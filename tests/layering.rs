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

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Longer than this, a file holds more than one idea.
const LINE_LIMIT: usize = 500;

/// The Rust files below a directory of the package, sorted: path relative to that directory, and text.
fn rust_files(directory: &str) -> io::Result<Vec<(PathBuf, String)>> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let mut found = Vec::new();
    let mut waiting = vec![top.clone()];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(&next)? {
            let path = entry?.path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path)?;
                found.push((path.strip_prefix(&top).unwrap_or(&path).to_owned(), text));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Why a file is too long, if it is.
fn too_long(name: &Path, text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > LINE_LIMIT).then(|| {
        format!(
            "{} has {lines} lines, more than {LINE_LIMIT}: move one of its ideas to a file of its own",
            name.display()
        )
    })
}

#[test]
fn no_room_climbs_or_goes_sideways() {
    let files = rust_files("src").unwrap();
    assert!(files.iter().any(|(path, _)| path == Path::new("lib.rs")), "the sources were not found");
    let findings: Vec<String> = files.iter().flat_map(|(path, text)| rules::check(path, text)).collect();
    assert!(findings.is_empty(), "{} finding(s):\n{}", findings.len(), findings.join("\n"));
}

#[test]
fn every_file_holds_one_idea() {
    let mut findings = Vec::new();
    for directory in ["src", "tests"] {
        let files = rust_files(directory).unwrap();
        findings.extend(files.iter().filter_map(|(path, text)| too_long(&Path::new(directory).join(path), text)));
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

#[test]
fn a_long_file_is_found() {
    let name = Path::new("src/attic.rs");
    assert_eq!(too_long(name, &"// line\n".repeat(LINE_LIMIT)), None);
    assert!(too_long(name, &"// line\n".repeat(LINE_LIMIT + 1)).unwrap().starts_with("src/attic.rs has 501 lines"));
}
