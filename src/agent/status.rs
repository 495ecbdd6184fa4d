//! What the agent says about itself: the answer of `twinward status`, and the source of the reported section.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::health::CollectorHealth;
use crate::model::loss::{Balance, Gap};
use crate::model::problem::Problem;

/// The state of the whole agent.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// This installation.
    pub agent_id: String,
    /// Process id.
    pub pid: u32,
    /// When the agent started, RFC 3339 in UTC.
    pub started_utc: String,
    /// Seconds since then.
    pub uptime_seconds: u64,
    /// The connection.
    pub link: LinkStatus,
    /// The configuration in force.
    pub twin: TwinStatus,
    /// The collectors.
    pub collectors: Vec<CollectorHealth>,
    /// Queues and loss balance.
    #[serde(flatten)]
    pub core: CoreStatus,
    /// Origin of each local value that is not a built-in default.
    pub origins: BTreeMap<String, String>,
}

/// The connection to the hub.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkStatus {
    /// `connecting`, `ready`, `down` or `stopped`.
    pub state: &'static str,
    /// Since when, RFC 3339 in UTC.
    pub since_utc: String,
    /// The hub's name.
    pub hub: String,
    /// Device id and module id.
    pub identity: String,
    /// The last error, empty if there is none.
    pub error: String,
}

/// The configuration in force.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TwinStatus {
    /// `defaults`, `last good` or `hub`.
    pub source: &'static str,
    /// `$version` of the desired section; absent with `defaults`.
    pub desired_version: Option<u64>,
    /// Refused, doubtful or unknown keys.
    pub problems: Vec<Problem>,
}

/// One queue.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct QueueStatus {
    /// Events that wait.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Queues and loss balance.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CoreStatus {
    /// collected = delivered + dropped + pending, in hits.
    pub balance: Balance,
    /// The high queue.
    pub high: QueueStatus,
    /// The low queue.
    pub low: QueueStatus,
    /// Messages that are on the wire or will be sent again.
    pub in_flight: usize,
    /// The latest gaps, oldest first.
    pub gaps: Vec<Gap>,
    /// What is wrong with storage, if anything.
    pub storage_trouble: Option<String>,
    /// Changes that wait in memory for storage.
    pub unstored: usize,
}
