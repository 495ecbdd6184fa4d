//! From the desired section to the configuration in force: apply, remember on disk, find what is new.

use std::path::PathBuf;
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
    directory: PathBuf,
    /// Name of the configuration object in both sections.
    pub(super) object: String,
    pub(super) config: Arc<AgentConfig>,
    pub(super) source: Source,
    pub(super) version: Option<u64>,
    pub(super) problems: Vec<Problem>,
}

/// What a new desired section changed.
#[derive(Debug, Default)]
pub(super) struct Update {
    /// The new configuration, if it differs.
    pub(super) config: Option<Arc<AgentConfig>>,
    /// Problems that were not there before and that the contract has an event for.
    pub(super) new_problems: Vec<Problem>,
}

impl Configuration {
    /// Starts with the last good desired section of an earlier run, else with the defaults.
    pub(super) fn load(directory: PathBuf, object: String) -> Self {
        let mut this = Self {
            directory,
            object,
            config: Arc::new(AgentConfig::default()),
            source: Source::Defaults,
            version: None,
            problems: Vec::new(),
        };
        match last_good::load(&this.directory) {
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
        let update = self.take(section, version, Source::Hub);
        let last = LastGood { version, desired: section.clone(), in_force: reported(&self.config) };
        if let Err(error) = last_good::save(&self.directory, &last) {
            tracing::warn!(%error, "the desired configuration cannot be stored; an offline restart will use an older one");
        }
        update
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

    fn take(&mut self, section: &Map<String, Value>, version: u64, source: Source) -> Update {
        let applied = desired::apply(section, &self.object, &self.config);
        let new_problems = applied
            .problems
            .iter()
            .filter(|p| p.kind != ProblemKind::Unknown && !self.problems.contains(p))
            .cloned()
            .collect();
        self.problems = applied.problems;
        self.source = source;
        self.version = Some(version);
        let changed = applied.config != *self.config;
        if changed {
            self.config = Arc::new(applied.config);
        }
        Update { config: changed.then(|| Arc::clone(&self.config)), new_problems }
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
        let mut configuration = Configuration::load(dir.path().to_owned(), OBJECT.to_owned());
        configuration.desired(&section(json!({"snapshotFrequency": {"value": "PT1H"}})), 1);
        let bad = section(json!({"snapshotFrequency": {"value": "soon"}, "hubResourceId": {"value": "x"}}));
        let update = configuration.desired(&bad, 2);
        assert_eq!(update.new_problems.len(), 1);
        for start in 0..3 {
            let mut again = Configuration::load(dir.path().to_owned(), OBJECT.to_owned());
            assert_eq!(again.config.snapshot_frequency.length(), Duration::from_secs(3600), "start {start}");
            assert_eq!((again.config.hub_resource_id.as_str(), again.version), ("x", Some(2)));
            let update = again.desired(&bad, 2);
            assert!(update.config.is_none() && update.new_problems.is_empty(), "told once");
        }
        // A key that is removed takes its default again, whatever was in force.
        let mut again = Configuration::load(dir.path().to_owned(), OBJECT.to_owned());
        again.desired(&section(json!({})), 3);
        assert_eq!(*again.config, AgentConfig::default());
    }

    #[test]
    fn a_doubtful_key_is_in_force_and_told_once_until_it_says_something_else() {
        let dir = tempfile::tempdir().unwrap();
        let mut configuration = Configuration::load(dir.path().to_owned(), OBJECT.to_owned());
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
        let mut configuration = Configuration::load(dir.path().to_owned(), OBJECT.to_owned());
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
