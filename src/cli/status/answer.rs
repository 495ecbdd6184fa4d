//! The agent's answer, as `agent::Status` serializes it. Read leniently, so that an agent of another version can still
//! be looked at: what is absent is empty, what is unknown is passed over. All text in it is foreign.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The whole agent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::cli) struct Answer {
    pub(in crate::cli) version: String,
    pub(in crate::cli) agent_id: String,
    pub(in crate::cli) pid: u32,
    pub(in crate::cli) started_utc: String,
    pub(in crate::cli) uptime_seconds: u64,
    /// It has not started yet; then nothing below is there.
    pub(in crate::cli) waiting: Option<Waiting>,
    pub(in crate::cli) link: Link,
    pub(in crate::cli) twin: Twin,
    pub(in crate::cli) collectors: Vec<Collector>,
    pub(in crate::cli) balance: Balance,
    pub(in crate::cli) high: Queue,
    pub(in crate::cli) low: Queue,
    pub(in crate::cli) in_flight: u64,
    pub(in crate::cli) gaps: Vec<Gap>,
    pub(in crate::cli) storage_trouble: Option<String>,
    pub(in crate::cli) unstored: u64,
    pub(in crate::cli) origins: BTreeMap<String, String>,
}

/// What an agent without credentials waits for (`cli::waiting`).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Waiting {
    pub(in crate::cli) file: String,
    pub(in crate::cli) why: String,
}

/// The connection to the hub.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::cli) struct Link {
    pub(in crate::cli) state: String,
    pub(in crate::cli) since_utc: String,
    pub(in crate::cli) hub: String,
    pub(in crate::cli) identity: String,
    pub(in crate::cli) error: String,
}

/// The configuration in force.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(in crate::cli) struct Twin {
    pub(in crate::cli) source: String,
    pub(in crate::cli) desired_version: Option<u64>,
    pub(in crate::cli) problems: Vec<TwinProblem>,
}

/// `model::problem::Problem`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct TwinProblem {
    pub(in crate::cli) key: String,
    pub(in crate::cli) kind: String,
    pub(in crate::cli) given: String,
    pub(in crate::cli) expected: String,
    pub(in crate::cli) in_force: String,
}

/// `model::health::CollectorHealth`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Collector {
    pub(in crate::cli) event: String,
    pub(in crate::cli) state: String,
    pub(in crate::cli) source: String,
    pub(in crate::cli) detail: String,
}

/// What waits in a queue.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Queue {
    pub(in crate::cli) records: u64,
    pub(in crate::cli) bytes: u64,
}

/// `model::loss::Balance`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Balance {
    pub(in crate::cli) high: Account,
    pub(in crate::cli) low: Account,
}

/// `model::loss::Account`, with reasons that this version may not know.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Account {
    pub(in crate::cli) collected: u64,
    pub(in crate::cli) delivered: u64,
    pub(in crate::cli) dropped: BTreeMap<String, u64>,
    pub(in crate::cli) pending: u64,
}

impl Account {
    /// All drops together; wide, because the numbers are foreign.
    pub(in crate::cli) fn dropped_total(&self) -> u128 {
        self.dropped.values().map(|n| u128::from(*n)).sum()
    }

    /// Whether collected = delivered + dropped + pending.
    pub(in crate::cli) fn holds(&self) -> bool {
        u128::from(self.collected) == u128::from(self.delivered) + self.dropped_total() + u128::from(self.pending)
    }
}

/// `model::loss::Gap`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Gap {
    pub(in crate::cli) source: String,
    pub(in crate::cli) start: Moment,
    pub(in crate::cli) end: Moment,
    pub(in crate::cli) reason: String,
    pub(in crate::cli) missed_at_most: Option<u64>,
}

/// `model::time::Timestamp`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::cli) struct Moment {
    pub(in crate::cli) utc: String,
    pub(in crate::cli) trusted: bool,
}
