//! The built program, as a user meets it: exit codes, standard output, standard error.

#![expect(clippy::unwrap_used, reason = "a test stops where its assumptions break")]

mod baseline;
#[cfg(feature = "lab")]
mod doctor;
mod status;

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use tempfile::TempDir;

/// A connection string to a hub that does not exist, with a key that must never be seen.
const STRING: &str =
    "HostName=hub.invalid;DeviceId=pump-7;ModuleId=azureiotsecurity;SharedAccessKey=TmV2ZXJTaG93VGhpc0tleQ==";
const KEY: &str = "TmV2ZXJTaG93VGhpc0tleQ==";

/// A place of its own for a configuration, its secret and its state.
struct Place(TempDir);

impl Place {
    /// With `more` at the end of the configuration.
    fn new(connection_string: &str, more: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        let root = place.0.path().display();
        place.write("connection-string", connection_string);
        place.write(
            "twinward.toml",
            &format!(
                "identity.connection_string_file = \"{root}/connection-string\"\nstorage.directory = \"{root}\"\n{more}"
            ),
        );
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A file that only its owner can read.
    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(&path).unwrap().write_all(content.as_bytes()).unwrap();
        path
    }

    fn run(&self, arguments: &[&str]) -> Output {
        run(&self.path("twinward.toml"), arguments)
    }
}

fn run(config: &Path, arguments: &[&str]) -> Output {
    #[expect(clippy::disallowed_methods, reason = "the built program is what is tested")]
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_twinward"))
        .args(arguments)
        .arg("--config")
        .arg(config)
        .env_clear()
        .output()
        .unwrap();
    for text in [&output.stdout, &output.stderr] {
        assert!(!String::from_utf8_lossy(text).contains(KEY), "the key was shown");
    }
    output
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn the_version_is_told_in_both_forms() {
    let place = Place::new(STRING, "");
    let table = place.run(&["version"]);
    assert!(table.status.success());
    assert!(out(&table).starts_with(&format!("twinward  {}\n", env!("CARGO_PKG_VERSION"))), "{}", out(&table));
    let value: serde_json::Value = serde_json::from_slice(&place.run(&["version", "--json"]).stdout).unwrap();
    assert_eq!(value["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(value["features"].as_array().unwrap().is_empty(), !cfg!(feature = "lab"));
}
