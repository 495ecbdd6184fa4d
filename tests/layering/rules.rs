//! Which room may use which, and which file may name which crate.

use std::path::Path;

use super::scan::{self, Target};

/// The rooms and their floors. A new top-level module needs a line here or in [`SIDE_ROOMS`].
const FLOORS: [(&str, u8); 10] = [
    ("model", 0),
    ("sys", 1),
    ("settings", 2),
    ("collect", 3),
    ("pipeline", 3),
    ("spool", 3),
    ("hub", 3),
    ("agent", 4),
    ("control", 4),
    ("cli", 5),
];

/// Rooms that stand aside of the house: what they may use, and who may use them.
///
/// The loopback hub must not share protocol code with the client that it tests.
const SIDE_ROOMS: [(&str, &[&str], &[&str]); 1] = [("lab", &["model", "sys"], &["cli"])];

/// Crates that only some files may name: `(crate, files or folders, why)`.
const FENCED: [(&str, &[&str], &str); 7] = [
    (
        "rumqttc",
        &["hub/connection.rs"],
        "the MQTT crate is named in hub/connection.rs only, so that it can be exchanged",
    ),
    (
        "rusqlite",
        &["spool/store.rs"],
        "the storage engine is named in spool/store.rs only, so that it can be exchanged",
    ),
    (
        "aya",
        &["sys/bpf/loaded.rs"],
        "the loader of eBPF is named in sys/bpf/loaded.rs only, so that it can be exchanged",
    ),
    ("landlock", &["sys/bpf/loaded.rs"], "landlock is there for loading eBPF in little memory"),
    ("tokio", ASYNC, ASYNC_WHY),
    ("tokio_util", ASYNC, ASYNC_WHY),
    ("tokio_rustls", ASYNC, ASYNC_WHY),
];

const ASYNC: &[&str] = &["hub/connection.rs", "hub/link.rs", "hub/dial.rs", "agent/", "control/", "cli/", "lab/"];
const ASYNC_WHY: &str =
    "below floor 4 only connection.rs, link.rs and dial.rs in hub are asynchronous: take `now`, return actions";

/// All that is wrong with one file; `path` is relative to `src`.
#[must_use]
pub fn check(path: &Path, source: &str) -> Vec<String> {
    let name = path.to_string_lossy().replace('\\', "/");
    let tokens = scan::tokens(source);
    let mut findings = Vec::new();
    // The program is a caller of the library: its root is the library's.
    let program = name == "main.rs" || name.starts_with("bin/");
    let roots: &[&str] = if program { &["twinward"] } else { &["crate"] };
    for (line, target) in scan::paths(&tokens, &module_of(&name), roots) {
        let verdict = match &target {
            Target::Root => {
                Some("names the crate root as a whole: name the room, so that its floor can be seen".to_owned())
            }
            Target::Room(room) if program => {
                (room != "cli").then(|| format!("uses `{room}`: the program only starts `cli`"))
            }
            Target::Room(room) => refuse(room_of(&name), room),
        };
        findings.extend(verdict.map(|v| format!("src/{name}:{line}: {v}")));
    }
    for token in &tokens {
        for (krate, allowed, why) in FENCED {
            let inside = allowed.iter().any(|a| name == *a || (a.ends_with('/') && name.starts_with(a)));
            if token.text == krate && !inside {
                findings.push(format!("src/{name}:{}: names `{krate}`: {why}", token.line));
            }
        }
    }
    let hidden = tokens.windows(3).filter_map(|three| match three {
        [open, path, is] if open.text == "[" && path.text == "path" && is.text == "=" => Some(path.line),
        _ => None,
    });
    findings
        .extend(hidden.map(|l| format!("src/{name}:{l}: `#[path]` hides where a module lives: use the usual place")));
    findings
}

/// Why `from` may not use `to`; `None` if it may. `from` is `None` for the crate root.
fn refuse(from: Option<&str>, to: &str) -> Option<String> {
    let floor = |room: &str| FLOORS.iter().find(|(name, _)| *name == room).map(|(_, floor)| *floor);
    let side = |room: &str| SIDE_ROOMS.iter().find(|(name, ..)| *name == room);
    let Some(from) = from else {
        return Some(format!("the crate root uses `{to}`: it only lists the rooms"));
    };
    if from == to {
        return None;
    }
    if let Some((_, may_use, _)) = side(from) {
        return (!may_use.contains(&to))
            .then(|| format!("`{from}` uses `{to}`: it stands aside and may use {} only", may_use.join(", ")));
    }
    if let Some((_, _, users)) = side(to) {
        return (!users.contains(&from)).then(|| format!("`{from}` uses `{to}`, which only {} may", users.join(", ")));
    }
    match (floor(from), floor(to)) {
        (Some(ours), Some(theirs)) if theirs < ours => None,
        (Some(ours), Some(theirs)) if theirs == ours => {
            Some(format!("`{from}` uses `{to}` beside it on floor {ours}: let the floor above join them"))
        }
        (Some(ours), Some(theirs)) => Some(format!("`{from}` (floor {ours}) climbs to `{to}` (floor {theirs})")),
        (None, _) => Some(format!("room `{from}` has no floor: give it one in tests/layering/rules.rs")),
        (_, None) => Some(format!("`{from}` uses `{to}`, which has no floor: give it one in tests/layering/rules.rs")),
    }
}

/// The room of a file below `src`; `None` for `lib.rs`.
fn room_of(name: &str) -> Option<&str> {
    let first = name.split('/').next().unwrap_or(name);
    let room = first.strip_suffix(".rs").unwrap_or(first);
    (room != "lib").then_some(room)
}

/// The path of a file's module from the crate root.
fn module_of(name: &str) -> Vec<String> {
    let stem = name.strip_suffix(".rs").unwrap_or(name);
    let stem = stem.strip_suffix("/mod").unwrap_or(stem);
    if matches!(stem, "lib" | "main") { Vec::new() } else { stem.split('/').map(str::to_owned).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, source: &str) -> Vec<String> {
        check(Path::new(path), source)
    }

    #[test]
    fn going_down_is_allowed() {
        assert_eq!(
            findings("agent/mod.rs", "use crate::{model, sys, settings, collect, pipeline, spool, hub};"),
            [""; 0]
        );
        assert_eq!(findings("cli/try.rs", "use crate::{agent, control, lab};"), [""; 0]);
        assert_eq!(
            findings("lab/mod.rs", "use crate::model::ids; use crate::sys::clock; mod wire; use wire::x;"),
            [""; 0]
        );
        assert_eq!(findings("hub/connection.rs", "use rumqttc::Client; use tokio::net; use super::twin;"), [""; 0]);
        assert_eq!(findings("lib.rs", "pub mod agent; pub mod cli;"), [""; 0]);
        assert_eq!(findings("main.rs", "fn main() { twinward::cli::main() }"), [""; 0]);
    }

    #[test]
    fn climbing_is_found() {
        for (path, source) in [
            ("model/ids.rs", "use crate::sys::clock::Clock;"),
            ("sys/clock.rs", "fn f() -> crate::settings::Settings { todo!() }"),
            ("settings/mod.rs", "use super::hub::connstr;"),
            ("spool/store.rs", "use crate::{model::ids, agent};"),
            ("hub/twin.rs", "#[cfg(test)] mod tests { use super::super::super::cli::exit; }"),
        ] {
            let found = findings(path, source);
            assert!(matches!(found.as_slice(), [one] if one.contains("climbs")), "{path}: {found:?}");
        }
    }

    #[test]
    fn going_sideways_is_found() {
        for (path, source) in [
            ("hub/link.rs", "use crate::spool::Spool;"),
            ("pipeline/mod.rs", "use super::collect;"),
            ("control/mod.rs", "use crate::agent::Agent;"),
            ("agent/mod.rs", "use crate::control::serve;"),
        ] {
            let found = findings(path, source);
            assert!(matches!(found.as_slice(), [one] if one.contains("beside it")), "{path}: {found:?}");
        }
    }

    #[test]
    fn the_lab_stands_aside() {
        assert!(findings("lab/mod.rs", "use crate::hub::topics;").concat().contains("stands aside"));
        assert!(findings("lab/mod.rs", "use crate::settings;").concat().contains("stands aside"));
        assert!(findings("agent/mod.rs", "use crate::lab::Lab;").concat().contains("only cli may"));
        assert!(findings("sys/mod.rs", "use crate::lab::Lab;").concat().contains("only cli may"));
    }

    #[test]
    fn a_crate_named_outside_its_fence_is_found_with_its_line() {
        let found = findings("hub/session.rs", "//! text\nuse rumqttc::Packet;");
        assert!(
            matches!(found.as_slice(), [one] if one.starts_with("src/hub/session.rs:2: names `rumqttc`")),
            "{found:?}"
        );
        assert_eq!(findings("agent/mod.rs", "use rumqttc::Client;").len(), 1);
        assert_eq!(findings("spool/mod.rs", "use rusqlite::Connection;").len(), 1);
        assert_eq!(findings("collect/mod.rs", "use tokio::time; use tokio_util::sync;").len(), 2);
        assert_eq!(findings("hub/tls.rs", "use tokio_rustls::TlsConnector;").len(), 1);
        assert_eq!(findings("hub/tls.rs", "// tokio_rustls is used in dial.rs\nconst A: &str = \"tokio\";").len(), 0);
    }

    #[test]
    fn hiding_places_and_unknown_rooms_are_found() {
        assert_eq!(findings("hub/mod.rs", "use crate::*;").len(), 1);
        assert_eq!(findings("hub/mod.rs", "use crate as house;").len(), 1);
        assert_eq!(findings("hub/mod.rs", "#[path = \"../spool/mod.rs\"] mod other;").len(), 1);
        assert!(findings("hub/mod.rs", "use crate::attic::x;").concat().contains("no floor"));
        assert!(findings("attic.rs", "use crate::model::x;").concat().contains("no floor"));
        assert!(findings("lib.rs", "pub use crate::hub::link;").concat().contains("crate root"));
        assert!(findings("main.rs", "use twinward::hub::link;").concat().contains("only starts `cli`"));
    }
}
