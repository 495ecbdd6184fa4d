//! The module twin as the hub tells it.
//!
//! A GET answers `{"desired":{…,"$version":n},"reported":{…,"$version":k}}`. A notice is a JSON merge patch on desired
//! with `"$version": n` inside: objects merge, null deletes, everything else replaces whole. Applied is only the next
//! version; a later one means that a notice was missed, and the twin must be asked for. The same or an older one is a
//! repetition if it changes nothing; otherwise it is asked about too, because the identity may have been made anew,
//! which begins with version 1. If the back end *replaced* desired, the notice looks the same and says nothing of what
//! is gone: only a GET tells.
//!
//! What arrives is hostile until shown otherwise: its size, depth and number are bounded before it is parsed.

use std::collections::BTreeMap;
use std::io;

use serde_json::{Map, Value};
use thiserror::Error;

use crate::settings::defaults::{TWIN_ANSWER_LIMIT, TWIN_SECTION_LIMIT};
use crate::settings::twin_text::{self, TwinTextError};

/// Most notices kept while a GET is under way; more mean another GET.
const MAX_WAITING: usize = 16;

/// What is wrong with a twin that arrived. The document in force stays.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TwinProblem {
    /// Its text is too large, too deep or no JSON object.
    #[error(transparent)]
    Text(#[from] TwinTextError),
    /// JSON of another shape.
    #[error("the twin lacks {0}")]
    Shape(&'static str),
}

/// What to do after the document took something in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing changed.
    Same,
    /// Desired properties, or their version, changed, and are the hub's.
    Changed,
    /// They changed by a notice, and may hold what a replacement removed: ask for the whole twin later.
    Patched,
    /// A notice was missed: ask for the whole twin.
    Ask,
}

/// The twin as far as it is known.
#[derive(Debug, Default)]
pub struct TwinDocument {
    /// `None` until the first whole document.
    version: Option<u64>,
    desired: Map<String, Value>,
    reported: Map<String, Value>,
    /// Whether a GET is under way; notices wait for it.
    asking: bool,
    waiting: BTreeMap<u64, Map<String, Value>>,
    /// More notices came during the GET than could wait.
    overflow: bool,
}

impl TwinDocument {
    /// The version of the desired properties; `None` until a whole document came.
    #[must_use]
    pub fn version(&self) -> Option<u64> {
        self.version
    }

    /// The desired section without `$version` and `$metadata`.
    #[must_use]
    pub fn desired(&self) -> &Map<String, Value> {
        &self.desired
    }

    /// The reported section without `$version` and `$metadata`, as of the last GET and the patches taken since.
    #[must_use]
    pub fn reported(&self) -> &Map<String, Value> {
        &self.reported
    }

    /// A patch of the reported section was taken by the hub.
    pub fn reported_was_patched(&mut self, patch: &Map<String, Value>) {
        merge(&mut self.reported, patch.clone());
    }

    /// A GET is sent: notices wait until it is answered or given up.
    pub fn asking(&mut self) {
        self.asking = true;
    }

    /// The GET will not be answered, or was answered with nonsense: what waited for it is applied to the document at
    /// hand as far as the versions follow each other.
    pub fn give_up(&mut self) -> Step {
        self.asking = false;
        self.overflow = false;
        let mut step = Step::Same;
        for (version, patch) in std::mem::take(&mut self.waiting) {
            if self.apply(version, patch) == Ok(Step::Patched) {
                step = Step::Patched;
            }
        }
        step
    }

    /// The connection is gone: what waited is of no use, the next one starts with a GET.
    pub fn forget_waiting(&mut self) {
        self.asking = false;
        self.overflow = false;
        self.waiting.clear();
    }

    /// Takes the answer to a GET, then the notices that waited for it. A lower version than before is taken too: the
    /// identity was created anew.
    ///
    /// # Errors
    /// The answer, or a notice that waited for it, is not usable. Call [`Self::give_up`] and ask for the twin again.
    pub fn answer(&mut self, payload: &[u8]) -> Result<Step, TwinProblem> {
        let (desired, version, reported) = read_document(payload)?;
        let before = (self.version, std::mem::take(&mut self.desired));
        self.version = Some(version);
        self.desired = desired;
        self.reported = reported;
        self.asking = false;
        let missed = std::mem::take(&mut self.overflow);
        // What the answer holds already says nothing new.
        let later = self.waiting.split_off(&version.saturating_add(1));
        self.waiting.clear();
        let patched = !later.is_empty();
        for (version, patch) in later {
            if self.apply(version, patch)? == Step::Ask {
                return Ok(Step::Ask);
            }
        }
        if missed {
            return Ok(Step::Ask);
        }
        let same = before.0 == self.version && before.1 == self.desired;
        Ok(match (same, patched) {
            (true, _) => Step::Same,
            (false, true) => Step::Patched,
            (false, false) => Step::Changed,
        })
    }

    /// Takes a notice. `topic_version` is the one from the topic; the one in the payload goes first.
    ///
    /// # Errors
    /// The notice is not usable; the document stays as it was, and the twin must be asked for.
    pub fn notice(&mut self, payload: &[u8], topic_version: Option<u64>) -> Result<Step, TwinProblem> {
        let mut patch = twin_text::read(payload, TWIN_SECTION_LIMIT)?;
        let version = take_version(&mut patch).or(topic_version).ok_or(TwinProblem::Shape("$version in a notice"))?;
        if self.asking {
            if self.waiting.len() < MAX_WAITING {
                self.waiting.insert(version, patch);
            } else {
                self.overflow = true;
            }
            return Ok(Step::Same);
        }
        self.apply(version, patch)
    }

    fn apply(&mut self, version: u64, patch: Map<String, Value>) -> Result<Step, TwinProblem> {
        let Some(current) = self.version else { return Ok(Step::Ask) };
        if version.saturating_sub(current) > 1 {
            return Ok(Step::Ask);
        }
        let mut merged = self.desired.clone();
        merge(&mut merged, patch);
        if version <= current {
            return Ok(if merged == self.desired { Step::Same } else { Step::Ask });
        }
        bounded(&merged)?;
        self.desired = merged;
        self.version = Some(version);
        Ok(Step::Patched)
    }
}

/// JSON merge patch (RFC 7396) on objects.
pub(super) fn merge(target: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (key, value) in patch {
        match value {
            Value::Null => {
                target.remove(&key);
            }
            Value::Object(patch) => {
                let slot = target.entry(key).or_insert(Value::Null);
                if !slot.is_object() {
                    *slot = Value::Object(Map::new());
                }
                if let Value::Object(target) = slot {
                    merge(target, patch);
                }
            }
            other => {
                target.insert(key, other);
            }
        }
    }
}

type Document = (Map<String, Value>, u64, Map<String, Value>);

fn read_document(payload: &[u8]) -> Result<Document, TwinProblem> {
    let mut document = twin_text::read(payload, TWIN_ANSWER_LIMIT)?;
    let Some(Value::Object(mut desired)) = document.remove("desired") else {
        return Err(TwinProblem::Shape("the object \"desired\""));
    };
    let version = take_version(&mut desired).ok_or(TwinProblem::Shape("\"$version\" in \"desired\""))?;
    let mut reported = match document.remove("reported") {
        Some(Value::Object(reported)) => reported,
        None => Map::new(),
        Some(_) => return Err(TwinProblem::Shape("the object \"reported\"")),
    };
    take_version(&mut reported);
    bounded(&desired)?;
    Ok((desired, version, reported))
}

/// Removes what the hub adds to a section, and gives its version.
fn take_version(section: &mut Map<String, Value>) -> Option<u64> {
    section.remove("$metadata");
    section.remove("$version").and_then(|v| v.as_u64())
}

fn bounded(section: &Map<String, Value>) -> Result<(), TwinTextError> {
    if text_len(section) > TWIN_SECTION_LIMIT {
        return Err(TwinTextError::TooLarge { limit: TWIN_SECTION_LIMIT });
    }
    Ok(())
}

/// The length of the section as compact text, without making the text.
fn text_len(section: &Map<String, Value>) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.0 += buf.len();
            Ok(buf.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // A counter does not fail, and the keys of a map are strings.
    serde_json::to_writer(&mut count, section).map_or(usize::MAX, |()| count.0)
}

#[cfg(test)]
mod tests;
