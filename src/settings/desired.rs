//! The desired twin becomes an [`AgentConfig`]. Each key is judged alone: a good one is applied even when its neighbour
//! is bad, a bad one keeps the value in force (protocol reference 1.4; the old agents refused the whole update).
//!
//! Two forms are read. The current one is an object whose members are `{"value": …}`. Twins from before July 2019 have
//! an object of another name with bare values (protocol reference 1.7): it counts while the current one is absent.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::model::message::BILLING_STEP;
use crate::model::problem::{Problem, ProblemKind};

use super::agent_config::AgentConfig;
use super::defaults;
use super::error::{clipped, nearest};
use super::twin_keys::{OLDER_OBJECT, TwinKey};

/// How much of a given value is shown, in characters.
const SHOWN: usize = 200;

/// What a desired section means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// What is in force from now on.
    pub config: AgentConfig,
    /// What was refused, doubtful or unknown.
    pub problems: Vec<Problem>,
    /// Whether the section has the configuration object, of whatever kind; `null` counts as absent.
    pub object_found: bool,
}

/// Reads a whole desired section, with or without `$version` and `$metadata`; `object` is the name of the
/// configuration object in it.
///
/// A key that is absent, `null`, `{}` or `{"value":null}` takes its published default; one that cannot be used keeps its
/// value of `in_force`. An object that is itself unusable keeps all of `in_force`.
#[must_use]
pub fn apply(desired: &Map<String, Value>, object: &str, in_force: &AgentConfig) -> Applied {
    let mut config = AgentConfig::default();
    let Some(Found { name, form, what }) = find(desired, object) else {
        return Applied { config, problems: Vec::new(), object_found: false };
    };
    let members = match what {
        Value::Object(members) => members,
        other => {
            let problem = Problem {
                key: name.to_owned(),
                kind: ProblemKind::TypeMismatch,
                given: shown(other),
                expected: "an object with one member for each property".to_owned(),
                in_force: "the configuration from before".to_owned(),
            };
            return Applied { config: in_force.clone(), problems: vec![problem], object_found: true };
        }
    };
    let known: BTreeMap<String, TwinKey> = TwinKey::all().map(|key| (key.name(), key)).collect();
    let mut problems: Vec<Problem> = outdated(desired, object, form).into_iter().collect();
    for key in TwinKey::all() {
        let name = key.name();
        let Some(member) = members.get(&name) else { continue };
        if let Err(expected) = take(key, form, member, &mut config) {
            key.copy(in_force, &mut config);
            let in_force = clipped(&key.text(in_force), SHOWN);
            problems.push(Problem {
                key: name,
                kind: ProblemKind::TypeMismatch,
                given: shown(member),
                expected,
                in_force,
            });
        }
    }
    problems.extend(doubts(&config));
    problems.extend(unknown(name, members, &known));
    Applied { config, problems, object_found: true }
}

/// How values stand in the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `"key": {"value": …}`.
    Current,
    /// `"key": …`; the current form is understood as well.
    Older,
}

/// The configuration object that counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its form.
    pub form: Form,
    /// What it is; an object, if it can be used at all.
    pub what: &'a Value,
}

impl Found<'_> {
    /// Whether a value is given for this key; `null`, `{}` and `{"value":null}` give none.
    #[must_use]
    pub fn gives(&self, key: TwinKey) -> bool {
        let member = self.what.get(key.name()).unwrap_or(&Value::Null);
        let value = if member.is_object() { member.get("value").unwrap_or(&Value::Null) } else { member };
        !value.is_null()
    }
}

/// The object that counts in a desired section: the current one, called `object`, else the older one. `None` if neither
/// is there; `null` counts as absent.
#[must_use]
pub fn find<'a>(desired: &'a Map<String, Value>, object: &'a str) -> Option<Found<'a>> {
    [(object, Form::Current), (OLDER_OBJECT, Form::Older)].into_iter().find_map(|(name, form)| {
        let what = desired.get(name).filter(|what| !what.is_null())?;
        Some(Found { name, form, what })
    })
}

/// A word about the older object, if there is one.
fn outdated(desired: &Map<String, Value>, object: &str, counts: Form) -> Option<Problem> {
    desired.get(OLDER_OBJECT).filter(|found| !found.is_null() && object != OLDER_OBJECT)?;
    let (given, in_force) = match counts {
        Form::Older => ("the form from before July 2019", "this object"),
        Form::Current => ("two configuration objects", object),
    };
    Some(Problem {
        key: OLDER_OBJECT.to_owned(),
        kind: ProblemKind::Outdated,
        given: given.to_owned(),
        expected: format!("only the object {object}, with members {{\"value\": …}}"),
        in_force: in_force.to_owned(),
    })
}

/// Reads one member; the configuration holds the default before.
fn take(key: TwinKey, form: Form, member: &Value, config: &mut AgentConfig) -> Result<(), String> {
    let wrapper = match member {
        Value::Null => return Ok(()),
        Value::Object(wrapper) => wrapper,
        bare if form == Form::Older => return key.set(bare, config),
        _ => return Err(format!("an object {{\"value\": …}} with {}", key.expected())),
    };
    match wrapper.get("value") {
        Some(Value::Null) => Ok(()),
        Some(value) => key.set(value, config),
        None if wrapper.is_empty() => Ok(()),
        None => Err(format!("an object {{\"value\": …}} with {}", key.expected())),
    }
}

/// What is in force but contradicts itself or costs more than it must (protocol reference 1.4, second table).
fn doubts(config: &AgentConfig) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut doubt = |key: TwinKey, kind, expected: String| {
        let in_force = key.text(config);
        problems.push(Problem { key: key.name(), kind, given: in_force.clone(), expected, in_force });
    };
    let (cache, message) = (config.max_local_cache_size.as_u64(), config.max_message_size.as_u64());
    if cache < message {
        let expected = format!("at least maxMessageSizeInBytes, which is {message}");
        doubt(TwinKey::MaxLocalCacheSize, ProblemKind::Conflict, expected);
    }
    if !message.is_multiple_of(BILLING_STEP as u64) {
        let expected = format!("a multiple of {BILLING_STEP}, the hub's billing step");
        doubt(TwinKey::MaxMessageSize, ProblemKind::NotOptimal, expected);
    }
    if config.high_priority_message_frequency.length() > config.low_priority_message_frequency.length() {
        let low = &config.low_priority_message_frequency;
        let expected = format!("at most lowPriorityMessageFrequency, which is {low}");
        doubt(TwinKey::HighPriorityMessageFrequency, ProblemKind::Conflict, expected);
    }
    problems
}

fn unknown(object: &str, members: &Map<String, Value>, known: &BTreeMap<String, TwinKey>) -> Vec<Problem> {
    let names = || members.iter().filter(|(name, _)| !known.contains_key(*name));
    let problem = |key: String, given: String, expected: String| Problem {
        key,
        kind: ProblemKind::Unknown,
        given,
        expected,
        in_force: String::new(),
    };
    let mut problems: Vec<Problem> = names()
        .take(defaults::UNKNOWN_KEY_LIMIT)
        .map(|(name, value)| {
            let expected = nearest(name, known.keys().map(String::as_str))
                .map_or_else(|| "a published property".to_owned(), |n| format!("a published property, perhaps {n}"));
            problem(clipped(name, SHOWN), shown(value), expected)
        })
        .collect();
    let more = names().count().saturating_sub(defaults::UNKNOWN_KEY_LIMIT);
    if more > 0 {
        problems.push(problem(
            object.to_owned(),
            format!("{more} more unknown keys"),
            "published properties".to_owned(),
        ));
    }
    problems
}

fn shown(value: &Value) -> String {
    clipped(&value.to_string(), SHOWN)
}

#[cfg(test)]
mod tests;
