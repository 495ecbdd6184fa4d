//! The layers of the local configuration, merged. Later layers win key by key: built-in defaults, the package's file,
//! the operator's file, its drop-ins in order, the environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::{Config, ConfigError, Map, Source, Value, ValueKind};
use serde::Deserialize;

use crate::model::secret::Secret;
use crate::model::units::ByteSize;

use super::error::{Fault, LocalProblem, SettingsError};
use super::layers::{self, Layer, SECRET_KEY};
use super::{
    Collect, Hub, Identity, Log, LogLevel, MessageMode, Origin, ProcessSource, Settings, Storage, Transport, Twin,
    defaults,
};

const SECRET_FILE_KEY: &str = "identity.connection_string_file";
const RUNTIME_VARIABLE: &str = "RUNTIME_DIRECTORY";
const RUNTIME_KEY: &str = "storage.runtime_directory";

/// Reads and checks the whole local configuration. `env` is the process environment, see [`environment`].
///
/// # Errors
/// All problems of all layers at once.
pub fn load(config: &Path, env: impl Iterator<Item = (String, String)>) -> Result<Settings, SettingsError> {
    let vendor = (config == Path::new(defaults::CONFIG_FILE)).then(|| Path::new(defaults::VENDOR_CONFIG_FILE));
    load_layers(vendor, config, env)
}

/// The environment of this process; bytes that are not UTF-8 become U+FFFD, which no key accepts.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

fn load_layers(
    vendor: Option<&Path>,
    config: &Path,
    env: impl Iterator<Item = (String, String)>,
) -> Result<Settings, SettingsError> {
    let env: Vec<(String, String)> = env.collect();
    let mut problems = Vec::new();
    let mut layers = vec![layers::built_in(&mut problems)];
    layers.extend(vendor.and_then(|path| layers::optional_file(path, &mut problems)));
    layers.push(layers::file(config, next_step(config), &mut problems));
    layers.extend(layers::drop_ins(config, &mut problems));
    layers.push(layers::environment(&env, &mut problems));

    let merged = merge(&layers);
    let built = match merged.and_then(|config| Ok((config.cache.clone(), config.try_deserialize::<Merged>()?))) {
        Ok((cache, merged)) => Some(build(merged, &winners(&cache, &layers), &layers, &env, &mut problems)),
        Err(error) => {
            let fault = Fault::Unmergeable(error.to_string());
            problems.push(LocalProblem { origin: None, line: None, key: String::new(), fault });
            None
        }
    };
    let listed = problems.len().min(defaults::LOCAL_PROBLEM_LIMIT);
    if problems.len() > listed {
        let count = problems.len() - listed;
        problems.truncate(listed);
        let fault = Fault::More { count };
        problems.push(LocalProblem { origin: None, line: None, key: String::new(), fault });
    }
    match built {
        Some(settings) if problems.is_empty() => Ok(settings),
        _ => Err(SettingsError { problems }),
    }
}

/// What to do if the configuration file is not there.
fn next_step(config: &Path) -> &'static str {
    if config == Path::new(defaults::CONFIG_FILE) {
        "write it (an empty file takes every default; `twinward check --sample` prints one with every key) and put the \
         module's connection string into /etc/twinward/connection-string with mode 0600"
    } else {
        "check the path given with --config"
    }
}

/// One layer as the merging crate takes it; a value's origin is the number of its layer.
#[derive(Clone, Debug)]
struct Numbered {
    number: String,
    values: BTreeMap<&'static str, ValueKind>,
}

impl Source for Numbered {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        let value = |kind: &ValueKind| Value::new(Some(&self.number), kind.clone());
        Ok(self.values.iter().map(|(key, kind)| ((*key).to_owned(), value(kind))).collect())
    }
}

fn merge(layers: &[Layer]) -> Result<Config, ConfigError> {
    let mut builder = Config::builder();
    for (number, layer) in layers.iter().enumerate() {
        let values = layer.entries.iter().map(|(key, entry)| (*key, entry.value.clone())).collect();
        builder = builder.add_source(Numbered { number: number.to_string(), values });
    }
    builder.build()
}

/// The layer that each key's value came from, by dotted key.
fn winners<'a>(cache: &Value, layers: &'a [Layer]) -> BTreeMap<String, &'a Layer> {
    let mut winners = BTreeMap::new();
    let ValueKind::Table(sections) = &cache.kind else { return winners };
    for (section, content) in sections {
        let ValueKind::Table(keys) = &content.kind else { continue };
        for (key, value) in keys {
            let number = value.origin().and_then(|text| text.parse::<usize>().ok());
            if let Some(layer) = number.and_then(|n| layers.get(n)) {
                winners.insert(format!("{section}.{key}"), layer);
            }
        }
    }
    winners
}

/// The merged keys; those without a default may be absent.
#[derive(Deserialize)]
struct Merged {
    #[serde(default)]
    identity: MergedIdentity,
    hub: MergedHub,
    twin: MergedTwin,
    storage: MergedStorage,
    collect: MergedCollect,
    log: MergedLog,
}

#[derive(Default, Deserialize)]
struct MergedIdentity {
    connection_string_file: Option<PathBuf>,
}

#[derive(Deserialize)]
struct MergedHub {
    messages: MessageMode,
    transport: Transport,
    port: u16,
    host: Option<String>,
    ca_file: Option<PathBuf>,
    direct_methods: bool,
}

#[derive(Deserialize)]
struct MergedTwin {
    object: String,
}

#[derive(Deserialize)]
struct MergedStorage {
    directory: PathBuf,
    runtime_directory: Option<PathBuf>,
    commit_interval: u64,
    min_free_bytes: u64,
}

#[derive(Deserialize)]
struct MergedCollect {
    process_source: ProcessSource,
    command_line_bytes: u64,
    loopback_connections: bool,
    redact_secrets: bool,
    secret_names: Option<String>,
    name_service: bool,
}

#[derive(Deserialize)]
struct MergedLog {
    level: LogLevel,
    diagnostic_level: DiagnosticLevel,
}

/// [`LogLevel`], or none at all.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum DiagnosticLevel {
    Off,
    #[serde(untagged)]
    From(LogLevel),
}

fn build(
    merged: Merged,
    winners: &BTreeMap<String, &Layer>,
    layers: &[Layer],
    env: &[(String, String)],
    problems: &mut Vec<LocalProblem>,
) -> Settings {
    let mut origins: BTreeMap<String, Origin> = winners
        .iter()
        .filter_map(|(key, layer)| Some((key.clone(), layer.entries.get(key.as_str())?.origin.clone()?)))
        .collect();
    let mut warnings = Vec::new();
    let secret = winners.get(SECRET_KEY).and_then(|layer| layer.secret.clone());
    if secret.is_some() && merged.identity.connection_string_file.is_some() {
        problems.extend(two_identities(layers));
    }
    let identity = identity(merged.identity, secret, env, &mut origins, &mut warnings);
    let runtime_directory = merged.storage.runtime_directory.or_else(|| {
        let directory = provided(env, RUNTIME_VARIABLE, &mut warnings)?;
        origins.insert(RUNTIME_KEY.to_owned(), Origin::Environment(RUNTIME_VARIABLE.to_owned()));
        Some(directory)
    });
    Settings {
        identity,
        hub: Hub {
            messages: merged.hub.messages,
            transport: merged.hub.transport,
            port: merged.hub.port,
            host: merged.hub.host,
            ca_file: merged.hub.ca_file,
            direct_methods: merged.hub.direct_methods,
        },
        twin: Twin { object: merged.twin.object },
        storage: Storage {
            directory: merged.storage.directory,
            runtime_directory,
            commit_interval: Duration::from_secs(merged.storage.commit_interval),
            min_free: ByteSize::bytes(merged.storage.min_free_bytes),
        },
        collect: Collect {
            process_source: merged.collect.process_source,
            command_line: ByteSize::bytes(merged.collect.command_line_bytes),
            loopback_connections: merged.collect.loopback_connections,
            redact_secrets: merged.collect.redact_secrets,
            secret_names: words(merged.collect.secret_names.as_deref()),
            name_service: merged.collect.name_service,
        },
        log: Log {
            level: merged.log.level,
            diagnostic_level: match merged.log.diagnostic_level {
                DiagnosticLevel::Off => None,
                DiagnosticLevel::From(level) => Some(level),
            },
        },
        origins,
        warnings,
    }
}

/// The words of a text with commas or blanks between them.
fn words(text: Option<&str>) -> Vec<String> {
    let words = text.unwrap_or_default().split([',', ' ']);
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Names both places; the last one of each key is the one in force.
fn two_identities(layers: &[Layer]) -> Option<LocalProblem> {
    let last = |key| layers.iter().rev().find_map(|layer| layer.entries.get(key));
    let (inline, file) = (last(SECRET_KEY)?, last(SECRET_FILE_KEY)?);
    Some(LocalProblem {
        origin: inline.origin.clone(),
        line: inline.line,
        key: SECRET_KEY.to_owned(),
        fault: Fault::TwoIdentities { other: file.origin.clone()? },
    })
}

fn identity(
    merged: MergedIdentity,
    secret: Option<Secret>,
    env: &[(String, String)],
    origins: &mut BTreeMap<String, Origin>,
    warnings: &mut Vec<String>,
) -> Identity {
    if let Some(secret) = secret {
        warnings.push(match origins.get(SECRET_KEY) {
            Some(Origin::Environment(name)) => format!(
                "The connection string stands in {name}: every program of this user, and whatever prints the \
                 environment, can see it. Better: put it into a file with mode 0600 and name that in \
                 identity.connection_string_file."
            ),
            Some(Origin::File(path)) => format!(
                "The connection string stands in {}, which must keep mode 0600 through every edit and copy. Better: \
                 put it into a file of its own and name that in identity.connection_string_file.",
                path.display()
            ),
            None => String::new(),
        });
        return Identity::ConnectionString(secret);
    }
    if let Some(path) = merged.connection_string_file {
        return Identity::ConnectionStringFile(path);
    }
    let credential =
        provided(env, "CREDENTIALS_DIRECTORY", warnings).map(|directory| directory.join(defaults::CREDENTIAL_NAME));
    if let Some(path) = credential.filter(|path| path.exists()) {
        let origin = Origin::Environment("CREDENTIALS_DIRECTORY".to_owned());
        origins.insert(SECRET_FILE_KEY.to_owned(), origin);
        return Identity::Credential(path);
    }
    Identity::ConnectionStringFile(PathBuf::from(defaults::CONNECTION_STRING_FILE))
}

/// A directory that systemd provides.
fn provided(env: &[(String, String)], name: &str, warnings: &mut Vec<String>) -> Option<PathBuf> {
    let (_, value) = env.iter().find(|(n, v)| n == name && !v.is_empty())?;
    // Only a unit with several RuntimeDirectory= lines gets a list; the first is the agent's.
    let first = if name == RUNTIME_VARIABLE { value.split(':').next().unwrap_or(value) } else { value };
    if !first.starts_with('/') || first.contains(char::REPLACEMENT_CHARACTER) {
        warnings.push(format!("{name} is no absolute path and is ignored."));
        return None;
    }
    Some(PathBuf::from(first))
}

#[cfg(test)]
mod tests;
