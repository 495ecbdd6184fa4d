//! The file `crashes` in the runtime directory: what crashed, so that the next start can hold it back.
//!
//! A JSON object a line:
//!
//! ```text
//! {"part":"OSBaseline","times":3,"last":"2026-11-22T09:30:00Z","message":"…","place":"src/….rs:7:5","untold":true}
//! ```
//!
//! `part` is the thread, or the task, that panicked (`sys/crash.rs`). The dying process appends one line with `times`
//! 1; of lines about one part the numbers are added and the latest counts. The next start writes the file anew with
//! one line for each part, without `untold`, which means that the log has not told it. No crash, no file. A line that
//! cannot be read is left out. Bounds: 700 bytes of text in a line, 32 KiB of file that are read, and no line more
//! from there on.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files;

/// Longest message and longest name, in bytes.
const MESSAGE: usize = 500;
const NAME: usize = 100;
/// Longest file.
const LIMIT: u64 = 32 * 1024;

/// A line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crash {
    /// What was at work.
    pub part: String,
    /// How often, without success in between.
    pub times: u32,
    /// When, the last time.
    pub last: jiff::Timestamp,
    /// The words of the panic.
    pub message: String,
    /// Where in our sources, or in those of a library.
    pub place: String,
    /// The log has not told it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untold: bool,
}

impl Crash {
    /// One that just happened; its texts are cut.
    #[must_use]
    pub fn new(part: &str, at: jiff::Timestamp, message: &str, place: &str) -> Self {
        let cut = |text: &str, limit| text.get(..text.floor_char_boundary(limit)).unwrap_or_default().to_owned();
        // A path says most at its end.
        let from = place.ceil_char_boundary(place.len().saturating_sub(NAME));
        Self {
            part: cut(part, NAME),
            times: 1,
            last: at,
            message: cut(message, MESSAGE),
            place: place.get(from..).unwrap_or_default().to_owned(),
            untold: true,
        }
    }

    fn line(&self) -> io::Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }
}

/// Where it is, in the runtime directory.
#[must_use]
pub fn path(runtime_directory: &Path) -> PathBuf {
    runtime_directory.join("crashes")
}

/// The lines; `None` if there is no such file.
///
/// # Errors
/// It is there and cannot be read.
pub fn read(path: &Path) -> io::Result<Option<Vec<Crash>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(LIMIT).read_to_end(&mut bytes)?;
    Ok(Some(bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()))
}

/// Adds a line.
///
/// # Errors
/// Those of writing; or the file is full, because no start could write it anew.
pub fn append(path: &Path, crash: &Crash) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|file| file.len() >= LIMIT) {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    files::append(path, crash.line()?.as_bytes(), 0o600)
}

/// Writes it anew; without lines there is no file.
///
/// # Errors
/// Those of writing; the old content is then still there.
pub fn replace(path: &Path, crashes: &[Crash]) -> io::Result<()> {
    if crashes.is_empty() {
        return match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    }
    let text: String = crashes.iter().map(Crash::line).collect::<io::Result<_>>()?;
    files::write_atomic(path, text.as_bytes(), 0o600)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AT: jiff::Timestamp = jiff::Timestamp::UNIX_EPOCH;

    #[test]
    fn what_is_written_is_read_and_nothing_is_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(dir.path());
        assert_eq!(read(&path).unwrap(), None);
        let (one, other) = (Crash::new("core", AT, "a\nb", "x.rs:1:2"), Crash::new("link", AT, "c", "y.rs:3:4"));
        append(&path, &one).unwrap();
        append(&path, &other).unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), [one.clone(), other]);
        replace(&path, &[Crash { untold: false, ..one }]).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let line = r#"{"part":"core","times":1,"last":"1970-01-01T00:00:00Z","message":"a\nb","place":"x.rs:1:2"}"#;
        assert_eq!(text, format!("{line}\n"));
        replace(&path, &[]).unwrap();
        replace(&path, &[]).unwrap();
        assert_eq!(read(&path).unwrap(), None);
    }

    #[test]
    fn nobody_makes_it_large() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(dir.path());
        let long = Crash::new(&"ö".repeat(NAME), AT, &"\u{1}ö".repeat(MESSAGE), &"ö".repeat(NAME));
        let refused = (0..1000).find(|_| append(&path, &long).is_err());
        assert!(refused.is_some_and(|n| n > 5), "{refused:?}");
        assert!(fs::metadata(&path).unwrap().len() < LIMIT + 4096);
        // The last line may be cut.
        assert!(read(&path).unwrap().unwrap().iter().all(|read| *read == long));
    }

    #[test]
    fn texts_are_cut_and_a_place_keeps_its_end() {
        let long = format!("/{}/lib.rs:1:2", "ö".repeat(NAME));
        let crash = Crash::new(&long, AT, &long.repeat(4), &long);
        assert!([&crash.part, &crash.place].iter().all(|text| text.len() >= NAME - 1 && text.len() <= NAME));
        assert!(
            crash.message.len() <= MESSAGE && crash.part.starts_with("/ö") && crash.place.ends_with("ö/lib.rs:1:2")
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), at in 0..90_usize) {
            let dir = tempfile::tempdir().unwrap();
            let path = path(dir.path());
            let mut whole = Crash::new("link", AT, "m", "p").line().unwrap().into_bytes();
            whole.splice(at..at, bytes);
            files::write_atomic(&path, &whole, 0o600).unwrap();
            read(&path).unwrap();
        }
    }
}
