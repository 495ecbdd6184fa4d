//! Manual pages and completions in `packaging/` are made from the program's own table of arguments and table of keys, so
//! that they cannot be out of date. What only a person can write stands in `packaging/man/*.in`.
//!
//! The test compares; `TWINWARD_PAGES=write cargo test --test pages` makes the files anew. Only the build with every
//! command makes them.

#![cfg(feature = "lab")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod completions;
mod keys;
mod manual;

use std::path::Path;

/// Absent from the programs of devices, which are built without the feature `lab`.
const OF_THE_LAB: [&str; 2] = ["try", "lab"];

/// Compares a file in `packaging/` with what it should be, or writes it.
fn packaged(name: &str, wanted: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name);
    if std::env::var_os("TWINWARD_PAGES").is_some_and(|what| what == "write") {
        twinward::sys::files::write_atomic(&path, wanted.as_bytes(), 0o644).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let how = "run: TWINWARD_PAGES=write cargo test --test pages";
    if let Some((number, (is, should))) =
        found.lines().zip(wanted.lines()).enumerate().find(|(_, (is, should))| is != should)
    {
        panic!("packaging/{name}, line {}, is out of date: it has {is:?}, not {should:?}; {how}", number + 1);
    }
    assert!(found == wanted, "packaging/{name} is out of date; {how}");
}
