//! From the desired section to the configuration in force: apply, find what is new, say what is to be remembered.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::model::problem::{Problem, ProblemKind};
use crate::settings::agent_config::AgentConfig;
use crate::settings::desired;
use crate::settings::last_good::{self, LastGood};
use crate::settings::reported::reported;

/// The name that the C agent gave to the twin as a whole (protocol reference 1.4).
const WHOLE_TWIN: &str = "TwinConfiguration";

/// Where the configuration in force came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Defaults,
    LastGood,
    Hub,
}

impl Source {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Defaults => "defaults",
            Self::LastGood => "last good",
            Self::Hub => "hub",
        }
    }
}

/// The configuration in force and its history.
#[derive(Debug)]
pub(super) struct Configuration {
    /// Name of the configuration object in both sections.
    pub(super) object: String,
    pub(super) config: Arc<AgentConfig>,
    pub(super) source: Source,
    pub(super) version: Option<u64>,
    pub(super) problems: Vec<Problem>,
}

/// What a new desired section changed.
#[derive(Debug)]
pub(super) struct Update {
    /// The new configuration, if it differs.
    pub(super) config: Option<Arc<AgentConfig>>,
    /// Problems that were not there before and that are told.
    pub(super) new_problems: Vec<Problem>,
    /// What the next start is to find on disk.
    pub(super) keep: LastGood,
}

impl Configuration {
    /// Starts with the last good desired section of an earlier run, else with the defaults.
    pub(super) fn load(directory: &Path, object: String) -> Self {
        let mut this = Self {
            object,
            config: Arc::new(AgentConfig::default()),
            source: Source::Defaults,
            version: None,
            problems: Vec::new(),
        };
        match last_good::load(directory) {
            Ok(Some(LastGood { version, desired: section, in_force })) => {
                // What was in force then is what a refused key keeps now.
                let before = Map::from_iter([(this.object.clone(), Value::Object(in_force))]);
                this.config = Arc::new(desired::apply(&before, &this.object, &this.config).config);
                this.take(&section, version, Source::LastGood);
                tracing::info!(version, "starting with the last good desired configuration");
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "the stored desired configuration is ignored; starting with the defaults");
            }
        }
        this
    }

    /// Applies a whole desired section.
    pub(super) fn desired(&mut self, section: &Map<String, Value>, version: u64) -> Update {
        let (changed, new_problems) = self.take(section, version, Source::Hub);
        let keep = LastGood { version, desired: section.clone(), in_force: reported(&self.config) };
        Update { config: changed.then(|| Arc::clone(&self.config)), new_problems, keep }
    }

    /// The problems as they are now that are told when they are new.
    pub(super) fn telling(&self) -> Vec<Problem> {
        self.problems.iter().filter(|p| p.kind != ProblemKind::Unknown).cloned().collect()
    }

    /// Notes a twin that came and cannot be read, until a good one comes; gives the problem if it is a new one.
    pub(super) fn unreadable(&mut self, why: String) -> Vec<Problem> {
        let problem = Problem {
            key: WHOLE_TWIN.to_owned(),
            kind: ProblemKind::TypeMismatch,
            given: "a twin that cannot be read".to_owned(),
            expected: why,
            in_force: format!("the configuration from before ({})", self.source.as_str()),
        };
        if self.problems.contains(&problem) {
            return Vec::new();
        }
        self.problems.retain(|p| p.key != WHOLE_TWIN);
        self.problems.push(problem.clone());
        vec![problem]
    }

    /// Whether the configuration differs now, and which problems are new.
    fn take(&mut self, section: &Map<String, Value>, version: u64, source: Source) -> (bool, Vec<Problem>) {
        let applied = desired::apply(section, &self.object, &self.config);
        let before = std::mem::replace(&mut self.problems, applied.problems);
        self.source = source;
        self.version = Some(version);
        let changed = applied.config != *self.config;
        if changed {
            self.config = Arc::new(applied.config);
        }
        (changed, self.telling().into_iter().filter(|p| !before.contains(p)).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::settings::twin_keys::OBJECT;

    fn section(members: Value) -> Map<String, Value> {
        Map::from_iter([(OBJECT.to_owned(), members)])
    }

    #[test]
    fn a_refused_key_keeps_what_was_in_force_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let load = || Configuration::load(dir.path(), OBJECT.to_owned());
        let mut configuration = load();
        configuration.desired(&section(json!({"snapshotFrequency": {"value": "PT1H"}})), 1);
        let bad = section(
            json!({"snapshotFrequency": {"value": "soon"}, "hubResourceId": {"value": "x"}, "unheardOf": {"value": 1}}),
        );
        let update = configuration.desired(&bad, 2);
        assert_eq!(update.new_problems.len(), 1);
        last_good::save(dir.path(), &update.keep).unwrap();
        for start in 0..3 {
            let mut again = load();
            assert_eq!(again.config.snapshot_frequency.length(), Duration::from_secs(3600), "start {start}");
            assert_eq!((again.config.hub_resource_id.as_str(), again.version), ("x", Some(2)));
            assert_eq!(again.telling(), update.new_problems, "what a start after a crash tells again");
            let update = again.desired(&bad, 2);
            assert!(update.config.is_none() && update.new_problems.is_empty(), "told once");
            last_good::save(dir.path(), &update.keep).unwrap();
        }
        // A key that is removed takes its default again, whatever was in force.
        let mut again = load();
        again.desired(&section(json!({})), 3);
        assert_eq!(*again.config, AgentConfig::default());
    }

    #[test]
    fn a_doubtful_key_is_in_force_and_told_once_until_it_says_something_else() {
        let dir = tempfile::tempdir().unwrap();
        let mut configuration = Configuration::load(dir.path(), OBJECT.to_owned());
        for (version, size, told) in [(1, 10_000, 1), (2, 10_000, 0), (3, 12_000, 1), (4, 12_288, 0), (5, 12_000, 1)] {
            let update = configuration.desired(&section(json!({"maxMessageSizeInBytes": {"value": size}})), version);
            let kinds: Vec<ProblemKind> = update.new_problems.iter().map(|problem| problem.kind).collect();
            assert_eq!(kinds, vec![ProblemKind::NotOptimal; told], "version {version}");
            assert_eq!(configuration.config.max_message_size.as_u64(), size);
        }
    }

    #[test]
    fn a_twin_that_cannot_be_read_is_told_once_until_a_good_one_comes() {
        let dir = tempfile::tempdir().unwrap();
        let mut configuration = Configuration::load(dir.path(), OBJECT.to_owned());
        for told in [1, 0, 0] {
            assert_eq!(configuration.unreadable("the twin is not JSON".to_owned()).len(), told);
            assert_eq!(configuration.problems.len(), 1);
        }
        assert_eq!(configuration.unreadable("the twin lacks something".to_owned()).len(), 1);
        assert_eq!(configuration.problems.len(), 1, "the latest counts");
        assert_eq!(configuration.desired(&section(json!({})), 1).new_problems, []);
        assert_eq!(configuration.problems, []);
        assert_eq!(configuration.unreadable("the twin is not JSON".to_owned()).len(), 1);
    }
}
