//! `twinward check [FILE]`: everything that is wrong with the local configuration or with a twin document, at once.
//!
//! Exit codes: 0 nothing is refused, 1 the twin document is unusable or one of its keys is refused, 78 the local
//! configuration is unusable.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args as ClapArgs;
use serde_json::{Map, Value, json};

use crate::collect::baseline;
use crate::model::problem::{Problem, ProblemKind};
use crate::settings::agent_config::AgentConfig;
use crate::settings::desired::{self, Applied};
use crate::settings::error::SettingsError;
use crate::settings::twin_keys::{OBJECT, TwinKey};
use crate::settings::{Settings, defaults, load, twin_text};
use crate::sys::host::Host;

use super::args::Global;
use super::users::Users;
use super::{exit, output};

/// Arguments of `check`.
#[derive(Debug, ClapArgs)]
pub struct CheckArgs {
    /// A local configuration (.toml) or a twin document (JSON); without it, the configuration at --config and the
    /// file modes of its secret.
    pub file: Option<PathBuf>,
    /// Print a twinward.toml with every key explained, and check nothing.
    #[arg(long, conflicts_with = "file")]
    pub sample: bool,
    /// Name of the configuration object in a twin document, if your agents have another twin.object.
    #[arg(long, value_name = "NAME", default_value = OBJECT, hide_default_value = true, requires = "file")]
    pub object: String,
}

/// Runs the command.
///
/// # Errors
/// A twin document that cannot be read or is none; those of standard output.
pub fn run(args: &CheckArgs, global: &Global) -> anyhow::Result<u8> {
    if args.sample {
        io::stdout().lock().write_all(crate::settings::sample::sample().as_bytes())?;
        return Ok(exit::OK);
    }
    match &args.file {
        None => local(&global.config, true, global.json),
        Some(file) if file.extension().is_some_and(|e| e == "toml") => local(file, false, global.json),
        Some(file) => twin(file, &args.object, global.json),
    }
}

fn local(config: &Path, with_secret: bool, json: bool) -> anyhow::Result<u8> {
    let mut loaded = load::load(config, load::environment());
    if let Ok(settings) = &mut loaded
        && with_secret
    {
        let problems = baseline::problems(&Host::system());
        settings.warnings.extend(problems.into_iter().map(|problem| format!("checks of your own: {problem}")));
    }
    let secret = loaded.as_ref().ok().filter(|_| with_secret).and_then(secret_problem);
    if json {
        output::json_line(&local_json(config, &loaded, secret.as_deref()))?;
    } else {
        print_local(config, &loaded, secret.as_deref())?;
    }
    Ok(if loaded.is_ok() && secret.is_none() { exit::OK } else { exit::CONFIGURATION })
}

/// Why the file of the connection string cannot be used.
fn secret_problem(settings: &Settings) -> Option<String> {
    let users = Users::find(&Host::system(), &settings.storage);
    users.secret(&settings.identity).err().map(|e| e.to_string())
}

fn print_local(config: &Path, loaded: &Result<Settings, SettingsError>, secret: Option<&str>) -> io::Result<()> {
    let mut problems: Vec<String> = Vec::new();
    match loaded {
        Ok(settings) => {
            let rows: Vec<Vec<String>> = settings
                .effective()
                .into_iter()
                .map(|e| vec![e.key.to_owned(), or_dash(e.value), origin_text(e.origin.as_ref())])
                .collect();
            output::table(&["KEY", "IN FORCE", "FROM"], &rows)?;
            line("")?;
            for warning in &settings.warnings {
                line(&format!("warning: {warning}"))?;
            }
        }
        Err(error) => problems.extend(error.problems.iter().map(ToString::to_string)),
    }
    problems.extend(secret.map(str::to_owned));
    for problem in &problems {
        line(problem)?;
    }
    let verdict = match problems.len() {
        0 => "the local configuration is good".to_owned(),
        1 => "the local configuration is not usable: 1 problem".to_owned(),
        n => format!("the local configuration is not usable: {n} problems"),
    };
    line(&format!("{}: {verdict}", config.display()))
}

fn local_json(config: &Path, loaded: &Result<Settings, SettingsError>, secret: Option<&str>) -> Value {
    let mut problems: Vec<Value> = Vec::new();
    let (mut values, mut warnings) = (Vec::new(), Vec::new());
    match loaded {
        Ok(settings) => {
            values.extend(
                settings
                    .effective()
                    .into_iter()
                    .map(|e| json!({ "key": e.key, "value": e.value, "from": origin_text(e.origin.as_ref()) })),
            );
            warnings.clone_from(&settings.warnings);
        }
        Err(error) => problems.extend(error.problems.iter().map(|p| {
            json!({
                "from": p.origin.as_ref().map(ToString::to_string),
                "line": p.line,
                "key": p.key,
                "problem": p.fault.to_string(),
                "expected": p.fault.expected(),
                "nearest": p.fault.nearest(),
            })
        })),
    }
    problems.extend(secret.map(|text| json!({ "key": "identity.connection_string_file", "problem": text })));
    json!({
        "document": "local",
        "file": config.display().to_string(),
        "ok": problems.is_empty(),
        "values": values,
        "warnings": warnings,
        "problems": problems,
    })
}

fn origin_text(origin: Option<&crate::settings::Origin>) -> String {
    origin.map_or_else(|| "default".to_owned(), ToString::to_string)
}

fn twin(path: &Path, object: &str, json: bool) -> anyhow::Result<u8> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(defaults::TWIN_FILE_LIMIT as u64 + 1).read_to_end(&mut bytes))
        .with_context(|| format!("cannot read {}", path.display()))?;
    let document = twin_text::read(&bytes, defaults::TWIN_FILE_LIMIT).with_context(|| path.display().to_string())?;
    let desired = desired_section(document, object).with_context(|| path.display().to_string())?;
    let applied = desired::apply(&desired, object, &AgentConfig::default());
    let rows = key_rows(&desired, object, &applied);
    let refused = applied.problems.iter().filter(|p| p.is_refusal()).count();
    let ok = refused == 0;
    if json {
        output::json_line(&json!({
            "document": "twin",
            "file": path.display().to_string(),
            "ok": ok,
            "object_found": applied.object_found,
            "keys": rows.iter().map(KeyRow::json).collect::<Vec<_>>(),
        }))?;
    } else {
        let cells: Vec<Vec<String>> = rows.iter().map(KeyRow::cells).collect();
        output::table(&["KEY", "STATE", "IN FORCE", "GIVEN", "EXPECTED"], &cells)?;
        line("")?;
        if !applied.object_found {
            line(&format!("warning: there is no object {object}: every key takes its default"))?;
        }
        let verdict = match refused {
            0 => "every given key can be used".to_owned(),
            1 => "1 key is refused; a device keeps the value it has (here: the default)".to_owned(),
            n => format!("{n} keys are refused; a device keeps the values it has (here: the defaults)"),
        };
        line(&format!("{}: {verdict}", path.display()))?;
    }
    Ok(if ok { exit::OK } else { exit::FAILED })
}

/// Finds the desired section in whatever form a twin was written down: the whole twin of a registry
/// (`properties.desired`), of a device (`desired`), the section, or only the members of our object.
fn desired_section(mut document: Map<String, Value>, object: &str) -> anyhow::Result<Map<String, Value>> {
    let section = match document.get_mut("properties") {
        Some(Value::Object(properties)) => properties.remove("desired"),
        _ => document.remove("desired"),
    };
    match section {
        Some(Value::Object(section)) => Ok(section),
        Some(_) => anyhow::bail!("its desired section is no JSON object: write {{\"desired\": {{…}}}}"),
        None if document.keys().any(|name| is_member(name)) => {
            Ok(Map::from_iter([(object.to_owned(), Value::Object(document))]))
        }
        None => Ok(document),
    }
}

fn is_member(name: &str) -> bool {
    TwinKey::all().any(|key| key.name() == name)
}

/// One line of the answer about a twin document.
struct KeyRow {
    key: String,
    state: &'static str,
    in_force: String,
    given: String,
    expected: String,
}

impl KeyRow {
    /// A key that was taken as it is, or is not given.
    fn without_problem(key: TwinKey, given: bool, config: &AgentConfig) -> Self {
        let own = key.text(config);
        if let TwinKey::EventPriority(event) = key
            && config.priority(event) != config.own_priority(event)
        {
            return Self {
                key: key.name(),
                state: "silenced",
                in_force: config.priority(event).to_string(),
                given: if given { own } else { String::new() },
                expected: format!("{} other than Off", TwinKey::EventPriorityOperational.name()),
            };
        }
        Self {
            key: key.name(),
            state: if given { "applied" } else { "default" },
            in_force: own,
            given: String::new(),
            expected: String::new(),
        }
    }

    fn of(problem: &Problem) -> Self {
        Self {
            key: problem.key.clone(),
            state: match problem.kind {
                ProblemKind::TypeMismatch => "refused",
                ProblemKind::NotOptimal => "not optimal",
                ProblemKind::Conflict => "conflict",
                ProblemKind::Outdated => "outdated",
                ProblemKind::Unknown => "unknown",
            },
            in_force: problem.in_force.clone(),
            given: problem.given.clone(),
            expected: problem.expected.clone(),
        }
    }

    fn cells(&self) -> Vec<String> {
        [self.key.clone(), self.state.to_owned(), self.in_force.clone(), self.given.clone(), self.expected.clone()]
            .into_iter()
            .map(or_dash)
            .collect()
    }

    fn json(&self) -> Value {
        json!({
            "key": self.key,
            "state": self.state,
            "in_force": self.in_force,
            "given": self.given,
            "expected": self.expected,
        })
    }
}

/// Every property, and after them whatever else was found.
fn key_rows(desired: &Map<String, Value>, object: &str, applied: &Applied) -> Vec<KeyRow> {
    let object = desired::find(desired, object);
    let mut rows = Vec::new();
    for key in TwinKey::all() {
        let name = key.name();
        let found: Vec<&Problem> = applied.problems.iter().filter(|p| p.key == name).collect();
        if found.is_empty() {
            let given = object.is_some_and(|object| object.gives(key));
            rows.push(KeyRow::without_problem(key, given, &applied.config));
        }
        rows.extend(found.into_iter().map(KeyRow::of));
    }
    rows.extend(applied.problems.iter().filter(|p| !is_member(&p.key)).map(KeyRow::of));
    rows
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

fn line(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{}", output::printable(text))
}
