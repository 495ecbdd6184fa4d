//! The layers of the local configuration: each file, and the environment, is read and checked by itself, so that every
//! fault is named with its own file and line. What passes is in canonical form (see [`Key::read`]).
//!
//! A file is TOML of two levels: sections that hold keys. The environment names a key `TWINWARD_SECTION__KEY`.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use config::ValueKind;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use zeroize::Zeroizing;

use crate::model::secret::Secret;

use super::error::{Fault, LocalProblem, clipped, nearest};
use super::keys::{self, Given, KEYS, Key};
use super::{Origin, defaults};

const PREFIX: &str = "TWINWARD_";
/// The one key whose value must not travel through the merge.
pub(super) const SECRET_KEY: &str = "identity.connection_string";
/// Syntax errors of one file that are listed; the first usually causes the rest.
const SYNTAX_ERRORS: usize = 5;

/// One source of values, all of them good.
#[derive(Clone, Debug, Default)]
pub(super) struct Layer {
    /// By dotted key.
    pub entries: BTreeMap<&'static str, Entry>,
    /// The value of [`SECRET_KEY`]; its entry holds an empty text.
    pub secret: Option<Secret>,
}

/// One good value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub value: ValueKind,
    /// `None` for a built-in default.
    pub origin: Option<Origin>,
    pub line: Option<usize>,
}

/// The built-in defaults.
pub(super) fn built_in(problems: &mut Vec<LocalProblem>) -> Layer {
    let mut text = String::new();
    for key in KEYS {
        if let Some(default) = key.default {
            text.push_str(&format!("{} = {default}\n", key.name));
        }
    }
    let mut layer = parse(&text, &Origin::File(PathBuf::from("built-in defaults")), problems);
    for entry in layer.entries.values_mut() {
        entry.origin = None;
    }
    layer
}

/// A file that need not be there.
pub(super) fn optional_file(path: &Path, problems: &mut Vec<LocalProblem>) -> Option<Layer> {
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        _ => Some(file(path, "remove what points to it", problems)),
    }
}

/// A file that must be there; `next` says what to do if it is not.
pub(super) fn file(path: &Path, next: &str, problems: &mut Vec<LocalProblem>) -> Layer {
    let origin = Origin::File(path.to_owned());
    let (text, meta) = match read(path) {
        Ok(read) => read,
        Err(fault) => {
            let fault = match fault {
                Fault::Absent { .. } => Fault::Absent { next: next.to_owned() },
                other => other,
            };
            problems.push(LocalProblem { origin: Some(origin), line: None, key: String::new(), fault });
            return Layer::default();
        }
    };
    let layer = parse(&text, &origin, problems);
    if let Some(entry) = layer.entries.get(SECRET_KEY)
        && let Some(fault) = exposure(path, &meta)
    {
        problems.push(LocalProblem { origin: Some(origin), line: entry.line, key: SECRET_KEY.to_owned(), fault });
    }
    layer
}

/// The drop-ins beside a configuration file, in the order of their names.
pub(super) fn drop_ins(config: &Path, problems: &mut Vec<LocalProblem>) -> Vec<Layer> {
    let directory = config.parent().unwrap_or(Path::new("")).join(defaults::DROP_IN_DIRECTORY);
    let problem =
        |fault| LocalProblem { origin: Some(Origin::File(directory.clone())), line: None, key: String::new(), fault };
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(e) => {
            problems.push(problem(Fault::Unreadable(e.to_string())));
            return Vec::new();
        }
    };
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        // Editors leave their own files beside the real ones, with a leading dot.
        .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .take(defaults::DROP_IN_LIMIT + 1)
        .collect();
    if paths.len() > defaults::DROP_IN_LIMIT {
        problems.push(problem(Fault::TooManyFiles { limit: defaults::DROP_IN_LIMIT }));
        return Vec::new();
    }
    paths.sort();
    paths.iter().map(|path| file(path, "remove what points to it", problems)).collect()
}

/// The variables that begin with `TWINWARD_`; all of them must be known.
pub(super) fn environment(variables: &[(String, String)], problems: &mut Vec<LocalProblem>) -> Layer {
    let mut layer = Layer::default();
    for (name, value) in variables.iter().filter(|(name, _)| name.starts_with(PREFIX)) {
        let origin = Origin::Environment(clipped(name, 200));
        let Some(key) = KEYS.iter().find(|key| keys::variable(key) == *name) else {
            let known: Vec<String> = KEYS.iter().map(keys::variable).collect();
            let nearest = nearest(name, known.iter().map(String::as_str))
                .or_else(|| known.iter().map(String::as_str).find(|k| k.starts_with(&format!("{name}__"))))
                .map(str::to_owned);
            let fault = Fault::Unknown { what: "variable", nearest };
            problems.push(LocalProblem { origin: Some(origin), line: None, key: String::new(), fault });
            continue;
        };
        layer.take(key, Given::Variable(value), &origin, None, problems);
    }
    layer
}

impl Layer {
    /// Checks one value, and keeps it or the problem.
    fn take(
        &mut self,
        key: &'static Key,
        given: Given<'_>,
        origin: &Origin,
        line: Option<usize>,
        problems: &mut Vec<LocalProblem>,
    ) {
        let value = match key.read(given) {
            Ok(value) => value,
            Err(fault) => {
                let key = key.name.to_owned();
                problems.push(LocalProblem { origin: Some(origin.clone()), line, key, fault });
                return;
            }
        };
        let value = match value {
            ValueKind::String(text) if key.name == SECRET_KEY => {
                self.secret = Some(Secret::new(text.into_bytes()));
                ValueKind::String(String::new())
            }
            other => other,
        };
        self.entries.insert(key.name, Entry { value, origin: Some(origin.clone()), line });
    }
}

fn parse(text: &str, origin: &Origin, problems: &mut Vec<LocalProblem>) -> Layer {
    let mut layer = Layer::default();
    let lines = Lines::of(text);
    let problem = |at: usize, key: String, fault| LocalProblem {
        origin: Some(origin.clone()),
        line: Some(lines.at(at)),
        key,
        fault,
    };
    let (root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // What could be read beside an error in the form is guesswork: it is not judged.
        problems.extend(errors.iter().take(SYNTAX_ERRORS).map(|error| {
            let at = error.span().map_or(text.len(), |span| span.start);
            problem(at, String::new(), Fault::Syntax(clipped(error.message(), 200)))
        }));
        return layer;
    }
    let mut found = Vec::new();
    let sections: Vec<&str> = KEYS.iter().map(|key| key.section).collect();
    for (section, content) in root.get_ref() {
        let (name, at) = (section.get_ref().as_ref(), section.span().start);
        let DeValue::Table(table) = content.get_ref() else {
            let fault = if sections.contains(&name) {
                let expected = format!("a section [{name}] with keys below it");
                Fault::WrongType { found: kind(content), expected }
            } else {
                Fault::Unknown { what: "key", nearest: nearest_key("", name) }
            };
            found.push(problem(at, clipped(name, 200), fault));
            continue;
        };
        if !sections.contains(&name) {
            let nearest = nearest(name, sections.iter().copied()).map(|s| format!("[{s}]"));
            found.push(problem(at, clipped(name, 200), Fault::Unknown { what: "section", nearest }));
            continue;
        }
        for (key, value) in table {
            let (short, at) = (key.get_ref().as_ref(), key.span().start);
            let full = format!("{name}.{short}");
            if let Some(known) = keys::find(&full) {
                layer.take(known, given(value), origin, Some(lines.at(at)), &mut found);
            } else {
                let fault = Fault::Unknown { what: "key", nearest: nearest_key(name, short) };
                found.push(problem(at, clipped(&full, 200), fault));
            }
        }
    }
    // A table is sorted by key; a person reads by line.
    found.sort_by_key(|p: &LocalProblem| p.line);
    problems.append(&mut found);
    layer
}

/// The known key most like `short` in `section`, or with the same last part anywhere.
fn nearest_key(section: &str, short: &str) -> Option<String> {
    let last = |name: &'static str| name.rsplit('.').next().unwrap_or(name);
    KEYS.iter()
        .map(|key| key.name)
        .find(|name| last(name) == short)
        .or_else(|| {
            let in_section = KEYS.iter().filter(|key| key.section == section).map(|key| last(key.name));
            let found = nearest(short, in_section)?;
            KEYS.iter().map(|key| key.name).find(|name| last(name) == found && name.starts_with(section))
        })
        .or_else(|| nearest(&format!("{section}.{short}"), KEYS.iter().map(|key| key.name)))
        .or_else(|| {
            let found = nearest(short, KEYS.iter().map(|key| last(key.name)))?;
            KEYS.iter().map(|key| key.name).find(|name| last(name) == found)
        })
        .map(str::to_owned)
}

fn given<'a>(value: &'a Spanned<DeValue<'_>>) -> Given<'a> {
    match value.get_ref() {
        DeValue::String(text) => Given::Text(text),
        DeValue::Integer(number) => Given::Integer(i64::from_str_radix(number.as_str(), number.radix()).ok()),
        DeValue::Boolean(on) => Given::Boolean(*on),
        _ => Given::Other(kind(value)),
    }
}

fn kind(value: &Spanned<DeValue<'_>>) -> &'static str {
    match value.get_ref() {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}

/// Where the lines of a text begin.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at).collect())
    }

    /// The line, from 1, of a byte.
    fn at(&self, byte: usize) -> usize {
        self.0.partition_point(|newline| *newline < byte) + 1
    }
}

/// Reads a whole regular file within its bound. The text may hold a secret, so it is wiped when dropped.
fn read(path: &Path) -> Result<(Zeroizing<String>, fs::Metadata), Fault> {
    let unreadable = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => Fault::Absent { next: String::new() },
        _ => Fault::Unreadable(e.to_string()),
    };
    // Opening a named pipe would wait for a writer.
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path).map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    if !meta.is_file() {
        return Err(Fault::Unreadable("not a regular file".to_owned()));
    }
    if meta.len() > defaults::CONFIG_FILE_LIMIT {
        return Err(Fault::TooLarge);
    }
    // Reserved in one piece: growing would leave copies behind that nobody wipes.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0) + 1));
    file.take(defaults::CONFIG_FILE_LIMIT + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > defaults::CONFIG_FILE_LIMIT {
        return Err(Fault::TooLarge);
    }
    let text = String::from_utf8(std::mem::take(&mut *bytes)).map_err(|e| {
        // The bytes inside the error are wiped as well.
        drop(Zeroizing::new(e.into_bytes()));
        Fault::NotText
    })?;
    Ok((Zeroizing::new(text), meta))
}

/// Why a file must not hold a secret, if it must not; the same rule as for a secret's own file.
fn exposure(path: &Path, meta: &fs::Metadata) -> Option<Fault> {
    let (mode, owner, us) = (meta.permissions().mode() & 0o7777, meta.uid(), rustix::process::geteuid().as_raw());
    if mode & 0o077 != 0 {
        return Some(Fault::TooOpen { path: path.to_owned(), mode });
    }
    (owner != us && owner != 0).then(|| Fault::Foreign { path: path.to_owned(), owner, us })
}
