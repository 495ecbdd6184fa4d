//! The module twin as the hub tells it.
//!
//! A GET answers both sections (`twin_answer.rs`). A notice is a JSON merge patch on desired with `"$version": n` inside:
//! objects merge, null deletes, everything else replaces whole. Applied is only the next version, and at once; a later
//! one means that a notice was missed, and the twin must be asked for. The same or an older one is a repetition if it
//! changes nothing; otherwise it is asked about too, because the identity may have been made anew, which begins with
//! version 1. If the back end *replaced* desired, the notice looks the same and says nothing of what is gone: only a GET
//! tells, so each notice that is applied wants one.
//!
//! Answers and notices overtake each other. What came since the request was sent is kept, and applied again to an answer
//! that is older.
//!
//! What arrives is hostile until shown otherwise: its size, depth and number are bounded before it is parsed.

use std::collections::BTreeMap;
use std::io;

use serde_json::{Map, Value};
use thiserror::Error;

use super::twin_answer::{self, TwinAnswer, take_version};
use crate::settings::defaults::TWIN_SECTION_LIMIT;
use crate::settings::twin_text::{self, TwinTextError};

/// Most notices kept while a GET is under way; more mean another GET.
const MAX_KEPT: usize = 16;

/// What is wrong with a twin that arrived. The document in force stays. Its texts are few and the same for the same
/// fault, wherever in the text it is: a new text is news to the operator.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TwinProblem {
    /// Its text is too large, too deep or no JSON object.
    #[error(transparent)]
    Text(TwinTextError),
    /// Its text is not JSON.
    #[error("the twin is not JSON")]
    NotJson,
    /// JSON of another shape.
    #[error("the twin lacks {0}")]
    Shape(&'static str),
}

impl From<TwinTextError> for TwinProblem {
    fn from(error: TwinTextError) -> Self {
        match error {
            TwinTextError::NotJson(_) => Self::NotJson,
            other => Self::Text(other),
        }
    }
}

/// What came of taking something in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The desired properties, or their version, are others than before.
    pub changed: bool,
    /// They may hold what a replacement removed, or lack what a missed notice told: ask for the whole twin.
    pub ask: bool,
}

/// What came of the answer to a GET. The sections are judged apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The desired section; if it is not usable, the one in force stays.
    pub desired: Result<Step, TwinProblem>,
    /// The reported section without `$version` and `$metadata`.
    pub reported: Result<Map<String, Value>, TwinProblem>,
}

/// The desired section as far as it is known.
#[derive(Debug, Default)]
pub struct TwinDocument {
    /// `None` until the first whole document.
    version: Option<u64>,
    desired: Map<String, Value>,
    /// It is of an earlier connection, and perhaps of an identity that is no more.
    stale: bool,
    asked: Option<Asked>,
}

/// What came since the GET under way was sent.
#[derive(Debug, Default)]
struct Asked {
    /// The version then.
    from: Option<u64>,
    notices: BTreeMap<u64, Map<String, Value>>,
    /// More came than are kept.
    overflow: bool,
    /// The latest version that was heard of.
    newest: u64,
    /// One came that is not usable.
    unread: bool,
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

    /// A GET is sent.
    pub fn asking(&mut self) {
        self.asked = Some(Asked { from: self.version, ..Asked::default() });
    }

    /// The GET will not be answered any more.
    pub fn gave_up(&mut self) {
        self.asked = None;
    }

    /// The connection is gone. What the next one tells of is not applied before a whole document has come.
    pub fn disconnected(&mut self) {
        self.asked = None;
        self.stale = true;
    }

    /// Takes the answer to a GET, then the notices that came since and are later. A lower version than when the GET was
    /// sent is taken too: the identity was created anew.
    pub fn answer(&mut self, payload: &[u8]) -> Answered {
        let asked = self.asked.take();
        let TwinAnswer { desired, reported } = twin_answer::read(payload);
        let desired = desired.map(|(desired, version)| self.take(desired, version, asked));
        Answered { desired, reported }
    }

    fn take(&mut self, desired: Map<String, Value>, version: u64, asked: Option<Asked>) -> Step {
        let Asked { from, mut notices, overflow, newest, unread } = asked.unwrap_or_default();
        if overflow && Some(version) >= from && Some(version) < self.version {
            // Older than what was merged meanwhile, of which not all is at hand any more.
            return Step { changed: false, ask: true };
        }
        self.stale = false;
        let before = (self.version.replace(version), std::mem::replace(&mut self.desired, desired));
        // What the answer holds already says nothing new.
        let later = notices.split_off(&version.saturating_add(1));
        let ask = !later.is_empty() || newest > version || unread;
        for (version, patch) in later {
            if !matches!(self.apply(version, patch), Ok(step) if step.changed) {
                break;
            }
        }
        Step { changed: before.0 != self.version || before.1 != self.desired, ask }
    }

    /// Takes a notice. `topic_version` is the one from the topic; the one in the payload goes first.
    ///
    /// # Errors
    /// The notice is not usable; the document stays as it was, and the twin must be asked for.
    pub fn notice(&mut self, payload: &[u8], topic_version: Option<u64>) -> Result<Step, TwinProblem> {
        let taken = self.heard(payload, topic_version);
        if let Some(asked) = &mut self.asked {
            asked.unread |= taken.is_err();
        }
        taken
    }

    fn heard(&mut self, payload: &[u8], topic_version: Option<u64>) -> Result<Step, TwinProblem> {
        let mut patch = twin_text::read(payload, TWIN_SECTION_LIMIT)?;
        let version = take_version(&mut patch).or(topic_version).ok_or(TwinProblem::Shape("$version in a notice"))?;
        let Some(asked) = &mut self.asked else { return self.apply(version, patch) };
        asked.newest = asked.newest.max(version);
        if asked.notices.len() < MAX_KEPT {
            asked.notices.insert(version, patch.clone());
        } else {
            asked.overflow = true;
        }
        let mut taken = Step::default();
        let mut next = Some((version, patch));
        while let Some((version, patch)) = next {
            let step = self.apply(version, patch)?;
            if !step.changed {
                // The answer under way says what this one means.
                break;
            }
            taken = step;
            // One that was early may follow now.
            let early = version.saturating_add(1);
            let kept = self.asked.as_ref().and_then(|asked| asked.notices.get(&early));
            next = kept.map(|patch| (early, patch.clone()));
        }
        Ok(taken)
    }

    fn apply(&mut self, version: u64, patch: Map<String, Value>) -> Result<Step, TwinProblem> {
        let Some(current) = self.version.filter(|_| !self.stale) else {
            return Ok(Step { changed: false, ask: true });
        };
        if version.saturating_sub(current) > 1 {
            return Ok(Step { changed: false, ask: true });
        }
        let mut merged = self.desired.clone();
        merge(&mut merged, patch);
        if version <= current {
            return Ok(Step { changed: false, ask: merged != self.desired });
        }
        bounded(&merged)?;
        self.desired = merged;
        self.version = Some(version);
        Ok(Step { changed: true, ask: true })
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
